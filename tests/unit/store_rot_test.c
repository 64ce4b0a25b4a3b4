/* store_rot_test.c: damage to blocks is noticed, told, and healed. */
#include "store_story.h"

#include <errno.h>

/* R3: a flipped bit anywhere in a durable commit is noticed at the next start: rot, never a cut.
 * Bits that hold nothing open no episode. */
static void rot_everywhere(void **state)
{
    struct rig *rig = *state;
    twenty(rig);
    struct memory_disk *disk = &rig->disk;
    uint32_t episodes = 0, harmless = 0;
    for (uint32_t at = 0; at < 1024; at += 3) {
        struct memory_file *segment = memory_disk_file(disk, FILE_SEGMENT, 1);
        struct memory_file manifest = *memory_disk_file(disk, FILE_MANIFEST, 0);
        uint8_t *saved = malloc(manifest.size);
        memcpy(saved, manifest.data, manifest.size);
        memory_disk_flip(segment, page(5) + at, 0x10);
        rig->last_event[0] = 0;
        rig_crash(rig);
        assert_int_equal(store_phase(rig->store), STORE_READY);
        assert_false(store_suspect(rig->store));
        assert_int_not_equal(rig->last_event[0], 0);
        if (store_episodes(rig->store, NULL, 0) > 0) {
            episodes++;
            assert_int_equal(check(rig, 1, 5, 1, 100), KHO_EUNKNOWN);
            assert_int_equal(check(rig, 1, 7, 1, 100), KHO_EUNKNOWN);
        } else {
            harmless++;
            for (uint32_t i = 0; i < 20; i++)
                assert_int_equal(check(rig, 1, i, 1, 100), 0);
        }
        /* As it was: the bit and the manifest. */
        memory_disk_flip(segment, page(5) + at, 0x10);
        struct memory_file *now = memory_disk_file(disk, FILE_MANIFEST, 0);
        now->size = manifest.size;
        memory_disk_fill(now, 0, now->size, 0);
        memcpy(now->data, saved, manifest.size);
        memcpy(now->stable, saved, manifest.size);
        free(saved);
    }
    /* Head, block head and a record of some 170 bytes. */
    assert_true(episodes > (192 + 192 + 100) / 3);
    assert_true(harmless > 100);
}

/* Rot at a start: the partitions answer unknown; a repair that copies the record and closes the
 * episode makes it whole, and the rotten block opens nothing at the next start. */
static void rot_repaired(void **state)
{
    struct rig *rig = *state;
    struct rig_key key = rig_key(1, 5);
    twenty(rig);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), page(5) + 450, 1);
    rig_crash(rig);
    struct wire_episode episode;
    assert_int_equal(store_episodes(rig->store, &episode, 1), 1);
    assert_int_equal(episode.kind, WIRE_EPISODE_ROT);
    assert_int_equal(episode.partitions, RIG_PARTITIONS);
    assert_int_equal(rig_probe(rig, &key, NULL), WIRE_UNKNOWN);
    assert_int_equal(store_episode_of(rig->store, key.partition), episode.id);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
    assert_int_equal(rig_put(rig, &key, T0 + 1, 6, 100, true, NULL), 0);
    rig_run(rig);
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
    for (int pass = 0; pass < 2; pass++) {
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
        for (uint32_t i = 0; i < 20; i++)
            assert_int_equal(check(rig, 1, i, 1, 100), 0);
        rig_crash(rig);
    }
}

/* R2: a block found rotten by a read loses its values, not its versions: others of its partition
 * answer, a copy of the same version heals it; after a restart the partition is unknown. */
static void rot_met_by_read(void **state)
{
    struct rig *rig = *state;
    struct rig_key key = rig_key(1, 5);
    struct version version;
    twenty(rig);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), page(5) + 450, 1);
    assert_int_equal(check(rig, 1, 5, 1, 100), KHO_EDAMAGED);
    assert_non_null(strstr(rig->last_event, "segment-0000000000000001 offset 24768"));
    assert_int_equal(check(rig, 1, 5, 1, 100), KHO_EUNKNOWN);
    assert_int_equal(rig_probe(rig, &key, &version), WIRE_VALUE_UNKNOWN);
    assert_int_equal(version.counter, T0 + 1);
    struct wire_episode episode;
    assert_int_equal(store_episodes(rig->store, &episode, 1), 1);
    assert_int_equal(episode.partitions, 1);
    assert_int_equal(episode.first_partition, key.partition);
    assert_int_equal(store_episode_of(rig->store, key.partition), 0);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(check(rig, 1, i, 1, 100), i == 5 ? KHO_EUNKNOWN : 0);
    rig_crash(rig);
    assert_int_equal(rig_probe(rig, &key, NULL), WIRE_UNKNOWN);
    assert_int_equal(store_episode_of(rig->store, key.partition), episode.id);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
    assert_int_equal(rig_put(rig, &key, T0 + 1, 6, 100, true, NULL), 0);
    rig_run(rig);
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
    assert_int_equal(check(rig, 1, 5, 1, 100), 0);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    assert_int_equal(check(rig, 1, 5, 1, 100), 0);
}

/* A copy of the very version heals an entry whose value is unknown; one with another length is a
 * conflict. */
static void copy_heals(void **state)
{
    struct rig *rig = *state;
    struct rig_key key = rig_key(1, 5);
    uint64_t stats[STAT_COUNT] = {0};
    twenty(rig);
    rig->disk.fail_kind = OP_READ;
    rig->disk.fail_count = 1;
    rig->disk.fail_error = -EIO;
    assert_int_equal(check(rig, 1, 5, 1, 100), -EIO);
    store_stats(rig->store, stats);
    assert_int_equal(stats[STAT_values_unknown], 1);
    assert_int_equal(stats[STAT_damaged_blocks], 1);
    assert_int_equal(rig_put(rig, &key, T0 + 1, 6, 99, true, NULL), KHO_ECONFLICT);
    assert_int_equal(rig_put(rig, &key, T0 + 1, 6, 100, true, NULL), 0);
    rig_run(rig);
    assert_int_equal(check(rig, 1, 5, 1, 100), 0);
    memset(stats, 0, sizeof stats);
    store_stats(rig->store, stats);
    assert_int_equal(stats[STAT_values_unknown], 0);
}

/* A commit that is lost opens an episode though the one before it is known to be lost and healed:
 * the stretch has grown. */
static void known_damage_grows(void **state)
{
    struct rig *rig = *state;
    twenty(rig);
    for (uint32_t pass = 0; pass < 3; pass++) {
        memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), page(5 + pass) + 20, 1);
        rig_crash(rig);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
        assert_int_equal(check(rig, 1, 5 + pass, 1, 100), KHO_EUNKNOWN);
        rig_map_build(rig, 2 + pass, 0, 1);
        assert_int_equal(rig_map_set(rig), 0);
        assert_int_equal(rig_close_episodes(rig), 0);
        rig_crash(rig);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    }
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(check(rig, 1, i, 1, 100), i >= 5 && i <= 7 ? KHO_ENOTFOUND : 0);
}

/* Two neighbouring blocks of one commit: the first is known and healed, then both lose their heads:
 * the second isn't forgotten behind the first. */
static void neighbour_of_known_damage(void **state)
{
    struct rig *rig = *state;
    struct rig_key key = rig_key(1, 100);
    rig_ready(rig);
    for (uint32_t i = 100; i < 103; i++)
        put(rig, 1, i, 1, 20000);
    rig_run(rig);
    rig_pass(rig, 60);
    /* Blocks of 20,000 bytes and heads, from offset 192 of the first commit. */
    uint64_t block = 4096 + 192, span = kho_round_up(192 + 48 + 16 + 20000, 64);
    struct memory_file *segment = memory_disk_file(&rig->disk, FILE_SEGMENT, 1);
    assert_int_equal(kho_load32(segment->data + block), 0x426F686B);
    assert_int_equal(kho_load32(segment->data + block + span), 0x426F686B);
    memory_disk_flip(segment, block + 30, 1);
    assert_int_equal(check(rig, 1, 100, 1, 20000), KHO_EDAMAGED);
    assert_int_equal(rig_put(rig, &key, T0 + 1, 101, 20000, true, NULL), 0);
    rig_run(rig);
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    for (uint32_t i = 100; i < 103; i++)
        assert_int_equal(check(rig, 1, i, 1, 20000), 0);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), block + span + 30, 1);
    for (int pass = 0; pass < 2; pass++) {
        rig_crash(rig);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
        assert_int_equal(check(rig, 1, 101, 1, 20000), KHO_EUNKNOWN);
    }
}

int main(void)
{
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORE_TEST(rot_everywhere),     STORE_TEST(rot_repaired),
        STORE_TEST(rot_met_by_read),    STORE_TEST(copy_heals),
        STORE_TEST(known_damage_grows), STORE_TEST(neighbour_of_known_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
