/* depot.c: the store's common ground: the map in force, what it makes this shard hold, episodes of
 * the whole shard, and going read-only (R4). */
#include "depot.h"

/* --- The map ---------------------------------------------------------------------------------- */

int depot_map_copy(struct depot *depot, const uint8_t *bytes, size_t length, struct map *ret_map)
{
    uint8_t *copy = world_allocate(depot->world, length, 0);
    if (copy == NULL)
        return -ENOMEM;
    memcpy(copy, bytes, length);
    int error = map_decode(copy, length, ret_map);
    if (error != 0)
        world_release(depot->world, copy, length);
    return error;
}

void depot_map_release(struct depot *depot, const struct map *map)
{
    /* The bytes are const for the readers of the view only. */
    union {
        const uint8_t *view;
        uint8_t *own;
    } bytes = {.view = map->bytes};
    world_release(depot->world, bytes.own, map->length);
}

int depot_map_first(struct depot *depot, const struct map *map)
{
    struct index *index = NULL;
    int error = 0;
    if (depot->index == NULL)
        error = index_create(depot->world, map->partitions, map->seed, &index);
    if (error == 0 && depot->manifest.partitions == 0)
        error = manifest_set_partitions(&depot->manifest, map->partitions);
    if (error != 0) {
        index_destroy(index); /* both or neither: an index says that there are partitions */
        return error;
    }
    if (index != NULL)
        depot->index = index;
    depot->manifest.identity.cluster = map->cluster;
    return 0;
}

void depot_map_adopt(struct depot *depot, const struct map *map)
{
    KHO_ASSERT(depot->index != NULL);
    depot_map_release(depot, &depot->map);
    depot->map = *map;
    depot->epoch = map->epoch;
    depot->self = map_node_by_incarnation(map, &depot->options.incarnation);
}

uint64_t depot_since(const struct depot *depot, const struct map *map, uint32_t partition)
{
    int self = map_node_by_incarnation(map, &depot->options.incarnation);
    if (self < 0)
        return 0;
    return map_is_listed(map, partition, map->width, (uint32_t)self)
               ? map_listed_since(map, partition, (uint32_t)self)
               : DEPOT_NEVER;
}

bool depot_holds(const struct depot *depot, const struct map *map, uint32_t partition)
{
    int self = map_node_by_incarnation(map, &depot->options.incarnation);
    if (partition % depot->options.shard_count != depot->options.shard)
        return false;
    return self < 0 || map_is_listed(map, partition, map->width, (uint32_t)self);
}

bool depot_readmitted(struct depot *depot, const struct map *map, struct kho_now now,
                      int *ret_error)
{
    struct map_node node;
    uint64_t episode;
    int self = map_node_by_incarnation(map, &depot->options.incarnation);
    *ret_error = 0;
    if (self < 0)
        return false;
    map_node(map, (uint32_t)self, &node);
    if (node.readmitted <= depot->manifest.readmitted)
        return false;
    if (!KHO_PLANTED(readmitted_without_episode))
        *ret_error = depot_open_everywhere(depot, map, WIRE_EPISODE_WIPED, now, &episode);
    if (*ret_error != 0)
        return false;
    depot->manifest.readmitted = node.readmitted;
    depot->manifest_dirty = true;
    return true;
}

bool depot_emptied(struct depot *depot, const struct map *map, struct kho_now now, int *ret_error)
{
    struct episode *episode = NULL;
    *ret_error = 0;
    for (uint32_t p = 0; p < map->partitions; p++) {
        uint64_t since = depot_since(depot, map, p);
        if (!depot_holds(depot, map, p) || since == 0 || since >= map->epoch)
            continue;
        if (episode == NULL)
            episode = manifest_open_episode(&depot->manifest, WIRE_EPISODE_WIPED, map->epoch,
                                            now.wall_ms, false);
        if (episode == NULL) {
            *ret_error = -ENOMEM;
            return false;
        }
        manifest_episode_set(&depot->manifest, episode, p);
        depot->manifest_dirty = true;
    }
    return episode != NULL;
}

uint32_t depot_partition(const struct depot *depot, const struct record *record,
                         struct key_hash hash)
{
    uint16_t separator = KHO_NO_SEPARATOR;
    int at = map_collection_by_id(&depot->map, record->collection);
    if (at >= 0)
        separator = kho_load16(depot->map.collections + (size_t)at * KHO_MAP_COLLECTION + 70);
    return key_partition(record->collection, record->key, record->key_len, depot->map.seed,
                         separator, depot->map.partitions, hash);
}

/* --- Episodes --------------------------------------------------------------------------------- */

int depot_open_everywhere(struct depot *depot, const struct map *map, uint8_t kind,
                          struct kho_now now, uint64_t *ret_id)
{
    struct episode *episode = NULL;
    for (uint32_t p = 0; p < map->partitions; p++) {
        if (!depot_holds(depot, map, p))
            continue;
        if (episode == NULL)
            episode =
                manifest_open_episode(&depot->manifest, kind, depot->epoch, now.wall_ms, false);
        if (episode == NULL)
            return -ENOMEM;
        manifest_episode_set(&depot->manifest, episode, p);
    }
    *ret_id = episode != NULL ? episode->id : 0;
    depot->manifest_dirty = true;
    return 0;
}

/* --- Failure ---------------------------------------------------------------------------------- */

const char *depot_error_text(int error, char *buffer, size_t size)
{
    const char *sentence = kho_error_sentence(error);
    if (sentence != NULL)
        snprintf(buffer, size, "%s", sentence);
    else if (error == -EIO)
        snprintf(buffer, size, "input/output error (EIO)");
    else if (error == -ENOSPC)
        snprintf(buffer, size, "no space left on the device (ENOSPC)");
    else if (error == -ENOENT)
        snprintf(buffer, size, "no such file (ENOENT)");
    else if (error == -ENOMEM)
        snprintf(buffer, size, "no memory left within the node's limit (ENOMEM)");
    else
        snprintf(buffer, size, "error %d", -error);
    return buffer;
}

void depot_fail(struct depot *depot, const char *what, uint64_t segment, uint64_t offset, int error)
{
    char text[96], file[40] = "";
    if (segment != 0)
        snprintf(file, sizeof file, " segment-%016llx", (unsigned long long)segment);
    world_event(depot->world, EVENT_ERROR,
                "%s%s at offset %llu failed: %s; the shard takes no more writes until the disk is "
                "mended and the node restarted, reads go on",
                what, file, (unsigned long long)offset, depot_error_text(error, text, sizeof text));
    depot->read_only = !KHO_PLANTED(failed_write_retried);
}
