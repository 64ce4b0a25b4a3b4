/* cmd_export.c: export: writes the records of a collection, in listing order, in a format that
 * import reads back.
 *
 * A file is written beside its place and renamed when it is whole. A record whose bytes don't make
 * a record of the format is told and left out; the export goes on and ends with EXIT_OTHER. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "connect.h"
#include "format.h"
#include "print.h"
#include "progress.h"

enum { PAGE = 500, TOLD_MAX = 10 };

struct exporting {
    const struct args *args;
    const struct format *format;
    struct splitter judge;
    struct progress progress;
    FILE *out;
    struct kho_cursor cursor;
    uint64_t records, bytes, unfit, other_keys, failed;
    bool header_due;
    bool page_done, end;
    int status;
    int write_error;
    int exit;
};

static void put_out(struct exporting *ex, const void *bytes, size_t len)
{
    if (len > 0 && ex->write_error == 0 && fwrite(bytes, 1, len, ex->out) < len)
        ex->write_error = errno != 0 ? errno : EIO;
}

/* A header row for csv: import takes the first row for one. Without names to give, the columns are
 * numbered after the first record. */
static void put_header(struct exporting *ex, const struct kho_result *first)
{
    const char *given = args_text(ex->args, "header");
    if (given != NULL) {
        put_out(ex, given, strlen(given));
    } else {
        const uint8_t *bytes = first->value;
        bool quoted = false;
        size_t columns = 1;
        for (size_t i = 0; i < first->value_len; i++) {
            quoted ^= bytes[i] == '"';
            columns += bytes[i] == ',' && !quoted;
        }
        for (size_t i = 1; i <= columns; i++) {
            char name[32];
            int len = snprintf(name, sizeof name, "%scolumn%zu", i > 1 ? "," : "", i);
            put_out(ex, name, (size_t)len);
        }
    }
    put_out(ex, "\n", 1);
    ex->header_due = false;
}

static void tell(struct exporting *ex, const struct kho_result *result, const char *cause)
{
    struct key_text key;
    progress_clear(&ex->progress);
    if (ex->unfit + ex->failed <= TOLD_MAX)
        say("%s/%s: %s", ex->args->words[0], key_escape(result->key, result->key_len, &key), cause);
    else if (ex->unfit + ex->failed == TOLD_MAX + 1)
        say("further records that can't be written are counted only");
}

static void export_record(struct exporting *ex, const struct kho_result *result)
{
    if (result->status != 0) {
        ex->failed++;
        ex->exit = exit_worse(ex->exit, exit_of(result->status));
        tell(ex, result, kho_strerror(result->status));
        return;
    }
    struct format_record record = {.key = result->key,
                                   .key_len = result->key_len,
                                   .value = result->value,
                                   .value_len = result->value_len};
    enum format_fit fit = format_fit(&ex->judge, &record);
    if (fit == FORMAT_UNFIT) {
        char cause[FORMAT_MESSAGE_MAX + 80];
        ex->unfit++;
        ex->exit = exit_worse(ex->exit, EXIT_OTHER);
        snprintf(cause, sizeof cause,
                 "left out, it makes no record of %s: %s; try another --format", ex->format->name,
                 ex->judge.message);
        tell(ex, result, cause);
        return;
    }
    ex->other_keys += fit == FORMAT_OTHER_KEY;
    if (ex->header_due)
        put_header(ex, result);
    put_out(ex, result->value, result->value_len);
    put_out(ex, ex->format->separator, strlen(ex->format->separator));
    ex->records++;
    ex->bytes += result->value_len;
}

static void page_cb(struct kho *client, int status, const struct kho_result *results, size_t count,
                    const struct kho_cursor *next, int done, void *arg)
{
    struct exporting *ex = arg;
    (void)client;
    ex->page_done = true;
    ex->status = status;
    for (size_t i = 0; status == 0 && i < count; i++)
        export_record(ex, &results[i]);
    if (status == 0)
        ex->cursor = *next;
    ex->end = status != 0 || done != 0;
    progress_draw(&ex->progress, ex->records, ex->bytes, 0);
}

/* All pages. 0 or an exit code. */
static int run_pages(struct exporting *ex, struct connection *connection)
{
    while (!ex->end && ex->write_error == 0) {
        ex->page_done = false;
        int rc = kho_list(connection->client, ex->args->words[0], &ex->cursor, PAGE,
                          KHO_LIST_WITH_VALUES, connection->deadline_ms, page_cb, ex, NULL);
        if (rc != 0) {
            ex->status = rc;
            break;
        }
        connection_wait(connection, &ex->page_done);
        if (ex->out == stdout && !print_flush())
            return EXIT_OTHER;
    }
    progress_clear(&ex->progress);
    if (ex->status != 0)
        say("%s: %s", ex->args->words[0], kho_strerror(ex->status));
    return exit_worse(ex->exit, exit_of(ex->status));
}

/* Opens FILE.part, runs, and gives it its name. */
static int export_to_file(struct exporting *ex, struct connection *connection, const char *file)
{
    char *part = must(malloc(strlen(file) + sizeof ".part"));
    strcpy(part, file);
    strcat(part, ".part");
    ex->out = fopen(part, "we");
    int code = EXIT_OTHER;
    if (ex->out == NULL) {
        say("can't write %s: %s", part, strerror(errno));
        goto out;
    }
    code = run_pages(ex, connection);
    if (ex->write_error == 0 && (fflush(ex->out) != 0 || fsync(fileno(ex->out)) != 0) &&
        errno != EINVAL)
        ex->write_error = errno;
    if (fclose(ex->out) != 0 && ex->write_error == 0)
        ex->write_error = errno;
    if (ex->write_error == 0 && ex->status == 0 && rename(part, file) != 0)
        ex->write_error = errno;
    if (ex->write_error != 0) {
        say("can't write %s: %s", file, strerror(ex->write_error));
        code = EXIT_OTHER;
    }
    if (ex->write_error != 0 || ex->status != 0)
        unlink(part);
out:
    free(part);
    return code;
}

/* What was written; on stderr when the records went to standard output. */
static void report(const struct exporting *ex, bool to_file)
{
    struct small_text count, size;
    if (args_flag(ex->args, "json") && to_file)
        print_json(json_pack("{s:I, s:I, s:I, s:I, s:I}", "records", (json_int_t)ex->records,
                             "bytes", (json_int_t)ex->bytes, "unfit", (json_int_t)ex->unfit,
                             "failed", (json_int_t)ex->failed, "other_keys",
                             (json_int_t)ex->other_keys),
                   false);
    else if (to_file)
        printf("%s records, %s\n", human_count(ex->records, &count), human_bytes(ex->bytes, &size));
    if (ex->unfit + ex->failed > 0)
        say("%s records were left out", human_count(ex->unfit + ex->failed, &count));
    if (ex->other_keys > 0)
        say("%s records will get another key when this is imported: theirs isn't in the key's "
            "field (--key)",
            human_count(ex->other_keys, &count));
}

static int export_run(const struct args *args)
{
    const char *file = args->word_count > 1 ? args->words[1] : "-";
    const char *name = args_text(args, "format");
    bool to_file = strcmp(file, "-") != 0;
    struct exporting ex = {.args = args, .out = stdout};
    int code;
    ex.format = name != NULL ? format_find(name) : to_file ? format_guess(file) : NULL;
    if (ex.format == NULL) {
        say("give --format, one of %s%s%s", format_names(), name != NULL ? ", not " : "",
            name != NULL ? name : "");
        return EXIT_USAGE;
    }
    struct splitter_options judge = {
        .format = ex.format, .key_field = args_text(args, "key"), .no_header = true};
    bool csv = ex.format == &format_csv;
    if (csv && judge.key_field != NULL && (*judge.key_field < '1' || *judge.key_field > '9')) {
        say("--key of a csv export is a column's number from 1, not '%s'", judge.key_field);
        return EXIT_USAGE;
    }
    ex.header_due = csv && !args_flag(args, "no-header");
    struct connection *connection = connection_open(args, &code);
    if (connection == NULL)
        return code;
    splitter_init(&ex.judge, &judge);
    progress_init(&ex.progress, "export", 0);
    code = to_file ? export_to_file(&ex, connection, file) : run_pages(&ex, connection);
    splitter_fini(&ex.judge);
    connection_close(connection);
    report(&ex, to_file);
    return code;
}

static const struct option_spec export_options[] = {
    {"format", "FORMAT", "deb822, jsonl, csv or lines; guessed from the file's name"},
    {"key", "FIELD", "the field that import will take for the key, to be checked"},
    {"header", "ROW", "csv: the header row (default column1,column2,…)"},
    {"no-header", NULL, "csv: write no header row; import it with --no-header"},
    {NULL, NULL, NULL},
};

const struct command command_export = {
    .words = "export",
    .arguments = "COLLECTION [FILE|-]",
    .summary = "write the records of a collection in a format that import reads",
    .details = "  Each record's raw bytes, in listing order. Importing the result gives the same "
               "records;\n"
               "  the keys of plain lines are places in a file, so theirs become new ones. A "
               "record whose\n"
               "  bytes make no record of the format is told and left out (exit code 6).",
    .options = export_options,
    .words_min = 1,
    .words_max = 2,
    .run = export_run,
};
