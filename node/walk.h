/* walk.h: the blocks of a sealed segment, one after the other, as they lie on the disk.
 *
 * A block tells by its head that it is one of this segment at this offset, so the walk needs
 * neither the heads of commits nor footers: what isn't a block's head is passed over in steps of 64
 * bytes, and so is damage. Reads are of bounded size, one under way; bytes that can't be read count
 * as damage (window.h).
 *
 *     walk_open(&walk, slot, now);
 *     while ((found = walk_look(&walk, &budget, &block)) == WALK_BLOCK)
 *         …; walk_pass(&walk, &block);
 *     WALK_WAITS: come back when walk_completed() says so; WALK_PAUSES: next turn */
#ifndef KHO_NODE_WALK_H
#define KHO_NODE_WALK_H

#include "block.h"
#include "window.h"

enum walk_found {
    WALK_END,
    WALK_BLOCK,
    WALK_WAITS,   /* a read is under way */
    WALK_PAUSES,  /* the budget is used up */
    WALK_NO_ROOM, /* no memory for a large block now */
    WALK_FAILED   /* a read failed for a reason that passes: begin again later */
};

struct walk {
    struct depot *depot;
    struct window window;
    uint32_t slot;
    uint64_t segment; /* its id */
    uint64_t position, end;
    uint64_t passed; /* bytes, since walk_open() */
    bool waits, failed;
};

struct walk_block {
    struct block_head head;
    const uint8_t *body; /* as stored; good until the next call */
    bool whole;          /* the body's hash holds */
};

void walk_init(struct walk *walk, struct depot *depot);
void walk_fini(struct walk *walk);
/* Begins with a segment; no read of the last one is under way. */
void walk_open(struct walk *walk, uint32_t slot);
/* Gives the memory back; as walk_open(). */
void walk_close(struct walk *walk);
/* The block at the position, or the next one behind it. *budget: bytes that may be passed in this
 * turn; what was passed is taken off. */
enum walk_found walk_look(struct walk *walk, uint64_t *budget, struct walk_block *ret_block);
/* Goes on behind the block that was found. */
void walk_pass(struct walk *walk, const struct walk_block *block, uint64_t *budget);
/* A read of this walk ended. */
void walk_completed(struct walk *walk, struct op *op);

#endif
