/* net_break.c: connections that break, ends that vanish, links that are blocked; and the ends that
 * a test drives itself. */
#include "conn.h"

#include <errno.h>

/* --- Breaks ----------------------------------------------------------------------------------- */

/* One end learns that the connection broke; its sends fail. */
static void break_arrives(void *owner, uint64_t side)
{
    struct vconn *c = owner;
    if (!c->open[side] || c->told[side])
        return;
    uint64_t asleep = side == NODE ? c->net->world.node_asleep(c->net->owner, c->node) : 0;
    if (asleep > 0) {
        sim_at(c->net->sim, asleep, break_arrives, c, side);
        return;
    }
    if (c->raw && side == CLIENT)
        c->open[CLIENT] = false;
    vconn_sends_end(c, (int)side, -ECONNRESET);
    vconn_side_ends(c, (int)side, -ECONNRESET);
    vconn_over(c);
}

void vconn_reset_soon(struct vconn *c, uint64_t delay_ns)
{
    if (c->open[CLIENT] && !c->told[CLIENT])
        sim_after(c->net->sim, delay_ns, break_arrives, c, CLIENT);
}

static void conn_break(struct vconn *c, uint64_t client_after, uint64_t node_after)
{
    c->dead = true;
    sim_after(c->net->sim, client_after, break_arrives, c, CLIENT);
    sim_after(c->net->sim, node_after, break_arrives, c, NODE);
}

/* One end vanished with its core. */
static void side_gone(struct vconn *c, int side, bool silent)
{
    c->open[side] = false;
    c->flow[side].send_count = 0;
    if (side == NODE) {
        vconn_handle_free(c);
        c->close_node = NULL;
    } else {
        c->connect = NULL;
        c->close_client = NULL;
    }
    if (c->open[!side] && c->established) {
        uint64_t after =
            silent ? dice_between(&c->net->dice, SIM_MS, 20 * SIM_S) : vnet_delay(c->net);
        /* What was sent before may still arrive. */
        if (!silent && dice_below(&c->net->dice, 2) == 0) {
            c->flow[side].fin = true;
            vconn_pump_soon(c, side, after);
        } else {
            conn_break(c, after, after);
        }
    }
    if (!c->established)
        c->dead = true;
    vconn_over(c);
}

void vnet_node_gone(struct vnet *net, uint32_t node, bool silent)
{
    for (size_t i = net->first_live; i < net->conn_count; i++)
        if (net->conns[i]->node == node && net->conns[i]->established && net->conns[i]->open[NODE])
            side_gone(net->conns[i], NODE, silent);
}

void vnet_node_back(struct vnet *net, uint32_t node)
{
    for (size_t i = net->first_live; i < net->conn_count; i++) {
        struct vconn *c = net->conns[i];
        bool unread = c->flow[CLIENT].sent > c->flow[CLIENT].delivered;
        if (c->node == node && c->dead && c->established && !c->raw && unread)
            vconn_reset_soon(c, dice_below(&net->dice, SIM_S));
    }
}

void vnet_node_awake(struct vnet *net, uint32_t node)
{
    for (size_t i = net->first_live; i < net->conn_count; i++) {
        struct vconn *c = net->conns[i];
        if (c->node != node || !c->open[NODE])
            continue;
        c->flow[CLIENT].pumping = false;
        vconn_pump_soon(c, CLIENT, 1);
        sim_after(net->sim, 1, vconn_wake, c, 0);
    }
}

void vnet_client_gone(struct vnet *net, uint32_t client, bool silent)
{
    for (size_t i = net->first_live; i < net->conn_count; i++)
        if (!net->conns[i]->raw && net->conns[i]->client == client && net->conns[i]->open[CLIENT])
            side_gone(net->conns[i], CLIENT, silent);
}

/* A connection in use that the dice choose, or NULL. */
static struct vconn *conn_draw(struct vnet *net, struct kho_random *dice)
{
    struct vconn *drawn = NULL;
    uint64_t count = 0;
    for (size_t i = net->first_live; i < net->conn_count; i++) {
        struct vconn *c = net->conns[i];
        if (c->established && !c->dead && !c->raw && c->open[CLIENT] && c->open[NODE] &&
            dice_below(dice, ++count) == 0)
            drawn = c;
    }
    return drawn;
}

bool vnet_drop(struct vnet *net, struct kho_random *dice, bool half)
{
    struct vconn *c = conn_draw(net, dice);
    if (c == NULL)
        return false;
    uint64_t soon = vnet_delay(net), late = dice_between(dice, SIM_S, 30 * SIM_S);
    bool client_late = half && dice_below(dice, 2) == 0;
    bool node_late = half && !client_late;
    sim_trace(net->sim, "fault: connection %u (client %u, node %u) breaks%s", c->id, c->client,
              c->node,
              client_late ? ", the client learns late"
              : node_late ? ", the node learns late"
                          : "");
    sim_fault(net->sim, half ? SIM_FAULT_half_drop : SIM_FAULT_drop);
    conn_break(c, client_late ? late : soon, node_late ? late : soon);
    return true;
}

bool vnet_slow_reader(struct vnet *net, struct kho_random *dice, uint64_t ns)
{
    struct vconn *c = conn_draw(net, dice);
    if (c == NULL)
        return false;
    int from = dice_below(dice, 2) == 0 ? CLIENT : NODE;
    sim_trace(net->sim, "fault: the %s doesn't read connection %u (client %u, node %u) for %llu ms",
              from == CLIENT ? "node" : "client", c->id, c->client, c->node,
              (unsigned long long)(ns / SIM_MS));
    sim_fault(net->sim, SIM_FAULT_slow_reader);
    c->flow[from].slow_until = net->sim->now_ns + ns;
    return true;
}

bool vnet_lag(struct vnet *net, struct kho_random *dice, uint64_t lag_ns, uint64_t ns)
{
    struct vconn *c = conn_draw(net, dice);
    if (c == NULL)
        return false;
    sim_trace(net->sim, "fault: connection %u (client %u, node %u) is late by %llu ms", c->id,
              c->client, c->node, (unsigned long long)(lag_ns / SIM_MS));
    sim_fault(net->sim, SIM_FAULT_delay);
    c->lag_ns = lag_ns;
    c->lag_until = net->sim->now_ns + ns;
    return true;
}

void vnet_block(struct vnet *net, uint32_t client, uint32_t node, bool to_node, bool blocked)
{
    for (uint32_t i = 0; i < VNET_CLIENTS_MAX; i++)
        if (client == UINT32_MAX || client == i)
            net->blocked[i][node][to_node ? CLIENT : NODE] = blocked;
}

void vnet_open_all(struct vnet *net)
{
    memset(net->blocked, 0, sizeof net->blocked);
    for (size_t i = net->first_live; i < net->conn_count; i++) {
        net->conns[i]->lag_until = 0;
        net->conns[i]->flow[CLIENT].slow_until = net->conns[i]->flow[NODE].slow_until = 0;
    }
}

/* --- Raw ends --------------------------------------------------------------------------------- */

struct vconn *vnet_raw_connect(struct vnet *net, uint32_t node)
{
    if (net->world.node_listening(net->owner, node) != 1)
        return NULL;
    struct vconn *c = vconn_make(net, 0, node);
    c->raw = true;
    c->established = true;
    c->open[NODE] = true;
    return c;
}

void vnet_raw_send(struct vnet *net, struct vconn *conn, const void *bytes, size_t len)
{
    if (conn->dead || !conn->open[NODE])
        return;
    vconn_push(&conn->flow[CLIENT], bytes, len, net->sim->now_ns);
    vconn_pump_soon(conn, CLIENT, vnet_delay(net));
}

size_t vnet_raw_received(const struct vconn *conn, const uint8_t **ret_bytes, bool *ret_closed)
{
    *ret_bytes = conn->inbox;
    *ret_closed = conn->dead || conn->told[CLIENT];
    return conn->inbox_len;
}

void vnet_raw_close(struct vnet *net, struct vconn *conn)
{
    if (!conn->open[CLIENT])
        return;
    conn->open[CLIENT] = false;
    conn->flow[CLIENT].fin = true;
    vconn_pump_soon(conn, CLIENT, vnet_delay(net));
    vconn_over(conn);
}
