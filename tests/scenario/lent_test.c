/* lent_test.c: does the simulator tell when a core breaks a rule of ops, buffers or calls? What is
 * handed to its net and its answers here is what a core with such a fault would hand over. */
#include "tests/sim/answer.h"
#include "tests/sim/net.h"

#include "story.h"

/* --- Sends ------------------------------------------------------------------------------------ */

struct ends {
    struct sim sim;
    struct vnet *net;
    struct client_op connect, send;
    uint8_t bytes[1000];
    unsigned ended;
};

static uint64_t never_asleep(void *owner, uint32_t node)
{
    (void)owner;
    (void)node;
    return 0;
}
static int listens(void *owner, uint32_t node)
{
    (void)owner;
    (void)node;
    return 1;
}
static void client_ended(void *owner, uint32_t client, struct client_op *op)
{
    struct ends *ends = owner;
    (void)client;
    (void)op;
    ends->ended++;
}
static void client_over(void *owner, uint32_t client, int32_t conn, int error)
{
    (void)owner;
    (void)client;
    (void)conn;
    (void)error;
}

/* A client whose connection is there, and whose send is under way: the window has no room. */
static void ends_begin(struct ends *ends)
{
    static const struct vnet_world world = {.node_asleep = never_asleep,
                                            .node_listening = listens,
                                            .client_completed = client_ended,
                                            .client_disconnected = client_over};
    struct vnet_options options = {.delay_ns = SIM_MS, .connections_max = 4, .window_bytes = 0};
    *ends = (struct ends){.connect = {.kind = CLIENT_OP_CONNECT, .host = "n0", .port = VNET_PORT},
                          .send = {.kind = CLIENT_OP_SEND, .len = sizeof ends->bytes}};
    sim_init(&ends->sim, 1, false);
    ends->net = vnet_create(&ends->sim, &options, &world, ends);
    vnet_client_op(ends->net, 0, &ends->connect);
    sim_run(&ends->sim, ends->sim.now_ns + SIM_S, NULL);
    assert_int_equal(ends->ended, 1);
    assert_int_equal(ends->connect.result, 0);
    ends->send.data = ends->bytes;
    vnet_client_op(ends->net, 0, &ends->send);
}

/* It ends with its connection. */
static void ends_finish(struct ends *ends, const char *failure)
{
    struct client_op close = {.kind = CLIENT_OP_CLOSE};
    if (!ends->sim.failed) {
        assert_int_equal(ends->ended, 1);
        vnet_client_op(ends->net, 0, &close);
        sim_run(&ends->sim, ends->sim.now_ns + SIM_S, NULL);
    }
    if (failure == NULL)
        assert_string_equal(ends->sim.failure, "");
    else if (strstr(ends->sim.failure, failure) == NULL)
        fail_msg("expected '%s', got '%s'", failure, ends->sim.failure);
    vnet_destroy(ends->net);
    sim_fini(&ends->sim);
}

/* A buffer that is left alone; one that changes; an op that names another; one asked for twice. */
static void test_sends(void **state)
{
    (void)state;
    struct ends ends;
    ends_begin(&ends);
    ends_finish(&ends, NULL);
    ends_begin(&ends);
    ends.bytes[999] ^= 1;
    ends_finish(&ends, "changed under way");
    ends_begin(&ends);
    ends.send.len--;
    ends_finish(&ends, "changed under way");
    ends_begin(&ends);
    vnet_client_op(ends.net, 0, &ends.send);
    ends_finish(&ends, "asked for anew");
}

/* --- Calls ------------------------------------------------------------------------------------ */

/* The end of a call is told once, to the call that it belongs to. */
static void test_ends_of_calls(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++) {
        struct story *s = story_begin(NULL, 1);
        struct kho_item item = {.key = "k", .key_len = 1, .value = "v", .value_len = 1};
        struct answer a = {0};
        assert_int_equal(answer_records(&a, s->client, CLIENT_PUT, "records", &item, 1, 5000), 0);
        struct client_done done = {
            .verb = CLIENT_PUT, .call = a.call, .context = &a, .last = true, .status = 0};
        if (how == 0)
            done.call++;
        if (how == 1)
            done.verb = CLIENT_GET;
        if (how >= 2)
            assert_true(answer_wait(&a, s->client, 60 * SIM_S));
        done.last = how != 3; /* progress of what has ended */
        assert_false(s->sim.failed);
        answer_take(s->client, &done);
        assert_true(s->sim.failed);
        assert_non_null(strstr(s->sim.failure, "isn't under way"));
        s->sim.failed = false;
        assert_true(a.done || answer_wait(&a, s->client, 60 * SIM_S));
        answer_fini(&a);
        story_end(s);
    }
}

/* A call that never ends is left over; one that ends isn't. */
static void test_calls_left_over(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 1);
    struct answer never = {0};
    assert_true(answers_over(s->cluster, SIM_S));
    queue_push(&s->client->answers, &never.link);
    assert_false(answers_over(s->cluster, SIM_S));
    queue_remove(&never.link);
    assert_true(answers_over(s->cluster, SIM_S));
    story_end(s);
}

/* --- Memory ----------------------------------------------------------------------------------- */

static void put_large(struct story *s, size_t len)
{
    uint8_t *value = malloc(len);
    assert_non_null(value);
    for (uint64_t i = 0, state = 1; i < len; i += 8)
        kho_store64(value + i, kho_splitmix(&state));
    struct kho_item item = {.key = "large", .key_len = 5, .value = value, .value_len = len};
    struct answer a = {0};
    assert_int_equal(answer_records(&a, s->client, CLIENT_PUT, "records", &item, 1, 10000), 0);
    assert_true(answer_wait(&a, s->client, 60 * SIM_S));
    assert_int_equal(a.results[0].status, 0);
    answer_fini(&a);
    free(value);
}

/* A node that is killed while a large value is on its way to a reader gives back the memory that
 * the value lies in: the leak sanitizer looks. */
static void test_large_answers_at_a_crash(void **state)
{
    enum { LARGE = 3 << 20 };
    (void)state;
    struct cluster_options options;
    cluster_options_init(&options);
    options.net.window_bytes = 1000;
    struct story *s = story_begin(&options, 1);
    uint64_t before[3], grown = 0;
    put_large(s, LARGE);
    story_flush(s);
    for (unsigned i = 0; i < 3; i++) {
        node_kill(&s->nodes[i]); /* what its cache has is gone */
        story_start(s, i);
    }
    story_put(s, "small", "v");
    for (unsigned i = 0; i < 3; i++) {
        before[i] = node_stat(&s->nodes[i], STAT_memory_bytes);
        vnet_block(s->cluster->net, UINT32_MAX, i, false, true);
    }
    struct kho_item item = {.key = "large", .key_len = 5};
    struct answer a = {0};
    assert_int_equal(answer_records(&a, s->client, CLIENT_GET, "records", &item, 1, 30000), 0);
    story_run_ms(s, 500);
    for (unsigned i = 0; i < 3; i++)
        grown += node_stat(&s->nodes[i], STAT_memory_bytes) >= before[i] + LARGE;
    assert_true(grown > 0);
    for (unsigned i = 0; i < 3; i++)
        node_kill(&s->nodes[i]);
    vnet_open_all(s->cluster->net);
    for (unsigned i = 0; i < 3; i++)
        story_start(s, i);
    assert_true(answer_wait(&a, s->client, 60 * SIM_S));
    assert_int_equal(a.results[0].status, 0);
    assert_int_equal(a.results[0].value_len, LARGE);
    answer_fini(&a);
    story_end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sends),
        cmocka_unit_test(test_ends_of_calls),
        cmocka_unit_test(test_calls_left_over),
        cmocka_unit_test(test_large_answers_at_a_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
