/* engine.h: the bench 'engine': what its groups of rows share. */
#ifndef KHO_BENCH_ENGINE_H
#define KHO_BENCH_ENGINE_H

#include "engine_options.h"
#include "engine_rows.h"
#include "report.h"

enum { ENGINE_PATH_MAX = 4096 };

struct engine {
    const struct engine_options *options;
    char folder[ENGINE_PATH_MAX]; /* all data lies in it */
    struct report report;
    bool terminal; /* standard error is one: progress is shown */
};

/* 0: done. 1: something failed, said on stderr. 2: wrong use. argv[0] is the command. */
int engine_main(int argc, char **argv);

/* A signal asked to stop: measurements end early, groups fail. */
bool engine_interrupted(void);
/* The path of `name` in the bench's folder. */
void engine_path(const struct engine *engine, const char *name, char *to);
/* A file or a folder with all in it is removed, where it is there. */
void engine_remove(const char *path);
/* A line on a terminal that says what goes on; "" clears it. */
void engine_progress(const struct engine *engine, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A finished row: into the table and the report, if it was asked for. */
void engine_row_done(struct engine *engine, const struct engine_row *row);

/* The groups: 0, or -1 with a sentence on stderr. Each measures only what is asked for. */
int engine_append(struct engine *engine);
int engine_stored(struct engine *engine);
int engine_compact(struct engine *engine);

#endif
