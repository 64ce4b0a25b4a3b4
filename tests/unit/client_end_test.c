/* client_end_test.c: closing, destroying, no memory, bytes that are no protocol: all ends once. */
#include "fake_cluster.h"

/* Close lets what is under way end, waits for the laggard or its deadline, closes every connection,
 * and its done is the last; new calls are refused. */
static void test_close_drains(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done put, closed = {0};
    kho_call_id call;
    fake_call(cluster, CLIENT_GET, "k", NULL);
    fake_node_down(cluster, 2);
    fake_submit(cluster, CLIENT_PUT, "people", "k", "v", NULL, 4000, &put);
    client_close(cluster->client, &closed, cluster->now);
    struct kho_item item = {.key = "k", .key_len = 1};
    assert_int_equal(client_records(cluster->client, CLIENT_GET, "people", &item, 1, 0, NULL,
                                    cluster->now, &call),
                     KHO_ECLOSED);
    assert_int_equal(client_opened(cluster->client, NULL, cluster->now, &call), KHO_ECLOSED);
    fake_run(cluster, 2000, &closed);
    assert_int_equal(put.first.status, 0);
    assert_false(closed.come);
    fake_run(cluster, 4000, &closed);
    assert_true(closed.come);
    assert_int_equal(closed.done.verb, CLIENT_CLOSED);
    assert_true(client_closed(cluster->client));
    for (int i = 0; i < FAKE_CONNS; i++)
        assert_false(cluster->conns[i].open);
    assert_int_equal(client_deadline(cluster->client), CLIENT_NEVER);
    fake_destroy(cluster);
}

/* A client that is dropped in the middle of everything leaves no memory behind. */
static void test_destroy_in_the_middle(void **state)
{
    (void)state;
    for (int steps = 0; steps < 40; steps++) {
        struct fake_cluster *cluster = fake_open();
        struct fake_done done[4];
        kho_call_id call;
        static char big[600000];
        struct kho_item item = {.key = "big", .key_len = 3, .value = big, .value_len = sizeof big};
        fake_noise(big, sizeof big, 8);
        fake_submit(cluster, CLIENT_PUT, "people", "k", "v", NULL, 0, &done[0]);
        fake_submit(cluster, CLIENT_PUT, "people", "k", "w", NULL, 0, &done[1]);
        fake_submit(cluster, CLIENT_GET, "people", "k", NULL, NULL, 0, &done[2]);
        memset(&done[3], 0, sizeof done[3]);
        client_records(cluster->client, CLIENT_PUT, "people", &item, 1, 0, &done[3], cluster->now,
                       &call);
        client_flush(cluster->client, 0, NULL, cluster->now, &call);
        for (int i = 0; i < steps; i++)
            fake_step(cluster);
        fake_destroy(cluster);
    }
}

/* A write and the flush behind it end together where a majority stays out of reach: who goes
 * through the calls to end one of them isn't led astray by the other. */
static void test_flush_ends_with_its_write(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done put, flush = {0};
    kho_call_id call;
    fake_call(cluster, CLIENT_GET, "k", NULL);
    fake_node_down(cluster, 1);
    fake_node_down(cluster, 2);
    fake_submit(cluster, CLIENT_PUT, "people", "k", "v", NULL, 30000, &put);
    assert_int_equal(client_flush(cluster->client, 30000, &flush, cluster->now, &call), 0);
    fake_run(cluster, 10000, &flush);
    assert_true(put.come);
    assert_int_equal(put.first.status, KHO_EUNAVAILABLE);
    assert_true(flush.come);
    assert_int_equal(flush.done.status, 0); /* nothing was left half done */
    fake_destroy(cluster);
}

/* A story in which every allocation in turn fails, alone or with all after it: submissions are
 * refused cleanly or end exactly once, and nothing leaks. */
static void failing_story(uint64_t fail_at, bool on, bool *ret_over)
{
    struct fake_cluster *cluster = fake_create();
    struct kho_options options = fake_options(cluster);
    static const enum client_verb verbs[] = {CLIENT_PUT, CLIENT_GET,    CLIENT_DEL,
                                             CLIENT_GET, CLIENT_APPEND, CLIENT_STAT};
    static char big[400000], text[400000];
    fake_noise(big, sizeof big, 10);
    cluster->fail_at = fail_at;
    cluster->fail_on = on;
    int status = client_create(&options, 42, cluster->now, &cluster->client);
    uint32_t submitted = 0;
    for (size_t i = 0; status == 0 && i < KHO_COUNT_OF(verbs) * 3; i++) {
        enum client_verb verb = verbs[i % KHO_COUNT_OF(verbs)];
        struct fake_done done = {0};
        kho_call_id call = 0;
        struct kho_item item = {.key = "k",
                                .key_len = verb == CLIENT_APPEND ? 0 : 1,
                                .value = i < 6    ? "v"
                                         : i < 12 ? big
                                                  : text,
                                .value_len = i < 6 ? 1 : sizeof big};
        int taken = client_records(cluster->client, verb, "people", &item, 1, 3000, &done,
                                   cluster->now, &call);
        assert_true(taken == 0 || taken == -ENOMEM);
        if (i == 3)
            for (int n = 0; n < FAKE_NODES; n++)
                fake_node_map(cluster, n, 2);
        if (i == 8)
            fake_break(cluster, 1);
        if (taken != 0)
            continue;
        submitted++;
        fake_run(cluster, 4000, &done);
        assert_true(done.come);
    }
    if (status == 0) {
        struct fake_done closed = {0};
        client_close(cluster->client, &closed, cluster->now);
        fake_run(cluster, 20000, &closed);
        assert_true(closed.come);
        assert_int_equal(cluster->dones, submitted + 1);
    } else {
        assert_int_equal(status, -ENOMEM);
        cluster->client = NULL;
    }
    *ret_over = cluster->allocations < fail_at;
    fake_destroy(cluster);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    for (int on = 0; on < 2; on++) {
        bool over = false;
        for (uint64_t n = 1; !over; n++)
            failing_story(n, on == 1, &over);
    }
}

/* Bytes that aren't the protocol's break the connection and nothing else. */
static void test_malformed_answers(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct kho_random random;
    kho_random_init(&random, 5);
    fake_call(cluster, CLIENT_PUT, "k", "v");
    for (int round = 0; round < 60; round++) {
        uint8_t junk[400];
        for (size_t i = 0; i < sizeof junk; i++)
            junk[i] = (uint8_t)kho_random_next(&random);
        if (round % 2 == 0)
            kho_store32(junk, 300);
        for (int i = 0; i < FAKE_CONNS; i++)
            if (cluster->conns[i].open && cluster->conns[i].node == round % 3)
                client_received(cluster->client, i, junk, sizeof junk, cluster->now);
        struct fake_done get = fake_call(cluster, CLIENT_GET, "k", NULL);
        assert_int_equal(get.first.status, 0);
        fake_run(cluster, 3000, NULL);
    }
    fake_destroy(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_close_drains),
        cmocka_unit_test(test_destroy_in_the_middle),
        cmocka_unit_test(test_flush_ends_with_its_write),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_malformed_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
