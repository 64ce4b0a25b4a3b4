/* record.h: one record as bytes, the same on the wire and in a block on disk.
 *
 *   off len field
 *     0   4 collection   id of the collection
 *     4   2 key_len      1 to 1,024
 *     6   1 flags        KHO_RECORD_TOMBSTONE; others reserved (promise), must be 0
 *     7   1 codec        of the value bytes: 0 none; 1 LZ4, compressed by the writer, once for all
 *                        replicas: pieces of at most 64 KiB raw (piece.h). Every node and client
 *                        takes it; whoever copies a record copies its bytes as they are
 *     8   8 counter      of the version, 1 to KHO_COUNTER_MAX
 *    16   4 writer       of the version
 *    20   4 raw_len      length of the value uncompressed, 0 to 16 MiB; 0 for a tombstone
 *    24   4 stored_len   length of the value bytes that follow; equals raw_len where codec is 0;
 *                        where it is 1, less, but more than a 255th of it, as LZ4 has it
 *    28   4 expiry       reserved, must be 0
 *    32  16 hash         XXH3-128 of the uncompressed value (content_hash); zero for a tombstone
 *    48   … key, then stored_len value bytes
 *
 * A version names one value (R6) by its content hash: the same value may have other bytes here.
 *
 * record_decode checks all of this but the hash and the pieces; value_matches (piece.h) checks
 * those. */
#ifndef KHO_RECORD_H
#define KHO_RECORD_H

#include <kho/base.h>
#include <kho/error.h>
#include <kho/key.h>
#include <kho/version.h>

/* Of records that are compressed together, uncompressed: on disk and in a frame alike. */
#define KHO_BLOCK_RAW_MAX    (16u << 10)
#define KHO_RECORD_HEAD      48u
#define KHO_RECORD_TOMBSTONE 1u
#define KHO_RECORD_MAX       (KHO_RECORD_HEAD + KHO_KEY_MAX + KHO_VALUE_MAX)

enum { KHO_CODEC_NONE = 0, KHO_CODEC_LZ4 = 1 };

/* A record decoded in place: `key` and `value` point into the bytes it was decoded from, or, on the
 * way out, to wherever they are. `value` may be NULL where only the head and key are at hand. */
struct record {
    uint32_t collection;
    uint16_t key_len;
    uint8_t flags;
    uint8_t codec;
    struct version version;
    uint32_t raw_len;
    uint32_t stored_len;
    struct kho_id hash;
    const uint8_t *key;
    const uint8_t *value;
};

static inline size_t record_size(const struct record *r)
{
    return (size_t)KHO_RECORD_HEAD + r->key_len + r->stored_len;
}
static inline bool record_is_tombstone(const struct record *r)
{
    return (r->flags & KHO_RECORD_TOMBSTONE) != 0;
}

/* Writes head and key (48 + key_len bytes), not the value. Returns the bytes written. */
static inline size_t record_encode_head(const struct record *r, uint8_t *to)
{
    kho_store32(to, r->collection);
    kho_store16(to + 4, r->key_len);
    to[6] = r->flags;
    to[7] = r->codec;
    kho_store64(to + 8, r->version.counter);
    kho_store32(to + 16, r->version.writer);
    kho_store32(to + 20, r->raw_len);
    kho_store32(to + 24, r->stored_len);
    kho_store32(to + 28, 0);
    memcpy(to + 32, r->hash.bytes, 16);
    memcpy(to + KHO_RECORD_HEAD, r->key, r->key_len);
    return (size_t)KHO_RECORD_HEAD + r->key_len;
}
/* The size of an encoded record of which the first KHO_RECORD_HEAD bytes are at hand; what of it is
 * compressed is added to *packed. */
static inline uint64_t record_span(const uint8_t *from, uint32_t *packed)
{
    uint32_t stored_len = kho_load32(from + 24);
    *packed += from[7] != KHO_CODEC_NONE ? stored_len : 0;
    return (uint64_t)KHO_RECORD_HEAD + kho_load16(from + 4) + stored_len;
}
/* Writes the whole record, record_size() bytes. */
static inline size_t record_encode(const struct record *r, uint8_t *to)
{
    size_t n = record_encode_head(r, to);
    if (r->stored_len > 0)
        memcpy(to + n, r->value, r->stored_len);
    return n + r->stored_len;
}

/* Decodes head and key from the first bytes of `from`; `value` is left NULL. Returns the bytes of
 * head and key, or KHO_EMALFORMED (the bytes end too early, or a field is out of its range). */
static inline int record_decode_head(const uint8_t *from, size_t len, struct record *ret)
{
    struct record r = {0};
    if (len < KHO_RECORD_HEAD)
        return KHO_EMALFORMED;
    r.collection = kho_load32(from);
    r.key_len = kho_load16(from + 4);
    r.flags = from[6];
    r.codec = from[7];
    r.version.counter = kho_load64(from + 8);
    r.version.writer = kho_load32(from + 16);
    r.raw_len = kho_load32(from + 20);
    r.stored_len = kho_load32(from + 24);
    memcpy(r.hash.bytes, from + 32, 16);
    if (r.key_len < 1 || r.key_len > KHO_KEY_MAX || (r.flags & ~KHO_RECORD_TOMBSTONE) != 0 ||
        r.codec > KHO_CODEC_LZ4 || kho_load32(from + 28) != 0)
        return KHO_EMALFORMED;
    if (r.version.counter < 1 || r.version.counter > KHO_COUNTER_MAX)
        return KHO_EMALFORMED;
    if (r.raw_len > KHO_VALUE_MAX || r.stored_len > r.raw_len)
        return KHO_EMALFORMED;
    if (r.codec == KHO_CODEC_NONE && r.stored_len != r.raw_len)
        return KHO_EMALFORMED;
    /* What claims more would only make its reader take memory for nothing. */
    if (r.codec == KHO_CODEC_LZ4 && (r.stored_len == r.raw_len || r.raw_len / 255 >= r.stored_len))
        return KHO_EMALFORMED;
    if (record_is_tombstone(&r) && (r.raw_len != 0 || !kho_id_is_zero(&r.hash)))
        return KHO_EMALFORMED;
    if (len < KHO_RECORD_HEAD + (size_t)r.key_len)
        return KHO_EMALFORMED;
    r.key = from + KHO_RECORD_HEAD;
    *ret = r;
    return (int)(KHO_RECORD_HEAD + r.key_len);
}
/* Decodes a whole record. Returns its size in bytes, or KHO_EMALFORMED. */
static inline int record_decode(const uint8_t *from, size_t len, struct record *ret)
{
    struct record r;
    int head = record_decode_head(from, len, &r);
    if (head < 0)
        return head;
    if (len - (size_t)head < r.stored_len)
        return KHO_EMALFORMED;
    r.value = from + head;
    *ret = r;
    return head + (int)r.stored_len;
}

/* True where the value bytes have the record's content hash. Only for codec 0 (else: piece.h);
 * `value` is set. */
static inline bool record_value_matches(const struct record *r)
{
    KHO_ASSERT(r->codec == KHO_CODEC_NONE);
    if (record_is_tombstone(r))
        return true;
    struct kho_id hash = content_hash(r->value, r->raw_len);
    return kho_id_equal(&hash, &r->hash);
}

#endif
