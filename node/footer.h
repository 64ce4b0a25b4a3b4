/* footer.h: the entries of a stretch of a segment, as one unit behind it: what a start reads in
 * place of the data.
 *
 * The log writes a footer into the segment, between two commits, whenever so many records or bytes
 * have gathered since the last one (footer_due), where the map's epoch changes, and as the last
 * thing in a segment. A footer covers the commits from its field `from` up to itself; the footers
 * of an orderly sealed segment together cover all of it. What none covers (the end that a crash
 * left behind, the stretch of a damaged footer) is read block by block instead, so a footer is
 * never needed for a record to be found: it only spares reading the data.
 *
 * It is no commit: it has no sequence of its own, no commit names it as its predecessor, and no
 * acknowledgement waits for it. So a footer that is torn or rotten hurts no record (R3).
 *
 * It says exactly what a scan of the blocks would say, versions that a later record of the stretch
 * replaces included.
 *
 * Head (192)
 *   off len field
 *     0   4 magic "khoF"
 *     4   2 format       1
 *     6   2 least_reader 1
 *     8   8 segment      id
 *    16  16 cluster
 *    32  16 incarnation
 *    48   4 shard
 *    52   4 length       of the whole: head, body and zeros up to segment_unit_end()
 *    56   8 offset       of this head in the segment
 *    64   8 from         offset of the first commit that it covers, below `offset`
 *    72   8 first        that commit's sequence
 *    80   8 last         the sequence of the last commit that it covers; at least `first`
 *    88   8 epoch        of the map under which all of these commits were accepted
 *    96   4 entries      at most FOOTER_ENTRIES_MAX
 *   100   4 runs         at most `entries`
 *   104   4 footers      in the segment before this one, at most FOOTERS_MAX - 1
 *   108   4 body         its length
 *   112   1 width of the column of counters, 0 to 8
 *   113   1 writers, 0 to 4
 *   114   1 sizes, 0 to 4
 *   115   1 places, 0 to 4
 *   116   4 base of the writers
 *   120   8 base of the counters
 *   128   4 base of the sizes
 *   132   4 base of the places
 *   136  16 predecessor  checksum of the head of commit `last`: what the next commit names
 *   152   8 reserved, 0
 *   160  16 body_hash    XXH3-128, canonical order, of the body
 *   176  16 checksum     XXH3-128, canonical order, of the 176 bytes before
 * Body
 *     a list of the footers before (16 each, rising, none reaching beyond `from`)
 *     0   4 offset
 *     4   4 length
 *     8   4 from
 *    12   4 entries
 *     runs (8 each): entries of one table, rising by (partition, collection)
 *     0   4 collection
 *     4   2 partition
 *     6   2 entries      at least 1; `entries` in all runs
 *     columns, a value an entry, each column followed by 8 zeros (so that any value can be read as
 *     8 bytes); within a run by rising tag, equal ones by rising place in the log
 *     8 × n  high part of the tag
 *     1 × n  low part of the tag
 *     w × n  counter of the version, less its base; 1 to KHO_COUNTER_MAX
 *     w × n  writer of the version, less its base
 *     w × n  2 × the value's uncompressed length, plus 1 for a tombstone (whose length is 0), less
 *            its base
 *     w × n  place (place.h) without its segment, less its base: an offset from `from` to `offset`
 *
 * Hashes don't compress, the rest is small once its base is taken off: some 20 bytes a record with
 * one writer, 24 with many. */
#ifndef KHO_NODE_FOOTER_H
#define KHO_NODE_FOOTER_H

#include <kho/key.h>
#include <kho/version.h>

#include "segment.h"

struct shard_world;

enum {
    FOOTER_HEAD = 192,
    FOOTER_FORMAT = 1,
    FOOTER_REF = 16,
    FOOTER_RUN = 8,
    FOOTER_ENTRY = 37, /* at most, with a run of its own */
    FOOTER_SLACK = 8,
    FOOTER_COLUMNS = 6,
    FOOTERS_MAX = 1024, /* in a segment; the log writes none beyond */
    FOOTER_ENTRIES = 16384,
    FOOTER_ENTRIES_MAX = 24576, /* where one is due but the one before is still being written */
    FOOTER_STRETCH = 16 << 20
};
#define FOOTER_MAGIC 0x466F686Bu /* "khoF" */

struct footer_head {
    uint64_t segment;
    uint64_t offset;
    uint64_t from;
    uint64_t first, last;
    uint64_t epoch;
    uint32_t length;
    uint32_t entries, runs, footers;
    uint32_t body;
    struct kho_id predecessor;
    struct kho_id body_hash;
    uint8_t widths[4]; /* of counters, writers, sizes, places */
    uint64_t counter_base;
    uint32_t writer_base, size_base, place_base;
};

/* What the index knows of a record, less the segment. */
struct footer_entry {
    uint32_t collection;
    uint32_t partition;
    struct key_tag tag;
    struct version version;
    uint32_t value_bytes; /* uncompressed */
    uint32_t place;       /* the low 28 bits of place_encode(): the block's offset and size class */
    bool tombstone;
};

/* Another footer of the segment. */
struct footer_ref {
    uint32_t offset;
    uint32_t length;
    uint32_t from;
    uint32_t entries;
};

/* What has to stay free for a footer of so many records that lists so many others. */
static inline uint64_t footer_bytes(uint64_t records, uint32_t footers, uint32_t alignment)
{
    uint64_t fixed =
        FOOTER_HEAD + (uint64_t)footers * FOOTER_REF + (uint64_t)FOOTER_COLUMNS * FOOTER_SLACK;
    return kho_round_up(fixed + FOOTER_ENTRY * records, alignment) + segment_slack(alignment);
}

/* More than any footer has. */
#define FOOTER_BYTES_MAX footer_bytes(FOOTER_ENTRIES_MAX, FOOTERS_MAX, 65536)

/* --- Making ----------------------------------------------------------------------------------- */

/* The records since the last footer of one segment, and which footers it has. */
struct footer_maker {
    struct shard_world *world;
    uint32_t due;                 /* a footer is, with so many entries: up to FOOTER_ENTRIES */
    struct footer_entry *entries; /* FOOTER_ENTRIES_MAX, in order of the log */
    uint32_t count;
    bool begun;     /* a commit was noted: the rest holds */
    uint64_t from;  /* where the stretch begins */
    uint64_t first; /* sequence of its first commit */
    uint64_t epoch;
    struct footer_ref *refs; /* FOOTERS_MAX */
    uint32_t ref_count;
    uint32_t *order[2]; /* positions of entries, being sorted */
    uint32_t *counters;
};

/* -ENOMEM (fini it in any case). */
int footer_maker_init(struct footer_maker *maker, struct shard_world *world, uint32_t due);
void footer_maker_fini(struct footer_maker *maker);
/* Begins a segment. */
void footer_maker_reset(struct footer_maker *maker);
/* Notes an earlier footer of the segment, by rising offset. Those beyond FOOTERS_MAX are left out:
 * the log makes none there. */
void footer_maker_ref(struct footer_maker *maker, const struct footer_ref *ref);
/* True if a commit of `records` records under `epoch` may be noted; if not, a footer is written
 * first, or footer_maker_skip() leaves the stretch to be read block by block. */
bool footer_maker_takes(const struct footer_maker *maker, uint64_t epoch, uint32_t records);
/* Notes a commit that begins at `offset`; its records follow, in its order. */
void footer_maker_commit(struct footer_maker *maker, uint64_t offset, uint64_t sequence,
                         uint64_t epoch);
void footer_maker_add(struct footer_maker *maker, const struct footer_entry *entry);
/* Forgets the stretch: no footer will cover it. */
void footer_maker_skip(struct footer_maker *maker);
/* True if a footer should be written now that the log has come to `position`. */
bool footer_due(const struct footer_maker *maker, uint64_t position);

/* Writes the footer of the stretch into `to` (footer_bytes() of them), and begins the next
 * one. Takes segment, offset, last and predecessor from `head`, fills in the rest. Work: a sort in
 * linear time, some 30 ns an entry. */
void footer_encode(struct footer_maker *maker, const struct identity *identity, uint32_t alignment,
                   struct footer_head *head, uint8_t *to);

/* --- Reading ---------------------------------------------------------------------------------- */

/* Reads FOOTER_HEAD bytes. Codes as of block_head_decode. The caller compares segment and offset.
 */
int footer_head_decode(const uint8_t *from, const struct identity *identity,
                       struct footer_head *ret_head);

/* A footer whose bytes were checked; they stay where they are while it is used. */
struct footer {
    struct footer_head head;
    const uint8_t *refs;
    const uint8_t *runs;
    const uint8_t *columns[FOOTER_COLUMNS];
    uint64_t masks[4];
};

/* Checks the `head->length` bytes of a footer whose head was decoded from their start, entry by
 * entry. 0; KHO_ECHECKSUM; KHO_EMALFORMED. */
int footer_open(const uint8_t *bytes, const struct footer_head *head, struct footer *ret_footer);
struct footer_ref footer_ref_at(const struct footer *footer, uint32_t i);

/* Walks the entries table by table:
 *
 *     footer_begin(&cursor, &footer);
 *     while (footer_run(&cursor))
 *         while (cursor.left > 0)
 *             footer_take(&cursor, &entry);
 */
struct footer_cursor {
    const struct footer *footer;
    uint32_t run;  /* the next one */
    uint32_t at;   /* the next entry */
    uint32_t left; /* entries of this run */
    uint32_t collection, partition;
};

void footer_begin(struct footer_cursor *cursor, const struct footer *footer);
/* Goes to the next run, and fetches it towards the cache; what is left of this one is passed over.
 * False: no more. */
bool footer_run(struct footer_cursor *cursor);
/* The run's next entry; one is left. */
void footer_take(struct footer_cursor *cursor, struct footer_entry *ret_entry);
/* The tag of the entry `ahead` entries on, of this or a later run, for a prefetch. False: none. */
bool footer_peek(const struct footer_cursor *cursor, uint32_t ahead, struct key_tag *ret_tag);

#endif
