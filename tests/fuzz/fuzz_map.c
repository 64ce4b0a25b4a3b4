/* Is a cluster map, as a node or a client could receive or read it, refused, or can all that use it
 * use it: look-ups, quorums, what a shard holds, a new placement of its nodes, encoding it again?
 * With its own hash, and with the hash mended. */
#include "fuzz.h"

#include <kho/map.h>

#include "client/placement.h"
#include "client/quorum.h"
#include "node/depot.h"

enum { PLACED_MAX = 1 << 14 };

static volatile uint64_t g_sink;
static struct map_node g_nodes[KHO_MAP_NODES_MAX];
static struct map_collection g_collections[KHO_MAP_COLLECTIONS_MAX];
static uint16_t g_table[KHO_PARTITIONS_MAX * KHO_MAP_REPLICAS_MAX];
static uint32_t g_since[KHO_PARTITIONS_MAX * KHO_MAP_REPLICAS_MAX];
static uint8_t g_again[KHO_MAP_SIZE_MAX];

static void read_all(const struct map *map)
{
    for (uint32_t i = 0; i < map->node_count; i++) {
        map_node(map, i, &g_nodes[i]);
        KHO_ASSERT(map_node_by_name(map, g_nodes[i].name) == (int)i);
        KHO_ASSERT(map_node_by_incarnation(map, &g_nodes[i].incarnation) == (int)i);
        g_sink += strlen(g_nodes[i].address) + strlen(g_nodes[i].zone);
    }
    for (uint32_t i = 0; i < map->collection_count; i++) {
        struct map_collection *c = &g_collections[i];
        map_collection(map, i, c);
        KHO_ASSERT(map_collection_by_id(map, c->id) == (int)i);
        KHO_ASSERT(map_collection_by_name(map, c->name) == (int)i);
        KHO_ASSERT(c->replicas >= 1 && c->replicas <= map->width);
        uint32_t write = quorum_write(map, c->replicas), read = quorum_read(map, c->replicas);
        KHO_ASSERT(write >= 1 && write <= c->replicas && read >= 1 && read <= c->replicas);
        KHO_ASSERT(write + read > c->replicas);
    }
    for (uint32_t p = 0; p < map->partitions; p++)
        for (uint32_t k = 0; k < map->width; k++) {
            uint32_t cell = p * map->width + k;
            g_table[cell] = map_replica(map, p, k);
            g_since[cell] = map_replica_since(map, p, k);
            KHO_ASSERT(g_table[cell] < map->node_count && g_since[cell] <= map->epoch);
            KHO_ASSERT(map_is_replica(map, p, map->width, g_table[cell]));
            KHO_ASSERT(!map_is_replica(map, p, k, g_table[cell]));
        }
}

/* The same parts make a map that says the same. */
static void encode_again(const struct map *map)
{
    struct map_parts parts = {.cluster = map->cluster,
                              .epoch = map->epoch,
                              .seed = map->seed,
                              .changed_ms = map->changed_ms,
                              .partitions = map->partitions,
                              .replicas = map->replicas,
                              .write_quorum = map->write_quorum,
                              .read_quorum = map->read_quorum,
                              .width = map->width,
                              .home = map->home,
                              .node_count = map->node_count,
                              .collection_count = map->collection_count,
                              .nodes = g_nodes,
                              .collections = g_collections,
                              .table = g_table,
                              .since = g_since};
    struct map again;
    KHO_ASSERT(map_size(&parts) == map->length);
    map_encode(&parts, g_again);
    KHO_ASSERT(map_decode(g_again, map->length, &again) == 0);
    size_t cells = (size_t)map->partitions * map->width;
    KHO_ASSERT(memcmp(again.table, map->table, cells * 6) == 0);
}

/* What a shard of the first node makes of it. */
static void hold(const struct map *map)
{
    struct depot depot = {.options = {.shard_count = 2, .shard = 1}};
    uint32_t held = 0;
    depot.options.incarnation = g_nodes[0].incarnation;
    for (uint32_t p = 0; p < map->partitions; p++) {
        bool holds = depot_holds(&depot, map, p);
        held += holds;
        g_sink += depot_since(&depot, map, p);
        KHO_ASSERT(!holds || map_is_replica(map, p, map->width, 0));
    }
    KHO_ASSERT(held <= map->partitions);
}

static void place(const struct map *map)
{
    uint32_t partitions = (uint32_t)kho_min(map->partitions, 16);
    if ((uint64_t)partitions * map->width * map->node_count > PLACED_MAX ||
        placement_balance(g_nodes, map->node_count, partitions, map->width, NULL, g_table) != 0)
        return;
    for (uint32_t i = 0; i < partitions * map->width; i++)
        KHO_ASSERT(g_table[i] < map->node_count && g_nodes[g_table[i]].weight > 0);
}

static void look_around(const uint8_t *bytes, size_t len)
{
    struct map map;
    if (map_decode(bytes, len, &map) != 0)
        return;
    read_all(&map);
    encode_again(&map);
    hold(&map);
    place(&map);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    look_around(bytes, len);
    if (len < KHO_MAP_HEAD)
        return 0;
    uint8_t *mended = fuzz_copy(bytes, len);
    kho_store32(mended + 76, (uint32_t)len);
    struct kho_id hash = map_hash(mended, len);
    memcpy(mended + 32, hash.bytes, 16);
    look_around(mended, len);
    free(mended);
    return 0;
}
size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    static const uint8_t replicas[] = {1, 3, 2};
    if (n >= KHO_COUNT_OF(replicas))
        return 0;
    struct map_node nodes[3] = {0};
    struct map_collection collections[2] = {
        {.name = "population", .id = 1, .separator = KHO_NO_SEPARATOR},
        {.name = "eid", .id = 2, .separator = '/'}};
    uint16_t table[8 * 3];
    uint32_t since[8 * 3];
    for (int i = 0; i < 3; i++) {
        snprintf(nodes[i].name, sizeof nodes[i].name, "n%d", i);
        snprintf(nodes[i].address, sizeof nodes[i].address, "localhost");
        nodes[i].incarnation.bytes[0] = (uint8_t)(i + 1);
        nodes[i].port = 7700;
        nodes[i].shards = 1;
        nodes[i].weight = 1 + (uint32_t)i;
        nodes[i].state = MAP_NODE_UP;
    }
    uint8_t width = replicas[n];
    for (size_t i = 0; i < (size_t)8 * width; i++) {
        table[i] = (uint16_t)(i % 3);
        since[i] = 1;
        if (width == 2)
            table[i] = (uint16_t)(i % 2);
    }
    struct map_parts parts = {.cluster = {{1}},
                              .epoch = 1,
                              .partitions = 8,
                              .replicas = width,
                              .write_quorum = (uint8_t)(width / 2 + 1),
                              .read_quorum = (uint8_t)(width / 2 + 1),
                              .width = width,
                              .node_count = 3,
                              .collection_count = 2,
                              .nodes = nodes,
                              .collections = collections,
                              .table = table,
                              .since = since};
    collections[0].replicas = collections[1].replicas = width;
    size_t length = map_size(&parts);
    if (length > max)
        return 0;
    map_encode(&parts, to);
    struct map map;
    KHO_ASSERT(map_decode(to, length, &map) == 0);
    return length;
}
