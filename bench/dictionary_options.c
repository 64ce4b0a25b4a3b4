/* dictionary_options.c: the options of 'dictionary' and its help. Every refusal names the option,
 * the value and what is allowed. */
#include "dictionary_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include <kho/base.h>

#include "engine_rows.h"

static const uint64_t RECORDS_MIN = 2000, RECORDS_MAX = 4000000;

const char dictionary_help[] =
    "usage: kho-bench dictionary [OPTION…]\n"
    "\n"
    "Packs small records as a node does, in blocks of 16, 8 and 4 KiB with LZ4, but with a\n"
    "dictionary that was made of one half of the records before the other half is packed. Prints\n"
    "bytes a record, what the dictionary saves of the disk, and how fast one core packs and\n"
    "unpacks, over the same without a dictionary in the same rounds; medians. No cluster, no "
    "disk.\n"
    "\n"
    "  none          LZ4 alone, what a node does\n"
    "  headless      the same without the 48 bytes of head before each record\n"
    "  plain64k      the dictionary is a run of records, as they are\n"
    "  trained4k …   a dictionary of that size from zstd's trainer\n"
    "  quick64k      the largest of those with LZ4's acceleration 2: faster, and packs less\n"
    "\n"
    "  --sets LIST      of citizens, eids (both made up) and packages (real), with commas\n"
    "                   (default: all)\n"
    "  --records N      of each made-up set, 2,000 to 4,000,000 (200,000)\n"
    "  --packages FILE  package records in Debian's control format (default: those that "
    "'apt-cache\n"
    "                   dumpavail' tells; where it tells none the set is left out)\n"
    "  --order ORDER    as records come to the node: come (as the source has them), key or random\n"
    "                   (come)\n"
    "  --rounds N       1 to 99 (5)\n"
    "  --json FILE      the report, as JSON (-: standard output): packed, disk, pack and unpack "
    "of\n"
    "                   each row; \"floor\" is the same without a dictionary\n"
    "\n"
    "Exit codes: 0 done, 1 something failed, 2 wrong use.\n";

static const char *const order_names[] = {
    [ENTRIES_AS_THEY_COME] = "come", [ENTRIES_BY_KEY] = "key", [ENTRIES_AT_RANDOM] = "random"};

const char *dictionary_order_name(enum entries_order order)
{
    return order_names[order];
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
    snprintf(error, DICTIONARY_ERROR_MAX, "--%s takes a number from %s to %s, not '%.100s'", option,
             report_thousands(least, (double)min), report_thousands(most, (double)max), text);
    return -1;
}

static int sets_read(const char *text, struct dictionary_options *options, char *error)
{
    options->citizens = options->eids = options->packages = false;
    for (const char *at = text;; at++) {
        size_t len = strcspn(at, ",");
        if (len == 8 && strncmp(at, "citizens", len) == 0) {
            options->citizens = true;
        } else if (len == 4 && strncmp(at, "eids", len) == 0) {
            options->eids = true;
        } else if (len == 8 && strncmp(at, "packages", len) == 0) {
            options->packages = true;
        } else {
            snprintf(error, DICTIONARY_ERROR_MAX,
                     "--sets takes some of citizens, eids, packages, not '%.*s'",
                     (int)kho_min(len, 100), at);
            return -1;
        }
        at += len;
        if (*at == '\0')
            return 0;
    }
}

static int order_read(const char *text, enum entries_order *ret_order, char *error)
{
    for (unsigned i = 0; i < KHO_COUNT_OF(order_names); i++)
        if (strcmp(text, order_names[i]) == 0) {
            *ret_order = (enum entries_order)i;
            return 0;
        }
    snprintf(error, DICTIONARY_ERROR_MAX, "--order takes come, key or random, not '%.100s'", text);
    return -1;
}

static int option_take(int option, const char *value, struct dictionary_options *options,
                       char *error)
{
    switch (option) {
    case 's':
        return sets_read(value, options, error);
    case 'n':
        return whole_read("records", value, RECORDS_MIN, RECORDS_MAX, &options->records, error);
    case 'p':
        options->file = value;
        return 0;
    case 'o':
        return order_read(value, &options->order, error);
    case 'r':
        return whole_read("rounds", value, 1, ROUNDS_MAX, &options->rounds, error);
    case 'j':
        options->json = value;
        return 0;
    default:
        KHO_ASSERT(option == 'h');
        options->help = true;
        return 0;
    }
}

int dictionary_options_read(int argc, char **argv, struct dictionary_options *ret_options,
                            char *error)
{
    static const struct option known[] = {
        {"sets", required_argument, NULL, 's'},     {"records", required_argument, NULL, 'n'},
        {"packages", required_argument, NULL, 'p'}, {"order", required_argument, NULL, 'o'},
        {"rounds", required_argument, NULL, 'r'},   {"json", required_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0}};
    struct dictionary_options options = {
        .citizens = true, .eids = true, .packages = true, .records = 200000, .rounds = 5};
    int option;
    opterr = 0;
    optind = 0; /* glibc's getopt starts anew, whoever has used it before */
    while ((option = getopt_long(argc, argv, ":", known, NULL)) != -1) {
        if (option == '?' || option == ':') {
            snprintf(error, DICTIONARY_ERROR_MAX, "%s '%.100s'",
                     option == '?' ? "dictionary takes no option" : "a value is missing behind",
                     argv[optind - 1]);
            return -1;
        }
        if (option_take(option, optarg, &options, error) != 0)
            return -1;
    }
    if (optind < argc) {
        snprintf(error, DICTIONARY_ERROR_MAX, "dictionary takes no argument '%.100s'",
                 argv[optind]);
        return -1;
    }
    *ret_options = options;
    return 0;
}
