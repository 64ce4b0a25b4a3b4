/* cmd_verify.c: verify: compares the digests of all replicas, partition by partition, and says what
 * to do where they differ. */
#include "cli.h"
#include "connect.h"
#include "print.h"

struct verifying {
    const struct args *args;
    bool done;
    int exit;
};

static int exit_of_result(const struct kho_verify_result *result)
{
    if (result->partitions_differing > 0 || result->partitions_damaged > 0)
        return EXIT_DAMAGE;
    return result->partitions_unreached > 0 ? EXIT_UNAVAILABLE : EXIT_DONE;
}

static json_t *verify_json(const struct kho_verify_result *result)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "collection", result->collection,
                     "records", (json_int_t)result->records, "bytes", (json_int_t)result->bytes,
                     "partitions", (json_int_t)result->partitions, "differing",
                     (json_int_t)result->partitions_differing, "unreached",
                     (json_int_t)result->partitions_unreached, "damaged",
                     (json_int_t)result->partitions_damaged);
}

static void add_count(struct table *table, uint64_t count, bool bad)
{
    struct small_text text;
    table_add_marked(table, human_count(count, &text), bad && count > 0 ? MARK_BAD : MARK_NONE);
}

static void print_results(const struct kho_verify_result *results, size_t count, int code)
{
    static const char *const titles[] = {"COLLECTION", ">RECORDS",   ">BYTES",  ">PARTITIONS",
                                         ">DIFFERING", ">UNREACHED", ">DAMAGED"};
    struct table table;
    struct small_text text;
    table_init(&table, titles, sizeof titles / sizeof titles[0]);
    for (size_t i = 0; i < count; i++) {
        table_add(&table, results[i].collection);
        add_count(&table, results[i].records, false);
        table_add(&table, human_bytes(results[i].bytes, &text));
        add_count(&table, results[i].partitions, false);
        add_count(&table, results[i].partitions_differing, true);
        add_count(&table, results[i].partitions_unreached, true);
        add_count(&table, results[i].partitions_damaged, true);
    }
    table_print(&table);
    table_fini(&table);
    if (code == EXIT_DAMAGE)
        say("replicas differ or are damaged; 'kho repair' makes them equal");
    else if (code == EXIT_UNAVAILABLE)
        say("some replica couldn't be asked; 'kho status' says which node and why");
}

static void verify_cb(struct kho *client, int status, const struct kho_verify_result *results,
                      size_t count, void *arg)
{
    struct verifying *verifying = arg;
    (void)client;
    verifying->done = true;
    int code = exit_of(status);
    for (size_t i = 0; i < count; i++)
        code = exit_worse(code, exit_of_result(&results[i]));
    verifying->exit = code;
    if (status != 0)
        say("%s", kho_strerror(status));
    if (args_flag(verifying->args, "json")) {
        json_t *list = must(json_array());
        for (size_t i = 0; i < count; i++)
            json_array_append_new(list, verify_json(&results[i]));
        print_json(json_pack("{s:b, s:o}", "equal", code == EXIT_DONE, "collections", list), true);
    } else if (count > 0) {
        print_results(results, count, code);
    }
}

static int verify_run(const struct args *args)
{
    struct verifying verifying = {.args = args};
    const char *collection = args->word_count > 0 ? args->words[0] : NULL;
    int code;
    struct connection *connection = connection_open(args, &code);
    if (connection == NULL)
        return code;
    int rc =
        kho_verify(connection->client, collection, connection->deadline_ms, verify_cb, &verifying);
    if (rc == 0) {
        connection_wait(connection, &verifying.done);
    } else {
        say("%s", kho_strerror(rc));
        verifying.exit = exit_of(rc);
    }
    connection_close(connection);
    return verifying.exit;
}

const struct command command_verify = {
    .words = "verify",
    .arguments = "[COLLECTION]",
    .summary = "compare the digests of all replicas",
    .details = "  Records count tombstones, too. Under load replicas differ by what is in flight.\n"
               "  Exit code 5 where replicas differ or are damaged, 3 where one couldn't be asked.",
    .words_min = 0,
    .words_max = 1,
    .run = verify_run,
};
