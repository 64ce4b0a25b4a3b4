/* listing.h: listings while writes go on, page by page, and what they must have told: a record
 * acknowledged before the listing began and not deleted exactly once, none that was deleted
 * before, nothing older than what was acknowledged before its page was asked for. */
#ifndef KHO_SIM_LISTING_H
#define KHO_SIM_LISTING_H

#include "workload.h"

/* What was told of a key, by its number in the history. */
struct listed {
    uint32_t times;
    uint64_t page_ns; /* when the page was asked for */
    struct version version;
    uint64_t value; /* 0: not told */
};

struct listing {
    struct answer answer;
    struct workload *w;
    uint32_t client;
    bool event; /* of the collection of appended records */
    uint64_t begun_ns, page_ns;
    size_t limit;
    unsigned flags;
    struct kho_cursor cursor;
    struct listed *listed;
    size_t room;
    uint32_t damaged; /* told without a key, since their value is */
};

/* Begins one by that client in place of another call; ends with workload_call_over(). */
void listing_start(struct workload *workload, uint32_t client);
/* Adds one result. */
void listing_add(struct listing *listing, const struct kho_result *result);
/* All pages were told: fails the run if they don't add up to what the history demands. */
void listing_judge(struct listing *listing);
void listing_fini(struct listing *listing);

#endif
