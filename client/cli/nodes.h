/* nodes.h: what a person is told of nodes, from the numbers that they give: two tables, the first
 * of what each is and holds, the second of what it does with its disk and memory. */
#ifndef KHO_CLI_NODES_H
#define KHO_CLI_NODES_H

#include "print.h"

/* The number of that name, or 0. */
uint64_t node_number(const struct kho_node_status *node, const char *name);
/* Some of what it stored may be gone, or its word for it is no vote. */
bool node_damaged(const struct kho_node_status *node);
/* What should be known first, and whether it is good. */
const char *node_state(const struct kho_node_status *node, enum table_mark *ret_mark);

/* The caller ends the table. A node that can't be asked has a row with the cause. */
void nodes_table(const struct kho_node_status *nodes, size_t count, struct table *ret_table);
/* Only of nodes that answered; without any it has no rows. */
void nodes_work_table(const struct kho_node_status *nodes, size_t count, struct table *ret_table);

#endif
