/* item.h: the records of put, del, append, get and stat on their way.
 *
 * A call holds items; an item holds one *slot* a replica; a slot waits in its session's queue, or
 * is in a *batch* (one frame under way), or is idle. An answer comes back to the slot, which tells
 * its item, which moves on:
 *
 *   write   LINED -> STAMP -> WRITE -> ENDED (and on in the background until all R have it)
 *   read    READ -> ENDED
 *
 * Everything of a call lies in one block: struct records, items, results, slots, names, keys and
 * values; only values read come in chunks of their own. The block lives until the done was
 * delivered and no slot of it is on its way. */
#ifndef KHO_CLIENT_ITEM_H
#define KHO_CLIENT_ITEM_H

#include "core.h"
#include "quorum.h"
#include "session.h"

struct records;
struct batch;
struct bundle;
struct large;

enum slot_ask {
    SLOT_IDLE,
    SLOT_WAITING, /* in session->waiting[kind], or as a large in session->larges */
    SLOT_SENT     /* batch, or large, is under way */
};

/* One replica of one item. */
struct slot {
    struct queue link;
    struct item *item;
    struct session *session;
    struct batch *batch; /* SENT in that frame, at `index` */
    struct large *large; /* WAITING or SENT by itself */
    uint32_t index;
    uint8_t kind; /* enum slot_kind of what is asked */
    uint8_t ask;  /* enum slot_ask */
    /* What the replica told of the key. */
    uint8_t state;     /* enum wire_state */
    bool replied : 1;  /* counts as a reply: version and drops are known */
    bool suspect : 1;  /* but is no vote (R3) */
    bool unknown : 1;  /* it can't say (R2) */
    bool no_value : 1; /* its value can't be had */
    bool told : 1;     /* its drop number was known before the source was confirmed (R7) */
    /* What became of the write. */
    bool acked : 1;
    bool refused : 1;
    bool stale : 1; /* refused as KHO_ESTALE */
    bool maybe : 1; /* it was sent and not definitely refused: the replica may have it */
    bool twice : 1; /* it was sent more than once */
    struct version version;
    uint64_t drops;
};

enum item_phase {
    ITEM_EARLY, /* no map yet */
    ITEM_LINED, /* behind another write of its key, or ready to start */
    ITEM_STAMP,
    ITEM_WRITE,
    ITEM_READ,
    ITEM_ENDED
};

struct item {
    struct queue link;    /* behind another in its line, or in client->ready */
    struct queue waiters; /* of the head of a line: those behind it */
    struct item *bucket_next;
    struct records *call;
    uint32_t index;
    uint32_t partition;
    struct slot *slots;
    struct bundle *bundle; /* that its record is compressed in, for the present version */
    const uint8_t *key;
    /* The value bytes of the record to be written, or in hand, compressed where `codec` says so. */
    const uint8_t *value;
    const uint8_t *raw; /* get: of the record in hand, what the caller is given */
    uint32_t value_len; /* raw */
    uint32_t stored_len;
    uint16_t key_len;
    uint8_t codec;
    uint8_t phase;
    uint8_t columns; /* slots: the replicas of either layout */
    struct layouts layouts;
    columns_t votes, told; /* STAMP: unsuspected answers; all answers */
    columns_t acks;
    bool head : 1; /* of its line */
    bool tombstone : 1;
    bool stamped : 1;     /* version is set */
    bool token : 1;       /* came with a token: its version may be there from before */
    bool unprobed : 1;    /* append: stamped from node times */
    bool sent_before : 1; /* sent under an older epoch, or the token's attempt */
    bool have_record : 1; /* read: value (or head) of `version` is in hand */
    bool want_value : 1;  /* read: get, or stat that must write back */
    bool confirming : 1;  /* read: the source is asked whether it still has `version` */
    bool confirmed : 1;
    bool asked_all : 1; /* read: every replica was asked, or is about to be */
    bool held : 1;      /* ended, and slots are still on their way */
    bool single : 1;    /* write: its record goes by itself, not in a bundle */
    uint8_t source;     /* read: the slot that is asked to confirm */
    int refusal;        /* the gravest so far */
    struct key_hash hash;
    struct kho_id content;
    struct version version;
    struct version highest; /* STAMP: told; before: the line's last */
    uint64_t floor;
    uint64_t lowest_wall_ms;
};

/* A chunk of values that were read. */
struct value_chunk {
    struct value_chunk *next;
    size_t used, size;
    uint8_t bytes[];
};

struct records {
    struct call call; /* first */
    struct queue held_link;
    enum client_verb verb;
    uint64_t serial; /* order of submission, for flush */
    uint32_t count;
    uint32_t ended;
    uint32_t held;  /* items in the background */
    uint32_t width; /* slots an item at most */
    bool delivered;
    bool all_ended;
    bool resolved; /* collection found, items hashed */
    bool settled;  /* nothing more to write: counted by flush */
    bool holding;  /* in client->held */
    uint32_t collection;
    uint16_t separator;
    uint8_t replicas, write_quorum, read_quorum;
    uint64_t bytes; /* keys and values */
    char name[KHO_NAME_MAX + 1];
    struct item *items;
    struct kho_result *results;
    struct slot *slots;
    struct slot *slots_own; /* allocated apart, when a map was wider than the block foresaw */
    struct value_chunk *chunks;
    bool small;    /* the block is one of the pool's */
    uint32_t room; /* of a small block: bytes behind what it holds, for a value that is read */
    uint8_t *room_at;
};

/* One frame of items under way. */
struct batch {
    struct request request; /* first */
    struct session *session;
    uint8_t kind;
    bool slow_by_size;     /* a large value came with it: says nothing of the node */
    struct queue unhedged; /* in session->unhedged[kind], or alone */
    uint64_t send_serial;  /* the send that it is in */
    uint64_t sent_ns;
    uint32_t hedged; /* READ, PROBE: so many entries were asked elsewhere, too, or needn't be */
    uint32_t count;
    uint32_t answered; /* PROBE, WRITE: entries, in order */
    /* READ: a large value that is coming in; nobody wants it where large_slot is NULL. */
    bool large_open;
    bool large_suspect;
    int large_status; /* not 0: it can't be used, and why */
    struct slot *large_slot;
    struct wire_read_answer large_answer;
    struct record large;  /* key points nowhere: it was compared */
    uint8_t *large_bytes; /* in the call's chunks */
    uint32_t large_got;
    struct slot *slots[]; /* NULL: detached */
};

/* A value that needs frames of its own. */
struct large {
    struct request request; /* first */
    struct slot *slot;
    uint8_t body[WIRE_DROPS + KHO_RECORD_HEAD + KHO_KEY_MAX];
};

static inline bool records_write(const struct records *call)
{
    return call->verb == CLIENT_PUT || call->verb == CLIENT_DEL || call->verb == CLIENT_APPEND;
}
static inline struct slot *item_slot_begin(const struct item *item)
{
    return item->slots;
}
static inline struct slot *item_slot_end(const struct item *item)
{
    return item->slots + item->columns;
}
static inline columns_t slot_bit(const struct slot *slot)
{
    return column_bit((uint32_t)(slot - slot->item->slots));
}

/* --- slot.c ----------------------------------------------------------------------------------- */

/* Asks the slot's replica; what it was asked before is forgotten. */
void slot_ask(struct client *client, struct slot *slot, enum slot_kind kind, struct kho_now now);
/* Withdraws what is asked: an answer will be ignored. */
void slot_detach(struct client *client, struct slot *slot);
/* It was packed as entry `index` of a frame. */
void slot_sent(struct slot *slot, struct batch *batch, uint32_t index);
/* The same for a request of WRITE_LARGE, whoever owns it. */
void item_large_sent(struct request *request);
/* The record that an item writes. */
struct record item_record(const struct item *item);
void batch_frame(struct client *client, struct request *request, const struct wire_head *head,
                 const uint8_t *body, size_t len, struct kho_now now);
void batch_end(struct client *client, struct request *request, int status, struct kho_now now);
void item_large_end(struct client *client, struct request *request, int status, struct kho_now now);

/* --- What session.c tells --------------------------------------------------------------------- */

/* It has been out of reach for long: items that can't have a majority end. */
void items_session_given_up(struct client *client, struct session *session, struct kho_now now);

/* --- item.c: the write path, and what both share ---------------------------------------------- */

/* Starts an item whose turn has come, or starts it again under a new map. */
void item_start(struct client *client, struct item *item, struct kho_now now);
/* Starts those whose turn came within this step. */
void items_run_ready(struct client *client, struct kho_now now);
void item_end_read(struct client *client, struct item *item, int status);
/* Ends an item for an outer cause (deadline, cancel, unavailable): a write that was sent in doubt.
 */
void item_give_up(struct client *client, struct item *item, int status, struct kho_now now);
/* Ends what an applied write still does for laggards. */
void item_background_end(struct client *client, struct item *item);
/* The same under a new map: all its replicas are sent the record (again). */
void item_background_restart(struct client *client, struct item *item, struct kho_now now);
/* True where some replica may have the version of a write. */
bool item_may_be_there(const struct item *item);
void item_probe_answered(struct client *client, struct slot *slot,
                         const struct wire_probe_answer *answer, bool suspect, uint64_t wall_ms,
                         struct kho_now now);
void item_write_answered(struct client *client, struct slot *slot, int status, struct kho_now now);
/* Too few replicas are left to go on? Then it ends. */
void item_check_reach(struct client *client, struct item *item, struct kho_now now);

/* --- read.c: the read path -------------------------------------------------------------------- */

void reader_start(struct client *client, struct item *item, struct kho_now now);
/* Looks at what is known and does what comes next. */
void reader_advance(struct client *client, struct item *item, struct kho_now now);
void reader_probe_answered(struct client *client, struct slot *slot,
                           const struct wire_probe_answer *answer, bool suspect,
                           struct kho_now now);
/* `record` is NULL where none came; with `status` not 0 the replica can't give it. A value, if
 * wanted, is in the call's chunks and has its content hash; `raw`: it unpacked, for a get. */
void reader_answered(struct client *client, struct slot *slot, int status, bool suspect,
                     const struct wire_read_answer *answer, const struct record *record,
                     const uint8_t *raw, struct kho_now now);
void reader_copy_answered(struct client *client, struct slot *slot, int status, struct kho_now now);
/* The slot that was to bring the record can't for now (its connection broke). */
void reader_source_lost(struct client *client, struct slot *slot, struct kho_now now);
/* Is the value of that version worth keeping? */
bool reader_wants(const struct item *item, struct version version);
/* Asks those for their votes that weren't asked yet. */
void reader_ask_all(struct client *client, struct item *item, struct kho_now now);
/* The same, and one more replica for the record. */
void reader_hedge(struct client *client, struct item *item, struct kho_now now);
/* A step is over: the reads of the next one go to another replica first. */
void readers_rotate(struct client *client);

/* --- hedge.c: what is late is asked elsewhere, too -------------------------------------------- */

/* A client begins with all hedges that can be saved up, */
void hedge_init(struct client *client);
/* and each read earns a part of one. */
void hedge_earn(struct client *client);
/* A batch was packed at `now`; its send is known as session->send_serial + 1. */
void hedge_batch_packed(struct session *session, struct batch *batch, struct kho_now now);
/* That send was carried out: only now the node can be late. */
void hedge_sent(struct session *session, uint64_t send_serial, struct kho_now now);
/* The batch is over. Answered: what it took says something of the node's speed. */
void hedge_batch_ended(struct client *client, struct batch *batch, bool answered,
                       struct kho_now now);
/* The connection broke: reads that wait on it go elsewhere. */
void hedge_session_broke(struct client *client, struct session *session, struct kho_now now);
/* Reads that it leaves unanswered are asked elsewhere, too. */
void hedge_session(struct client *client, struct session *session, struct kho_now now);
/* When that has to be looked at. */
uint64_t hedge_deadline(const struct client *client, const struct session *session);

/* --- records.c: the call ---------------------------------------------------------------------- */

/* The records of a call, or NULL where it is of another kind. */
struct records *records_of(struct call *call);
/* Room for a value in the call's chunks, or NULL. */
uint8_t *records_value(struct client *client, struct records *call, size_t len);
/* An item of the call ended (its result is filled). */
void records_item_ended(struct client *client, struct records *call);
/* An ended item of the call has nothing more on its way. */
void records_item_settled(struct client *client, struct records *call);
/* Starts calls that wait for a map; and all again under a new one. */
void records_map_changed(struct client *client, struct kho_now now);
/* The round of asking for a newer map is over: who waited for a collection has waited in vain. */
void records_refreshed(struct client *client, struct kho_now now);
/* Takes every slot of every call back from its session (before a map is replaced). */
void records_detach_all(struct client *client);
/* Keeps held-back values within their bound. */
void records_bound_held(struct client *client);
/* Frees a call of this kind as it is (client_destroy). */
void records_destroy(struct client *client, struct call *call);
/* Frees what the pool of small calls keeps. */
void records_pool_free(struct client *client);
/* All that a writing call had to write is written, or given up (client.c). */
void flush_settled(struct client *client, uint64_t serial);

/* --- line.c: one write a key at a time -------------------------------------------------------- */

/* True: the item is the head of its line and may start; false: it waits behind another. */
bool line_join(struct client *client, struct item *item);
/* The head leaves; the next of its line becomes ready. */
void line_leave(struct client *client, struct item *item);
/* Room in the table for so many more. 0 or -ENOMEM. */
int line_reserve(struct client *client, uint32_t more);

/* --- token.c ---------------------------------------------------------------------------------- */

void token_make(const struct item *item, struct kho_token *ret);
/* 0 with the version in the item, or KHO_ETOKEN. */
int token_check(const struct kho_token *token, struct item *item);

#endif
