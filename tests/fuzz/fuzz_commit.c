/* Commits and blocks as a damaged disk could give them: as they are, and with the heads' checksums
 * mended, so that what is behind the checksums is reached. */
#include "fuzz.h"

#include <kho/hash.h>

#include "node/segment.h"

enum { COMMIT_ROOM = 16384 };

static const struct identity g_identity = {.cluster = {{1}}, .incarnation = {{2}}, .shard = 0};
static volatile uint64_t g_sink;

static void mend(uint8_t *head)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(head, 176));
    memcpy(head + 176, canonical.digest, 16);
}
static void walk_records(const uint8_t *body, const struct block_head *block)
{
    uint8_t *raw = malloc(block->raw_len);
    struct record record;
    uint32_t at = 0;
    if (raw == NULL)
        return;
    if (block_unpack(block, body, raw) == 0)
        while (block_next(raw, block->raw_len, &at, &record) > 0)
            g_sink += record.key[record.key_len - 1];
    free(raw);
}
static void look(const uint8_t *bytes, size_t len)
{
    struct commit_head head;
    struct commit_check check;
    struct kho_id checksum;
    struct block_head block;
    if (len < COMMIT_HEAD || commit_head_decode(bytes, &g_identity, &head, &checksum) != 0 ||
        head.length > len)
        return;
    commit_check(bytes, &head, &g_identity, &check);
    KHO_ASSERT(!(check.whole && check.torn));
    uint32_t at = COMMIT_HEAD;
    for (;;) {
        if (commit_next_block(bytes, &head, &g_identity, &at, &block) <= 0)
            break;
        const uint8_t *body = bytes + (block.offset - head.offset) + BLOCK_HEAD;
        g_sink += block_body_matches(&block, body);
        walk_records(body, &block);
    }
}
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    look(bytes, len);
    if (len < COMMIT_HEAD + BLOCK_HEAD)
        return 0;
    uint8_t *mended = malloc(len);
    if (mended == NULL)
        return 0;
    memcpy(mended, bytes, len);
    mend(mended);
    mend(mended + COMMIT_HEAD);
    look(mended, len);
    free(mended);
    return 0;
}
size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    uint8_t raw[4096];
    uint32_t raw_len = 0, records = 0;
    if (n > 1 || max < COMMIT_ROOM)
        return 0;
    for (uint32_t i = 0; i < 12; i++) {
        struct record record = {
            .collection = 1 + (n == 1 ? i % 2 : 0),
            .key_len = 5,
            .version = {100 + i, i},
            .raw_len = 100,
            .stored_len = 100,
            .key = (const uint8_t *)"key-0",
            .value = (const uint8_t *)"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                      "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
                                      "cccccc"};
        record.hash = content_hash(record.value, 100);
        raw_len += (uint32_t)record_encode(&record, raw + raw_len);
        records++;
    }
    memset(to, 0, COMMIT_ROOM);
    struct block_head block = {.sequence = 5,
                               .segment = 3,
                               .offset = 4096 + COMMIT_HEAD,
                               .collection = n == 1 ? 0 : 1,
                               .raw_len = raw_len,
                               .records = records};
    uint8_t *body = to + COMMIT_HEAD + BLOCK_HEAD;
    block.stored_len = block_pack(raw, raw_len, body, &block.codec);
    block.body_hash = hash128(body, block.stored_len);
    block_head_encode(&block, &g_identity, to + COMMIT_HEAD);
    struct commit_head head = {
        .sequence = 5,
        .segment = 3,
        .offset = 4096,
        .durable = 4,
        .epoch = 1,
        .blocks = 1,
        .length = (uint32_t)kho_round_up(COMMIT_HEAD + block_span(block.stored_len), 4096),
        .records = records};
    commit_hash_head(&head.heads_hash, to + COMMIT_HEAD);
    to[0] = 1; /* the head will fill the first sector */
    head.zero_sectors = zero_sectors(to, head.length);
    struct kho_id checksum;
    commit_head_encode(&head, &g_identity, to, &checksum);
    struct commit_check check;
    commit_check(to, &head, &g_identity, &check);
    KHO_ASSERT(check.whole);
    return head.length;
}
