/* damage.c: what is noted when a block can't be read, or doesn't hold (R2).
 *
 * All index entries that point into the block lose their value but keep their version, and an
 * episode opens in exactly their partitions. Where none can be opened the damage is not listed as
 * known, so that the next start finds it again. */
#include "reader_inside.h"

struct damage_scan {
    struct reader *reader;
    struct episode *episode;
    uint64_t block;
    uint64_t now_ms;
    uint32_t entries;
    bool lost; /* no episode could be opened */
};

static bool damage_entry(void *arg, uint32_t collection, uint32_t partition,
                         struct index_entry *entry)
{
    struct damage_scan *scan = arg;
    struct depot *depot = scan->reader->depot;
    (void)collection;
    if (entry->place == PLACE_UNKNOWN || place_block(entry->place) != scan->block)
        return false;
    if (scan->episode == NULL && !scan->lost)
        scan->episode = manifest_open_episode(&depot->manifest, WIRE_EPISODE_ROT, depot->epoch,
                                              scan->now_ms, true);
    if (scan->episode != NULL)
        manifest_episode_set(&depot->manifest, scan->episode, partition);
    else
        scan->lost = true;
    scan->entries++;
    depot->values_unknown++;
    entry->place = PLACE_UNKNOWN;
    return true;
}

void damage_note(struct reader *reader, uint64_t place, int error, struct kho_now now)
{
    struct depot *depot = reader->depot;
    const struct segment *segment = manifest_segment(&depot->manifest, place_slot(place));
    struct damage_scan scan = {
        .reader = reader, .block = place_block(place), .now_ms = now.wall_ms};
    char text[96];
    cache_forget(reader->cache, place_block(place));
    index_scan(reader->index, damage_entry, &scan);
    struct damage damage = {.segment = segment->id,
                            .offset = place_offset(place),
                            .length = BLOCK_HEAD, /* the block that begins there */
                            .episode = scan.episode != NULL ? scan.episode->id : 0,
                            .found_ms = now.wall_ms};
    /* Without an episode it must be found again at the next start. */
    if (!scan.lost &&
        !manifest_damage_known(&depot->manifest, damage.segment, damage.offset, damage.length))
        manifest_add_damage(&depot->manifest, &damage);
    depot->manifest_dirty = true;
    world_event(depot->world, EVENT_ERROR,
                "segment-%016llx offset %llu: damaged block: %s; %u records have lost their value "
                "here, episode %llu: run 'kho repair'",
                (unsigned long long)segment->id, (unsigned long long)damage.offset,
                depot_error_text(error, text, sizeof text), scan.entries,
                (unsigned long long)damage.episode);
}
