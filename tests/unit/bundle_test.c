/* bundle_test.c: writes that are compressed together, once for all replicas, against three nodes in
 * memory. */
#include "fake_cluster.h"

enum { COUNT = 120, VALUE = 300 };

/* So many puts of one call; values that compress, or noise. */
struct bulk {
    char keys[COUNT][8];
    uint8_t values[COUNT][VALUE];
    struct kho_item items[COUNT];
    struct fake_done done;
};

static void bulk_make(struct bulk *bulk, bool noise)
{
    struct kho_random random;
    kho_random_init(&random, 3);
    memset(&bulk->done, 0, sizeof bulk->done);
    for (int i = 0; i < COUNT; i++) {
        snprintf(bulk->keys[i], sizeof bulk->keys[i], "k%03d", i);
        for (int k = 0; k < VALUE; k++)
            bulk->values[i][k] =
                noise ? (uint8_t)kho_random_next(&random) : (uint8_t)('a' + (i + k) % 20);
        bulk->items[i] = (struct kho_item){
            .key = bulk->keys[i], .key_len = 4, .value = bulk->values[i], .value_len = VALUE};
    }
}

static void bulk_put(struct fake_cluster *cluster, struct bulk *bulk)
{
    kho_call_id call;
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", bulk->items, COUNT, 0,
                                    &bulk->done, cluster->now, &call),
                     0);
}

static uint32_t bulk_held(struct fake_cluster *cluster, const struct bulk *bulk, int node)
{
    uint32_t held = 0;
    for (int i = 0; i < COUNT; i++) {
        struct fake_record *r = fake_find(&cluster->nodes[node], 1, bulk->keys[i], 4);
        held += r != NULL && r->value_len == VALUE && memcmp(r->value, bulk->values[i], VALUE) == 0;
    }
    return held;
}

static void applied(const struct bulk *bulk)
{
    assert_true(bulk->done.come);
    assert_int_equal(bulk->done.done.status, 0);
    assert_int_equal(bulk->done.first.outcome, KHO_APPLIED);
}

/* A batch goes out compressed, the same bytes to each node, in blocks of about one size. */
static void test_same_bytes_to_all(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    static struct bulk bulk;
    bulk_make(&bulk, false);
    fake_call(cluster, CLIENT_PUT, "warm", "up");
    bulk_put(cluster, &bulk);
    fake_run(cluster, 5000, NULL);
    applied(&bulk);
    for (int n = 0; n < FAKE_NODES; n++) {
        assert_int_equal(cluster->nodes[n].blocks, 3); /* 120 records of 352 bytes */
        assert_memory_equal(cluster->nodes[n].packed.bytes, cluster->nodes[0].packed.bytes, 16);
        assert_int_equal(bulk_held(cluster, &bulk, n), COUNT);
    }
    fake_destroy(cluster);
}

/* What doesn't compress, and what is too little for a block, goes record by record. */
static void test_not_worth_it(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    static struct bulk bulk;
    bulk_make(&bulk, true);
    bulk_put(cluster, &bulk);
    fake_run(cluster, 5000, NULL);
    applied(&bulk);
    struct fake_done one =
        fake_call(cluster, CLIENT_PUT, "one", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_int_equal(one.first.outcome, KHO_APPLIED);
    for (int n = 0; n < FAKE_NODES; n++) {
        assert_int_equal(cluster->nodes[n].blocks, 0);
        assert_int_equal(bulk_held(cluster, &bulk, n), COUNT);
    }
    fake_destroy(cluster);
}

/* A node that is away gets the same blocks when it is back, and a connection that breaks in the
 * middle sends them again. */
static void test_again_after_a_break(void **state)
{
    (void)state;
    for (int steps = 0; steps < 12; steps++) {
        struct fake_cluster *cluster = fake_open();
        static struct bulk bulk;
        bulk_make(&bulk, false);
        fake_call(cluster, CLIENT_PUT, "warm", "up");
        fake_node_down(cluster, 2);
        bulk_put(cluster, &bulk);
        for (int i = 0; i < steps; i++)
            fake_step(cluster);
        fake_break(cluster, steps % 2);
        fake_run(cluster, 1500, NULL);
        applied(&bulk);
        cluster->nodes[2].down = false;
        fake_run(cluster, 5000, NULL);
        for (int n = 0; n < FAKE_NODES; n++)
            assert_int_equal(bulk_held(cluster, &bulk, n), COUNT);
        assert_true(cluster->nodes[2].blocks >= 3);
        fake_destroy(cluster);
    }
}

/* A record that is stamped anew leaves its bundle: the others go on, and it carries the new
 * version. */
static void test_stamped_anew(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    static struct bulk bulk;
    bulk_make(&bulk, false);
    for (int n = 0; n < FAKE_NODES; n++)
        cluster->nodes[n].write_status = KHO_ESTALE;
    bulk_put(cluster, &bulk);
    for (int i = 0; i < 40 && cluster->nodes[2].writes < COUNT; i++)
        fake_step(cluster);
    for (int n = 0; n < FAKE_NODES; n++)
        cluster->nodes[n].write_status = 0;
    fake_run(cluster, 5000, NULL);
    applied(&bulk);
    for (int n = 0; n < FAKE_NODES; n++) {
        assert_int_equal(bulk_held(cluster, &bulk, n), COUNT);
        assert_true(cluster->nodes[n].blocks >= 6);
    }
    fake_destroy(cluster);
}

/* Calls under way that are thrown away at any moment leave nothing behind. */
static void test_destroyed_in_the_middle(void **state)
{
    (void)state;
    for (int steps = 0; steps < 25; steps++) {
        struct fake_cluster *cluster = fake_open();
        static struct bulk bulk;
        bulk_make(&bulk, false);
        bulk_put(cluster, &bulk);
        for (int i = 0; i < steps; i++)
            fake_step(cluster);
        fake_destroy(cluster); /* sees that all memory is back */
    }
}

/* Each allocation fails once, alone or with all after it: the call ends, and nothing leaks. */
static void test_failing_allocations(void **state)
{
    (void)state;
    for (int on = 0; on < 2; on++) {
        bool over = false;
        for (uint64_t n = 1; !over; n++) {
            struct fake_cluster *cluster = fake_open();
            static struct bulk bulk;
            kho_call_id call;
            bulk_make(&bulk, false);
            fake_call(cluster, CLIENT_PUT, "warm", "up");
            cluster->fail_at = cluster->allocations + n;
            cluster->fail_on = on == 1;
            int taken = client_records(cluster->client, CLIENT_PUT, "people", bulk.items, COUNT,
                                       3000, &bulk.done, cluster->now, &call);
            assert_true(taken == 0 || taken == -ENOMEM);
            fake_run(cluster, 4000, taken == 0 ? &bulk.done : NULL);
            assert_int_equal(bulk.done.come, taken == 0);
            over = cluster->allocations < cluster->fail_at;
            fake_destroy(cluster);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes_to_all),       cmocka_unit_test(test_not_worth_it),
        cmocka_unit_test(test_again_after_a_break),     cmocka_unit_test(test_stamped_anew),
        cmocka_unit_test(test_destroyed_in_the_middle), cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
