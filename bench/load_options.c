/* load_options.c: one table of options says what is read, what it may be and what the help tells.
 * "--name VALUE" and "--name=VALUE" are the same; the last of two wins. */
#include "load_options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "value.h"

enum kind { KIND_NUMBER, KIND_REAL, KIND_TEXT, KIND_FLAG, KIND_RANGE, KIND_PICK, KIND_MIX };

enum {
    OF_PUT = 1 << LOAD_PUT,
    OF_APPEND = 1 << LOAD_APPEND,
    OF_GET = 1 << LOAD_GET,
    OF_MIXED = 1 << LOAD_MIXED,
    OF_LOADED = OF_GET | OF_MIXED,
    OF_KEYED = OF_PUT | OF_LOADED,
    OF_ALL = OF_APPEND | OF_KEYED
};
#define AT(member) offsetof(struct load_options, member)

static const struct spec {
    const char *name, *value, *help;
    size_t at;
    double min, max;
    enum kind kind;
    unsigned commands;
} specs[] = {
    {"local", "N", "so many nodes on this machine, of the bench's own, 1 to 9 (default 3)",
     AT(local), 1, 9, KIND_NUMBER, OF_ALL},
    {"shards", "N", "of each local node, 1 to 16 (default 1)", AT(shards), 1, 16, KIND_NUMBER,
     OF_ALL},
    {"cluster", "LIST", "HOST:PORT,… of a running cluster instead; its nodes' CPU isn't seen",
     AT(cluster), 0, 0, KIND_TEXT, OF_ALL},
    {"dir", "DIR",
     "where local nodes keep their data; it stays there afterwards (default: a\n"
     "temporary folder in $TMPDIR or /var/tmp, removed at the end)",
     AT(dir), 0, 0, KIND_TEXT, OF_ALL},
    {"memory", "SIZE",
     "the bound on each local node's memory (default: by the records, 2G for new ones)", AT(memory),
     0, 0, KIND_TEXT, OF_ALL},
    {"seconds", "S", "how long is measured (default 5)", AT(seconds), 0.05, 86400, KIND_REAL,
     OF_ALL},
    {"warmup", "S", "how long it runs before that (default 1)", AT(warmup), 0, 3600, KIND_REAL,
     OF_ALL},
    {"workload", "A", "of YCSB, a to f (default a); see below", AT(mix), 0, 0, KIND_MIX, OF_MIXED},
    {"batch", "B",
     "records a call, 1 to 65,536 (default 256, of mixed 1); 1: single calls, which the\n"
     "library gathers",
     AT(batch), 1, 65536, KIND_NUMBER, OF_ALL},
    {"inflight", "F",
     "calls under way at once, 1 to 65,536 (default 8, of mixed 64); with --rate at most\n"
     "so many (default 65,536 records)",
     AT(inflight), 1, 65536, KIND_NUMBER, OF_ALL},
    {"rate", "R",
     "records a second, of all clients together, whatever the answers take (open loop);\n"
     "latency counts from the moment a call was to start (default: closed loop)",
     AT(rate), 1, 1e9, KIND_REAL, OF_ALL},
    {"fixed", NULL, "with --rate: calls at equal distances; else as independent users make them",
     AT(fixed), 0, 0, KIND_FLAG, OF_ALL},
    {"clients", "P",
     "processes that share the work, 1 to 64 (default 1); each has F calls under way", AT(clients),
     1, 64, KIND_NUMBER, OF_ALL},
    {"records", "N",
     "put: N keys, written over and over (default 0: always new ones)\n"
     "get, mixed: N records are loaded first (default 100,000)",
     AT(records), 0, 1e10, KIND_NUMBER, OF_KEYED},
    {"loaded", NULL,
     "with --cluster: they are there from an earlier run of the same values and seed", AT(loaded),
     0, 0, KIND_FLAG, OF_LOADED},
    {"distribution", "D",
     "which of them: turn (one after another, default of put), uniform (default of get),\n"
     "zipfian or latest (default of mixed: the workload's)",
     AT(pick), 0, 0, KIND_PICK, OF_KEYED},
    {"value", "BYTES",
     "of a value, 40 to 16,777,216: 300, or 100..4096, drawn evenly (default 300)", AT(value_min),
     VALUE_MIN, 16777216, KIND_RANGE, OF_ALL},
    {"incompressible", NULL, "values of random bytes; else they are JSON of citizens",
     AT(incompressible), 0, 0, KIND_FLAG, OF_ALL},
    {"plain", NULL, "the client compresses no value by itself", AT(plain), 0, 0, KIND_FLAG, OF_ALL},
    {"seed", "N", "the same seed makes the same records and choices (default 1)", AT(seed), 0, 1e18,
     KIND_NUMBER, OF_ALL},
    {"json", "FILE", "the report, as JSON (-: standard output)", AT(json), 0, 0, KIND_TEXT, OF_ALL},
    {"histogram", "FILE", "the distribution of latencies, in us, as HdrHistogram's tools read it",
     AT(histogram), 0, 0, KIND_TEXT, OF_ALL},
};
enum { SPECS = sizeof specs / sizeof specs[0] };

static const struct {
    const char *name, *summary;
} commands[LOAD_COMMANDS] = {
    [LOAD_PUT] = {"put", "writes records by key; each is acknowledged when a majority has it on "
                         "stable storage"},
    [LOAD_APPEND] = {"append", "writes records under new keys, which the library gives"},
    [LOAD_GET] = {"get", "reads records by key; a majority answers each"},
    [LOAD_MIXED] = {"mixed", "reads and writes records as a workload of YCSB has them"},
};

static const char *const pick_names[PICK_KINDS] = {
    [PICK_TURN] = "turn",
    [PICK_UNIFORM] = "uniform",
    [PICK_ZIPFIAN] = "zipfian",
    [PICK_LATEST] = "latest",
};

const char *load_command_name(enum load_command command)
{
    return commands[command].name;
}

/* --- Reading ---------------------------------------------------------------------------------- */

static int __attribute__((format(printf, 3, 4)))
say(char *why, size_t room, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, room, format, args);
    va_end(args);
    return -1;
}

static bool number_read(const char *text, char **end, uint64_t *ret)
{
    errno = 0;
    *ret = strtoull(text, end, 10);
    return errno == 0 && *text >= '0' && *text <= '9';
}

/* "300" or "100..4096" */
static bool range_read(const char *text, const struct spec *spec, uint64_t *ret)
{
    char *end;
    uint64_t low, high;
    if (!number_read(text, &end, &low))
        return false;
    high = low;
    if (strncmp(end, "..", 2) == 0 && !number_read(end + 2, &end, &high))
        return false;
    if (*end != '\0' || (double)low < spec->min || (double)high > spec->max || low > high)
        return false;
    ret[0] = low;
    ret[1] = high;
    return true;
}

static bool pick_read(const char *text, enum pick_kind *ret)
{
    for (unsigned kind = 0; kind < PICK_KINDS; kind++)
        if (strcmp(text, pick_names[kind]) == 0) {
            *ret = kind;
            return true;
        }
    return false;
}

static bool mix_read(const char *text, const struct mix **ret)
{
    const struct mix *mix = mix_find(text);
    if (mix != NULL)
        *ret = mix;
    return mix != NULL;
}

/* Whether `text` is what `spec` takes; then it stands in `options`. */
static bool value_read(const struct spec *spec, const char *text, struct load_options *options)
{
    void *at = (char *)options + spec->at;
    char *end;
    uint64_t number;
    double real;
    switch (spec->kind) {
    case KIND_NUMBER:
        if (!number_read(text, &end, &number) || *end != '\0' || (double)number < spec->min ||
            (double)number > spec->max)
            return false;
        *(uint64_t *)at = number;
        return true;
    case KIND_REAL:
        real = strtod(text, &end);
        if (end == text || *end != '\0' || !(real >= spec->min && real <= spec->max))
            return false;
        *(double *)at = real;
        return true;
    case KIND_RANGE:
        return range_read(text, spec, at);
    case KIND_PICK:
        return pick_read(text, at);
    case KIND_MIX:
        return mix_read(text, at);
    case KIND_FLAG:
        *(bool *)at = true;
        return true;
    case KIND_TEXT:
        break;
    }
    *(const char **)at = text;
    return *text != '\0';
}

static const struct spec *spec_find(enum load_command command, const char *name, size_t len)
{
    for (size_t i = 0; i < SPECS; i++)
        if ((specs[i].commands & 1u << command) != 0 && strlen(specs[i].name) == len &&
            memcmp(specs[i].name, name, len) == 0)
            return &specs[i];
    return NULL;
}

/* PICK_KINDS and 0 stand for what wasn't said. */
static struct load_options options_default(enum load_command command)
{
    return (struct load_options){.command = command,
                                 .seconds = 5,
                                 .warmup = 1,
                                 .records = (OF_LOADED & 1u << command) != 0 ? 100000 : 0,
                                 .pick = PICK_KINDS,
                                 .mix = mix_find("a"),
                                 .clients = 1,
                                 .shards = 1,
                                 .value_min = 300,
                                 .value_max = 300,
                                 .seed = 1};
}

static void options_complete(struct load_options *o)
{
    bool mixed = o->command == LOAD_MIXED;
    if (o->cluster == NULL && o->local == 0)
        o->local = 3;
    if (o->batch == 0)
        o->batch = mixed ? 1 : 256;
    if (o->inflight == 0 && o->rate > 0)
        o->inflight = 65536 / o->batch;
    else if (o->inflight == 0)
        o->inflight = mixed ? 64 : 8;
    if (o->pick == PICK_KINDS)
        o->pick = mixed ? o->mix->pick : o->command == LOAD_GET ? PICK_UNIFORM : PICK_TURN;
}

/* Rules that span options. */
static int options_check(const struct load_options *o, char *why, size_t room)
{
    if (o->cluster != NULL && o->local != 0)
        return say(why, room,
                   "--cluster uses a running cluster and --local starts one: only one of them");
    if (o->cluster != NULL && o->shards != 1)
        return say(why, room, "--shards is of new local nodes: a running cluster has its own");
    if (o->loaded && o->cluster == NULL)
        return say(why, room, "--loaded: new local nodes have no records; with --cluster only");
    if ((OF_LOADED & 1u << o->command) != 0 && o->records == 0)
        return say(why, room, "%s reads what is there: --records 1 or more",
                   commands[o->command].name);
    if (o->records > 0 && o->records < o->clients)
        return say(why, room, "--records: at least one for each of --clients");
    if (o->command == LOAD_PUT && o->records == 0 && o->pick != PICK_KINDS)
        return say(why, room, "--distribution is of the keys of --records, which isn't given");
    if (o->fixed && o->rate == 0)
        return say(why, room, "--fixed is of --rate, which isn't given");
    return 0;
}

int load_options_parse(enum load_command command, int count, char *const *words,
                       struct load_options *ret_options, char *why, size_t room)
{
    struct load_options options = options_default(command);
    for (int i = 0; i < count; i++) {
        const char *word = words[i];
        if (strncmp(word, "--", 2) != 0)
            return say(why, room, "%s takes no argument '%s'", commands[command].name, word);
        const char *name = word + 2, *equals = strchr(name, '=');
        size_t len = equals != NULL ? (size_t)(equals - name) : strlen(name);
        const struct spec *spec = spec_find(command, name, len);
        if (spec == NULL)
            return say(why, room, "%s has no option '%s'", commands[command].name, word);
        if (spec->kind == KIND_FLAG && equals != NULL)
            return say(why, room, "--%s takes no value", spec->name);
        const char *text = equals != NULL ? equals + 1 : NULL;
        if (spec->kind != KIND_FLAG && text == NULL) {
            if (i + 1 == count)
                return say(why, room, "--%s takes a value", spec->name);
            text = words[++i];
        }
        if (!value_read(spec, text, &options))
            return say(why, room, "--%s can't be '%s': %s", spec->name, text, spec->help);
    }
    if (options_check(&options, why, room) != 0)
        return -1;
    options_complete(&options);
    *ret_options = options;
    return 0;
}

/* --- Help ------------------------------------------------------------------------------------- */

void load_options_help(enum load_command command)
{
    enum { COLUMN = 18 };
    printf("kho-bench %s [OPTION…]\n\n%s.\n\nOptions\n", commands[command].name,
           commands[command].summary);
    for (size_t i = 0; i < SPECS; i++) {
        const struct spec *spec = &specs[i];
        char left[64];
        if ((spec->commands & 1u << command) == 0)
            continue;
        snprintf(left, sizeof left, "--%s%s%s", spec->name, spec->value != NULL ? " " : "",
                 spec->value != NULL ? spec->value : "");
        printf("  %-*s  ", COLUMN, left);
        for (const char *at = spec->help; *at != '\0'; at++) {
            putchar(*at);
            if (*at == '\n')
                printf("%*s", COLUMN + 4, "");
        }
        putchar('\n');
    }
    if (command == LOAD_MIXED)
        printf(
            "\nWorkloads of YCSB\n"
            "  a  half reads, half updates, zipfian       d  reads of the latest, 5 %% inserts\n"
            "  b  95 %% reads, 5 %% updates, zipfian        e  95 %% scans of 1 to 100 records, 5 "
            "%% inserts\n"
            "  c  reads only, zipfian                     f  half reads, half read-modify-writes\n"
            "A scan of e is one page of a listing, which goes by key hash: from a place drawn "
            "evenly.\n");
}
