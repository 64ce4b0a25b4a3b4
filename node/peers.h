/* peers.h: the shard's connections: receiving, sending, closing. */
#ifndef KHO_NODE_PEERS_H
#define KHO_NODE_PEERS_H

#include "op.h"
#include "shard.h"
#include "uring.h"

struct peers;

/* All is borrowed until peers_destroy(). Ended ops go to `done`; connections and their bytes go
 * straight to the shard, from peers_take() and uring_reap(). NULL: no memory. */
struct peers *peers_create(struct uring *uring, struct shard *shard, uint32_t connections_max,
                           struct queue *done);
/* Takes NULL. The ring must have been destroyed. */
void peers_destroy(struct peers *peers);
/* A socket that said HELLO, the peers' own from now on: it becomes a connection, or is refused with
 * the reason and closed. */
void peers_take(struct peers *peers, int fd, const struct wire_hello_client *hello);
/* Answers a HELLO with `status` and closes the socket. */
void peers_refuse(struct peers *peers, int fd, int status);
/* A log line about a refused socket, not too often; it stays open. */
void peers_refused(struct peers *peers, int fd, const char *why);
/* Takes no more. */
void peers_stop(struct peers *peers);
/* The time of this turn, for all that follows in it. */
void peers_turn(struct peers *peers, struct kho_now now);
/* Starts OP_SEND, OP_RECEIVE or OP_CLOSE. */
void peers_start(struct peers *peers, struct op *op);
/* Once a turn, when the shard has got all ended ops: numbers of closed connections are free. */
void peers_settled(struct peers *peers);
/* No connection is open. */
bool peers_idle(const struct peers *peers);

#endif
