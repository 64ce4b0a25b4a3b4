/* What does a client's core make of hostile nodes? Calls of every kind are made, and three nodes
 * answer as the input says: well, with any field or byte changed and the checksum mended, with a
 * body of the input's own, with plain bytes, late, twice, or not at all. Whatever they say: each
 * call ends once and by its deadline, the client can be closed, and gives back all its memory.
 *
 * Input: calls 2, then for each thing that a node says: how 1, then what that wants. */
#include "fuzz.h"

#include <errno.h>

#include "client/client.h"
#include <kho/wire.h>

enum { NODES = 3, PARTITIONS = 4, CONNS = 256, CALLS = 3, STEPS_MAX = 20000, BODY_MAX = 4096 };
enum { DEADLINE_MS = 400, SAID_MAX = 200 };

enum how {
    SAY_WELL,
    SAY_CHANGED, /* place 2, number 4, bytes of it 1: in the frame, whose checksum is mended */
    SAY_TWICE_CHANGED,
    SAY_OWN,   /* type 1, flags 1, count 2, status 1, length 2, body */
    SAY_PLAIN, /* length 1, bytes */
    SAY_NOTHING,
    SAY_AGAIN, /* twice the same */
    SAY_LATE,
    SAY_BREAK,
    SAY_KINDS
};

struct conn {
    bool open, greeted;
    int node;
    uint8_t *in;
    size_t in_len;
};

struct ended {
    uint32_t calls[CALLS];
    bool closed;
};

static struct client *g_client;
static struct kho_now g_now;
static struct conn g_conns[CONNS];
static struct fuzz_input *g_in;
static uint8_t *g_map;
static size_t g_map_len;
static uint64_t g_live;
static uint32_t g_said;
static uint8_t g_frame[KHO_FRAME_MAX];
static struct ended g_ended;

/* --- World ------------------------------------------------------------------------------------ */

/* Large pieces are kept from one run to the next: the kernel's pages cost more than all else. */
enum { POOL_FROM = 64 << 10, POOL_MAX = 64 };
static struct {
    void *memory;
    size_t size;
    bool used;
} g_pool[POOL_MAX];

static void *allocate(size_t size, void *arg)
{
    (void)arg;
    g_live++;
    for (int i = 0; size >= POOL_FROM && i < POOL_MAX; i++) {
        if (g_pool[i].memory == NULL) {
            g_pool[i].memory = malloc(size);
            g_pool[i].size = size;
        }
        if (g_pool[i].used || g_pool[i].size != size)
            continue;
        g_pool[i].used = true;
        return g_pool[i].memory;
    }
    return malloc(size);
}
static void release(void *memory, void *arg)
{
    (void)arg;
    g_live -= memory != NULL;
    for (int i = 0; memory != NULL && i < POOL_MAX; i++)
        if (g_pool[i].memory == memory) {
            KHO_ASSERT(g_pool[i].used);
            g_pool[i].used = false;
            return;
        }
    free(memory);
}

static uint8_t *map_make(uint64_t epoch, size_t *ret_len)
{
    struct map_node nodes[NODES] = {0};
    struct map_collection collections[2] = {
        {.name = "people", .id = 1, .replicas = 3, .separator = KHO_NO_SEPARATOR, .since = 1},
        {.name = "events", .id = 2, .replicas = 3, .separator = '/', .since = 1}};
    uint16_t table[PARTITIONS * NODES];
    uint32_t since[PARTITIONS * NODES];
    for (int i = 0; i < NODES; i++) {
        snprintf(nodes[i].name, sizeof nodes[i].name, "%c", 'a' + i);
        snprintf(nodes[i].address, sizeof nodes[i].address, "node-%c", 'a' + i);
        nodes[i].incarnation.bytes[0] = (uint8_t)(i + 1);
        nodes[i].port = (uint16_t)(7000 + i);
        nodes[i].shards = 1;
        nodes[i].weight = 1;
        nodes[i].state = MAP_NODE_UP;
    }
    for (int i = 0; i < PARTITIONS * NODES; i++) {
        table[i] = (uint16_t)((i / NODES + i) % NODES);
        since[i] = 1;
    }
    struct map_parts parts = {.cluster = {{9}},
                              .epoch = epoch,
                              .seed = 77,
                              .partitions = PARTITIONS,
                              .replicas = 3,
                              .write_quorum = 2,
                              .read_quorum = 2,
                              .width = 3,
                              .node_count = NODES,
                              .collection_count = 2,
                              .nodes = nodes,
                              .collections = collections,
                              .table = table,
                              .since = since};
    uint8_t *bytes = malloc(map_size(&parts));
    KHO_ASSERT(bytes != NULL);
    map_encode(&parts, bytes);
    *ret_len = map_size(&parts);
    return bytes;
}

static void conn_reset(int at)
{
    free(g_conns[at].in);
    g_conns[at] = (struct conn){0};
}

/* Some bytes at a time, an exact copy of each piece. */
static void give(int at, const uint8_t *bytes, size_t len)
{
    size_t piece = len < 200 ? 61 : 4099;
    for (size_t from = 0; from < len && g_conns[at].open; from += piece) {
        size_t n = kho_min(piece, len - from);
        uint8_t *lent = fuzz_copy(bytes + from, n);
        client_received(g_client, at, lent, n, g_now);
        free(lent);
    }
}

static void break_conn(int at)
{
    conn_reset(at);
    client_disconnected(g_client, at, -ECONNRESET, g_now);
}

/* --- Nodes ------------------------------------------------------------------------------------ */

static const uint8_t g_value[] = "a value that a node has";

/* A record that each node has of the key that is asked, by name or by tag. */
static size_t record_put(uint8_t *to, const struct wire_read_ask *ask, bool head)
{
    struct record record = {.collection = ask->collection,
                            .key_len = ask->key_len > 0 ? ask->key_len : 3,
                            .version = {1000 << 20, 5},
                            .raw_len = sizeof g_value,
                            .stored_len = sizeof g_value,
                            .hash = content_hash(g_value, sizeof g_value),
                            .key = ask->key_len > 0 ? ask->key : (const uint8_t *)"key",
                            .value = g_value};
    return head ? record_encode_head(&record, to) : record_encode(&record, to);
}

static size_t read_answer(const struct wire_head *head, const uint8_t *body, size_t len,
                          uint8_t *to, uint16_t *ret_count)
{
    size_t at = 0, used = 0;
    for (uint32_t i = 0; i < head->count && used < BODY_MAX; i++) {
        struct wire_read_ask ask;
        int n = wire_read_ask_decode(body + at, len - at, &ask);
        KHO_ASSERT(n > 0);
        at += (size_t)n;
        struct wire_read_answer answer = {.index = i, .state = WIRE_PRESENT};
        size_t bytes = record_put(to + used + WIRE_READ_ANSWER, &ask, ask.ask == KHO_READ_HEAD);
        answer.record_len = (uint32_t)bytes;
        wire_read_answer_encode(&answer, to + used);
        used += WIRE_READ_ANSWER + bytes;
        ++*ret_count;
    }
    return used;
}

static size_t list_answer(const uint8_t *body, uint8_t *to, uint16_t *ret_count)
{
    struct wire_list_ask ask;
    wire_list_ask_decode(body, &ask);
    struct key_hash hash = key_hash(1, "key", 3, 77);
    uint32_t partition = key_partition(1, "key", 3, 77, KHO_NO_SEPARATOR, PARTITIONS, hash);
    struct wire_list_head head = {.next_partition = ask.partition_to, .done = true};
    struct wire_list_entry entry = {.partition = partition,
                                    .version = {1000 << 20, 5},
                                    .tag = key_tag(hash),
                                    .state = WIRE_PRESENT};
    size_t used = WIRE_LIST_HEAD;
    wire_list_head_encode(&head, to);
    if (ask.collection != 1 || partition < ask.partition_from || partition >= ask.partition_to ||
        (partition == ask.partition_from && key_tag_compare(entry.tag, ask.tag) < 0))
        return used;
    if (ask.ask == KHO_LIST_RECORDS) {
        struct wire_read_ask whole = {.collection = 1};
        entry.record_len = (uint32_t)record_put(to + used + WIRE_LIST_ENTRY, &whole, false);
    }
    wire_list_entry_encode(&entry, to + used);
    *ret_count = 1;
    return used + WIRE_LIST_ENTRY + entry.record_len;
}

/* The body of what a good node would say; its length. */
static size_t answer_well(struct wire_head *head, const uint8_t *body, size_t len, uint8_t *to)
{
    uint16_t asked = head->count, count = 0;
    size_t used = 0;
    head->count = 0;
    switch (head->type) {
    case WIRE_MAP:
        head->count = 1;
        memcpy(to, g_map, g_map_len);
        return g_map_len;
    case WIRE_PROBE:
        head->count = asked;
        memset(to, 0, (size_t)asked * WIRE_PROBE_ANSWER);
        return (size_t)asked * WIRE_PROBE_ANSWER;
    case WIRE_READ:
        head->count = asked;
        used = read_answer(head, body, len, to, &count);
        head->count = count;
        return used;
    case WIRE_LIST:
        used = list_answer(body, to, &count);
        head->count = count;
        return used;
    case WIRE_WRITE:
    case WIRE_WRITE_BLOCKS:
    case WIRE_EPISODE_CLOSE:
    case WIRE_FORGET:
        head->count = asked;
        memset(to, 0, (size_t)asked * WIRE_STATUS_ANSWER);
        return (size_t)asked * WIRE_STATUS_ANSWER;
    case WIRE_DATA:
        head->type = WIRE_WRITE_LARGE;
        head->count = 1;
        memset(to, 0, WIRE_STATUS_ANSWER);
        return WIRE_STATUS_ANSWER;
    case WIRE_DIGEST: {
        struct wire_digest_entry entry = {.collection = 1, .partition = 1, .count = 1, .bytes = 70};
        wire_digest_entry_encode(&entry, to);
        head->count = 1;
        return WIRE_DIGEST_ENTRY;
    }
    case WIRE_EPISODES: {
        struct wire_episode episode = {
            .id = 3, .kind = WIRE_EPISODE_ROT, .partitions = 1, .first_partition = 1};
        wire_episode_encode(&episode, to);
        head->count = 1;
        return WIRE_EPISODE_ENTRY;
    }
    case WIRE_STATUS:
        head->count = STAT_COUNT;
        memset(to, 0, (size_t)STAT_COUNT * WIRE_STAT_VALUE);
        return (size_t)STAT_COUNT * WIRE_STAT_VALUE;
    default:
        return 0;
    }
}

static void change(uint8_t *bytes, size_t len)
{
    size_t place = (size_t)fuzz_take(g_in, 2) % len;
    uint64_t number = fuzz_take(g_in, 4);
    size_t width = (size_t)fuzz_take(g_in, 1) % 4 + 1;
    for (size_t i = 0; i < width && place + i < len; i++)
        bytes[place + i] = (uint8_t)(number >> (8 * i));
}

static void own(struct wire_head *head)
{
    size_t len;
    uint8_t type = (uint8_t)fuzz_take(g_in, 1);
    head->type = type == 0 ? head->type : type;
    head->flags = (uint8_t)fuzz_take(g_in, 1);
    head->count = (uint16_t)fuzz_take(g_in, 2);
    head->status = -(int32_t)(fuzz_take(g_in, 1) & 63);
    head->status = head->status == 0 ? 0 : -999 + head->status;
    const uint8_t *body = fuzz_take_bytes(g_in, (size_t)fuzz_take(g_in, 2) % BODY_MAX, &len);
    if (len > 0)
        memcpy(g_frame + KHO_FRAME_HEAD, body, len);
    head->length = (uint32_t)(KHO_FRAME_HEAD + len);
}

/* Says what is ready: `seal` mends the checksum of `bytes`. */
static void say(int at, uint8_t *bytes, size_t len, uint8_t how, void (*seal)(uint8_t *, size_t))
{
    size_t plain;
    const uint8_t *text;
    switch (how) {
    case SAY_TWICE_CHANGED:
        change(bytes, len);
        change(bytes, len);
        seal(bytes, len);
        break;
    case SAY_CHANGED:
        change(bytes, len);
        seal(bytes, len);
        break;
    case SAY_PLAIN:
        text = fuzz_take_bytes(g_in, (size_t)fuzz_take(g_in, 1), &plain);
        if (plain > 0)
            give(at, text, plain);
        return;
    case SAY_NOTHING:
        return;
    case SAY_BREAK:
        break_conn(at);
        return;
    case SAY_LATE:
        g_now.mono_ns += 70000000;
        g_now.wall_ms += 70;
        break;
    default:
        break;
    }
    give(at, bytes, len);
    if (how == SAY_AGAIN)
        give(at, bytes, len);
}

static uint8_t how_next(void)
{
    return g_in->len > 0 && ++g_said < SAID_MAX ? (uint8_t)(fuzz_take(g_in, 1) % SAY_KINDS)
                                                : SAY_WELL;
}

static void hello_seal(uint8_t *bytes, size_t len)
{
    (void)len;
    kho_store64(bytes + 120, XXH3_64bits(bytes, 120));
}
static void frame_seal(uint8_t *bytes, size_t len)
{
    kho_store64(bytes + 8, wire_checksum(bytes, len));
}

static void hello(int at, int node)
{
    uint8_t bytes[KHO_HELLO_NODE_SIZE];
    struct wire_hello_node hello = {.protocol = KHO_PROTOCOL,
                                    .shard_count = 1,
                                    .cluster = {{9}},
                                    .incarnation = {{(uint8_t)(node + 1)}},
                                    .epoch = kho_load64(g_map + 24),
                                    .map_hash = kho_load64(g_map + 32),
                                    .durable = 10,
                                    .wall_ms = g_now.wall_ms};
    wire_hello_node_encode(&hello, bytes);
    g_conns[at].greeted = true;
    say(at, bytes, sizeof bytes, how_next(), hello_seal);
}

static void frame(int at, const uint8_t *bytes)
{
    struct wire_head head;
    KHO_ASSERT(wire_frame_decode(bytes, &head) == 0);
    const uint8_t *body = bytes + KHO_FRAME_HEAD;
    size_t len = head.length - KHO_FRAME_HEAD;
    bool more = (head.flags & KHO_FRAME_MORE) != 0;
    if (head.type == WIRE_WRITE_LARGE || (head.type == WIRE_DATA && more))
        return;
    uint8_t how = how_next();
    head.epoch = kho_load64(g_map + 24);
    head.map_hash = kho_load64(g_map + 32);
    head.wall_ms = g_now.wall_ms;
    head.durable = 11;
    head.flags = 0;
    head.status = 0;
    if (how == SAY_OWN) {
        own(&head);
    } else {
        size_t used = answer_well(&head, body, len, g_frame + KHO_FRAME_HEAD);
        head.length = (uint32_t)(KHO_FRAME_HEAD + used);
    }
    wire_frame_seal(g_frame, &head, true);
    say(at, g_frame, head.length, how, frame_seal);
}

static void work(int at)
{
    struct conn *c = &g_conns[at];
    while (c->open && c->in_len > 0) {
        /* Taken out first: what is said may break the connection. */
        uint8_t *bytes = c->in;
        size_t len = c->in_len, used = KHO_HELLO_CLIENT_SIZE;
        struct wire_hello_client ask;
        bool greeted = c->greeted;
        if (greeted) {
            int length = wire_frame_length(bytes, len);
            KHO_ASSERT(length >= 0);
            if (length == 0 || (size_t)length > len)
                return;
            used = (size_t)length;
        } else if (len < used) {
            return;
        }
        uint8_t *message = fuzz_copy(bytes, used);
        memmove(bytes, bytes + used, len - used);
        c->in_len -= used;
        if (greeted)
            frame(at, message);
        else if (wire_hello_client_decode(message, &ask) == 0)
            hello(at, c->node);
        else
            KHO_ASSERT(!"the client's HELLO decodes");
        free(message);
    }
}

/* --- A run ------------------------------------------------------------------------------------ */

static void op_run(struct client_op *op)
{
    struct conn *c = &g_conns[op->conn];
    KHO_ASSERT(op->conn >= 0 && op->conn < CONNS);
    op->result = 0;
    if (op->kind == CLIENT_OP_CONNECT) {
        conn_reset(op->conn);
        c->node = op->port - 7000;
        c->open = c->node >= 0 && c->node < NODES;
        op->result = c->open ? 0 : -ECONNREFUSED;
    } else if (op->kind == CLIENT_OP_SEND && !c->open) {
        op->result = -EPIPE;
    } else if (op->kind == CLIENT_OP_SEND) {
        uint8_t *in = realloc(c->in, c->in_len + op->len);
        KHO_ASSERT(in != NULL);
        memcpy(in + c->in_len, op->data, op->len);
        c->in = in;
        c->in_len += op->len;
    } else {
        conn_reset(op->conn);
    }
    client_completed(g_client, op, g_now);
}

static void dones(void)
{
    struct client_done done;
    while (client_next_done(g_client, &done)) {
        if (done.verb == CLIENT_CLOSED)
            g_ended.closed = true;
        if (done.context == NULL || !done.last)
            continue;
        uint32_t *call = done.context;
        KHO_ASSERT(*call == 0);
        ++*call;
        if (done.verb == CLIENT_GET || done.verb == CLIENT_LIST)
            for (size_t i = 0; i < done.records.count; i++) {
                const struct kho_result *r = &done.records.results[i];
                if (r->status == 0 && r->value != NULL) {
                    struct kho_id hash = content_hash(r->value, r->value_len);
                    KHO_ASSERT(memcmp(hash.bytes, r->hash, sizeof r->hash) == 0);
                }
            }
    }
}

/* One step; true: something moved. */
static bool move(void)
{
    bool moved = false;
    struct client_op *op;
    for (int i = 0; i < CONNS; i++)
        if (g_conns[i].open)
            work(i);
    if (client_deadline(g_client) <= g_now.mono_ns)
        client_tick(g_client, g_now);
    client_step_end(g_client, g_now);
    while ((op = client_next_op(g_client)) != NULL) {
        op_run(op);
        moved = true;
    }
    dones();
    return moved;
}

static bool calls_ended(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (g_ended.calls[i] == 0)
            return false;
    return true;
}

/* Until the calls have ended, or the client, with `closing`; by `end_ns`. */
static void run(uint32_t count, bool closing, uint64_t end_ns)
{
    uint32_t still = 0;
    for (uint32_t step = 0; step < STEPS_MAX; step++) {
        bool moved = move();
        if (closing ? client_closed(g_client) && g_ended.closed : calls_ended(count))
            return;
        if (moved)
            continue;
        uint64_t at = client_deadline(g_client);
        KHO_ASSERT(at <= end_ns);
        /* A timer that changes nothing would spin for ever. */
        KHO_ASSERT(++still < 50 || at > g_now.mono_ns);
        if (at > g_now.mono_ns) {
            still = 0;
            g_now.wall_ms += (at - g_now.mono_ns) / 1000000;
            g_now.mono_ns = at;
        }
    }
    KHO_ASSERT(!"it comes to an end");
}

static int records_call(enum client_verb verb, uint8_t salt, uint32_t *ended)
{
    static uint8_t values[300000];
    kho_call_id call;
    uint8_t key[16] = {'k'};
    struct kho_item items[3] = {{.key = "key", .key_len = 3, .value = values, .value_len = 30},
                                {.key = "a/b", .key_len = 3, .value = values, .value_len = 9000},
                                {.key = key, .key_len = 16, .value = values, .value_len = 0}};
    if (salt % 7 == 6) {
        if (values[0] == 0) {
            struct kho_random random;
            kho_random_init(&random, 3);
            for (size_t i = 0; i < sizeof values; i += 4)
                kho_store32(values + i, (uint32_t)kho_random_next(&random) | 1);
        }
        items[0].value_len = sizeof values;
    }
    if (verb == CLIENT_APPEND)
        for (int i = 0; i < 3; i++) {
            items[i].key = i == 0 ? key : NULL;
            items[i].key_len = i == 0 ? 16 : 0;
        }
    return client_records(g_client, verb, salt % 2 == 0 ? "people" : "events", items, 1 + salt % 3,
                          DEADLINE_MS, ended, g_now, &call);
}

/* As a caller could hand it in. */
static const struct kho_cursor *cursor_take(void)
{
    static struct kho_cursor cursor;
    for (size_t i = 0; i < sizeof cursor.bytes; i++)
        cursor.bytes[i] = (uint8_t)(i < 14 ? fuzz_take(g_in, 1) : 0);
    cursor.bytes[13] = 1;
    return &cursor;
}

static int call_make(uint8_t what, uint32_t *ended)
{
    kho_call_id call;
    uint8_t salt = what / 16;
    switch (what % 16) {
    case 0:
        return records_call(CLIENT_PUT, salt, ended);
    case 1:
        return records_call(CLIENT_DEL, salt, ended);
    case 2:
        return records_call(CLIENT_APPEND, salt, ended);
    case 3:
    case 4:
        return records_call(CLIENT_GET, salt, ended);
    case 5:
        return records_call(CLIENT_STAT, salt, ended);
    case 6:
    case 7:
        return client_list(g_client, "people", salt & 2 ? cursor_take() : NULL, 10,
                           salt & 1 ? KHO_LIST_WITH_VALUES : 0, DEADLINE_MS, ended, g_now, &call);
    case 8:
        return client_status(g_client, DEADLINE_MS, ended, g_now, &call);
    case 9:
        return client_compare(g_client, CLIENT_DIGESTS, NULL, DEADLINE_MS, ended, g_now, &call);
    case 10:
        return client_compare(g_client, CLIENT_VERIFY, NULL, DEADLINE_MS, ended, g_now, &call);
    case 11:
        return client_collection_create(g_client, "young", -1, 0, DEADLINE_MS, ended, g_now, &call);
    case 12:
        return client_map_push(g_client, DEADLINE_MS, ended, g_now, &call);
    case 13:
        return client_readmit(g_client, "b", DEADLINE_MS, ended, g_now, &call);
    case 14:
        return client_flush(g_client, DEADLINE_MS, ended, g_now, &call);
    default:
        return client_opened(g_client, ended, g_now, &call);
    }
}

/* A repair has no deadline: it is cancelled. */
static void repair(void)
{
    kho_call_id call = 0;
    uint32_t ended = 0;
    if (client_repair(g_client, NULL, &ended, g_now, &call) != 0)
        return;
    for (int i = 0; i < 300 && ended == 0; i++)
        if (!move()) {
            uint64_t at = kho_min(client_deadline(g_client), g_now.mono_ns + 100000000);
            g_now.mono_ns = kho_max(at, g_now.mono_ns);
        }
    if (ended == 0)
        client_cancel(g_client, call, g_now);
    for (int i = 0; i < 300 && ended == 0; i++)
        move();
    KHO_ASSERT(ended == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct fuzz_input in = {bytes, len};
    struct kho_options options = {.struct_size = sizeof options,
                                  .cluster = "node-a:7000,node-b:7001,node-c:7002",
                                  .deadline_ms = DEADLINE_MS,
                                  .heap = {.allocate = allocate, .release = release}};
    uint32_t count = 0;
    g_in = &in;
    g_said = 0;
    g_ended = (struct ended){0};
    g_now = (struct kho_now){.mono_ns = 1000000000, .wall_ms = 1700000000000};
    if (g_map == NULL)
        g_map = map_make(1, &g_map_len);
    KHO_ASSERT(client_create(&options, 42, g_now, &g_client) == 0);
    uint8_t first = (uint8_t)fuzz_take(&in, 1), second = (uint8_t)fuzz_take(&in, 1);
    if (call_make(first, &g_ended.calls[count]) == 0)
        count++;
    if (second % 16 < 15 && call_make(second, &g_ended.calls[count]) == 0)
        count++;
    /* A deadline, and a moment for what is looked at late. */
    run(count, false, g_now.mono_ns + 60 * 1000000000ull);
    KHO_ASSERT(g_now.mono_ns <= 1000000000ull + (DEADLINE_MS + SAID_MAX * 70 + 1000) * 1000000ull);
    if (second % 16 == 15)
        repair();
    g_in->len = 0;
    client_close(g_client, NULL, g_now);
    run(count, true, UINT64_MAX - 1);
    client_destroy(g_client);
    for (int i = 0; i < CONNS; i++)
        conn_reset(i);
    KHO_ASSERT(g_live == 0);
    return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    enum { SEED = 60 };
    if (n >= 4 * 16 || max < SEED)
        return 0;
    to[0] = (uint8_t)(n * 17);
    to[1] = (uint8_t)(n % 3 == 0 ? 15 : n * 5);
    memset(to + 2, SAY_WELL, SEED - 2);
    if (n / 16 == 0)
        return 2;
    for (unsigned i = 0; i < 3; i++) {
        uint8_t *at = to + 10 + (size_t)i * 12;
        at[0] = n / 16 == 1 ? SAY_CHANGED : n / 16 == 2 ? SAY_OWN : (uint8_t)(SAY_NOTHING + i);
        at[1] = (uint8_t)(64 + n);
        at[5] = 1;
    }
    return SEED;
}
