/* serving.h: a shard over the fake store with clients that speak raw frames: the test delivers
 * bytes, turns the shard, and reads the answers that the shard sent. */
#ifndef KHO_TESTS_SERVING_H
#define KHO_TESTS_SERVING_H

#include "fake_store.h"
#include "unit.h"

#include "node/shard.h"

enum { SERVING_CONNS = 64, SERVING_PARTITIONS = 8, SERVING_NODES = 4 };

struct serving_conn {
    uint8_t *sent; /* what the shard sent, in order */
    size_t sent_len, sent_size, taken;
    bool open, closed;
    bool receiving;
    bool hold_sends;
    struct op *held; /* a send that has not ended */
};

struct serving {
    struct shard *shard;
    struct kho_now now;
    struct serving_conn conns[SERVING_CONNS];
    uint8_t *map_bytes;
    struct map map;
    uint64_t next_request;
    uint32_t events;
    char event[320];
};

/* A map of four nodes, R = 3 of the first three columns, this node (incarnation 11) at index
 * `self`; collections 1 (no separator) and 2 (separator '/'). */
static inline uint8_t *serving_map(uint64_t epoch, uint64_t salt, uint16_t home, uint16_t self,
                                   size_t *ret_length)
{
    struct map_node nodes[SERVING_NODES] = {0};
    struct map_collection collections[2] = {0};
    uint16_t table[SERVING_PARTITIONS * 3];
    uint32_t since[SERVING_PARTITIONS * 3];
    for (int i = 0; i < SERVING_NODES; i++) {
        snprintf(nodes[i].name, sizeof nodes[i].name, "node-%d", i);
        snprintf(nodes[i].address, sizeof nodes[i].address, "127.0.0.1");
        nodes[i].incarnation.bytes[0] = (uint8_t)(i == self ? 11 : 20 + i);
        nodes[i].port = (uint16_t)(7000 + i);
        nodes[i].shards = 1;
        nodes[i].weight = 1;
        nodes[i].state = MAP_NODE_UP;
        nodes[i].since = 1;
    }
    for (int i = 0; i < 2; i++) {
        snprintf(collections[i].name, sizeof collections[i].name, "c%d", i + 1);
        collections[i].id = (uint32_t)i + 1;
        collections[i].replicas = 3;
        collections[i].separator = i == 0 ? KHO_NO_SEPARATOR : '/';
        collections[i].since = 1;
    }
    /* Partition 7 belongs to nodes 1, 2, 3: node 0 is no replica of it. */
    for (int i = 0; i < SERVING_PARTITIONS * 3; i++) {
        table[i] = (uint16_t)(i % 3 + (i / 3 == 7 ? 1 : 0));
        since[i] = 1;
    }
    struct map_parts parts = {.cluster = {{1, 2, 3}},
                              .epoch = epoch,
                              .seed = 99,
                              .changed_ms = salt,
                              .partitions = SERVING_PARTITIONS,
                              .replicas = 3,
                              .write_quorum = 2,
                              .read_quorum = 2,
                              .width = 3,
                              .home = home,
                              .node_count = SERVING_NODES,
                              .collection_count = 2,
                              .nodes = nodes,
                              .collections = collections,
                              .table = table,
                              .since = since};
    *ret_length = map_size(&parts);
    uint8_t *bytes = malloc(*ret_length);
    KHO_ASSERT(bytes != NULL);
    map_encode(&parts, bytes);
    return bytes;
}

/* --- Ops -------------------------------------------------------------------------------------- */

static inline void serving_take_send(struct serving *s, struct op *op)
{
    struct serving_conn *c = &s->conns[op->conn];
    if (c->sent_len + op->len > c->sent_size) {
        c->sent_size = (c->sent_len + op->len) * 2;
        c->sent = realloc(c->sent, c->sent_size);
        KHO_ASSERT(c->sent != NULL);
    }
    memcpy(c->sent + c->sent_len, op->data, op->len);
    c->sent_len += op->len;
}

static inline void serving_op(struct serving *s, struct op *op)
{
    struct serving_conn *c = &s->conns[op->conn];
    op->result = 0;
    switch (op->kind) {
    case OP_SEND:
        KHO_ASSERT(c->open && c->held == NULL);
        if (c->hold_sends) {
            c->held = op;
            return;
        }
        serving_take_send(s, op);
        break;
    case OP_RECEIVE:
        KHO_ASSERT(c->open);
        c->receiving = op->len == 1;
        break;
    case OP_CLOSE:
        KHO_ASSERT(c->open);
        if (c->held != NULL) {
            c->held->result = -ECANCELED;
            shard_completed(s->shard, c->held, s->now);
            c->held = NULL;
        }
        c->open = false;
        c->closed = true;
        break;
    default:
        KHO_ASSERT(!"an op of the store");
    }
    shard_completed(s->shard, op, s->now);
}

/* Turns until nothing is left to do at this moment. */
static inline void serving_turn(struct serving *s)
{
    bool again = true;
    while (again) {
        uint64_t durable = fake->durable;
        shard_turn_end(s->shard, s->now);
        again = fake->durable != durable; /* as a completion would */
        struct op *op;
        while ((op = shard_next_op(s->shard)) != NULL) {
            serving_op(s, op);
            again = true;
        }
        struct event event;
        while (shard_next_event(s->shard, &event)) {
            s->events++;
            memcpy(s->event, event.text, sizeof s->event);
        }
        if (shard_deadline(s->shard) <= s->now.mono_ns) {
            shard_tick(s->shard, s->now);
            again = true;
        }
        if (fake->done_count > 0)
            again = true;
    }
}

/* Lets time pass, with the ticks that the shard asked for. */
static inline void serving_sleep(struct serving *s, uint64_t ms)
{
    uint64_t end = s->now.mono_ns + ms * 1000000u;
    serving_turn(s);
    while (shard_deadline(s->shard) <= end) {
        uint64_t at = kho_max(shard_deadline(s->shard), s->now.mono_ns);
        s->now.wall_ms += (at - s->now.mono_ns) / 1000000u;
        s->now.mono_ns = at;
        shard_tick(s->shard, s->now);
        serving_turn(s);
    }
    s->now.mono_ns = end;
}

static inline void serving_release_send(struct serving *s, int32_t conn)
{
    struct serving_conn *c = &s->conns[conn];
    c->hold_sends = false;
    if (c->held != NULL) {
        struct op *op = c->held;
        c->held = NULL;
        serving_take_send(s, op);
        op->result = 0;
        shard_completed(s->shard, op, s->now);
    }
    serving_turn(s);
}

/* --- Life ------------------------------------------------------------------------------------- */

static inline void serving_hello(struct serving *s, int32_t conn, const struct kho_id *cluster,
                                 uint32_t shard, struct wire_hello_node *ret)
{
    struct wire_hello_client hello = {.protocol_min = 1, .protocol_max = 1, .shard = shard};
    if (cluster != NULL)
        hello.cluster = *cluster;
    struct serving_conn *c = &s->conns[conn];
    free(c->sent);
    *c = (struct serving_conn){.open = true};
    shard_accepted(s->shard, conn, &hello, s->now);
    serving_turn(s);
    assert_true(c->sent_len >= KHO_HELLO_NODE_SIZE);
    assert_int_equal(wire_hello_node_decode(c->sent, ret), 0);
    c->taken = KHO_HELLO_NODE_SIZE;
}

static inline void serving_connect(struct serving *s, int32_t conn)
{
    struct wire_hello_node hello;
    serving_hello(s, conn, NULL, 0, &hello);
    assert_int_equal(hello.status, 0);
    assert_true(s->conns[conn].receiving);
}

static inline struct serving *serving_create_shards(uint32_t shard_count)
{
    struct serving *s = calloc(1, sizeof *s);
    struct shard_options options;
    KHO_ASSERT(s != NULL);
    shard_options_init(&options);
    options.shard_count = shard_count;
    options.memory_max = 128u << 20;
    options.connections_max = SERVING_CONNS;
    options.incarnation = fake_incarnation();
    options.boot = (struct kho_id){{77}};
    s->now = (struct kho_now){.mono_ns = 1000000000u, .wall_ms = 1700000000000u};
    assert_int_equal(shard_create(&options, &s->shard), 0);
    shard_start(s->shard, NULL, 0, s->now);
    s->next_request = 1;
    return s;
}

static inline struct serving *serving_create(void)
{
    return serving_create_shards(1);
}

static inline void serving_destroy(struct serving *s)
{
    shard_destroy(s->shard);
    for (int i = 0; i < SERVING_CONNS; i++)
        free(s->conns[i].sent);
    free(s->map_bytes);
    free(s);
}

/* --- Frames ----------------------------------------------------------------------------------- */

struct serving_frame {
    uint8_t bytes[KHO_FRAME_MAX];
    uint32_t len;
    uint32_t count;
};

static inline void frame_begin(struct serving_frame *f)
{
    f->len = KHO_FRAME_HEAD;
    f->count = 0;
}
static inline uint8_t *frame_add(struct serving_frame *f, uint32_t bytes)
{
    KHO_ASSERT(f->len + bytes <= KHO_FRAME_MAX);
    uint8_t *at = f->bytes + f->len;
    f->len += bytes;
    f->count++;
    return at;
}
static inline uint64_t frame_seal(struct serving *s, struct serving_frame *f, uint8_t type,
                                  uint8_t flags)
{
    struct wire_head head = {.length = f->len,
                             .type = type,
                             .flags = flags,
                             .count = (uint16_t)f->count,
                             .request = s->next_request++,
                             .epoch = s->map.epoch,
                             .map_hash = s->map.hash,
                             .cluster = s->map.cluster};
    wire_frame_seal(f->bytes, &head, false);
    return head.request;
}
static inline void serving_deliver(struct serving *s, int32_t conn, const void *bytes, size_t len)
{
    /* An exact copy, so that a read past the end is seen by the sanitizer. */
    uint8_t *lent = malloc(len > 0 ? len : 1);
    KHO_ASSERT(lent != NULL);
    memcpy(lent, bytes, len);
    shard_received(s->shard, conn, lent, len, s->now);
    free(lent);
}
static inline uint64_t serving_send(struct serving *s, int32_t conn, struct serving_frame *f,
                                    uint8_t type, uint8_t flags)
{
    uint64_t request = frame_seal(s, f, type, flags);
    serving_deliver(s, conn, f->bytes, f->len);
    return request;
}

/* The next answer; false: none is there. `*ret_body` stays until the connection is used again. */
static inline bool serving_answer(struct serving *s, int32_t conn, struct wire_head *ret,
                                  const uint8_t **ret_body)
{
    struct serving_conn *c = &s->conns[conn];
    size_t rest = c->sent_len - c->taken;
    if (rest == 0)
        return false;
    int len = wire_frame_length(c->sent + c->taken, rest);
    assert_true(len > 0 && (size_t)len <= rest);
    assert_int_equal(wire_frame_decode(c->sent + c->taken, ret), 0);
    *ret_body = c->sent + c->taken + KHO_FRAME_HEAD;
    c->taken += (size_t)len;
    return true;
}
/* The answer of that request, which must come next and whole. */
static inline const uint8_t *serving_expect(struct serving *s, int32_t conn, uint64_t request,
                                            int status, struct wire_head *ret)
{
    const uint8_t *body = NULL;
    assert_true(serving_answer(s, conn, ret, &body));
    assert_int_equal(ret->request, request);
    assert_int_equal(ret->status, status);
    assert_int_equal(ret->flags & KHO_FRAME_MORE, 0);
    return body;
}
static inline void serving_expect_nothing(struct serving *s, int32_t conn)
{
    assert_int_equal(s->conns[conn].sent_len, s->conns[conn].taken);
}

/* --- Requests --------------------------------------------------------------------------------- */

static inline uint64_t serving_push_map(struct serving *s, int32_t conn, const uint8_t *bytes,
                                        size_t length, bool decide, uint64_t epoch, uint64_t hash)
{
    static struct serving_frame f;
    frame_begin(&f);
    uint8_t *at = frame_add(&f, WIRE_MAP_PUSH_HEAD + (uint32_t)length);
    memset(at, 0, WIRE_MAP_PUSH_HEAD);
    kho_store64(at, epoch);
    kho_store64(at + 8, hash);
    at[16] = decide;
    memcpy(at + WIRE_MAP_PUSH_HEAD, bytes, length);
    return serving_send(s, conn, &f, WIRE_MAP_PUSH, 0);
}

/* Puts a map in force at the node and in the test. */
static inline void serving_use_map(struct serving *s, int32_t conn, uint64_t epoch)
{
    size_t length;
    struct wire_head head = {0};
    free(s->map_bytes);
    s->map_bytes = serving_map(epoch, 0, 0, 0, &length);
    uint64_t request = serving_push_map(s, conn, s->map_bytes, length, false, 0, 0);
    serving_turn(s);
    shard_map_spread(s->shard, epoch, s->now); /* other shards of the node have it at once */
    serving_turn(s);
    serving_expect(s, conn, request, 0, &head);
    assert_int_equal(map_decode(s->map_bytes, length, &s->map), 0);
}

/* A shard with a map and connection 0. */
static inline struct serving *serving_ready(void)
{
    struct serving *s = serving_create();
    serving_connect(s, 0);
    serving_use_map(s, 0, 1);
    return s;
}

static inline struct key_hash serving_hash(const struct serving *s, uint32_t collection,
                                           const char *key, uint32_t *ret_partition)
{
    struct key_hash hash = key_hash(collection, key, strlen(key), s->map.seed);
    *ret_partition =
        key_partition(collection, key, strlen(key), s->map.seed,
                      collection == 2 ? '/' : KHO_NO_SEPARATOR, s->map.partitions, hash);
    return hash;
}
/* The n-th key of collection 1 that lies in a partition of which this node is a replica (or not).
 */
static inline void serving_key(const struct serving *s, uint32_t n, bool replica, char *ret,
                               size_t size)
{
    for (uint32_t i = 0, found = 0;; i++) {
        uint32_t partition;
        snprintf(ret, size, "key-%u", i);
        serving_hash(s, 1, ret, &partition);
        if ((partition != 7) == replica && found++ == n)
            return;
    }
}
static inline void frame_add_record(struct serving_frame *f, uint32_t collection, const char *key,
                                    uint64_t counter, const void *value, uint32_t len)
{
    struct record record = {.collection = collection,
                            .key_len = (uint16_t)strlen(key),
                            .version = {.counter = counter, .writer = 7},
                            .raw_len = len,
                            .stored_len = len,
                            .hash = content_hash(value, len),
                            .key = (const uint8_t *)key,
                            .value = value};
    record_encode(&record, frame_add(f, (uint32_t)record_size(&record)));
}
static inline void frame_add_read(struct serving_frame *f, const struct serving *s,
                                  uint32_t collection, const char *key, uint16_t ask, bool by_tag)
{
    uint32_t partition;
    struct key_hash hash = serving_hash(s, collection, key, &partition);
    struct wire_read_ask entry = {.collection = collection,
                                  .key_len = by_tag ? 0 : (uint16_t)strlen(key),
                                  .ask = ask,
                                  .partition = partition,
                                  .hash = hash,
                                  .key = (const uint8_t *)key};
    wire_read_ask_encode(&entry, frame_add(f, WIRE_READ_ASK + entry.key_len));
}
/* Stores one record and sees it acknowledged. */
static inline void serving_put(struct serving *s, int32_t conn, const char *key, uint64_t counter,
                               const void *value, uint32_t len)
{
    static struct serving_frame f;
    struct wire_head head;
    frame_begin(&f);
    frame_add_record(&f, 1, key, counter, value, len);
    uint64_t request = serving_send(s, conn, &f, WIRE_WRITE, 0);
    serving_turn(s);
    const uint8_t *body = serving_expect(s, conn, request, 0, &head);
    assert_int_equal(head.count, 1);
    assert_int_equal((int32_t)kho_load32(body), 0);
}

/* The status of record i of a WRITE's answer. */
static inline int32_t status_at(const uint8_t *body, uint32_t i)
{
    return (int32_t)kho_load32(body + (size_t)i * WIRE_STATUS_ANSWER);
}

#endif
