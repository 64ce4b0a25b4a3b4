/* main.c: kho-bench's commands and their options. Exit codes: 0 all compared equal, 1 something
 * failed or differed, 2 wrong use. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kho/kho.h>

#include "dictionary.h"
#include "dictionary_options.h"
#include "engine.h"
#include "hanoi.h"
#include "load_main.h"

enum { BATCH_DEFAULT = 256, INFLIGHT_DEFAULT = 8, BATCH_MAX = 65536, INFLIGHT_MAX = 1024 };

static const char usage[] =
    "usage: kho-bench COMMAND [OPTION…]\n"
    "\n"
    "  hanoi     loads a population like Hà Nội's into three local nodes of its own, updates one\n"
    "            citizen in a hundred, reads every record back and compares it with what the\n"
    "            generator says, verifies all replicas, and reports rates, latencies, CPU, memory\n"
    "            and disk a record\n"
    "  put       writes records by key, as fast as it goes\n"
    "  append    writes records under new keys, which the library gives\n"
    "  get       reads records by key\n"
    "  mixed     reads and writes records as a workload of YCSB has them\n"
    "  engine    measures one shard without sockets, beside what its disk and core can do at best\n"
    "  dictionary  what a dictionary would save of the disk when small records are compressed\n"
    "  help [COMMAND]\n"
    "            this, or the options of put, append, get, mixed, engine, dictionary\n"
    "  version   the program's version\n"
    "\n"
    "Options of hanoi\n"
    "  --scale F        1.0 is 6,018,769 citizens, 4,026,354 identity files, 543,906 activation\n"
    "                   events (default 0.01)\n"
    "  --seed N         the same seed makes the same records (default 1)\n"
    "  --batch N        records a call, 1 to 65,536 (default 256)\n"
    "  --inflight N     calls under way at once, 1 to 1,024 (default 8)\n"
    "  --dir DIR        where the nodes keep their data; it stays there afterwards (default: a\n"
    "                   temporary folder in $TMPDIR or /var/tmp, removed at the end)\n"
    "  --cluster LIST   HOST:PORT,… of an empty cluster to use instead\n"
    "  --json FILE      the report, as JSON (-: standard output)\n"
    "\n"
    "Exit codes: 0 everything compared equal, 1 something failed or differed, 2 wrong use.\n";

static int number_of(const char *option, const char *text, unsigned long long min,
                     unsigned long long max, unsigned long long *ret)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno != 0 || *text < '0' || *text > '9' || *end != '\0' || n < min || n > max) {
        fprintf(stderr, "kho-bench: --%s takes a number from %llu to %llu, not '%s'\n", option, min,
                max, text);
        return -1;
    }
    *ret = n;
    return 0;
}

static int scale_of(const char *text, double *ret)
{
    char *end;
    double scale = strtod(text, &end);
    if (end == text || *end != '\0' || !(scale > 0) || scale > 20) {
        fprintf(stderr, "kho-bench: --scale takes a factor above 0 and up to 20, not '%s'\n", text);
        return -1;
    }
    *ret = scale;
    return 0;
}

static int hanoi_main(int argc, char **argv)
{
    static const struct option known[] = {
        {"scale", required_argument, NULL, 's'},   {"seed", required_argument, NULL, 'r'},
        {"batch", required_argument, NULL, 'b'},   {"inflight", required_argument, NULL, 'i'},
        {"dir", required_argument, NULL, 'd'},     {"json", required_argument, NULL, 'j'},
        {"cluster", required_argument, NULL, 'c'}, {NULL, 0, NULL, 0}};
    struct hanoi_options o = {
        .scale = 0.01, .seed = 1, .batch = BATCH_DEFAULT, .inflight = INFLIGHT_DEFAULT};
    unsigned long long n = 0;
    int option, error = 0;
    while (error == 0 && (option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == 's') {
            error = scale_of(optarg, &o.scale);
        } else if (option == 'r') {
            error = number_of("seed", optarg, 0, UINT64_MAX, &n);
            o.seed = n;
        } else if (option == 'b') {
            error = number_of("batch", optarg, 1, BATCH_MAX, &n);
            o.batch = (size_t)n;
        } else if (option == 'i') {
            error = number_of("inflight", optarg, 1, INFLIGHT_MAX, &n);
            o.inflight = (size_t)n;
        } else if (option == 'd') {
            o.dir = optarg;
        } else if (option == 'c') {
            o.cluster = optarg;
        } else if (option == 'j') {
            o.json = optarg;
        } else {
            error = -1; /* getopt has said what is wrong */
        }
    }
    if (error == 0 && optind < argc) {
        fprintf(stderr, "kho-bench: hanoi takes no argument '%s'\n", argv[optind]);
        error = -1;
    }
    if (error != 0) {
        fprintf(stderr, "'kho-bench help' lists the options\n");
        return 2;
    }
    return hanoi_run(&o);
}

static int load_run_main(enum load_command command, int argc, char **argv)
{
    struct load_options options;
    char why[512];
    if (argc == 1 && strcmp(argv[0], "--help") == 0) {
        load_options_help(command);
        return 0;
    }
    if (load_options_parse(command, argc, argv, &options, why, sizeof why) != 0) {
        fprintf(stderr, "kho-bench: %s\n'kho-bench help %s' lists the options\n", why,
                load_command_name(command));
        return 2;
    }
    return load_main(&options);
}

/* LOAD_COMMANDS: it is none of them. */
static enum load_command load_command_of(const char *word)
{
    unsigned command = 0;
    while (command < LOAD_COMMANDS && strcmp(word, load_command_name(command)) != 0)
        command++;
    return command;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    enum load_command load = load_command_of(command);
    if (load != LOAD_COMMANDS)
        return load_run_main(load, argc - 2, argv + 2);
    if (strcmp(command, "help") == 0 && argc > 2) {
        load = load_command_of(argv[2]);
        if (load != LOAD_COMMANDS)
            load_options_help(load);
        else if (strcmp(argv[2], "dictionary") == 0)
            fputs(dictionary_help, stdout);
        else
            fputs(strcmp(argv[2], "engine") == 0 ? engine_help : usage, stdout);
        return 0;
    }
    if (strcmp(command, "hanoi") == 0)
        return hanoi_main(argc - 1, argv + 1);
    if (strcmp(command, "engine") == 0)
        return engine_main(argc - 1, argv + 1);
    if (strcmp(command, "dictionary") == 0)
        return dictionary_main(argc - 1, argv + 1);
    if (strcmp(command, "help") == 0 || strcmp(command, "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (strcmp(command, "version") == 0 || strcmp(command, "--version") == 0) {
        printf("kho-bench %s\n", kho_version_string());
        return 0;
    }
    fputs(usage, stderr);
    return 2;
}
