/* piece.h: the value bytes of a record whose writer compressed them (record.h, codec 1).
 *
 * They are a row of pieces, one for each 64 KiB of the raw value, the last one for what is left of
 * it. So a value of any size is hashed on receipt, and read, with 64 KiB of memory beside it.
 *
 *   off len field
 *     0   4 stored      length of the bytes that follow, at least 1; with KHO_PIECE_PLAIN set they
 *                       are the raw bytes themselves, exactly as many; else an LZ4 block, shorter
 *                       than the raw bytes, that unpacks to exactly them
 *     4   … bytes
 *
 * Together the pieces are exactly stored_len bytes and unpack to exactly raw_len. The first is an
 * LZ4 block wherever our own writer made them: a value whose first piece doesn't save an eighth is
 * taken for one that doesn't compress. All of it has to save an eighth, too. */
#ifndef KHO_PIECE_H
#define KHO_PIECE_H

#include <kho/hash.h>
#include <kho/record.h>

#include <lz4.h>

#define KHO_PIECE_MAX   (64u << 10) /* raw bytes of a piece */
#define KHO_PIECE_HEAD  4u
#define KHO_PIECE_PLAIN 0x80000000u

struct piece {
    const uint8_t *bytes;
    uint32_t stored_len;
    uint32_t raw_len;
    bool plain;
};

/* The piece that begins `from`, of a value of which `raw_left` bytes (at least 1) are still to be
 * unpacked. Returns its size, head included; 0: `len` bytes are too few to hold it; or
 * KHO_EMALFORMED. */
static inline int piece_decode(const uint8_t *from, size_t len, uint32_t raw_left,
                               struct piece *ret)
{
    KHO_ASSERT(raw_left > 0);
    if (len < KHO_PIECE_HEAD)
        return 0;
    uint32_t head = kho_load32(from);
    struct piece piece = {
        .bytes = from + KHO_PIECE_HEAD,
        .stored_len = head & ~KHO_PIECE_PLAIN,
        .raw_len = (uint32_t)kho_min(raw_left, KHO_PIECE_MAX),
        .plain = (head & KHO_PIECE_PLAIN) != 0,
    };
    bool fits = piece.plain ? piece.stored_len == piece.raw_len
                            : piece.stored_len >= 1 && piece.stored_len < piece.raw_len;
    if (!fits)
        return KHO_EMALFORMED;
    if (len - KHO_PIECE_HEAD < piece.stored_len)
        return 0;
    *ret = piece;
    return (int)(KHO_PIECE_HEAD + piece.stored_len);
}

/* Writes the raw_len raw bytes of a piece. 0, or KHO_EMALFORMED. */
static inline int piece_unpack(const struct piece *piece, uint8_t *to)
{
    if (piece->plain) {
        memcpy(to, piece->bytes, piece->raw_len);
        return 0;
    }
    int n = LZ4_decompress_safe((const char *)piece->bytes, (char *)to, (int)piece->stored_len,
                                (int)piece->raw_len);
    return n >= 0 && (uint32_t)n == piece->raw_len ? 0 : KHO_EMALFORMED;
}

/* --- Whole values ----------------------------------------------------------------------------- */

/* What a packed value may take: it saves an eighth. */
static inline uint32_t value_packed_max(uint32_t raw_len)
{
    return raw_len - raw_len / 8;
}

/* Packs one piece into `room` bytes. Returns its size, or 0: it doesn't fit. */
static inline uint32_t piece_pack(const uint8_t *raw, uint32_t raw_len, uint8_t *to, uint32_t room,
                                  bool may_be_plain)
{
    if (room <= KHO_PIECE_HEAD)
        return 0;
    uint32_t most = (uint32_t)kho_min(value_packed_max(raw_len), room - KHO_PIECE_HEAD);
    /* In whole pieces LZ4 may look less closely: two fifths faster, and a twentieth longer. */
    int speed = raw_len == KHO_PIECE_MAX ? 4 : 1;
    int n = LZ4_compress_fast((const char *)raw, (char *)to + KHO_PIECE_HEAD, (int)raw_len,
                              (int)most, speed);
    if (n > 0 && (uint32_t)n < raw_len) {
        kho_store32(to, (uint32_t)n);
        return KHO_PIECE_HEAD + (uint32_t)n;
    }
    if (!may_be_plain || raw_len > room - KHO_PIECE_HEAD)
        return 0;
    kho_store32(to, raw_len | KHO_PIECE_PLAIN);
    memcpy(to + KHO_PIECE_HEAD, raw, raw_len);
    return KHO_PIECE_HEAD + raw_len;
}

/* Packs a value of at least 1 byte into `to`, which has value_packed_max(raw_len) bytes. Returns
 * the bytes written, or 0 where it wouldn't save an eighth: what is in `to` is void then. */
static inline uint32_t value_pack(const uint8_t *raw, uint32_t raw_len, uint8_t *to)
{
    uint32_t room = value_packed_max(raw_len), used = 0, at = 0;
    KHO_ASSERT(raw_len > 0 && raw_len <= KHO_VALUE_MAX);
    while (at < raw_len) {
        uint32_t len = (uint32_t)kho_min(raw_len - at, KHO_PIECE_MAX);
        uint32_t n = piece_pack(raw + at, len, to + used, room - used, at > 0);
        if (n == 0)
            return 0;
        used += n;
        at += len;
    }
    return used;
}

/* Writes the raw_len raw bytes of a record's value. 0, or KHO_EMALFORMED. */
static inline int value_unpack(const struct record *r, uint8_t *to)
{
    uint32_t at = 0, raw = 0;
    if (r->codec == KHO_CODEC_NONE) {
        if (r->raw_len > 0)
            memcpy(to, r->value, r->raw_len);
        return 0;
    }
    while (raw < r->raw_len) {
        struct piece piece;
        int size = piece_decode(r->value + at, r->stored_len - at, r->raw_len - raw, &piece);
        if (size <= 0 || piece_unpack(&piece, to + raw) != 0)
            return KHO_EMALFORMED;
        at += (uint32_t)size;
        raw += piece.raw_len;
    }
    return at == r->stored_len ? 0 : KHO_EMALFORMED;
}

/* --- The content hash ------------------------------------------------------------------------- */

/* Checks a value while its bytes come in. */
struct value_check {
    XXH3_state_t hash;
    uint32_t stored, raw; /* bytes that are done */
    bool broken;
};

static inline void value_check_begin(struct value_check *check)
{
    XXH3_128bits_reset(&check->hash);
    check->stored = check->raw = 0;
    check->broken = false;
}

/* Goes on with what is new and whole in the first `have` of the value bytes, all of which are in
 * place. `scratch` has KHO_PIECE_MAX bytes. */
static inline void value_check_go(struct value_check *check, const struct record *r, uint32_t have,
                                  uint8_t *scratch)
{
    KHO_ASSERT(have >= check->stored && have <= r->stored_len);
    if (r->codec == KHO_CODEC_NONE) {
        XXH3_128bits_update(&check->hash, r->value + check->stored, have - check->stored);
        check->raw = check->stored = have;
        return;
    }
    while (!check->broken && check->raw < r->raw_len) {
        struct piece piece;
        int size = piece_decode(r->value + check->stored, have - check->stored,
                                r->raw_len - check->raw, &piece);
        if (size == 0)
            return;
        check->broken = size < 0 || piece_unpack(&piece, scratch) != 0;
        if (check->broken)
            return;
        XXH3_128bits_update(&check->hash, scratch, piece.raw_len);
        check->stored += (uint32_t)size;
        check->raw += piece.raw_len;
    }
}

/* True where the value was whole and has the record's content hash. */
static inline bool value_check_end(const struct value_check *check, const struct record *r)
{
    if (check->broken || check->stored != r->stored_len || check->raw != r->raw_len)
        return false;
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&check->hash));
    return memcmp(canonical.digest, r->hash.bytes, sizeof r->hash.bytes) == 0;
}

/* True where a record's value bytes unpack to a value that has its content hash. `scratch` as
 * above; it isn't looked at where the codec is 0. */
static inline bool value_matches(const struct record *r, uint8_t *scratch)
{
    if (r->codec == KHO_CODEC_NONE)
        return record_value_matches(r);
    if (r->raw_len <= KHO_PIECE_MAX) {
        struct kho_id hash;
        if (value_unpack(r, scratch) != 0)
            return false;
        hash = content_hash(scratch, r->raw_len);
        return kho_id_equal(&hash, &r->hash);
    }
    struct value_check check;
    value_check_begin(&check);
    value_check_go(&check, r, r->stored_len, scratch);
    return value_check_end(&check, r);
}

#endif
