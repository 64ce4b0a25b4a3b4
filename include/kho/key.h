/* key.h: the hash of a key, its partition, and the bits that the index keeps.
 *
 * Key hash: XXH3-128 over collection id (4 bytes, little-endian) and key, seeded with the cluster's
 * seed, which makes crafted collisions hard. Partition: low 64 bits of the same hash over the
 * collection id and the *placement key*, modulo P (a power of two). The placement key is the key up
 * to and without the collection's first separator byte, by default the whole key.
 *
 * Tag: the 72 bits by which the index of one (collection, partition) knows a key: all 64 high bits
 * of the key hash, and the top 8 of the low ones; neither takes part in choosing the partition
 * (P <= 2^16). Order by tag is the order of listing. */
#ifndef KHO_KEY_H
#define KHO_KEY_H

#include <kho/base.h>
#include <kho/hash.h>

#define KHO_KEY_MAX        1024u
#define KHO_VALUE_MAX      (16u << 20)
#define KHO_NAME_MAX       64u
#define KHO_NO_SEPARATOR   0xFFFFu
#define KHO_PARTITIONS_MAX (1u << 13)

struct key_hash {
    uint64_t low;
    uint64_t high;
};

struct key_tag {
    uint64_t high;
    uint8_t low;
};

static inline struct key_hash key_hash(uint32_t collection, const void *key, size_t key_len,
                                       uint64_t seed)
{
    uint8_t bytes[4 + KHO_KEY_MAX];
    KHO_ASSERT(key_len <= KHO_KEY_MAX);
    kho_store32(bytes, collection);
    memcpy(bytes + 4, key, key_len);
    XXH128_hash_t h = XXH3_128bits_withSeed(bytes, 4 + key_len, seed);
    return (struct key_hash){.low = h.low64, .high = h.high64};
}

/* The partition of a key whose hash is known: hashes again only where the collection has a
 * separator (a byte value, or KHO_NO_SEPARATOR) and the key contains it. */
static inline uint32_t key_partition(uint32_t collection, const void *key, size_t key_len,
                                     uint64_t seed, uint16_t separator, uint32_t partitions,
                                     struct key_hash hash)
{
    if (separator != KHO_NO_SEPARATOR) {
        const char *end = (const char *)memchr(key, separator, key_len);
        if (end != NULL)
            hash = key_hash(collection, key, (size_t)(end - (const char *)key), seed);
    }
    return (uint32_t)(hash.low & (partitions - 1));
}

static inline struct key_tag key_tag(struct key_hash hash)
{
    return (struct key_tag){.high = hash.high, .low = (uint8_t)(hash.low >> 56)};
}
static inline int key_tag_compare(struct key_tag a, struct key_tag b)
{
    if (a.high != b.high)
        return a.high < b.high ? -1 : 1;
    return (int)a.low - (int)b.low;
}

/* The content hash: XXH3-128, unseeded, of the uncompressed value, in XXH's canonical byte order.
 * It finds damage; it is no proof against forgery. */
static inline struct kho_id content_hash(const void *value, size_t len)
{
    struct kho_id id;
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(value, len));
    memcpy(id.bytes, canonical.digest, sizeof id.bytes);
    return id;
}

static inline bool key_name_valid(const char *name, size_t len)
{
    if (len < 1 || len > KHO_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool ok =
            (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        if (!ok)
            return false;
    }
    return true;
}

#endif
