/* segment.c: encodes and checks the heads of segments and commits, and judges a commit as a whole
 * (layouts: segment.h).
 *
 * commit_check() follows the blocks of a commit and says whether it is whole, torn or damaged; the
 * caller knows whether it was durable once and draws the conclusion (recover.c). */
#include "segment.h"

#include <assert.h>

enum {
    AT_SEGMENT = 56, /* of a commit */
    AT_CLUSTER = 16,
    AT_INCARNATION = 32,
    AT_SHARD = 48,
    AT_COMMIT_CHECKSUM = 176,
    AT_COMMIT_RESERVED = 140,
    AT_SEGMENT_CHECKSUM = SEGMENT_HEAD - 16,
    AT_SEGMENT_RESERVED = 72
};
static_assert(AT_COMMIT_CHECKSUM + 16 == COMMIT_HEAD, "the checksum ends the head");
static_assert(COMMIT_HEAD % BLOCK_ALIGN == 0, "the first block follows its commit's head");
static_assert(BLOCK_BODY_MAX + BLOCK_HEAD + COMMIT_HEAD + (2 << 20) < COMMIT_BYTES_MAX,
              "a commit holds its target and one more record");

void unit_head_begin(uint8_t *to, uint32_t magic, uint64_t at8, const struct identity *identity)
{
    kho_store32(to, magic);
    kho_store16(to + 4, 1);
    kho_store16(to + 6, 1);
    kho_store64(to + 8, at8);
    memcpy(to + AT_CLUSTER, identity->cluster.bytes, 16);
    memcpy(to + AT_INCARNATION, identity->incarnation.bytes, 16);
    kho_store32(to + AT_SHARD, identity->shard);
}

int unit_head_check(const uint8_t *from, uint32_t magic, size_t checksum_at, uint16_t format,
                    const struct identity *identity)
{
    if (kho_load32(from) != magic)
        return KHO_EMALFORMED;
    struct kho_id checksum = hash128(from, checksum_at);
    if (memcmp(checksum.bytes, from + checksum_at, 16) != 0)
        return KHO_ECHECKSUM;
    if (kho_load16(from + 6) > format)
        return KHO_EVERSION;
    if (memcmp(from + AT_CLUSTER, identity->cluster.bytes, 16) != 0)
        return KHO_ECLUSTER;
    if (memcmp(from + AT_INCARNATION, identity->incarnation.bytes, 16) != 0)
        return KHO_EINCARNATION;
    return kho_load32(from + AT_SHARD) == identity->shard ? 0 : KHO_ESHARD;
}

static bool alignment_valid(uint32_t alignment)
{
    return alignment >= SECTOR && alignment <= 65536 && (alignment & (alignment - 1)) == 0;
}

void segment_head_encode(const struct segment_head *head, const struct identity *identity,
                         uint8_t *to)
{
    KHO_ASSERT(alignment_valid(head->alignment));
    memset(to, 0, SEGMENT_HEAD);
    unit_head_begin(to, SEGMENT_MAGIC, head->segment, identity);
    kho_store32(to + 52, head->alignment);
    kho_store64(to + 56, head->size);
    kho_store64(to + 64, head->created_ms);
    struct kho_id checksum = hash128(to, AT_SEGMENT_CHECKSUM);
    memcpy(to + AT_SEGMENT_CHECKSUM, checksum.bytes, 16);
}

int segment_head_decode(const uint8_t *from, const struct identity *identity,
                        struct segment_head *ret_head)
{
    int error = unit_head_check(from, SEGMENT_MAGIC, AT_SEGMENT_CHECKSUM, SEGMENT_FORMAT, identity);
    if (error != 0)
        return error;
    struct segment_head h = {
        .segment = kho_load64(from + 8),
        .alignment = kho_load32(from + 52),
        .size = kho_load64(from + 56),
        .created_ms = kho_load64(from + 64),
    };
    if (!alignment_valid(h.alignment) || h.size % SEGMENT_UNIT != 0 || h.size == 0 ||
        h.size > SEGMENT_BYTES_MAX ||
        !all_zero(from + AT_SEGMENT_RESERVED, AT_SEGMENT_CHECKSUM - AT_SEGMENT_RESERVED))
        return KHO_EMALFORMED;
    *ret_head = h;
    return 0;
}

void commit_head_encode(const struct commit_head *head, const struct identity *identity,
                        uint8_t *to, struct kho_id *ret_checksum)
{
    KHO_ASSERT(head->length >= COMMIT_HEAD && head->length % SECTOR == 0);
    memset(to, 0, COMMIT_HEAD);
    unit_head_begin(to, COMMIT_MAGIC, head->sequence, identity);
    kho_store32(to + 52, head->blocks);
    kho_store64(to + AT_SEGMENT, head->segment);
    kho_store64(to + 64, head->offset);
    kho_store64(to + 72, head->durable);
    kho_store64(to + 80, head->epoch);
    kho_store32(to + 88, head->length);
    kho_store32(to + 92, head->zero_sectors);
    memcpy(to + 96, head->predecessor.bytes, 16);
    memcpy(to + 112, head->heads_hash.bytes, 16);
    kho_store64(to + 128, head->written_ms);
    kho_store32(to + 136, head->records);
    struct kho_id checksum = hash128(to, AT_COMMIT_CHECKSUM);
    memcpy(to + AT_COMMIT_CHECKSUM, checksum.bytes, 16);
    *ret_checksum = checksum;
}

int commit_head_decode(const uint8_t *from, const struct identity *identity,
                       struct commit_head *ret_head, struct kho_id *ret_checksum)
{
    int error = unit_head_check(from, COMMIT_MAGIC, AT_COMMIT_CHECKSUM, COMMIT_FORMAT, identity);
    if (error != 0)
        return error;
    struct commit_head h = {
        .sequence = kho_load64(from + 8),
        .blocks = kho_load32(from + 52),
        .segment = kho_load64(from + AT_SEGMENT),
        .offset = kho_load64(from + 64),
        .durable = kho_load64(from + 72),
        .epoch = kho_load64(from + 80),
        .length = kho_load32(from + 88),
        .zero_sectors = kho_load32(from + 92),
        .written_ms = kho_load64(from + 128),
        .records = kho_load32(from + 136),
    };
    memcpy(h.predecessor.bytes, from + 96, 16);
    memcpy(h.heads_hash.bytes, from + 112, 16);
    if (h.sequence == 0 || h.sequence > RISING_MAX || h.epoch > RISING_MAX ||
        h.durable >= h.sequence || h.length < SECTOR || h.length % SECTOR != 0 ||
        h.length > COMMIT_BYTES_MAX || h.offset % SECTOR != 0 || h.blocks > h.length / BLOCK_HEAD ||
        h.records < h.blocks || h.zero_sectors > h.length / SECTOR ||
        !all_zero(from + AT_COMMIT_RESERVED, AT_COMMIT_CHECKSUM - AT_COMMIT_RESERVED))
        return KHO_EMALFORMED;
    *ret_head = h;
    memcpy(ret_checksum->bytes, from + AT_COMMIT_CHECKSUM, 16);
    return 0;
}

bool all_zero(const uint8_t *bytes, size_t len)
{
    size_t i = 0;
    for (; i + 32 <= len; i += 32) {
        uint64_t any = kho_load64(bytes + i) | kho_load64(bytes + i + 8) |
                       kho_load64(bytes + i + 16) | kho_load64(bytes + i + 24);
        if (any != 0)
            return false;
    }
    for (; i < len; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

uint32_t zero_sectors(const uint8_t *bytes, size_t len)
{
    uint32_t count = 0;
    KHO_ASSERT(len % SECTOR == 0);
    for (size_t i = 0; i < len; i += SECTOR)
        count += all_zero(bytes + i, SECTOR);
    return count;
}

int commit_next_block(const uint8_t *commit, const struct commit_head *head,
                      const struct identity *identity, uint32_t *offset,
                      struct block_head *ret_block)
{
    struct block_head block;
    if (*offset + BLOCK_HEAD > head->length)
        return KHO_EMALFORMED;
    int error = block_head_decode(commit + *offset, identity, &block);
    if (error != 0)
        return error;
    if (block.segment != head->segment || block.sequence != head->sequence ||
        block.offset != head->offset + *offset)
        return KHO_EMALFORMED;
    uint64_t end = *offset + block_span(block.stored_len);
    if (end > kho_round_up(head->length, BLOCK_ALIGN))
        return KHO_EMALFORMED;
    *ret_block = block;
    *offset = (uint32_t)end;
    return 1;
}

/* True if a sector that [from, to) of the commit touches is all zero. */
static bool zero_sector_within(const uint8_t *commit, uint32_t from, uint32_t to)
{
    for (uint32_t at = from / SECTOR * SECTOR; at < to; at += SECTOR)
        if (all_zero(commit + at, SECTOR))
            return true;
    return false;
}

void commit_hash_head(struct kho_id *heads_hash, const uint8_t *block_head)
{
    uint8_t bytes[16 + BLOCK_HEAD];
    memcpy(bytes, heads_hash->bytes, 16);
    memcpy(bytes + 16, block_head, BLOCK_HEAD);
    *heads_hash = hash128(bytes, sizeof bytes);
}

/* Follows the blocks; false where one can't be followed. */
static bool check_blocks(const uint8_t *commit, const struct commit_head *head,
                         const struct identity *identity, struct commit_check *check)
{
    struct kho_id heads_hash = {{0}};
    uint32_t offset = COMMIT_HEAD;
    for (uint32_t i = 0; i < head->blocks; i++) {
        struct block_head block;
        uint32_t at = offset;
        check->walked = at;
        if (commit_next_block(commit, head, identity, &offset, &block) != 1) {
            uint32_t end = at + BLOCK_HEAD < head->length ? at + BLOCK_HEAD : head->length;
            check->torn = check->torn && zero_sector_within(commit, at, end);
            return false;
        }
        uint32_t body_end = at + BLOCK_HEAD + block.stored_len;
        uint32_t end = offset < head->length ? offset : head->length;
        commit_hash_head(&heads_hash, commit + at);
        check->padding = check->padding && all_zero(commit + body_end, end - body_end);
        if (!block_body_matches(&block, commit + at + BLOCK_HEAD)) {
            check->bad_blocks++;
            check->torn = check->torn && zero_sector_within(commit, at, body_end);
        }
    }
    check->walked = offset < head->length ? offset : head->length;
    if (!kho_id_equal(&heads_hash, &head->heads_hash)) {
        check->torn = false;
        return false;
    }
    return true;
}

void commit_check(const uint8_t *commit, const struct commit_head *head,
                  const struct identity *identity, struct commit_check *ret_check)
{
    struct commit_check check = {.padding = true, .torn = true};
    check.heads = check_blocks(commit, head, identity, &check);
    if (check.heads && !all_zero(commit + check.walked, head->length - check.walked))
        check.padding = false;
    check.whole = check.heads && check.bad_blocks == 0 && check.padding;
    check.torn = !check.whole && check.torn && check.padding &&
                 zero_sectors(commit, head->length) > head->zero_sectors;
    *ret_check = check;
}
