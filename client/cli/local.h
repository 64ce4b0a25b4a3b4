/* local.h: a cluster of node processes on this machine, kept in one folder:
 *
 *     DIR/cluster      text, one line a fact: "node a 7701", "shards 1", "memory 512M",
 *                      "segment-size 32M"
 *     DIR/map          a copy of the cluster's first map; there once the cluster is made
 *     DIR/a/data       the node's data folder
 *     DIR/a/log        what it said, appended
 *     DIR/a/pid        of its process; checked against /proc before it is believed */
#ifndef KHO_CLI_LOCAL_H
#define KHO_CLI_LOCAL_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LOCAL_DIR "kho-local"

enum { LOCAL_NODES_MAX = 9, LOCAL_SHARDS_MAX = 16, LOCAL_PORT_FIRST = 7701 };

struct local_node {
    char name[8];
    uint16_t port;
};

struct local {
    char dir[PATH_MAX / 2]; /* absolute */
    struct local_node nodes[LOCAL_NODES_MAX];
    size_t count;
    unsigned shards; /* of each node */
    char memory[24];
    char segment_size[24];
    int lock; /* of the folder, or -1 */
};

enum { LOCAL_CLUSTER_ID = 16 };

/* "127.0.0.1:7701,…" of the cluster in a folder, for the caller to free; NULL: there is none. */
char *local_addresses(const char *dir);
/* The id of the cluster in a folder, by its first map: with it the nodes of another cluster that
 * have come to these ports are refused. False: it isn't made yet. */
bool local_cluster_id(const char *dir, uint8_t *ret_id);

/* Reads a folder's cluster and locks the folder against other commands on it. 0; -ENOENT: there is
 * none; another error, said to stderr. */
int local_load(const char *dir, struct local *ret_local);
/* Makes the folder (which may be there, empty) and locks it, for a cluster of `count` nodes on free
 * ports. The caller fills in how the nodes are run and saves it. 0 or an error, said to stderr. */
int local_create(const char *dir, size_t count, struct local *ret_local);
/* Writes DIR/cluster. */
int local_save(const struct local *local);
void local_fini(struct local *local);

/* Writes DIR/NODE/FILE (node NULL: DIR/FILE) to `path` of PATH_MAX bytes and returns it. */
const char *local_path(const struct local *local, const struct local_node *node, const char *file,
                       char *path);
const struct local_node *local_find(const struct local *local, const char *name);

/* The running process of a node, or 0. With ret_fd not NULL a pidfd of it, for the caller to close:
 * what is signalled through it is the process that was looked at. */
pid_t local_pid(const struct local *local, const struct local_node *node, int *ret_fd);

/* Starts the nodes named in `which` (of `count`) that don't run, and waits until each serves. 0 or
 * an error, said to stderr with the end of the node's log. */
int local_start(const struct local *local, const struct local_node *const *which, size_t count);
/* Signals a node and waits until its process is gone. 0; -ESRCH: it doesn't run; -ETIMEDOUT; said
 * to stderr. */
int local_signal(const struct local *local, const struct local_node *node, int signal_number);

#endif
