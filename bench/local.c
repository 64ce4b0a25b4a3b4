/* local.c: runs 'kho local up', 'status' and 'down' as child processes, and reads from the JSON of
 * 'status' where the nodes listen and which processes they are. It fails when the program isn't
 * found, ends with another code than 0 (its own sentence is on stderr by then), or prints what
 * isn't understood. */
#include "local.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a node may use: buffers and cache, and the index of its records with room to grow. Its cache
 * takes an eighth. */
enum { MEMORY_MB = 384, MEMORY_PER_RECORD = 64, MEMORY_MAX_MB = 4096, CACHE_PART = 8 };
enum { LOCAL_OPTIONS_MAX = 6 };

/* Beside our own program, else whatever PATH has. */
static void kho_find(char *path, size_t size)
{
    ssize_t len = readlink("/proc/self/exe", path, size - sizeof "/kho");
    if (len > 0) {
        path[len] = '\0';
        char *slash = strrchr(path, '/');
        strcpy(slash != NULL ? slash : path, "/kho");
        if (access(path, X_OK) == 0)
            return;
    }
    snprintf(path, size, "kho");
}

/* Runs a program; its standard output goes to `out`, or nowhere where that is -1. Its exit code, or
 * -1. */
static int run(char *const *argv, int out)
{
    int status;
    pid_t pid = fork();
    if (pid < 0)
        return -1;
    if (pid == 0) {
        dup2(out >= 0 ? out : open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
        execvp(argv[0], argv);
        fprintf(stderr, "kho-bench: can't run %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* kho local VERB --dir DIR [OPTION…]; `options` ends with NULL. */
static int local_run(struct local *local, char *verb, char *const *options, int out)
{
    char words[2][8] = {"local", "--dir"};
    char *argv[5 + LOCAL_OPTIONS_MAX + 1] = {local->kho, words[0], verb, words[1], local->dir};
    for (size_t i = 0; i < LOCAL_OPTIONS_MAX && options[i] != NULL; i++)
        argv[5 + i] = options[i];
    return run(argv, out);
}

static int node_take(struct local *local, const json_t *node)
{
    const char *name = json_string_value(json_object_get(node, "name"));
    const json_t *pid = json_object_get(node, "pid");
    if (name == NULL || !json_is_integer(pid) || local->node_count == LOCAL_NODES_MAX)
        return -1;
    snprintf(local->nodes[local->node_count].name, sizeof local->nodes[0].name, "%s", name);
    local->nodes[local->node_count++].pid = (pid_t)json_integer_value(pid);
    return 0;
}

static int status_take(struct local *local, const json_t *root)
{
    const char *cluster = json_string_value(json_object_get(root, "cluster"));
    const json_t *nodes = json_object_get(root, "nodes");
    if (cluster == NULL || strlen(cluster) >= sizeof local->cluster || json_array_size(nodes) == 0)
        return -1;
    memcpy(local->cluster, cluster, strlen(cluster) + 1);
    for (size_t i = 0; i < json_array_size(nodes); i++)
        if (node_take(local, json_array_get(nodes, i)) != 0)
            return -1;
    return 0;
}

/* The status goes through a file without a name rather than a pipe: it can be of any length. */
static int local_inquire(struct local *local)
{
    json_error_t error;
    int rc = -1;
    FILE *file = tmpfile();
    if (file == NULL)
        return -1;
    char verb[] = "status", json[] = "--json";
    if (local_run(local, verb, (char *[]){json, NULL}, fileno(file)) == 0) {
        rewind(file);
        json_t *root = json_loadf(file, 0, &error);
        rc = root != NULL ? status_take(local, root) : -1;
        json_decref(root);
    }
    fclose(file);
    if (rc != 0)
        fprintf(stderr, "kho-bench: '%s local status --dir %s --json' didn't tell the nodes\n",
                local->kho, local->dir);
    return rc;
}

/* /var/tmp lies on a disk where /tmp may lie in memory, which direct I/O refuses. */
static int dir_make(struct local *local)
{
    const char *base = getenv("TMPDIR");
    snprintf(local->dir, sizeof local->dir, "%s/kho-bench-XXXXXX",
             base != NULL && base[0] != '\0' ? base : "/var/tmp");
    if (mkdtemp(local->dir) == NULL) {
        fprintf(stderr, "kho-bench: can't make a folder %s: %s; name another with --dir\n",
                local->dir, strerror(errno));
        return -1;
    }
    local->temporary = true;
    return 0;
}

char *local_memory(char *to, uint64_t records, uint64_t cached_bytes)
{
    uint64_t mb = MEMORY_MB + records * MEMORY_PER_RECORD / 1000000;
    uint64_t cache = cached_bytes * CACHE_PART / 1000000;
    if (cache > MEMORY_MAX_MB)
        cache = MEMORY_MAX_MB;
    sprintf(to, "%" PRIu64 "M", mb + cache);
    return to;
}

int local_up(struct local *local, const char *dir, unsigned nodes, unsigned shards,
             const char *memory)
{
    char verb[] = "up", words[6][16] = {"--memory", "", "--nodes", "", "--shards", ""};
    *local = (struct local){.node_count = 0};
    kho_find(local->kho, sizeof local->kho);
    if (dir != NULL)
        snprintf(local->dir, sizeof local->dir, "%s", dir);
    else if (dir_make(local) != 0)
        return -1;
    local->up = true;
    snprintf(words[1], sizeof words[1], "%s", memory);
    snprintf(words[3], sizeof words[3], "%u", nodes);
    snprintf(words[5], sizeof words[5], "%u", shards);
    int rc =
        local_run(local, verb,
                  (char *[]){words[0], words[1], words[2], words[3], words[4], words[5], NULL}, -1);
    if (rc != 0)
        fprintf(stderr, "kho-bench: '%s local up --dir %s' ended with code %d\n", local->kho,
                local->dir, rc);
    if (rc == 0)
        rc = local_inquire(local);
    if (rc != 0)
        local_down(local);
    return rc == 0 ? 0 : -1;
}

struct process_usage local_usage(const struct local *local)
{
    struct process_usage sum = {.cpu_seconds = 0};
    for (size_t i = 0; i < local->node_count; i++) {
        struct process_usage usage;
        if (process_usage(local->nodes[i].pid, &usage) != 0)
            continue;
        sum.cpu_seconds += usage.cpu_seconds;
        sum.rss_bytes += usage.rss_bytes;
    }
    return sum;
}

void local_down(struct local *local)
{
    if (!local->up)
        return;
    char verb[] = "down", destroy[] = "--destroy";
    local->up = false;
    if (local_run(local, verb, (char *[]){local->temporary ? destroy : NULL, NULL}, -1) != 0)
        fprintf(stderr, "kho-bench: the nodes in %s may still run: 'kho local down --dir %s'\n",
                local->dir, local->dir);
    else if (local->temporary)
        rmdir(local->dir);
}
