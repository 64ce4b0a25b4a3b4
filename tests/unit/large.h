/* large.h: large values sent to a shard in pieces. */
#ifndef KHO_TESTS_LARGE_H
#define KHO_TESTS_LARGE_H

#include "serving.h"

static struct serving_frame frame;

static uint8_t large_value[KHO_VALUE_MAX];

/* The bytes of all large values: nothing compresses them. */
static inline void large_fill(void)
{
    struct kho_random random;
    kho_random_init(&random, 5);
    for (size_t i = 0; i < sizeof large_value; i += 8)
        kho_store64(large_value + i, kho_random_next(&random));
}

/* Sends the begin of a large record. */
static inline uint64_t large_begin(struct serving *s, int32_t conn, const char *key, uint32_t len)
{
    struct record record = {.collection = 1,
                            .key_len = (uint16_t)strlen(key),
                            .version = {.counter = 100, .writer = 7},
                            .raw_len = len,
                            .stored_len = len,
                            .hash = content_hash(large_value, len),
                            .key = (const uint8_t *)key};
    frame_begin(&frame);
    record_encode_head(&record, frame_add(&frame, KHO_RECORD_HEAD + record.key_len));
    return serving_send(s, conn, &frame, WIRE_WRITE_LARGE, len % 2 == 0 ? KHO_FRAME_MORE : 0);
}

static inline void large_data(struct serving *s, int32_t conn, uint64_t request, uint32_t from,
                              uint32_t len, bool last)
{
    uint64_t next = s->next_request;
    frame_begin(&frame);
    memcpy(frame_add(&frame, len), large_value + from, len);
    frame.count = 0;
    s->next_request = request;
    serving_send(s, conn, &frame, WIRE_DATA, last ? KHO_FRAME_LAST_DATA : KHO_FRAME_MORE);
    s->next_request = next;
}

static inline void large_put(struct serving *s, int32_t conn, const char *key, uint32_t len)
{
    struct wire_head head;
    uint64_t request = large_begin(s, conn, key, len);
    for (uint32_t at = 0; at < len;) {
        uint32_t bytes = (uint32_t)kho_min(len - at, KHO_FRAME_MAX - KHO_FRAME_HEAD);
        large_data(s, conn, request, at, bytes, at + bytes == len);
        at += bytes;
    }
    serving_turn(s);
    assert_int_equal(status_at(serving_expect(s, conn, request, 0, &head), 0), 0);
}

#endif
