/* medium_scan.c: the parser (medium_scan.h): manifest, blocks, records, pieces, each by the offsets
 * of its format, named here once more. */
#include "medium_scan.h"

#include <kho/hash.h>
#include <lz4.h>

/* --- Formats ---------------------------------------------------------------------------------- */

static const char manifest_magic[4] = "khoN", block_magic[4] = "khoB";

enum {
    M_LENGTH = 8,
    M_CHECKSUM = 16,
    M_CLUSTER = 32,
    M_INCARNATION = 48,
    M_SHARD = 64,
    M_SEGMENTS = 116,
    M_HEAD = 192,
    M_SEGMENT_SIZE = 88,
    S_ID = 0,
    S_SEALED = 20,
    S_END = 24,

    B_FORMAT = 4,
    B_CLUSTER = 16,
    B_INCARNATION = 32,
    B_SHARD = 48,
    B_COLLECTION = 52,
    B_SEGMENT = 56,
    B_OFFSET = 64,
    B_RAW = 72,
    B_STORED = 76,
    B_RECORDS = 80,
    B_CODEC = 84,
    B_BODY_HASH = 96,
    B_CHECKSUM = 176,
    B_HEAD = 192,
    B_ALIGN = 64,
    FIRST_BLOCK = 4096, /* behind a segment's head */

    R_KEY_LEN = 4,
    R_FLAGS = 6,
    R_CODEC = 7,
    R_COUNTER = 8,
    R_WRITER = 16,
    R_RAW = 20,
    R_STORED = 24,
    R_HASH = 32,
    R_HEAD = 48,

    PIECE_RAW = 64 << 10,
    PIECE_PLAIN_BIT = 31,
    CODEC_LZ4 = 1,
    FLAG_TOMBSTONE = 1,
    VALUE_BYTES_MAX = 16 << 20
};

static void hash_canonical(const uint8_t *bytes, size_t len, uint64_t seed, uint8_t ret[16])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSeed(bytes, len, seed));
    memcpy(ret, canonical.digest, 16);
}

static bool hash_is(const uint8_t *bytes, size_t len, uint64_t seed, const uint8_t *expected)
{
    uint8_t hash[16];
    hash_canonical(bytes, len, seed, hash);
    return memcmp(hash, expected, 16) == 0;
}

static void wrong(struct medium_scan *scan, const char *what, uint64_t segment, uint64_t offset)
{
    if (scan->wrong[0] == '\0')
        snprintf(scan->wrong, sizeof scan->wrong, "segment %llu offset %llu: %s",
                 (unsigned long long)segment, (unsigned long long)offset, what);
}

/* --- Files ------------------------------------------------------------------------------------ */

/* All bytes of a file up to the last that isn't zero, `*ret_len` of them and `slack` zeros behind
 * them; NULL without such a file. */
static uint8_t *file_bytes(const struct vdisk *disk, struct file_name name, size_t slack,
                           size_t *ret_len)
{
    size_t len = vdisk_used(disk, name);
    uint8_t *bytes = calloc(1, len + slack);
    KHO_ASSERT(bytes != NULL);
    int64_t got = vdisk_peek(disk, name, 0, bytes, len);
    if (got != (int64_t)len) {
        free(bytes);
        return NULL;
    }
    *ret_len = len;
    return bytes;
}

/* --- Values ----------------------------------------------------------------------------------- */

/* The raw_len bytes of a value that its writer compressed, into `to`. */
static bool pieces_unpack(const uint8_t *from, uint32_t stored_len, uint8_t *to, uint32_t raw_len)
{
    uint32_t at = 0, raw = 0;
    while (raw < raw_len) {
        uint32_t part = raw_len - raw < PIECE_RAW ? raw_len - raw : PIECE_RAW;
        if (stored_len - at < 4)
            return false;
        uint32_t head = kho_load32(from + at), len = head & ~(1u << PIECE_PLAIN_BIT);
        at += 4;
        if (len == 0 || len > stored_len - at)
            return false;
        if (len != head) {
            if (len != part)
                return false;
            memcpy(to + raw, from + at, part);
        } else if (LZ4_decompress_safe((const char *)from + at, (char *)to + raw, (int)len,
                                       (int)part) != (int)part) {
            return false;
        }
        at += len;
        raw += part;
    }
    return at == stored_len;
}

/* --- Records ---------------------------------------------------------------------------------- */

static struct medium_record *record_add(struct medium_scan *scan, const uint8_t *key,
                                        uint32_t key_len)
{
    if (scan->count == scan->room) {
        scan->room = scan->room * 2 + 256;
        scan->records = realloc(scan->records, scan->room * sizeof *scan->records);
        KHO_ASSERT(scan->records != NULL);
    }
    if (scan->keys_len + key_len > scan->keys_room) {
        scan->keys_room = (scan->keys_len + key_len) * 2 + 4096;
        scan->keys = realloc(scan->keys, scan->keys_room);
        KHO_ASSERT(scan->keys != NULL);
    }
    struct medium_record *r = &scan->records[scan->count++];
    *r = (struct medium_record){.key_at = (uint32_t)scan->keys_len, .key_len = key_len};
    memcpy(scan->keys + scan->keys_len, key, key_len);
    scan->keys_len += key_len;
    return r;
}

/* The record at the begin of `len` bytes. Returns its size; 0: no record begins there. */
static size_t record_find(struct medium_scan *scan, const uint8_t *from, size_t len,
                          uint32_t *ret_collection)
{
    if (len < R_HEAD)
        return 0;
    uint32_t key_len = kho_load16(from + R_KEY_LEN), raw_len = kho_load32(from + R_RAW);
    uint32_t stored_len = kho_load32(from + R_STORED);
    if (key_len == 0 || raw_len > VALUE_BYTES_MAX || stored_len > raw_len ||
        len - R_HEAD < (size_t)key_len + stored_len)
        return 0;
    const uint8_t *value = from + R_HEAD + key_len;
    uint8_t *unpacked = NULL, hash[16] = {0};
    bool tombstone = (from[R_FLAGS] & FLAG_TOMBSTONE) != 0;
    bool whole = from[R_CODEC] <= CODEC_LZ4 && (from[R_CODEC] != 0 || stored_len == raw_len);
    if (whole && from[R_CODEC] == CODEC_LZ4) {
        unpacked = malloc((size_t)raw_len + 1);
        KHO_ASSERT(unpacked != NULL);
        whole = pieces_unpack(value, stored_len, unpacked, raw_len);
        value = unpacked;
    }
    if (whole && !tombstone)
        hash_canonical(value, raw_len, 0, hash);
    free(unpacked);
    if (!whole || memcmp(hash, from + R_HASH, 16) != 0 || (tombstone && raw_len > 0))
        return 0;
    struct medium_record *r = record_add(scan, from + R_HEAD, key_len);
    *ret_collection = r->collection = kho_load32(from);
    r->tombstone = tombstone;
    r->value_len = raw_len;
    r->version.counter = kho_load64(from + R_COUNTER);
    r->version.writer = kho_load32(from + R_WRITER);
    memcpy(r->hash.bytes, hash, 16);
    scan->copies++;
    return (size_t)R_HEAD + key_len + stored_len;
}

/* --- Blocks ----------------------------------------------------------------------------------- */

static bool head_holds(const uint8_t *head, const struct medium_owner *owner, uint64_t segment,
                       uint64_t offset)
{
    return memcmp(head, block_magic, 4) == 0 && hash_is(head, B_CHECKSUM, 0, head + B_CHECKSUM) &&
           kho_load16(head + B_FORMAT) == 1 &&
           memcmp(head + B_CLUSTER, owner->cluster.bytes, 16) == 0 &&
           memcmp(head + B_INCARNATION, owner->incarnation.bytes, 16) == 0 &&
           kho_load32(head + B_SHARD) == owner->shard && kho_load64(head + B_SEGMENT) == segment &&
           kho_load64(head + B_OFFSET) == offset;
}

/* The records of a body whose hash holds. What doesn't add up in it was written so. */
static void body_scan(struct medium_scan *scan, const uint8_t *head, const uint8_t *raw,
                      uint32_t raw_len)
{
    uint64_t segment = kho_load64(head + B_SEGMENT), offset = kho_load64(head + B_OFFSET);
    uint32_t collection = kho_load32(head + B_COLLECTION), found = 0, of;
    for (uint32_t at = 0; at < raw_len; found++) {
        size_t size = record_find(scan, raw + at, raw_len - at, &of);
        if (size == 0) {
            wrong(scan, "a whole block holds a record that isn't", segment, offset);
            return;
        }
        if (collection != 0 && of != collection)
            wrong(scan, "a block holds a record of another collection", segment, offset);
        at += (uint32_t)size;
        scan->records[scan->count - 1].segment = segment;
        scan->records[scan->count - 1].offset = offset;
    }
    if (found != kho_load32(head + B_RECORDS))
        wrong(scan, "a block holds another number of records than it says", segment, offset);
}

/* The block whose head holds at `head`, of which `left` bytes are there. Returns the bytes to go on
 * behind. */
static size_t block_scan(struct medium_scan *scan, const uint8_t *head, size_t left)
{
    uint32_t raw_len = kho_load32(head + B_RAW), stored_len = kho_load32(head + B_STORED);
    const uint8_t *body = head + B_HEAD;
    scan->blocks++;
    if (left - B_HEAD < stored_len || !hash_is(body, stored_len, 0, head + B_BODY_HASH)) {
        scan->broken++;
        return B_ALIGN;
    }
    if (head[B_CODEC] != CODEC_LZ4) {
        body_scan(scan, head, body, raw_len);
    } else {
        uint8_t *raw = malloc((size_t)raw_len + 1);
        KHO_ASSERT(raw != NULL);
        if (LZ4_decompress_safe((const char *)body, (char *)raw, (int)stored_len, (int)raw_len) ==
            (int)raw_len)
            body_scan(scan, head, raw, raw_len);
        else
            wrong(scan, "a whole block doesn't unpack", kho_load64(head + B_SEGMENT),
                  kho_load64(head + B_OFFSET));
        free(raw);
    }
    return kho_round_up(B_HEAD + (size_t)stored_len, B_ALIGN);
}

/* Blocks up to `end`: what lies behind the end of a sealed segment was dropped. */
static void segment_scan(struct medium_scan *scan, const struct vdisk *disk,
                         const struct medium_owner *owner, uint64_t id, uint64_t end)
{
    struct file_name name = {.kind = FILE_SEGMENT, .id = id};
    size_t len;
    /* The last bytes of a body may be zeros. */
    uint8_t *bytes = file_bytes(disk, name, VALUE_BYTES_MAX / 64, &len);
    if (bytes == NULL)
        return;
    size_t whole = len + VALUE_BYTES_MAX / 64;
    scan->segments++;
    for (size_t at = FIRST_BLOCK; at < len && at < end && whole - at >= B_HEAD;) {
        uint32_t stored_len = kho_load32(bytes + at + B_STORED);
        if (!head_holds(bytes + at, owner, id, at) ||
            vdisk_spoilt(disk, name, at, B_HEAD + (size_t)stored_len))
            at += B_ALIGN;
        else
            at += block_scan(scan, bytes + at, whole - at);
    }
    free(bytes);
}

/* --- The manifest ----------------------------------------------------------------------------- */

static bool manifest_holds(const uint8_t *bytes, size_t len, const struct medium_owner *owner)
{
    if (len < M_HEAD || memcmp(bytes, manifest_magic, 4) != 0)
        return false;
    uint64_t length = kho_load64(bytes + M_LENGTH);
    if (length < M_HEAD || length > len)
        return false;
    return hash_is(bytes + M_CLUSTER, length - M_CLUSTER, XXH3_64bits(bytes, M_CHECKSUM),
                   bytes + M_CHECKSUM) &&
           memcmp(bytes + M_CLUSTER, owner->cluster.bytes, 16) == 0 &&
           memcmp(bytes + M_INCARNATION, owner->incarnation.bytes, 16) == 0 &&
           kho_load32(bytes + M_SHARD) == owner->shard;
}

/* --- The order -------------------------------------------------------------------------------- */

/* The scan whose keys are compared; qsort has no argument to pass it. One thread, one sort. */
static const uint8_t *sorted_keys;

static int key_order(uint32_t collection_a, const uint8_t *a, size_t a_len, uint32_t collection_b,
                     const uint8_t *b, size_t b_len)
{
    if (collection_a != collection_b)
        return collection_a < collection_b ? -1 : 1;
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    if (order != 0 || a_len == b_len)
        return order;
    return a_len < b_len ? -1 : 1;
}

static int record_order(const void *a, const void *b)
{
    const struct medium_record *x = a, *y = b;
    int order = key_order(x->collection, sorted_keys + x->key_at, x->key_len, y->collection,
                          sorted_keys + y->key_at, y->key_len);
    return order != 0 ? order : version_compare(x->version, y->version);
}

static bool record_same_value(const struct medium_record *a, const struct medium_record *b)
{
    return a->tombstone == b->tombstone && a->value_len == b->value_len &&
           kho_id_equal(&a->hash, &b->hash);
}

static void records_sort(struct medium_scan *scan)
{
    size_t kept = 0;
    sorted_keys = scan->keys;
    if (scan->count > 0)
        qsort(scan->records, scan->count, sizeof *scan->records, record_order);
    for (size_t i = 0; i < scan->count; i++) {
        const struct medium_record *r = &scan->records[i];
        if (kept == 0 || record_order(&scan->records[kept - 1], r) != 0)
            scan->records[kept++] = *r;
        else if (!record_same_value(&scan->records[kept - 1], r) && scan->wrong[0] == '\0')
            snprintf(scan->wrong, sizeof scan->wrong,
                     "version %llu.%u of a key of collection %u is there with two values",
                     (unsigned long long)r->version.counter, r->version.writer, r->collection);
    }
    scan->count = kept;
}

/* --- The door --------------------------------------------------------------------------------- */

bool medium_scan_disk(struct medium_scan *ret_scan, const struct vdisk *disk,
                      const struct medium_owner *owner)
{
    size_t len;
    uint8_t *manifest =
        file_bytes(disk, (struct file_name){.kind = FILE_MANIFEST}, M_HEAD << 10, &len);
    memset(ret_scan, 0, sizeof *ret_scan);
    /* Its last bytes may be zeros. */
    bool holds = manifest != NULL && manifest_holds(manifest, len + (M_HEAD << 10), owner);
    for (uint32_t i = 0; holds && i < kho_load32(manifest + M_SEGMENTS); i++) {
        const uint8_t *segment = manifest + M_HEAD + (size_t)i * M_SEGMENT_SIZE;
        bool sealed = segment[S_SEALED] != 0;
        segment_scan(ret_scan, disk, owner, kho_load64(segment + S_ID),
                     sealed ? kho_load64(segment + S_END) : UINT64_MAX);
    }
    free(manifest);
    records_sort(ret_scan);
    return holds;
}

void medium_scan_fini(struct medium_scan *scan)
{
    free(scan->records);
    free(scan->keys);
    memset(scan, 0, sizeof *scan);
}

bool medium_scan_is_newest(const struct medium_scan *scan, size_t i)
{
    const struct medium_record *r = &scan->records[i], *next = r + 1;
    return i + 1 == scan->count ||
           key_order(r->collection, scan->keys + r->key_at, r->key_len, next->collection,
                     scan->keys + next->key_at, next->key_len) != 0;
}

const struct medium_record *medium_scan_newest(const struct medium_scan *scan, uint32_t collection,
                                               const void *key, size_t key_len)
{
    size_t from = 0, to = scan->count; /* the last one at or below the key is in [from, to) */
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        const struct medium_record *r = &scan->records[middle];
        if (key_order(r->collection, scan->keys + r->key_at, r->key_len, collection, key,
                      key_len) <= 0)
            from = middle + 1;
        else
            to = middle;
    }
    if (from == 0)
        return NULL;
    const struct medium_record *r = &scan->records[from - 1];
    return key_order(r->collection, scan->keys + r->key_at, r->key_len, collection, key, key_len) ==
                   0
               ? r
               : NULL;
}
