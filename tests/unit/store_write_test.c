/* store_write_test.c: what is written is read back, listed and counted, in the order of its
 * commits. */
#include "store_story.h"

#include <errno.h>

/* Written records are read back, before and after a clean restart, of two collections, with
 * tombstones, empty and large values. */
static void write_restart_read(void **state)
{
    struct rig *rig = *state;
    rig->options.segment_bytes = 32u << 20;
    rig_ready(rig);
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 0) {
            for (uint32_t i = 0; i < 500; i++)
                put(rig, 1 + i % 2, i, 1, i * 7 % 900);
            put(rig, 1, 1000, 1, KHO_VALUE_MAX);
            put(rig, 1, 1001, 1, 100000);
            rig_run(rig);
            put(rig, 1, 4, 2, RIG_TOMBSTONE);
            put(rig, 2, 5, 2, 33);
            rig_run(rig);
        }
        for (uint32_t i = 0; i < 500; i++)
            if (i != 4 && i != 5)
                assert_int_equal(check(rig, 1 + i % 2, i, 1, i * 7 % 900), 0);
        assert_int_equal(check(rig, 1, 1000, 1, KHO_VALUE_MAX), 0);
        assert_int_equal(check(rig, 1, 1001, 1, 100000), 0);
        assert_int_equal(check(rig, 1, 4, 2, RIG_TOMBSTONE), 0);
        assert_int_equal(check(rig, 2, 5, 2, 33), 0);
        assert_int_equal(check(rig, 1, 99999, 1, 0), KHO_ENOTFOUND);
        uint64_t durable = store_durable(rig->store);
        rig_stop(rig);
        assert_int_equal(store_phase(rig->store), STORE_STOPPED);
        rig_crash(rig);
        assert_int_equal(store_phase(rig->store), STORE_READY);
        assert_true(store_durable(rig->store) >= durable);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    }
}

/* The digest after a restart is that before it. */
static void digest_survives(void **state)
{
    struct rig *rig = *state;
    struct wire_digest_entry before[RIG_PARTITIONS], after;
    rig_ready(rig);
    for (uint32_t i = 0; i < 300; i++)
        put(rig, 1, i, 1 + i % 3, 100);
    for (uint32_t i = 0; i < 100; i++)
        put(rig, 1, i, 9, i % 4 == 0 ? RIG_TOMBSTONE : 50);
    rig_run(rig);
    for (uint32_t p = 0; p < RIG_PARTITIONS; p++)
        assert_true(store_digest(rig->store, 1, p, &before[p]));
    rig_crash(rig);
    for (uint32_t p = 0; p < RIG_PARTITIONS; p++) {
        assert_true(store_digest(rig->store, 1, p, &after));
        assert_memory_equal(&after, &before[p], sizeof after);
    }
}

/* R1: commits complete in reverse, but nothing is visible or durable before what precedes it. */
static void commits_land_in_order(void **state)
{
    struct rig *rig = *state;
    uint64_t sequence[3];
    rig_ready(rig);
    uint64_t before = store_durable(rig->store);
    rig->hold_commits = true;
    rig->reversed = true;
    for (uint32_t i = 0; i < 3; i++) {
        struct rig_key key = rig_key(1, i);
        assert_int_equal(rig_put(rig, &key, T0 + 1, i + 1, 40, false, &sequence[i]), 0);
        rig_run(rig);
        assert_int_equal(rig_probe(rig, &key, NULL), WIRE_ABSENT);
    }
    assert_int_equal(rig->held_count, 3);
    for (uint32_t i = 0; i < 2; i++) {
        struct op *op = rig->held[--rig->held_count];
        memory_disk_execute(&rig->disk, op);
        store_completed(rig->store, op, rig->now);
        assert_int_equal(store_durable(rig->store), before);
        assert_int_equal(check(rig, 1, 2, 1, 40), KHO_ENOTFOUND);
    }
    rig_release(rig);
    assert_int_equal(store_durable(rig->store), sequence[2]);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(check(rig, 1, i, 1, 40), 0);
}

/* What is in flight decides a second write of the key: lower and same versions wait with it,
 * another value under the same version is refused. */
static void pending_rules(void **state)
{
    struct rig *rig = *state;
    struct rig_key key = rig_key(1, 7);
    uint64_t first, second, reached;
    rig_ready(rig);
    rig->hold_commits = true;
    assert_int_equal(rig_put(rig, &key, T0 + 5, 1, 40, false, &first), 0);
    rig_run(rig);
    assert_int_equal(rig_put(rig, &key, T0 + 5, 1, 40, false, &second), 0);
    assert_int_equal(second, first);
    assert_int_equal(rig_put(rig, &key, T0 + 4, 2, 40, false, &second), 0);
    assert_int_equal(second, first);
    assert_int_equal(rig_put(rig, &key, T0 + 5, 2, 40, false, &second), KHO_ECONFLICT);
    assert_int_equal(rig_put(rig, &key, T0 + 6, 3, 40, false, &second), 0);
    assert_true(second > first);
    rig->hold_commits = false;
    rig_release(rig);
    rig_run(rig);
    assert_int_equal(rig_check(rig, &key, T0 + 6, 3, 40), 0);
    /* Durable: an equal or lower version is acknowledged at once, a conflict seen in the cache. */
    assert_int_equal(rig_put(rig, &key, T0 + 5, 2, 40, false, &reached), 0);
    assert_true(reached <= store_durable(rig->store));
    assert_int_equal(rig_put(rig, &key, T0 + 6, 3, 40, false, &reached), 0);
    assert_true(reached <= store_durable(rig->store));
    assert_int_equal(rig_put(rig, &key, T0 + 6, 4, 40, false, &reached), KHO_ECONFLICT);
    assert_int_equal(rig_put(rig, &key, T0 + 6, 4, RIG_TOMBSTONE, false, &reached), KHO_ECONFLICT);
}

/* R6: a first-hand counter more than a day ahead is refused, a copy isn't. */
static void too_far_ahead(void **state)
{
    struct rig *rig = *state;
    struct rig_key key = rig_key(1, 7);
    uint64_t limit = version_counter_at(rig->now.wall_ms + KHO_COUNTER_AHEAD_MS);
    rig_ready(rig);
    assert_int_equal(rig_put(rig, &key, limit + 1, 1, 10, false, NULL), KHO_ETOOFAR);
    assert_int_equal(rig_put(rig, &key, limit, 1, 10, false, NULL), 0);
    assert_int_equal(rig_put(rig, &key, limit + 10, 1, 10, false, NULL), 0);
    struct rig_key other = rig_key(1, 8);
    assert_int_equal(rig_put(rig, &other, KHO_COUNTER_MAX, 1, 10, true, NULL), 0);
    rig_run(rig);
}

/* Segments follow one another; what was written long ago is still found, also after a crash. */
static void many_segments(void **state)
{
    struct rig *rig = *state;
    uint64_t stats[STAT_COUNT] = {0};
    rig_ready(rig);
    for (uint32_t i = 0; i < 300; i++) {
        struct rig_key key = rig_key(1, i);
        while (rig_put(rig, &key, T0 + 1, i + 1, 50000, false, NULL) == -EAGAIN)
            rig_run(rig);
        if (i % 5 == 0)
            rig_run(rig);
    }
    rig_run(rig);
    store_stats(rig->store, stats);
    assert_true(stats[STAT_segments] > 3);
    assert_int_equal(stats[STAT_written], 300);
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < 300; i++)
            assert_int_equal(check(rig, 1, i, 1, 50000), 0);
        rig_crash(rig);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    }
}

/* Many reads at once: more than there are fetches, several of one block, ended late. */
static void many_reads(void **state)
{
    struct rig *rig = *state;
    enum { READS = 200 };
    static struct store_read reads[READS];
    struct rig_key keys[READS];
    struct store_done done;
    uint32_t finished = 0;
    rig_ready(rig);
    for (uint32_t i = 0; i < READS; i++) {
        keys[i] = rig_key(1, i);
        put(rig, 1, i, 1, i % 10 == 9 ? 40000 : 300);
        if (i % 4 == 0)
            rig_run(rig);
    }
    rig_run(rig);
    rig_crash(rig);
    uint64_t stats[STAT_COUNT] = {0};
    for (uint32_t i = 0; i < READS; i++) {
        memset(&reads[i], 0, sizeof reads[i]);
        reads[i].collection = 1;
        reads[i].partition = keys[i].partition;
        reads[i].hash = keys[i].hash;
        reads[i].key = i % 3 == 0 ? NULL : keys[i].key;
        reads[i].key_len = i % 3 == 0 ? 0 : keys[i].key_len;
        assert_false(store_read(rig->store, &reads[i], rig->now));
    }
    assert_int_equal(store_reads_pending(rig->store), READS);
    rig_run(rig);
    while (store_next_done(rig->store, &done)) {
        assert_int_equal(done.read->status, 0);
        assert_true(record_value_matches(&done.read->record));
        finished++;
    }
    assert_int_equal(finished, READS);
    for (uint32_t i = 0; i < READS; i++) {
        assert_int_equal(reads[i].record.key_len, keys[i].key_len);
        assert_memory_equal(reads[i].record.key, keys[i].key, keys[i].key_len);
        store_read_end(rig->store, &reads[i]);
    }
    store_stats(rig->store, stats);
    assert_true(stats[STAT_disk_reads] < READS);
}

/* Listing walks the tags of a partition in order, and names states. */
static void listing(void **state)
{
    struct rig *rig = *state;
    uint32_t found = 0, tombstones = 0;
    rig_ready(rig);
    for (uint32_t i = 0; i < 200; i++)
        put(rig, 1, i, 1, i % 10 == 0 ? RIG_TOMBSTONE : 10);
    rig_run(rig);
    for (uint32_t p = 0; p < RIG_PARTITIONS; p++) {
        struct key_tag from = {0};
        struct wire_list_entry entry;
        while (store_next(rig->store, 1, p, from, &entry)) {
            assert_true(key_tag_compare(entry.tag, from) >= 0);
            found++;
            tombstones += entry.state == WIRE_TOMBSTONE;
            from = entry.tag;
            from.high += from.low == UINT8_MAX;
            from.low++;
        }
    }
    assert_int_equal(found, 200);
    assert_int_equal(tombstones, 20);
    uint32_t ids[4];
    assert_int_equal(store_collections(rig->store, ids, 4), 1);
    assert_int_equal(ids[0], 1);
}

int main(void)
{
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORE_TEST(write_restart_read),
        STORE_TEST(digest_survives),
        STORE_TEST(commits_land_in_order),
        STORE_TEST(pending_rules),
        STORE_TEST(too_far_ahead),
        STORE_TEST(many_segments),
        STORE_TEST(many_reads),
        STORE_TEST(listing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
