/* load_options.c: one table of options says what is read, what it may be and what the help tells.
 * "--name VALUE" and "--name=VALUE" are the same; the last of two wins. */
#include "load_options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "value.h"

enum kind { KIND_NUMBER, KIND_REAL, KIND_TEXT, KIND_FLAG, KIND_RANGE };

enum { OF_PUT = 1 << LOAD_PUT, OF_APPEND = 1 << LOAD_APPEND, OF_GET = 1 << LOAD_GET };
enum { OF_ALL = OF_PUT | OF_APPEND | OF_GET, OF_KEYED = OF_PUT | OF_GET };
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
    {"batch", "B",
     "records a call, 1 to 65,536 (default 256); 1: single calls, which the library gathers",
     AT(batch), 1, 65536, KIND_NUMBER, OF_ALL},
    {"inflight", "F", "calls under way at once, 1 to 65,536 (default 8)", AT(inflight), 1, 65536,
     KIND_NUMBER, OF_ALL},
    {"records", "N",
     "put: N keys, written in turn (default 0: always new ones)\n"
     "get: N records are loaded first, and read (default 100000)",
     AT(records), 0, 1e12, KIND_NUMBER, OF_KEYED},
    {"value", "BYTES",
     "of a value, 40 to 16,777,216: 300, or 100..4096, drawn evenly (default 300)", AT(value_min),
     VALUE_MIN, 16777216, KIND_RANGE, OF_ALL},
    {"incompressible", NULL, "values of random bytes; else they are JSON of citizens",
     AT(incompressible), 0, 0, KIND_FLAG, OF_ALL},
    {"seed", "N", "the same seed makes the same records and choices (default 1)", AT(seed), 0, 1e18,
     KIND_NUMBER, OF_ALL},
    {"json", "FILE", "the report, as JSON (-: standard output)", AT(json), 0, 0, KIND_TEXT, OF_ALL},
};
enum { SPECS = sizeof specs / sizeof specs[0] };

static const struct {
    const char *name, *summary;
} commands[LOAD_COMMANDS] = {
    [LOAD_PUT] = {"put", "writes records by key; each is acknowledged when a majority has it on "
                         "stable storage"},
    [LOAD_APPEND] = {"append", "writes records under new keys, which the library gives"},
    [LOAD_GET] = {"get", "reads records by key; a majority answers each"},
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

/* Rules that span options, and defaults that depend on others. */
static int options_complete(struct load_options *options, char *why, size_t room)
{
    if (options->cluster != NULL && options->local != 0)
        return say(why, room,
                   "--cluster uses a running cluster and --local starts one: only one of "
                   "them");
    if (options->cluster == NULL && options->local == 0)
        options->local = 3;
    if (options->command == LOAD_GET && options->records == 0)
        return say(why, room, "get reads what was loaded: --records 1 or more");
    return 0;
}

int load_options_parse(enum load_command command, int count, char *const *words,
                       struct load_options *ret_options, char *why, size_t room)
{
    struct load_options options = {.command = command,
                                   .seconds = 5,
                                   .warmup = 1,
                                   .batch = 256,
                                   .inflight = 8,
                                   .records = command == LOAD_GET ? 100000 : 0,
                                   .value_min = 300,
                                   .value_max = 300,
                                   .seed = 1};
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
    if (options_complete(&options, why, room) != 0)
        return -1;
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
}
