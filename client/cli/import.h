/* import.h: the pipeline of `kho import`: a file read piece by piece, split into records, sent in
 * batches, several under way at once. */
#ifndef KHO_CLI_IMPORT_H
#define KHO_CLI_IMPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "connect.h"
#include "format.h"
#include "progress.h"

struct import_options {
    const char *collection;
    struct splitter_options splitter;
    int fd;
    bool regular;   /* a file that can be read twice */
    uint64_t size;  /* of a regular one */
    uint64_t rate;  /* records a second; 0: as fast as it goes */
    uint64_t batch; /* records in a call */
    bool store_all; /* don't ask what is there already */
};

struct import_counts {
    uint64_t records; /* in the source, bad ones left out */
    uint64_t stored;
    uint64_t skipped;
    uint64_t repeated; /* keys that come again later: the last record wins */
    uint64_t failed;   /* bad records, and those that the cluster didn't take */
    uint64_t bytes;    /* of values stored */
    double seconds;
};

/* Runs to the end. Returns an exit code; what went wrong is said to stderr. */
int import_run(struct connection *connection, const struct import_options *options,
               struct import_counts *ret_counts);

/* Looks through a regular file for keys that come more than once, before the import: so that it
 * stores the last record of each, and nothing else, however often it is run. 0 or an exit code. */
struct seen;
int import_look_ahead(const struct import_options *options, struct seen *seen,
                      uint64_t *ret_records);

#endif
