/* store_refuse_test.c: what a store refuses: below a floor, after a failed write, without room. */
#include "node/manifest.h"
#include "store_story.h"

#include <errno.h>

/* Rewrites the stopped shard's manifest with a floor in every partition. */
static void floors_set(struct rig *rig, uint64_t floor, uint64_t drops)
{
    struct memory_file *file = memory_disk_file(&rig->disk, FILE_MANIFEST, 0);
    struct shard_world world;
    struct manifest manifest;
    world_init(&world, 1u << 20, 1);
    manifest_init(&manifest, &world);
    assert_int_equal(manifest_decode(&manifest, file->data, file->size), 0);
    for (uint32_t p = 0; p < RIG_PARTITIONS; p++)
        manifest.floors[p] = (struct floor){.floor = floor, .drops = drops};
    uint8_t bytes[4096] = {0};
    assert_true(manifest_length(&manifest) <= file->size);
    manifest_encode(&manifest, bytes);
    memory_disk_fill(file, 0, file->size, 0);
    memcpy(file->data, bytes, manifest_length(&manifest));
    memcpy(file->stable, bytes, manifest_length(&manifest));
    manifest_fini(&manifest);
}

/* R7: at or below the floor an absent key is refused: first-hand as stale, as a copy only if
 * deletes were dropped since its source was read. Keys that are there pass, and so does what is
 * above. */
static void floors(void **state)
{
    struct rig *rig = *state;
    struct wire_probe_answer probe;
    struct rig_key there = rig_key(1, 1), absent = rig_key(1, 2);
    rig_ready(rig);
    put(rig, 1, 1, 5, 10);
    rig_run(rig);
    rig_stop(rig);
    floors_set(rig, T0 + 100, 3);
    rig_crash(rig);
    store_probe(rig->store, 1, absent.partition, absent.hash, &probe);
    assert_int_equal(probe.floor, T0 + 100);
    assert_int_equal(probe.drops, 3);
    assert_int_equal(rig_put(rig, &absent, T0 + 100, 1, 10, false, NULL), KHO_ESTALE);
    assert_int_equal(rig_put(rig, &absent, T0 + 100, 1, 10, true, NULL), KHO_EDROPPED);
    assert_int_equal(rig_put(rig, &there, T0 + 50, 1, 10, false, NULL), 0);
    assert_int_equal(rig_put(rig, &absent, T0 + 101, 1, 10, false, NULL), 0);
    rig_run(rig);
    floors_set(rig, T0 + 200, 0);
    rig_crash(rig);
    struct rig_key other = rig_key(1, 3);
    /* The rig's copies carry the drop number 0, which is the partition's now. */
    assert_int_equal(rig_put(rig, &other, T0 + 150, 1, 10, true, NULL), 0);
    rig_run(rig);
    assert_int_equal(rig_check(rig, &other, T0 + 150, 1, 10), 0);
}

/* R4: a failed or short write is final: later sequences are never reached, reads go on. */
static void write_fails(void **state)
{
    struct rig *rig = *state;
    for (int pass = 0; pass < 2; pass++) {
        uint64_t sequence;
        struct rig_key key = rig_key(1, 100);
        rig_fini(rig);
        rig_init(rig);
        twenty(rig);
        uint64_t durable = store_durable(rig->store);
        rig->disk.fail_kind = OP_WRITE;
        rig->disk.fail_count = 1;
        rig->disk.fail_error = pass == 0 ? -EIO : 0;
        assert_int_equal(rig_put(rig, &key, T0 + 1, 1, 100, false, &sequence), 0);
        rig_run(rig);
        assert_int_equal(store_failed(rig->store), KHO_EREADONLY);
        assert_non_null(strstr(rig->last_event, "segment-0000000000000001"));
        assert_true(store_durable(rig->store) < sequence);
        assert_int_equal(rig_put(rig, &key, T0 + 2, 1, 100, false, &sequence), KHO_EREADONLY);
        rig_pass(rig, 1000);
        assert_int_equal(store_durable(rig->store), durable);
        assert_int_equal(check(rig, 1, 3, 1, 100), 0);
        assert_int_equal(check(rig, 1, 100, 1, 100), KHO_ENOTFOUND);
        rig_stop(rig);
        assert_int_equal(store_phase(rig->store), STORE_STOPPED);
    }
}

/* R4: of several commits in flight, those before the failed one may still be reached. */
static void write_fails_among_others(void **state)
{
    struct rig *rig = *state;
    uint64_t sequence[3];
    rig_ready(rig);
    rig->hold_commits = true;
    for (uint32_t i = 0; i < 3; i++) {
        struct rig_key key = rig_key(1, i);
        assert_int_equal(rig_put(rig, &key, T0 + 1, i + 1, 40, false, &sequence[i]), 0);
        rig_run(rig);
    }
    rig->held[1]->result = -EIO;
    store_completed(rig->store, rig->held[1], rig->now);
    rig->held[1] = rig->held[2];
    rig->held_count = 2;
    rig->reversed = true;
    rig_release(rig);
    assert_int_equal(store_durable(rig->store), sequence[0]);
    assert_int_equal(check(rig, 1, 0, 1, 40), 0);
    assert_int_equal(check(rig, 1, 2, 1, 40), KHO_ENOTFOUND);
    rig_stop(rig);
    assert_int_equal(store_phase(rig->store), STORE_STOPPED);
}

/* R4: without room for segments writes are refused before any acknowledgement, and taken again when
 * there is room; below the reserve user writes stop first. */
static void disk_full(void **state)
{
    struct rig *rig = *state;
    struct rig_key key;
    int status = 0;
    uint32_t taken = 0;
    rig->disk.free_bytes = 10u << 20;
    rig->options.reserve_bytes = 0;
    rig_ready(rig);
    for (; taken < 1000; taken++) {
        key = rig_key(1, taken);
        status = rig_put(rig, &key, T0 + 1, taken + 1, 20000, false, NULL);
        rig_run(rig);
        if (status != 0)
            break;
    }
    assert_int_equal(status, KHO_ENOSPACE);
    assert_true(taken > 200);
    for (uint32_t i = 0; i < taken; i++)
        assert_int_equal(check(rig, 1, i, 1, 20000), 0);
    rig->disk.free_bytes = 100u << 20;
    rig_pass(rig, 2000);
    assert_int_equal(rig_put(rig, &key, T0 + 1, taken + 1, 20000, false, NULL), 0);
    rig_run(rig);
    assert_int_equal(check(rig, 1, taken, 1, 20000), 0);
    rig_stop(rig);
    rig->disk.free_bytes = 0;
    rig->options.reserve_bytes = 8u << 20;
    rig_crash(rig);
    rig->disk.free_bytes = 5u << 20;
    rig_pass(rig, 2000);
    key = rig_key(1, 5000);
    assert_int_equal(rig_put(rig, &key, T0 + 1, 1, 20, false, NULL), KHO_ENOSPACE);
    assert_int_equal(rig_put(rig, &key, T0 + 1, 1, 20, true, NULL), 0);
    assert_int_equal(rig_put(rig, &key, T0 + 2, 1, RIG_TOMBSTONE, false, NULL), 0);
    rig->disk.free_bytes = 3u << 20;
    rig_pass(rig, 2000);
    assert_int_equal(rig_put(rig, &key, T0 + 3, 1, RIG_TOMBSTONE, false, NULL), KHO_ENOSPACE);
}

/* R4: a disk without room for a new manifest lists no new segment: writes are refused, rather than
 * left to wait, and taken again when there is room. */
static void manifest_full(void **state)
{
    struct rig *rig = *state;
    struct rig_key key;
    int status = 0;
    uint32_t taken = 0, waited = 0;
    rig->options.reserve_bytes = 0;
    rig_ready(rig);
    rig->disk.manifest_error = -ENOSPC;
    while (taken < 2000 && waited < 10) {
        key = rig_key(1, taken);
        status = rig_put(rig, &key, T0 + 1, taken + 1, 20000, false, NULL);
        rig_run(rig);
        taken += status == 0;
        if (status == -EAGAIN) {
            waited++;
            rig_pass(rig, 500);
        } else if (status != 0) {
            break;
        }
    }
    assert_int_equal(status, KHO_ENOSPACE);
    assert_true(taken > 100);
    assert_non_null(strstr(rig->last_event, "'manifest'"));
    for (uint32_t i = 0; i < taken; i++)
        assert_int_equal(check(rig, 1, i, 1, 20000), 0);
    rig->disk.manifest_error = 0;
    rig_pass(rig, 2000);
    assert_int_equal(rig_put(rig, &key, T0 + 1, taken + 1, 20000, false, NULL), 0);
    rig_run(rig);
    assert_int_equal(check(rig, 1, taken, 1, 20000), 0);
    rig_stop(rig);
    assert_int_equal(store_phase(rig->store), STORE_STOPPED);
}

/* At the memory's bound new keys are refused, updates and deletes pass, reads go on. */
static void memory_full(void **state)
{
    struct rig *rig = *state;
    uint32_t count = 0;
    int status = 0;
    rig->options.memory_max = 64u << 20;
    rig->options.segment_bytes = 32u << 20;
    rig_ready(rig);
    /* The bound is moved to where we are, so that the test is short. */
    for (; count < 20000; count++) {
        struct rig_key key = rig_key(1, count);
        if (count == 2000)
            rig->world.memory_max = rig->world.memory_bytes + 20000;
        status = rig_put(rig, &key, T0 + 1, count + 1, 30, false, NULL);
        if (status == -EAGAIN) {
            rig_run(rig);
            count--;
            continue;
        }
        if (status != 0)
            break;
        if (count % 100 == 99)
            rig_run(rig);
    }
    assert_int_equal(status, KHO_EFULL);
    rig_run(rig);
    put(rig, 1, 3, 2, 30);
    put(rig, 1, 4, 2, RIG_TOMBSTONE);
    rig_run(rig);
    assert_int_equal(check(rig, 1, 3, 2, 30), 0);
    assert_int_equal(check(rig, 1, 4, 2, RIG_TOMBSTONE), 0);
    for (uint32_t i = 5; i < count; i += 97)
        assert_int_equal(check(rig, 1, i, 1, 30), 0);
}

int main(void)
{
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORE_TEST(floors),    STORE_TEST(write_fails),   STORE_TEST(write_fails_among_others),
        STORE_TEST(disk_full), STORE_TEST(manifest_full), STORE_TEST(memory_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
