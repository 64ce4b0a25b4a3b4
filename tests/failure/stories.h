/* stories.h: what is told again and again, each time with another failure. */
#ifndef KHO_FAILURE_STORIES_H
#define KHO_FAILURE_STORIES_H

#include "failure.h"

struct told {
    const char *name;
    void (*tell)(void);
    uint32_t points; /* bit set of enum failure_point: where the story gives it chances */
};

enum { STORIES_MAX = 16 };

uint32_t stories_all(const struct told **ret_stories);

void story_cluster_records(void);
void story_cluster_admin(void);
void story_cluster_damage(void);
void story_store_starts(void);
void story_store_compacts(void);
void story_store_rots(void);
void story_init(void);
void story_formats(void);
void story_real(void);

#endif
