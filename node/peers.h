/* peers.h: the shard's sockets: accepting, HELLOs, receiving, sending, closing. */
#ifndef KHO_NODE_PEERS_H
#define KHO_NODE_PEERS_H

#include "op.h"
#include "shard.h"
#include "uring.h"

struct peers;

/* All is borrowed until peers_destroy(). Ended ops go to `done`; connections and their bytes go
 * straight to the shard, from uring_reap() and peers_deliver(). NULL: no memory. */
struct peers *peers_create(struct uring *uring, struct shard *shard, int listen_fd,
                           uint32_t connections_max, struct queue *done);
/* Takes NULL. The ring must have been destroyed. */
void peers_destroy(struct peers *peers);
/* Starts accepting on the listening socket, which listens. */
void peers_accept(struct peers *peers);
/* Accepts no more and drops the sockets that have not said HELLO. */
void peers_stop(struct peers *peers);
/* The time of this turn, for all that follows in it. */
void peers_turn(struct peers *peers, struct kho_now now);
/* Starts OP_SEND, OP_RECEIVE or OP_CLOSE. */
void peers_start(struct peers *peers, struct op *op);
/* Once a turn, when the shard has got all ended ops: hands over bytes that were held back, and
 * closes what took too long over its HELLO. */
void peers_deliver(struct peers *peers);
/* When the next turn is wanted, monotonic ns. */
uint64_t peers_deadline(const struct peers *peers);
/* No socket is open, but for the listening one. */
bool peers_idle(const struct peers *peers);

#endif
