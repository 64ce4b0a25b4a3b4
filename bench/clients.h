/* clients.h: client processes that start together: each prepares, says so, waits for the word, and
 * works. What they find out lies in memory that all of them share. */
#ifndef KHO_BENCH_CLIENTS_H
#define KHO_BENCH_CLIENTS_H

#include <stddef.h>
#include <sys/types.h>

#include "load.h"

enum { CLIENTS_MAX = 64 };

struct client_share {
    uint64_t preloaded; /* records */
    double preload_seconds;
    struct load_figures figures;
};

struct clients {
    size_t count;
    pid_t pids[CLIENTS_MAX];
    int ready[2], go[2]; /* pipes: a byte a client */
    struct load_window *window;
    struct client_share *shares; /* one a client */
};

/* Starts `count` processes that run `work` with their number and end with its exit code. The parent
 * may have no thread and no client of the library. 0, or -errno. */
int clients_start(struct clients *clients, size_t count,
                  int (*work)(struct clients *clients, size_t index, void *arg), void *arg);
/* In a client: it is prepared. Returns once the window is set; -1: it never will be. */
int clients_wait_go(struct clients *clients);
/* In the parent: 0 once all are prepared; -1: one of them has ended. */
int clients_wait_ready(struct clients *clients);
/* Sets the window and gives the word. */
void clients_go(struct clients *clients, struct load_window window);
/* Waits for their ends. How many failed. */
size_t clients_wait(struct clients *clients);
/* Ends those that are left and frees all. Takes a zeroed struct. */
void clients_stop(struct clients *clients);

#endif
