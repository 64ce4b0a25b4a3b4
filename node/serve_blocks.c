/* serve_blocks.c: WRITE_BLOCKS: records that the client compressed, once for all replicas.
 *
 * Happy path: all blocks of the frame are unpacked and walked before anything is stored, so that
 * nothing of a malformed frame is; then, block by block, every record is checked as in WRITE, and a
 * block whose records are all taken is stored as it came: no node compresses them again. Where some
 * record isn't taken (refused, there already), or the block is too small or saves too little to be
 * one on disk, its records go the way of WRITE, one by one. What may fail: what fails a WRITE. */
#include "serve.h"

#include <lz4.h>

enum {
    BLOCKS_MAX = 64,                       /* in a frame */
    BLOCK_RAW_MIN = KHO_BLOCK_RAW_MAX / 4, /* smaller ones are packed with others */
};

/* Unpacks a block into `raw`, and sees that it is so many records, which go to `entries`. None is
 * compressed by itself, too: a small frame could be made to unpack to very much. */
static bool block_open(const struct serve_block *block, uint8_t *raw, struct store_entry *entries)
{
    int n = LZ4_decompress_safe((const char *)block->stored, (char *)raw, (int)block->stored_len,
                                (int)block->raw_len);
    if (n < 0 || (uint32_t)n != block->raw_len)
        return false;
    uint32_t at = 0;
    for (uint32_t i = 0; i < block->records; i++) {
        int used = record_decode(raw + at, block->raw_len - at, &entries[i].record);
        if (used < 0 || entries[i].record.codec != KHO_CODEC_NONE)
            return false;
        entries[i].drops = 0;
        at += (uint32_t)used;
    }
    return at == block->raw_len;
}

/* Opens all blocks of a frame into serve->raw and serve->entries, one behind the other. Returns how
 * many there are, or KHO_EMALFORMED. */
static int blocks_open(struct serve *serve, const struct wire_head *head, const uint8_t *body,
                       uint32_t len, struct serve_block *blocks, uint32_t *ret_raw)
{
    uint32_t at = 0, raw = 0, records = 0;
    int count = 0;
    for (; at < len; count++) {
        struct wire_block_head h;
        int used = wire_block_head_decode(body + at, len - at, &h);
        if (used < 0 || count == BLOCKS_MAX || h.raw_len > KHO_FRAME_RAW_MAX - raw ||
            h.records > head->count - records)
            return KHO_EMALFORMED;
        blocks[count] = (struct serve_block){.stored = body + at + WIRE_BLOCK_HEAD,
                                             .stored_len = h.stored_len,
                                             .raw_len = h.raw_len,
                                             .records = h.records};
        if (!block_open(&blocks[count], serve->raw + raw, serve->entries + records))
            return KHO_EMALFORMED;
        at += (uint32_t)used;
        raw += h.raw_len;
        records += h.records;
    }
    *ret_raw = raw;
    return count > 0 && records == head->count ? count : KHO_EMALFORMED;
}

/* As one on disk it is never longer than its records would be without compression. */
static bool block_fits_disk(const struct serve_block *block)
{
    return block->raw_len >= BLOCK_RAW_MIN &&
           block->stored_len <= block->raw_len - block->raw_len / 8;
}

enum serve_verdict serve_blocks(struct conn *conn, const struct wire_head *head,
                                const uint8_t *body, uint32_t len)
{
    struct serve *serve = serve_of(conn);
    struct serve_block blocks[BLOCKS_MAX];
    struct serve_policy policy = {0};
    uint64_t sequence = 0;
    uint32_t raw_len, from = 0, refused = 0;
    int count = blocks_open(serve, head, body, len, blocks, &raw_len);
    if (count < 0)
        return SERVE_MALFORMED;
    if (!serve_room(conn, raw_len, head->count, false))
        return SERVE_WAIT;
    struct request *request = request_begin(conn, head);
    if (request == NULL)
        return serve_wait(conn, CONN_WAIT_POOL);
    for (int i = 0; i < count; i++) {
        const struct serve_block *block = block_fits_disk(&blocks[i]) ? &blocks[i] : NULL;
        refused +=
            serve_write_entries(conn, &policy, from, blocks[i].records, false, block, &sequence);
        from += blocks[i].records;
    }
    serve_write_await(request, sequence, refused);
    return SERVE_DONE;
}
