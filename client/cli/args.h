/* args.h: the arguments of one command: options anywhere, then words. "--name VALUE" and
 * "--name=VALUE" are the same; "--" ends the options. */
#ifndef KHO_CLI_ARGS_H
#define KHO_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct command;

struct option_spec {
    const char *name;  /* without dashes */
    const char *value; /* its value's name in help; NULL: a flag */
    const char *help;
};

enum { ARGS_OPTIONS_MAX = 32 };

struct args {
    const struct command *command;
    const char **words; /* the command's own left out */
    size_t word_count;
    struct {
        const struct option_spec *spec;
        const char *text;
    } given[ARGS_OPTIONS_MAX];
    size_t given_count;
};

/* Options that every command takes. */
extern const struct option_spec args_globals[];

/* Takes one option at argv[*at] and moves *at behind it; `specs` may be NULL. False: a wrong one,
 * said to stderr. */
bool args_take_option(struct args *args, const struct option_spec *specs, int argc, char **argv,
                      int *at);
/* Takes options and words from argv[at] on. False: said to stderr. */
bool args_take(struct args *args, int argc, char **argv, int at);
void args_fini(struct args *args);

/* The last value given, "" for a flag; NULL: not given. */
const char *args_text(const struct args *args, const char *name);
bool args_flag(const struct args *args, const char *name);
/* Into *ret_number, which keeps its value when the option isn't given. False: not a number from
 * least to most, said to stderr. */
bool args_number(const struct args *args, const char *name, uint64_t least, uint64_t most,
                 uint64_t *ret_number);
/* The same for "64K", "32M", "4G" (powers of 1,024). */
bool args_size(const struct args *args, const char *name, uint64_t *ret_size);
/* "500", "500ms", "10s": milliseconds, to an hour. */
bool args_duration(const struct args *args, const char *name, uint32_t *ret_ms);

#endif
