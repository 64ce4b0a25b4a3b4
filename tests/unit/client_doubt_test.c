/* client_doubt_test.c: nodes that fall silent, break or are away: who is in doubt, and when. */
#include "fake_cluster.h"

/* Two nodes store a write but their acknowledgements are lost: in doubt by the deadline, with a
 * token that goes on with the same version, so that the value is written once. */
static void test_in_doubt_and_token(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done put, retry;
    uint64_t since = cluster->now.mono_ns;
    cluster->nodes[0].lose_acks = cluster->nodes[1].lose_acks = true;
    fake_submit(cluster, CLIENT_PUT, "people", "k", "v", NULL, 3000, &put);
    fake_run(cluster, 20000, &put);
    assert_true(put.come);
    assert_int_equal(put.first.status, KHO_EINDOUBT);
    assert_int_equal(put.first.outcome, KHO_IN_DOUBT);
    assert_true(fake_elapsed_ms(cluster, since) <= 3000);
    cluster->nodes[0].lose_acks = cluster->nodes[1].lose_acks = false;
    fake_break(cluster, 0);
    fake_break(cluster, 1);
    fake_run(cluster, 1000, NULL);
    fake_submit(cluster, CLIENT_PUT, "people", "k", "v", &put.first.token, 0, &retry);
    fake_run(cluster, 20000, &retry);
    assert_int_equal(retry.first.status, 0);
    assert_int_equal(retry.first.version.counter, put.first.version.counter);
    assert_int_equal(retry.first.version.writer, put.first.version.writer);
    /* Its version doesn't speak for another value, key, collection or verb. */
    struct kho_item item = {
        .key = "k", .key_len = 1, .value = "w", .value_len = 1, .token = &put.first.token};
    kho_call_id call;
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", &item, 1, 0, NULL,
                                    cluster->now, &call),
                     KHO_ETOKEN);
    item.value = "v";
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "events", &item, 1, 0, NULL,
                                    cluster->now, &call),
                     KHO_ETOKEN);
    assert_int_equal(client_records(cluster->client, CLIENT_DEL, "people", &item, 1, 0, NULL,
                                    cluster->now, &call),
                     KHO_ETOKEN);
    item.key = "l";
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", &item, 1, 0, NULL,
                                    cluster->now, &call),
                     KHO_ETOKEN);
    fake_destroy(cluster);
}

/* After a write in doubt another put of the key never carries the same version, even where no
 * replica tells of the first and the stamp comes to the same counter (R6). */
static void test_versions_never_meet_after_doubt(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done first, second;
    /* A record far ahead of the nodes' clocks: the stamp is highest + 1 both times. */
    for (int i = 0; i < FAKE_NODES; i++)
        fake_place(cluster, i, "k", "old", version_counter_at(1700009000000));
    fake_call(cluster, CLIENT_GET, "k", NULL);
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].ignore = true;
    fake_submit(cluster, CLIENT_PUT, "people", "k", "one", NULL, 500, &first);
    fake_run(cluster, 5000, &first);
    assert_int_equal(first.first.outcome, KHO_IN_DOUBT);
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].ignore = false;
    fake_submit(cluster, CLIENT_PUT, "people", "k", "two", NULL, 0, &second);
    fake_run(cluster, 5000, &second);
    assert_int_equal(second.first.status, 0);
    assert_int_equal(second.first.version.counter, first.first.version.counter);
    assert_int_not_equal(second.first.version.writer, first.first.version.writer);
    fake_destroy(cluster);
}

/* Two nodes down: a write ends as unavailable after two seconds, not applied; the next one at once;
 * reads too; and it goes again when they are back. */
static void test_unavailable(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    fake_call(cluster, CLIENT_PUT, "k", "v");
    fake_node_down(cluster, 0);
    fake_node_down(cluster, 1);
    uint64_t since = cluster->now.mono_ns;
    struct fake_done put = fake_call(cluster, CLIENT_PUT, "k", "w");
    assert_int_equal(put.first.status, KHO_EUNAVAILABLE);
    assert_int_equal(put.first.outcome, KHO_NOT_APPLIED);
    assert_in_range(fake_elapsed_ms(cluster, since), 1900, 2100);
    since = cluster->now.mono_ns;
    put = fake_call(cluster, CLIENT_PUT, "k", "w");
    assert_int_equal(put.first.status, KHO_EUNAVAILABLE);
    struct fake_done get = fake_call(cluster, CLIENT_GET, "k", NULL);
    assert_int_equal(get.first.status, KHO_EUNAVAILABLE);
    assert_int_equal(fake_elapsed_ms(cluster, since), 0);
    cluster->nodes[0].down = cluster->nodes[1].down = false;
    fake_run(cluster, 3000, NULL);
    get = fake_call(cluster, CLIENT_GET, "k", NULL);
    assert_int_equal(get.first.status, 0);
    assert_memory_equal(get.first_value, "v", 1);
    fake_destroy(cluster);
}

/* One node after the other is killed and restarted: no call fails, though a node that is back may
 * be noticed late. */
static void test_rolling_restart(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    char value[16];
    for (int round = 0; round < 30; round++) {
        int node = round % 3;
        uint64_t since = cluster->now.mono_ns;
        fake_node_down(cluster, node);
        while (fake_elapsed_ms(cluster, since) < 7000) {
            snprintf(value, sizeof value, "v%d", round);
            struct fake_done put = fake_call(cluster, CLIENT_PUT, "k", value);
            assert_int_equal(put.first.status, 0);
            fake_run(cluster, 130, NULL);
        }
        /* It is back for a moment only before the next one goes. */
        cluster->nodes[node].down = false;
        fake_run(cluster, (uint64_t)round * 3, NULL);
    }
    fake_destroy(cluster);
}

/* A node that came back unnoticed is found at once when another one is lost. */
static void test_lost_session_hurries_the_others(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        struct fake_cluster *cluster = fake_open();
        fake_call(cluster, CLIENT_PUT, "k", "v");
        fake_node_down(cluster, 0);
        fake_run(cluster, 20000 + (uint64_t)round * 170, NULL);
        cluster->nodes[0].down = false;
        fake_node_down(cluster, 1);
        uint64_t since = cluster->now.mono_ns;
        struct fake_done put = fake_call(cluster, CLIENT_PUT, "k", "w");
        assert_int_equal(put.first.status, 0);
        assert_true(fake_elapsed_ms(cluster, since) <= 100);
        fake_destroy(cluster);
    }
}

/* A write that was sent when its majority goes away ends in doubt, and before its deadline. */
static void test_sent_and_cut_off_is_in_doubt(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done put;
    fake_call(cluster, CLIENT_PUT, "k", "v");
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].ignore = true;
    uint64_t since = cluster->now.mono_ns;
    fake_submit(cluster, CLIENT_PUT, "people", "k", "w", NULL, 0, &put);
    fake_run(cluster, 20, NULL);
    fake_node_down(cluster, 0);
    fake_node_down(cluster, 1);
    fake_run(cluster, 20000, &put);
    assert_int_equal(put.first.status, KHO_EINDOUBT);
    assert_int_equal(put.first.outcome, KHO_IN_DOUBT);
    assert_true(fake_elapsed_ms(cluster, since) < 3000);
    fake_destroy(cluster);
}

/* A node that takes connections and says nothing: reads are hedged, the majority goes on, and where
 * two are silent calls end as unavailable. */
static void test_silent_nodes(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    fake_call(cluster, CLIENT_PUT, "k", "v");
    cluster->nodes[1].mute = true;
    for (int i = 0; i < 8; i++) {
        uint64_t since = cluster->now.mono_ns;
        struct fake_done get = fake_call(cluster, CLIENT_GET, "k", NULL);
        assert_int_equal(get.first.status, 0);
        assert_true(fake_elapsed_ms(cluster, since) <= 60);
    }
    struct fake_done put = fake_call(cluster, CLIENT_PUT, "k", "w");
    assert_int_equal(put.first.status, 0);
    cluster->nodes[2].mute = true;
    uint64_t since = cluster->now.mono_ns;
    put = fake_call(cluster, CLIENT_PUT, "k", "x");
    assert_int_equal(put.first.status, KHO_EUNAVAILABLE);
    assert_in_range(fake_elapsed_ms(cluster, since), 1000, 2100);
    /* After two silent seconds the connection is made anew. */
    uint32_t hellos = cluster->nodes[2].hellos;
    fake_run(cluster, 6000, NULL);
    cluster->nodes[1].mute = cluster->nodes[2].mute = false;
    fake_run(cluster, 6000, NULL);
    assert_true(cluster->nodes[2].hellos > hellos);
    put = fake_call(cluster, CLIENT_PUT, "k", "y");
    assert_int_equal(put.first.status, 0);
    fake_destroy(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_doubt_and_token),
        cmocka_unit_test(test_versions_never_meet_after_doubt),
        cmocka_unit_test(test_unavailable),
        cmocka_unit_test(test_rolling_restart),
        cmocka_unit_test(test_lost_session_hurries_the_others),
        cmocka_unit_test(test_sent_and_cut_off_is_in_doubt),
        cmocka_unit_test(test_silent_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
