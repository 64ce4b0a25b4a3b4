/* seen.h: the keys of one import, by their hash, each with the number of its last record: what
 * finds a key that comes twice. 128 bits of hash: a false match is out of the question at any size
 * that fits in memory. About 48 bytes a key at the worst load. */
#ifndef KHO_CLI_SEEN_H
#define KHO_CLI_SEEN_H

#include <stddef.h>
#include <stdint.h>

struct seen_entry {
    uint64_t low, high; /* both zero: free */
    uint64_t number;
};

struct seen {
    struct seen_entry *entries;
    size_t capacity; /* a power of two */
    size_t count;
};

/* The entry of a key; a new one has number UINT64_MAX. Lent until the next call. */
struct seen_entry *seen_key(struct seen *seen, const void *key, size_t len);
void seen_fini(struct seen *seen);

#endif
