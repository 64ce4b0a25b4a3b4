/* client_order_test.c: puts of one key in their order; what nodes refuse; calls given up. */
#include "fake_cluster.h"

struct order_watch {
    uint64_t counters[64];
    uint32_t count;
};

/* Puts of one key, in one batch and in calls of their own, apply in the order of submission with
 * rising versions; other keys don't wait for them. */
static void test_one_key_in_order(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct kho_item items[20];
    char values[21][4];
    kho_call_id call;
    struct fake_done batch = {0}, later, other;
    for (int i = 0; i < 21; i++)
        snprintf(values[i], sizeof values[i], "%d", i);
    for (int i = 0; i < 20; i++)
        items[i] = (struct kho_item){.key = i % 4 == 3 ? "b" : "a",
                                     .key_len = 1,
                                     .value = values[i],
                                     .value_len = strlen(values[i])};
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", items, 20, 0, &batch,
                                    cluster->now, &call),
                     0);
    fake_submit(cluster, CLIENT_PUT, "people", "a", "last", NULL, 0, &later);
    fake_submit(cluster, CLIENT_PUT, "people", "c", "free", NULL, 0, &other);
    struct client_done done;
    struct order_watch a = {0};
    while (!later.come) {
        fake_step(cluster);
        if (client_deadline(cluster->client) > cluster->now.mono_ns &&
            client_deadline(cluster->client) != CLIENT_NEVER && !later.come)
            cluster->now.mono_ns += 1000000;
        struct fake_record *record = fake_find(&cluster->nodes[0], 1, "a", 1);
        if (record != NULL && (a.count == 0 || a.counters[a.count - 1] != record->version.counter))
            a.counters[a.count++] = record->version.counter;
    }
    (void)done;
    assert_true(batch.come && other.come);
    assert_int_equal(a.count, 16);
    for (uint32_t i = 1; i < a.count; i++)
        assert_true(a.counters[i] > a.counters[i - 1]);
    assert_int_equal(later.first.version.counter, a.counters[15]);
    assert_int_equal(fake_holders(cluster, "a", "last"), 3);
    assert_int_equal(fake_holders(cluster, "b", "19"), 3);
    fake_destroy(cluster);
}

/* A put that is in doubt leaves the line to the next, whose version is above it though no majority
 * tells of it. */
static void test_line_goes_on_after_doubt(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done first, second;
    fake_call(cluster, CLIENT_GET, "k", NULL);
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].ignore = true;
    fake_submit(cluster, CLIENT_PUT, "people", "k", "one", NULL, 500, &first);
    fake_submit(cluster, CLIENT_PUT, "people", "k", "two", NULL, 5000, &second);
    fake_run(cluster, 400, NULL);
    /* The nodes' clocks go back meanwhile. */
    for (int i = 0; i < FAKE_NODES; i++) {
        cluster->nodes[i].ignore = false;
        cluster->nodes[i].wall_ms -= 1000000;
    }
    fake_run(cluster, 6000, &second);
    assert_int_equal(first.first.outcome, KHO_IN_DOUBT);
    assert_int_equal(second.first.status, 0);
    assert_true(second.first.version.counter > first.first.version.counter);
    fake_destroy(cluster);
}

/* Refusals: one replica's doesn't matter; a majority's ends the write with its code, not applied
 * where every replica refused, in doubt where one took it. */
static void test_refusals(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    cluster->nodes[0].write_status = KHO_EFULL;
    struct fake_done put = fake_call(cluster, CLIENT_PUT, "k", "v");
    assert_int_equal(put.first.status, 0);
    cluster->nodes[1].write_status = KHO_EFULL;
    put = fake_call(cluster, CLIENT_PUT, "l", "v");
    assert_int_equal(put.first.status, KHO_EINDOUBT);
    assert_int_equal(fake_holders(cluster, "l", "v"), 1);
    cluster->nodes[2].write_status = KHO_ENOSPACE;
    put = fake_call(cluster, CLIENT_PUT, "m", "v");
    assert_int_equal(put.first.outcome, KHO_NOT_APPLIED);
    assert_true(put.first.status == KHO_EFULL || put.first.status == KHO_ENOSPACE);
    /* A disk that failed may bring back what was in flight. */
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].write_status = KHO_EREADONLY;
    put = fake_call(cluster, CLIENT_PUT, "n", "v");
    assert_int_equal(put.first.outcome, KHO_IN_DOUBT);
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].write_status = KHO_ECONFLICT;
    put = fake_call(cluster, CLIENT_PUT, "o", "v");
    assert_int_equal(put.first.status, KHO_ECONFLICT);
    fake_destroy(cluster);
}

/* R7: an append whose counter lies below the floor everywhere is stamped anew, above it. */
static void test_stale_is_stamped_anew(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    fake_call(cluster, CLIENT_PUT, "warm", "up");
    uint64_t floor = version_counter_at(1700005000000);
    for (int i = 0; i < FAKE_NODES; i++) {
        cluster->nodes[i].stale_below = true;
        cluster->nodes[i].floor = floor;
    }
    struct fake_done append = fake_call(cluster, CLIENT_APPEND, NULL, "event");
    assert_int_equal(append.first.status, 0);
    assert_true(append.first.version.counter > floor);
    fake_destroy(cluster);
}

/* A call that is cancelled ends at once: a read and an unsent write without effect, a sent write in
 * doubt; another cancel is no error. */
static void test_cancel(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done get, put, sent;
    kho_call_id call = fake_submit(cluster, CLIENT_PUT, "people", "early", "v", NULL, 0, &put);
    client_cancel(cluster->client, call, cluster->now);
    fake_run(cluster, 10, &put);
    assert_int_equal(put.first.status, KHO_ECANCELED);
    assert_int_equal(put.first.outcome, KHO_NOT_APPLIED);
    client_cancel(cluster->client, call, cluster->now);
    fake_call(cluster, CLIENT_GET, "k", NULL);
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].ignore = true;
    call = fake_submit(cluster, CLIENT_PUT, "people", "k", "v", NULL, 0, &sent);
    fake_run(cluster, 10, NULL);
    client_cancel(cluster->client, call, cluster->now);
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].mute = true;
    kho_call_id read = fake_submit(cluster, CLIENT_GET, "people", "k", NULL, NULL, 0, &get);
    client_cancel(cluster->client, read, cluster->now);
    fake_run(cluster, 10, &get);
    fake_run(cluster, 10, &sent);
    assert_int_equal(get.first.status, KHO_ECANCELED);
    assert_int_equal(sent.first.status, KHO_EINDOUBT);
    assert_int_equal(sent.first.outcome, KHO_IN_DOUBT);
    assert_true(fake_find(&cluster->nodes[0], 1, "early", 5) == NULL);
    fake_destroy(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_key_in_order), cmocka_unit_test(test_line_goes_on_after_doubt),
        cmocka_unit_test(test_refusals),         cmocka_unit_test(test_stale_is_stamped_anew),
        cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
