/* survey.h: the digests of all nodes: what verify compares and where repair begins. */
#ifndef KHO_CLIENT_SURVEY_H
#define KHO_CLIENT_SURVEY_H

#include "session.h"

struct survey;

/* One request: a shard of a node. */
struct survey_part {
    struct survey *survey;
    struct request request;
    uint32_t node;
    bool asked;
    uint8_t body[WIRE_DIGEST_ASK];
};

struct survey_node {
    bool asked;
    int status;                        /* 0: its digests are whole */
    struct wire_digest_entry *entries; /* by collection, then partition; KHO_ALL's come last */
    size_t count, capacity;
    uint8_t *open; /* bit a partition: an episode is open there */
};

/* The end, once, unless stopped: 0 (see each node's status), KHO_EEPOCHOLD, or -ENOMEM. */
typedef void (*survey_end_fn)(struct client *client, struct survey *survey, int status,
                              struct kho_now now);

struct survey {
    /* Filled by the owner, who zeroes it first. */
    uint32_t collection; /* or KHO_ALL */
    const int *skip;     /* NULL, or by node: not 0: it isn't asked, that is its status */
    uint64_t deadline_ns;
    survey_end_fn end;
    void *owner;

    struct survey_node *nodes; /* node_count, as in the map */
    uint32_t node_count;
    uint32_t partitions;

    /* The survey's own. */
    struct survey_part *parts;
    uint32_t part_count;
    uint32_t waiting;
};

/* Asks all shards of all nodes of the map in force but those that are out. The results of the
 * survey before are freed. 0, or -ENOMEM: nothing happened. */
int survey_start(struct client *client, struct survey *survey, struct kho_now now);
/* Forgets what is under way, frees everything. Takes a zeroed one. */
void survey_stop(struct client *client, struct survey *survey);

/* The entry of a table on a node, or NULL: no records there. */
const struct wire_digest_entry *survey_find(const struct survey *survey, uint32_t node,
                                            uint32_t collection, uint32_t partition);
/* Is an episode open in the partition on that node? */
bool survey_open(const struct survey *survey, uint32_t node, uint32_t partition);

#endif
