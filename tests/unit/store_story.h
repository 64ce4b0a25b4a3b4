/* store_story.h: records by their numbers in a store over a disk in memory. */
#ifndef KHO_TESTS_UNIT_STORE_STORY_H
#define KHO_TESTS_UNIT_STORE_STORY_H

#include "rig.h"

static inline void put(struct rig *rig, uint32_t collection, uint32_t number, uint64_t version,
                       uint32_t len)
{
    struct rig_key key = rig_key(collection, number);
    assert_int_equal(rig_put(rig, &key, T0 + version, number + version, len, false, NULL), 0);
}

static inline int check(struct rig *rig, uint32_t collection, uint32_t number, uint64_t version,
                        uint32_t len)
{
    struct rig_key key = rig_key(collection, number);
    return rig_check(rig, &key, T0 + version, number + version, len);
}

/* The offset of the n-th commit (from 0) of a segment of one-page commits. */
static inline uint64_t page(uint32_t n)
{
    return 4096ull * (1 + n);
}

/* Twenty commits of one record each, then a mark. */
static inline void twenty(struct rig *rig)
{
    rig_ready(rig);
    for (uint32_t i = 0; i < 20; i++) {
        put(rig, 1, i, 1, 100);
        rig_run(rig);
    }
    rig_pass(rig, 60);
}

#endif
