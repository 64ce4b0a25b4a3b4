/* fake_node.h: three nodes in memory for tests of the client's core: they speak the wire, keep
 * their records in an array, and misbehave as told.
 */
#ifndef KHO_FAKE_NODE_H
#define KHO_FAKE_NODE_H

#include <kho/piece.h>

#include <lz4.h>

#include "client/core.h"
#include "client/session.h"
#include "unit.h"

#define FAKE_NODES      3
#define FAKE_SHARDS     2 /* of a node, at most */
#define FAKE_PARTITIONS 8
#define FAKE_CONNS      64
#define FAKE_RECORDS    1024
#define FAKE_DELAYED    256

struct fake_record {
    bool used;
    struct version version;
    uint8_t state; /* enum wire_state */
    uint32_t collection;
    uint16_t key_len;
    uint8_t key[KHO_KEY_MAX];
    uint8_t *value; /* as it came */
    uint32_t value_len;
    uint32_t stored_len;
    uint8_t codec;
    struct kho_id hash;
};

struct fake_node {
    struct kho_id incarnation;
    uint64_t durable;
    uint64_t wall_ms;
    uint8_t *map; /* NULL: none */
    size_t map_len;
    uint64_t floor;
    /* Misbehaviour. */
    bool down;                               /* refuses connections */
    bool mute;                               /* takes what comes and says nothing */
    bool lose_acks;                          /* stores, but doesn't answer writes */
    bool ignore;                             /* neither stores nor answers writes */
    bool suspect;                            /* flags its answers (R3) */
    bool unknown;                            /* can't say of any key (R2) */
    bool rotten;                             /* READ ends as damaged */
    bool corrupt;                            /* READ brings values that don't match their hash */
    bool alien;                              /* READ brings large values of another key */
    bool stale_below;                        /* refuses first-hand writes at or below the floor */
    int write_status;                        /* refuses writes */
    uint64_t delay_ns;                       /* looks at what comes so much later */
    uint64_t stats[FAKE_SHARDS][STAT_COUNT]; /* what its shards tell of themselves */
    /* What happened. */
    uint32_t writes, copies, reads, probes, hellos;
    uint32_t blocks;      /* that came compressed */
    struct kho_id packed; /* their bytes, hashed one after the other */
    struct fake_record records[FAKE_RECORDS];
};

struct fake_conn {
    bool open;
    int node; /* -1: at an address where nobody is */
    uint32_t shard;
    bool greeted;
    uint8_t *in;
    size_t in_len;
    size_t ready_len; /* of which the node may look at, */
    struct {
        size_t len;
        uint64_t due_ns;
    } delayed[FAKE_DELAYED]; /* and at so much more then, earliest first */
    uint32_t delayed_count;
    uint8_t *out;
    size_t out_len;
    /* A large value that comes in. */
    struct record large;
    uint8_t large_key[KHO_KEY_MAX];
    uint64_t large_id;
    uint64_t refused_id; /* of a value that was refused at its begin */
    bool large_copy;
    uint8_t *large_value;
    uint32_t large_got;
};

struct fake_done {
    struct client_done done;
    struct kho_result first; /* of its results */
    uint8_t first_value[512];
    /* What nodes said of themselves, and the number of nodes. */
    struct kho_node_status nodes[FAKE_NODES];
    uint64_t stats[FAKE_NODES][STAT_COUNT];
    size_t node_count;
    bool come;
};

struct fake_cluster {
    struct client *client;
    struct kho_now now;
    struct fake_node nodes[FAKE_NODES];
    struct fake_conn conns[FAKE_CONNS];
    uint16_t shards; /* of each node, in the maps made from now on */
    uint32_t dones;
    /* The heap: fails allocation number `fail_at` (0: none). */
    uint64_t allocations, fail_at, live;
    bool fail_on;          /* and every one after it */
    bool third_collection; /* in the maps made from now on */
};

/* --- Map -------------------------------------------------------------------------------------- */

static uint8_t *fake_map(uint64_t epoch, const struct fake_cluster *cluster, size_t *ret_len)
{
    static const char *const names[FAKE_NODES] = {"a", "b", "c"};
    struct map_node nodes[FAKE_NODES] = {0};
    struct map_collection collections[3] = {
        {.name = "people", .id = 1, .replicas = 3, .separator = KHO_NO_SEPARATOR, .since = 1},
        {.name = "events", .id = 2, .replicas = 3, .separator = KHO_NO_SEPARATOR, .since = 1},
        {.name = "young", .id = 3, .replicas = 3, .separator = KHO_NO_SEPARATOR, .since = 2}};
    uint16_t table[FAKE_PARTITIONS * FAKE_NODES];
    uint32_t since[FAKE_PARTITIONS * FAKE_NODES];
    for (int i = 0; i < FAKE_NODES; i++) {
        snprintf(nodes[i].name, sizeof nodes[i].name, "%s", names[i]);
        snprintf(nodes[i].address, sizeof nodes[i].address, "node-%s", names[i]);
        nodes[i].incarnation = cluster->nodes[i].incarnation;
        nodes[i].port = (uint16_t)(7000 + i);
        nodes[i].shards = cluster->shards;
        nodes[i].weight = 1;
        nodes[i].state = MAP_NODE_UP;
    }
    for (int i = 0; i < FAKE_PARTITIONS * FAKE_NODES; i++) {
        table[i] = (uint16_t)((i / FAKE_NODES + i) % FAKE_NODES);
        since[i] = 1;
    }
    struct map_parts parts = {
        .epoch = epoch,
        .seed = 77,
        .partitions = FAKE_PARTITIONS,
        .replicas = 3,
        .write_quorum = 2,
        .read_quorum = 2,
        .width = 3,
        .node_count = FAKE_NODES,
        .collection_count = cluster->third_collection ? 3 : 2,
        .nodes = nodes,
        .collections = collections,
        .table = table,
        .since = since,
    };
    memset(parts.cluster.bytes, 9, 16);
    uint8_t *bytes = (uint8_t *)malloc(map_size(&parts));
    map_encode(&parts, bytes);
    struct map map;
    assert_int_equal(map_decode(bytes, map_size(&parts), &map), 0);
    *ret_len = map_size(&parts);
    return bytes;
}

static void fake_node_map(struct fake_cluster *cluster, int node, uint64_t epoch)
{
    free(cluster->nodes[node].map);
    cluster->nodes[node].map = fake_map(epoch, cluster, &cluster->nodes[node].map_len);
}

/* --- Node ------------------------------------------------------------------------------------- */

static void fake_out(struct fake_conn *conn, const void *bytes, size_t len)
{
    conn->out = (uint8_t *)realloc(conn->out, conn->out_len + len);
    memcpy(conn->out + conn->out_len, bytes, len);
    conn->out_len += len;
}

static void fake_answer(struct fake_cluster *cluster, struct fake_conn *conn,
                        const struct wire_head *ask, uint8_t type, uint8_t flags, uint16_t count,
                        int status, const uint8_t *body, size_t len)
{
    struct fake_node *node = &cluster->nodes[conn->node];
    uint8_t *frame = (uint8_t *)malloc(KHO_FRAME_HEAD + len);
    struct wire_head head = {
        .length = (uint32_t)(KHO_FRAME_HEAD + len),
        .type = type,
        .flags = (uint8_t)(flags | (node->suspect ? KHO_FRAME_SUSPECT : 0)),
        .count = count,
        .request = ask->request,
        .wall_ms = node->wall_ms,
        .durable = node->durable,
        .status = status,
    };
    if (node->map != NULL) {
        head.epoch = kho_load64(node->map + 24);
        head.map_hash = kho_load64(node->map + 32);
    }
    if (len > 0)
        memcpy(frame + KHO_FRAME_HEAD, body, len);
    wire_frame_seal(frame, &head, true);
    fake_out(conn, frame, head.length);
    free(frame);
}

static struct fake_record *fake_find(struct fake_node *node, uint32_t collection, const void *key,
                                     size_t key_len)
{
    for (int i = 0; i < FAKE_RECORDS; i++) {
        struct fake_record *record = &node->records[i];
        if (record->used && record->collection == collection && record->key_len == key_len &&
            memcmp(record->key, key, key_len) == 0)
            return record;
    }
    return NULL;
}

static struct fake_record *fake_find_hash(struct fake_node *node, uint32_t collection,
                                          struct key_hash hash)
{
    for (int i = 0; i < FAKE_RECORDS; i++) {
        struct fake_record *record = &node->records[i];
        if (!record->used || record->collection != collection)
            continue;
        struct key_hash own = key_hash(collection, record->key, record->key_len, 77);
        if (own.low == hash.low && own.high == hash.high)
            return record;
    }
    return NULL;
}

static int fake_store(struct fake_node *node, const struct record *record, bool copy)
{
    struct fake_record *at = fake_find(node, record->collection, record->key, record->key_len);
    if (node->write_status != 0)
        return node->write_status;
    if (!copy && node->stale_below && at == NULL && record->version.counter <= node->floor)
        return KHO_ESTALE;
    static uint8_t piece[KHO_PIECE_MAX];
    if (!value_matches(record, piece))
        return KHO_ECHECKSUM;
    if (at != NULL && version_compare(record->version, at->version) == 0 &&
        (at->value_len != record->raw_len || !kho_id_equal(&at->hash, &record->hash)))
        return KHO_ECONFLICT;
    if (at != NULL && version_compare(record->version, at->version) <= 0)
        return 0;
    for (int i = 0; at == NULL; i++) {
        assert_true(i < FAKE_RECORDS);
        if (!node->records[i].used)
            at = &node->records[i];
    }
    free(at->value);
    memset(at, 0, sizeof *at);
    at->used = true;
    at->collection = record->collection;
    at->key_len = record->key_len;
    memcpy(at->key, record->key, record->key_len);
    at->version = record->version;
    at->state = record_is_tombstone(record) ? WIRE_TOMBSTONE : WIRE_PRESENT;
    at->value = (uint8_t *)malloc(record->stored_len + 1);
    at->value_len = record->raw_len;
    at->stored_len = record->stored_len;
    at->codec = record->codec;
    at->hash = record->hash;
    if (record->stored_len > 0)
        memcpy(at->value, record->value, record->stored_len);
    node->durable++;
    return 0;
}

static void fake_probe(struct fake_cluster *cluster, struct fake_conn *conn,
                       const struct wire_head *head, const uint8_t *body)
{
    struct fake_node *node = &cluster->nodes[conn->node];
    uint8_t *answers = (uint8_t *)malloc((size_t)head->count * WIRE_PROBE_ANSWER);
    node->probes += head->count;
    for (uint32_t i = 0; i < head->count; i++) {
        struct wire_probe_ask ask;
        wire_probe_ask_decode(body + (size_t)i * WIRE_PROBE_ASK, &ask);
        struct wire_probe_answer answer = {.state = WIRE_ABSENT, .floor = node->floor};
        struct fake_record *record = fake_find_hash(node, ask.collection, ask.hash);
        if (record != NULL) {
            answer.version = record->version;
            answer.state = record->state;
        }
        if (node->rotten && answer.state == WIRE_PRESENT)
            answer.state = WIRE_VALUE_UNKNOWN;
        if (node->unknown)
            answer.state = WIRE_UNKNOWN;
        wire_probe_answer_encode(&answer, answers + (size_t)i * WIRE_PROBE_ANSWER);
    }
    fake_answer(cluster, conn, head, head->type, 0, head->count, 0, answers,
                (size_t)head->count * WIRE_PROBE_ANSWER);
    free(answers);
}

static void fake_write(struct fake_cluster *cluster, struct fake_conn *conn,
                       const struct wire_head *head, const uint8_t *body, size_t len)
{
    struct fake_node *node = &cluster->nodes[conn->node];
    bool copy = (head->flags & KHO_FRAME_COPY) != 0;
    uint8_t *answers = (uint8_t *)calloc(head->count, WIRE_STATUS_ANSWER);
    uint64_t values = 0;
    for (uint32_t i = 0; i < head->count; i++) {
        struct record record;
        if (copy) {
            body += WIRE_DROPS;
            len -= WIRE_DROPS;
            node->copies++;
        } else {
            node->writes++;
        }
        int used = record_decode(body, len, &record);
        assert_true(used > 0);
        body += used;
        len -= (size_t)used;
        values += record.raw_len;
        int status = node->ignore ? 0 : fake_store(node, &record, copy);
        kho_store32(answers + (size_t)i * WIRE_STATUS_ANSWER, (uint32_t)status);
    }
    assert_int_equal(len, 0);
    assert_true(values <= KHO_FRAME_VALUES_MAX);
    if (!node->lose_acks && !node->ignore)
        fake_answer(cluster, conn, head, head->type, 0, head->count, 0, answers,
                    (size_t)head->count * WIRE_STATUS_ANSWER);
    free(answers);
}

/* Unpacks all blocks; what is in them is written as if it had come by itself. */
static void fake_write_blocks(struct fake_cluster *cluster, struct fake_conn *conn,
                              const struct wire_head *head, const uint8_t *body, size_t len)
{
    uint8_t *raw = (uint8_t *)malloc(KHO_FRAME_RAW_MAX);
    uint32_t used = 0, records = 0;
    for (size_t at = 0; at < len;) {
        struct wire_block_head block = {0};
        int n = wire_block_head_decode(body + at, len - at, &block);
        assert_true(n > 0);
        assert_true(used + block.raw_len <= KHO_FRAME_RAW_MAX);
        int got = LZ4_decompress_safe((const char *)body + at + WIRE_BLOCK_HEAD, (char *)raw + used,
                                      (int)block.stored_len, (int)block.raw_len);
        assert_int_equal(got, block.raw_len);
        struct fake_node *node = &cluster->nodes[conn->node];
        struct kho_id both[2] = {node->packed,
                                 content_hash(body + at + WIRE_BLOCK_HEAD, block.stored_len)};
        node->packed = content_hash(both, sizeof both);
        node->blocks++;
        used += block.raw_len;
        records += block.records;
        at += (size_t)n;
    }
    assert_int_equal(records, head->count);
    fake_write(cluster, conn, head, raw, used);
    free(raw);
}

static void fake_read_large(struct fake_cluster *cluster, struct fake_conn *conn,
                            const struct wire_head *head, const struct wire_read_answer *answer,
                            const struct record *record, bool more)
{
    uint8_t begin[WIRE_READ_ANSWER + KHO_RECORD_HEAD + KHO_KEY_MAX];
    uint32_t at = 0;
    wire_read_answer_encode(answer, begin);
    size_t len = WIRE_READ_ANSWER + record_encode_head(record, begin + WIRE_READ_ANSWER);
    begin[WIRE_READ_ANSWER + KHO_RECORD_HEAD] ^= cluster->nodes[conn->node].alien;
    fake_answer(cluster, conn, head, WIRE_READ, KHO_FRAME_LARGE | KHO_FRAME_MORE, 1, 0, begin, len);
    while (at < record->stored_len) {
        uint32_t take = (uint32_t)kho_min(100000, record->stored_len - at);
        bool last = at + take == record->stored_len;
        uint8_t flags = last ? KHO_FRAME_LAST_DATA : KHO_FRAME_MORE;
        if (last && more)
            flags |= KHO_FRAME_MORE;
        fake_answer(cluster, conn, head, WIRE_DATA, flags, 0, 0, record->value + at, take);
        at += take;
    }
}

/* Each entry in a frame of its own, the last first: any order is allowed. */
static void fake_read(struct fake_cluster *cluster, struct fake_conn *conn,
                      const struct wire_head *head, const uint8_t *body, size_t len)
{
    struct fake_node *node = &cluster->nodes[conn->node];
    struct wire_read_ask *asks =
        (struct wire_read_ask *)calloc(head->count, sizeof(struct wire_read_ask));
    node->reads += head->count;
    for (uint32_t i = 0; i < head->count; i++) {
        int used = wire_read_ask_decode(body, len, &asks[i]);
        assert_true(used > 0);
        body += used;
        len -= (size_t)used;
    }
    for (uint32_t i = head->count; i-- > 0;) {
        uint8_t flags = i > 0 ? KHO_FRAME_MORE : 0;
        struct wire_read_answer answer = {.index = i, .state = WIRE_ABSENT, .floor = node->floor};
        struct fake_record *found =
            fake_find(node, asks[i].collection, asks[i].key, asks[i].key_len);
        if (node->unknown || (node->rotten && found != NULL))
            answer.status = node->unknown ? KHO_EUNKNOWN : KHO_EDAMAGED;
        if (answer.status != 0)
            answer.state = WIRE_UNKNOWN;
        if (answer.status != 0 || found == NULL) {
            uint8_t bytes[WIRE_READ_ANSWER];
            wire_read_answer_encode(&answer, bytes);
            fake_answer(cluster, conn, head, WIRE_READ, flags, 1, 0, bytes, sizeof bytes);
            continue;
        }
        struct record record = {
            .collection = found->collection,
            .key_len = found->key_len,
            .flags = found->state == WIRE_TOMBSTONE ? KHO_RECORD_TOMBSTONE : 0,
            .version = found->version,
            .codec = found->codec,
            .raw_len = found->value_len,
            .stored_len = found->stored_len,
            .hash = found->hash,
            .key = found->key,
            .value = found->value,
        };
        if (node->corrupt)
            record.hash.bytes[3] ^= 1;
        answer.state = found->state;
        bool value = asks[i].ask == KHO_READ_RECORD;
        answer.record_len = (uint32_t)record_size(&record) - (value ? 0 : record.stored_len);
        if (value && record.stored_len > 200000) {
            fake_read_large(cluster, conn, head, &answer, &record, i > 0);
            continue;
        }
        uint8_t *bytes = (uint8_t *)malloc(WIRE_READ_ANSWER + record_size(&record));
        wire_read_answer_encode(&answer, bytes);
        if (value)
            record_encode(&record, bytes + WIRE_READ_ANSWER);
        else
            record_encode_head(&record, bytes + WIRE_READ_ANSWER);
        fake_answer(cluster, conn, head, WIRE_READ, flags, 1, 0, bytes,
                    WIRE_READ_ANSWER + answer.record_len);
        free(bytes);
    }
    free(asks);
}

static void fake_large(struct fake_cluster *cluster, struct fake_conn *conn,
                       const struct wire_head *head, const uint8_t *body, size_t len)
{
    struct fake_node *node = &cluster->nodes[conn->node];
    if (head->type == WIRE_WRITE_LARGE) {
        conn->large_copy = (head->flags & KHO_FRAME_COPY) != 0;
        size_t skip = conn->large_copy ? WIRE_DROPS : 0;
        assert_true(record_decode_head(body + skip, len - skip, &conn->large) > 0);
        memcpy(conn->large_key, conn->large.key, conn->large.key_len);
        conn->large.key = conn->large_key;
        conn->large_id = head->request;
        conn->large_got = 0;
        if (node->write_status != 0) {
            uint8_t refusal[WIRE_STATUS_ANSWER] = {0};
            kho_store32(refusal, (uint32_t)node->write_status);
            fake_answer(cluster, conn, head, WIRE_WRITE_LARGE, 0, 1, 0, refusal, sizeof refusal);
            conn->refused_id = head->request;
            return;
        }
        conn->large_value = (uint8_t *)malloc(conn->large.stored_len);
        return;
    }
    /* DATA of a value that was refused at its begin are skipped. */
    if (head->request == conn->refused_id)
        return;
    assert_int_equal(head->request, conn->large_id);
    assert_true(len <= conn->large.stored_len - conn->large_got);
    memcpy(conn->large_value + conn->large_got, body, len);
    conn->large_got += (uint32_t)len;
    bool last = (head->flags & KHO_FRAME_MORE) == 0;
    assert_int_equal(last, conn->large_got == conn->large.stored_len);
    if (!last)
        return;
    uint8_t answer[WIRE_STATUS_ANSWER] = {0};
    struct wire_head ask = *head;
    conn->large.value = conn->large_value;
    node->writes++;
    kho_store32(answer, (uint32_t)fake_store(node, &conn->large, conn->large_copy));
    free(conn->large_value);
    conn->large_value = NULL;
    fake_answer(cluster, conn, &ask, WIRE_WRITE_LARGE, 0, 1, 0, answer, sizeof answer);
}

static void fake_status(struct fake_cluster *cluster, struct fake_conn *conn,
                        const struct wire_head *ask)
{
    const uint64_t *stats = cluster->nodes[conn->node].stats[conn->shard];
    uint8_t answer[STAT_COUNT * WIRE_STAT_VALUE];
    for (int i = 0; i < STAT_COUNT; i++)
        kho_store64(answer + (size_t)i * WIRE_STAT_VALUE, stats[i]);
    fake_answer(cluster, conn, ask, WIRE_STATUS, 0, STAT_COUNT, 0, answer, sizeof answer);
}

static void fake_frame(struct fake_cluster *cluster, struct fake_conn *conn, const uint8_t *frame)
{
    struct fake_node *node = &cluster->nodes[conn->node];
    struct wire_head head;
    assert_int_equal(wire_frame_decode(frame, &head), 0);
    const uint8_t *body = frame + KHO_FRAME_HEAD;
    size_t len = head.length - KHO_FRAME_HEAD;
    if (head.type == WIRE_MAP) {
        fake_answer(cluster, conn, &head, WIRE_MAP, 0, node->map != NULL, 0, node->map,
                    node->map != NULL ? node->map_len : 0);
        return;
    }
    uint64_t epoch = node->map == NULL ? 0 : kho_load64(node->map + 24);
    if (head.type == WIRE_STATUS)
        fake_status(cluster, conn, &head);
    else if (head.epoch < epoch)
        fake_answer(cluster, conn, &head, head.type, 0, 0, KHO_EEPOCHOLD, node->map, node->map_len);
    else if (head.epoch > epoch)
        fake_answer(cluster, conn, &head, head.type, 0, 0, KHO_EBEHIND, NULL, 0);
    else if (head.type == WIRE_PROBE)
        fake_probe(cluster, conn, &head, body);
    else if (head.type == WIRE_WRITE)
        fake_write(cluster, conn, &head, body, len);
    else if (head.type == WIRE_WRITE_BLOCKS)
        fake_write_blocks(cluster, conn, &head, body, len);
    else if (head.type == WIRE_READ)
        fake_read(cluster, conn, &head, body, len);
    else if (head.type == WIRE_WRITE_LARGE || head.type == WIRE_DATA)
        fake_large(cluster, conn, &head, body, len);
    else
        fail_msg("the client sent type %d", head.type);
}

static void fake_hello(struct fake_cluster *cluster, struct fake_conn *conn)
{
    struct fake_node *node = &cluster->nodes[conn->node];
    struct wire_hello_client ask = {0};
    uint8_t bytes[KHO_HELLO_NODE_SIZE];
    assert_int_equal(wire_hello_client_decode(conn->in, &ask), 0);
    struct wire_hello_node hello = {
        .protocol = KHO_PROTOCOL,
        .shard_count = cluster->shards,
        .incarnation = node->incarnation,
        .durable = node->durable,
        .wall_ms = node->wall_ms,
    };
    if (node->map != NULL) {
        memcpy(hello.cluster.bytes, node->map + 8, 16);
        hello.epoch = kho_load64(node->map + 24);
        hello.map_hash = kho_load64(node->map + 32);
    }
    node->hellos++;
    conn->shard = ask.shard;
    wire_hello_node_encode(&hello, bytes);
    fake_out(conn, bytes, sizeof bytes);
    conn->greeted = true;
}

static void fake_arrive(struct fake_cluster *cluster, struct fake_conn *conn, size_t len)
{
    uint64_t due_ns = cluster->now.mono_ns + cluster->nodes[conn->node].delay_ns;
    assert_true(conn->delayed_count < FAKE_DELAYED);
    conn->delayed[conn->delayed_count].len = len;
    conn->delayed[conn->delayed_count++].due_ns = due_ns;
}

/* When a node looks at what it was sent. */
static uint64_t fake_due(const struct fake_cluster *cluster)
{
    uint64_t at = CLIENT_NEVER;
    for (int i = 0; i < FAKE_CONNS; i++) {
        const struct fake_conn *conn = &cluster->conns[i];
        if (conn->open && conn->delayed_count > 0)
            at = kho_min(at, conn->delayed[0].due_ns);
    }
    return at;
}

/* Works off what a node was sent. */
static void fake_work(struct fake_cluster *cluster, struct fake_conn *conn)
{
    size_t at = 0;
    while (conn->delayed_count > 0 && conn->delayed[0].due_ns <= cluster->now.mono_ns) {
        conn->ready_len += conn->delayed[0].len;
        memmove(&conn->delayed[0], &conn->delayed[1],
                --conn->delayed_count * sizeof conn->delayed[0]);
    }
    if (conn->node < 0 || cluster->nodes[conn->node].mute)
        return;
    if (!conn->greeted && conn->ready_len >= KHO_HELLO_CLIENT_SIZE) {
        fake_hello(cluster, conn);
        at = KHO_HELLO_CLIENT_SIZE;
    }
    while (conn->greeted && at < conn->ready_len) {
        int length = wire_frame_length(conn->in + at, conn->ready_len - at);
        assert_true(length >= 0);
        if (length == 0 || (size_t)length > conn->ready_len - at)
            break;
        fake_frame(cluster, conn, conn->in + at);
        at += (size_t)length;
    }
    if (at > 0)
        memmove(conn->in, conn->in + at, conn->in_len - at);
    conn->in_len -= at;
    conn->ready_len -= at;
}

#endif
