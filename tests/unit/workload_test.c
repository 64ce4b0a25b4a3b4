/* What a client process of kho-bench does: who writes which records, and which answers are right.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include <kho/error.h>

#include "bench/mix.h"
#include "bench/workload.h"

enum { BATCH = 10, RECORDS = 25 };

static struct values values;
static struct load_options options;
static struct workload w;
static uint64_t numbers[BATCH];
static uint32_t revisions[BATCH];
static struct work work = {.numbers = numbers, .revisions = revisions};
static struct kho_item items[BATCH];
static char bytes[BATCH * (VALUE_KEY + 300)];

static void begin(enum load_command command, uint64_t records, uint64_t client, uint64_t clients)
{
    options = (struct load_options){.command = command,
                                    .records = records,
                                    .pick = command == LOAD_GET ? PICK_UNIFORM : PICK_TURN,
                                    .mix = mix_find("c"),
                                    .clients = clients,
                                    .value_min = 300,
                                    .value_max = 300,
                                    .seed = 1};
    assert_int_equal(workload_init(&w, &options, &values, client, clients), 0);
}

/* The answer that item i would get from a cluster that has it. */
static struct kho_result answer(size_t i)
{
    return (struct kho_result){.key = items[i].key,
                               .key_len = items[i].key_len,
                               .value = items[i].value,
                               .value_len = items[i].value_len};
}

/* Shares of the preload are disjoint and complete. */
static void shares_complete(void **state)
{
    bool seen[RECORDS] = {false};
    size_t sum = 0;
    (void)state;
    for (uint64_t client = 0; client < 3; client++) {
        begin(LOAD_GET, RECORDS, client, 3);
        workload_begin(&w, PHASE_PRELOAD);
        while (workload_draw(&w, BATCH, &work)) {
            assert_int_equal(work.op, OP_INSERT);
            for (size_t i = 0; i < work.count; i++, sum++) {
                assert_true(numbers[i] < RECORDS && !seen[numbers[i]]);
                seen[numbers[i]] = true;
            }
        }
        workload_fini(&w);
    }
    assert_int_equal(sum, RECORDS);
}

/* Keys that are written over and over: each time with its next revision; an older one than
 * acknowledged is wrong when it is read. */
static void revisions_rise(void **state)
{
    (void)state;
    begin(LOAD_PUT, BATCH, 0, 1);
    workload_begin(&w, PHASE_RUN);
    for (uint32_t round = 1; round <= 3; round++) {
        assert_true(workload_draw(&w, BATCH, &work));
        assert_int_equal(workload_make(&w, &work, items, bytes), BATCH * (VALUE_KEY + 300));
        for (size_t i = 0; i < BATCH; i++) {
            struct kho_result result = answer(i);
            assert_int_equal(revisions[i], round);
            assert_int_equal(workload_take(&w, &work, i, &result), WORK_RIGHT);
        }
    }
    workload_begin(&w, PHASE_READBACK);
    assert_true(workload_draw(&w, BATCH, &work));
    assert_int_equal(workload_make(&w, &work, items, bytes), BATCH * VALUE_KEY);
    char value[300];
    struct kho_result result = {.value = value, .value_len = sizeof value};
    value_make(&values, w.kept[0].number, 3, value);
    assert_int_equal(workload_take(&w, &work, 0, &result), WORK_RIGHT);
    value_make(&values, w.kept[0].number, 2, value);
    assert_int_equal(workload_take(&w, &work, 0, &result), WORK_WRONG);
    workload_fini(&w);
}

/* Keys in turn: each is one client's, so that nobody else writes it. */
static void turns_disjoint(void **state)
{
    (void)state;
    for (uint64_t client = 0; client < 3; client++) {
        begin(LOAD_PUT, RECORDS, client, 3);
        workload_begin(&w, PHASE_RUN);
        for (size_t call = 0; call < 10; call++) {
            assert_true(workload_draw(&w, BATCH, &work));
            for (size_t i = 0; i < BATCH; i++)
                assert_true(numbers[i] % 3 == client && numbers[i] < RECORDS);
        }
        workload_fini(&w);
    }
}

static void begin_mix(const char *letter, uint64_t clients)
{
    begin(LOAD_MIXED, RECORDS, 0, clients);
    options.mix = mix_find(letter);
    options.pick = options.mix->pick;
    workload_fini(&w);
    assert_int_equal(workload_init(&w, &options, &values, 0, clients), 0);
    workload_begin(&w, PHASE_RUN);
}

/* Every operation comes as often as its letter says. */
static void shares_of_mixes(void **state)
{
    enum { CALLS = 20000 };
    (void)state;
    for (char letter[2] = "a"; letter[0] <= 'f'; letter[0]++) {
        uint64_t found[OPS] = {0};
        begin_mix(letter, 1);
        w.cursor_count = 1;
        for (size_t i = 0; i < CALLS; i++) {
            assert_true(workload_draw(&w, 1, &work));
            found[work.op]++;
        }
        const struct mix *mix = options.mix;
        const unsigned shares[OPS] = {[OP_READ] = mix->read,
                                      [OP_UPDATE] = mix->update,
                                      [OP_INSERT] = mix->insert,
                                      [OP_SCAN] = mix->scan,
                                      [OP_MODIFY] = mix->modify};
        for (size_t op = 0; op < OPS; op++)
            assert_true(found[op] + CALLS / 50 > CALLS / 100 * shares[op] &&
                        found[op] < CALLS / 100 * shares[op] + CALLS / 50);
        workload_fini(&w);
    }
}

/* An insert is picked once it, and all before it, are acknowledged. */
static void inserts_in_order(void **state)
{
    uint64_t first;
    (void)state;
    begin_mix("d", 1);
    do
        workload_draw(&w, 1, &work);
    while (work.op != OP_INSERT);
    first = numbers[0];
    assert_int_equal(first, RECORDS);
    do
        workload_draw(&w, 1, &work);
    while (work.op != OP_INSERT);
    assert_int_equal(numbers[0], RECORDS + 1);
    struct kho_result result = {.key = "0123456789abcdef", .key_len = VALUE_KEY};
    assert_int_equal(workload_take(&w, &work, 0, &result), WORK_RIGHT);
    assert_int_equal(w.pick.count, RECORDS);
    numbers[0] = first;
    assert_int_equal(workload_take(&w, &work, 0, &result), WORK_RIGHT);
    assert_int_equal(w.pick.count, RECORDS + 2);
    workload_fini(&w);
}

/* A modification reads, then writes the same records, and ends. What it wrote is the oldest that a
 * later read may bring; with several clients nobody knows that. */
static void modify_in_two(void **state)
{
    (void)state;
    for (uint64_t clients = 1; clients <= 2; clients++) {
        begin_mix("f", clients);
        do
            workload_draw(&w, 1, &work);
        while (work.op != OP_MODIFY);
        uint64_t number = numbers[0];
        assert_int_equal(workload_make(&w, &work, items, bytes), VALUE_KEY);
        assert_true(workload_goes_on(&w, &work));
        assert_int_equal(numbers[0], number);
        assert_int_equal(workload_make(&w, &work, items, bytes), VALUE_KEY + 300);
        struct kho_result result = answer(0);
        assert_int_equal(workload_take(&w, &work, 0, &result), WORK_RIGHT);
        assert_false(workload_goes_on(&w, &work));
        uint32_t written = revisions[0];
        assert_int_equal(written, clients);
        do
            workload_draw(&w, 1, &work);
        while (numbers[0] != number);
        assert_int_equal(revisions[0], clients == 1 ? written : 0);
        workload_fini(&w);
    }
}

/* Walking the collection leaves places to start scans from; what a scan brings is checked. */
static void scans(void **state)
{
    struct kho_cursor next = {.bytes = {1}};
    char key[VALUE_KEY], value[300];
    (void)state;
    begin_mix("e", 1);
    workload_begin(&w, PHASE_WALK);
    assert_true(workload_draw(&w, 1, &work));
    assert_int_equal(work.op, OP_SCAN);
    assert_int_equal(work.from.bytes[0], 0);
    workload_take_page(&w, &next, false);
    assert_true(workload_draw(&w, 1, &work));
    assert_int_equal(work.from.bytes[0], 1);
    workload_take_page(&w, &next, true);
    assert_false(workload_draw(&w, 1, &work));
    assert_int_equal(w.cursor_count, 2);
    value_key(77, key);
    struct kho_result result = {.key = key,
                                .key_len = VALUE_KEY,
                                .value = value,
                                .value_len = value_make(&values, 77, 5, value)};
    assert_int_equal(workload_take_scanned(&w, &result), WORK_RIGHT);
    value[200] ^= 1;
    assert_int_equal(workload_take_scanned(&w, &result), WORK_WRONG);
    key[7] = 'x';
    assert_int_equal(workload_take_scanned(&w, &result), WORK_WRONG);
    workload_fini(&w);
}

/* What an append gave as key is what is read back, by that key. */
static void appended_read_back(void **state)
{
    static const char given[] = "0123456789abcdef";
    (void)state;
    begin(LOAD_APPEND, 0, 1, 2);
    workload_begin(&w, PHASE_RUN);
    assert_true(workload_draw(&w, 2, &work));
    workload_make(&w, &work, items, bytes);
    assert_int_equal(items[0].key_len, 0);
    struct kho_result result = {.key = given, .key_len = VALUE_KEY};
    assert_int_equal(workload_take(&w, &work, 1, &result), WORK_RIGHT);
    uint64_t number = numbers[1];
    workload_begin(&w, PHASE_READBACK);
    assert_true(workload_draw(&w, BATCH, &work));
    assert_int_equal(work.count, 1);
    workload_make(&w, &work, items, bytes);
    assert_memory_equal(items[0].key, given, VALUE_KEY);
    char value[300];
    result =
        (struct kho_result){.value = value, .value_len = value_make(&values, number, 0, value)};
    assert_int_equal(workload_take(&w, &work, 0, &result), WORK_RIGHT);
    assert_false(workload_draw(&w, BATCH, &work));
    workload_fini(&w);
}

/* Errors, absence and doubt are told apart. */
static void verdicts(void **state)
{
    (void)state;
    begin(LOAD_GET, RECORDS, 0, 1);
    workload_begin(&w, PHASE_RUN);
    assert_true(workload_draw(&w, 1, &work));
    struct kho_result result = {.status = KHO_ENOTFOUND};
    assert_int_equal(workload_take(&w, &work, 0, &result), WORK_MISSING);
    result.status = KHO_EUNAVAILABLE;
    assert_int_equal(workload_take(&w, &work, 0, &result), WORK_FAILED);
    result = (struct kho_result){.value = "", .value_len = 0};
    assert_int_equal(workload_take(&w, &work, 0, &result), WORK_WRONG);
    workload_fini(&w);
    begin(LOAD_PUT, 0, 0, 1);
    workload_begin(&w, PHASE_RUN);
    assert_true(workload_draw(&w, 1, &work));
    workload_make(&w, &work, items, bytes);
    result = answer(0);
    result.status = KHO_EINDOUBT;
    result.outcome = KHO_IN_DOUBT;
    assert_int_equal(workload_take(&w, &work, 0, &result), WORK_FAILED);
    assert_int_equal(w.kept_count, 0);
    workload_fini(&w);
}

static int values_make(void **state)
{
    (void)state;
    return values_init(&values, 300, 300, true, 1);
}

static int values_end(void **state)
{
    (void)state;
    values_fini(&values);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_complete),
        cmocka_unit_test(revisions_rise),
        cmocka_unit_test(turns_disjoint),
        cmocka_unit_test(shares_of_mixes),
        cmocka_unit_test(inserts_in_order),
        cmocka_unit_test(modify_in_two),
        cmocka_unit_test(scans),
        cmocka_unit_test(appended_read_back),
        cmocka_unit_test(verdicts),
    };
    return cmocka_run_group_tests(tests, values_make, values_end);
}
