/* client_map_test.c: newer and older maps, other clusters, nodes that are not those of the map. */
#include "fake_cluster.h"

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
    fake_reached(&opened);
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
    assert_int_equal(fake_elapsed_ms(cluster, since), 0);
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
    assert_int_equal(fake_elapsed_ms(cluster, since), 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_epoch_restart_keeps_the_version),
        cmocka_unit_test(test_stale_after_epoch_restart),
        cmocka_unit_test(test_node_behind),
        cmocka_unit_test(test_no_cluster),
        cmocka_unit_test(test_named_cluster),
        cmocka_unit_test(test_wrong_incarnation_and_rollback),
        cmocka_unit_test(test_young_collection),
        cmocka_unit_test(test_readmitted_node_brings_the_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
