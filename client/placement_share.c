/* placement_share.c: owns the shares (placement_share.h).
 *
 * Shares follow the weights until one would pass its bound: a node can't stand in a row twice, a
 * zone not more than `per_row` times. What is beyond goes to the others, again after their weights
 * (water-filling), first among zones, then among the nodes of each zone. All in whole numbers of
 * 1 / SHARES_ONE of a cell, so that every machine computes the same. */
#include "placement_share.h"

#include <errno.h>
#include <stdlib.h>

typedef unsigned __int128 wide;

static bool share_eligible(const struct map_node *node)
{
    return node->weight > 0 && (node->state == MAP_NODE_UP || node->state == MAP_NODE_JOINING);
}

/* One that takes part in a division. */
struct taker {
    uint64_t weight;
    uint64_t bound; /* in parts */
    uint64_t ret;   /* parts */
    bool full;
};

/* --- Dividing --------------------------------------------------------------------------------- */

/* Divides `parts` after the weights; nobody gets more than its bound, and all together they can
 * take everything. */
static void share_divide(struct taker *takers, uint32_t count, uint64_t parts)
{
    for (bool again = true; again;) {
        uint64_t left = parts;
        wide weights = 0;
        again = false;
        for (uint32_t i = 0; i < count; i++) {
            if (takers[i].full)
                left -= takers[i].bound;
            else
                weights += takers[i].weight;
        }
        for (uint32_t i = 0; i < count; i++) {
            struct taker *t = &takers[i];
            t->ret = t->full ? t->bound : (uint64_t)((wide)left * t->weight / weights);
            if (!t->full && t->ret > t->bound) {
                t->full = again = true;
                t->ret = t->bound;
            }
        }
    }
}

/* --- Zones ------------------------------------------------------------------------------------ */

/* Numbers the zones of eligible nodes in the order of their first node. `table` has `size` places,
 * a power of two above node_count, all UINT32_MAX: nodes by the hash of their zone's name. */
static void share_zones(struct shares *shares, const struct map_node *nodes, uint32_t *table,
                        uint32_t size)
{
    for (uint32_t i = 0; i < shares->node_count; i++) {
        shares->zone[i] = UINT32_MAX;
        if (!share_eligible(&nodes[i]))
            continue;
        size_t len = strlen(nodes[i].zone);
        uint64_t hash = XXH3_64bits(nodes[i].zone, len);
        uint32_t at = (uint32_t)hash & (size - 1);
        while (len > 0 && table[at] != UINT32_MAX &&
               strcmp(nodes[table[at]].zone, nodes[i].zone) != 0)
            at = (at + 1) & (size - 1);
        if (len > 0 && table[at] != UINT32_MAX) {
            shares->zone[i] = shares->zone[table[at]];
        } else {
            shares->zone[i] = shares->zone_count++;
            if (len > 0)
                table[at] = i;
        }
        shares->members[shares->zone[i]]++;
        shares->eligible++;
    }
}

/* --- Shares ----------------------------------------------------------------------------------- */

/* The nodes of each zone take its parts: takers by node, `first` the first taker of each zone. */
static void share_nodes(struct shares *shares, const struct map_node *nodes,
                        const struct taker *zones, struct taker *takers, uint32_t *first,
                        uint32_t partitions)
{
    uint32_t at = 0;
    for (uint32_t z = 0; z < shares->zone_count; z++) {
        first[z] = at;
        at += shares->members[z];
        shares->members[z] = 0;
    }
    for (uint32_t i = 0; i < shares->node_count; i++) {
        uint32_t z = shares->zone[i];
        if (z != UINT32_MAX)
            takers[first[z] + shares->members[z]++] =
                (struct taker){.weight = nodes[i].weight, .bound = partitions * SHARES_ONE};
    }
    for (uint32_t z = 0; z < shares->zone_count; z++) {
        shares->zone_parts[z] = zones[z].ret;
        share_divide(takers + first[z], shares->members[z], zones[z].ret);
        shares->members[z] = 0;
    }
    for (uint32_t i = 0; i < shares->node_count; i++) {
        uint32_t z = shares->zone[i];
        if (z == UINT32_MAX)
            continue;
        shares->node_parts[i] = takers[first[z] + shares->members[z]++].ret;
    }
}

static int share_all(struct shares *shares, const struct map_node *nodes, uint32_t partitions,
                     uint32_t width)
{
    struct taker *zones = calloc(shares->zone_count, sizeof *zones);
    struct taker *takers = calloc(shares->eligible, sizeof *takers);
    uint32_t *first = calloc(shares->zone_count, sizeof *first);
    int rc = zones != NULL && takers != NULL && first != NULL ? 0 : -ENOMEM;
    if (rc == 0) {
        /* Fewer zones than columns stand in a row more than once; small ones as often as they have
         * nodes, so the large ones have to take the rest. */
        uint64_t rows = 0;
        for (shares->per_row = 0; rows < width;) {
            shares->per_row++;
            rows = 0;
            for (uint32_t z = 0; z < shares->zone_count; z++)
                rows += kho_min(shares->per_row, shares->members[z]);
        }
        for (uint32_t i = 0; i < shares->node_count; i++)
            if (shares->zone[i] != UINT32_MAX)
                zones[shares->zone[i]].weight += nodes[i].weight;
        for (uint32_t z = 0; z < shares->zone_count; z++)
            zones[z].bound =
                kho_min(shares->per_row, shares->members[z]) * (partitions * SHARES_ONE);
        share_divide(zones, shares->zone_count, (uint64_t)partitions * width * SHARES_ONE);
        share_nodes(shares, nodes, zones, takers, first, partitions);
    }
    free(zones);
    free(takers);
    free(first);
    return rc;
}

int shares_init(struct shares *shares, const struct map_node *nodes, uint32_t node_count,
                uint32_t partitions, uint32_t width)
{
    uint32_t size = 2;
    while (size <= node_count)
        size *= 2;
    *shares = (struct shares){.node_count = node_count, .partitions = partitions, .width = width};
    shares->zone = calloc(node_count + 1u, sizeof *shares->zone);
    shares->node_parts = calloc(node_count + 1u, sizeof *shares->node_parts);
    shares->zone_parts = calloc(node_count + 1u, sizeof *shares->zone_parts);
    shares->members = calloc(node_count + 1u, sizeof *shares->members);
    uint32_t *table = malloc(size * sizeof *table);
    int rc = -ENOMEM;
    if (shares->zone != NULL && shares->node_parts != NULL && shares->zone_parts != NULL &&
        shares->members != NULL && table != NULL) {
        memset(table, 0xFF, size * sizeof *table);
        share_zones(shares, nodes, table, size);
        rc = shares->eligible < width ? -EINVAL : share_all(shares, nodes, partitions, width);
    }
    free(table);
    return rc;
}

void shares_fini(struct shares *shares)
{
    free(shares->zone);
    free(shares->node_parts);
    free(shares->zone_parts);
    free(shares->members);
    *shares = (struct shares){0};
}

/* --- Whole cells ------------------------------------------------------------------------------ */

/* One whose share is rounded. */
struct rounder {
    uint32_t index;
    bool keeps;    /* holds more than the whole part now */
    uint64_t rest; /* of its share, in parts */
};

/* Who gets the broken cell first. */
static int rounder_order(const void *a, const void *b)
{
    const struct rounder *x = a, *y = b;
    if (x->keeps != y->keeps)
        return x->keeps ? -1 : 1;
    if (x->rest != y->rest)
        return x->rest > y->rest ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

/* One cell more for the first `extra` of those that have a broken one; where all have theirs (what
 * division cut off), for those that follow. */
static void round_up(struct rounder *rounders, uint32_t count, uint64_t extra, uint32_t *cells)
{
    qsort(rounders, count, sizeof *rounders, rounder_order);
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < count && extra > 0; i++) {
            if ((pass == 0) != (rounders[i].rest > 0))
                continue;
            cells[rounders[i].index]++;
            extra--;
        }
    KHO_ASSERT(extra == 0);
}

static void round_zones(const struct shares *shares, const uint32_t *load, struct rounder *scratch,
                        uint32_t *zone_load, uint32_t *ret_zone_cells)
{
    uint64_t extra = (uint64_t)shares->partitions * shares->width;
    memset(zone_load, 0, shares->zone_count * sizeof *zone_load);
    for (uint32_t i = 0; i < shares->node_count; i++)
        if (shares->zone[i] != UINT32_MAX)
            zone_load[shares->zone[i]] += load[i];
    for (uint32_t z = 0; z < shares->zone_count; z++) {
        uint64_t whole = shares->zone_parts[z] / SHARES_ONE;
        ret_zone_cells[z] = (uint32_t)whole;
        scratch[z] = (struct rounder){z, zone_load[z] > whole, shares->zone_parts[z] % SHARES_ONE};
        extra -= whole;
    }
    round_up(scratch, shares->zone_count, extra, ret_zone_cells);
}

int shares_round(const struct shares *shares, const uint32_t *load, uint32_t *ret_cells,
                 uint32_t *ret_zone_cells)
{
    struct rounder *scratch = calloc(shares->node_count + 1u, sizeof *scratch);
    uint32_t *at = calloc(shares->zone_count + 1u, sizeof *at);
    int rc = scratch != NULL && at != NULL ? 0 : -ENOMEM;
    if (rc == 0) {
        uint32_t first = 0;
        round_zones(shares, load, scratch, at, ret_zone_cells);
        for (uint32_t z = 0; z < shares->zone_count; z++) {
            at[z] = first;
            first += shares->members[z];
        }
        for (uint32_t i = 0; i < shares->node_count; i++) {
            uint64_t whole = shares->node_parts[i] / SHARES_ONE;
            ret_cells[i] = (uint32_t)whole;
            if (shares->zone[i] != UINT32_MAX)
                scratch[at[shares->zone[i]]++] =
                    (struct rounder){i, load[i] > whole, shares->node_parts[i] % SHARES_ONE};
        }
        for (uint32_t z = 0; z < shares->zone_count; z++) {
            struct rounder *members = scratch + at[z] - shares->members[z];
            uint64_t extra = ret_zone_cells[z];
            for (uint32_t i = 0; i < shares->members[z]; i++)
                extra -= ret_cells[members[i].index];
            round_up(members, shares->members[z], extra, ret_cells);
        }
    }
    free(scratch);
    free(at);
    return rc;
}
