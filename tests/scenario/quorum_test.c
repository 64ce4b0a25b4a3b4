/* quorum_test.c: what a majority can do and a minority can't. */
#include "story.h"

/* Records are put, read, overwritten and deleted on three whole nodes. */
static void test_put_get_del(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 1);
    story_expect(s, "a", NULL);
    story_put(s, "a", "first");
    story_expect(s, "a", "first");
    story_put(s, "a", "second");
    story_expect(s, "a", "second");
    struct outcome o = story_write(s, s->client, CLIENT_DEL, "a", NULL, NULL, 0);
    assert_int_equal(o.status, 0);
    story_expect(s, "a", NULL);
    story_put(s, "empty", "");
    story_expect(s, "empty", "");
    story_flush(s);
    story_expect_verified(s);
    story_end(s);
}

/* One node dead, whichever: nothing fails, and it catches up by repair when it is back. */
static void test_one_node_dead(void **state)
{
    (void)state;
    for (unsigned dead = 0; dead < 3; dead++) {
        struct story *s = story_begin(NULL, 2 + dead);
        story_put(s, "before", "1");
        node_kill(&s->nodes[dead]);
        story_expect(s, "before", "1");
        story_fill(s, "r", 20);
        story_expect_filled(s, s->client, "r", 20);
        story_start(s, dead);
        story_expect_filled(s, s->client, "r", 20);
        assert_int_equal(story_repair(s, NULL), 0);
        story_expect_verified(s);
        /* What repair brought is read when another node is dead. */
        node_kill(&s->nodes[(dead + 1) % 3]);
        story_expect_filled(s, s->client, "r", 20);
        story_end(s);
    }
}

/* Two dead: reads and writes end as unavailable before their deadline; after a node is back, all
 * goes on. */
static void test_two_nodes_dead(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 5);
    story_put(s, "a", "1");
    node_kill(&s->nodes[0]);
    node_power_cut(&s->nodes[1]);
    story_run_ms(s, 10);
    struct outcome o = story_read(s, s->client, CLIENT_GET, "a", 8000);
    assert_int_equal(o.status, KHO_EUNAVAILABLE);
    assert_true(o.took_ms < 8000);
    o = story_write(s, s->client, CLIENT_PUT, "a", "2", NULL, 8000);
    assert_int_equal(o.status, KHO_EUNAVAILABLE);
    assert_int_equal(o.outcome, KHO_NOT_APPLIED);
    assert_true(o.took_ms < 8000);
    story_start(s, 0);
    story_run_ms(s, 5000);
    story_expect(s, "a", "1");
    story_put(s, "a", "3");
    story_expect(s, "a", "3");
    story_end(s);
}

/* A write that was sent before the majority went is in doubt, and its token brings it to an end. */
static void test_sent_write_is_in_doubt(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 6);
    story_put(s, "a", "1");
    struct answer a = {0};
    struct kho_item item = {.key = "a", .key_len = 1, .value = "2", .value_len = 1};
    /* Two disks stand still: the write reaches the nodes and isn't acknowledged. */
    vdisk_faults(s->nodes[0].disk)->write_ns = 3600 * SIM_S;
    vdisk_faults(s->nodes[1].disk)->write_ns = 3600 * SIM_S;
    assert_int_equal(answer_records(&a, s->client, CLIENT_PUT, "records", &item, 1, 6000), 0);
    story_run_ms(s, 100);
    assert_false(a.done);
    node_kill(&s->nodes[0]);
    node_kill(&s->nodes[1]);
    assert_true(answer_wait(&a, s->client, 60 * SIM_S));
    assert_int_equal(a.results[0].status, KHO_EINDOUBT);
    assert_int_equal(a.results[0].outcome, KHO_IN_DOUBT);
    assert_true(a.ended_ns - a.begun_ns <= 6020 * SIM_MS);
    struct kho_token token = a.results[0].token;
    struct kho_version version = a.results[0].version;
    answer_fini(&a);
    for (unsigned i = 0; i < 2; i++) {
        vdisk_faults(s->nodes[i].disk)->write_ns = 200 * SIM_US;
        story_start(s, i);
    }
    story_run_ms(s, 3000);
    struct outcome o = story_write(s, s->client, CLIENT_PUT, "a", "2", &token, 0);
    assert_int_equal(o.status, 0);
    assert_int_equal(o.version.counter, version.counter);
    assert_int_equal(o.version.writer, version.writer);
    story_expect(s, "a", "2");
    /* A token of another value is refused at once. */
    item.value = "3";
    item.token = &token;
    assert_int_equal(answer_records(&a, s->client, CLIENT_PUT, "records", &item, 1, 0), KHO_ETOKEN);
    story_end(s);
}

/* A node that lagged is brought up to date by the read that notices it. */
static void test_read_writes_back(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 7);
    story_put(s, "a", "1");
    story_flush(s);
    node_kill(&s->nodes[2]);
    story_put(s, "a", "2");
    struct wire_probe_answer newest = story_probe(s, 0, "a");
    /* The writer is gone, so that only the read can help the node that was away. */
    client_end_crash(s->client);
    story_start(s, 2);
    assert_true(version_compare(story_probe(s, 2, "a").version, newest.version) < 0);
    node_kill(&s->nodes[1]);
    client_end_start(s->client);
    story_expect(s, "a", "2");
    story_run_ms(s, 100);
    assert_int_equal(version_compare(story_probe(s, 2, "a").version, newest.version), 0);
    story_end(s);
}

/* A stopped process slows calls down, but fails none. */
static void test_stopped_node(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 8);
    story_fill(s, "x", 3);
    node_sleep(&s->nodes[1], 20 * SIM_S);
    story_fill(s, "y", 10);
    story_expect_filled(s, s->client, "x", 3);
    story_expect_filled(s, s->client, "y", 10);
    story_run_ms(s, 25000);
    assert_int_equal(story_repair(s, NULL), 0);
    story_expect_verified(s);
    story_end(s);
}

/* A node whose disk is slow: reads that it leaves waiting are asked of another one as soon as they
 * are later than the others' usually are, long before hedge_ms. */
static void test_slow_disk(void **state)
{
    (void)state;
    struct cluster_options options;
    cluster_options_init(&options);
    options.hedge_ms = 1500;
    options.footer_entries = 5; /* so that a start doesn't read, and keep, the blocks */
    struct story *s = story_begin(&options, 11);
    story_fill(s, "x", 200);
    story_flush(s);
    story_expect_filled(s, s->client, "x", 200);
    /* A start empties its cache. */
    node_kill(&s->nodes[1]);
    story_start(s, 1);
    vdisk_faults(s->nodes[1].disk)->read_ns = SIM_S;
    uint64_t reads = node_stat(&s->nodes[1], STAT_disk_reads);
    for (unsigned i = 0; i < 200; i++) {
        char key[8];
        snprintf(key, sizeof key, "x%u", i);
        struct outcome o = story_read(s, s->client, CLIENT_GET, key, 0);
        assert_int_equal(o.status, 0);
        assert_true(o.took_ms < 500);
    }
    assert_true(node_stat(&s->nodes[1], STAT_disk_reads) > reads);
    story_end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_get_del),      cmocka_unit_test(test_one_node_dead),
        cmocka_unit_test(test_two_nodes_dead),   cmocka_unit_test(test_sent_write_is_in_doubt),
        cmocka_unit_test(test_read_writes_back), cmocka_unit_test(test_stopped_node),
        cmocka_unit_test(test_slow_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
