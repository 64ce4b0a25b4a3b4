/* latency_test.c: the histogram of answers: its bounds, its decay, its forgetting. */
#include "client/latency.h"
#include "unit.h"

#define MS UINT64_C(1000000)

static void add_many(struct latency *latency, uint32_t count, uint64_t took_ns, uint64_t now_ns)
{
    for (uint32_t i = 0; i < count; i++)
        latency_add(latency, took_ns, now_ns);
}

/* Nothing is told before the first look, which comes with its sixteenth answer. */
static void test_first_look(void **state)
{
    (void)state;
    struct latency latency = {0};
    for (uint32_t i = 1; i < LATENCY_LOOK; i++)
        assert_false(latency_add(&latency, MS, i));
    assert_int_equal(latency_high(&latency), 0);
    assert_true(latency_add(&latency, MS, LATENCY_LOOK));
    assert_true(latency_high(&latency) > MS);
}

/* What is told is never less than what was added, and a quarter more at most. */
static void test_bounds(void **state)
{
    (void)state;
    for (uint64_t took = 16384; took < UINT64_C(16) << 30; took += took / 7) {
        struct latency latency = {0};
        add_many(&latency, LATENCY_LOOK, took, 1);
        assert_true(latency_high(&latency) > took);
        assert_true(latency_high(&latency) <= took + took / 4 + 1);
    }
    struct latency fast = {0}, slow = {0};
    add_many(&fast, LATENCY_LOOK, 0, 1);
    assert_int_equal(latency_high(&fast), 16384);
    add_many(&slow, LATENCY_LOOK, UINT64_MAX, 1);
    assert_int_equal(latency_high(&slow), UINT64_C(1) << 34);
}

/* One answer in a hundred may be as late as it likes; two may not. */
static void test_one_in_a_hundred(void **state)
{
    (void)state;
    struct latency latency = {0};
    for (uint32_t i = 1; i <= 800; i++)
        latency_add(&latency, i % 100 == 50 ? 900 * MS : MS, 1);
    assert_in_range(latency_high(&latency), MS, 2 * MS);
    memset(&latency, 0, sizeof latency);
    for (uint32_t i = 1; i <= 800; i++)
        latency_add(&latency, i % 50 == 25 ? 900 * MS : MS, 1);
    assert_true(latency_high(&latency) > 900 * MS);
}

/* Old answers lose their weight: a node that was slow for long is judged by what it does now. */
static void test_decay(void **state)
{
    (void)state;
    struct latency latency = {0};
    add_many(&latency, 100000, 200 * MS, 1);
    uint32_t needed = 0;
    while (latency_high(&latency) > 200 * MS) {
        latency_add(&latency, MS, 1);
        assert_true(++needed < 10000);
    }
    /* 1,024 of 200 ms become less than a hundredth when half of them are forgotten 7 times. */
    assert_in_range(needed, 512, 7 * LATENCY_HALVED_AT);
    add_many(&latency, 64, 200 * MS, 1);
    assert_true(latency_high(&latency) > 200 * MS);
}

/* After five seconds without an answer the first one begins anew; a moment before, it doesn't. */
static void test_stale(void **state)
{
    (void)state;
    struct latency latency = {0};
    add_many(&latency, 64, 200 * MS, 1);
    struct latency kept = latency;
    add_many(&kept, LATENCY_LOOK, MS, LATENCY_STALE_NS);
    assert_true(latency_high(&kept) > 200 * MS);
    add_many(&latency, LATENCY_LOOK - 1, MS, 1 + LATENCY_STALE_NS);
    assert_int_equal(latency_high(&latency), 0);
    latency_add(&latency, MS, 1 + LATENCY_STALE_NS);
    assert_in_range(latency_high(&latency), MS, 2 * MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_look),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_one_in_a_hundred),
        cmocka_unit_test(test_decay),
        cmocka_unit_test(test_stale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
