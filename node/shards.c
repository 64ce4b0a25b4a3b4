/* shards.c: the node's shards as threads, and what the process does as a whole.
 *
 * The calling thread makes the team, starts a thread for each shard (driver.c) and then only waits:
 * for signals and for the shards' news. When all of them have recovered it listens, lets the first
 * one accept, and says that the node serves. The first SIGTERM or SIGINT stops them all, each in
 * order; a second leaves on the spot, as a crash would.
 *
 * A shard that can't start, or ends before it was told to, takes the node with it: the others are
 * stopped in order, and the exit code is the failed one's. A disk that fails leaves its shard
 * read-only (R4), and the others go on. */
#include "shards.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "journal.h"
#include "listen.h"

struct worker {
    pthread_t thread;
    struct driver_options driver;
};

struct node {
    const struct shards_options *options;
    struct team *team;
    int signal_fd;
    uint64_t started_ns;
    uint32_t signals; /* that came */
    bool listening, stopping;
    bool failed; /* to listen */
    uint32_t count;
    struct worker *workers;
};

static uint64_t mono_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- Threads ---------------------------------------------------------------------------------- */

static void *worker_run(void *argument)
{
    struct worker *worker = argument;
    const struct driver_options *driver = &worker->driver;
    char name[16]; /* the kernel's bound; top and perf show it */
    snprintf(name, sizeof name, "kho shard %u", driver->shard.shard % 1000);
    pthread_setname_np(pthread_self(), name);
    team_reached(driver->team, driver->shard.shard, TEAM_ENDED, 0, (int)driver_run(driver));
    return NULL;
}

/* False: it could not be started, and nothing of it is left. */
static bool worker_start(struct node *node, uint32_t number)
{
    const struct shards_options *options = node->options;
    struct worker *worker = &node->workers[number];
    const struct shard_folder *folder = &options->folder->shards[number];
    worker->driver = (struct driver_options){.shard = options->shard,
                                             .folder = folder,
                                             .team = node->team,
                                             .watch_ns = options->watch_ns,
                                             .listen_fd = options->listen_fd};
    struct shard_options *shard = &worker->driver.shard;
    shard->shard = number;
    shard->shard_count = node->count;
    shard->alignment = folder->alignment;
    int code = 0;
    if (getrandom(&shard->seed, sizeof shard->seed, 0) != (ssize_t)sizeof shard->seed)
        code = EIO;
    if (code == 0)
        code = pthread_create(&worker->thread, NULL, worker_run, worker);
    if (code == 0)
        return true;
    journal_write(EVENT_ERROR, "the thread of shard %u can't be started: %s", number,
                  strerror(code));
    return false;
}

/* --- What happens ----------------------------------------------------------------------------- */

static void stop_begin(struct node *node)
{
    if (node->stopping)
        return;
    node->stopping = true;
    journal_notify("STOPPING=1\nSTATUS=stopping");
    team_stop(node->team);
}

static void signals_read(struct node *node)
{
    struct signalfd_siginfo info;
    while (read(node->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        const char *name = info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT";
        if (++node->signals > 1) {
            journal_write(EVENT_WARNING,
                          "a second signal (%s): leaving at once; what was acknowledged is safe, "
                          "and the next start reads the log as after a crash",
                          name);
            _exit(DRIVER_FAILED);
        }
        journal_write(EVENT_INFO, "%s from pid %u: stopping", name, info.ssi_pid);
        stop_begin(node);
    }
}

static void listen_begin(struct node *node, const struct team_count *count)
{
    const struct shards_options *options = node->options;
    int code = listen_start(options->listen_fd);
    node->listening = true;
    if (code != 0) {
        journal_write(EVENT_ERROR, "can't listen on %s: %s%s", options->address, strerror(-code),
                      code == -EADDRINUSE ? "; another process took the port meanwhile" : "");
        node->failed = true;
        stop_begin(node);
        return;
    }
    team_accept(node->team, 0);
    journal_write(EVENT_INFO, "serving on %s: %s, %u shard%s, %llu records, started in %llu ms",
                  options->address, options->serving, node->count, node->count == 1 ? "" : "s",
                  (unsigned long long)count->records,
                  (unsigned long long)(mono_ns() - node->started_ns) / 1000000);
    journal_notify("READY=1\nSTATUS=serving");
}

/* Until all of `started` threads have ended. */
static void news_follow(struct node *node, uint32_t started)
{
    struct team_count count = {.ended = 0};
    while (count.ended < started) {
        struct pollfd watched[] = {{.fd = node->signal_fd, .events = POLLIN},
                                   {.fd = team_news(node->team), .events = POLLIN}};
        uint64_t news;
        if (poll(watched, KHO_COUNT_OF(watched), -1) < 0)
            continue; /* EINTR */
        ssize_t len = read(team_news(node->team), &news, sizeof news);
        (void)len; /* none is no harm */
        signals_read(node);
        team_count(node->team, &count);
        if (count.ended > 0)
            stop_begin(node);
        else if (count.serving == node->count && !node->listening && !node->stopping)
            listen_begin(node, &count);
    }
}

/* --- Life ------------------------------------------------------------------------------------- */

/* Blocked before there are other threads, which inherit it. */
static int signals_open(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return -errno;
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

static enum driver_exit node_run(struct node *node)
{
    uint32_t started = 0;
    struct team_count count;
    while (started < node->count && worker_start(node, started))
        started++;
    if (started < node->count) {
        node->failed = true;
        stop_begin(node);
    }
    news_follow(node, started);
    for (uint32_t i = 0; i < started; i++)
        pthread_join(node->workers[i].thread, NULL);
    team_count(node->team, &count);
    if (count.result != 0)
        return (enum driver_exit)count.result;
    return node->failed ? DRIVER_FAILED : DRIVER_DONE;
}

enum driver_exit shards_run(const struct shards_options *options)
{
    struct node node = {.options = options,
                        .count = options->folder->identity.shard_count,
                        .started_ns = mono_ns()};
    enum driver_exit result = DRIVER_FAILED;
    int code;
    node.signal_fd = signals_open();
    if (node.signal_fd < 0) {
        journal_write(EVENT_ERROR, "signals can't be set up: %s", strerror(-node.signal_fd));
        return DRIVER_FAILED;
    }
    node.workers = calloc(node.count, sizeof *node.workers);
    code = node.workers == NULL ? -ENOMEM : team_create(node.count, &node.team);
    if (code != 0)
        journal_write(EVENT_ERROR, "the shards can't be made: %s", strerror(-code));
    else
        result = node_run(&node);
    if (result == DRIVER_DONE)
        journal_write(EVENT_INFO, "stopped");
    team_destroy(node.team);
    free(node.workers);
    close(node.signal_fd);
    return result;
}
