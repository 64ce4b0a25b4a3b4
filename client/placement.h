/* placement.h: computes the assignment table of a map: which nodes hold which partition. Only admin
 * tools compute it; clients read the table as it is written in the map (DESIGN section 2).
 *
 * A table is partitions x width cells, partition after partition: the index of a node, or
 * PLACEMENT_NONE. A row never has a node twice, nor two nodes of one zone while there are zones
 * left; where there are fewer zones than columns, they are used as evenly as can be. A node with an
 * empty zone is a zone of its own. Nodes that drain or are out, and those of weight 0, hold
 * nothing. A node's *share* of all cells follows its weight, as far as no node stands in a row
 * twice and no zone more often than it may: what a heavy one can't take goes to the others.
 *
 * The numbers of nodes and partitions are bounded here by memory only. */
#ifndef KHO_CLIENT_PLACEMENT_H
#define KHO_CLIENT_PLACEMENT_H

#include <kho/base.h>
#include <kho/map.h>

#define PLACEMENT_NONE UINT16_MAX

/* Fills `ret_table` so that every node has its share, a cell more or less. From `now`, the table in
 * force (NULL: none), it differs as little as that allows: who may stay stays, in its column.
 * Without `now`, the first k columns are after the nodes' weights by themselves for every k, since
 * a collection may take fewer replicas than the table is wide. The same input gives the same table
 * everywhere.
 *
 * 0; -EINVAL: fewer nodes than columns can hold something; -ENOMEM. The table is untouched then. */
int placement_balance(const struct map_node *nodes, uint32_t node_count, uint32_t partitions,
                      uint32_t width, const uint16_t *now, uint16_t *ret_table);

/* The fullest node of a table over its share, in thousandths; 0: nobody may hold anything, or no
 * memory to find out. */
uint32_t placement_fullest(const struct map_node *nodes, uint32_t node_count, uint32_t partitions,
                           uint32_t width, const uint16_t *table);

#endif
