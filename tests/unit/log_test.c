/* log_test.c: how records become commits: gathered, bounded, never across segments, with room that
 * is promised before it is taken. */
#include "node/footer.h"
#include "node/place.h"
#include "rig.h"

#include <errno.h>

static int put(struct rig *rig, uint32_t number, uint32_t len, uint64_t *ret_sequence)
{
    struct rig_key key = rig_key(1, number);
    return rig_put(rig, &key, T0 + 1, number + 1, len, false, ret_sequence);
}

static uint64_t stat_of(struct rig *rig, enum wire_stat stat)
{
    uint64_t stats[STAT_COUNT] = {0};
    store_stats(rig->store, stats);
    return stats[stat];
}

/* What is taken in one turn is one commit; while all places in flight are taken, more turns gather
 * into the next one. */
static void group_commit(void **state)
{
    struct rig *rig = *state;
    uint64_t sequence[20];
    rig_ready(rig);
    uint64_t before = store_durable(rig->store);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(put(rig, i, 100, &sequence[i]), 0);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(sequence[i], before + 1);
    assert_int_equal(store_sequence_taken(rig->store), before + 1);
    rig_run(rig);
    assert_int_equal(store_durable(rig->store), before + 1);
    rig->hold_commits = true;
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(put(rig, 100 + i, 100, &sequence[i]), 0);
        rig_run(rig);
    }
    assert_int_equal(rig->held_count, 4);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(sequence[i], before + 2 + (i < 4 ? i : 4));
    rig->hold_commits = false;
    rig_release(rig);
    rig_run(rig);
    assert_int_equal(store_durable(rig->store), before + 6);
    assert_int_equal(stat_of(rig, STAT_commits), before + 6);
}

/* Small records share packed blocks: the log holds less than what was written. */
static void packed(void **state)
{
    struct rig *rig = *state;
    rig_ready(rig);
    uint64_t before = stat_of(rig, STAT_commit_bytes), bytes = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(put(rig, i, 300, NULL), 0);
        bytes += KHO_RECORD_HEAD + 20 + 300;
    }
    rig_run(rig);
    assert_true(stat_of(rig, STAT_commit_bytes) - before < bytes * 8 / 10);
}

/* With nothing completing, records are taken only as far as there is room, room says so before, and
 * all that was taken is there in the end. */
static void room_is_kept(void **state)
{
    struct rig *rig = *state;
    uint32_t taken = 0;
    rig->options.segment_bytes = 32u << 20;
    rig_ready(rig);
    rig->hold_commits = true;
    while (store_room(rig->store, 5100, 1)) {
        assert_int_equal(put(rig, taken, 5000, NULL), 0);
        if (++taken % 50 == 0)
            rig_run(rig);
        assert_true(taken < 20000);
    }
    assert_true(taken > 500);
    assert_false(store_room(rig->store, 100000, 20));
    rig->hold_commits = false;
    rig_release(rig);
    rig_run(rig);
    assert_true(store_room(rig->store, 100000, 20));
    for (uint32_t i = 0; i < taken; i += 17) {
        struct rig_key key = rig_key(1, i);
        assert_int_equal(rig_check(rig, &key, T0 + 1, i + 1, 5000), 0);
    }
}

/* What the blocks of a commit say, as a footer would. */
static uint32_t commit_list(const uint8_t *commit, const struct commit_head *head,
                            const struct identity *identity, struct footer_entry *to)
{
    uint32_t offset = COMMIT_HEAD, count = 0;
    struct block_head block;
    while (commit_next_block(commit, head, identity, &offset, &block) == 1) {
        const uint8_t *body = commit + (block.offset - head->offset) + BLOCK_HEAD;
        uint8_t *raw = malloc(block.raw_len);
        uint32_t at = 0;
        struct record r;
        assert_non_null(raw);
        assert_int_equal(block_unpack(&block, body, raw), 0);
        while (block_next(raw, block.raw_len, &at, &r) == 1) {
            struct key_hash hash = key_hash(r.collection, r.key, r.key_len, 77);
            to[count++] = (struct footer_entry){
                .collection = r.collection,
                .partition =
                    key_partition(r.collection, r.key, r.key_len, 77,
                                  r.collection == 2 ? '/' : KHO_NO_SEPARATOR, RIG_PARTITIONS, hash),
                .tag = key_tag(hash),
                .version = r.version,
                .value_bytes = r.raw_len,
                .place = (uint32_t)place_encode(0, block.offset, BLOCK_HEAD + block.stored_len),
                .tombstone = record_is_tombstone(&r)};
        }
        free(raw);
    }
    assert_int_equal(count, head->records);
    return count;
}

static int entry_order(const struct footer_entry *a, const struct footer_entry *b)
{
    if (a->partition != b->partition)
        return a->partition < b->partition ? -1 : 1;
    if (a->collection != b->collection)
        return a->collection < b->collection ? -1 : 1;
    return key_tag_compare(a->tag, b->tag);
}

/* The footer says exactly what the blocks do, equal keys in the order of the log. */
static void footer_same(const uint8_t *bytes, const struct footer_head *head,
                        struct footer_entry *listed, uint32_t count)
{
    struct footer footer;
    struct footer_cursor cursor;
    struct footer_entry e;
    uint32_t at = 0;
    for (uint32_t i = 1; i < count; i++) {
        struct footer_entry moved = listed[i];
        uint32_t to = i;
        for (; to > 0 && entry_order(&listed[to - 1], &moved) > 0; to--)
            listed[to] = listed[to - 1];
        listed[to] = moved;
    }
    assert_int_equal(footer_open(bytes, head, &footer), 0);
    assert_int_equal(head->entries, count);
    footer_begin(&cursor, &footer);
    while (footer_run(&cursor))
        for (; cursor.left > 0; at++) {
            footer_take(&cursor, &e);
            assert_int_equal(entry_order(&e, &listed[at]), 0);
            assert_int_equal(version_compare(e.version, listed[at].version), 0);
            assert_int_equal(e.value_bytes, listed[at].value_bytes);
            assert_int_equal(e.place, listed[at].place);
            assert_int_equal(e.tombstone, listed[at].tombstone);
        }
    assert_int_equal(at, count);
}

/* Walks the commits and footers of a segment file as they lie on the disk; *ret_open: records that
 * no footer covers. */
static uint32_t walk(struct rig *rig, uint64_t id, uint64_t *sequence, struct kho_id *predecessor,
                     uint32_t *ret_footers, uint32_t *ret_open)
{
    static struct footer_entry listed[FOOTER_ENTRIES_MAX];
    const struct memory_file *f = memory_disk_file(&rig->disk, FILE_SEGMENT, id);
    struct identity identity = {.incarnation = rig->options.incarnation, .cluster = {{9, 9, 9, 9}}};
    struct commit_head head;
    struct kho_id checksum;
    struct footer_head footer;
    uint64_t at = segment_start(4096), from = at, first = *sequence + 1;
    uint32_t commits = 0, count = 0;
    *ret_footers = 0;
    for (;;) {
        struct commit_check check;
        if (footer_head_decode(f->stable + at, &identity, &footer) == 0) {
            assert_int_equal(footer.from, from);
            assert_int_equal(footer.first, first);
            assert_int_equal(footer.last, *sequence);
            assert_int_equal(footer.epoch, 1);
            assert_int_equal(footer.footers, *ret_footers);
            assert_memory_equal(&footer.predecessor, predecessor, 16);
            footer_same(f->stable + at, &footer, listed, count);
            count = 0;
            from = at += footer.length;
            assert_int_equal(at % SEGMENT_PAGE, 0);
            first = *sequence + 1;
            ++*ret_footers;
        }
        if (commit_head_decode(f->stable + at, &identity, &head, &checksum) != 0)
            break;
        count += commit_list(f->stable + at, &head, &identity, listed + count);
        assert_int_equal(head.sequence, ++*sequence);
        assert_memory_equal(&head.predecessor, predecessor, 16);
        assert_true(head.durable < head.sequence);
        assert_int_equal(head.offset, at);
        assert_int_equal(head.epoch, 1);
        assert_true(head.length <= 3u << 20);
        commit_check(f->stable + at, &head, &identity, &check);
        assert_true(check.whole);
        *predecessor = checksum;
        at += head.length;
        if (head.length >= SEGMENT_LARGE + SEGMENT_PAGE)
            assert_int_equal(at % SEGMENT_PAGE, 0);
        commits++;
    }
    *ret_open = count;
    assert_true(all_zero(f->stable + at, f->size - at));
    return commits;
}

/* On the disk the commits form one chain through all segments, each within one; footers say what is
 * in them, up to the end of each segment but the last. */
static void chain_under(struct rig *rig, uint32_t alignment)
{
    struct kho_id predecessor = {{0}};
    uint64_t sequence = 0;
    uint32_t commits = 0, footers, open;
    rig->options.footer_entries = 20;
    rig->options.alignment = alignment;
    rig_ready(rig);
    for (uint32_t i = 0; i < 400; i++) {
        uint32_t len = i % 50 == 0    ? 1500000
                       : i % 3 == 0   ? 20000
                       : i % 11 == 10 ? RIG_TOMBSTONE
                                      : 200;
        /* Keys of two collections, and every fourth again and again. */
        struct rig_key key = rig_key(1 + i % 2, i % 4 == 0 ? 0 : i);
        while (rig_put(rig, &key, T0 + i, i + 1, len, false, NULL) == -EAGAIN)
            rig_run(rig);
        if (i % 7 == 0)
            rig_run(rig);
    }
    rig_run(rig);
    rig_pass(rig, 100);
    uint64_t segments = stat_of(rig, STAT_segments);
    assert_true(segments > 2);
    for (uint64_t id = 1; id <= segments; id++) {
        commits += walk(rig, id, &sequence, &predecessor, &footers, &open);
        assert_true(footers > 2 || id + 1 >= segments);
        assert_true(open == 0 || id + 1 >= segments);
    }
    assert_int_equal(sequence, store_durable(rig->store));
    assert_int_equal(commits, stat_of(rig, STAT_commits));
}

static void chain(void **state)
{
    chain_under(*state, SEGMENT_PAGE);
}

/* Small commits begin at any sector; footers and large ones end with a page. */
static void chain_of_sectors(void **state)
{
    chain_under(*state, SECTOR);
}

/* Values of 16 MiB pass one after the other, beside small ones. */
static void large_values(void **state)
{
    struct rig *rig = *state;
    rig->options.segment_bytes = 64u << 20;
    rig_ready(rig);
    for (uint32_t i = 0; i < 5; i++) {
        while (put(rig, i, KHO_VALUE_MAX - i, NULL) == -EAGAIN)
            rig_run(rig);
        assert_int_equal(put(rig, 100 + i, 10, NULL), 0);
        rig_run(rig);
    }
    rig_crash(rig);
    for (uint32_t i = 0; i < 5; i++) {
        struct rig_key key = rig_key(1, i), small = rig_key(1, 100 + i);
        assert_int_equal(rig_check(rig, &key, T0 + 1, i + 1, KHO_VALUE_MAX - i), 0);
        assert_int_equal(rig_check(rig, &small, T0 + 1, 101 + i, 10), 0);
    }
}

/* R6: while it is in flight a version names one value: the same once more is the same write,
 * another value or a tombstone under it is a conflict; lower versions are covered by it, in any
 * order. */
static void same_key_in_flight(void **state)
{
    struct rig *rig = *state;
    struct rig_key key = rig_key(1, 7);
    uint64_t first, again, lower, higher;
    rig_ready(rig);
    rig->hold_commits = true;
    assert_int_equal(rig_put(rig, &key, T0 + 5, 1, 100, false, &first), 0);
    rig_run(rig);
    assert_int_equal(rig_put(rig, &key, T0 + 5, 1, 100, false, &again), 0);
    assert_int_equal(again, first);
    assert_int_equal(rig_put(rig, &key, T0 + 5, 2, 100, false, &again), KHO_ECONFLICT);
    assert_int_equal(rig_put(rig, &key, T0 + 5, 1, RIG_TOMBSTONE, false, &again), KHO_ECONFLICT);
    assert_int_equal(rig_put(rig, &key, T0 + 9, 3, RIG_TOMBSTONE, false, &higher), 0);
    rig_run(rig);
    assert_true(higher > first);
    assert_int_equal(rig_put(rig, &key, T0 + 9, 3, 10, false, &again), KHO_ECONFLICT);
    /* The older one that is still in flight, and one that never was. */
    assert_int_equal(rig_put(rig, &key, T0 + 5, 1, 100, false, &again), 0);
    assert_int_equal(rig_put(rig, &key, T0 + 7, 4, 100, false, &lower), 0);
    assert_int_equal(lower, higher);
    rig->hold_commits = false;
    rig_release(rig);
    rig_run(rig);
    assert_int_equal(rig_check(rig, &key, T0 + 9, 3, RIG_TOMBSTONE), 0);
    rig_crash(rig);
    assert_int_equal(rig_check(rig, &key, T0 + 9, 3, RIG_TOMBSTONE), 0);
}

/* Where a fifth of the memory holds fewer commits, fewer are in flight, and all goes on. */
static void little_memory(void **state)
{
    struct rig *rig = *state;
    rig->options.memory_max = 48u << 20;
    rig->options.commits_max = 8;
    rig_ready(rig);
    rig->hold_commits = true;
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(put(rig, i, 100, NULL), 0);
        rig_run(rig);
    }
    assert_in_range(rig->held_count, 1, 4);
    rig->hold_commits = false;
    rig_release(rig);
    rig_run(rig);
    for (uint32_t i = 0; i < 10; i++) {
        struct rig_key key = rig_key(1, i);
        assert_int_equal(rig_check(rig, &key, T0 + 1, i + 1, 100), 0);
    }
}

/* R4: one commit's write fails or is short while others are in flight, before and behind it: those
 * before it land, nothing else does, and no write is taken any more. */
static void failure_in_flight(void **state)
{
    struct rig *rig = *state;
    for (int which = 0; which < 36; which++) {
        rig_fini(rig);
        rig_init(rig);
        rig->reversed = which % 2 == 1;
        bool footers = which >= 12; /* one behind each commit, whose write may fail, too */
        rig->options.footer_entries = footers ? 1 : FOOTER_ENTRIES;
        rig_ready(rig);
        rig->hold_commits = true;
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(put(rig, i, 9000, NULL), 0);
            rig_run(rig);
        }
        assert_true(footers ? rig->held_count > 3 : rig->held_count == 3);
        rig->disk.fail_kind = OP_WRITE;
        rig->disk.fail_after = (uint32_t)(footers ? (which - 12) / 8 : which / 4);
        rig->disk.fail_count = which / 2 % 2 == 0 ? 1 : 2;
        rig->disk.fail_error = which % 12 < 6 ? -EIO : 0;
        rig->hold_commits = false;
        rig_release(rig);
        rig_run(rig);
        rig->disk.fail_count = 0;
        struct rig_key key = rig_key(1, 50);
        assert_int_equal(rig_put(rig, &key, T0 + 1, 51, 10, false, NULL), KHO_EREADONLY);
        uint32_t landed = 0;
        for (uint32_t i = 0; i < 3; i++) {
            struct rig_key k = rig_key(1, i);
            int status = rig_check(rig, &k, T0 + 1, i + 1, 9000);
            assert_true(status == 0 || status == KHO_ENOTFOUND);
            assert_true(status == KHO_ENOTFOUND || landed == i); /* in their order */
            landed += status == 0;
        }
        assert_true(landed < 3 || footers);
    }
}

int main(void)
{
#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        LOG_TEST(group_commit),       LOG_TEST(packed),
        LOG_TEST(room_is_kept),       LOG_TEST(chain),
        LOG_TEST(chain_of_sectors),   LOG_TEST(large_values),
        LOG_TEST(same_key_in_flight), LOG_TEST(little_memory),
        LOG_TEST(failure_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
