/* Is a manifest, as a damaged disk could give it, refused, or does it work as one of our own: is it
 * encoded to the same, are its segments retired, its damage cut, its episodes closed? Its checksum
 * is mended, so that what lies behind it is reached. */
#include "fuzz.h"

#include "node/manifest.h"
#include "node/store.h"

enum { MEMORY = 64 << 20, WORK_MAX = 64 };

static struct shard_world g_world;
static volatile uint64_t g_sink;

static void mend(uint8_t *bytes, size_t len)
{
    XXH128_canonical_t canonical;
    uint64_t length = kho_load64(bytes + 8);
    if (length < MANIFEST_HEAD || length > len)
        kho_store64(bytes + 8, length = len);
    XXH128_canonicalFromHash(
        &canonical, XXH3_128bits_withSeed(bytes + 32, length - 32, XXH3_64bits(bytes, 16)));
    memcpy(bytes + 16, canonical.digest, 16);
}

/* Encoded and decoded again, it is the same. */
static void again(const struct manifest *manifest)
{
    struct manifest copy;
    size_t length = manifest_length(manifest);
    uint8_t *first = malloc(length), *second = malloc(length);
    KHO_ASSERT(first != NULL && second != NULL);
    manifest_encode(manifest, first);
    manifest_init(&copy, &g_world);
    int error = manifest_decode(&copy, first, length);
    KHO_ASSERT(error == 0);
    KHO_ASSERT(manifest_length(&copy) == length);
    manifest_encode(&copy, second);
    KHO_ASSERT(memcmp(first, second, length) == 0);
    manifest_fini(&copy);
    free(first);
    free(second);
}

static void episodes_close(struct manifest *manifest)
{
    uint32_t partitions = (uint32_t)kho_min(manifest->partitions, WORK_MAX);
    for (uint32_t p = 0; p < partitions; p++) {
        uint64_t id, before = UINT64_MAX;
        g_sink += manifest_hides(manifest, p);
        while ((id = manifest_episode_of(manifest, p)) != 0 && id != before) {
            KHO_ASSERT(manifest_episode_find(manifest, id) != NULL);
            if (!manifest_episode_clear(manifest, id, p))
                break;
            before = id;
        }
    }
    g_sink += manifest_suspect(manifest);
}

/* As a start seals what a crash left open, and compaction takes segments away. */
static void segments_retire(struct manifest *manifest)
{
    uint64_t last = manifest->base;
    uint32_t work = 0;
    for (uint32_t i = manifest->oldest; i != MANIFEST_NO_SLOT;) {
        struct segment *s = manifest_segment(manifest, i);
        if (!s->sealed) {
            s->sealed = true;
            s->last = last;
            s->end = segment_start(s->alignment);
        }
        last = s->last;
        i = s->newer;
    }
    for (uint32_t i = manifest->segments.count; i-- > 0 && work++ < WORK_MAX;) {
        uint64_t id = manifest_segment(manifest, i)->id;
        struct damage damage = {.segment = id, .offset = 4096, .length = 100000};
        g_sink += manifest_has_damage(manifest, id);
        manifest_add_damage(manifest, &damage);
        g_sink += manifest_damage_known(manifest, id, 8192, 4096);
        g_sink += manifest_cut_damage(manifest, id, 8192, 4096);
        KHO_ASSERT(!manifest_damage_known(manifest, id, 8192, 4096));
        if (i % 3 == 2)
            continue;
        KHO_ASSERT(manifest_retire(manifest, i) == 0);
        manifest_retired_gone(manifest, id);
        manifest_free_slot(manifest, i);
    }
}

static void look(const uint8_t *bytes, size_t len)
{
    struct manifest manifest;
    manifest_init(&manifest, &g_world);
    if (manifest_decode(&manifest, bytes, len) == 0) {
        again(&manifest);
        episodes_close(&manifest);
        segments_retire(&manifest);
        again(&manifest);
    }
    manifest_fini(&manifest);
    KHO_ASSERT(g_world.memory_bytes == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (g_world.memory_max == 0)
        world_init(&g_world, MEMORY, 1);
    uint8_t *copy = fuzz_copy(bytes, len);
    look(copy, len);
    if (len >= MANIFEST_HEAD) {
        mend(copy, len);
        look(copy, len);
    }
    free(copy);
    return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    struct manifest manifest;
    if (n > 2)
        return 0;
    if (g_world.memory_max == 0)
        world_init(&g_world, MEMORY, 1);
    manifest_init(&manifest, &g_world);
    manifest.shard_count = 1;
    manifest.identity.incarnation.bytes[0] = 2;
    if (n > 0) {
        manifest.identity.cluster.bytes[0] = 1;
        manifest.next_segment = 9;
        KHO_ASSERT(manifest_set_partitions(&manifest, 16) == 0);
        for (uint32_t i = 1; i < 8; i++) {
            struct segment segment = {
                .id = i, .size = 4 << 20, .alignment = 4096, .sealed = i < 7, .file = -1};
            segment.end = i < 7 ? 1 << 20 : 0;
            segment.last = i < 7 ? (uint64_t)i * 10 : 0;
            segment.footer = i < 7 ? 65536 : 0;
            segment.footer_bytes = i < 7 ? 4096 : 0;
            KHO_ASSERT(manifest_add_segment(&manifest, &segment) == 0);
        }
    }
    if (n > 1) {
        static const uint8_t kinds[] = {WIRE_EPISODE_SUSPECT, WIRE_EPISODE_ROT, WIRE_EPISODE_WIPED};
        for (uint32_t i = 0; i < KHO_COUNT_OF(kinds); i++) {
            struct episode *e = manifest_open_episode(&manifest, kinds[i], 2, 1700, false);
            KHO_ASSERT(e != NULL);
            for (uint32_t p = i; p < 16; p += 1 + i)
                manifest_episode_set(&manifest, e, p);
        }
        manifest_add_damage(&manifest, &(struct damage){1, 4096, 8192, 2, 1700});
        manifest_add_damage(&manifest, &(struct damage){2, 4096, DAMAGE_TO_END, 0, 1700});
        manifest.floors[3] = (struct floor){77, 1};
        KHO_ASSERT(manifest_retire(&manifest, 0) == 0);
    }
    size_t length = manifest_length(&manifest);
    KHO_ASSERT(length <= max);
    manifest_encode(&manifest, to);
    manifest_fini(&manifest);
    return length;
}
