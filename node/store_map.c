/* store_map.c: the map in force and the end of episodes (store.h): changes that count once they are
 * durable, and are answered then.
 *
 * A failure leaves things as they were, but for an episode whose end couldn't be written: it is
 * closed in this run and open again after a restart, which is the safe side. */
#include "live.h"
#include "store_inside.h"

/* --- Episodes --------------------------------------------------------------------------------- */

int store_episode_close(struct store *store, uint64_t id, uint32_t partition, void *owner,
                        uint64_t context)
{
    struct depot *depot = &store->depot;
    const struct episode *episode = manifest_episode_find(&depot->manifest, id);
    if (store->phase != STORE_READY)
        return KHO_ESTOPPING;
    if (episode == NULL || partition >= depot->manifest.partitions ||
        !manifest_episode_has(episode, partition))
        return -ENOENT;
    if (depot->epoch <= episode->epoch)
        return KHO_EEPISODE;
    if (depot->folder_failed)
        return KHO_EREADONLY;
    struct waiter *waiter = world_allocate(depot->world, sizeof *waiter, 0);
    if (waiter == NULL)
        return -ENOMEM;
    *waiter =
        (struct waiter){.done = {.kind = STORE_DONE_EPISODE, .owner = owner, .context = context},
                        .generation = depot->manifest.generation + 1};
    queue_push(&store->waiters, &waiter->link);
    manifest_episode_clear(&depot->manifest, id, partition);
    depot->manifest_dirty = true;
    return 0;
}

/* --- The map ---------------------------------------------------------------------------------- */

const struct map *store_map(const struct store *store)
{
    return store->depot.map.bytes != NULL ? &store->depot.map : NULL;
}

int store_map_self(const struct store *store)
{
    return store->depot.map.bytes != NULL ? store->depot.self : -1;
}

int store_map_set(struct store *store, const uint8_t *bytes, size_t length, void *owner,
                  uint64_t context, struct kho_now now, bool *ret_done)
{
    *ret_done = false;
    if (store->phase != STORE_READY)
        return KHO_ESTOPPING;
    struct waiter *waiter = world_allocate(store->depot.world, sizeof *waiter, 0);
    if (waiter == NULL)
        return -ENOMEM;
    int error = mapset_start(&store->mapset, bytes, length, now, ret_done);
    if (error != 0 || *ret_done) {
        world_release(store->depot.world, waiter, sizeof *waiter);
        return error;
    }
    /* It waits behind all generations: store_map_ended() finds it by its kind. */
    *waiter = (struct waiter){.done = {.kind = STORE_DONE_MAP, .owner = owner, .context = context},
                              .generation = UINT64_MAX};
    queue_push(&store->waiters, &waiter->link);
    return 0;
}

/* R5: partitions whose data is from before this node became a replica of them are emptied, and
 * those of which it is none any more. */
static void partitions_discard(struct store *store, const struct map *map)
{
    struct depot *depot = &store->depot;
    bool dropped = false;
    for (uint32_t p = 0; depot->map.bytes != NULL && p < map->partitions; p++) {
        uint64_t since = depot_since(depot, map, p);
        if (since <= depot->epoch ||
            (since == DEPOT_NEVER && depot_since(depot, &depot->map, p) == DEPOT_NEVER))
            continue;
        log_discard(&store->log, p);
        index_drop_partition(depot->index, p);
        dropped = true;
    }
    if (dropped)
        live_count(depot);
}

void store_map_ended(struct store *store, int status)
{
    struct depot *depot = &store->depot;
    struct mapset *mapset = &store->mapset;
    if (status == 0) {
        /* What was gathered counts under the epoch in which it was taken. */
        log_cut(&store->log);
        partitions_discard(store, &mapset->map);
        depot_map_adopt(depot, &mapset->map);
        mapset->map = (struct map){0};
        store_index_ready(store);
        world_event(depot->world, EVENT_INFO, "the map of epoch %llu is in force",
                    (unsigned long long)depot->epoch);
    } else if (status != KHO_ENOSPACE && !depot->folder_failed) {
        depot_fail(depot, "replacing the file 'map'", 0, 0, status);
        depot->folder_failed = true;
    }
    QUEUE_FOREACH_SAFE (link, &store->waiters) {
        struct waiter *waiter = KHO_CONTAINER_OF(link, struct waiter, link);
        if (waiter->done.kind == STORE_DONE_MAP) {
            queue_remove(&waiter->link);
            store_finish(store, waiter, status);
        }
    }
}
