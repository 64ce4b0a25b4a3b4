/* peers.c: the connections of the shard, from HELLO to close.
 *
 * A socket that said HELLO becomes a *peer* with a connection number. While the core wants its
 * bytes (OP_RECEIVE) the ring tells when it is readable, once; then as much as one buffer holds is
 * taken and lent to the shard, and the ring is asked again. All peers share that buffer, since the
 * shard has used the bytes or copied them when it returns: so a connection that is silent costs no
 * memory, and the buffer stays in the core's cache. What arrives after a stop waits in the socket.
 * OP_CLOSE shuts the socket down, which ends what is under way on it, and ends itself last; the
 * number is free again only after the shard has been told.
 *
 * What strangers can cost is bounded: `connections_max` peers, a log line about refusals every ten
 * seconds. */
#include "peers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "journal.h"

#define SECOND_NS ((uint64_t)1000000000)

enum { BUFFER_BYTES = KHO_FRAME_MAX, REFUSALS_SECONDS = 10, RETRIES_MAX = 16 };

struct peer {
    struct task task; /* ends when the socket is readable */
    struct peers *peers;
    struct queue link; /* free, or closed */
    int32_t conn;
    int fd;         /* -1: free */
    uint32_t sends; /* under way */
    uint32_t tries;
    bool receiving; /* the core wants bytes */
    bool armed;     /* the task is under way */
    bool broken;    /* the shard knows that there are no more */
    struct op *closing;
};

struct send {
    struct task task;
    struct peer *peer;
    struct op *op;
    struct queue link; /* in the pool */
    uint32_t sent;
    uint32_t tries;
};

struct peers {
    struct uring *uring;
    struct shard *shard;
    struct queue *done;
    struct kho_now now;
    bool stopped; /* takes none any more */
    struct peer *table;
    uint32_t connections_max;
    uint32_t open;
    struct queue free;   /* of struct peer.link */
    struct queue closed; /* their OP_CLOSE is in `done` and not yet with the shard */
    uint8_t *buffer;     /* of BUFFER_BYTES: what was just received */
    struct queue send_pool;
    uint64_t refused;        /* since the last line about it */
    uint64_t refused_log_ns; /* when the next may be written */
};

static void readable_ended(struct task *task, int result);
static void send_ended(struct task *task, int result);

/* --- Life ------------------------------------------------------------------------------------- */

struct peers *peers_create(struct uring *uring, struct shard *shard, uint32_t connections_max,
                           struct queue *done)
{
    struct peers *peers = calloc(1, sizeof *peers);
    if (peers == NULL)
        return NULL;
    peers->table = calloc(connections_max, sizeof *peers->table);
    peers->buffer = malloc(BUFFER_BYTES);
    if (peers->table == NULL || peers->buffer == NULL) {
        free(peers->table);
        free(peers->buffer);
        free(peers);
        return NULL;
    }
    peers->uring = uring;
    peers->shard = shard;
    peers->done = done;
    peers->connections_max = connections_max;
    struct queue *heads[] = {&peers->free, &peers->closed, &peers->send_pool};
    for (size_t i = 0; i < KHO_COUNT_OF(heads); i++)
        queue_init(heads[i]);
    for (uint32_t i = 0; i < connections_max; i++) {
        peers->table[i] = (struct peer){
            .task = {.ended = readable_ended}, .peers = peers, .conn = (int32_t)i, .fd = -1};
        queue_push(&peers->free, &peers->table[i].link);
    }
    return peers;
}

void peers_destroy(struct peers *peers)
{
    if (peers == NULL)
        return;
    for (uint32_t i = 0; i < peers->connections_max; i++) {
        if (peers->table[i].fd >= 0)
            close(peers->table[i].fd);
    }
    QUEUE_FOREACH_SAFE (link, &peers->send_pool)
        free(KHO_CONTAINER_OF(link, struct send, link));
    free(peers->table);
    free(peers->buffer);
    free(peers);
}

void peers_turn(struct peers *peers, struct kho_now now)
{
    peers->now = now;
}

bool peers_idle(const struct peers *peers)
{
    return peers->open == 0;
}

/* --- Taking and refusing ---------------------------------------------------------------------- */

void peers_refused(struct peers *peers, int fd, const char *why)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";
    peers->refused++;
    if (peers->now.mono_ns < peers->refused_log_ns)
        return;
    if (getpeername(fd, (struct sockaddr *)&address, &len) == 0)
        getnameinfo((struct sockaddr *)&address, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    journal_write(EVENT_WARNING,
                  "refused the connection from %s port %s: %s (%llu since the last "
                  "line like this)",
                  host, port, why, (unsigned long long)peers->refused);
    peers->refused = 0;
    peers->refused_log_ns = peers->now.mono_ns + REFUSALS_SECONDS * SECOND_NS;
}

static void refuse(struct peers *peers, int fd, int status, const char *why)
{
    struct wire_hello_node hello;
    uint8_t bytes[KHO_HELLO_NODE_SIZE];
    shard_hello(peers->shard, peers->now, &hello);
    hello.protocol = KHO_PROTOCOL;
    hello.status = status;
    wire_hello_node_encode(&hello, bytes);
    /* A fresh socket has room for 128 bytes: no need to wait for the send. */
    ssize_t sent = send(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)sent; /* who is gone needs no reason */
    peers_refused(peers, fd, why);
    close(fd);
}

void peers_refuse(struct peers *peers, int fd, int status)
{
    refuse(peers, fd, status, kho_error_sentence(status));
}

void peers_take(struct peers *peers, int fd, const struct wire_hello_client *hello)
{
    if (peers->stopped || shard_phase(peers->shard) != SHARD_SERVING) {
        peers_refuse(peers, fd, KHO_ESTOPPING);
        return;
    }
    struct queue *link = queue_pop(&peers->free);
    if (link == NULL) {
        refuse(peers, fd, KHO_EBUSY, "all connections are taken; raise --connections");
        return;
    }
    struct peer *peer = KHO_CONTAINER_OF(link, struct peer, link);
    *peer = (struct peer){
        .task = {.ended = readable_ended}, .peers = peers, .conn = peer->conn, .fd = fd};
    queue_init(&peer->link);
    peers->open++;
    shard_accepted(peers->shard, peer->conn, hello, peers->now);
}

void peers_stop(struct peers *peers)
{
    peers->stopped = true;
}

/* --- Receiving -------------------------------------------------------------------------------- */

static struct peer *peer_of(struct peers *peers, int32_t conn)
{
    KHO_ASSERT(conn >= 0 && (uint32_t)conn < peers->connections_max);
    struct peer *peer = &peers->table[conn];
    KHO_ASSERT(peer->fd >= 0);
    return peer;
}

static void op_end(struct peers *peers, struct op *op, int result)
{
    op->result = result;
    queue_push(peers->done, &op->link);
}

static void peer_arm(struct peer *peer)
{
    if (!peer->receiving || peer->armed || peer->broken || peer->closing != NULL)
        return;
    peer->armed = true;
    uring_readable(peer->peers->uring, &peer->task, peer->fd);
}

/* Closes the socket once nothing is under way on it. */
static void peer_settle(struct peer *peer)
{
    struct peers *peers = peer->peers;
    struct op *op = peer->closing;
    if (op == NULL || peer->armed || peer->sends > 0)
        return;
    close(peer->fd);
    peer->fd = -1;
    peer->closing = NULL;
    peers->open--;
    queue_push(&peers->closed, &peer->link);
    op_end(peers, op, 0);
}

static void peer_broke(struct peer *peer, int error)
{
    peer->broken = true;
    shard_disconnected(peer->peers->shard, peer->conn, error, peer->peers->now);
}

static void peer_receive(struct peer *peer)
{
    struct peers *peers = peer->peers;
    ssize_t len = recv(peer->fd, peers->buffer, BUFFER_BYTES, MSG_DONTWAIT);
    int error = len < 0 ? -errno : 0;
    bool again =
        error == -EAGAIN || error == -EINTR || (error == -ENOMEM && peer->tries++ < RETRIES_MAX);
    if (len <= 0 && !again) {
        peer_broke(peer, error);
        return;
    }
    if (len > 0) {
        peer->tries = 0;
        shard_received(peers->shard, peer->conn, peers->buffer, (size_t)len, peers->now);
    }
    peer_arm(peer);
}

static void readable_ended(struct task *task, int result)
{
    struct peer *peer = KHO_CONTAINER_OF(task, struct peer, task);
    peer->armed = false;
    if (peer->closing != NULL) {
        peer_settle(peer);
    } else if ((result == -EINTR || result == -EAGAIN || result == -ENOMEM) &&
               peer->tries++ < RETRIES_MAX) {
        peer_arm(peer);
    } else if (result < 0) {
        peer_broke(peer, result);
    } else if (peer->receiving) {
        peer_receive(peer);
    } else if (result & (POLLERR | POLLHUP)) {
        peer_broke(peer, -ECONNRESET); /* what it still holds nobody could answer */
    }
}

static void receive_start(struct peers *peers, struct peer *peer, struct op *op)
{
    peer->receiving = op->len != 0;
    peer_arm(peer);
    op_end(peers, op, 0);
}

/* --- Sending and closing ---------------------------------------------------------------------- */

static void send_submit(struct send *send)
{
    uring_send(send->peer->peers->uring, &send->task, send->peer->fd, send->op->data + send->sent,
               send->op->len - send->sent);
}

static void send_start(struct peers *peers, struct peer *peer, struct op *op)
{
    if (peer->closing != NULL) {
        op_end(peers, op, -ECANCELED);
        return;
    }
    struct queue *link = queue_pop(&peers->send_pool);
    struct send *send =
        link != NULL ? KHO_CONTAINER_OF(link, struct send, link) : malloc(sizeof *send);
    if (send == NULL) {
        op_end(peers, op, -ENOMEM);
        return;
    }
    *send = (struct send){.task = {.ended = send_ended}, .peer = peer, .op = op};
    queue_init(&send->link);
    peer->sends++;
    send_submit(send);
}

static void send_ended(struct task *task, int result)
{
    struct send *send = KHO_CONTAINER_OF(task, struct send, task);
    struct peer *peer = send->peer;
    struct op *op = send->op;
    if (result > 0)
        send->sent += (uint32_t)result;
    KHO_ASSERT(send->sent <= op->len);
    bool whole = send->sent == op->len;
    bool again = result > 0 || ((result == -EINTR || result == -EAGAIN || result == -ENOMEM) &&
                                send->tries++ < RETRIES_MAX);
    if (!whole && again && peer->closing == NULL) {
        send_submit(send);
        return;
    }
    int code = whole                   ? (int)op->len
               : peer->closing != NULL ? -ECANCELED
               : result < 0            ? result
                                       : -EPIPE;
    queue_push_front(&peer->peers->send_pool, &send->link);
    peer->sends--;
    op_end(peer->peers, op, code);
    peer_settle(peer);
}

static void close_start(struct peer *peer, struct op *op)
{
    KHO_ASSERT(peer->closing == NULL);
    peer->closing = op;
    /* What the kernel has taken for sending still leaves; requests under way end now. */
    if (peer->armed || peer->sends > 0)
        shutdown(peer->fd, SHUT_RDWR);
    peer_settle(peer);
}

void peers_start(struct peers *peers, struct op *op)
{
    struct peer *peer = peer_of(peers, op->conn);
    if (op->kind == OP_SEND)
        send_start(peers, peer, op);
    else if (op->kind == OP_RECEIVE)
        receive_start(peers, peer, op);
    else
        close_start(peer, op);
}

/* --- Once a turn ------------------------------------------------------------------------------ */

void peers_settled(struct peers *peers)
{
    queue_append_all(&peers->free, &peers->closed);
}
