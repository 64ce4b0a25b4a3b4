/* start_test.c: starts that meet an error: each op of a start fails once, files are another
 * folder's, blocks say what isn't in them. A start either ends with the cause named, and the next
 * one finds all there, or serves, and nothing acknowledged is answered as if it had never been. */
#include "node/manifest.h"
#include "rig.h"

#include <errno.h>
#include <kho/map.h>

enum { RECORDS = 24, LEN = 60000 };

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

/* A repair closes what a start has opened, under a higher epoch. */
static void episodes_close(struct rig *rig)
{
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
}

static void there(struct rig *rig)
{
    for (uint32_t i = 0; i < RECORDS; i++)
        assert_int_equal(check(rig, i, LEN), 0);
}

/* A segment file that no manifest lists, with a copy of the first `bytes` of another. */
static void stray_make(struct rig *rig, uint64_t id, uint64_t bytes)
{
    struct memory_file *from = memory_disk_file(&rig->disk, FILE_SEGMENT, 1), *to = NULL;
    for (int i = 0; i < MEMORY_FILES && to == NULL; i++)
        if (!rig->disk.files[i].named && !rig->disk.files[i].stable_named)
            to = &rig->disk.files[i];
    assert_non_null(to);
    memory_disk_remove(to);
    *to = *from;
    to->name.id = to->stable_name.id = id;
    to->data = calloc(1, from->room);
    to->stable = calloc(1, from->room);
    assert_true(to->data != NULL && to->stable != NULL);
    memcpy(to->data, from->data, bytes);
    memcpy(to->stable, from->data, bytes);
    to->used = to->stable_used = bytes;
}

/* Three segments, the last one used in part; an empty stray, one that holds something, and a file
 * that was never renamed. */
static void folder_make(struct rig *rig, bool with_strays)
{
    rig_fini(rig);
    rig_init(rig);
    rig->options.segment_bytes = 1u << 20;
    rig->options.footer_entries = 4;
    rig_ready(rig);
    for (uint32_t i = 0; i < RECORDS; i++) {
        put(rig, i, LEN);
        rig_run(rig);
    }
    rig_pass(rig, 60);
    store_destroy(rig->store);
    rig->store = NULL;
    memory_disk_crash(&rig->disk);
    if (!with_strays)
        return;
    stray_make(rig, 70, 0);
    stray_make(rig, 71, 8192);
    stray_make(rig, 72, 0);
    struct memory_file *temporary = memory_disk_file(&rig->disk, FILE_SEGMENT, 72);
    temporary->name.temporary = temporary->stable_name.temporary = true;
}

/* Every op of a start fails once, in every way. */
static void ops_fail(void **state)
{
    static const struct {
        enum op_kind kind;
        int errors[3];
    } cases[] = {{OP_OPEN, {-EIO, -EMFILE, -ENOENT}},
                 {OP_READ, {-EIO, -ENOMEM}},
                 {OP_CLOSE_FILE, {-EIO}},
                 {OP_SYNC, {-EIO, -ENOSPC}},
                 {OP_SYNC_FOLDER, {-EIO}},
                 {OP_UNLINK, {-EIO, -ENOENT}}};
    struct rig *rig = *state;
    uint32_t tried = 0, failed = 0, served = 0;
    for (size_t c = 0; c < KHO_COUNT_OF(cases); c++)
        for (size_t e = 0; e < 3 && cases[c].errors[e] != 0; e++)
            for (uint32_t n = 0;; n += 1 + n / 4) {
                folder_make(rig, true);
                rig->disk.fail_kind = (uint8_t)cases[c].kind;
                rig->disk.fail_after = n;
                rig->disk.fail_count = 1;
                rig->disk.fail_error = cases[c].errors[e];
                rig->last_event[0] = 0;
                rig_start(rig);
                bool fired = rig->disk.fail_count == 0;
                rig->disk.fail_count = 0;
                if (store_phase(rig->store) == STORE_FAILED) {
                    failed++;
                    assert_true(fired);
                    assert_non_null(strstr(rig->last_event, "can't start"));
                } else {
                    served++;
                    bool told = store_episodes(rig->store, NULL, 0) > 0;
                    for (uint32_t i = 0; i < RECORDS; i++) {
                        int status = check(rig, i, LEN);
                        if (status != 0 && !(told && (status == KHO_EUNKNOWN || status == -EIO)))
                            fail_msg("op %d, its number %u, error %d: record %u: %d", cases[c].kind,
                                     n, cases[c].errors[e], i, status);
                    }
                }
                /* Whatever it was, it was only this once: what is there is found again. */
                rig_crash(rig);
                assert_int_equal(store_phase(rig->store), STORE_READY);
                if (store_episodes(rig->store, NULL, 0) == 0)
                    there(rig);
                tried++;
                if (!fired)
                    break;
            }
    print_message("%u starts tried: %u ended, %u served\n", tried, failed, served);
    assert_true(failed > 10 && served > 10);
}

/* Strays: the empty one goes, the one that holds something stays and is named, and one that can't
 * be read, or is shorter than a head, isn't taken for empty. */
static void strays(void **state)
{
    struct rig *rig = *state;
    folder_make(rig, true);
    memory_disk_file(&rig->disk, FILE_SEGMENT, 70)->size = 100;
    stray_make(rig, 73, 0);
    rig->disk.bad_segment = 73;
    rig->disk.bad_to = UINT64_MAX;
    rig_start(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    assert_non_null(memory_disk_file(&rig->disk, FILE_SEGMENT, 70));
    assert_non_null(memory_disk_file(&rig->disk, FILE_SEGMENT, 71));
    assert_non_null(memory_disk_file(&rig->disk, FILE_SEGMENT, 73));
    there(rig);
    rig->disk.bad_segment = 0;
    rig_crash(rig);
    assert_null(memory_disk_file(&rig->disk, FILE_SEGMENT, 73));
    assert_non_null(memory_disk_file(&rig->disk, FILE_SEGMENT, 71));
    there(rig);
}

static void fails_with(struct rig *rig, const char *what)
{
    rig->last_event[0] = 0;
    rig_start(rig);
    assert_int_equal(store_phase(rig->store), STORE_FAILED);
    if (strstr(rig->last_event, what) == NULL)
        fail_msg("'%s' doesn't say '%s'", rig->last_event, what);
    store_destroy(rig->store);
    rig->store = NULL;
    memset(rig->disk.handles, 0, sizeof rig->disk.handles);
}

/* Files of another shard, folder or cluster, and files of impossible size, end the start. */
static void others_files(void **state)
{
    struct rig *rig = *state;
    folder_make(rig, false);
    rig->options.shard_count = 2;
    fails_with(rig, "of another shard");
    rig->options.shard = 1;
    fails_with(rig, "of another shard");
    rig->options.shard = 0;
    rig->options.shard_count = 1;
    rig->options.incarnation.bytes[1] ^= 1;
    fails_with(rig, "of another data folder");
    rig->options.incarnation.bytes[1] ^= 1;

    struct memory_file *manifest = memory_disk_file(&rig->disk, FILE_MANIFEST, 0);
    uint64_t size = manifest->size;
    manifest->size = MANIFEST_LENGTH_MAX + (1u << 20);
    fails_with(rig, "'manifest' can't be read");
    manifest->size = 0;
    fails_with(rig, "'manifest' is damaged");
    manifest->size = size;

    struct memory_file *map = memory_disk_file(&rig->disk, FILE_MAP, 0);
    size = map->size;
    map->size = 40;
    fails_with(rig, "'map' is damaged");
    map->size = size;
    uint8_t other[2][24];
    memcpy(other[0], map->data + 8, 24);
    map->data[8] ^= 1; /* the cluster */
    struct kho_id hash = map_hash(map->data, kho_load32(map->data + 76));
    memcpy(map->data + 32, hash.bytes, 16);
    fails_with(rig, "'map' is of another cluster");
    memcpy(map->data + 8, other[0], 24);
    hash = map_hash(map->data, kho_load32(map->data + 76));
    memcpy(map->data + 32, hash.bytes, 16);

    rig_start(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    there(rig);
}

/* A map that doesn't name the folder (its incarnation is another one's there) lets it start, and no
 * record is served. */
static void not_named(void **state)
{
    struct rig *rig = *state;
    folder_make(rig, false);
    struct memory_file *map = memory_disk_file(&rig->disk, FILE_MAP, 0);
    map->data[KHO_MAP_HEAD + 32 + 5] ^= 1;
    struct kho_id hash = map_hash(map->data, kho_load32(map->data + 76));
    memcpy(map->data + 32, hash.bytes, 16);
    rig->last_event[0] = 0;
    rig_start(rig);
    assert_int_equal(store_phase(rig->store), STORE_READY);
    assert_non_null(strstr(rig->last_event, "doesn't name this folder"));
    struct rig_key key = rig_key(1, 3);
    assert_true(rig_probe(rig, &key, NULL) != WIRE_ABSENT);
}

/* The file of another folder, shard, or segment in place of one of ours is a segment that is gone:
 * an episode opens, and what was in it is unknown, never absent. */
static void others_segments(void **state)
{
    struct rig *rig = *state;
    for (int which = 0; which < 4; which++) {
        folder_make(rig, false);
        struct memory_file *file = memory_disk_file(&rig->disk, FILE_SEGMENT, 1);
        struct identity identity = {.cluster = {{9, 9, 9, 9}},
                                    .incarnation = rig->options.incarnation};
        struct segment_head head = {.segment = 1, .size = 1u << 20, .alignment = 4096};
        if (which == 0)
            identity.cluster.bytes[0] ^= 1;
        else if (which == 1)
            identity.incarnation.bytes[0] ^= 1;
        else if (which == 2)
            identity.shard = 1;
        else
            head.segment = 2;
        segment_head_encode(&head, &identity, file->data);
        rig_start(rig);
        assert_int_equal(store_phase(rig->store), STORE_READY);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
        for (uint32_t i = 0; i < RECORDS; i++)
            assert_int_equal(check(rig, i, LEN), KHO_EUNKNOWN);
        episodes_close(rig);
        assert_int_equal(check(rig, 0, LEN), KHO_ENOTFOUND);
        assert_int_equal(check(rig, RECORDS - 1, LEN), 0);
    }
}

/* A damaged head of a segment hurts nothing: its commits name themselves. */
static void damaged_head(void **state)
{
    struct rig *rig = *state;
    folder_make(rig, false);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), 60, 1);
    rig_start(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    assert_non_null(strstr(rig->last_event, "the head is damaged"));
    there(rig);
}

/* Commits and footers that were written to the wrong place count for nothing there: copies of a
 * segment's units lie behind its end, or in another segment. */
static void misplaced(void **state)
{
    struct rig *rig = *state;
    for (int which = 0; which < 2; which++) {
        folder_make(rig, false);
        struct memory_file *first = memory_disk_file(&rig->disk, FILE_SEGMENT, 1);
        struct memory_file *last = memory_disk_file(&rig->disk, FILE_SEGMENT, 2);
        uint64_t to = last->size - 75ull * 4096, from = which == 0 ? 4096 : to;
        assert_true(all_zero(last->data + to, last->size - to));
        /* Of the last segment itself, from its begin; of the first one, from the same place. */
        const struct memory_file *source = which == 0 ? last : first;
        assert_false(all_zero(source->data + from, 200000));
        memcpy(last->data + to, source->data + from, 200000);
        last->used = kho_max(last->used, to + 200000);
        rig_start(rig);
        assert_int_equal(store_phase(rig->store), STORE_READY);
        /* Bytes that nobody wrote there: said so, and no record is lost or made up. */
        assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
        for (uint32_t i = 0; i < RECORDS; i++)
            assert_int_equal(check(rig, i, LEN), 0);
        assert_true(check(rig, RECORDS, LEN) != 0);
    }
}

/* Seals the last commit of one record anew after its block's body or head was changed. */
static void reseal(struct memory_file *file, uint64_t at, const struct identity *identity,
                   uint32_t records, bool garble)
{
    struct commit_head head;
    struct block_head block;
    struct kho_id checksum;
    uint8_t *bytes = file->data + at;
    assert_int_equal(commit_head_decode(bytes, identity, &head, &checksum), 0);
    assert_int_equal(block_head_decode(bytes + COMMIT_HEAD, identity, &block), 0);
    if (garble)
        memset(bytes + COMMIT_HEAD + BLOCK_HEAD, 0xFF, 8);
    block.records = records;
    block.body_hash = hash128(bytes + COMMIT_HEAD + BLOCK_HEAD, block.stored_len);
    block_head_encode(&block, identity, bytes + COMMIT_HEAD);
    memset(&head.heads_hash, 0, sizeof head.heads_hash);
    commit_hash_head(&head.heads_hash, bytes + COMMIT_HEAD);
    commit_head_encode(&head, identity, bytes, &checksum);
}

/* A block whose hashes are right and whose content isn't: it doesn't unpack, its records break the
 * layout, or are more or fewer than it says. It is rot, found at the start, and never served. */
static void liars(void **state)
{
    struct rig *rig = *state;
    for (int which = 0; which < 4; which++) {
        rig_fini(rig);
        rig_init(rig);
        rig_ready(rig);
        bool packed = which != 1;
        uint32_t len = packed ? 3000 : 20000;
        for (uint32_t i = 0; i < 3; i++) {
            put(rig, i, len);
            rig_run(rig);
        }
        store_destroy(rig->store);
        rig->store = NULL;
        memory_disk_crash(&rig->disk);
        struct identity identity = {.cluster = {{9, 9, 9, 9}},
                                    .incarnation = rig->options.incarnation};
        struct memory_file *file = memory_disk_file(&rig->disk, FILE_SEGMENT, 1);
        struct block_head block;
        struct commit_head commit;
        struct kho_id checksum;
        uint64_t at = 4096;
        for (int i = 0; i < 2; i++) {
            assert_int_equal(commit_head_decode(file->data + at, &identity, &commit, &checksum), 0);
            at += commit.length;
        }
        assert_int_equal(block_head_decode(file->data + at + COMMIT_HEAD, &identity, &block), 0);
        assert_int_equal(block.codec, packed ? KHO_CODEC_LZ4 : KHO_CODEC_NONE);
        /* 0: no LZ4; 1: no records; 2: one fewer than it says; 3 as it is, for the comparison. */
        reseal(file, at, &identity, which == 2 ? 2 : 1, which < 2);
        rig_start(rig);
        assert_int_equal(store_phase(rig->store), STORE_READY);
        assert_int_equal(store_episodes(rig->store, NULL, 0), which == 3 ? 0 : 1);
        if (which < 3)
            assert_int_equal(check(rig, 2, len), KHO_EUNKNOWN);
        else
            assert_int_equal(check(rig, 2, len), 0);
        if (which < 3)
            episodes_close(rig);
        assert_int_equal(check(rig, 0, len), 0);
        assert_int_equal(check(rig, 1, len), 0);
        assert_int_equal(check(rig, 2, len), which < 2 ? KHO_ENOTFOUND : 0);
    }
}

int main(void)
{
#define START_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        START_TEST(ops_fail),  START_TEST(strays),          START_TEST(others_files),
        START_TEST(not_named), START_TEST(others_segments), START_TEST(damaged_head),
        START_TEST(misplaced), START_TEST(liars),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
