/* client_write_test.c: records written, described, deleted; what is applied with one replica short.
 */
#include "fake_cluster.h"

/* A record that was put is read back with its hash and version, is described by stat, and is gone
 * after del. */
static void test_put_get_stat_del(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done put = fake_call(cluster, CLIENT_PUT, "an", "Nguyen Van An");
    fake_reached(&put);
    assert_int_equal(put.first.status, 0);
    assert_int_equal(put.first.outcome, KHO_APPLIED);
    /* Above the lowest node time, and not the client's own clock. */
    assert_true(put.first.version.counter >= version_counter_at(1700000000000));
    struct fake_done get = fake_call(cluster, CLIENT_GET, "an", NULL);
    assert_int_equal(get.first.status, 0);
    assert_int_equal(get.first.value_len, 13);
    assert_memory_equal(get.first_value, "Nguyen Van An", 13);
    assert_int_equal(get.first.version.counter, put.first.version.counter);
    struct kho_id hash = content_hash("Nguyen Van An", 13);
    assert_memory_equal(get.first.hash, hash.bytes, 16);
    struct fake_done stat = fake_call(cluster, CLIENT_STAT, "an", NULL);
    assert_int_equal(stat.first.status, 0);
    assert_int_equal(stat.first.value_len, 13);
    assert_null(stat.first.value);
    assert_memory_equal(stat.first.hash, hash.bytes, 16);
    struct fake_done del = fake_call(cluster, CLIENT_DEL, "an", NULL);
    assert_int_equal(del.first.status, 0);
    assert_true(del.first.version.counter > put.first.version.counter);
    get = fake_call(cluster, CLIENT_GET, "an", NULL);
    assert_int_equal(get.first.status, KHO_ENOTFOUND);
    assert_int_equal(get.first.version.counter, del.first.version.counter);
    get = fake_call(cluster, CLIENT_GET, "nobody", NULL);
    assert_int_equal(get.first.status, KHO_ENOTFOUND);
    assert_int_equal(get.first.version.counter, 0);
    fake_destroy(cluster);
}

/* An append draws its key and needs no stamp once the nodes' times were heard; the same key read
 * brings the value. */
static void test_append(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    fake_call(cluster, CLIENT_PUT, "warm", "up");
    uint32_t probes = cluster->nodes[0].probes;
    struct fake_done append = fake_call(cluster, CLIENT_APPEND, NULL, "event");
    assert_int_equal(append.first.status, 0);
    assert_int_equal(append.first.key_len, 16);
    assert_int_equal(cluster->nodes[0].probes, probes);
    assert_true(append.first.version.counter >= version_counter_at(1700000000000));
    fake_destroy(cluster);
}

/* Bad arguments are refused at submission, with the code that names them, and nothing happens. */
static void test_submission_errors(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    static char big[2000];
    kho_call_id call = 0;
    struct kho_item item = {.key = big, .key_len = 1025};
    assert_int_equal(client_records(cluster->client, CLIENT_GET, "people", &item, 1, 0, NULL,
                                    cluster->now, &call),
                     KHO_EKEYSIZE);
    item.key_len = 0;
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", &item, 1, 0, NULL,
                                    cluster->now, &call),
                     KHO_EKEYSIZE);
    item.key_len = 3;
    item.value = big;
    item.value_len = KHO_VALUE_MAX + 1;
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", &item, 1, 0, NULL,
                                    cluster->now, &call),
                     KHO_EVALUESIZE);
    item.value_len = 4;
    assert_int_equal(client_records(cluster->client, CLIENT_APPEND, "people", &item, 1, 0, NULL,
                                    cluster->now, &call),
                     KHO_EKEYSIZE);
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "Peo ple", &item, 1, 0, NULL,
                                    cluster->now, &call),
                     KHO_ECOLLECTIONNAME);
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", &item, 0, 0, NULL,
                                    cluster->now, &call),
                     -EINVAL);
    assert_int_equal(call, 0);
    assert_int_equal(client_inflight_bytes(cluster->client), 0);
    struct fake_done done;
    fake_submit(cluster, CLIENT_PUT, "nowhere", "k", "v", NULL, 0, &done);
    fake_run(cluster, 5000, &done);
    assert_int_equal(done.first.status, KHO_ENOCOLLECTION);
    assert_int_equal(done.first.outcome, KHO_NOT_APPLIED);
    struct kho_options options = fake_options(cluster);
    struct client *other = NULL;
    static const char *const bad[] = {"",       "host",       "host:",    ":7000",
                                      "host:0", "host:65536", "host:70x", "a:1,"};
    for (size_t i = 0; i < KHO_COUNT_OF(bad); i++) {
        options.cluster = bad[i];
        assert_int_equal(client_create(&options, 1, cluster->now, &other), -EINVAL);
        assert_null(other);
    }
    fake_destroy(cluster);
}

/* One node down: writes are applied by the other two, wait for the third, and reach it when it
 * comes back; flush says so. */
static void test_applied_at_two_of_three(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done flush = {0};
    kho_call_id call;
    fake_node_down(cluster, 2);
    struct fake_done put = fake_call(cluster, CLIENT_PUT, "k", "v");
    assert_int_equal(put.first.status, 0);
    assert_int_equal(fake_holders(cluster, "k", "v"), 2);
    client_flush(cluster->client, 0, &flush, cluster->now, &call);
    fake_run(cluster, 300, NULL);
    assert_false(flush.come);
    cluster->nodes[2].down = false;
    fake_run(cluster, 5000, &flush);
    fake_reached(&flush);
    assert_int_equal(fake_holders(cluster, "k", "v"), 3);
    fake_destroy(cluster);
}

/* A laggard that stays away until the deadline: the write stays applied, flush tells that it was
 * given up, once. */
static void test_flush_tells_what_was_given_up(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done flush = {0}, again = {0};
    kho_call_id call;
    fake_node_down(cluster, 1);
    struct fake_done put = fake_call(cluster, CLIENT_PUT, "k", "v");
    assert_int_equal(put.first.status, 0);
    client_flush(cluster->client, 20000, &flush, cluster->now, &call);
    fake_run(cluster, 30000, &flush);
    assert_true(flush.come);
    assert_int_equal(flush.done.status, KHO_EUNAVAILABLE);
    client_flush(cluster->client, 0, &again, cluster->now, &call);
    fake_run(cluster, 1000, &again);
    fake_reached(&again);
    fake_destroy(cluster);
}

/* Held-back values are bounded: beyond it the oldest are dropped and counted. */
static void test_held_values_are_bounded(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_create();
    struct kho_options options = fake_options(cluster);
    char key[16], value[200];
    options.holdback_bytes_max = 1000;
    assert_int_equal(client_create(&options, 42, cluster->now, &cluster->client), 0);
    fake_node_down(cluster, 0);
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    for (int i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "key%d", i);
        struct fake_done put = fake_call(cluster, CLIENT_PUT, key, value);
        assert_int_equal(put.first.status, 0);
        assert_true(cluster->client->held_bytes <= 1000);
    }
    assert_true(cluster->client->held_bytes > 500);
    cluster->nodes[0].down = false;
    struct fake_done flush = {0};
    kho_call_id call;
    client_flush(cluster->client, 0, &flush, cluster->now, &call);
    fake_run(cluster, 9000, &flush);
    assert_int_equal(flush.done.status, KHO_EUNAVAILABLE);
    assert_int_equal(fake_holders(cluster, "key0", value), 2);
    assert_int_equal(fake_holders(cluster, "key19", value), 3);
    fake_destroy(cluster);
}

/* A batch of many records of many sizes is applied and read back; the bound of bytes in flight
 * refuses what is too much, and room is told once it is there. */
static void test_batches_and_room(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_create();
    struct kho_options options = fake_options(cluster);
    options.inflight_bytes_max = 20000;
    assert_int_equal(client_create(&options, 42, cluster->now, &cluster->client), 0);
    static struct kho_item items[300];
    static char keys[300][8], values[300][400];
    struct fake_done put = {0}, get = {0}, room = {0};
    kho_call_id call;
    for (int i = 0; i < 300; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i);
        memset(values[i], 'a' + i % 26, sizeof values[i]);
        items[i] = (struct kho_item){
            .key = keys[i], .key_len = strlen(keys[i]), .value = values[i], .value_len = (size_t)i};
    }
    /* It is more than the bound, but nothing is in flight. */
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", items, 300, 0, &put,
                                    cluster->now, &call),
                     0);
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", items, 1, 0, &put,
                                    cluster->now, &call),
                     KHO_EBUSY);
    client_on_room(cluster->client, &room);
    fake_run(cluster, 5000, &put);
    fake_run(cluster, 5000, &room);
    assert_true(room.come);
    assert_int_equal(room.done.verb, CLIENT_ROOM);
    assert_int_equal(put.done.records.count, 300);
    assert_int_equal(client_inflight_bytes(cluster->client), 0);
    assert_int_equal(client_records(cluster->client, CLIENT_GET, "people", items, 300, 0, &get,
                                    cluster->now, &call),
                     0);
    struct client_done done = {0};
    for (int i = 0; i < 1000 && !get.come; i++) {
        struct client_op *op;
        for (int k = 0; k < FAKE_CONNS; k++) {
            if (cluster->conns[k].open)
                fake_work(cluster, &cluster->conns[k]);
            fake_deliver(cluster, k);
        }
        client_step_end(cluster->client, cluster->now);
        while ((op = client_next_op(cluster->client)) != NULL)
            fake_op(cluster, op);
        get.come = client_next_done(cluster->client, &done);
    }
    assert_true(get.come);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(done.records.results[i].status, 0);
        assert_int_equal(done.records.results[i].value_len, i);
        if (i > 0)
            assert_memory_equal(done.records.results[i].value, values[i], (size_t)i);
    }
    fake_destroy(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_get_stat_del),
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_submission_errors),
        cmocka_unit_test(test_applied_at_two_of_three),
        cmocka_unit_test(test_flush_tells_what_was_given_up),
        cmocka_unit_test(test_held_values_are_bounded),
        cmocka_unit_test(test_batches_and_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
