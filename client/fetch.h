/* fetch.h: reads records by tag from one replica and checks them: the part that listing and repair
 * share. One READ request, whose answers come in any order; values of any size. */
#ifndef KHO_CLIENT_FETCH_H
#define KHO_CLIENT_FETCH_H

#include "session.h"

#define FETCH_MAX 256u /* entries of one fetch */

struct fetch;

struct fetch_ask {
    uint32_t partition;
    struct key_tag tag;
    bool head;     /* without the value */
    uint32_t name; /* the owner's name of it */
};

/* One answer. status 0: `state` is ABSENT (record NULL), PRESENT or TOMBSTONE; the record's key,
 * tag, partition and content hash have been checked; its value is NULL if only the head was asked.
 * Another status: the replica can't give it (KHO_EDAMAGED where the hash differs). The record is
 * lent for the call, within which fetch_stop() is allowed. */
typedef void (*fetch_record_fn)(struct client *client, struct fetch *fetch, uint32_t name,
                                int status, uint8_t state, const struct record *record,
                                struct kho_now now);
/* The end, once, unless stopped before: 0 when every entry was answered, else a request's status
 * (session.h). The fetch may be started anew within. */
typedef void (*fetch_end_fn)(struct client *client, struct fetch *fetch, int status,
                             struct kho_now now);

struct fetch {
    uint32_t node; /* filled by the owner */
    uint32_t collection;
    uint64_t deadline_ns;
    fetch_record_fn record;
    fetch_end_fn end;
    void *owner;

    /* The fetch's own. */
    bool active;
    uint32_t serial; /* of starts */
    struct request request;
    uint8_t *body;
    struct fetch_ask asks[FETCH_MAX];
    bool answered[FETCH_MAX];
    uint32_t count;
    uint32_t left;
    /* A record whose value comes in DATA frames. */
    uint8_t *large;
    size_t large_len, large_size;
    uint32_t large_index;
    uint8_t large_state;
};

/* Asks for `count` entries (1 to FETCH_MAX), all of one shard of the node. 0, or -ENOMEM: nothing
 * happened. */
int fetch_start(struct client *client, struct fetch *fetch, const struct fetch_ask *asks,
                uint32_t count, struct kho_now now);
/* Forgets what is under way and frees what it holds. Takes a zeroed one. */
void fetch_stop(struct client *client, struct fetch *fetch);

#endif
