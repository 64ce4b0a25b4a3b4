/* cmd_collection.c: collection create and collection ls. */
#include <errno.h>
#include <string.h>

#include "cli.h"
#include "connect.h"
#include "print.h"

static int create_run(const struct args *args)
{
    uint64_t replicas = 0;
    const char *separator = args_text(args, "separator");
    const char *name = args->words[0];
    int code;
    if (!args_number(args, "replicas", 1, 7, &replicas))
        return EXIT_USAGE;
    if (separator != NULL && strlen(separator) != 1) {
        say("--separator takes one byte, not '%s'", separator);
        return EXIT_USAGE;
    }
    struct connection *connection = connection_open(args, &code);
    if (connection == NULL)
        return code;
    struct waited_status waited = {.done = false};
    int rc = kho_collection_create(
        connection->client, name, separator != NULL ? (unsigned char)*separator : -1,
        (unsigned)replicas, connection->deadline_ms, waited_status_cb, &waited);
    if (rc == 0) {
        connection_wait(connection, &waited.done);
        rc = waited.status;
    }
    connection_close(connection);
    if (rc == KHO_ECOLLECTIONEXISTS && args_flag(args, "if-missing"))
        rc = 0;
    if (rc == -EINVAL && replicas > 0)
        say("%s: --replicas %llu: the cluster's map names fewer nodes for each record; 'kho "
            "status' "
            "says how many",
            name, (unsigned long long)replicas);
    else if (rc != 0)
        say("%s: %s", name, kho_strerror(rc));
    else if (args_flag(args, "json"))
        print_json(json_pack("{s:s, s:s}", "collection", name, "status", "ok"), false);
    return exit_of(rc);
}

static json_t *collection_json(const struct kho_collection_info *info)
{
    char separator[2] = {(char)info->separator, '\0'};
    json_t *json = must(json_object());
    json_object_set_new(json, "name", json_string(info->name));
    json_object_set_new(json, "id", json_integer(info->id));
    json_object_set_new(json, "replicas", json_integer(info->replicas));
    json_object_set_new(json, "separator",
                        info->separator < 0 ? json_null() : text_json(separator, 1));
    return json;
}

static void print_collections(const struct kho_cluster_info *info, bool json)
{
    static const char *const titles[] = {"COLLECTION", ">ID", ">REPLICAS", "SEPARATOR"};
    json_t *list = json ? must(json_array()) : NULL;
    struct table table;
    table_init(&table, titles, sizeof titles / sizeof titles[0]);
    for (size_t i = 0; i < info->collection_count; i++) {
        const struct kho_collection_info *one = &info->collections[i];
        uint8_t byte = (uint8_t)one->separator;
        struct key_text separator;
        if (json) {
            json_array_append_new(list, collection_json(one));
            continue;
        }
        table_add(&table, one->name);
        table_addf(&table, "%u", one->id);
        table_addf(&table, "%u", one->replicas);
        table_add(&table, one->separator < 0 ? "-" : key_escape(&byte, 1, &separator));
    }
    if (json)
        print_json(list, true);
    else if (table.count > 0)
        table_print(&table);
    table_fini(&table);
}

int collection_ls_run(const struct args *args)
{
    struct kho_cluster_info info;
    int code;
    struct connection *connection = connection_open(args, &code);
    if (connection == NULL)
        return code;
    int rc = kho_cluster(connection->client, &info);
    if (rc == 0)
        print_collections(&info, args_flag(args, "json"));
    else
        say("%s", kho_strerror(rc));
    connection_close(connection);
    return exit_of(rc);
}

static const struct option_spec create_options[] = {
    {"replicas", "R", "how many nodes hold each record (default: the cluster's)"},
    {"separator", "BYTE", "records whose keys agree up to this byte live together"},
    {"if-missing", NULL, "a collection of that name is no error"},
    {NULL, NULL, NULL},
};

const struct command command_collection_create = {
    .words = "collection create",
    .arguments = "NAME",
    .summary = "make a collection",
    .details = "  A name has 1 to 64 of the characters a-z 0-9 . _ -",
    .options = create_options,
    .words_min = 1,
    .words_max = 1,
    .run = create_run,
};
const struct command command_collection_ls = {
    .words = "collection ls",
    .arguments = "",
    .summary = "list the collections",
    .words_min = 0,
    .words_max = 0,
    .run = collection_ls_run,
};
