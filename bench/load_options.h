/* load_options.h: what the user asks of kho-bench put, append, get and mixed. */
#ifndef KHO_BENCH_LOAD_OPTIONS_H
#define KHO_BENCH_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mix.h"

enum load_command { LOAD_PUT, LOAD_APPEND, LOAD_GET, LOAD_MIXED, LOAD_COMMANDS };

struct load_options {
    enum load_command command;
    double seconds, warmup; /* what is measured, and what goes before it */
    uint64_t local;         /* nodes to start on this machine; 0: none */
    uint64_t shards;        /* of each local node */
    const char *cluster;    /* "HOST:PORT,…" instead */
    const char *dir;        /* of local nodes; NULL: a temporary one */
    const char *memory;     /* of each local node; NULL: by the number of records */
    uint64_t clients;       /* processes */
    /* Records a call, and calls that each client has under way. */
    uint64_t batch, inflight;
    double rate; /* records a second, of all clients, open loop; 0: closed loop */
    bool fixed;  /* open loop: at equal distances; else as Poisson has them */
    /* put: as many keys, written over and over, 0: always new ones; get, mixed: there before. */
    uint64_t records;
    bool loaded;                   /* by an earlier run with the same seed and values */
    enum pick_kind pick;           /* which of them */
    const struct mix *mix;         /* mixed; of the others not looked at */
    uint64_t value_min, value_max; /* bytes */
    bool incompressible;
    bool plain; /* the client compresses no values */
    uint64_t seed;
    const char *json;      /* where the report goes; NULL: nowhere */
    const char *histogram; /* where the distribution of latencies goes; NULL: nowhere */
};

/* "put", … */
const char *load_command_name(enum load_command command);

/* Reads the options that follow the command. 0, or -1 with a sentence in `why`, of `room` bytes.
 * Texts stay the caller's. */
int load_options_parse(enum load_command command, int count, char *const *words,
                       struct load_options *ret_options, char *why, size_t room);
/* Prints what the command does and its options. */
void load_options_help(enum load_command command);

#endif
