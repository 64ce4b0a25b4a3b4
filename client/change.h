/* change.h: a change of the cluster map, and the bringing of a map to the nodes: what collection
 * create, readmit, map push and repair stand on. */
#ifndef KHO_CLIENT_CHANGE_H
#define KHO_CLIENT_CHANGE_H

#include "session.h"

/* --- Push: a decided map to all nodes --------------------------------------------------------- */

struct push;
typedef void (*push_fn)(struct client *client, struct push *push, struct kho_now now);

struct push_node {
    struct push *push;
    struct request request;
    bool asked, ended;
    int status; /* once ended */
};

struct push {
    /* Filled by the owner, who zeroes it first. */
    uint64_t deadline_ns;
    push_fn told; /* after each node's answer; the last one too. It may stop the push. */
    void *owner;

    struct push_node *nodes; /* node_count, by index in the map in force */
    uint32_t node_count;
    uint32_t waiting;
    uint32_t told_count; /* nodes that are asked at all */
    uint32_t held;       /* of them, those that have the map durably */
    int error;           /* the first failure */

    uint8_t *body;
};

/* Brings `map` (copied) to all nodes of the map in force that aren't out, but `except` and `later`
 * (-1: nobody). A node that has it already says so at once. The shard that takes a map hands it to
 * the others of its node. 0, or -ENOMEM: nothing happened. */
int push_start(struct client *client, struct push *push, const struct map *map, int except,
               int later, struct kho_now now);
/* Takes a zeroed one. */
void push_stop(struct client *client, struct push *push);

/* Does some node hold another map of the epoch (KHO_EMAP)? A change above both ends that. */
bool push_forked(const struct push *push);

/* --- Change ----------------------------------------------------------------------------------- */

struct change;

/* Room for the parts of a map that a change may edit: one more collection than there are, a row of
 * the previous layout for every partition. */
struct change_parts {
    struct map_parts parts; /* points to what follows, and to these: */
    uint16_t *table;
    uint32_t *since;
    uint8_t *previous;
    struct map_node nodes[KHO_MAP_NODES_MAX];
    struct map_collection collections[KHO_MAP_COLLECTIONS_MAX + 1];
};

/* Makes the next map from the one in force: `parts` is a copy of it, epoch raised already. 0, or
 * why the change can't be made (-EALREADY: it is made already, and the change ends with 0). */
typedef int (*change_edit_fn)(struct client *client, struct change *change,
                              struct change_parts *parts);
/* The end, once, unless stopped: 0 when the change is decided and a majority of the nodes has it.
 */
typedef void (*change_end_fn)(struct client *client, struct change *change, int status,
                              struct kho_now now);

enum change_phase {
    CHANGE_IDLE,
    CHANGE_PAUSE,
    CHANGE_DECIDE,
    CHANGE_GATHER,
    CHANGE_SPREAD,
    CHANGE_SEAT,
    CHANGE_BRING
};

/* What a node told of its map. */
struct change_node {
    struct change *change;
    struct request request;
    bool asked, heard;
    uint64_t epoch, hash; /* 0, 0: it has none */
    uint8_t *bytes;       /* of a map of our epoch that isn't ours */
    uint32_t len;
};

struct change {
    /* Filled by the owner, who zeroes it first. */
    change_edit_fn edit;
    change_end_fn end;
    /* wake_ns has changed. */
    void (*wake)(struct client *client, struct change *change);
    void *owner;
    uint64_t deadline_ns;
    int lost_home; /* the node that was the home and has no map any more, or -1 (change.c) */

    /* When change_tick() is wanted; CLIENT_NEVER: not at all. */
    uint64_t wake_ns;
    /* The map that was proposed last: an edit may look whether it came into force. */
    uint64_t proposed_epoch;
    bool in_doubt; /* a proposal was sent whose end is not known */

    /* The change's own. */
    enum change_phase phase;
    struct request request;
    bool asked;
    uint8_t *body; /* of MAP_PUSH: its head, then the map */
    uint32_t body_len;
    uint64_t hash; /* of the map in `body` */
    uint32_t tries;
    struct push push;
    bool majority; /* has it; the others get a moment more */
    bool forked;   /* the home holds another map of our epoch: nobody can decide alone */
    /* While gathering, by the nodes' indices in the map in force. */
    struct change_node *nodes;
    uint32_t node_count, waiting;
    struct {
        uint64_t epoch, hash; /* of the map in force then */
    } gathering;
    int cause;          /* of the last failure */
    struct kho_now now; /* of the step in which the edit runs */
};

/* An edit that changes nothing but the epoch. */
int change_raise(struct client *client, struct change *change, struct change_parts *parts);
/* Runs the edit on the map in force and forgets what it made: 0, -ENOMEM, or what edit says. */
int change_preview(struct client *client, struct change *change, struct kho_now now);
/* 0, or -ENOMEM, or what edit says: nothing happened. */
int change_start(struct client *client, struct change *change, struct kho_now now);
void change_tick(struct client *client, struct change *change, struct kho_now now);
/* Takes a zeroed one. */
void change_stop(struct client *client, struct change *change);

#endif
