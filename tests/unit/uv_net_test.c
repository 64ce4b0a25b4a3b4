/* The client's driver on a real loop and real sockets, with a core that follows a script: every op
 * ends exactly once, bytes arrive whole and in order, what breaks is reported once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/uv_net.h"

enum { OPS_MAX = 4096, PIECE = 3000 };

/* The scripted core. */
static struct {
    struct client_op ops[OPS_MAX];
    unsigned ended[OPS_MAX];
    size_t op_count, op_next;
    uint64_t received;
    bool in_order;
    unsigned disconnects;
    int disconnect_error;
    unsigned ticks;
    uint64_t received_at_tick;
    unsigned slow_ms; /* taking what was received takes so long, once */
    uint64_t deadline_ns;
    void (*deliver)(void);
    bool net_closed;
} core;

static uv_loop_t loop;
static struct net net;
static char piece[PIECE];

static struct client_op *ask(enum client_op_kind kind, int32_t conn)
{
    struct client_op *op = &core.ops[core.op_count++];
    KHO_ASSERT(core.op_count < OPS_MAX);
    *op = (struct client_op){.kind = (uint8_t)kind, .conn = conn, .result = 1};
    queue_init(&op->link);
    net_touch(&net);
    return op;
}

static struct client_op *ask_connect(int32_t conn, const char *host, uint16_t port)
{
    struct client_op *op = ask(CLIENT_OP_CONNECT, conn);
    op->host = host;
    op->port = port;
    return op;
}

static struct client_op *ask_send(int32_t conn, const void *data, uint32_t len)
{
    struct client_op *op = ask(CLIENT_OP_SEND, conn);
    op->data = data;
    op->len = len;
    return op;
}

static void on_completed(void *owner, struct client_op *op, struct kho_now now)
{
    (void)owner;
    (void)now;
    core.ended[op - core.ops]++;
}

/* The peer echoes: byte n of the stream is n modulo 251. */
static void on_received(void *owner, int32_t conn, const uint8_t *bytes, size_t len,
                        struct kho_now now)
{
    (void)owner;
    (void)conn;
    (void)now;
    for (size_t i = 0; i < len; i++)
        core.in_order &= bytes[i] == (uint8_t)((core.received + i) % PIECE % 251);
    core.received += len;
    usleep(core.slow_ms * 1000);
    core.slow_ms = 0;
}

static void on_disconnected(void *owner, int32_t conn, int error, struct kho_now now)
{
    (void)owner;
    (void)conn;
    (void)now;
    core.disconnects++;
    core.disconnect_error = error;
}

static void on_tick(void *owner, struct kho_now now)
{
    (void)owner;
    assert_true(now.mono_ns >= core.deadline_ns);
    core.ticks++;
    core.received_at_tick = core.received;
    core.deadline_ns = UINT64_MAX;
}

static void on_step_end(void *owner, struct kho_now now)
{
    (void)owner;
    (void)now;
}

static uint64_t on_deadline(void *owner)
{
    (void)owner;
    return core.deadline_ns;
}

static struct client_op *on_next_op(void *owner)
{
    (void)owner;
    return core.op_next < core.op_count ? &core.ops[core.op_next++] : NULL;
}

static void on_deliver(void *owner)
{
    (void)owner;
    if (core.deliver != NULL)
        core.deliver();
}

static const struct net_core script = {.completed = on_completed,
                                       .received = on_received,
                                       .disconnected = on_disconnected,
                                       .tick = on_tick,
                                       .step_end = on_step_end,
                                       .deadline = on_deadline,
                                       .next_op = on_next_op,
                                       .deliver = on_deliver};

/* --- The peer: a thread that accepts once and echoes, or closes after so many bytes ---------- */

struct peer {
    pthread_t thread;
    int listener;
    uint16_t port;
    uint64_t close_after;
    unsigned delay_ms; /* before it echoes */
};

static void *peer_run(void *arg)
{
    struct peer *peer = arg;
    char buffer[16384];
    uint64_t total = 0;
    int fd = accept(peer->listener, NULL, NULL);
    while (total < peer->close_after) {
        ssize_t n = recv(fd, buffer, sizeof buffer, 0);
        if (n <= 0)
            break;
        total += (uint64_t)n;
        usleep(peer->delay_ms * 1000);
        for (ssize_t at = 0, sent; at < n; at += sent) {
            sent = send(fd, buffer + at, (size_t)(n - at), MSG_NOSIGNAL);
            if (sent < 0)
                goto out;
        }
    }
out:
    close(fd);
    return NULL;
}

static void peer_start(struct peer *peer, uint64_t close_after)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    peer->close_after = close_after;
    peer->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(peer->listener >= 0);
    assert_int_equal(bind(peer->listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(peer->listener, 4), 0);
    assert_int_equal(getsockname(peer->listener, (struct sockaddr *)&address, &len), 0);
    peer->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_run, peer), 0);
}

static void peer_stop(struct peer *peer)
{
    pthread_join(peer->thread, NULL);
    close(peer->listener);
}

/* --- Setup ----------------------------------------------------------------------------------- */

static int setup(void **state)
{
    struct kho_options asked = {.struct_size = sizeof asked, .cluster = ""}, options;
    (void)state;
    memset(&core, 0, sizeof core);
    core.in_order = true;
    core.deadline_ns = UINT64_MAX;
    for (size_t i = 0; i < PIECE; i++)
        piece[i] = (char)(i % 251);
    assert_int_equal(api_options_take(&asked, &options), 0);
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(net_init(&net, &loop, &options.heap, &script, NULL), 0);
    net_start(&net);
    return 0;
}

static void on_net_closed(void *owner)
{
    (void)owner;
    core.net_closed = true;
}

static int teardown(void **state)
{
    (void)state;
    if (!net.closing)
        net_close(&net, on_net_closed);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_true(core.net_closed);
    net_fini(&net);
    /* Nothing of it is left on the loop. */
    assert_int_equal(uv_loop_close(&loop), 0);
    return 0;
}

static void run_until_ended(const struct client_op *op)
{
    while (core.ended[op - core.ops] == 0)
        uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(core.ended[op - core.ops], 1);
}

/* --- Tests ----------------------------------------------------------------------------------- */

/* Far more than the sockets hold is sent at once, and comes back whole and in order. */
static void echo(const char *host)
{
    enum { PIECES = 4000 };
    struct peer peer = {.delay_ms = 0};
    peer_start(&peer, UINT64_MAX);
    struct client_op *op = ask_connect(3, host, peer.port);
    run_until_ended(op);
    assert_int_equal(op->result, 0);
    for (int i = 0; i < PIECES; i++)
        op = ask_send(3, piece, PIECE);
    run_until_ended(op);
    while (core.received < (uint64_t)PIECES * PIECE)
        uv_run(&loop, UV_RUN_ONCE);
    assert_true(core.in_order);
    op = ask(CLIENT_OP_CLOSE, 3);
    run_until_ended(op);
    for (size_t i = 0; i < core.op_count; i++) {
        assert_int_equal(core.ended[i], 1);
        assert_int_equal(core.ops[i].result, 0);
    }
    assert_int_equal(core.disconnects, 0);
    peer_stop(&peer);
}

static void echo_numeric(void **state)
{
    (void)state;
    echo("127.0.0.1");
}

/* A name goes through the resolver. */
static void echo_by_name(void **state)
{
    (void)state;
    echo("localhost");
}

/* A port where nobody listens ends the connect; the handle is free again, and closing it is no
 * error. */
static void refused(void **state)
{
    struct peer peer = {.delay_ms = 0};
    (void)state;
    peer_start(&peer, 0);
    uint16_t port = peer.port;
    struct client_op *op = ask_connect(0, "127.0.0.1", port);
    run_until_ended(op);
    peer_stop(&peer);
    run_until_ended(ask(CLIENT_OP_CLOSE, 0));
    op = ask_connect(0, "127.0.0.1", port);
    run_until_ended(op);
    assert_int_equal(op->result, -ECONNREFUSED);
    op = ask_send(0, piece, 1);
    run_until_ended(op);
    assert_int_equal(op->result, -ENOTCONN);
    op = ask(CLIENT_OP_CLOSE, 0);
    run_until_ended(op);
    assert_int_equal(op->result, 0);
}

/* A peer that goes away while much is being sent: reported once, every send ends, no SIGPIPE. */
static void peer_dies(void **state)
{
    struct peer peer = {.delay_ms = 0};
    (void)state;
    peer_start(&peer, 100000);
    struct client_op *op = ask_connect(1, "127.0.0.1", peer.port);
    run_until_ended(op);
    for (int i = 0; i < 3000; i++)
        op = ask_send(1, piece, PIECE);
    run_until_ended(op);
    assert_true(op->result < 0);
    while (core.disconnects == 0)
        uv_run(&loop, UV_RUN_ONCE);
    op = ask_send(1, piece, PIECE);
    run_until_ended(op);
    assert_true(op->result < 0);
    run_until_ended(ask(CLIENT_OP_CLOSE, 1));
    for (size_t i = 0; i < core.op_count; i++)
        assert_int_equal(core.ended[i], 1);
    assert_int_equal(core.disconnects, 1);
    assert_true(core.disconnect_error < 0);
    peer_stop(&peer);
}

/* A close in one turn with the connect and the sends before it cancels them, in order. */
static void close_cancels(void **state)
{
    (void)state;
    struct client_op *connect_op = ask_connect(2, "192.0.2.1", 9);
    struct client_op *send_op = ask_send(2, piece, PIECE);
    struct client_op *close_op = ask(CLIENT_OP_CLOSE, 2);
    struct client_op *lookup_op = ask_connect(4, "localhost", 9);
    struct client_op *close_lookup_op = ask(CLIENT_OP_CLOSE, 4);
    run_until_ended(close_op);
    run_until_ended(close_lookup_op);
    assert_int_equal(connect_op->result < 0 ? core.ended[connect_op - core.ops] : 0, 1);
    assert_int_equal(send_op->result < 0 ? core.ended[send_op - core.ops] : 0, 1);
    assert_int_equal(lookup_op->result < 0 ? core.ended[lookup_op - core.ops] : 0, 1);
    assert_int_equal(close_op->result, 0);
}

/* The driver may be dropped with a look-up and a connection under way. */
static void dropped(void **state)
{
    struct peer peer = {.delay_ms = 0};
    (void)state;
    peer_start(&peer, UINT64_MAX);
    run_until_ended(ask_connect(0, "127.0.0.1", peer.port));
    ask_connect(5, "localhost", 9);
    uv_run(&loop, UV_RUN_NOWAIT);
    net_close(&net, on_net_closed);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_true(core.net_closed);
    peer_stop(&peer);
}

/* The deadline brings a tick, once, not before its time and not long after. */
static void ticks(void **state)
{
    uint64_t before_ns = api_now().mono_ns;
    (void)state;
    core.deadline_ns = before_ns + 30000000;
    net_touch(&net);
    while (core.ticks == 0)
        uv_run(&loop, UV_RUN_ONCE);
    assert_in_range(api_now().mono_ns - before_ns, 30000000, 2000000000);
    uv_run(&loop, UV_RUN_NOWAIT);
    assert_int_equal(core.ticks, 1);
}

/* What arrived while the loop was busy with something else is taken before the clock is judged. */
static void read_before_tick(void **state)
{
    struct peer quick = {.delay_ms = 0}, slow = {.delay_ms = 60};
    (void)state;
    peer_start(&quick, UINT64_MAX);
    peer_start(&slow, UINT64_MAX);
    run_until_ended(ask_connect(0, "127.0.0.1", quick.port));
    run_until_ended(ask_connect(1, "127.0.0.1", slow.port));
    core.in_order = true;
    core.slow_ms = 1000;
    core.deadline_ns = api_now().mono_ns + 100000000;
    ask_send(0, piece, 1);
    ask_send(1, piece, 1);
    while (core.ticks == 0)
        uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(core.received_at_tick, 2);
    run_until_ended(ask(CLIENT_OP_CLOSE, 0));
    run_until_ended(ask(CLIENT_OP_CLOSE, 1));
    peer_stop(&quick);
    peer_stop(&slow);
}

static unsigned delivered;

static void deliver_busily(void)
{
    delivered++;
    if (delivered < 1000)
        net_touch(&net);
}

/* Callbacks that always ask for more don't keep the loop from its other work. */
static void busy_callbacks(void **state)
{
    unsigned iterations = 0;
    (void)state;
    core.deliver = deliver_busily;
    net_touch(&net);
    while (delivered < 1000) {
        uv_run(&loop, UV_RUN_NOWAIT);
        iterations++;
    }
    assert_in_range(iterations, 10, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(echo_numeric, setup, teardown),
        cmocka_unit_test_setup_teardown(echo_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(refused, setup, teardown),
        cmocka_unit_test_setup_teardown(peer_dies, setup, teardown),
        cmocka_unit_test_setup_teardown(close_cancels, setup, teardown),
        cmocka_unit_test_setup_teardown(dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(ticks, setup, teardown),
        cmocka_unit_test_setup_teardown(read_before_tick, setup, teardown),
        cmocka_unit_test_setup_teardown(busy_callbacks, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
