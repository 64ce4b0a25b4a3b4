/* cache.h: decompressed blocks in memory, bounded, scan-resistant (S3-FIFO: a small first-come
 * queue from which blocks that were asked for again move to the main one; Yang et al., SOSP 2023).
 *
 * It uses the memory that nothing else does, up to its bound: an eighth of all stays free for what
 * grows (cache_shrink()), and it keeps at least a thirty-second.
 *
 * A block is known by its place (index.h) without the size class. Pinned blocks stay; when all are
 * pinned the cache grows past its bound by what is pinned, and the callers bound their pins. */
#ifndef KHO_NODE_CACHE_H
#define KHO_NODE_CACHE_H

#include <kho/base.h>

struct shard_world;
struct cache;

struct cache_block {
    struct queue link;
    struct cache_block *chain;
    uint64_t place;
    uint8_t *data; /* the block's records, uncompressed */
    uint32_t data_bytes;
    uint32_t pins;
    uint8_t asked; /* saturating count of hits since it came */
    uint8_t queue; /* small, main, or none: forgotten while pinned */
};

int cache_create(struct shard_world *world, uint64_t bytes_max, struct cache **ret_cache);
void cache_destroy(struct cache *cache);
/* The block, pinned, or NULL. It counts as asked for again, unless the last one asked for was the
 * same: neighbours that are read one after the other are one use of their block. A `sweep` never
 * counts: what reads everything once says nothing about what will be read again. */
struct cache_block *cache_get(struct cache *cache, uint64_t place, bool sweep);
/* Fetches towards the processor's cache what cache_get() of that place will touch: the bucket at
 * step 0, the block's head and the first bytes of its data at step 1. */
void cache_prefetch(const struct cache *cache, uint64_t place, int step);
/* A new block with `data_bytes` of room in `data`, pinned, not findable before cache_publish();
 * NULL: no memory even after evicting what isn't pinned. */
struct cache_block *cache_add(struct cache *cache, uint64_t place, uint32_t data_bytes);
void cache_publish(struct cache *cache, struct cache_block *block);
/* Gives a pin back. An unpublished or forgotten block is freed with its last pin. */
void cache_unpin(struct cache *cache, struct cache_block *block);
/* The block must not be found any more (damage). */
void cache_forget(struct cache *cache, uint64_t place);
/* So must no block of that segment slot. Looks at all blocks. */
void cache_forget_segment(struct cache *cache, uint32_t slot);
uint64_t cache_bytes(const struct cache *cache);
/* Gives memory back, some at a time, while less is free than what the cache leaves to others:
 * called at the end of each turn, since they grow without asking. */
void cache_shrink(struct cache *cache);

#endif
