/* stories.c: the list of them. */
#include "stories.h"

enum {
    NODE_HEAP = 1 << FAILURE_NODE_HEAP,
    CLIENT_HEAP = 1 << FAILURE_CLIENT_HEAP,
    DISK = 1 << FAILURE_DISK,
    LATENESS = 1 << FAILURE_LATENESS,
    NODE_NET = 1 << FAILURE_NODE_NET,
    CLIENT_NET = 1 << FAILURE_CLIENT_NET,
    ALL = NODE_HEAP | CLIENT_HEAP | DISK | NODE_NET | CLIENT_NET
};

static const struct told told[] = {
    {"records", story_cluster_records, ALL},
    {"admin", story_cluster_admin, ALL},
    {"damage", story_cluster_damage, NODE_HEAP | CLIENT_HEAP | NODE_NET | CLIENT_NET},
    {"starts", story_store_starts, NODE_HEAP | DISK | LATENESS},
    {"compacts", story_store_compacts, NODE_HEAP | DISK | LATENESS},
    {"rots", story_store_rots, NODE_HEAP | DISK | LATENESS},
    {"init", story_init, CLIENT_HEAP | CLIENT_NET},
    {"formats", story_formats, CLIENT_HEAP},
    {"real", story_real, NODE_HEAP | CLIENT_HEAP},
};

uint32_t stories_all(const struct told **ret_stories)
{
    *ret_stories = told;
    return KHO_COUNT_OF(told);
}
