/* placement_share.h: what each node should hold: the half of placement that looks at weights and
 * zones only. */
#ifndef KHO_CLIENT_PLACEMENT_SHARE_H
#define KHO_CLIENT_PLACEMENT_SHARE_H

#include "placement.h"

struct shares {
    uint32_t node_count, zone_count;
    uint32_t *zone;       /* of each node: 0 to zone_count - 1; UINT32_MAX: it may hold nothing */
    uint32_t *members;    /* of each zone: eligible nodes */
    uint64_t *node_parts; /* of each node: its share, in 1 / SHARES_ONE of a cell */
    uint64_t *zone_parts;
    uint32_t per_row; /* a zone stands in a row so often at most */
    uint32_t eligible;
    uint32_t partitions, width;
};

#define SHARES_ONE (UINT64_C(1) << 20)

/* 0; -EINVAL: fewer eligible nodes than columns; -ENOMEM. Freed by shares_fini() in any case. */
int shares_init(struct shares *shares, const struct map_node *nodes, uint32_t node_count,
                uint32_t partitions, uint32_t width);
void shares_fini(struct shares *shares);

/* Whole cells of each node that are its share, or a cell less or more, all cells together. `load`
 * is what each holds now: who holds more than the whole part keeps the broken one. Fills
 * ret_cells[node_count] and ret_zone_cells[zone_count]. 0; -ENOMEM. */
int shares_round(const struct shares *shares, const uint32_t *load, uint32_t *ret_cells,
                 uint32_t *ret_zone_cells);

#endif
