/* live.h: how much of each segment is wanted still.
 *
 * A record weighs what the index knows of it: its head and its uncompressed value, without the key.
 * A segment counts the weight of all records that were ever put into it and the bytes that their
 * blocks take as stored, and beside them the weight and number of those records that the index
 * names there. The share of the weight that is live tells how many of the stored bytes are, as if
 * all records of the segment compressed alike: where values that compress well lie beside such that
 * don't, less or more of it than that may be dead. Padding, heads of commits and room that a seal
 * left unused are in none of these: dead from birth.
 *
 * The counts change where the index does: a record that lands, is repointed, or loses its value.
 * What was put into a sealed segment stands in the manifest; what the index names is counted anew
 * after a start. */
#ifndef KHO_NODE_LIVE_H
#define KHO_NODE_LIVE_H

#include "depot.h"
#include "place.h"

static inline uint64_t live_weight(uint32_t value_bytes)
{
    /* The length of exactly 16 MiB counts as one less in the index. */
    return (uint64_t)KHO_RECORD_HEAD + kho_min(value_bytes, KHO_VALUE_MAX - 1);
}
/* The index names a record at that place from now on; PLACE_UNKNOWN: it names none. */
static inline void live_gain(struct manifest *manifest, uint64_t place, uint32_t value_bytes)
{
    if (place == PLACE_UNKNOWN)
        return;
    struct segment *segment = manifest_segment(manifest, place_slot(place));
    segment->live_weight += live_weight(value_bytes);
    segment->live_records++;
}
/* It doesn't any more. */
static inline void live_lose(struct manifest *manifest, uint64_t place, uint32_t value_bytes)
{
    if (place == PLACE_UNKNOWN)
        return;
    struct segment *segment = manifest_segment(manifest, place_slot(place));
    KHO_ASSERT(segment->live_records > 0);
    segment->live_weight -= live_weight(value_bytes);
    segment->live_records--;
}
/* A record of an unsealed segment that a start finds, wanted or not. */
static inline void live_found(struct manifest *manifest, uint64_t place, uint32_t value_bytes)
{
    struct segment *segment = manifest_segment(manifest, place_slot(place));
    if (!segment->sealed)
        segment->weight += live_weight(value_bytes);
}

/* Counts what the index names anew, in all segments: after a start, and when a partition was
 * dropped. One sweep over the index. */
void live_count(struct depot *depot);
/* Bytes of a segment's blocks that are wanted, about. */
uint64_t live_bytes(const struct segment *segment);
/* What the disk would get back without them: the rest of the file. */
static inline uint64_t live_dead_bytes(const struct segment *segment)
{
    uint64_t live = live_bytes(segment);
    return live < segment->size ? segment->size - live : 0;
}

#endif
