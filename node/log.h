/* log.h: the append-only log of one shard: group commit, durability in order, keys in flight.
 *
 * A record is packed into the commit that gathers; the commit gets its sequence when it opens and
 * its segment and offset when it is sealed. Commits are written at the same time and may complete
 * in any order; they *land* in order: their records enter the index, and `durable` moves up (R1).
 *
 *     free -> gathering -> ready (waits for a place in flight, or a segment) -> flying -> landed
 *
 * Between commits it writes footers (footer.h) of what depot.tail has gathered, one as the last
 * thing in a segment: that is sealed once they are written and its last commit has landed.
 *
 * Failure: a write that fails or is short makes the shard read-only (R4); neither that commit nor a
 * later one lands any more. */
#ifndef KHO_NODE_LOG_H
#define KHO_NODE_LOG_H

#include "depot.h"

enum {
    LOG_COMMIT_TARGET = 1 << 20, /* a commit with so many bytes takes no more records */
    LOG_COMMIT_BUFFER = 3 << 19, /* room of the buffer that each commit keeps */
    LOG_COMMIT_RECORDS = 4096,
    LOG_COMMIT_BLOCKS = 1024,
    LOG_SLOTS_MAX = 18, /* commits_max, one that gathers, one that is ready */
    LOG_BUCKETS = 1 << 14
};

/* A record on its way: what the index will say once it lands. A copy (compaction) is a record that
 * is in the index already: it only moves there, if the index still names the place it was copied
 * from, or lost it; no write is compared with it. */
struct pending {
    uint32_t next; /* handle of the next one in its bucket, 0: none */
    uint32_t collection, partition;
    struct key_tag tag;
    struct version version;
    union {
        struct kho_id hash; /* of a write, for R6 */
        uint64_t from;      /* of a copy */
    };
    uint32_t value_bytes;
    uint16_t block;
    bool copy;
    bool tombstone;
    bool reserved; /* an index entry was reserved for it */
    bool dead;     /* its partition was discarded meanwhile */
};

struct commit_block {
    uint32_t offset; /* of its head in the commit */
    uint32_t collection, raw_len, stored_len, records;
    uint8_t codec;
    struct kho_id hash;
};

enum commit_state { COMMIT_FREE, COMMIT_GATHERING, COMMIT_READY, COMMIT_FLYING, COMMIT_DONE };

struct commit {
    struct queue link;
    uint8_t state;
    uint32_t slot;
    uint64_t sequence, epoch;
    uint8_t *buffer; /* `base`, or a larger one for a large record */
    uint32_t buffer_bytes;
    uint32_t used; /* head and closed blocks */
    uint8_t *base;
    struct commit_block *blocks;
    struct pending *entries;
    uint32_t block_count, entry_count;
    uint32_t landed;  /* of the entries: the rest waits for memory if the write is done */
    uint64_t weight;  /* of its records (live.h) */
    uint32_t segment; /* slot */
    uint64_t offset;
    uint32_t length;
    struct op op;
};

/* The footer that is being written: one at a time, so that what a later one covers tells that it is
 * whole. */
struct log_footer {
    uint8_t *buffer;
    uint32_t bytes; /* of the buffer */
    bool flying;
    uint32_t segment; /* slot */
    struct op op;
};

struct log {
    struct depot *depot;
    struct index *index; /* set once there is a map */
    struct commit *commits;
    uint32_t slots, flying_max;
    struct queue free, ready, flying; /* of commit.link; flying in order of sequence */
    uint32_t flying_count;
    struct commit *gather;
    uint8_t *raw; /* the block that is being packed */
    uint32_t raw_used, raw_records, raw_collection;
    uint32_t *buckets; /* handles: slot * LOG_COMMIT_RECORDS + entry + 1 */
    uint64_t sequence; /* the highest given to a commit */
    uint64_t durable;
    uint64_t landed_end; /* of the last commit that landed, in this segment: */
    uint32_t landed_segment;
    uint64_t marked; /* the log ends with a mark while this equals `durable` and nothing moves */
    struct kho_id predecessor;
    uint32_t current, spare; /* segment slots, or LOG_NO_SEGMENT */
    uint64_t position;       /* in the current one */
    struct log_footer footer;
    uint64_t idle_since_ns;
    uint64_t land_again_ns; /* landing found no memory and is tried again then; 0: it didn't */
    uint64_t commits_landed, bytes_landed, records_landed, footer_bytes_landed;
};
#define LOG_NO_SEGMENT UINT32_MAX

int log_init(struct log *log, struct depot *depot);
void log_fini(struct log *log);
/* What commits and footers are written from: at most LOG_AREAS_MAX. Returns how many. */
enum { LOG_AREAS_MAX = LOG_SLOTS_MAX + 1 };
uint32_t log_areas(const struct log *log, struct io_area *ret_areas);

/* What is known of a key from records in flight; the highest version of them. */
struct log_look {
    bool found;
    bool same;          /* one of exactly the version asked for is in flight… */
    bool same_conflict; /* …with another content hash */
    struct version version;
    uint64_t sequence;      /* of the commit with the highest version */
    uint64_t same_sequence; /* of the one with the same version */
};
void log_look(const struct log *log, uint32_t collection, uint32_t partition, struct key_tag tag,
              const struct record *record, struct log_look *ret_look);
/* Fetches towards the cache what that look begins with. */
void log_prefetch(const struct log *log, uint32_t collection, uint32_t partition,
                  struct key_tag tag);

/* 0 if `records` records of `bytes` bytes could be taken now; -EAGAIN: later; KHO_ENOSPACE. */
int log_room(const struct log *log, uint64_t bytes, uint32_t records);
/* Takes a record. `reserved`: an index entry is reserved for it. Returns as log_room(), or
 * KHO_EFULL (no memory for a large one, and nothing in flight would give some back). */
int log_take(struct log *log, uint32_t partition, struct key_tag tag, const struct record *record,
             bool reserved, struct kho_now now, uint64_t *ret_sequence);
/* Takes a block as store_write_block() has it; entries[].new_key: an index entry is reserved for
 * it. 0 or -EAGAIN. */
int log_take_block(struct log *log, const struct store_entry *entries, uint32_t count,
                   const uint8_t *stored, uint32_t stored_len, uint32_t raw_len, struct kho_now now,
                   uint64_t *ret_sequence);
/* A record that is stored anew elsewhere. */
struct log_copy {
    uint32_t partition;
    struct key_tag tag;
    struct version version;
    uint32_t value_bytes;
    bool tombstone;
    uint64_t from; /* its place, as the index has it */
};
/* True if a block of copies that is taken now begins its way to the disk at the end of this turn,
 * so that it keeps no write waiting. */
bool log_copies_welcome(const struct log *log);
/* Takes copies of one collection as a block of their own: `raw_len` bytes of records, the raw block
 * of a packed one or one large record, lent. Class COMPACTION of R4: the last made segment is kept
 * for it where no other can be made. Returns as log_take(). */
int log_copy(struct log *log, uint32_t collection, const uint8_t *raw, uint32_t raw_len,
             const struct log_copy *copies, uint32_t count, struct kho_now now,
             uint64_t *ret_sequence);
/* Closes the gathering commit: later records go to another one (a new epoch). */
void log_cut(struct log *log);
/* Starts what may start; `seal`: the gathering commit, too. */
void log_pump(struct log *log, bool seal, struct kho_now now);
/* True if nothing is gathering, ready or flying (a failed shard's commits don't count). */
bool log_idle(const struct log *log);
/* Idle, and something was written since the last mark. */
bool log_wants_mark(const struct log *log);
/* Writes an empty commit, if there is room for one. */
void log_mark(struct log *log, struct kho_now now);
/* A commit's write ended: lands what can land. */
void log_completed(struct log *log, struct op *op, struct kho_now now);
/* Goes on landing where memory was wanting, if it is time. `last`: there won't be another time:
 * what can't land now is left to the next start, which finds it on the disk. */
void log_land_again(struct log *log, bool last, struct kho_now now);
/* A footer's write ended. */
void log_footer_completed(struct log *log, struct op *op, struct kho_now now);
/* A made segment, its slot. */
void log_give_segment(struct log *log, uint32_t slot);
/* Another segment should be made now. */
bool log_wants_segment(const struct log *log);
/* How many of the next segment's `size` bytes should be zeros by now, or LOG_SEGMENT_AT_ONCE: it
 * is needed as it is. */
uint64_t log_zeros_wanted(const struct log *log, uint64_t size);
#define LOG_SEGMENT_AT_ONCE UINT64_MAX
/* Records in flight of a partition must not land. */
void log_discard(struct log *log, uint32_t partition);

#endif
