/* main.c: the program kho-node: its commands, and what `run` sets up before the shards' loops.
 *
 * `run`: options, limits, the listening socket, the data folder (locked), random identities, then
 * shards_run() until a signal. The listening socket comes first, since it changes nothing. Exit
 * codes stand in the help below. */
#include <errno.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "folder.h"
#include "init.h"
#include "journal.h"
#include "listen.h"
#include "options.h"
#include "shards.h"

static const uint64_t DAY_MS = 24ull * 3600 * 1000;

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NO_URING = 3 };

static const char help_text[] =
    "NAME\n"
    "  kho-node - storage node of kho\n"
    "\n"
    "SYNOPSIS\n"
    "  kho-node init DIR [--segment-size SIZE] [--shards N] [--json]\n"
    "  kho-node run DIR [--listen HOST:PORT] [--memory SIZE] [--config FILE] ...\n"
    "  kho-node help | version\n"
    "\n"
    "INIT\n"
    "  Makes the data folder DIR (mode 0700) with a new random incarnation. DIR must not exist or\n"
    "  must be empty: records are never overwritten.\n"
    "  --segment-size SIZE  of a segment file, 32M to 256M, a multiple of 1M (256M)\n"
    "  --shards N           shards of the folder, 1 to 256, fixed from then on: each is a thread "
    "with\n"
    "                       a log of its own, so one for each core that the node may use (1)\n"
    "  --json               prints what was made as one JSON object\n"
    "\n"
    "RUN\n"
    "  Serves the data folder DIR until SIGTERM or SIGINT; then it finishes what is in flight and\n"
    "  leaves. A second signal makes it leave at once, which is as safe as a crash.\n"
    "  --data DIR           the data folder, where it isn't given as a word\n"
    "  --listen HOST:PORT   where to listen; port 0: any free one, named in the log\n"
    "                       (127.0.0.1:7700)\n"
    "  --insecure           allows an address beyond loopback though there is no TLS: whoever\n"
    "                       reaches it can read and write all records\n"
    "  --shards N           refuse to serve a folder of another number of shards\n"
    "  --memory SIZE        bound on the node's memory: index, cache and buffers, divided among "
    "its\n"
    "                       shards; at it new keys are refused as full. At least 72M a shard (1G)\n"
    "  --connections N      clients served at once, each by all shards, 1 to 16384 (256); near "
    "it,\n"
    "                       those that ask nothing for 5 s make room for others\n"
    "  --reserve SIZE       free disk below which user writes are refused (deletes and repair\n"
    "                       below half of it)\n"
    "  --compact-rate SIZE  bytes a second of the segments that compaction reads, to copy what is\n"
    "                       wanted and give the disk back the rest, once half of what is full is\n"
    "                       dead; more while the disk is short. 0: none (64M)\n"
    "  --scrub-days N       everything is read again and its hashes checked within so many days,\n"
    "                       0 to 3650; 0: never (14)\n"
    "  --idle-mark-ms N     after so long without a write the log's end is marked, 1 to 60000\n"
    "  --commits N          commits in flight at once, 1 to 16\n"
    "  --watch-us N         how long a shard looks for the next thing to end before it sleeps, "
    "while\n"
    "                       that pays, 0 to 1000 (50): single requests end sooner, for more CPU\n"
    "  --log-level LEVEL    info, warning or error (info)\n"
    "  --config FILE        options from a file: \"name = value\" lines, names as above without\n"
    "                       dashes, switches as yes or no; a flag wins over the file\n"
    "\n"
    "  SIZE is a number of bytes, or one with K, M, G or T (powers of 1024).\n"
    "\n"
    "LOG\n"
    "  Standard error, one line an event. \"serving on HOST:PORT\" says that clients are taken;\n"
    "  under systemd the unit becomes ready then (Type=notify).\n"
    "\n"
    "ENVIRONMENT\n"
    "  NOTIFY_SOCKET, JOURNAL_STREAM  set by systemd: readiness, and priorities instead of times\n"
    "  NO_COLOR                       no colours on a terminal\n"
    "\n"
    "EXIT STATUS\n"
    "  0  done, or stopped by a signal\n"
    "  1  failed: the last line of the log says at what\n"
    "  2  wrong command, option or configuration file\n"
    "  3  this machine refuses io_uring, and there is no other engine; the log names the remedy\n";

static int usage_refuse(const char *error)
{
    fprintf(stderr, "kho-node: %s\nTry 'kho-node help'.\n", error);
    return EXIT_USAGE;
}

static int help_print(void)
{
    fputs(help_text, stdout);
    return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

/* Connections, segment files and the rest; the hard limit is the administrator's. */
static void limits_raise(uint64_t connections)
{
    struct rlimit limit;
    const rlim_t want = (rlim_t)connections + 4096;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_max < want)
        journal_write(EVENT_WARNING,
                      "the limit of open files is %llu, and %llu may be needed: raise it "
                      "(LimitNOFILE, ulimit -n)",
                      (unsigned long long)limit.rlim_max, (unsigned long long)want);
}

static int folder_serve(const struct options *options, const struct folder *folder, int listen_fd,
                        const char *address)
{
    char incarnation[33], memory[32], serving[OPTIONS_PATH_MAX + 128];
    struct shards_options shards = {.folder = folder,
                                    .watch_ns = options->watch_us * 1000,
                                    .listen_fd = listen_fd,
                                    .address = address,
                                    .serving = serving};
    struct shard_options *shard = &shards.shard;
    uint32_t count = folder->identity.shard_count;
    shard_options_init(shard);
    shard->incarnation = folder->identity.incarnation;
    shard->segment_bytes = folder->identity.segment_bytes;
    shard->connections_max = (uint32_t)options->connections;
    shard->memory_max = options_shard_memory(options, count);
    shard->commits_max = (uint32_t)options->commits;
    shard->idle_mark_ms = (uint32_t)options->idle_mark_ms;
    shard->reserve_bytes = options->reserve_bytes;
    /* The shards share the disk. */
    shard->compact_rate = (options->compact_rate + count - 1) / count;
    shard->scrub_ms = options->scrub_days * DAY_MS;
    if (getrandom(shard->boot.bytes, sizeof shard->boot.bytes, 0) !=
        (ssize_t)sizeof shard->boot.bytes) {
        journal_write(EVENT_ERROR, "no random bytes: %s", strerror(errno));
        return EXIT_FAILED;
    }
    folder_id_text(&folder->identity.incarnation, incarnation);
    options_size_text(options->memory_bytes, memory, sizeof memory);
    limits_raise(options->connections * count);
    snprintf(serving, sizeof serving, "folder %s, incarnation %s, memory %s", options->data,
             incarnation, memory);
    switch (shards_run(&shards)) {
    case DRIVER_DONE:
        return EXIT_DONE;
    case DRIVER_NO_URING:
        return EXIT_NO_URING;
    case DRIVER_FAILED:
        break;
    }
    return EXIT_FAILED;
}

static int run(int argc, char **argv)
{
    static struct options options;
    char error[OPTIONS_ERROR_MAX], address[300];
    struct folder folder;
    if (options_read_run(argc, argv, &options, error) != 0)
        return usage_refuse(error);
    if (options.help)
        return help_print();
    journal_open((enum event_level)options.log_level);
    signal(SIGPIPE, SIG_IGN);
    int listen_fd = listen_bind(options.listen, options.insecure != 0, address, sizeof address,
                                error, sizeof error);
    if (listen_fd < 0) {
        journal_write(EVENT_ERROR, "%s", error);
        return listen_fd == -2 ? EXIT_USAGE : EXIT_FAILED;
    }
    int result = EXIT_FAILED;
    if (folder_open(options.data, &folder, error) != 0) {
        journal_write(EVENT_ERROR, "%s", error);
    } else if (options_shards_check(&options, folder.identity.shard_count, error) != 0) {
        journal_write(EVENT_ERROR, "%s", error);
        folder_close(&folder);
        result = EXIT_USAGE;
    } else {
        result = folder_serve(&options, &folder, listen_fd, address);
        folder_close(&folder);
    }
    close(listen_fd);
    return result;
}

static int init(int argc, char **argv)
{
    static struct options options;
    char error[OPTIONS_ERROR_MAX];
    if (options_read_init(argc, argv, &options, error) != 0)
        return usage_refuse(error);
    if (options.help)
        return help_print();
    journal_open((enum event_level)options.log_level);
    return init_run(&options);
}

int main(int argc, char **argv)
{
    char error[256];
    const char *command = argc > 1 ? argv[1] : "";
    if (strcmp(command, "run") == 0)
        return run(argc - 1, argv + 1);
    if (strcmp(command, "init") == 0)
        return init(argc - 1, argv + 1);
    if (strcmp(command, "help") == 0 || strcmp(command, "--help") == 0 ||
        strcmp(command, "-h") == 0)
        return help_print();
    if (strcmp(command, "version") == 0 || strcmp(command, "--version") == 0) {
        printf("kho-node %s (protocol %u)\n", KHO_VERSION, KHO_PROTOCOL);
        return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
    }
    if (argc < 2)
        return usage_refuse("no command: init, run, help or version");
    snprintf(error, sizeof error, "\"%.100s\" is no command: init, run, help or version", command);
    return usage_refuse(error);
}
