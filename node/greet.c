/* greet.c: sockets from accept to HELLO.
 *
 * It owns the accept request on the listening socket and the *greetings*: sockets whose 64 bytes of
 * HELLO are awaited. Exactly these are received, so that the rest is the shard's. A whole HELLO
 * names a shard: the socket becomes one of this shard's connections, or goes into the mailbox of
 * the shard that it names.
 *
 * What strangers can cost is bounded: GREETINGS_MAX sockets without a HELLO, each for ten seconds,
 * where a new one drives out the oldest, so that those who keep silent can't keep the others out.
 * A HELLO that can be answered is refused with its reason; random bytes are not worth one. */
#include "greet.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "journal.h"

#define SECOND_NS ((uint64_t)1000000000)

enum {
    GREETINGS_MAX = 128,
    GREETINGS_ROOM = 2 * GREETINGS_MAX, /* with those that are being closed */
    GREETING_SECONDS = 10,
    FAILURES_SECONDS = 10 /* from one log line about a failed accept to the next */
};

struct greeting {
    struct task task;
    struct greet *greet;
    struct queue link; /* free, or waiting in order of age, or dropped */
    int fd;
    uint64_t deadline_ns;
    uint32_t got;
    bool is_dropped;
    uint8_t hello[KHO_HELLO_CLIENT_SIZE];
};

struct greet {
    struct uring *uring;
    struct peers *peers;
    struct team *team;
    uint32_t shard;
    struct kho_now now;
    int listen_fd;
    struct task accept;
    bool accepting;           /* the accept request is under way */
    bool stopped;             /* no more accepting */
    uint64_t accept_again_ns; /* after a failed accept; UINT64_MAX: not waiting */
    uint64_t failure_log_ns;  /* when the next line about one may be written */
    struct queue free, waiting, dropped;
    uint32_t waiting_count;
    struct greeting greetings[GREETINGS_ROOM];
};

static void accept_ended(struct task *task, int result);
static void greeting_ended(struct task *task, int result);

/* --- Life ------------------------------------------------------------------------------------- */

struct greet *greet_create(struct uring *uring, struct peers *peers, struct team *team,
                           uint32_t shard, int listen_fd)
{
    struct greet *greet = calloc(1, sizeof *greet);
    if (greet == NULL)
        return NULL;
    greet->uring = uring;
    greet->peers = peers;
    greet->team = team;
    greet->shard = shard;
    greet->listen_fd = listen_fd;
    greet->accept.ended = accept_ended;
    greet->accept_again_ns = UINT64_MAX;
    queue_init(&greet->free);
    queue_init(&greet->waiting);
    queue_init(&greet->dropped);
    for (uint32_t i = 0; i < GREETINGS_ROOM; i++) {
        struct greeting *greeting = &greet->greetings[i];
        greeting->task.ended = greeting_ended;
        greeting->greet = greet;
        greeting->fd = -1;
        queue_push(&greet->free, &greeting->link);
    }
    return greet;
}

void greet_destroy(struct greet *greet)
{
    if (greet == NULL)
        return;
    for (uint32_t i = 0; i < GREETINGS_ROOM; i++) {
        if (greet->greetings[i].fd >= 0)
            close(greet->greetings[i].fd);
    }
    free(greet);
}

void greet_turn(struct greet *greet, struct kho_now now)
{
    greet->now = now;
}

bool greet_idle(const struct greet *greet)
{
    return !greet->accepting && greet->waiting_count == 0 && queue_empty(&greet->dropped);
}

/* --- Greetings -------------------------------------------------------------------------------- */

static void greeting_release(struct greeting *greeting)
{
    struct greet *greet = greeting->greet;
    if (!greeting->is_dropped)
        greet->waiting_count--;
    queue_remove(&greeting->link);
    queue_push(&greet->free, &greeting->link);
    greeting->fd = -1;
}

/* Its receive ends soon, and the socket is closed then. */
static void greeting_drop(struct greeting *greeting)
{
    KHO_ASSERT(!greeting->is_dropped);
    greeting->is_dropped = true;
    greeting->greet->waiting_count--;
    queue_remove(&greeting->link);
    queue_push(&greeting->greet->dropped, &greeting->link);
    shutdown(greeting->fd, SHUT_RDWR);
}

static struct greeting *greeting_oldest(const struct greet *greet)
{
    return KHO_CONTAINER_OF(greet->waiting.next, struct greeting, link);
}

static void greeting_receive(struct greeting *greeting)
{
    uring_receive(greeting->greet->uring, &greeting->task, greeting->fd,
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

static void greeting_begin(struct greet *greet, int fd)
{
    socket_tune(fd);
    if (greet->waiting_count >= GREETINGS_MAX) {
        peers_refused(greet->peers, greeting_oldest(greet)->fd,
                      "too many connections say no HELLO, and it was the oldest");
        greeting_drop(greeting_oldest(greet));
    }
    struct queue *link = queue_pop(&greet->free);
    if (link == NULL) {
        close(fd);
        return;
    }
    struct greeting *greeting = KHO_CONTAINER_OF(link, struct greeting, link);
    greeting->fd = fd;
    greeting->got = 0;
    greeting->is_dropped = false;
    greeting->deadline_ns = greet->now.mono_ns + GREETING_SECONDS * SECOND_NS;
    queue_push(&greet->waiting, &greeting->link);
    greet->waiting_count++;
    greeting_receive(greeting);
}

/* The HELLO is whole: the socket goes to its shard, or is closed here. */
static void greeting_finish(struct greeting *greeting)
{
    struct greet *greet = greeting->greet;
    struct wire_hello_client hello;
    int fd = greeting->fd;
    int code = wire_hello_client_decode(greeting->hello, &hello);
    greeting_release(greeting);
    if (code == KHO_EMALFORMED && kho_load32(greeting->hello) != KHO_HELLO_MAGIC) {
        peers_refused(greet->peers, fd, "its first bytes are no HELLO of kho's");
        close(fd);
    } else if (code != 0) {
        peers_refuse(greet->peers, fd, code);
    } else if (hello.shard == greet->shard || hello.shard >= team_shards(greet->team)) {
        peers_take(greet->peers, fd, &hello); /* the shard refuses one that isn't its own */
    } else if (!team_hand_over(greet->team, hello.shard, fd, &hello)) {
        peers_refuse(greet->peers, fd, KHO_ESTOPPING);
    }
}

static void greeting_ended(struct task *task, int result)
{
    struct greeting *greeting = KHO_CONTAINER_OF(task, struct greeting, task);
    bool again = result == -EINTR || result == -EAGAIN;
    if (greeting->is_dropped || (result <= 0 && !again)) {
        close(greeting->fd);
        greeting_release(greeting);
        return;
    }
    greeting->got += again ? 0 : (uint32_t)result;
    if (greeting->got < sizeof greeting->hello)
        greeting_receive(greeting); /* until its deadline at most */
    else
        greeting_finish(greeting);
}

/* --- Accepting -------------------------------------------------------------------------------- */

static void accept_arm(struct greet *greet)
{
    KHO_ASSERT(!greet->accepting);
    greet->accept_again_ns = UINT64_MAX;
    greet->accepting = true;
    uring_accept(greet->uring, &greet->accept, greet->listen_fd);
}

void greet_accept(struct greet *greet)
{
    if (!greet->stopped)
        accept_arm(greet);
}

static void accept_ended(struct task *task, int result)
{
    struct greet *greet = KHO_CONTAINER_OF(task, struct greet, accept);
    greet->accepting = false;
    if (result >= 0) {
        if (greet->stopped)
            close(result);
        else
            greeting_begin(greet, result);
    }
    if (greet->stopped)
        return;
    if (result >= 0 || result == -EINTR || result == -ECONNABORTED) {
        accept_arm(greet);
        return;
    }
    /* EMFILE and its like pass when sockets close; trying at once would only burn the core. */
    greet->accept_again_ns = greet->now.mono_ns + SECOND_NS / 10;
    if (greet->now.mono_ns >= greet->failure_log_ns) {
        greet->failure_log_ns = greet->now.mono_ns + FAILURES_SECONDS * SECOND_NS;
        journal_write(EVENT_WARNING, "no connection can be accepted: %s%s", strerror(-result),
                      result == -EMFILE ? "; raise the limit of open files (LimitNOFILE)" : "");
    }
}

void greet_stop(struct greet *greet)
{
    if (greet->stopped)
        return;
    greet->stopped = true;
    greet->accept_again_ns = UINT64_MAX;
    /* Ends the accept under way, and refuses who comes from now on. */
    shutdown(greet->listen_fd, SHUT_RDWR);
    while (!queue_empty(&greet->waiting))
        greeting_drop(greeting_oldest(greet));
}

/* --- Once a turn ------------------------------------------------------------------------------ */

void greet_tick(struct greet *greet)
{
    while (!queue_empty(&greet->waiting) &&
           greeting_oldest(greet)->deadline_ns <= greet->now.mono_ns) {
        peers_refused(greet->peers, greeting_oldest(greet)->fd,
                      "it sent no whole HELLO within 10 s");
        greeting_drop(greeting_oldest(greet));
    }
    if (greet->accept_again_ns <= greet->now.mono_ns)
        accept_arm(greet);
}

uint64_t greet_deadline(const struct greet *greet)
{
    uint64_t first = greet->accept_again_ns;
    if (!queue_empty(&greet->waiting))
        first = kho_min(first, greeting_oldest(greet)->deadline_ns);
    return first;
}
