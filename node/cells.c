/* cells.c: slabs, the cells in them, and the moves that keep free cells few.
 *
 * Happy path: a pool hands out the freed cells of its first roomy slab, then those never used; when
 * it has no roomy slab it gets a new one, of 4 KiB while it has few and of 64 KiB then. What the
 * last cell leaves unused at the end of a slab is a hundredth of it. A slab whose last cell was
 * given back goes back to the heap.
 *
 * Evacuation: the emptiest of the slabs that have been roomy for longest is taken off the list; its
 * cells move into the others, from the last to the first. A free cell is known by its owner, 0.
 *
 * Failure: where the world has no memory a cell isn't given, and the caller says so. */
#include "cells.h"

#include "store.h"

#include <assert.h>

enum {
    CELL_SIZE_MIN = 8, /* a free cell's owner and the next one */
    SLAB_BYTES_MIN = 4096,
    SLAB_HEAD = 48,    /* where the cells begin */
    HEAP_HEAD = 8,     /* what the heap adds (glibc), of which the world knows nothing */
    FREE_SHARE = 1024, /* free cells: at most one for so many in use, and a slab */
    EVACUATED_LOOKED_AT = 8,
    SLABS_FIRST = 64,
    OFFSET_NEXT = 4 /* in a free cell: the next one */
};
static_assert(sizeof(struct slab) <= SLAB_HEAD, "the cells begin behind the head");
static_assert(SLAB_HEAD % CELL_UNIT == 0, "places are multiples of the unit");
static_assert(SLAB_BYTES_MAX / CELL_UNIT <= 1 << SLAB_PLACE_BITS, "a reference reaches all places");

#define SLABS_MAX (1u << (31 - SLAB_PLACE_BITS))

/* --- Memory ----------------------------------------------------------------------------------- */

void *cells_allocate(struct cells *cells, size_t size)
{
    struct shard_world *world = cells->world;
    uint64_t max = world->memory_max;
    if (cells->beyond)
        world->memory_max = UINT64_MAX;
    void *memory = world_allocate(world, size, 0);
    world->memory_max = max;
    if (memory != NULL)
        cells->bytes += size;
    return memory;
}

void cells_release(struct cells *cells, void *memory, size_t size)
{
    if (memory == NULL)
        return;
    cells->bytes -= size;
    world_release(cells->world, memory, size);
}

void cells_init(struct cells *cells, struct shard_world *world, const uint32_t *sizes,
                uint32_t pools,
                void (*moved)(void *arg, cell_ref owner, cell_ref from, cell_ref to), void *arg)
{
    KHO_ASSERT(pools <= CELL_POOLS_MAX);
    memset(cells, 0, sizeof *cells);
    cells->world = world;
    cells->moved = moved;
    cells->arg = arg;
    queue_init(&cells->unsettled);
    for (uint32_t i = 0; i < pools; i++) {
        KHO_ASSERT(sizes[i] % CELL_UNIT == 0 && sizes[i] >= CELL_SIZE_MIN);
        KHO_ASSERT(sizes[i] <= SLAB_BYTES_MIN / 2);
        cells->pools[i].size = sizes[i];
        queue_init(&cells->pools[i].roomy);
        queue_init(&cells->pools[i].link);
    }
}

void cells_fini(struct cells *cells)
{
    for (uint32_t i = 0; i < CELL_POOLS_MAX; i++)
        KHO_ASSERT(cells->pools[i].capacity == 0);
    cells_release(cells, cells->slabs, cells->slab_max * sizeof(struct slab *));
    KHO_ASSERT(cells->bytes == 0);
}

/* --- Slabs ------------------------------------------------------------------------------------ */

static struct slab *slab_of(const struct cells *cells, cell_ref ref)
{
    return cells->slabs[ref >> SLAB_PLACE_BITS];
}

static cell_ref slab_ref(const struct slab *slab, uint32_t cell)
{
    return slab->id << SLAB_PLACE_BITS | (SLAB_HEAD + cell * slab->size) / CELL_UNIT;
}

/* How large the next slab of the pool will be. Two sizes only, so that the heap finds room for it
 * where one was. */
static uint32_t slab_bytes(const struct cell_pool *pool)
{
    bool few = (uint64_t)pool->capacity * pool->size < SLAB_BYTES_MAX;
    return (few ? SLAB_BYTES_MIN : SLAB_BYTES_MAX) - HEAP_HEAD;
}

/* A free id; SLABS_MAX: there is none, or no memory for more of them. */
static uint32_t slab_id(struct cells *cells)
{
    uint32_t id = cells->slab_hint;
    while (id < cells->slab_max && cells->slabs[id] != NULL)
        id++;
    cells->slab_hint = id;
    if (id < cells->slab_max || id == SLABS_MAX)
        return id;
    uint32_t max = (uint32_t)kho_max(cells->slab_max * UINT64_C(2), SLABS_FIRST);
    struct slab **slabs = cells_allocate(cells, max * sizeof *slabs);
    if (slabs == NULL)
        return SLABS_MAX;
    memset(slabs, 0, max * sizeof *slabs);
    if (cells->slab_max > 0)
        memcpy(slabs, cells->slabs, cells->slab_max * sizeof *slabs);
    cells_release(cells, cells->slabs, cells->slab_max * sizeof *slabs);
    cells->slabs = slabs;
    cells->slab_max = max;
    return id;
}

static bool slab_add(struct cells *cells, struct cell_pool *pool)
{
    uint32_t id = slab_id(cells), bytes = slab_bytes(pool);
    if (id == SLABS_MAX)
        return false;
    struct slab *slab = cells_allocate(cells, bytes);
    if (slab == NULL)
        return false;
    uint32_t capacity = (bytes - SLAB_HEAD) / pool->size;
    *slab = (struct slab){.id = id,
                          .bytes = bytes,
                          .size = (uint16_t)pool->size,
                          .pool = (uint8_t)(pool - cells->pools),
                          .capacity = (uint16_t)capacity};
    cells->slabs[id] = slab;
    pool->capacity += capacity;
    queue_push(&pool->roomy, &slab->link);
    return true;
}

/* Gives an empty slab back to the heap. */
static void slab_drop(struct cells *cells, struct cell_pool *pool, struct slab *slab)
{
    KHO_ASSERT(slab->used == 0);
    queue_remove(&slab->link);
    if (pool->evacuated == slab)
        pool->evacuated = NULL;
    pool->capacity -= slab->capacity;
    cells->slabs[slab->id] = NULL;
    cells->slab_hint = (uint32_t)kho_min(cells->slab_hint, slab->id);
    cells_release(cells, slab, slab->bytes);
}

/* --- Cells ------------------------------------------------------------------------------------ */

/* What is left in the slab may be handed out again. */
static void evacuation_stop(struct cell_pool *pool)
{
    if (pool->evacuated != NULL)
        queue_push(&pool->roomy, &pool->evacuated->link);
    pool->evacuated = NULL;
}

cell_ref cells_take(struct cells *cells, uint32_t number, cell_ref owner)
{
    struct cell_pool *pool = &cells->pools[number];
    KHO_ASSERT(owner != 0);
    if (queue_empty(&pool->roomy))
        evacuation_stop(pool);
    if (queue_empty(&pool->roomy) && !slab_add(cells, pool))
        return 0;
    struct slab *slab = KHO_CONTAINER_OF(pool->roomy.next, struct slab, link);
    cell_ref ref;
    if (slab->free != 0) {
        ref = slab_ref(slab, slab->free - 1u);
        slab->free = kho_load16(cell_at(cells, ref) + OFFSET_NEXT);
    } else {
        ref = slab_ref(slab, slab->fresh++);
    }
    kho_store32(cell_at(cells, ref), owner);
    pool->used++;
    if (++slab->used == slab->capacity)
        queue_remove(&slab->link);
    return ref;
}

void cells_prefetch_next(const struct cells *cells, uint32_t number)
{
    enum { LINE = 64 };
    const struct cell_pool *pool = &cells->pools[number];
    if (queue_empty(&pool->roomy))
        return;
    const struct slab *slab = KHO_CONTAINER_OF(pool->roomy.next, struct slab, link);
    uint32_t cell = slab->free != 0 ? slab->free - 1u : slab->fresh;
    const uint8_t *at = (const uint8_t *)slab + SLAB_HEAD + (size_t)cell * pool->size;
    for (const uint8_t *line = at; line < at + pool->size; line += LINE)
        __builtin_prefetch(line, 1);
}

static bool pool_unsettled(const struct cell_pool *pool)
{
    return pool->capacity - pool->used > pool->used / FREE_SHARE + slab_bytes(pool) / pool->size;
}

void cells_give(struct cells *cells, cell_ref ref, uint32_t number)
{
    struct cell_pool *pool = &cells->pools[number];
    struct slab *slab = slab_of(cells, ref);
    uint8_t *cell = cell_at(cells, ref);
    KHO_ASSERT(slab->pool == number && cell_owner(cell) != 0);
    kho_store32(cell, 0);
    kho_store16(cell + OFFSET_NEXT, slab->free);
    slab->free = (uint16_t)((uint32_t)(cell - (uint8_t *)slab - SLAB_HEAD) / pool->size + 1);
    pool->used--;
    cells->given++;
    if (slab->used-- == slab->capacity && pool->evacuated != slab)
        queue_push_front(&pool->roomy, &slab->link);
    if (slab->used == 0)
        slab_drop(cells, pool, slab);
    if (queue_empty(&pool->link) && pool_unsettled(pool))
        queue_push(&cells->unsettled, &pool->link);
}

void cells_moved(const struct cells *cells, cell_ref from, cell_ref to)
{
    cells->moved(cells->arg, cell_owner(cell_at(cells, to)), from, to);
}

/* --- Evacuation ------------------------------------------------------------------------------- */

/* Chooses the slab to empty: the emptiest of those that have been roomy for longest. */
static struct slab *slab_choose(const struct cell_pool *pool)
{
    struct slab *chosen = NULL;
    const struct queue *link = pool->roomy.prev;
    for (uint32_t i = 0; i < EVACUATED_LOOKED_AT && link != &pool->roomy; i++, link = link->prev) {
        struct slab *slab = KHO_CONTAINER_OF(link, struct slab, link);
        if (chosen == NULL || slab->used < chosen->used)
            chosen = slab;
    }
    return chosen;
}

static void evacuation_begin(struct cell_pool *pool)
{
    struct slab *slab = slab_choose(pool);
    queue_remove(&slab->link);
    pool->evacuated = slab;
    pool->unmoved = slab->fresh;
}

/* The next cell to be moved: the one in use with the highest number. */
static cell_ref evacuation_next(const struct cells *cells, struct cell_pool *pool)
{
    KHO_ASSERT(pool->evacuated->used > 0);
    for (;;) {
        KHO_ASSERT(pool->unmoved > 0);
        cell_ref ref = slab_ref(pool->evacuated, --pool->unmoved);
        if (cell_owner(cell_at(cells, ref)) != 0)
            return ref;
    }
}

/* Moves one cell out of the pool's emptiest slab. False: there is nothing more to gain. */
static bool pool_settle(struct cells *cells, struct cell_pool *pool)
{
    bool wanted = pool_unsettled(pool);
    if (wanted && pool->evacuated == NULL)
        evacuation_begin(pool);
    if (!wanted || queue_empty(&pool->roomy)) {
        evacuation_stop(pool);
        return false;
    }
    cell_ref from = evacuation_next(cells, pool);
    cell_ref to = cells_take(cells, pool->evacuated->pool, cell_owner(cell_at(cells, from)));
    KHO_ASSERT(to != 0); /* a roomy slab had one */
    memcpy(cell_at(cells, to), cell_at(cells, from), pool->size);
    cells_give(cells, from, pool->evacuated->pool);
    cells_moved(cells, from, to);
    return true;
}

void cells_settle(struct cells *cells)
{
    uint32_t moves = cells->given;
    while (moves > 0 && !queue_empty(&cells->unsettled)) {
        struct cell_pool *pool = KHO_CONTAINER_OF(cells->unsettled.next, struct cell_pool, link);
        if (pool_settle(cells, pool))
            moves--;
        else
            queue_remove(&pool->link);
    }
    cells->given = 0;
}
