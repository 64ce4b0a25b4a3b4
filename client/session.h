/* session.h: one connection to one (node, shard), and the requests that travel on it.
 *
 * A session connects, says HELLO, checks who answers (cluster, incarnation, a durable sequence that
 * doesn't go back: R2), and is *up*. When the connection breaks, is silent for unavailable_after
 * (but 2 s at least, 5 s at most) while something is asked, or brings bytes that break the layout,
 * it is closed and made anew after a backoff (50 ms to 2 s, with jitter); what was asked on it is
 * told.
 *
 * Two kinds of traffic share it, packed into sends at the end of a step:
 *   - requests: whole frames, made by list, compare, repair, admin, and the large values of items;
 *   - slots of items (item.h): waiting in queues by kind, many packed into one frame.
 */
#ifndef KHO_CLIENT_SESSION_H
#define KHO_CLIENT_SESSION_H

#include "core.h"
#include "latency.h"

struct request;

/* One frame of an answer. `body` is lent for the call. Also DATA frames that follow a READ answer
 * with KHO_FRAME_LARGE. head->status is 0 here: refusals of the whole request come as the end. The
 * handler may send and drop other requests; dropping this one is allowed, too (no end then). */
typedef void (*request_frame_fn)(struct client *client, struct request *request,
                                 const struct wire_head *head, const uint8_t *body, size_t len,
                                 struct kho_now now);
/* The end, exactly once, never within request_send: 0 after the last frame; the answer's status;
 * KHO_EDEADLINE; KHO_EUNAVAILABLE (the connection broke after it was sent, so it may have been
 * carried out; or the node has been out of reach for `unavailable_after`); KHO_EINCARNATION,
 * KHO_EROLLEDBACK, KHO_ECLUSTER, KHO_EVERSION (who answers at the address isn't the map's node);
 * KHO_EEPOCHOLD (a newer map was installed; or the node told one, which is installed already);
 * KHO_EBEHIND, KHO_ENOMAP (the node's map is older or none); KHO_EMALFORMED; -ENOMEM. From then on
 * the request is the owner's again: it may be freed or sent anew within. */
typedef void (*request_end_fn)(struct client *client, struct request *request, int status,
                               struct kho_now now);

/* Filled by its owner, who keeps it and the bytes that it points to until the end or the drop.
 * Zero it, fill the first part, send it. */
struct request {
    uint8_t type;        /* enum wire_type, not DATA */
    uint8_t flags;       /* KHO_FRAME_COPY or 0; the session adds MORE where data follow */
    uint16_t count;      /* of entries */
    const uint8_t *body; /* lent; at most KHO_FRAME_MAX - KHO_FRAME_HEAD */
    uint32_t body_len;
    const uint8_t
        *data; /* WRITE_LARGE: the value, sent as DATA frames behind the body; else NULL */
    uint32_t data_len;
    uint64_t deadline_ns;   /* CLIENT_NEVER: none of its own */
    request_frame_fn frame; /* may be NULL: frames are skipped */
    request_end_fn end;
    void *owner;  /* the owner's own */
    uint64_t tag; /* the owner's own */

    /* The session's. */
    struct queue link;       /* in session->pending while not sent, else alone */
    struct session *session; /* NULL: not under way */
    uint32_t way;            /* index in session->ways once sent */
    bool sent;
};

/* Sends a request to a shard of a node of the map in force. It waits for the session to be up, in
 * order of sending. It goes to nodes that hold an older map or none, too: those refuse what they
 * must. 0, or -ENOMEM (nothing happened). */
int request_send(struct client *client, struct request *request, uint32_t node, uint32_t shard,
                 struct kho_now now);
/* The same on a session at hand (a seed's, too). */
void request_send_on(struct client *client, struct request *request, struct session *session,
                     struct kho_now now);
/* Forgets a request: its end won't be called, an answer is ignored. If it may be on its way already
 * it is not called back. Takes one that isn't under way. */
void request_drop(struct client *client, struct request *request);

enum session_state {
    SESSION_BACKOFF = 1, /* waits for retry_ns */
    SESSION_CONNECTING,
    SESSION_HELLO, /* connected, HELLO sent, its answer awaited */
    SESSION_UP,
    SESSION_CLOSING /* the handle is being closed; then BACKOFF, or gone if retired */
};

#define SESSION_WAYS        128u /* requests under way */
#define SESSION_BATCHES_MAX 64u  /* of which are frames of items */
#define SESSION_BYTES_MAX   (8u << 20)
#define SESSION_SENDS_MAX   2u
#define SESSION_SILENCE_MIN (2000 * CLIENT_MS_NS)
#define SESSION_SILENCE_MAX (5000 * CLIENT_MS_NS)
#define SESSION_HELLO_NS    (3000 * CLIENT_MS_NS) /* for connect and HELLO together */
#define SESSION_BACKOFF_MIN (50 * CLIENT_MS_NS)
#define SESSION_BACKOFF_MAX (2000 * CLIENT_MS_NS)
#define SESSION_BEHIND_NS   (200 * CLIENT_MS_NS)

/* A block of bytes on its way out, or a frame that is only partly here. */
struct send_block {
    struct client_op op;
    struct send_block *next; /* in the pool */
    uint64_t serial;         /* of the session's sends */
    uint32_t len;
    uint8_t bytes[KHO_FRAME_MAX];
};

/* One request under way. `request` NULL with `used`: its owner dropped it, the answer is awaited
 * and skipped. */
struct way {
    struct request *request;
    uint64_t id;
    uint64_t sent_ns;
    uint32_t bytes;
    uint8_t type;
    bool used;
    bool batch; /* a frame of items */
};

struct session {
    struct queue link;     /* client->sessions */
    struct remote *remote; /* NULL once retired */
    uint32_t shard;
    uint8_t state;
    bool foreign;  /* up, but not the map's node: only its newer map is asked for */
    bool given_up; /* session_unavailable() was true at the last look; items know */
    int32_t conn;  /* handle, or -1 */
    int error;     /* why it isn't up, or why it broke last; 0: never did */
    uint32_t ops;  /* of ours that haven't ended */

    /* Who answered the last HELLO (`hello_known`), even one that was refused. What R2 remembers of
     * this incarnation: its highest durable sequence. */
    struct wire_hello_node hello;
    bool hello_known;
    uint64_t durable;
    /* Node time: wall_ms as heard at wall_heard_ns; 0: never. */
    uint64_t wall_ms;
    uint64_t wall_heard_ns;

    /* Reach. down_since: since when it is out of reach while not up, kept until the next good
     * HELLO. behind_since: since when the node refuses our epoch as KHO_EBEHIND; 0: it doesn't. */
    uint64_t down_since_ns;
    uint64_t asked_ns; /* since when something is under way without a byte heard */
    uint64_t moved_ns; /* the asked_ns of the silence in which waiting reads were moved */
    uint64_t behind_since_ns;
    uint64_t hold_until_ns; /* items wait: the node is behind or stopping; 0: they don't */
    uint64_t retry_ns;
    uint64_t backoff_ns;
    uint64_t since_ns; /* of the state */

    /* Traffic. */
    struct queue pending;             /* of struct request */
    struct queue larges;              /* those of WRITE_LARGE, one streamed at a time */
    struct queue waiting[SLOT_KINDS]; /* of struct slot */
    uint32_t waiting_count[SLOT_KINDS];
    struct way ways[SESSION_WAYS];
    uint32_t way_count;
    uint32_t batch_count;
    uint32_t bytes_under_way;
    uint64_t request_serial;
    /* Batches of READ and PROBE that nobody has hedged yet, in order of sending; what their answers
     * took; and when to look again where the budget of hedges is used up (hedge.c). */
    struct queue unhedged[SLOT_KINDS];
    struct latency latency[SLOT_KINDS];
    uint64_t hedge_wait_ns;
    uint64_t slow_until_ns;       /* much slower than most: others are asked rather */
    uint64_t pending_deadline_ns; /* no later than the earliest of its requests, sent ones too */
    bool streaming;               /* DATA frames of ways[stream_way] are being sent */
    uint32_t stream_way;
    uint32_t stream_sent;
    uint32_t stream_len;
    uint32_t sends;
    uint64_t send_serial; /* of the last one */
    uint64_t asking_send; /* the one that asked where nothing was under way */
    struct send_block *flying[SESSION_SENDS_MAX]; /* the blocks of those sends */
    struct send_block *partial;                   /* a frame, or HELLO, that is only partly here */
    struct request map_request;
    bool refresh; /* client->refreshing counts its map_request */

    struct client_op connect_op;
    struct client_op close_op;
    struct client_op hello_op;
    char host[65];
    uint8_t hello_bytes[KHO_HELLO_CLIENT_SIZE];
};

/* Since when the node is out of reach: not connected, silent while asked, or behind our map;
 * CLIENT_NEVER: it is in reach. */
uint64_t session_out_since(const struct session *session);
/* Out of reach for at least the option's unavailable_after, or not the map's node. */
bool session_unavailable(const struct client *client, const struct session *session,
                         struct kho_now now);

/* What to say of an unavailable session: KHO_EUNAVAILABLE, or why the node there isn't the map's.
 */
int session_cause(const struct session *session);
/* Asks the node for its map, unless that is being done. */
void session_fetch_map(struct client *client, struct session *session, struct kho_now now);
/* Breaks the connection (if any) for this cause and reconnects after the backoff. Requests that
 * were sent end with KHO_EUNAVAILABLE; slots of items wait again. */
void session_break(struct client *client, struct session *session, int error, struct kho_now now);

/* --- For client.c and route.c ----------------------------------------------------------------- */

struct session *session_create(struct client *client, struct remote *remote, uint32_t shard,
                               struct kho_now now);
/* Closes the connection and forgets its remote: session_sweep frees it when its ops have ended. Its
 * requests end with KHO_EUNAVAILABLE. No slot of an item is on it any more. */
void session_retire(struct client *client, struct session *session, struct kho_now now);
/* Frees the retired whose ops have ended. Not within a walk over client->sessions. */
void session_sweep(struct client *client);
/* At once, ops or not (client_destroy: the driver is done with them). Nothing is called back. */
void session_destroy(struct client *client, struct session *session);
void session_completed(struct client *client, struct session *session, struct client_op *op,
                       struct kho_now now);
void session_received(struct client *client, struct session *session, const uint8_t *bytes,
                      size_t len, struct kho_now now);
void session_tick(struct client *client, struct session *session, struct kho_now now);
/* Packs what waits into sends (pack.c). */
void session_flush(struct client *client, struct session *session, struct kho_now now);
uint64_t session_deadline(const struct client *client, const struct session *session);
/* Ends requests that were asked under an older map with KHO_EEPOCHOLD (see route_map_install). */
void session_epoch_changed(struct client *client, struct session *session, struct kho_now now);

/* --- For request.c and pack.c ----------------------------------------------------------------- */

/* A whole answer frame of wire_frame_length() bytes. */
void request_answered(struct client *client, struct session *session, const uint8_t *frame,
                      struct kho_now now);
/* Ends all that are under way (the connection broke). */
void request_end_sent(struct client *client, struct session *session, int status,
                      struct kho_now now);
/* Ends all that wait. */
void request_end_pending(struct client *client, struct session *session, int status,
                         struct kho_now now);
/* Ends those whose deadline has passed. */
void request_expire(struct client *client, struct session *session, struct kho_now now);
/* Takes a free way for a request, or returns NULL when all are taken. */
struct way *request_way(struct session *session, struct request *request, uint32_t bytes,
                        bool batch, struct kho_now now);

struct send_block *send_block_take(struct client *client);
void send_block_give(struct client *client, struct send_block *block);

#endif
