/* net.h: connections between clients and nodes, with what happens to them.
 *
 * A connection has two flows of bytes, which arrive late, in pieces cut anywhere, in order. It ends
 * by a close (what was sent before arrives first) or a break (what is under way may be lost), which
 * the two ends learn at different times, or one of them never. A link that is blocked holds its
 * bytes and its connects back until it is open again, as TCP does by sending anew.
 *
 * The net plays the node driver's part of an accepted connection: it receives exactly the bytes of
 * HELLO, decodes them and hands the connection over.
 *
 * An end of the kind *raw* stands for no client: a test drives it (net_raw_…). */
#ifndef KHO_SIM_NET_H
#define KHO_SIM_NET_H

#include "client/op.h"
#include "node/op.h"
#include "sim.h"
#include <kho/wire.h>

enum { VNET_NODES_MAX = 8, VNET_CLIENTS_MAX = 64, VNET_CONNS_MAX = 256, VNET_PORT = 7000 };

struct vnet;
struct vconn;

/* What the net calls; `owner` is vnet_create's. */
struct vnet_world {
    /* 0: now; else when the node takes inputs again (a paused one). */
    uint64_t (*node_asleep)(void *owner, uint32_t node);
    /* 1: takes connections; 0: refuses them; -1: doesn't answer at all. */
    int (*node_listening)(void *owner, uint32_t node);
    void (*node_accepted)(void *owner, uint32_t node, int32_t conn,
                          const struct wire_hello_client *hello);
    void (*node_refused)(void *owner, uint32_t node, int status, struct wire_hello_node *ret_hello);
    void (*node_received)(void *owner, uint32_t node, int32_t conn, const uint8_t *bytes,
                          size_t len);
    void (*node_disconnected)(void *owner, uint32_t node, int32_t conn, int error);
    void (*node_completed)(void *owner, uint32_t node, struct op *op);
    void (*client_received)(void *owner, uint32_t client, int32_t conn, const uint8_t *bytes,
                            size_t len);
    void (*client_disconnected)(void *owner, uint32_t client, int32_t conn, int error);
    void (*client_completed)(void *owner, uint32_t client, struct client_op *op);
};

struct vnet_options {
    uint64_t delay_ns;        /* typical, one way */
    uint32_t chunk_bytes_max; /* pieces are of 1 to so many bytes; 0: as much as there is */
    uint32_t cut_ppm;         /* so many pieces are cut to some bytes */
    uint32_t connections_max; /* a node's, at most VNET_CONNS_MAX */
    uint64_t window_bytes;    /* a send ends when no more than so much before it is unread */
};

struct vnet *vnet_create(struct sim *sim, const struct vnet_options *options,
                         const struct vnet_world *world, void *owner);
void vnet_destroy(struct vnet *net);
struct vnet_options *vnet_options(struct vnet *net);

/* Ops of the cores. */
void vnet_client_op(struct vnet *net, uint32_t client, struct client_op *op);
void vnet_node_op(struct vnet *net, uint32_t node, struct op *op);
/* The end is gone, with all that it had under way. `silent`: the others aren't told but find out
 * when they wait (a machine without power); else they learn soon. */
void vnet_node_gone(struct vnet *net, uint32_t node, bool silent);
/* It is there again: whoever still sends to its former life is told that it is over. */
void vnet_node_back(struct vnet *net, uint32_t node);
/* A node that slept takes inputs earlier than it said. */
void vnet_node_awake(struct vnet *net, uint32_t node);
void vnet_client_gone(struct vnet *net, uint32_t client, bool silent);

/* --- Faults ----------------------------------------------------------------------------------- */

/* These take a connection that the dice choose; false: there is none.
 * vnet_drop breaks it; `half`: one end doesn't learn of it for long. vnet_slow_reader: one end
 * leaves the bytes to it unread for `ns`. vnet_lag: its bytes travel `lag_ns` longer, for `ns`. */
bool vnet_drop(struct vnet *net, struct kho_random *dice, bool half);
bool vnet_slow_reader(struct vnet *net, struct kho_random *dice, uint64_t ns);
bool vnet_lag(struct vnet *net, struct kho_random *dice, uint64_t lag_ns, uint64_t ns);
/* Blocks or opens one direction between a client (UINT32_MAX: all) and a node. */
void vnet_block(struct vnet *net, uint32_t client, uint32_t node, bool to_node, bool blocked);
/* No link is blocked or late, and all read again. */
void vnet_open_all(struct vnet *net);

/* --- Raw ends --------------------------------------------------------------------------------- */

/* A connection of a test's own to the node, which must listen; it stays until vnet_destroy(). */
struct vconn *vnet_raw_connect(struct vnet *net, uint32_t node);
void vnet_raw_send(struct vnet *net, struct vconn *conn, const void *bytes, size_t len);
/* All that came in so far; *ret_closed: nothing more will. */
size_t vnet_raw_received(const struct vconn *conn, const uint8_t **ret_bytes, bool *ret_closed);
void vnet_raw_close(struct vnet *net, struct vconn *conn);

#endif
