/* live.c: the counts of all segments at once (live.h). */
#include "live.h"

static bool count_entry(void *arg, uint32_t collection, uint32_t partition,
                        struct index_entry *entry)
{
    struct depot *depot = arg;
    (void)collection;
    (void)partition;
    depot->values_unknown += entry->place == PLACE_UNKNOWN;
    live_gain(&depot->manifest, entry->place, entry->value_bytes);
    return false;
}

void live_count(struct depot *depot)
{
    struct manifest *manifest = &depot->manifest;
    for (uint32_t i = 0; i < manifest->segments.count; i++) {
        struct segment *segment = manifest_segment(manifest, i);
        segment->live_weight = 0;
        segment->live_records = 0;
    }
    depot->values_unknown = 0;
    index_scan(depot->index, count_entry, depot);
    for (uint32_t i = 0; i < manifest->segments.count; i++) {
        struct segment *segment = manifest_segment(manifest, i);
        /* What a start read of an unsealed segment may have come without its records' lengths. */
        segment->weight = kho_max(segment->weight, segment->live_weight);
        if (segment->stored == 0 && segment->live_records > 0)
            segment->stored = segment->end - segment_start(segment->alignment);
    }
}

uint64_t live_bytes(const struct segment *segment)
{
    if (segment->live_records == 0)
        return 0;
    KHO_ASSERT(segment->weight > 0);
    double share = (double)segment->live_weight / (double)segment->weight;
    return (uint64_t)((double)segment->stored * share);
}
