/* retire.h: the end of a segment in which nothing is wanted any more.
 *
 *     listed -> off the manifest's list -> that is durable -> no read names it -> closed (its slot
 * is free) -> kept for the maker, which makes it another one
 *          -> or unlinked, the folder synced -> gone from the manifest's retired ones
 *
 * One is kept, of full size and without damage, as long as the disk has room beside it: what is
 * made of it (maker.h) needs nothing allocated anew, on most file systems. It is given up where the
 * disk grows short, whatever the retirement under way waits for.
 *
 * One at a time. A crash on the way leaves a file that the manifest calls retired, which goes at
 * the next start (recover.c); before the list is durable, a segment that is read once more, and
 * whose records are found where they were copied to as well. */
#ifndef KHO_NODE_RETIRE_H
#define KHO_NODE_RETIRE_H

#include "reader.h"

struct retire {
    struct depot *depot;
    struct reader *reader;
    uint8_t step; /* 0: idle */
    uint32_t slot;
    uint64_t id;
    uint64_t generation; /* of the manifest that doesn't list it */
    bool durable;        /* that is */
    bool whole;          /* its file has full size, and no damage was found in it */
    uint64_t segments;   /* gone since the start */
    struct op op;
    uint8_t kept_step; /* of the file that was kept and is given up; 0: none is */
    uint64_t kept_id;
    struct op kept_op;
};

void retire_init(struct retire *retire, struct depot *depot, struct reader *reader);
static inline bool retire_busy(const struct retire *retire)
{
    return retire->step != 0;
}
/* Begins with a sealed segment that the index doesn't name. -ENOMEM: later. */
int retire_start(struct retire *retire, uint32_t slot);
/* The manifest of that generation is durable. */
void retire_logged(struct retire *retire, uint64_t generation);
/* Goes on where it waits for reads, and gives up what was kept where the disk is short. */
void retire_turn(struct retire *retire);
/* True: it has ended, the disk may have room again. */
bool retire_completed(struct retire *retire, struct op *op);

#endif
