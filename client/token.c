/* token.c: the token of a write that ended in doubt.
 *
 *   off len field
 *     0   4 magic "khoT"
 *     4   1 format     1
 *     5   1 flags      1: a deletion
 *     6   2 reserved, 0
 *     8   8 counter    of the version, 1 to KHO_COUNTER_MAX
 *    16   4 writer
 *    20   4 value_len
 *    24  16 key        XXH3-128 over the key, seeded with the XXH3-64 of the collection's name
 *    40  16 content    content hash of the value, zero for a deletion
 *    56   8 XXH3-64 of the 56 bytes before
 *
 * It names the collection by name and needs no map, so that a token handed in again is checked at
 * submission. */
#include "item.h"

#define TOKEN_MAGIC     0x546F686Bu
#define TOKEN_TOMBSTONE 1u

static void token_key(const struct item *item, uint8_t *to)
{
    const char *name = item->call->name;
    XXH128_canonical_t canonical;
    uint64_t seed = XXH3_64bits(name, strlen(name));
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSeed(item->key, item->key_len, seed));
    memcpy(to, canonical.digest, 16);
}

static void token_encode(const struct item *item, uint8_t *to)
{
    memset(to, 0, sizeof(struct kho_token));
    kho_store32(to, TOKEN_MAGIC);
    to[4] = 1;
    to[5] = item->tombstone ? TOKEN_TOMBSTONE : 0;
    kho_store64(to + 8, item->version.counter);
    kho_store32(to + 16, item->version.writer);
    kho_store32(to + 20, item->value_len);
    token_key(item, to + 24);
    memcpy(to + 40, item->content.bytes, 16);
    kho_store64(to + 56, XXH3_64bits(to, 56));
}

void token_make(const struct item *item, struct kho_token *ret)
{
    token_encode(item, ret->bytes);
}

int token_check(const struct kho_token *token, struct item *item)
{
    struct version before = item->version;
    struct kho_token expected;
    item->version = (struct version){.counter = kho_load64(token->bytes + 8),
                                     .writer = kho_load32(token->bytes + 16)};
    if (item->version.counter >= 1 && item->version.counter <= KHO_COUNTER_MAX) {
        token_encode(item, expected.bytes);
        if (memcmp(expected.bytes, token->bytes, sizeof expected.bytes) == 0)
            return 0;
    }
    item->version = before;
    return KHO_ETOKEN;
}
