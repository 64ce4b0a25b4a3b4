/* simulator_test.c: the simulator's own parts: a checker that passes everything, or a disk that
 * loses nothing, would make every other test worthless. */
#include "tests/sim/damage.h"
#include "tests/sim/disk.h"
#include "tests/sim/history.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* --- The checker ------------------------------------------------------------------------------ */

#define W(v, a, b)                                                                                 \
    {                                                                                              \
        .kind = HISTORY_WRITE, .end = HISTORY_OK, .value = v, .begun_ns = a, .ended_ns = b         \
    }
#define R(v, a, b)                                                                                 \
    {                                                                                              \
        .kind = HISTORY_READ, .end = HISTORY_OK, .value = v, .begun_ns = a, .ended_ns = b          \
    }
#define D(v, a)                                                                                    \
    {                                                                                              \
        .kind = HISTORY_WRITE, .end = HISTORY_IN_DOUBT, .value = v, .begun_ns = a,                 \
        .ended_ns = UINT64_MAX                                                                     \
    }
#define N(v, a, b)                                                                                 \
    {                                                                                              \
        .kind = HISTORY_WRITE, .end = HISTORY_NOT, .value = v, .begun_ns = a, .ended_ns = b        \
    }
#define EXPECT(result, ...)                                                                        \
    do {                                                                                           \
        const struct history_op ops[] = {__VA_ARGS__};                                             \
        assert_int_equal(check_linearizable(ops, KHO_COUNT_OF(ops)), result);                      \
    } while (0)

/* The checker tells histories of a register from others. */
static void test_checker(void **state)
{
    (void)state;
    EXPECT(CHECK_OK, R(0, 1, 2), W(1, 3, 4), R(1, 5, 6));
    EXPECT(CHECK_VIOLATED, W(1, 1, 2), R(0, 3, 4));
    EXPECT(CHECK_OK, W(1, 1, 4), R(0, 2, 3));
    EXPECT(CHECK_OK, W(1, 1, 9), R(0, 2, 3), R(1, 4, 5));
    EXPECT(CHECK_VIOLATED, W(1, 1, 9), R(1, 2, 3), R(0, 4, 5)); /* new, then old */
    EXPECT(CHECK_VIOLATED, W(1, 1, 2), W(2, 3, 4), R(1, 5, 6));
    EXPECT(CHECK_OK, W(1, 1, 4), W(2, 2, 5), R(1, 6, 7));
    EXPECT(CHECK_VIOLATED, W(1, 1, 4), W(2, 2, 5), R(1, 6, 7), R(2, 8, 9));
    EXPECT(CHECK_OK, W(1, 1, 2), D(2, 3), R(1, 4, 5), R(2, 6, 7));
    EXPECT(CHECK_VIOLATED, W(1, 1, 2), D(2, 3), R(2, 4, 5), R(1, 6, 7));
    EXPECT(CHECK_OK, D(2, 1), W(1, 2, 3), R(2, 4, 5)); /* an old write appears late */
    EXPECT(CHECK_VIOLATED, R(2, 1, 2), D(2, 3));       /* read before it was written */
    EXPECT(CHECK_VIOLATED, N(2, 1, 2), R(2, 3, 4));    /* it was said not to be applied */
    EXPECT(CHECK_OK, W(1, 1, 2), W(0, 3, 4), R(0, 5, 6));
    EXPECT(CHECK_VIOLATED, W(1, 1, 2), W(0, 3, 4), R(1, 5, 6)); /* a delete undone */
    EXPECT(CHECK_OK, W(1, 1, 2), D(0, 3), R(0, 4, 5), R(0, 6, 7));
    EXPECT(CHECK_VIOLATED, W(1, 1, 2), D(0, 3), R(0, 4, 5), R(1, 6, 7));
}

/* Histories made by a real register at random moments pass; with one read changed they fail. */
static void test_checker_at_random(void **state)
{
    (void)state;
    unsigned violated = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct kho_random random;
        struct history_op ops[60];
        uint64_t at[60], value = 0;
        kho_random_init(&random, seed);
        for (unsigned i = 0; i < 60; i++) {
            /* Effects at rising moments, each within its op's interval. */
            at[i] = 1000 + i * 10;
            bool write = kho_random_below(&random, 2) == 0;
            ops[i] = (struct history_op){
                .kind = write ? HISTORY_WRITE : HISTORY_READ,
                .end = HISTORY_OK,
                .begun_ns = at[i] - kho_random_below(&random, 60),
                .ended_ns = at[i] + 1 + kho_random_below(&random, 60),
            };
            if (write)
                value = i + 1;
            ops[i].value = value;
            if (write && kho_random_below(&random, 6) == 0) {
                ops[i].end = HISTORY_IN_DOUBT;
                ops[i].ended_ns = UINT64_MAX;
            }
        }
        assert_int_equal(check_linearizable(ops, 60), CHECK_OK);
        for (unsigned i = 30; i < 60; i++)
            if (ops[i].kind == HISTORY_READ && ops[i].value > 20) {
                ops[i].value = 0; /* long overwritten */
                violated += check_linearizable(ops, 60) == CHECK_VIOLATED;
                break;
            }
    }
    assert_true(violated > 280);
}

/* Versions that go back, and a version with two values, are told. */
static void test_versions(void **state)
{
    (void)state;
    struct sim sim;
    struct history history;
    for (int broken = 0; broken < 3; broken++) {
        sim_init(&sim, 1, false);
        history_init(&history, &sim);
        uint32_t key = history_key(&history);
        size_t op = history_begin(&history, key, 0, HISTORY_WRITE, 1);
        sim.now_ns++;
        history_end(&history, op, HISTORY_OK, 0, (struct version){.counter = 10, .writer = 1});
        sim.now_ns++;
        op = history_begin(&history, key, 0, HISTORY_WRITE, 2);
        sim.now_ns++;
        struct version second = {.counter = broken == 1 ? 9 : broken == 2 ? 10 : 11, .writer = 1};
        history_end(&history, op, HISTORY_OK, 0, second);
        check_history(&history);
        assert_int_equal(sim.failed, broken != 0);
        history_fini(&history);
        sim_fini(&sim);
    }
}

/* --- The disk --------------------------------------------------------------------------------- */

struct rig {
    struct sim sim;
    struct vdisk *disk;
    bool ended;
};

static void ended(void *owner, struct op *op)
{
    struct rig *rig = owner;
    (void)op;
    rig->ended = true;
}

static int32_t carry_out(struct rig *rig, struct op op)
{
    struct op copy = op;
    rig->ended = false;
    vdisk_submit(rig->disk, &copy);
    assert_true(sim_run(&rig->sim, rig->sim.now_ns + 600 * SIM_S, &rig->ended));
    return copy.result;
}

static const struct file_name segment_new = {.kind = FILE_SEGMENT, .temporary = true, .id = 1};
static const struct file_name segment = {.kind = FILE_SEGMENT, .id = 1};

/* A file of 8 KiB, synced and named; `bytes` is aligned. */
static void rig_begin(struct rig *rig, uint64_t seed)
{
    sim_init(&rig->sim, seed, false);
    rig->disk = vdisk_create(&rig->sim, "disk", 512, ended, rig);
    struct op open = {.kind = OP_OPEN, .flags = OP_OPEN_CREATE, .file = 1, .name = segment_new};
    assert_int_equal(carry_out(rig, open), 0);
    assert_int_equal(carry_out(rig, (struct op){.kind = OP_ALLOCATE, .file = 1, .len = 8192}), 0);
    assert_int_equal(carry_out(rig, (struct op){.kind = OP_SYNC, .file = 1}), 0);
    assert_int_equal(
        carry_out(rig, (struct op){.kind = OP_RENAME, .name = segment_new, .target = segment}), 0);
    assert_int_equal(carry_out(rig, (struct op){.kind = OP_SYNC_FOLDER}), 0);
}

static void rig_end(struct rig *rig)
{
    assert_false(rig->sim.failed);
    vdisk_destroy(rig->disk);
    sim_fini(&rig->sim);
}

static int32_t rig_write(struct rig *rig, uint8_t *bytes, uint64_t offset, uint8_t flags)
{
    return carry_out(rig, (struct op){.kind = OP_WRITE,
                                      .file = 1,
                                      .offset = offset,
                                      .len = 1024,
                                      .data = bytes,
                                      .flags = flags});
}

/* Durable and synced writes survive every power cut; others survive some, in parts, too. */
static void test_power_cut(void **state)
{
    (void)state;
    unsigned lost = 0, kept = 0, torn = 0;
    uint8_t *bytes = aligned_alloc(512, 1024), got[1024];
    assert_non_null(bytes);
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct rig rig = {0};
        rig_begin(&rig, seed);
        memset(bytes, 1, 1024);
        assert_int_equal(rig_write(&rig, bytes, 0, OP_WRITE_DURABLE), 1024);
        memset(bytes, 2, 1024);
        assert_int_equal(rig_write(&rig, bytes, 1024, 0), 1024);
        assert_int_equal(carry_out(&rig, (struct op){.kind = OP_SYNC, .file = 1}), 0);
        memset(bytes, 3, 1024);
        assert_int_equal(rig_write(&rig, bytes, 2048, 0), 1024);
        vdisk_cut(rig.disk, VDISK_POWER);
        assert_int_equal(vdisk_peek(rig.disk, segment, 0, got, 1), 1);
        assert_int_equal(got[0], 1);
        assert_int_equal(vdisk_peek(rig.disk, segment, 1500, got, 1), 1);
        assert_int_equal(got[0], 2);
        assert_int_equal(vdisk_peek(rig.disk, segment, 2048, got, 1024), 1024);
        lost += got[0] == 0 && got[512] == 0;
        kept += got[0] == 3 && got[512] == 3;
        torn += got[0] != got[512];
        rig_end(&rig);
    }
    assert_true(lost > 20 && kept > 20 && torn > 5);
    free(bytes);
}

/* A killed process loses nothing that had completed. */
static void test_kill(void **state)
{
    (void)state;
    uint8_t *bytes = aligned_alloc(512, 1024), got;
    assert_non_null(bytes);
    struct rig rig = {0};
    rig_begin(&rig, 1);
    memset(bytes, 7, 1024);
    assert_int_equal(rig_write(&rig, bytes, 0, 0), 1024);
    vdisk_cut(rig.disk, VDISK_KILL);
    assert_int_equal(vdisk_peek(rig.disk, segment, 1023, &got, 1), 1);
    assert_int_equal(got, 7);
    rig_end(&rig);
    free(bytes);
}

/* A name that wasn't synced may be gone after a power cut, and may not. */
static void test_names(void **state)
{
    (void)state;
    unsigned there = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct rig rig = {0};
        struct file_found files[4];
        rig_begin(&rig, seed);
        struct op open = {.kind = OP_OPEN,
                          .flags = OP_OPEN_CREATE,
                          .file = 2,
                          .name = {.kind = FILE_MANIFEST, .temporary = true}};
        assert_int_equal(carry_out(&rig, open), 0);
        vdisk_cut(rig.disk, VDISK_POWER);
        size_t count = vdisk_list(rig.disk, files, 4);
        assert_true(count == 1 || count == 2);
        there += count == 2;
        rig_end(&rig);
    }
    assert_true(there > 10 && there < 90);
}

/* A full disk refuses to allocate, a missing file to be opened, and rot changes what is read. */
static void test_refusals_and_rot(void **state)
{
    (void)state;
    uint8_t *bytes = aligned_alloc(512, 1024), got[1024];
    assert_non_null(bytes);
    struct rig rig = {0};
    rig_begin(&rig, 3);
    vdisk_faults(rig.disk)->space_max = 10000;
    assert_int_equal(carry_out(&rig, (struct op){.kind = OP_ALLOCATE, .file = 1, .len = 1 << 20}),
                     -ENOSPC);
    struct op open = {.kind = OP_OPEN, .file = 3, .name = {.kind = FILE_MAP}};
    assert_int_equal(carry_out(&rig, open), -ENOENT);
    for (unsigned i = 0; i < 1024; i++)
        bytes[i] = (uint8_t)(i * 37 + 1);
    assert_int_equal(rig_write(&rig, bytes, 0, OP_WRITE_DURABLE), 1024);
    assert_true(damage_rot(&rig.sim, rig.disk, bytes + 100, 16));
    assert_int_equal(vdisk_peek(rig.disk, segment, 0, got, 1024), 1024);
    unsigned differing = 0;
    for (unsigned i = 0; i < 1024; i++)
        differing += got[i] != bytes[i];
    assert_int_equal(differing, 1);
    assert_memory_equal(got, bytes, 100);
    assert_memory_equal(got + 116, bytes + 116, 1024 - 116);
    rig_end(&rig);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checker),
        cmocka_unit_test(test_checker_at_random),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_power_cut),
        cmocka_unit_test(test_kill),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_refusals_and_rot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
