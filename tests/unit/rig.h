/* rig.h: what the tests of a store over a disk in memory begin and end with. */
#ifndef KHO_TESTS_UNIT_RIG_H
#define KHO_TESTS_UNIT_RIG_H

#include "tests/lib/store_rig.h"
#include "unit.h"

/* A counter of the rig's time. */
static const uint64_t T0 = 1700000000000ull << KHO_COUNTER_TIME_BITS;

/* *state is a rig with an empty disk. */
static inline int setup(void **state)
{
    struct rig *rig = malloc(sizeof *rig);
    assert_non_null(rig);
    rig_init(rig);
    *state = rig;
    return 0;
}

static inline int teardown(void **state)
{
    rig_fini(*state);
    free(*state);
    return 0;
}

#endif
