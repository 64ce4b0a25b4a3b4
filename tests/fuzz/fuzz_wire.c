/* Frames and HELLO as a peer could send them. The checksum is mended before decoding, since a
 * fuzzer can't guess it and the decoders behind it are what this is about. */
#include "fuzz.h"

#include <kho/piece.h>
#include <kho/wire.h>
#include <lz4.h>

static volatile uint64_t g_sink;
static uint8_t g_piece[KHO_PIECE_MAX];

static void take_entries(const struct wire_head *head, const uint8_t *body, size_t len)
{
    size_t at = 0;
    for (uint32_t i = 0; i < head->count; i++) {
        struct record record;
        struct wire_read_ask ask;
        int n;
        if (head->type == WIRE_WRITE) {
            size_t before = (head->flags & KHO_FRAME_COPY) ? WIRE_DROPS : 0;
            if (len - at < before)
                return;
            n = record_decode(body + at + before, len - at - before, &record);
            if (n < 0)
                return;
            n += (int)before;
            g_sink += value_matches(&record, g_piece);
            g_sink += key_hash(record.collection, record.key, record.key_len, 1).low;
        } else if (head->type == WIRE_WRITE_BLOCKS) {
            static uint8_t raw[KHO_BLOCK_RAW_MAX];
            struct wire_block_head block;
            n = wire_block_head_decode(body + at, len - at, &block);
            if (n < 0)
                return;
            int got = LZ4_decompress_safe((const char *)body + at + WIRE_BLOCK_HEAD, (char *)raw,
                                          (int)block.stored_len, (int)block.raw_len);
            for (int from = 0; got > 0 && from < got;) {
                int used = record_decode(raw + from, (size_t)(got - from), &record);
                if (used < 0)
                    return;
                from += used;
            }
        } else if (head->type == WIRE_READ) {
            n = wire_read_ask_decode(body + at, len - at, &ask);
            if (n < 0)
                return;
            for (uint32_t k = 0; k < ask.key_len; k++)
                g_sink += ask.key[k];
        } else {
            return;
        }
        at += (size_t)n;
    }
}
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct wire_head head;
    struct wire_hello_client client;
    struct wire_hello_node node;
    if (len >= KHO_HELLO_CLIENT_SIZE)
        g_sink += (uint64_t)wire_hello_client_decode(bytes, &client);
    if (len >= KHO_HELLO_NODE_SIZE)
        g_sink += (uint64_t)wire_hello_node_decode(bytes, &node);
    int length = wire_frame_length(bytes, len);
    if (length <= 0 || (size_t)length > len)
        return 0;
    g_sink += (uint64_t)wire_frame_decode(bytes, &head);
    uint8_t *mended = malloc((size_t)length);
    if (mended == NULL)
        return 0;
    memcpy(mended, bytes, (size_t)length);
    kho_store64(mended + 8, wire_checksum(mended, (size_t)length));
    if (wire_frame_decode(mended, &head) == 0)
        take_entries(&head, mended + KHO_FRAME_HEAD, head.length - KHO_FRAME_HEAD);
    free(mended);
    return 0;
}
size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    struct record record = {.collection = 1,
                            .key_len = 4,
                            .version = {77, 5},
                            .raw_len = 6,
                            .stored_len = 6,
                            .key = (const uint8_t *)"key1",
                            .value = (const uint8_t *)"value1"};
    struct wire_head head = {.request = 9, .epoch = 2, .count = 2};
    size_t at = KHO_FRAME_HEAD;
    if (max < 4096)
        return 0;
    record.hash = content_hash("value1", 6);
    switch (n) {
    case 0:
    case 1:
        head.type = WIRE_WRITE;
        head.flags = n == 0 ? 0 : KHO_FRAME_COPY;
        for (int i = 0; i < 2; i++) {
            if (n == 1) {
                kho_store64(to + at, 3);
                at += WIRE_DROPS;
            }
            at += record_encode(&record, to + at);
        }
        break;
    case 6: { /* a value that its writer compressed: three pieces */
        static uint8_t raw[2 * KHO_PIECE_MAX + 1000], packed[sizeof raw];
        memset(raw, 'a', sizeof raw);
        record.codec = KHO_CODEC_LZ4;
        record.raw_len = sizeof raw;
        record.stored_len = value_pack(raw, sizeof raw, packed);
        record.value = packed;
        record.hash = content_hash(raw, sizeof raw);
        head.type = WIRE_WRITE;
        head.count = 1;
        at += record_encode(&record, to + at);
        break;
    }
    case 2:
        head.type = WIRE_READ;
        for (int i = 0; i < 2; i++) {
            struct wire_read_ask ask = {.collection = 1, .key_len = 4, .key = record.key};
            wire_read_ask_encode(&ask, to + at);
            at += WIRE_READ_ASK + 4;
        }
        break;
    case 3:
        wire_hello_client_encode(&(struct wire_hello_client){.protocol_min = 1, .protocol_max = 1},
                                 to);
        return KHO_HELLO_CLIENT_SIZE;
    case 4:
        wire_hello_node_encode(&(struct wire_hello_node){.protocol = 1}, to);
        return KHO_HELLO_NODE_SIZE;
    case 5: {
        uint8_t raw[1024];
        size_t raw_len = 0;
        head.type = WIRE_WRITE_BLOCKS;
        for (int i = 0; i < 2; i++)
            raw_len += record_encode(&record, raw + raw_len);
        int stored = LZ4_compress_default((const char *)raw, (char *)to + at + WIRE_BLOCK_HEAD,
                                          (int)raw_len, 1024);
        struct wire_block_head block = {
            .raw_len = (uint32_t)raw_len, .stored_len = (uint32_t)stored, .records = 2};
        wire_block_head_encode(&block, to + at);
        at += WIRE_BLOCK_HEAD + (size_t)stored;
        break;
    }
    default:
        return 0;
    }
    head.length = (uint32_t)at;
    wire_frame_seal(to, &head, false);
    return at;
}
