/* shelf.h: what was written of each key, and what of it was acknowledged: what a store must have
 * after any cut. */
#ifndef KHO_TESTS_CRASH_SHELF_H
#define KHO_TESTS_CRASH_SHELF_H

#include "tests/lib/store_rig.h"

enum { SHELF_KEYS = 24, SHELF_VERSIONS = 256 };

struct shelf_version {
    uint64_t counter, sequence;
    uint32_t len; /* RIG_TOMBSTONE: a delete */
    struct kho_id hash;
};

struct shelf_key {
    struct rig_key key;
    struct shelf_version versions[SHELF_VERSIONS];
    uint32_t count, acknowledged; /* the first ones */
};

struct shelf {
    struct rig face; /* lends the unit tests' way to write to a store */
    struct shelf_key keys[SHELF_KEYS];
    uint64_t counter;
    uint64_t acknowledged; /* records in all */
};

void shelf_init(struct shelf *shelf);
void shelf_fini(struct shelf *shelf);
/* Writes a value of `len` bytes. False: the store takes nothing now. */
bool shelf_put(struct shelf *shelf, struct store *store, struct kho_now now, uint32_t key,
               uint32_t len);
/* Notes what the store acknowledges by now. True: something is new. */
bool shelf_acknowledge(struct shelf *shelf, const struct store *store);
/* Of one key: a store that was cut counts anew from where the cut left it. */
bool shelf_acknowledge_key(struct shelf *shelf, const struct store *store, uint32_t key);
/* The answer was given to somebody: it counts as acknowledged. */
void shelf_told(struct shelf *shelf, uint32_t key, const struct store_read *read);
/* Looks at one answer: 0, or a sentence about what is wrong. */
const char *shelf_judge(const struct shelf *shelf, uint32_t key, const struct store_read *read);

#endif
