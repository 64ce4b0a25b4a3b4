/* window.h: a stretch of a file in memory, for a walk: reads of bounded size, one under way.
 *
 * window_need() says whether bytes are there; if not, it starts reading them and more behind them,
 * and the caller comes back when window_completed() says so. What can't be read (EIO, or behind the
 * end of a file that was cut) is filled with WINDOW_HOLE bytes, which no layout takes for its own:
 * a failed read is repeated in units of the alignment, so that a hole is as small as it can be. */
#ifndef KHO_NODE_WINDOW_H
#define KHO_NODE_WINDOW_H

#include "depot.h"

enum { WINDOW_READ = 1 << 20, WINDOW_HOLE = 0xA5 };

struct window {
    struct depot *depot;
    uint8_t *buffer;
    size_t room;
    int32_t file;
    uint64_t size;   /* of the file as it should be */
    uint64_t offset; /* of buffer[0]: aligned */
    size_t length;   /* valid bytes in it */
    size_t wanted;   /* being read: up to here */
    bool careful;    /* unit by unit, after an error */
    bool holes;      /* some were filled in, since window_open() */
    uint64_t bytes_read;
    struct op op;
};

void window_init(struct window *window, struct depot *depot);
void window_fini(struct window *window);
/* Begins with another file. */
void window_open(struct window *window, int32_t file, uint64_t size);
/* The bytes [offset, offset + length) of the file, which lie within its size: 1 with *ret_bytes
 * (good until the next call); 0: being read; -ENOMEM. */
int window_need(struct window *window, uint64_t offset, size_t length, const uint8_t **ret_bytes);
/* True: the bytes are there now, ask again. */
bool window_completed(struct window *window, struct op *op);

#endif
