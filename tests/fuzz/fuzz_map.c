/* A cluster map as a node could receive or read it: with its own hash, and with the hash mended. */
#include "fuzz.h"

#include <kho/map.h>

static volatile uint64_t g_sink;

static void look_around(const uint8_t *bytes, size_t len)
{
    struct map map;
    if (map_decode(bytes, len, &map) != 0)
        return;
    for (uint32_t i = 0; i < map.node_count; i++) {
        struct map_node node;
        map_node(&map, i, &node);
        g_sink += strlen(node.name) + strlen(node.address) + strlen(node.zone);
    }
    for (uint32_t i = 0; i < map.collection_count; i++) {
        struct map_collection collection;
        map_collection(&map, i, &collection);
        for (uint32_t p = 0; p < map.partitions; p++)
            g_sink += map_is_replica(&map, p, collection.replicas, 0);
    }
    for (uint32_t p = 0; p < map.partitions; p++)
        for (uint32_t k = 0; k < map.width; k++)
            KHO_ASSERT(map_replica(&map, p, k) < map.node_count);
}
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    look_around(bytes, len);
    if (len < KHO_MAP_HEAD)
        return 0;
    uint8_t *mended = malloc(len);
    if (mended == NULL)
        return 0;
    memcpy(mended, bytes, len);
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
