/* team.h: what the shards of one node, each in a thread of its own, have in common: a mailbox each,
 * the newest map, and how far each has come.
 *
 * Every call may be made from any thread. None is on the path of a request: sockets change hands
 * once in their life, maps rarely; a turn costs a look at the epochs, which are plain loads.
 * A shard watches its bell (an eventfd) in its ring and empties its mailbox when that rings. */
#ifndef KHO_NODE_TEAM_H
#define KHO_NODE_TEAM_H

#include <kho/base.h>
#include <kho/map.h>
#include <kho/wire.h>

struct team;

enum team_step { TEAM_STARTING, TEAM_SERVING, TEAM_ENDED };

struct team_mail {
    bool accept; /* all shards serve: take connections */
    bool stop;
};

/* -ENOMEM, or -errno of an eventfd. */
int team_create(uint32_t shards, struct team **ret_team);
/* Takes NULL. Sockets that nobody took are closed. */
void team_destroy(struct team *team);
uint32_t team_shards(const struct team *team);

/* --- Mail ------------------------------------------------------------------------------------- */

/* Readable when mail waits; reading it (8 bytes) silences it. */
int team_bell(const struct team *team, uint32_t shard);
/* Takes the words that wait. */
void team_collect(struct team *team, uint32_t shard, struct team_mail *ret_mail);
/* Takes the next socket whose HELLO names this shard, the caller's from now on. False: none waits.
 */
bool team_next_socket(struct team *team, uint32_t shard, int *ret_fd,
                      struct wire_hello_client *ret_hello);
/* Hands `fd` to its shard. False: that one takes none any more, or there is no memory; `fd` stays
 * the caller's. */
bool team_hand_over(struct team *team, uint32_t shard, int fd,
                    const struct wire_hello_client *hello);
void team_accept(struct team *team, uint32_t shard);
/* To all shards. */
void team_stop(struct team *team);

/* --- The map ---------------------------------------------------------------------------------- */

/* Epochs of the newest map that a shard holds durably, and of the oldest that any goes by; 0: no
 * map. Plain loads: a bell follows each change. */
uint64_t team_epoch(const struct team *team);
uint64_t team_epoch_lowest(const struct team *team);
/* A shard has put a map in force: the others are told. False: there is no memory to keep it, and it
 * is to be said again. */
bool team_map_in_force(struct team *team, uint32_t shard, const struct map *map);
/* A copy of the newest map, the caller's to free, or NULL: there is none, or no memory. */
uint8_t *team_map_copy(struct team *team, size_t *ret_length);

/* --- How far they are ------------------------------------------------------------------------- */

/* Readable when a shard has made a step; reading it (8 bytes) silences it. */
int team_news(const struct team *team);
/* `records`: at TEAM_SERVING, how many it found. `result`: at TEAM_ENDED, its thread's. */
void team_reached(struct team *team, uint32_t shard, enum team_step step, uint64_t records,
                  int result);
struct team_count {
    uint32_t serving; /* that have served, if they ended since, too */
    uint32_t ended;
    uint64_t records;
    int result; /* 0, or the first one that differs */
};
void team_count(struct team *team, struct team_count *ret_count);

#endif
