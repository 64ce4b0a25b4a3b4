/* map.h: the cluster map as bytes: the same on the wire, in a node's folder and in a file.
 *
 * Head (128)
 *   off len field
 *     0   4 magic "khoM"
 *     4   2 format       2
 *     6   2 least_reader the oldest format whose readers may use this map: 1; 2 while a layout
 *                        changes, since a reader that knows one layout only would break R5
 *     8  16 cluster      id, drawn at creation, never zero
 *    24   8 epoch        1 at creation, one more with each change; below 2^32
 *    32  16 hash         XXH3-128, canonical order, of all that follows this field, seeded with the
 *                        XXH3-64 of the 32 bytes before it
 *    48   8 seed         of the key hash
 *    56   4 partitions   P: a power of two, 1 to 8,192
 *    60   1 R            replicas, 1 to 7
 *    61   1 W            durable acknowledgements that a write needs
 *    62   1 Q            votes that a read needs; W + Q > R, W and Q at most R
 *    63   1 width        columns of the table, at least R
 *    64   2 node_count   1 to 1,024
 *    66   2 collection_count  0 to 1,024
 *    68   2 home         index of the node that decides changes
 *    70   2 flags        bit 0: a layout changes, and the rows of the previous one follow
 *    72   4 feature_level  1
 *    76   4 length       of the whole map
 *    80   8 changed_ms   wall time of this change, for people
 *    88   4 previous_count  rows of the previous layout, 0 unless flags bit 0, then at least 1
 *    92  36 reserved, 0
 * then node_count nodes (192 each)
 *     0  32 name         [a-z0-9-], NUL-padded, unique
 *    32  16 incarnation
 *    48  64 address      host name or IP, NUL-padded
 *   112   2 port
 *   114   2 shards       1 to 256
 *   116   4 weight
 *   120  32 zone         NUL-padded, may be empty
 *   152   1 state        enum map_node_state
 *   153   7 reserved
 *   160   8 since        epoch in which the node came in
 *   168   8 readmitted   epoch in which its incarnation was replaced last, 0: never
 *   176  16 reserved
 * then collection_count collections (128 each), by rising id
 *     0  64 name         NUL-padded, unique
 *    64   4 id           from 1
 *    68   1 R            0: the cluster's; else 1 to width
 *    69   1 mode         0 register (1 reserved: cas)
 *    70   2 separator    of the placement key: a byte, or 0xFFFF for none
 *    72   8 since        epoch of creation
 *    80  24 reserved     (retention 8, quota 8, history 4, encryption 4)
 *   104  24 agency       owner, NUL-padded, may be empty
 * then the table: for each partition `width` x { node 2 }, distinct nodes, the first R the
 * replicas; then for each partition `width` x { since 4 }: the epoch since which that node is a
 * replica of it. No epoch that a map names is above its own: a node drops what is older than
 * `since`.
 * Then, while a layout changes, the rows that were others before, by rising partition:
 *     0   4 partition
 *     4   width x { node 2 }, width x { since 4 }, both as in the table
 * Every phase of an operation in such a partition needs its majority among the first R of its row
 * in the table and among the first R of this row (R5).
 *
 * A map is small and read-mostly: `struct map` is a checked view over the caller's bytes. */
#ifndef KHO_MAP_H
#define KHO_MAP_H

#include <kho/base.h>
#include <kho/error.h>
#include <kho/hash.h>
#include <kho/key.h>

#define KHO_MAP_MAGIC           0x4D6F686Bu /* "khoM" */
#define KHO_MAP_FORMAT          2u
#define KHO_MAP_HEAD            128u
#define KHO_MAP_NODE            192u
#define KHO_MAP_COLLECTION      128u
#define KHO_MAP_NODES_MAX       1024u
#define KHO_MAP_COLLECTIONS_MAX 1024u
#define KHO_MAP_REPLICAS_MAX    7u
/* It travels in one frame, behind the head of MAP_PUSH. */
#define KHO_MAP_SIZE_MAX       ((256u << 10) - 64u - 24u)
#define KHO_PARTITIONS_DEFAULT 4096u

enum map_node_state {
    MAP_NODE_JOINING = 1,
    MAP_NODE_UP = 2,
    MAP_NODE_DRAINING = 3,
    MAP_NODE_OUT = 4
};

struct map_node {
    char name[33];
    struct kho_id incarnation;
    char address[65];
    uint16_t port;
    uint16_t shards;
    uint32_t weight;
    char zone[33];
    uint8_t state;
    uint64_t since;
    uint64_t readmitted;
};

struct map_collection {
    char name[65];
    uint32_t id;
    uint8_t replicas; /* never 0 here: the cluster's R is filled in */
    uint8_t mode;
    uint16_t separator;
    uint64_t since;
    char agency[25];
};

/* A checked view. `bytes` belong to whoever decoded it and must outlive the view. */
struct map {
    const uint8_t *bytes;
    uint32_t length;
    struct kho_id cluster;
    uint64_t epoch;
    uint64_t hash; /* low 64 bits of the hash: what frames and HELLO carry */
    uint64_t seed;
    uint32_t partitions;
    uint8_t replicas, write_quorum, read_quorum, width;
    uint16_t node_count, collection_count, home;
    uint64_t changed_ms;
    const uint8_t *nodes, *collections, *table, *since;
    const uint8_t *previous; /* previous_count rows of map_row_size() bytes */
    uint32_t previous_count;
};

static inline struct kho_id map_hash(const uint8_t *bytes, size_t length)
{
    struct kho_id id;
    XXH128_canonical_t canonical;
    uint64_t seed = XXH3_64bits(bytes, 32);
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSeed(bytes + 48, length - 48, seed));
    memcpy(id.bytes, canonical.digest, 16);
    return id;
}

/* The index of a node in a replica set: column k (0: first) of a partition. */
static inline uint16_t map_replica(const struct map *m, uint32_t partition, uint32_t k)
{
    return kho_load16(m->table + ((size_t)partition * m->width + k) * 2);
}
static inline uint32_t map_replica_since(const struct map *m, uint32_t partition, uint32_t k)
{
    return kho_load32(m->since + ((size_t)partition * m->width + k) * 4);
}
/* Bytes of a row of the previous layout. */
static inline size_t map_row_size(uint32_t width)
{
    return 4 + (size_t)width * 6;
}
/* The previous layout's row of a partition, or NULL: it doesn't change. For map_row_replica() and
 * map_row_since(). */
static inline const uint8_t *map_previous(const struct map *m, uint32_t partition)
{
    size_t size = map_row_size(m->width);
    uint32_t low = 0, high = m->previous_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const uint8_t *row = m->previous + middle * size;
        uint32_t at = kho_load32(row);
        if (at == partition)
            return row;
        if (at < partition)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
static inline uint16_t map_row_replica(const uint8_t *row, uint32_t k)
{
    return kho_load16(row + 4 + (size_t)k * 2);
}
static inline uint32_t map_row_since(const struct map *m, const uint8_t *row, uint32_t k)
{
    return kho_load32(row + 4 + (size_t)m->width * 2 + (size_t)k * 4);
}
static inline void map_text(char *to, const uint8_t *from, size_t len)
{
    memcpy(to, from, len);
    to[len] = '\0';
}
static inline void map_node(const struct map *m, uint32_t index, struct map_node *ret)
{
    KHO_ASSERT(index < m->node_count);
    const uint8_t *p = m->nodes + (size_t)index * KHO_MAP_NODE;
    map_text(ret->name, p, 32);
    memcpy(ret->incarnation.bytes, p + 32, 16);
    map_text(ret->address, p + 48, 64);
    ret->port = kho_load16(p + 112);
    ret->shards = kho_load16(p + 114);
    ret->weight = kho_load32(p + 116);
    map_text(ret->zone, p + 120, 32);
    ret->state = p[152];
    ret->since = kho_load64(p + 160);
    ret->readmitted = kho_load64(p + 168);
}
/* Index of the node of that incarnation (or name), or -1. */
static inline int map_node_by_incarnation(const struct map *m, const struct kho_id *incarnation)
{
    for (uint32_t i = 0; i < m->node_count; i++)
        if (memcmp(m->nodes + (size_t)i * KHO_MAP_NODE + 32, incarnation->bytes, 16) == 0)
            return (int)i;
    return -1;
}
static inline int map_node_by_name(const struct map *m, const char *name)
{
    for (uint32_t i = 0; i < m->node_count; i++) {
        char text[33];
        map_text(text, m->nodes + (size_t)i * KHO_MAP_NODE, 32);
        if (strcmp(text, name) == 0)
            return (int)i;
    }
    return -1;
}
static inline void map_collection(const struct map *m, uint32_t index, struct map_collection *ret)
{
    KHO_ASSERT(index < m->collection_count);
    const uint8_t *p = m->collections + (size_t)index * KHO_MAP_COLLECTION;
    map_text(ret->name, p, 64);
    ret->id = kho_load32(p + 64);
    ret->replicas = p[68] != 0 ? p[68] : m->replicas;
    ret->mode = p[69];
    ret->separator = kho_load16(p + 70);
    ret->since = kho_load64(p + 72);
    map_text(ret->agency, p + 104, 24);
}
/* Index of the collection of that id (or name), or -1. Ids are handed out from 1, so the first
 * guess nearly always holds. */
static inline int map_collection_by_id(const struct map *m, uint32_t id)
{
    if (id >= 1 && id <= m->collection_count &&
        kho_load32(m->collections + (size_t)(id - 1) * KHO_MAP_COLLECTION + 64) == id)
        return (int)(id - 1);
    for (uint32_t i = 0; i < m->collection_count; i++)
        if (kho_load32(m->collections + (size_t)i * KHO_MAP_COLLECTION + 64) == id)
            return (int)i;
    return -1;
}
static inline int map_collection_by_name(const struct map *m, const char *name)
{
    size_t len = strlen(name);
    if (len > KHO_NAME_MAX)
        return -1;
    for (uint32_t i = 0; i < m->collection_count; i++) {
        const uint8_t *p = m->collections + (size_t)i * KHO_MAP_COLLECTION;
        if (memcmp(p, name, len) == 0 && (len == 64 || p[len] == 0))
            return (int)i;
    }
    return -1;
}
/* True if the node is among the first `replicas` of the partition. */
static inline bool map_is_replica(const struct map *m, uint32_t partition, uint32_t replicas,
                                  uint32_t node)
{
    bool found = false;
    /* Where the node stands is as good as random: to look at all costs less than to guess. */
    for (uint32_t k = 0; k < replicas; k++)
        found |= map_replica(m, partition, k) == node;
    return found;
}
/* The same in either layout: what a node serves, and keeps. */
static inline bool map_is_listed(const struct map *m, uint32_t partition, uint32_t replicas,
                                 uint32_t node)
{
    if (map_is_replica(m, partition, replicas, node))
        return true;
    const uint8_t *row = m->previous_count > 0 ? map_previous(m, partition) : NULL;
    bool found = false;
    for (uint32_t k = 0; row != NULL && k < replicas; k++)
        found |= map_row_replica(row, k) == node;
    return found;
}
/* The epoch since which the node is a replica of the partition, in either layout; 0: it is none. */
static inline uint64_t map_listed_since(const struct map *m, uint32_t partition, uint32_t node)
{
    for (uint32_t k = 0; k < m->width; k++)
        if (map_replica(m, partition, k) == node)
            return map_replica_since(m, partition, k);
    const uint8_t *row = m->previous_count > 0 ? map_previous(m, partition) : NULL;
    for (uint32_t k = 0; row != NULL && k < m->width; k++)
        if (map_row_replica(row, k) == node)
            return map_row_since(m, row, k);
    return 0;
}
static inline bool map_padded_text_valid(const uint8_t *p, size_t len)
{
    size_t n = 0;
    while (n < len && p[n] != 0)
        if (p[n] < 0x21 || p[n++] > 0x7E)
            return false;
    for (; n < len; n++)
        if (p[n] != 0)
            return false;
    return true;
}
static inline int map_check_nodes(const struct map *m)
{
    for (uint32_t i = 0; i < m->node_count; i++) {
        const uint8_t *p = m->nodes + (size_t)i * KHO_MAP_NODE;
        struct map_node node;
        if (!map_padded_text_valid(p, 32) || !map_padded_text_valid(p + 48, 64) ||
            !map_padded_text_valid(p + 120, 32))
            return KHO_EMAP;
        map_node(m, i, &node);
        if (node.name[0] == 0 || node.address[0] == 0 || node.port == 0 || node.shards < 1 ||
            node.shards > 256 || node.state < MAP_NODE_JOINING || node.state > MAP_NODE_OUT ||
            kho_id_is_zero(&node.incarnation) || node.since > m->epoch ||
            node.readmitted > m->epoch)
            return KHO_EMAP;
        if (map_node_by_name(m, node.name) != (int)i ||
            map_node_by_incarnation(m, &node.incarnation) != (int)i)
            return KHO_EMAP;
    }
    return 0;
}
static inline int map_check_collections(const struct map *m)
{
    uint32_t id_before = 0;
    for (uint32_t i = 0; i < m->collection_count; i++) {
        struct map_collection c;
        map_collection(m, i, &c);
        if (!key_name_valid(c.name, strlen(c.name)) || c.id <= id_before || c.mode != 0 ||
            c.replicas > m->width || (c.separator > 255 && c.separator != KHO_NO_SEPARATOR) ||
            map_collection_by_name(m, c.name) != (int)i)
            return KHO_EMAP;
        id_before = c.id;
    }
    return 0;
}
static inline int map_check_previous(const struct map *m)
{
    size_t size = map_row_size(m->width);
    for (uint32_t i = 0; i < m->previous_count; i++) {
        const uint8_t *row = m->previous + i * size;
        uint32_t partition = kho_load32(row);
        if (partition >= m->partitions || (i > 0 && partition <= kho_load32(row - size)))
            return KHO_EMAP;
        for (uint32_t k = 0; k < m->width; k++) {
            if (map_row_replica(row, k) >= m->node_count || map_row_since(m, row, k) > m->epoch)
                return KHO_EMAP;
            for (uint32_t j = 0; j < k; j++)
                if (map_row_replica(row, j) == map_row_replica(row, k))
                    return KHO_EMAP;
        }
    }
    return 0;
}
/* Checks `length` bytes and makes the view. 0; KHO_EMALFORMED (no map, or cut short);
 * KHO_ECHECKSUM; KHO_EVERSION (a newer format); KHO_EMAP (a field breaks its rule above). */
static inline int map_decode(const uint8_t *bytes, size_t length, struct map *ret)
{
    if (length < KHO_MAP_HEAD || kho_load32(bytes) != KHO_MAP_MAGIC ||
        kho_load32(bytes + 76) != length || length > KHO_MAP_SIZE_MAX)
        return KHO_EMALFORMED;
    if (kho_load16(bytes + 6) > KHO_MAP_FORMAT)
        return KHO_EVERSION;
    struct kho_id hash = map_hash(bytes, length);
    if (memcmp(hash.bytes, bytes + 32, 16) != 0)
        return KHO_ECHECKSUM;
    struct map m = {
        .bytes = bytes,
        .length = (uint32_t)length,
        .epoch = kho_load64(bytes + 24),
        .hash = kho_load64(bytes + 32),
        .seed = kho_load64(bytes + 48),
        .partitions = kho_load32(bytes + 56),
        .replicas = bytes[60],
        .write_quorum = bytes[61],
        .read_quorum = bytes[62],
        .width = bytes[63],
        .node_count = kho_load16(bytes + 64),
        .collection_count = kho_load16(bytes + 66),
        .home = kho_load16(bytes + 68),
        .changed_ms = kho_load64(bytes + 80),
        .previous_count = kho_load32(bytes + 88),
    };
    memcpy(m.cluster.bytes, bytes + 8, 16);
    if (kho_id_is_zero(&m.cluster) || m.epoch < 1 || m.epoch > UINT32_MAX || m.partitions < 1 ||
        m.partitions > KHO_PARTITIONS_MAX || (m.partitions & (m.partitions - 1)) != 0)
        return KHO_EMAP;
    if (m.replicas < 1 || m.replicas > KHO_MAP_REPLICAS_MAX || m.write_quorum < 1 ||
        m.write_quorum > m.replicas || m.read_quorum < 1 || m.read_quorum > m.replicas ||
        m.write_quorum + m.read_quorum <= m.replicas || m.width < m.replicas ||
        m.width > KHO_MAP_REPLICAS_MAX)
        return KHO_EMAP;
    if (m.node_count < m.width || m.node_count > KHO_MAP_NODES_MAX || m.home >= m.node_count ||
        m.collection_count > KHO_MAP_COLLECTIONS_MAX ||
        kho_load16(bytes + 70) != (m.previous_count > 0) || m.previous_count > m.partitions ||
        kho_load16(bytes + 6) != (m.previous_count > 0 ? 2 : 1))
        return KHO_EMAP;
    size_t cells = (size_t)m.partitions * m.width;
    m.nodes = bytes + KHO_MAP_HEAD;
    m.collections = m.nodes + (size_t)m.node_count * KHO_MAP_NODE;
    m.table = m.collections + (size_t)m.collection_count * KHO_MAP_COLLECTION;
    m.since = m.table + cells * 2;
    m.previous = m.since + cells * 4;
    if ((size_t)(m.previous - bytes) + m.previous_count * map_row_size(m.width) != length)
        return KHO_EMALFORMED;
    if (map_check_nodes(&m) != 0 || map_check_collections(&m) != 0)
        return KHO_EMAP;
    for (uint32_t p = 0; p < m.partitions; p++)
        for (uint32_t k = 0; k < m.width; k++) {
            if (map_replica(&m, p, k) >= m.node_count ||
                map_is_replica(&m, p, k, map_replica(&m, p, k)) ||
                map_replica_since(&m, p, k) > m.epoch)
                return KHO_EMAP;
        }
    if (map_check_previous(&m) != 0)
        return KHO_EMAP;
    *ret = m;
    return 0;
}

/* --- Building: admin tools and tests only. ---------------------------------------------------- */

/* The parts of a map to be encoded. `table` and `since` hold partitions x width cells, `previous`
 * previous_count rows in their bytes. */
struct map_parts {
    struct kho_id cluster;
    uint64_t epoch, seed, changed_ms;
    uint32_t partitions;
    uint8_t replicas, write_quorum, read_quorum, width;
    uint16_t home, node_count, collection_count;
    const struct map_node *nodes;
    const struct map_collection *collections;
    const uint16_t *table;
    const uint32_t *since;
    const uint8_t *previous;
    uint32_t previous_count;
};

static inline size_t map_size(const struct map_parts *parts)
{
    return KHO_MAP_HEAD + (size_t)parts->node_count * KHO_MAP_NODE +
           (size_t)parts->collection_count * KHO_MAP_COLLECTION +
           (size_t)parts->partitions * parts->width * 6 +
           parts->previous_count * map_row_size(parts->width);
}
/* Copies at most `size` bytes of a text; the rest was zeroed by the caller. */
static inline void map_put_text(uint8_t *to, const char *text, size_t size)
{
    size_t len = strlen(text);
    memcpy(to, text, len < size ? len : size);
}
/* Writes map_size() bytes to `to`, hash included. The caller checks the result with map_decode. */
static inline void map_encode(const struct map_parts *parts, uint8_t *to)
{
    size_t length = map_size(parts), cells = (size_t)parts->partitions * parts->width;
    memset(to, 0, length);
    kho_store32(to, KHO_MAP_MAGIC);
    kho_store16(to + 4, KHO_MAP_FORMAT);
    kho_store16(to + 6, parts->previous_count > 0 ? 2 : 1);
    memcpy(to + 8, parts->cluster.bytes, 16);
    kho_store64(to + 24, parts->epoch);
    kho_store64(to + 48, parts->seed);
    kho_store32(to + 56, parts->partitions);
    to[60] = parts->replicas;
    to[61] = parts->write_quorum;
    to[62] = parts->read_quorum;
    to[63] = parts->width;
    kho_store16(to + 64, parts->node_count);
    kho_store16(to + 66, parts->collection_count);
    kho_store16(to + 68, parts->home);
    kho_store16(to + 70, parts->previous_count > 0);
    kho_store32(to + 72, 1);
    kho_store32(to + 76, (uint32_t)length);
    kho_store64(to + 80, parts->changed_ms);
    kho_store32(to + 88, parts->previous_count);
    uint8_t *p = to + KHO_MAP_HEAD;
    for (uint32_t i = 0; i < parts->node_count; i++, p += KHO_MAP_NODE) {
        const struct map_node *n = &parts->nodes[i];
        map_put_text(p, n->name, 32);
        memcpy(p + 32, n->incarnation.bytes, 16);
        map_put_text(p + 48, n->address, 64);
        kho_store16(p + 112, n->port);
        kho_store16(p + 114, n->shards);
        kho_store32(p + 116, n->weight);
        map_put_text(p + 120, n->zone, 32);
        p[152] = n->state;
        kho_store64(p + 160, n->since);
        kho_store64(p + 168, n->readmitted);
    }
    for (uint32_t i = 0; i < parts->collection_count; i++, p += KHO_MAP_COLLECTION) {
        const struct map_collection *c = &parts->collections[i];
        map_put_text(p, c->name, 64);
        kho_store32(p + 64, c->id);
        p[68] = c->replicas == parts->replicas ? 0 : c->replicas;
        p[69] = c->mode;
        kho_store16(p + 70, c->separator);
        kho_store64(p + 72, c->since);
        map_put_text(p + 104, c->agency, 24);
    }
    for (size_t i = 0; i < cells; i++)
        kho_store16(p + i * 2, parts->table[i]);
    p += cells * 2;
    for (size_t i = 0; i < cells; i++)
        kho_store32(p + i * 4, parts->since[i]);
    if (parts->previous_count > 0)
        memcpy(p + cells * 4, parts->previous, parts->previous_count * map_row_size(parts->width));
    struct kho_id hash = map_hash(to, length);
    memcpy(to + 32, hash.bytes, 16);
}

#endif
