/* reduce.h: of a run that breaks a promise, the shortest story that still does.
 *
 * Fewer rounds, faults left out, fewer calls, as far as so many tries and so much real time go.
 * What fails in the same way is kept; if nothing shorter does, what fails in any way. */
#ifndef KHO_SIM_REDUCE_H
#define KHO_SIM_REDUCE_H

#include "run.h"

enum { REDUCE_RUNS_MAX = 60, REDUCE_SECONDS_MAX = 60 };

struct reduction {
    uint64_t seed;
    run_call run;
    struct limits limits;     /* of the shortest one */
    struct run_result result; /* its */
    unsigned runs;            /* made */
    struct apart apart;       /* the last run; its events are the shortest one's */
    /* private */
    unsigned runs_max;
    uint64_t until_ns;
    char first[512];
    bool any;
};

/* `found`: the run that is known to fail, made with `limits`. False: it didn't fail again. */
bool reduce(struct reduction *reduction, run_call run, const struct run_result *found,
            const struct limits *limits);
void reduce_print(const struct reduction *reduction, FILE *to);
void reduce_fini(struct reduction *reduction);
/* Two messages that differ in numbers only, or are both of what a key's history can't explain. */
bool failure_same(const char *a, const char *b);

#endif
