/* What is pure in 'kho-bench dictionary': the records it packs, the blocks, the options. */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <kho/record.h>

#include "bench/dictionary_options.h"
#include "bench/trainer.h"
#include "bench/trial.h"
#include "node/block.h"

static const char stanzas[] = "\n\nPackage: zeta\nVersion: 1\nDescription: the last\n of all\n\n"
                              "Version: 2\nComment: it has no name\n\n\n"
                              "Version: 3\npackage:  alpha \n\n"
                              "Package: m\nVersion: 4\n";

static void packages_make(const char *text, struct entries *ret)
{
    FILE *file = fmemopen((void *)text, strlen(text), "r");
    assert_non_null(file);
    assert_int_equal(entries_of_packages(file, ret), 0);
    fclose(file);
}

static struct record record_at(const struct entries *e, size_t i)
{
    struct record record = {0};
    size_t len = e->at[i + 1] - e->at[i];
    assert_int_equal(record_decode(e->bytes + e->at[i], len, &record), (int)len);
    KHO_ASSERT(record.key != NULL);
    assert_true(record_value_matches(&record));
    return record;
}

static void assert_key(const struct entries *e, size_t i, const char *key)
{
    struct record record = record_at(e, i);
    assert_int_equal(record.key_len, strlen(key));
    assert_memory_equal(record.key, key, record.key_len);
}

/* A stanza's record is what an import of it stores; what has no package is left out. */
static void packages(void **state)
{
    static const char first[] = "Package: zeta\nVersion: 1\nDescription: the last\n of all";
    struct entries e, none;
    (void)state;
    packages_make(stanzas, &e);
    assert_int_equal(e.count, 3);
    assert_key(&e, 0, "zeta");
    assert_key(&e, 1, "alpha");
    assert_key(&e, 2, "m");
    struct record record = record_at(&e, 0);
    assert_int_equal(record.raw_len, sizeof first - 1);
    assert_memory_equal(record.value, first, sizeof first - 1);
    entries_fini(&e);
    packages_make("\n", &none);
    assert_int_equal(none.count, 0);
    entries_fini(&none);
}

/* A stanza that no packed block has room for is left out, its neighbours stay. */
static void large_package(void **state)
{
    struct entries e;
    char *text = malloc(KHO_BLOCK_RAW_MAX + 64);
    (void)state;
    assert_non_null(text);
    size_t len = (size_t)sprintf(text, "Package: a\nText: ");
    memset(text + len, 'x', KHO_BLOCK_RAW_MAX);
    strcpy(text + len + KHO_BLOCK_RAW_MAX, "\n\nPackage: b\n");
    packages_make(text, &e);
    assert_int_equal(e.count, 1);
    assert_key(&e, 0, "b");
    entries_fini(&e);
    free(text);
}

/* The made-up sets are records as any other, the same each time. */
static void people(void **state)
{
    struct entries citizens, again, eids;
    (void)state;
    assert_int_equal(entries_of_citizens(50, &citizens), 0);
    assert_int_equal(entries_of_citizens(50, &again), 0);
    assert_int_equal(entries_of_eids(50, &eids), 0);
    assert_int_equal(citizens.count, 50);
    assert_int_equal(eids.count, 50);
    for (size_t i = 0; i < 50; i++) {
        struct record citizen = record_at(&citizens, i), eid = record_at(&eids, i);
        assert_int_equal(citizen.key_len, 12);
        assert_memory_equal(citizen.key, eid.key, 12);
    }
    assert_int_equal(citizens.at[50], again.at[50]);
    assert_memory_equal(citizens.bytes, again.bytes, citizens.at[50]);
    entries_fini(&citizens);
    entries_fini(&again);
    entries_fini(&eids);
}

static void orders(void **state)
{
    struct entries e, sorted, came, shuffled;
    size_t moved = 0;
    (void)state;
    assert_int_equal(entries_of_citizens(100, &e), 0);
    assert_int_equal(entries_sorted(&e, ENTRIES_BY_KEY, &sorted), 0);
    for (size_t i = 1; i < sorted.count; i++)
        assert_true(memcmp(record_at(&sorted, i - 1).key, record_at(&sorted, i).key, 12) < 0);
    assert_int_equal(entries_sorted(&e, ENTRIES_AS_THEY_COME, &came), 0);
    assert_memory_equal(e.bytes, came.bytes, e.at[100]);
    assert_int_equal(entries_sorted(&e, ENTRIES_AT_RANDOM, &shuffled), 0);
    assert_int_equal(shuffled.count, 100);
    assert_int_equal(shuffled.at[100], e.at[100]);
    for (size_t i = 0; i < 100; i++)
        moved += memcmp(record_at(&shuffled, i).key, record_at(&e, i).key, 12) != 0;
    assert_true(moved > 50);
    entries_fini(&e);
    entries_fini(&sorted);
    entries_fini(&came);
    entries_fini(&shuffled);
}

/* What is learnt from and what is packed share no record, and are all of them. */
static void halves(void **state)
{
    struct entries e, first, second, bare;
    (void)state;
    assert_int_equal(entries_of_citizens(4500, &e), 0);
    assert_int_equal(entries_split(&e, &first, &second), 0);
    assert_int_equal(first.count, 2500);
    assert_int_equal(second.count, 2000);
    assert_memory_equal(record_at(&first, 1000).key, record_at(&e, 2000).key, 12);
    assert_memory_equal(record_at(&second, 0).key, record_at(&e, 1000).key, 12);
    assert_int_equal(entries_without_heads(&second, &bare), 0);
    assert_int_equal(bare.at[2000], second.at[2000] - (size_t)2000 * KHO_RECORD_HEAD);
    assert_memory_equal(bare.bytes, record_at(&second, 0).key, 12);
    entries_fini(&e);
    entries_fini(&first);
    entries_fini(&second);
    entries_fini(&bare);
}

/* Blocks without a dictionary are the node's, byte for byte as long. */
static void blocks_of_the_node(void **state)
{
    static uint8_t body[BLOCK_RAW_MAX];
    const struct trial trial = {.block_bytes = BLOCK_RAW_MAX, .acceleration = 1};
    struct trial_figures figures;
    struct entries e;
    uint64_t packed = 0, disk = 0;
    (void)state;
    assert_int_equal(entries_of_citizens(300, &e), 0);
    assert_int_equal(trial_run(&trial, &e, &figures), 0);
    for (size_t from = 0, to = 0; from < e.count; from = to) {
        uint8_t codec;
        while (to < e.count && e.at[to + 1] - e.at[from] <= BLOCK_RAW_MAX)
            to++;
        uint32_t stored =
            block_pack(e.bytes + e.at[from], (uint32_t)(e.at[to] - e.at[from]), body, &codec);
        assert_int_equal(codec, KHO_CODEC_LZ4);
        packed += stored;
        disk += block_span(stored);
    }
    assert_int_equal(figures.raw_bytes, e.at[e.count]);
    assert_int_equal(figures.packed_bytes, packed);
    assert_int_equal(figures.disk_bytes, disk);
    assert_true(figures.pack_seconds > 0 && figures.unpack_seconds > 0);
    entries_fini(&e);
}

/* A dictionary of like records saves the more, the smaller the blocks are; one that shares nothing
 * with them still brings back the same. */
static void dictionaries(void **state)
{
    static const uint32_t sizes[] = {16 << 10, 8 << 10, 4 << 10, 64};
    struct entries e, learnt, tested;
    double before = 1;
    (void)state;
    assert_int_equal(entries_of_citizens(2000, &e), 0);
    assert_int_equal(entries_split(&e, &learnt, &tested), 0);
    for (size_t i = 0; i < KHO_COUNT_OF(sizes); i++) {
        struct trial_figures bare, helped;
        struct trial trial = {.block_bytes = sizes[i], .acceleration = 1};
        assert_int_equal(trial_run(&trial, &tested, &bare), 0);
        trial.dictionary = learnt.bytes;
        trial.dictionary_len = TRIAL_DICTIONARY_MAX;
        assert_int_equal(trial_run(&trial, &tested, &helped), 0);
        double left = (double)helped.packed_bytes / (double)bare.packed_bytes;
        assert_true(left < before);
        before = left;
        uint8_t alien[40] = {0};
        trial.dictionary = alien;
        trial.dictionary_len = sizeof alien;
        trial.acceleration = 2;
        assert_int_equal(trial_run(&trial, &tested, &helped), 0);
    }
    entries_fini(&e);
    entries_fini(&learnt);
    entries_fini(&tested);
}

/* Values that nothing can compress are stored as they are. */
static void incompressible(void **state)
{
    const struct trial trial = {.block_bytes = BLOCK_RAW_MAX, .acceleration = 1};
    struct trial_figures figures;
    struct entries e;
    char text[4096];
    struct kho_random random;
    (void)state;
    size_t len = (size_t)sprintf(text, "Package: a\nText: ");
    kho_random_init(&random, 1);
    while (len < sizeof text - 1)
        text[len++] = (char)(kho_random_below(&random, 200) + 32);
    text[len] = '\0';
    packages_make(text, &e);
    assert_int_equal(e.count, 1);
    assert_int_equal(trial_run(&trial, &e, &figures), 0);
    assert_int_equal(figures.packed_bytes, figures.raw_bytes);
    entries_fini(&e);
}

static void trainer(void **state)
{
    static uint8_t dictionary[4 << 10];
    struct entries e;
    const char *why = NULL;
    (void)state;
    assert_int_equal(entries_of_citizens(2000, &e), 0);
    size_t len = trainer_run(&e, dictionary, sizeof dictionary, &why);
    if (trainer_present()) {
        assert_true(len > sizeof dictionary / 2 && len <= sizeof dictionary);
        e.count = 1; /* too little to learn from */
        len = trainer_run(&e, dictionary, sizeof dictionary, &why);
    }
    assert_int_equal(len, 0);
    assert_non_null(why);
    entries_fini(&e);
}

/* --- Options ---------------------------------------------------------------------------------- */

static int options_of(const char *const *words, struct dictionary_options *ret, char *error)
{
    char *argv[16] = {(char *)"dictionary"};
    int argc = 1;
    for (; words[argc - 1] != NULL; argc++)
        argv[argc] = (char *)words[argc - 1];
    return dictionary_options_read(argc, argv, ret, error);
}

static void options(void **state)
{
    char error[DICTIONARY_ERROR_MAX];
    struct dictionary_options o;
    (void)state;
    assert_int_equal(options_of((const char *[]){NULL}, &o, error), 0);
    assert_true(o.citizens && o.eids && o.packages && o.order == ENTRIES_AS_THEY_COME);
    assert_int_equal(o.records, 200000);
    assert_int_equal(o.rounds, 5);
    const char *const all[] = {
        "--sets", "packages,citizens", "--records", "3000",   "--packages", "f", "--order",
        "key",    "--rounds",          "2",         "--json", "j",          NULL};
    assert_int_equal(options_of(all, &o, error), 0);
    assert_true(o.citizens && !o.eids && o.packages && o.order == ENTRIES_BY_KEY);
    assert_int_equal(o.records, 3000);
    assert_int_equal(o.rounds, 2);
    assert_string_equal(o.file, "f");
    assert_string_equal(o.json, "j");
    assert_string_equal(dictionary_order_name(o.order), "key");
}

static void wrong_options(void **state)
{
    static const struct {
        const char *words[3], *said;
    } wrong[] = {
        {{"--sets", "citizens,", NULL}, "not ''"},
        {{"--sets", "citizen", NULL}, "not 'citizen'"},
        {{"--records", "1", NULL}, "2,000 to 4,000,000"},
        {{"--rounds", "many", NULL}, "not 'many'"},
        {{"--order", "size", NULL}, "come, key or random"},
        {{"--order", NULL}, "missing behind '--order'"},
        {{"--blocks", NULL}, "no option '--blocks'"},
        {{"all", NULL}, "no argument 'all'"},
    };
    (void)state;
    for (size_t i = 0; i < KHO_COUNT_OF(wrong); i++) {
        char error[DICTIONARY_ERROR_MAX] = "";
        struct dictionary_options o = {.rounds = 77};
        assert_int_equal(options_of(wrong[i].words, &o, error), -1);
        assert_non_null(strstr(error, wrong[i].said));
        assert_int_equal(o.rounds, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packages),      cmocka_unit_test(large_package),
        cmocka_unit_test(people),        cmocka_unit_test(orders),
        cmocka_unit_test(halves),        cmocka_unit_test(blocks_of_the_node),
        cmocka_unit_test(dictionaries),  cmocka_unit_test(incompressible),
        cmocka_unit_test(trainer),       cmocka_unit_test(options),
        cmocka_unit_test(wrong_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
