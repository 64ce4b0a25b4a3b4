/* args.c: takes a command line apart by the table of options that a command brings, and turns their
 * texts into numbers. Whatever is wrong is said to stderr with the remedy; the caller exits with
 * EXIT_USAGE. */
#include "args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "print.h"

const struct option_spec args_globals[] = {
    {"cluster", "HOST:PORT,…", "nodes to begin with; else KHO_CLUSTER, else the local cluster"},
    {"dir", "FOLDER", "the local cluster's folder, by default ./kho-local"},
    {"deadline", "TIME", "how long one operation may take: 500ms, 10s (default 10s)"},
    {"json", NULL, "print results as JSON"},
    {"help", NULL, "explain the command"},
    {NULL, NULL, NULL},
};

static const struct option_spec *find(const struct option_spec *specs, const char *name, size_t len)
{
    for (; specs != NULL && specs->name != NULL; specs++)
        if (strlen(specs->name) == len && strncmp(specs->name, name, len) == 0)
            return specs;
    return NULL;
}

bool args_take_option(struct args *args, const struct option_spec *specs, int argc, char **argv,
                      int *at)
{
    const char *arg = strcmp(argv[*at], "-h") == 0 ? "--help" : argv[*at];
    const char *name = arg + (arg[1] == '-' ? 2 : 1);
    size_t len = strcspn(name, "=");
    const struct option_spec *spec = find(specs, name, len);
    if (spec == NULL)
        spec = find(args_globals, name, len);
    if (spec == NULL || arg[1] != '-') {
        say("unknown option '%s'; see kho help%s%s", arg, args->command != NULL ? " " : "",
            args->command != NULL ? args->command->words : "");
        return false;
    }
    const char *text = name[len] == '=' ? name + len + 1 : NULL;
    if (spec->value == NULL && text != NULL) {
        say("--%s takes no value", spec->name);
        return false;
    }
    if (spec->value != NULL && text == NULL) {
        if (*at + 1 >= argc) {
            say("--%s wants a value: --%s %s", spec->name, spec->name, spec->value);
            return false;
        }
        text = argv[++*at];
    }
    if (args->given_count == ARGS_OPTIONS_MAX) {
        say("too many options; at most %d are taken", ARGS_OPTIONS_MAX);
        return false;
    }
    args->given[args->given_count].spec = spec;
    args->given[args->given_count++].text = text != NULL ? text : "";
    ++*at;
    return true;
}

bool args_take(struct args *args, int argc, char **argv, int at)
{
    args->words = calloc((size_t)argc + 1, sizeof *args->words);
    if (args->words == NULL) {
        say("no memory");
        return false;
    }
    bool words_only = false;
    while (at < argc) {
        const char *arg = argv[at];
        if (!words_only && strcmp(arg, "--") == 0) {
            words_only = true;
            at++;
        } else if (!words_only && arg[0] == '-' && arg[1] != '\0') {
            if (!args_take_option(args, args->command->options, argc, argv, &at))
                return false;
        } else {
            args->words[args->word_count++] = arg;
            at++;
        }
    }
    return true;
}

void args_fini(struct args *args)
{
    free(args->words);
    args->words = NULL;
}

const char *args_text(const struct args *args, const char *name)
{
    for (size_t i = args->given_count; i > 0; i--)
        if (strcmp(args->given[i - 1].spec->name, name) == 0)
            return args->given[i - 1].text;
    return NULL;
}

bool args_flag(const struct args *args, const char *name)
{
    return args_text(args, name) != NULL;
}

/* Digits, then at most `suffix` characters more in *ret_rest. */
static bool digits(const char *text, uint64_t *ret_number, const char **ret_rest)
{
    char *rest;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long number = strtoull(text, &rest, 10);
    if (errno != 0)
        return false;
    *ret_number = number;
    *ret_rest = rest;
    return true;
}

bool args_number(const struct args *args, const char *name, uint64_t least, uint64_t most,
                 uint64_t *ret_number)
{
    const char *text = args_text(args, name), *rest;
    uint64_t number;
    if (text == NULL)
        return true;
    if (!digits(text, &number, &rest) || *rest != '\0' || number < least || number > most) {
        say("--%s takes a number from %llu to %llu, not '%s'", name, (unsigned long long)least,
            (unsigned long long)most, text);
        return false;
    }
    *ret_number = number;
    return true;
}

bool args_size(const struct args *args, const char *name, uint64_t *ret_size)
{
    const char *text = args_text(args, name), *rest;
    uint64_t number = 0;
    if (text == NULL)
        return true;
    int shift = -1;
    if (digits(text, &number, &rest)) {
        static const char units[] = "KMGT";
        const char *unit = *rest != '\0' ? strchr(units, *rest & ~0x20) : NULL;
        if (*rest == '\0')
            shift = 0;
        else if (unit != NULL && rest[1] == '\0')
            shift = 10 * (int)(unit - units + 1);
    }
    if (shift < 0 || number > (UINT64_MAX >> shift)) {
        say("--%s takes a size such as 64K, 32M or 4G, not '%s'", name, text);
        return false;
    }
    *ret_size = number << shift;
    return true;
}

bool args_duration(const struct args *args, const char *name, uint32_t *ret_ms)
{
    const char *text = args_text(args, name), *rest = "?";
    uint64_t number = 0;
    if (text == NULL)
        return true;
    bool good = digits(text, &number, &rest) && number <= 3600000;
    if (good && strcmp(rest, "s") == 0)
        number *= 1000;
    else
        good = good && (*rest == '\0' || strcmp(rest, "ms") == 0);
    if (!good || number == 0 || number > 3600000) {
        say("--%s takes a time such as 500ms or 10s, up to an hour, not '%s'", name, text);
        return false;
    }
    *ret_ms = (uint32_t)number;
    return true;
}
