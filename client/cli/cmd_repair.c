/* cmd_repair.c: repair: makes the replicas equal and closes damage episodes, with a progress line
 * and a table of what it did. */
#include "cli.h"
#include "connect.h"
#include "print.h"
#include "progress.h"

struct repairing {
    const struct args *args;
    struct progress progress;
    bool done;
    int exit;
};

static void print_result_json(const struct kho_repair_result *r, int status)
{
    json_t *json = must(json_object());
    json_object_set_new(json, "status", json_string(status == 0 ? "ok" : kho_strerror(status)));
    const struct {
        const char *name;
        uint64_t value;
    } members[] = {
        {"partitions", r->partitions},
        {"partitions_done", r->partitions_done},
        {"partitions_differing", r->partitions_differing},
        {"records_compared", r->records_compared},
        {"records_copied", r->records_copied},
        {"bytes_copied", r->bytes_copied},
        {"records_lost", r->records_lost},
        {"records_dropped", r->records_dropped},
        {"episodes_found", r->episodes_found},
        {"episodes_closed", r->episodes_closed},
        {"nodes_unreached", r->nodes_unreached},
        {"epoch", r->epoch},
    };
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        json_object_set_new(json, members[i].name, json_integer((json_int_t)members[i].value));
    print_json(json, true);
}

static void print_result(const struct kho_repair_result *r)
{
    static const char *const titles[] = {">PARTITIONS", ">DIFFERING", ">COMPARED", ">COPIED",
                                         ">BYTES",      ">LOST",      ">EPISODES", ">CLOSED",
                                         ">UNREACHED",  ">EPOCH"};
    struct table table;
    struct small_text text;
    table_init(&table, titles, sizeof titles / sizeof titles[0]);
    table_add(&table, human_count(r->partitions_done, &text));
    table_add(&table, human_count(r->partitions_differing, &text));
    table_add(&table, human_count(r->records_compared, &text));
    table_add(&table, human_count(r->records_copied, &text));
    table_add(&table, human_bytes(r->bytes_copied, &text));
    table_add_marked(&table, human_count(r->records_lost, &text),
                     r->records_lost > 0 ? MARK_BAD : MARK_NONE);
    table_add(&table, human_count(r->episodes_found, &text));
    table_add_marked(&table, human_count(r->episodes_closed, &text),
                     r->episodes_closed < r->episodes_found ? MARK_BAD : MARK_NONE);
    table_add_marked(&table, human_count(r->nodes_unreached, &text),
                     r->nodes_unreached > 0 ? MARK_BAD : MARK_NONE);
    table_add(&table, human_count(r->epoch, &text));
    table_print(&table);
    table_fini(&table);
}

static void tell(const struct kho_repair_result *r, int status)
{
    struct small_text text;
    if (r->records_dropped > 0)
        say("%s versions of records were given up: their puts were never acknowledged, and no "
            "replica has their value",
            human_count(r->records_dropped, &text));
    if (status == KHO_EUNAVAILABLE)
        say("a replica was out of reach, the rest is done; run 'kho repair' again when 'kho "
            "status' shows it");
    else if (status == KHO_EDAMAGED)
        say("%s records are lost: no replica could give their newest value",
            human_count(r->records_lost, &text));
    else if (status != 0)
        say("%s", kho_strerror(status));
}

static void repair_cb(struct kho *client, int status, const struct kho_repair_result *result,
                      int done, void *arg)
{
    struct repairing *repairing = arg;
    (void)client;
    if (!done) {
        repairing->progress.total = result->partitions;
        progress_draw(&repairing->progress, result->records_copied, result->bytes_copied,
                      result->partitions_done);
        return;
    }
    progress_clear(&repairing->progress);
    repairing->done = true;
    repairing->exit = exit_of(status);
    if (args_flag(repairing->args, "json"))
        print_result_json(result, status);
    else
        print_result(result);
    tell(result, status);
}

static int repair_run(const struct args *args)
{
    struct repairing repairing = {.args = args};
    const char *collection = args->word_count > 0 ? args->words[0] : NULL;
    int code;
    struct connection *connection = connection_open(args, &code);
    if (connection == NULL)
        return code;
    progress_init(&repairing.progress, "repair", 0);
    int rc = kho_repair(connection->client, collection, repair_cb, &repairing, NULL);
    if (rc == 0) {
        connection_wait(connection, &repairing.done);
    } else {
        say("%s", kho_strerror(rc));
        repairing.exit = exit_of(rc);
    }
    connection_close(connection);
    return repairing.exit;
}

const struct command command_repair = {
    .words = "repair",
    .arguments = "[COLLECTION]",
    .summary = "make all replicas equal, copying what differs, and close damage episodes",
    .details = "  Brings the map to nodes that hold an older one. Safe at any time, and to be run\n"
               "  again: exit code 3 where a replica was out of reach, 5 where records are lost.",
    .words_min = 0,
    .words_max = 1,
    .run = repair_run,
};
