/* segment.h: the append-only file of one shard's log, and the commits in it.
 *
 * A segment is made under a temporary name at its full size, written with zeros, and only then
 * used. Its first 4,096 bytes are its head; commits follow from segment_start() on, each at the
 * next multiple of the alignment; behind the last one the zeros go on.
 *
 * Segment head (4,096)
 *   off len field
 *     0   4 magic "khoS"
 *     4   2 format       1
 *     6   2 least_reader 1
 *     8   8 segment      id, never used twice in a folder
 *    16  16 cluster
 *    32  16 incarnation
 *    48   4 shard
 *    52   4 alignment    of its commits: a power of two, 512 to 65,536
 *    56   8 size         of the file: a multiple of 1 MiB, at most 256 MiB
 *    64   8 created_ms   wall time, for people
 *    72  …  reserved, 0
 *  4080  16 checksum     XXH3-128, canonical order, of the 4,080 bytes before
 *
 * Commit: one aligned write, the unit of durability: a head (192), blocks at multiples of 64, zeros
 * up to a multiple of the alignment; a large one goes on up to a multiple of SEGMENT_PAGE, as
 * footers do. A commit without blocks marks the end of the log as durable (R3).
 *   off len field
 *     0   4 magic "khoC"
 *     4   2 format       1
 *     6   2 least_reader 1
 *     8   8 sequence     of this commit: rises by one through all segments; lost and dropped ones
 *                        leave a gap that the manifest knows
 *    16  16 cluster
 *    32  16 incarnation
 *    48   4 shard
 *    52   4 blocks
 *    56   8 segment
 *    64   8 offset       of this head in the segment
 *    72   8 durable      the highest sequence that was durable when this was written
 *    80   8 epoch        of the map under which its records were accepted
 *    88   4 length       head, blocks and padding: a multiple of the alignment
 *    92   4 zero_sectors sectors of 512 bytes within `length` that are all zero as written
 *    96  16 predecessor  checksum of the head of the commit before, in whichever segment; zero for
 *                        the first one of a folder
 *   112  16 heads_hash   of all its block heads, chained: zero, then for each block XXH3-128,
 *                        canonical order, of the hash so far (16) and the block's head (192)
 *   128   8 written_ms   wall time, for people
 *   136   4 records      in all blocks
 *   140  36 reserved, 0
 *   176  16 checksum     XXH3-128, canonical order, of the 176 bytes before
 *
 * zero_sectors is what tells torn from rotten: the file was zeros before the commit was written, so
 * a commit with more zero sectors than it was written with has sectors that never reached the disk.
 *
 * Between commits and behind the last one lie footers (footer.h): what a start reads in place of
 * the commits before them. A segment is full when the next commit and the footer of what has none
 * yet would not fit any more. */
#ifndef KHO_NODE_SEGMENT_H
#define KHO_NODE_SEGMENT_H

#include "block.h"

enum {
    SEGMENT_HEAD = 4096,
    SEGMENT_FORMAT = 1,
    SEGMENT_UNIT = 1 << 20,
    SEGMENT_PAGE = 4096,
    SEGMENT_LARGE = 256 << 10,
    SECTOR = 512,
    COMMIT_HEAD = 192,
    COMMIT_FORMAT = 1,
    COMMIT_BYTES_MAX = 20 << 20 /* 1 MiB of blocks, then one more record of any size */
};
#define SEGMENT_BYTES_MAX (256u << 20)
/* What only rises (sequences, ids, generations, epochs) never comes near this; bytes that say it
 * did are no file of ours, and would overflow what goes on from them. */
#define RISING_MAX    (UINT64_C(1) << 62)
#define SEGMENT_MAGIC 0x536F686Bu /* "khoS" */
#define COMMIT_MAGIC  0x436F686Bu /* "khoC" */

struct segment_head {
    uint64_t segment;
    uint64_t size;
    uint64_t created_ms;
    uint32_t alignment;
};

struct commit_head {
    uint64_t sequence;
    uint64_t segment;
    uint64_t offset;
    uint64_t durable;
    uint64_t epoch;
    uint64_t written_ms;
    uint32_t blocks;
    uint32_t length;
    uint32_t zero_sectors;
    uint32_t records;
    struct kho_id predecessor;
    struct kho_id heads_hash;
};

/* Where the first commit goes. */
static inline uint64_t segment_start(uint32_t alignment)
{
    return kho_max(SEGMENT_HEAD, alignment);
}

/* Where a commit or footer ends that begins at `offset`. File systems allocate whole pages: a
 * direct write of a part of one where nothing was written yet waits for all others of the file, and
 * they for it (ext4). Small ones lie close together all the same: most of them come to written
 * pages. */
static inline uint64_t segment_unit_end(uint64_t offset, uint64_t bytes, uint32_t alignment,
                                        bool large)
{
    return kho_round_up(offset + bytes, large ? kho_max(SEGMENT_PAGE, alignment) : alignment);
}
/* By how much that may be more than `bytes`, which are a multiple of the alignment. */
static inline uint32_t segment_slack(uint32_t alignment)
{
    return alignment < SEGMENT_PAGE ? SEGMENT_PAGE - alignment : 0;
}

/* What the heads of segments, commits and footers have in common: magic, format, 8 bytes of their
 * own, then whose they are; and the checksum that ends them. */
void unit_head_begin(uint8_t *to, uint32_t magic, uint64_t at8, const struct identity *identity);
/* Codes as of block_head_decode. */
int unit_head_check(const uint8_t *from, uint32_t magic, size_t checksum_at, uint16_t format,
                    const struct identity *identity);

/* Writes SEGMENT_HEAD bytes. */
void segment_head_encode(const struct segment_head *head, const struct identity *identity,
                         uint8_t *to);
/* Codes as of block_head_decode. */
int segment_head_decode(const uint8_t *from, const struct identity *identity,
                        struct segment_head *ret_head);

/* Writes COMMIT_HEAD bytes; *ret_checksum is the next one's predecessor. */
void commit_head_encode(const struct commit_head *head, const struct identity *identity,
                        uint8_t *to, struct kho_id *ret_checksum);
/* Adds a block's head to heads_hash, which begins as zeros. */
void commit_hash_head(struct kho_id *heads_hash, const uint8_t *block_head);
/* Codes as of block_head_decode. */
int commit_head_decode(const uint8_t *from, const struct identity *identity,
                       struct commit_head *ret_head, struct kho_id *ret_checksum);

/* All-zero sectors of `len` bytes (a multiple of 512). */
uint32_t zero_sectors(const uint8_t *bytes, size_t len);
bool all_zero(const uint8_t *bytes, size_t len);

/* What a look at a whole commit finds. */
struct commit_check {
    bool whole;          /* all heads and bodies hold */
    bool heads;          /* all block heads hold: damage is known to be in bodies only */
    bool padding;        /* what should be zeros between and behind the blocks is */
    bool torn;           /* not whole, and explained by sectors that were never written */
    uint32_t bad_blocks; /* known ones */
    uint32_t walked;     /* bytes from the commit's start up to where heads could be followed */
};
/* Checks `head->length` bytes of a commit whose head was decoded from their start. */
void commit_check(const uint8_t *commit, const struct commit_head *head,
                  const struct identity *identity, struct commit_check *ret_check);
/* The block at *offset of the commit, which is moved to the next one. 1: the head holds (the body
 * is not looked at); 0: no more blocks; KHO_EMALFORMED or another code: it can't be followed. */
int commit_next_block(const uint8_t *commit, const struct commit_head *head,
                      const struct identity *identity, uint32_t *offset,
                      struct block_head *ret_block);

#endif
