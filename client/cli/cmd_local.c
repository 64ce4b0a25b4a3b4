/* cmd_local.c: local up, down, status, stop, kill, start: a cluster of node processes on this
 * machine, for whoever tries kho.
 *
 * `up` goes through what is missing and no more: the folder, the data folders, the processes, the
 * map; so it may be run again at any time, after a failure too. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "cluster.h"
#include "connect.h"
#include "local.h"
#include "print.h"

enum { NODES_DEFAULT = 3, DEADLINE_MS = 10000, MEMORY_SHARD_MB = 256 };
#define SEGMENT_SIZE_DEFAULT "32M"

static const char *folder(const struct args *args)
{
    const char *dir = args_text(args, "dir");
    return dir != NULL ? dir : LOCAL_DIR;
}

/* Loads the cluster. 0 or an exit code. */
static int load(const struct args *args, struct local *local)
{
    int rc = local_load(folder(args), local);
    if (rc == -ENOENT)
        say("there is no local cluster in %s; 'kho local up' makes one", folder(args));
    return rc == 0 ? 0 : rc == -ENOENT ? EXIT_NOT_FOUND : EXIT_OTHER;
}

static void addresses_of(const struct local *local, char *list, size_t room)
{
    size_t at = 0;
    for (size_t i = 0; i < local->count; i++)
        at += (size_t)snprintf(list + at, room - at, "%s127.0.0.1:%u", i > 0 ? "," : "",
                               local->nodes[i].port);
}

/* --- Status ----------------------------------------------------------------------------------- */

static void print_local_json(const struct local *local)
{
    char path[PATH_MAX];
    json_t *list = must(json_array());
    for (size_t i = 0; i < local->count; i++) {
        const struct local_node *node = &local->nodes[i];
        pid_t pid = local_pid(local, node, NULL);
        json_t *one = must(json_object());
        json_object_set_new(one, "name", json_string(node->name));
        json_object_set_new(one, "running", json_boolean(pid != 0));
        json_object_set_new(one, "pid", pid != 0 ? json_integer(pid) : json_null());
        json_object_set_new(one, "port", json_integer(node->port));
        json_object_set_new(one, "data", json_string(local_path(local, node, "data", path)));
        json_object_set_new(one, "log", json_string(local_path(local, node, "log", path)));
        json_array_append_new(list, one);
    }
    char addresses[32 * LOCAL_NODES_MAX];
    addresses_of(local, addresses, sizeof addresses);
    print_json(json_pack("{s:s, s:s, s:s, s:o}", "dir", local->dir, "cluster", addresses, "map",
                         local_path(local, NULL, "map", path), "nodes", list),
               true);
}

static void print_local(const struct local *local)
{
    static const char *const titles[] = {"NODE", "STATE", ">PID", "ADDRESS", "DATA"};
    char path[PATH_MAX];
    struct table table;
    table_init(&table, titles, sizeof titles / sizeof titles[0]);
    for (size_t i = 0; i < local->count; i++) {
        const struct local_node *node = &local->nodes[i];
        pid_t pid = local_pid(local, node, NULL);
        table_add(&table, node->name);
        table_add_marked(&table, pid != 0 ? "running" : "stopped", pid != 0 ? MARK_GOOD : MARK_BAD);
        if (pid != 0)
            table_addf(&table, "%d", (int)pid);
        else
            table_add(&table, "-");
        table_addf(&table, "127.0.0.1:%u", node->port);
        table_add(&table, local_path(local, node, "data", path));
    }
    table_print(&table);
    table_fini(&table);
}

static void print_either(const struct args *args, const struct local *local)
{
    if (args_flag(args, "json"))
        print_local_json(local);
    else
        print_local(local);
}

static int status_run(const struct args *args)
{
    struct local local;
    int code = load(args, &local);
    if (code != 0)
        return code;
    print_either(args, &local);
    for (size_t i = 0; i < local.count; i++)
        if (local_pid(&local, &local.nodes[i], NULL) == 0)
            code = EXIT_UNAVAILABLE;
    local_fini(&local);
    return code;
}

/* --- Up and start ----------------------------------------------------------------------------- */

/* The options of a cluster that is made now. 0 or an exit code. */
static int make_folder(const struct args *args, struct local *local)
{
    uint64_t nodes = NODES_DEFAULT, shards = 1, size = 0;
    const char *memory = args_text(args, "memory");
    const char *segment_size = args_text(args, "segment-size");
    if (!args_number(args, "nodes", 1, LOCAL_NODES_MAX, &nodes) ||
        !args_number(args, "shards", 1, LOCAL_SHARDS_MAX, &shards) ||
        !args_size(args, "memory", &size) || !args_size(args, "segment-size", &size))
        return EXIT_USAGE;
    int rc = local_create(folder(args), nodes, local);
    if (rc != 0)
        return EXIT_OTHER;
    local->shards = (unsigned)shards;
    if (memory != NULL)
        snprintf(local->memory, sizeof local->memory, "%s", memory);
    else
        snprintf(local->memory, sizeof local->memory, "%uM", MEMORY_SHARD_MB * (1 + local->shards));
    snprintf(local->segment_size, sizeof local->segment_size, "%s",
             segment_size != NULL ? segment_size : SEGMENT_SIZE_DEFAULT);
    return local_save(local) == 0 ? 0 : EXIT_OTHER;
}

/* What is fixed when the folders are made can't be asked for later. 0 or an exit code. */
static int check_folder(const struct args *args, const struct local *local)
{
    uint64_t shards = local->shards;
    if (!args_number(args, "shards", 1, LOCAL_SHARDS_MAX, &shards))
        return EXIT_USAGE;
    if (shards == local->shards)
        return 0;
    say("the nodes in %s were made with %u shard%s each, which is fixed: leave --shards out, or "
        "name a new folder with --dir",
        folder(args), local->shards, local->shards == 1 ? "" : "s");
    return EXIT_USAGE;
}

/* Gives the nodes their map, once. 0 or an exit code. */
static int make_cluster(const struct local *local)
{
    char map[PATH_MAX], addresses[32 * LOCAL_NODES_MAX];
    if (access(local_path(local, NULL, "map", map), F_OK) == 0)
        return 0;
    addresses_of(local, addresses, sizeof addresses);
    struct kho_cluster_plan plan = {.struct_size = sizeof plan, .addresses = addresses};
    return exit_of(cluster_init_at(&plan, DEADLINE_MS, map));
}

/* Brings the map to nodes that slept through a change of it. That a node is away is no failure
 * here. */
static void push_map(const struct local *local)
{
    char addresses[32 * LOCAL_NODES_MAX];
    struct waited_status waited = {.done = false};
    int status = 0;
    addresses_of(local, addresses, sizeof addresses);
    struct connection *connection = connection_open_at(addresses, local->dir, DEADLINE_MS, &status);
    if (connection == NULL) {
        say("the nodes run, but their map can't be brought up to date: %s", kho_strerror(status));
        return;
    }
    if (kho_map_push(connection->client, connection->deadline_ms, waited_status_cb, &waited) == 0)
        connection_wait(connection, &waited.done);
    if (waited.status != 0 && waited.status != KHO_EUNAVAILABLE)
        say("the nodes run, but their map can't be brought up to date: %s",
            kho_strerror(waited.status));
    connection_close(connection);
}

static int up_run(const struct args *args)
{
    struct local local;
    char map[PATH_MAX];
    int rc = local_load(folder(args), &local);
    int code = rc == 0         ? check_folder(args, &local)
               : rc == -ENOENT ? make_folder(args, &local)
                               : EXIT_OTHER;
    if (code != 0)
        return code;
    const struct local_node *all[LOCAL_NODES_MAX];
    bool made = access(local_path(&local, NULL, "map", map), F_OK) == 0;
    for (size_t i = 0; i < local.count; i++)
        all[i] = &local.nodes[i];
    if (local_start(&local, all, local.count) != 0)
        code = EXIT_OTHER;
    else if (made)
        push_map(&local);
    else
        code = make_cluster(&local);
    if (code == 0)
        print_either(args, &local);
    local_fini(&local);
    return code;
}

/* The node of the first word. 0 or an exit code. */
static int load_node(const struct args *args, struct local *local, const struct local_node **node)
{
    int code = load(args, local);
    if (code != 0)
        return code;
    *node = local_find(local, args->words[0]);
    if (*node != NULL)
        return 0;
    say("the local cluster in %s has no node '%s'; 'kho local status' shows them", folder(args),
        args->words[0]);
    local_fini(local);
    return EXIT_NOT_FOUND;
}

static int start_run(const struct args *args)
{
    struct local local;
    const struct local_node *node;
    int code = load_node(args, &local, &node);
    if (code != 0)
        return code;
    if (local_start(&local, &node, 1) != 0)
        code = EXIT_OTHER;
    else
        push_map(&local);
    if (code == 0 && args_flag(args, "json"))
        print_local_json(&local);
    local_fini(&local);
    return code;
}

/* --- Down, stop, kill ------------------------------------------------------------------------- */

static int signal_run(const struct args *args, int signal_number)
{
    struct local local;
    const struct local_node *node;
    int code = load_node(args, &local, &node);
    if (code != 0)
        return code;
    int rc = local_signal(&local, node, signal_number);
    if (rc == -ESRCH)
        say("node %s isn't running", node->name);
    else if (rc != 0)
        code = EXIT_OTHER;
    if (code == 0 && args_flag(args, "json"))
        print_local_json(&local);
    local_fini(&local);
    return code;
}

static int stop_run(const struct args *args)
{
    return signal_run(args, SIGTERM);
}

static int kill_run(const struct args *args)
{
    return signal_run(args, SIGKILL);
}

static int remove_one(const char *path, const struct stat *stat, int flag, struct FTW *ftw)
{
    (void)stat;
    (void)flag;
    (void)ftw;
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

/* Removes what a local cluster put into its folder, and the folder if nothing else is in it. */
static int destroy(const struct local *local)
{
    static const char *const files[] = {"map", "map.part", "cluster", "cluster.part"};
    char path[PATH_MAX];
    for (size_t i = 0; i < local->count; i++)
        if (nftw(local_path(local, &local->nodes[i], "", path), remove_one, 16,
                 FTW_DEPTH | FTW_PHYS) != 0 &&
            errno != ENOENT) {
            say("can't remove %s: %s", path, strerror(errno));
            return EXIT_OTHER;
        }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        unlink(local_path(local, NULL, files[i], path));
    if (rmdir(local->dir) != 0)
        say("%s stays: %s", local->dir, strerror(errno));
    return 0;
}

static int down_run(const struct args *args)
{
    struct local local;
    int rc = local_load(folder(args), &local), code = 0;
    if (rc == -ENOENT)
        return 0; /* down it is */
    if (rc != 0)
        return EXIT_OTHER;
    for (size_t i = 0; i < local.count; i++) {
        rc = local_signal(&local, &local.nodes[i], args_flag(args, "destroy") ? SIGKILL : SIGTERM);
        if (rc != 0 && rc != -ESRCH)
            code = EXIT_OTHER;
    }
    if (code == 0 && args_flag(args, "destroy"))
        code = destroy(&local);
    local_fini(&local);
    return code;
}

static const struct option_spec up_options[] = {
    {"nodes", "N", "how many nodes, 1 to 9 (default 3); of a new cluster"},
    {"shards", "N",
     "of each node, 1 to 16 (default 1): threads that share its records; of a new cluster"},
    {"memory", "SIZE",
     "the bound on each node's memory (default 256M, and 256M a shard); of a new cluster"},
    {"segment-size", "SIZE", "of each node's log, 32M to 256M (default 32M); of a new cluster"},
    {NULL, NULL, NULL},
};
static const struct option_spec down_options[] = {
    {"destroy", NULL, "remove the nodes' data, too"},
    {NULL, NULL, NULL},
};

const struct command command_local_up = {
    .words = "local up",
    .arguments = "",
    .summary = "start a cluster of three nodes on this machine, or what of it is stopped",
    .details =
        "  Nodes a, b, c on free ports of 127.0.0.1 (from 7701 on; a folder of another name gets\n"
        "  others), their data, logs and process numbers in ./kho-local (--dir). All other\n"
        "  commands use it when no cluster is named.",
    .options = up_options,
    .run = up_run,
};
const struct command command_local_down = {
    .words = "local down",
    .arguments = "",
    .summary = "stop the local cluster",
    .details = "  The data stays for the next 'kho local up', unless --destroy is given.",
    .options = down_options,
    .run = down_run,
};
const struct command command_local_status = {
    .words = "local status",
    .arguments = "",
    .summary = "the processes of the local cluster",
    .details = "  Exit code 3 if a node isn't running.",
    .run = status_run,
};
const struct command command_local_stop = {
    .words = "local stop",
    .arguments = "NODE",
    .summary = "stop one node (SIGTERM) and wait for its end",
    .words_min = 1,
    .words_max = 1,
    .run = stop_run,
};
const struct command command_local_kill = {
    .words = "local kill",
    .arguments = "NODE",
    .summary = "kill one node (SIGKILL), as a crash would",
    .words_min = 1,
    .words_max = 1,
    .run = kill_run,
};
const struct command command_local_start = {
    .words = "local start",
    .arguments = "NODE",
    .summary = "start one node and bring it the map",
    .words_min = 1,
    .words_max = 1,
    .run = start_run,
};
