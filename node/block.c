/* block.c: encodes, packs, checks and unpacks blocks (layout: block.h).
 *
 * Writing: records are laid end to end, packed, hashed; the head is encoded once segment and offset
 * are known. Reading: the head is checked before any of its lengths is used, the body's hash before
 * it is unpacked. All failures are codes: the bytes come from a disk. */
#include "block.h"

#include <assert.h>
#include <lz4.h>

/* The offsets written down in block.h, at compile time. */
enum {
    AT_SEQUENCE = 8,
    AT_CLUSTER = 16,
    AT_INCARNATION = 32,
    AT_SHARD = 48,
    AT_COLLECTION = 52,
    AT_SEGMENT = 56,
    AT_OFFSET = 64,
    AT_RAW = 72,
    AT_STORED = 76,
    AT_RECORDS = 80,
    AT_CODEC = 84,
    AT_FLAGS = 85,
    AT_HASH = 96,
    AT_KEY_ID = 112,
    AT_CHECKSUM = 176
};
static_assert(AT_CHECKSUM + 16 == BLOCK_HEAD, "the checksum ends the head");
static_assert(BLOCK_HEAD % BLOCK_ALIGN == 0, "a block's body is aligned like its head");
static_assert(AT_KEY_ID + 16 + 24 + 16 + 8 == AT_CHECKSUM, "reserved fields of encryption");

void block_head_encode(const struct block_head *head, const struct identity *identity, uint8_t *to)
{
    KHO_ASSERT(head->records > 0);
    KHO_ASSERT(head->stored_len <= head->raw_len);
    memset(to, 0, BLOCK_HEAD);
    kho_store32(to, BLOCK_MAGIC);
    kho_store16(to + 4, BLOCK_FORMAT);
    kho_store16(to + 6, BLOCK_FORMAT);
    kho_store64(to + AT_SEQUENCE, head->sequence);
    memcpy(to + AT_CLUSTER, identity->cluster.bytes, 16);
    memcpy(to + AT_INCARNATION, identity->incarnation.bytes, 16);
    kho_store32(to + AT_SHARD, identity->shard);
    kho_store32(to + AT_COLLECTION, head->collection);
    kho_store64(to + AT_SEGMENT, head->segment);
    kho_store64(to + AT_OFFSET, head->offset);
    kho_store32(to + AT_RAW, head->raw_len);
    kho_store32(to + AT_STORED, head->stored_len);
    kho_store32(to + AT_RECORDS, head->records);
    to[AT_CODEC] = head->codec;
    memcpy(to + AT_HASH, head->body_hash.bytes, 16);
    struct kho_id checksum = hash128(to, AT_CHECKSUM);
    memcpy(to + AT_CHECKSUM, checksum.bytes, 16);
}

static int check_fields(const uint8_t *from, const struct block_head *h)
{
    static const uint8_t zeros[AT_CHECKSUM - AT_KEY_ID];
    if (h->records < 1 || h->raw_len < KHO_RECORD_HEAD + 1 || h->raw_len > BLOCK_BODY_MAX ||
        h->stored_len < 1 || h->stored_len > h->raw_len ||
        h->records > h->raw_len / (KHO_RECORD_HEAD + 1))
        return KHO_EMALFORMED;
    if (h->raw_len > BLOCK_RAW_MAX && (h->records > 1 || h->codec != KHO_CODEC_NONE))
        return KHO_EMALFORMED;
    if (h->codec > KHO_CODEC_LZ4 || (h->codec == KHO_CODEC_NONE && h->stored_len != h->raw_len))
        return KHO_EMALFORMED;
    if (h->offset % BLOCK_ALIGN != 0 || memcmp(from + AT_FLAGS, zeros, AT_HASH - AT_FLAGS) != 0 ||
        memcmp(from + AT_KEY_ID, zeros, sizeof zeros) != 0)
        return KHO_EMALFORMED;
    return 0;
}

int block_head_decode(const uint8_t *from, const struct identity *identity,
                      struct block_head *ret_head)
{
    if (kho_load32(from) != BLOCK_MAGIC)
        return KHO_EMALFORMED;
    struct kho_id checksum = hash128(from, AT_CHECKSUM);
    if (memcmp(checksum.bytes, from + AT_CHECKSUM, 16) != 0)
        return KHO_ECHECKSUM;
    if (kho_load16(from + 6) > BLOCK_FORMAT)
        return KHO_EVERSION;
    if (memcmp(from + AT_CLUSTER, identity->cluster.bytes, 16) != 0)
        return KHO_ECLUSTER;
    if (memcmp(from + AT_INCARNATION, identity->incarnation.bytes, 16) != 0)
        return KHO_EINCARNATION;
    if (kho_load32(from + AT_SHARD) != identity->shard)
        return KHO_ESHARD;
    struct block_head h = {
        .sequence = kho_load64(from + AT_SEQUENCE),
        .segment = kho_load64(from + AT_SEGMENT),
        .offset = kho_load64(from + AT_OFFSET),
        .collection = kho_load32(from + AT_COLLECTION),
        .raw_len = kho_load32(from + AT_RAW),
        .stored_len = kho_load32(from + AT_STORED),
        .records = kho_load32(from + AT_RECORDS),
        .codec = from[AT_CODEC],
    };
    memcpy(h.body_hash.bytes, from + AT_HASH, 16);
    int error = check_fields(from, &h);
    if (error != 0)
        return error;
    *ret_head = h;
    return 0;
}

/* Whether the records leave something to compress: of their bytes, a fifth at least would have to
 * go for all to save an eighth. */
static bool compressible(const uint8_t *raw, uint32_t raw_len)
{
    uint32_t packed = 0;
    for (uint64_t at = 0; at + KHO_RECORD_HEAD <= raw_len;)
        at += record_span(raw + at, &packed);
    return packed <= raw_len - raw_len / 5;
}

uint32_t block_pack(const uint8_t *raw, uint32_t raw_len, uint8_t *to, uint8_t *ret_codec)
{
    KHO_ASSERT(raw_len > KHO_RECORD_HEAD);
    if (raw_len <= BLOCK_RAW_MAX && compressible(raw, raw_len)) {
        /* It has to save an eighth: less isn't worth the work of every reader. */
        int n = LZ4_compress_default((const char *)raw, (char *)to, (int)raw_len,
                                     (int)(raw_len - raw_len / 8));
        if (n > 0) {
            *ret_codec = KHO_CODEC_LZ4;
            return (uint32_t)n;
        }
    }
    memcpy(to, raw, raw_len);
    *ret_codec = KHO_CODEC_NONE;
    return raw_len;
}

bool block_body_matches(const struct block_head *head, const uint8_t *body)
{
    struct kho_id hash = hash128(body, head->stored_len);
    return kho_id_equal(&hash, &head->body_hash);
}

int block_unpack(const struct block_head *head, const uint8_t *body, uint8_t *to)
{
    if (head->codec == KHO_CODEC_NONE) {
        memcpy(to, body, head->raw_len);
        return 0;
    }
    int n = LZ4_decompress_safe((const char *)body, (char *)to, (int)head->stored_len,
                                (int)head->raw_len);
    return n >= 0 && (uint32_t)n == head->raw_len ? 0 : KHO_EMALFORMED;
}

int block_next(const uint8_t *raw, uint32_t raw_len, uint32_t *offset, struct record *ret_record)
{
    KHO_ASSERT(*offset <= raw_len);
    if (*offset == raw_len)
        return 0;
    int n = record_decode(raw + *offset, raw_len - *offset, ret_record);
    if (n < 0)
        return n;
    *offset += (uint32_t)n;
    return 1;
}
