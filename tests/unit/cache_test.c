/* cache_test.c: the block cache: bounds, pins, what stays and what goes. */
#include "node/cache.h"
#include "node/store.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { BLOCK = 1000, PINS_MAX = 8, PLACES = 300 };

static void block_fill(struct cache_block *block, uint64_t place)
{
    for (uint32_t i = 0; i < block->data_bytes; i++)
        block->data[i] = (uint8_t)(place + i);
}

static void assert_block_holds(const struct cache_block *block, uint64_t place)
{
    assert_int_equal(block->place, place);
    for (uint32_t i = 0; i < block->data_bytes; i += 97)
        assert_int_equal(block->data[i], (uint8_t)(place + i));
}

/* Reads through the cache as the store does: true if it was a hit. */
static bool touch(struct cache *cache, uint64_t place)
{
    struct cache_block *block = cache_get(cache, place, false);
    bool hit = block != NULL;
    if (!hit) {
        block = cache_add(cache, place, BLOCK);
        assert_non_null(block);
        block_fill(block, place);
        cache_publish(cache, block);
    }
    assert_block_holds(block, place);
    cache_unpin(cache, block);
    return hit;
}

/* Under random use every block found has its own bytes, the bound holds but for pinned blocks, and
 * all memory comes back. */
static void test_random_use(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct shard_world world;
        struct kho_random random;
        struct cache *cache;
        struct cache_block *pinned[PINS_MAX] = {0};
        uint64_t places[PINS_MAX] = {0};
        uint64_t bound = 40 * (BLOCK + sizeof(struct cache_block));
        world_init(&world, UINT64_MAX, seed);
        kho_random_init(&random, seed);
        assert_int_equal(cache_create(&world, bound, &cache), 0);
        uint64_t fixed = world.memory_bytes;
        for (unsigned i = 0; i < 20000; i++) {
            uint64_t place = kho_random_below(&random, PLACES);
            uint64_t at = kho_random_below(&random, PINS_MAX);
            switch (kho_random_below(&random, 8)) {
            case 0:
                cache_forget(cache, place);
                assert_null(cache_get(cache, place, false));
                break;
            case 1:
                if (pinned[at] != NULL) {
                    assert_block_holds(pinned[at], places[at]);
                    cache_unpin(cache, pinned[at]);
                }
                pinned[at] = cache_get(cache, place, false);
                places[at] = place;
                break;
            case 2:
                /* Pinned and perhaps never published: two readers of one block, or damage. */
                if (pinned[at] != NULL)
                    break;
                pinned[at] =
                    cache_add(cache, place, 1 + (uint32_t)kho_random_below(&random, BLOCK));
                assert_non_null(pinned[at]);
                places[at] = place;
                block_fill(pinned[at], place);
                if (kho_random_below(&random, 2) == 0)
                    cache_publish(cache, pinned[at]);
                break;
            default:
                touch(cache, place);
            }
            assert_true(cache_bytes(cache) <=
                        bound + PINS_MAX * (BLOCK + sizeof(struct cache_block)));
            assert_int_equal(world.memory_bytes, fixed + cache_bytes(cache));
        }
        for (unsigned i = 0; i < PINS_MAX / 2; i++)
            if (pinned[i] != NULL)
                cache_unpin(cache, pinned[i]);
        cache_destroy(cache); /* with pins out, as a crash leaves it */
        assert_int_equal(world.memory_bytes, 0);
    }
}

/* A sweep over many blocks, each once, doesn't push out those that are asked for again and again.
 */
static void test_scan_resistance(void **state)
{
    (void)state;
    struct shard_world world;
    struct cache *cache;
    world_init(&world, UINT64_MAX, 1);
    assert_int_equal(cache_create(&world, 100 * (BLOCK + sizeof(struct cache_block)), &cache), 0);
    for (unsigned round = 0; round < 4; round++)
        for (uint64_t place = 0; place < 50; place++)
            touch(cache, place);
    for (uint64_t place = 1000; place < 5000; place++)
        touch(cache, place);
    unsigned hits = 0;
    for (uint64_t place = 0; place < 50; place++)
        hits += touch(cache, place);
    assert_int_equal(hits, 50);
    cache_destroy(cache);
}

/* A sweep that asks for each block many times, as reading all its records does, pushes out nothing
 * either; nor does anybody else who asks for one block many times in a row. */
static void test_sweep_of_neighbours(void **state)
{
    (void)state;
    for (int sweep = 0; sweep < 2; sweep++) {
        struct shard_world world;
        struct cache *cache;
        uint64_t bound = 100 * (BLOCK + sizeof(struct cache_block));
        world_init(&world, UINT64_MAX, 1);
        assert_int_equal(cache_create(&world, bound, &cache), 0);
        for (unsigned round = 0; round < 4; round++)
            for (uint64_t place = 0; place < 50; place++)
                touch(cache, place);
        for (uint64_t place = 1000; place < 5000; place++) {
            touch(cache, place);
            for (unsigned i = 0; i < 30; i++)
                cache_unpin(cache, cache_get(cache, place, sweep != 0));
        }
        unsigned hits = 0;
        for (uint64_t place = 0; place < 50; place++)
            hits += touch(cache, place);
        assert_int_equal(hits, 50);
        cache_destroy(cache);
    }
}

static void shrink_all(struct cache *cache)
{
    uint64_t before;
    do {
        before = cache_bytes(cache);
        cache_shrink(cache);
    } while (cache_bytes(cache) < before);
}

/* The cache takes the memory that is free, but for a part that it leaves to others; as they grow it
 * shrinks, down to its least. */
static void test_memory_shared(void **state)
{
    (void)state;
    enum { MIB = 1 << 20, ALL = 64 * MIB, LEFT = 24 * MIB, LEAST = ALL / 32 };
    struct shard_world world;
    struct cache *cache;
    world_init(&world, ALL, 1);
    assert_int_equal(cache_create(&world, ALL, &cache), 0);
    for (uint64_t others = 0; others <= ALL - 3 * MIB; others += 5 * MIB) {
        shrink_all(cache);
        for (uint64_t place = 0; place < ALL / BLOCK; place++)
            touch(cache, place);
        if (others + LEFT + LEAST <= ALL) {
            assert_true(world.memory_bytes + LEFT <= ALL);
            assert_true(world.memory_bytes + LEFT > ALL - 4 * BLOCK || cache_bytes(cache) > LEAST);
        }
        assert_true(cache_bytes(cache) > LEAST / 2);
        assert_true(world.memory_bytes <= ALL);
        world.memory_bytes += 5 * MIB;
    }
    world.memory_bytes = cache_bytes(cache); /* what others had is gone, and so is what is fixed */
    shrink_all(cache);
    for (uint64_t place = 0; place < ALL / BLOCK; place++)
        touch(cache, place);
    assert_true(cache_bytes(cache) > ALL / 2);
    world.memory_bytes += ALL;
    cache_destroy(cache);
}

/* Where the shard's memory is short, the cache gives its own before it says no; pinned blocks
 * stay. */
static void test_memory_short(void **state)
{
    (void)state;
    enum { LEAST = (64 << 20) / 32, PINS = LEAST / BLOCK + 100 };
    static struct cache_block *pinned[PINS];
    struct shard_world world;
    struct cache *cache;
    world_init(&world, 64 << 20, 1);
    assert_int_equal(cache_create(&world, 32 << 20, &cache), 0);
    uint64_t taken = world.memory_max / 32 * 29 - world.memory_bytes;
    world.memory_bytes += taken;
    for (uint64_t place = 0; place < 5000; place++)
        touch(cache, place);
    assert_true(world.memory_bytes <= world.memory_max);
    unsigned count = 0;
    while (count < PINS && (pinned[count] = cache_add(cache, 10000 + count, BLOCK)) != NULL) {
        block_fill(pinned[count], 10000 + count);
        cache_publish(cache, pinned[count]);
        count++;
    }
    assert_true(count > 10 && count < PINS);
    for (unsigned i = 0; i < count; i++) {
        assert_block_holds(pinned[i], 10000 + i);
        cache_unpin(cache, pinned[i]);
    }
    assert_non_null(pinned[0] = cache_add(cache, 50000, BLOCK));
    cache_unpin(cache, pinned[0]);
    cache_destroy(cache);
    assert_int_equal(world.memory_bytes, taken);
}

/* A block forgotten while it is pinned stays readable for who holds it and unfindable for others;
 * the same place read anew is another block. */
static void test_forget_while_pinned(void **state)
{
    (void)state;
    struct shard_world world;
    struct cache *cache;
    world_init(&world, UINT64_MAX, 1);
    assert_int_equal(cache_create(&world, 1 << 20, &cache), 0);
    touch(cache, 7);
    struct cache_block *old = cache_get(cache, 7, false);
    assert_non_null(old);
    cache_forget(cache, 7);
    assert_null(cache_get(cache, 7, false));
    assert_block_holds(old, 7);
    assert_false(touch(cache, 7));
    struct cache_block *new = cache_get(cache, 7, false);
    assert_non_null(new);
    assert_ptr_not_equal(new, old);
    cache_unpin(cache, old);
    cache_unpin(cache, new);
    assert_true(touch(cache, 7));
    cache_destroy(cache);
    assert_int_equal(world.memory_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_use),          cmocka_unit_test(test_scan_resistance),
        cmocka_unit_test(test_sweep_of_neighbours), cmocka_unit_test(test_memory_shared),
        cmocka_unit_test(test_memory_short),        cmocka_unit_test(test_forget_while_pinned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
