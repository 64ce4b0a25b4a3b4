/* store_test.c: the store through its door, over a disk in memory: what is acknowledged is there
 * after every kind of end, and what is damaged says so. */
#include "node/block.h"
#include "node/index.h"
#include "node/manifest.h"
#include "node/place.h"
#include "rig.h"

#include <errno.h>

static void put(struct rig *rig, uint32_t collection, uint32_t number, uint64_t version,
                uint32_t len)
{
    struct rig_key key = rig_key(collection, number);
    assert_int_equal(rig_put(rig, &key, T0 + version, number + version, len, false, NULL), 0);
}

static int check(struct rig *rig, uint32_t collection, uint32_t number, uint64_t version,
                 uint32_t len)
{
    struct rig_key key = rig_key(collection, number);
    return rig_check(rig, &key, T0 + version, number + version, len);
}

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

/* The offset of the n-th commit (from 0) of a segment of one-page commits. */
static uint64_t page(uint32_t n)
{
    return 4096u * (1 + n);
}

/* Twenty commits of one record each, then a mark. */
static void twenty(struct rig *rig)
{
    rig_ready(rig);
    for (uint32_t i = 0; i < 20; i++) {
        put(rig, 1, i, 1, 100);
        rig_run(rig);
    }
    rig_pass(rig, 60);
}

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

/* Places hold every size up to the largest block, with little to spare. */
static void places(void **state)
{
    (void)state;
    for (uint32_t bytes = 1; bytes <= 192 + KHO_RECORD_MAX; bytes += 1 + bytes / 1000) {
        uint64_t place = place_encode(7, 64 * 1234, bytes);
        assert_true(place_bytes(place) >= bytes);
        if (bytes <= 192 + BLOCK_RAW_MAX)
            assert_true(place_bytes(place) < bytes + 512);
        else
            assert_true(place_bytes(place) <= bytes + bytes / 10 * 3);
        assert_int_equal(place_slot(place), 7);
        assert_int_equal(place_offset(place), 64 * 1234);
        assert_true(place < PLACE_UNKNOWN);
    }
    uint64_t last = place_encode(PLACE_SLOTS_MAX - 1, (256u << 20) - 64, 192 + KHO_RECORD_MAX);
    assert_true(last < PLACE_UNKNOWN);
    assert_int_equal(place_slot(last), PLACE_SLOTS_MAX - 1);
    assert_int_equal(place_offset(last), (256u << 20) - 64);
}

int main(void)
{
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places),
        STORE_TEST(write_restart_read),
        STORE_TEST(digest_survives),
        STORE_TEST(commits_land_in_order),
        STORE_TEST(pending_rules),
        STORE_TEST(too_far_ahead),
        STORE_TEST(many_segments),
        STORE_TEST(idle_mark),
        STORE_TEST(crash_at_every_op),
        STORE_TEST(torn_tail),
        STORE_TEST(whole_tail),
        STORE_TEST(garbage_tail),
        STORE_TEST(rot_everywhere),
        STORE_TEST(rot_repaired),
        STORE_TEST(rot_met_by_read),
        STORE_TEST(copy_heals),
        STORE_TEST(floors),
        STORE_TEST(known_damage_grows),
        STORE_TEST(neighbour_of_known_damage),
        STORE_TEST(manifest_fails),
        STORE_TEST(segment_gone),
        STORE_TEST(current_segment_gone),
        STORE_TEST(truncated_segment),
        STORE_TEST(manifest_damaged),
        STORE_TEST(map_damaged),
        STORE_TEST(write_fails),
        STORE_TEST(write_fails_among_others),
        STORE_TEST(disk_full),
        STORE_TEST(memory_full),
        STORE_TEST(many_reads),
        STORE_TEST(map_rules),
        STORE_TEST(gives_up_never),
        STORE_TEST(gives_up),
        STORE_TEST(emptied),
        STORE_TEST(readmitted),
        STORE_TEST(former_replica_discards),
        STORE_TEST(listing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
