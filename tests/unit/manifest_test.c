/* manifest_test.c: does a manifest whose checksum holds, but whose fields break a rule, end the
 * start? What compaction asserts of the list of segments has to be checked when it is read. */
#include "unit.h"

#include "node/manifest.h"
#include "node/store.h"

enum { SEGMENTS = 4 };

struct made {
    struct shard_world world;
    uint8_t bytes[4096];
    size_t length;
};

/* Sealed segments that account for the sequences up to these, behind a base. */
static void make(struct made *made, uint64_t base, const uint64_t *lasts)
{
    struct manifest manifest;
    world_init(&made->world, 1u << 20, 1);
    manifest_init(&manifest, &made->world);
    manifest.shard_count = 1;
    manifest.identity.cluster.bytes[0] = 1;
    manifest.next_segment = SEGMENTS + 1;
    manifest.base = base;
    assert_int_equal(manifest_set_partitions(&manifest, 16), 0);
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        struct segment segment = {.id = i + 1,
                                  .size = 1 << 20,
                                  .alignment = 4096,
                                  .sealed = true,
                                  .end = 8192,
                                  .last = lasts[i],
                                  .file = -1};
        assert_int_equal(manifest_add_segment(&manifest, &segment), 0);
    }
    made->length = manifest_length(&manifest);
    assert_true(made->length <= sizeof made->bytes);
    manifest_encode(&manifest, made->bytes);
    manifest_fini(&manifest);
}

static int decode(struct made *made)
{
    struct manifest manifest;
    manifest_init(&manifest, &made->world);
    int error = manifest_decode(&manifest, made->bytes, made->length);
    manifest_fini(&manifest);
    assert_int_equal(made->world.memory_bytes, 0);
    return error;
}

/* The checksum of bytes that were changed: manifest.h's layout says over what. */
static void made_seal(struct made *made)
{
    XXH128_canonical_t canonical;
    uint64_t seed = XXH3_64bits(made->bytes, 16);
    XXH128_canonicalFromHash(&canonical,
                             XXH3_128bits_withSeed(made->bytes + 32, made->length - 32, seed));
    memcpy(made->bytes + 16, canonical.digest, 16);
}

/* What segments account for never falls: a retired one leaves its end to the one before it. */
static void ends_rise(void **state)
{
    static struct made made;
    (void)state;
    make(&made, 10, (const uint64_t[]){10, 20, 20, 30});
    assert_int_equal(decode(&made), 0);
    make(&made, 10, (const uint64_t[]){10, 20, 19, 30});
    assert_int_equal(decode(&made), KHO_EMALFORMED);
    make(&made, 11, (const uint64_t[]){10, 20, 20, 30});
    assert_int_equal(decode(&made), KHO_EMALFORMED);
}

/* Numbers that only rise are never so high that going on from them would overflow: the fields of
 * the head that hold such, one after the other, under a right checksum. */
static void nothing_overflows(void **state)
{
    static const size_t at[] = {72, 80, 88, 96, 104, 136};
    static struct made made;
    (void)state;
    for (size_t i = 0; i < KHO_COUNT_OF(at); i++) {
        make(&made, 0, (const uint64_t[]){10, 20, 20, 30});
        assert_int_equal(decode(&made), 0);
        kho_store64(made.bytes + at[i], UINT64_MAX);
        made_seal(&made);
        assert_int_equal(decode(&made), KHO_EMALFORMED);
    }
    make(&made, 0, (const uint64_t[]){10, 20, 20, UINT64_MAX});
    assert_int_equal(decode(&made), KHO_EMALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_rise),
        cmocka_unit_test(nothing_overflows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
