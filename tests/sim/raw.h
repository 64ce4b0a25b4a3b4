/* raw.h: frames sent to a node by hand, and its answers: what the simulator asks independently of
 * the client's core. */
#ifndef KHO_SIM_RAW_H
#define KHO_SIM_RAW_H

#include "cluster.h"

struct raw {
    struct cluster *cluster;
    struct vconn *conn;
    size_t read; /* bytes of the inbox that were consumed */
    uint64_t requests;
    struct wire_hello_node hello;
};

/* A connection to a shard that said HELLO: 0 and hello.status; KHO_EUNAVAILABLE: none came about.
 * raw_open: to the first shard. */
int raw_open_shard(struct raw *raw, struct node *node, uint32_t shard, const struct kho_id *cluster,
                   uint64_t epoch);
int raw_open(struct raw *raw, struct node *node, const struct kho_id *cluster, uint64_t epoch);
void raw_close(struct raw *raw);
/* Sends a request with this body; `map_hash` and `epoch` as given. */
void raw_send(struct raw *raw, uint8_t type, uint8_t flags, uint16_t count, uint64_t epoch,
              uint64_t map_hash, const void *body, size_t len);
/* Waits for the next frame: its body is lent until the next call. KHO_EUNAVAILABLE: closed, or
 * nothing came in time. */
int raw_receive(struct raw *raw, struct wire_head *ret_head, const uint8_t **ret_body);

/* Brings a decided map to a node: 0 or the node's refusal. */
int raw_map_push(struct node *node, const uint8_t *map, size_t len);

#endif
