/* recover_test.c: what a start makes of a folder: the manifest as bytes, tails with several commits
 * in flight, holes, strays, and what can't be read. */
#include "node/depot.h"
#include "node/manifest.h"
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

static void put_commits(struct rig *rig, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        put(rig, i, 100);
        rig_run(rig);
    }
}

static void manifest_fill(struct manifest *m)
{
    m->identity = (struct identity){.cluster = {{1}}, .incarnation = {{2}}, .shard = 1};
    m->shard_count = 2;
    m->generation = 5;
    m->durable = 77;
    m->next_segment = 9;
    m->readmitted = 3;
    assert_int_equal(manifest_set_partitions(m, 16), 0);
    struct segment sealed = {.id = 1,
                             .size = 4u << 20,
                             .alignment = 4096,
                             .sealed = true,
                             .end = 8192,
                             .last = 6,
                             .last_checksum = {{4}}};
    struct segment open = {.id = 8, .size = 4u << 20, .alignment = 512};
    assert_int_equal(manifest_add_segment(m, &sealed), 0);
    assert_int_equal(manifest_add_segment(m, &open), 0);
    struct episode *e = manifest_open_episode(m, WIRE_EPISODE_ROT, 4, 1000, false);
    manifest_episode_set(m, e, 3);
    manifest_episode_set(m, e, 15);
    struct damage damage = {
        .segment = 1, .offset = 4096, .length = 192, .episode = e->id, .found_ms = 8};
    manifest_add_damage(m, &damage);
    m->floors[4] = (struct floor){.floor = 44, .drops = 2};
    m->base = 3;
    m->base_checksum = (struct kho_id){{7, 7}};
}

/* All that the manifest holds comes back, and every flipped byte of it is noticed. */
static void manifest_bytes(void **state)
{
    struct shard_world world;
    struct manifest m, read;
    uint8_t bytes[2048], again[2048];
    (void)state;
    world_init(&world, 1 << 20, 1);
    manifest_init(&m, &world);
    manifest_fill(&m);
    size_t length = manifest_length(&m);
    assert_true(length < sizeof bytes);
    manifest_encode(&m, bytes);
    manifest_init(&read, &world);
    assert_int_equal(manifest_decode(&read, bytes, length), 0);
    assert_int_equal(manifest_length(&read), length);
    manifest_encode(&read, again);
    assert_memory_equal(again, bytes, length);
    assert_int_equal(manifest_hides(&read, 3), 1);
    assert_int_equal(manifest_hides(&read, 4), 0);
    assert_true(manifest_damage_known(&read, 1, 4096, 192));
    assert_false(manifest_damage_known(&read, 1, 4096 + 192, 192));
    assert_int_equal(read.floors[4].floor, 44);
    manifest_fini(&read);
    for (size_t i = 0; i < length; i++) {
        bytes[i] ^= 0x40;
        manifest_init(&read, &world);
        assert_true(manifest_decode(&read, bytes, length) < 0);
        manifest_fini(&read);
        bytes[i] ^= 0x40;
    }
    for (size_t cut = 0; cut < length; cut += 7) {
        manifest_init(&read, &world);
        assert_true(manifest_decode(&read, bytes, cut) < 0);
        manifest_fini(&read);
    }
    manifest_fini(&m);
    assert_int_equal(world.memory_bytes, 0);
}

/* Known damage is cut around what holds after all: at its ends, in its middle, or whole. */
static void manifest_cuts_damage(void **state)
{
    struct shard_world world;
    struct manifest m;
    (void)state;
    world_init(&world, 1 << 20, 1);
    manifest_init(&m, &world);
    struct damage block = {.segment = 1, .offset = 4096, .length = 192};
    struct damage row = {.segment = 1, .offset = 8192, .length = 8192};
    struct damage rest = {.segment = 1, .offset = 1 << 20, .length = DAMAGE_TO_END};
    manifest_add_damage(&m, &block);
    manifest_add_damage(&m, &row);
    manifest_add_damage(&m, &rest);
    assert_false(manifest_cut_damage(&m, 2, 4096, 4096));
    assert_false(manifest_cut_damage(&m, 1, 0, 4096));
    assert_true(manifest_cut_damage(&m, 1, 4096, 4096));
    assert_int_equal(m.damages.count, 2);
    assert_false(manifest_damage_known(&m, 1, 4096, 192));
    assert_true(manifest_cut_damage(&m, 1, 8192, 64));
    assert_true(manifest_cut_damage(&m, 1, 16384 - 64, 64));
    assert_true(manifest_cut_damage(&m, 1, 10240, 1024));
    assert_int_equal(m.damages.count, 3);
    assert_true(manifest_damage_known(&m, 1, 8192 + 64, 2048 - 64));
    assert_false(manifest_damage_known(&m, 1, 8192 + 64, 2048));
    assert_true(manifest_damage_known(&m, 1, 10240 + 1024, 16384 - 64 - 10240 - 1024));
    assert_true(manifest_cut_damage(&m, 1, 2 << 20, 4096));
    assert_true(manifest_damage_known(&m, 1, 1 << 20, 1 << 20));
    assert_false(manifest_damage_known(&m, 1, 2 << 20, 192));
    assert_true(manifest_damage_known(&m, 1, (2 << 20) + 4096, 1 << 30));
    manifest_fini(&m);
    assert_int_equal(world.memory_bytes, 0);
}

/* A segment that retires leaves no gap in the log: the one before it accounts for its sequences, or
 * the manifest itself. Slots are used again once they are free, ids never. */
static void manifest_retires(void **state)
{
    struct shard_world world;
    struct manifest m, read;
    uint8_t bytes[4096];
    (void)state;
    world_init(&world, 1u << 20, 1);
    manifest_init(&m, &world);
    m.next_segment = 10;
    m.shard_count = 1;
    m.identity.cluster = (struct kho_id){{1}};
    assert_int_equal(manifest_set_partitions(&m, 16), 0);
    for (uint64_t i = 1; i <= 4; i++) {
        struct segment s = {.id = i,
                            .size = 4u << 20,
                            .alignment = 4096,
                            .sealed = true,
                            .end = 8192,
                            .last = i * 10,
                            .last_checksum = {{(uint8_t)i}}};
        struct damage damage = {.segment = i, .offset = 4096, .length = 192};
        assert_int_equal(manifest_add_segment(&m, &s), 0);
        manifest_add_damage(&m, &damage);
    }
    assert_int_equal(manifest_retire(&m, 1), 0);
    assert_int_equal(manifest_segment(&m, 0)->last, 20);
    assert_int_equal(manifest_segment(&m, 0)->last_checksum.bytes[0], 2);
    assert_int_equal(m.damages.count, 3);
    assert_int_equal(manifest_retire(&m, 0), 0);
    assert_int_equal(m.base, 20);
    assert_int_equal(m.base_checksum.bytes[0], 2);
    assert_int_equal(manifest_retire(&m, 3), 0);
    assert_int_equal(manifest_segment(&m, 2)->last, 40);
    assert_int_equal(m.newest, 2);
    manifest_free_slot(&m, 1);
    manifest_retired_gone(&m, 2);
    struct segment next = {.id = 7, .size = 4u << 20, .alignment = 4096};
    uint32_t slot;
    assert_int_equal(manifest_take_slot(&m, &slot), 0);
    assert_int_equal(slot, 1);
    manifest_list(&m, slot, &next);
    assert_int_equal(m.listed, 2);
    size_t length = manifest_length(&m);
    manifest_encode(&m, bytes);
    manifest_init(&read, &world);
    assert_int_equal(manifest_decode(&read, bytes, length), 0);
    assert_int_equal(read.listed, 2);
    assert_int_equal(manifest_segment(&read, 0)->id, 3);
    assert_int_equal(manifest_segment(&read, 1)->id, 7);
    assert_true(manifest_is_retired(&read, 1));
    assert_false(manifest_is_retired(&read, 2));
    assert_true(manifest_is_retired(&read, 4));
    manifest_fini(&read);
    manifest_fini(&m);
}

/* Takes segments off the stopped shard's list, as if all in them had been copied. */
static void retire(struct rig *rig, const uint64_t *ids, size_t count)
{
    struct memory_file *file = memory_disk_file(&rig->disk, FILE_MANIFEST, 0);
    struct shard_world world;
    struct manifest m;
    uint8_t bytes[4096] = {0};
    world_init(&world, 1u << 20, 1);
    manifest_init(&m, &world);
    assert_int_equal(manifest_decode(&m, file->data, file->size), 0);
    for (size_t i = 0; i < count; i++)
        for (uint32_t slot = 0; slot < m.segments.count; slot++)
            if (manifest_segment(&m, slot)->id == ids[i])
                assert_int_equal(manifest_retire(&m, slot), 0);
    assert_int_equal(m.retired.count, count);
    assert_true(manifest_length(&m) <= file->size);
    manifest_encode(&m, bytes);
    memory_disk_fill(file, 0, file->size, 0);
    memcpy(file->data, bytes, manifest_length(&m));
    memcpy(file->stable, bytes, manifest_length(&m));
    file->stable_named = false; /* the process ended before it synced the folder */
    manifest_fini(&m);
}

/* Segments that the manifest retired are no damage, at the log's begin, within it, or at its end:
 * their files go at the start, what the others hold is there, and the log goes on. They go no
 * sooner than the manifest's name is stable, since the one before it lists them. */
static void retired(void **state)
{
    static const uint64_t sets[][3] = {{1}, {2, 3}, {1, 3}, {1, 2, 3}};
    static const size_t counts[] = {1, 2, 2, 3};
    struct rig *rig = *state;
    for (size_t i = 0; i < KHO_COUNT_OF(counts); i++) {
        uint64_t stats[STAT_COUNT] = {0};
        uint32_t there = 0;
        rig_fini(rig);
        rig_init(rig);
        rig->options.segment_bytes = 1u << 20;
        rig_ready(rig);
        for (uint32_t k = 0; k < 90; k++) {
            put(rig, k, 40000);
            rig_run(rig);
        }
        rig_stop(rig);
        retire(rig, sets[i], counts[i]);
        rig_kill(rig);
        assert_int_equal(store_phase(rig->store), STORE_READY);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
        store_stats(rig->store, stats);
        assert_int_equal(stats[STAT_damaged_blocks], 0);
        assert_int_equal(rig->disk.unlinked_early, 0);
        for (size_t k = 0; k < counts[i]; k++)
            assert_null(memory_disk_file(&rig->disk, FILE_SEGMENT, sets[i][k]));
        for (uint32_t k = 0; k < 90; k++)
            there += check(rig, k, 40000) == 0;
        assert_int_equal(there, stats[STAT_records]);
        assert_true(there > 0 && there < 90);
        put_commits(rig, 100, 5);
        rig_crash(rig);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
        for (uint32_t k = 100; k < 105; k++)
            assert_int_equal(check(rig, k, 100), 0);
        rig_crash(rig);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    }
}

/* How much of a commit under way reached the disk before the power went. */
enum reach { NOTHING, PARTLY, WHOLE, REACHES };

/* R1, R3: three commits in flight reach the disk in every combination: what was acknowledged stays,
 * commits count from the front as far as they are whole, and this is no reason for suspicion. */
static void several_in_flight(void **state)
{
    struct rig *rig = *state;
    for (int combination = 0; combination < REACHES * REACHES * REACHES; combination++) {
        int reach[3] = {combination % 3, combination / 3 % 3, combination / 9};
        rig_fini(rig);
        rig_init(rig);
        rig_ready(rig);
        put_commits(rig, 0, 3);
        rig->hold_commits = true;
        for (uint32_t i = 0; i < 3; i++) {
            put(rig, 10 + i, 9000);
            rig_run(rig);
        }
        assert_int_equal(rig->held_count, 3);
        for (int i = 0; i < 3; i++)
            memory_disk_tear(&rig->disk, rig->held[i],
                             reach[i] == WHOLE    ? UINT64_MAX
                             : reach[i] == PARTLY ? 0x3F
                                                  : 0);
        rig->hold_commits = false;
        rig_crash(rig);
        assert_int_equal(store_phase(rig->store), STORE_READY);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
        bool whole = true;
        for (uint32_t i = 0; i < 3; i++) {
            whole = whole && reach[i] == WHOLE;
            assert_int_equal(check(rig, i, 100), 0);
            assert_int_equal(check(rig, 10 + i, 9000), whole ? 0 : KHO_ENOTFOUND);
        }
        /* It goes on, and the next start finds nothing to say about it. */
        put_commits(rig, 20, 2);
        rig_crash(rig);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
        assert_int_equal(check(rig, 21, 100), 0);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(check(rig, i, 100), 0);
    }
}

/* R3: zeros where a commit was that is known to be durable are rot, not a torn end. */
static void zeroed_commit(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    put_commits(rig, 0, 6);
    memory_disk_fill(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), 4096 + 2 * 4096, 4096, 0);
    for (int pass = 0; pass < 2; pass++) {
        rig_crash(rig);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
        assert_false(store_suspect(rig->store));
        assert_int_equal(check(rig, 1, 100), KHO_EUNKNOWN);
    }
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(check(rig, i, 100), i == 2 ? KHO_ENOTFOUND : 0);
}

/* The last record's commit is damaged behind the mark that says it is durable: rot. */
static void damage_below_mark(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    put_commits(rig, 0, 3);
    rig_pass(rig, 60);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), 3 * 4096 + 10, 1);
    rig_crash(rig);
    assert_false(store_suspect(rig->store));
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
    put_commits(rig, 10, 1);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
}

/* The same damage before any mark: suspect, since it may have been acknowledged. */
static void damage_at_unmarked_end(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    put_commits(rig, 0, 3);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), 3 * 4096 + 450, 1);
    rig_crash(rig);
    assert_true(store_suspect(rig->store));
    assert_int_equal(check(rig, 0, 100), 0);
    assert_int_equal(check(rig, 1, 100), 0);
}

/* Bytes in the empty part of the log are noticed, too. */
static void garbage_far_behind(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    put_commits(rig, 0, 3);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), 2u << 20, 1);
    rig_crash(rig);
    assert_true(store_suspect(rig->store));
    put_commits(rig, 10, 3);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(check(rig, i, 100), 0);
        assert_int_equal(check(rig, 10 + i, 100), 0);
    }
}

/* A stretch that can't be read is rot as small as the alignment: all other records are found, also
 * once the disk reads again. */
static void unreadable_stretch(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    put_commits(rig, 0, 8);
    rig_pass(rig, 60);
    rig->disk.bad_segment = 1;
    rig->disk.bad_from = 4096 + 3 * 4096 + 700;
    rig->disk.bad_to = rig->disk.bad_from + 1;
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
    assert_false(store_suspect(rig->store));
    assert_int_equal(check(rig, 3, 100), KHO_EUNKNOWN);
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(check(rig, i, 100), i == 3 ? KHO_ENOTFOUND : 0);
    rig->disk.bad_segment = 0;
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(check(rig, i, 100), 0);
}

/* A read that fails once and then doesn't costs nothing. */
static void passing_failure(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    put_commits(rig, 0, 8);
    store_destroy(rig->store);
    rig->store = NULL;
    memory_disk_crash(&rig->disk);
    rig->disk.fail_kind = OP_READ;
    rig->disk.fail_after = 2; /* manifest and map */
    rig->disk.fail_count = 1;
    rig->disk.fail_error = -EIO;
    rig_start(rig);
    assert_int_equal(rig->disk.fail_count, 0);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(check(rig, i, 100), 0);
}

/* Temporary files and a segment that was never listed are removed; one that isn't empty stays. */
static void strays(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    put_commits(rig, 0, 3);
    struct memory_file *spare = NULL;
    for (int i = 0; i < MEMORY_FILES && spare == NULL; i++)
        if (rig->disk.files[i].named == false)
            spare = &rig->disk.files[i];
    assert_non_null(spare);
    struct memory_file *segment = memory_disk_file(&rig->disk, FILE_SEGMENT, 1);
    free(spare->data);
    free(spare->stable);
    *spare = *segment;
    spare->data = calloc(1, segment->room);
    spare->stable = calloc(1, segment->room);
    spare->name.id = spare->stable_name.id = 70;
    memcpy(spare->data, segment->data, 4096);
    memcpy(spare->stable, segment->data, 4096);
    rig_crash(rig);
    assert_null(memory_disk_file(&rig->disk, FILE_SEGMENT, 70));
    assert_int_equal(check(rig, 1, 100), 0);

    for (int i = 0; i < MEMORY_FILES; i++)
        if (!rig->disk.files[i].named && !rig->disk.files[i].stable_named)
            spare = &rig->disk.files[i];
    segment = memory_disk_file(&rig->disk, FILE_SEGMENT, 1);
    free(spare->data);
    free(spare->stable);
    *spare = *segment;
    spare->data = calloc(1, segment->room);
    spare->stable = calloc(1, segment->room);
    spare->name.id = spare->stable_name.id = 71;
    memcpy(spare->data, segment->data, 8192);
    memcpy(spare->stable, segment->data, 8192);
    spare->used = spare->stable_used = 8192;
    rig_crash(rig);
    assert_non_null(memory_disk_file(&rig->disk, FILE_SEGMENT, 71));
    assert_non_null(strstr(rig->last_event, "segment-0000000000000047"));
    /* Its id isn't used again. */
    for (uint32_t i = 100; i < 250; i++) {
        struct rig_key key = rig_key(1, i);
        while (rig_put(rig, &key, T0 + 1, i + 1, 50000, false, NULL) == -EAGAIN)
            rig_run(rig);
    }
    rig_run(rig);
    assert_null(memory_disk_file(&rig->disk, FILE_SEGMENT, 2));
    assert_non_null(memory_disk_file(&rig->disk, FILE_SEGMENT, 72));
}

/* A start under another alignment reads the old segments and goes on in new ones. */
static void other_alignment(void **state)
{
    struct rig *rig = *state;
    static const uint32_t alignments[] = {512, 4096, 65536, 512};
    rig->options.alignment = 512;
    rig_ready(rig);
    for (uint32_t a = 0; a < KHO_COUNT_OF(alignments); a++) {
        rig->options.alignment = alignments[a];
        rig_kill(rig);
        assert_int_equal(store_phase(rig->store), STORE_READY);
        rig_run(rig);
        put_commits(rig, a * 10, 5);
        for (uint32_t i = 0; i < a * 10 + 5; i++)
            assert_int_equal(check(rig, i, 100), i % 10 < 5 ? 0 : KHO_ENOTFOUND);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    }
    rig_kill(rig);
    for (uint32_t i = 0; i < 35; i++)
        assert_int_equal(check(rig, i, 100), i % 10 < 5 ? 0 : KHO_ENOTFOUND);
}

/* A folder whose map file is gone can't be read; without segments it only waits for a map. */
static void map_missing(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    put_commits(rig, 0, 1);
    memory_disk_remove(memory_disk_file(&rig->disk, FILE_MAP, 0));
    rig_crash(rig);
    assert_int_equal(store_phase(rig->store), STORE_FAILED);
    assert_non_null(strstr(rig->last_event, "map"));
}

/* The footer, and the commit that goes to the beginning of the next segment. */
static bool footer_or_next(const struct op *op)
{
    bool commit = op->kind == OP_WRITE && (op->flags & OP_WRITE_DURABLE) != 0 && op->offset == 4096;
    return commit || (op->kind == OP_WRITE && op->purpose == PURPOSE_FOOTER);
}

/* R4: the last footer of a segment can't be written, while the first commit of the next one
 * can: the shard takes no more writes, and the next start finds all that landed and no damage.
 */
static void last_footer_fails(void **state)
{
    struct rig *rig = *state;
    rig_fini(rig);
    rig_init(rig);
    rig->options.segment_bytes = 1u << 20;
    rig->options.footer_entries = 16384; /* only at the end */
    rig_ready(rig);
    put_commits(rig, 0, 1);
    rig->holds = footer_or_next;
    uint32_t count = 1;
    for (; rig->held_count == 0; count++) {
        put(rig, count, 40000);
        rig_run(rig);
        assert_true(count < 40);
    }
    rig->holds = NULL;
    assert_int_equal(rig->held_count, 2);
    assert_int_equal(rig->held[0]->purpose, PURPOSE_FOOTER);
    rig->disk.fail_kind = OP_WRITE;
    rig->disk.fail_count = 1;
    rig->disk.fail_error = -EIO;
    rig_release(rig);
    rig_run(rig);
    uint64_t stats[STAT_COUNT] = {0};
    store_stats(rig->store, stats);
    assert_int_equal(stats[STAT_readonly], 1);
    assert_int_equal(stats[STAT_records], count); /* what went to the next segment landed */
    rig_kill(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    for (uint32_t i = 1; i < count; i++)
        assert_int_equal(check(rig, i, 40000), 0);
    put_commits(rig, 100, 5);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
}

int main(void)
{
#define RECOVER_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifest_bytes),
        cmocka_unit_test(manifest_cuts_damage),
        cmocka_unit_test(manifest_retires),
        RECOVER_TEST(retired),
        RECOVER_TEST(last_footer_fails),
        RECOVER_TEST(several_in_flight),
        RECOVER_TEST(zeroed_commit),
        RECOVER_TEST(damage_below_mark),
        RECOVER_TEST(damage_at_unmarked_end),
        RECOVER_TEST(garbage_far_behind),
        RECOVER_TEST(unreadable_stretch),
        RECOVER_TEST(passing_failure),
        RECOVER_TEST(strays),
        RECOVER_TEST(other_alignment),
        RECOVER_TEST(map_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
