/* floor_pack.c: hashes, copies and compresses records in a loop; the sums keep the compiler from
 * leaving any of it out. */
#include "floor_pack.h"

#include <lz4.h>

#include "clock.h"

enum { BLOCK_BYTES = 16 << 10 };

struct pack {
    uint8_t raw[BLOCK_BYTES + CITIZEN_RECORD_MAX];
    char packed[LZ4_COMPRESSBOUND(BLOCK_BYTES)];
    uint32_t used;
    uint64_t sum;
};

static void block_close(struct pack *pack, struct pack_figures *figures)
{
    int stored = LZ4_compress_default((const char *)pack->raw, pack->packed, (int)pack->used,
                                      (int)sizeof pack->packed);
    struct kho_id hash = content_hash(pack->packed, (size_t)stored);
    pack->sum += hash.bytes[0];
    figures->raw_bytes += pack->used;
    figures->packed_bytes += (uint64_t)stored;
    pack->used = 0;
}

bool floor_pack(const struct herd *herd, struct pack_figures *ret_figures)
{
    static struct pack pack;
    struct pack_figures figures = {0};
    bool same = true;
    uint64_t began_ns = clock_ns();
    for (size_t i = 0; i < herd->count; i++) {
        const struct record *record = &herd->records[i];
        struct key_hash hash = key_hash(record->collection, record->key, record->key_len, 7);
        pack.sum += hash.high;
        same &= record_value_matches(record);
        if (pack.used + record_size(record) > BLOCK_BYTES)
            block_close(&pack, &figures);
        pack.used += (uint32_t)record_encode(record, pack.raw + pack.used);
    }
    if (pack.used > 0)
        block_close(&pack, &figures);
    figures.seconds = (double)(clock_ns() - began_ns) / 1e9;
    *ret_figures = figures;
    return same;
}
