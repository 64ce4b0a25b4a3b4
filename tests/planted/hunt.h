/* hunt.h: looks for the first seed with which the simulator finds a planted bug.
 *
 * Seeds run in a child process, since a planted bug may crash or never end: a failed assertion, any
 * other signal, and too much time for one seed count as found. */
#ifndef KHO_PLANTED_HUNT_H
#define KHO_PLANTED_HUNT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { HUNT_SEED_SECONDS = 20 }; /* of the processor, for one seed */

/* Shared with the child. */
struct hunt_state {
    uint64_t seed;  /* under way, or found with */
    uint64_t tried; /* seeds, the one under way among them */
    uint64_t cpu_ns;
    bool found;
    char said[512];
};

struct hunt {
    int bug;           /* enum kho_planted */
    uint64_t known;    /* tried first; 0: none */
    uint64_t from, to; /* then these, in order */
    pid_t child;       /* 0: not under way */
    bool ended;
    struct hunt_state *state;
};

void hunt_init(struct hunt *hunt, int bug, uint64_t known, uint64_t from, uint64_t to);
void hunt_fini(struct hunt *hunt);
void hunt_start(struct hunt *hunt);
/* The child has ended like this (waitpid). */
void hunt_ended(struct hunt *hunt, int status);

#endif
