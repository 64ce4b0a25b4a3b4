/* driver.c: the loop of one shard.
 *
 * A turn: read the time once; reap the ring (bytes and new connections go straight to the shard,
 * ended ops into a queue); hand the ended ops back; tick if the shard's deadline has passed; end
 * the turn; carry out the ops that came out; log its events; then one system call submits all and
 * waits for the next thing to end. The loop serves from the turn in which the shard is recovered,
 * and leaves when the shard has stopped and every socket is closed.
 *
 * SIGTERM and SIGINT arrive through a descriptor that the ring watches: the first stops the shard,
 * a second leaves on the spot, as a crash would. A start that is interrupted leaves at once:
 * nothing was promised yet. */
#include "driver.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "disk.h"
#include "journal.h"
#include "listen.h"
#include "peers.h"
#include "uring.h"

#define SECOND_NS ((uint64_t)1000000000)

/* Beside the connections' requests: file ops, greetings, the rest. */
enum { TASKS_MORE = 4096, PROGRESS_SECONDS = 5 };

struct driver {
    const struct driver_options *options;
    struct shard *shard;
    struct uring *uring;
    struct disk *disk;
    struct peers *peers;
    struct queue done;  /* ended ops that the shard hasn't got yet */
    uint64_t under_way; /* ops taken and not handed back */
    struct kho_now now;
    uint64_t started_ns;
    uint64_t progress_ns; /* when to tell how far recovery is */
    int signal_fd;
    struct task signal;
    uint32_t signals; /* that came */
    bool serving;     /* it has been said */
    bool stopping;    /* the shard has been told */
};

static struct kho_now time_read(void)
{
    struct timespec mono, wall;
    clock_gettime(CLOCK_MONOTONIC, &mono);
    clock_gettime(CLOCK_REALTIME, &wall);
    return (struct kho_now){
        .mono_ns = (uint64_t)mono.tv_sec * SECOND_NS + (uint64_t)mono.tv_nsec,
        .wall_ms = (uint64_t)wall.tv_sec * 1000 + (uint64_t)wall.tv_nsec / 1000000,
    };
}

/* --- Signals ---------------------------------------------------------------------------------- */

static void signal_ended(struct task *task, int result)
{
    struct driver *driver = KHO_CONTAINER_OF(task, struct driver, signal);
    struct signalfd_siginfo info;
    if (result < 0 && result != -EINTR && result != -EAGAIN)
        return; /* the ring is going away */
    while (read(driver->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        const char *name = info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT";
        if (++driver->signals > 1) {
            journal_write(EVENT_WARNING,
                          "a second signal (%s): leaving at once; what was acknowledged is safe, "
                          "and the next start reads the log as after a crash",
                          name);
            _exit(DRIVER_FAILED);
        }
        journal_write(EVENT_INFO, "%s from pid %u: stopping", name, info.ssi_pid);
    }
    uring_readable(driver->uring, &driver->signal, driver->signal_fd);
}

static int signals_open(struct driver *driver)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return -errno;
    driver->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return driver->signal_fd < 0 ? -errno : 0;
}

/* --- What changes as the shard goes on -------------------------------------------------------- */

static bool serving_begin(struct driver *driver)
{
    const struct driver_options *options = driver->options;
    driver->serving = true;
    int code = listen_start(options->listen_fd);
    if (code != 0) {
        journal_write(EVENT_ERROR, "can't listen on %s: %s%s", options->address, strerror(-code),
                      code == -EADDRINUSE ? "; another process took the port meanwhile" : "");
        return false;
    }
    peers_accept(driver->peers);
    journal_write(EVENT_INFO, "serving on %s: %s, %llu records, started in %llu ms",
                  options->address, options->serving,
                  (unsigned long long)shard_stat(driver->shard, STAT_records),
                  (unsigned long long)(driver->now.mono_ns - driver->started_ns) / 1000000);
    journal_notify("READY=1\nSTATUS=serving");
    return true;
}

static void progress_tell(struct driver *driver)
{
    uint64_t done, total;
    if (driver->now.mono_ns < driver->progress_ns)
        return;
    driver->progress_ns = driver->now.mono_ns + PROGRESS_SECONDS * SECOND_NS;
    shard_progress(driver->shard, &done, &total);
    journal_write(EVENT_INFO, "recovery: %llu of %llu MiB read", (unsigned long long)(done >> 20),
                  (unsigned long long)(total >> 20));
    journal_notify("EXTEND_TIMEOUT_USEC=60000000\nSTATUS=recovering");
}

/* False: leave, with *ret_exit. */
static bool phase_follow(struct driver *driver, enum driver_exit *ret_exit)
{
    enum shard_phase phase = shard_phase(driver->shard);
    *ret_exit = DRIVER_FAILED;
    if (phase == SHARD_FAILED)
        return false;
    if (phase == SHARD_STARTING) {
        progress_tell(driver);
        *ret_exit = DRIVER_DONE;
        return driver->signals == 0;
    }
    if (phase == SHARD_SERVING && !driver->serving && !serving_begin(driver))
        return false;
    *ret_exit = DRIVER_DONE;
    return phase != SHARD_STOPPED || !peers_idle(driver->peers) || !queue_empty(&driver->done);
}

/* --- A turn ----------------------------------------------------------------------------------- */

static void stop_begin(struct driver *driver)
{
    driver->stopping = true;
    journal_notify("STOPPING=1\nSTATUS=stopping");
    peers_stop(driver->peers);
    shard_stop(driver->shard, driver->now);
}

static void inputs_feed(struct driver *driver)
{
    struct queue *link;
    uring_reap(driver->uring);
    while ((link = queue_pop(&driver->done)) != NULL) {
        KHO_ASSERT(driver->under_way > 0);
        driver->under_way--;
        shard_completed(driver->shard, KHO_CONTAINER_OF(link, struct op, link), driver->now);
    }
    peers_deliver(driver->peers);
    disk_tick(driver->disk, driver->now);
    if (driver->signals > 0 && !driver->stopping && shard_phase(driver->shard) == SHARD_SERVING)
        stop_begin(driver);
    if (shard_deadline(driver->shard) <= driver->now.mono_ns)
        shard_tick(driver->shard, driver->now);
}

static void outputs_carry(struct driver *driver)
{
    struct op *op;
    struct event event;
    while ((op = shard_next_op(driver->shard)) != NULL) {
        driver->under_way++;
        queue_init(&op->link);
        if (op->kind >= OP_SEND)
            peers_start(driver->peers, op);
        else
            disk_start(driver->disk, op, driver->now);
    }
    while (shard_next_event(driver->shard, &event))
        journal_write((enum event_level)event.level, "%s", event.text);
}

static uint64_t wait_ns(const struct driver *driver)
{
    if (!queue_empty(&driver->done))
        return 0;
    uint64_t deadline = kho_min(shard_deadline(driver->shard), peers_deadline(driver->peers));
    deadline = kho_min(deadline, disk_deadline(driver->disk));
    if (!driver->serving)
        deadline = kho_min(deadline, driver->progress_ns);
    if (deadline == UINT64_MAX)
        return UINT64_MAX;
    return deadline > driver->now.mono_ns ? deadline - driver->now.mono_ns : 0;
}

static enum driver_exit loop(struct driver *driver)
{
    enum driver_exit result;
    for (;;) {
        driver->now = time_read();
        peers_turn(driver->peers, driver->now);
        inputs_feed(driver);
        shard_turn_end(driver->shard, driver->now);
        outputs_carry(driver);
        if (!phase_follow(driver, &result))
            return result;
        int code = uring_wait(driver->uring, wait_ns(driver));
        if (code != 0) {
            journal_write(EVENT_ERROR, "the ring broke: %s; leaving as after a crash",
                          strerror(-code));
            _exit(DRIVER_FAILED);
        }
    }
}

/* Waits for the ops that a shard left behind which didn't stop in order: the kernel may still write
 * into their buffers. */
static void leftovers_await(struct driver *driver)
{
    peers_stop(driver->peers);
    for (;;) {
        while (queue_pop(&driver->done) != NULL)
            driver->under_way--;
        if (driver->under_way == 0)
            return;
        if (uring_wait(driver->uring, UINT64_MAX) != 0)
            _exit(DRIVER_FAILED);
        driver->now = time_read();
        disk_tick(driver->disk, driver->now);
        uring_reap(driver->uring);
    }
}

/* --- Life ------------------------------------------------------------------------------------- */

static enum driver_exit driver_open(struct driver *driver)
{
    const struct driver_options *options = driver->options;
    char error[URING_ERROR_MAX];
    bool refused = false;
    int code = signals_open(driver);
    if (code != 0) {
        journal_write(EVENT_ERROR, "signals can't be set up: %s", strerror(-code));
        return DRIVER_FAILED;
    }
    driver->uring = uring_create(TASKS_MORE + 3 * options->shard.connections_max, error, &refused);
    if (driver->uring == NULL) {
        journal_write(EVENT_ERROR, "%s", error);
        return refused ? DRIVER_NO_URING : DRIVER_FAILED;
    }
    code = shard_create(&options->shard, &driver->shard);
    if (code == 0) {
        driver->disk = disk_create(driver->uring, options->folder, &driver->done);
        driver->peers = peers_create(driver->uring, driver->shard, options->listen_fd,
                                     options->shard.connections_max, &driver->done);
    }
    if (driver->disk == NULL || driver->peers == NULL) {
        journal_write(EVENT_ERROR, "the shard can't be made: %s",
                      code != 0 ? strerror(-code) : "no memory");
        return DRIVER_FAILED;
    }
    return DRIVER_DONE;
}

enum driver_exit driver_run(const struct driver_options *options)
{
    struct driver driver = {.options = options, .signal_fd = -1, .signal = {.ended = signal_ended}};
    queue_init(&driver.done);
    enum driver_exit result = driver_open(&driver);
    if (result == DRIVER_DONE) {
        const struct folder *folder = options->folder;
        journal_write(EVENT_INFO, "io_uring: %s; direct I/O %s, alignment %u on %s",
                      uring_mode(driver.uring), folder->direct ? "yes" : "no", folder->alignment,
                      folder->system);
        uring_readable(driver.uring, &driver.signal, driver.signal_fd);
        driver.now = time_read();
        driver.started_ns = driver.now.mono_ns;
        driver.progress_ns = driver.now.mono_ns + PROGRESS_SECONDS * SECOND_NS;
        shard_start(driver.shard, folder->files, folder->file_count, driver.now);
        result = loop(&driver);
        leftovers_await(&driver);
        if (result == DRIVER_DONE)
            journal_write(EVENT_INFO, "stopped");
    }
    uring_destroy(driver.uring);
    disk_destroy(driver.disk);
    peers_destroy(driver.peers);
    shard_destroy(driver.shard);
    if (driver.signal_fd >= 0)
        close(driver.signal_fd);
    return result;
}
