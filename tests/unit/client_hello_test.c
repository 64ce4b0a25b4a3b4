/* client_hello_test.c: who answers at a node's address: what a HELLO says against the map, and
 * bytes that are none. One that isn't the map's node counts for nothing; the others are a majority,
 * and when it is itself again it serves on. */
#include "fake_cluster.h"

#include <errno.h>

enum lie {
    TRUTH,
    REFUSES,
    OTHER_CLUSTER,
    OTHER_SHARDS,
    OTHER_PROTOCOL,
    BAD_CHECKSUM,
    ROLLED_BACK,
    ROLLED_BACK_AND_SAYS_SO,
    NO_FRAME,
    HALF_AND_NO_FRAME,
    LIES
};

/* Changes the HELLO that waits at the front of what a connection brings. */
static void lie_in(struct fake_conn *conn, enum lie lie)
{
    static const uint8_t noise[KHO_FRAME_HEAD] = {0xFF, 0xFF, 0xFF, 0xFF, 1};
    struct wire_hello_node hello = {0};
    if (conn->out_len < KHO_HELLO_NODE_SIZE || kho_load32(conn->out) != KHO_HELLO_MAGIC)
        return;
    assert_int_equal(wire_hello_node_decode(conn->out, &hello), 0);
    switch (lie) {
    case REFUSES:
        hello.status = KHO_EBUSY;
        break;
    case OTHER_CLUSTER:
        hello.cluster.bytes[0] ^= 1;
        break;
    case OTHER_SHARDS:
        hello.shard_count++;
        break;
    case OTHER_PROTOCOL:
        hello.protocol++;
        break;
    case ROLLED_BACK_AND_SAYS_SO:
        hello.flags |= KHO_HELLO_EPISODE;
        hello.durable = 1;
        break;
    case ROLLED_BACK:
        hello.durable = 1;
        break;
    default:
        break;
    }
    wire_hello_node_encode(&hello, conn->out);
    if (lie == BAD_CHECKSUM)
        conn->out[20] ^= 1;
    if (lie == NO_FRAME)
        fake_out(conn, noise, sizeof noise);
    if (lie == HALF_AND_NO_FRAME)
        fake_out(conn, noise, 4);
}

/* As fake_run(), while the node lies whenever it greets. */
static void run_lying(struct fake_cluster *cluster, int node, enum lie lie, uint64_t ms)
{
    for (uint64_t at = 0; at < ms; at += 5) {
        for (int i = 0; i < FAKE_CONNS; i++) {
            struct fake_conn *conn = &cluster->conns[i];
            if (!conn->open || conn->node != node)
                continue;
            fake_work(cluster, conn);
            lie_in(conn, lie);
        }
        fake_step(cluster);
        cluster->now.mono_ns += 5 * CLIENT_MS_NS;
    }
}

static struct session *session_of(struct fake_cluster *cluster, int node)
{
    return cluster->client->remotes[node]->sessions[0];
}

/* Each lie, told by one node after its connection broke, while records are put and got. */
static void test_lies(void **state)
{
    static const int errors[LIES] = {
        [REFUSES] = KHO_EBUSY,           [OTHER_CLUSTER] = KHO_ECLUSTER,
        [OTHER_SHARDS] = KHO_ESHARD,     [OTHER_PROTOCOL] = KHO_EVERSION,
        [BAD_CHECKSUM] = KHO_EMALFORMED, [ROLLED_BACK] = KHO_EROLLEDBACK,
        [NO_FRAME] = KHO_EMALFORMED,     [HALF_AND_NO_FRAME] = KHO_EMALFORMED,
    };
    (void)state;
    for (enum lie lie = TRUTH; lie < LIES; lie++) {
        struct fake_cluster *cluster = fake_open();
        struct fake_done put, get;
        fake_call(cluster, CLIENT_PUT, "a", "1");
        fake_run(cluster, 100, NULL);
        fake_break(cluster, 1);
        run_lying(cluster, 1, lie, 3000);
        assert_int_equal(session_of(cluster, 1)->error, errors[lie]);
        fake_submit(cluster, CLIENT_PUT, "people", "b", "2", NULL, 0, &put);
        run_lying(cluster, 1, lie, 500);
        fake_reached(&put);
        assert_int_equal(put.first.status, 0);
        bool honest = errors[lie] == 0;
        assert_int_equal(fake_holders(cluster, "b", "2"), honest ? 3 : 2);
        /* It and another one that is away leave no majority. */
        fake_node_down(cluster, 2);
        fake_submit(cluster, CLIENT_GET, "people", "a", NULL, NULL, 2500, &get);
        run_lying(cluster, 1, lie, 3000);
        assert_true(get.come);
        /* One that greets well each time is tried until the deadline. */
        bool greets = lie == NO_FRAME || lie == HALF_AND_NO_FRAME;
        assert_int_equal(get.first.status, honest ? 0 : greets ? KHO_EDEADLINE : KHO_EUNAVAILABLE);
        /* The truth again. */
        fake_run(cluster, 5000, NULL);
        assert_int_equal(session_of(cluster, 1)->error, 0);
        assert_int_equal(fake_call(cluster, CLIENT_GET, "b", NULL).first.status, 0);
        fake_destroy(cluster);
    }
}

/* A seed that says it is of no or another cluster than the one that was named isn't followed. */
static void test_lying_seeds(void **state)
{
    (void)state;
    for (enum lie lie = REFUSES; lie <= BAD_CHECKSUM; lie++) {
        struct fake_cluster *cluster = fake_open();
        struct fake_done get;
        fake_node_down(cluster, 1);
        fake_node_down(cluster, 2);
        fake_submit(cluster, CLIENT_GET, "people", "a", NULL, NULL, 4000, &get);
        run_lying(cluster, 0, lie, 4500);
        assert_true(get.come);
        /* Its number of shards is the map's word, which isn't there yet; so is its cluster, where
         * none was named. */
        assert_true(get.done.status < 0 || get.first.status < 0);
        fake_destroy(cluster);
    }
}

/* The connection is there, but HELLO can't be sent on it: it is tried again. */
static void test_hello_is_not_sent(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct client_op *op;
    struct fake_done get;
    uint32_t failed = 0;
    fake_submit(cluster, CLIENT_GET, "people", "a", NULL, NULL, 0, &get);
    for (int i = 0; i < 3; i++) {
        client_tick(cluster->client, cluster->now);
        client_step_end(cluster->client, cluster->now);
        while ((op = client_next_op(cluster->client)) != NULL) {
            if (op->kind == CLIENT_OP_SEND) {
                op->result = -EPIPE;
                failed++;
                client_completed(cluster->client, op, cluster->now);
            } else {
                fake_op(cluster, op);
            }
        }
        cluster->now.mono_ns += CLIENT_MS_NS;
    }
    assert_true(failed >= 1);
    fake_run(cluster, 5000, &get);
    fake_reached(&get);
    assert_int_equal(get.first.status, KHO_ENOTFOUND);
    fake_destroy(cluster);
}

/* Bytes that are no frame break the connection as soon as their length is whole, however they come.
 */
static void test_garbage_in_pieces(void **state)
{
    static const uint8_t garbage[8] = {1, 0, 0, 0, 1};
    (void)state;
    for (size_t first = 1; first < 8; first++) {
        struct fake_cluster *cluster = fake_open();
        fake_call(cluster, CLIENT_PUT, "a", "1");
        fake_run(cluster, 100, NULL);
        struct session *session = session_of(cluster, 1);
        session_received(cluster->client, session, garbage, first, cluster->now);
        assert_int_equal(session->state, first < 4 ? SESSION_UP : SESSION_CLOSING);
        session_received(cluster->client, session, garbage + first, 8 - first, cluster->now);
        assert_int_equal(session->state, SESSION_CLOSING);
        assert_int_equal(session->error, KHO_EMALFORMED);
        fake_run(cluster, 1000, NULL);
        assert_int_equal(session->state, SESSION_UP);
        fake_destroy(cluster);
    }
}

/* A node whose map was taken away says so when it is asked for it; the client keeps its own. */
static void test_map_is_gone(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    fake_call(cluster, CLIENT_PUT, "a", "1");
    fake_run(cluster, 100, NULL);
    free(cluster->nodes[1].map);
    cluster->nodes[1].map = NULL;
    session_fetch_map(cluster->client, session_of(cluster, 1), cluster->now);
    /* Asked twice, it is one request. */
    session_fetch_map(cluster->client, session_of(cluster, 1), cluster->now);
    fake_run(cluster, 100, NULL);
    assert_int_equal(session_of(cluster, 1)->error, KHO_ENOMAP);
    assert_int_equal(client_map(cluster->client)->epoch, 1);
    assert_int_equal(fake_call(cluster, CLIENT_GET, "a", NULL).first.status, 0);
    fake_destroy(cluster);
}

/* More connections than the first table of handles has places: nodes of eight shards. */
static void test_many_shards(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_create();
    struct kho_options options = fake_options(cluster);
    char key[8];
    cluster->shards = FAKE_PARTITIONS;
    for (int i = 0; i < FAKE_NODES; i++)
        fake_node_map(cluster, i, 1);
    assert_int_equal(client_create(&options, 42, cluster->now, &cluster->client), 0);
    for (int i = 0; i < 60; i++) {
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(fake_call(cluster, CLIENT_PUT, key, "v").first.status, 0);
    }
    uint32_t open = 0;
    for (int i = 0; i < FAKE_CONNS; i++)
        open += cluster->conns[i].open;
    assert_true(open > 16);
    for (int i = 0; i < 60; i++) {
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(fake_call(cluster, CLIENT_GET, key, NULL).first.status, 0);
    }
    fake_destroy(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_lying_seeds),
        cmocka_unit_test(test_hello_is_not_sent),
        cmocka_unit_test(test_garbage_in_pieces),
        cmocka_unit_test(test_map_is_gone),
        cmocka_unit_test(test_many_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
