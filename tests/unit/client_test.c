/* client_test.c: stories of the client's core against three nodes in memory. */
#include "fake_cluster.h"

static void reached(const struct fake_done *end)
{
    assert_true(end->come);
    assert_int_equal(end->done.status, 0);
}

static uint64_t elapsed_ms(const struct fake_cluster *cluster, uint64_t since_ns)
{
    return (cluster->now.mono_ns - since_ns) / CLIENT_MS_NS;
}

/* A record that was put is read back with its hash and version, is described by stat, and is gone
 * after del. */
static void test_put_get_stat_del(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done put = fake_call(cluster, CLIENT_PUT, "an", "Nguyen Van An");
    reached(&put);
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
    reached(&flush);
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
    reached(&again);
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
    assert_true(elapsed_ms(cluster, since) <= 3000);
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
    assert_in_range(elapsed_ms(cluster, since), 1900, 2100);
    since = cluster->now.mono_ns;
    put = fake_call(cluster, CLIENT_PUT, "k", "w");
    assert_int_equal(put.first.status, KHO_EUNAVAILABLE);
    struct fake_done get = fake_call(cluster, CLIENT_GET, "k", NULL);
    assert_int_equal(get.first.status, KHO_EUNAVAILABLE);
    assert_int_equal(elapsed_ms(cluster, since), 0);
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
        while (elapsed_ms(cluster, since) < 7000) {
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
        assert_true(elapsed_ms(cluster, since) <= 100);
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
    assert_true(elapsed_ms(cluster, since) < 3000);
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
        assert_true(elapsed_ms(cluster, since) <= 60);
    }
    struct fake_done put = fake_call(cluster, CLIENT_PUT, "k", "w");
    assert_int_equal(put.first.status, 0);
    cluster->nodes[2].mute = true;
    uint64_t since = cluster->now.mono_ns;
    put = fake_call(cluster, CLIENT_PUT, "k", "x");
    assert_int_equal(put.first.status, KHO_EUNAVAILABLE);
    assert_in_range(elapsed_ms(cluster, since), 1000, 2100);
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

/* A version that only one node has is written back to a majority before a read returns it,
 * whichever node is read first. */
static void test_read_writes_back(void **state)
{
    (void)state;
    for (int round = 0; round < 6; round++) {
        struct fake_cluster *cluster = fake_open();
        fake_call(cluster, CLIENT_GET, "other", NULL);
        for (int i = 0; i < round; i++)
            fake_call(cluster, CLIENT_GET, "other", NULL);
        for (int i = 0; i < FAKE_NODES; i++)
            fake_place(cluster, i, "k", "old", 1000);
        fake_place(cluster, round % 3, "k", "new", 2000);
        struct fake_done get = fake_call(cluster, round < 3 ? CLIENT_GET : CLIENT_STAT, "k", NULL);
        assert_int_equal(get.first.status, 0);
        /* A majority without the new version may answer first: then the old one is right. */
        if (get.first.version.counter == 2000)
            assert_true(fake_holders(cluster, "k", "new") >= 2);
        else
            assert_int_equal(fake_holders(cluster, "k", "old"), 2);
        /* With the holder in every majority, it must be seen. */
        fake_node_down(cluster, (round + 1) % 3);
        get = fake_call(cluster, round < 3 ? CLIENT_GET : CLIENT_STAT, "k", NULL);
        assert_int_equal(get.first.version.counter, 2000);
        assert_true(fake_holders(cluster, "k", "new") >= 2);
        fake_destroy(cluster);
    }
}

/* A tombstone that only one node has is written back, too: a delete that was seen stays. */
static void test_tombstone_is_written_back(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    for (int i = 0; i < FAKE_NODES; i++)
        fake_place(cluster, i, "k", "old", 1000);
    fake_place(cluster, 0, "k", NULL, 2000);
    fake_node_down(cluster, 2);
    struct fake_done get = fake_call(cluster, CLIENT_GET, "k", NULL);
    assert_int_equal(get.first.status, KHO_ENOTFOUND);
    assert_int_equal(get.first.version.counter, 2000);
    assert_int_equal(fake_holders(cluster, "k", "old"), 1);
    fake_destroy(cluster);
}

/* A rotten replica and one whose bytes don't match their hash are passed over; where nobody can
 * give the value it is damaged, never not found. */
static void test_damage(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    fake_call(cluster, CLIENT_PUT, "k", "v");
    cluster->nodes[0].rotten = true;
    cluster->nodes[1].corrupt = true;
    for (int i = 0; i < 6; i++) {
        struct fake_done get = fake_call(cluster, CLIENT_GET, "k", NULL);
        assert_int_equal(get.first.status, 0);
        assert_memory_equal(get.first_value, "v", 1);
    }
    cluster->nodes[2].rotten = true;
    struct fake_done get = fake_call(cluster, CLIENT_GET, "k", NULL);
    assert_int_equal(get.first.status, KHO_EDAMAGED);
    fake_destroy(cluster);
}

/* A replica that can't say is no vote: with another one down a read waits and fails, and a third
 * answer is enough. */
static void test_unknown_is_no_vote(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    fake_call(cluster, CLIENT_PUT, "k", "v");
    fake_run(cluster, 100, NULL);
    cluster->nodes[0].unknown = true;
    struct fake_done get = fake_call(cluster, CLIENT_GET, "k", NULL);
    assert_int_equal(get.first.status, 0);
    get = fake_call(cluster, CLIENT_GET, "nobody", NULL);
    assert_int_equal(get.first.status, KHO_ENOTFOUND);
    fake_node_down(cluster, 1);
    get = fake_call(cluster, CLIENT_GET, "nobody", NULL);
    assert_int_equal(get.first.status, KHO_EUNAVAILABLE);
    struct fake_done put = fake_call(cluster, CLIENT_PUT, "k", "w");
    assert_int_equal(put.first.status, KHO_EUNAVAILABLE);
    assert_int_equal(put.first.outcome, KHO_NOT_APPLIED);
    fake_destroy(cluster);
}

/* R3: one suspect with one sound node is no majority; all three replies are, suspects or not. */
static void test_suspects(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    fake_call(cluster, CLIENT_PUT, "k", "v");
    fake_run(cluster, 100, NULL);
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].suspect = true;
    struct fake_done get = fake_call(cluster, CLIENT_GET, "k", NULL);
    assert_int_equal(get.first.status, 0);
    struct fake_done put = fake_call(cluster, CLIENT_PUT, "k", "w");
    assert_int_equal(put.first.status, 0);
    cluster->nodes[1].suspect = cluster->nodes[2].suspect = false;
    fake_node_down(cluster, 1);
    get = fake_call(cluster, CLIENT_GET, "k", NULL);
    assert_int_equal(get.first.status, KHO_EUNAVAILABLE);
    put = fake_call(cluster, CLIENT_PUT, "k", "x");
    assert_int_equal(put.first.status, KHO_EUNAVAILABLE);
    assert_int_equal(put.first.outcome, KHO_NOT_APPLIED);
    cluster->nodes[1].down = false;
    fake_run(cluster, 3000, NULL);
    get = fake_call(cluster, CLIENT_GET, "k", NULL);
    assert_int_equal(get.first.status, 0);
    assert_memory_equal(get.first_value, "w", 1);
    fake_destroy(cluster);
}

/* The epoch rises while a write is half acknowledged: it starts again under the new map with the
 * same version, so that no node is given two values for it or one value twice under two versions.
 */
static void test_epoch_restart_keeps_the_version(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done put;
    fake_call(cluster, CLIENT_GET, "k", NULL);
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].lose_acks = true;
    fake_submit(cluster, CLIENT_PUT, "people", "k", "v", NULL, 0, &put);
    fake_run(cluster, 30, NULL);
    assert_false(put.come);
    struct version version = fake_find(&cluster->nodes[0], 1, "k", 1)->version;
    for (int i = 0; i < FAKE_NODES; i++) {
        cluster->nodes[i].lose_acks = false;
        fake_node_map(cluster, i, 2);
    }
    /* Another request hears of the new epoch. */
    struct fake_done get = fake_call(cluster, CLIENT_GET, "other", NULL);
    assert_int_equal(get.first.status, KHO_ENOTFOUND);
    fake_run(cluster, 20000, &put);
    assert_int_equal(put.first.status, 0);
    assert_int_equal(put.first.version.counter, version.counter);
    assert_int_equal(put.first.version.writer, version.writer);
    assert_int_equal(client_map(cluster->client)->epoch, 2);
    fake_destroy(cluster);
}

/* R7: what was sent under an older epoch and is refused as stale under the new one may yet be
 * there: it ends in doubt and is not stamped anew. */
static void test_stale_after_epoch_restart(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done put;
    fake_call(cluster, CLIENT_GET, "k", NULL);
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].ignore = true;
    fake_submit(cluster, CLIENT_PUT, "people", "k", "v", NULL, 0, &put);
    fake_run(cluster, 30, NULL);
    for (int i = 0; i < FAKE_NODES; i++) {
        cluster->nodes[i].ignore = false;
        cluster->nodes[i].write_status = KHO_ESTALE;
        fake_node_map(cluster, i, 2);
    }
    fake_call(cluster, CLIENT_GET, "other", NULL);
    fake_run(cluster, 1000, &put);
    assert_true(put.come);
    assert_int_equal(put.first.status, KHO_EINDOUBT);
    fake_destroy(cluster);
}

/* A node that is behind is passed over and tried again until it has the map. */
static void test_node_behind(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    fake_call(cluster, CLIENT_PUT, "k", "v");
    fake_run(cluster, 100, NULL);
    fake_node_map(cluster, 0, 2);
    fake_node_map(cluster, 1, 2);
    struct fake_done put = fake_call(cluster, CLIENT_PUT, "k", "w");
    assert_int_equal(put.first.status, 0);
    assert_int_equal(fake_holders(cluster, "k", "w"), 2);
    fake_run(cluster, 1000, NULL);
    fake_node_map(cluster, 2, 2);
    fake_run(cluster, 1000, NULL);
    assert_int_equal(fake_holders(cluster, "k", "w"), 3);
    fake_destroy(cluster);
}

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

/* No node ever answers: every call ends, before the deadline as unavailable, at the deadline where
 * that comes first. */
static void test_no_cluster(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_create();
    struct kho_options options = fake_options(cluster);
    struct fake_done opened = {0}, put, get;
    kho_call_id call;
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].down = true;
    assert_int_equal(client_create(&options, 42, cluster->now, &cluster->client), 0);
    assert_int_equal(client_opened(cluster->client, &opened, cluster->now, &call), 0);
    fake_submit(cluster, CLIENT_PUT, "people", "k", "v", NULL, 0, &put);
    fake_submit(cluster, CLIENT_GET, "people", "k", NULL, NULL, 500, &get);
    fake_run(cluster, 1000, NULL);
    assert_true(get.come);
    assert_int_equal(get.first.status, KHO_EDEADLINE);
    fake_run(cluster, 30000, &opened);
    assert_int_equal(put.first.status, KHO_EUNAVAILABLE);
    assert_int_equal(opened.done.status, -ECONNREFUSED);
    /* And it goes as soon as one seed is there; nodes without a map are told as such. */
    for (int i = 0; i < FAKE_NODES; i++) {
        cluster->nodes[i].down = false;
        free(cluster->nodes[i].map);
        cluster->nodes[i].map = NULL;
    }
    opened.come = false;
    assert_int_equal(client_opened(cluster->client, &opened, cluster->now, &call), 0);
    fake_run(cluster, 30000, &opened);
    assert_int_equal(opened.done.status, KHO_ENOMAP);
    opened.come = false;
    assert_int_equal(client_opened(cluster->client, &opened, cluster->now, &call), 0);
    fake_node_map(cluster, 2, 1);
    fake_run(cluster, 5000, &opened);
    reached(&opened);
    fake_destroy(cluster);
}

/* A client of a named cluster takes no other's map, whoever stands at its seeds, and takes up work
 * when its own cluster is there. */
static void test_named_cluster(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_create();
    struct kho_options options = fake_options(cluster);
    struct map map;
    struct fake_done opened = {0}, put;
    struct fake_node *node = &cluster->nodes[0];
    uint8_t id[16];
    kho_call_id call;
    assert_int_equal(map_decode(node->map, node->map_len, &map), 0);
    memcpy(id, map.cluster.bytes, sizeof id);
    id[0] ^= 1;
    options.cluster_id = id;
    assert_int_equal(client_create(&options, 42, cluster->now, &cluster->client), 0);
    id[0] ^= 1; /* it was copied */
    assert_int_equal(client_opened(cluster->client, &opened, cluster->now, &call), 0);
    fake_submit(cluster, CLIENT_PUT, "people", "k", "v", NULL, 0, &put);
    fake_run(cluster, 30000, &opened);
    assert_int_equal(opened.done.status, KHO_ECLUSTER);
    assert_true(put.come);
    assert_int_equal(put.first.outcome, KHO_NOT_APPLIED);
    assert_int_equal(fake_holders(cluster, "k", "v"), 0);
    client_destroy(cluster->client);
    assert_int_equal(client_create(&options, 43, cluster->now, &cluster->client), 0);
    put = fake_call(cluster, CLIENT_PUT, "k", "v");
    assert_int_equal(put.first.status, 0);
    fake_destroy(cluster);
}

/* A node whose folder isn't the map's, or whose log went back, is not used; the others go on; and
 * two such nodes make the cluster unavailable at once. */
static void test_wrong_incarnation_and_rollback(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    fake_call(cluster, CLIENT_PUT, "k", "v");
    fake_run(cluster, 100, NULL);
    memset(cluster->nodes[0].incarnation.bytes, 99, 16);
    fake_break(cluster, 0);
    struct fake_done put = fake_call(cluster, CLIENT_PUT, "k", "w");
    assert_int_equal(put.first.status, 0);
    fake_run(cluster, 500, NULL);
    assert_int_equal(cluster->client->remotes[0]->sessions[0]->error, KHO_EINCARNATION);
    assert_int_equal(fake_holders(cluster, "k", "w"), 2);
    cluster->nodes[1].durable = 1;
    fake_break(cluster, 1);
    fake_run(cluster, 500, NULL);
    assert_int_equal(cluster->client->remotes[1]->sessions[0]->error, KHO_EROLLEDBACK);
    uint64_t since = cluster->now.mono_ns;
    put = fake_call(cluster, CLIENT_PUT, "k", "x");
    assert_int_equal(put.first.status, KHO_EUNAVAILABLE);
    assert_int_equal(elapsed_ms(cluster, since), 0);
    fake_destroy(cluster);
}

/* A collection that was made since the client fetched its map is found without being told of it. */
static void test_young_collection(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done put;
    fake_call(cluster, CLIENT_PUT, "k", "v");
    cluster->third_collection = true;
    fake_node_map(cluster, 0, 2);
    fake_node_map(cluster, 1, 2);
    uint64_t since = cluster->now.mono_ns;
    fake_submit(cluster, CLIENT_PUT, "young", "k", "v", NULL, 0, &put);
    fake_run(cluster, 5000, &put);
    assert_int_equal(put.first.status, 0);
    fake_submit(cluster, CLIENT_PUT, "none", "k", "v", NULL, 0, &put);
    fake_run(cluster, 5000, &put);
    assert_int_equal(put.first.status, KHO_ENOCOLLECTION);
    assert_int_equal(elapsed_ms(cluster, since), 0);
    fake_destroy(cluster);
}

/* A node that was readmitted under a new incarnation and a higher epoch brings that map itself. */
static void test_readmitted_node_brings_the_map(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    fake_call(cluster, CLIENT_PUT, "k", "v");
    memset(cluster->nodes[0].incarnation.bytes, 99, 16);
    for (int i = 0; i < FAKE_NODES; i++)
        fake_node_map(cluster, i, 2);
    cluster->nodes[0].durable = 0;
    fake_break(cluster, 0);
    fake_run(cluster, 1000, NULL);
    assert_int_equal(client_map(cluster->client)->epoch, 2);
    struct fake_done put = fake_call(cluster, CLIENT_PUT, "k", "w");
    assert_int_equal(put.first.status, 0);
    fake_run(cluster, 3000, NULL);
    assert_int_equal(fake_holders(cluster, "k", "w"), 3);
    fake_destroy(cluster);
}

/* A value beyond a frame goes out and comes back in pieces, among small records. */
static void test_large_value(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    size_t len = 3000000;
    char *big = (char *)malloc(len);
    struct fake_done put = {0}, small, get = {0};
    kho_call_id call;
    for (size_t i = 0; i < len; i++)
        big[i] = (char)(i * 7 + i / 1000);
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
    memset(big, 'b', len);
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

/* A story in which every allocation in turn fails, alone or with all after it: submissions are
 * refused cleanly or end exactly once, and nothing leaks. */
static void failing_story(uint64_t fail_at, bool on, bool *ret_over)
{
    struct fake_cluster *cluster = fake_create();
    struct kho_options options = fake_options(cluster);
    static const enum client_verb verbs[] = {CLIENT_PUT, CLIENT_GET,    CLIENT_DEL,
                                             CLIENT_GET, CLIENT_APPEND, CLIENT_STAT};
    static char big[400000];
    cluster->fail_at = fail_at;
    cluster->fail_on = on;
    int status = client_create(&options, 42, cluster->now, &cluster->client);
    uint32_t submitted = 0;
    for (size_t i = 0; status == 0 && i < KHO_COUNT_OF(verbs) * 2; i++) {
        enum client_verb verb = verbs[i % KHO_COUNT_OF(verbs)];
        struct fake_done done = {0};
        kho_call_id call = 0;
        struct kho_item item = {.key = "k",
                                .key_len = verb == CLIENT_APPEND ? 0 : 1,
                                .value = i < 6 ? "v" : big,
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
        cmocka_unit_test(test_put_get_stat_del),
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_submission_errors),
        cmocka_unit_test(test_applied_at_two_of_three),
        cmocka_unit_test(test_flush_tells_what_was_given_up),
        cmocka_unit_test(test_held_values_are_bounded),
        cmocka_unit_test(test_in_doubt_and_token),
        cmocka_unit_test(test_versions_never_meet_after_doubt),
        cmocka_unit_test(test_unavailable),
        cmocka_unit_test(test_rolling_restart),
        cmocka_unit_test(test_lost_session_hurries_the_others),
        cmocka_unit_test(test_sent_and_cut_off_is_in_doubt),
        cmocka_unit_test(test_silent_nodes),
        cmocka_unit_test(test_read_writes_back),
        cmocka_unit_test(test_tombstone_is_written_back),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_unknown_is_no_vote),
        cmocka_unit_test(test_suspects),
        cmocka_unit_test(test_epoch_restart_keeps_the_version),
        cmocka_unit_test(test_stale_after_epoch_restart),
        cmocka_unit_test(test_node_behind),
        cmocka_unit_test(test_one_key_in_order),
        cmocka_unit_test(test_line_goes_on_after_doubt),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_stale_is_stamped_anew),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_no_cluster),
        cmocka_unit_test(test_named_cluster),
        cmocka_unit_test(test_wrong_incarnation_and_rollback),
        cmocka_unit_test(test_young_collection),
        cmocka_unit_test(test_readmitted_node_brings_the_map),
        cmocka_unit_test(test_large_value),
        cmocka_unit_test(test_large_value_cut_short),
        cmocka_unit_test(test_batches_and_room),
        cmocka_unit_test(test_close_drains),
        cmocka_unit_test(test_destroy_in_the_middle),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_malformed_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
