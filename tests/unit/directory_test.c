/* directory_test.c: records of an unpacked block are found by version, whatever else is in it. */
#include "node/directory.h"
#include "unit.h"

enum { RECORDS = 60, ROOM = 32 << 10 };

/* A block of records whose values tell their number; `counter_of` gives their versions. */
static struct directory *block_make(uint32_t records, uint32_t said,
                                    uint64_t (*counter_of)(uint32_t))
{
    static uint8_t raw[BLOCK_RAW_MAX];
    static uint64_t memory[ROOM / 8];
    uint32_t used = 0;
    for (uint32_t i = 0; i < records; i++) {
        uint8_t key[4], value[100];
        kho_store32(key, i);
        memset(value, (int)i, sizeof value);
        struct record r = {.collection = 1 + i % 2,
                           .key_len = sizeof key,
                           .version = {.counter = counter_of(i), .writer = 9},
                           .raw_len = i,
                           .stored_len = i,
                           .hash = content_hash(value, i),
                           .key = key,
                           .value = value};
        used += (uint32_t)record_encode(&r, raw + used);
    }
    assert_true(directory_bytes(said, used) <= sizeof memory);
    struct directory *d = directory_init(memory, said, used);
    memcpy(directory_raw(d), raw, used);
    return d;
}

/* How many records the search finds; *ret_mine: the one with that number is among them. */
static uint32_t search(const struct directory *d, uint32_t number, uint64_t counter, bool *ret_mine)
{
    struct directory_search s =
        directory_search(d, 1 + number % 2, (struct version){.counter = counter, .writer = 9});
    struct record r;
    uint32_t found = 0;
    *ret_mine = false;
    while (directory_next(d, &s, &r)) {
        assert_int_equal(r.version.counter, counter);
        assert_int_equal(r.collection, 1 + number % 2);
        *ret_mine = *ret_mine || kho_load32(r.key) == number;
        found++;
    }
    return found;
}

static uint64_t counter_own(uint32_t i)
{
    return ((uint64_t)1700000000000u << 20) + i * 7919u;
}
static uint64_t counter_same(uint32_t i)
{
    (void)i;
    return 5;
}

/* Each record is found by its own version, and nothing by another one. */
static void found(void **state)
{
    bool mine;
    (void)state;
    for (uint32_t records = 1; records <= RECORDS; records++) {
        struct directory *d = block_make(records, records, counter_own);
        directory_fill(d);
        for (uint32_t i = 0; i < records; i++) {
            for (int step = 0; step < 2; step++)
                directory_prefetch(d, (struct version){counter_own(i), 9}, step);
            assert_int_equal(search(d, i, counter_own(i), &mine), 1);
            assert_true(mine);
            assert_int_equal(search(d, i, counter_own(i) + 1, &mine), 0);
            assert_int_equal(search(d, i + 1, counter_own(i), &mine), 0);
        }
    }
}

/* Records of one version are all found, each in its collection. */
static void same_version(void **state)
{
    bool mine;
    (void)state;
    struct directory *d = block_make(RECORDS, RECORDS, counter_same);
    directory_fill(d);
    for (uint32_t i = 0; i < RECORDS; i++) {
        assert_int_equal(search(d, i, 5, &mine), RECORDS / 2);
        assert_true(mine);
    }
}

/* A block whose records fill every slot, all of one version: fetching ahead for another version
 * that has the same first slot ends all the same. */
static void full(void **state)
{
    bool mine;
    (void)state;
    for (uint32_t records = 1; records <= RECORDS; records++) {
        struct directory *d = block_make(records, records, counter_own);
        directory_fill(d);
        for (uint64_t counter = 1; counter < 200; counter++) {
            for (int step = 0; step < 2; step++)
                directory_prefetch(d, (struct version){counter, 9}, step);
            assert_int_equal(search(d, 1, counter, &mine), 0);
        }
    }
}

/* A head that says too few or too many records, or a record that ends behind the block, hides what
 * lies behind, and nothing else. */
static void broken(void **state)
{
    bool mine;
    (void)state;
    for (uint32_t said = RECORDS / 2; said <= RECORDS + 10; said += RECORDS / 2 + 10) {
        struct directory *d = block_make(RECORDS, said, counter_own);
        directory_fill(d);
        for (uint32_t i = 0; i < RECORDS; i++)
            assert_int_equal(search(d, i, counter_own(i), &mine), i < said);
    }
    struct directory *d = block_make(RECORDS, RECORDS, counter_own);
    uint8_t *at = directory_raw(d);
    for (uint32_t i = 0; i < 10; i++)
        at += KHO_RECORD_HEAD + 4 + i;
    kho_store32(at + 24, UINT32_MAX);
    directory_fill(d);
    for (uint32_t i = 0; i < RECORDS; i++)
        assert_int_equal(search(d, i, counter_own(i), &mine), i < 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(found),
        cmocka_unit_test(same_version),
        cmocka_unit_test(full),
        cmocka_unit_test(broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
