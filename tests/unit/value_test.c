/* The values of kho-bench's loads: a number and a revision say every byte, and any other byte is
 * found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "bench/value.h"

enum { LARGE = 5000, SOME = 2000 };

static char value[LARGE], other[LARGE];

/* Made twice, by two generators of one seed, they are equal; and they check. */
static void known_by_number(void **state)
{
    struct values a, b;
    const uint64_t numbers[] = {0, 1, 99, 123456789, VALUE_NUMBERS - 1};
    (void)state;
    assert_int_equal(values_init(&a, 100, LARGE, true, 3), 0);
    assert_int_equal(values_init(&b, 100, LARGE, true, 3), 0);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        for (uint32_t revision = 0; revision < VALUE_REVISIONS; revision += 33333333) {
            uint32_t found = 7;
            size_t len = value_make(&a, numbers[i], revision, value);
            assert_in_range(len, 100, LARGE);
            assert_int_equal(value_make(&b, numbers[i], revision, other), len);
            assert_memory_equal(value, other, len);
            assert_true(value_check(&b, numbers[i], value, len, &found));
            assert_int_equal(found, revision);
        }
    values_fini(&a);
    values_fini(&b);
}

/* Any byte changed, any length but its own, another record's number: all are told. */
static void others_refused(void **state)
{
    struct values values;
    uint32_t revision;
    (void)state;
    assert_int_equal(values_init(&values, 300, 300, true, 1), 0);
    size_t len = value_make(&values, 42, 7, value);
    assert_int_equal(len, 300);
    assert_false(value_check(&values, 43, value, len, &revision));
    assert_false(value_check(&values, 42, value, len - 1, &revision));
    assert_false(value_check(&values, 42, value, 0, &revision));
    for (size_t i = 0; i < len; i++) {
        value[i] ^= 1;
        assert_false(value_check(&values, 42, value, len, &revision));
        value[i] ^= 1;
    }
    assert_true(value_check(&values, 42, value, len, &revision));
    values_fini(&values);
}

/* Lengths are drawn over the whole range. */
static void lengths_drawn(void **state)
{
    struct values values;
    size_t low = LARGE, high = 0;
    double sum = 0;
    (void)state;
    assert_int_equal(values_init(&values, 100, 4096, false, 1), 0);
    for (uint64_t i = 0; i < SOME; i++) {
        size_t len = value_make(&values, i, 0, value);
        low = len < low ? len : low;
        high = len > high ? len : high;
        sum += (double)len;
    }
    assert_in_range(low, 100, 120);
    assert_in_range(high, 4076, 4096);
    assert_true(sum / SOME > 2000 && sum / SOME < 2200);
    values_fini(&values);
    assert_int_equal(values_init(&values, VALUE_MIN - 1, 100, true, 1), -EINVAL);
    assert_int_equal(values_init(&values, 200, 100, true, 1), -EINVAL);
}

static double ratio_of(size_t len, bool compressible)
{
    enum { BLOCK = 16384 };
    static char block[BLOCK + LARGE], packed[LZ4_COMPRESSBOUND(BLOCK + LARGE)];
    struct values values;
    size_t at = 0;
    assert_int_equal(values_init(&values, len, len, compressible, 1), 0);
    for (uint64_t i = 0; at < BLOCK; i++)
        at += value_make(&values, i, 0, block + at);
    int packed_len = LZ4_compress_default(block, packed, (int)at, (int)sizeof packed);
    values_fini(&values);
    assert_true(packed_len > 0);
    return (double)at / packed_len;
}

/* Blocks of them compress as records of citizens do, or not at all: only the stamps repeat. */
static void compressible_or_not(void **state)
{
    (void)state;
    for (size_t len = 300; len <= 4800; len *= 4) {
        double json = ratio_of(len, true), noise = ratio_of(len, false);
        assert_true(json > 1.8 && json < 4);
        assert_true(noise < 1.15);
    }
}

static void keys_in_order(void **state)
{
    char a[VALUE_KEY], b[VALUE_KEY];
    (void)state;
    value_key(9, a);
    value_key(10, b);
    assert_memory_equal(a, "rec:000000000009", VALUE_KEY);
    assert_memory_equal(b, "rec:000000000010", VALUE_KEY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_by_number), cmocka_unit_test(others_refused),
        cmocka_unit_test(lengths_drawn),   cmocka_unit_test(compressible_or_not),
        cmocka_unit_test(keys_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
