/* net.c: connections as two flows of bytes, and the ops of the cores on them. */
#include "conn.h"

#include <errno.h>

static void pump(void *owner, uint64_t side);

static bool link_blocked(const struct vconn *c, int side)
{
    return c->net->blocked[c->raw ? VNET_CLIENTS_MAX : c->client][c->node][side];
}

uint64_t vnet_delay(struct vnet *net)
{
    return dice_delay(&net->pace, net->options.delay_ns);
}

uint64_t vconn_delay(struct vconn *c)
{
    uint64_t lag = c->net->sim->now_ns < c->lag_until ? c->lag_ns : 0;
    return dice_delay(&c->pace, c->net->options.delay_ns) + lag;
}

static void flow_free(struct flow *flow)
{
    free(flow->bytes);
    flow->bytes = NULL;
    flow->start = flow->len = flow->room = 0;
}

void vconn_push(struct flow *flow, const uint8_t *bytes, size_t len, uint64_t now_ns)
{
    if (flow->start + flow->len + len > flow->room) {
        if (flow->len > 0)
            memmove(flow->bytes, flow->bytes + flow->start, flow->len);
        flow->start = 0;
        if (flow->len + len > flow->room) {
            flow->room = (flow->len + len) * 2;
            flow->bytes = realloc(flow->bytes, flow->room);
            KHO_ASSERT(flow->bytes != NULL);
        }
    }
    if (flow->len == 0)
        flow->pushed_ns = now_ns;
    if (len > 0)
        memcpy(flow->bytes + flow->start + flow->len, bytes, len);
    flow->len += len;
    flow->sent += len;
}

void vconn_pump_soon(struct vconn *c, int side, uint64_t delay_ns)
{
    struct flow *flow = &c->flow[side];
    if (flow->pumping || c->dead)
        return;
    flow->pumping = true;
    sim_after(c->net->sim, delay_ns, pump, c, (uint64_t)side);
}

/* --- Ends of ops ------------------------------------------------------------------------------ */

static void complete(struct vconn *c, int side, void *op, int32_t result)
{
    struct vnet *net = c->net;
    if (side == CLIENT) {
        struct client_op *client_op = op;
        client_op->result = result;
        net->world.client_completed(net->owner, c->client, client_op);
    } else {
        struct op *node_op = op;
        node_op->result = result;
        net->world.node_completed(net->owner, c->node, node_op);
    }
}

/* An op that isn't the core's to change, nor the bytes that it names. */
static void send_check(struct vconn *c, int side, const struct send *send)
{
    const uint8_t *bytes;
    size_t len;
    if (side == CLIENT) {
        const struct client_op *op = send->op;
        bytes = op->data;
        len = op->len;
    } else {
        const struct op *op = send->op;
        bytes = op->data;
        len = op->len;
    }
    if (bytes != send->bytes || len != send->len || XXH3_64bits(bytes, len) != send->hash)
        sim_fail(c->net->sim, "connection %u: the buffer of a send of the %s changed under way",
                 c->id, side == CLIENT ? "client" : "node");
}

/* Ends the sends of one side: those that were read, or with an error all of them. */
void vconn_sends_end(struct vconn *c, int side, int32_t error)
{
    struct flow *flow = &c->flow[side];
    uint64_t read = flow->delivered + c->net->options.window_bytes;
    while (flow->send_count > 0 && (error != 0 || flow->sends[0].end <= read)) {
        struct send first = flow->sends[0];
        flow->send_count--;
        memmove(flow->sends, flow->sends + 1, flow->send_count * sizeof *flow->sends);
        send_check(c, side, &first);
        complete(c, side, first.op, error);
    }
}

static void sends_later(void *owner, uint64_t side)
{
    struct vconn *c = owner;
    uint64_t asleep = side == NODE ? c->net->world.node_asleep(c->net->owner, c->node) : 0;
    if (asleep > 0) {
        sim_at(c->net->sim, asleep, sends_later, c, side);
        return;
    }
    if (c->open[side])
        vconn_sends_end(c, (int)side, c->told[side] ? -ECONNRESET : 0);
}

static void send_take(struct vconn *c, int side, void *op, const uint8_t *bytes, size_t len)
{
    struct flow *flow = &c->flow[side];
    if (flow->send_count == flow->send_room) {
        flow->send_room = flow->send_room * 2 + 16;
        flow->sends = realloc(flow->sends, flow->send_room * sizeof *flow->sends);
        KHO_ASSERT(flow->sends != NULL);
    }
    for (size_t i = 0; i < flow->send_count; i++)
        if (flow->sends[i].op == op)
            sim_fail(c->net->sim, "connection %u: a send is asked for anew while it is under way",
                     c->id);
    if (!c->dead && !flow->fin && c->open[!side])
        vconn_push(flow, bytes, len, c->net->sim->now_ns);
    else
        flow->sent += len;
    flow->sends[flow->send_count++] = (struct send){
        .op = op, .end = flow->sent, .bytes = bytes, .len = len, .hash = XXH3_64bits(bytes, len)};
    if (side == CLIENT && c->dead && c->net->world.node_listening(c->net->owner, c->node) >= 0)
        vconn_reset_soon(c, vnet_delay(c->net));
    vconn_pump_soon(c, side, vconn_delay(c));
    sim_after(c->net->sim, 1 + dice_below(&c->pace, 20 * SIM_US), sends_later, c, (uint64_t)side);
}

/* --- The node's side -------------------------------------------------------------------------- */

void vconn_over(struct vconn *c)
{
    if (c->open[CLIENT] || c->open[NODE])
        return;
    c->dead = true;
    flow_free(&c->flow[CLIENT]);
    flow_free(&c->flow[NODE]);
}

static bool handle_take(struct vconn *c)
{
    struct vconn **table = c->net->by_handle[c->node];
    for (uint32_t i = 0; i < c->net->options.connections_max; i++)
        if (table[i] == NULL) {
            table[i] = c;
            c->handle[NODE] = (int32_t)i;
            return true;
        }
    return false;
}

void vconn_handle_free(struct vconn *c)
{
    if (c->handle[NODE] >= 0)
        c->net->by_handle[c->node][c->handle[NODE]] = NULL;
    c->handle[NODE] = -1;
}

/* The driver closes a connection that the core never had; `hello` says why, if it is known. */
static void node_turns_away(struct vconn *c, const struct wire_hello_node *hello)
{
    uint8_t bytes[KHO_HELLO_NODE_SIZE];
    if (hello != NULL) {
        wire_hello_node_encode(hello, bytes);
        vconn_push(&c->flow[NODE], bytes, sizeof bytes, c->net->sim->now_ns);
    }
    c->open[NODE] = false;
    c->flow[NODE].fin = true;
    vconn_pump_soon(c, NODE, vnet_delay(c->net));
    vconn_over(c);
}

static void hello_arrives(struct vconn *c)
{
    struct vnet *net = c->net;
    struct wire_hello_client hello;
    struct wire_hello_node answer;
    int rc = wire_hello_client_decode(c->hello, &hello);
    sim_trace(net->sim, "net: %u hello to node %u: %d", c->id, c->node, rc);
    if (rc == KHO_EMALFORMED || (rc == 0 && !handle_take(c))) {
        node_turns_away(c, NULL);
        return;
    }
    if (rc != 0) {
        net->world.node_refused(net->owner, c->node, rc, &answer);
        node_turns_away(c, &answer);
        return;
    }
    c->flow[CLIENT].receiving = false; /* until the core asks */
    net->world.node_accepted(net->owner, c->node, c->handle[NODE], &hello);
}

/* Hands bytes to the node: to the driver until HELLO is whole, then to the core. Returns how many
 * were taken. */
static size_t node_takes(struct vconn *c, const uint8_t *bytes, size_t len)
{
    if (c->handle[NODE] < 0) {
        size_t part = (size_t)kho_min(len, sizeof c->hello - c->hello_len);
        memcpy(c->hello + c->hello_len, bytes, part);
        c->hello_len += part;
        if (c->hello_len == sizeof c->hello)
            hello_arrives(c);
        return part;
    }
    c->net->world.node_received(c->net->owner, c->node, c->handle[NODE], bytes, len);
    return len;
}

static void raw_takes(struct vconn *c, const uint8_t *bytes, size_t len)
{
    if (c->inbox_len + len > c->inbox_room) {
        c->inbox_room = (c->inbox_len + len) * 2;
        c->inbox = realloc(c->inbox, c->inbox_room);
        KHO_ASSERT(c->inbox != NULL);
    }
    memcpy(c->inbox + c->inbox_len, bytes, len);
    c->inbox_len += len;
}

static size_t side_takes(struct vconn *c, int side, const uint8_t *bytes, size_t len)
{
    if (side == NODE)
        return node_takes(c, bytes, len);
    if (c->raw)
        raw_takes(c, bytes, len);
    else
        c->net->world.client_received(c->net->owner, c->client, c->handle[CLIENT], bytes, len);
    return len;
}

/* Tells one end that the connection is over. */
void vconn_side_ends(struct vconn *c, int side, int error)
{
    if (!c->open[side] || c->told[side])
        return;
    c->told[side] = true;
    sim_trace(c->net->sim, "net: %u over for the %s: %d", c->id, side == NODE ? "node" : "client",
              error);
    if (side == NODE && c->handle[NODE] < 0) {
        c->open[NODE] = false; /* before HELLO was whole */
        vconn_over(c);
    } else if (side == NODE) {
        c->net->world.node_disconnected(c->net->owner, c->node, c->handle[NODE], error);
    } else if (!c->raw) {
        c->net->world.client_disconnected(c->net->owner, c->client, c->handle[CLIENT], error);
    }
}

/* --- Bytes travel ----------------------------------------------------------------------------- */

/* Delivers one piece of a flow to its far side. */
static void pump(void *owner, uint64_t from)
{
    struct vconn *c = owner;
    struct vnet *net = c->net;
    int side = (int)from, to = !side;
    struct flow *flow = &c->flow[side];
    flow->pumping = false;
    if (c->dead || !c->open[to] || c->told[to] || !c->established)
        return;
    uint64_t asleep = to == NODE ? net->world.node_asleep(net->owner, c->node) : 0;
    if (asleep > 0) {
        vconn_pump_soon(c, side, asleep - net->sim->now_ns);
        return;
    }
    if (link_blocked(c, side)) {
        vconn_pump_soon(c, side, 20 * SIM_MS + vnet_delay(net));
        return;
    }
    if (flow->len == 0) {
        if (flow->fin)
            vconn_side_ends(c, to, 0);
        return;
    }
    if (!flow->receiving)
        return; /* op_receive pumps anew */
    if (flow->slow_until > net->sim->now_ns) {
        vconn_pump_soon(c, side, flow->slow_until - net->sim->now_ns);
        return;
    }
    size_t len = (size_t)kho_min(flow->len, 256 << 10);
    if (net->options.chunk_bytes_max > 0)
        len = (size_t)kho_min(len, dice_between(&c->pace, 1, net->options.chunk_bytes_max));
    if (dice_chance(&c->pace, net->options.cut_ppm)) {
        len = (size_t)dice_between(&c->pace, 1, kho_min(len, 64));
        sim_fault(net->sim, SIM_FAULT_cut);
    }
    uint64_t *newest = &net->newest_ns[c->raw ? VNET_CLIENTS_MAX : c->client][c->node][side];
    if (flow->pushed_ns < *newest)
        sim_fault(net->sim, SIM_FAULT_reorder);
    *newest = kho_max(*newest, flow->pushed_ns);
    /* A copy of its own: bytes that a core keeps beyond the call are found by the sanitizer. */
    uint8_t *piece = malloc(len);
    KHO_ASSERT(piece != NULL);
    memcpy(piece, flow->bytes + flow->start, len);
    size_t taken = side_takes(c, to, piece, len);
    free(piece);
    /* The call may have closed the connection. */
    if (flow->bytes != NULL) {
        flow->start += taken;
        flow->len -= taken;
    }
    flow->delivered += taken;
    flow->pushed_ns = net->sim->now_ns; /* what is left is newer; how much, nobody knows */
    sim_after(net->sim, 1, sends_later, c, (uint64_t)side);
    if (flow->len > 0 || flow->fin)
        vconn_pump_soon(c, side, dice_below(&c->pace, net->options.delay_ns / 4 + 1));
}

/* --- Ops of the client ------------------------------------------------------------------------ */

struct vconn *vconn_make(struct vnet *net, uint32_t client, uint32_t node)
{
    if (net->conn_count == net->conn_room) {
        net->conn_room = net->conn_room * 2 + 64;
        net->conns = realloc(net->conns, net->conn_room * sizeof(struct vconn *));
        KHO_ASSERT(net->conns != NULL);
    }
    struct vconn *c = calloc(1, sizeof *c);
    KHO_ASSERT(c != NULL);
    *c = (struct vconn){.net = net, .client = client, .node = node, .handle = {-1, -1}};
    c->id = (uint32_t)net->conn_count;
    sim_dice(net->sim, "connection", c->id, &c->pace);
    c->open[CLIENT] = true;
    c->flow[CLIENT].receiving = c->flow[NODE].receiving = true;
    net->conns[net->conn_count++] = c;
    return c;
}

static struct vconn *client_conn(struct vnet *net, uint32_t client, int32_t handle)
{
    for (size_t i = net->conn_count; i-- > net->first_live;) {
        struct vconn *c = net->conns[i];
        if (!c->raw && c->client == client && c->handle[CLIENT] == handle && c->open[CLIENT])
            return c;
    }
    return NULL;
}

static void connect_arrives(void *owner, uint64_t tries)
{
    struct vconn *c = owner;
    struct vnet *net = c->net;
    struct client_op *op = c->connect;
    if (op == NULL)
        return; /* closed or gone meanwhile */
    int listening = net->world.node_listening(net->owner, c->node);
    if (link_blocked(c, CLIENT) || link_blocked(c, NODE) || listening < 0) {
        if (tries == 20) {
            c->connect = NULL;
            complete(c, CLIENT, op, -ETIMEDOUT);
            return;
        }
        sim_after(net->sim, SIM_S, connect_arrives, c, tries + 1);
        return;
    }
    c->connect = NULL;
    if (listening == 0) {
        complete(c, CLIENT, op, -ECONNREFUSED);
        return;
    }
    c->established = true;
    c->open[NODE] = true;
    sim_trace(net->sim, "net: %u client %u to node %u connected", c->id, c->client, c->node);
    complete(c, CLIENT, op, 0);
}

static void client_connect(struct vnet *net, uint32_t client, struct client_op *op)
{
    uint32_t node = (uint32_t)(op->port - VNET_PORT);
    char host[16];
    snprintf(host, sizeof host, "n%u", node);
    if (node >= VNET_NODES_MAX || strcmp(host, op->host) != 0) {
        sim_fail(net->sim, "client %u connects to %s:%u, which is no node's", client, op->host,
                 op->port);
        return;
    }
    while (net->first_live < net->conn_count && net->conns[net->first_live]->dead &&
           !net->conns[net->first_live]->open[CLIENT] && !net->conns[net->first_live]->open[NODE])
        net->first_live++;
    if (client_conn(net, client, op->conn) != NULL) {
        sim_fail(net->sim, "client %u uses connection handle %d twice", client, op->conn);
        return;
    }
    struct vconn *c = vconn_make(net, client, node);
    c->handle[CLIENT] = op->conn;
    c->connect = op;
    sim_after(net->sim, vnet_delay(net) * 2, connect_arrives, c, 0);
}

static void client_close_ends(void *owner, uint64_t arg)
{
    struct vconn *c = owner;
    struct client_op *op = c->close_client;
    (void)arg;
    if (op == NULL)
        return;
    c->close_client = NULL;
    if (c->connect != NULL) {
        struct client_op *connect = c->connect;
        c->connect = NULL;
        complete(c, CLIENT, connect, -ECANCELED);
    }
    vconn_sends_end(c, CLIENT, -ECANCELED);
    c->open[CLIENT] = false;
    c->flow[CLIENT].fin = true;
    if (!c->established)
        c->dead = true;
    vconn_pump_soon(c, CLIENT, vnet_delay(c->net));
    vconn_over(c);
    complete(c, CLIENT, op, 0);
}

void vnet_client_op(struct vnet *net, uint32_t client, struct client_op *op)
{
    if (op->kind == CLIENT_OP_CONNECT) {
        client_connect(net, client, op);
        return;
    }
    struct vconn *c = client_conn(net, client, op->conn);
    if (c == NULL || c->close_client != NULL) {
        sim_fail(net->sim, "client %u uses connection handle %d, which isn't open", client,
                 op->conn);
        return;
    }
    if (op->kind == CLIENT_OP_SEND) {
        send_take(c, CLIENT, op, op->data, op->len);
        return;
    }
    KHO_ASSERT(op->kind == CLIENT_OP_CLOSE);
    c->close_client = op;
    sim_after(net->sim, dice_below(&net->dice, 50 * SIM_US), client_close_ends, c, 0);
}

/* --- Ops of the node -------------------------------------------------------------------------- */

static void node_close_ends(void *owner, uint64_t arg)
{
    struct vconn *c = owner;
    struct vnet *net = c->net;
    struct op *op = c->close_node;
    (void)arg;
    if (op == NULL)
        return;
    uint64_t asleep = net->world.node_asleep(net->owner, c->node);
    if (asleep > 0) {
        sim_at(net->sim, asleep, node_close_ends, c, 0);
        return;
    }
    c->close_node = NULL;
    vconn_sends_end(c, NODE, -ECANCELED);
    c->open[NODE] = false;
    vconn_handle_free(c);
    c->flow[NODE].fin = true;
    /* A socket closed with bytes unread resets the connection: what is under way may be lost. */
    if (c->flow[CLIENT].len > 0 && dice_below(&net->dice, 3) == 0)
        c->flow[NODE].len = 0;
    vconn_pump_soon(c, NODE, vnet_delay(net));
    vconn_over(c);
    complete(c, NODE, op, 0);
}

void vnet_node_op(struct vnet *net, uint32_t node, struct op *op)
{
    struct vconn *c = NULL;
    if (op->conn >= 0 && (uint32_t)op->conn < net->options.connections_max)
        c = net->by_handle[node][op->conn];
    if (c == NULL || c->close_node != NULL) {
        sim_fail(net->sim, "node %u: op %u of connection %d, which isn't open", node, op->kind,
                 op->conn);
        return;
    }
    switch (op->kind) {
    case OP_SEND:
        send_take(c, NODE, op, op->data, op->len);
        break;
    case OP_RECEIVE:
        c->flow[CLIENT].receiving = op->len != 0;
        if (op->len != 0)
            vconn_pump_soon(c, CLIENT, 1);
        complete(c, NODE, op, 0);
        break;
    default:
        KHO_ASSERT(op->kind == OP_CLOSE);
        c->close_node = op;
        sim_after(net->sim, dice_below(&net->dice, 50 * SIM_US), node_close_ends, c, 0);
    }
}

void vconn_wake(void *owner, uint64_t arg)
{
    (void)arg;
    sends_later(owner, NODE);
    node_close_ends(owner, 0);
}

/* --- Life ------------------------------------------------------------------------------------- */

struct vnet *vnet_create(struct sim *sim, const struct vnet_options *options,
                         const struct vnet_world *world, void *owner)
{
    struct vnet *net = calloc(1, sizeof *net);
    KHO_ASSERT(net != NULL);
    net->sim = sim;
    net->options = *options;
    net->world = *world;
    net->owner = owner;
    sim_dice(sim, "net", 0, &net->pace);
    sim_dice(sim, "net", 1, &net->dice);
    for (uint32_t i = 0; i < VNET_NODES_MAX; i++) {
        net->by_handle[i] = calloc(options->connections_max, sizeof(struct vconn *));
        KHO_ASSERT(net->by_handle[i] != NULL);
    }
    return net;
}

void vnet_destroy(struct vnet *net)
{
    if (net == NULL)
        return;
    for (size_t i = 0; i < net->conn_count; i++) {
        struct vconn *c = net->conns[i];
        for (int side = 0; side < 2; side++) {
            flow_free(&c->flow[side]);
            free(c->flow[side].sends);
        }
        free(c->inbox);
        free(c);
    }
    for (uint32_t i = 0; i < VNET_NODES_MAX; i++)
        free(net->by_handle[i]);
    free(net->conns);
    free(net);
}

struct vnet_options *vnet_options(struct vnet *net)
{
    return &net->options;
}
