/* conn.h: one client's connection, without knowing what its frames mean: bytes that wait to be
 * read, answers that wait to be sent, receiving on and off, and the way to its end.
 *
 * Answers are written in place: conn_frame() gives room for one more entry in the frame that is
 * open, or opens one; conn_frame_added() keeps it; conn_frame_end() seals the last frame of an
 * answer. A frame is sealed with KHO_FRAME_MORE when it is full, when another answer wants the
 * buffer, and at the end of a turn. All that was written in a turn leaves in one send, of which one
 * is under way at a time; meanwhile the next buffer gathers.
 *
 * A connection ends in steps: CONN_DRAINING sends what is written; CONN_CLOSING waits until its
 * requests have ended, silently; then OP_CLOSE, and its slot is free again. */
#ifndef KHO_NODE_CONN_H
#define KHO_NODE_CONN_H

#include "share.h"

enum {
    CONN_FRAMES_MAX = 256,     /* requests in flight */
    CONN_BYTES_MAX = 8 << 20,  /* bytes of those requests */
    CONN_UNSENT_MAX = 1 << 20, /* answers written and not sent, before reading pauses */
    CONN_HELD_MAX = 1 << 20    /* bytes that the driver still delivers after a stop */
};

enum conn_phase { CONN_FREE = 0, CONN_OPEN, CONN_DRAINING, CONN_CLOSING };

/* Why the connection isn't read for the time being. */
enum conn_wait {
    CONN_WAIT_NOTHING = 0,
    CONN_WAIT_ITSELF, /* too much in flight or unsent: until it falls to half */
    CONN_WAIT_ROOM,   /* the store takes no more for now */
    CONN_WAIT_SHARE,  /* the serving side's memory is used up */
    CONN_WAIT_LARGE,  /* no buffer for a large value is free */
    CONN_WAIT_POOL    /* no request struct is free */
};

/* What all connections of a shard share. */
struct conn_host {
    struct shard_world *world;
    struct store *store;
    struct share share;
    struct kho_now now;   /* of this step */
    struct queue dirty;   /* connections that may have something to send */
    struct queue gone;    /* closed ones: what they can't finish is to be ended */
    uint32_t open;        /* slots in use */
    uint64_t sweep_at_ns; /* when to look for stalled connections; UINT64_MAX: none owes */
};

struct request;
struct read_slot;

struct conn {
    struct conn_host *host;
    int32_t handle;
    uint8_t phase;   /* enum conn_phase */
    uint8_t ops;     /* under way */
    uint8_t waiting; /* enum conn_wait */
    bool receiving;  /* what the driver was told last */
    bool want_receiving;
    bool receive_busy;
    bool send_busy;
    bool close_pushed;
    bool starved;        /* its jobs wait for a read slot: `work` is in serve->starved */
    bool copy_waits;     /* what waits is a copy or admin's: it may use the reserve */
    struct queue dirty;  /* in host->dirty */
    struct queue gone;   /* in host->gone */
    struct queue paused; /* in serve->paused */
    struct queue work;   /* in serve->work or serve->starved */
    uint64_t wait_bytes; /* room that what waits needs */
    uint32_t wait_records;
    uint64_t progress_ns; /* when the peer last sent or took something */

    /* Bytes received and not consumed: a partial frame, or whole ones while reading pauses. */
    uint8_t *input;
    uint32_t input_from, input_len, input_size;

    /* Requests in flight. */
    uint32_t frames;
    uint64_t frame_bytes;

    /* Answers. `out` holds what is not being sent; its last buffer gathers. */
    struct queue out;
    struct reply_buffer *sending;
    uint64_t unsent;
    struct {
        const void *owner;
        struct reply_buffer *buffer; /* NULL: no frame is open */
        uint64_t request;
        uint32_t at;
        uint32_t len;
        uint16_t count;
        uint8_t type, flags;
    } frame;

    /* The serving side's: requests that need more than one step, values that come or go in parts.
     */
    struct queue jobs;       /* of struct request.link */
    struct queue assemblies; /* of struct request.link: WRITE_LARGE */
    struct queue large_wait; /* of struct read_slot.link */
    struct read_slot *large; /* whose value is being sent */
    uint32_t large_sent;
    uint64_t expected; /* bytes of answers whose reads are under way */

    struct op send_op, receive_op, close_op;
};

void conn_host_init(struct conn_host *host, struct shard_world *world, struct store *store);

/* Takes the slot into use and answers its HELLO; a status other than 0 is sent, then it closes. */
void conn_open(struct conn *conn, struct conn_host *host, int32_t handle,
               const struct wire_hello_node *hello);
/* Sends what is written, then closes. */
void conn_drain(struct conn *conn);
/* Drops what is written and closes. */
void conn_abort(struct conn *conn);
void conn_completed(struct conn *conn, struct op *op);
/* At the end of a turn: seals, sends, goes on with closing. */
void conn_flush(struct conn *conn);
/* Pushes OP_CLOSE if nothing holds the connection any more. */
void conn_settle(struct conn *conn);
void conn_fini(struct conn *conn);
/* A request of `bytes` is in flight, until it has ended. */
void conn_request_began(struct conn *conn, uint32_t bytes);
void conn_request_ended(struct conn *conn, uint32_t bytes);

void conn_want_receive(struct conn *conn, bool want);
/* Keeps bytes for later, behind those kept already. False: past the bound or no memory. */
bool conn_hold(struct conn *conn, const uint8_t *bytes, size_t len);
/* The bytes kept. */
static inline const uint8_t *conn_held(const struct conn *conn)
{
    return conn->input_len == 0 ? NULL : conn->input + conn->input_from;
}
void conn_held_consume(struct conn *conn, size_t len);

/* Room for one entry of `bytes` in an answer of `owner` (NULL: of nobody's, in a frame of its own).
 * A frame opened for it begins with `head_bytes` of zeros. NULL: the connection is closing and
 * nobody will read it. */
uint8_t *conn_frame(struct conn *conn, const void *owner, uint8_t type, uint64_t request,
                    uint32_t head_bytes, uint32_t bytes);
void conn_frame_added(struct conn *conn, uint32_t bytes, uint32_t entries);
/* Flags for the frames of this answer from the open one on. */
void conn_frame_flags(struct conn *conn, uint8_t flags);
/* The first byte of the open frame's body, if it is `owner`'s, or NULL. */
uint8_t *conn_frame_body(struct conn *conn, const void *owner);
/* Seals the open frame as the last of its answer. */
void conn_frame_end(struct conn *conn, uint8_t flags, int32_t status);
/* Seals the open frame, if any, with KHO_FRAME_MORE. */
void conn_frame_close(struct conn *conn);

/* A peer that owes something (the rest of a frame or of a value, or taking its answers) and has
 * moved nothing for so long is closed; sooner where others wait for the memory that it holds. */
static const uint64_t CONN_STALL_NS = 60ull * 1000 * 1000 * 1000;
static const uint64_t CONN_STALL_PRESSED_NS = 4ull * 1000 * 1000 * 1000;
static const uint64_t CONN_SWEEP_NS = 1ull * 1000 * 1000 * 1000;
/* In a crowd (serve.c) a peer that asks nothing for so long gives its place to others. */
static const uint64_t CONN_IDLE_NS = 5ull * 1000 * 1000 * 1000;
/* Something is owed from now on: the sweep is armed. */
void conn_owes(struct conn *conn);
/* True if something is owed; closes the connection if it has stalled. `large_wanted`: some
 * connection waits for the memory of a large value. */
bool conn_sweep(struct conn *conn, bool large_wanted);
/* True if nothing is under way on it and nothing was for CONN_IDLE_NS. */
bool conn_idle(const struct conn *conn);

#endif
