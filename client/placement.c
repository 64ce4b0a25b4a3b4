/* placement.c: owns the computation of the assignment table, given what each node should hold
 * (placement_share.h).
 *
 * Happy path: cells of nodes that may hold nothing, and those that break a zone's rule, become
 * empty. FILL gives each empty cell to the zone that is furthest below its cells, of those that may
 * stand in the row, and there to the node that is. EVEN then takes from each node that holds more
 * than its cells: from one whose zone as a whole holds too much to another zone, else within the
 * zone; each cell is moved at most once, so what moves is what the shares require.
 *
 * Rows and the order among equals come from a mix, not from indices: else six nodes would always
 * form the same two triples, and the loss of one node would load two others only.
 *
 * How it fails: rows may stand in each other's way (all that a node may give stand where nobody who
 * lacks something may). Then a third node is moved on the way (detour): the receiver takes a cell
 * of it elsewhere; or several are (chain). Where even that isn't found, the table is legal and a
 * cell or two off. */
#include "placement.h"

#include <errno.h>
#include <stdlib.h>

#include "placement_table.h"

/* --- Emptying and filling --------------------------------------------------------------------- */

/* Takes over what may stay of the table in force. Where too many of a zone stand in a row, those go
 * that hold most. */
static void keep(struct placement *p, const uint16_t *now)
{
    size_t cells = (size_t)p->partitions * p->width;
    for (size_t i = 0; i < cells; i++)
        p->table[i] = PLACEMENT_NONE;
    for (uint32_t i = 0; now != NULL && i < p->partitions; i++) {
        const uint16_t *from = now + (size_t)p->order[i] * p->width;
        uint16_t *to = row_of(p, p->order[i]);
        for (uint32_t taken = 0, round = 0; round < p->width; round++) {
            uint32_t best = p->width;
            for (uint32_t k = 0; k < p->width; k++)
                if ((taken >> k & 1) == 0 && from[k] < p->shares.node_count &&
                    (best == p->width || p->load[from[k]] < p->load[from[best]]))
                    best = k;
            if (best == p->width)
                break;
            taken |= 1u << best;
            if (!row_takes(p, to, best, from[best]))
                continue;
            to[best] = from[best];
            p->load[from[best]]++;
            p->zone_load[p->shares.zone[from[best]]]++;
        }
    }
}

/* A new row's columns, so that each stands in the first ones after its share. `front` counts, for
 * each number of columns, how often each node is among them. */
static void arrange(const struct placement *p, uint32_t row, uint32_t *front)
{
    uint16_t *cells = row_of(p, row);
    for (uint32_t k = 0; k < p->width; k++) {
        uint32_t *counts = front + (size_t)k * p->shares.node_count;
        uint32_t best = k;
        for (uint32_t i = k + 1; i < p->width; i++) {
            uint64_t left = (uint64_t)counts[cells[i]] * p->cells[cells[best]];
            uint64_t right = (uint64_t)counts[cells[best]] * p->cells[cells[i]];
            if (left < right ||
                (left == right && placement_mix(row, cells[i]) < placement_mix(row, cells[best])))
                best = i;
        }
        uint16_t node = cells[best];
        cells[best] = cells[k];
        cells[k] = node;
        for (uint32_t i = k; i < p->width; i++)
            front[(size_t)i * p->shares.node_count + node]++;
    }
}

static void fill(struct placement *p, uint32_t *front)
{
    for (uint32_t i = 0; i < p->partitions; i++) {
        uint16_t *cells = row_of(p, p->order[i]);
        for (uint32_t k = 0; k < p->width; k++) {
            if (cells[k] != PLACEMENT_NONE)
                continue;
            uint32_t zone = zone_best(p, cells, k);
            KHO_ASSERT(zone != NOBODY);
            uint32_t node = node_best(p, zone, cells, k);
            KHO_ASSERT(node != NOBODY);
            cell_set(p, &cells[k], node);
        }
        if (front != NULL)
            arrange(p, p->order[i], front);
    }
}

/* --- The whole -------------------------------------------------------------------------------- */

static void mix_order(struct placement *p)
{
    for (uint32_t i = 0; i < p->partitions; i++)
        p->order[i] = i;
    for (uint32_t i = p->partitions; i > 1; i--) {
        uint32_t other = (uint32_t)(placement_mix(i, p->partitions) % i), row = p->order[i - 1];
        p->order[i - 1] = p->order[other];
        p->order[other] = row;
    }
}

static int placement_run(struct placement *p, const uint16_t *now)
{
    const struct shares *shares = &p->shares;
    uint32_t n = shares->node_count, z = shares->zone_count;
    size_t numbers = 2 * (size_t)n + 4 * (size_t)z + shares->eligible + n + p->partitions;
    uint32_t *front = NULL;
    p->memory = calloc(numbers, sizeof *p->memory);
    p->nodes = calloc(z, sizeof *p->nodes);
    if (now == NULL)
        front = calloc((size_t)n * p->width, sizeof *front);
    int rc = p->memory == NULL || p->nodes == NULL || (now == NULL && front == NULL) ? -ENOMEM : 0;
    if (rc == 0) {
        p->load = p->memory;
        p->cells = p->load + n;
        p->zone_load = p->cells + n;
        p->zone_cells = p->zone_load + z;
        p->zones.items = p->zone_cells + z;
        p->zones.place = p->zones.items + z;
        uint32_t *items = p->zones.place + z;
        p->order = items + shares->eligible + n;
        p->now = now;
        mix_order(p);
        keep(p, now);
        rc = shares_round(shares, p->load, p->cells, p->zone_cells);
        if (rc == 0) {
            heaps_make(p, items);
            fill(p, front);
            rc = placement_even(p);
        }
    }
    free(p->memory);
    free(p->nodes);
    free(front);
    return rc;
}

int placement_balance(const struct map_node *nodes, uint32_t node_count, uint32_t partitions,
                      uint32_t width, const uint16_t *now, uint16_t *ret_table)
{
    size_t bytes = (size_t)partitions * width * sizeof *ret_table;
    struct placement p = {.partitions = partitions, .width = width};
    if (width < 1 || width > KHO_MAP_REPLICAS_MAX || node_count >= PLACEMENT_NONE)
        return -EINVAL;
    p.table = malloc(bytes > 0 ? bytes : 1);
    int rc =
        p.table == NULL ? -ENOMEM : shares_init(&p.shares, nodes, node_count, partitions, width);
    if (rc == 0)
        rc = placement_run(&p, now);
    if (rc == 0)
        memcpy(ret_table, p.table, bytes);
    if (p.table != NULL)
        shares_fini(&p.shares);
    free(p.table);
    return rc;
}

uint32_t placement_fullest(const struct map_node *nodes, uint32_t node_count, uint32_t partitions,
                           uint32_t width, const uint16_t *table)
{
    struct shares shares;
    uint64_t fullest = 0;
    uint64_t *load = calloc(node_count + 1u, sizeof *load);
    if (shares_init(&shares, nodes, node_count, partitions, width) == 0 && load != NULL) {
        for (size_t i = 0; i < (size_t)partitions * width; i++)
            load[table[i]]++;
        for (uint32_t i = 0; i < node_count; i++)
            if (shares.zone[i] != NOBODY && shares.node_parts[i] > 0)
                fullest = kho_max(fullest, load[i] * SHARES_ONE * 1000 / shares.node_parts[i]);
    }
    shares_fini(&shares);
    free(load);
    return (uint32_t)kho_min(fullest, UINT32_MAX);
}
