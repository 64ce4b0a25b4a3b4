/* cmd_import.c: import: takes the records of a file or of standard input into a collection. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "import.h"
#include "print.h"

/* Fills in the format and where to read. 0 or an exit code. */
static int open_source(const struct args *args, struct import_options *options)
{
    const char *file = args->words[1], *name = args_text(args, "format");
    bool standard = strcmp(file, "-") == 0;
    options->splitter.format = name != NULL ? format_find(name)
                               : standard   ? NULL
                                            : format_guess(file);
    options->splitter.source = file;
    if (options->splitter.format == NULL) {
        if (name != NULL)
            say("there is no format '%s'; --format takes one of %s", name, format_names());
        else
            say("can't tell the format of '%s'; give --format, one of %s", file, format_names());
        return EXIT_USAGE;
    }
    if (options->splitter.format == &format_lines && options->splitter.key_field != NULL) {
        say("--key %s: plain lines have no fields; their keys are the file's name and their number",
            options->splitter.key_field);
        return EXIT_USAGE;
    }
    options->fd = standard ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
    struct stat stat;
    if (options->fd < 0 || fstat(options->fd, &stat) != 0 || S_ISDIR(stat.st_mode)) {
        say("can't read %s: %s", file,
            strerror(options->fd >= 0 && S_ISDIR(stat.st_mode) ? EISDIR : errno));
        return EXIT_OTHER;
    }
    off_t here = lseek(options->fd, 0, SEEK_CUR);
    options->regular = S_ISREG(stat.st_mode) && here == 0;
    options->size = S_ISREG(stat.st_mode) && here >= 0 ? (uint64_t)(stat.st_size - here) : 0;
    return 0;
}

/* Whether the collection is there, or is made now. 0 or an exit code. */
static int prepare_collection(const struct args *args, struct connection *connection)
{
    const char *name = args->words[0];
    struct kho_cluster_info info;
    int rc = kho_cluster(connection->client, &info);
    for (size_t i = 0; rc == 0 && i < info.collection_count; i++)
        if (strcmp(info.collections[i].name, name) == 0)
            return 0;
    if (rc == 0 && !args_flag(args, "create")) {
        say("the cluster has no collection %s: add --create, or run 'kho collection create %s'",
            name, name);
        return exit_of(KHO_ENOCOLLECTION);
    }
    struct waited_status waited = {.done = false};
    if (rc == 0)
        rc = kho_collection_create(connection->client, name, -1, 0, connection->deadline_ms,
                                   waited_status_cb, &waited);
    if (rc == 0) {
        connection_wait(connection, &waited.done);
        rc = waited.status;
    }
    if (rc == KHO_ECOLLECTIONEXISTS)
        rc = 0; /* another was quicker */
    if (rc != 0)
        say("collection %s: %s", name, kho_strerror(rc));
    return exit_of(rc);
}

static void print_counts(const struct import_counts *counts)
{
    static const char *const titles[] = {">RECORDS", ">STORED", ">SKIPPED", ">REPEATED",
                                         ">FAILED",  ">BYTES",  ">TIME",    ">RECORDS/S"};
    struct table table;
    struct small_text text;
    table_init(&table, titles, sizeof titles / sizeof titles[0]);
    table_add(&table, human_count(counts->records, &text));
    table_add(&table, human_count(counts->stored, &text));
    table_add(&table, human_count(counts->skipped, &text));
    table_add(&table, human_count(counts->repeated, &text));
    table_add_marked(&table, human_count(counts->failed, &text),
                     counts->failed > 0 ? MARK_BAD : MARK_NONE);
    table_add(&table, human_bytes(counts->bytes, &text));
    table_add(&table, human_seconds(counts->seconds, &text));
    table_add(&table, human_count(counts->seconds > 0
                                      ? (uint64_t)((double)counts->records / counts->seconds)
                                      : counts->records,
                                  &text));
    table_print(&table);
    table_fini(&table);
}

static void print_counts_json(const struct import_counts *counts)
{
    print_json(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "records",
                         (json_int_t)counts->records, "stored", (json_int_t)counts->stored,
                         "skipped", (json_int_t)counts->skipped, "repeated",
                         (json_int_t)counts->repeated, "failed", (json_int_t)counts->failed,
                         "bytes", (json_int_t)counts->bytes, "seconds", counts->seconds),
               false);
}

static int import_command(const struct args *args)
{
    struct import_options options = {.collection = args->words[0], .batch = 1000};
    struct import_counts counts;
    int code;
    if (!args_number(args, "rate", 1, 1000000000, &options.rate) ||
        !args_number(args, "batch", 1, 65536, &options.batch))
        return EXIT_USAGE;
    options.splitter.key_field = args_text(args, "key");
    options.splitter.no_header = args_flag(args, "no-header");
    options.store_all = args_flag(args, "all");
    code = open_source(args, &options);
    if (code != 0)
        return code;
    struct connection *connection = connection_open(args, &code);
    if (connection != NULL) {
        code = prepare_collection(args, connection);
        if (code == 0) {
            code = import_run(connection, &options, &counts);
            if (args_flag(args, "json"))
                print_counts_json(&counts);
            else
                print_counts(&counts);
        }
        connection_close(connection);
    }
    if (options.fd != STDIN_FILENO)
        close(options.fd);
    return code;
}

static const struct option_spec import_options_table[] = {
    {"format", "FORMAT", "deb822, jsonl, csv or lines; guessed from the file's name"},
    {"key", "FIELD", "the field that is the key"},
    {"no-header", NULL, "csv: the first row is a record, --key a column's number"},
    {"create", NULL, "make the collection if it is missing"},
    {"rate", "N", "at most N records a second"},
    {"batch", "N", "records in a call (default 1000)"},
    {"all", NULL, "store all records without asking first what is there"},
    {NULL, NULL, NULL},
};

const struct command command_import = {
    .words = "import",
    .arguments = "COLLECTION FILE|-",
    .summary = "store the records of a file; those already there are skipped",
    .details =
        "  The value of a record is its raw bytes, without the end of its last line. Formats, "
        "with\n"
        "  where the key comes from:\n"
        "    deb822  Debian's control format, stanzas parted by empty lines; Package, or --key\n"
        "    jsonl   one JSON object a line; its member id, or --key\n"
        "    csv     comma-separated, with a header row; the first column, or --key\n"
        "    lines   plain lines; the file's name and the line's number, \"notes.txt:17\"\n"
        "  Of records with one key the last wins. Bad records are told and skipped. A second run\n"
        "  skips what the cluster has with the same content hash, so it goes on where the first\n"
        "  one stopped. Each key takes up to 48 bytes of memory meanwhile.",
    .options = import_options_table,
    .words_min = 2,
    .words_max = 2,
    .run = import_command,
};
