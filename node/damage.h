/* damage.h: what follows when bytes of a segment turn out not to hold (R2).
 *
 * The index entries that point there keep their versions and lose their values, an episode opens in
 * exactly their partitions, and the stretch is noted in the manifest, so that the next start
 * doesn't take it for news. */
#ifndef KHO_NODE_DAMAGE_H
#define KHO_NODE_DAMAGE_H

#include "depot.h"

/* Blocks that begin in [offset, offset + length) of the segment are lost; `length` of one block:
 * BLOCK_HEAD. `error` is the cause, for people. Sweeps the whole index once. False: an episode was
 * needed and can't be opened (their number or memory is bounded): the stretch isn't noted then, and
 * has to be found again at the next start. */
bool damage_note(struct depot *depot, uint32_t slot, uint64_t offset, uint64_t length, int error,
                 struct kho_now now);
/* At a start, when the index is whole: an entry without its value stands in a partition with an
 * open episode, or repair would never look at it. One that an episode's end left behind, since no
 * other replica had it, may come back with a footer that couldn't be read before. 0; -ENOMEM: an
 * episode was needed and can't be opened. */
int damage_cover(struct depot *depot, struct kho_now now);

#endif
