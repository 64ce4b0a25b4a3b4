/* cache.c: decompressed blocks in memory, by S3-FIFO.
 *
 * A published block enters the small queue, a tenth of the cache. Pushed to its end, it moves to
 * the main queue if it was asked for again more than once, else it goes, and only a trace of its
 * place remains; a block that comes back while its trace is fresh enters the main queue at once. At
 * the end of the main queue, blocks that were asked for get another round. So what a sweep reads
 * once passes through the small queue and leaves the main one alone.
 *
 * Traces are fingerprints in a table of fixed size, each with the count of evictions at its time:
 * it is fresh for as many evictions as the table has entries. A wrong fingerprint costs nothing but
 * a block in the wrong queue.
 *
 * Blocks that are in no queue (not published yet, or forgotten while pinned) stay in `detached`
 * until their last pin is given back, so that destroying the cache finds them. Failure: cache_add
 * finds no memory even after all unpinned blocks went. */
#include "cache.h"

#include "place.h"
#include "store.h"

#include <errno.h>

enum { QUEUE_NONE = 0, QUEUE_SMALL, QUEUE_MAIN };
enum { ASKED_MAX = 3, ASKED_FOR_MAIN = 2, BLOCK_BYTES_TYPICAL = 16 << 10 };
enum { SHRINK_STEPS = 256 }; /* blocks that may go in a turn */
static const uint64_t HEADROOM_LEAST = 24u << 20;

struct trace {
    uint32_t fingerprint;
    uint32_t evictions; /* the cache's count then, modulo 2^32 */
};

struct cache {
    struct shard_world *world;
    uint64_t bytes_max;
    uint64_t bytes;       /* of all blocks, heads included */
    uint64_t small_bytes; /* of those in the small queue */
    struct queue small, main, detached;
    uint32_t queued, unpinned; /* blocks in the two queues; those of them without a pin */
    uint64_t asked_last;       /* the place that was asked for last */
    uint32_t evictions;
    uint32_t bucket_mask;
    uint32_t trace_mask;
    struct cache_block **buckets;
    struct trace *traces;
};

static struct cache_block *block_of(struct queue *link)
{
    return KHO_CONTAINER_OF(link, struct cache_block, link);
}
static size_t block_bytes(const struct cache_block *block)
{
    return sizeof *block + block->data_bytes;
}
static uint64_t place_hash(uint64_t place)
{
    return kho_splitmix(&place);
}

/* --- Finding ---------------------------------------------------------------------------------- */

static struct cache_block **bucket_of(const struct cache *cache, uint64_t place)
{
    return &cache->buckets[place_hash(place) & cache->bucket_mask];
}

static struct cache_block *find(const struct cache *cache, uint64_t place)
{
    struct cache_block *block = *bucket_of(cache, place);
    while (block != NULL && block->place != place)
        block = block->chain;
    return block;
}

/* --- Traces ----------------------------------------------------------------------------------- */

static void trace_leave(struct cache *cache, uint64_t place)
{
    uint64_t hash = place_hash(place);
    cache->evictions++;
    cache->traces[hash & cache->trace_mask] =
        (struct trace){.fingerprint = (uint32_t)(hash >> 32) | 1, .evictions = cache->evictions};
}

static bool trace_fresh(const struct cache *cache, uint64_t place)
{
    uint64_t hash = place_hash(place);
    const struct trace *trace = &cache->traces[hash & cache->trace_mask];
    return trace->fingerprint == ((uint32_t)(hash >> 32) | 1) &&
           cache->evictions - trace->evictions <= cache->trace_mask;
}

/* --- Queues ----------------------------------------------------------------------------------- */

static void enqueue(struct cache *cache, struct cache_block *block, uint8_t queue)
{
    block->queue = queue;
    queue_push(queue == QUEUE_SMALL ? &cache->small : &cache->main, &block->link);
    if (queue == QUEUE_SMALL)
        cache->small_bytes += block_bytes(block);
    cache->queued++;
    cache->unpinned += block->pins == 0;
}

static void dequeue(struct cache *cache, struct cache_block *block)
{
    KHO_ASSERT(block->queue != QUEUE_NONE);
    queue_remove(&block->link);
    if (block->queue == QUEUE_SMALL)
        cache->small_bytes -= block_bytes(block);
    block->queue = QUEUE_NONE;
    cache->queued--;
    cache->unpinned -= block->pins == 0;
}

/* Frees a block that is in no queue and not found any more. */
static void block_free(struct cache *cache, struct cache_block *block)
{
    size_t size = block_bytes(block);
    cache->bytes -= size;
    world_release(cache->world, block, size);
}

/* Makes a published block unfindable: freed, or detached while it is pinned. */
static void withdraw(struct cache *cache, struct cache_block *block)
{
    struct cache_block **link = bucket_of(cache, block->place);
    while (*link != block)
        link = &(*link)->chain;
    *link = block->chain;
    dequeue(cache, block);
    if (block->pins > 0)
        queue_push(&cache->detached, &block->link);
    else
        block_free(cache, block);
}

/* Looks at the oldest block of one queue: it goes, moves to the main queue, or gets another round.
 * True if it went. */
static bool evict_step(struct cache *cache, bool from_small)
{
    struct cache_block *block = block_of((from_small ? &cache->small : &cache->main)->next);
    if (block->pins > 0) {
        queue_remove(&block->link);
        queue_push(from_small ? &cache->small : &cache->main, &block->link);
        return false;
    }
    if (from_small && block->asked >= ASKED_FOR_MAIN) {
        dequeue(cache, block);
        block->asked = 0;
        enqueue(cache, block, QUEUE_MAIN);
        return false;
    }
    if (!from_small && block->asked > 0) {
        block->asked--;
        queue_remove(&block->link);
        queue_push(&cache->main, &block->link);
        return false;
    }
    if (from_small)
        trace_leave(cache, block->place);
    withdraw(cache, block);
    return true;
}

/* Turns a queue until one block goes: false if that queue has none to give. A block needs at most
 * ASKED_MAX + 1 turns, so that many rounds show that all are pinned or have moved. */
static bool evict_from(struct cache *cache, bool from_small)
{
    struct queue *queue = from_small ? &cache->small : &cache->main;
    uint32_t turns = (ASKED_MAX + 1) * cache->queued;
    while (turns-- > 0 && !queue_empty(queue))
        if (evict_step(cache, from_small))
            return true;
    return false;
}

/* Evicts one block: false if all are pinned. What the small queue hands over to the main one is
 * found there in the second attempt. */
static bool evict(struct cache *cache)
{
    if (cache->unpinned == 0)
        return false;
    if (cache->small_bytes * 10 >= cache->bytes)
        return evict_from(cache, true) || evict_from(cache, false);
    return evict_from(cache, false) || evict_from(cache, true) || evict_from(cache, false);
}

/* What the cache leaves to others: the index that grows, commits and pages of large values. One of
 * the largest values always fits, since a write of it would be refused else. */
static uint64_t headroom(const struct shard_world *world)
{
    return kho_max(world->memory_max / 8, HEADROOM_LEAST);
}
/* What it may have even where others need nearly all: reads go on. Only the last part is left to
 * what can't do without: the next segment, the manifest, a map. */
static uint64_t share_least(const struct shard_world *world)
{
    return world->memory_max / 32;
}

static bool memory_left(const struct cache *cache, size_t size)
{
    const struct shard_world *world = cache->world;
    uint64_t wanted = world->memory_bytes + size;
    if (wanted + headroom(world) <= world->memory_max)
        return true;
    return cache->bytes + size <= share_least(world) &&
           wanted <= world->memory_max - world->memory_max / 32;
}

void cache_shrink(struct cache *cache)
{
    const struct shard_world *world = cache->world;
    for (int i = 0; i < SHRINK_STEPS; i++)
        if (world->memory_bytes + headroom(world) <= world->memory_max ||
            cache->bytes <= share_least(world) || !evict(cache))
            return;
}

/* --- The door --------------------------------------------------------------------------------- */

int cache_create(struct shard_world *world, uint64_t bytes_max, struct cache **ret_cache)
{
    uint32_t buckets = 64;
    while (buckets < bytes_max / BLOCK_BYTES_TYPICAL && buckets < 1u << 24)
        buckets *= 2;
    struct cache *cache = world_allocate(world, sizeof *cache, 0);
    if (cache == NULL)
        return -ENOMEM;
    *cache = (struct cache){.world = world, .bytes_max = bytes_max, .asked_last = UINT64_MAX};
    queue_init(&cache->small);
    queue_init(&cache->main);
    queue_init(&cache->detached);
    cache->bucket_mask = buckets - 1;
    cache->trace_mask = buckets - 1;
    cache->buckets = world_allocate(world, buckets * sizeof(struct cache_block *), 0);
    cache->traces = world_allocate(world, buckets * sizeof *cache->traces, 0);
    if (cache->buckets == NULL || cache->traces == NULL) {
        cache_destroy(cache);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < buckets; i++)
        cache->buckets[i] = NULL;
    memset(cache->traces, 0, buckets * sizeof *cache->traces);
    *ret_cache = cache;
    return 0;
}

void cache_destroy(struct cache *cache)
{
    if (cache == NULL)
        return;
    struct shard_world *world = cache->world;
    queue_append_all(&cache->small, &cache->main);
    queue_append_all(&cache->small, &cache->detached);
    struct queue *link;
    while ((link = queue_pop(&cache->small)) != NULL)
        block_free(cache, block_of(link));
    KHO_ASSERT(cache->bytes == 0);
    size_t buckets = (size_t)cache->bucket_mask + 1;
    world_release(world, cache->buckets, buckets * sizeof(struct cache_block *));
    world_release(world, cache->traces, buckets * sizeof *cache->traces);
    world_release(world, cache, sizeof *cache);
}

void cache_prefetch(const struct cache *cache, uint64_t place, int step)
{
    struct cache_block **bucket = bucket_of(cache, place);
    if (step == 0) {
        __builtin_prefetch(bucket);
    } else if (*bucket != NULL) {
        __builtin_prefetch(*bucket);
        __builtin_prefetch((const uint8_t *)*bucket + 64);
    }
}

struct cache_block *cache_get(struct cache *cache, uint64_t place, bool sweep)
{
    struct cache_block *block = find(cache, place);
    if (block == NULL)
        return NULL;
    if (!sweep && place != cache->asked_last && block->asked < ASKED_MAX)
        block->asked++;
    if (!sweep)
        cache->asked_last = place;
    cache->unpinned -= block->pins == 0;
    block->pins++;
    return block;
}

struct cache_block *cache_add(struct cache *cache, uint64_t place, uint32_t data_bytes)
{
    struct cache_block *block;
    size_t size = sizeof *block + data_bytes;
    while (cache->bytes + size > cache->bytes_max && evict(cache))
        ;
    while (!memory_left(cache, size) || (block = world_allocate(cache->world, size, 0)) == NULL)
        if (!evict(cache))
            return NULL;
    *block = (struct cache_block){
        .place = place, .data = (uint8_t *)(block + 1), .data_bytes = data_bytes, .pins = 1};
    queue_push(&cache->detached, &block->link);
    cache->bytes += size;
    return block;
}

void cache_publish(struct cache *cache, struct cache_block *block)
{
    KHO_ASSERT(block->queue == QUEUE_NONE && block->pins > 0);
    /* Two reads may have fetched the same block: the first one stays. */
    if (find(cache, block->place) != NULL)
        return;
    queue_remove(&block->link);
    struct cache_block **bucket = bucket_of(cache, block->place);
    block->chain = *bucket;
    *bucket = block;
    enqueue(cache, block, trace_fresh(cache, block->place) ? QUEUE_MAIN : QUEUE_SMALL);
}

void cache_unpin(struct cache *cache, struct cache_block *block)
{
    KHO_ASSERT(block->pins > 0);
    if (--block->pins > 0)
        return;
    if (block->queue != QUEUE_NONE) {
        cache->unpinned++;
        return;
    }
    queue_remove(&block->link);
    block_free(cache, block);
}

void cache_forget(struct cache *cache, uint64_t place)
{
    struct cache_block *block = find(cache, place);
    if (block != NULL)
        withdraw(cache, block);
}

static void forget_from(struct cache *cache, struct queue *queue, uint32_t slot)
{
    QUEUE_FOREACH_SAFE (link, queue) {
        struct cache_block *block = block_of(link);
        if (place_slot(block->place) == slot)
            withdraw(cache, block);
    }
}

void cache_forget_segment(struct cache *cache, uint32_t slot)
{
    forget_from(cache, &cache->small, slot);
    forget_from(cache, &cache->main, slot);
}

uint64_t cache_bytes(const struct cache *cache)
{
    return cache->bytes;
}
