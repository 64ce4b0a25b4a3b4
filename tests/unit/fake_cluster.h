/* fake_cluster.h: the world around a client's core and the nodes of fake_node.h: connections,
 * calls, and time, which is virtual and jumps to the next deadline.
 */
#ifndef KHO_FAKE_CLUSTER_H
#define KHO_FAKE_CLUSTER_H

#include "fake_node.h"

/* --- Heap ------------------------------------------------------------------------------------- */

static void *fake_allocate(size_t size, void *arg)
{
    struct fake_cluster *cluster = (struct fake_cluster *)arg;
    cluster->allocations++;
    if (cluster->fail_at != 0 && (cluster->allocations == cluster->fail_at ||
                                  (cluster->fail_on && cluster->allocations > cluster->fail_at)))
        return NULL;
    cluster->live++;
    return malloc(size);
}

static void fake_release(void *memory, void *arg)
{
    struct fake_cluster *cluster = (struct fake_cluster *)arg;
    if (memory == NULL)
        return;
    cluster->live--;
    free(memory);
}

/* --- World ------------------------------------------------------------------------------------ */

static void fake_conn_reset(struct fake_conn *conn)
{
    free(conn->in);
    free(conn->out);
    free(conn->large_value);
    memset(conn, 0, sizeof *conn);
    conn->node = -1;
}

static void fake_op(struct fake_cluster *cluster, struct client_op *op)
{
    struct fake_conn *conn = &cluster->conns[op->conn];
    op->result = 0;
    if (op->kind == CLIENT_OP_CONNECT) {
        fake_conn_reset(conn);
        int node = op->port - 7000;
        if (node < 0 || node >= FAKE_NODES || cluster->nodes[node].down) {
            op->result = -ECONNREFUSED;
        } else {
            conn->open = true;
            conn->node = node;
        }
    } else if (op->kind == CLIENT_OP_SEND && !conn->open) {
        op->result = -EPIPE;
    } else if (op->kind == CLIENT_OP_SEND) {
        conn->in = (uint8_t *)realloc(conn->in, conn->in_len + op->len);
        memcpy(conn->in + conn->in_len, op->data, op->len);
        conn->in_len += op->len;
        fake_arrive(cluster, conn, op->len);
    } else {
        fake_conn_reset(conn);
    }
    client_completed(cluster->client, op, cluster->now);
}

/* Gives a node's bytes to the client in pieces of odd sizes. */
static bool fake_deliver(struct fake_cluster *cluster, int at)
{
    struct fake_conn *conn = &cluster->conns[at];
    if (!conn->open || conn->out_len == 0)
        return false;
    uint8_t *bytes = conn->out;
    size_t len = conn->out_len, used = 0, piece = 61;
    conn->out = NULL;
    conn->out_len = 0;
    while (used < len && conn->open) {
        size_t take = (size_t)kho_min(piece, len - used);
        client_received(cluster->client, at, bytes + used, take, cluster->now);
        used += take;
        piece = piece * 3 + 1;
    }
    free(bytes);
    return true;
}

static void fake_break(struct fake_cluster *cluster, int node)
{
    for (int i = 0; i < FAKE_CONNS; i++) {
        struct fake_conn *conn = &cluster->conns[i];
        if (!conn->open || conn->node != node)
            continue;
        fake_conn_reset(conn);
        client_disconnected(cluster->client, i, -ECONNRESET, cluster->now);
    }
}

static inline void fake_node_down(struct fake_cluster *cluster, int node)
{
    cluster->nodes[node].down = true;
    fake_break(cluster, node);
}

/* Names and addresses were lent: they stay behind. */
static void fake_keep_nodes(struct fake_done *to)
{
    to->node_count = to->done.node_status.count;
    assert_true(to->node_count <= FAKE_NODES);
    for (size_t i = 0; i < to->node_count; i++) {
        to->nodes[i] = to->done.node_status.nodes[i];
        memcpy(to->stats[i], to->nodes[i].stats, to->nodes[i].stat_count * sizeof to->stats[i][0]);
        to->nodes[i].stats = to->stats[i];
        to->nodes[i].name = to->nodes[i].address = to->nodes[i].zone = NULL;
    }
}

static void fake_dones(struct fake_cluster *cluster)
{
    struct client_done done;
    while (client_next_done(cluster->client, &done)) {
        struct fake_done *to = (struct fake_done *)done.context;
        cluster->dones++;
        if (to == NULL)
            continue;
        assert_false(to->come);
        to->done = done;
        to->come = true;
        if (done.verb == CLIENT_STATUS)
            fake_keep_nodes(to);
        if (done.verb > CLIENT_STAT)
            continue;
        to->first = done.records.results[0];
        if (to->first.value != NULL && to->first.value_len < sizeof to->first_value)
            memcpy(to->first_value, to->first.value, to->first.value_len);
    }
}

/* One step: nodes work, their bytes arrive, the client's ops are carried out. True: something
 * moved.
 */
static bool fake_step(struct fake_cluster *cluster)
{
    bool moved = false;
    struct client_op *op;
    for (int i = 0; i < FAKE_CONNS; i++) {
        if (cluster->conns[i].open)
            fake_work(cluster, &cluster->conns[i]);
        moved |= fake_deliver(cluster, i);
    }
    if (client_deadline(cluster->client) <= cluster->now.mono_ns)
        client_tick(cluster->client, cluster->now);
    client_step_end(cluster->client, cluster->now);
    while ((op = client_next_op(cluster->client)) != NULL) {
        fake_op(cluster, op);
        moved = true;
    }
    fake_dones(cluster);
    return moved;
}

/* Runs for so many milliseconds of virtual time, or until `until` came. */
static void fake_run(struct fake_cluster *cluster, uint64_t ms, const struct fake_done *until)
{
    uint64_t end = cluster->now.mono_ns + ms * CLIENT_MS_NS;
    uint32_t still = 0;
    for (;;) {
        if (until != NULL && until->come)
            return;
        if (fake_step(cluster)) {
            still = 0;
            continue;
        }
        if (until != NULL && until->come)
            return;
        uint64_t at = kho_min(client_deadline(cluster->client), fake_due(cluster));
        if (at <= cluster->now.mono_ns) {
            /* A timer that changes nothing would spin for ever. */
            assert_true(++still < 50);
            continue;
        }
        still = 0;
        at = kho_min(at, end);
        uint64_t passed = at - cluster->now.mono_ns;
        cluster->now.mono_ns = at;
        cluster->now.wall_ms += passed / CLIENT_MS_NS;
        for (int i = 0; i < FAKE_NODES; i++)
            cluster->nodes[i].wall_ms += passed / CLIENT_MS_NS;
        if (at == end) {
            fake_step(cluster);
            return;
        }
    }
}

static struct kho_options fake_options(struct fake_cluster *cluster)
{
    return (struct kho_options){
        .struct_size = sizeof(struct kho_options),
        .cluster = "node-a:7000,node-b:7001,node-c:7002",
        .heap = {.allocate = fake_allocate, .release = fake_release, .arg = cluster},
    };
}

static struct fake_cluster *fake_create(void)
{
    struct fake_cluster *cluster = (struct fake_cluster *)calloc(1, sizeof *cluster);
    cluster->now = (struct kho_now){.mono_ns = 1000000000, .wall_ms = 1700000000000};
    cluster->shards = 1;
    for (int i = 0; i < FAKE_NODES; i++) {
        memset(cluster->nodes[i].incarnation.bytes, i + 1, 16);
        cluster->nodes[i].wall_ms = cluster->now.wall_ms + (uint64_t)i * 1000;
        cluster->nodes[i].durable = 10;
    }
    for (int i = 0; i < FAKE_NODES; i++)
        fake_node_map(cluster, i, 1);
    for (int i = 0; i < FAKE_CONNS; i++)
        cluster->conns[i].node = -1;
    return cluster;
}

static inline struct fake_cluster *fake_open(void)
{
    struct fake_cluster *cluster = fake_create();
    struct kho_options options = fake_options(cluster);
    assert_int_equal(client_create(&options, 42, cluster->now, &cluster->client), 0);
    return cluster;
}

static void fake_destroy(struct fake_cluster *cluster)
{
    client_destroy(cluster->client);
    assert_int_equal(cluster->live, 0);
    for (int i = 0; i < FAKE_CONNS; i++)
        fake_conn_reset(&cluster->conns[i]);
    for (int i = 0; i < FAKE_NODES; i++) {
        free(cluster->nodes[i].map);
        for (int k = 0; k < FAKE_RECORDS; k++)
            free(cluster->nodes[i].records[k].value);
    }
    free(cluster);
}

/* --- Calls ------------------------------------------------------------------------------------ */

/* Bytes that don't compress. */
static inline void fake_noise(void *bytes, size_t len, uint64_t seed)
{
    struct kho_random random;
    kho_random_init(&random, seed);
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)kho_random_next(&random);
}

static inline kho_call_id fake_submit(struct fake_cluster *cluster, enum client_verb verb,
                                      const char *collection, const char *key, const char *value,
                                      const struct kho_token *token, uint32_t deadline_ms,
                                      struct fake_done *done)
{
    kho_call_id call = 0;
    struct kho_item item = {.key = key,
                            .key_len = key == NULL ? 0 : strlen(key),
                            .value = value,
                            .value_len = value == NULL ? 0 : strlen(value),
                            .token = token};
    memset(done, 0, sizeof *done);
    assert_int_equal(client_records(cluster->client, verb, collection, &item, 1, deadline_ms, done,
                                    cluster->now, &call),
                     0);
    assert_true(call != 0);
    return call;
}

/* One call on one record of `people`, to its end. */
static inline struct fake_done fake_call(struct fake_cluster *cluster, enum client_verb verb,
                                         const char *key, const char *value)
{
    struct fake_done done;
    fake_submit(cluster, verb, "people", key, value, NULL, 0, &done);
    fake_run(cluster, 60000, &done);
    assert_true(done.come);
    return done;
}

static inline uint32_t fake_holders(struct fake_cluster *cluster, const char *key,
                                    const char *value)
{
    uint32_t holders = 0;
    for (int i = 0; i < FAKE_NODES; i++) {
        struct fake_record *record = fake_find(&cluster->nodes[i], 1, key, strlen(key));
        holders += record != NULL && record->value_len == strlen(value) &&
                   memcmp(record->value, value, record->value_len) == 0;
    }
    return holders;
}

/* Puts a record on one node by hand. */
static inline void fake_place(struct fake_cluster *cluster, int node, const char *key,
                              const char *value, uint64_t counter)
{
    struct record record = {
        .collection = 1,
        .key_len = (uint16_t)strlen(key),
        .flags = value == NULL ? KHO_RECORD_TOMBSTONE : 0,
        .version = {.counter = counter, .writer = 5},
        .key = (const uint8_t *)key,
        .value = (const uint8_t *)value,
    };
    if (value != NULL) {
        record.raw_len = record.stored_len = (uint32_t)strlen(value);
        record.hash = content_hash(value, strlen(value));
    }
    assert_int_equal(fake_store(&cluster->nodes[node], &record, true), 0);
}

/* How long it is since. */
static inline uint64_t fake_elapsed_ms(const struct fake_cluster *cluster, uint64_t since_ns)
{
    return (cluster->now.mono_ns - since_ns) / CLIENT_MS_NS;
}

/* It has ended, and well. */
static inline void fake_reached(const struct fake_done *end)
{
    assert_true(end->come);
    assert_int_equal(end->done.status, 0);
}

#endif
