/* stories.h: lives of a shard whose every moment is cut. */
#ifndef KHO_TESTS_CRASH_STORIES_H
#define KHO_TESTS_CRASH_STORIES_H

#include "hunt.h"

struct story {
    const char *name;
    hunt_tell *tell;
};

extern const struct story stories[];
enum { STORIES = 6 };

#endif
