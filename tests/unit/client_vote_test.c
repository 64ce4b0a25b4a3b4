/* client_vote_test.c: replicas that don't agree, or can't say: which answers count. */
#include "fake_cluster.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_writes_back), cmocka_unit_test(test_tombstone_is_written_back),
        cmocka_unit_test(test_damage),           cmocka_unit_test(test_unknown_is_no_vote),
        cmocka_unit_test(test_suspects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
