/* cmd_list.c: ls: the records of a collection, page by page, printed as they come.
 *
 * A record whose head can't be read is printed with the cause and makes the exit code; the listing
 * goes on behind it. */
#include <inttypes.h>

#include "cli.h"
#include "connect.h"
#include "print.h"

enum { PAGE = 1000 };

struct listing {
    const struct args *args;
    uint64_t left;
    struct kho_cursor cursor;
    int exit;
    int status;
    bool page_done;
    bool end;
};

static void print_line(const struct listing *listing, const struct kho_result *result)
{
    struct key_text key;
    struct small_text count, time;
    key_escape(result->key, result->key_len, &key);
    if (args_flag(listing->args, "keys"))
        puts(key.text);
    else
        printf("%12s  %19s  %s\n", human_count(result->value_len, &count),
               version_time(result->version, &time), key.text);
}

static void page_cb(struct kho *client, int status, const struct kho_result *results, size_t count,
                    const struct kho_cursor *next, int done, void *arg)
{
    struct listing *listing = arg;
    (void)client;
    listing->page_done = true;
    listing->status = status;
    for (size_t i = 0; status == 0 && i < count && listing->left > 0; i++) {
        listing->left--;
        listing->exit = exit_worse(listing->exit, exit_of(results[i].status));
        if (args_flag(listing->args, "json")) {
            print_json(result_json(&results[i], false), false);
        } else if (results[i].status != 0) {
            struct key_text key;
            say("%s/%s: %s", listing->args->words[0],
                key_escape(results[i].key, results[i].key_len, &key),
                kho_strerror(results[i].status));
        } else {
            print_line(listing, &results[i]);
        }
    }
    if (status == 0)
        listing->cursor = *next;
    listing->end = status != 0 || done != 0 || listing->left == 0;
}

static int ls_run(const struct args *args)
{
    if (args->word_count == 0)
        return collection_ls_run(args);
    struct listing listing = {.args = args, .left = UINT64_MAX};
    int code;
    if (!args_number(args, "limit", 1, UINT64_MAX, &listing.left))
        return EXIT_USAGE;
    struct connection *connection = connection_open(args, &code);
    if (connection == NULL)
        return code;
    while (!listing.end) {
        listing.page_done = false;
        size_t limit = listing.left < PAGE ? (size_t)listing.left : PAGE;
        int rc = kho_list(connection->client, args->words[0], &listing.cursor, limit, 0,
                          connection->deadline_ms, page_cb, &listing, NULL);
        if (rc != 0) {
            listing.status = rc;
            break;
        }
        connection_wait(connection, &listing.page_done);
        if (!print_flush())
            break;
    }
    if (listing.status != 0) {
        say("%s: %s", args->words[0], kho_strerror(listing.status));
        listing.exit = exit_worse(listing.exit, exit_of(listing.status));
    }
    connection_close(connection);
    return listing.exit;
}

static const struct option_spec ls_options[] = {
    {"keys", NULL, "print keys alone"},
    {"limit", "N", "at most N records"},
    {NULL, NULL, NULL},
};

const struct command command_ls = {
    .words = "ls",
    .arguments = "[COLLECTION]",
    .summary = "list the records of a collection (none named: the collections)",
    .details =
        "  Length, time and key of each, in the order of key hashes. A record acknowledged before\n"
        "  the listing began and not deleted appears exactly once. With --json one object a line.",
    .options = ls_options,
    .words_min = 0,
    .words_max = 1,
    .run = ls_run,
};
