/* ahead.h: a file read from its start to its end, for recovery: several reads ahead of the reader,
 * so that the disk works while what came is looked at.
 *
 * The file comes in pieces, each read whole into its place in a ring. ahead_need() says whether
 * bytes are there; if not, the caller comes back when ahead_completed() was told of another piece.
 * Bytes that lie together in the ring are used where they are; those that don't, or are longer than
 * it, are put together in a buffer of their own.
 *
 * What can't be read (EIO, or behind the end of a file that was cut) is filled with AHEAD_HOLE
 * bytes, which no layout takes for its own: a failed read is repeated in units of the alignment, so
 * that a hole is as small as it can be. */
#ifndef KHO_NODE_AHEAD_H
#define KHO_NODE_AHEAD_H

#include "depot.h"

enum { AHEAD_READ = 1 << 20, AHEAD_PIECES = 8, AHEAD_HOLE = 0xA5 };

struct ahead_piece {
    uint64_t offset; /* in the file */
    uint32_t length, reached;
    uint8_t state;
    bool careful; /* unit by unit, after an error */
    bool stale;   /* of a file before */
    struct op op;
};

struct ahead {
    struct depot *depot;
    uint8_t *ring; /* AHEAD_PIECES of AHEAD_READ bytes, the place of offset o is o modulo that */
    struct ahead_piece pieces[AHEAD_PIECES];
    int32_t file;
    uint64_t end;  /* nothing behind it is read */
    uint64_t from; /* of the first piece that is kept */
    uint64_t next; /* of the next piece to be read */
    uint32_t reading;
    uint8_t *joined; /* bytes that don't lie together in the ring */
    size_t joined_room, joined_length, joined_have;
    uint64_t joined_offset;
    uint64_t bytes_read;
};

void ahead_init(struct ahead *ahead, struct depot *depot);
void ahead_fini(struct ahead *ahead);
/* Begins with another file, of which no more than `end` bytes are read. */
void ahead_open(struct ahead *ahead, int32_t file, uint64_t end);
/* The bytes [offset, offset + length) of the file, which lie before its end; offsets don't fall. 1
 * with *ret_bytes (good until the next call); 0: being read; -ENOMEM. */
int ahead_need(struct ahead *ahead, uint64_t offset, size_t length, const uint8_t **ret_bytes);
void ahead_completed(struct ahead *ahead, struct op *op);
/* Nothing is being read: its memory may go. */
static inline bool ahead_idle(const struct ahead *ahead)
{
    return ahead->reading == 0;
}

#endif
