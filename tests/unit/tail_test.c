/* tail_test.c: the end of the log where segments meet or are missing, damage at the end of a
 * commit, and what writes at the limits of memory still need. */
#include "rig.h"

#include <errno.h>

static void put(struct rig *rig, uint32_t number, uint32_t len)
{
    struct rig_key key = rig_key(1, number);
    assert_int_equal(rig_put(rig, &key, T0 + 1, number + 1, len, false, NULL), 0);
}

static int check(struct rig *rig, uint32_t number, uint32_t len)
{
    struct rig_key key = rig_key(1, number);
    return rig_check(rig, &key, T0 + 1, number + 1, len);
}

/* Two commits in flight, the first the last of its segment (whose footer is held between them), the
 * second the first of the next one. Returns the number of the first one's record; all before are
 * acknowledged. */
static uint32_t at_the_switch(struct rig *rig, uint32_t len)
{
    rig_ready(rig);
    for (uint32_t number = 0; number < 1000; number++) {
        rig->hold_commits = true;
        put(rig, number, len);
        rig_run(rig);
        put(rig, number + 1, len);
        rig_run(rig);
        assert_in_range(rig->held_count, 2, 3);
        if (rig->held_count == 3 && rig->held[0]->file == rig->held[1]->file)
            return number;
        rig_release(rig);
        rig->hold_commits = false;
        rig_run(rig);
        number++;
        /* The next pair begins one commit further on every other time. */
        if (number % 4 == 1) {
            put(rig, 5000 + number, len);
            rig_run(rig);
        }
    }
    fail_msg("the segment never filled");
    return 0;
}

/* R3: the first commit of a segment reached the disk, the last of the one before didn't: dropped as
 * torn, and the log goes on where later starts find it in order. Whether the footer between them
 * did makes no difference. */
static void hole_before_the_next_segment(void **state)
{
    struct rig *rig = *state;
    for (uint32_t footer = 0; footer < 2; footer++) {
        rig_fini(rig);
        rig_init(rig);
        uint32_t number = at_the_switch(rig, 60000);
        for (uint32_t pass = 0; pass < 3; pass++) {
            if (pass == 0)
                memory_disk_tear(&rig->disk, rig->held[2], UINT64_MAX);
            if (pass == 0 && footer == 1)
                memory_disk_tear(&rig->disk, rig->held[1], UINT64_MAX);
            rig->hold_commits = false;
            rig_crash(rig);
            assert_int_equal(store_phase(rig->store), STORE_READY);
            assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
            assert_int_equal(check(rig, number, 60000), KHO_ENOTFOUND);
            assert_int_equal(check(rig, number + 1, 60000), KHO_ENOTFOUND);
            for (uint32_t i = 0; i < number; i++)
                assert_int_equal(check(rig, i, 60000), 0);
            for (uint32_t i = 0; i < pass * 40; i++)
                assert_int_equal(check(rig, 10000 + i, 60000), 0);
            for (uint32_t i = pass * 40; i < pass * 40 + 40; i++) {
                put(rig, 10000 + i, 60000);
                rig_run(rig);
            }
        }
    }
}

/* R3: the first commit of a segment lost its head: suspect, and the log goes on in order. */
static void garbage_in_the_next_segment(void **state)
{
    struct rig *rig = *state;
    uint32_t number = at_the_switch(rig, 60000);
    memory_disk_tear(&rig->disk, rig->held[2], ~1ull);
    rig->hold_commits = false;
    rig_crash(rig);
    assert_true(store_suspect(rig->store));
    for (uint32_t pass = 0; pass < 3; pass++) {
        for (uint32_t i = pass * 40; i < pass * 40 + 40; i++) {
            put(rig, 10000 + i, 60000);
            rig_run(rig);
        }
        rig_crash(rig);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
        for (uint32_t i = 0; i < number; i++)
            assert_int_equal(check(rig, i, 60000), 0);
        for (uint32_t i = 0; i < pass * 40 + 40; i++)
            assert_int_equal(check(rig, 10000 + i, 60000), 0);
    }
}

/* A torn tail, and the file of the spare segment is gone: the shard goes on in a new one. */
static void torn_tail_without_its_spare(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    for (uint32_t i = 0; i < 20; i++) {
        put(rig, i, 60000);
        rig_run(rig);
    }
    rig_run(rig);
    assert_non_null(memory_disk_file(&rig->disk, FILE_SEGMENT, 2));
    rig->hold_commits = true;
    put(rig, 100, 60000);
    rig_run(rig);
    memory_disk_tear(&rig->disk, rig->held[0], 0x3F);
    rig->hold_commits = false;
    memory_disk_remove(memory_disk_file(&rig->disk, FILE_SEGMENT, 2));
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    for (uint32_t i = 200; i < 220; i++) {
        put(rig, i, 60000);
        rig_run(rig);
        assert_int_equal(store_failed(rig->store), 0);
    }
    rig_crash(rig);
    assert_int_equal(store_durable(rig->store), store_sequence_taken(rig->store));
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    if (store_episodes(rig->store, NULL, 0) > 0)
        assert_int_equal(rig_close_episodes(rig), 0);
    for (uint32_t i = 200; i < 220; i++)
        assert_int_equal(check(rig, i, 60000), 0);
}

/* A torn tail, and the device's alignment is another one since: what is sealed then is valid to the
 * next start. */
static void torn_tail_under_another_alignment(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    for (uint32_t i = 0; i < 20; i++) {
        put(rig, i, 60000);
        rig_run(rig);
    }
    assert_non_null(memory_disk_file(&rig->disk, FILE_SEGMENT, 2));
    rig->hold_commits = true;
    put(rig, 100, 60000);
    rig_run(rig);
    memory_disk_tear(&rig->disk, rig->held[0], 0x3F);
    rig->hold_commits = false;
    rig->options.alignment = 8192;
    for (uint32_t pass = 0; pass < 3; pass++) {
        rig_crash(rig);
        assert_int_equal(store_phase(rig->store), STORE_READY);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
        put(rig, 200 + pass, 60000);
        rig_run(rig);
        for (uint32_t i = 0; i < 20; i++)
            assert_int_equal(check(rig, i, 60000), 0);
    }
}

/* R2: a block known to be damaged hides no later damage of the last block of its commit. */
static void last_block_behind_known_damage(void **state)
{
    struct rig *rig = *state;
    struct rig_key key = rig_key(1, 101);
    rig_ready(rig);
    for (uint32_t i = 100; i < 103; i++)
        put(rig, i, 20000);
    rig_run(rig);
    rig_pass(rig, 60);
    uint64_t block = 4096 + 192, span = kho_round_up(192 + 48 + 16 + 20000, 64);
    struct memory_file *segment = memory_disk_file(&rig->disk, FILE_SEGMENT, 1);
    memory_disk_flip(segment, block + span + 30, 1);
    assert_int_equal(check(rig, 101, 20000), KHO_EDAMAGED);
    assert_int_equal(rig_put(rig, &key, T0 + 1, 102, 20000, true, NULL), 0);
    rig_run(rig);
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), block + 2 * span + 30, 1);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
    assert_int_equal(check(rig, 102, 20000), KHO_EUNKNOWN);
}

/* At the memory's bound reads that fill the cache leave what the next segment needs: updates go
 * on. */
static void full_memory_updates_go_on(void **state)
{
    struct rig *rig = *state;
    rig->options.memory_max = 64u << 20;
    rig_ready(rig);
    for (uint32_t i = 0; i < 800; i++) {
        put(rig, i, 9000);
        rig_run(rig);
    }
    /* In place of the index of many keys, which new ones may grow so far. */
    size_t keys = rig->world.memory_max / 16 * 15 - rig->world.memory_bytes;
    void *index = world_allocate(&rig->world, keys, 0);
    assert_non_null(index);
    for (uint32_t i = 0; i < 800; i++)
        assert_int_equal(check(rig, i, 9000), 0);
    for (uint32_t round = 2; round < 5; round++)
        for (uint32_t i = 0; i < 400; i++) {
            struct rig_key key = rig_key(1, i);
            int status = rig_put(rig, &key, T0 + round, round, 9000, false, NULL);
            assert_int_equal(status, 0);
            rig_run(rig);
        }
    world_release(&rig->world, index, keys);
}

/* R2: a segment that can't be opened for want of handles or rights isn't lost: the start ends, and
 * the next one finds all there. */
static void open_refused(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    for (uint32_t i = 0; i < 5; i++) {
        put(rig, i, 100);
        rig_run(rig);
    }
    rig_stop(rig);
    store_destroy(rig->store);
    /* Manifest, map, then the segments. */
    rig->disk.fail_kind = OP_OPEN;
    rig->disk.fail_after = 2;
    rig->disk.fail_count = 1;
    rig->disk.fail_error = -EMFILE;
    rig_start(rig);
    assert_int_equal(store_phase(rig->store), STORE_FAILED);
    rig->disk.fail_count = 0;
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(check(rig, i, 100), 0);
}

/* R1, R2: a write below a version whose value is unknown is stored before it is acknowledged. */
static void below_an_unknown_value(void **state)
{
    struct rig *rig = *state;
    struct rig_key key = rig_key(1, 7);
    uint64_t sequence;
    rig_ready(rig);
    assert_int_equal(rig_put(rig, &key, T0 + 5, 1, 100, false, NULL), 0);
    rig_run(rig);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), 4096 + 192 + 200, 1);
    assert_int_equal(rig_check(rig, &key, T0 + 5, 1, 100), KHO_EDAMAGED);
    uint64_t durable = store_durable(rig->store);
    assert_int_equal(rig_put(rig, &key, T0 + 3, 2, 50, false, &sequence), 0);
    assert_true(sequence > durable);
    rig_run(rig);
    struct version version;
    assert_int_equal(rig_probe(rig, &key, &version), WIRE_VALUE_UNKNOWN);
    assert_int_equal(version.counter, T0 + 5);
    rig_crash(rig);
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
    assert_int_equal(rig_check(rig, &key, T0 + 3, 2, 50), 0);
}

int main(void)
{
#define TAIL_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TAIL_TEST(hole_before_the_next_segment),
        TAIL_TEST(garbage_in_the_next_segment),
        TAIL_TEST(torn_tail_without_its_spare),
        TAIL_TEST(torn_tail_under_another_alignment),
        TAIL_TEST(last_block_behind_known_damage),
        TAIL_TEST(full_memory_updates_go_on),
        TAIL_TEST(open_refused),
        TAIL_TEST(below_an_unknown_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
