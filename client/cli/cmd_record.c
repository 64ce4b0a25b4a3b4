/* cmd_record.c: put, get, stat, del, append: single records.
 *
 * Each sends one batch, waits for it and prints what came back within the callback, where results
 * are lent. A write in doubt prints its token and the way to go on with it. */
#include <string.h>

#include <stdlib.h>

#include "cli.h"
#include "connect.h"
#include "input.h"
#include "print.h"

typedef int (*records_call)(struct kho *client, const char *collection,
                            const struct kho_item *items, size_t count, uint32_t deadline_ms,
                            kho_records_cb cb, void *arg, kho_call_id *ret_call);

struct asked {
    const struct args *args;
    const char *collection;
    /* Prints one result that is no failure. */
    void (*print)(struct asked *asked, const struct kho_result *result);
    struct table *table; /* of stat */
    bool writes;
    bool done;
    int exit;
};

static void tell_failure(struct asked *asked, const struct kho_result *result)
{
    struct key_text text;
    const char *key = key_escape(result->key, result->key_len, &text);
    if (!asked->writes || result->outcome != KHO_IN_DOUBT) {
        say("%s/%s: %s", asked->collection, key, kho_strerror(result->status));
        return;
    }
    char token[2 * sizeof result->token.bytes + 1];
    hex_encode(result->token.bytes, sizeof result->token.bytes, token);
    say("%s/%s: %s: run the same command with --token %s", asked->collection, key,
        kho_strerror(KHO_EINDOUBT), token);
}

static void records_cb(struct kho *client, const struct kho_result *results, size_t count,
                       void *arg)
{
    struct asked *asked = arg;
    (void)client;
    for (size_t i = 0; i < count; i++) {
        const struct kho_result *result = &results[i];
        int code = exit_of(result->status);
        asked->exit = exit_worse(asked->exit, code);
        if (result->status != 0)
            tell_failure(asked, result);
        if (args_flag(asked->args, "json"))
            print_json(result_json(result, asked->writes), false);
        else if (result->status == 0)
            asked->print(asked, result);
    }
    asked->done = true;
}

static void print_nothing(struct asked *asked, const struct kho_result *result)
{
    (void)asked;
    (void)result;
}

static void print_key(struct asked *asked, const struct kho_result *result)
{
    struct key_text key;
    (void)asked;
    puts(key_escape(result->key, result->key_len, &key));
}

static void print_stat(struct asked *asked, const struct kho_result *result)
{
    struct small_text count, version, time;
    struct key_text key;
    char hash[33];
    hex_encode(result->hash, sizeof result->hash, hash);
    table_add(asked->table, human_count(result->value_len, &count));
    table_add(asked->table, version_time(result->version, &time));
    table_add(asked->table, version_text(result->version, &version));
    table_add(asked->table, hash);
    table_add(asked->table, key_escape(result->key, result->key_len, &key));
}

static int ask(struct asked *asked, records_call call, const struct kho_item *items, size_t count)
{
    int code;
    struct connection *connection = connection_open(asked->args, &code);
    if (connection == NULL)
        return code;
    int rc = call(connection->client, asked->collection, items, count, connection->deadline_ms,
                  records_cb, asked, NULL);
    if (rc == 0) {
        connection_wait(connection, &asked->done);
    } else {
        say("%s: %s", asked->collection, kho_strerror(rc));
        asked->exit = exit_of(rc);
    }
    connection_close(connection);
    return asked->exit;
}

/* The token of --token. 0, or EXIT_USAGE. */
static int take_token(const struct args *args, struct kho_token *token,
                      const struct kho_token **ret_token)
{
    const char *text = args_text(args, "token");
    *ret_token = NULL;
    if (text == NULL)
        return 0;
    if (!hex_decode(text, token->bytes, sizeof token->bytes)) {
        say("--token takes the %zu hex digits that an in-doubt write printed",
            2 * sizeof token->bytes);
        return EXIT_USAGE;
    }
    *ret_token = token;
    return 0;
}

/* Words from the second on are keys. */
static int ask_keys(const struct args *args, records_call call,
                    void (*print)(struct asked *, const struct kho_result *), struct table *table)
{
    size_t count = args->word_count - 1, taken = 0;
    struct input *keys = must(calloc(count, sizeof *keys));
    struct kho_item *items = must(calloc(count, sizeof *items));
    struct kho_token token;
    const struct kho_token *use = NULL;
    int code = take_token(args, &token, &use);
    if (code == 0 && use != NULL && count > 1) {
        say("--token belongs to one write; name one key");
        code = EXIT_USAGE;
    }
    for (; code == 0 && taken < count; taken++) {
        code = input_key(args, args->words[1 + taken], &keys[taken]);
        items[taken] =
            (struct kho_item){.key = keys[taken].bytes, .key_len = keys[taken].len, .token = use};
    }
    struct asked asked = {.args = args,
                          .collection = args->words[0],
                          .print = print,
                          .table = table,
                          .writes = table == NULL};
    if (code == 0)
        code = ask(&asked, call, items, count);
    for (size_t i = 0; i < taken; i++)
        input_fini(&keys[i]);
    free(keys);
    free(items);
    return code;
}

static int put_run(const struct args *args)
{
    struct input key, value;
    struct kho_token token;
    struct kho_item item = {0};
    int code = take_token(args, &token, &item.token);
    if (code != 0)
        return code;
    code = input_key(args, args->words[1], &key);
    if (code != 0)
        return code;
    code = input_value(args->words[2], &value);
    if (code == 0) {
        item.key = key.bytes;
        item.key_len = key.len;
        item.value = value.bytes;
        item.value_len = value.len;
        struct asked asked = {
            .args = args, .collection = args->words[0], .print = print_nothing, .writes = true};
        code = ask(&asked, kho_put, &item, 1);
        input_fini(&value);
    }
    input_fini(&key);
    return code;
}

static int append_run(const struct args *args)
{
    struct input key = {0}, value;
    struct kho_token token;
    struct kho_item item = {0};
    const char *given = args_text(args, "key");
    uint8_t own[16];
    int code = take_token(args, &token, &item.token);
    if (code != 0)
        return code;
    if (given != NULL) {
        int len = key_unescape(given, own, sizeof own);
        if (len != (int)sizeof own) {
            say("--key takes a key of 16 bytes as an earlier append printed it, not '%s'", given);
            return EXIT_USAGE;
        }
        key = (struct input){.bytes = own, .len = sizeof own};
    }
    if (item.token != NULL && given == NULL) {
        say("--token goes with the --key that the in-doubt append printed");
        return EXIT_USAGE;
    }
    code = input_value(args->words[1], &value);
    if (code != 0)
        return code;
    item.key = key.bytes;
    item.key_len = key.len;
    item.value = value.bytes;
    item.value_len = value.len;
    struct asked asked = {
        .args = args, .collection = args->words[0], .print = print_key, .writes = true};
    code = ask(&asked, kho_append, &item, 1);
    input_fini(&value);
    return code;
}

static int del_run(const struct args *args)
{
    return ask_keys(args, kho_del, print_nothing, NULL);
}

static int stat_run(const struct args *args)
{
    static const char *const titles[] = {">LENGTH", "WRITTEN", "VERSION", "HASH", "KEY"};
    struct table table;
    table_init(&table, titles, sizeof titles / sizeof titles[0]);
    int code = ask_keys(args, kho_stat, print_stat, &table);
    if (table.count > 0)
        table_print(&table);
    table_fini(&table);
    return code;
}

/* get writes the value and nothing else, so it has a callback of its own. */
static void get_cb(struct kho *client, const struct kho_result *results, size_t count, void *arg)
{
    struct asked *asked = arg;
    (void)client;
    for (size_t i = 0; i < count; i++) {
        asked->exit = exit_of(results[i].status);
        bool json = args_flag(asked->args, "json");
        if (results[i].status != 0)
            tell_failure(asked, &results[i]);
        if (!json && results[i].status == 0)
            print_bytes(results[i].value, results[i].value_len);
        if (!json)
            continue;
        json_t *object = result_json(&results[i], false);
        json_t *text =
            results[i].status == 0 ? json_stringn(results[i].value, results[i].value_len) : NULL;
        if (text != NULL) {
            json_object_set_new(object, "value", text);
        } else if (results[i].status == 0) {
            char *hex = must(malloc(2 * results[i].value_len + 1));
            hex_encode(results[i].value, results[i].value_len, hex);
            json_object_set_new(object, "value_hex", json_string(hex));
            free(hex);
        }
        print_json(object, false);
    }
    asked->done = true;
}

static int get_run(const struct args *args)
{
    struct input key;
    int code = input_key(args, args->words[1], &key);
    if (code != 0)
        return code;
    struct asked asked = {.args = args, .collection = args->words[0]};
    struct kho_item item = {.key = key.bytes, .key_len = key.len};
    struct connection *connection = connection_open(args, &code);
    if (connection != NULL) {
        int rc = kho_get(connection->client, asked.collection, &item, 1, connection->deadline_ms,
                         get_cb, &asked, NULL);
        if (rc == 0) {
            connection_wait(connection, &asked.done);
            code = asked.exit;
        } else {
            say("%s: %s", asked.collection, kho_strerror(rc));
            code = exit_of(rc);
        }
        connection_close(connection);
    }
    input_fini(&key);
    return code;
}

#define ESCAPED                                                                                    \
    {                                                                                              \
        "escaped", NULL, "keys are written with %XX, as kho prints them"                           \
    }
#define TOKEN                                                                                      \
    {                                                                                              \
        "token", "HEX", "go on with a write that ended in doubt"                                   \
    }

static const struct option_spec key_options[] = {ESCAPED, {NULL, NULL, NULL}};
static const struct option_spec write_options[] = {ESCAPED, TOKEN, {NULL, NULL, NULL}};
static const struct option_spec append_options[] = {
    {"key", "KEY", "of an append that ended in doubt, as it was printed"},
    TOKEN,
    {NULL, NULL, NULL},
};

const struct command command_put = {
    .words = "put",
    .arguments = "COLLECTION KEY VALUE|-|@FILE",
    .summary = "store a record on a majority of its replicas",
    .details =
        "  The value is the argument's bytes, standard input ('-') or a file ('@FILE'), up to 16 "
        "MiB.\n"
        "  Prints nothing when the record is stored. In doubt (exit code 4) means that it may be\n"
        "  there or appear later: the same command with the printed --token makes certain, and\n"
        "  the write happens once.",
    .options = write_options,
    .words_min = 3,
    .words_max = 3,
    .run = put_run,
};
const struct command command_get = {
    .words = "get",
    .arguments = "COLLECTION KEY",
    .summary = "write a record's exact bytes to standard output",
    .details = "  With --json the value is a string where it is UTF-8, else \"value_hex\".",
    .options = key_options,
    .words_min = 2,
    .words_max = 2,
    .run = get_run,
};
const struct command command_stat = {
    .words = "stat",
    .arguments = "COLLECTION KEY…",
    .summary = "length, version and content hash of records",
    .details = "  The hash is XXH3-128 of the value; the time is the nodes', of the write.",
    .options = key_options,
    .words_min = 2,
    .words_max = 65536,
    .run = stat_run,
};
const struct command command_del = {
    .words = "del",
    .arguments = "COLLECTION KEY…",
    .summary = "delete records",
    .details = "  Deleting what isn't there is done, too: it leaves a tombstone.",
    .options = write_options,
    .words_min = 2,
    .words_max = 65536,
    .run = del_run,
};
const struct command command_append = {
    .words = "append",
    .arguments = "COLLECTION VALUE|-|@FILE",
    .summary = "store a record under a new key, which is printed",
    .details = "  The key has 16 bytes and is printed with %XX; get it with --escaped.",
    .options = append_options,
    .words_min = 2,
    .words_max = 2,
    .run = append_run,
};
