/* placement_table.c: owns the table under computation: which nodes a row takes, and two levels of
 * heaps (zones, and the nodes of each) by what they lack of their cells. */
#include "placement_table.h"

/* --- Heaps ------------------------------------------------------------------------------------ */

/* What is lacked, above what else; the order among equals changes with every cell. */
static uint64_t key_of(uint32_t item, uint32_t load, uint32_t cells)
{
    uint64_t need = (UINT64_C(1) << 31) + cells - load;
    return need << 32 | (uint32_t)placement_mix(item, load);
}

static uint64_t node_key(const struct placement *p, uint32_t node)
{
    return key_of(node, p->load[node], p->cells[node]);
}

static uint64_t zone_key(const struct placement *p, uint32_t zone)
{
    return key_of(zone, p->zone_load[zone], p->zone_cells[zone]);
}

static void heap_put(struct heap *heap, uint32_t at, uint32_t item)
{
    heap->items[at] = item;
    heap->place[item] = at;
}

/* The item at `at` has another key. */
static void heap_settle(const struct placement *p, struct heap *heap, uint32_t at)
{
    uint32_t item = heap->items[at];
    uint64_t key = heap->key(p, item);
    while (at > 0 && heap->key(p, heap->items[(at - 1) / 2]) < key) {
        heap_put(heap, at, heap->items[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (uint32_t child = 2 * at + 1; child < heap->count; child = 2 * at + 1) {
        if (child + 1 < heap->count &&
            heap->key(p, heap->items[child + 1]) > heap->key(p, heap->items[child]))
            child++;
        if (heap->key(p, heap->items[child]) <= key)
            break;
        heap_put(heap, at, heap->items[child]);
        at = child;
    }
    heap_put(heap, at, item);
}

static void heap_make(const struct placement *p, struct heap *heap)
{
    for (uint32_t at = heap->count; at-- > 0;)
        heap_settle(p, heap, at);
}

void heaps_make(struct placement *p, uint32_t *items)
{
    const struct shares *shares = &p->shares;
    p->zones.count = shares->zone_count;
    p->zones.key = zone_key;
    for (uint32_t z = 0, first = 0; z < shares->zone_count; z++) {
        p->nodes[z] = (struct heap){
            .items = items + first, .place = items + shares->eligible, .key = node_key};
        first += shares->members[z];
        heap_put(&p->zones, z, z);
    }
    for (uint32_t i = 0; i < shares->node_count; i++)
        if (shares->zone[i] != NOBODY) {
            struct heap *heap = &p->nodes[shares->zone[i]];
            heap_put(heap, heap->count++, i);
        }
    for (uint32_t z = 0; z < shares->zone_count; z++)
        heap_make(p, &p->nodes[z]);
    heap_make(p, &p->zones);
}

/* --- Rows ------------------------------------------------------------------------------------- */

static bool row_has(const struct placement *p, const uint16_t *cells, uint32_t node)
{
    bool found = false;
    for (uint32_t k = 0; k < p->width; k++)
        found |= cells[k] == node;
    return found;
}

/* May one more node of the zone stand in the row, column `but` aside? */
static bool row_takes_zone(const struct placement *p, const uint16_t *cells, uint32_t but,
                           uint32_t zone)
{
    uint32_t count = 0;
    for (uint32_t k = 0; k < p->width; k++)
        count += k != but && cells[k] != PLACEMENT_NONE && p->shares.zone[cells[k]] == zone;
    return count < kho_min(p->shares.per_row, p->shares.members[zone]);
}

bool row_takes(const struct placement *p, const uint16_t *cells, uint32_t but, uint32_t node)
{
    return p->shares.zone[node] != NOBODY && !row_has(p, cells, node) &&
           row_takes_zone(p, cells, but, p->shares.zone[node]);
}

static void count_node(struct placement *p, uint32_t node, bool more)
{
    uint32_t zone = p->shares.zone[node];
    uint32_t one = more ? 1 : UINT32_MAX; /* + 1 or - 1 */
    p->load[node] += one;
    p->zone_load[zone] += one;
    heap_settle(p, &p->nodes[zone], p->nodes[zone].place[node]);
    heap_settle(p, &p->zones, p->zones.place[zone]);
}

void cell_set(struct placement *p, uint16_t *cell, uint32_t node)
{
    if (*cell != PLACEMENT_NONE)
        count_node(p, *cell, false);
    *cell = (uint16_t)node;
    count_node(p, node, true);
}

/* The first of the heap's order that the row takes in column k, or NOBODY. Only the few that stand
 * in the row are passed over, so the walk is short: a frontier of the heap's best. */
static uint32_t heap_best(const struct placement *p, const struct heap *heap, const uint16_t *cells,
                          uint32_t k, bool zones)
{
    uint32_t frontier[2 * KHO_MAP_REPLICAS_MAX + 4], count = 0;
    if (heap->count > 0)
        frontier[count++] = 0;
    while (count > 0) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < count; i++)
            if (heap->key(p, heap->items[frontier[i]]) > heap->key(p, heap->items[frontier[best]]))
                best = i;
        uint32_t at = frontier[best], item = heap->items[at];
        if (zones ? row_takes_zone(p, cells, k, item) : !row_has(p, cells, item))
            return item;
        frontier[best] = frontier[--count];
        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2; child++)
            if (child < heap->count) {
                KHO_ASSERT(count < KHO_COUNT_OF(frontier));
                frontier[count++] = child;
            }
    }
    return NOBODY;
}

uint32_t zone_best(const struct placement *p, const uint16_t *cells, uint32_t k)
{
    return heap_best(p, &p->zones, cells, k, true);
}

uint32_t node_best(const struct placement *p, uint32_t zone, const uint16_t *cells, uint32_t k)
{
    return heap_best(p, &p->nodes[zone], cells, k, false);
}
