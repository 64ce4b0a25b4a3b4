/* hunt.h: many seeds, each in a process of its own, as many at a time as it is told. */
#ifndef KHO_SIM_HUNT_H
#define KHO_SIM_HUNT_H

#include "counts.h"

enum { HUNT_JOBS_MAX = 64, HUNT_STORIES_MAX = 3 };

struct hunt_options {
    uint64_t from, to;
    unsigned jobs;
    double minutes; /* then no further seed is begun; 0: no end */
    double bound_s; /* of a processor, for a seed; what takes longer, or 30 times that in real time,
                       is a violation */
    const char *state, *json;
    bool all_classes; /* a fault class that never fired is a failure */
    struct limits limits;
    run_call run;
};

void hunt_options_init(struct hunt_options *options);
/* A line a violation, the shortest stories of the first ones that differ, the summary; on a
 * terminal (stderr) also how far it is. Stops at SIGINT and SIGTERM when the seeds under way have
 * ended; at a second one at once. `counts` is to be initialised and holds what was found. Returns
 * the exit code: 0, 1 (a violation, or with all_classes a silent class), 2 (files can't be used).
 */
int hunt(const struct hunt_options *options, struct counts *counts);

#endif
