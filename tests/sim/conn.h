/* conn.h: the inside of the net, shared by its files.
 *
 * A connection is known to events by its pointer and stays until the net is destroyed; its bytes go
 * when it is over. Ends: side 0 is the client's, side 1 the node's; flow[s] goes from side s to the
 * other. */
#ifndef KHO_SIM_CONN_H
#define KHO_SIM_CONN_H

#include "net.h"

enum { CLIENT = 0, NODE = 1 };

/* A send of a core that hasn't ended: it ends when the other side has read up to `end` but for the
 * window. Its buffer is the net's until then, and must hold the same bytes as at the begin. */
struct send {
    void *op;
    uint64_t end;
    const uint8_t *bytes;
    size_t len;
    uint64_t hash;
};

struct flow {
    uint8_t *bytes; /* sent and not delivered yet */
    size_t start, len, room;
    uint64_t sent, delivered; /* bytes in all */
    uint64_t pushed_ns;       /* when the oldest bytes under way were sent */
    uint64_t slow_until;      /* nobody reads until then */
    struct send *sends;
    size_t send_count, send_room;
    bool pumping;   /* an event is on its way */
    bool receiving; /* the other side wants bytes */
    bool fin;       /* nothing comes behind these bytes */
};

struct vconn {
    struct vnet *net;
    struct kho_random pace; /* how long its bytes travel */
    uint64_t lag_ns, lag_until;
    uint32_t id;
    uint32_t client, node;
    int32_t handle[2]; /* of the client's core and of the node's; -1: none */
    bool open[2];      /* the end is there: its core was told of the connection and not closed it */
    bool told[2];      /* the end was told that the connection is over */
    bool dead;         /* nothing travels any more */
    bool established, raw;
    struct flow flow[2];
    uint8_t hello[KHO_HELLO_CLIENT_SIZE];
    size_t hello_len;
    struct client_op *connect, *close_client;
    struct op *close_node;
    uint8_t *inbox; /* of a raw end */
    size_t inbox_len, inbox_room;
};

struct vnet {
    struct sim *sim;
    struct kho_random pace, dice; /* how long things take; how they end */
    struct vnet_options options;
    struct vnet_world world;
    void *owner;
    struct vconn **conns; /* all there ever were */
    size_t conn_count, conn_room;
    size_t first_live; /* those before are over */
    struct vconn **by_handle[VNET_NODES_MAX];
    bool blocked[VNET_CLIENTS_MAX + 1][VNET_NODES_MAX][2]; /* the last client: raw ends */
    /* When the newest bytes that arrived were sent, by direction. */
    uint64_t newest_ns[VNET_CLIENTS_MAX + 1][VNET_NODES_MAX][2];
};

/* --- net.c, net_break.c ----------------------------------------------------------------------- */

uint64_t vnet_delay(struct vnet *net);
uint64_t vconn_delay(struct vconn *conn);
struct vconn *vconn_make(struct vnet *net, uint32_t client, uint32_t node);
void vconn_push(struct flow *flow, const uint8_t *bytes, size_t len, uint64_t now_ns);
/* The next piece of a flow is delivered after so long, unless one is on its way. */
void vconn_pump_soon(struct vconn *conn, int side, uint64_t delay_ns);
/* Ends the sends of one side: those that were read, or with an error all of them. */
void vconn_sends_end(struct vconn *conn, int side, int32_t error);
/* Tells one end that the connection is over. */
void vconn_side_ends(struct vconn *conn, int side, int error);
void vconn_handle_free(struct vconn *conn);
/* Ends what waited for its node to wake. */
void vconn_wake(void *owner, uint64_t arg);
/* The far machine answers what it knows nothing of: the client learns that it is over. */
void vconn_reset_soon(struct vconn *conn, uint64_t delay_ns);
/* Frees the bytes of one that has no end any more. */
void vconn_over(struct vconn *conn);

#endif
