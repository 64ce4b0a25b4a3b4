/* enter.h: what a start puts into the index, wherever it was read: in a block or in a footer.
 *
 * The highest version of a key counts, and of equal ones one that can be read. What was accepted
 * before this node became a replica of the partition for the last time is discarded, and all where
 * it is none any more (R5). A record
 * whose block is known to be damaged has a version and no value (R2). */
#ifndef KHO_NODE_ENTER_H
#define KHO_NODE_ENTER_H

#include "depot.h"

struct enter {
    struct depot *depot;
    uint64_t *since;              /* of each partition: depot_since() */
    struct enter_damage *damages; /* known in the segment, by rising offset */
    uint32_t damage_count, damage_room;
    uint64_t records; /* seen */
};

/* -ENOMEM (fini it in any case). */
int enter_init(struct enter *enter, struct depot *depot);
void enter_fini(struct enter *enter);
/* The map is known. */
void enter_start(struct enter *enter);
/* What follows lies in this segment. -ENOMEM. */
int enter_segment(struct enter *enter, const struct segment *segment);
/* True if the block that begins at `offset` of the segment is known to be damaged. */
bool enter_damaged(const struct enter *enter, uint64_t offset);
/* One record, accepted under `epoch`; its partition is below the map's. 0; KHO_EFULL. */
int enter_record(struct enter *enter, uint32_t collection, uint32_t partition,
                 const struct index_entry *entry, uint64_t epoch);
/* True if what was accepted under `epoch` counts in the partition. */
static inline bool enter_counts(const struct enter *enter, uint32_t partition, uint64_t epoch)
{
    return epoch >= enter->since[partition];
}
/* Records of one table that count there, rising by tag. 0; KHO_EFULL. */
int enter_table(struct enter *enter, uint32_t collection, uint32_t partition,
                const struct index_entry *entries, uint32_t count);

#endif
