/* cluster_init.c: owns the making of a cluster from running nodes that have no map yet.
 *
 * Happy path: connect to every node at once, HELLO with cluster zero; each tells its incarnation
 * and shard count. When all have: compute the assignment table, draw cluster id and key seed from
 * the generator, encode the map (epoch 1), push it to the first node, which becomes its home, as a
 * decision against "no map" (so that two admins who try at once can't make two clusters with one
 * home), then to all others as a decided map. Close all connections, end.
 *
 * It fails, with a sentence that names the node and the cause, when the plan is no good; a node
 * can't be reached, speaks another protocol, has a map already (-EEXIST) or is the same as another;
 * a push is refused; or the deadline passes. Once the home has decided, the cluster exists: then
 * the map is handed out even where a later push failed, and a repair brings it to the rest. */
#include "client.h"
#include "placement.h"
#include "plan.h"

#include <errno.h>
#include <kho/wire.h>

enum {
    INIT_DEADLINE_MS = 10000,
    INIT_FRAME_LENGTH = 4 /* bytes of a frame until its length is known */
};

enum init_phase { INIT_HELLO, INIT_PUSH_HOME, INIT_PUSH_REST, INIT_CLOSING, INIT_ENDED };

/* Allowed moves, as bits of the phases that may follow. */
static const uint8_t init_moves[] = {
    [INIT_HELLO] = 1u << INIT_PUSH_HOME | 1u << INIT_CLOSING,
    [INIT_PUSH_HOME] = 1u << INIT_PUSH_REST | 1u << INIT_CLOSING,
    [INIT_PUSH_REST] = 1u << INIT_CLOSING,
    [INIT_CLOSING] = 1u << INIT_ENDED,
    [INIT_ENDED] = 0,
};

struct init_node {
    struct client_op connect, greet, push, close;
    bool opened, closing; /* the handle is in use; CLOSE was issued */
    bool told;            /* HELLO was answered */
    bool asked, pushed;   /* the map was sent there; it is durable there */
    uint8_t hello[KHO_HELLO_CLIENT_SIZE];
    uint8_t *in; /* what has come of the answer under way */
    size_t in_len, in_size;
    size_t wanted; /* bytes until it means something */
};

struct cluster_init {
    enum init_phase phase;
    struct plan plan;
    struct init_node *nodes;
    struct queue outbox;
    struct kho_random random;
    uint64_t deadline_ns;
    uint32_t deadline_ms;
    uint8_t *map;
    size_t map_len;
    uint8_t *push_home, *push_rest; /* the two frames with the map */
    size_t push_len;
    bool decided;
    int status;
    char message[512];
};

static void init_move(struct cluster_init *init, enum init_phase to)
{
    KHO_ASSERT((init_moves[init->phase] & (1u << to)) != 0);
    init->phase = to;
}

static void init_close_node(struct cluster_init *init, uint32_t index)
{
    struct init_node *node = &init->nodes[index];
    if (!node->opened || node->closing)
        return;
    node->closing = true;
    node->close =
        (struct client_op){.kind = CLIENT_OP_CLOSE, .conn = (int32_t)index, .owner = init};
    queue_push(&init->outbox, &node->close.link);
}

static void init_end_if_closed(struct cluster_init *init)
{
    if (init->phase != INIT_CLOSING)
        return;
    for (uint32_t i = 0; i < init->plan.node_count; i++)
        if (init->nodes[i].opened)
            return;
    init_move(init, INIT_ENDED);
}

static void init_close(struct cluster_init *init)
{
    init_move(init, INIT_CLOSING);
    for (uint32_t i = 0; i < init->plan.node_count; i++)
        init_close_node(init, i);
    init_end_if_closed(init);
}

/* The first failure counts; its sentence is already written. */
static void init_fail(struct cluster_init *init, int status)
{
    if (init->phase >= INIT_CLOSING)
        return;
    init->status = status;
    init_close(init);
}

/* What a code means to a person. The core may not ask the system for its sentences. */
static const char *init_cause(int status, char *number, size_t size)
{
    const char *sentence = kho_error_sentence(status);
    if (sentence != NULL)
        return sentence;
    switch (status) {
    case -ECONNREFUSED:
        return "the connection was refused; is kho-node running there?";
    case -ECONNRESET:
    case -EPIPE:
        return "the connection broke";
    case -ETIMEDOUT:
    case -EHOSTUNREACH:
    case -ENETUNREACH:
        return "nobody answers at that address";
    case -ENOMEM:
        return "no memory";
    default:
        snprintf(number, size, "error %d", -status);
        return number;
    }
}

/* Names the node and the cause; what a person can do follows from the code. */
static void init_fail_node(struct cluster_init *init, uint32_t index, int status, const char *what)
{
    if (init->phase >= INIT_CLOSING)
        return;
    const struct map_node *n = &init->plan.nodes[index];
    char number[32];
    snprintf(init->message, sizeof init->message, "node %s (%s:%u) %s: %s%s", n->name, n->address,
             n->port, what, init_cause(status, number, sizeof number),
             init->decided ? "; the cluster exists, 'kho repair' brings the map to this node" : "");
    init_fail(init, status);
}

static void init_send(struct cluster_init *init, uint32_t index, struct client_op *op,
                      const uint8_t *data, size_t len)
{
    *op = (struct client_op){.kind = CLIENT_OP_SEND,
                             .conn = (int32_t)index,
                             .data = data,
                             .len = (uint32_t)len,
                             .owner = init};
    queue_push(&init->outbox, &op->link);
}

static void init_push(struct cluster_init *init, uint32_t index, const uint8_t *frame)
{
    init->nodes[index].asked = true;
    init_send(init, index, &init->nodes[index].push, frame, init->push_len);
}

/* --- The map ---------------------------------------------------------------------------------- */

static void init_seal_push(const struct cluster_init *init, const struct map *map, uint8_t *frame,
                           bool decide)
{
    uint8_t *body = frame + KHO_FRAME_HEAD;
    memset(body, 0, WIRE_MAP_PUSH_HEAD); /* expected epoch and hash: none */
    body[16] = decide;
    memcpy(body + WIRE_MAP_PUSH_HEAD, init->map, init->map_len);
    struct wire_head head = {
        .length = (uint32_t)init->push_len,
        .type = WIRE_MAP_PUSH,
        .count = 1,
        .request = 1,
        .epoch = map->epoch,
        .map_hash = map->hash,
        .cluster = map->cluster,
    };
    wire_frame_seal(frame, &head, false);
}

static int init_encode(struct cluster_init *init, struct kho_now now, const uint16_t *table,
                       const uint32_t *since)
{
    const struct plan *plan = &init->plan;
    struct map_parts parts = {
        .cluster = kho_random_id(&init->random),
        .epoch = 1,
        .seed = kho_random_next(&init->random),
        .changed_ms = now.wall_ms,
        .partitions = plan->partitions,
        .replicas = plan->replicas,
        .write_quorum = plan->write_quorum,
        .read_quorum = plan->read_quorum,
        .width = plan->replicas,
        .node_count = plan->node_count,
        .nodes = plan->nodes,
        .table = table,
        .since = since,
    };
    init->map_len = map_size(&parts);
    init->push_len = KHO_FRAME_HEAD + WIRE_MAP_PUSH_HEAD + init->map_len;
    init->map = malloc(init->map_len);
    init->push_home = malloc(init->push_len);
    init->push_rest = malloc(init->push_len);
    if (init->map == NULL || init->push_home == NULL || init->push_rest == NULL)
        return -ENOMEM;
    map_encode(&parts, init->map);
    struct map map;
    int rc = map_decode(init->map, init->map_len, &map);
    if (rc != 0)
        return rc;
    init_seal_push(init, &map, init->push_home, true);
    init_seal_push(init, &map, init->push_rest, false);
    return 0;
}

static int init_build(struct cluster_init *init, struct kho_now now)
{
    const struct plan *plan = &init->plan;
    size_t cells = (size_t)plan->partitions * plan->replicas;
    uint16_t *table = malloc(cells * sizeof *table);
    uint32_t *since = malloc(cells * sizeof *since);
    int rc = -ENOMEM;
    if (table == NULL || since == NULL)
        goto out;
    rc = placement_balance(plan->nodes, plan->node_count, plan->partitions, plan->replicas, NULL,
                           table);
    if (rc != 0)
        goto out;
    for (size_t i = 0; i < cells; i++)
        since[i] = 1;
    rc = init_encode(init, now, table, since);
out:
    free(table);
    free(since);
    return rc;
}

/* All nodes have told who they are: the map can be made and goes to its home. */
static void init_decide(struct cluster_init *init, struct kho_now now)
{
    int rc = init_build(init, now);
    if (rc != 0) {
        snprintf(init->message, sizeof init->message, "the map can't be made: %s",
                 rc == -ENOMEM ? "no memory" : "the nodes' answers don't fit together");
        init_fail(init, rc);
        return;
    }
    init_move(init, INIT_PUSH_HOME);
    init_push(init, 0, init->push_home);
}

/* --- Answers ---------------------------------------------------------------------------------- */

static void init_hello(struct cluster_init *init, uint32_t index, const uint8_t *bytes,
                       struct kho_now now)
{
    struct map_node *n = &init->plan.nodes[index];
    struct wire_hello_node hello;
    int rc = wire_hello_node_decode(bytes, &hello);
    if (rc == 0)
        rc = hello.status;
    if (rc == 0 && (hello.epoch != 0 || !kho_id_is_zero(&hello.cluster))) {
        snprintf(init->message, sizeof init->message,
                 "node %s (%s:%u) has a map already (epoch %llu): it belongs to a cluster; make a "
                 "new data folder with 'kho-node init' to use it in another",
                 n->name, n->address, n->port, (unsigned long long)hello.epoch);
        init_fail(init, -EEXIST);
        return;
    }
    if (rc == 0 &&
        (hello.shard_count < 1 || hello.shard_count > 256 || kho_id_is_zero(&hello.incarnation)))
        rc = KHO_EMALFORMED;
    if (rc != 0) {
        init_fail_node(init, index, rc, "refused HELLO");
        return;
    }
    n->incarnation = hello.incarnation;
    n->shards = (uint16_t)hello.shard_count;
    init->nodes[index].told = true;
    for (uint32_t i = 0; i < init->plan.node_count; i++)
        if (i != index && init->nodes[i].told &&
            kho_id_equal(&init->plan.nodes[i].incarnation, &n->incarnation)) {
            snprintf(init->message, sizeof init->message,
                     "nodes %s (%s:%u) and %s (%s:%u) are the same node, or one's data folder is a "
                     "copy of the other's",
                     init->plan.nodes[i].name, init->plan.nodes[i].address,
                     init->plan.nodes[i].port, n->name, n->address, n->port);
            init_fail(init, -EEXIST);
            return;
        }
    for (uint32_t i = 0; i < init->plan.node_count; i++)
        if (!init->nodes[i].told)
            return;
    init_decide(init, now);
}

static void init_push_rest(struct cluster_init *init)
{
    init->decided = true;
    init_move(init, INIT_PUSH_REST);
    for (uint32_t i = 1; i < init->plan.node_count; i++)
        init_push(init, i, init->push_rest);
}

static void init_answer(struct cluster_init *init, uint32_t index, const uint8_t *frame)
{
    struct init_node *node = &init->nodes[index];
    struct wire_head head;
    int rc = wire_frame_decode(frame, &head);
    if (rc == 0 &&
        (head.type != WIRE_MAP_PUSH || head.request != 1 || !node->asked || node->pushed))
        rc = KHO_EMALFORMED;
    if (rc == 0)
        rc = head.status;
    if (rc != 0) {
        init_fail_node(init, index, rc, "refused the new map");
        return;
    }
    node->pushed = true;
    if (init->phase == INIT_PUSH_HOME)
        init_push_rest(init);
    for (uint32_t i = 0; i < init->plan.node_count; i++)
        if (!init->nodes[i].pushed)
            return;
    init_close(init);
}

static bool init_reserve(struct init_node *node)
{
    if (node->wanted <= node->in_size)
        return true;
    uint8_t *in = realloc(node->in, node->wanted);
    if (in == NULL)
        return false;
    node->in = in;
    node->in_size = node->wanted;
    return true;
}

/* The bytes that were wanted are there: a HELLO, the length of a frame, or a frame. */
static void init_whole(struct cluster_init *init, uint32_t index, struct kho_now now)
{
    struct init_node *node = &init->nodes[index];
    if (!node->told) {
        node->in_len = 0;
        node->wanted = INIT_FRAME_LENGTH;
        init_hello(init, index, node->in, now);
    } else if (node->wanted == INIT_FRAME_LENGTH) {
        int length = wire_frame_length(node->in, node->in_len);
        if (length < 0)
            init_fail_node(init, index, length, "sent no kho frame");
        else
            node->wanted = (size_t)length;
    } else {
        node->in_len = 0;
        node->wanted = INIT_FRAME_LENGTH;
        init_answer(init, index, node->in);
    }
}

void cluster_init_received(struct cluster_init *init, int32_t conn, const uint8_t *bytes,
                           size_t len, struct kho_now now)
{
    KHO_ASSERT(conn >= 0 && conn < (int32_t)init->plan.node_count);
    uint32_t index = (uint32_t)conn;
    struct init_node *node = &init->nodes[index];
    while (len > 0 && init->phase < INIT_CLOSING) {
        if (!init_reserve(node)) {
            init_fail_node(init, index, -ENOMEM, "answered, but there is no memory here");
            return;
        }
        size_t take = kho_min(len, node->wanted - node->in_len);
        memcpy(node->in + node->in_len, bytes, take);
        node->in_len += take;
        bytes += take;
        len -= take;
        if (node->in_len == node->wanted)
            init_whole(init, index, now);
    }
}

/* --- Connections ------------------------------------------------------------------------------ */

static void init_connected(struct cluster_init *init, uint32_t index)
{
    struct init_node *node = &init->nodes[index];
    struct wire_hello_client hello = {.protocol_min = KHO_PROTOCOL, .protocol_max = KHO_PROTOCOL};
    wire_hello_client_encode(&hello, node->hello);
    init_send(init, index, &node->greet, node->hello, sizeof node->hello);
}

void cluster_init_completed(struct cluster_init *init, struct client_op *op, struct kho_now now)
{
    (void)now;
    KHO_ASSERT(op->conn >= 0 && op->conn < (int32_t)init->plan.node_count);
    uint32_t index = (uint32_t)op->conn;
    struct init_node *node = &init->nodes[index];
    if (op->kind == CLIENT_OP_CLOSE) {
        node->opened = false;
        init_end_if_closed(init);
    } else if (init->phase >= INIT_CLOSING) {
        return;
    } else if (op->result < 0) {
        init_fail_node(init, index, op->result,
                       op->kind == CLIENT_OP_CONNECT ? "can't be reached" : "can't be sent to");
    } else if (op->kind == CLIENT_OP_CONNECT) {
        init_connected(init, index);
    }
}

void cluster_init_disconnected(struct cluster_init *init, int32_t conn, int error,
                               struct kho_now now)
{
    (void)now;
    KHO_ASSERT(conn >= 0 && conn < (int32_t)init->plan.node_count);
    if (init->nodes[conn].pushed) {
        init_close_node(init, (uint32_t)conn); /* its part is done */
        return;
    }
    init_fail_node(init, (uint32_t)conn, error != 0 ? error : -ECONNRESET, "closed the connection");
}

void cluster_init_tick(struct cluster_init *init, struct kho_now now)
{
    if (init->phase >= INIT_CLOSING || now.mono_ns < init->deadline_ns)
        return;
    for (uint32_t i = 0; i < init->plan.node_count; i++) {
        const struct init_node *node = &init->nodes[i];
        bool awaited = init->phase == INIT_HELLO ? !node->told : node->asked && !node->pushed;
        if (awaited) {
            char what[64];
            snprintf(what, sizeof what, "gave no answer within %u ms", init->deadline_ms);
            init_fail_node(init, i, KHO_EDEADLINE, what);
            return;
        }
    }
}

uint64_t cluster_init_deadline(const struct cluster_init *init)
{
    return init->phase < INIT_CLOSING ? init->deadline_ns : UINT64_MAX;
}

struct client_op *cluster_init_next_op(struct cluster_init *init)
{
    struct queue *link = queue_pop(&init->outbox);
    return link != NULL ? KHO_CONTAINER_OF(link, struct client_op, link) : NULL;
}

/* --- Life ------------------------------------------------------------------------------------- */

static int init_start(struct cluster_init *init, const struct kho_cluster_plan *plan)
{
    int rc = plan_read(plan, &init->plan, init->message, sizeof init->message);
    if (rc == -ENOMEM)
        return rc;
    if (rc != 0) {
        init_fail(init, rc); /* no nodes, so it ends at once and the caller reads the sentence */
        return 0;
    }
    init->nodes = calloc(init->plan.node_count, sizeof *init->nodes);
    if (init->nodes == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < init->plan.node_count; i++) {
        struct init_node *node = &init->nodes[i];
        node->wanted = KHO_HELLO_NODE_SIZE;
        node->opened = true;
        node->connect = (struct client_op){.kind = CLIENT_OP_CONNECT,
                                           .conn = (int32_t)i,
                                           .host = init->plan.nodes[i].address,
                                           .port = init->plan.nodes[i].port,
                                           .owner = init};
        queue_push(&init->outbox, &node->connect.link);
    }
    return 0;
}

int cluster_init_create(const struct kho_cluster_plan *plan, uint32_t deadline_ms, uint64_t seed,
                        struct kho_now now, struct cluster_init **ret_init)
{
    if (plan == NULL)
        return -EINVAL;
    struct cluster_init *init = calloc(1, sizeof *init);
    if (init == NULL)
        return -ENOMEM;
    init->phase = INIT_HELLO;
    init->deadline_ms = deadline_ms != 0 ? deadline_ms : INIT_DEADLINE_MS;
    init->deadline_ns = now.mono_ns + (uint64_t)init->deadline_ms * 1000000u;
    queue_init(&init->outbox);
    kho_random_init(&init->random, seed);
    int rc = init_start(init, plan);
    if (rc != 0) {
        cluster_init_destroy(init);
        return rc;
    }
    *ret_init = init;
    return 0;
}

void cluster_init_destroy(struct cluster_init *init)
{
    if (init == NULL)
        return;
    if (init->nodes != NULL)
        for (uint32_t i = 0; i < init->plan.node_count; i++)
            free(init->nodes[i].in);
    free(init->nodes);
    plan_fini(&init->plan);
    free(init->map);
    free(init->push_home);
    free(init->push_rest);
    free(init);
}

bool cluster_init_done(const struct cluster_init *init, int *ret_status, const char **ret_message,
                       const uint8_t **ret_map, size_t *ret_map_len)
{
    if (init->phase != INIT_ENDED)
        return false;
    *ret_status = init->status;
    *ret_message = init->message;
    *ret_map = init->decided ? init->map : NULL;
    *ret_map_len = init->decided ? init->map_len : 0;
    return true;
}
