/* uv_net.c: the connections of a core, and its turns, on a libuv loop.
 *
 * It owns sockets, look-ups and hooks. The happy path: a CONNECT op resolves its host (numeric ones
 * at once, others in libuv's pool), tries the addresses in turn and ends; SEND ops of one
 * connection are gathered and leave in one sendmsg; what the socket doesn't take waits until it is
 * writable; received bytes go to the core from one buffer; CLOSE ends what is in flight, then
 * itself.
 *
 * Sockets are polled (uv_poll_t) rather than wrapped in uv_tcp_t, since libuv's writes raise
 * SIGPIPE when a node dies, and a library must not depend on the program's signal dispositions.
 *
 * How it fails: a look-up or a connect ends its op with -errno; a send that fails ends with -errno
 * those queued behind it; a connection that breaks is reported once and stays, silent, until the
 * core closes it. */
#include "uv_net.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    RECEIVE_BYTES = 256 << 10,
    RECEIVES_PER_EVENT = 4, /* then others have their turn; the poll is level-triggered */
    SEND_VECTORS = 64,
    ADDRESSES_MAX = 8,
    CONNS_MAX = 1 << 20,
    SLOW_POLL_NS = 50000000,
    TICKS_PUT_OFF_MAX = 3,
    ROUNDS_PER_TURN = 8 /* then the loop polls without waiting and the next turn goes on */
};

/* One attempt to reach a peer, then the connection to it. Outlives its conn until libuv has let go.
 */
struct sock {
    uv_poll_t poll;
    struct net *net;
    struct conn *conn; /* NULL once closed */
    int fd;
};

struct lookup {
    uv_getaddrinfo_t request;
    struct net *net;
    struct conn *conn; /* NULL once closed */
};

struct conn {
    struct net *net;
    int32_t handle;
    struct client_op *connect; /* until it is connected */
    struct lookup *lookup;
    struct sock *sock;
    struct sockaddr_storage addresses[ADDRESSES_MAX];
    unsigned address_count, address_next;
    struct queue sends;  /* of client_op */
    struct queue unsent; /* in net->unsent */
    uint32_t sent;       /* of the first send */
    int events;
    bool broken;
};

/* --- Ops that ended -------------------------------------------------------------------------- */

static void op_end(struct net *net, struct client_op *op, int result)
{
    op->result = result;
    queue_push(&net->ended, &op->link);
    net->due = true;
}

static void sends_end(struct conn *conn, int result)
{
    struct queue *link;
    while ((link = queue_pop(&conn->sends)) != NULL)
        op_end(conn->net, KHO_CONTAINER_OF(link, struct client_op, link), result);
    conn->sent = 0;
}

/* --- Sockets --------------------------------------------------------------------------------- */

static void sock_closed(uv_handle_t *handle)
{
    struct sock *sock = handle->data;
    struct net *net = sock->net;
    net->live--;
    api_release(&net->heap, sock);
}

static void sock_close(struct sock *sock)
{
    sock->conn->sock = NULL;
    sock->conn = NULL;
    uv_poll_stop(&sock->poll);
    uv_close((uv_handle_t *)&sock->poll, sock_closed);
    close(sock->fd);
}

static void conn_free(struct conn *conn)
{
    struct net *net = conn->net;
    net->conns[conn->handle] = NULL;
    if (conn->sock != NULL)
        sock_close(conn->sock);
    if (conn->lookup != NULL) {
        /* One that runs can't be stopped: it ends alone. */
        uv_cancel((uv_req_t *)&conn->lookup->request);
        conn->lookup->conn = NULL;
    }
    queue_remove(&conn->unsent);
    api_release(&net->heap, conn);
}

/* Ends a connect that failed; the handle is free again, closing it is no error. */
static void conn_fail(struct conn *conn, int error)
{
    op_end(conn->net, conn->connect, error);
    sends_end(conn, error);
    conn_free(conn);
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void conn_watch(struct conn *conn, int events)
{
    if (events == conn->events)
        return;
    conn->events = events;
    if (events == 0)
        uv_poll_stop(&conn->sock->poll);
    else
        uv_poll_start(&conn->sock->poll, events, on_poll);
}

/* The peer is gone: tells the core, once. */
static void conn_broke(struct conn *conn, int error)
{
    struct net *net = conn->net;
    conn->broken = true;
    conn_watch(conn, 0);
    sends_end(conn, error);
    net->core->disconnected(net->owner, conn->handle, error, api_now());
    net->due = true;
}

static int sock_open(struct conn *conn, const struct sockaddr *address)
{
    struct net *net = conn->net;
    int one = 1, error;
    struct sock *sock = api_allocate_zeroed(&net->heap, sizeof *sock);
    if (sock == NULL)
        return -ENOMEM;
    sock->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (sock->fd < 0) {
        error = -errno;
        goto out_free;
    }
    setsockopt(sock->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(sock->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    socklen_t len =
        address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (connect(sock->fd, address, len) != 0 && errno != EINPROGRESS && errno != EINTR) {
        error = -errno;
        goto out_close;
    }
    error = uv_poll_init(net->loop, &sock->poll, sock->fd);
    if (error != 0)
        goto out_close;
    sock->poll.data = sock;
    sock->net = net;
    sock->conn = conn;
    conn->sock = sock;
    conn->events = 0;
    net->live++;
    uv_unref((uv_handle_t *)&sock->poll);
    conn_watch(conn, UV_WRITABLE);
    return 0;
out_close:
    close(sock->fd);
out_free:
    api_release(&net->heap, sock);
    return error;
}

/* Tries the next address, or fails with the last cause. */
static void conn_try(struct conn *conn, int error)
{
    while (conn->address_next < conn->address_count) {
        const void *address = &conn->addresses[conn->address_next++];
        error = sock_open(conn, address);
        if (error == 0)
            return;
    }
    conn_fail(conn, error);
}

/* --- Sending and receiving ------------------------------------------------------------------- */

static size_t conn_gather(struct conn *conn, struct iovec *vectors)
{
    size_t count = 0, skip = conn->sent;
    QUEUE_FOREACH (link, &conn->sends) {
        const struct client_op *op = KHO_CONTAINER_OF(link, struct client_op, link);
        if (count == SEND_VECTORS)
            break;
        /* sendmsg only reads it; its struct serves receiving, too, and so lacks the const. */
        const uint8_t *from = op->data + skip;
        memcpy(&vectors[count].iov_base, &from, sizeof from);
        vectors[count++].iov_len = op->len - skip;
        skip = 0;
    }
    return count;
}

static void conn_sent(struct conn *conn, size_t bytes)
{
    while (!queue_empty(&conn->sends)) {
        struct client_op *op = KHO_CONTAINER_OF(conn->sends.next, struct client_op, link);
        size_t left = op->len - conn->sent;
        if (bytes < left) {
            conn->sent += (uint32_t)bytes;
            return;
        }
        bytes -= left;
        conn->sent = 0;
        queue_remove(&op->link);
        op_end(conn->net, op, 0);
    }
}

static void conn_flush(struct conn *conn)
{
    struct iovec vectors[SEND_VECTORS];
    while (!queue_empty(&conn->sends)) {
        struct msghdr message = {.msg_iov = vectors};
        message.msg_iovlen = conn_gather(conn, vectors);
        ssize_t n = sendmsg(conn->sock->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            conn_sent(conn, (size_t)n);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            conn_watch(conn, UV_READABLE | UV_WRITABLE);
            return;
        } else if (errno != EINTR) {
            /* The reading side has the cause, and reports it. */
            sends_end(conn, -errno);
        }
    }
    conn_watch(conn, UV_READABLE);
}

static void conn_receive(struct conn *conn, unsigned times)
{
    struct net *net = conn->net;
    while (times-- > 0) {
        ssize_t n = recv(conn->sock->fd, net->buffer, RECEIVE_BYTES, MSG_DONTWAIT);
        if (n > 0) {
            net->core->received(net->owner, conn->handle, net->buffer, (size_t)n, api_now());
            net->due = true;
            if (n < RECEIVE_BYTES)
                return;
        } else if (n == 0) {
            conn_broke(conn, -ECONNRESET);
            return;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR) {
            conn_broke(conn, -errno);
            return;
        }
    }
}

static int sock_error(const struct sock *sock)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(sock->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        return -errno;
    return -error;
}

static void conn_connected(struct conn *conn)
{
    int error = sock_error(conn->sock);
    if (error != 0) {
        sock_close(conn->sock);
        conn_try(conn, error);
        return;
    }
    op_end(conn->net, conn->connect, 0);
    conn->connect = NULL;
    conn_flush(conn);
}

/* libuv reports POLLERR as a bad descriptor and stops to poll; the socket knows the cause, and may
 * hold a node's last words. */
static void conn_poll_failed(struct conn *conn, int status)
{
    conn->events = 0;
    conn_receive(conn, RECEIVES_PER_EVENT);
    if (conn->broken)
        return;
    int error = sock_error(conn->sock);
    conn_broke(conn, error != 0 ? error : status);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct sock *sock = poll->data;
    struct conn *conn = sock->conn;
    if (conn == NULL)
        return;
    if (conn->connect != NULL) {
        conn_connected(conn);
        return;
    }
    if (status < 0) {
        conn_poll_failed(conn, status);
        return;
    }
    if ((events & UV_READABLE) != 0)
        conn_receive(conn, RECEIVES_PER_EVENT);
    if ((events & UV_WRITABLE) != 0 && !conn->broken)
        conn_flush(conn);
}

/* --- Look-ups -------------------------------------------------------------------------------- */

static bool address_numeric(const char *host, uint16_t port, struct sockaddr_storage *ret)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (uv_ip4_addr(host, port, &v4) == 0)
        memcpy(ret, &v4, sizeof v4);
    else if (strchr(host, '%') == NULL && uv_ip6_addr(host, port, &v6) == 0)
        memcpy(ret, &v6, sizeof v6);
    else
        return false;
    return true;
}

static void conn_take_addresses(struct conn *conn, const struct addrinfo *info)
{
    uint16_t port = htons(conn->connect->port);
    for (; info != NULL && conn->address_count < ADDRESSES_MAX; info = info->ai_next) {
        struct sockaddr_storage *address = &conn->addresses[conn->address_count];
        if (info->ai_family != AF_INET && info->ai_family != AF_INET6)
            continue;
        memcpy(address, info->ai_addr, info->ai_addrlen);
        if (info->ai_family == AF_INET)
            memcpy((char *)address + offsetof(struct sockaddr_in, sin_port), &port, sizeof port);
        else
            memcpy((char *)address + offsetof(struct sockaddr_in6, sin6_port), &port, sizeof port);
        conn->address_count++;
    }
}

/* The resolver's codes are no errno: what they mean to the core is that there is no way there. */
static int lookup_error(int status)
{
    return status == UV_EAI_MEMORY || status == UV_ENOMEM ? -ENOMEM : -EHOSTUNREACH;
}

static void on_lookup(uv_getaddrinfo_t *request, int status, struct addrinfo *info)
{
    struct lookup *lookup = request->data;
    struct net *net = lookup->net;
    struct conn *conn = lookup->conn;
    net->live--;
    api_release(&net->heap, lookup);
    if (conn != NULL) {
        conn->lookup = NULL;
        if (status == 0)
            conn_take_addresses(conn, info);
        conn_try(conn, status == 0 ? -EHOSTUNREACH : lookup_error(status));
    }
    uv_freeaddrinfo(info);
}

static int conn_look_up(struct conn *conn, const char *host)
{
    struct net *net = conn->net;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct lookup *lookup = api_allocate_zeroed(&net->heap, sizeof *lookup);
    if (lookup == NULL)
        return -ENOMEM;
    int error = uv_getaddrinfo(net->loop, &lookup->request, on_lookup, host, NULL, &hints);
    if (error != 0) {
        api_release(&net->heap, lookup);
        return lookup_error(error);
    }
    lookup->request.data = lookup;
    lookup->net = net;
    lookup->conn = conn;
    conn->lookup = lookup;
    net->live++;
    return 0;
}

/* --- Ops ------------------------------------------------------------------------------------- */

static struct conn *conn_find(const struct net *net, int32_t handle)
{
    return handle >= 0 && (uint32_t)handle < net->conn_max ? net->conns[handle] : NULL;
}

static int conns_grow(struct net *net, int32_t handle)
{
    if ((uint32_t)handle < net->conn_max)
        return 0;
    uint32_t max = net->conn_max == 0 ? 16 : net->conn_max;
    while (max <= (uint32_t)handle)
        max *= 2;
    struct conn **conns = api_allocate_zeroed(&net->heap, max * sizeof(void *));
    if (conns == NULL)
        return -ENOMEM;
    if (net->conn_max > 0)
        memcpy(conns, net->conns, net->conn_max * sizeof(void *));
    api_release(&net->heap, net->conns);
    net->conns = conns;
    net->conn_max = max;
    return 0;
}

static void op_connect(struct net *net, struct client_op *op)
{
    KHO_ASSERT(op->conn >= 0 && op->conn < CONNS_MAX);
    struct conn *conn = NULL;
    int error = conns_grow(net, op->conn);
    if (error == 0) {
        KHO_ASSERT(net->conns[op->conn] == NULL);
        conn = api_allocate_zeroed(&net->heap, sizeof *conn);
    }
    if (conn == NULL) {
        op_end(net, op, -ENOMEM);
        return;
    }
    conn->net = net;
    conn->handle = op->conn;
    conn->connect = op;
    queue_init(&conn->sends);
    queue_init(&conn->unsent);
    net->conns[op->conn] = conn;
    if (address_numeric(op->host, op->port, &conn->addresses[0])) {
        conn->address_count = 1;
        conn_try(conn, 0);
        return;
    }
    error = conn_look_up(conn, op->host);
    if (error != 0)
        conn_fail(conn, error);
}

static void op_send(struct net *net, struct client_op *op)
{
    struct conn *conn = conn_find(net, op->conn);
    if (conn == NULL || conn->broken) {
        op_end(net, op, -ENOTCONN);
        return;
    }
    queue_push(&conn->sends, &op->link);
    if (queue_empty(&conn->unsent))
        queue_push(&net->unsent, &conn->unsent);
}

static void op_close(struct net *net, struct client_op *op)
{
    struct conn *conn = conn_find(net, op->conn);
    if (conn != NULL) {
        if (conn->connect != NULL)
            op_end(net, conn->connect, -ECANCELED);
        sends_end(conn, -ECANCELED);
        conn_free(conn);
    }
    op_end(net, op, 0);
}

static void net_carry_out(struct net *net)
{
    struct client_op *op;
    while ((op = net->core->next_op(net->owner)) != NULL) {
        queue_init(&op->link);
        if (op->kind == CLIENT_OP_CONNECT)
            op_connect(net, op);
        else if (op->kind == CLIENT_OP_SEND)
            op_send(net, op);
        else
            op_close(net, op);
    }
    struct queue *link;
    while ((link = queue_pop(&net->unsent)) != NULL) {
        struct conn *conn = KHO_CONTAINER_OF(link, struct conn, unsent);
        bool ready = conn->connect == NULL && (conn->events & UV_WRITABLE) == 0;
        if (ready && !conn->broken)
            conn_flush(conn);
    }
}

/* --- Turns ----------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    struct net *net = timer->data;
    net->timer_ms = 0;
    net->due = true;
}

static void net_set_timer(struct net *net)
{
    uint64_t deadline = net->core->deadline(net->owner);
    if (deadline == UINT64_MAX) {
        uv_timer_stop(&net->timer);
        net->timer_ms = 0;
        return;
    }
    /* libuv's clock is the same monotonic one, in milliseconds, as of the iteration's start. */
    uint64_t at = deadline / 1000000u + 1, now = uv_now(net->loop);
    at = kho_max(at, now + 1);
    if (at == net->timer_ms)
        return;
    net->timer_ms = at;
    uv_timer_start(&net->timer, on_timer, at - now, 0);
}

static void on_idle(uv_idle_t *idle)
{
    (void)idle;
}

/* Whether deadlines may be judged: what has arrived in time must not be late because the loop was
 * busy. So only after a poll, and if taking what it brought was slow, after another one, since more
 * may have come meanwhile; but not for ever. */
static bool net_may_tick(struct net *net, bool after_poll, struct kho_now now)
{
    if (!after_poll || now.mono_ns < net->core->deadline(net->owner))
        return false;
    if (now.mono_ns - net->polled_ns > SLOW_POLL_NS && net->ticks_put_off < TICKS_PUT_OFF_MAX) {
        net->ticks_put_off++;
        net->due = true;
        return false;
    }
    net->ticks_put_off = 0;
    return true;
}

static void net_round(struct net *net, bool after_poll)
{
    struct queue ended, *link;
    struct kho_now now = api_now();
    queue_init(&ended);
    queue_append_all(&ended, &net->ended);
    while ((link = queue_pop(&ended)) != NULL)
        net->core->completed(net->owner, KHO_CONTAINER_OF(link, struct client_op, link), now);
    if (net_may_tick(net, after_poll, now))
        net->core->tick(net->owner, now);
    net->core->step_end(net->owner, now);
    net_carry_out(net);
    net->core->deliver(net->owner);
}

/* True when there was one. */
static bool net_turn(struct net *net, bool after_poll)
{
    if (net->in_turn || net->closing || !net->due)
        return false;
    net->in_turn = true;
    for (unsigned i = 0; i < ROUNDS_PER_TURN && net->due && !net->closing; i++) {
        net->due = false;
        net_round(net, after_poll && i == 0);
    }
    net->in_turn = false;
    if (!net->closing)
        net_set_timer(net);
    return true;
}

/* --- Beginning and end ----------------------------------------------------------------------- */

static void on_hook_closed(uv_handle_t *handle)
{
    struct net *net = handle->data;
    if (--net->hooks == 0)
        net->closed(net->owner);
}

static void net_hooks_close(struct net *net)
{
    if (net->hooks != 4 || uv_is_closing((uv_handle_t *)&net->prepare))
        return;
    uv_close((uv_handle_t *)&net->timer, on_hook_closed);
    uv_close((uv_handle_t *)&net->prepare, on_hook_closed);
    uv_close((uv_handle_t *)&net->check, on_hook_closed);
    uv_close((uv_handle_t *)&net->idle, on_hook_closed);
}

/* An active idle hook keeps the poll from waiting: where something is left to do, and after a turn
 * before the poll, since whoever runs the loop once for a callback must not wait after he got it.
 */
static void net_hook(struct net *net, bool after_poll)
{
    bool turned = net_turn(net, after_poll);
    if (net->closing) {
        if (net->live == 0)
            net_hooks_close(net);
        return;
    }
    /* A deadline that has passed waits for the turn after the poll. */
    net->polled_ns = api_now().mono_ns;
    if (!after_poll && net->polled_ns >= net->core->deadline(net->owner))
        net->due = true;
    if (net->due || (turned && !after_poll))
        uv_idle_start(&net->idle, on_idle);
    else
        uv_idle_stop(&net->idle);
}

static void on_prepare(uv_prepare_t *prepare)
{
    net_hook(prepare->data, false);
}

static void on_check(uv_check_t *check)
{
    net_hook(check->data, true);
}

int net_init(struct net *net, uv_loop_t *loop, const struct kho_heap *heap,
             const struct net_core *core, void *owner)
{
    *net = (struct net){.loop = loop, .heap = *heap, .core = core, .owner = owner};
    queue_init(&net->unsent);
    queue_init(&net->ended);
    net->buffer = api_allocate(heap, RECEIVE_BYTES);
    return net->buffer == NULL ? -ENOMEM : 0;
}

void net_fini(struct net *net)
{
    if (net->buffer == NULL)
        return;
    api_release(&net->heap, net->conns);
    api_release(&net->heap, net->buffer);
    net->buffer = NULL;
}

void net_start(struct net *net)
{
    uv_timer_init(net->loop, &net->timer);
    uv_prepare_init(net->loop, &net->prepare);
    uv_check_init(net->loop, &net->check);
    uv_idle_init(net->loop, &net->idle);
    net->timer.data = net->prepare.data = net->check.data = net->idle.data = net;
    uv_prepare_start(&net->prepare, on_prepare);
    uv_check_start(&net->check, on_check);
    uv_unref((uv_handle_t *)&net->timer);
    uv_unref((uv_handle_t *)&net->check);
    uv_unref((uv_handle_t *)&net->idle);
    net->hooks = 4;
    net->due = true;
}

void net_close(struct net *net, void (*closed)(void *owner))
{
    net->closing = true;
    net->closed = closed;
    for (uint32_t i = 0; i < net->conn_max; i++)
        if (net->conns[i] != NULL)
            conn_free(net->conns[i]);
    queue_init(&net->ended);
    uv_idle_stop(&net->idle);
    uv_timer_stop(&net->timer);
}
