/* block.h: the unit of compression, hashing and reading inside a segment.
 *
 * A block is a head of 192 bytes and a body, at an offset that is a multiple of 64. The body is a
 * row of records in the encoding of kho/record.h without padding: some small ones, at most 16 KiB
 * raw, compressed together with LZ4 where that saves; or a single larger one, stored as it is. Raw
 * here is what the records are made of: a value that its writer compressed stays as it came.
 *
 * Head (192)
 *   off len field
 *     0   4 magic "khoB"
 *     4   2 format       1
 *     6   2 least_reader the oldest format whose readers may use this block: 1
 *     8   8 sequence     of the commit that carries it
 *    16  16 cluster
 *    32  16 incarnation
 *    48   4 shard
 *    52   4 collection   of all its records, or 0: they are of several
 *    56   8 segment      id
 *    64   8 offset       of this head in the segment
 *    72   4 raw_len      of the body uncompressed, 49 to BLOCK_BODY_MAX; at most 16 KiB where
 *                        records > 1 or the codec is LZ4
 *    76   4 stored_len   of the body as stored; raw_len where the codec is none, else less
 *    80   4 records      at least 1, at most one for each 49 bytes of raw_len
 *    84   1 codec        0 none, 1 LZ4 (block format)
 *    85   1 flags        reserved, 0
 *    86   2 reserved, 0
 *    88   8 reserved, 0
 *    96  16 body_hash    XXH3-128, canonical order, of the body as stored
 *   112  16 key_id       reserved for encryption, 0
 *   128  24 nonce        reserved, 0
 *   152  16 tag          reserved, 0
 *   168   8 reserved, 0
 *   176  16 checksum     XXH3-128, canonical order, of the 176 bytes before
 *
 * Cluster, incarnation, shard, segment, offset and sequence tell a block that is where and when it
 * belongs from a misdirected or stale one. Where the head is whole and the body is not, it is still
 * known how far the damage reaches. */
#ifndef KHO_NODE_BLOCK_H
#define KHO_NODE_BLOCK_H

#include <kho/base.h>
#include <kho/record.h>

enum {
    BLOCK_HEAD = 192,
    BLOCK_ALIGN = 64,
    BLOCK_RAW_MAX = KHO_BLOCK_RAW_MAX, /* of a packed block */
    BLOCK_BODY_MAX = KHO_RECORD_MAX,
    BLOCK_FORMAT = 1
};
#define BLOCK_MAGIC 0x426F686Bu /* "khoB" */

/* Whose bytes these are: what every head on disk carries. */
struct identity {
    struct kho_id cluster;
    struct kho_id incarnation;
    uint32_t shard;
};

struct block_head {
    uint64_t sequence;
    uint64_t segment;
    uint64_t offset;
    uint32_t collection;
    uint32_t raw_len;
    uint32_t stored_len;
    uint32_t records;
    uint8_t codec;
    struct kho_id body_hash;
};

static inline struct kho_id hash128(const void *bytes, size_t len)
{
    return content_hash(bytes, len);
}

/* Writes BLOCK_HEAD bytes. */
void block_head_encode(const struct block_head *head, const struct identity *identity, uint8_t *to);
/* Reads BLOCK_HEAD bytes. 0; KHO_EMALFORMED (no block, or a field breaks its rule); KHO_ECHECKSUM;
 * KHO_EVERSION (a newer format); KHO_ECLUSTER, KHO_EINCARNATION, KHO_ESHARD (not ours). The caller
 * compares segment, offset and sequence. */
int block_head_decode(const uint8_t *from, const struct identity *identity,
                      struct block_head *ret_head);

/* Packs `raw_len` bytes of records into `to` (raw_len bytes of room), compressed where that saves:
 * never if more than BLOCK_RAW_MAX, nor where most of them are values that their writer compressed.
 * Returns the stored length. */
uint32_t block_pack(const uint8_t *raw, uint32_t raw_len, uint8_t *to, uint8_t *ret_codec);
/* Unpacks a body whose hash was checked into `to` (raw_len bytes). 0, or KHO_EMALFORMED. */
int block_unpack(const struct block_head *head, const uint8_t *body, uint8_t *to);
bool block_body_matches(const struct block_head *head, const uint8_t *body);
/* Walks unpacked records: the next one from *offset on, which is advanced. 1; 0 at the end;
 * KHO_EMALFORMED. */
int block_next(const uint8_t *raw, uint32_t raw_len, uint32_t *offset, struct record *ret_record);

/* Bytes that a block takes in its commit, padded to the place of the next one. */
static inline uint64_t block_span(uint32_t stored_len)
{
    return kho_round_up(BLOCK_HEAD + (uint64_t)stored_len, BLOCK_ALIGN);
}

#endif
