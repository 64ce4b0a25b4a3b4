/* engine_options.h: what 'engine' is told. */
#ifndef KHO_BENCH_ENGINE_OPTIONS_H
#define KHO_BENCH_ENGINE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ENGINE_ERROR_MAX = 320 };

struct engine_options {
    const char *folder; /* where data goes; NULL: a temporary folder */
    const char *rows;   /* names, or what they begin with before a dot, with commas; NULL: all */
    const char *json;   /* where the report goes; NULL: nowhere */
    uint64_t rounds;
    uint64_t records; /* of the data set that reads, restart, memory and disk are measured on */
    double seconds;   /* of each measurement in a round */
    bool help;
};

extern const char engine_help[];

/* Reads the words behind the command, argv[0]. 0, or -1 with the reason in `error`. */
int engine_options_read(int argc, char **argv, struct engine_options *ret_options, char *error);
/* Whether that row is to be measured. */
bool engine_options_want(const struct engine_options *options, const char *row);

#endif
