/* uv_net.h: carries out a core's ops on a libuv loop, and takes its turns: connections, one timer,
 * and the hooks that make calls of any part of the loop's iteration part of the next turn.
 *
 * A turn: report the ops that ended, tick if the deadline has passed (after the poll), end the
 * step, carry out the ops it left, flush the connections, deliver. It runs before the loop polls
 * and after it, when there is a reason to. */
#ifndef KHO_CLIENT_UV_NET_H
#define KHO_CLIENT_UV_NET_H

#include <uv.h>

#include "api.h"
#include "op.h"

struct net;
struct conn;

/* The core, as the driver sees it. `owner` is net_init's. */
struct net_core {
    void (*completed)(void *owner, struct client_op *op, struct kho_now now);
    void (*received)(void *owner, int32_t conn, const uint8_t *bytes, size_t len,
                     struct kho_now now);
    void (*disconnected)(void *owner, int32_t conn, int error, struct kho_now now);
    void (*tick)(void *owner, struct kho_now now);
    void (*step_end)(void *owner, struct kho_now now);
    uint64_t (*deadline)(void *owner);
    struct client_op *(*next_op)(void *owner);
    /* After the step: runs the callers' callbacks; may call net_close. */
    void (*deliver)(void *owner);
};

struct net {
    uv_loop_t *loop;
    struct kho_heap heap;
    const struct net_core *core;
    void *owner;
    void (*closed)(void *owner);

    struct conn **conns; /* by handle; NULL where there is none */
    uint32_t conn_max;
    struct queue unsent; /* connections with sends to try */
    struct queue ended;  /* ops to report */
    size_t live;         /* sockets and look-ups that the loop still knows */
    uint8_t *buffer;     /* what any connection receives into */

    uv_timer_t timer;
    uv_prepare_t prepare; /* keeps the loop alive until net_close */
    uv_check_t check;
    uv_idle_t idle; /* active: something is left to do, don't wait in poll */
    uint64_t timer_ms;
    uint64_t polled_ns; /* when the loop last went to poll, or had taken what that brought */
    unsigned ticks_put_off;
    unsigned hooks;
    bool due, in_turn, closing;
};

/* Nothing of it touches the loop before net_start. The heap is copied. */
int net_init(struct net *net, uv_loop_t *loop, const struct kho_heap *heap,
             const struct net_core *core, void *owner);
void net_fini(struct net *net);
void net_start(struct net *net);
/* Asks for a turn in this iteration of the loop. */
static inline void net_touch(struct net *net)
{
    net->due = true;
}
/* Drops what is open without reporting it; `closed` runs when the loop knows nothing of it any
 * more. From then on the caller may free it (net_fini). */
void net_close(struct net *net, void (*closed)(void *owner));

#endif
