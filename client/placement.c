/* placement.c: owns the computation of the assignment table.
 *
 * Greedy, partition by partition and column by column: the next replica is the node that is
 * furthest behind its share. "Behind" is Sainte-Lague's quotient, (2 * load + 1) / weight, where
 * load counts the partitions in which the node stands in this column or an earlier one; so every
 * prefix of columns is balanced by itself. Ties are broken by a mix of partition and node, not by
 * index: with ties by index six nodes would always form the same two triples, and the loss of one
 * node would load two others only. A node in a zone that the partition has already is passed over
 * as long as a zone is left.
 *
 * Costs partitions x width x nodes steps: 57 million at the largest map, done once a change.
 * It can fail only when there are too few nodes. */
#include "placement.h"

#include <errno.h>

struct placement {
    const struct map_node *nodes;
    uint32_t node_count;
    /* Partitions in which a node stands in columns 0 to k. */
    uint32_t load[KHO_MAP_REPLICAS_MAX][KHO_MAP_NODES_MAX];
};

static bool placement_eligible(const struct map_node *node)
{
    return node->weight > 0 && (node->state == MAP_NODE_UP || node->state == MAP_NODE_JOINING);
}

static bool placement_same_zone(const struct map_node *a, const struct map_node *b)
{
    return a->zone[0] != '\0' && strcmp(a->zone, b->zone) == 0;
}

/* Stands the node, or its zone, among the `used` first cells? */
static bool placement_has(const struct placement *p, const uint16_t *cells, uint32_t used,
                          uint32_t node, bool by_zone)
{
    for (uint32_t k = 0; k < used; k++)
        if (cells[k] == node ||
            (by_zone && placement_same_zone(&p->nodes[node], &p->nodes[cells[k]])))
            return true;
    return false;
}

static uint64_t placement_mix(uint32_t partition, uint32_t node)
{
    uint64_t state = ((uint64_t)partition << 32) | node;
    return kho_splitmix(&state);
}

/* Is `a` the better choice for this column? */
static bool placement_better(const struct placement *p, uint32_t partition, uint32_t column,
                             uint32_t a, uint32_t b)
{
    /* Loads stay below 2^13 and weights below 2^32, so the products fit. */
    uint64_t left = (2 * (uint64_t)p->load[column][a] + 1) * p->nodes[b].weight;
    uint64_t right = (2 * (uint64_t)p->load[column][b] + 1) * p->nodes[a].weight;
    if (left != right)
        return left < right;
    uint64_t mix_a = placement_mix(partition, a), mix_b = placement_mix(partition, b);
    return mix_a != mix_b ? mix_a < mix_b : a < b;
}

/* The best node for a column, or node_count if the zones are used up. */
static uint32_t placement_choose(const struct placement *p, const uint16_t *cells,
                                 uint32_t partition, uint32_t column, bool by_zone)
{
    uint32_t best = p->node_count;
    for (uint32_t i = 0; i < p->node_count; i++) {
        if (!placement_eligible(&p->nodes[i]) || placement_has(p, cells, column, i, by_zone))
            continue;
        if (best == p->node_count || placement_better(p, partition, column, i, best))
            best = i;
    }
    return best;
}

static void placement_fill(struct placement *p, uint32_t partition, uint32_t width, uint16_t *cells)
{
    for (uint32_t k = 0; k < width; k++) {
        uint32_t node = placement_choose(p, cells, partition, k, true);
        if (node == p->node_count)
            node = placement_choose(p, cells, partition, k, false);
        KHO_ASSERT(node < p->node_count);
        cells[k] = (uint16_t)node;
        for (uint32_t prefix = k; prefix < width; prefix++)
            p->load[prefix][node]++;
    }
}

int placement_compute(const struct map_node *nodes, uint32_t node_count, uint32_t partitions,
                      uint32_t width, uint16_t *ret_table)
{
    struct placement p = {.nodes = nodes, .node_count = node_count};
    uint32_t eligible = 0;
    if (node_count > KHO_MAP_NODES_MAX || width < 1 || width > KHO_MAP_REPLICAS_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < node_count; i++)
        eligible += placement_eligible(&nodes[i]);
    if (eligible < width)
        return -EINVAL;
    for (uint32_t partition = 0; partition < partitions; partition++)
        placement_fill(&p, partition, width, ret_table + (size_t)partition * width);
    return 0;
}
