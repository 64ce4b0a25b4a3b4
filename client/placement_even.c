/* placement_even.c: owns the evening: cells move from nodes that hold too much to nodes that lack
 * some (placement.c says how it goes and fails). */
#include <errno.h>
#include <stdlib.h>

#include "placement_table.h"

static bool lacks(const struct placement *p, uint32_t node)
{
    return p->load[node] < p->cells[node];
}

/* Who takes over this cell from a node that holds too much, or NOBODY. */
static uint32_t taker_of(const struct placement *p, const uint16_t *cells, uint32_t k)
{
    uint32_t zone = p->shares.zone[cells[k]];
    if (p->zone_load[zone] > p->zone_cells[zone]) {
        zone = zone_best(p, cells, k);
        if (zone == NOBODY || p->zone_load[zone] >= p->zone_cells[zone])
            return NOBODY;
    }
    uint32_t node = node_best(p, zone, cells, k);
    return node != NOBODY && lacks(p, node) ? node : NOBODY;
}

/* Has the cell moved already? Then it may move on, and nothing more is sent. */
static bool cell_moved(const struct placement *p, const uint16_t *cell)
{
    return p->now == NULL || p->now[cell - p->table] != *cell;
}

/* One node that holds too much. */
struct giver {
    uint32_t node;
    int64_t slack; /* cells that somebody could take, beyond those that are too many */
};

static int giver_order(const void *a, const void *b)
{
    const struct giver *x = a, *y = b;
    if (x->slack != y->slack)
        return x->slack < y->slack ? -1 : 1;
    return (x->node > y->node) - (x->node < y->node);
}

/* Lists the cells of each node, in the mixed order of the rows: those of node n begin at first[n].
 */
static void cells_list(const struct placement *p, uint32_t *first, uint32_t *list)
{
    for (uint32_t n = 0, at = 0; n <= p->shares.node_count; n++) {
        first[n] = at;
        at += n < p->shares.node_count ? p->load[n] : 0;
    }
    for (uint32_t i = 0; i < p->partitions; i++)
        for (uint32_t k = 0; k < p->width; k++) {
            uint32_t cell = p->order[i] * p->width + k;
            list[first[p->table[cell]]++] = cell;
        }
    for (uint32_t n = p->shares.node_count; n > 0; n--)
        first[n] = first[n - 1];
    first[0] = 0;
}

/* Gives away what the node holds too much; `again`: only what has moved already. */
static bool give(struct placement *p, uint32_t node, const uint32_t *list, uint32_t count,
                 bool again)
{
    bool moved = false;
    for (uint32_t i = 0; i < count && p->load[node] > p->cells[node]; i++) {
        uint16_t *cell = p->table + list[i];
        if (*cell != node || (again && !cell_moved(p, cell)))
            continue;
        uint32_t k = list[i] % p->width;
        uint32_t taker = taker_of(p, cell - k, k);
        if (taker == NOBODY)
            continue;
        cell_set(p, cell, taker);
        moved = true;
    }
    return moved;
}

/* True if something moved. Who has the least choice gives first: else the rows that could have
 * relieved it are used up by others. */
static bool even(struct placement *p, struct giver *givers, uint32_t *first, uint32_t *list)
{
    bool moved = false;
    uint32_t count = 0;
    cells_list(p, first, list);
    for (uint32_t n = 0; n < p->shares.node_count; n++) {
        if (p->shares.zone[n] == NOBODY || p->load[n] <= p->cells[n])
            continue;
        int64_t choice = 0;
        for (uint32_t i = first[n]; i < first[n + 1]; i++) {
            const uint16_t *cell = p->table + list[i];
            uint32_t k = list[i] % p->width;
            choice += taker_of(p, cell - k, k) != NOBODY;
        }
        givers[count++] = (struct giver){n, choice - (p->load[n] - p->cells[n])};
    }
    qsort(givers, count, sizeof *givers, giver_order);
    for (uint32_t pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < count; i++) {
            uint32_t n = givers[i].node;
            moved |= give(p, n, list + first[n], first[n + 1] - first[n], pass == 0);
        }
    return moved;
}

static int even_all(struct placement *p)
{
    uint32_t n = p->shares.node_count;
    struct giver *givers = calloc(n, sizeof *givers);
    uint32_t *first = calloc(n + 1u, sizeof *first);
    uint32_t *list = calloc((size_t)p->partitions * p->width, sizeof *list);
    int rc = givers != NULL && first != NULL && list != NULL ? 0 : -ENOMEM;
    while (rc == 0 && even(p, givers, first, list))
        ;
    free(givers);
    free(first);
    free(list);
    return rc;
}

#define DETOUR_STEPS (UINT64_C(1) << 26) /* cells looked at, in all */

/* Moves one cell of `from` to a third node, which gives `to` one elsewhere. `moved`: how many of
 * the two have to be ones that have moved already. */
static bool detour(struct placement *p, uint32_t from, uint32_t to, uint32_t moved, uint64_t *steps)
{
    for (uint32_t i = 0; i < p->partitions; i++) {
        uint16_t *give = row_of(p, p->order[i]);
        uint32_t k = 0;
        while (k < p->width && give[k] != from)
            k++;
        if (k == p->width)
            continue;
        uint32_t first = cell_moved(p, &give[k]);
        for (uint32_t j = 0; j < p->partitions && first + 1 >= moved && *steps > 0; j++) {
            uint16_t *get = row_of(p, p->order[j]);
            for (uint32_t c = 0; c<p->width && * steps> 0; c++) {
                uint32_t third = get[c];
                (*steps)--;
                if (third == from || get == give || first + cell_moved(p, &get[c]) < moved ||
                    !row_takes(p, get, c, to) || !row_takes(p, give, k, third))
                    continue;
                cell_set(p, &give[k], third);
                cell_set(p, &get[c], to);
                return true;
            }
        }
    }
    return false;
}

/* A way from a node with too much over others to one with too little: each gives a cell of its own
 * to the next. Where it comes from, and the cell that it gets from there. */
struct chain {
    uint32_t *from, *cell, *queue;
    const uint32_t *first, *list; /* the cells of each node */
};

/* Finds the shortest such way, breadth first. */
static bool chain_find(const struct placement *p, struct chain *chain, uint32_t from, uint32_t to,
                       uint64_t *steps)
{
    uint32_t count = p->shares.node_count, head = 0, tail = 0;
    for (uint32_t n = 0; n < count; n++)
        chain->from[n] = NOBODY;
    chain->from[from] = from;
    chain->queue[tail++] = from;
    while (head < tail && chain->from[to] == NOBODY && *steps > 0) {
        uint32_t at = chain->queue[head++];
        for (uint32_t i = chain->first[at]; i < chain->first[at + 1] && *steps > 0; i++) {
            uint32_t k = chain->list[i] % p->width;
            const uint16_t *cells = p->table + (chain->list[i] - k);
            if (cells[k] != at)
                continue;
            for (uint32_t n = 0; n<count && * steps> 0; n++) {
                (*steps)--;
                if (chain->from[n] != NOBODY || !row_takes(p, cells, k, n))
                    continue;
                chain->from[n] = at;
                chain->cell[n] = chain->list[i];
                chain->queue[tail++] = n;
            }
        }
    }
    return chain->from[to] != NOBODY;
}

/* Moves a cell along the way, the last step first. False: two steps of it meet in one row. */
static bool chain_move(struct placement *p, const struct chain *chain, uint32_t from, uint32_t to)
{
    while (to != from) {
        uint32_t k = chain->cell[to] % p->width;
        uint16_t *cells = p->table + (chain->cell[to] - k);
        if (cells[k] != chain->from[to] || !row_takes(p, cells, k, to))
            return false;
        cell_set(p, &cells[k], to);
        to = chain->from[to];
    }
    return true;
}

static int chains(struct placement *p)
{
    uint32_t count = p->shares.node_count;
    uint64_t steps = DETOUR_STEPS;
    uint32_t *memory =
        calloc(4 * (size_t)count + 1 + (size_t)p->partitions * p->width, sizeof *memory);
    if (memory == NULL)
        return -ENOMEM;
    uint32_t *first = memory + 3 * (size_t)count, *list = first + count + 1;
    struct chain chain = {memory, memory + count, memory + 2 * (size_t)count, first, list};
    for (uint32_t from = 0, to = 0; from < count && steps > 0;) {
        if (p->shares.zone[from] == NOBODY || p->load[from] <= p->cells[from]) {
            from++;
            continue;
        }
        while (to < count && (p->shares.zone[to] == NOBODY || !lacks(p, to)))
            to++;
        if (to == count)
            break;
        cells_list(p, first, list);
        if (!chain_find(p, &chain, from, to, &steps) || !chain_move(p, &chain, from, to))
            from++; /* not this one, then */
    }
    free(memory);
    return 0;
}

/* For those that evening left with too much, and with too little. */
static void detours(struct placement *p)
{
    uint64_t steps = DETOUR_STEPS;
    uint32_t from = 0, to = 0, count = p->shares.node_count;
    for (; from < count; from++) {
        while (p->shares.zone[from] != NOBODY && p->load[from] > p->cells[from]) {
            while (to < count && (p->shares.zone[to] == NOBODY || !lacks(p, to)))
                to++;
            if (to == count)
                return;
            if (!detour(p, from, to, 2, &steps) && !detour(p, from, to, 1, &steps) &&
                !detour(p, from, to, 0, &steps))
                to++; /* nobody helps this one */
        }
    }
}

int placement_even(struct placement *p)
{
    int rc = even_all(p);
    if (rc == 0) {
        detours(p);
        rc = chains(p);
    }
    return rc;
}
