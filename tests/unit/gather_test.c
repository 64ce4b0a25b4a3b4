/* gather_test.c: entries that were gathered come out in the order of their tags, each key once. */
#include "node/gather.h"
#include "node/store.h"
#include "unit.h"

/* What one key's entries come to, by a look at all of them. */
static const struct index_entry *best_of(const struct index_entry *entries, uint32_t count,
                                         struct key_tag tag)
{
    const struct index_entry *best = NULL;
    for (uint32_t i = 0; i < count; i++)
        if (key_tag_compare(entries[i].tag, tag) == 0 &&
            (best == NULL || version_compare(entries[i].version, best->version) > 0))
            best = &entries[i];
    return best;
}

/* `shared` bits are the same in all tags; `spread`: how many values the bits behind them have. */
static void run(uint64_t seed, uint32_t count, uint32_t shared, uint64_t spread)
{
    static struct index_entry copy[GATHER_ENTRIES];
    struct shard_world world;
    struct kho_random random;
    struct gather gather;
    uint32_t kept, keys = 0;
    world_init(&world, UINT64_MAX, seed);
    kho_random_init(&random, seed);
    assert_int_equal(gather_init(&gather, &world), 0);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t draw = kho_random_next(&random);
        copy[i] = (struct index_entry){
            .tag = {.high = (draw % spread) * (UINT64_MAX / spread) >> shared, .low = draw >> 62},
            .version = {.counter = 1 + (draw >> 40) % 1000000, .writer = i},
            .place = i};
        if (shared > 0)
            copy[i].tag.high |= UINT64_C(0xB1DEB1DEB1DEB1DE) >> (64 - shared) << (64 - shared);
        *gather_next(&gather) = copy[i];
    }
    const struct index_entry *sorted = gather_sort(&gather, shared, &kept);
    for (uint32_t i = 0; i < kept; i++) {
        if (i > 0)
            assert_true(key_tag_compare(sorted[i - 1].tag, sorted[i].tag) < 0);
        assert_memory_equal(&sorted[i], best_of(copy, count, sorted[i].tag), sizeof *sorted);
    }
    for (uint32_t i = 0; i < count; i++)
        keys += best_of(copy, count, copy[i].tag) == &copy[i];
    assert_int_equal(kept, keys);
    assert_int_equal(gather.count, 0);
    gather_fini(&gather);
    assert_int_equal(world.memory_bytes, 0);
}

/* Tags over the whole range and over a part of it, few and many, and ones that fall together. */
static void test_sorted(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 3, 17, 300, GATHER_ENTRIES};
    static const uint64_t spreads[] = {1ull << 50, 200, 3, 1};
    for (uint32_t n = 0; n < KHO_COUNT_OF(counts); n++)
        for (uint32_t i = 0; i < KHO_COUNT_OF(spreads); i++)
            for (uint32_t shared = 0; shared <= 12; shared += 4)
                run(n + i, counts[n], shared, spreads[i]);
}

/* Of equal versions one that has a place stays, wherever it stands. */
static void test_placed_stays(void **state)
{
    (void)state;
    struct shard_world world;
    struct gather gather;
    uint32_t kept;
    world_init(&world, UINT64_MAX, 1);
    assert_int_equal(gather_init(&gather, &world), 0);
    for (uint32_t at = 0; at < 3; at++) {
        for (uint32_t i = 0; i < 3; i++)
            *gather_next(&gather) = (struct index_entry){.tag = {.high = 5},
                                                         .version = {.counter = 7},
                                                         .place = i == at ? 640 : PLACE_UNKNOWN};
        const struct index_entry *sorted = gather_sort(&gather, 0, &kept);
        assert_int_equal(kept, 1);
        assert_int_equal(sorted->place, 640);
    }
    gather_fini(&gather);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sorted),
        cmocka_unit_test(test_placed_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
