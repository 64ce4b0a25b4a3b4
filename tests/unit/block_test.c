/* block_test.c: blocks as bytes: what is written is read back, and no changed byte goes unnoticed.
 */
#include "node/block.h"
#include "unit.h"

static const struct identity OURS = {.cluster = {{1}}, .incarnation = {{2}}, .shard = 3};

static uint32_t raw_fill(uint8_t *raw, uint32_t room, bool random, uint32_t *ret_records)
{
    struct kho_random generator;
    uint32_t used = 0, records = 0;
    uint8_t value[300];
    kho_random_init(&generator, 4);
    for (;; records++) {
        for (size_t i = 0; i < sizeof value; i++)
            value[i] = random ? (uint8_t)(kho_random_next(&generator) >> 40) : (uint8_t)(i % 7);
        struct record r = {.collection = 1,
                           .key_len = 3,
                           .version = {.counter = records + 1},
                           .raw_len = sizeof value,
                           .stored_len = sizeof value,
                           .hash = content_hash(value, sizeof value),
                           .key = (const uint8_t *)"key",
                           .value = value};
        if (used + record_size(&r) > room)
            break;
        used += (uint32_t)record_encode(&r, raw + used);
    }
    *ret_records = records;
    return used;
}

static uint32_t block_make(uint8_t *to, bool random, struct block_head *ret_head)
{
    static uint8_t raw[BLOCK_RAW_MAX];
    uint32_t records;
    uint32_t raw_len = raw_fill(raw, sizeof raw, random, &records);
    struct block_head head = {
        .sequence = 9, .segment = 5, .offset = 4288, .collection = 1, .records = records};
    head.raw_len = raw_len;
    head.stored_len = block_pack(raw, raw_len, to + BLOCK_HEAD, &head.codec);
    head.body_hash = hash128(to + BLOCK_HEAD, head.stored_len);
    block_head_encode(&head, &OURS, to);
    *ret_head = head;
    return BLOCK_HEAD + head.stored_len;
}

/* Heads, packed and plain bodies come back as they were. */
static void round_trip(void **state)
{
    static uint8_t block[BLOCK_HEAD + BLOCK_RAW_MAX], raw[BLOCK_RAW_MAX];
    (void)state;
    for (int random = 0; random < 2; random++) {
        struct block_head written, read;
        block_make(block, random != 0, &written);
        assert_int_equal(written.codec, random != 0 ? KHO_CODEC_NONE : KHO_CODEC_LZ4);
        assert_int_equal(block_head_decode(block, &OURS, &read), 0);
        assert_memory_equal(&read.body_hash, &written.body_hash, 16);
        assert_int_equal(read.sequence, 9);
        assert_int_equal(read.segment, 5);
        assert_int_equal(read.offset, 4288);
        assert_int_equal(read.records, written.records);
        assert_true(block_body_matches(&read, block + BLOCK_HEAD));
        assert_int_equal(block_unpack(&read, block + BLOCK_HEAD, raw), 0);
        struct record r;
        uint32_t offset = 0, count = 0;
        while (block_next(raw, read.raw_len, &offset, &r) == 1) {
            count++;
            assert_int_equal(r.version.counter, count);
            assert_true(record_value_matches(&r));
        }
        assert_int_equal(count, read.records);
        assert_int_equal(offset, read.raw_len);
    }
}

/* Records whose values came compressed aren't compressed once more, unless enough beside them is to
 * be had. */
static void compressed_values(void **state)
{
    static uint8_t raw[BLOCK_RAW_MAX], to[BLOCK_RAW_MAX], value[BLOCK_RAW_MAX], text[2000];
    (void)state;
    memset(value, 'v', sizeof value); /* what LZ4 would make small if it were asked */
    memset(text, 't', sizeof text);
    for (uint32_t plain = 0; plain <= 6; plain++) {
        struct record r = {.collection = 1,
                           .key_len = 3,
                           .codec = KHO_CODEC_LZ4,
                           .version = {.counter = 1, .writer = 2},
                           .raw_len = 60000,
                           .stored_len = 10000,
                           .key = (const uint8_t *)"key",
                           .value = value};
        uint32_t raw_len = (uint32_t)record_encode(&r, raw);
        uint8_t codec;
        for (uint32_t i = 0; i < plain; i++) {
            struct record small = r;
            small.codec = KHO_CODEC_NONE;
            small.raw_len = small.stored_len = 1000;
            small.value = text;
            raw_len += (uint32_t)record_encode(&small, raw + raw_len);
        }
        uint32_t stored = block_pack(raw, raw_len, to, &codec);
        assert_int_equal(codec, plain < 3 ? KHO_CODEC_NONE : KHO_CODEC_LZ4);
        assert_int_equal(stored == raw_len, plain < 3);
    }
}

/* Every flipped byte of head or body is noticed. */
static void flips(void **state)
{
    static uint8_t block[BLOCK_HEAD + BLOCK_RAW_MAX];
    struct block_head head, read;
    (void)state;
    uint32_t len = block_make(block, false, &head);
    for (uint32_t i = 0; i < len; i++)
        for (int bit = 0; bit < 8; bit += 7) {
            block[i] ^= (uint8_t)(1 << bit);
            int error = block_head_decode(block, &OURS, &read);
            if (i < BLOCK_HEAD)
                assert_true(error < 0);
            else
                assert_true(error == 0 && !block_body_matches(&read, block + BLOCK_HEAD));
            block[i] ^= (uint8_t)(1 << bit);
        }
}

/* Whole bytes of another cluster, folder or shard, and of a newer format, are told apart. */
static void foreign(void **state)
{
    static uint8_t block[BLOCK_HEAD + BLOCK_RAW_MAX];
    struct block_head head;
    struct identity other = OURS;
    (void)state;
    block_make(block, false, &head);
    other.cluster.bytes[3] = 1;
    assert_int_equal(block_head_decode(block, &other, &head), KHO_ECLUSTER);
    other = OURS;
    other.incarnation.bytes[3] = 1;
    assert_int_equal(block_head_decode(block, &other, &head), KHO_EINCARNATION);
    other = OURS;
    other.shard = 4;
    assert_int_equal(block_head_decode(block, &other, &head), KHO_ESHARD);
    kho_store16(block + 6, BLOCK_FORMAT + 1);
    struct kho_id checksum = hash128(block, 176);
    memcpy(block + 176, checksum.bytes, 16);
    assert_int_equal(block_head_decode(block, &OURS, &head), KHO_EVERSION);
}

/* Fields that break their rules are refused though the checksum is right. */
static void hostile(void **state)
{
    static const struct {
        uint32_t at, value;
    } bad[] = {{72, 0}, {72, 48},   {72, BLOCK_BODY_MAX + 1}, {76, 0}, {76, 20 << 10}, {80, 0},
               {84, 2}, {64, 4289}, {72, 17 << 10},           {88, 1}, {112, 1},       {168, 1}};
    static uint8_t block[BLOCK_HEAD + BLOCK_RAW_MAX], copy[BLOCK_HEAD];
    struct block_head head;
    (void)state;
    block_make(block, false, &head);
    for (size_t i = 0; i < KHO_COUNT_OF(bad); i++) {
        memcpy(copy, block, BLOCK_HEAD);
        kho_store32(copy + bad[i].at, bad[i].value);
        struct kho_id checksum = hash128(copy, 176);
        memcpy(copy + 176, checksum.bytes, 16);
        assert_int_equal(block_head_decode(copy, &OURS, &head), KHO_EMALFORMED);
    }
    /* A body that doesn't unpack to its length. */
    static uint8_t raw[BLOCK_RAW_MAX];
    block_make(block, false, &head);
    head.raw_len -= 1;
    assert_int_equal(block_unpack(&head, block + BLOCK_HEAD, raw), KHO_EMALFORMED);
    head.raw_len += 1;
    head.stored_len -= 5;
    assert_int_equal(block_unpack(&head, block + BLOCK_HEAD, raw), KHO_EMALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip), cmocka_unit_test(compressed_values), cmocka_unit_test(flips),
        cmocka_unit_test(foreign),    cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
