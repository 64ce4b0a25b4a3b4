/* driver.h: one shard's thread: the loop that joins its core with the world. */
#ifndef KHO_NODE_DRIVER_H
#define KHO_NODE_DRIVER_H

#include "folder.h"
#include "shard.h"
#include "team.h"

struct driver_options {
    struct shard_options shard;
    const struct shard_folder *folder; /* opened; borrowed */
    struct team *team;                 /* borrowed */
    uint64_t watch_ns;                 /* uring_watch() */
    int listen_fd;                     /* bound; listens by the time that the team says accept */
};

enum driver_exit { DRIVER_DONE, DRIVER_FAILED, DRIVER_NO_URING };

/* Recovers and serves until the team says stop, in the calling thread. Tells the team when it
 * serves, but not that it has ended: its caller's thread does that. */
enum driver_exit driver_run(const struct driver_options *options);

#endif
