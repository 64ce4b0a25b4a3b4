/* restore_test.c: starts from footers: what they say in place of the blocks, and what is read block
 * by block where none stands. */
#include "node/footer.h"
#include "node/gather.h"
#include "node/place.h"
#include "tests/lib/store_rig.h"
#include "unit.h"

#include <errno.h>

static const uint64_t T0 = 1700000000000ull << KHO_COUNTER_TIME_BITS;
static const struct identity OURS = {.incarnation = {{1, 2, 3, 4, 5, 6, 7, 8, 9}},
                                     .cluster = {{9, 9, 9, 9}}};

static int setup(void **state)
{
    struct rig *rig = malloc(sizeof *rig);
    assert_non_null(rig);
    rig_init(rig);
    rig->options.footer_entries = 20;
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    rig_fini(*state);
    free(*state);
    return 0;
}

static void put(struct rig *rig, uint32_t number, uint32_t len)
{
    struct rig_key key = rig_key(1, number);
    while (rig_put(rig, &key, T0 + 1, number + 1, len, false, NULL) == -EAGAIN)
        rig_run(rig);
    rig_run(rig);
}

static int check(struct rig *rig, uint32_t number, uint32_t len)
{
    struct rig_key key = rig_key(1, number);
    return rig_check(rig, &key, T0 + 1, number + 1, len);
}

/* --- Footers on the disk ---------------------------------------------------------------------- */

struct found {
    struct memory_file *file;
    struct footer_head head;
};

/* All footers of all segments, as they lie on the disk. */
static uint32_t footers_find(struct rig *rig, struct found *ret, uint32_t max)
{
    uint32_t count = 0;
    for (uint64_t id = 1; id < 20; id++) {
        struct memory_file *f = memory_disk_file(&rig->disk, FILE_SEGMENT, id);
        for (uint64_t at = 4096; f != NULL && at < f->used; at += 4096) {
            struct footer_head head;
            if (footer_head_decode(f->stable + at, &OURS, &head) != 0)
                continue;
            assert_true(count < max);
            ret[count++] = (struct found){.file = f, .head = head};
        }
    }
    return count;
}

static uint32_t footers_damage(struct rig *rig, uint64_t offset)
{
    static struct found found[400];
    uint32_t count = footers_find(rig, found, KHO_COUNT_OF(found));
    for (uint32_t i = 0; i < count; i++)
        memory_disk_flip(found[i].file, found[i].head.offset + offset, 4);
    return count;
}

/* --- The same index --------------------------------------------------------------------------- */

struct digests {
    struct wire_digest_entry entries[2][RIG_PARTITIONS];
};

static void digests_take(struct rig *rig, struct digests *ret)
{
    memset(ret, 0, sizeof *ret);
    for (uint32_t c = 0; c < 2; c++)
        for (uint32_t p = 0; p < RIG_PARTITIONS; p++)
            store_digest(rig->store, 1 + c, p, &ret->entries[c][p]);
}

enum { KEYS = 150 };

/* What was written last of each key. */
struct written {
    uint64_t counter;
    uint32_t seed, len;
};

static void read_all(struct rig *rig, const struct written *written)
{
    for (uint32_t i = 0; i < KEYS; i++) {
        struct rig_key key = rig_key(1 + i % 2, i);
        const struct written *w = &written[i];
        assert_int_equal(rig_check(rig, &key, w->counter, w->seed, w->len),
                         w->counter == 0 ? KHO_ENOTFOUND : 0);
    }
}

/* Random lives: values small and large, tombstones, versions out of order, two collections, several
 * segments. A start from footers finds the index that was there, and so does one from blocks alone,
 * and one where every other footer is damaged. */
static void same_as_blocks(void **state)
{
    struct rig *rig = *state;
    static struct written written[KEYS];
    static struct found found[400];
    struct digests before, after;
    struct kho_random random;
    kho_random_init(&random, 11);
    memset(written, 0, sizeof written);
    rig_ready(rig);
    for (uint32_t round = 0; round < 6; round++) {
        for (uint32_t n = 0; n < 250; n++) {
            uint64_t draw = kho_random_next(&random);
            uint32_t i = (uint32_t)(draw >> 32) % KEYS;
            uint32_t len = draw % 40 == 0   ? 300000
                           : draw % 10 == 1 ? RIG_TOMBSTONE
                           : draw % 10 == 2 ? 9000
                                            : (uint32_t)(draw >> 20) % 600;
            /* A version a little lower or higher than the ones before. */
            uint64_t counter = T0 + (round * 250 + n) * 4 - (draw >> 8) % 400 + 1000;
            struct rig_key key = rig_key(1 + i % 2, i);
            int status;
            while ((status = rig_put(rig, &key, counter, n, len, true, NULL)) == -EAGAIN)
                rig_run(rig);
            if (status == 0 && counter > written[i].counter)
                written[i] = (struct written){.counter = counter, .seed = n, .len = len};
            if (draw % 3 == 0)
                rig_run(rig);
        }
        rig_run(rig);
        digests_take(rig, &before);
        rig_crash(rig);
        digests_take(rig, &after);
        assert_memory_equal(&after, &before, sizeof after);
        read_all(rig, written);
    }
    uint32_t count = footers_find(rig, found, KHO_COUNT_OF(found));
    assert_true(count > 30 && found[count - 1].file != found[0].file);
    for (uint32_t i = 0; i < count; i += 2)
        memory_disk_flip(found[i].file, found[i].head.offset + FOOTER_HEAD + 50, 1);
    for (uint32_t pass = 0; pass < 2; pass++) {
        rig_crash(rig);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
        assert_non_null(strstr(rig->last_event, "footer is damaged"));
        digests_take(rig, &after);
        assert_memory_equal(&after, &before, sizeof after);
        read_all(rig, written);
        /* Then the others, in their heads. */
        for (uint32_t i = 1; i < count; i += 2)
            memory_disk_flip(found[i].file, found[i].head.offset + 70, 1);
    }
}

/* One table with more entries than are gathered at once, many versions of one key among them: a
 * start from footers finds them all. */
static void one_large_table(void **state)
{
    enum { ENTRIES = 3 * GATHER_ENTRIES };
    struct rig *rig = *state;
    struct digests before, after;
    struct rig_key key = {.collection = 2};
    rig->options.footer_entries = 700;
    rig_ready(rig);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        uint32_t number = i % 5 == 0 ? 0 : i;
        key.key_len = (uint16_t)snprintf((char *)key.key, sizeof key.key, "all/%u", number);
        key.hash = key_hash(2, key.key, key.key_len, RIG_SEED);
        key.partition =
            key_partition(2, key.key, key.key_len, RIG_SEED, '/', RIG_PARTITIONS, key.hash);
        while (rig_put(rig, &key, T0 + i + 1, i, 20, true, NULL) == -EAGAIN)
            rig_run(rig);
    }
    rig_run(rig);
    digests_take(rig, &before);
    assert_int_equal(before.entries[1][key.partition].count, ENTRIES - ENTRIES / 5);
    rig_crash(rig);
    digests_take(rig, &after);
    assert_memory_equal(&after, &before, sizeof after);
    assert_int_equal(rig_check(rig, &key, T0 + ENTRIES, ENTRIES - 1, 20), 0);
}

/* --- Damage ----------------------------------------------------------------------------------- */

/* R2: a block that rots under a good footer isn't read at the start: key and version are known, a
 * read finds the damage, only the values in it are unknown, in this life and the next, and a copy
 * heals them. */
static void rot_under_a_footer(void **state)
{
    struct rig *rig = *state;
    struct rig_key key = rig_key(1, 7);
    struct version version;
    struct wire_episode episode;
    rig_ready(rig);
    for (uint32_t i = 0; i < 30; i++)
        put(rig, i, 100);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), 4096 + 7 * 4096 + 450, 1);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    assert_int_equal(rig_probe(rig, &key, &version), WIRE_PRESENT);
    assert_int_equal(version.counter, T0 + 1);
    assert_int_equal(check(rig, 7, 100), KHO_EDAMAGED);
    assert_int_equal(rig_probe(rig, &key, &version), WIRE_VALUE_UNKNOWN);
    assert_int_equal(version.counter, T0 + 1);
    assert_int_equal(store_episodes(rig->store, &episode, 1), 1);
    assert_int_equal(episode.partitions, 1);
    for (uint32_t i = 0; i < 30; i++)
        assert_int_equal(check(rig, i, 100), i == 7 ? KHO_EUNKNOWN : 0);
    /* Known damage costs the value at once at the next start. */
    rig_crash(rig);
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
    assert_int_equal(rig_probe(rig, &key, &version), WIRE_VALUE_UNKNOWN);
    assert_int_equal(version.counter, T0 + 1);
    assert_int_equal(rig_put(rig, &key, T0 + 1, 8, 100, true, NULL), 0);
    rig_run(rig);
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < 30; i++)
            assert_int_equal(check(rig, i, 100), 0);
        rig_crash(rig);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    }
}

/* R3: the same block is found at the start where its footer is damaged, too. */
static void rot_under_a_damaged_footer(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    for (uint32_t i = 0; i < 30; i++)
        put(rig, i, 100);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), 4096 + 7 * 4096 + 450, 1);
    assert_int_equal(footers_damage(rig, FOOTER_HEAD + 9), 1);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
    assert_false(store_suspect(rig->store));
    assert_int_equal(check(rig, 7, 100), KHO_EUNKNOWN);
}

/* A commit that is gone with its head, under a good footer: no loss but of its values. */
static void zeroed_under_a_footer(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    for (uint32_t i = 0; i < 30; i++)
        put(rig, i, 100);
    memory_disk_fill(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), 4096 + 7 * 4096, 4096, 0);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    for (uint32_t i = 0; i < 30; i++)
        assert_int_equal(check(rig, i, 100), i == 7 ? KHO_EDAMAGED : 0);
}

/* R3: a footer that never reached the disk, wholly or in part, with commits behind it that did or
 * not, costs nothing; nor does one that did where the last of its commits didn't. */
static void torn_footers(void **state)
{
    static const uint64_t masks[] = {0, 1, ~1ull, UINT64_MAX};
    struct rig *rig = *state;
    for (uint32_t round = 0; round < 32; round++) {
        uint64_t mask = masks[round % 4];
        bool behind = (round & 4) != 0, last = (round & 8) != 0, mark = (round & 16) != 0;
        rig_fini(rig);
        rig_init(rig);
        rig->options.footer_entries = 20;
        rig_ready(rig);
        for (uint32_t i = 0; i < 19; i++)
            put(rig, i, 100);
        if (mark)
            rig_pass(rig, 60);
        rig->hold_commits = true;
        put(rig, 19, 100); /* its footer follows it */
        put(rig, 20, 100);
        assert_int_equal(rig->held_count, 3);
        if (last)
            memory_disk_tear(&rig->disk, rig->held[0], UINT64_MAX);
        memory_disk_tear(&rig->disk, rig->held[1], mask);
        if (behind)
            memory_disk_tear(&rig->disk, rig->held[2], UINT64_MAX);
        rig->hold_commits = false;
        rig_crash(rig);
        assert_int_equal(store_phase(rig->store), STORE_READY);
        /* Without its head it can't be told from garbage: that makes a shard suspect. */
        bool suspect = mask == ~1ull && !(last && behind);
        assert_int_equal(store_suspect(rig->store), suspect);
        assert_int_equal(store_episodes(rig->store, NULL, 0), suspect);
        for (uint32_t pass = 0; pass < 3; pass++) {
            for (uint32_t i = 0; i < 19; i++)
                assert_int_equal(check(rig, i, 100), 0);
            assert_int_equal(check(rig, 19, 100), last ? 0 : KHO_ENOTFOUND);
            assert_int_equal(check(rig, 20, 100), last && behind ? 0 : KHO_ENOTFOUND);
            for (uint32_t i = 0; i < pass * 30; i++)
                assert_int_equal(check(rig, 100 + i, 100), 0);
            for (uint32_t i = pass * 30; i < pass * 30 + 30; i++)
                put(rig, 100 + i, 100);
            rig_crash(rig);
            assert_int_equal(store_episodes(rig->store, NULL, 0), suspect);
        }
    }
}

/* R4: a commit that fails while the footer behind it is written: the next life goes on elsewhere,
 * and the footer of what isn't there is never believed. */
static void footer_of_a_failed_commit(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    for (uint32_t i = 0; i < 19; i++)
        put(rig, i, 100);
    rig->disk.fail_kind = OP_WRITE;
    rig->disk.fail_count = 1;
    rig->disk.fail_error = -EIO;
    put(rig, 19, 100);
    assert_int_equal(store_failed(rig->store), KHO_EREADONLY);
    for (uint32_t pass = 0; pass < 3; pass++) {
        rig_crash(rig);
        assert_int_equal(store_phase(rig->store), STORE_READY);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
        for (uint32_t i = 0; i < 19; i++)
            assert_int_equal(check(rig, i, 100), 0);
        assert_int_equal(check(rig, 19, 100), KHO_ENOTFOUND);
        for (uint32_t i = 0; i < pass * 30; i++)
            assert_int_equal(check(rig, 100 + i, 100), 0);
        for (uint32_t i = pass * 30; i < pass * 30 + 30; i++)
            put(rig, 100 + i, 100);
    }
}

/* R4: a footer's write that fails is final, as any other's. */
static void footer_fails(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    for (uint32_t i = 0; i < 19; i++)
        put(rig, i, 100);
    rig->disk.fail_kind = OP_WRITE;
    rig->disk.fail_after = 1;
    rig->disk.fail_count = 1;
    rig->disk.fail_error = -EIO;
    put(rig, 19, 100);
    assert_int_equal(store_failed(rig->store), KHO_EREADONLY);
    assert_int_equal(check(rig, 19, 100), 0);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(check(rig, i, 100), 0);
}

/* R5: what a former replica had is discarded from footers, too, and a footer holds commits of one
 * epoch. */
static void former_replica(void **state)
{
    struct rig *rig = *state;
    static struct found found[16];
    rig_ready(rig);
    for (uint32_t i = 0; i < 30; i++)
        put(rig, i, 100);
    rig_map_build(rig, 4, 0, 4);
    assert_int_equal(rig_map_set(rig), 0);
    for (uint32_t i = 100; i < 130; i++)
        put(rig, i, 100);
    uint32_t count = footers_find(rig, found, KHO_COUNT_OF(found));
    assert_int_equal(count, 3);
    assert_int_equal(found[1].head.epoch, 1);
    assert_int_equal(found[1].head.entries, 10);
    assert_int_equal(found[2].head.epoch, 4);
    rig_crash(rig);
    for (uint32_t i = 0; i < 30; i++) {
        assert_int_equal(check(rig, i, 100), KHO_ENOTFOUND);
        assert_int_equal(check(rig, 100 + i, 100), 0);
    }
}

/* A crash leaves no gap between footers: what a start reads block by block is in the next one. */
static void tail_goes_on(void **state)
{
    struct rig *rig = *state;
    static struct found found[64];
    rig_ready(rig);
    for (uint32_t i = 0; i < 130; i++) {
        put(rig, i, 100);
        if (i % 7 == 3)
            rig_crash(rig);
        if (i % 31 == 30) {
            rig_stop(rig);
            rig_kill(rig);
        }
    }
    uint32_t count = footers_find(rig, found, KHO_COUNT_OF(found));
    assert_int_equal(count, 6);
    uint64_t from = 4096;
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(found[i].head.from, from);
        assert_int_equal(found[i].head.footers, i);
        assert_int_equal(found[i].head.entries, 20);
        from = found[i].head.offset + found[i].head.length;
    }
}

/* Reads that fail once at a start cost nothing: a footer is replaced by its blocks, and is used
 * again at the next start. */
static void passing_failures(void **state)
{
    struct rig *rig = *state;
    struct digests before, after;
    rig_ready(rig);
    for (uint32_t i = 0; i < 100; i++)
        put(rig, i, i % 10 == 0 ? 300000 : 100);
    digests_take(rig, &before);
    for (uint32_t at = 2; at < 40; at++) {
        store_destroy(rig->store);
        rig->store = NULL;
        memory_disk_crash(&rig->disk);
        rig->disk.fail_kind = OP_READ;
        rig->disk.fail_after = at;
        rig->disk.fail_count = 1;
        rig->disk.fail_error = -EIO;
        rig_start(rig);
        assert_int_equal(store_phase(rig->store), STORE_READY);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
        digests_take(rig, &after);
        assert_memory_equal(&after, &before, sizeof after);
    }
    rig->disk.fail_count = 0;
}

/* The block of record `number` of those that were put one by one into the first segment can't be
 * read, or can again. */
static void block_readable(struct rig *rig, uint32_t number, bool readable)
{
    rig->disk.bad_segment = readable ? 0 : 1;
    rig->disk.bad_from = 4096 + number * 4096;
    rig->disk.bad_to = rig->disk.bad_from + 4096;
}

static void episodes_close(struct rig *rig, uint64_t epoch)
{
    rig_map_build(rig, epoch, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
}

/* R2: a block that couldn't be read once is whole when a start reads it block by block, and its
 * episode closes for that. It stays whole for the start that reads its footer. */
static void whole_again(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    for (uint32_t i = 0; i < 10; i++)
        put(rig, i, 100);
    rig_crash(rig);
    block_readable(rig, 7, false);
    assert_int_equal(check(rig, 7, 100), -EIO);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
    rig_run(rig);
    block_readable(rig, 7, true);
    rig_crash(rig);
    episodes_close(rig, 2);
    assert_int_equal(check(rig, 7, 100), 0);
    for (uint32_t i = 10; i < 30; i++)
        put(rig, i, 100);
    for (uint32_t pass = 0; pass < 2; pass++) {
        rig_crash(rig);
        assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
        for (uint32_t i = 0; i < 30; i++)
            assert_int_equal(check(rig, i, 100), 0);
    }
}

/* R2: and if it rots later, that is news: known damage must not make a start pass over it. */
static void whole_again_then_rot(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    for (uint32_t i = 0; i < 10; i++)
        put(rig, i, 100);
    rig_crash(rig);
    block_readable(rig, 7, false);
    assert_int_equal(check(rig, 7, 100), -EIO);
    rig_run(rig);
    block_readable(rig, 7, true);
    rig_crash(rig);
    episodes_close(rig, 2);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), 4096 + 7 * 4096 + 450, 1);
    rig_crash(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
    assert_int_equal(check(rig, 7, 100), KHO_EUNKNOWN);
}

/* R2: a footer that comes back tells a version that the end of an episode left behind without a
 * value: it is covered by an episode again, or no repair would look at it. */
static void unknown_is_covered(void **state)
{
    struct rig *rig = *state;
    struct rig_key key = rig_key(1, 7);
    struct wire_episode episode;
    struct version version;
    static struct found found[16];
    rig_ready(rig);
    for (uint32_t i = 0; i < 30; i++)
        put(rig, i, 100);
    assert_int_equal(footers_damage(rig, FOOTER_HEAD + 9), 1);
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, 1), 4096 + 7 * 4096 + 450, 1);
    rig_crash(rig);
    episodes_close(rig, 2);
    assert_int_equal(check(rig, 7, 100), KHO_ENOTFOUND);
    assert_int_equal(footers_damage(rig, FOOTER_HEAD + 9), footers_find(rig, found, 16));
    for (uint32_t pass = 0; pass < 2; pass++) {
        rig_crash(rig);
        assert_int_equal(store_episodes(rig->store, &episode, 1), 1);
        assert_int_equal(episode.partitions, 1);
        assert_int_equal(episode.first_partition, key.partition);
        if (pass == 0)
            assert_int_equal(rig_probe(rig, &key, &version), WIRE_VALUE_UNKNOWN);
    }
}

int main(void)
{
#define RESTORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        RESTORE_TEST(same_as_blocks),
        RESTORE_TEST(one_large_table),
        RESTORE_TEST(rot_under_a_footer),
        RESTORE_TEST(rot_under_a_damaged_footer),
        RESTORE_TEST(zeroed_under_a_footer),
        RESTORE_TEST(torn_footers),
        RESTORE_TEST(footer_of_a_failed_commit),
        RESTORE_TEST(footer_fails),
        RESTORE_TEST(former_replica),
        RESTORE_TEST(tail_goes_on),
        RESTORE_TEST(passing_failures),
        RESTORE_TEST(whole_again),
        RESTORE_TEST(whole_again_then_rot),
        RESTORE_TEST(unknown_is_covered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
