/* serve.h: what the frames of a shard's clients mean: checks, dispatch, requests in flight. The
 * rooms by kind of request: serve_probe, serve_write, serve_blocks, serve_large, serve_read,
 * serve_list, serve_digest, serve_admin. (Rooms below: conn, share, store.)
 *
 * A frame is checked, then carried out where it lies: its bytes are lent for the call. What can't
 * be answered at once becomes a struct request: a write or flush that waits for its commit, a job
 * (READ, LIST, DIGEST) that goes on in later turns, a value that comes in parts, or an admin's
 * change that is being persisted. A frame for which there is no room stays with its connection,
 * which isn't read until there is (SERVE_WAIT). */
#ifndef KHO_NODE_SERVE_H
#define KHO_NODE_SERVE_H

#include "conn.h"

enum {
    SERVE_READS_MAX = 512,          /* under way in the shard */
    SERVE_READS_PER_REQUEST = 128,  /* of one frame */
    SERVE_LIST_WINDOW = 128,        /* reads ahead of one LIST */
    SERVE_LIST_BYTES_MAX = 1 << 20, /* records of one page */
    SERVE_REQUESTS_MAX = 16384,     /* in flight in the shard */
    SERVE_WORK_UNITS = 4096,        /* entries that jobs may look at in a turn */
    SERVE_MALFORMED_EVENTS = 4      /* log lines on malformed messages in a second */
};

/* What a caller wants to do, for serve_allowed(). */
enum serve_verb { SERVE_VERB_READ, SERVE_VERB_WRITE, SERVE_VERB_LIST, SERVE_VERB_ADMIN };

enum serve_verdict {
    SERVE_DONE,     /* the frame is consumed */
    SERVE_WAIT,     /* it is to be offered again: conn->waiting says when */
    SERVE_MALFORMED /* it breaks the layout: the connection ends */
};

struct request {
    struct queue link; /* free, or serve->waiting, or conn->jobs, or conn->assemblies */
    struct conn *conn;
    uint64_t id;
    uint64_t epoch;
    uint32_t charged; /* to the connection */
    uint16_t count;
    uint8_t type;
    uint8_t flags;
    uint64_t sequence; /* WRITE, FLUSH: answered when it is durable */
    int32_t *statuses; /* of `count` entries; NULL: all 0 */
    int32_t refused;   /* why the whole of it is refused, or 0 */
    uint32_t left;     /* entries (READ) or changes (admin) without an answer */
    uint32_t reads;    /* under way */
    uint32_t slots;    /* that it holds: those reads, and what waits to be written */
    uint8_t *body;     /* copied, or a value that is being put together */
    uint32_t body_len;
    uint32_t body_size;       /* as allocated */
    bool body_large;          /* counted in share.large_used */
    uint32_t offset;          /* READ: of the next entry; WRITE_LARGE: bytes that are there */
    struct queue window;      /* LIST: reads in order; READ: what waits behind a large value */
    struct read_slot *large;  /* READ: its large value that is being sent or waits to be */
    struct wire_list_ask ask; /* LIST, DIGEST: the range; partition_from and tag are the cursor */
    uint32_t page_bytes, page_entries;
    uint32_t replicas; /* LIST: of its collection */
    uint64_t drops;    /* WRITE_LARGE */
    bool done;         /* LIST: nothing more to issue */
};

/* A read under way. */
struct read_slot {
    struct store_read read;
    struct queue link; /* free, or request->window, or conn->large_wait */
    struct request *request;
    struct wire_list_entry entry; /* LIST */
    uint32_t index;               /* READ */
    uint32_t ask;
    uint32_t pinned;   /* bytes of memory that it may hold */
    uint32_t expected; /* bytes of its answer */
    uint32_t charged;  /* of the share, until the answer is written: those bytes as buffers */
    bool reading;      /* store_read_end() is due */
    bool arrived;
};

struct serve {
    struct conn_host host; /* first: conn->host is the serve */
    const struct shard_options *options;
    struct shard_world *world;
    struct store *store;
    struct conn *conns; /* options->connections_max, by handle */
    size_t conns_bytes;

    struct queue free_requests;
    struct queue chunks; /* of requests */
    uint32_t requests;   /* in flight */
    uint32_t requests_made;

    struct queue waiting; /* writes and flushes by rising sequence */
    struct queue paused;  /* connections whose next frame waits, first come first */
    uint32_t room_waiters;
    bool resuming; /* the frame at hand is one that has waited */

    struct queue spreading; /* MAP_PUSHes whose map isn't yet in force in all shards of the node */
    uint64_t spread;        /* epoch up to which it is */

    struct queue work;    /* connections whose jobs can go on */
    struct queue starved; /* connections whose jobs wait for a read slot, or for the share */
    struct read_slot *slots;
    struct queue free_slots;
    uint32_t slots_free;
    uint64_t pinned, pinned_max;
    uint64_t charged; /* of the share, by all slots */
    uint32_t units;   /* of work left in this turn */
    bool more_work;   /* jobs go on in the next turn, at once */
    bool slot_ended;  /* since the starved ones were asked last */

    bool stopping;
    uint64_t refused;
    uint64_t malformed_second; /* mono second of the counts below */
    uint32_t malformed_events;
    uint64_t malformed_silent; /* not logged since the last line */
    int32_t statuses[KHO_FRAME_ENTRIES_MAX];
    struct store_entry *entries; /* KHO_FRAME_ENTRIES_MAX: of the frame at hand */
    uint8_t *raw;                /* KHO_FRAME_RAW_MAX bytes: its blocks, unpacked */
    uint8_t *piece;              /* KHO_PIECE_MAX bytes: of a value, unpacked */
};

/* --- For the shard ---------------------------------------------------------------------------- */

int serve_init(struct serve *serve, const struct shard_options *options, struct shard_world *world);
/* The store comes later, since the share is taken first. */
void serve_attach(struct serve *serve, struct store *store);
void serve_fini(struct serve *serve);

void serve_hello(const struct serve *serve, struct wire_hello_node *ret_hello);
/* `refusal`: 0, or what the shard's phase says. */
void serve_accepted(struct serve *serve, int32_t handle, const struct wire_hello_client *hello,
                    int refusal);
void serve_received(struct serve *serve, int32_t handle, const uint8_t *bytes, size_t len);
void serve_disconnected(struct serve *serve, int32_t handle, int error);
void serve_completed(struct serve *serve, struct op *op);
/* What the store has finished, jobs, connections that waited. */
void serve_turn(struct serve *serve);
/* Seals and sends what the turn wrote. */
void serve_flush(struct serve *serve);
void serve_tick(struct serve *serve);
uint64_t serve_deadline(const struct serve *serve);
/* As shard_map_spread(). */
void serve_map_spread(struct serve *serve, uint64_t epoch);
/* No new requests from now on. */
void serve_stop(struct serve *serve);
/* True when all requests have ended; connections without answers to send are closed. */
bool serve_stopped(struct serve *serve);
/* Gives up on peers that don't take their answers. */
void serve_abort(struct serve *serve);
void serve_stats(const struct serve *serve, uint64_t *stats);

/* --- For the kinds of request ----------------------------------------------------------------- */

static inline struct serve *serve_of(const struct conn *conn)
{
    return (struct serve *)(void *)conn->host;
}
static inline uint64_t serve_epoch(const struct serve *serve)
{
    const struct map *map = store_map(serve->store);
    return map != NULL ? map->epoch : 0;
}

/* The single place at which a caller's rights are checked: before anything of `collection` (KHO_ALL
 * for what belongs to none) is told or changed. Today every caller may do everything; a grant's
 * check comes here, from what the connection's certificate says. */
bool serve_allowed(const struct conn *conn, uint32_t collection, enum serve_verb verb);

/* A collection's policy, kept from one entry of a frame to the next. */
struct serve_policy {
    uint32_t collection; /* 0: none looked up yet, or unknown */
    uint32_t replicas;
    uint16_t separator;
};
/* 0, KHO_ENOCOLLECTION or KHO_EDENIED. */
int serve_policy(const struct conn *conn, struct serve_policy *policy, uint32_t collection,
                 enum serve_verb verb);
/* 0 with hash and partition; KHO_ENOTREPLICA. */
int serve_place(const struct serve *serve, const struct serve_policy *policy, const uint8_t *key,
                size_t key_len, struct key_hash *ret_hash, uint32_t *ret_partition);
bool serve_is_replica(const struct serve *serve, uint32_t partition, uint32_t replicas);

/* A request in flight, zeroed but for conn, id, epoch, type, flags and count; NULL: none is free.
 * It is charged to the connection. */
struct request *request_begin(struct conn *conn, const struct wire_head *head);
/* Frees what it holds, gives its charge back. */
void request_end(struct request *request);
/* Memory for its body; false: not now. */
bool request_body(struct request *request, uint32_t size, bool large);
/* The same for a request whose frame was admitted with its body's size; false: the heap has none.
 */
bool request_body_admitted(struct request *request, uint32_t size);
void request_body_release(struct request *request);

/* Answers without entries: `status` for the whole request, with the map where it is
 * KHO_EEPOCHOLD. */
void serve_answer(struct conn *conn, uint8_t type, uint64_t id, int32_t status);
static inline void request_answer(struct request *request, int32_t status)
{
    serve_answer(request->conn, request->type, request->id, status);
}
/* { status 4, reserved 4 } x count. */
void serve_answer_statuses(struct conn *conn, uint8_t type, uint64_t id, uint32_t count,
                           const int32_t *statuses);
enum serve_verdict serve_wait(struct conn *conn, enum conn_wait why);

/* Puts a write or flush among those that wait for a commit. */
void serve_await(struct serve *serve, struct request *request);
/* Jobs of the connection may go on. */
void serve_ready(struct conn *conn);
/* True if the store takes `bytes` in `records` now; false: the connection waits. */
bool serve_room(struct conn *conn, uint64_t bytes, uint32_t records, bool copy);

enum job_result {
    JOB_DONE,    /* it is off the list of jobs */
    JOB_BLOCKED, /* reads or answers of this connection come first */
    JOB_STARVED, /* it waits for a read slot, or for the share */
    JOB_UNITS    /* the turn's work is used up */
};

/* serve_frame.c */
/* Carries out what the connection holds and then `bytes`. */
void serve_consume(struct serve *serve, struct conn *conn, const uint8_t *bytes, size_t len);
/* Offers each waiting connection its turn, first come first. */
void serve_resume(struct serve *serve);
/* serve_probe.c */
enum serve_verdict serve_probe(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                               uint32_t len);
/* serve_write.c */
enum serve_verdict serve_write(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                               uint32_t len);
/* One record whose layout and value are checked; the status of its entry, and the sequence where it
 * is 0. */
int serve_write_record(struct conn *conn, struct serve_policy *policy, const struct record *record,
                       bool copy, uint64_t drops, uint64_t *ret_sequence);
/* Answers what has become durable, or never will. */
void serve_write_progress(struct serve *serve);
/* A block as it came. */
struct serve_block {
    const uint8_t *stored;
    uint32_t stored_len, raw_len;
    uint32_t records;
};
/* Admits and stores `count` records decoded in serve->entries, from `first` on: where `block` isn't
 * NULL as that block, if all of it can be; else one by one. Their statuses go to serve->statuses;
 * *highest rises to the sequence to wait for. Returns how many were refused. */
uint32_t serve_write_entries(struct conn *conn, struct serve_policy *policy, uint32_t first,
                             uint32_t count, bool copy, const struct serve_block *block,
                             uint64_t *highest);
/* The entries of the frame are stored, or refused: its request waits for the commit. */
void serve_write_await(struct request *request, uint64_t sequence, uint32_t refused);
/* serve_blocks.c */
enum serve_verdict serve_blocks(struct conn *conn, const struct wire_head *head,
                                const uint8_t *body, uint32_t len);
/* serve_large.c */
enum serve_verdict serve_large(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                               uint32_t len);
enum serve_verdict serve_data(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                              uint32_t len);
/* serve_job.c */
int serve_jobs_init(struct serve *serve);
void serve_jobs_fini(struct serve *serve);
/* Runs the jobs that can go on. */
void serve_work(struct serve *serve);
/* The request goes on in steps of its own from here. */
void job_begin(struct request *request);
/* No more reads are issued for it; it is answered with `status` when those under way have ended. */
void job_stop(struct request *request, int32_t status);
/* Ends a stopped job that has nothing under way any more: true if it did. */
bool job_settle(struct request *request);
/* A slot for a read of a record of so many bytes, of which `expected` will be written at once,
 * charged to the request; NULL: *ret_why. */
struct read_slot *slot_begin(struct request *request, uint32_t record_bytes, uint32_t expected,
                             enum job_result *ret_why);
/* True if the share holds another reply buffer besides all that the slots will fill: each
 * connection bounds what it has unsent, but many that don't take their answers are bounded by this
 * alone. */
static inline bool serve_may_write(const struct serve *serve, uint32_t bytes)
{
    return share_has(&serve->host.share, serve->charged + bytes, false);
}
/* Its read has ended. */
void slot_arrived(struct read_slot *slot);
/* Its bytes are no longer needed. */
void slot_end(struct read_slot *slot);
/* serve_read.c */
enum serve_verdict serve_read(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                              uint32_t len);
enum job_result serve_read_step(struct request *request);
/* True: the request isn't to be looked at any more. */
bool serve_read_done(struct read_slot *slot);
/* Goes on sending the connection's large value. False: the share is in its way. */
bool serve_read_pump(struct conn *conn);
/* The connection is gone: large values aren't sent any further. */
void serve_read_drop(struct conn *conn);
/* serve_list.c */
enum serve_verdict serve_list(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                              uint32_t len);
enum job_result serve_list_step(struct request *request);
void serve_list_done(struct read_slot *slot);
/* serve_digest.c */
enum serve_verdict serve_digest(struct conn *conn, const struct wire_head *head,
                                const uint8_t *body, uint32_t len);
enum job_result serve_digest_step(struct request *request);
/* serve_admin.c */
enum serve_verdict serve_status(struct conn *conn, const struct wire_head *head,
                                const uint8_t *body, uint32_t len);
enum serve_verdict serve_map(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                             uint32_t len);
enum serve_verdict serve_map_push(struct conn *conn, const struct wire_head *head,
                                  const uint8_t *body, uint32_t len);
enum serve_verdict serve_flush_request(struct conn *conn, const struct wire_head *head,
                                       const uint8_t *body, uint32_t len);
enum serve_verdict serve_episodes(struct conn *conn, const struct wire_head *head,
                                  const uint8_t *body, uint32_t len);
enum serve_verdict serve_episode_close(struct conn *conn, const struct wire_head *head,
                                       const uint8_t *body, uint32_t len);
enum serve_verdict serve_forget(struct conn *conn, const struct wire_head *head,
                                const uint8_t *body, uint32_t len);
/* A change of the map or of an episode was persisted, or not. */
void serve_admin_done(struct serve *serve, const struct store_done *done);

#endif
