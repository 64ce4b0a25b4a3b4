/* sites.h: from addresses to places in the source, and the allocation calls that stand there. */
#ifndef KHO_FAILURE_SITES_H
#define KHO_FAILURE_SITES_H

#include "failure.h"

struct sites_summary {
    uint32_t calls;   /* that allocate, in node/ and client/ */
    uint32_t reached; /* of them, by a story */
    uint32_t failed;
    uint32_t places; /* distinct chains of calls that ended in a failed allocation */
};

/* Prints the calls that no story reached. */
struct sites_summary sites_print(const struct failure_sites *sites);
/* The functions and lines of a stack, one a line. */
void sites_print_stack(void *const *stack, uint32_t depth);

#endif
