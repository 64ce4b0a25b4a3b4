/* mend.h: brings some keys of one replica set, named by their tags, to agreement: asks who has
 * which version, reads the newest, copies it to those that lack it. A listing uses it as a get does
 * (a majority must have what is returned), repair to make all replicas equal. */
#ifndef KHO_CLIENT_MEND_H
#define KHO_CLIENT_MEND_H

#include "fetch.h"
#include "merge.h"

#define MEND_BYTES_MAX (4u << 20) /* of records held at once; one larger record may pass it */
#define MEND_TRIES     4u         /* a key whose drop number or version moved is tried so often */

struct mend;
struct mend_slot;

/* One key. Everything but `place` is the result. */
struct mend_entry {
    struct place place;
    int status; /* 0; KHO_EDAMAGED: nobody has the newest value; KHO_EUNAVAILABLE: who has it, or a
                   majority, is out of reach; KHO_EUNKNOWN: episodes leave too few votes; a write's
                   refusal */
    struct version version; /* zero: no record */
    uint8_t state;          /* ABSENT, PRESENT, TOMBSTONE */
    uint8_t have;           /* columns that durably have that version or more, value included */
};

/* A record that was read: lent for the call. It may come more than once for an entry (then the last
 * counts), and is worth nothing unless the entry's status is 0 at the end. */
typedef void (*mend_record_fn)(struct client *client, struct mend *mend, uint32_t index,
                               const struct record *record, struct kho_now now);
/* The end, once, unless stopped: 0 with every entry's result; KHO_EEPOCHOLD; -ENOMEM. */
typedef void (*mend_end_fn)(struct client *client, struct mend *mend, int status,
                            struct kho_now now);

enum mend_phase { MEND_IDLE, MEND_PROBE, MEND_READ, MEND_WRITE };

/* One replica. */
struct mend_column {
    struct mend *mend;
    bool asked; /* a request of probe or write is under way */
    struct request request;
    uint8_t *body;
    uint32_t first, count; /* of the slots in the write under way (in order of slots) */
    uint32_t next;         /* slot at which the next write begins */
    bool suspect;
    int status;  /* why it is out, when it is in `gone` */
    int refusal; /* the first refusal of a copy there */
    struct fetch fetch;
};

struct mend {
    /* Filled by the owner, who zeroes it first. */
    uint32_t collection;
    uint8_t replicas; /* columns: those of layouts_nodes() */
    uint16_t nodes[COLUMNS_MAX];
    struct layouts layouts;
    columns_t skip;      /* columns that are not asked */
    uint8_t votes, acks; /* Q and W in each layout; 0: repair, all that answer are made equal */
    bool heads;          /* with votes: the values aren't wanted */
    struct mend_entry *entries; /* all of one shard of each node; the owner's until the end */
    uint32_t count;
    uint64_t deadline_ns;
    mend_record_fn record; /* may be NULL */
    mend_end_fn end;
    void *owner;

    /* Results, beside those in the entries. */
    columns_t gone; /* columns that failed on the way, with their status */
    uint64_t copied;
    uint64_t copied_bytes;

    /* The mend's own. */
    enum mend_phase phase;
    struct mend_column columns[COLUMNS_MAX];
    struct mend_slot *slots; /* of the window */
    uint32_t first, window;  /* entries first to first + window are worked on */
    uint32_t reach;          /* entries asked in one read */
    bool thorough;           /* probes wait for all replicas */
    uint64_t held_bytes;
    uint64_t read_bytes;
};

/* 0, or -ENOMEM: nothing happened. */
int mend_start(struct client *client, struct mend *mend, struct kho_now now);
/* Forgets what is under way, frees everything of its own. Takes a zeroed one. */
void mend_stop(struct client *client, struct mend *mend);

#endif
