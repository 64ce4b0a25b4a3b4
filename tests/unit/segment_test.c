/* segment_test.c: heads of segments and commits as bytes, and whole commits judged: whole, torn,
 * damaged. */
#include "node/segment.h"
#include "unit.h"

static const struct identity OURS = {.cluster = {{1}}, .incarnation = {{2}}, .shard = 3};
enum { LENGTH = 16384, BLOCKS = 3, BODY = 4000, AT = 8192 };

/* A commit of three blocks of one random record each. */
static void commit_make(uint8_t *to, struct commit_head *ret_head)
{
    static uint8_t value[BODY - KHO_RECORD_HEAD - 1];
    struct kho_random random;
    uint32_t offset = COMMIT_HEAD;
    struct commit_head head = {.sequence = 12,
                               .segment = 5,
                               .offset = AT,
                               .durable = 10,
                               .epoch = 2,
                               .written_ms = 99,
                               .blocks = BLOCKS,
                               .records = BLOCKS,
                               .length = LENGTH,
                               .predecessor = {{7}}};
    struct kho_id checksum;
    memset(to, 0, LENGTH);
    kho_random_init(&random, 1);
    for (uint32_t b = 0; b < BLOCKS; b++) {
        for (size_t i = 0; i < sizeof value; i++)
            value[i] = (uint8_t)(kho_random_next(&random) >> 30);
        struct record r = {.collection = 1,
                           .key_len = 1,
                           .version = {.counter = b + 1},
                           .raw_len = sizeof value,
                           .stored_len = sizeof value,
                           .hash = content_hash(value, sizeof value),
                           .key = (const uint8_t *)"k",
                           .value = value};
        record_encode(&r, to + offset + BLOCK_HEAD);
        struct block_head block = {.sequence = 12,
                                   .segment = 5,
                                   .offset = AT + offset,
                                   .collection = 1,
                                   .raw_len = BODY,
                                   .stored_len = BODY,
                                   .records = 1};
        block.body_hash = hash128(to + offset + BLOCK_HEAD, BODY);
        block_head_encode(&block, &OURS, to + offset);
        commit_hash_head(&head.heads_hash, to + offset);
        offset += (uint32_t)block_span(BODY);
    }
    head.zero_sectors = zero_sectors(to + SECTOR, LENGTH - SECTOR);
    commit_head_encode(&head, &OURS, to, &checksum);
    *ret_head = head;
}

/* A segment's head comes back; every flipped byte of it is noticed. */
static void segment_head(void **state)
{
    uint8_t bytes[SEGMENT_HEAD];
    struct segment_head head = {
        .segment = 7, .size = 32u << 20, .created_ms = 5, .alignment = 4096};
    struct segment_head read;
    (void)state;
    segment_head_encode(&head, &OURS, bytes);
    assert_int_equal(segment_head_decode(bytes, &OURS, &read), 0);
    assert_int_equal(read.segment, head.segment);
    assert_int_equal(read.size, head.size);
    assert_int_equal(read.created_ms, head.created_ms);
    assert_int_equal(read.alignment, head.alignment);
    for (uint32_t i = 0; i < SEGMENT_HEAD; i++) {
        bytes[i] ^= 0x20;
        assert_true(segment_head_decode(bytes, &OURS, &read) < 0);
        bytes[i] ^= 0x20;
    }
}

/* A segment's head with a right checksum whose fields break their rules is refused. */
static void segment_hostile(void **state)
{
    static const struct {
        uint32_t at;
        uint64_t value;
    } bad[] = {{52, 256},
               {52, 131072},
               {52, 4096 + 512},
               {56, 0},
               {56, SEGMENT_UNIT + SECTOR},
               {56, SEGMENT_BYTES_MAX + (uint64_t)SEGMENT_UNIT},
               {72, 1}};
    uint8_t bytes[SEGMENT_HEAD];
    struct segment_head head = {.segment = 7, .size = 32u << 20, .alignment = 4096};
    struct segment_head read = {.segment = 99};
    (void)state;
    for (size_t i = 0; i < KHO_COUNT_OF(bad); i++) {
        segment_head_encode(&head, &OURS, bytes);
        if (bad[i].at == 52)
            kho_store32(bytes + 52, (uint32_t)bad[i].value);
        else
            kho_store64(bytes + bad[i].at, bad[i].value);
        struct kho_id hash = hash128(bytes, SEGMENT_HEAD - 16);
        memcpy(bytes + SEGMENT_HEAD - 16, hash.bytes, 16);
        assert_int_equal(segment_head_decode(bytes, &OURS, &read), KHO_EMALFORMED);
        assert_int_equal(read.segment, 99);
    }
}

/* A block whose head says that it ends behind its commit isn't followed; neither is one whose head
 * would lie across the commit's end. */
static void block_beyond_the_end(void **state)
{
    static uint8_t bytes[LENGTH];
    struct commit_head head;
    struct commit_check check;
    struct block_head block;
    uint32_t last = COMMIT_HEAD + 2 * (uint32_t)block_span(BODY), offset = last;
    (void)state;
    commit_make(bytes, &head);
    assert_int_equal(block_head_decode(bytes + last, &OURS, &block), 0);
    block.raw_len = block.stored_len = LENGTH - last - BLOCK_HEAD + 1;
    block_head_encode(&block, &OURS, bytes + last);
    assert_int_equal(commit_next_block(bytes, &head, &OURS, &offset, &block), KHO_EMALFORMED);
    assert_int_equal(offset, last);
    commit_check(bytes, &head, &OURS, &check);
    assert_false(check.whole);
    assert_false(check.torn);
    offset = LENGTH - BLOCK_HEAD + BLOCK_ALIGN;
    assert_int_equal(commit_next_block(bytes, &head, &OURS, &offset, &block), KHO_EMALFORMED);
    /* A commit that says it has more blocks than fit ends the same way. */
    commit_make(bytes, &head);
    head.blocks++;
    commit_check(bytes, &head, &OURS, &check);
    assert_false(check.whole);
}

/* A commit's head comes back; every flipped byte of it is noticed. */
static void commit_head(void **state)
{
    static uint8_t bytes[LENGTH];
    struct commit_head head, read;
    struct kho_id checksum;
    (void)state;
    commit_make(bytes, &head);
    assert_int_equal(commit_head_decode(bytes, &OURS, &read, &checksum), 0);
    assert_memory_equal(&read, &head, sizeof head);
    assert_memory_equal(checksum.bytes, bytes + COMMIT_HEAD - 16, 16);
    for (uint32_t i = 0; i < COMMIT_HEAD; i++) {
        bytes[i] ^= 0x20;
        assert_true(commit_head_decode(bytes, &OURS, &read, &checksum) < 0);
        bytes[i] ^= 0x20;
    }
}

/* No flipped byte of a commit leaves it whole, nor makes it torn. */
static void flips(void **state)
{
    static uint8_t bytes[LENGTH];
    struct commit_head head;
    struct commit_check check;
    (void)state;
    commit_make(bytes, &head);
    commit_check(bytes, &head, &OURS, &check);
    assert_true(check.whole && check.heads && check.padding && !check.torn);
    for (uint32_t i = COMMIT_HEAD; i < LENGTH; i++) {
        bytes[i] ^= 0x04;
        commit_check(bytes, &head, &OURS, &check);
        assert_false(check.whole);
        assert_false(check.torn);
        bytes[i] ^= 0x04;
    }
}

/* Sectors that stayed zero make a commit torn, whichever they are; beside other damage they don't.
 */
static void torn(void **state)
{
    static uint8_t whole[LENGTH], bytes[LENGTH];
    struct commit_head head;
    struct commit_check check;
    uint32_t data = COMMIT_HEAD + 3 * (uint32_t)block_span(BODY);
    (void)state;
    commit_make(whole, &head);
    for (uint32_t from = SECTOR; from < data; from += SECTOR)
        for (uint32_t count = 1; from + count * SECTOR <= LENGTH; count += 5) {
            memcpy(bytes, whole, LENGTH);
            memset(bytes + from, 0, (size_t)count * SECTOR);
            commit_check(bytes, &head, &OURS, &check);
            assert_false(check.whole);
            assert_true(check.torn);
        }
    /* The first block has a bit flipped, the last one sectors that are missing. */
    memcpy(bytes, whole, LENGTH);
    bytes[600] ^= 1;
    memset(bytes + data - 3 * SECTOR, 0, SECTOR);
    commit_check(bytes, &head, &OURS, &check);
    assert_false(check.torn);
    /* A sector that was all zero as written explains nothing. */
    head.zero_sectors += 1;
    memcpy(bytes, whole, LENGTH);
    memset(bytes + SECTOR, 0, SECTOR);
    commit_check(bytes, &head, &OURS, &check);
    assert_false(check.torn);
}

/* An empty commit is a mark: nothing but its head and zeros. */
static void mark(void **state)
{
    uint8_t bytes[4096] = {0};
    struct commit_head head = {.sequence = 2, .segment = 1, .offset = 4096, .length = 4096};
    struct commit_check check;
    struct kho_id checksum;
    (void)state;
    commit_head_encode(&head, &OURS, bytes, &checksum);
    commit_check(bytes, &head, &OURS, &check);
    assert_true(check.whole);
    bytes[4095] = 1;
    commit_check(bytes, &head, &OURS, &check);
    assert_false(check.whole);
}

/* Heads with a right checksum whose fields break their rules are refused. */
static void hostile(void **state)
{
    static const struct {
        uint32_t at, value;
    } bad[] = {{8, 0},           {72, 12},        {88, 0},  {88, 100}, {88, 21 << 20},
               {64, 8193},       {52, 10000},     {136, 2}, {92, 100}, {140, 1},
               {12, 0x40000000}, {84, 0x40000000}}; /* above what rises ever reaches */
    static uint8_t bytes[LENGTH];
    struct commit_head head;
    struct kho_id checksum;
    (void)state;
    for (size_t i = 0; i < KHO_COUNT_OF(bad); i++) {
        commit_make(bytes, &head);
        kho_store32(bytes + bad[i].at, bad[i].value);
        struct kho_id hash = hash128(bytes, 176);
        memcpy(bytes + 176, hash.bytes, 16);
        assert_int_equal(commit_head_decode(bytes, &OURS, &head, &checksum), KHO_EMALFORMED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segment_head),
        cmocka_unit_test(segment_hostile),
        cmocka_unit_test(block_beyond_the_end),
        cmocka_unit_test(commit_head),
        cmocka_unit_test(flips),
        cmocka_unit_test(torn),
        cmocka_unit_test(mark),
        cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
