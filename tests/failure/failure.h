/* failure.h: the one failure of a run, and what the run tells of it.
 *
 * A run is a story told in a process of its own, with one class of failure (classes.h) and a number
 * N: the N-th chance of that class fails, once, or it and all that follow. Chances are counted from
 * failure_begin() to failure_end(); behind the end all goes well, and the story checks what must
 * hold then. What the run tells lies in memory that the runner shares. */
#ifndef KHO_FAILURE_FAILURE_H
#define KHO_FAILURE_FAILURE_H

#include <kho/base.h>

/* Where something can fail. */
enum failure_point {
    FAILURE_NONE,
    FAILURE_NODE_HEAP,
    FAILURE_CLIENT_HEAP,
    FAILURE_DISK,      /* an op of a node's store */
    FAILURE_LATENESS,  /* such an op ends, but long after all others */
    FAILURE_NODE_NET,  /* an op of a node's connections */
    FAILURE_CLIENT_NET /* an op of a client */
};

/* In place of an error: half of it is done, or it ends late. */
enum { FAILURE_SHORT = 1, FAILURE_LATE = 2 };

struct failure_class {
    char name[40];
    enum failure_point point;
    uint8_t kind; /* of the op; 0 for a heap */
    int error;    /* -errno, FAILURE_SHORT, FAILURE_LATE */
};

enum { FAILURE_DEPTH = 20, FAILURE_SITES = 4096 };

struct failure_site {
    uint32_t depth; /* 0: free */
    bool failed;    /* else it was only passed */
    void *stack[FAILURE_DEPTH];
};

/* What a run tells. */
struct failure_report {
    uint64_t chances, fired;
    bool ended; /* the story ran through */
    char violation[800];
    uint32_t crash_depth;
    void *crash[FAILURE_DEPTH * 2];
    bool helper_ended; /* a process of the story's came to its end */
    char folder[64];   /* to be removed when the run is over */
};

struct failure_sites {
    uint32_t count;
    uint32_t lost; /* for want of room */
    struct failure_site sites[FAILURE_SITES];
};

/* --- The story's side ------------------------------------------------------------------------- */

/* From here on chances count. */
void failure_begin(void);
/* The failure is over. */
void failure_end(void);
/* The run's class is of that point: the story may leave out what the failure can't touch. */
bool failure_is(enum failure_point point);
/* It goes on until its end. */
bool failure_for_ever(void);
/* The broken promise; doesn't return. */
_Noreturn void failure_violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Codes that a caller may be told: kho's own or the kernel's, but none that says "bug". */
void failure_typed(int status, const char *what);
/* A process that the story forked has come to its end. */
void failure_helper_ended(void);
bool failure_helper_has_ended(void);
/* The runner removes that folder, however the run ends. */
void failure_folder(const char *path);
/* Cores are gone: nothing of theirs may be left. */
void failure_check_heap(void);

/* --- The harness's side ----------------------------------------------------------------------- */

/* Whose code runs: only owner 0's chances count. */
int failure_owner(int owner);
/* A chance to fail: 0, or the class's error. */
int failure_chance(enum failure_point point, uint8_t kind);

/* --- The runner's side ------------------------------------------------------------------------ */

/* `stacks`: each allocation's is kept, not only of those that fail. */
void failure_setup(const struct failure_class *class, uint64_t n, bool for_ever, bool stacks,
                   struct failure_report *report, struct failure_sites *sites);

#endif
