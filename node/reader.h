/* reader.h: reads of records: index, cache, disk.
 *
 * A read that misses the cache waits for the end of the turn. Then all that wait are sorted by
 * place, and fetches start: each is one aligned read of a stretch of a segment that holds the
 * blocks of one or more reads (fetch.c). Packed blocks are unpacked into the cache; a large record
 * stays in the buffer it was read into, a *page*, that its readers share and give back.
 *
 * Memory: fetches and their buffers are made at the start. Where the memory's bound leaves nothing
 * for a page or a cache block, one reserved page is used, by one fetch at a time: so reads go on,
 * slowly, at the limit. */
#ifndef KHO_NODE_READER_H
#define KHO_NODE_READER_H

#include "cache.h"
#include "depot.h"

enum {
    READER_FETCHES = 64,          /* of single blocks */
    READER_WIDE = 16,             /* of neighbours, too */
    READER_WIDE_BYTES = 128 << 10 /* of one of those */
};

/* Memory of a large block, shared by its readers. */
struct page {
    struct queue link; /* among the reader's `pages`, unless it is the reserved one */
    uint32_t refs;
    size_t bytes;
    uint8_t *memory;
    bool reserved; /* the reader's own, not to be freed */
};

struct fetch {
    struct queue link; /* free, or active */
    uint32_t slot;     /* of the segment */
    uint64_t first;    /* offset of the first block that was asked for, … */
    uint64_t last; /* … and of the last one: what lies behind it may have been written later */
    struct queue reads; /* of store_read.link */
    uint8_t *buffer;    /* for packed blocks */
    bool wide;
    struct page *page; /* for others */
    struct op op;
};

struct reader {
    struct depot *depot;
    struct index *index; /* set once there is a map */
    struct cache *cache;
    uint64_t seed; /* of the key hash */
    struct fetch *fetches;
    size_t small_bytes;           /* of a buffer that isn't wide */
    struct page page;             /* the reserved one */
    struct queue pages;           /* the others, from the heap */
    bool page_taken, starved;     /* starved: waits for the reserved page */
    struct queue free, free_wide; /* fetches */
    struct queue active;          /* fetches under way */
    struct queue fresh;           /* reads begun in this turn, without a fetch */
    struct queue waiting;         /* those begun before */
    struct queue *done;           /* where finished reads go */
    uint32_t pending;
    uint64_t reads, disk_reads, cache_hits;
};

int reader_init(struct reader *reader, struct depot *depot, struct queue *done);
void reader_fini(struct reader *reader);
/* What blocks are read into: READER_AREAS_MAX. Returns how many. */
enum { READER_AREAS_MAX = READER_FETCHES + READER_WIDE };
uint32_t reader_areas(const struct reader *reader, struct io_area *ret_areas);
/* True: done at once. */
bool reader_read(struct reader *reader, struct store_read *read);
/* Of at most STORE_READS_CACHED reads, which are done at once: bit i for reads[i]. */
uint32_t reader_read_cached(struct reader *reader, struct store_read *reads, uint32_t count);
void reader_end(struct reader *reader, struct store_read *read);
void reader_completed(struct reader *reader, struct op *op, struct kho_now now);
/* True if a read that hasn't ended names a block of that segment slot. */
bool reader_names(const struct reader *reader, uint32_t slot);
/* Starts fetches for the reads that wait, as many as are free. */
void reader_turn_end(struct reader *reader);
/* The content hash of a record that the cache holds, for R6. False: not at hand. */
bool reader_cached_hash(struct reader *reader, uint64_t place, struct key_tag tag,
                        const struct record *record, struct kho_id *ret_hash);

#endif
