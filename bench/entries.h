/* entries.h: records as they lie in a block (kho/record.h), one behind another in memory: what the
 * bench 'dictionary' packs. */
#ifndef KHO_BENCH_ENTRIES_H
#define KHO_BENCH_ENTRIES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct entries {
    uint8_t *bytes;
    size_t *at; /* count + 1 of them: where each begins, and where the last ends */
    size_t count;
    size_t bytes_room, at_room;
};

enum entries_order { ENTRIES_AS_THEY_COME, ENTRIES_BY_KEY, ENTRIES_AT_RANDOM };

/* Each of these fills `ret_entries`, which is not initialised before, or returns -ENOMEM and leaves
 * it zeroed. */

/* The first citizens, or identity files, of a population of Hà Nội's size; at most 4,000,000. */
int entries_of_citizens(size_t count, struct entries *ret_entries);
int entries_of_eids(size_t count, struct entries *ret_entries);
/* Stanzas of Debian's control format under the names of their packages, as `kho import --format
 * deb822` stores them; what is no such stanza, or too large for a packed block, is left out. -errno
 * where the file can't be read. */
int entries_of_packages(FILE *file, struct entries *ret_entries);
int entries_sorted(const struct entries *entries, enum entries_order order,
                   struct entries *ret_entries);
/* Keys and values alone. */
int entries_without_heads(const struct entries *entries, struct entries *ret_entries);
/* Every other stretch of 1,000 records (of a quarter of them where they are few): both halves are
 * of the whole, and a record's neighbours are mostly in its own. */
int entries_split(const struct entries *entries, struct entries *ret_first,
                  struct entries *ret_second);
/* Takes a zeroed struct, too. */
void entries_fini(struct entries *entries);

#endif
