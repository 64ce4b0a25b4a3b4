/* store_file_test.c: files of a shard that are gone, cut short or damaged. */
#include "node/manifest.h"
#include "store_story.h"

#include <errno.h>

/* Where the manifest can't be written, who waits for it is told so, and nothing hangs at the stop.
 */
static void manifest_fails(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    rig_map_build(rig, 5, 5, 1);
    assert_int_equal(rig_map_set(rig), 0);
    rig_run(rig);
    rig->disk.fail_kind = OP_RENAME;
    rig->disk.fail_count = 1;
    rig->disk.fail_error = -EIO;
    assert_int_equal(rig_close_episodes(rig), -EIO);
    assert_int_equal(store_failed(rig->store), KHO_EREADONLY);
    rig_map_build(rig, 6, 5, 1);
    assert_int_equal(rig_map_set(rig), KHO_EREADONLY);
    rig_stop(rig);
    assert_int_equal(store_phase(rig->store), STORE_STOPPED);
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
}

/* A sealed segment that is gone, or another folder's, is rot of the whole shard, told once. */
static void segment_gone(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    for (uint32_t i = 0; i < 200; i++) {
        struct rig_key key = rig_key(1, i);
        while (rig_put(rig, &key, T0 + 1, i + 1, 50000, false, NULL) == -EAGAIN)
            rig_run(rig);
    }
    rig_run(rig);
    memory_disk_remove(memory_disk_file(&rig->disk, FILE_SEGMENT, 1));
    for (int pass = 0; pass < 2; pass++) {
        rig_crash(rig);
        assert_int_equal(store_phase(rig->store), STORE_READY);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
        assert_int_equal(check(rig, 1, 0, 1, 50000), KHO_EUNKNOWN);
    }
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    assert_int_equal(check(rig, 1, 199, 1, 50000), 0);
}

/* The segment that is written to vanishes: the shard goes on, in an episode, and gives no sequence
 * twice. */
static void current_segment_gone(void **state)
{
    struct rig *rig = *state;
    twenty(rig);
    uint64_t durable = store_durable(rig->store);
    memory_disk_remove(memory_disk_file(&rig->disk, FILE_SEGMENT, 1));
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
    assert_true(store_durable(rig->store) > durable);
    put(rig, 1, 99, 1, 10);
    rig_run(rig);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
}

/* A segment cut short loses its durable end: rot; the commits before it count. */
static void truncated_segment(void **state)
{
    struct rig *rig = *state;
    twenty(rig);
    struct memory_file *segment = memory_disk_file(&rig->disk, FILE_SEGMENT, 1);
    segment->size = page(10);
    segment->used = segment->stable_used = page(10);
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    assert_true(store_suspect(rig->store) || store_episode_of(rig->store, 0) != 0);
    put(rig, 1, 99, 1, 10);
    rig_run(rig);
    uint32_t episodes = store_episodes(rig->store, NULL, 0);
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    assert_int_equal(store_episodes(rig->store, NULL, 0), episodes);
}

/* A damaged, missing or foreign manifest ends the start with the remedy named. */
static void manifest_damaged(void **state)
{
    struct rig *rig = *state;
    twenty(rig);
    struct memory_file *manifest = memory_disk_file(&rig->disk, FILE_MANIFEST, 0);
    memory_disk_flip(manifest, 100, 1);
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_FAILED);
    assert_non_null(strstr(rig->last_event, "readmit"));
    memory_disk_flip(manifest, 100, 1);
    rig->options.incarnation.bytes[0] ^= 1;
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_FAILED);
    rig->options.incarnation.bytes[0] ^= 1;
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    memory_disk_remove(memory_disk_file(&rig->disk, FILE_MANIFEST, 0));
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_FAILED);
}

/* A damaged map ends the start, too. */
static void map_damaged(void **state)
{
    struct rig *rig = *state;
    twenty(rig);
    struct memory_file *map = memory_disk_file(&rig->disk, FILE_MAP, 0);
    memory_disk_flip(map, 30, 1);
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_FAILED);
    memory_disk_flip(map, 30, 1);
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
}

int main(void)
{
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORE_TEST(manifest_fails),       STORE_TEST(segment_gone),
        STORE_TEST(current_segment_gone), STORE_TEST(truncated_segment),
        STORE_TEST(manifest_damaged),     STORE_TEST(map_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
