/* The options of kho-bench put, append, get and mixed: what is taken, and what is refused with a
 * sentence that names it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "bench/load_options.h"

static struct load_options options;
static char why[256];

static int parse(enum load_command command, const char *line)
{
    static char words[512];
    char *list[32];
    int count = 0;
    strcpy(words, line);
    for (char *word = strtok(words, " "); word != NULL; word = strtok(NULL, " "))
        list[count++] = word;
    return load_options_parse(command, count, list, &options, why, sizeof why);
}

static void defaults(void **state)
{
    (void)state;
    assert_int_equal(parse(LOAD_PUT, ""), 0);
    assert_int_equal(options.command, LOAD_PUT);
    assert_int_equal(options.local, 3);
    assert_int_equal(options.batch, 256);
    assert_int_equal(options.inflight, 8);
    assert_int_equal(options.value_min, 300);
    assert_int_equal(options.value_max, 300);
    assert_int_equal(options.records, 0);
    assert_int_equal(parse(LOAD_GET, ""), 0);
    assert_int_equal(options.records, 100000);
}

static void both_spellings(void **state)
{
    (void)state;
    assert_int_equal(parse(LOAD_PUT, "--seconds 2.5 --warmup=0 --batch=1 --inflight 512 --json - "
                                     "--value 100..4096 --incompressible --records 5 --seed 9"),
                     0);
    assert_true(options.seconds == 2.5 && options.warmup == 0);
    assert_int_equal(options.batch, 1);
    assert_int_equal(options.inflight, 512);
    assert_int_equal(options.value_min, 100);
    assert_int_equal(options.value_max, 4096);
    assert_true(options.incompressible);
    assert_int_equal(options.records, 5);
    assert_int_equal(options.seed, 9);
    assert_string_equal(options.json, "-");
    assert_int_equal(parse(LOAD_PUT, "--batch 3 --batch 4"), 0);
    assert_int_equal(options.batch, 4);
}

static void running_cluster(void **state)
{
    (void)state;
    assert_int_equal(parse(LOAD_GET, "--cluster 10.0.0.1:7700"), 0);
    assert_int_equal(options.local, 0);
    assert_string_equal(options.cluster, "10.0.0.1:7700");
    assert_int_equal(parse(LOAD_GET, "--cluster 10.0.0.1:7700 --local 3"), -1);
}

/* What isn't said depends on the command and on the rest. */
static void dependent(void **state)
{
    (void)state;
    assert_int_equal(parse(LOAD_MIXED, ""), 0);
    assert_int_equal(options.mix->letter, 'a');
    assert_int_equal(options.pick, PICK_ZIPFIAN);
    assert_int_equal(options.batch, 1);
    assert_int_equal(options.inflight, 64);
    assert_int_equal(parse(LOAD_MIXED, "--workload D --clients 4"), 0);
    assert_int_equal(options.pick, PICK_LATEST);
    assert_int_equal(options.clients, 4);
    assert_int_equal(parse(LOAD_MIXED, "--workload d --distribution uniform"), 0);
    assert_int_equal(options.pick, PICK_UNIFORM);
    assert_int_equal(parse(LOAD_GET, ""), 0);
    assert_int_equal(options.pick, PICK_UNIFORM);
    assert_int_equal(parse(LOAD_PUT, "--records 10"), 0);
    assert_int_equal(options.pick, PICK_TURN);
    assert_int_equal(parse(LOAD_PUT, "--rate 1e5 --fixed --batch 16"), 0);
    assert_true(options.rate == 1e5 && options.fixed);
    assert_int_equal(options.inflight, 4096);
    assert_int_equal(parse(LOAD_GET, "--cluster a:1 --loaded"), 0);
    assert_true(options.loaded);
}

/* Each is refused by a sentence that holds the given word, and leaves the options as they were. */
static void refused(void **state)
{
    static const struct {
        enum load_command command;
        const char *line, *word;
    } cases[] = {
        {LOAD_PUT, "--batch 0", "--batch"},
        {LOAD_PUT, "--batch 65537", "--batch"},
        {LOAD_PUT, "--batch 12x", "--batch"},
        {LOAD_PUT, "--batch -1", "--batch"},
        {LOAD_PUT, "--batch", "--batch"},
        {LOAD_PUT, "--seconds nan", "--seconds"},
        {LOAD_PUT, "--seconds 0", "--seconds"},
        {LOAD_PUT, "--value 39", "--value"},
        {LOAD_PUT, "--value 300..100", "--value"},
        {LOAD_PUT, "--value 300..", "--value"},
        {LOAD_PUT, "--value 300...400", "--value"},
        {LOAD_PUT, "--value 16777217", "--value"},
        {LOAD_PUT, "--bogus 1", "--bogus"},
        {LOAD_PUT, "more", "more"},
        {LOAD_PUT, "--incompressible=1", "value"},
        {LOAD_APPEND, "--records 5", "--records"},
        {LOAD_GET, "--records 0", "--records"},
        {LOAD_PUT, "--local 10", "--local"},
        {LOAD_MIXED, "--workload g", "--workload"},
        {LOAD_PUT, "--workload a", "--workload"},
        {LOAD_GET, "--distribution normal", "--distribution"},
        {LOAD_PUT, "--distribution zipfian", "--distribution"},
        {LOAD_APPEND, "--distribution turn", "--distribution"},
        {LOAD_PUT, "--fixed", "--fixed"},
        {LOAD_GET, "--loaded", "--loaded"},
        {LOAD_GET, "--clients 65", "--clients"},
        {LOAD_GET, "--clients 8 --records 7", "--records"},
        {LOAD_PUT, "--rate 0", "--rate"},
        {LOAD_PUT, "--seed 99999999999999999999", "--seed"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        options.seed = 77;
        why[0] = '\0';
        assert_int_equal(parse(cases[i].command, cases[i].line), -1);
        assert_non_null(strstr(why, cases[i].word));
        assert_int_equal(options.seed, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),        cmocka_unit_test(both_spellings),
        cmocka_unit_test(running_cluster), cmocka_unit_test(dependent),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
