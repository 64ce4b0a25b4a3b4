/* store_crash_test.c: what was acknowledged is there after a crash at any moment; a torn tail is no
 * rot. */
#include "node/store_inside.h"
#include "store_story.h"

/* When idle an empty commit marks the end, once. */
static void idle_mark(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    put(rig, 1, 1, 1, 10);
    rig_run(rig);
    uint64_t written = store_durable(rig->store);
    assert_true(store_deadline(rig->store) <= rig->now.mono_ns + 50 * 1000000);
    rig_pass(rig, 49);
    assert_int_equal(store_durable(rig->store), written);
    rig_pass(rig, 2);
    assert_int_equal(store_durable(rig->store), written + 1);
    rig_pass(rig, 500);
    assert_int_equal(store_durable(rig->store), written + 1);
}

/* Writes records until the `crash`-th op, drops what wasn't stable, and looks for all that was
 * acknowledged. Returns false if the run ended without a crash. */
static bool crash_run(struct rig *rig, uint64_t crash)
{
    uint32_t acknowledged = 0;
    uint64_t sequences[40];
    rig->crash_at = crash;
    rig_start(rig);
    if (!rig->crashed && store_phase(rig->store) == STORE_READY) {
        rig_map_build(rig, 1, 0, 1);
        rig_map_set(rig);
    }
    for (uint32_t i = 0; i < 40 && !rig->crashed; i++) {
        struct rig_key key = rig_key(1 + i % 2, i);
        int status =
            rig_put(rig, &key, T0 + 1, i + 1, i % 10 == 0 ? 60000 : 200, false, &sequences[i]);
        assert_int_equal(status, 0);
        if (i % 3 == 2)
            rig_run(rig);
        while (acknowledged <= i && sequences[acknowledged] <= store_durable(rig->store))
            acknowledged++;
        if (i % 16 == 15 && !rig->crashed)
            rig_pass(rig, 60);
    }
    if (!rig->crashed)
        rig_stop(rig);
    bool crashed = rig->crashed;
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    for (uint32_t i = 0; i < acknowledged; i++)
        assert_int_equal(check(rig, 1 + i % 2, i, 1, i % 10 == 0 ? 60000 : 200), 0);
    return crashed;
}

/* A crash at every single op of a life loses nothing that was acknowledged and opens no episode. */
static void crash_at_every_op(void **state)
{
    struct rig *rig = *state;
    uint64_t crash = 0;
    for (bool crashed = true; crashed; crash++) {
        rig_fini(rig);
        rig_init(rig);
        rig->options.footer_entries = 7;
        crashed = crash_run(rig, crash);
    }
    assert_true(crash > 40);
}

/* Writes some commits, the last under way, which then reaches the disk as `mask` says. */
static void torn_commit(struct rig *rig, uint64_t mask)
{
    rig_ready(rig);
    for (uint32_t i = 0; i < 10; i++) {
        put(rig, 1, i, 1, 100);
        rig_run(rig);
    }
    rig->hold_commits = true;
    put(rig, 1, 50, 1, 30000);
    rig_run(rig);
    assert_int_equal(rig->held_count, 1);
    memory_disk_tear(&rig->disk, rig->held[0], mask);
    rig->hold_commits = false;
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(check(rig, 1, i, 1, 100), 0);
}

/* R3: a commit with sectors that never reached the disk is dropped without an episode, whether it
 * is its tail or a part of the middle, and nothing of it revives behind what is written next. */
static void torn_tail(void **state)
{
    struct rig *rig = *state;
    static const uint64_t masks[] = {0x1, 0xFF, 0xFFFFFFFFFFFFFF0F, 0x5555555555555555};
    for (size_t m = 0; m < KHO_COUNT_OF(masks); m++) {
        rig_fini(rig);
        rig_init(rig);
        torn_commit(rig, masks[m]);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
        assert_int_equal(check(rig, 1, 50, 1, 30000), KHO_ENOTFOUND);
        put(rig, 1, 60, 1, 100);
        rig_run(rig);
        rig_crash(rig);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
        assert_int_equal(check(rig, 1, 50, 1, 30000), KHO_ENOTFOUND);
        assert_int_equal(check(rig, 1, 60, 1, 100), 0);
    }
}

/* A commit that reached the disk whole counts, though nobody was told. */
static void whole_tail(void **state)
{
    struct rig *rig = *state;
    torn_commit(rig, UINT64_MAX);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    assert_int_equal(check(rig, 1, 50, 1, 30000), 0);
}

/* R3: a tail without its head, or with other bytes in it, makes the shard suspect: its answers are
 * given, a repair under a raised epoch closes the episode. */
static void garbage_tail(void **state)
{
    struct rig *rig = *state;
    torn_commit(rig, 0xFFFFFFFFFFFFFFFE);
    struct wire_episode episode;
    assert_true(store_suspect(rig->store));
    assert_int_equal(store_episodes(rig->store, &episode, 1), 1);
    assert_int_equal(episode.kind, WIRE_EPISODE_SUSPECT);
    assert_int_equal(episode.partitions, RIG_PARTITIONS);
    assert_int_equal(store_episode_of(rig->store, 0), 0);
    rig_crash(rig);
    assert_true(store_suspect(rig->store));
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
    assert_int_equal(rig_close_episodes(rig), KHO_EEPISODE);
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
    assert_false(store_suspect(rig->store));
    rig_crash(rig);
    assert_false(store_suspect(rig->store));
    assert_int_equal(check(rig, 1, 3, 1, 100), 0);
}

static bool is_footer(const struct op *op)
{
    return op->purpose == PURPOSE_FOOTER;
}

/* The last footer of a segment is on its way while the log goes on in the next one, with `commits`
 * of one record each: they are acknowledged, and a cut that leaves the footer without its head
 * takes none of them, nor is it damage. */
static void torn_last_footer(void **state)
{
    struct rig *rig = *state;
    for (uint32_t commits = 1; commits <= 3; commits++) {
        rig_fini(rig);
        rig_init(rig);
        rig->options.segment_bytes = 1u << 20;
        rig_ready(rig);
        uint32_t first = rig->store->log.current, records = 0;
        for (; rig->store->log.position < (1u << 20) - 100000; records++) {
            put(rig, 1, records, 1, 30000);
            rig_run(rig);
        }
        rig->holds = is_footer;
        for (uint32_t more = 0; more < commits; records++) {
            put(rig, 1, records, 1, 30000);
            rig_run(rig);
            more += rig->store->log.current != first;
        }
        assert_int_equal(rig->held_count, 1);
        assert_true(rig->held[0]->len > 512);
        memory_disk_tear(&rig->disk, rig->held[0], 0xFFFFFFFFFFFFFFFE);
        rig->holds = NULL;
        for (int starts = 0; starts < 2; starts++) {
            rig_crash(rig);
            assert_int_equal(store_phase(rig->store), STORE_READY);
            assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
            for (uint32_t i = 0; i < records; i++)
                assert_int_equal(check(rig, 1, i, 1, 30000), 0);
            put(rig, 1, records++, 1, 30000);
            rig_run(rig);
        }
    }
}

int main(void)
{
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORE_TEST(idle_mark),  STORE_TEST(crash_at_every_op), STORE_TEST(torn_tail),
        STORE_TEST(whole_tail), STORE_TEST(garbage_tail),      STORE_TEST(torn_last_footer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
