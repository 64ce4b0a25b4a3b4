/* plan.h: reads a kho_cluster_plan: texts and zeroes become a list of nodes and numbers that a map
 * allows. */
#ifndef KHO_CLIENT_PLAN_H
#define KHO_CLIENT_PLAN_H

#include <kho/kho.h>
#include <kho/map.h>

struct plan {
    struct map_node *nodes; /* node_count; incarnation and shards are left for the nodes to tell */
    uint16_t node_count;
    uint32_t partitions;
    uint8_t replicas, write_quorum, read_quorum;
};

/* Fills *ret_plan, whose nodes the caller frees with plan_fini(). -EINVAL, KHO_ETOOLARGE, -ENOMEM,
 * with a sentence in `message` that names the offending part. */
int plan_read(const struct kho_cluster_plan *from, struct plan *ret_plan, char *message,
              size_t message_size);
/* Takes a zeroed struct. */
void plan_fini(struct plan *plan);

/* "HOST:PORT" or "[IPV6]:PORT" of `len` bytes. 0, or -EINVAL: no port, a port that isn't 1 to
 * 65,535, a host that is empty, over 64 bytes or not printable. */
int plan_address(const char *text, size_t len, char ret_host[65], uint16_t *ret_port);

#endif
