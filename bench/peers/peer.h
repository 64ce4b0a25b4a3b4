/* peer.h: what the load generators of other systems share: the records of kho-bench, a window that
 * is measured, the rows of figures. Each generator takes the fastest way into its system that a
 * careful service would take: a record counts only when the system has said that it is stored, and
 * some of them are read back and compared afterwards. */
#ifndef KHO_BENCH_PEER_H
#define KHO_BENCH_PEER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "dice.h"
#include "histogram.h"
#include "value.h"

enum {
    PEER_SERVERS_MAX = 8,
    PEER_READ_BACK = 10000, /* records */
};

enum peer_phase {
    PEER_LOAD,     /* writes what is read later; isn't measured */
    PEER_RUN,      /* the window and its warm-up: reads where records were loaded, else writes */
    PEER_READBACK, /* reads of what was written in the run */
};

struct peer {
    /* Options. */
    const char *name;
    const char *at; /* "HOST:PORT", or a folder */
    double seconds, warmup;
    uint64_t lanes;    /* connections or threads */
    uint64_t flight;   /* units that each of them has under way */
    uint64_t batch;    /* records a unit */
    uint64_t replicas; /* redis: that must have a write, beside the primary */
    uint64_t records;  /* to load first and then read; 0: always new ones are written */
    const char *json;
    pid_t servers[PEER_SERVERS_MAX]; /* whose CPU and memory count; none: this process */
    size_t server_count;
    /* The run. */
    struct values values;
    struct dice dice;
    enum peer_phase phase;
    uint64_t drawn; /* records of this phase */
    uint64_t begin_ns, end_ns;
    uint64_t first, next; /* numbers of the records written: from, up to */
    uint64_t done;        /* records whose unit ended in the window */
    uint64_t read_back, read_back_max, wrong;
    struct histogram latency; /* ns a unit */
    pthread_t sampler;
    double servers_cpu, client_cpu, rss; /* seconds in the window; bytes at its end */
};

/* Some records that are written or read together. */
struct peer_unit {
    bool writes;
    uint64_t *numbers; /* peer->batch of them, the caller's */
    uint64_t began_ns;
};

/* Reads the options; ends the program when they are wrong. */
void peer_init(struct peer *peer, const char *name, int argc, char **argv);
/* A phase begins. With PEER_RUN the window is set, and CPU and memory are read at its ends. */
void peer_begin(struct peer *peer, enum peer_phase phase);
/* The next unit. False: the phase is done. */
bool peer_draw(struct peer *peer, struct peer_unit *unit, uint64_t now_ns);
/* All of a unit's records were stored, or came back. */
void peer_take(struct peer *peer, const struct peer_unit *unit, uint64_t now_ns);
/* Whether a value that was read is that of record `number`; counts it where it isn't. NULL: it
 * wasn't found. */
void peer_check(struct peer *peer, uint64_t number, const void *value, size_t len);
/* Adds what a thread's copy has counted. */
void peer_merge(struct peer *peer, const struct peer *from);
/* Writes the report. The program's exit code: 1 if a record was wrong. */
int peer_end(struct peer *peer);
/* Ends the program with a sentence: figures of a run that had errors are worth nothing. */
void peer_die(const struct peer *peer, const char *what) __attribute__((noreturn));
/* calloc that dies. */
void *peer_alloc(const struct peer *peer, size_t count, size_t size);

#endif
