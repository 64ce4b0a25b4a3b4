/* compressed_test.c: values that their writer compressed, at a node: checked against the content
 * hash of the raw value wherever they come in, kept and given back as they came. */
#include "serving.h"

#include <kho/piece.h>

#include <lz4.h>

static struct serving_frame frame;
static uint8_t raw_value[KHO_VALUE_MAX], packed[KHO_VALUE_MAX];

/* A record of `len` raw bytes that compress, its value in `packed`. */
static struct record record_packed(const char *key, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        raw_value[i] = (uint8_t)(i % 97 < 60 ? 'a' + i % 7 : (i * 2654435761u) >> 24);
    struct record record = {.collection = 1,
                            .key_len = (uint16_t)strlen(key),
                            .codec = KHO_CODEC_LZ4,
                            .version = {.counter = 100, .writer = 7},
                            .raw_len = len,
                            .stored_len = value_pack(raw_value, len, packed),
                            .hash = content_hash(raw_value, len),
                            .key = (const uint8_t *)key,
                            .value = packed};
    assert_true(record.stored_len > 0);
    return record;
}

/* What may be wrong with a value, and isn't seen in its record's head. */
enum spoil { SPOIL_NOTHING, SPOIL_HASH, SPOIL_PIECE, SPOIL_LENGTH, SPOIL_RAW, SPOIL_KINDS };

static void record_spoil(struct record *record, enum spoil spoil)
{
    if (spoil == SPOIL_HASH)
        record->hash.bytes[5] ^= 1;
    if (spoil == SPOIL_PIECE)
        memset(packed + KHO_PIECE_HEAD, 0xFF, 40); /* no LZ4 */
    if (spoil == SPOIL_LENGTH)
        kho_store32(packed, kho_load32(packed) + 1);
    if (spoil == SPOIL_RAW)
        record->raw_len--;
}

static int32_t expected_of(enum spoil spoil)
{
    return spoil == SPOIL_NOTHING ? 0 : KHO_ECHECKSUM;
}

static void frame_add_packed(struct serving_frame *f, const struct record *record)
{
    record_encode(record, frame_add(f, (uint32_t)record_size(record)));
}

/* What the store was given last is what came. */
static void stored_as_it_came(const struct record *sent)
{
    assert_true(fake->count > 0);
    const struct record *stored = &fake->records[fake->count - 1].record;
    assert_int_equal(stored->codec, KHO_CODEC_LZ4);
    assert_int_equal(stored->raw_len, sent->raw_len);
    assert_int_equal(stored->stored_len, sent->stored_len);
    assert_memory_equal(stored->value, sent->value, sent->stored_len);
}

/* In WRITE: each entry is checked by itself; what is read is what came. */
static void test_write(void **state)
{
    static const uint32_t lens[] = {1024, 65536, 65537, 200000};
    (void)state;
    for (size_t l = 0; l < KHO_COUNT_OF(lens); l++) {
        struct serving *s = serving_ready();
        struct wire_head head;
        frame_begin(&frame);
        for (int spoil = SPOIL_KINDS - 1; spoil >= 0; spoil--) {
            struct record record = record_packed("key-1", lens[l]);
            if (KHO_FRAME_MAX - frame.len < 2 * record_size(&record))
                continue;
            record_spoil(&record, (enum spoil)spoil);
            frame_add_packed(&frame, &record);
        }
        struct record good = record_packed("key-1", lens[l]);
        frame_add_packed(&frame, &good);
        uint32_t count = frame.count;
        uint64_t request = serving_send(s, 0, &frame, WIRE_WRITE, 0);
        serving_turn(s);
        const uint8_t *body = serving_expect(s, 0, request, 0, &head);
        assert_int_equal(head.count, count);
        if (lens[l] < 100000) {
            assert_int_equal(count, SPOIL_KINDS + 1);
            for (uint32_t i = 0; i < SPOIL_KINDS; i++)
                assert_int_equal(status_at(body, i), expected_of(SPOIL_KINDS - 1 - i));
            assert_int_equal(fake->count, 2); /* the good one came twice */
        }
        assert_int_equal(status_at(body, count - 1), 0);
        stored_as_it_came(&good);
        frame_begin(&frame);
        frame_add_read(&frame, s, 1, "key-1", KHO_READ_RECORD, false);
        request = serving_send(s, 0, &frame, WIRE_READ, 0);
        serving_turn(s);
        struct record read;
        body = serving_expect(s, 0, request, 0, &head);
        assert_int_equal(record_decode(body + WIRE_READ_ANSWER,
                                       head.length - KHO_FRAME_HEAD - WIRE_READ_ANSWER, &read),
                         record_size(&good));
        assert_memory_equal(read.value, packed, good.stored_len);
        serving_destroy(s);
    }
}

/* A head whose lengths can't be is a malformed frame. */
static void test_malformed(void **state)
{
    (void)state;
    for (int c = 0; c < 2; c++) {
        struct serving *s = serving_ready();
        struct wire_head head;
        struct record record = record_packed("key-1", 5000);
        if (c == 0)
            record.raw_len = record.stored_len;
        else
            record.raw_len = record.stored_len * 255;
        frame_begin(&frame);
        frame_add_packed(&frame, &record);
        uint64_t request = serving_send(s, 0, &frame, WIRE_WRITE, 0);
        serving_turn(s);
        serving_expect(s, 0, request, KHO_EMALFORMED, &head);
        assert_int_equal(fake->count, 0);
        serving_destroy(s);
    }
}

/* What a frame unpacks to is bounded by what one record may: four of 4 MiB pass, a byte more
 * doesn't, and nothing of such a frame is stored. */
static void test_bound(void **state)
{
    (void)state;
    enum { EACH = KHO_VALUE_MAX / 4 };
    memset(raw_value, 'z', sizeof raw_value);
    for (uint32_t more = 0; more < 2; more++) {
        struct serving *s = serving_ready();
        struct wire_head head;
        frame_begin(&frame);
        for (uint32_t i = 0; i < 4 + more; i++) {
            char key[] = {'k', 'e', 'y', '-', (char)('1' + i)};
            uint32_t len = i < 4 ? EACH : 1;
            bool compressed = i < 4;
            struct record record = {.collection = 1,
                                    .key_len = sizeof key,
                                    .codec = compressed ? KHO_CODEC_LZ4 : KHO_CODEC_NONE,
                                    .version = {.counter = 100, .writer = 7},
                                    .raw_len = len,
                                    .hash = content_hash(raw_value, len),
                                    .key = (const uint8_t *)key,
                                    .value = compressed ? packed : raw_value};
            record.stored_len = compressed ? value_pack(raw_value, len, packed) : len;
            frame_add_packed(&frame, &record);
        }
        uint64_t request = serving_send(s, 0, &frame, WIRE_WRITE, 0);
        serving_turn(s);
        const uint8_t *body = serving_expect(s, 0, request, more == 0 ? 0 : KHO_EMALFORMED, &head);
        assert_int_equal(fake->count, more == 0 ? 4 : 0);
        for (uint32_t i = 0; more == 0 && i < 4; i++)
            assert_int_equal(status_at(body, i), 0);
        serving_destroy(s);
    }
}

/* In WRITE_BLOCKS it is malformed: little could be made to unpack to very much there. */
static void test_in_block(void **state)
{
    (void)state;
    for (int spoil = 0; spoil < SPOIL_KINDS; spoil++) {
        static uint8_t raw[KHO_BLOCK_RAW_MAX];
        struct serving *s = serving_ready();
        struct wire_head head;
        struct record record = record_packed("key-1", 8000), text = record;
        record_spoil(&record, (enum spoil)spoil);
        text.codec = KHO_CODEC_NONE;
        text.key = (const uint8_t *)"key-2";
        text.raw_len = text.stored_len = 6000;
        text.value = raw_value;
        text.hash = content_hash(raw_value, 6000);
        uint32_t raw_len = (uint32_t)record_encode(&record, raw);
        raw_len += (uint32_t)record_encode(&text, raw + raw_len);
        frame_begin(&frame);
        uint8_t *to = frame_add(&frame, WIRE_BLOCK_HEAD + KHO_BLOCK_RAW_MAX);
        int n = LZ4_compress_default((const char *)raw, (char *)to + WIRE_BLOCK_HEAD, (int)raw_len,
                                     KHO_BLOCK_RAW_MAX);
        struct wire_block_head block = {
            .raw_len = raw_len, .stored_len = (uint32_t)n, .records = 2};
        wire_block_head_encode(&block, to);
        frame.len -= KHO_BLOCK_RAW_MAX - (uint32_t)n;
        frame.count = 2;
        uint64_t request = serving_send(s, 0, &frame, WIRE_WRITE_BLOCKS, 0);
        serving_turn(s);
        serving_expect(s, 0, request, KHO_EMALFORMED, &head);
        assert_int_equal(fake->count, 0);
        assert_int_equal(fake->blocks, 0);
        serving_destroy(s);
    }
}

static uint64_t large_begin(struct serving *s, const struct record *record)
{
    frame_begin(&frame);
    record_encode_head(record, frame_add(&frame, KHO_RECORD_HEAD + record->key_len));
    return serving_send(s, 0, &frame, WIRE_WRITE_LARGE, KHO_FRAME_MORE);
}

static void large_data(struct serving *s, uint64_t request, const struct record *record,
                       uint32_t step)
{
    for (uint32_t at = 0; at < record->stored_len;) {
        uint32_t bytes = (uint32_t)kho_min(record->stored_len - at, step);
        uint64_t next = s->next_request;
        frame_begin(&frame);
        memcpy(frame_add(&frame, bytes), record->value + at, bytes);
        frame.count = 0;
        s->next_request = request;
        at += bytes;
        serving_send(s, 0, &frame, WIRE_DATA,
                     at == record->stored_len ? KHO_FRAME_LAST_DATA : KHO_FRAME_MORE);
        s->next_request = next;
    }
}

/* In WRITE_LARGE: checked as it comes, however its DATA frames cut the pieces. */
static void test_large(void **state)
{
    static const uint32_t lens[] = {300000, 1 << 20, KHO_VALUE_MAX};
    static const uint32_t steps[] = {9973, 65536 + KHO_PIECE_HEAD, KHO_FRAME_MAX - KHO_FRAME_HEAD};
    (void)state;
    for (size_t l = 0; l < KHO_COUNT_OF(lens); l++)
        for (size_t i = 0; i < KHO_COUNT_OF(steps); i++)
            for (int spoil = 0; spoil < SPOIL_KINDS; spoil++) {
                struct serving *s = serving_ready();
                struct wire_head head;
                uint64_t before = shard_stat(s->shard, STAT_memory_bytes);
                struct record record = record_packed("key-1", lens[l]);
                record_spoil(&record, (enum spoil)spoil);
                uint64_t request = large_begin(s, &record);
                large_data(s, request, &record, steps[i]);
                serving_turn(s);
                assert_int_equal(status_at(serving_expect(s, 0, request, 0, &head), 0),
                                 expected_of((enum spoil)spoil));
                if (spoil == SPOIL_NOTHING)
                    stored_as_it_came(&record);
                else
                    assert_int_equal(fake->count, 0);
                assert_int_equal(shard_stat(s->shard, STAT_memory_bytes), before);
                serving_destroy(s);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write), cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_bound), cmocka_unit_test(test_in_block),
        cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
