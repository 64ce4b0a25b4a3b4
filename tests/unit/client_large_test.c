/* client_large_test.c: large values, whole and cut short. */
#include "fake_cluster.h"

/* A value beyond a frame goes out and comes back in pieces, among small records. */
static void test_large_value(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    size_t len = 3000000;
    char *big = (char *)malloc(len);
    struct fake_done put = {0}, small, get = {0};
    kho_call_id call;
    fake_noise(big, len, 7);
    struct kho_item item = {.key = "scan", .key_len = 4, .value = big, .value_len = len};
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", &item, 1, 0, &put,
                                    cluster->now, &call),
                     0);
    fake_submit(cluster, CLIENT_PUT, "people", "small", "v", NULL, 0, &small);
    fake_run(cluster, 5000, &put);
    assert_int_equal(put.first.status, 0);
    assert_int_equal(small.first.status, 0);
    fake_run(cluster, 100, NULL);
    assert_int_equal(fake_find(&cluster->nodes[2], 1, "scan", 4)->value_len, len);
    /* Only one node has the next version: it is written back in pieces, too. */
    struct fake_record *record = fake_find(&cluster->nodes[0], 1, "scan", 4);
    record->version.counter++;
    fake_node_down(cluster, 1);
    client_records(cluster->client, CLIENT_GET, "people", &item, 1, 0, &get, cluster->now, &call);
    /* The value is lent with the done, so it is looked at before the next. */
    struct client_done done;
    for (int i = 0; i < 1000 && !get.come; i++) {
        struct client_op *op;
        for (int k = 0; k < FAKE_CONNS; k++) {
            if (cluster->conns[k].open)
                fake_work(cluster, &cluster->conns[k]);
            fake_deliver(cluster, k);
        }
        client_tick(cluster->client, cluster->now);
        client_step_end(cluster->client, cluster->now);
        while ((op = client_next_op(cluster->client)) != NULL)
            fake_op(cluster, op);
        if (client_next_done(cluster->client, &done)) {
            get.come = true;
            assert_int_equal(done.records.results[0].status, 0);
            assert_int_equal(done.records.results[0].value_len, len);
            assert_memory_equal(done.records.results[0].value, big, len);
        }
        cluster->now.mono_ns += 1000000;
    }
    assert_true(get.come);
    assert_true(version_compare(fake_find(&cluster->nodes[2], 1, "scan", 4)->version,
                                record->version) == 0);
    free(big);
    fake_destroy(cluster);
}

/* A large value that is refused at its begin, or cancelled half-way, in either direction, leaves
 * the connection in order; what was cancelled is not stored in part. */
static void test_large_value_cut_short(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    size_t len = 3000000;
    char *big = (char *)malloc(len);
    struct fake_done put, get;
    kho_call_id call;
    fake_noise(big, len, 11);
    struct kho_item item = {.key = "scan", .key_len = 4, .value = big, .value_len = len};
    fake_call(cluster, CLIENT_PUT, "k", "v");
    uint32_t hellos = cluster->nodes[0].hellos;
    for (int steps = 0; steps < 8; steps++) {
        memset(&put, 0, sizeof put);
        client_records(cluster->client, CLIENT_PUT, "people", &item, 1, 0, &put, cluster->now,
                       &call);
        for (int i = 0; i < steps; i++)
            fake_step(cluster);
        client_cancel(cluster->client, call, cluster->now);
        fake_run(cluster, 100, NULL);
        assert_true(put.come);
    }
    assert_int_equal(fake_call(cluster, CLIENT_PUT, "k", "w").first.status, 0);
    cluster->nodes[0].write_status = KHO_EFULL;
    memset(&put, 0, sizeof put);
    client_records(cluster->client, CLIENT_PUT, "people", &item, 1, 0, &put, cluster->now, &call);
    fake_run(cluster, 100, NULL);
    assert_int_equal(put.first.status, 0);
    cluster->nodes[0].write_status = 0;
    assert_int_equal(fake_call(cluster, CLIENT_PUT, "k", "x").first.status, 0);
    for (int steps = 0; steps < 8; steps++) {
        call = fake_submit(cluster, CLIENT_GET, "people", "scan", NULL, NULL, 0, &get);
        for (int i = 0; i < steps; i++)
            fake_step(cluster);
        client_cancel(cluster->client, call, cluster->now);
        fake_run(cluster, 100, NULL);
        assert_true(get.come);
    }
    assert_int_equal(fake_call(cluster, CLIENT_GET, "k", NULL).first.status, 0);
    for (int i = 0; i < FAKE_NODES; i++) {
        struct fake_record *record = fake_find(&cluster->nodes[i], 1, "scan", 4);
        if (record != NULL)
            assert_memory_equal(record->value, big, len);
    }
    assert_int_equal(cluster->nodes[0].hellos, hellos);
    free(big);
    fake_destroy(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_value),
        cmocka_unit_test(test_large_value_cut_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
