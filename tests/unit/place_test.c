/* place_test.c: where a record lies, as the index has it. */
#include "node/block.h"
#include "node/index.h"
#include "node/place.h"
#include "unit.h"

/* Places hold every size up to the largest block, with little to spare. */
static void places(void **state)
{
    (void)state;
    for (uint32_t bytes = 1; bytes <= 192 + KHO_RECORD_MAX; bytes += 1 + bytes / 1000) {
        uint64_t place = place_encode(7, 64 * 1234, bytes);
        assert_true(place_bytes(place) >= bytes);
        if (bytes <= 192 + BLOCK_RAW_MAX)
            assert_true(place_bytes(place) < bytes + 512);
        else
            assert_true(place_bytes(place) <= bytes + bytes / 10 * 3);
        assert_int_equal(place_slot(place), 7);
        assert_int_equal(place_offset(place), 64 * 1234);
        assert_true(place < PLACE_UNKNOWN);
    }
    uint64_t last = place_encode(PLACE_SLOTS_MAX - 1, (256u << 20) - 64, 192 + KHO_RECORD_MAX);
    assert_true(last < PLACE_UNKNOWN);
    assert_int_equal(place_slot(last), PLACE_SLOTS_MAX - 1);
    assert_int_equal(place_offset(last), (256u << 20) - 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
