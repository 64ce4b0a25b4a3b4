/* core.h: the inside of a client, shared by the rooms of its core (client, session, route, item,
 * list, compare, repair, admin). Nothing here is known outside of them: the door is client.h.
 *
 * The rooms, each on top of those before it:
 *   session   one connection to one (node, shard): HELLO, backoff, frames, requests under way
 *   route     the map in force, its nodes and their sessions, the seeds
 *   call      what every call has: an id, a timer, its done
 *   item …    the records of put, del, append, get, stat
 *   list …    what stands on whole-frame requests
 *
 * Memory comes from client_allocate() only, which may fail at any time. At submission that is
 * -ENOMEM; later a room gives up what it was about to do (a session breaks and reconnects, a call
 * ends), never asserts. */
#ifndef KHO_CLIENT_CORE_H
#define KHO_CLIENT_CORE_H

#include <errno.h>
#include <kho/map.h>
#include <kho/wire.h>

#include "client.h"

#define CLIENT_NEVER UINT64_MAX

/* A value from here on is compressed by itself. Below, two records and more fit in a block, and are
 * smaller together (bundle.h): by a quarter at 2 KiB, by a twentieth here. */
#define CLIENT_COMPRESS_MIN 8000u

/* What is asked of a replica for a record (item.h). */
enum slot_kind { SLOT_PROBE, SLOT_WRITE, SLOT_COPY, SLOT_READ, SLOT_KINDS };

#define CLIENT_MS_NS UINT64_C(1000000)

struct session;
struct remote;
struct item;
struct call;

/* --- Calls ------------------------------------------------------------------------------------ */

/* What a kind of call does. Every member but `timer`, `cancel` and `release` may be NULL. */
struct call_kind {
    /* call_timer_set()'s moment has come (once: set it anew). Past the deadline it must end the
     * call. */
    void (*timer)(struct client *client, struct call *call, struct kho_now now);
    /* The caller asked: must end the call, with KHO_ECANCELED, within this function. */
    void (*cancel)(struct client *client, struct call *call, struct kho_now now);
    /* A newer map is in force. Requests under way have ended with KHO_EEPOCHOLD before. */
    void (*map_changed)(struct client *client, struct call *call, struct kho_now now);
    /* Frees the call. Its done was delivered (or the client is destroyed); requests of its own that
     * are still under way must be dropped here with request_drop(). */
    void (*release)(struct client *client, struct call *call);
};

/* The base of every call: embedded first in its kind's struct, which the kind allocates and fills
 * before call_begin(). */
struct call {
    struct queue link; /* client->calls while under way, then client->ended, then nowhere */
    const struct call_kind *kind;
    uint32_t slot;           /* in client->call_table */
    struct queue timer_link; /* in client->timers.run, or alone */
    uint32_t timer_index;    /* in client->timers.heap; UINT32_MAX: it isn't there */
    uint64_t timer_ns;       /* CLIENT_NEVER: none is set */
    uint64_t deadline_ns;    /* CLIENT_NEVER: none (repair) */
    bool ended;
    bool lasting; /* release doesn't free it yet: it calls call_forget itself when it does */
    struct client_done done; /* filled by the kind before call_end() */
};

/* Takes a call under way: gives it its id (done.call), verb, context, deadline (ms from now; 0: the
 * option's; CLIENT_NO_DEADLINE: none) and sets its timer to the deadline. 0, -ENOMEM, or
 * KHO_ECLOSED when the client is closing: then nothing happened and the caller frees it. */
#define CLIENT_NO_DEADLINE UINT32_MAX
int call_begin(struct client *client, struct call *call, const struct call_kind *kind,
               enum client_verb verb, uint32_t deadline_ms, void *context, struct kho_now now);
/* Sets (CLIENT_NEVER: clears) the one timer. Never fails: call_begin reserved its place. */
void call_timer_set(struct client *client, struct call *call, uint64_t mono_ns);
/* The call is over: its done goes out with this status after the step. Exactly once. */
void call_end(struct client *client, struct call *call, int status);
/* Gives back the id and the timer's place; done for all but lasting calls before release. */
void call_forget(struct client *client, struct call *call);
/* Hands out a done before the end (repair's progress): `done` is copied; last is made false. It is
 * dropped silently when memory is short. */
void call_progress(struct client *client, struct call *call);

/* For client.c. */
void call_timers_run(struct client *client, struct kho_now now);
uint64_t call_timers_next(const struct client *client);

/* --- The client ------------------------------------------------------------------------------- */

/* Calls by timer. Most are set in rising order, since most calls have the same deadline: those
 * stand in `run`, earliest first, where coming and going costs nothing. The others are in a binary
 * heap, whose `capacity` is at least the number of calls under way. */
struct call_timers {
    struct queue run; /* of call.timer_link */
    struct call **heap;
    uint32_t count;
    uint32_t capacity;
};

/* Calls by id: id = serial << 32 | slot + 1. */
struct call_table {
    struct call **slots;
    uint32_t *serials;
    uint32_t *free_slots;
    uint32_t free_count;
    uint32_t capacity;
};

/* Puts under way by key, so that those of one key go out one after the other (line.c). */
struct line_table {
    struct item **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t count;
};

/* Blocks of KHO_FRAME_MAX for sending and for partly received frames, kept for reuse. */
struct block_pool {
    struct send_block *free_blocks;
    uint32_t free_count;
};

/* Blocks of RECORDS_SMALL bytes that held the call of one small record (records.c). */
struct small_pool {
    struct small_block *free_blocks;
    uint32_t free_count;
};

struct client {
    struct kho_heap heap;
    struct kho_random random;
    struct kho_id cluster; /* the one to be a client of; zero: whichever answers first */
    uint32_t writer;       /* of our versions; drawn anew after a write ended in doubt */
    uint64_t stamp_serial; /* the low bits of their counters */
    uint32_t default_deadline_ms;
    uint64_t unavailable_after_ns;
    uint64_t hedge_ns; /* the latest moment to hedge; CLIENT_NEVER: never hedge */
    /* How long READ and PROBE take, 99 times of 100, at most replicas: the median over the sessions
     * of what each was heard to take; 0: not known. And what hedging may still cost (hedge.c). */
    uint64_t hedge_after_ns[SLOT_KINDS];
    uint64_t hedge_budget;
    uint64_t inflight_bytes_max;
    uint64_t holdback_bytes_max;
    uint32_t compress_min;
    uint8_t *piece;      /* KHO_PIECE_MAX bytes, for the check of a compressed value */
    struct queue outbox; /* of struct client_op */

    /* route: the map and who can be reached. `map.bytes` is NULL before the first one. */
    struct map map;
    uint8_t *map_bytes;
    struct remote **remotes; /* by node index of the map */
    uint32_t remote_count;
    struct remote **seeds;
    uint32_t seed_count;
    struct remote *visits;
    struct queue sessions;  /* of struct session, all, in the order they were made */
    struct session **conns; /* by connection handle */
    uint32_t conn_capacity;
    uint32_t serial;   /* rotates readers, */
    uint32_t run_left; /* after so many reads more */
    int map_error;     /* why there is no map yet: the last cause */

    /* A round of asking for a newer map, since a call names a collection that ours doesn't have. */
    uint32_t refreshing; /* answers awaited */
    uint64_t refresh_ns; /* when it began */
    bool refresh_waited; /* calls wait for it */

    /* calls */
    struct queue calls; /* under way, in order of submission */
    struct queue ended; /* their dones wait for client_next_done */
    struct call *lent;  /* handed out by the last client_next_done */
    struct call_timers timers;
    struct call_table table;
    uint32_t call_serial;
    struct queue ready; /* items whose turn came within this step */

    /* records */
    struct line_table lines;
    struct block_pool blocks;
    struct small_pool smalls;
    uint64_t inflight_bytes;
    uint64_t held_bytes;   /* of ended calls with laggards */
    struct queue held;     /* those calls, oldest first */
    uint64_t given_up;     /* writes that never reached all R, since the last flush */
    uint64_t write_serial; /* of the last call that writes */
    uint64_t unsettled;    /* calls that write and haven't settled */
    struct queue flushes;  /* of struct flush, in order */
    bool flush_due;        /* what one of them waited for is settled: it ends with the step */

    /* room and close: their dones need no memory */
    struct call room;
    struct call closing_call;
    bool room_wanted;
    bool closing;
    bool drained; /* sessions are being closed */
    bool closed;
};

/* The only source of memory. NULL when it is out. */
static inline void *client_allocate(struct client *client, size_t size)
{
    if (client->heap.allocate == NULL)
        return malloc(size > 0 ? size : 1);
    return client->heap.allocate(size, client->heap.arg);
}
static inline void *client_allocate_zeroed(struct client *client, size_t size)
{
    void *memory = client_allocate(client, size);
    if (memory != NULL)
        memset(memory, 0, size);
    return memory;
}
/* Takes NULL. */
static inline void client_release(struct client *client, void *memory)
{
    if (client->heap.release == NULL)
        free(memory);
    else if (memory != NULL)
        client->heap.release(memory, client->heap.arg);
}

/* --- Route ------------------------------------------------------------------------------------ */

/* A node as the map names it (or a seed, or a visit): its address and its sessions. It keeps its
 * identity over maps as long as incarnation, address, port and shard count stay; else it is retired
 * and a new one made. */
struct remote {
    char address[65];
    uint16_t port;
    bool seed;
    bool visit; /* a seed, of which only its HELLO is wanted: who is at an address? */
    struct remote *next_visit;
    uint32_t node;             /* index in the map in force; of a seed: in client->seeds */
    struct kho_id incarnation; /* zero for a seed */
    uint32_t shards;
    struct session *sessions[]; /* by shard; NULL until needed */
};

static inline bool client_has_map(const struct client *client)
{
    return client->map.bytes != NULL;
}
/* Decodes a map and puts it in force if it belongs to this cluster (or is the first) and its epoch
 * is higher: remotes and sessions follow, requests under way end with KHO_EEPOCHOLD (those of MAP,
 * MAP_PUSH, STATUS go on), items start again, calls get map_changed. `bytes` are copied. Returns 1
 * when it is in force now, 0 when it is the one in force or older, or an error: KHO_ECLUSTER,
 * KHO_EMAP (same epoch, another hash), -ENOMEM, or map_decode's. */
int route_map_install(struct client *client, const uint8_t *bytes, size_t len, struct kho_now now);
/* The same for a map of our epoch with another hash, which the caller has shown to be the one that
 * was decided, or that neither was (change.c). */
int route_map_adopt(struct client *client, const uint8_t *bytes, size_t len, struct kho_now now);
/* The session to a shard of a node of the map, made when there is none (then it connects). NULL
 * when memory is out. `node` and `shard` are in range. */
struct session *route_session(struct client *client, uint32_t node, uint32_t shard,
                              struct kho_now now);
/* Reads the seeds of options.cluster and begins to look for the map. 0, -EINVAL, -ENOMEM. */
int route_open(struct client *client, const char *seeds, struct kho_now now);
/* Asks the home of the map in force, and two others in case it is away, for a newer one; at most
 * once in ROUTE_REFRESH_NS. False: the last round is too young. */
#define ROUTE_REFRESH_NS (1000 * CLIENT_MS_NS)
bool route_refresh(struct client *client, struct kho_now now);
/* Connects to an address that the map doesn't name, to hear from its HELLO who is there: requests
 * of MAP may be sent on its session of shard 0. NULL when memory is out. */
struct remote *route_visit(struct client *client, const char *address, uint16_t port,
                           struct kho_now now);
/* Lets it go; requests on its session end with KHO_EUNAVAILABLE unless they were dropped. */
void route_leave(struct client *client, struct remote *visit, struct kho_now now);
/* Retires every session (close). */
void route_close(struct client *client, struct kho_now now);
/* Frees all (client_destroy). */
void route_destroy(struct client *client);
/* The shard that owns a partition on a node of the map. */
uint32_t route_shard(const struct client *client, uint32_t node, uint32_t partition);

#endif
