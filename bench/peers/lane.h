/* lane.h: the connections of a generator: bytes to be sent and bytes received, on epoll. */
#ifndef KHO_BENCH_LANE_H
#define KHO_BENCH_LANE_H

#include "peer.h"

struct lane {
    struct peer *peer;
    int fd;
    char *out, *in; /* from the first byte to be sent, or not yet read */
    size_t out_len, out_room, in_len, in_room;
    bool blocked; /* the socket takes no more for now */
    void *owner;
};

/* Connects to peer->at. */
void lane_open(struct lane *lane, struct peer *peer, void *owner);
void lane_close(struct lane *lane);
/* Room for `len` bytes behind what is to be sent; the caller adds what it wrote to out_len. */
char *lane_room(struct lane *lane, size_t len);
void lane_put(struct lane *lane, const void *bytes, size_t len);

/* Runs all lanes until `busy` of the owner says no. `take` is handed the bytes received, and
 * returns how many of them it has read. */
void lanes_run(struct lane *lanes, size_t count, size_t (*take)(struct lane *lane),
               bool (*busy)(const void *owner));

#endif
