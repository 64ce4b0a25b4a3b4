/* damage_test.c: what is rotten, torn or lost is told apart, and heals. */
#include "story.h"

#include <errno.h>

/* A rotten block that no footer stands for: the next start finds it, its node says that the value
 * is unknown, readers get it from the others, repair makes it whole, and then the two others may
 * go. */
static void test_rotten_block(void **state)
{
    (void)state;
    struct cluster_options options;
    cluster_options_init(&options);
    options.footer_entries = 1000;
    struct story *s = story_begin(&options, 1);
    uint8_t value[64];
    story_fill(s, "r", 40);
    story_flush(s);
    story_run_ms(s, 200);
    story_fill_value("r", 17, value);
    assert_true(damage_rot(&s->sim, s->nodes[1].disk, value, sizeof value));
    node_kill(&s->nodes[1]);
    story_start(s, 1);
    struct wire_probe_answer probe = story_probe(s, 1, "r17");
    assert_true(probe.state == WIRE_VALUE_UNKNOWN || probe.state == WIRE_UNKNOWN);
    story_expect_filled(s, s->client, "r", 40);
    struct kho_repair_result repaired;
    assert_int_equal(story_repair(s, &repaired), 0);
    assert_true(repaired.episodes_closed > 0 || repaired.records_copied > 0);
    story_expect_verified(s);
    assert_int_equal(story_probe(s, 1, "r17").state, WIRE_PRESENT);
    node_kill(&s->nodes[0]);
    story_expect_filled(s, s->client, "r", 40);
    story_end(s);
}

/* A rotten block under a footer: its node starts without reading it and knows key and version; a
 * read finds the damage, gets the record from another node, and repair makes it whole. */
static void test_rotten_block_under_a_footer(void **state)
{
    (void)state;
    struct cluster_options options;
    cluster_options_init(&options);
    options.footer_entries = 5;
    struct story *s = story_begin(&options, 1);
    uint8_t value[64];
    story_fill(s, "r", 40);
    story_flush(s);
    story_run_ms(s, 200);
    story_fill_value("r", 17, value);
    assert_true(damage_rot(&s->sim, s->nodes[1].disk, value, sizeof value));
    node_kill(&s->nodes[1]);
    story_start(s, 1);
    struct wire_probe_answer before = story_probe(s, 1, "r17"), probe = before;
    assert_int_equal(before.state, WIRE_PRESENT);
    assert_int_equal(node_stat(&s->nodes[1], STAT_episodes), 0);
    for (unsigned round = 0; round < 50 && probe.state == WIRE_PRESENT; round++) {
        story_expect_filled(s, s->client, "r", 40);
        probe = story_probe(s, 1, "r17");
    }
    assert_int_equal(probe.state, WIRE_VALUE_UNKNOWN);
    assert_int_equal(version_compare(probe.version, before.version), 0);
    /* Those of its block that were asked of this node, too; which depends on the order of readers.
     */
    unsigned unknown = 0;
    for (unsigned i = 0; i < 40; i++) {
        char key[8];
        snprintf(key, sizeof key, "r%u", i);
        unknown += story_probe(s, 1, key).state == WIRE_VALUE_UNKNOWN;
    }
    assert_int_equal(node_stat(&s->nodes[1], STAT_values_unknown), unknown);
    assert_int_equal(story_repair(s, NULL), 0);
    story_expect_verified(s);
    assert_int_equal(story_probe(s, 1, "r17").state, WIRE_PRESENT);
    node_kill(&s->nodes[0]);
    story_expect_filled(s, s->client, "r", 40);
    story_end(s);
}

/* Rot that a read finds while the node is up: the reader gets the right bytes from another. */
static void test_rot_found_by_a_read(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 2);
    uint8_t value[64];
    story_fill(s, "r", 40);
    story_flush(s);
    /* A start empties the caches; then the disks rot, one after the other, at different places. */
    for (unsigned i = 0; i < 3; i++) {
        node_kill(&s->nodes[i]);
        story_start(s, i);
    }
    story_fill_value("r", 9, value);
    assert_true(damage_rot(&s->sim, s->nodes[0].disk, value, sizeof value));
    for (unsigned round = 0; round < 6; round++)
        story_expect_filled(s, s->client, "r", 40);
    assert_int_equal(story_repair(s, NULL), 0);
    story_expect_verified(s);
    story_expect_filled(s, s->client, "r", 40);
    story_end(s);
}

/* A tail that is plainly torn is dropped: the node comes up with all it acknowledged, unsuspected.
 */
static void test_torn_tail(void **state)
{
    (void)state;
    for (uint64_t seed = 10; seed < 16; seed++) {
        struct story *s = story_begin(NULL, seed);
        story_fill(s, "r", 10);
        story_flush(s);
        /* A write is under way on one node when the power goes. */
        struct answer a = {0};
        uint8_t big[30000];
        for (size_t i = 0; i < sizeof big; i++)
            big[i] = (uint8_t)dice_below(&s->sim.dice, 256);
        struct kho_item item = {.key = "t", .key_len = 1, .value = big, .value_len = sizeof big};
        vdisk_faults(s->nodes[1].disk)->write_ns = SIM_S;
        assert_int_equal(answer_records(&a, s->client, CLIENT_PUT, "records", &item, 1, 0), 0);
        story_run_ms(s, 20);
        node_power_cut(&s->nodes[1]);
        vdisk_faults(s->nodes[1].disk)->write_ns = 200 * SIM_US;
        assert_true(answer_wait(&a, s->client, 30 * SIM_S));
        assert_int_equal(a.results[0].status, 0);
        answer_fini(&a);
        story_start(s, 1);
        for (unsigned i = 0; i < 10; i++) {
            char key[8];
            snprintf(key, sizeof key, "r%u", i);
            assert_int_equal(story_probe(s, 1, key).state, WIRE_PRESENT);
        }
        story_expect_filled(s, s->client, "r", 10);
        assert_int_equal(story_repair(s, NULL), 0);
        story_expect_verified(s);
        story_end(s);
    }
}

/* Garbage behind the end makes a shard suspect: alone it costs nothing but votes, while reads with
 * one node dead need all that are left; repair clears it. */
static void test_garbage_tail(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 20);
    story_fill(s, "r", 10);
    story_flush(s);
    story_run_ms(s, 500);
    node_kill(&s->nodes[1]);
    assert_true(damage_scribble(&s->sim, s->nodes[1].disk, 0, 6000));
    story_start(s, 1);
    assert_int_equal(node_stat(&s->nodes[1], STAT_suspect), 1);
    story_expect_filled(s, s->client, "r", 10);
    /* Suspect and dead: no majority of unsuspected nodes, not all either. */
    node_kill(&s->nodes[2]);
    struct outcome o = story_read(s, s->client, CLIENT_GET, "r3", 6000);
    assert_true(o.status == KHO_EUNAVAILABLE || o.status == KHO_EDEADLINE);
    story_start(s, 2);
    story_run_ms(s, 5000);
    story_expect_filled(s, s->client, "r", 10);
    assert_int_equal(story_repair(s, NULL), 0);
    assert_int_equal(node_stat(&s->nodes[1], STAT_suspect), 0);
    story_expect_verified(s);
    node_kill(&s->nodes[2]);
    story_expect_filled(s, s->client, "r", 10);
    story_end(s);
}

/* The power of the whole site goes under load, again and again: all that was acknowledged is there,
 * and nobody has to help. */
static void test_site_power_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 30; seed < 34; seed++) {
        struct story *s = story_begin(NULL, seed);
        for (unsigned round = 0; round < 3; round++) {
            char prefix[16];
            struct answer a = {0};
            struct kho_item item = {.key = "t", .key_len = 1, .value = "x", .value_len = 1};
            snprintf(prefix, sizeof prefix, "r%u-", round);
            story_fill(s, prefix, 8);
            assert_int_equal(answer_records(&a, s->client, CLIENT_PUT, "records", &item, 1, 0), 0);
            cluster_run(s->cluster, dice_below(&s->sim.dice, 2 * SIM_MS));
            for (unsigned i = 0; i < 3; i++)
                node_power_cut(&s->nodes[i]);
            story_run_ms(s, 50);
            for (unsigned i = 0; i < 3; i++)
                story_start(s, i);
            assert_true(answer_wait(&a, s->client, 60 * SIM_S));
            answer_fini(&a);
            story_run_ms(s, 8000); /* a client gives a silent connection up after 5 s */
            for (unsigned before = 0; before <= round; before++) {
                snprintf(prefix, sizeof prefix, "r%u-", before);
                story_expect_filled(s, s->client, prefix, 8);
            }
        }
        story_end(s);
    }
}

/* A folder that was wiped and made anew is refused, until an admin lets it in and repair fills it.
 */
static void test_wiped_node(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 40);
    story_fill(s, "r", 30);
    story_flush(s);
    node_kill(&s->nodes[2]);
    node_wipe(&s->nodes[2]);
    story_start(s, 2);
    assert_int_equal(raw_map_push(&s->nodes[2], s->cluster->map, s->cluster->map_len),
                     KHO_EINCARNATION);
    story_expect_filled(s, s->client, "r", 30);
    struct answer a = {0};
    assert_int_equal(answer_readmit(&a, s->client, "n2", 20000), 0);
    assert_true(answer_wait(&a, s->client, 60 * SIM_S));
    assert_int_equal(a.status, 0);
    answer_fini(&a);
    struct wire_probe_answer probe = story_probe(s, 2, "r5");
    assert_int_equal(probe.state, WIRE_UNKNOWN);
    story_expect_filled(s, s->client, "r", 30);
    assert_int_equal(story_repair(s, NULL), 0);
    story_expect_verified(s);
    assert_int_equal(story_probe(s, 2, "r5").state, WIRE_PRESENT);
    node_kill(&s->nodes[0]);
    story_expect_filled(s, s->client, "r", 30);
    story_end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rotten_block),
        cmocka_unit_test(test_rotten_block_under_a_footer),
        cmocka_unit_test(test_rot_found_by_a_read),
        cmocka_unit_test(test_torn_tail),
        cmocka_unit_test(test_garbage_tail),
        cmocka_unit_test(test_site_power_cut),
        cmocka_unit_test(test_wiped_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
