/* cmd_status.c: status: what the map says of the cluster, and what each node says of itself. A node
 * that can't be asked is a row with the cause, and makes the exit code EXIT_UNAVAILABLE. */
#include "cli.h"
#include "connect.h"
#include "nodes.h"

struct asked_status {
    const struct args *args;
    struct connection *connection;
    bool done;
    int exit;
};

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

static void print_status(const struct kho_cluster_info *info, const struct kho_node_status *nodes,
                         size_t count)
{
    char cluster[33];
    struct table table;
    struct small_text partitions;
    hex_encode(info->cluster, sizeof info->cluster, cluster);
    printf("cluster %s  home %s\n", cluster, info->home != NULL ? info->home : "-");
    printf("epoch %llu  partitions %s  replicas %u (write %u, read %u)  collections %zu\n\n",
           (unsigned long long)info->epoch, human_count(info->partitions, &partitions),
           info->replicas, info->write_quorum, info->read_quorum, info->collection_count);
    nodes_table(nodes, count, &table);
    table_print(&table);
    table_fini(&table);
    nodes_work_table(nodes, count, &table);
    if (table.count > 0) {
        putchar('\n');
        table_print(&table);
    }
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
        if (nodes[i].status != 0)
            asked->exit = exit_worse(asked->exit, EXIT_UNAVAILABLE);
        else if (node_damaged(&nodes[i]))
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
        "  EPISODES        open episodes of damage, which a repair closes\n"
        "  LOG             bytes of the disk that its segments use\n"
        "  DEAD            share of the full segments that nobody needs any more: overwritten, or\n"
        "                  padding\n"
        "  COMPACTED       bytes of segments that compaction has read since the node's start, to\n"
        "                  give back what is dead in them\n"
        "  SCRUBBED        bytes that the scrub has read and checked since the node's start\n"
        "  CHECKED WITHIN  how long ago the segment was checked that waits longest for it\n"
        "  CACHE           share of the blocks read that were in memory, since the node's start\n"
        "  INDEX/RECORD    bytes of memory that the index takes\n"
        "\n"
        "  Exit code 3 where a node can't be reached, 5 where one tells of damage. With --json\n"
        "  all the numbers that a node gives.",
    .words_min = 0,
    .words_max = 0,
    .run = status_run,
};
