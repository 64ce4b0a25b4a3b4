/* index_test.c: the index against a plain model that keeps its entries in an unordered array. */
#include "node/index.h"
#include "node/store.h"

#include <kho/record.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { PARTITIONS = 4, MODEL_MAX = 6000 };
static const uint32_t collections[] = {1, 2, 77};
static const uint64_t digest_seed = 0x5EED;

struct model_entry {
    uint32_t collection, partition;
    struct index_entry entry;
};

struct fixture {
    struct shard_world world;
    struct index *index;
    struct kho_random random;
    uint32_t count;
    struct model_entry model[MODEL_MAX];
};

static struct fixture *fixture_create(uint64_t memory_max, uint64_t seed)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    world_init(&f->world, memory_max, seed);
    kho_random_init(&f->random, seed);
    assert_int_equal(index_create(&f->world, PARTITIONS, digest_seed, &f->index), 0);
    return f;
}

static void fixture_destroy(struct fixture *f)
{
    index_destroy(f->index);
    assert_int_equal(f->world.memory_bytes, 0);
    free(f);
}

static uint64_t below(struct fixture *f, uint64_t bound)
{
    return kho_random_below(&f->random, bound);
}

/* `spread` 0: tags over the whole range; else they fall together at its top end. With 1 they differ
 * in their lowest 8 bits only. */
static struct key_tag tag_draw(struct fixture *f, unsigned spread)
{
    struct key_tag tag = {.high = kho_random_next(&f->random),
                          .low = (uint8_t)below(f, spread == 1 ? 256 : 3)};
    if (spread != 0)
        tag.high = UINT64_MAX - tag.high % spread;
    return tag;
}

static struct model_entry *model_find(struct fixture *f, uint32_t collection, uint32_t partition,
                                      struct key_tag tag)
{
    for (uint32_t i = 0; i < f->count; i++) {
        struct model_entry *m = &f->model[i];
        if (m->collection == collection && m->partition == partition &&
            key_tag_compare(m->entry.tag, tag) == 0)
            return m;
    }
    return NULL;
}

/* The lowest entry at or after `from`, or NULL. */
static struct model_entry *model_next(struct fixture *f, uint32_t collection, uint32_t partition,
                                      struct key_tag from)
{
    struct model_entry *best = NULL;
    for (uint32_t i = 0; i < f->count; i++) {
        struct model_entry *m = &f->model[i];
        if (m->collection != collection || m->partition != partition ||
            key_tag_compare(m->entry.tag, from) < 0)
            continue;
        if (best == NULL || key_tag_compare(m->entry.tag, best->entry.tag) < 0)
            best = m;
    }
    return best;
}

static void assert_entry_equal(const struct index_entry *a, const struct index_entry *b)
{
    assert_int_equal(key_tag_compare(a->tag, b->tag), 0);
    assert_int_equal(version_compare(a->version, b->version), 0);
    assert_int_equal(a->tombstone, b->tombstone);
    assert_int_equal(a->place, b->place);
    assert_int_equal(a->value_bytes, b->value_bytes);
}

static struct index_entry entry_draw(struct fixture *f, struct key_tag tag)
{
    struct index_entry e = {.tag = tag,
                            .version = {.counter = 1 + below(f, KHO_COUNTER_MAX),
                                        .writer = (uint32_t)kho_random_next(&f->random)},
                            .tombstone = below(f, 4) == 0,
                            .place = below(f, PLACE_UNKNOWN + 1),
                            .value_bytes = (uint32_t)below(f, KHO_VALUE_MAX)};
    return e;
}

static void step(struct fixture *f, unsigned spread, unsigned growth)
{
    uint32_t collection = collections[below(f, KHO_COUNT_OF(collections))];
    uint32_t partition = (uint32_t)below(f, PARTITIONS);
    struct model_entry *known = f->count > 0 ? &f->model[below(f, f->count)] : NULL;
    struct key_tag tag = tag_draw(f, spread);
    if (known != NULL && below(f, 3) == 0) {
        collection = known->collection;
        partition = known->partition;
        tag = known->entry.tag;
    }
    struct model_entry *m = model_find(f, collection, partition, tag);
    uint64_t dice = below(f, 100);
    if (dice < growth) {
        struct index_entry entry = entry_draw(f, tag);
        if (m == NULL && f->count == MODEL_MAX)
            return;
        assert_int_equal(index_put(f->index, collection, partition, &entry), 0);
        if (m == NULL)
            m = &f->model[f->count++];
        *m = (struct model_entry){collection, partition, entry};
    } else if (dice < 85) {
        assert_int_equal(index_remove(f->index, collection, partition, tag), m != NULL);
        if (m != NULL)
            *m = f->model[--f->count];
    } else if (dice < 90) {
        uint64_t place = below(f, PLACE_UNKNOWN + 1);
        assert_int_equal(index_repoint(f->index, collection, partition, tag, place), m != NULL);
        if (m != NULL)
            m->entry.place = place;
    } else if (dice < 95) {
        struct index_entry got;
        assert_int_equal(index_get(f->index, collection, partition, tag, &got), m != NULL);
        if (m != NULL)
            assert_entry_equal(&got, &m->entry);
    } else {
        struct index_entry got;
        m = model_next(f, collection, partition, tag);
        assert_int_equal(index_next(f->index, collection, partition, tag, &got), m != NULL);
        if (m != NULL)
            assert_entry_equal(&got, &m->entry);
    }
}

static void sum_add(struct index_digest *digest, const struct index_entry *e)
{
    uint8_t bytes[21];
    kho_store64(bytes, e->tag.high);
    bytes[8] = e->tag.low;
    kho_store64(bytes + 9, e->version.counter | (uint64_t)e->tombstone << 63);
    kho_store32(bytes + 17, e->version.writer);
    XXH128_hash_t hash = XXH3_128bits_withSeed(bytes, sizeof bytes, digest_seed);
    uint64_t low = digest->sum_low;
    digest->sum_low += hash.low64;
    digest->sum_high += hash.high64 + (digest->sum_low < low);
    digest->count++;
    digest->tombstones += e->tombstone;
    digest->bytes += KHO_RECORD_HEAD + e->value_bytes;
}

static void assert_digest_equal(const struct index_digest *a, const struct index_digest *b)
{
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->tombstones, b->tombstones);
    assert_int_equal(a->bytes, b->bytes);
    assert_int_equal(a->sum_low, b->sum_low);
    assert_int_equal(a->sum_high, b->sum_high);
}

/* Every table holds what the model holds, in order, under a digest computed from scratch. */
static void check_whole(struct fixture *f)
{
    struct index_digest totals = {0}, got;
    uint32_t seen = 0;
    for (uint32_t c = 0; c < KHO_COUNT_OF(collections); c++)
        for (uint32_t p = 0; p < PARTITIONS; p++) {
            struct index_digest table = {0};
            struct key_tag from = {0};
            struct index_entry e, before = {0};
            while (index_next(f->index, collections[c], p, from, &e)) {
                struct model_entry *m = model_find(f, collections[c], p, e.tag);
                assert_non_null(m);
                assert_entry_equal(&e, &m->entry);
                if (table.count > 0)
                    assert_true(key_tag_compare(before.tag, e.tag) < 0);
                sum_add(&table, &e);
                sum_add(&totals, &e);
                seen++;
                before = e;
                from = e.tag;
                if (++from.low == 0 && ++from.high == 0)
                    break;
            }
            assert_int_equal(index_digest(f->index, collections[c], p, &got), table.count > 0);
            assert_digest_equal(&got, &table);
        }
    assert_int_equal(seen, f->count);
    index_totals(f->index, &got);
    assert_digest_equal(&got, &totals);
    assert_int_equal(f->world.memory_bytes, index_memory(f->index));
}

static int order_of_tags(const void *a, const void *b)
{
    const struct index_entry *x = a, *y = b;
    return key_tag_compare(x->tag, y->tag);
}

/* Some of what one table has, and more, in the order of tags: all put at once, and into the model
 * where they are the higher ones. */
static void put_all(struct fixture *f, unsigned spread)
{
    enum { MAX = 600 };
    static struct index_entry entries[MAX];
    uint32_t partition = (uint32_t)below(f, PARTITIONS), count = 0, kept = 0;
    uint32_t wanted = 1 + (uint32_t)below(f, below(f, 2) == 0 ? 5 : MAX);
    int64_t unknown, expected = 0;
    for (uint32_t i = 0; i < wanted; i++) {
        const struct model_entry *m = f->count > 0 ? &f->model[below(f, f->count)] : NULL;
        bool known = m != NULL && m->collection == 1 && m->partition == partition;
        struct index_entry e = entry_draw(f, known ? m->entry.tag : tag_draw(f, spread));
        if (known && below(f, 3) == 0)
            e.version = m->entry.version;
        if (below(f, 3) == 0)
            e.place = PLACE_UNKNOWN;
        entries[count++] = e;
    }
    qsort(entries, count, sizeof *entries, order_of_tags);
    for (uint32_t i = 0; i < count; i++)
        if (kept == 0 || key_tag_compare(entries[kept - 1].tag, entries[i].tag) != 0)
            entries[kept++] = entries[i];
    for (uint32_t i = 0; i < kept; i++) {
        struct model_entry *m = model_find(f, 1, partition, entries[i].tag);
        if (m != NULL && !index_replaces(&entries[i], &m->entry))
            continue;
        if (m == NULL) {
            assert_true(f->count < MODEL_MAX);
            m = &f->model[f->count++];
        } else {
            expected -= m->entry.place == PLACE_UNKNOWN;
        }
        *m = (struct model_entry){1, partition, entries[i]};
        expected += entries[i].place == PLACE_UNKNOWN;
    }
    assert_int_equal(index_put_all(f->index, 1, partition, entries, kept, &unknown), 0);
    assert_int_equal(unknown, expected);
}

/* What many entries at once leave is what the same ones leave one by one. */
static void test_put_all(void **state)
{
    (void)state;
    static const unsigned spreads[] = {0, 0, 40, 1};
    for (uint64_t seed = 1; seed <= 8; seed++) {
        unsigned spread = spreads[seed % KHO_COUNT_OF(spreads)];
        struct fixture *f = fixture_create(UINT64_MAX, 20 + seed);
        for (unsigned round = 0; round < 12 && f->count < MODEL_MAX - 1000; round++) {
            put_all(f, spread);
            check_whole(f);
            for (unsigned i = 0; i < 40; i++)
                step(f, spread, 40);
            check_whole(f);
        }
        fixture_destroy(f);
    }
}

static void run(uint64_t seed, unsigned spread, unsigned steps)
{
    struct fixture *f = fixture_create(UINT64_MAX, seed);
    for (unsigned i = 0; i < steps; i++) {
        /* Phases of growth and of shrinking. */
        step(f, spread, (i / 2000) % 3 == 2 ? 15 : 70);
        if (i % 1000 == 999)
            check_whole(f);
    }
    fixture_destroy(f);
}

/* Random operations leave the index and a plain array with the same entries, order and digests. */
static void test_agrees_with_a_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++)
        run(seed, 0, 12000);
}

/* Tags that share all bits but the last few, more of them than a bucket holds, are kept all the
 * same. */
static void test_tags_that_fall_together(void **state)
{
    (void)state;
    run(5, 1, 12000);
    run(6, 40, 8000);
}

/* A partition that is dropped takes the entries of all collections with it, and no others. */
static void test_drop_partition(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(UINT64_MAX, 7);
    for (unsigned i = 0; i < 3000; i++)
        step(f, 0, 80);
    index_drop_partition(f->index, 2);
    for (uint32_t i = 0; i < f->count;) {
        if (f->model[i].partition == 2)
            f->model[i] = f->model[--f->count];
        else
            i++;
    }
    check_whole(f);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        index_drop_partition(f->index, p);
    assert_int_equal(index_collections(f->index, NULL, 0), 0);
    f->count = 0;
    check_whole(f);
    fixture_destroy(f);
}

/* Collections are told by rising id, whatever the order in which they came. */
static void test_collections_rise(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(UINT64_MAX, 8);
    static const uint32_t order[] = {9, 2, 1000, 1, 5};
    for (size_t i = 0; i < KHO_COUNT_OF(order); i++) {
        struct index_entry e = entry_draw(f, tag_draw(f, 0));
        assert_int_equal(index_put(f->index, order[i], 0, &e), 0);
    }
    uint32_t ids[3] = {0};
    assert_int_equal(index_collections(f->index, ids, 3), 5);
    assert_int_equal(ids[0], 1);
    assert_int_equal(ids[1], 2);
    assert_int_equal(ids[2], 5);
    fixture_destroy(f);
}

/* At the memory's bound new entries are refused and change nothing, while replacing and reserved
 * ones still pass. */
static void test_full_memory(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(1000000, 9);
    struct index_entry e = {0};
    assert_int_equal(index_reserve(f->index, 25000), KHO_EFULL);
    assert_int_equal(index_reserve(f->index, 100), 0);
    index_unreserve(f->index, 100);
    uint32_t refused = 0;
    while (refused < 1000) {
        uint32_t partition = (uint32_t)below(f, PARTITIONS);
        e = entry_draw(f, tag_draw(f, 0));
        uint64_t before = index_memory(f->index);
        int rc = index_put(f->index, 1, partition, &e);
        if (rc == 0 && f->count < MODEL_MAX)
            f->model[f->count++] = (struct model_entry){1, partition, e};
        if (rc != 0) {
            assert_int_equal(rc, KHO_EFULL);
            assert_false(index_get(f->index, 1, partition, e.tag, &e));
            /* A directory may have grown before no bucket was to be had: by a slab, the least. */
            assert_true(index_memory(f->index) <= before + 4096);
            refused++;
        }
    }
    assert_int_equal(f->count, MODEL_MAX);
    for (uint32_t i = 0; i < f->count; i++) {
        assert_true(index_get(f->index, 1, f->model[i].partition, f->model[i].entry.tag, &e));
        assert_entry_equal(&e, &f->model[i].entry);
    }
    assert_true(f->world.memory_bytes <= f->world.memory_max);
    assert_true(index_next(f->index, 1, 0, (struct key_tag){0}, &e));
    e.version.counter = KHO_COUNTER_MAX;
    assert_int_equal(index_put(f->index, 1, 0, &e), 0);
    fixture_destroy(f);

    f = fixture_create(8000000, 10);
    uint32_t reserved = 0;
    while (index_reserve(f->index, 1) == 0)
        reserved++;
    assert_true(reserved > 100000);
    for (uint32_t i = 0; i < reserved; i++) {
        e = entry_draw(f, tag_draw(f, 0));
        assert_int_equal(index_put(f->index, 1, (uint32_t)below(f, PARTITIONS), &e), 0);
        index_unreserve(f->index, 1);
    }
    /* What reservations charged covers what the entries took, and the slabs begun for them. */
    assert_true(f->world.memory_bytes <= f->world.memory_max);
    fixture_destroy(f);
}

/* Where memory ends, a part of many entries is there, and the index tells of exactly these. */
static void test_put_all_full(void **state)
{
    (void)state;
    enum { ENTRIES = 5000 };
    struct fixture *f = fixture_create(100000, 15);
    static struct index_entry entries[ENTRIES];
    int64_t unknown;
    for (uint32_t i = 0; i < ENTRIES; i++)
        entries[i] = entry_draw(f, tag_draw(f, 0));
    qsort(entries, ENTRIES, sizeof *entries, order_of_tags);
    assert_int_equal(index_put_all(f->index, 1, 2, entries, ENTRIES, &unknown), KHO_EFULL);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        struct index_entry got;
        if (index_get(f->index, 1, 2, entries[i].tag, &got))
            f->model[f->count++] = (struct model_entry){1, 2, entries[i]};
    }
    assert_true(f->count > 1000 && f->count < ENTRIES);
    check_whole(f);
    fixture_destroy(f);

    f = fixture_create(UINT64_MAX, 16);
    f->world.memory_max = f->world.memory_bytes;
    assert_int_equal(index_put_all(f->index, 1, 2, entries, 1, &unknown), KHO_EFULL);
    check_whole(f);
    fixture_destroy(f);
}

/* Wherever memory ends, a put is refused as full and changes nothing, and all that was put is
 * there: an index that can't be made at all, a collection without tables, a table without its first
 * bucket, a directory that can't grow. */
static void test_any_bound(void **state)
{
    (void)state;
    uint32_t refused_at_birth = 0, refused_first = 0, refused_later = 0;
    for (uint64_t room = 0; room < 40000; room += 397) {
        struct fixture *f = calloc(1, sizeof *f);
        assert_non_null(f);
        world_init(&f->world, room, 1);
        kho_random_init(&f->random, room);
        if (index_create(&f->world, PARTITIONS, digest_seed, &f->index) != 0) {
            assert_int_equal(f->world.memory_bytes, 0);
            refused_at_birth++;
            free(f);
            continue;
        }
        for (uint32_t i = 0; i < 400; i++) {
            struct index_entry e = entry_draw(f, tag_draw(f, 0)), old;
            uint32_t collection = collections[i % 3], partition = i / 3 % PARTITIONS;
            bool there;
            int rc = i % 2 == 0
                         ? index_put(f->index, collection, partition, &e)
                         : index_put_higher(f->index, collection, partition, &e, &there, &old);
            assert_true(rc == KHO_EFULL || rc == (int)(i % 2));
            if (rc != KHO_EFULL)
                f->model[f->count++] = (struct model_entry){collection, partition, e};
            else if (f->count == 0)
                refused_first++;
            else
                refused_later++;
        }
        check_whole(f);
        fixture_destroy(f);
    }
    assert_true(refused_at_birth > 0 && refused_first > 0 && refused_later > 0);
}

/* Memory that others took beyond the bound leaves nothing to reserve. */
static void test_reserve_beyond(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(1000000, 17);
    f->world.memory_max = f->world.memory_bytes - 1;
    assert_int_equal(index_reserve(f->index, 1), KHO_EFULL);
    f->world.memory_max = 1000000;
    assert_int_equal(index_reserve(f->index, 1), 0);
    index_unreserve(f->index, 1);
    fixture_destroy(f);
    index_destroy(NULL);
}

/* Fetching ahead what isn't there is harmless: no such collection, partition, table or bucket. */
static void test_prefetch_of_nothing(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(UINT64_MAX, 18);
    struct index_entry e = entry_draw(f, tag_draw(f, 0)), got;
    assert_int_equal(index_put(f->index, 2, 1, &e), 0);
    for (uint32_t collection = 0; collection <= 3; collection++)
        for (uint32_t partition = 0; partition <= PARTITIONS; partition++) {
            for (uint32_t step = 0; step < INDEX_PREFETCH_STEPS; step++)
                index_prefetch(f->index, collection, partition, e.tag, step);
            index_prefetch_growth(f->index, collection, partition, e.tag);
            if (partition < PARTITIONS)
                assert_int_equal(index_get(f->index, collection, partition, e.tag, &got),
                                 collection == 2 && partition == 1);
        }
    fixture_destroy(f);
}

static struct index *index_fill(struct shard_world *world, struct kho_random *random,
                                uint32_t partitions, uint32_t count)
{
    struct index *index;
    assert_int_equal(index_create(world, partitions, digest_seed, &index), 0);
    for (uint32_t i = 0; i < count; i++) {
        struct index_entry e = {
            .tag = {.high = kho_random_next(random), .low = (uint8_t)kho_random_next(random)},
            .version = {.counter = i + 1, .writer = 7},
            .place = i,
            .value_bytes = 300};
        uint32_t partition = (uint32_t)kho_random_below(random, partitions);
        assert_int_equal(index_put(index, 1, partition, &e), 0);
    }
    return index;
}

/* A million records take less than 33 bytes each, tables, directories and slack included, over many
 * partitions as in a single one. */
static void test_bytes_a_record(void **state)
{
    (void)state;
    enum { RECORDS = 1000000 };
    static const uint32_t partitions[] = {4096, 1};
    for (size_t i = 0; i < KHO_COUNT_OF(partitions); i++) {
        struct shard_world world;
        struct kho_random random;
        world_init(&world, UINT64_MAX, 13);
        kho_random_init(&random, 13);
        struct index *index = index_fill(&world, &random, partitions[i], RECORDS);
        assert_int_equal(index_memory(index), world.memory_bytes);
        assert_true(index_memory(index) < UINT64_C(33) * RECORDS);
        index_destroy(index);
        assert_int_equal(world.memory_bytes, 0);
    }
}

/* So it is after a start, which puts some of each table at once, again and again. */
static void test_bytes_of_many_at_once(void **state)
{
    (void)state;
    enum { RECORDS = 1000000, TABLES = 4096, ROUNDS = 8, EACH = RECORDS / TABLES / ROUNDS };
    struct shard_world world;
    struct kho_random random;
    struct index *index;
    struct index_entry entries[EACH];
    int64_t unknown;
    world_init(&world, UINT64_MAX, 17);
    kho_random_init(&random, 17);
    assert_int_equal(index_create(&world, TABLES, digest_seed, &index), 0);
    for (uint32_t i = 0; i < ROUNDS * TABLES; i++) {
        for (uint32_t n = 0; n < EACH; n++)
            entries[n] = (struct index_entry){.tag = {.high = kho_random_next(&random)},
                                              .version = {.counter = i + 1, .writer = 7},
                                              .place = i,
                                              .value_bytes = 300};
        qsort(entries, EACH, sizeof *entries, order_of_tags);
        assert_int_equal(index_put_all(index, 1, i % TABLES, entries, EACH, &unknown), 0);
    }
    struct index_digest totals;
    index_totals(index, &totals);
    assert_int_equal(totals.count, ROUNDS * TABLES * EACH);
    assert_true(index_memory(index) < UINT64_C(33) * totals.count);
    index_destroy(index);
    assert_int_equal(world.memory_bytes, 0);
}

/* What entries leave when they go is there for others, whatever their number in a table was: half
 * of the entries gone at random, and then half of the tables, the memory follows. */
static void test_memory_follows(void **state)
{
    (void)state;
    enum { RECORDS = 1000000, TABLES = 64 };
    struct shard_world world;
    struct kho_random random;
    world_init(&world, UINT64_MAX, 14);
    kho_random_init(&random, 14);
    struct index *index = index_fill(&world, &random, TABLES, RECORDS);
    uint32_t left = 0;
    for (uint32_t p = 0; p < TABLES; p++) {
        struct index_entry e;
        struct key_tag from = {0};
        while (index_next(index, 1, p, from, &e)) {
            if (kho_random_below(&random, 2) == 0)
                assert_true(index_remove(index, 1, p, e.tag));
            else
                left++;
            from = e.tag;
            from.high += ++from.low == 0;
        }
    }
    assert_true(index_memory(index) < UINT64_C(36) * left);
    for (uint32_t p = 0; p < TABLES; p += 2)
        index_drop_partition(index, p);
    struct index_digest totals;
    index_totals(index, &totals);
    assert_true(totals.count < UINT64_C(6) * left / 10);
    assert_true(index_memory(index) < UINT64_C(38) * totals.count);
    index_destroy(index);
    assert_int_equal(world.memory_bytes, 0);
}

static bool count_and_mark(void *arg, uint32_t collection, uint32_t partition,
                           struct index_entry *entry)
{
    uint32_t *counts = arg;
    (void)collection;
    (void)partition;
    counts[0]++;
    if (!entry->tombstone)
        return false;
    counts[1]++;
    entry->place = PLACE_UNKNOWN;
    return true;
}

/* A scan sees each entry once and repoints exactly those it says so of. */
static void test_scan_repoints(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(UINT64_MAX, 11);
    for (unsigned i = 0; i < 3000; i++)
        step(f, 0, 80);
    uint32_t counts[2] = {0}, tombstones = 0;
    index_scan(f->index, count_and_mark, counts);
    for (uint32_t i = 0; i < f->count; i++)
        if (f->model[i].entry.tombstone) {
            f->model[i].entry.place = PLACE_UNKNOWN;
            tombstones++;
        }
    assert_int_equal(counts[0], f->count);
    assert_int_equal(counts[1], tombstones);
    check_whole(f);
    fixture_destroy(f);
}

/* A value of exactly 16 MiB counts as one byte less, and nothing else does. */
static void test_longest_value(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(UINT64_MAX, 12);
    struct index_entry e = entry_draw(f, tag_draw(f, 0)), got;
    e.value_bytes = KHO_VALUE_MAX;
    assert_int_equal(index_put(f->index, 1, 0, &e), 0);
    assert_true(index_get(f->index, 1, 0, e.tag, &got));
    assert_int_equal(got.value_bytes, KHO_VALUE_MAX - 1);
    e.value_bytes = KHO_VALUE_MAX - 2;
    assert_int_equal(index_put(f->index, 1, 0, &e), 0);
    assert_true(index_get(f->index, 1, 0, e.tag, &got));
    assert_int_equal(got.value_bytes, KHO_VALUE_MAX - 2);
    fixture_destroy(f);
}

/* The higher version stays, of equal ones one that has a place. */
static void test_put_higher(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(UINT64_MAX, 13);
    struct index_entry e = entry_draw(f, tag_draw(f, 0)), got, old;
    bool there = true;
    e.version = (struct version){.counter = 100, .writer = 5};
    e.place = 640;
    assert_int_equal(index_put_higher(f->index, 1, 0, &e, &there, &old), 1);
    assert_false(there);
    struct index_entry lower = e, unknown = e, again = e, higher = e;
    lower.version.writer = 4;
    unknown.place = PLACE_UNKNOWN;
    again.place = 1280;
    higher.version.counter = 101;
    higher.place = PLACE_UNKNOWN;
    assert_int_equal(index_put_higher(f->index, 1, 0, &lower, &there, &old), 0);
    assert_true(there);
    assert_int_equal(index_put_higher(f->index, 1, 0, &unknown, &there, &old), 0);
    assert_true(index_get(f->index, 1, 0, e.tag, &got));
    assert_int_equal(got.version.writer, 5);
    assert_int_equal(got.place, 640);
    assert_int_equal(index_put_higher(f->index, 1, 0, &again, &there, &old), 1);
    assert_int_equal(old.place, 640);
    assert_int_equal(index_put_higher(f->index, 1, 0, &higher, &there, &old), 1);
    assert_int_equal(old.place, 1280);
    assert_true(index_get(f->index, 1, 0, e.tag, &got));
    assert_int_equal(got.version.counter, 101);
    assert_int_equal(got.place, PLACE_UNKNOWN);
    struct index_digest digest;
    assert_true(index_digest(f->index, 1, 0, &digest));
    assert_int_equal(digest.count, 1);
    fixture_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_a_model),
        cmocka_unit_test(test_tags_that_fall_together),
        cmocka_unit_test(test_drop_partition),
        cmocka_unit_test(test_collections_rise),
        cmocka_unit_test(test_full_memory),
        cmocka_unit_test(test_scan_repoints),
        cmocka_unit_test(test_longest_value),
        cmocka_unit_test(test_bytes_a_record),
        cmocka_unit_test(test_memory_follows),
        cmocka_unit_test(test_put_higher),
        cmocka_unit_test(test_put_all),
        cmocka_unit_test(test_put_all_full),
        cmocka_unit_test(test_any_bound),
        cmocka_unit_test(test_reserve_beyond),
        cmocka_unit_test(test_prefetch_of_nothing),
        cmocka_unit_test(test_bytes_of_many_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
