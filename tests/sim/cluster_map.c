/* cluster_map.c: the first map of a simulated cluster: its nodes, two collections, replicas in
 * turn. */
#include "cluster.h"

#include <kho/map.h>

static void map_table_fill(const struct cluster_options *o, uint16_t *table, uint32_t *since)
{
    for (uint32_t p = 0; p < o->partitions; p++)
        for (uint32_t k = 0; k < o->replicas; k++) {
            table[p * o->replicas + k] = (uint16_t)((p + k) % o->nodes);
            since[p * o->replicas + k] = 1;
        }
}

uint8_t *cluster_map_make(struct cluster *cluster, uint64_t epoch, size_t *ret_len)
{
    const struct cluster_options *o = &cluster->options;
    struct map_node nodes[VNET_NODES_MAX] = {0};
    struct map_collection collections[CLUSTER_COLLECTIONS + CLUSTER_BALLAST_MAX] = {0};
    uint32_t collection_count = CLUSTER_COLLECTIONS + o->ballast;
    size_t cells = (size_t)o->partitions * o->replicas;
    uint16_t *table = malloc(cells * sizeof *table);
    uint32_t *since = malloc(cells * sizeof *since);
    KHO_ASSERT(table != NULL && since != NULL);
    map_table_fill(o, table, since);
    for (uint32_t i = 0; i < o->nodes; i++) {
        snprintf(nodes[i].name, sizeof nodes[i].name, "n%u", i);
        snprintf(nodes[i].address, sizeof nodes[i].address, "n%u", i);
        nodes[i].incarnation = cluster->nodes[i].incarnation;
        nodes[i].port = (uint16_t)(VNET_PORT + i);
        nodes[i].shards = (uint16_t)o->shards;
        nodes[i].weight = 1;
        nodes[i].state = MAP_NODE_UP;
        nodes[i].since = 1;
    }
    static const char *const names[CLUSTER_COLLECTIONS] = {"records", "events"};
    KHO_ASSERT(o->ballast <= CLUSTER_BALLAST_MAX);
    for (uint32_t i = 0; i < collection_count; i++) {
        if (i < CLUSTER_COLLECTIONS)
            snprintf(collections[i].name, sizeof collections[i].name, "%s", names[i]);
        else
            snprintf(collections[i].name, sizeof collections[i].name, "ballast-%u",
                     i - CLUSTER_COLLECTIONS);
        collections[i].id = i + 1;
        collections[i].replicas = o->replicas;
        collections[i].separator = KHO_NO_SEPARATOR;
        collections[i].since = 1;
    }
    struct map_parts parts = {.cluster = cluster->id,
                              .epoch = epoch,
                              .seed = cluster->map_seed,
                              .partitions = o->partitions,
                              .replicas = o->replicas,
                              .write_quorum = o->write_quorum,
                              .read_quorum = o->read_quorum,
                              .width = o->replicas,
                              .node_count = (uint16_t)o->nodes,
                              .collection_count = (uint16_t)collection_count,
                              .changed_ms = cluster->wall_ms,
                              .nodes = nodes,
                              .collections = collections,
                              .table = table,
                              .since = since};
    size_t len = map_size(&parts);
    uint8_t *bytes = malloc(len);
    struct map map;
    KHO_ASSERT(bytes != NULL);
    map_encode(&parts, bytes);
    KHO_ASSERT(map_decode(bytes, len, &map) == 0);
    free(table);
    free(since);
    *ret_len = len;
    return bytes;
}
