/* cluster.h: making a cluster, for `cluster init` and `local up`. */
#ifndef KHO_CLI_CLUSTER_H
#define KHO_CLI_CLUSTER_H

#include <stdint.h>

#include <kho/kho.h>

/* Runs kho_cluster_init and writes the map to `map_file`. 0 or the error, said to stderr. A map
 * that can't be written is said, too, and is no error: every node has it. */
int cluster_init_at(const struct kho_cluster_plan *plan, uint32_t deadline_ms,
                    const char *map_file);

#endif
