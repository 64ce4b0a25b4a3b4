/* reader_inside.h: what the files of the reader share: reader.c (reads and their answers), fetch.c
 * (from the disk into cache or page). */
#ifndef KHO_NODE_READER_INSIDE_H
#define KHO_NODE_READER_INSIDE_H

#include "directory.h"
#include "place.h"
#include "reader.h"

/* reader.c */
/* Answers a read from the cache, which pins the block: false where it isn't there. */
bool read_cached(struct reader *reader, struct store_read *read);
/* Fill the read's result from an unpacked block, or from a large record as it was stored; the
 * caller sees to the pin. */
void read_answer_packed(struct reader *reader, struct store_read *read,
                        const struct directory *directory);
void read_answer_large(struct reader *reader, struct store_read *read, const uint8_t *raw,
                       uint32_t raw_len);
/* A read that was pending is done. */
void read_finish(struct reader *reader, struct store_read *read);

/* fetch.c */
int fetches_init(struct reader *reader);
void fetches_fini(struct reader *reader);
void page_release(struct reader *reader, struct page *page);

#endif
