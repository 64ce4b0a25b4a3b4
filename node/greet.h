/* greet.h: the node's new sockets, from accept to HELLO: one shard accepts for all. */
#ifndef KHO_NODE_GREET_H
#define KHO_NODE_GREET_H

#include "peers.h"
#include "team.h"

struct greet;

/* All is borrowed until greet_destroy(). NULL: no memory. */
struct greet *greet_create(struct uring *uring, struct peers *peers, struct team *team,
                           uint32_t shard, int listen_fd);
/* Takes NULL. The ring must have been destroyed. */
void greet_destroy(struct greet *greet);
/* Starts accepting on the listening socket, which listens. */
void greet_accept(struct greet *greet);
/* Accepts no more and drops the sockets that have not said HELLO. */
void greet_stop(struct greet *greet);
/* The time of this turn, for all that follows in it. */
void greet_turn(struct greet *greet, struct kho_now now);
/* Once a turn: closes what took too long over its HELLO. */
void greet_tick(struct greet *greet);
/* When the next turn is wanted, monotonic ns. */
uint64_t greet_deadline(const struct greet *greet);
/* Nothing is under way but the listening. */
bool greet_idle(const struct greet *greet);

#endif
