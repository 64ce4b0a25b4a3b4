/* placement.h: computes the assignment table of a map: which nodes hold which partition. Only admin
 * tools compute it; clients read the table as it is written in the map (DESIGN section 2). */
#ifndef KHO_CLIENT_PLACEMENT_H
#define KHO_CLIENT_PLACEMENT_H

#include <kho/base.h>
#include <kho/map.h>

/* Fills `ret_table` with partitions x width cells (partition after partition): distinct nodes, in
 * distinct zones while there are zones left, in shares after the nodes' weights; so are the first k
 * columns for every k, since a collection may take fewer replicas than the table is wide. A node
 * with an empty zone is a zone of its own. Nodes that drain or are out, and those of weight 0, hold
 * nothing. The same input gives the same table everywhere.
 *
 * 0, or -EINVAL: fewer nodes than columns can hold something; the table is untouched then. */
int placement_compute(const struct map_node *nodes, uint32_t node_count, uint32_t partitions,
                      uint32_t width, uint16_t *ret_table);

#endif
