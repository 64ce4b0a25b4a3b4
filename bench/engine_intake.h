/* engine_intake.h: records into a node, so many in flight, until they are durable. */
#ifndef KHO_BENCH_ENGINE_INTAKE_H
#define KHO_BENCH_ENGINE_INTAKE_H

#include "engine_node.h"
#include "histogram.h"

enum { INTAKE_DEPTH_MAX = 4096 };

struct intake_figures {
    uint64_t records, value_bytes;
    uint64_t commits, commit_bytes; /* in which they became durable */
    double seconds, cpu_seconds;
    uint64_t p50_ns; /* from the first byte taken until it is durable */
};

/* Writes the herd from its record `*next` on, which moves up, for `seconds` or to the herd's end,
 * `depth` records in flight, and waits until all are durable. -1 with a sentence on stderr. */
int intake_run(struct node *node, const struct herd *herd, size_t *next, uint32_t depth,
               double seconds, struct intake_figures *ret_figures);

#endif
