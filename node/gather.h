/* gather.h: entries of one table out of many footers, brought into the order of their tags, each
 * key once: what index_put_all() takes.
 *
 * Of a key's entries the highest version stays, and of equal ones one that has a place. */
#ifndef KHO_NODE_GATHER_H
#define KHO_NODE_GATHER_H

#include "index.h"

enum { GATHER_ENTRIES = 4096, GATHER_BITS_MAX = 11 };

struct gather {
    struct shard_world *world;
    struct index_entry *entries; /* GATHER_ENTRIES, as they came */
    struct index_entry *sorted;
    uint16_t *ends; /* of the groups with the same bits, while they are sorted */
    uint32_t count;
};

/* -ENOMEM (fini it in any case). */
int gather_init(struct gather *gather, struct shard_world *world);
void gather_fini(struct gather *gather);
/* Where the next entry goes; there is room for one. */
static inline struct index_entry *gather_next(struct gather *gather)
{
    KHO_ASSERT(gather->count < GATHER_ENTRIES);
    return &gather->entries[gather->count++];
}
/* Sorts what was gathered, and begins anew. All tags have the same first `shared` bits, below 64.
 * What it returns stays until the next call. Linear time, unless tags were made to fall together.
 */
const struct index_entry *gather_sort(struct gather *gather, uint32_t shared, uint32_t *ret_count);

#endif
