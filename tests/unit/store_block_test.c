/* store_block_test.c: blocks that came compressed, through the door of the store. */
#include "store_story.h"

#include <lz4.h>

/* A block under construction: records as rig_put() writes them. */
struct rig_block {
    struct store_entry entries[64];
    uint8_t keys[64][64];
    uint8_t raw[KHO_BLOCK_RAW_MAX];
    char stored[2 * KHO_BLOCK_RAW_MAX];
    uint32_t count, raw_len, stored_len;
};

static void block_add(struct rig_block *block, uint32_t number, uint64_t version, uint32_t len)
{
    struct rig_key key = rig_key(1, number);
    uint8_t value[32]; /* the first 32 bytes of any of the rig's values */
    memset(value, 'k', sizeof value);
    assert_true(len <= sizeof value);
    memcpy(block->keys[block->count], key.key, key.key_len);
    struct record record = {.collection = 1,
                            .key_len = key.key_len,
                            .version = {.counter = T0 + version, .writer = 5},
                            .raw_len = len,
                            .stored_len = len,
                            .hash = content_hash(value, len),
                            .key = block->keys[block->count],
                            .value = value};
    uint8_t *at = block->raw + block->raw_len;
    block->raw_len += (uint32_t)record_encode(&record, at);
    record.value = at + KHO_RECORD_HEAD + record.key_len;
    block->entries[block->count++] =
        (struct store_entry){.record = record, .hash = key.hash, .partition = key.partition};
}

static bool block_write(struct rig *rig, struct rig_block *block, uint64_t *ret_sequence)
{
    int n = LZ4_compress_default((const char *)block->raw, block->stored, (int)block->raw_len,
                                 sizeof block->stored);
    assert_true(n > 0 && (uint32_t)n < block->raw_len);
    block->stored_len = (uint32_t)n;
    return store_write_block(rig->store, block->entries, block->count,
                             (const uint8_t *)block->stored, block->stored_len, block->raw_len,
                             rig->now, ret_sequence);
}

/* A block that came compressed is durable like any record, beside such that came alone, and read
 * back after a crash. */
static void block_crash_read(void **state)
{
    struct rig *rig = *state;
    static struct rig_block block;
    uint64_t sequence = 0;
    rig_ready(rig);
    put(rig, 1, 500, 1, 100);
    memset(&block, 0, sizeof block);
    for (uint32_t i = 0; i < 40; i++)
        block_add(&block, i, 1, i % 4);
    assert_true(block_write(rig, &block, &sequence));
    put(rig, 1, 501, 1, 100);
    assert_true(sequence > store_durable(rig->store));
    rig_run(rig);
    assert_true(sequence <= store_durable(rig->store));
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < 40; i++)
            assert_int_equal(check(rig, 1, i, 1, i % 4), 0);
        assert_int_equal(check(rig, 1, 500, 1, 100), 0);
        assert_int_equal(check(rig, 1, 501, 1, 100), 0);
        rig_crash(rig);
        assert_int_equal(store_phase(rig->store), STORE_READY);
    }
}

/* All or nothing: a block with a record that is there already, with an older one, or with one key
 * twice isn't taken, nothing of it enters, and what was reserved for it is given back. */
static void block_declined(void **state)
{
    struct rig *rig = *state;
    static struct rig_block block;
    uint64_t sequence = 0;
    rig_ready(rig);
    put(rig, 1, 7, 2, 3);
    for (int c = 0; c < 4; c++) {
        memset(&block, 0, sizeof block);
        for (uint32_t i = 100; i < 120; i++)
            block_add(&block, i, 1, 3);
        if (c == 0)
            block_add(&block, 7, 2, 3); /* in flight */
        if (c == 1)
            rig_run(rig);
        if (c == 1)
            block_add(&block, 7, 2, 3); /* durable */
        if (c == 2)
            block_add(&block, 7, 1, 3); /* older */
        if (c == 3)
            block_add(&block, 110, 2, 3); /* twice */
        assert_false(block_write(rig, &block, &sequence));
    }
    rig_run(rig);
    for (uint32_t i = 100; i < 120; i++)
        assert_int_equal(check(rig, 1, i, 1, 3), KHO_ENOTFOUND);
    assert_int_equal(check(rig, 1, 7, 2, 3), 0);
    /* With the offender gone it is taken. */
    block.count--;
    block.raw_len -= KHO_RECORD_HEAD + block.entries[block.count].record.key_len + 3;
    assert_true(block_write(rig, &block, &sequence));
    rig_run(rig);
    for (uint32_t i = 100; i < 120; i++)
        assert_int_equal(check(rig, 1, i, 1, 3), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(block_crash_read, setup, teardown),
        cmocka_unit_test_setup_teardown(block_declined, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
