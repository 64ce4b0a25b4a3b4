/* peers.c: sockets of the shard, from accept to close.
 *
 * A socket that was accepted is a *greeting* until its 64 bytes of HELLO are there: exactly these
 * are received, so that the rest is the shard's. Then it becomes a *peer* with a connection number
 * and a receive buffer of 256 KiB. A peer receives while the core wants it (OP_RECEIVE): one
 * request at a time, whose bytes are lent to the shard and which is then started again. Bytes that
 * arrive after a stop are held, at most one buffer, until the next start. OP_CLOSE shuts the socket
 * down, which ends what is under way on it, and ends itself last; the number is free again only
 * after the shard has been told.
 *
 * What strangers can cost is bounded: GREETINGS_MAX sockets without a HELLO, each for ten seconds,
 * where a new one drives out the oldest, so that those who keep silent can't keep the others out;
 * `connections_max` peers; a log line about refusals every ten seconds. A HELLO that can be
 * answered is refused with its reason; random bytes are not worth one. */
#include "peers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "journal.h"

#define SECOND_NS ((uint64_t)1000000000)

enum {
    BUFFER_BYTES = KHO_FRAME_MAX,
    GREETINGS_MAX = 128,
    GREETINGS_ROOM = 2 * GREETINGS_MAX, /* with those that are being closed */
    GREETING_SECONDS = 10,
    REFUSALS_SECONDS = 10,
    RETRIES_MAX = 16
};

struct greeting {
    struct task task;
    struct peers *peers;
    struct queue link; /* free, or greeting in order of age, or dropped */
    int fd;
    uint64_t deadline_ns;
    uint32_t got;
    bool dropped;
    uint8_t hello[KHO_HELLO_CLIENT_SIZE];
};

struct peer {
    struct task task; /* the receive under way */
    struct peers *peers;
    struct queue link; /* free, closed, or ready: held bytes may be delivered */
    int32_t conn;
    int fd; /* -1: free */
    uint8_t *buffer;
    uint32_t held;  /* bytes in the buffer that wait for the core to want them */
    uint32_t sends; /* under way */
    uint32_t tries;
    bool receiving; /* the core wants bytes */
    bool armed;     /* a receive is under way */
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
    int listen_fd;
    struct task accept;
    bool accepting;           /* the accept request is under way */
    bool stopped;             /* no more accepting */
    uint64_t accept_again_ns; /* after a failed accept; UINT64_MAX: not waiting */
    struct peer *table;
    uint32_t connections_max;
    uint32_t open;
    struct queue free;   /* of struct peer.link */
    struct queue closed; /* their OP_CLOSE is in `done` and not yet with the shard */
    struct queue ready;
    struct greeting greetings[GREETINGS_ROOM];
    struct queue greeting_free, greeting_queue, greeting_dropped;
    uint32_t greeting_count;
    struct queue send_pool;
    uint64_t refused;        /* since the last line about it */
    uint64_t refused_log_ns; /* when the next may be written */
};

static void accept_ended(struct task *task, int result);
static void greeting_ended(struct task *task, int result);
static void receive_ended(struct task *task, int result);
static void send_ended(struct task *task, int result);

/* --- Life ------------------------------------------------------------------------------------- */

struct peers *peers_create(struct uring *uring, struct shard *shard, int listen_fd,
                           uint32_t connections_max, struct queue *done)
{
    struct peers *peers = calloc(1, sizeof *peers);
    if (peers == NULL)
        return NULL;
    peers->table = calloc(connections_max, sizeof *peers->table);
    if (peers->table == NULL) {
        free(peers);
        return NULL;
    }
    peers->uring = uring;
    peers->shard = shard;
    peers->done = done;
    peers->listen_fd = listen_fd;
    peers->connections_max = connections_max;
    peers->accept.ended = accept_ended;
    peers->accept_again_ns = UINT64_MAX;
    struct queue *heads[] = {
        &peers->free,           &peers->closed,    &peers->ready,           &peers->greeting_free,
        &peers->greeting_queue, &peers->send_pool, &peers->greeting_dropped};
    for (size_t i = 0; i < KHO_COUNT_OF(heads); i++)
        queue_init(heads[i]);
    for (uint32_t i = 0; i < connections_max; i++) {
        peers->table[i] = (struct peer){
            .task = {.ended = receive_ended}, .peers = peers, .conn = (int32_t)i, .fd = -1};
        queue_push(&peers->free, &peers->table[i].link);
    }
    for (uint32_t i = 0; i < GREETINGS_ROOM; i++) {
        peers->greetings[i].task.ended = greeting_ended;
        peers->greetings[i].peers = peers;
        peers->greetings[i].fd = -1;
        queue_push(&peers->greeting_free, &peers->greetings[i].link);
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
        free(peers->table[i].buffer);
    }
    for (uint32_t i = 0; i < GREETINGS_ROOM; i++) {
        if (peers->greetings[i].fd >= 0)
            close(peers->greetings[i].fd);
    }
    struct queue *link;
    while ((link = queue_pop(&peers->send_pool)) != NULL)
        free(KHO_CONTAINER_OF(link, struct send, link));
    free(peers->table);
    free(peers);
}

void peers_turn(struct peers *peers, struct kho_now now)
{
    peers->now = now;
}

bool peers_idle(const struct peers *peers)
{
    return !peers->accepting && peers->open == 0 && peers->greeting_count == 0 &&
           queue_empty(&peers->greeting_dropped);
}

/* --- Refusing --------------------------------------------------------------------------------- */

static void refused(struct peers *peers, int fd, const char *why)
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

/* A fresh socket has room for 128 bytes: no need to wait for the send. */
static void hello_refuse(struct peers *peers, int fd, int status)
{
    struct wire_hello_node hello;
    uint8_t bytes[KHO_HELLO_NODE_SIZE];
    shard_hello(peers->shard, peers->now, &hello);
    hello.protocol = KHO_PROTOCOL;
    hello.status = status;
    wire_hello_node_encode(&hello, bytes);
    ssize_t sent = send(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)sent; /* who is gone needs no reason */
}

/* --- Accepting and HELLO ---------------------------------------------------------------------- */

static void accept_arm(struct peers *peers)
{
    KHO_ASSERT(!peers->accepting);
    peers->accept_again_ns = UINT64_MAX;
    peers->accepting = true;
    uring_accept(peers->uring, &peers->accept, peers->listen_fd);
}

void peers_accept(struct peers *peers)
{
    if (!peers->stopped)
        accept_arm(peers);
}

static void greeting_release(struct greeting *greeting)
{
    struct peers *peers = greeting->peers;
    if (!greeting->dropped)
        peers->greeting_count--;
    queue_remove(&greeting->link);
    queue_push(&peers->greeting_free, &greeting->link);
    greeting->fd = -1;
}

/* Its receive ends soon, and the socket is closed then. */
static void greeting_drop(struct greeting *greeting)
{
    KHO_ASSERT(!greeting->dropped);
    greeting->dropped = true;
    greeting->peers->greeting_count--;
    queue_remove(&greeting->link);
    queue_push(&greeting->peers->greeting_dropped, &greeting->link);
    shutdown(greeting->fd, SHUT_RDWR);
}

static struct greeting *greeting_oldest(const struct peers *peers)
{
    return KHO_CONTAINER_OF(peers->greeting_queue.next, struct greeting, link);
}

static void greeting_receive(struct greeting *greeting)
{
    uring_receive(greeting->peers->uring, &greeting->task, greeting->fd,
                  greeting->hello + greeting->got,
                  (uint32_t)(sizeof greeting->hello - greeting->got));
}

/* Answers leave at once; a client whose machine vanished is noticed within two minutes, since it
 * holds one of the connections. Where the kernel refuses an option the socket still works. */
static void socket_tune(int fd)
{
    static const struct {
        int level, name, value;
    } tunings[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 60}, {IPPROTO_TCP, TCP_KEEPINTVL, 15},
        {IPPROTO_TCP, TCP_KEEPCNT, 4},
    };
    for (size_t i = 0; i < KHO_COUNT_OF(tunings); i++)
        setsockopt(fd, tunings[i].level, tunings[i].name, &tunings[i].value,
                   sizeof tunings[i].value);
}

static void greeting_begin(struct peers *peers, int fd)
{
    socket_tune(fd);
    if (peers->greeting_count >= GREETINGS_MAX) {
        refused(peers, greeting_oldest(peers)->fd,
                "too many connections say no HELLO, and it was the oldest");
        greeting_drop(greeting_oldest(peers));
    }
    struct queue *link = queue_pop(&peers->greeting_free);
    if (link == NULL) {
        close(fd);
        return;
    }
    struct greeting *greeting = KHO_CONTAINER_OF(link, struct greeting, link);
    greeting->fd = fd;
    greeting->got = 0;
    greeting->dropped = false;
    greeting->deadline_ns = peers->now.mono_ns + GREETING_SECONDS * SECOND_NS;
    queue_push(&peers->greeting_queue, &greeting->link);
    peers->greeting_count++;
    greeting_receive(greeting);
}

static void accept_ended(struct task *task, int result)
{
    struct peers *peers = KHO_CONTAINER_OF(task, struct peers, accept);
    peers->accepting = false;
    if (result >= 0) {
        if (peers->stopped)
            close(result);
        else
            greeting_begin(peers, result);
    }
    if (peers->stopped)
        return;
    if (result >= 0 || result == -EINTR || result == -ECONNABORTED) {
        accept_arm(peers);
        return;
    }
    /* EMFILE and its like pass when sockets close; trying at once would only burn the core. */
    peers->accept_again_ns = peers->now.mono_ns + SECOND_NS / 10;
    if (peers->now.mono_ns >= peers->refused_log_ns) {
        peers->refused_log_ns = peers->now.mono_ns + REFUSALS_SECONDS * SECOND_NS;
        journal_write(EVENT_WARNING, "no connection can be accepted: %s%s", strerror(-result),
                      result == -EMFILE ? "; raise the limit of open files (LimitNOFILE)" : "");
    }
}

/* The HELLO is whole: the socket becomes a peer, or is refused. True: it did, and keeps its fd. */
static bool greeting_finish(struct greeting *greeting)
{
    struct peers *peers = greeting->peers;
    struct wire_hello_client hello;
    int code = wire_hello_client_decode(greeting->hello, &hello);
    if (code == KHO_EMALFORMED && kho_load32(greeting->hello) != KHO_HELLO_MAGIC) {
        refused(peers, greeting->fd, "its first bytes are no HELLO of kho's");
        return false;
    }
    if (code == 0 && (peers->stopped || shard_phase(peers->shard) != SHARD_SERVING))
        code = KHO_ESTOPPING;
    struct queue *link = code == 0 ? queue_pop(&peers->free) : NULL;
    uint8_t *buffer = link != NULL ? malloc(BUFFER_BYTES) : NULL;
    if (buffer == NULL) {
        if (link != NULL)
            queue_push_front(&peers->free, link);
        hello_refuse(peers, greeting->fd, code != 0 ? code : KHO_EBUSY);
        refused(peers, greeting->fd,
                code != 0      ? kho_error_sentence(code)
                : link == NULL ? "all connections are taken; raise --connections"
                               : "there is no memory for its buffer");
        return false;
    }
    struct peer *peer = KHO_CONTAINER_OF(link, struct peer, link);
    *peer = (struct peer){.task = {.ended = receive_ended},
                          .peers = peers,
                          .conn = peer->conn,
                          .fd = greeting->fd,
                          .buffer = buffer};
    queue_init(&peer->link);
    peers->open++;
    shard_accepted(peers->shard, peer->conn, &hello, peers->now);
    return true;
}

static void greeting_ended(struct task *task, int result)
{
    struct greeting *greeting = KHO_CONTAINER_OF(task, struct greeting, task);
    bool again = result == -EINTR || result == -EAGAIN;
    if (!greeting->dropped && (result > 0 || again)) {
        greeting->got += again ? 0 : (uint32_t)result;
        if (greeting->got < sizeof greeting->hello) {
            greeting_receive(greeting); /* until its deadline at most */
            return;
        }
        if (greeting_finish(greeting)) {
            greeting_release(greeting);
            return;
        }
    }
    close(greeting->fd);
    greeting_release(greeting);
}

void peers_stop(struct peers *peers)
{
    if (peers->stopped)
        return;
    peers->stopped = true;
    peers->accept_again_ns = UINT64_MAX;
    /* Ends the accept under way, and refuses who comes from now on. */
    shutdown(peers->listen_fd, SHUT_RDWR);
    while (!queue_empty(&peers->greeting_queue))
        greeting_drop(greeting_oldest(peers));
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
    if (!peer->receiving || peer->armed || peer->broken || peer->closing != NULL || peer->held > 0)
        return;
    peer->armed = true;
    uring_receive(peer->peers->uring, &peer->task, peer->fd, peer->buffer, BUFFER_BYTES);
}

/* Closes the socket once nothing is under way on it. */
static void peer_settle(struct peer *peer)
{
    struct peers *peers = peer->peers;
    struct op *op = peer->closing;
    if (op == NULL || peer->armed || peer->sends > 0)
        return;
    close(peer->fd);
    free(peer->buffer);
    peer->fd = -1;
    peer->buffer = NULL;
    peer->closing = NULL;
    peers->open--;
    queue_remove(&peer->link);
    queue_push(&peers->closed, &peer->link);
    op_end(peers, op, 0);
}

static void receive_ended(struct task *task, int result)
{
    struct peer *peer = KHO_CONTAINER_OF(task, struct peer, task);
    struct peers *peers = peer->peers;
    peer->armed = false;
    if (peer->closing != NULL) {
        peer_settle(peer);
        return;
    }
    if ((result == -EINTR || result == -EAGAIN || result == -ENOMEM) &&
        peer->tries++ < RETRIES_MAX) {
        peer_arm(peer);
        return;
    }
    if (result <= 0) {
        peer->broken = true;
        shard_disconnected(peers->shard, peer->conn, result, peers->now);
        return;
    }
    peer->tries = 0;
    if (!peer->receiving) {
        peer->held = (uint32_t)result;
        return;
    }
    shard_received(peers->shard, peer->conn, peer->buffer, (size_t)result, peers->now);
    peer_arm(peer);
}

static void receive_start(struct peers *peers, struct peer *peer, struct op *op)
{
    peer->receiving = op->len != 0;
    queue_remove(&peer->link);
    if (peer->receiving && peer->held > 0 && peer->closing == NULL)
        queue_push(&peers->ready, &peer->link);
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
    queue_remove(&peer->link);
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

void peers_deliver(struct peers *peers)
{
    struct queue *link;
    queue_append_all(&peers->free, &peers->closed);
    while ((link = queue_pop(&peers->ready)) != NULL) {
        struct peer *peer = KHO_CONTAINER_OF(link, struct peer, link);
        uint32_t held = peer->held;
        KHO_ASSERT(held > 0 && peer->receiving && peer->closing == NULL);
        peer->held = 0;
        shard_received(peers->shard, peer->conn, peer->buffer, held, peers->now);
        peer_arm(peer);
    }
    while (!queue_empty(&peers->greeting_queue) &&
           greeting_oldest(peers)->deadline_ns <= peers->now.mono_ns) {
        refused(peers, greeting_oldest(peers)->fd, "it sent no whole HELLO within 10 s");
        greeting_drop(greeting_oldest(peers));
    }
    if (peers->accept_again_ns <= peers->now.mono_ns)
        accept_arm(peers);
}

uint64_t peers_deadline(const struct peers *peers)
{
    if (!queue_empty(&peers->ready))
        return 0;
    uint64_t first = peers->accept_again_ns;
    if (!queue_empty(&peers->greeting_queue))
        first = kho_min(first, greeting_oldest(peers)->deadline_ns);
    return first;
}
