/* blocks_test.c: WRITE_BLOCKS at a node: what comes compressed is stored as it came, or record by
 * record, or refused, and nothing in between. */
#include "serving.h"

#include <lz4.h>

static struct serving_frame frame;

enum { RECORDS = 40, VALUE = 300 };

/* A block under construction. */
struct packing {
    uint8_t raw[KHO_BLOCK_RAW_MAX + 4096];
    uint32_t len, records;
};

static void packing_add(struct packing *packing, uint32_t collection, const char *key,
                        uint64_t counter, const void *value, uint32_t len)
{
    struct record record = {.collection = collection,
                            .key_len = (uint16_t)strlen(key),
                            .version = {.counter = counter, .writer = 7},
                            .raw_len = len,
                            .stored_len = len,
                            .hash = content_hash(value, len),
                            .key = (const uint8_t *)key,
                            .value = value};
    packing->len += (uint32_t)record_encode(&record, packing->raw + packing->len);
    packing->records++;
}

static const uint8_t *value_of(uint32_t n)
{
    static uint8_t value[VALUE];
    for (uint32_t i = 0; i < VALUE; i++)
        value[i] = (uint8_t)('a' + (i + n) % 20);
    return value;
}

/* Keys that this node holds, from the n-th on. */
static void packing_fill(const struct serving *s, struct packing *packing, uint32_t from,
                         uint32_t count)
{
    memset(packing, 0, sizeof *packing);
    for (uint32_t i = 0; i < count; i++) {
        char key[32];
        serving_key(s, from + i, true, key, sizeof key);
        packing_add(packing, 1, key, 100, value_of(from + i), VALUE);
    }
}

/* Compresses the block into the frame. Returns where its head lies. */
static uint8_t *frame_add_block(struct serving_frame *f, const struct packing *packing)
{
    char stored[2 * KHO_BLOCK_RAW_MAX];
    int n =
        LZ4_compress_default((const char *)packing->raw, stored, (int)packing->len, sizeof stored);
    assert_true(n > 0);
    struct wire_block_head head = {
        .raw_len = packing->len, .stored_len = (uint32_t)n, .records = packing->records};
    uint8_t *to = frame_add(f, WIRE_BLOCK_HEAD + (uint32_t)n);
    wire_block_head_encode(&head, to);
    memcpy(to + WIRE_BLOCK_HEAD, stored, (size_t)n);
    f->count = f->count - 1 + packing->records;
    return to;
}

/* Two blocks in one frame: both are stored as they came, every record is there. */
static void test_stored_as_they_came(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    static struct packing packing;
    struct wire_head head;
    frame_begin(&frame);
    for (uint32_t b = 0; b < 2; b++) {
        packing_fill(s, &packing, b * RECORDS, RECORDS);
        frame_add_block(&frame, &packing);
    }
    uint64_t request = serving_send(s, 0, &frame, WIRE_WRITE_BLOCKS, 0);
    serving_turn(s);
    const uint8_t *body = serving_expect(s, 0, request, 0, &head);
    assert_int_equal(head.count, 2 * RECORDS);
    for (uint32_t i = 0; i < head.count; i++)
        assert_int_equal(status_at(body, i), 0);
    assert_int_equal(fake->blocks, 2);
    assert_int_equal(fake->count, 2 * RECORDS);
    for (uint32_t i = 0; i < 2 * RECORDS; i++)
        assert_memory_equal(fake->records[i].record.value, value_of(i), VALUE);
    serving_destroy(s);
}

/* Where something in a block isn't taken, its other records are, and each has its own answer. */
static void test_one_by_one(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    static struct packing packing;
    struct wire_head head;
    packing_fill(s, &packing, 0, RECORDS);
    packing_add(&packing, 9, "key-of-nowhere", 100, value_of(0), VALUE);
    uint32_t wrong = packing.len;
    char key[32];
    serving_key(s, RECORDS, true, key, sizeof key);
    packing_add(&packing, 1, key, 100, value_of(1), VALUE);
    packing.raw[wrong + 32] ^= 1; /* its content hash */
    frame_begin(&frame);
    frame_add_block(&frame, &packing);
    uint64_t request = serving_send(s, 0, &frame, WIRE_WRITE_BLOCKS, 0);
    serving_turn(s);
    const uint8_t *body = serving_expect(s, 0, request, 0, &head);
    assert_int_equal(head.count, RECORDS + 2);
    for (uint32_t i = 0; i < RECORDS; i++)
        assert_int_equal(status_at(body, i), 0);
    assert_int_equal(status_at(body, RECORDS), KHO_ENOCOLLECTION);
    assert_int_equal(status_at(body, RECORDS + 1), KHO_ECHECKSUM);
    assert_int_equal(fake->count, RECORDS);
    assert_int_equal(fake->blocks, 0);
    /* A small block is packed with others by the node itself, and so is what the store declines. */
    packing_fill(s, &packing, 50, 5);
    frame_begin(&frame);
    frame_add_block(&frame, &packing);
    fake->refuse_blocks = true;
    packing_fill(s, &packing, 60, RECORDS);
    frame_add_block(&frame, &packing);
    request = serving_send(s, 0, &frame, WIRE_WRITE_BLOCKS, 0);
    serving_turn(s);
    body = serving_expect(s, 0, request, 0, &head);
    for (uint32_t i = 0; i < head.count; i++)
        assert_int_equal(status_at(body, i), 0);
    assert_int_equal(fake->blocks, 0);
    assert_int_equal(fake->count, RECORDS + 5 + RECORDS);
    serving_destroy(s);
}

/* Frames that break a rule of the layout end the connection, and nothing of them is stored, though
 * their first block is whole. */
static void test_malformed(void **state)
{
    (void)state;
    static struct packing packing;
    for (int c = 0; c < 10; c++) {
        struct serving *s = serving_ready();
        struct wire_head head;
        frame_begin(&frame);
        packing_fill(s, &packing, 0, RECORDS);
        frame_add_block(&frame, &packing);
        packing_fill(s, &packing, RECORDS, RECORDS);
        if (c == 0)
            packing.raw[7] = 9; /* a codec that doesn't exist */
        if (c == 1)
            packing.len--; /* the last record is cut */
        uint8_t *block = frame_add_block(&frame, &packing);
        if (c == 2)
            kho_store32(block, packing.len + 1); /* longer than it says */
        if (c == 3)
            kho_store32(block, KHO_BLOCK_RAW_MAX + 1);
        if (c == 4)
            kho_store32(block + 8, packing.records + 1);
        if (c == 5)
            kho_store32(block + 12, 1); /* reserved */
        if (c == 6)
            memset(block + WIRE_BLOCK_HEAD, 0xFF, 64); /* no LZ4 */
        if (c == 7)
            frame.count++;
        if (c == 8)
            kho_store32(block + 4, kho_load32(block + 4) + 1); /* past the frame's end */
        if (c == 9)
            kho_store32(block + 4, 0);
        uint64_t request = serving_send(s, 0, &frame, WIRE_WRITE_BLOCKS, 0);
        serving_turn(s);
        serving_expect(s, 0, request, KHO_EMALFORMED, &head);
        assert_int_equal(fake->count, 0);
        serving_destroy(s);
    }
    /* A copy is never sent so: its drop numbers have no place. */
    struct serving *s = serving_ready();
    struct wire_head head;
    frame_begin(&frame);
    packing_fill(s, &packing, 0, RECORDS);
    frame_add_block(&frame, &packing);
    uint64_t request = serving_send(s, 0, &frame, WIRE_WRITE_BLOCKS, KHO_FRAME_COPY);
    serving_turn(s);
    serving_expect(s, 0, request, KHO_EMALFORMED, &head);
    serving_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stored_as_they_came),
        cmocka_unit_test(test_one_by_one),
        cmocka_unit_test(test_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
