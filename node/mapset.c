/* mapset.c: the way of a map into force (mapset.h).
 *
 * A map is checked against this folder and the one in force, copied, then persisted in two steps:
 * the manifest where it has to change, and the file "map". A failure leaves the old map in force;
 * which one a restart finds is then open, as both were decided. */
#include "mapset.h"

void mapset_init(struct mapset *mapset, struct depot *depot)
{
    *mapset = (struct mapset){.depot = depot};
    replace_init(&mapset->file, depot, FILE_MAP, DEPOT_FILE_MAP);
}

void mapset_fini(struct mapset *mapset)
{
    if (mapset->depot == NULL)
        return;
    replace_fini(&mapset->file);
    depot_map_release(mapset->depot, &mapset->map);
    mapset->depot = NULL;
}

static int map_check(const struct depot *depot, const struct map *map, bool *ret_same)
{
    const struct map *now = &depot->map;
    const struct kho_id *cluster = &depot->manifest.identity.cluster;
    struct map_node node;
    int self = map_node_by_incarnation(map, &depot->options.incarnation);
    *ret_same = false;
    if (!kho_id_is_zero(cluster) && !kho_id_equal(cluster, &map->cluster))
        return KHO_ECLUSTER;
    if (self < 0)
        return KHO_EINCARNATION;
    map_node(map, (uint32_t)self, &node);
    if (node.shards != depot->options.shard_count ||
        (depot->manifest.partitions != 0 && map->partitions != depot->manifest.partitions))
        return KHO_EMAP;
    if (now->bytes == NULL)
        return 0;
    if (map->seed != now->seed)
        return KHO_EMAP;
    if (map->epoch < now->epoch)
        return KHO_EEPOCHOLD;
    if (map->epoch > now->epoch)
        return 0;
    *ret_same = map->length == now->length && memcmp(map->bytes, now->bytes, map->length) == 0;
    return *ret_same ? 0 : KHO_EMAP;
}

static void map_drop(struct mapset *mapset)
{
    depot_map_release(mapset->depot, &mapset->map);
    mapset->map = (struct map){0};
}

int mapset_start(struct mapset *mapset, const uint8_t *bytes, size_t length, struct kho_now now,
                 bool *ret_done)
{
    struct depot *depot = mapset->depot;
    *ret_done = false;
    if (mapset->busy)
        return KHO_EBUSY;
    int error = depot_map_copy(depot, bytes, length, &mapset->map);
    if (error != 0) {
        mapset->map = (struct map){0};
        return error == -ENOMEM || error == KHO_EVERSION ? error : KHO_EMAP;
    }
    error = map_check(depot, &mapset->map, ret_done);
    uint8_t *copy = NULL;
    if (error == 0 && !*ret_done) {
        if (depot->folder_failed)
            error = KHO_EREADONLY;
        else if ((copy = replace_prepare(&mapset->file, length)) == NULL)
            error = -ENOMEM;
    }
    bool first = depot->index == NULL;
    if (error == 0 && !*ret_done && first) {
        error = depot_map_first(depot, &mapset->map);
        depot->manifest_dirty = true;
    }
    if (error == 0 && !*ret_done && !depot_readmitted(depot, &mapset->map, now, &error) && first &&
        error == 0 && depot_emptied(depot, &mapset->map, now, &error))
        world_event(
            depot->world, EVENT_WARNING,
            "this folder is empty, but the map of epoch %llu names it as a replica since before: "
            "until 'kho repair' it answers as unknown what it may have held",
            (unsigned long long)mapset->map.epoch);
    if (error != 0 || *ret_done) {
        map_drop(mapset);
        return error;
    }
    memcpy(copy, bytes, length);
    mapset->busy = true;
    mapset->manifest_first = depot->manifest_dirty;
    mapset->generation = depot->manifest.generation + 1;
    if (!mapset->manifest_first)
        replace_start(&mapset->file);
    return 0;
}

static bool ended(struct mapset *mapset, int status, int *ret_status)
{
    mapset->busy = false;
    *ret_status = status == -ENOSPC ? KHO_ENOSPACE : status;
    if (status != 0)
        map_drop(mapset);
    return true;
}

bool mapset_manifest(struct mapset *mapset, uint64_t generation, int status, int *ret_status)
{
    if (!mapset->busy || !mapset->manifest_first || generation < mapset->generation)
        return false;
    mapset->manifest_first = false;
    if (status != 0)
        return ended(mapset, status, ret_status);
    replace_start(&mapset->file);
    return false;
}

bool mapset_completed(struct mapset *mapset, struct op *op, int *ret_status)
{
    int state = replace_completed(&mapset->file, op);
    KHO_ASSERT(mapset->busy);
    return state > 0 ? false : ended(mapset, state, ret_status);
}
