/* driver.h: one shard's thread: the loop that joins its core with the world. */
#ifndef KHO_NODE_DRIVER_H
#define KHO_NODE_DRIVER_H

#include "folder.h"
#include "shard.h"

struct driver_options {
    struct shard_options shard;
    const struct folder *folder; /* opened and locked; borrowed */
    int listen_fd;               /* bound, not listening yet; borrowed */
    const char *address;         /* what it is bound to */
    const char *serving;         /* what to say of the node when it serves */
};

enum driver_exit { DRIVER_DONE, DRIVER_FAILED, DRIVER_NO_URING };

/* Recovers and serves until SIGTERM or SIGINT, in the calling thread. */
enum driver_exit driver_run(const struct driver_options *options);

#endif
