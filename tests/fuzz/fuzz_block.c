/* Does the body of a block, however it was changed, unpack to records or to an error, and does each
 * value that its writer compressed unpack alike as a whole and piece by piece?
 *
 * Input: raw length 4, codec 1, then the body as stored. */
#include "fuzz.h"

#include <kho/piece.h>

#include "node/block.h"

enum { FIXED = 5 };

static const struct identity g_identity = {.cluster = {{1}}, .incarnation = {{2}}, .shard = 0};
static uint8_t g_piece[KHO_PIECE_MAX];

/* What a reader does with a value in one go, and what a receiver does as it comes in. */
static void value_look(const struct record *record)
{
    static uint8_t raw[1 << 17];
    struct value_check check;
    if (record_is_tombstone(record) || record->raw_len > sizeof raw)
        return;
    struct record mended = *record;
    bool unpacks = value_unpack(record, raw) == 0;
    if (unpacks)
        mended.hash = content_hash(raw, record->raw_len);
    KHO_ASSERT(value_matches(&mended, g_piece) == unpacks);
    value_check_begin(&check);
    for (uint32_t have = 0; have < record->stored_len;) {
        have = (uint32_t)kho_min((uint64_t)have + 1 + have % 97, record->stored_len);
        value_check_go(&check, &mended, have, g_piece);
    }
    KHO_ASSERT(value_check_end(&check, &mended) == unpacks);
    if (!unpacks || record->raw_len == 0)
        return;
    static uint8_t packed[sizeof raw], back[sizeof raw];
    mended.stored_len = value_pack(raw, record->raw_len, packed);
    if (mended.stored_len == 0)
        return;
    mended.codec = KHO_CODEC_LZ4;
    mended.value = packed;
    KHO_ASSERT(value_unpack(&mended, back) == 0);
    KHO_ASSERT(memcmp(back, raw, record->raw_len) == 0);
}

static void records(const struct block_head *head, const uint8_t *raw)
{
    struct record record;
    uint32_t at = 0, before = 0, count = 0;
    while (block_next(raw, head->raw_len, &at, &record) > 0) {
        KHO_ASSERT(at > before && at <= head->raw_len);
        before = at;
        count++;
        value_look(&record);
    }
    KHO_ASSERT(count <= head->raw_len / (KHO_RECORD_HEAD + 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    uint8_t encoded[BLOCK_HEAD];
    if (len <= FIXED)
        return 0;
    struct block_head head = {.sequence = 1,
                              .segment = 1,
                              .offset = 4096 + 192,
                              .raw_len = kho_load32(bytes),
                              .codec = bytes[4],
                              .stored_len = (uint32_t)(len - FIXED),
                              .records = 1};
    if (head.codec == 0)
        head.raw_len = head.stored_len;
    if (head.stored_len > head.raw_len)
        return 0;
    head.body_hash = hash128(bytes + FIXED, head.stored_len);
    /* Only what passes the head's own rules is unpacked. */
    block_head_encode(&head, &g_identity, encoded);
    if (block_head_decode(encoded, &g_identity, &head) != 0)
        return 0;
    uint8_t *body = fuzz_copy(bytes + FIXED, head.stored_len), *raw = malloc(head.raw_len);
    KHO_ASSERT(raw != NULL);
    KHO_ASSERT(block_body_matches(&head, body));
    if (block_unpack(&head, body, raw) == 0)
        records(&head, raw);
    free(raw);
    free(body);
    return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    static uint8_t raw[BLOCK_RAW_MAX], value[3000], packed[3000];
    uint32_t raw_len = 0;
    if (n > 3 || max < sizeof raw + FIXED)
        return 0;
    for (uint32_t i = 0; i < sizeof value; i++)
        value[i] = (uint8_t)(i / 64 % 3 + 'a');
    for (uint32_t i = 0; i < (n < 2 ? 8 : 1); i++) {
        struct record record = {.collection = 1,
                                .key_len = 5,
                                .version = {100 + i, i},
                                .raw_len = 120,
                                .stored_len = 120,
                                .key = (const uint8_t *)"key-0",
                                .value = value};
        record.hash = content_hash(value, record.raw_len);
        if (i == 3) {
            record.flags = KHO_RECORD_TOMBSTONE;
            record.raw_len = record.stored_len = 0;
            record.hash = (struct kho_id){{0}};
        } else if (n > 0) {
            record.codec = KHO_CODEC_LZ4;
            record.raw_len = n == 3 ? sizeof value : 1500;
            record.stored_len = value_pack(value, record.raw_len, packed);
            record.value = packed;
            record.hash = content_hash(value, record.raw_len);
        }
        raw_len += (uint32_t)record_encode(&record, raw + raw_len);
    }
    uint8_t codec;
    uint32_t stored = block_pack(raw, raw_len, to + FIXED, &codec);
    kho_store32(to, raw_len);
    to[4] = codec;
    return FIXED + stored;
}
