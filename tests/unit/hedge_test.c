/* hedge_test.c: whom a read asks, and when it asks others, too, in virtual time. */
#include "fake_cluster.h"

#define MS CLIENT_MS_NS

static struct fake_cluster *open_with(uint32_t hedge_ms)
{
    struct fake_cluster *cluster = fake_create();
    struct kho_options options = fake_options(cluster);
    options.hedge_ms = hedge_ms;
    assert_int_equal(client_create(&options, 42, cluster->now, &cluster->client), 0);
    return cluster;
}

static void delay_all(struct fake_cluster *cluster, uint64_t delay_ns)
{
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].delay_ns = delay_ns;
}

static uint32_t asked(const struct fake_cluster *cluster)
{
    uint32_t sum = 0;
    for (int i = 0; i < FAKE_NODES; i++)
        sum += cluster->nodes[i].reads + cluster->nodes[i].probes;
    return sum;
}

/* One get that must find the value; returns how long it took. */
static uint64_t get_ns(struct fake_cluster *cluster)
{
    uint64_t since = cluster->now.mono_ns;
    struct fake_done get = fake_call(cluster, CLIENT_GET, "k", NULL);
    assert_int_equal(get.first.status, 0);
    assert_memory_equal(get.first_value, "v", 1);
    return cluster->now.mono_ns - since;
}

/* A cluster that has the record, of whose nodes the client knows how long they take: 2 ms. */
static struct fake_cluster *warm(uint32_t hedge_ms)
{
    struct fake_cluster *cluster = open_with(hedge_ms);
    assert_int_equal(fake_call(cluster, CLIENT_PUT, "k", "v").first.status, 0);
    fake_run(cluster, 100, NULL);
    delay_all(cluster, 2 * MS);
    for (int i = 0; i < 300; i++)
        assert_int_equal(get_ns(cluster), 2 * MS);
    return cluster;
}

/* Where all is well a read asks two of three, one of them for the record, and all take turns. */
static void test_asks_a_majority(void **state)
{
    (void)state;
    struct fake_cluster *cluster = warm(50);
    uint32_t before = asked(cluster), reads[FAKE_NODES];
    for (int i = 0; i < FAKE_NODES; i++)
        reads[i] = cluster->nodes[i].reads;
    for (int i = 0; i < 300; i++)
        get_ns(cluster);
    assert_int_equal(asked(cluster) - before, 600);
    for (int i = 0; i < FAKE_NODES; i++)
        assert_int_equal(cluster->nodes[i].reads - reads[i], 100);
    fake_destroy(cluster);
}

/* Neighbours of a call are read from one replica, and many of them from all in turn. */
static void test_neighbours(void **state)
{
    (void)state;
    struct fake_cluster *cluster = warm(50);
    char keys[192][8];
    struct kho_item items[192];
    for (uint32_t i = 0; i < 192; i++) {
        snprintf(keys[i], sizeof keys[i], "n%u", i);
        items[i] = (struct kho_item){.key = keys[i], .key_len = strlen(keys[i])};
    }
    for (uint32_t count = 48; count <= 192; count += 144) {
        uint32_t reads[FAKE_NODES], readers = 0;
        struct fake_done done = {0};
        kho_call_id call;
        for (int i = 0; i < FAKE_NODES; i++)
            reads[i] = cluster->nodes[i].reads;
        assert_int_equal(client_records(cluster->client, CLIENT_GET, "people", items, count, 0,
                                        &done, cluster->now, &call),
                         0);
        fake_run(cluster, 1000, &done);
        assert_true(done.come);
        for (int i = 0; i < FAKE_NODES; i++)
            readers += cluster->nodes[i].reads > reads[i];
        assert_int_equal(readers, count == 48 ? 1 : FAKE_NODES);
    }
    fake_destroy(cluster);
}

/* A slow node is hedged at what the others take, long before hedge_ms; once it is known to be slow
 * it is left alone for two seconds, and then tried again. */
static void test_slow_node(void **state)
{
    (void)state;
    struct fake_cluster *cluster = warm(500);
    struct fake_node *slow = &cluster->nodes[1];
    slow->delay_ns = 200 * MS;
    uint32_t hedged = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t took = get_ns(cluster);
        assert_true(took <= 5 * MS);
        hedged += took > 2 * MS;
    }
    assert_true(hedged >= 16);
    /* Its first answers come in now. */
    fake_run(cluster, 300, NULL);
    uint32_t before = slow->reads + slow->probes;
    for (int i = 0; i < 100; i++)
        assert_int_equal(get_ns(cluster), 2 * MS);
    assert_int_equal(slow->reads + slow->probes, before);
    /* However long it was slow, one or two tries show that it isn't any more. */
    for (int i = 0; i < 4000; i++)
        get_ns(cluster);
    fake_run(cluster, 300, NULL);
    slow->delay_ns = 2 * MS;
    for (int i = 0; i < 2; i++) {
        fake_run(cluster, 2000, NULL);
        for (int k = 0; k < 100; k++)
            assert_int_equal(get_ns(cluster), 2 * MS);
    }
    before = slow->reads + slow->probes;
    for (int i = 0; i < 300; i++)
        get_ns(cluster);
    assert_int_equal(slow->reads + slow->probes, before + 200);
    fake_destroy(cluster);
}

/* So many gets at once, over and over; all must end well. */
static void get_many(struct fake_cluster *cluster, uint32_t rounds, uint32_t at_once)
{
    struct fake_done done[64];
    for (uint32_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < at_once; i++) {
            fake_submit(cluster, CLIENT_GET, "people", "k", NULL, NULL, 0, &done[i]);
            fake_step(cluster);
        }
        for (uint32_t i = 0; i < at_once; i++) {
            fake_run(cluster, 20000, &done[i]);
            assert_true(done[i].come);
            assert_int_equal(done[i].first.status, 0);
        }
    }
}

/* When all nodes are slow at once, hedges stay what they are allowed to be, however late the
 * answers: one read in twenty. */
static void test_overload(void **state)
{
    (void)state;
    struct fake_cluster *cluster = warm(500);
    delay_all(cluster, 400 * MS);
    /* With all that was saved, every late read is hedged; */
    uint32_t before = asked(cluster);
    get_many(cluster, 1, 50);
    fake_run(cluster, 1000, NULL);
    assert_true(asked(cluster) - before > 2 * 50 + 25);
    /* with nothing saved, few are. What is known of the nodes is kept as it was. */
    uint64_t after_ns[SLOT_KINDS];
    memcpy(after_ns, cluster->client->hedge_after_ns, sizeof after_ns);
    cluster->client->hedge_budget = 0;
    before = asked(cluster);
    for (int round = 0; round < 10; round++) {
        memcpy(cluster->client->hedge_after_ns, after_ns, sizeof after_ns);
        get_many(cluster, 1, 50);
    }
    fake_run(cluster, 1000, NULL);
    assert_in_range(asked(cluster) - before, 2 * 500 + 10, 2 * 500 + 500 / 20);
    fake_destroy(cluster);
}

/* What is late for all isn't late: the bound follows. */
static void test_bound_follows(void **state)
{
    (void)state;
    struct fake_cluster *cluster = warm(500);
    delay_all(cluster, 20 * MS);
    get_many(cluster, 60, 20);
    assert_in_range(cluster->client->hedge_after_ns[SLOT_READ], 20 * MS, 26 * MS);
    assert_in_range(cluster->client->hedge_after_ns[SLOT_PROBE], 20 * MS, 26 * MS);
    delay_all(cluster, 100000);
    get_many(cluster, 900, 20);
    /* Answers in a tenth of a millisecond are hedged after a whole one. */
    assert_true(cluster->client->hedge_after_ns[SLOT_READ] < MS);
    cluster->nodes[2].delay_ns = 300 * MS;
    for (int i = 0; i < 12; i++)
        assert_true(get_ns(cluster) <= MS + UINT64_C(200000));
    fake_destroy(cluster);
}

/* UINT32_MAX: one READ a get, whatever its node takes. */
static void test_never(void **state)
{
    (void)state;
    struct fake_cluster *cluster = warm(UINT32_MAX);
    uint32_t before = asked(cluster), late = 0;
    cluster->nodes[0].delay_ns = 1500 * MS;
    for (int i = 0; i < 6; i++)
        late += get_ns(cluster) == 1500 * MS;
    assert_int_equal(late, 2);
    fake_run(cluster, 2000, NULL);
    assert_int_equal(asked(cluster) - before, 3 * 6);
    fake_destroy(cluster);
}

/* A node that falls silent is hedged after hedge_ms even with nothing left to spend, then left out
 * at once; when it speaks again over a new connection, it is asked again. */
static void test_silent_node(void **state)
{
    (void)state;
    struct fake_cluster *cluster = warm(50);
    struct fake_node *silent = &cluster->nodes[2];
    silent->mute = true;
    for (int i = 0; i < 6; i++) {
        cluster->client->hedge_budget = 0;
        assert_true(get_ns(cluster) <= 54 * MS);
    }
    for (int i = 0; i < 50; i++)
        assert_int_equal(get_ns(cluster), 2 * MS);
    uint32_t hellos = silent->hellos, before = silent->reads;
    fake_run(cluster, 2500, NULL);
    silent->mute = false;
    fake_run(cluster, 4000, NULL);
    assert_true(silent->hellos > hellos);
    for (int i = 0; i < 30; i++)
        assert_int_equal(get_ns(cluster), 2 * MS);
    assert_true(silent->reads > before);
    fake_destroy(cluster);
}

/* A step that takes long makes nobody late: the time counts from when the request was sent. */
static void test_long_step(void **state)
{
    (void)state;
    struct fake_cluster *cluster = warm(500);
    struct client_op *op;
    struct fake_done get;
    uint32_t before = asked(cluster);
    fake_submit(cluster, CLIENT_GET, "people", "k", NULL, NULL, 0, &get);
    client_step_end(cluster->client, cluster->now);
    cluster->now.mono_ns += 300 * MS;
    while ((op = client_next_op(cluster->client)) != NULL)
        fake_op(cluster, op);
    client_tick(cluster->client, cluster->now);
    fake_run(cluster, 1000, &get);
    assert_true(get.come);
    assert_int_equal(asked(cluster) - before, 2);
    fake_destroy(cluster);
}

/* The two that are asked differ: the third is asked, too, and the newer record is brought to a
 * majority before it is returned. */
static void test_votes_differ(void **state)
{
    (void)state;
    for (int holder = 0; holder < FAKE_NODES; holder++) {
        struct fake_cluster *cluster = warm(50);
        uint32_t seen = 0;
        fake_place(cluster, holder, "k", "w", UINT64_C(1) << 62);
        for (int i = 0; i < 3 && seen == 0; i++) {
            struct fake_done get = fake_call(cluster, CLIENT_GET, "k", NULL);
            assert_int_equal(get.first.status, 0);
            seen = get.first_value[0] == 'w';
            assert_true(!seen || fake_holders(cluster, "k", "w") >= 2);
        }
        assert_true(seen);
        fake_destroy(cluster);
    }
}

/* One of the two is suspect, can't say, or has lost the value: the third is asked at once. */
static void test_no_vote(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct fake_cluster *cluster = warm(50);
        struct fake_node *bad = &cluster->nodes[1];
        bad->suspect = kind == 0;
        bad->unknown = kind == 1;
        bad->rotten = kind == 2;
        for (int i = 0; i < 12; i++)
            assert_true(get_ns(cluster) <= 4 * MS);
        fake_destroy(cluster);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asks_a_majority), cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_slow_node),       cmocka_unit_test(test_overload),
        cmocka_unit_test(test_bound_follows),   cmocka_unit_test(test_never),
        cmocka_unit_test(test_silent_node),     cmocka_unit_test(test_long_step),
        cmocka_unit_test(test_votes_differ),    cmocka_unit_test(test_no_vote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
