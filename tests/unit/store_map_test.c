/* store_map_test.c: what a new map makes of what is stored: given up, emptied, let in again. */
#include "store_story.h"

#include <errno.h>

/* The map: refused where it isn't ours, older or another of the same epoch; durable once told. */
static void map_rules(void **state)
{
    struct rig *rig = *state;
    bool done;
    rig_start(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    assert_null(store_map(rig->store));
    struct file_found found[4];
    assert_int_equal(memory_disk_list(&rig->disk, found, 4), 0);
    struct rig_key key = rig_key(1, 1);
    assert_int_equal(rig_put(rig, &key, T0, 1, 1, false, NULL), KHO_ENOMAP);
    rig_map_build(rig, 3, 0, 1);
    rig->map[200] ^= 1;
    assert_int_equal(rig_map_set(rig), KHO_EMAP);
    rig_map_build(rig, 3, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(store_map(rig->store)->epoch, 3);
    assert_int_equal(store_map_self(rig->store), 0);
    assert_int_equal(store_map_set(rig->store, rig->map, rig->map_bytes, NULL, 0, rig->now, &done),
                     0);
    assert_true(done);
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), KHO_EEPOCHOLD);
    rig_map_build(rig, 3, 0, 2);
    assert_int_equal(rig_map_set(rig), KHO_EMAP);
    rig_map_build(rig, 4, 0, 1);
    rig->map[8] ^= 1;
    struct kho_id hash = map_hash(rig->map, rig->map_bytes);
    memcpy(rig->map + 32, hash.bytes, 16);
    assert_int_equal(rig_map_set(rig), KHO_ECLUSTER);
    rig_map_build(rig, 4, 0, 1);
    rig->map[KHO_MAP_HEAD + 32] ^= 1;
    hash = map_hash(rig->map, rig->map_bytes);
    memcpy(rig->map + 32, hash.bytes, 16);
    assert_int_equal(rig_map_set(rig), KHO_EINCARNATION);
    rig_crash(rig);
    assert_int_equal(store_map(rig->store)->epoch, 3);
}

static int forget(struct rig *rig, const struct rig_key *key, uint64_t counter)
{
    struct version version;
    rig_probe(rig, key, &version);
    version.counter = counter;
    return store_forget(rig->store, 1, key->partition, key->hash, version, rig->now);
}

/* R2: a version without its value is given up where no write of it can be acknowledged any more:
 * not in the epoch of the damage, nor while the key is written, nor where the value is there. */
static void gives_up_never(void **state)
{
    struct rig *rig = *state;
    struct rig_key key = rig_key(1, 5);
    twenty(rig);
    assert_int_equal(forget(rig, &key, T0 + 1), -ENOENT);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), page(5) + 450, 1);
    assert_int_equal(check(rig, 1, 5, 1, 100), KHO_EDAMAGED);
    assert_int_equal(forget(rig, &key, T0 + 1), KHO_EEPISODE);
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(forget(rig, &key, T0 + 2), -ENOENT);
    rig->hold_commits = true;
    assert_int_equal(rig_put(rig, &key, T0 + 1, 6, 100, true, NULL), 0);
    rig_run(rig);
    assert_int_equal(forget(rig, &key, T0 + 1), KHO_EBUSY);
    rig->hold_commits = false;
    rig_release(rig);
    rig_run(rig);
    assert_int_equal(forget(rig, &key, T0 + 1), -ENOENT);
    assert_int_equal(check(rig, 1, 5, 1, 100), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
}

/* Given up, the partition hides, since an older version may have been there, until repair has
 * brought it and closes the episodes. A start finds the version again, and opens one again. */
static void gives_up(void **state)
{
    struct rig *rig = *state;
    struct rig_key key = rig_key(1, 5);
    uint64_t stats[STAT_COUNT] = {0};
    twenty(rig);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), page(5) + 450, 1);
    assert_int_equal(check(rig, 1, 5, 1, 100), KHO_EDAMAGED);
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_probe(rig, &key, NULL), WIRE_VALUE_UNKNOWN);
    assert_int_equal(forget(rig, &key, T0 + 1), 0);
    rig_run(rig);
    assert_non_null(strstr(rig->last_event, "given up"));
    assert_int_equal(forget(rig, &key, T0 + 1), -ENOENT);
    assert_int_equal(rig_probe(rig, &key, NULL), WIRE_UNKNOWN);
    store_stats(rig->store, stats);
    assert_int_equal(stats[STAT_values_unknown], 0);
    assert_int_equal(stats[STAT_records], 19);
    assert_int_equal(rig_put(rig, &key, T0, 6, 100, true, NULL), 0);
    rig_run(rig);
    assert_int_equal(rig_close_episodes(rig), 0);
    assert_int_equal(rig_check(rig, &key, T0, 6, 100), 0);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(i == 5 ? 0 : check(rig, 1, i, 1, 100), 0);
}

/* A folder that lost its files under an incarnation that the map still names knows that it may have
 * held records: it says unknown, never absent, until repair under a raised epoch. */
static void emptied(void **state)
{
    struct rig *rig = *state;
    struct rig_key key = rig_key(1, 1);
    struct wire_episode episode;
    struct file_found found[16];
    rig_ready(rig);
    put(rig, 1, 1, 1, 10);
    rig_stop(rig);
    for (size_t n = memory_disk_list(&rig->disk, found, 16); n-- > 0;)
        memory_disk_remove(memory_disk_file(&rig->disk, found[n].name.kind, found[n].name.id));
    rig_kill(rig);
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_probe(rig, &key, NULL), WIRE_UNKNOWN);
    assert_int_equal(store_episodes(rig->store, &episode, 1), 1);
    assert_int_equal(episode.kind, WIRE_EPISODE_WIPED);
    assert_int_equal(episode.partitions, RIG_PARTITIONS);
    assert_int_equal(store_episode_close(rig->store, episode.id, 0, NULL, 0), KHO_EEPISODE);
    rig_map_build(rig, 3, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
    assert_int_equal(rig_probe(rig, &key, NULL), WIRE_ABSENT);
}

/* A readmitted folder opens its WIPED episode before the map counts; it closes under that map. */
static void readmitted(void **state)
{
    struct rig *rig = *state;
    struct rig_key key = rig_key(1, 1);
    struct wire_episode episode;
    rig_start(rig);
    rig_map_build(rig, 5, 5, 1);
    assert_int_equal(rig_map_set(rig), 0);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, &episode, 1), 1);
    assert_int_equal(episode.kind, WIRE_EPISODE_WIPED);
    assert_int_equal(episode.partitions, RIG_PARTITIONS);
    assert_int_equal(rig_probe(rig, &key, NULL), WIRE_UNKNOWN);
    put(rig, 1, 1, 1, 10);
    rig_run(rig);
    assert_int_equal(rig_probe(rig, &key, NULL), WIRE_UNKNOWN);
    assert_int_equal(store_episode_close(rig->store, episode.id, RIG_PARTITIONS, NULL, 0), -ENOENT);
    assert_int_equal(rig_close_episodes(rig), 0);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    assert_int_equal(check(rig, 1, 1, 1, 10), 0);
    rig_map_build(rig, 6, 5, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
}

/* R5: data from before this node became a replica again is gone, for good; what is written since
 * stays. */
static void former_replica_discards(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    put(rig, 1, 1, 1, 10);
    rig_run(rig);
    rig_map_build(rig, 4, 0, 4);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(check(rig, 1, 1, 1, 10), KHO_ENOTFOUND);
    put(rig, 1, 2, 1, 10);
    rig_run(rig);
    rig_crash(rig);
    assert_int_equal(check(rig, 1, 1, 1, 10), KHO_ENOTFOUND);
    assert_int_equal(check(rig, 1, 2, 1, 10), 0);
}

/* R5: so is what was in flight when the map came, new keys and old ones, and what memory it had
 * reserved is free again; keys that are written under the new map are theirs alone. */
static void former_replica_discards_in_flight(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    for (uint32_t i = 0; i < 20; i++)
        put(rig, 1, i, 1, 10);
    rig_run(rig);
    rig->hold_commits = true;
    for (uint32_t i = 10; i < 30; i++) {
        put(rig, 1, i, 2, 10);
        if (i % 10 == 5)
            rig_run(rig);
    }
    assert_true(rig->held_count > 0);
    rig_map_build(rig, 4, 0, 4);
    assert_int_equal(rig_map_set(rig), 0);
    for (uint32_t i = 25; i < 35; i++)
        put(rig, 1, i, 3, 10);
    rig_run(rig);
    rig->hold_commits = false;
    rig_release(rig);
    rig_run(rig);
    for (int pass = 0; pass < 2; pass++) {
        uint64_t stats[STAT_COUNT] = {0};
        for (uint32_t i = 0; i < 35; i++)
            assert_int_equal(check(rig, 1, i, 3, 10), i < 25 ? KHO_ENOTFOUND : 0);
        store_stats(rig->store, stats);
        assert_int_equal(stats[STAT_records], 10);
        rig_crash(rig);
    }
}

int main(void)
{
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORE_TEST(map_rules),
        STORE_TEST(gives_up_never),
        STORE_TEST(gives_up),
        STORE_TEST(emptied),
        STORE_TEST(readmitted),
        STORE_TEST(former_replica_discards),
        STORE_TEST(former_replica_discards_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
