/* share.h: the serving side's share of a shard's memory: partial frames, reply buffers, large
 * values on their way in, request bodies.
 *
 * The share is taken from the world's budget once, at creation, so that the index can't starve the
 * connections nor they it. Whatever admits new work asks share_has() first and waits otherwise;
 * replies of work that was admitted are allocated past the bound if need be, which their rounding
 * to buffers limits. */
#ifndef KHO_NODE_SHARE_H
#define KHO_NODE_SHARE_H

#include "store.h"

/* Reply buffers come in three sizes: for a lone answer, for a stream of them, for the largest
 * frame. */
enum {
    SHARE_BUFFER_SMALL = 8 << 10,
    SHARE_BUFFER_MIDDLE = 64 << 10,
    SHARE_BUFFER_LARGE = KHO_FRAME_MAX,
    SHARE_BUFFER_KINDS = 3
};

struct reply_buffer {
    struct queue link;
    uint32_t size;
    uint32_t len;
    uint8_t data[];
};

struct share {
    struct shard_world *world;
    uint64_t max;
    uint64_t used;
    uint64_t large_max; /* of it, for values of WRITE_LARGE */
    uint64_t large_used;
    struct queue spare[SHARE_BUFFER_KINDS];
    uint32_t spare_count[SHARE_BUFFER_KINDS];
};

/* -ENOMEM: the world's budget doesn't hold the share. */
int share_init(struct share *share, struct shard_world *world);
void share_fini(struct share *share);
/* True if `bytes` more fit. Work of users (not reserved) leaves an eighth for copies and admin. */
bool share_has(const struct share *share, uint64_t bytes, bool reserved);
/* NULL: it would pass the bound, or the heap has none. */
void *share_allocate(struct share *share, size_t size);
/* Past the bound too; NULL: the heap has none. */
void *share_allocate_admitted(struct share *share, size_t size);
void share_release(struct share *share, void *memory, size_t size);

/* A buffer for at least `bytes` (at most SHARE_BUFFER_LARGE); `stream`: more will follow. NULL: the
 * heap has none. */
struct reply_buffer *share_buffer(struct share *share, uint32_t bytes, bool stream);
void share_buffer_release(struct share *share, struct reply_buffer *buffer);

#endif
