/* cmd_status.c: status: what the map says of the cluster, and what each node says of itself. A node
 * that can't be asked is a row with the cause, and makes the exit code EXIT_UNAVAILABLE. */
#include <string.h>

#include "cli.h"
#include "connect.h"
#include "print.h"

struct asked_status {
    const struct args *args;
    struct connection *connection;
    bool done;
    int exit;
};

static uint64_t number(const struct kho_node_status *node, const char *name)
{
    for (size_t i = 0; i < node->stat_count; i++)
        if (strcmp(node->stat_names[i], name) == 0)
            return node->stats[i];
    return 0;
}

/* What a person should know first. */
static const char *state_of(const struct kho_node_status *node, enum table_mark *ret_mark)
{
    *ret_mark = MARK_BAD;
    if (node->status == KHO_EUNAVAILABLE || node->status == KHO_EDEADLINE)
        return "unreachable";
    if (node->status != 0)
        return kho_strerror(node->status);
    if (number(node, "suspect") != 0)
        return "suspect: run 'kho repair'";
    if (number(node, "readonly") != 0)
        return "read-only: a disk write failed";
    if (number(node, "episodes") != 0)
        return "damaged: run 'kho repair'";
    *ret_mark = MARK_GOOD;
    return "up";
}

static json_t *node_json(const struct kho_node_status *node)
{
    char incarnation[33];
    hex_encode(node->incarnation, sizeof node->incarnation, incarnation);
    json_t *json = must(json_object());
    json_object_set_new(json, "name", json_string(node->name));
    json_object_set_new(json, "address", json_string(node->address));
    json_object_set_new(json, "port", json_integer(node->port));
    json_object_set_new(json, "zone", json_string(node->zone));
    json_object_set_new(json, "reachable", json_boolean(node->status == 0));
    json_object_set_new(json, "status",
                        json_string(node->status == 0 ? "ok" : kho_strerror(node->status)));
    if (node->status != 0)
        return json;
    json_object_set_new(json, "incarnation", json_string(incarnation));
    json_object_set_new(json, "epoch", json_integer((json_int_t)node->epoch));
    json_t *stats = must(json_object());
    for (size_t i = 0; i < node->stat_count; i++)
        json_object_set_new(stats, node->stat_names[i], json_integer((json_int_t)node->stats[i]));
    json_object_set_new(json, "stats", stats);
    return json;
}

static void print_status_json(const struct kho_cluster_info *info,
                              const struct kho_node_status *nodes, size_t count)
{
    char cluster[33];
    json_t *json = must(json_object()), *list = must(json_array());
    hex_encode(info->cluster, sizeof info->cluster, cluster);
    json_object_set_new(json, "cluster", json_string(cluster));
    json_object_set_new(json, "epoch", json_integer((json_int_t)info->epoch));
    json_object_set_new(json, "partitions", json_integer(info->partitions));
    json_object_set_new(json, "replicas", json_integer(info->replicas));
    json_object_set_new(json, "write_quorum", json_integer(info->write_quorum));
    json_object_set_new(json, "read_quorum", json_integer(info->read_quorum));
    json_object_set_new(json, "home", json_string(info->home != NULL ? info->home : ""));
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, node_json(&nodes[i]));
    json_object_set_new(json, "nodes", list);
    print_json(json, true);
}

static void add_node(struct table *table, const struct kho_node_status *node)
{
    enum table_mark mark;
    const char *state = state_of(node, &mark);
    struct small_text text;
    table_add(table, node->name);
    table_addf(table, "%s:%u", node->address, node->port);
    table_add(table, node->zone);
    if (node->status != 0) {
        for (int i = 0; i < 6; i++)
            table_add(table, "-");
    } else {
        table_addf(table, "%llu", (unsigned long long)node->epoch);
        table_add(table, human_count(number(node, "records"), &text));
        table_add(table, human_bytes(number(node, "segment_bytes"), &text));
        table_add(table, human_bytes(number(node, "disk_free"), &text));
        table_add(table, human_bytes(number(node, "memory_bytes"), &text));
        table_add(table, human_count(number(node, "episodes"), &text));
    }
    table_add_marked(table, state, mark);
}

static void print_status(const struct kho_cluster_info *info, const struct kho_node_status *nodes,
                         size_t count)
{
    static const char *const titles[] = {"NODE", "ADDRESS",    "ZONE",    ">EPOCH",    ">RECORDS",
                                         ">LOG", ">DISK FREE", ">MEMORY", ">EPISODES", "STATE"};
    char cluster[33];
    struct table table;
    struct small_text partitions;
    hex_encode(info->cluster, sizeof info->cluster, cluster);
    printf("cluster %s  epoch %llu  partitions %s  replicas %u (write %u, read %u)  "
           "collections %zu  home %s\n\n",
           cluster, (unsigned long long)info->epoch, human_count(info->partitions, &partitions),
           info->replicas, info->write_quorum, info->read_quorum, info->collection_count,
           info->home != NULL ? info->home : "-");
    table_init(&table, titles, sizeof titles / sizeof titles[0]);
    for (size_t i = 0; i < count; i++)
        add_node(&table, &nodes[i]);
    table_print(&table);
    table_fini(&table);
}

static void status_cb(struct kho *client, int status, const struct kho_node_status *nodes,
                      size_t count, void *arg)
{
    struct asked_status *asked = arg;
    struct kho_cluster_info info;
    int rc = status != 0 ? status : kho_cluster(client, &info);
    asked->done = true;
    asked->exit = exit_of(rc);
    if (rc != 0) {
        say("%s", kho_strerror(rc));
        return;
    }
    for (size_t i = 0; i < count; i++) {
        bool damaged = nodes[i].status == 0 &&
                       (number(&nodes[i], "episodes") != 0 || number(&nodes[i], "suspect") != 0);
        if (nodes[i].status != 0)
            asked->exit = exit_worse(asked->exit, EXIT_UNAVAILABLE);
        if (damaged)
            asked->exit = exit_worse(asked->exit, EXIT_DAMAGE);
    }
    if (args_flag(asked->args, "json"))
        print_status_json(&info, nodes, count);
    else
        print_status(&info, nodes, count);
}

static int status_run(const struct args *args)
{
    struct asked_status asked = {.args = args};
    int code;
    struct connection *connection = connection_open(args, &code);
    if (connection == NULL)
        return code;
    int rc = kho_status(connection->client, connection->deadline_ms, status_cb, &asked);
    if (rc == 0) {
        connection_wait(connection, &asked.done);
    } else {
        say("%s", kho_strerror(rc));
        asked.exit = exit_of(rc);
    }
    connection_close(connection);
    return asked.exit;
}

const struct command command_status = {
    .words = "status",
    .arguments = "",
    .summary = "the cluster and its nodes: records, disk, memory, damage",
    .details =
        "  Exit code 3 where a node can't be reached, 5 where one tells of damage. With --json\n"
        "  all the numbers that a node gives.",
    .words_min = 0,
    .words_max = 0,
    .run = status_run,
};
