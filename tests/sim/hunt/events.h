/* events.h: of a run's trace, what a person wants to know of a failure: faults, starts and ends,
 * warnings and errors of nodes, repairs, and what clients did with the key that it is about.
 *
 * The last ones are kept in place, without pointers, so that they outlive the process of the run in
 * memory that it shares. */
#ifndef KHO_SIM_EVENTS_H
#define KHO_SIM_EVENTS_H

#include "tests/sim/sim.h"

#include <stdio.h>

enum { EVENTS_KEPT = 36, EVENTS_KEY_KEPT = 24, EVENTS_LINE = 200 };
#define EVENTS_NO_KEY UINT32_MAX

struct event_line {
    uint64_t at_ns;
    uint64_t order;
    char text[EVENTS_LINE];
};

struct events {
    uint32_t key;
    bool history; /* the checker told all of the key's operations: they replace the calls */
    uint64_t count, key_count; /* ever told; the last ones are there */
    struct event_line lines[EVENTS_KEPT];
    struct event_line key_lines[EVENTS_KEY_KEPT];
};

void events_init(struct events *events, uint32_t key);
/* To be set as sim.listen. */
void events_listen(void *events, uint64_t now_ns, const char *line);
/* Node by node, then the key. */
void events_print(const struct events *events, FILE *to);
/* The key that a failure's message names, or EVENTS_NO_KEY. */
uint32_t events_key(const char *failure);

#endif
