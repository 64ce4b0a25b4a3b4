/* placement_table.h: the inside of placement, shared by its rooms: placement.c (what stays, and
 * what empty cells get), placement_even.c (who holds too much gives), placement_table.c (the table,
 * and who lacks most). */
#ifndef KHO_CLIENT_PLACEMENT_TABLE_H
#define KHO_CLIENT_PLACEMENT_TABLE_H

#include "placement.h"
#include "placement_share.h"

#define NOBODY UINT32_MAX

struct placement;

/* Nodes of one zone, or zones, by what they lack: most first. */
struct heap {
    uint32_t *items, *place; /* place: of each item, where it is */
    uint32_t count;
    uint64_t (*key)(const struct placement *p, uint32_t item);
};

struct placement {
    struct shares shares;
    uint32_t partitions, width;
    uint16_t *table;
    const uint16_t *now;    /* the table in force, or NULL */
    uint32_t *load, *cells; /* of each node: what it holds, what it should */
    uint32_t *zone_load, *zone_cells;
    struct heap zones;
    struct heap *nodes; /* of each zone */
    uint32_t *memory;   /* of all these */
    uint32_t *order;    /* the rows, mixed */
};

static inline uint64_t placement_mix(uint64_t a, uint64_t b)
{
    uint64_t state = (a << 32) ^ b;
    return kho_splitmix(&state);
}

/* --- placement_table.c ------------------------------------------------------------------------ */

static inline uint16_t *row_of(const struct placement *p, uint32_t row)
{
    return p->table + (size_t)row * p->width;
}
/* May the node stand in the row, column `but` aside? */
bool row_takes(const struct placement *p, const uint16_t *cells, uint32_t but, uint32_t node);
/* The cell is the node's from here on. */
void cell_set(struct placement *p, uint16_t *cell, uint32_t node);
/* Makes the heaps; `items` has room for all eligible nodes, then for all. */
void heaps_make(struct placement *p, uint32_t *items);
/* Who lacks most of those that the row takes in column k: the zone, or a node of a zone. NOBODY:
 * there is none. */
uint32_t zone_best(const struct placement *p, const uint16_t *cells, uint32_t k);
uint32_t node_best(const struct placement *p, uint32_t zone, const uint16_t *cells, uint32_t k);

/* --- placement_even.c ------------------------------------------------------------------------- */

/* Moves cells from those that hold too much to those that lack some. -ENOMEM. */
int placement_even(struct placement *p);

#endif
