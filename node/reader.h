/* reader.h: reads of records: index, cache, disk.
 *
 * A read that misses the cache joins the fetch of its block, or starts one, or waits until a fetch
 * is free. A fetch reads the whole stored block with one aligned read. Packed blocks are unpacked
 * into the cache; a large record stays in the buffer it was read into, a *page*, that its readers
 * share and give back.
 *
 * Memory: fetches and their small buffers are made at the start. Where the memory's bound leaves
 * nothing for a page or a cache block, one reserved page is used, by one fetch at a time: so reads
 * go on, slowly, at the limit. */
#ifndef KHO_NODE_READER_H
#define KHO_NODE_READER_H

#include "cache.h"
#include "depot.h"

enum { READER_FETCHES = 64 };

/* Memory of a large block, shared by its readers. */
struct page {
    uint32_t refs;
    size_t bytes;
    uint8_t *memory;
    bool reserved; /* the reader's own, not to be freed */
};

struct fetch {
    struct queue link;  /* free, active, or starved */
    uint64_t place;     /* with its size class */
    struct queue reads; /* of store_read.link */
    uint8_t *small;     /* buffer for packed blocks */
    struct page *page;  /* for others */
    uint32_t skip;      /* bytes before the block: the read is aligned */
    struct op op;
};

struct reader {
    struct depot *depot;
    struct index *index; /* set once there is a map */
    struct cache *cache;
    uint64_t seed; /* of the key hash */
    struct fetch *fetches;
    size_t small_bytes;
    struct page page;         /* the reserved one */
    bool page_taken, starved; /* starved: waits for the reserved page */
    struct queue free;        /* fetches */
    struct queue active;      /* fetches under way */
    struct queue waiting;     /* reads without a fetch */
    struct queue *done;       /* where finished reads go */
    uint32_t pending;
    uint64_t reads, disk_reads, cache_hits;
};

int reader_init(struct reader *reader, struct depot *depot, struct queue *done);
void reader_fini(struct reader *reader);
/* True: done at once. */
bool reader_read(struct reader *reader, struct store_read *read, struct kho_now now);
void reader_end(struct reader *reader, struct store_read *read);
void reader_completed(struct reader *reader, struct op *op, struct kho_now now);
/* Starts reads that wait, if fetches are free. */
void reader_pump(struct reader *reader);
/* The content hash of a record that the cache holds, for R6. False: not at hand. */
bool reader_cached_hash(struct reader *reader, uint64_t place, struct key_tag tag,
                        const struct record *record, struct kho_id *ret_hash);

#endif
