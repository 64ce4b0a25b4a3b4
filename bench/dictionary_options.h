/* dictionary_options.h: what 'dictionary' is told. */
#ifndef KHO_BENCH_DICTIONARY_OPTIONS_H
#define KHO_BENCH_DICTIONARY_OPTIONS_H

#include <stdbool.h>

#include "entries.h"

enum { DICTIONARY_ERROR_MAX = 320 };

struct dictionary_options {
    bool citizens, eids, packages; /* the sets of records that are packed */
    uint64_t records;              /* of each of the sets that are made up */
    uint64_t rounds;
    enum entries_order order;
    const char *file; /* of package records; NULL: what apt-cache says */
    const char *json; /* where the report goes; NULL: nowhere */
    bool help;
};

extern const char dictionary_help[];

/* Reads the words behind the command, argv[0]. 0, or -1 with the reason in `error`, of at least
 * DICTIONARY_ERROR_MAX bytes. */
int dictionary_options_read(int argc, char **argv, struct dictionary_options *ret_options,
                            char *error);
/* "come", "key" or "random". */
const char *dictionary_order_name(enum entries_order order);

#endif
