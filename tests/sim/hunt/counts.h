/* counts.h: what a hunt has tried and found so far, over several runs of the program.
 *
 * Kept in a file, it is for one program alone: seeds that another one ran say nothing of this one.
 * A program is known by its version and the hash of its bytes. */
#ifndef KHO_SIM_COUNTS_H
#define KHO_SIM_COUNTS_H

#include "run.h"

struct violation {
    uint64_t seed;
    char failure[512];
};

struct counts {
    uint64_t from;  /* the range's first */
    uint64_t next;  /* all before it have ended */
    uint64_t *done; /* those behind it that have, in no order */
    size_t done_count, done_room;
    struct violation *violations;
    size_t violation_count, violation_room;
    uint64_t seeds, beyond, calls, records_ok, records_failed, records_doubtful, records_damaged;
    uint64_t gave_up, compacted, recycled, steps, rounds;
    struct checked checked;
    double simulated_s, cpu_s, real_s;
    uint64_t faults[SIM_FAULT_COUNT];
};

void counts_init(struct counts *counts, uint64_t from);
void counts_fini(struct counts *counts);
void counts_add(struct counts *counts, const struct run_result *result);
bool counts_has(const struct counts *counts, uint64_t seed);
/* Simulated time over that of one core. */
double counts_ratio(const struct counts *counts);
/* Fault classes that never fired. */
unsigned counts_silent(const struct counts *counts);

/* Goes on from a file. 1: it did; 0: there is none, or it is of another program; -1: it can't be
 * used, and a sentence on stderr says why. */
int counts_load(struct counts *counts, const char *path);
/* 0, or -1 with a sentence on stderr. */
int counts_save(const struct counts *counts, const char *path);

/* For people; then rows in the shape that kho-bench writes. */
void counts_print(const struct counts *counts, FILE *to);
int counts_report(const struct counts *counts, const char *path);

#endif
