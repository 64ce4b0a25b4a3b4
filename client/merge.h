/* merge.h: one page of the index of several replicas of some partitions, merged: for each key's
 * tag the highest version and which replicas have it. LIST requests; what listing and repair stand
 * on. */
#ifndef KHO_CLIENT_MERGE_H
#define KHO_CLIENT_MERGE_H

#include "quorum.h"
#include "session.h"

/* Records that came along are kept up to so many bytes; the others are fetched by tag. */
#define MERGE_RECORD_BYTES_MAX (4u << 20)
#define MERGE_LIMIT_MAX        4096u

/* A place in the order of listing. */
struct place {
    uint32_t partition;
    struct key_tag tag;
};

static inline int place_compare(struct place a, struct place b)
{
    if (a.partition != b.partition)
        return a.partition < b.partition ? -1 : 1;
    return key_tag_compare(a.tag, b.tag);
}

/* Masks are of columns. */
struct merge_entry {
    struct place place;
    struct version version; /* the highest */
    uint8_t state;         /* of it: TOMBSTONE, PRESENT, or VALUE_UNKNOWN if nobody has the value */
    columns_t have;        /* replicas with that version */
    columns_t whole;       /* of them, those that have its value, too */
    bool large;            /* the replica that sends records left this one out */
    const uint8_t *record; /* its bytes as a wire record, or NULL */
    uint32_t record_len;
};

struct merge_item {
    struct wire_list_entry entry;
    size_t record_at;
};

struct merge_replica {
    struct request request;
    uint8_t body[WIRE_LIST_ASK];
    struct merge *merge;
    bool asked, ended; /* ended: `status` is valid */
    int status;
    bool suspect, episode;
    struct place next; /* where its page ends */
    struct merge_item *items;
    uint32_t count, capacity;
    uint8_t *records;
    size_t records_len, records_size;
    uint32_t at; /* while merging */
};

struct merge;
/* The end, once, unless stopped: 0 with entries, count and next; or, in a merge with votes, the
 * status of a request, or KHO_EUNKNOWN (episodes leave too few votes); -ENOMEM. */
typedef void (*merge_end_fn)(struct client *client, struct merge *merge, int status,
                             struct kho_now now);

struct merge {
    /* Filled by the owner, who zeroes it first. */
    uint32_t collection;
    struct place from;     /* the first place that is wanted */
    uint32_t partition_to; /* past the last partition */
    uint32_t limit;        /* entries asked of each replica */
    uint8_t replicas;      /* columns: those of layouts_nodes() */
    uint16_t nodes[COLUMNS_MAX];
    struct layouts layouts;
    columns_t skip; /* columns that are not asked */
    uint8_t votes;  /* ends when so many votes are there (R3) in each layout, asks so many replicas
                       at first (all while a layout changes), the others when one fails. 0: asks all,
                       waits for all, fails only for memory */
    bool records;   /* one replica sends records along */
    uint64_t deadline_ns;
    merge_end_fn end;
    void *owner;

    /* The result, valid until the next start or stop. */
    struct merge_entry *entries;
    uint32_t count;
    uint32_t capacity;
    struct place next;  /* where to go on; partition_to: nothing is left */
    columns_t answered; /* columns whose answers are merged */
    columns_t suspects; /* of them, those that are suspect */
    columns_t damaged;  /* of them, those with an episode in the range */

    /* The merge's own. */
    bool active;
    struct merge_replica columns[COLUMNS_MAX];
    uint8_t records_column;
};

/* 0, or -ENOMEM: nothing happened. Frees the results of the page before. */
int merge_start(struct client *client, struct merge *merge, struct kho_now now);
/* A replica is slow: asks one more, if one is left. */
void merge_hedge(struct client *client, struct merge *merge, struct kho_now now);
/* Forgets what is under way, frees everything. Takes a zeroed one. */
void merge_stop(struct client *client, struct merge *merge);

#endif
