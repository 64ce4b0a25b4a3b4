/* driver.c: the loop of one shard.
 *
 * A turn: read the time once; reap the ring (bytes and new connections go straight to the shard,
 * ended ops into a queue); hand the ended ops back; tick if the shard's deadline has passed; end
 * the turn; carry out the ops that came out; log its events; then one system call submits all and
 * waits for the next thing to end. The loop serves from the turn in which the shard is recovered,
 * and leaves when the shard has stopped and every socket is closed.
 *
 * What comes from the node's other threads arrives by mail, whose bell the ring watches: sockets
 * for this shard, the word to accept (one shard does that for all), the word to stop. A map that
 * another shard got is taken over from the team, and tried again a little later where it can't be
 * stored now; of one that this shard got the team is told. A start that is told to stop leaves at
 * once: nothing was promised yet. */
#include "driver.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "disk.h"
#include "greet.h"
#include "journal.h"
#include "uring.h"

#define SECOND_NS ((uint64_t)1000000000)

/* Beside the connections' requests: file ops, greetings, the rest. */
enum { TASKS_MORE = 4096, PROGRESS_SECONDS = 5, MAP_AGAIN_MS = 100, MAP_SPREAD_MS = 1000 };

struct driver {
    const struct driver_options *options;
    struct shard *shard;
    struct uring *uring;
    struct disk *disk;
    struct peers *peers;
    struct greet *greet;
    struct queue done;  /* ended ops that the shard hasn't got yet */
    uint64_t under_way; /* ops taken and not handed back */
    struct kho_now now;
    uint64_t progress_ns;   /* when to tell how far recovery is */
    uint64_t map_told;      /* epoch of the map that the team was told of */
    uint64_t map_spread;    /* of the one that all shards go by, as far as the shard was told */
    uint64_t map_spread_ns; /* until then the others are waited for */
    uint64_t map_again_ns;  /* not before then another attempt to take the team's map */
    struct task bell;
    bool serving;  /* it has been said */
    bool stop;     /* the mail said so */
    bool stopping; /* the shard has been told */
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

/* --- Mail ------------------------------------------------------------------------------------- */

static void mail_read(struct driver *driver)
{
    struct team *team = driver->options->team;
    uint32_t shard = driver->options->shard.shard;
    struct team_mail mail;
    struct wire_hello_client hello;
    int fd;
    team_collect(team, shard, &mail);
    if (mail.accept)
        greet_accept(driver->greet);
    while (team_next_socket(team, shard, &fd, &hello))
        peers_take(driver->peers, fd, &hello);
    driver->stop = driver->stop || mail.stop;
}

static void bell_rang(struct task *task, int result)
{
    struct driver *driver = KHO_CONTAINER_OF(task, struct driver, bell);
    int bell = team_bell(driver->options->team, driver->options->shard.shard);
    uint64_t rings;
    if (result < 0 && result != -EINTR && result != -EAGAIN)
        return; /* the ring is going away */
    /* Silenced before the mail is read: what comes meanwhile rings again. */
    ssize_t len = read(bell, &rings, sizeof rings);
    (void)len;
    mail_read(driver);
    uring_readable(driver->uring, &driver->bell, bell);
}

/* Another shard of the node has a newer map, and this one could take it. */
static bool map_wanted(const struct driver *driver)
{
    return team_epoch(driver->options->team) > shard_epoch(driver->shard) &&
           shard_phase(driver->shard) == SHARD_SERVING;
}

/* Keeps the maps of the node's shards alike: what is newer here is told, what is newer there is
 * taken over. A shard that can't store it is waited for no longer than MAP_SPREAD_MS. */
static void map_follow(struct driver *driver)
{
    struct team *team = driver->options->team;
    uint64_t own = shard_epoch(driver->shard), now_ns = driver->now.mono_ns;
    if (own > driver->map_told &&
        team_map_in_force(team, driver->options->shard.shard, shard_map(driver->shard))) {
        driver->map_told = own;
        driver->map_spread_ns = now_ns + MAP_SPREAD_MS * (SECOND_NS / 1000);
    }
    if (driver->map_told > driver->map_spread &&
        (team_epoch_lowest(team) >= driver->map_told || now_ns >= driver->map_spread_ns)) {
        driver->map_spread = driver->map_told;
        shard_map_spread(driver->shard, driver->map_spread, driver->now);
    }
    if (!map_wanted(driver) || now_ns < driver->map_again_ns)
        return;
    driver->map_again_ns = now_ns + MAP_AGAIN_MS * (SECOND_NS / 1000);
    size_t length;
    uint8_t *bytes = team_map_copy(team, &length);
    if (bytes != NULL)
        shard_map_set(driver->shard, bytes, length, driver->now);
    free(bytes);
}

static uint64_t map_deadline(const struct driver *driver)
{
    uint64_t first = UINT64_MAX;
    if (map_wanted(driver))
        first = driver->map_again_ns;
    if (driver->map_told > driver->map_spread)
        first = kho_min(first, driver->map_spread_ns);
    return first;
}

/* --- What changes as the shard goes on -------------------------------------------------------- */

static void serving_begin(struct driver *driver)
{
    driver->serving = true;
    team_reached(driver->options->team, driver->options->shard.shard, TEAM_SERVING,
                 shard_stat(driver->shard, STAT_records), 0);
}

static void progress_tell(struct driver *driver)
{
    uint64_t done, total;
    if (driver->now.mono_ns < driver->progress_ns)
        return;
    driver->progress_ns = driver->now.mono_ns + PROGRESS_SECONDS * SECOND_NS;
    shard_progress(driver->shard, &done, &total);
    journal_write(EVENT_INFO, "shard %u: recovery: %llu of %llu MiB read",
                  driver->options->shard.shard, (unsigned long long)(done >> 20),
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
        return !driver->stop;
    }
    if (phase == SHARD_SERVING && !driver->serving)
        serving_begin(driver);
    *ret_exit = DRIVER_DONE;
    return phase != SHARD_STOPPED || !peers_idle(driver->peers) || !greet_idle(driver->greet) ||
           !queue_empty(&driver->done);
}

/* --- A turn ----------------------------------------------------------------------------------- */

static void stop_begin(struct driver *driver)
{
    driver->stopping = true;
    greet_stop(driver->greet);
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
    peers_settled(driver->peers);
    greet_tick(driver->greet);
    disk_tick(driver->disk, driver->now);
    map_follow(driver);
    if (driver->stop && !driver->stopping && shard_phase(driver->shard) == SHARD_SERVING)
        stop_begin(driver);
    if (shard_deadline(driver->shard) <= driver->now.mono_ns)
        shard_tick(driver->shard, driver->now);
}

/* Where there are several shards, the line says whose it is, unless the text does. */
static void event_write(const struct driver *driver, const struct event *event)
{
    const struct shard_options *shard = &driver->options->shard;
    bool alone = shard->shard_count == 1 || strncmp(event->text, "shard ", 6) == 0;
    if (alone)
        journal_write((enum event_level)event->level, "%s", event->text);
    else
        journal_write((enum event_level)event->level, "shard %u: %s", shard->shard, event->text);
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
        event_write(driver, &event);
}

static uint64_t wait_ns(const struct driver *driver)
{
    if (!queue_empty(&driver->done))
        return 0;
    uint64_t deadline = kho_min(shard_deadline(driver->shard), greet_deadline(driver->greet));
    deadline = kho_min(deadline, disk_deadline(driver->disk));
    if (!driver->serving)
        deadline = kho_min(deadline, driver->progress_ns);
    deadline = kho_min(deadline, map_deadline(driver));
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
        greet_turn(driver->greet, driver->now);
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
    greet_stop(driver->greet);
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

/* Where it can't, the node goes on without and says so. */
static void areas_register(const struct driver *driver)
{
    struct io_area areas[IO_AREAS_MAX];
    uint32_t count = shard_areas(driver->shard, areas);
    int code = uring_register(driver->uring, areas, count);
    if (code == 0)
        return;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += areas[i].bytes;
    journal_write(
        EVENT_WARNING,
        "shard %u writes from buffers that the kernel has to look up each time: %s; raise "
        "RLIMIT_MEMLOCK (LimitMEMLOCK= of the unit) by %llu KiB a shard",
        driver->options->shard.shard, strerror(-code), (unsigned long long)(bytes >> 10));
}

static enum driver_exit driver_open(struct driver *driver)
{
    const struct driver_options *options = driver->options;
    char error[URING_ERROR_MAX];
    bool refused = false;
    driver->uring = uring_create(TASKS_MORE + 3 * options->shard.connections_max, error, &refused);
    if (driver->uring == NULL) {
        journal_write(EVENT_ERROR, "%s", error);
        return refused ? DRIVER_NO_URING : DRIVER_FAILED;
    }
    uring_watch(driver->uring, options->watch_ns);
    int code = shard_create(&options->shard, &driver->shard);
    if (code == 0) {
        driver->disk = disk_create(driver->uring, options->folder, &driver->done);
        driver->peers = peers_create(driver->uring, driver->shard, options->shard.connections_max,
                                     &driver->done);
    }
    if (driver->peers != NULL)
        driver->greet = greet_create(driver->uring, driver->peers, options->team,
                                     options->shard.shard, options->listen_fd);
    if (driver->disk == NULL || driver->greet == NULL) {
        journal_write(EVENT_ERROR, "shard %u can't be made: %s", options->shard.shard,
                      code != 0 ? strerror(-code) : "no memory");
        return DRIVER_FAILED;
    }
    areas_register(driver);
    return DRIVER_DONE;
}

enum driver_exit driver_run(const struct driver_options *options)
{
    struct driver driver = {.options = options, .bell = {.ended = bell_rang}};
    const struct shard_folder *folder = options->folder;
    queue_init(&driver.done);
    enum driver_exit result = driver_open(&driver);
    if (result == DRIVER_DONE) {
        if (options->shard.shard == 0)
            journal_write(EVENT_INFO, "io_uring: %s; direct I/O %s, alignment %u on %s",
                          uring_mode(driver.uring), folder->direct ? "yes" : "no",
                          folder->alignment, folder->system);
        uring_readable(driver.uring, &driver.bell, team_bell(options->team, options->shard.shard));
        driver.now = time_read();
        driver.progress_ns = driver.now.mono_ns + PROGRESS_SECONDS * SECOND_NS;
        shard_start(driver.shard, folder->files, folder->file_count, driver.now);
        result = loop(&driver);
        leftovers_await(&driver);
    }
    uring_destroy(driver.uring);
    disk_destroy(driver.disk);
    greet_destroy(driver.greet);
    peers_destroy(driver.peers);
    shard_destroy(driver.shard);
    return result;
}
