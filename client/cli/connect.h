/* connect.h: a client on a loop of the command's own, and waiting on it. */
#ifndef KHO_CLI_CONNECT_H
#define KHO_CLI_CONNECT_H

#include <stdbool.h>
#include <stdint.h>

#include <kho/kho.h>
#include <uv.h>

struct args;

struct connection {
    uv_loop_t loop;
    struct kho *client;
    char *cluster; /* the seeds */
    uint32_t deadline_ms;
    bool closed;
    bool timed_out;
};

/* What is behind --cluster, KHO_CLUSTER or the local folder, for the caller to free; NULL: none,
 * said to stderr with the remedies. *ret_dir: the local folder, if it is that, or NULL. */
char *cluster_addresses(const struct args *args, const char **ret_dir);

/* Opens the cluster that the arguments name and waits for its map. The connection of the process,
 * or NULL with *ret_exit, after a sentence on stderr. */
struct connection *connection_open(const struct args *args, int *ret_exit);
/* As connection_open with addresses of its own (copied), those of the local cluster in `dir` (NULL:
 * any cluster), and a deadline. */
struct connection *connection_open_at(const char *addresses, const char *dir, uint32_t deadline_ms,
                                      int *ret_status);
/* Runs the loop until *done. */
void connection_wait(struct connection *connection, const bool *done);
/* Closes: what was acknowledged by a majority gets a moment to reach the last replica, too; where
 * that one is away, it is for repair to bring. Takes NULL. */
void connection_close(struct connection *connection);

/* A call that ends with a status alone: pass it with a struct waited_status as argument. */
struct waited_status {
    bool done;
    int status;
};
void waited_status_cb(struct kho *client, int status, void *arg);

#endif
