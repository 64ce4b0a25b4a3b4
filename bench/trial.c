/* trial.c: lays a block's entries right behind the dictionary, so that LZ4 sees one piece of memory
 * (with the dictionary elsewhere it packs a third slower and unpacks at half the speed, and a node
 * can lay them so for nothing), and starts each block from a copy of the state that has read the
 * dictionary. Packing and unpacking alone are on the clock.
 *
 * As in the node, a block is stored as it is unless LZ4 saves an eighth. It fails for want of
 * memory, or where a block doesn't come back as it was, which no block should. */
#include "trial.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "node/block.h"

struct packed {
    size_t from, len; /* in the entries' bytes */
    size_t at;        /* in the packed bytes */
    int stored;       /* 0: as it is */
};

struct bench {
    const struct trial *trial;
    const struct entries *entries;
    LZ4_stream_t read; /* has read the dictionary */
    struct packed *blocks;
    size_t block_count;
    char *packed;
    char window[TRIAL_DICTIONARY_MAX + KHO_BLOCK_RAW_MAX]; /* the dictionary and a block */
};

/* The row of entries that make up each block. */
static void blocks_cut(struct bench *b)
{
    const struct entries *e = b->entries;
    struct packed *block = NULL;
    for (size_t i = 0; i < e->count; i++) {
        size_t size = e->at[i + 1] - e->at[i];
        KHO_ASSERT(size <= KHO_BLOCK_RAW_MAX);
        if (block == NULL || block->len + size > b->trial->block_bytes) {
            block = &b->blocks[b->block_count++];
            *block = (struct packed){.from = e->at[i]};
        }
        block->len += size;
    }
}

static int block_pack_timed(struct bench *b, const struct packed *block, char *to,
                            uint64_t *spent_ns)
{
    const struct trial *t = b->trial;
    char *raw = b->window + t->dictionary_len;
    int len = (int)block->len, room = len - len / 8, stored;
    memcpy(raw, b->entries->bytes + block->from, block->len);
    uint64_t began_ns = clock_ns();
    if (t->dictionary_len > 0) {
        LZ4_stream_t state = b->read;
        stored = LZ4_compress_fast_continue(&state, raw, to, len, room, t->acceleration);
    } else {
        stored = LZ4_compress_fast(raw, to, len, room, t->acceleration);
    }
    *spent_ns += clock_ns() - began_ns;
    return stored;
}

static void blocks_pack(struct bench *b, struct trial_figures *figures)
{
    uint64_t spent_ns = 0;
    size_t used = 0;
    for (size_t i = 0; i < b->block_count; i++) {
        struct packed *block = &b->blocks[i];
        block->at = used;
        block->stored = block_pack_timed(b, block, b->packed + used, &spent_ns);
        size_t stored = block->stored > 0 ? (size_t)block->stored : block->len;
        if (block->stored == 0)
            memcpy(b->packed + used, b->entries->bytes + block->from, block->len);
        used += stored;
        figures->raw_bytes += block->len;
        figures->disk_bytes += block_span((uint32_t)stored);
    }
    figures->packed_bytes = used;
    figures->pack_seconds = (double)spent_ns / 1e9;
}

/* Whether all blocks came back. */
static bool blocks_unpack(struct bench *b, struct trial_figures *figures)
{
    size_t dictionary = b->trial->dictionary_len;
    char *raw = b->window + dictionary;
    uint64_t spent_ns = 0;
    bool same = true;
    for (size_t i = 0; i < b->block_count; i++) {
        const struct packed *block = &b->blocks[i];
        const char *from = b->packed + block->at;
        int len = (int)block->len, got = len;
        uint64_t began_ns = clock_ns();
        if (block->stored == 0)
            memcpy(raw, from, block->len);
        else if (dictionary > 0)
            got = LZ4_decompress_safe_usingDict(from, raw, block->stored, len, b->window,
                                                (int)dictionary);
        else
            got = LZ4_decompress_safe(from, raw, block->stored, len);
        spent_ns += clock_ns() - began_ns;
        same &= got == len && memcmp(raw, b->entries->bytes + block->from, block->len) == 0;
    }
    figures->unpack_seconds = (double)spent_ns / 1e9;
    return same;
}

int trial_run(const struct trial *trial, const struct entries *entries,
              struct trial_figures *ret_figures)
{
    static struct bench bench; /* too large for a stack */
    struct trial_figures figures = {0};
    size_t bytes = entries->count > 0 ? entries->at[entries->count] : 0;
    KHO_ASSERT(trial->dictionary_len <= TRIAL_DICTIONARY_MAX);
    bench = (struct bench){.trial = trial, .entries = entries};
    bench.blocks = malloc((entries->count + 1) * sizeof *bench.blocks);
    bench.packed = malloc(bytes + 1);
    int error = bench.blocks != NULL && bench.packed != NULL ? 0 : -ENOMEM;
    if (error == 0) {
        memset(bench.packed, 0, bytes); /* the kernel's work for new pages stays off the clock */
        if (trial->dictionary_len > 0)
            memcpy(bench.window, trial->dictionary, trial->dictionary_len);
        LZ4_initStream(&bench.read, sizeof bench.read);
        LZ4_loadDict(&bench.read, bench.window, (int)trial->dictionary_len);
        blocks_cut(&bench);
        blocks_pack(&bench, &figures);
        error = blocks_unpack(&bench, &figures) ? 0 : -EBADMSG;
    }
    free(bench.blocks);
    free(bench.packed);
    if (error == 0)
        *ret_figures = figures;
    return error;
}
