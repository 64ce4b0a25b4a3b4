/* engine_options.c: the options of 'engine' and its help. Every refusal names the option, the value
 * and what is allowed. */
#include "engine_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kho/base.h>

#include "engine_rows.h"

static const uint64_t RECORDS_MIN = 1000, RECORDS_MAX = 100000000;

const char engine_help[] =
    "usage: kho-bench engine [OPTION…]\n"
    "\n"
    "Measures one shard's engine without sockets: the node's own core, ring and disk driver on a\n"
    "data folder. In the same rounds it measures the floor: bare io_uring requests of the same\n"
    "size, depth and sync on the same disk, or the bare work on the core. Prints kho's figure,\n"
    "the floor's and kho's over the floor's, each the median of all rounds.\n"
    "\n"
    "  append.1m .64k .16k .1k  values of that size that don't compress, over synced writes of "
    "the\n"
    "                           engine's mean commit, as many in flight, to a file that was "
    "written\n"
    "                           before\n"
    "  append.new.1m .64k …     the same, over such writes to a new file\n"
    "  overwrite.1m .64k        the same with keys that were there already, so that the log's "
    "files\n"
    "                           are used again\n"
    "  append.300.qd1           one citizen (some 300 bytes) after another: the median time until\n"
    "                           it is durable, over that of a synced write of 4 KiB\n"
    "  append.300.qd64          64 citizens in flight, over bare writes of the same commits\n"
    "  append.300.qd4096        4,096 in flight, over the same records hashed, copied and\n"
    "                           compressed in a bare loop\n"
    "  append.300.core          the same rounds, per second of CPU\n"
    "  memory.per_record        resident memory with all --records, over the empty node\n"
    "  disk.over_lz4            bytes of blocks with their heads and padding, over LZ4 of the "
    "same\n"
    "                           entries in bare blocks of 16 KiB\n"
    "  disk.footers             bytes of segment footers\n"
    "  restart.10m              seconds from a crash until the shard serves again; with another\n"
    "                           number of --records its name follows it\n"
    "  read.cold.qd32           random records that aren't cached, 32 in flight, over random "
    "direct\n"
    "                           reads of 4 KiB\n"
    "  read.cached              random records of cached blocks, per second of CPU\n"
    "  multiget.neighbours      requests for 256 records that were written one after another, 8 "
    "in\n"
    "                           flight: uncompressed bytes, over sequential reads of 1 MiB\n"
    "  scan                     the collection listed with its records, likewise\n"
    "  compact.overwrite        at most 2,000,000 of --records overwritten at random, half of the "
    "log\n"
    "                           dead: bytes of blocks and footers that the disk gets a record, "
    "over\n"
    "                           those of a node that never compacts\n"
    "  compact.foreground       records taken a second meanwhile, over that node's\n"
    "\n"
    "  --folder DIR     where the data goes: a folder of its own in DIR, removed at the end\n"
    "                   (default: $TMPDIR or /var/tmp)\n"
    "  --rows LIST      only these, with commas; \"append\" stands for all that begin with it\n"
    "  --rounds N       1 to 99 (5)\n"
    "  --records N      of the data set, 1,000 to 100,000,000 (10,000,000)\n"
    "  --seconds F      of each measurement in a round, at most, 0.01 to 60 (1)\n"
    "  --json FILE      the report, as JSON (-: standard output)\n"
    "\n"
    "Exit codes: 0 done, 1 something failed, 2 wrong use.\n";

static const char *const known_rows[] = {
    "append.1m",           "append.64k",
    "append.16k",          "append.1k",
    "append.new.1m",       "append.new.64k",
    "append.new.16k",      "append.new.1k",
    "overwrite.1m",        "overwrite.64k",
    "append.300.qd1",      "append.300.qd64",
    "append.300.qd4096",   "append.300.core",
    "memory.per_record",   "disk.over_lz4",
    "disk.footers",        "restart.10m",
    "read.cold.qd32",      "read.cached",
    "multiget.neighbours", "scan",
    "compact.overwrite",   "compact.foreground",
};

/* True if one of the names in `rows` is `row`, or what `row` begins with before a dot. */
static bool list_has(const char *rows, const char *row)
{
    for (const char *at = rows; *at != '\0'; at += strcspn(at, ","), at += *at == ',') {
        size_t len = strcspn(at, ",");
        if (len > 0 && strncmp(at, row, len) == 0 && (row[len] == '\0' || row[len] == '.'))
            return true;
    }
    return false;
}

bool engine_options_want(const struct engine_options *options, const char *row)
{
    return options->rows == NULL || list_has(options->rows, row);
}

/* The first name of the list that no row has, with its length; NULL: each has one. */
static const char *rows_unknown(const char *rows, size_t *ret_len)
{
    char name[64];
    for (const char *at = rows;; at += *ret_len + 1) {
        bool known = false;
        *ret_len = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)*ret_len, at);
        for (size_t i = 0; i < KHO_COUNT_OF(known_rows); i++)
            known |= list_has(name, known_rows[i]);
        if (!known)
            return at;
        if (at[*ret_len] == '\0')
            return NULL;
    }
}

static int whole_read(const char *option, const char *text, uint64_t min, uint64_t max,
                      uint64_t *ret, char *error)
{
    char *end, least[32], most[32];
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno == 0 && *text >= '0' && *text <= '9' && *end == '\0' && n >= min && n <= max) {
        *ret = n;
        return 0;
    }
    snprintf(error, ENGINE_ERROR_MAX, "--%s takes a number from %s to %s, not '%.100s'", option,
             report_thousands(least, (double)min), report_thousands(most, (double)max), text);
    return -1;
}

static int option_take(int option, const char *value, struct engine_options *options, char *error)
{
    char *end;
    size_t len;
    switch (option) {
    case 'f':
        options->folder = value;
        return 0;
    case 'j':
        options->json = value;
        return 0;
    case 'h':
        options->help = true;
        return 0;
    case 'o':
        return whole_read("rounds", value, 1, ROUNDS_MAX, &options->rounds, error);
    case 'n':
        return whole_read("records", value, RECORDS_MIN, RECORDS_MAX, &options->records, error);
    case 's':
        options->seconds = strtod(value, &end);
        if (end != value && *end == '\0' && options->seconds >= 0.01 && options->seconds <= 60)
            return 0;
        snprintf(error, ENGINE_ERROR_MAX, "--seconds takes a number from 0.01 to 60, not '%.100s'",
                 value);
        return -1;
    default:
        KHO_ASSERT(option == 'r');
        options->rows = value;
        const char *unknown = rows_unknown(value, &len);
        if (unknown == NULL)
            return 0;
        snprintf(error, ENGINE_ERROR_MAX,
                 "--rows: there is no row '%.*s'; 'kho-bench help engine' lists them",
                 (int)kho_min(len, 100), unknown);
        return -1;
    }
}

int engine_options_read(int argc, char **argv, struct engine_options *ret_options, char *error)
{
    static const struct option known[] = {
        {"folder", required_argument, NULL, 'f'},  {"rows", required_argument, NULL, 'r'},
        {"rounds", required_argument, NULL, 'o'},  {"records", required_argument, NULL, 'n'},
        {"seconds", required_argument, NULL, 's'}, {"json", required_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
    struct engine_options options = {.rounds = 5, .records = 10000000, .seconds = 1};
    int option;
    opterr = 0;
    optind = 0; /* glibc's getopt starts anew, whoever has used it before */
    while ((option = getopt_long(argc, argv, ":", known, NULL)) != -1) {
        if (option == '?' || option == ':') {
            snprintf(error, ENGINE_ERROR_MAX, "%s '%.100s'",
                     option == '?' ? "engine takes no option" : "a value is missing behind",
                     argv[optind - 1]);
            return -1;
        }
        if (option_take(option, optarg, &options, error) != 0)
            return -1;
    }
    if (optind < argc) {
        snprintf(error, ENGINE_ERROR_MAX, "engine takes no argument '%.100s'", argv[optind]);
        return -1;
    }
    *ret_options = options;
    return 0;
}
