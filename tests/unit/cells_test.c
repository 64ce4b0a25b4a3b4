/* cells_test.c: cells are taken, given back and moved, while a plain array knows what is in them.
 */
#include "node/cells.h"
#include "node/store.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { OWNERS = 30000, POOLS = 3 };
static const uint32_t sizes[POOLS] = {12, 132, 1932};

/* Owner n (from 1) has at most one cell, filled with its number. */
struct fixture {
    struct shard_world world;
    struct kho_random random;
    struct cells cells;
    uint64_t moves;
    cell_ref refs[OWNERS + 1];
    uint32_t pools[OWNERS + 1];
};

static void moved(void *arg, cell_ref owner, cell_ref from, cell_ref to)
{
    struct fixture *f = arg;
    assert_in_range(owner, 1, OWNERS);
    assert_int_equal(f->refs[owner], from);
    f->refs[owner] = to;
    f->moves++;
}

static struct fixture *fixture_create(uint64_t memory_max)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    world_init(&f->world, memory_max, 1);
    kho_random_init(&f->random, 1);
    cells_init(&f->cells, &f->world, sizes, POOLS, moved, f);
    return f;
}

static void fixture_destroy(struct fixture *f)
{
    cells_fini(&f->cells);
    assert_int_equal(f->world.memory_bytes, 0);
    free(f);
}

static bool take(struct fixture *f, uint32_t owner, uint32_t pool)
{
    assert_int_equal(f->refs[owner], 0);
    cell_ref ref = cells_take(&f->cells, pool, owner);
    if (ref == 0)
        return false;
    assert_int_equal(cell_owner(cell_at(&f->cells, ref)), owner);
    memset(cell_at(&f->cells, ref) + 4, (int)(owner & 0xFF), sizes[pool] - 4);
    f->refs[owner] = ref;
    f->pools[owner] = pool;
    return true;
}

static void give(struct fixture *f, uint32_t owner)
{
    uint32_t size = sizes[f->pools[owner]];
    const uint8_t *cell = cell_at(&f->cells, f->refs[owner]);
    assert_int_equal(cell_owner(cell), owner);
    for (uint32_t i = 4; i < size; i++)
        assert_int_equal(cell[i], owner & 0xFF);
    cells_give(&f->cells, f->refs[owner], f->pools[owner]);
    f->refs[owner] = 0;
}

static uint64_t bytes_in_use(const struct fixture *f)
{
    uint64_t bytes = 0;
    for (uint32_t owner = 1; owner <= OWNERS; owner++)
        if (f->refs[owner] != 0)
            bytes += sizes[f->pools[owner]];
    return bytes;
}

/* What holds while cells come and go, in phases of growth and of shrinking: nobody's bytes change,
 * and all memory but a tenth and a few slabs is in use. */
static void test_cells_come_and_go(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(UINT64_MAX);
    for (uint32_t step = 0; step < 400000; step++) {
        uint32_t owner = 1 + (uint32_t)kho_random_below(&f->random, OWNERS);
        bool shrinking = step / 50000 % 2 == 1;
        if (f->refs[owner] == 0 && (!shrinking || step % 16 == 0))
            assert_true(take(f, owner, (uint32_t)kho_random_below(&f->random, POOLS)));
        else if (f->refs[owner] != 0 && (shrinking || step % 16 == 0))
            give(f, owner);
        cells_settle(&f->cells);
        if (step % 10000 == 9999) {
            uint64_t slack = POOLS * 3 * UINT64_C(65536);
            assert_int_equal(f->cells.bytes, f->world.memory_bytes);
            assert_true(f->cells.bytes <= bytes_in_use(f) * 11 / 10 + slack);
        }
    }
    assert_true(f->moves > 1000);
    for (uint32_t owner = 1; owner <= OWNERS; owner++)
        if (f->refs[owner] != 0)
            give(f, owner);
    fixture_destroy(f);
}

/* What one size gave back, another one takes: at the memory's bound, too. */
static void test_sizes_share(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(4u << 20);
    uint32_t large = 1, small;
    while (take(f, large, 2))
        large++;
    assert_true(large > 1500);
    assert_int_equal(f->refs[large], 0);
    for (uint32_t owner = 1; owner < large; owner++)
        if (owner % 4 != 0) {
            give(f, owner);
            cells_settle(&f->cells);
        }
    for (small = large; small <= OWNERS && take(f, small, 1); small++)
        continue;
    assert_true((small - large) * UINT64_C(132) > 2500000);
    assert_true(f->world.memory_bytes <= f->world.memory_max);
    for (uint32_t owner = 1; owner <= OWNERS; owner++)
        if (f->refs[owner] != 0)
            give(f, owner);
    fixture_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cells_come_and_go),
        cmocka_unit_test(test_sizes_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
