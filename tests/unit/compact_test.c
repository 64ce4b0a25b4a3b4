/* compact_test.c: compaction gives back what overwritten records took, and changes nothing else:
 * whatever crashes, rots, reads or fills up meanwhile. */
#include "node/place.h"
#include "node/store_inside.h"
#include "tests/lib/store_rig.h"
#include "unit.h"

#include <errno.h>

static const uint64_t T0 = 1700000000000ull << KHO_COUNTER_TIME_BITS;

enum { KEYS = 60 };

/* What was last written of each key of both collections. */
struct shelf {
    uint64_t counter[2][KEYS];
    uint32_t len[2][KEYS];
};

static int setup(void **state)
{
    struct rig *rig = malloc(sizeof *rig);
    assert_non_null(rig);
    rig_init(rig);
    rig->options.segment_bytes = 1u << 20;
    rig->options.compact_dead_percent = 50;
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    rig_fini(*state);
    free(*state);
    return 0;
}

static void put(struct rig *rig, struct shelf *shelf, uint32_t collection, uint32_t number,
                uint32_t len)
{
    struct rig_key key = rig_key(collection, number);
    uint64_t *counter = &shelf->counter[collection - 1][number];
    *counter = *counter == 0 ? T0 : *counter + 1;
    shelf->len[collection - 1][number] = len;
    assert_int_equal(rig_put(rig, &key, *counter, *counter + number, len, false, NULL), 0);
}

static int check(struct rig *rig, const struct shelf *shelf, uint32_t collection, uint32_t number)
{
    struct rig_key key = rig_key(collection, number);
    uint64_t counter = shelf->counter[collection - 1][number];
    if (counter == 0)
        return rig_check(rig, &key, T0, 0, 0) == KHO_ENOTFOUND ? 0 : 1;
    return rig_check(rig, &key, counter, counter + number, shelf->len[collection - 1][number]);
}

static void check_all(struct rig *rig, const struct shelf *shelf)
{
    for (uint32_t i = 0; i < 2 * KEYS; i++)
        assert_int_equal(check(rig, shelf, 1 + i % 2, i / 2), 0);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
}

/* Rounds of writes of all sizes; most of what the first rounds wrote is overwritten. */
static void fill(struct rig *rig, struct shelf *shelf, uint32_t rounds)
{
    for (uint32_t round = 0; round < rounds; round++)
        for (uint32_t i = 0; i < KEYS; i++) {
            uint32_t len = i % 7 == 0 ? 30000 : 200 + i * 17;
            if (round > 0 && i % 10 == 9)
                continue;
            put(rig, shelf, 1, i, i % 11 == 5 && round % 2 == 1 ? RIG_TOMBSTONE : len);
            put(rig, shelf, 2, i, i % 13 == 0 ? 20000 : 300);
            if (i % 5 == 4)
                rig_run(rig);
        }
    rig_run(rig);
}

static uint64_t stat_of(const struct rig *rig, enum wire_stat stat)
{
    uint64_t stats[STAT_COUNT] = {0};
    store_stats(rig->store, stats);
    return stats[stat];
}

static void digests(const struct rig *rig, struct wire_digest_entry *ret)
{
    for (uint32_t i = 0; i < 2 * RIG_PARTITIONS; i++)
        store_digest(rig->store, 1 + i % 2, i / 2, &ret[i]);
}

/* Compaction is on from now on. */
static void switch_on(struct rig *rig)
{
    rig->options.compact_rate = 1ull << 30;
    rig->store->depot.options.compact_rate = rig->options.compact_rate;
}

/* Time for all that compaction finds to do. */
static void settle(struct rig *rig)
{
    for (uint32_t i = 0; i < 300 && !rig->crashed; i++)
        rig_pass(rig, 20);
}

/* Every record and digest is what it was, the disk gets back what isn't needed, and a start finds
 * all of it again. */
static void keeps_all(void **state)
{
    struct rig *rig = *state;
    struct shelf shelf = {0};
    struct wire_digest_entry before[2 * RIG_PARTITIONS], after[2 * RIG_PARTITIONS];
    rig_ready(rig);
    fill(rig, &shelf, 24);
    uint64_t files = stat_of(rig, STAT_segments), dead = stat_of(rig, STAT_dead_bytes);
    digests(rig, before);
    assert_true(files >= 8 && dead > 4u << 20);
    rig_stop(rig);
    rig_kill(rig);
    /* The counts are what they were before the restart, but for what a stop rounds up. */
    assert_true(stat_of(rig, STAT_dead_bytes) + (files << 11) > dead);
    switch_on(rig);
    settle(rig);
    assert_true(stat_of(rig, STAT_segments) <= 4);
    assert_true(stat_of(rig, STAT_dead_bytes) * 2 <= stat_of(rig, STAT_sealed_bytes));
    assert_true(stat_of(rig, STAT_compacted_segments) >= 4);
    check_all(rig, &shelf);
    digests(rig, after);
    assert_memory_equal(before, after, sizeof before);
    rig_crash(rig);
    check_all(rig, &shelf);
    digests(rig, after);
    assert_memory_equal(before, after, sizeof before);
    rig_stop(rig);
    rig_kill(rig);
    check_all(rig, &shelf);
}

/* Writes go on all the time: the log stays near what is live, slots and handles are used again. */
static void keeps_up(void **state)
{
    struct rig *rig = *state;
    struct shelf shelf = {0};
    rig_ready(rig);
    switch_on(rig);
    for (uint32_t i = 0; i < 60; i++) {
        fill(rig, &shelf, 3);
        settle(rig);
        assert_true(stat_of(rig, STAT_segments) <= 6);
    }
    check_all(rig, &shelf);
    assert_true(stat_of(rig, STAT_compacted_segments) > 30);
    assert_true(stat_of(rig, STAT_recycled_segments) > 20);
    rig_crash(rig);
    check_all(rig, &shelf);
}

/* It looks for work whenever the log has filled a segment, however short a time that took. */
static void looks_in_time(void **state)
{
    struct rig *rig = *state;
    struct shelf shelf = {0};
    rig_ready(rig);
    switch_on(rig);
    uint64_t began_ns = rig->now.mono_ns;
    for (uint32_t i = 0; i < 20 * KEYS; i++) {
        put(rig, &shelf, 1, i % KEYS, 20000);
        rig_run(rig);
    }
    assert_true(rig->now.mono_ns - began_ns < 1000000000);
    assert_true(stat_of(rig, STAT_compacted_segments) >= 10);
    check_all(rig, &shelf);
}

static uint64_t segment_files(const struct rig *rig)
{
    struct file_found files[MEMORY_FILES];
    size_t count = memory_disk_list(&rig->disk, files, MEMORY_FILES);
    uint64_t segments = 0;
    for (size_t i = 0; i < count; i++)
        segments += files[i].name.kind == FILE_SEGMENT && !files[i].name.temporary;
    return segments;
}

/* A crash at any op while files of retired segments become new ones: of the machine or of the
 * process. Nothing is lost, nothing stale comes back, no file stays behind. */
static void recycling_crashes(void **state)
{
    struct rig *rig = *state;
    bool crashed = true;
    for (uint64_t at = 0; crashed; at++) {
        for (int power = 0; power < 2; power++) {
            struct shelf shelf = {0};
            teardown(state);
            setup(state);
            rig = *state;
            rig_ready(rig);
            switch_on(rig);
            fill(rig, &shelf, 16);
            settle(rig);
            uint64_t recycled = stat_of(rig, STAT_recycled_segments);
            struct shelf before = shelf;
            rig->crash_at = rig->disk.executed + at;
            for (uint32_t i = 0; !rig->crashed && stat_of(rig, STAT_recycled_segments) == recycled;
                 i++) {
                assert_true(i < 8 * KEYS);
                before = shelf;
                put(rig, &shelf, 1, i % KEYS, 20000);
                rig_run(rig);
                rig_pass(rig, 20);
            }
            crashed = rig->crashed;
            rig->crash_at = UINT64_MAX;
            if (power == 1)
                rig_crash(rig);
            else
                rig_kill(rig);
            assert_int_equal(store_phase(rig->store), STORE_READY);
            assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
            uint64_t kept = rig->store->depot.kept != 0;
            assert_int_equal(segment_files(rig), stat_of(rig, STAT_segments) + kept);
            /* The write under way may be there or not. */
            bool all = true;
            for (uint32_t i = 0; i < KEYS; i++)
                all = all && check(rig, &shelf, 1, i) == 0;
            check_all(rig, all ? &shelf : &before);
        }
    }
}

/* Values that came compressed are moved as they came: still compressed, and whole. */
static void compressed(void **state)
{
    struct rig *rig = *state;
    struct shelf shelf = {0};
    struct wire_digest_entry before[2 * RIG_PARTITIONS], after[2 * RIG_PARTITIONS];
    rig_ready(rig);
    fill(rig, &shelf, 12);
    rig->packed = true;
    fill(rig, &shelf, 36);
    digests(rig, before);
    rig_stop(rig);
    rig_kill(rig);
    switch_on(rig);
    settle(rig);
    assert_true(stat_of(rig, STAT_compacted_segments) >= 4);
    for (int pass = 0; pass < 2; pass++) {
        check_all(rig, &shelf);
        digests(rig, after);
        assert_memory_equal(before, after, sizeof before);
        rig_crash(rig);
    }
}

/* A crash at any op of compaction, of the machine or of the process, loses nothing and opens no
 * episode; the next run ends what was begun. */
static void crashes(void **state)
{
    struct rig *rig = *state;
    uint64_t ops = 1;
    for (uint64_t at = 0; at < ops; at++) {
        for (int power = 0; power < 2; power++) {
            struct shelf shelf = {0};
            teardown(state);
            setup(state);
            rig = *state;
            rig_ready(rig);
            fill(rig, &shelf, 16);
            rig_stop(rig);
            rig_kill(rig);
            switch_on(rig);
            uint64_t from = rig->disk.executed;
            rig->crash_at = from + at;
            settle(rig);
            if (!rig->crashed) {
                assert_true(stat_of(rig, STAT_compacted_segments) >= 1);
                assert_true(at > 50);
                return;
            }
            rig->crash_at = UINT64_MAX;
            if (power == 1)
                rig_crash(rig);
            else
                rig_kill(rig);
            assert_int_equal(store_phase(rig->store), STORE_READY);
            check_all(rig, &shelf);
            ops = at + 2;
            if (at % 8 != 0)
                continue;
            settle(rig);
            assert_true(stat_of(rig, STAT_segments) <= 4);
            fill(rig, &shelf, 1);
            check_all(rig, &shelf);
            rig_crash(rig);
            check_all(rig, &shelf);
        }
    }
}

/* A read that is under way when its segment retires ends with what it began with; the slot is used
 * again only after that. */
static void reads_in_flight(void **state)
{
    struct rig *rig = *state;
    struct shelf shelf = {0};
    rig_ready(rig);
    fill(rig, &shelf, 6);
    rig_stop(rig);
    rig_kill(rig);
    switch_on(rig);
    struct rig_key key = rig_key(1, 9);
    struct store_read read = {.collection = 1,
                              .partition = key.partition,
                              .hash = key.hash,
                              .key = key.key,
                              .key_len = key.key_len};
    struct store_done done;
    rig->hold_fetches = true;
    assert_false(store_read(rig->store, &read, rig->now));
    uint32_t slot = place_slot(read.place);
    settle(rig);
    uint64_t stuck = stat_of(rig, STAT_segments);
    assert_int_equal(rig->held_count, 1);
    assert_int_equal(place_slot(read.place), slot);
    rig->hold_fetches = false;
    rig_release(rig);
    rig_run(rig);
    assert_true(store_next_done(rig->store, &done) && done.read == &read);
    assert_int_equal(read.status, 0);
    assert_int_equal(read.record.version.counter, shelf.counter[0][9]);
    store_read_end(rig->store, &read);
    settle(rig);
    assert_true(stat_of(rig, STAT_segments) <= stuck);
    check_all(rig, &shelf);
}

/* A write that comes while the copy of its key is under way wins, whichever lands first. */
static void overwritten_meanwhile(void **state)
{
    struct rig *rig = *state;
    struct shelf shelf = {0};
    for (int early = 0; early < 2; early++) {
        teardown(state);
        setup(state);
        rig = *state;
        shelf = (struct shelf){0};
        rig_ready(rig);
        fill(rig, &shelf, 4);
        rig_stop(rig);
        rig_kill(rig);
        switch_on(rig);
        rig->hold_commits = true;
        if (early == 1)
            for (uint32_t i = 0; i < KEYS; i += 2)
                put(rig, &shelf, 1, i, 77);
        for (uint32_t i = 0; i < 20; i++)
            rig_pass(rig, 20);
        assert_true(rig->held_count > 0);
        for (uint32_t i = 0; i < KEYS; i += 3)
            put(rig, &shelf, 1, i, 99);
        rig->hold_commits = false;
        rig_release(rig);
        settle(rig);
        check_all(rig, &shelf);
        rig_crash(rig);
        check_all(rig, &shelf);
    }
}

/* R2: what is rotten in a segment costs the records that were in it their values and opens an
 * episode in their partitions, no others; the segment retires all the same, and the episode stays
 * until repair has brought the values. */
static void rotten_source(void **state)
{
    struct rig *rig = *state;
    struct shelf shelf = {0};
    struct wire_episode episode;
    rig_ready(rig);
    fill(rig, &shelf, 8);
    rig_stop(rig);
    rig_kill(rig);
    /* Key 9 is written once, in the first segment, in a packed block with its neighbours. */
    struct rig_key key = rig_key(1, 9);
    struct store_read read = {.collection = 1, .partition = key.partition, .hash = key.hash};
    struct store_done done;
    assert_false(store_read(rig->store, &read, rig->now));
    uint64_t offset = place_offset(read.place);
    assert_int_equal(place_slot(read.place), 0);
    rig_run(rig);
    assert_true(store_next_done(rig->store, &done));
    store_read_end(rig->store, &read);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), offset + 200, 4);
    switch_on(rig);
    settle(rig);
    assert_null(memory_disk_file(&rig->disk, FILE_SEGMENT, 1));
    assert_int_equal(store_episodes(rig->store, &episode, 1), 1);
    assert_int_equal(rig_probe(rig, &key, NULL), WIRE_VALUE_UNKNOWN);
    uint64_t unknown = stat_of(rig, STAT_values_unknown);
    assert_in_range(unknown, 1, 12);
    assert_in_range(episode.partitions, 1, unknown);
    for (uint32_t i = 0; i < 2 * KEYS; i++) {
        int status = check(rig, &shelf, 1 + i % 2, i / 2);
        assert_true(status == 0 || status == KHO_EUNKNOWN);
        unknown -= status == KHO_EUNKNOWN;
    }
    assert_int_equal(unknown, 0);
    rig_crash(rig);
    assert_true(store_episodes(rig->store, NULL, 0) > 0);
    assert_int_equal(stat_of(rig, STAT_damaged_blocks), 0);
    /* Repair brings the values again, under a higher epoch, and closes it. */
    for (uint32_t i = 0; i < 2 * KEYS; i++) {
        uint32_t c = 1 + i % 2, n = i / 2;
        struct rig_key k = rig_key(c, n);
        uint64_t counter = shelf.counter[c - 1][n];
        assert_int_equal(rig_put(rig, &k, counter, counter + n, shelf.len[c - 1][n], true, NULL),
                         0);
    }
    rig_run(rig);
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
    check_all(rig, &shelf);
    rig_crash(rig);
    check_all(rig, &shelf);
}

/* R4: on a disk that is full user writes stop; compaction works on in what was kept for it, and
 * then they are taken again. */
static void disk_full(void **state)
{
    struct rig *rig = *state;
    struct shelf shelf = {0};
    uint32_t refused = 0;
    rig->options.reserve_bytes = 1u << 20;
    rig->disk.free_bytes = 9u << 20;
    rig_ready(rig);
    for (uint32_t i = 0; i < 2000 && refused == 0; i++) {
        struct rig_key key = rig_key(1, i % 10);
        int status = rig_put(rig, &key, T0 + i, i, 15000, false, NULL);
        refused += status == KHO_ENOSPACE;
        if (status == 0) {
            shelf.counter[0][i % 10] = T0 + i;
            rig_pass(rig, 30);
        }
    }
    assert_int_equal(refused, 1);
    rig_stop(rig);
    rig_kill(rig);
    switch_on(rig);
    rig_pass(rig, 1100);
    settle(rig);
    assert_true(stat_of(rig, STAT_compacted_segments) >= 3);
    for (uint32_t i = 0; i < 10; i++) {
        struct rig_key key = rig_key(1, i);
        uint64_t counter = shelf.counter[0][i];
        assert_int_equal(rig_check(rig, &key, counter, counter - T0, 15000), 0);
        assert_int_equal(rig_put(rig, &key, counter + 10000, i, 15000, false, NULL), 0);
        rig_run(rig);
    }
}

/* The file that is kept to become a new segment goes when the disk grows short. */
static void kept_given_up(void **state)
{
    struct rig *rig = *state;
    struct shelf shelf = {0};
    rig->options.reserve_bytes = 1u << 20;
    rig_ready(rig);
    switch_on(rig);
    fill(rig, &shelf, 36);
    settle(rig);
    assert_true(rig->store->depot.kept != 0);
    assert_int_equal(segment_files(rig), stat_of(rig, STAT_segments) + 1);
    rig->disk.free_bytes = 1u << 20;
    rig_pass(rig, 1100);
    settle(rig);
    assert_true(rig->store->depot.kept == 0);
    assert_int_equal(segment_files(rig), stat_of(rig, STAT_segments));
    check_all(rig, &shelf);
    rig_crash(rig);
    check_all(rig, &shelf);
}

/* It reads no more of the disk than it may. */
static void paced(void **state)
{
    struct rig *rig = *state;
    struct shelf shelf = {0};
    rig_ready(rig);
    fill(rig, &shelf, 8);
    /* Just enough to begin: much more would be urgent. */
    uint64_t share = stat_of(rig, STAT_dead_bytes) * 100 / stat_of(rig, STAT_sealed_bytes);
    rig_stop(rig);
    rig->options.compact_rate = 1u << 20;
    rig->options.compact_dead_percent = (uint32_t)share - 3;
    rig_kill(rig);
    for (uint32_t i = 1; i <= 10; i++) {
        rig_pass(rig, 100);
        uint64_t bytes = stat_of(rig, STAT_compacted_in);
        assert_true(bytes <= i * (105u << 10) + (256u << 10));
    }
    assert_true(stat_of(rig, STAT_compacted_in) > 0);
    settle(rig);
    check_all(rig, &shelf);
}

int main(void)
{
#define COMPACT_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        COMPACT_TEST(keeps_all),         COMPACT_TEST(keeps_up),
        COMPACT_TEST(recycling_crashes), COMPACT_TEST(looks_in_time),
        COMPACT_TEST(compressed),        COMPACT_TEST(crashes),
        COMPACT_TEST(reads_in_flight),   COMPACT_TEST(overwritten_meanwhile),
        COMPACT_TEST(rotten_source),     COMPACT_TEST(disk_full),
        COMPACT_TEST(kept_given_up),     COMPACT_TEST(paced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
