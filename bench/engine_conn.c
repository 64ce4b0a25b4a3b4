/* engine_conn.c: carries out the shard's ops for one connection: what it sends is cut into frames
 * and handed on within the call, what it receives is what the bench has written.
 *
 * As peers.c has it: bytes are handed over only while the shard wants them, and at most as many at
 * once as its interface allows. */
#include "engine_conn.h"

#include <kho/kho.h>

enum { OUT_BYTES = 4 << 20, IN_BYTES = 1 << 20, RECEIVE_MAX = 256 << 10, CHECKED_ONE_IN = 16 };

static int complain(const char *why)
{
    fprintf(stderr, "kho-bench: the bench's connection: %s\n", why);
    return -1;
}

/* --- What the shard sends --------------------------------------------------------------------- */

/* The fields that the bench looks at, unchecked. */
static struct wire_head head_peek(const uint8_t *frame)
{
    return (struct wire_head){.length = kho_load32(frame),
                              .type = frame[4],
                              .flags = frame[5],
                              .count = kho_load16(frame + 6),
                              .request = kho_load64(frame + 16),
                              .status = (int32_t)kho_load32(frame + 56)};
}

static int frame_take(struct conn_client *client, const uint8_t *frame)
{
    struct wire_head head = head_peek(frame);
    if (client->frames++ % CHECKED_ONE_IN == 0 && wire_frame_decode(frame, &head) != 0)
        return complain("a frame doesn't hold");
    if (head.status != 0)
        return complain(kho_strerror(head.status));
    client->on_frame(client->owner, &head, frame + KHO_FRAME_HEAD);
    return 0;
}

/* The length of what begins at `bytes`: the node's HELLO, then frames. 0: not known yet. */
static int piece_length(const struct conn_client *client, const uint8_t *bytes, size_t len)
{
    return client->greeted ? wire_frame_length(bytes, len) : (int)KHO_HELLO_NODE_SIZE;
}

static int piece_take(struct conn_client *client, const uint8_t *piece)
{
    if (client->greeted)
        return frame_take(client, piece);
    client->greeted = true;
    int status = wire_hello_node_decode(piece, &client->hello);
    if (status == 0)
        status = client->hello.status;
    return status == 0 ? 0 : complain(kho_strerror(status));
}

/* Takes all whole pieces at the front of `bytes`: how many bytes they were, or -1. */
static ssize_t pieces_take(struct conn_client *client, const uint8_t *bytes, size_t len)
{
    size_t at = 0;
    for (;;) {
        int length = piece_length(client, bytes + at, len - at);
        if (length < 0)
            return complain("a frame has no length");
        if (length == 0 || (size_t)length > len - at)
            return (ssize_t)at;
        if (piece_take(client, bytes + at) != 0)
            return -1;
        at += (size_t)length;
    }
}

static int bytes_take(struct conn_client *client, const uint8_t *bytes, size_t len)
{
    if (client->in_len > 0) {
        KHO_ASSERT(client->in_len + len <= IN_BYTES);
        memcpy(client->in + client->in_len, bytes, len);
        bytes = client->in;
        len += client->in_len;
    }
    ssize_t taken = pieces_take(client, bytes, len);
    if (taken < 0)
        return -1;
    client->in_len = len - (size_t)taken;
    memmove(client->in, bytes + taken, client->in_len);
    return 0;
}

static int ops_carry(struct conn_client *client)
{
    struct queue *link;
    int error = 0;
    while ((link = queue_pop(&client->node->sockets)) != NULL) {
        struct op *op = KHO_CONTAINER_OF(link, struct op, link);
        int32_t result = 0;
        if (op->kind == OP_SEND) {
            result = (int32_t)op->len;
            if (error == 0)
                error = bytes_take(client, op->data, op->len);
        } else if (op->kind == OP_RECEIVE) {
            client->receiving = op->len != 0;
        } else {
            client->closed = true;
        }
        node_socket_ended(client->node, op, result);
    }
    return error;
}

/* --- What it receives ------------------------------------------------------------------------- */

uint8_t *conn_client_body(struct conn_client *client, size_t len)
{
    KHO_ASSERT(client->out_len + KHO_FRAME_HEAD + len <= client->out_max);
    return client->out + client->out_len + KHO_FRAME_HEAD;
}

void conn_client_send(struct conn_client *client, uint8_t type, uint64_t request, uint16_t count,
                      size_t len)
{
    struct wire_head head = {.length = (uint32_t)(KHO_FRAME_HEAD + len),
                             .type = type,
                             .count = count,
                             .request = request,
                             .epoch = client->hello.epoch,
                             .map_hash = client->hello.map_hash,
                             .cluster = client->hello.cluster};
    wire_frame_seal(client->out + client->out_len, &head, false);
    client->out_len += head.length;
}

static void out_deliver(struct conn_client *client)
{
    size_t at = 0;
    while (client->receiving && at < client->out_len) {
        size_t len = kho_min(client->out_len - at, RECEIVE_MAX);
        shard_received(client->node->shard, 0, client->out + at, len, client->node->now);
        at += len;
    }
    memmove(client->out, client->out + at, client->out_len - at);
    client->out_len -= at;
}

int conn_client_turn(struct conn_client *client)
{
    node_turn_begin(client->node);
    out_deliver(client);
    if (node_turn_end(client->node, !client->receiving || client->out_len == 0) != 0 ||
        ops_carry(client) != 0)
        return -1;
    return client->closed ? complain("the shard closed it") : 0;
}

/* --- Life ------------------------------------------------------------------------------------- */

int conn_client_open(struct conn_client *client, struct node *node)
{
    struct wire_hello_client hello = {.protocol_min = KHO_PROTOCOL, .protocol_max = KHO_PROTOCOL};
    *client = (struct conn_client){.node = node, .out_max = OUT_BYTES};
    client->out = malloc(OUT_BYTES);
    client->in = malloc(IN_BYTES);
    if (client->out == NULL || client->in == NULL) {
        conn_client_close(client);
        return complain("no memory");
    }
    shard_accepted(node->shard, 0, &hello, node->now);
    while (!client->greeted)
        if (conn_client_turn(client) != 0) {
            conn_client_close(client);
            return -1;
        }
    return 0;
}

void conn_client_close(struct conn_client *client)
{
    free(client->out);
    free(client->in);
    *client = (struct conn_client){0};
}
