/* footer_test.c: footers as bytes: what was noted comes back in order, damaged and hostile bytes
 * earn an error, and a record costs few bytes. */
#include "node/footer.h"

#include "node/place.h"
#include "node/store.h"
#include "unit.h"

#include <errno.h>

static const struct identity OURS = {.cluster = {{1}}, .incarnation = {{2}}, .shard = 3};
enum { FROM = 8192, AT = 16 << 20, ALIGNMENT = 4096 };

/* What shapes the entries that are drawn. */
struct shape {
    uint32_t count, collections, partitions, writers, keys;
    uint64_t counter_range;
    uint32_t value_max;
};

struct bench {
    struct shard_world world;
    struct footer_maker maker;
    struct kho_random random;
    struct footer_entry *noted;
    uint8_t *bytes;
    struct footer_head head;
};

static uint64_t below(struct bench *b, uint64_t n)
{
    return kho_random_next(&b->random) % n;
}

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    world_init(&b->world, 64u << 20, 1);
    assert_int_equal(footer_maker_init(&b->maker, &b->world, FOOTER_ENTRIES), 0);
    kho_random_init(&b->random, 7);
    b->noted = calloc(FOOTER_ENTRIES_MAX, sizeof *b->noted);
    b->bytes = malloc(footer_bytes(FOOTER_ENTRIES_MAX, FOOTERS_MAX, ALIGNMENT));
    assert_true(b->noted != NULL && b->bytes != NULL);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    footer_maker_fini(&b->maker);
    assert_int_equal(b->world.memory_bytes, 0);
    free(b->noted);
    free(b->bytes);
    free(b);
    return 0;
}

static struct footer_entry entry_draw(struct bench *b, const struct shape *s)
{
    /* Few keys: the same one again and again, as updates do. */
    uint64_t key = s->keys > 0 ? below(b, s->keys) : kho_random_next(&b->random);
    struct key_hash hash = key_hash(1, &key, sizeof key, 5);
    struct footer_entry e = {
        .collection = 1 + (uint32_t)below(b, s->collections),
        .partition = (uint32_t)(hash.low % s->partitions),
        .tag = key_tag(hash),
        .version = {.counter = (1700000000000ull << 20) + below(b, s->counter_range),
                    .writer = 77 + (uint32_t)(below(b, s->writers) * 2654435761u)},
        .tombstone = below(b, 8) == 0,
        .place = (uint32_t)place_encode(
            0, FROM + BLOCK_ALIGN * (1 + below(b, (AT - FROM) / BLOCK_ALIGN - 1)), 6000),
    };
    e.value_bytes = e.tombstone ? 0 : (uint32_t)below(b, s->value_max + 1ull);
    return e;
}

static void footer_make(struct bench *b, const struct shape *s)
{
    footer_maker_commit(&b->maker, FROM, 40, 6);
    for (uint32_t i = 0; i < s->count; i++) {
        b->noted[i] = entry_draw(b, s);
        footer_maker_add(&b->maker, &b->noted[i]);
    }
    b->head = (struct footer_head){.segment = 9, .offset = AT, .last = 50, .predecessor = {{8}}};
    footer_encode(&b->maker, &OURS, ALIGNMENT, &b->head, b->bytes);
}

static int footer_read(const struct bench *b, struct footer *ret_footer)
{
    struct footer_head head;
    int error = footer_head_decode(b->bytes, &OURS, &head);
    return error != 0 ? error : footer_open(b->bytes, &head, ret_footer);
}

static int order_of(const struct footer_entry *a, const struct footer_entry *b)
{
    if (a->partition != b->partition)
        return a->partition < b->partition ? -1 : 1;
    if (a->collection != b->collection)
        return a->collection < b->collection ? -1 : 1;
    return key_tag_compare(a->tag, b->tag);
}

static int by_order(const void *a, const void *b)
{
    const struct footer_entry *const *x = a, *const *y = b;
    int order = order_of(*x, *y);
    if (order == 0)
        order = *x < *y ? -1 : *x > *y;
    return order;
}

static void entry_same(const struct footer_entry *a, const struct footer_entry *b)
{
    assert_int_equal(order_of(a, b), 0);
    assert_int_equal(version_compare(a->version, b->version), 0);
    assert_int_equal(a->value_bytes, b->value_bytes);
    assert_int_equal(a->place, b->place);
    assert_int_equal(a->tombstone, b->tombstone);
}

/* What a footer hands out is what was noted, in its order, equal tags in the order of the log. */
static void footer_same(struct bench *b, uint32_t count)
{
    struct footer footer;
    struct footer_cursor cursor;
    struct footer_entry e;
    struct key_tag tag;
    uint32_t at = 0;
    const struct footer_entry **sorted = calloc(count + 1, sizeof *sorted);
    assert_non_null(sorted);
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = &b->noted[i];
    qsort(sorted, count, sizeof *sorted, by_order);
    assert_int_equal(footer_read(b, &footer), 0);
    assert_int_equal(footer.head.entries, count);
    assert_int_equal(footer.head.epoch, 6);
    assert_int_equal(footer.head.first, 40);
    footer_begin(&cursor, &footer);
    while (footer_run(&cursor)) {
        assert_int_equal(cursor.partition, sorted[at]->partition);
        assert_true(footer_peek(&cursor, cursor.left - 1, &tag));
        assert_int_equal(key_tag_compare(tag, sorted[at + cursor.left - 1]->tag), 0);
        assert_false(footer_peek(&cursor, cursor.left, &tag));
        while (cursor.left > 0) {
            footer_take(&cursor, &e);
            entry_same(&e, sorted[at++]);
        }
    }
    assert_int_equal(at, count);
    free(sorted);
}

static void round_trips(void **state)
{
    static const struct shape shapes[] = {
        {0, 1, 1, 1, 0, 1, 0},
        {1, 1, 1, 1, 0, 1, 0},
        {500, 3, 16, 5, 40, 1 << 20, 300},
        {5000, 1, 1, 1, 0, 1ull << 40, KHO_VALUE_MAX},
        {3000, 1, 4096, 1, 2, 1ull << 60, 100},
        {4000, 3000, KHO_PARTITIONS_MAX, 1000, 0, 1ull << 30, 70000},
        {FOOTER_ENTRIES_MAX, 2, 4096, 100, 0, 1ull << 34, 1000},
    };
    struct bench *b = *state;
    for (size_t i = 0; i < KHO_COUNT_OF(shapes); i++) {
        footer_maker_reset(&b->maker);
        footer_make(b, &shapes[i]);
        assert_true(b->head.length <= footer_bytes(shapes[i].count, 0, ALIGNMENT));
        footer_same(b, shapes[i].count);
    }
}

/* The largest values of all fields fit their columns. */
static void extremes(void **state)
{
    struct bench *b = *state;
    footer_maker_commit(&b->maker, FROM, 40, 6);
    for (uint32_t i = 0; i < 2; i++) {
        struct footer_entry *e = &b->noted[i];
        *e = (struct footer_entry){
            .collection = i == 0 ? 0 : UINT32_MAX,
            .partition = i == 0 ? 0 : KHO_PARTITIONS_MAX - 1,
            .tag = {.high = i == 0 ? 0 : UINT64_MAX, .low = i == 0 ? 0 : UINT8_MAX},
            .version = {.counter = i == 0 ? 1 : KHO_COUNTER_MAX, .writer = i == 0 ? 0 : UINT32_MAX},
            .value_bytes = i == 0 ? 0 : KHO_VALUE_MAX,
            .place = (uint32_t)place_encode(0, i == 0 ? FROM + 64 : AT - 64,
                                            BLOCK_HEAD + BLOCK_BODY_MAX)};
        footer_maker_add(&b->maker, e);
    }
    b->head = (struct footer_head){.segment = 9, .offset = AT, .last = 50};
    footer_encode(&b->maker, &OURS, ALIGNMENT, &b->head, b->bytes);
    footer_same(b, 2);
}

/* A last sequence or an epoch that nothing reaches is no footer's. */
static void nothing_overflows(void **state)
{
    struct bench *b = *state;
    struct shape s = {10, 1, 16, 1, 0, 1 << 20, 300};
    struct footer footer;
    footer_make(b, &s);
    assert_int_equal(footer_read(b, &footer), 0);
    footer_maker_commit(&b->maker, FROM, 40, 6);
    b->head = (struct footer_head){.segment = 9, .offset = AT, .last = UINT64_MAX};
    footer_encode(&b->maker, &OURS, ALIGNMENT, &b->head, b->bytes);
    assert_int_equal(footer_read(b, &footer), KHO_EMALFORMED);
}

/* Earlier footers of the segment are listed; the next stretch begins empty. */
static void lists_those_before(void **state)
{
    struct bench *b = *state;
    struct shape s = {100, 1, 16, 1, 0, 1 << 20, 300};
    struct footer footer;
    uint64_t from = FROM;
    for (uint32_t n = 0; n < 3; n++) {
        footer_maker_commit(&b->maker, from, 40 + n, 6);
        for (uint32_t i = 0; i < s.count; i++) {
            b->noted[i] = entry_draw(b, &s);
            b->noted[i].place = (uint32_t)place_encode(0, from + 192, 6000);
            footer_maker_add(&b->maker, &b->noted[i]);
        }
        b->head = (struct footer_head){.segment = 9, .offset = from + 4096, .last = 40 + n};
        footer_encode(&b->maker, &OURS, ALIGNMENT, &b->head, b->bytes);
        from = b->head.offset + b->head.length;
        assert_false(footer_due(&b->maker, from + FOOTER_STRETCH));
    }
    assert_int_equal(footer_read(b, &footer), 0);
    assert_int_equal(footer.head.footers, 2);
    struct footer_ref first = footer_ref_at(&footer, 0), second = footer_ref_at(&footer, 1);
    assert_int_equal(first.from, FROM);
    assert_int_equal(first.offset, FROM + 4096);
    assert_int_equal(first.entries, s.count);
    assert_int_equal(second.from, first.offset + first.length);
    assert_int_equal(footer.head.from, second.offset + second.length);
}

/* A footer is due after so many records or bytes; another epoch or no room asks for one first. */
static void due(void **state)
{
    struct bench *b = *state;
    struct shape s = {0, 1, 16, 1, 0, 1 << 20, 300};
    assert_true(footer_maker_takes(&b->maker, 6, FOOTER_ENTRIES_MAX));
    footer_maker_commit(&b->maker, FROM, 40, 6);
    assert_false(footer_due(&b->maker, FROM + FOOTER_STRETCH - 1));
    assert_true(footer_due(&b->maker, FROM + FOOTER_STRETCH));
    for (uint32_t i = 0; i < FOOTER_ENTRIES; i++) {
        struct footer_entry e = entry_draw(b, &s);
        assert_false(footer_due(&b->maker, FROM + 4096));
        footer_maker_add(&b->maker, &e);
    }
    assert_true(footer_due(&b->maker, FROM + 4096));
    assert_true(footer_maker_takes(&b->maker, 6, FOOTER_ENTRIES_MAX - FOOTER_ENTRIES));
    assert_false(footer_maker_takes(&b->maker, 6, FOOTER_ENTRIES_MAX - FOOTER_ENTRIES + 1));
    assert_false(footer_maker_takes(&b->maker, 7, 1));
    footer_maker_skip(&b->maker);
    assert_true(footer_maker_takes(&b->maker, 7, 1));
}

/* Keys that the radix sort can't tell apart come in order all the same: those that share the first
 * 26 bits of their hash, and collections whose ids differ by what one digit holds. */
static void alike(void **state)
{
    struct bench *b = *state;
    enum { ALIKE = 64 };
    footer_maker_commit(&b->maker, FROM, 40, 6);
    for (uint32_t i = 0; i < ALIKE; i++) {
        struct footer_entry *e = &b->noted[i];
        *e = (struct footer_entry){
            .collection = 1 + (ALIKE - i) % 4 * 8192,
            .partition = i % 2,
            .tag = {.high = (0x3FFFFFFull << 38) - i % 8, .low = (uint8_t)(ALIKE - i)},
            .version = {.counter = 1000 + i, .writer = 1},
            .value_bytes = i,
            .place = (uint32_t)place_encode(0, FROM + 64, 6000)};
        footer_maker_add(&b->maker, e);
    }
    b->head = (struct footer_head){.segment = 9, .offset = AT, .last = 50};
    footer_encode(&b->maker, &OURS, ALIGNMENT, &b->head, b->bytes);
    footer_same(b, ALIKE);
}

/* A segment has at most so many footers: one more isn't listed, and none is made behind them. */
static void most_footers(void **state)
{
    struct bench *b = *state;
    struct footer_ref ref = {.offset = 8192, .length = 4096, .from = 4096};
    for (uint32_t i = 0; i < FOOTERS_MAX + 2; i++)
        footer_maker_ref(&b->maker, &ref);
    assert_int_equal(b->maker.ref_count, FOOTERS_MAX);
}

/* Without memory there is no maker, and what it took is given back. */
static void maker_without_memory(void **state)
{
    uint64_t enough = 0;
    uint32_t refused = 0;
    (void)state;
    for (uint64_t room = 0; enough == 0; room += 64u << 10) {
        struct shard_world world;
        struct footer_maker maker;
        world_init(&world, room, 1);
        if (footer_maker_init(&maker, &world, FOOTER_ENTRIES) == 0)
            enough = world.memory_bytes;
        else
            refused++;
        footer_maker_fini(&maker);
        footer_maker_fini(&maker); /* what was ended may be ended again */
        assert_int_equal(world.memory_bytes, 0);
    }
    assert_true(refused > 5 && enough > 0);
}

/* The list of earlier footers: each behind the one before it, none overlapping, all before the
 * stretch that this one covers. */
static void hostile_refs(void **state)
{
    static const struct {
        uint32_t at, value;
    } bad[] = {{0, FROM},            /* the first lies where its stretch begins */
               {4, FOOTER_HEAD - 1}, /* shorter than a head */
               {4, UINT32_MAX},
               {16 + 8, FROM},  /* the second begins within the first */
               {16, 12 << 20}}; /* and ends behind this one's stretch */
    struct bench *b = *state;
    struct footer footer;
    struct footer_ref refs[2] = {{.offset = FROM + 4096, .length = 4096, .from = FROM},
                                 {.offset = FROM + 12288, .length = 4096, .from = FROM + 8192}};
    for (size_t i = 0; i <= KHO_COUNT_OF(bad); i++) {
        footer_maker_reset(&b->maker);
        for (int k = 0; k < 2; k++)
            footer_maker_ref(&b->maker, &refs[k]);
        footer_maker_commit(&b->maker, FROM + 16384, 40, 6);
        b->head = (struct footer_head){.segment = 9, .offset = FROM + 20480, .last = 50};
        footer_encode(&b->maker, &OURS, ALIGNMENT, &b->head, b->bytes);
        assert_int_equal(footer_read(b, &footer), 0);
        if (i == KHO_COUNT_OF(bad))
            break;
        kho_store32(b->bytes + FOOTER_HEAD + bad[i].at, bad[i].value);
        struct kho_id hash = hash128(b->bytes + FOOTER_HEAD, b->head.body);
        memcpy(b->bytes + 160, hash.bytes, 16);
        struct kho_id checksum = hash128(b->bytes, 176);
        memcpy(b->bytes + 176, checksum.bytes, 16);
        assert_int_equal(footer_read(b, &footer), KHO_EMALFORMED);
    }
}

/* A head whose body leaves no room for the head itself, or whose counters would pass the highest,
 * is refused. */
static void hostile_heads(void **state)
{
    struct bench *b = *state;
    struct shape s = {60, 1, 4, 1, 0, 1 << 20, 300};
    struct footer footer;
    footer_make(b, &s);
    kho_store32(b->bytes + 108, b->head.length);
    struct kho_id checksum = hash128(b->bytes, 176);
    memcpy(b->bytes + 176, checksum.bytes, 16);
    struct footer_head head;
    assert_int_equal(footer_head_decode(b->bytes, &OURS, &head), KHO_EMALFORMED);
    footer_maker_reset(&b->maker);
    footer_make(b, &s);
    for (int i = 0; i < 2; i++) {
        kho_store64(b->bytes + 120, i == 0 ? UINT64_MAX : KHO_COUNTER_MAX);
        checksum = hash128(b->bytes, 176);
        memcpy(b->bytes + 176, checksum.bytes, 16);
        assert_int_equal(footer_read(b, &footer), KHO_EMALFORMED);
    }
}

/* Every flipped bit of a footer is noticed, and other people's footers aren't ours. */
static void damage(void **state)
{
    struct bench *b = *state;
    struct shape s = {300, 2, 16, 3, 0, 1 << 20, 300};
    struct footer footer;
    footer_make(b, &s);
    assert_int_equal(footer_read(b, &footer), 0);
    for (uint32_t i = 0; i < b->head.length; i++) {
        b->bytes[i] ^= (uint8_t)(1 << i % 8);
        assert_true(footer_read(b, &footer) < 0);
        b->bytes[i] ^= (uint8_t)(1 << i % 8);
    }
    struct identity other = OURS;
    other.incarnation.bytes[3] ^= 1;
    assert_int_equal(footer_head_decode(b->bytes, &other, &b->head), KHO_EINCARNATION);
    other = OURS;
    other.shard++;
    assert_int_equal(footer_head_decode(b->bytes, &other, &b->head), KHO_ESHARD);
}

/* Bytes made to match their hashes, whatever they say, earn an error or walk within their bounds.
 */
static void hostile(void **state)
{
    struct bench *b = *state;
    struct shape s = {60, 3, 4, 3, 0, 1 << 20, 300};
    uint32_t refused = 0, taken = 0;
    footer_make(b, &s);
    uint8_t *good = malloc(b->head.length);
    assert_non_null(good);
    memcpy(good, b->bytes, b->head.length);
    for (uint32_t round = 0; round < 20000; round++) {
        struct footer footer;
        struct footer_cursor cursor;
        struct footer_entry e;
        memcpy(b->bytes, good, b->head.length);
        uint32_t end = FOOTER_HEAD + b->head.body;
        uint32_t at = round % 2 == 0 ? 48 + (uint32_t)below(b, 104)
                                     : FOOTER_HEAD + (uint32_t)below(b, end - FOOTER_HEAD);
        b->bytes[at] = (uint8_t)kho_random_next(&b->random);
        uint32_t body = kho_load32(b->bytes + 108);
        if (body <= b->head.length - FOOTER_HEAD) {
            struct kho_id hash = hash128(b->bytes + FOOTER_HEAD, body);
            memcpy(b->bytes + 160, hash.bytes, 16);
        }
        struct kho_id checksum = hash128(b->bytes, 176);
        memcpy(b->bytes + 176, checksum.bytes, 16);
        struct footer_head head;
        if (footer_head_decode(b->bytes, &OURS, &head) != 0 || head.length > b->head.length ||
            footer_open(b->bytes, &head, &footer) != 0) {
            refused++;
            continue;
        }
        taken++;
        footer_begin(&cursor, &footer);
        while (footer_run(&cursor))
            while (cursor.left > 0) {
                footer_take(&cursor, &e);
                assert_true(e.version.counter >= 1 && e.version.counter <= KHO_COUNTER_MAX);
                assert_true(e.value_bytes <= KHO_VALUE_MAX && e.partition < KHO_PARTITIONS_MAX);
            }
    }
    assert_true(refused > 100 && taken > 100);
    free(good);
}

/* Small records of many writers, over as many partitions as a cluster has: at most 30 bytes each.
 */
static void bytes_a_record(void **state)
{
    struct bench *b = *state;
    struct shape s = {FOOTER_ENTRIES, 1, 4096, 1000, 0, 1ull << 30, 400};
    footer_make(b, &s);
    assert_true(b->head.length <= 27u * FOOTER_ENTRIES);
    s.writers = 1;
    footer_make(b, &s);
    assert_true(b->head.length <= 23u * FOOTER_ENTRIES);
}

int main(void)
{
#define FOOTER_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        FOOTER_TEST(round_trips),
        FOOTER_TEST(extremes),
        FOOTER_TEST(nothing_overflows),
        FOOTER_TEST(lists_those_before),
        FOOTER_TEST(due),
        FOOTER_TEST(damage),
        FOOTER_TEST(hostile),
        FOOTER_TEST(bytes_a_record),
        FOOTER_TEST(alike),
        FOOTER_TEST(most_footers),
        FOOTER_TEST(hostile_refs),
        FOOTER_TEST(hostile_heads),
        cmocka_unit_test(maker_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
