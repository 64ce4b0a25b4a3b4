/* shards.h: the node at work: its shards as threads, from start to stop. */
#ifndef KHO_NODE_SHARDS_H
#define KHO_NODE_SHARDS_H

#include "driver.h"

struct shards_options {
    struct shard_options shard;  /* of each; its number, count, alignment and seed are filled in */
    const struct folder *folder; /* opened and locked; borrowed */
    uint64_t watch_ns;           /* uring_watch() */
    int listen_fd;               /* bound, not listening yet; borrowed */
    const char *address;         /* what it is bound to */
    const char *serving;         /* what to say of the node when it serves */
};

/* Recovers and serves until SIGTERM or SIGINT. */
enum driver_exit shards_run(const struct shards_options *options);

#endif
