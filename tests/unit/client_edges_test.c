/* client_edges_test.c: the client's core where several misfortunes meet: calls that end while a map
 * is put in force, steps that take long, answers that no honest node gives. */
#include "fake_cluster.h"

/* Keeps a node that is asked something in reach: it says at least its map. */
static void chat(struct fake_cluster *cluster, uint32_t node, uint64_t ms)
{
    for (uint64_t at = 0; at < ms; at += 250) {
        session_fetch_map(cluster->client, cluster->client->remotes[node]->sessions[0],
                          cluster->now);
        fake_run(cluster, 250, NULL);
    }
}

static void lose_acks(struct fake_cluster *cluster, bool lose)
{
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].lose_acks = lose;
}

/* A newer map ends the last record of a batch that others have left before: nothing behind the
 * batch's records is looked at. */
static void test_map_ends_the_first_of_a_batch(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done first, batch = {0};
    kho_call_id call;
    fake_call(cluster, CLIENT_PUT, "b", "0");
    lose_acks(cluster, true);
    kho_call_id before = fake_submit(cluster, CLIENT_PUT, "people", "a", "1", NULL, 0, &first);
    fake_run(cluster, 30, NULL);
    lose_acks(cluster, false);
    struct kho_item items[2] = {{.key = "a", .key_len = 1, .value = "2", .value_len = 1},
                                {.key = "b", .key_len = 1, .value = "2", .value_len = 1}};
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", items, 2, 9000, &batch,
                                    cluster->now, &call),
                     0);
    fake_run(cluster, 30, NULL);
    lose_acks(cluster, true);
    client_cancel(cluster->client, before, cluster->now);
    fake_run(cluster, 30, NULL);
    assert_true(first.come);
    assert_false(batch.come);
    fake_node_down(cluster, 0);
    fake_node_down(cluster, 1);
    chat(cluster, 2, 3000);
    assert_false(batch.come);
    fake_node_map(cluster, 2, 2);
    chat(cluster, 2, 250);
    assert_int_equal(client_map(cluster->client)->epoch, 2);
    assert_true(batch.come);
    assert_int_equal(batch.first.status, KHO_EINDOUBT);
    fake_destroy(cluster);
}

/* A step that takes longer than a node may be silent: the silence begins when its requests were
 * sent, so nobody is given up. */
static void test_long_step(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct client_op *op;
    struct fake_done put;
    fake_call(cluster, CLIENT_PUT, "a", "1");
    fake_run(cluster, 1000, NULL);
    fake_submit(cluster, CLIENT_PUT, "people", "a", "2", NULL, 0, &put);
    client_step_end(cluster->client, cluster->now);
    cluster->now.mono_ns += 3000 * CLIENT_MS_NS;
    while ((op = client_next_op(cluster->client)) != NULL)
        fake_op(cluster, op);
    client_tick(cluster->client, cluster->now);
    fake_run(cluster, 1000, &put);
    assert_true(put.come);
    assert_int_equal(put.first.status, 0);
    assert_true(fake_holders(cluster, "a", "2") >= 2);
    /* One that stays silent is given up as ever, however much it is sent. */
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].mute = true;
    uint64_t since = cluster->now.mono_ns;
    fake_submit(cluster, CLIENT_PUT, "people", "a", "3", NULL, 0, &put);
    for (int i = 0; i < 30 && !put.come; i++) {
        struct fake_done other;
        fake_run(cluster, 100, &put);
        if (!put.come)
            fake_submit(cluster, CLIENT_GET, "people", "b", NULL, NULL, 50, &other);
        if (!put.come)
            fake_run(cluster, 60, &other);
    }
    assert_true(put.come);
    assert_in_range((cluster->now.mono_ns - since) / CLIENT_MS_NS, 1900, 2300);
    fake_destroy(cluster);
}

/* A repair that reaches no node says so and ends. */
static void test_repair_without_nodes(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    kho_call_id call;
    fake_call(cluster, CLIENT_PUT, "a", "1");
    for (int i = 0; i < FAKE_NODES; i++)
        fake_node_down(cluster, i);
    assert_int_equal(client_repair(cluster->client, NULL, NULL, cluster->now, &call), 0);
    fake_run(cluster, 120000, NULL);
    assert_true(queue_empty(&cluster->client->calls));
    fake_destroy(cluster);
}

/* A status above 0 is none that a node may answer: it never becomes a result. */
static void test_strange_status(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    fake_place(cluster, 0, "a", "1", 1000);
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].write_status = 77;
    struct fake_done get = fake_call(cluster, CLIENT_GET, "a", NULL);
    struct fake_done put = fake_call(cluster, CLIENT_PUT, "b", "1");
    if (get.first.status == 0)
        assert_memory_equal(get.first_value, "1", 1);
    assert_true(get.first.status <= 0);
    assert_int_equal(put.first.status, KHO_EINDOUBT);
    fake_destroy(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_ends_the_first_of_a_batch),
        cmocka_unit_test(test_long_step),
        cmocka_unit_test(test_repair_without_nodes),
        cmocka_unit_test(test_strange_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
