/* restore.h: the footers of one segment, read into the index at a start.
 *
 * The last footer lists those before it. They are read many at once, and those that are there enter
 * the index table by table across all of them, the entries of one table at once and in the order of
 * their tags (gather.h), while the next footers are being read.
 *
 * A footer that can't be read or doesn't hold is left out: its stretch is read block by block then,
 * as the caller learns from the marks. */
#ifndef KHO_NODE_RESTORE_H
#define KHO_NODE_RESTORE_H

#include "enter.h"
#include "gather.h"

enum {
    RESTORE_LOADS = 256,
    RESTORE_BYTES = 48 << 20 /* held at once, where there is so much */
};

/* A stretch of the segment, and what its footer says of it. */
struct restore_mark {
    uint64_t from, offset, end; /* the commits, their footer, what is behind it */
    uint64_t first, last;       /* sequences */
    struct kho_id predecessor;  /* what the commit behind it names */
    uint32_t entries;
    bool good; /* its entries are in the index */
};

struct restore_load {
    uint32_t mark;
    uint8_t state;
    uint8_t *buffer;
    uint32_t bytes;
    struct footer footer;
    struct footer_cursor cursor;
    struct op op;
};

struct restore {
    struct depot *depot;
    struct enter *enter;
    uint32_t slot;
    uint64_t limit; /* no footer counts that reaches beyond it */
    uint8_t phase;
    struct restore_mark *marks; /* FOOTERS_MAX, by rising offset */
    uint32_t mark_count;
    uint32_t next;                            /* mark to be read */
    struct restore_load loads[RESTORE_LOADS]; /* a ring */
    uint32_t first_load, load_count, reading;
    uint64_t held; /* bytes of buffers */
    uint64_t bytes_read;
    struct gather gather;
};

/* -ENOMEM (fini it in any case). */
int restore_init(struct restore *restore, struct depot *depot, struct enter *enter);
void restore_fini(struct restore *restore);
/* Begins a segment whose last footer is at [offset, offset + length) (length 0: none is known), and
 * whose log ends at `limit`. */
void restore_start(struct restore *restore, uint32_t slot, uint32_t offset, uint32_t length,
                   uint64_t limit);
/* Goes on until it waits for reads (1), is finished (0: the marks tell), or has to give up
 * (-ENOMEM, KHO_EFULL). */
int restore_run(struct restore *restore);
void restore_completed(struct restore *restore, struct op *op);
/* Nothing is being read: its memory may go. */
static inline bool restore_idle(const struct restore *restore)
{
    return restore->reading == 0;
}

#endif
