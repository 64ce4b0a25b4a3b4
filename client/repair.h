/* repair.h: the inside of a repair, shared by its rooms: repair.c (the call and its phases),
 * repair_look.c (what is open and what differs), repair_unit.c (one partition), repair_forget.c
 * (what nobody can give), repair_close.c (the episodes). */
#ifndef KHO_CLIENT_REPAIR_H
#define KHO_CLIENT_REPAIR_H

#include "change.h"
#include "mend.h"
#include "quorum.h"
#include "survey.h"

#define REPAIR_UNITS  16u /* partitions worked on at once */
#define REPAIR_ASK_NS (30000 * CLIENT_MS_NS)

enum repair_phase {
    REPAIR_WAIT, /* for a map, or a moment */
    REPAIR_PUSH,
    REPAIR_EPISODES,
    REPAIR_SURVEY,
    REPAIR_RAISE,
    REPAIR_WORK,
    REPAIR_CLOSE,
    REPAIR_FINISH,
    REPAIR_ENDED
};

struct repair;

struct repair_episode {
    uint32_t shard;
    struct wire_episode told;
};

/* What is known of a node, by its index in the map. */
struct repair_node {
    struct repair_episode *episodes;
    uint32_t episode_count, episode_capacity;
    uint8_t *open;   /* bit a partition: an episode may be open there */
    uint8_t *proved; /* bit a partition: it dominates enough others */
    /* EPISODE_CLOSE under way, and where the next begins. */
    struct request request;
    struct repair *repair;
    bool asked;
    uint8_t *body;
    uint32_t close_episode, close_partition;
    uint32_t answered;
};

/* FORGET of one replica, for the page at hand. */
struct repair_forget {
    struct repair_unit *unit;
    struct request request;
    bool asked;
    uint8_t *body;
};

/* One partition under way. */
struct repair_unit {
    struct repair *repair;
    bool active;
    uint32_t partition;
    /* All replicas of the partition; the masks below named so are of these columns. */
    uint16_t nodes[COLUMNS_MAX];
    uint32_t columns;
    columns_t candidates; /* partition's columns: with an episode here */
    columns_t proved;     /* of them, those that dominate enough others so far */
    bool moving;          /* its layout changes, */
    bool moved;           /* and the new one has all, as far as was listed */
    /* Of the collection under way; the masks are of the merge's columns. */
    uint32_t collection; /* index in the map */
    uint8_t replicas;    /* R of that collection */
    uint8_t write_quorum, read_quorum;
    columns_t listed;  /* whose every page was merged */
    columns_t damaged; /* that had an episode in some page */
    columns_t suspects;
    columns_t lack; /* that lack something still */
    uint32_t lost;
    struct merge merge;
    struct mend mend;
    struct mend_entry *entries;
    struct repair_forget forgets[COLUMNS_MAX];
    uint32_t forgets_waiting;
};

struct repair_part { /* EPISODES of one shard */
    struct repair *repair;
    struct request request;
    uint32_t node, shard;
    bool asked;
};

struct repair {
    struct call call;
    enum repair_phase phase;
    bool all;
    char name[KHO_NAME_MAX + 1];
    uint64_t progress_ns;
    uint64_t map_ns; /* without a map by then it ends */
    struct kho_repair_result result;

    /* The pass under way. */
    uint32_t pass;
    uint32_t restarts;
    bool forked;            /* some node holds another map of our epoch */
    bool interrupted;       /* the last pass didn't come to its end */
    uint64_t copied_before; /* records copied when the pass began */
    uint64_t dropped_before;
    uint64_t closed_before;
    bool overlap;           /* some episode can't be closed since another overlaps */
    int refusal;            /* the first refusal of a copy or a close */
    int raise_error;        /* why the epoch couldn't be raised */
    int finish_error;       /* why a layout's change couldn't be ended */
    bool finished;          /* it was, in the pass before */
    uint64_t episode_epoch; /* the highest in which an open episode began */
    uint64_t open_partitions;
    uint32_t needs;  /* partitions to be worked on */
    uint64_t layout; /* a hash of both layouts, for which `moved` holds */

    uint32_t node_count, partitions; /* of the map that the arrays were made for */
    struct repair_node *nodes;
    int *unreached; /* by node: 0, or why it is left out in this pass */
    uint8_t *work;  /* bit a partition */
    uint8_t *moved; /* bit a partition: its new layout has everything (R5) */
    uint32_t *lost; /* by partition */
    struct push push;
    struct survey survey;
    struct change change;
    struct repair_part *parts;
    uint32_t part_count;
    uint32_t waiting; /* requests of EPISODES or CLOSE */
    struct repair_unit *units;
    uint32_t next_partition;
    bool filling; /* units are being given work */
};

static inline bool repair_bit(const uint8_t *bits, uint32_t i)
{
    return (bits[i / 8] >> (i % 8) & 1) != 0;
}
static inline void repair_bit_set(uint8_t *bits, uint32_t i)
{
    bits[i / 8] |= (uint8_t)(1u << (i % 8));
}

/* --- repair.c --------------------------------------------------------------------------------- */

void repair_move(struct repair *repair, enum repair_phase to);
/* Ends the call. */
void repair_end(struct client *client, struct repair *repair, int status);
/* A newer map, or none that holds: everything under way is dropped and the pass begins anew. */
void repair_restart(struct client *client, struct repair *repair, struct kho_now now);
/* The node is left out for the rest of the pass. */
void repair_unreach(struct repair *repair, uint32_t node, int status);
/* Does this status end or restart the repair? Then that was done. */
bool repair_failed(struct client *client, struct repair *repair, int status, struct kho_now now);
void repair_looked(struct client *client, struct repair *repair, struct kho_now now);
void repair_worked(struct client *client, struct repair *repair, struct kho_now now);
void repair_closed(struct client *client, struct repair *repair, struct kho_now now);

/* Has the layout's change of this partition still to be copied? */
static inline bool repair_moving(const struct client *client, const struct repair *repair,
                                 uint32_t partition)
{
    return repair->all && client->map.previous_count > 0 &&
           map_previous(&client->map, partition) != NULL && !repair_bit(repair->moved, partition);
}

/* --- repair_look.c ---------------------------------------------------------------------------- */

/* Asks for episodes, then digests; then marks what is open and what needs work: repair_looked(). */
void repair_look(struct client *client, struct repair *repair, struct kho_now now);
void repair_look_stop(struct client *client, struct repair *repair);
/* Do the replicas in reach tell different digests of this table? */
bool repair_differs(const struct client *client, const struct repair *repair, uint32_t collection,
                    uint32_t partition);

/* --- repair_unit.c ---------------------------------------------------------------------------- */

/* Keeps units busy until all partitions are done: repair_worked(). */
void repair_work(struct client *client, struct repair *repair, struct kho_now now);
void repair_work_stop(struct client *client, struct repair *repair);

/* The page's versions that had to be given up were: on with the page. */
void repair_forgot(struct client *client, struct repair_unit *unit, struct kho_now now);

/* --- repair_forget.c -------------------------------------------------------------------------- */

/* Has the versions of the page given up that nobody ever acknowledged and nobody can give:
 * repair_forgot(). False: there are none. -ENOMEM ends the repair: true. */
bool repair_forget(struct client *client, struct repair_unit *unit, struct kho_now now);
void repair_forget_stop(struct client *client, struct repair_unit *unit);

/* --- repair_close.c --------------------------------------------------------------------------- */

/* Closes what is proved: repair_closed(). */
void repair_close(struct client *client, struct repair *repair, struct kho_now now);
void repair_close_stop(struct client *client, struct repair *repair);

#endif
