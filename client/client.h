/* client.h: the door of the client's core: replication, quorums, sessions, repair, as a state
 * machine without I/O, clock or threads. uv.c drives it over libuv; the simulator drives the same
 * code.
 *
 * A step: any inputs (client_connected … client_tick, and new calls), then client_step_end(), then
 *     while ((op = client_next_op()))          carry it out
 *     while (client_next_done(&done))          run the caller's callback; results are lent till
 * then No callback runs inside a step; what a callback asks for belongs to the next one. Calls
 * mirror kho.h, which documents them; each returns 0 and a call id (never 0), or an error and
 * nothing happens. */
#ifndef KHO_CLIENT_CLIENT_H
#define KHO_CLIENT_CLIENT_H

#include <kho/base.h>
#include <kho/kho.h>
#include <kho/map.h>

#include "op.h"

struct client;

/* `seed` feeds the only generator: writer id, append keys, jitter. The driver draws it from the
 * kernel (and anew after fork); the simulator from its own stream. */
int client_create(const struct kho_options *options, uint64_t seed, struct kho_now now,
                  struct client **ret_client);
/* When client_closed(), or to drop it as a crash does. Takes NULL. */
void client_destroy(struct client *client);

/* --- Inputs of the world ---------------------------------------------------------------------- */

void client_completed(struct client *client, struct client_op *op, struct kho_now now);
/* Bytes from a connection, lent for the call. */
void client_received(struct client *client, int32_t conn, const uint8_t *bytes, size_t len,
                     struct kho_now now);
/* The peer closed or the connection broke: the core answers with CLIENT_OP_CLOSE. */
void client_disconnected(struct client *client, int32_t conn, int error, struct kho_now now);
void client_tick(struct client *client, struct kho_now now);
void client_step_end(struct client *client, struct kho_now now);
/* Monotonic ns; UINT64_MAX: none. */
uint64_t client_deadline(const struct client *client);
struct client_op *client_next_op(struct client *client);

/* --- Calls ------------------------------------------------------------------------------------ */

enum client_verb {
    CLIENT_PUT = 1,
    CLIENT_DEL,
    CLIENT_APPEND,
    CLIENT_GET,
    CLIENT_STAT, /* records */
    CLIENT_LIST,
    CLIENT_FLUSH,
    CLIENT_OPENED,
    CLIENT_STATUS,
    CLIENT_DIGESTS,
    CLIENT_VERIFY,
    CLIENT_REPAIR,
    CLIENT_COLLECTION_CREATE,
    CLIENT_MAP_PUSH,
    CLIENT_READMIT,
    CLIENT_MEMBER,
    CLIENT_CLOSED,
    CLIENT_ROOM
};

/* `context` comes back in the done. deadline_ms 0: the option's. */
int client_records(struct client *client, enum client_verb verb, const char *collection,
                   const struct kho_item *items, size_t count, uint32_t deadline_ms, void *context,
                   struct kho_now now, kho_call_id *ret_call);
int client_list(struct client *client, const char *collection, const struct kho_cursor *from,
                size_t limit, unsigned flags, uint32_t deadline_ms, void *context,
                struct kho_now now, kho_call_id *ret_call);
int client_flush(struct client *client, uint32_t deadline_ms, void *context, struct kho_now now,
                 kho_call_id *ret_call);
/* Done once the map is there, or with KHO_EDEADLINE or the last cause. */
int client_opened(struct client *client, void *context, struct kho_now now, kho_call_id *ret_call);
int client_status(struct client *client, uint32_t deadline_ms, void *context, struct kho_now now,
                  kho_call_id *ret_call);
/* verb CLIENT_DIGESTS or CLIENT_VERIFY; collection NULL: all. */
int client_compare(struct client *client, enum client_verb verb, const char *collection,
                   uint32_t deadline_ms, void *context, struct kho_now now, kho_call_id *ret_call);
int client_repair(struct client *client, const char *collection, void *context, struct kho_now now,
                  kho_call_id *ret_call);
int client_collection_create(struct client *client, const char *name, int separator,
                             unsigned replicas, uint32_t deadline_ms, void *context,
                             struct kho_now now, kho_call_id *ret_call);
int client_map_push(struct client *client, uint32_t deadline_ms, void *context, struct kho_now now,
                    kho_call_id *ret_call);
int client_readmit(struct client *client, const char *node, uint32_t deadline_ms, void *context,
                   struct kho_now now, kho_call_id *ret_call);
int client_member(struct client *client, const struct kho_node_change *change, uint32_t deadline_ms,
                  void *context, struct kho_now now, kho_call_id *ret_call);
void client_cancel(struct client *client, kho_call_id call, struct kho_now now);
/* Asks for one CLIENT_ROOM done when the bytes under way fall to half of the bound. */
void client_on_room(struct client *client, void *context);
/* Begins to drain; ends with a CLIENT_CLOSED done, the last one. */
void client_close(struct client *client, void *context, struct kho_now now);
bool client_closed(const struct client *client);

uint64_t client_inflight_bytes(const struct client *client);
/* The map in force, or NULL. */
const struct map *client_map(const struct client *client);

/* --- What ended ------------------------------------------------------------------------------- */

struct client_done {
    enum client_verb verb;
    kho_call_id call;
    void *context;
    int status;
    bool last; /* repair reports progress with false; every other done has true */
    union {
        struct {
            const struct kho_result *results;
            size_t count;
            struct kho_cursor next;
            int done;
        } records;
        struct {
            const struct kho_node_status *nodes;
            size_t count;
        } node_status;
        struct {
            const struct kho_digest *digests;
            size_t count;
        } digests;
        struct {
            const struct kho_verify_result *results;
            size_t count;
        } verify;
        struct kho_repair_result repair;
        struct kho_node_change_result member;
    };
};

/* The next ended call. What it points to is freed by the next client_next_done() or
 * client_destroy(). */
bool client_next_done(struct client *client, struct client_done *ret_done);

/* --- A new cluster (kho_cluster_init): a state machine of its own over the same ops
 * --------------- */

struct cluster_init;
int cluster_init_create(const struct kho_cluster_plan *plan, uint32_t deadline_ms, uint64_t seed,
                        struct kho_now now, struct cluster_init **ret_init);
void cluster_init_destroy(struct cluster_init *init);
void cluster_init_completed(struct cluster_init *init, struct client_op *op, struct kho_now now);
void cluster_init_received(struct cluster_init *init, int32_t conn, const uint8_t *bytes,
                           size_t len, struct kho_now now);
void cluster_init_disconnected(struct cluster_init *init, int32_t conn, int error,
                               struct kho_now now);
void cluster_init_tick(struct cluster_init *init, struct kho_now now);
uint64_t cluster_init_deadline(const struct cluster_init *init);
struct client_op *cluster_init_next_op(struct cluster_init *init);
/* True once it ended and all its connections are closed: status, a sentence for a person, the map.
 */
bool cluster_init_done(const struct cluster_init *init, int *ret_status, const char **ret_message,
                       const uint8_t **ret_map, size_t *ret_map_len);

#endif
