/* damage.c: notes damage (damage.h): the index is swept for what the bytes held, since only it
 * knows what of that was wanted. */
#include "damage.h"

#include "live.h"

#include <errno.h>

struct sweep {
    struct depot *depot;
    struct episode *episode;
    uint32_t slot;
    uint64_t offset, length;
    uint64_t now_ms;
    uint32_t entries;
    bool lost; /* no episode could be opened */
};

static bool sweep_entry(void *arg, uint32_t collection, uint32_t partition,
                        struct index_entry *entry)
{
    struct sweep *sweep = arg;
    struct depot *depot = sweep->depot;
    (void)collection;
    if (entry->place == PLACE_UNKNOWN || place_slot(entry->place) != sweep->slot ||
        place_offset(entry->place) - sweep->offset >= sweep->length)
        return false;
    if (sweep->episode == NULL && !sweep->lost && !KHO_PLANTED(damage_without_episode))
        sweep->episode = manifest_open_episode(&depot->manifest, WIRE_EPISODE_ROT, depot->epoch,
                                               sweep->now_ms, true);
    if (sweep->episode != NULL)
        manifest_episode_set(&depot->manifest, sweep->episode, partition);
    else
        sweep->lost = true;
    sweep->entries++;
    depot->values_unknown++;
    live_lose(&depot->manifest, entry->place, entry->value_bytes);
    entry->place = PLACE_UNKNOWN;
    return true;
}

struct cover {
    struct depot *depot;
    struct episode *episode;
    uint64_t now_ms;
    uint32_t partitions;
    bool lost; /* no episode could be opened */
};

static bool cover_entry(void *arg, uint32_t collection, uint32_t partition,
                        struct index_entry *entry)
{
    struct cover *cover = arg;
    struct depot *depot = cover->depot;
    (void)collection;
    if (entry->place != PLACE_UNKNOWN || manifest_episode_of(&depot->manifest, partition) != 0)
        return false;
    cover->partitions++;
    if (cover->episode == NULL)
        cover->episode = manifest_open_episode(&depot->manifest, WIRE_EPISODE_ROT, depot->epoch,
                                               cover->now_ms, true);
    if (cover->episode != NULL)
        manifest_episode_set(&depot->manifest, cover->episode, partition);
    cover->lost |= cover->episode == NULL;
    return false;
}

int damage_cover(struct depot *depot, struct kho_now now)
{
    struct cover cover = {.depot = depot, .now_ms = now.wall_ms};
    if (depot->values_unknown == 0)
        return 0;
    index_scan(depot->index, cover_entry, &cover);
    if (cover.lost)
        return -ENOMEM;
    if (cover.episode == NULL)
        return 0;
    depot->manifest_dirty = true;
    world_event(depot->world, EVENT_ERROR,
                "shard %u: in %u partitions records have a version but no value, episode %llu: run "
                "'kho repair'",
                depot->options.shard, cover.partitions, (unsigned long long)cover.episode->id);
    return 0;
}

bool damage_note(struct depot *depot, uint32_t slot, uint64_t offset, uint64_t length, int error,
                 struct kho_now now)
{
    struct sweep sweep = {
        .depot = depot, .slot = slot, .offset = offset, .length = length, .now_ms = now.wall_ms};
    char text[96];
    index_scan(depot->index, sweep_entry, &sweep);
    struct segment *segment = manifest_segment(&depot->manifest, slot);
    struct damage damage = {.segment = segment->id,
                            .offset = offset,
                            .length = length,
                            .episode = sweep.episode != NULL ? sweep.episode->id : 0,
                            .found_ms = now.wall_ms};
    if (!sweep.lost && segment->state == SEGMENT_LISTED &&
        !manifest_damage_known(&depot->manifest, damage.segment, offset, length))
        manifest_add_damage(&depot->manifest, &damage);
    /* No list has it any more, and its file must not become another segment. */
    if (segment->state == SEGMENT_RETIRED)
        segment->rewrite = true;
    depot->manifest_dirty = true;
    world_event(depot->world, EVENT_ERROR,
                "segment-%016llx offset %llu: damaged block: %s; %u records have lost their value "
                "here, episode %llu: run 'kho repair'",
                (unsigned long long)damage.segment, (unsigned long long)offset,
                depot_error_text(error, text, sizeof text), sweep.entries,
                (unsigned long long)damage.episode);
    return !sweep.lost;
}
