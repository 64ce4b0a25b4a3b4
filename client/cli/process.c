/* process.c: the processes of a local cluster: finding kho-node, starting nodes as daemons, waiting
 * until they serve, signalling them.
 *
 * A node is a session of its own (setsid), its input /dev/null, its output the log. It serves once
 * its log says "serving on": that is looked for behind what the log held before. A process counts
 * as a node's only if /proc shows kho-node running on that node's data folder, and it is signalled
 * through a pidfd taken before that look: never another process that inherited the number. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "local.h"
#include "print.h"
#include "progress.h"

enum { READY_MS = 30000, STOP_MS = 30000, LOOK_MS = 5, LOG_TAIL = 2048 };

/* kho-node beside this program, else on PATH. */
static bool find_program(char *path)
{
    ssize_t len = readlink("/proc/self/exe", path, PATH_MAX - 16);
    if (len > 0) {
        path[len] = '\0';
        char *slash = strrchr(path, '/');
        if (slash != NULL) {
            strcpy(slash + 1, "kho-node");
            if (access(path, X_OK) == 0)
                return true;
        }
    }
    const char *at = getenv("PATH");
    while (at != NULL && *at != '\0') {
        int part = (int)strcspn(at, ":");
        if (snprintf(path, PATH_MAX, "%.*s/kho-node", part, at) < PATH_MAX &&
            access(path, X_OK) == 0)
            return true;
        at += part + (at[part] == ':');
    }
    say("can't find kho-node beside this program or on PATH; build it (cmake --build build)");
    return false;
}

/* Whether /proc/PID is kho-node on this data folder. A zombie has no command line. */
static bool is_node(pid_t pid, const char *data)
{
    char path[64], line[PATH_MAX * 2];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t len = read(fd, line, sizeof line - 1);
    close(fd);
    if (len <= 0)
        return false;
    line[len] = '\0';
    const char *slash = strrchr(line, '/');
    if (strcmp(slash != NULL ? slash + 1 : line, "kho-node") != 0)
        return false;
    for (const char *at = line; at < line + len; at += strlen(at) + 1)
        if (strcmp(at, data) == 0)
            return true;
    return false;
}

pid_t local_pid(const struct local *local, const struct local_node *node, int *ret_fd)
{
    char path[PATH_MAX], text[16] = "";
    FILE *in = fopen(local_path(local, node, "pid", path), "re");
    if (in == NULL)
        return 0;
    bool read = fgets(text, sizeof text, in) != NULL;
    fclose(in);
    long written = read ? strtol(text, NULL, 10) : 0;
    if (written <= 1 || written > INT_MAX)
        return 0;
    pid_t number = (pid_t)written;
    int fd = pidfd_open(number, 0);
    if (fd < 0)
        return 0;
    if (!is_node(number, local_path(local, node, "data", path))) {
        close(fd);
        return 0;
    }
    if (ret_fd != NULL)
        *ret_fd = fd;
    else
        close(fd);
    return number;
}

int local_signal(const struct local *local, const struct local_node *node, int signal_number)
{
    int fd = -1, rc = 0;
    char path[PATH_MAX];
    pid_t pid = local_pid(local, node, &fd);
    if (pid == 0)
        return -ESRCH;
    if (pidfd_send_signal(fd, signal_number, NULL, 0) != 0 && errno != ESRCH)
        rc = -errno;
    struct pollfd gone = {.fd = fd, .events = POLLIN};
    if (rc == 0 && poll(&gone, 1, STOP_MS) == 0)
        rc = -ETIMEDOUT;
    close(fd);
    if (rc == 0)
        unlink(local_path(local, node, "pid", path));
    else
        say("node %s (process %d) didn't end: %s; its log is %s", node->name, (int)pid,
            kho_strerror(rc), local_path(local, node, "log", path));
    return rc;
}

/* --- Starting --------------------------------------------------------------------------------- */

struct start {
    uv_process_t process;
    const struct local *local;
    const struct local_node *node;
    off_t log_from;
    int64_t exit_status;
    int signal_number;
    bool spawned, serving, ended;
};

static void exit_cb(uv_process_t *process, int64_t exit_status, int signal_number)
{
    struct start *start = process->data;
    start->ended = true;
    start->exit_status = exit_status;
    start->signal_number = signal_number;
}

/* Reads the log behind `from`, at most its last `size` - 1 bytes, as text. */
static void read_log(const struct start *start, off_t from, char *text, size_t size)
{
    char path[PATH_MAX];
    struct stat stat;
    text[0] = '\0';
    int fd = open(local_path(start->local, start->node, "log", path), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &stat) == 0 && stat.st_size - from > (off_t)size - 1)
        from = stat.st_size - ((off_t)size - 1);
    ssize_t len = pread(fd, text, size - 1, from);
    text[len > 0 ? len : 0] = '\0';
    close(fd);
}

static bool says_serving(const struct start *start)
{
    char text[64 << 10];
    read_log(start, start->log_from, text, sizeof text);
    return strstr(text, "serving on ") != NULL;
}

static int spawn(uv_loop_t *loop, struct start *start, char **argv, int log, unsigned flags)
{
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = log},
        {.flags = UV_INHERIT_FD, .data.fd = log},
    };
    uv_process_options_t options = {
        .exit_cb = exit_cb,
        .file = argv[0],
        .args = argv,
        .cwd = start->local->dir,
        .flags = flags,
        .stdio_count = 3,
        .stdio = stdio,
    };
    start->ended = false;
    start->process.data = start;
    return uv_spawn(loop, &start->process, &options);
}

/* `kho-node init`: runs to its end. */
static int run_and_wait(uv_loop_t *loop, struct start *start, char **argv, int log)
{
    int rc = spawn(loop, start, argv, log, 0);
    if (rc == 0) {
        while (!start->ended)
            uv_run(loop, UV_RUN_ONCE);
        rc = start->exit_status == 0 && start->signal_number == 0 ? 0 : -EIO;
    }
    uv_close((uv_handle_t *)&start->process, NULL);
    uv_run(loop, UV_RUN_NOWAIT);
    return rc;
}

static void look_again_soon(void)
{
    nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
}

static int open_log(struct start *start)
{
    char path[PATH_MAX];
    struct stat stat;
    if (mkdir(local_path(start->local, start->node, "", path), 0755) != 0 && errno != EEXIST)
        return -errno;
    int log = open(local_path(start->local, start->node, "log", path),
                   O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log < 0)
        return -errno;
    if (fstat(log, &stat) == 0)
        start->log_from = stat.st_size;
    return log;
}

static int write_pid(const struct start *start)
{
    char path[PATH_MAX];
    FILE *out = fopen(local_path(start->local, start->node, "pid", path), "we");
    if (out == NULL)
        return -errno;
    fprintf(out, "%d\n", (int)start->process.pid);
    return fclose(out) == 0 ? 0 : -errno;
}

static int start_one(uv_loop_t *loop, struct start *start, const char *program)
{
    /* uv_spawn wants writable strings. */
    char name[PATH_MAX], data[PATH_MAX], address[32], memory[sizeof start->local->memory];
    char size[sizeof start->local->segment_size], shards[16];
    char word_init[] = "init", word_run[] = "run", flag_size[] = "--segment-size";
    char flag_listen[] = "--listen", flag_memory[] = "--memory", flag_shards[] = "--shards";
    char *init[] = {name, word_init, data, flag_size, size, flag_shards, shards, NULL};
    char *run[] = {name, word_run, data, flag_listen, address, flag_memory, memory, NULL};
    snprintf(name, sizeof name, "%s", program);
    snprintf(memory, sizeof memory, "%s", start->local->memory);
    snprintf(size, sizeof size, "%s", start->local->segment_size);
    snprintf(shards, sizeof shards, "%u", start->local->shards);
    snprintf(address, sizeof address, "127.0.0.1:%u", start->node->port);
    local_path(start->local, start->node, "data", data);
    int log = open_log(start);
    int rc = log < 0 ? log : 0;
    if (rc == 0 && access(data, F_OK) != 0)
        rc = run_and_wait(loop, start, init, log);
    if (rc == 0) {
        rc = spawn(loop, start, run, log, UV_PROCESS_DETACHED);
        start->spawned = true;
    }
    if (rc == 0)
        rc = write_pid(start);
    if (log >= 0)
        close(log);
    return rc;
}

static void tell_log(const struct start *start)
{
    char text[LOG_TAIL], path[PATH_MAX];
    read_log(start, start->log_from, text, sizeof text);
    say("node %s didn't start; its log %s ends with:", start->node->name,
        local_path(start->local, start->node, "log", path));
    fprintf(stderr, "%s", text);
}

/* Until all serve, or one has ended, or the time is over. */
static int wait_serving(uv_loop_t *loop, struct start *starts, size_t count)
{
    double end = seconds_now() + READY_MS / 1000.0;
    for (;;) {
        size_t serving = 0;
        uv_run(loop, UV_RUN_NOWAIT);
        for (size_t i = 0; i < count; i++) {
            starts[i].serving = starts[i].serving || says_serving(&starts[i]);
            if (starts[i].ended || (!starts[i].serving && seconds_now() > end)) {
                tell_log(&starts[i]);
                return starts[i].ended ? -EIO : -ETIMEDOUT;
            }
            serving += starts[i].serving;
        }
        if (serving == count)
            return 0;
        look_again_soon();
    }
}

int local_start(const struct local *local, const struct local_node *const *which, size_t count)
{
    char program[PATH_MAX];
    struct start starts[LOCAL_NODES_MAX] = {0};
    uv_loop_t loop;
    size_t started = 0;
    if (!find_program(program))
        return -ENOENT;
    /* A service manager above us isn't the nodes'. */
    unsetenv("NOTIFY_SOCKET");
    unsetenv("JOURNAL_STREAM");
    int rc = uv_loop_init(&loop);
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (local_pid(local, which[i], NULL) != 0)
            continue;
        struct start *start = &starts[started++];
        start->local = local;
        start->node = which[i];
        rc = start_one(&loop, start, program);
        if (rc != 0)
            tell_log(start);
    }
    if (rc == 0)
        rc = wait_serving(&loop, starts, started);
    for (size_t i = 0; i < started; i++)
        if (starts[i].spawned)
            uv_close((uv_handle_t *)&starts[i].process, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    return rc;
}
