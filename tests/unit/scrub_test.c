/* scrub_test.c: the scrub finds rot that nobody has read yet, wherever it is, and has it left
 * behind.
 */
#include "node/place.h"
#include "node/store_inside.h"
#include "tests/lib/store_rig.h"
#include "unit.h"

static const uint64_t T0 = 1700000000000ull << KHO_COUNTER_TIME_BITS;

enum { KEYS = 400, LEN = 9000, PASS_MS = 100000 };

static int setup(void **state)
{
    struct rig *rig = malloc(sizeof *rig);
    assert_non_null(rig);
    rig_init(rig);
    rig->options.segment_bytes = 1u << 20;
    rig->options.compact_dead_percent = 90;
    rig->options.scrub_ms = PASS_MS;
    rig_ready(rig);
    for (uint32_t i = 0; i < KEYS; i++) {
        struct rig_key key = rig_key(1, i);
        assert_int_equal(rig_put(rig, &key, T0 + 1, i, LEN, false, NULL), 0);
        if (i % 20 == 19)
            rig_run(rig);
    }
    rig_run(rig);
    rig_pass(rig, 100);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    rig_fini(*state);
    free(*state);
    return 0;
}

static uint64_t stat_of(const struct rig *rig, enum wire_stat stat)
{
    uint64_t stats[STAT_COUNT] = {0};
    store_stats(rig->store, stats);
    return stats[stat];
}

/* Time for one pass and a half. */
static void pass(struct rig *rig)
{
    for (uint32_t i = 0; i < 150; i++)
        rig_pass(rig, PASS_MS / 100);
}

static uint32_t readable(struct rig *rig)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        struct rig_key key = rig_key(1, i);
        count += rig_check(rig, &key, T0 + 1, i, LEN) == 0;
    }
    return count;
}

static uint64_t offset_of(struct rig *rig, uint32_t number, uint32_t *ret_slot)
{
    struct rig_key key = rig_key(1, number);
    struct index_entry entry;
    assert_true(index_get(rig->store->depot.index, 1, key.partition, key_tag(key.hash), &entry));
    *ret_slot = place_slot(entry.place);
    return place_offset(entry.place);
}

static struct memory_file *file_in(struct rig *rig, uint32_t slot)
{
    uint64_t id = manifest_segment(&rig->store->depot.manifest, slot)->id;
    return memory_disk_file(&rig->disk, FILE_SEGMENT, id);
}

/* All that is sealed is read once in a pass, evenly, and the age tells it; what holds is left
 * alone, over a restart, too. */
static void reads_all(void **state)
{
    struct rig *rig = *state;
    uint64_t sealed = stat_of(rig, STAT_sealed_bytes);
    assert_true(sealed >= 2u << 20);
    for (uint32_t i = 0; i < 49; i++)
        rig_pass(rig, PASS_MS / 100);
    assert_int_equal(stat_of(rig, STAT_scrubbed_bytes), 0);
    pass(rig);
    uint64_t bytes = stat_of(rig, STAT_scrubbed_bytes);
    assert_in_range(bytes, sealed - (sealed >> 2), 2 * sealed);
    assert_in_range(stat_of(rig, STAT_scrub_age), 0, PASS_MS / 1000);
    assert_int_equal(stat_of(rig, STAT_damaged_blocks), 0);
    rig_stop(rig);
    rig_kill(rig);
    rig_pass(rig, 10);
    assert_in_range(stat_of(rig, STAT_scrub_age), 0, PASS_MS / 1000);
    assert_int_equal(readable(rig), KEYS);
}

/* R2: a body that doesn't hold costs its records their values at once, in their partitions only;
 * with compaction on the segment goes. */
static void body(void **state)
{
    struct rig *rig = *state;
    struct wire_episode episode;
    struct rig_key key = rig_key(1, 3);
    uint32_t slot;
    uint64_t offset = offset_of(rig, 3, &slot);
    memory_disk_flip(file_in(rig, slot), offset + BLOCK_HEAD + 7, 16);
    pass(rig);
    assert_int_equal(store_episodes(rig->store, &episode, 1), 1);
    assert_int_equal(rig_probe(rig, &key, NULL), WIRE_VALUE_UNKNOWN);
    uint64_t unknown = stat_of(rig, STAT_values_unknown);
    assert_in_range(unknown, 1, 4);
    assert_in_range(episode.partitions, 1, unknown);
    assert_int_equal(readable(rig), KEYS - unknown);
    assert_int_equal(stat_of(rig, STAT_damaged_blocks), 1);
    rig->store->depot.options.compact_rate = 1u << 30;
    for (uint32_t i = 0; i < 100; i++)
        rig_pass(rig, 50);
    assert_int_equal(stat_of(rig, STAT_compacted_segments), 1);
    assert_int_equal(stat_of(rig, STAT_damaged_blocks), 0);
    assert_int_equal(readable(rig), KEYS - unknown);
    assert_int_equal(store_episodes(rig->store, &episode, 1), 1);
}

/* A head that doesn't hold hurts nothing as long as the segment is rewritten before the next start:
 * no episode, neither now nor then. */
static void commit_head(void **state)
{
    struct rig *rig = *state;
    rig->store->depot.options.compact_rate = 1u << 30;
    struct memory_file *file = memory_disk_file(&rig->disk, FILE_SEGMENT, 1);
    memory_disk_flip(file, 4096 + 40, 1);
    pass(rig);
    assert_int_equal(stat_of(rig, STAT_compacted_segments), 1);
    assert_null(memory_disk_file(&rig->disk, FILE_SEGMENT, 1));
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    assert_int_equal(readable(rig), KEYS);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    assert_int_equal(readable(rig), KEYS);
}

/* What is in the segment that is written to is looked at, too; once it is known to be broken, the
 * next commit begins another one, so that compaction can leave the damage behind. */
static void unsealed(void **state)
{
    struct rig *rig = *state;
    struct wire_episode episode;
    struct rig_key key = rig_key(1, KEYS - 1);
    uint32_t slot;
    uint64_t offset = offset_of(rig, KEYS - 1, &slot);
    assert_false(manifest_segment(&rig->store->depot.manifest, slot)->sealed);
    memory_disk_flip(file_in(rig, slot), offset + BLOCK_HEAD + 7, 16);
    pass(rig);
    assert_int_equal(store_episodes(rig->store, &episode, 1), 1);
    assert_int_equal(rig_probe(rig, &key, NULL), WIRE_VALUE_UNKNOWN);
    rig->store->depot.options.compact_rate = 1u << 30;
    assert_int_equal(rig_put(rig, &key, T0 + 2, KEYS - 1, LEN, false, NULL), 0);
    rig_run(rig);
    assert_true(manifest_segment(&rig->store->depot.manifest, slot)->sealed);
    for (uint32_t i = 0; i < 100; i++)
        rig_pass(rig, 50);
    assert_int_equal(stat_of(rig, STAT_compacted_segments), 1);
    assert_int_equal(rig_check(rig, &key, T0 + 2, KEYS - 1, LEN), 0);
}

/* A look at a time that a wrong clock told, years ahead, doesn't keep the next one off for years.
 */
static void clock_goes_back(void **state)
{
    struct rig *rig = *state;
    const uint64_t years = UINT64_C(10) * 365 * 24 * 3600 * 1000;
    rig->now.wall_ms += years;
    pass(rig);
    uint64_t bytes = stat_of(rig, STAT_scrubbed_bytes);
    assert_true(bytes > 0);
    rig->now.wall_ms -= years;
    pass(rig);
    assert_in_range(stat_of(rig, STAT_scrubbed_bytes), bytes + bytes / 2, 4 * bytes);
    assert_in_range(stat_of(rig, STAT_scrub_age), 0, PASS_MS / 1000);
}

static bool first_commit(const struct op *op)
{
    return op->kind == OP_WRITE && (op->flags & OP_WRITE_DURABLE) != 0 && op->offset == 4096;
}

/* What a failed write left is nobody's, and no damage: a footer written beside it, behind the first
 * commit of a segment, doesn't make the stretch before it one that can be read back. */
static void failed_write(void **state)
{
    struct rig *rig = *state;
    rig_stop(rig);
    rig->options.footer_entries = 1;
    rig_kill(rig);
    rig->holds = first_commit;
    for (uint32_t i = 0; rig->held_count == 0; i++) {
        struct rig_key key = rig_key(1, 1000 + i);
        assert_int_equal(rig_put(rig, &key, T0 + 1, i, LEN, false, NULL), 0);
        rig_run(rig);
        assert_true(i < 200);
    }
    rig->holds = NULL;
    rig->disk.fail_kind = OP_WRITE;
    rig->disk.fail_count = 1;
    rig->disk.fail_error = 0; /* written to half */
    rig_release(rig);
    rig_run(rig);
    assert_int_equal(stat_of(rig, STAT_readonly), 1);
    uint64_t bytes = stat_of(rig, STAT_scrubbed_bytes);
    pass(rig);
    assert_true(stat_of(rig, STAT_scrubbed_bytes) > bytes);
    assert_int_equal(stat_of(rig, STAT_damaged_blocks), 0);
    assert_int_equal(readable(rig), KEYS);
}

/* A read that fails for a reason that passes is no damage. */
static void passing_failure(void **state)
{
    struct rig *rig = *state;
    rig->disk.fail_kind = OP_READ;
    rig->disk.fail_count = 3;
    rig->disk.fail_error = -12; /* ENOMEM */
    pass(rig);
    assert_int_equal(rig->disk.fail_count, 0);
    assert_true(stat_of(rig, STAT_scrubbed_bytes) > 0);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    assert_int_equal(readable(rig), KEYS);
}

int main(void)
{
#define SCRUB_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        SCRUB_TEST(reads_all),       SCRUB_TEST(body),
        SCRUB_TEST(commit_head),     SCRUB_TEST(unsealed),
        SCRUB_TEST(clock_goes_back), SCRUB_TEST(failed_write),
        SCRUB_TEST(passing_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
