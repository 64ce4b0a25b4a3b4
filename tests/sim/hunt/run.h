/* run.h: one seed's run and what came of it, in this process or in one of its own.
 *
 * Apart, a run may crash, be stopped by a sanitizer or never end: that is a broken promise like any
 * other, with what the process said last as its message. */
#ifndef KHO_SIM_RUN_H
#define KHO_SIM_RUN_H

#include "events.h"
#include "tests/sim/workload.h"

struct run_result {
    uint64_t seed, trace;
    uint64_t now_ns, steps; /* virtual time at the end; calls of the queue */
    uint64_t cpu_ns;        /* of a run apart */
    uint64_t calls;         /* of clients */
    uint64_t records_ok, records_failed, records_doubtful, records_damaged;
    uint64_t gave_up; /* searches for an order */
    uint64_t compacted, recycled;
    struct checked checked;
    uint64_t faults[SIM_FAULT_COUNT];
    uint32_t rounds;      /* begun */
    uint32_t calls_drawn; /* of each round */
    bool beyond;
    bool broke;
    char failure[512];
};

/* Makes the run; `events` (NULL: nobody asks) is told what happens. */
typedef void (*run_call)(uint64_t seed, const struct limits *limits, struct events *events,
                         struct run_result *ret_result);

/* The simulator's. Prints the whole trace with `story`. */
void run_seed(uint64_t seed, const struct limits *limits, struct events *events,
              struct run_result *ret_result);
void run_story(uint64_t seed, const struct limits *limits, struct run_result *ret_result);
/* The command that makes it again, without a line end. */
void run_command(uint64_t seed, const struct limits *limits, char *ret_text, size_t size);

/* --- Apart ------------------------------------------------------------------------------------ */

struct apart_shared;
struct apart {
    pid_t pid; /* 0: nothing is under way */
    uint64_t seed;
    uint64_t begun_ns; /* CLOCK_MONOTONIC */
    int said;          /* a file in memory: the process's stderr */
    struct apart_shared *shared;
};

/* To be called once before the first of them: from then on SIGCHLD, SIGINT and SIGTERM wait until
 * apart_wait takes them. */
void apart_prepare(void);
/* 0 or -errno. */
int apart_init(struct apart *apart);
void apart_fini(struct apart *apart);
/* 0 or -errno. `key`: the one whose operations are of interest, EVENTS_NO_KEY: none. */
int apart_start(struct apart *apart, run_call run, uint64_t seed, const struct limits *limits,
                uint32_t key);
/* True once it has ended; what takes longer than `bound_s` is killed, and broke a promise. */
bool apart_ended(struct apart *apart, double bound_s, struct run_result *ret_result);
void apart_kill(struct apart *apart);
/* Until the next signal of those above, which it returns, or for so long: 0. */
int apart_wait(double seconds);
/* What the last run told, until the next one starts. */
const struct events *apart_events(const struct apart *apart);
/* The first lines that its process wrote to stderr, NUL-terminated, frames by name; true if there
 * are any. */
bool apart_said(const struct apart *apart, char *ret_text, size_t size);

#endif
