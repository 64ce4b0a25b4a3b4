/* Are the token and the cursor that a caller hands in again, whatever became of their bytes, taken
 * for what they say, or refused? A token that is taken is the one of that very write.
 *
 * Input: cursor 16, token 64, mended 1, key length 1, key, value. */
#include "fuzz.h"

#include <errno.h>

#include "client/client.h"
#include "client/item.h"

static struct client *g_client;
static const struct kho_now g_now = {.mono_ns = 1000000000, .wall_ms = 1700000000000};

static uint32_t drained(void)
{
    struct client_done done;
    uint32_t count = 0;
    while (client_next_done(g_client, &done))
        count++;
    return count;
}

static void cursor_look(const uint8_t *bytes)
{
    static const uint8_t zero[sizeof(struct kho_cursor)];
    struct kho_cursor cursor;
    kho_call_id call;
    memcpy(cursor.bytes, bytes, sizeof cursor.bytes);
    int status = client_list(g_client, "people", &cursor, 10, 0, 100, NULL, g_now, &call);
    KHO_ASSERT(status == 0 || status == -EINVAL);
    bool start = memcmp(bytes, zero, sizeof zero) == 0;
    if (!start && (bytes[13] != 1 || kho_load32(bytes) > KHO_PARTITIONS_MAX))
        KHO_ASSERT(status == -EINVAL);
    if (status == 0)
        client_cancel(g_client, call, g_now);
    KHO_ASSERT(drained() == (status == 0));
}

/* The same write by the core's own hand. */
static void token_look(const struct kho_item *given, bool tombstone)
{
    struct records call = {.name = "people"};
    struct item item = {.call = &call,
                        .key = given->key,
                        .key_len = (uint16_t)given->key_len,
                        .value_len = tombstone ? 0 : (uint32_t)given->value_len,
                        .tombstone = tombstone};
    struct kho_token again;
    kho_call_id id;
    if (!tombstone)
        item.content = content_hash(given->value, given->value_len);
    bool good = token_check(given->token, &item) == 0;
    if (good) {
        token_make(&item, &again);
        KHO_ASSERT(memcmp(&again, given->token, sizeof again) == 0);
        KHO_ASSERT(item.version.counter >= 1 && item.version.counter <= KHO_COUNTER_MAX);
    } else {
        KHO_ASSERT(item.version.counter == 0 && item.version.writer == 0);
    }
    int status = client_records(g_client, tombstone ? CLIENT_DEL : CLIENT_PUT, "people", given, 1,
                                100, NULL, g_now, &id);
    KHO_ASSERT(status == (good ? 0 : KHO_ETOKEN));
    if (status == 0)
        client_cancel(g_client, id, g_now);
    KHO_ASSERT(drained() == good);
}

static void token_mend(struct kho_token *token, const struct kho_item *item, bool tombstone)
{
    uint8_t *to = token->bytes;
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(
        &canonical, XXH3_128bits_withSeed(item->key, item->key_len, XXH3_64bits("people", 6)));
    kho_store32(to, 0x546F686Bu);
    kho_store32(to + 20, tombstone ? 0 : (uint32_t)item->value_len);
    memcpy(to + 24, canonical.digest, 16);
    memset(to + 40, 0, 16);
    if (!tombstone)
        memcpy(to + 40, content_hash(item->value, item->value_len).bytes, 16);
    kho_store64(to + 56, XXH3_64bits(to, 56));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct kho_options options = {.struct_size = sizeof options, .cluster = "node-a:7000"};
    struct fuzz_input in = {bytes, len};
    size_t key_len, value_len, got;
    struct kho_token token = {{0}};
    uint8_t cursor[sizeof(struct kho_cursor)] = {0};
    const uint8_t *from = fuzz_take_bytes(&in, sizeof cursor, &got);
    if (g_client == NULL)
        KHO_ASSERT(client_create(&options, 1, g_now, &g_client) == 0);
    memcpy(cursor, from, got);
    from = fuzz_take_bytes(&in, sizeof token, &got);
    memcpy(token.bytes, from, got);
    uint8_t mended = (uint8_t)fuzz_take(&in, 1);
    const uint8_t *key = fuzz_take_bytes(&in, (size_t)fuzz_take(&in, 1), &key_len);
    const uint8_t *value = fuzz_take_bytes(&in, SIZE_MAX, &value_len);
    cursor_look(cursor);
    if (key_len == 0)
        return 0;
    struct kho_item item = {
        .key = key, .key_len = key_len, .value = value, .value_len = value_len, .token = &token};
    bool tombstone = (mended & 2) != 0;
    if ((mended & 1) != 0)
        token_mend(&token, &item, tombstone);
    token_look(&item, tombstone);
    return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    if (n > 3 || max < 128)
        return 0;
    memset(to, 0, 100);
    kho_store32(to, 3);
    to[12] = 7;
    to[13] = 1;
    to[16 + 4] = 1;
    to[16 + 5] = n > 1;
    kho_store64(to + 16 + 8, 1700000000000ull << 20);
    kho_store32(to + 16 + 16, 5);
    to[80] = (uint8_t)(n == 0 ? 0 : 1 + (n > 1 ? 2 : 0));
    to[81] = 3;
    memcpy(to + 82, "keyvalue", 8);
    return 90;
}
