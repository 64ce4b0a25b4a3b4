/* dry.h: what the bench itself costs: a workload run without the library. */
#ifndef KHO_BENCH_DRY_H
#define KHO_BENCH_DRY_H

#include "workload.h"

/* Draws, makes, takes and notes calls of `batch` records as load.c does, but for sending them. CPU
 * seconds a record; negative: no memory. Listings are left out. The workload's state is as after a
 * real run. */
double dry_run(struct workload *w, size_t batch);

#endif
