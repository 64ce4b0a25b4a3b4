/* read_test.c: many reads at once, through the store's door, over a disk in memory: neighbours come
 * with one read of the disk, and one damaged block among them costs its own records only. */
#include "tests/lib/store_rig.h"
#include "unit.h"

#include "node/block.h"

#include <errno.h>

enum { READS = 240, LENGTH = 300, BLOCKS_MAX = 64 };

static const uint64_t T0 = 1700000000000ull << KHO_COUNTER_TIME_BITS;

struct scene {
    struct rig rig;
    struct rig_key keys[READS];
    struct store_read reads[READS];
    uint64_t blocks[BLOCKS_MAX]; /* offsets in segment 1 */
    uint32_t block_count;
};

/* Where blocks lie in the segment. */
static void blocks_find(struct scene *s)
{
    const struct memory_file *file = memory_disk_file(&s->rig.disk, FILE_SEGMENT, 1);
    s->block_count = 0;
    for (uint64_t at = 0; at + BLOCK_HEAD <= file->used; at += BLOCK_ALIGN)
        if (kho_load32(file->data + at) == BLOCK_MAGIC) {
            assert_true(s->block_count < BLOCKS_MAX);
            s->blocks[s->block_count++] = at;
        }
}

/* A store with READS small records in one commit, which nothing of is cached. */
static int setup(void **state)
{
    struct scene *s = calloc(1, sizeof *s);
    assert_non_null(s);
    rig_init(&s->rig);
    rig_ready(&s->rig);
    for (uint32_t i = 0; i < READS; i++) {
        s->keys[i] = rig_key(1, i);
        assert_int_equal(rig_put(&s->rig, &s->keys[i], T0 + i, i, LENGTH, false, NULL), 0);
    }
    rig_run(&s->rig);
    rig_crash(&s->rig);
    blocks_find(s);
    assert_true(s->block_count >= 4);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct scene *s = *state;
    rig_fini(&s->rig);
    free(s);
    return 0;
}

static struct store_read *read_prepare(struct scene *s, uint32_t i)
{
    s->reads[i] = (struct store_read){.collection = 1,
                                      .partition = s->keys[i].partition,
                                      .hash = s->keys[i].hash,
                                      .key = s->keys[i].key,
                                      .key_len = s->keys[i].key_len};
    return &s->reads[i];
}

static uint64_t stat_of(struct scene *s, enum wire_stat stat)
{
    uint64_t stats[STAT_COUNT] = {0};
    store_stats(s->rig.store, stats);
    return stats[stat];
}

/* Begins all reads in an order that isn't that of the disk, and runs until all have ended. */
static void read_all(struct scene *s)
{
    struct store_done done;
    uint32_t ended = 0;
    for (uint32_t i = 0; i < READS; i++)
        ended += store_read(s->rig.store, read_prepare(s, i * 77 % READS), s->rig.now);
    rig_run(&s->rig);
    while (store_next_done(s->rig.store, &done))
        ended++;
    assert_int_equal(ended, READS);
    assert_int_equal(store_reads_pending(s->rig.store), 0);
}

static void end_all(struct scene *s)
{
    for (uint32_t i = 0; i < READS; i++)
        store_read_end(s->rig.store, &s->reads[i]);
}

/* The records that were read right; the others have that status and their version. */
static uint32_t count_right(struct scene *s, int status)
{
    uint32_t right = 0;
    for (uint32_t i = 0; i < READS; i++) {
        const struct store_read *read = &s->reads[i];
        if (read->status != 0) {
            assert_int_equal(read->status, status);
            assert_int_equal(read->state, WIRE_VALUE_UNKNOWN);
            assert_int_equal(read->record.version.counter, T0 + i);
            continue;
        }
        assert_int_equal(read->state, WIRE_PRESENT);
        assert_int_equal(read->record.version.counter, T0 + i);
        assert_memory_equal(read->record.key, s->keys[i].key, s->keys[i].key_len);
        assert_true(record_value_matches(&read->record));
        right++;
    }
    return right;
}

/* Neighbouring blocks come with one read, and are in the cache then. */
static void neighbours(void **state)
{
    struct scene *s = *state;
    uint64_t before = stat_of(s, STAT_disk_reads);
    read_all(s);
    assert_int_equal(count_right(s, 0), READS);
    end_all(s);
    assert_int_equal(stat_of(s, STAT_disk_reads) - before, 1);
    for (uint32_t i = 0; i < READS; i += STORE_READS_CACHED) {
        uint32_t count = (uint32_t)kho_min(STORE_READS_CACHED, READS - i);
        for (uint32_t k = 0; k < count; k++)
            read_prepare(s, i + k);
        uint32_t done = store_read_cached(s->rig.store, &s->reads[i], count);
        assert_int_equal(done, UINT32_MAX >> (32 - count));
    }
    assert_int_equal(count_right(s, 0), READS);
    end_all(s);
    assert_int_equal(stat_of(s, STAT_disk_reads) - before, 1);
}

/* A flipped byte in the middle of what one read brought: the records of that block are damaged, all
 * others are there. */
static void damaged_among_neighbours(void **state)
{
    struct scene *s = *state;
    struct memory_file *file = memory_disk_file(&s->rig.disk, FILE_SEGMENT, 1);
    memory_disk_flip(file, s->blocks[2] + BLOCK_HEAD + 100, 1);
    uint32_t lost = kho_load32(file->data + s->blocks[2] + 80);
    read_all(s);
    assert_int_equal(count_right(s, KHO_EDAMAGED), READS - lost);
    end_all(s);
    assert_int_equal(stat_of(s, STAT_damaged_blocks), 1);
    assert_int_equal(stat_of(s, STAT_values_unknown), lost);
}

/* A place in the middle that can't be read: the others are read again, block by block. Those whose
 * own aligned reads touch the same sector are lost with it. */
static void unreadable_among_neighbours(void **state)
{
    struct scene *s = *state;
    const struct memory_file *file = memory_disk_file(&s->rig.disk, FILE_SEGMENT, 1);
    uint32_t lost = kho_load32(file->data + s->blocks[2] + 80);
    s->rig.disk.bad_segment = 1;
    s->rig.disk.bad_from = s->blocks[2] + BLOCK_HEAD + 100;
    s->rig.disk.bad_to = s->rig.disk.bad_from + 1;
    uint64_t before = stat_of(s, STAT_disk_reads);
    read_all(s);
    uint32_t right = count_right(s, -EIO);
    assert_true(right <= READS - lost && right >= READS - 3 * lost);
    assert_int_equal(stat_of(s, STAT_disk_reads) - before, 1 + s->block_count);
    end_all(s);
    s->rig.disk.bad_segment = 0;
}

/* Only what is at hand is done by store_read_cached(): what is absent, or cached. The rest hasn't
 * begun. */
static void cached_only(void **state)
{
    struct scene *s = *state;
    struct store_done done;
    assert_false(store_read(s->rig.store, read_prepare(s, 0), s->rig.now));
    rig_run(&s->rig);
    assert_true(store_next_done(s->rig.store, &done));
    store_read_end(s->rig.store, &s->reads[0]);
    read_prepare(s, 0);
    read_prepare(s, 1);
    s->reads[1].hash.high ^= 1;
    s->reads[2] = *read_prepare(s, READS - 1);
    assert_int_equal(store_read_cached(s->rig.store, s->reads, 3), 3);
    assert_int_equal(s->reads[0].state, WIRE_PRESENT);
    assert_int_equal(s->reads[1].state, WIRE_ABSENT);
    assert_int_equal(s->reads[1].status, 0);
    assert_int_equal(store_reads_pending(s->rig.store), 0);
    store_read_end(s->rig.store, &s->reads[0]);
    store_read_end(s->rig.store, &s->reads[1]);
}

/* Records that are written while the disk is read for their neighbours are read right. */
static void written_meanwhile(void **state)
{
    struct scene *s = *state;
    struct store_done done;
    for (uint32_t round = 0; round < 20; round++) {
        uint32_t ended = 0;
        for (uint32_t i = round % 3; i < READS; i += 3) {
            assert_int_equal(rig_put(&s->rig, &s->keys[i], T0 + (round + 1) * 1000 + i, i + round,
                                     LENGTH / 2 + round, false, NULL),
                             0);
            if (i % 30 == 0)
                store_turn_end(s->rig.store, s->rig.now);
        }
        for (uint32_t i = 0; i < READS; i++)
            ended += store_read(s->rig.store, read_prepare(s, i), s->rig.now);
        rig_run(&s->rig);
        while (store_next_done(s->rig.store, &done))
            ended++;
        assert_int_equal(ended, READS);
        for (uint32_t i = 0; i < READS; i++) {
            assert_int_equal(s->reads[i].status, 0);
            assert_true(record_value_matches(&s->reads[i].record));
        }
        end_all(s);
    }
}

int main(void)
{
#define READ_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        READ_TEST(neighbours),
        READ_TEST(damaged_among_neighbours),
        READ_TEST(unreadable_among_neighbours),
        READ_TEST(cached_only),
        READ_TEST(written_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
