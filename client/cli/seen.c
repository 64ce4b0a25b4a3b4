/* seen.c: see seen.h. Open addressing, doubled at two thirds; without memory the process ends with
 * a sentence (must). */
#include "seen.h"

#include <stdlib.h>

#include <kho/hash.h>

#include "print.h"

static struct seen_entry *find(struct seen_entry *entries, size_t capacity, uint64_t low,
                               uint64_t high)
{
    size_t at = (size_t)low & (capacity - 1);
    while ((entries[at].low | entries[at].high) != 0 &&
           (entries[at].low != low || entries[at].high != high))
        at = (at + 1) & (capacity - 1);
    return &entries[at];
}

static void grow(struct seen *seen)
{
    size_t capacity = seen->capacity == 0 ? 1024 : 2 * seen->capacity;
    struct seen_entry *entries = must(calloc(capacity, sizeof *entries));
    for (size_t i = 0; i < seen->capacity; i++) {
        const struct seen_entry *old = &seen->entries[i];
        if ((old->low | old->high) != 0)
            *find(entries, capacity, old->low, old->high) = *old;
    }
    free(seen->entries);
    seen->entries = entries;
    seen->capacity = capacity;
}

struct seen_entry *seen_key(struct seen *seen, const void *key, size_t len)
{
    if (3 * (seen->count + 1) > 2 * seen->capacity)
        grow(seen);
    XXH128_hash_t hash = XXH3_128bits(key, len);
    uint64_t low = hash.low64, high = hash.high64 | 1; /* never the free one */
    struct seen_entry *entry = find(seen->entries, seen->capacity, low, high);
    if (entry->low != low || entry->high != high) {
        *entry = (struct seen_entry){.low = low, .high = high, .number = UINT64_MAX};
        seen->count++;
    }
    return entry;
}

void seen_fini(struct seen *seen)
{
    free(seen->entries);
}
