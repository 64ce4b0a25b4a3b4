/* store_forget.c: the end of a version whose value is lost everywhere (store.h).
 *
 * Who asks has listed all replicas under the epoch in force: R - W + 1 of them know all their
 * versions and lack this one, so no write of it was acknowledged. Nor can one still be: an epoch
 * later than that of the damage restarts every write, and this replica acknowledges none of it
 * without storing the value. So nothing may be in flight here, and no damage may be of this epoch.
 *
 * The key's older version went when this one came, so the replica can't vote for the key now: the
 * partition hides, in an episode as old as the ones that are open, until repair has copied what the
 * others have and closes it. In the log the version lives on until its segment is rewritten: a
 * start before that finds it again, and opens an episode again (damage_cover()). */
#include "store_inside.h"

#include <errno.h>

/* The newest epoch in which an open episode of the partition began. False: none is open. */
static bool newest_episode(const struct manifest *manifest, uint32_t partition, uint64_t *ret_epoch)
{
    bool found = false;
    *ret_epoch = 0;
    for (uint32_t i = 0; i < manifest->episodes.count; i++) {
        const struct episode *e = manifest_episode(manifest, i);
        if (!manifest_episode_has(e, partition))
            continue;
        found = true;
        *ret_epoch = kho_max(*ret_epoch, e->epoch);
    }
    return found;
}

static int partition_hide(struct depot *depot, uint32_t partition, uint64_t epoch,
                          struct kho_now now)
{
    struct manifest *manifest = &depot->manifest;
    if (manifest_hides(manifest, partition) != 0)
        return 0;
    struct episode *episode =
        manifest_open_episode(manifest, WIRE_EPISODE_ROT, epoch, now.wall_ms, false);
    if (episode == NULL)
        return KHO_EFULL;
    manifest_episode_set(manifest, episode, partition);
    depot->manifest_dirty = true;
    return 0;
}

/* Compaction takes the segments with damage first: the version is in one of them. */
static void damaged_rewrite(struct manifest *manifest)
{
    struct segment *s;
    for (uint32_t i = manifest->oldest; i != MANIFEST_NO_SLOT; i = s->newer) {
        s = manifest_segment(manifest, i);
        for (uint32_t d = 0; d < manifest->damages.count && !s->rewrite; d++)
            s->rewrite = manifest_damage(manifest, d)->segment == s->id;
    }
}

int store_forget(struct store *store, uint32_t collection, uint32_t partition, struct key_hash hash,
                 struct version version, struct kho_now now)
{
    struct depot *depot = &store->depot;
    struct record record = {.collection = collection, .version = version};
    struct key_tag tag = key_tag(hash);
    struct index_entry entry;
    struct log_look look;
    uint64_t epoch;
    if (store->phase != STORE_READY)
        return KHO_ESTOPPING;
    if (depot->index == NULL || partition >= depot->manifest.partitions ||
        !index_get(depot->index, collection, partition, tag, &entry) ||
        entry.place != PLACE_UNKNOWN || version_compare(entry.version, version) != 0)
        return -ENOENT;
    log_look(&store->log, collection, partition, tag, &record, &look);
    if (look.found || look.same)
        return KHO_EBUSY;
    if (!newest_episode(&depot->manifest, partition, &epoch) || epoch >= depot->epoch)
        return KHO_EEPISODE;
    if (depot->folder_failed)
        return KHO_EREADONLY;
    int error = partition_hide(depot, partition, epoch, now);
    if (error != 0)
        return error;
    bool removed = index_remove(depot->index, collection, partition, tag);
    KHO_ASSERT(removed);
    depot->values_unknown -= depot->values_unknown > 0;
    damaged_rewrite(&depot->manifest);
    world_event(
        depot->world, EVENT_WARNING,
        "partition %u: version %llu.%u of a record of collection %u (hash %016llx) is given "
        "up: it was never acknowledged, and no replica has its value",
        partition, (unsigned long long)version.counter, version.writer, collection,
        (unsigned long long)hash.high);
    return 0;
}
