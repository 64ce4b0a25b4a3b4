/* Footers as a damaged disk could give them: as they are, and with their hashes mended, so that
 * what is behind the hashes is reached. */
#include "fuzz.h"

#include "node/footer.h"
#include "node/store.h"

enum { ALIGNMENT = 512, FROM = 4096, AT = 1 << 20, SEED_ENTRIES = 40 };

static const struct identity g_identity = {.cluster = {{1}}, .incarnation = {{2}}, .shard = 0};
static volatile uint64_t g_sink;

static void look(const uint8_t *bytes, size_t len)
{
    struct footer_head head;
    struct footer footer;
    struct footer_cursor cursor;
    struct footer_entry entry;
    uint32_t entries = 0;
    if (len < FOOTER_HEAD || footer_head_decode(bytes, &g_identity, &head) != 0 ||
        head.length > len || footer_open(bytes, &head, &footer) != 0)
        return;
    for (uint32_t i = 0; i < head.footers; i++)
        g_sink += footer_ref_at(&footer, i).length;
    footer_begin(&cursor, &footer);
    while (footer_run(&cursor))
        for (; cursor.left > 0; entries++) {
            footer_take(&cursor, &entry);
            KHO_ASSERT(entry.version.counter <= KHO_COUNTER_MAX);
            KHO_ASSERT(entry.partition < KHO_PARTITIONS_MAX);
        }
    KHO_ASSERT(entries == head.entries);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    look(bytes, len);
    if (len < FOOTER_HEAD)
        return 0;
    uint8_t *mended = malloc(len);
    if (mended == NULL)
        return 0;
    memcpy(mended, bytes, len);
    struct kho_id hash =
        hash128(mended + FOOTER_HEAD, kho_min(kho_load32(mended + 108), len - FOOTER_HEAD));
    memcpy(mended + 160, hash.bytes, 16);
    hash = hash128(mended, 176);
    memcpy(mended + 176, hash.bytes, 16);
    look(mended, len);
    free(mended);
    return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    struct shard_world world;
    struct footer_maker maker;
    struct footer_ref before = {.offset = 8192, .length = 512, .from = FROM, .entries = 2};
    if (n > 1 || max < footer_bytes(SEED_ENTRIES, 1, ALIGNMENT))
        return 0;
    world_init(&world, 16u << 20, 1);
    int error = footer_maker_init(&maker, &world, FOOTER_ENTRIES);
    KHO_ASSERT(error == 0);
    if (n == 1)
        footer_maker_ref(&maker, &before);
    footer_maker_commit(&maker, 16384, 7, 3);
    for (uint32_t i = 0; i < SEED_ENTRIES; i++) {
        struct footer_entry entry = {.collection = 1 + i % (n + 1),
                                     .partition = i % 8,
                                     .tag = {.high = i * 0x9E3779B97F4A7C15u, .low = (uint8_t)i},
                                     .version = {.counter = 1000 + i * 77, .writer = i % 3},
                                     .value_bytes = i % 5 == 0 ? 0 : i * 30,
                                     .place = (300 + i) << 6,
                                     .tombstone = i % 5 == 0};
        footer_maker_add(&maker, &entry);
    }
    struct footer_head head = {.segment = 3, .offset = AT, .last = 9};
    footer_encode(&maker, &g_identity, ALIGNMENT, &head, to);
    footer_maker_fini(&maker);
    return head.length;
}
