/* cells.h: memory for the many small parts of the index, in exact sizes and without holes.
 *
 * A cell is a piece of a slab; a slab is one allocation of the shard's world, cut into cells of one
 * size: one of the pools that the user names. The heap would add 8 to 16 bytes to each part,
 * round it up, and keep what one size gives back from all others. Here a size (a multiple of 4) has
 * slabs of its own, and its free cells stay few: when they pass a thousandth of those in use (and
 * one slab), cells_settle() moves cells out of the emptiest slab until it can go back to the heap.
 * So cells move, and are named by reference:
 *
 *   bit  31      0: the user's
 *   bits 14..30  slab
 *   bits  0..13  place in the slab / 4
 *
 * which reaches 2^17 slabs of 64 KiB. 0 is no cell.
 *
 * The first four bytes of a cell hold its owner: never 0, and what they mean is the user's. When
 * cells_settle() has moved a cell, `moved` is told the owner and both references, and must change
 * every reference to it. */
#ifndef KHO_NODE_CELLS_H
#define KHO_NODE_CELLS_H

#include <kho/base.h>

struct shard_world;

typedef uint32_t cell_ref;

enum { CELL_UNIT = 4, CELL_POOLS_MAX = 48, SLAB_BYTES_MAX = 1 << 16, SLAB_PLACE_BITS = 14 };
/* What references are sure to reach: the first slabs are smaller than 64 KiB. */
#define CELLS_BYTES_MAX (UINT64_C(7) << 30)

struct slab {
    struct queue link; /* in its pool's `roomy`, while it has a free cell and isn't evacuated */
    uint32_t id;
    uint32_t bytes; /* of the allocation, this head included */
    uint16_t size;  /* of its cells */
    uint8_t pool;
    uint16_t capacity; /* cells */
    uint16_t used;
    uint16_t fresh; /* cells from here on were never used */
    uint16_t free;  /* first of the list of freed cells, counted from 1; 0: none */
};

/* The cells of one size. */
struct cell_pool {
    uint32_t size;
    struct queue roomy; /* slabs with free cells, the next to be taken from first */
    struct queue link;  /* in `unsettled`, while it has too many free cells */
    struct slab *evacuated;
    uint32_t unmoved; /* cells of that slab from here on are free */
    uint32_t used;
    uint32_t capacity;
};

struct cells {
    struct shard_world *world;
    void (*moved)(void *arg, cell_ref owner, cell_ref from, cell_ref to);
    void *arg;
    struct slab **slabs; /* by id; NULL: the id is free */
    uint32_t slab_max;   /* ids that `slabs` has room for */
    uint32_t slab_hint;  /* ids below are taken */
    bool beyond;         /* memory may pass the world's bound: it was reserved */
    uint64_t bytes;      /* of slabs and `slabs`, as the world counts them */
    uint32_t given;      /* cells given back since the last cells_settle() */
    struct queue unsettled;
    struct cell_pool pools[CELL_POOLS_MAX];
};

/* `sizes`: of each pool, multiples of 4, at least 8. */
void cells_init(struct cells *cells, struct shard_world *world, const uint32_t *sizes,
                uint32_t pools,
                void (*moved)(void *arg, cell_ref owner, cell_ref from, cell_ref to), void *arg);
/* All cells are given back. */
void cells_fini(struct cells *cells);

/* The cell's bytes, at a multiple of 4. Valid until it is given back, or cells_settle(). */
static inline uint8_t *cell_at(const struct cells *cells, cell_ref ref)
{
    struct slab *slab = cells->slabs[ref >> SLAB_PLACE_BITS];
    return (uint8_t *)slab + (size_t)(ref & ((1u << SLAB_PLACE_BITS) - 1)) * CELL_UNIT;
}
/* Fetches towards the cache what cells_give() reads of the cell's slab. */
static inline void cells_prefetch(const struct cells *cells, cell_ref ref)
{
    __builtin_prefetch(cells->slabs[ref >> SLAB_PLACE_BITS], 1);
}
/* And of the cell that cells_take() is likely to hand out: all that will be written to. */
void cells_prefetch_next(const struct cells *cells, uint32_t pool);
static inline cell_ref cell_owner(const uint8_t *cell)
{
    return kho_load32(cell);
}

/* A cell of that pool, its bytes unset but for the owner. 0: the memory's bound is reached. */
cell_ref cells_take(struct cells *cells, uint32_t pool, cell_ref owner);
void cells_give(struct cells *cells, cell_ref ref, uint32_t pool);
/* Tells the owner that a cell has another place, as cells_settle() does: for the user's own moves.
 */
void cells_moved(const struct cells *cells, cell_ref from, cell_ref to);
/* Where a pool has too many free cells, moves as many cells as were given back since the last
 * call. A slab that is emptied holds fewer cells than its going removes free ones, so that calling
 * this after each change keeps the free ones within the bound above. */
void cells_settle(struct cells *cells);
/* Memory of the world from the heap for other parts of the index, under the same bound. */
void *cells_allocate(struct cells *cells, size_t size);
void cells_release(struct cells *cells, void *memory, size_t size);

#endif
