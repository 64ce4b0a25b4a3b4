/* maker_test.c: a segment is made step by step, its zeros as fast as the log wants them. */
#include "node/maker.h"
#include "unit.h"

#include <errno.h>

enum { SEGMENT = 1 << 20 };

struct bench {
    struct shard_world world;
    struct depot depot;
    struct maker maker;
    struct segment made;
    bool done;
};

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    world_init(&b->world, 64 << 20, 1);
    b->depot.world = &b->world;
    b->depot.options.segment_bytes = SEGMENT;
    b->depot.options.alignment = 4096;
    manifest_init(&b->depot.manifest, &b->world);
    maker_init(&b->maker, &b->depot);
    maker_start(&b->maker);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    maker_fini(&b->maker);
    manifest_fini(&b->depot.manifest);
    assert_int_equal(b->world.memory_bytes, 0);
    free(b);
    return 0;
}

/* Ends the op that is there, with an error or as it should. Its kind, or 0: the maker waits. */
static uint8_t step_end(struct bench *b, int error, struct op *ret_op)
{
    struct queue *link = queue_pop(&b->world.outbox);
    if (link == NULL)
        return 0;
    struct op *op = KHO_CONTAINER_OF(link, struct op, link);
    assert_true(queue_empty(&b->world.outbox));
    *ret_op = *op;
    op->result = error != 0 ? error : op->kind == OP_WRITE ? (int32_t)op->len : 0;
    b->depot.ops--;
    if (maker_completed(&b->maker, op, (struct kho_now){0}, &b->made))
        b->done = true;
    return ret_op->kind;
}

static uint8_t step(struct bench *b, struct op *ret_op)
{
    return step_end(b, 0, ret_op);
}

static uint8_t step_fail(struct bench *b, int error)
{
    struct op op;
    return step_end(b, error, &op);
}

static void expect(struct bench *b, enum op_kind kind)
{
    struct op op;
    assert_int_equal(step(b, &op), kind);
}

static void expect_zeros(struct bench *b, uint64_t from, uint64_t to)
{
    struct op op;
    for (uint64_t at = from; at < to; at += MAKER_CHUNK) {
        assert_int_equal(step(b, &op), OP_WRITE);
        assert_int_equal(op.offset, at);
        assert_int_equal(op.len, MAKER_CHUNK);
    }
}

static void expect_end(struct bench *b)
{
    struct op op;
    assert_int_equal(step(b, &op), OP_WRITE); /* the head */
    assert_int_equal(op.offset, 0);
    expect(b, OP_SYNC);
    expect(b, OP_RENAME);
    assert_false(b->done);
    expect(b, OP_SYNC_FOLDER);
    assert_true(b->done);
    assert_int_equal(b->made.size, SEGMENT);
    assert_false(maker_busy(&b->maker));
}

/* The maker writes as many zeros as are wanted, and goes on when more are. */
static void paced(void **state)
{
    struct bench *b = *state;
    struct op op;
    expect(b, OP_OPEN);
    expect(b, OP_ALLOCATE);
    expect_zeros(b, 0, MAKER_CHUNK);
    assert_int_equal(step(b, &op), 0);
    maker_pace(&b->maker, MAKER_CHUNK, false, (struct kho_now){0});
    assert_int_equal(step(b, &op), 0);
    maker_pace(&b->maker, 3 * MAKER_CHUNK - 1, false, (struct kho_now){0});
    expect_zeros(b, MAKER_CHUNK, 3 * MAKER_CHUNK);
    assert_int_equal(step(b, &op), 0);
    maker_pace(&b->maker, SEGMENT, false, (struct kho_now){0});
    expect_zeros(b, 3 * MAKER_CHUNK, SEGMENT);
    expect_end(b);
    assert_int_equal(b->maker.zeroed_bytes, SEGMENT);
}

/* Where the segment is needed at once, no more zeros are written: not after the chunk under way,
 * nor after a pause. */
static void hurried(void **state)
{
    struct bench *b = *state;
    struct op op;
    expect(b, OP_OPEN);
    expect(b, OP_ALLOCATE);
    maker_pace(&b->maker, SEGMENT, true, (struct kho_now){0});
    expect_zeros(b, 0, MAKER_CHUNK);
    expect_end(b);
    maker_start(&b->maker);
    expect(b, OP_OPEN);
    expect(b, OP_ALLOCATE);
    expect_zeros(b, 0, MAKER_CHUNK);
    assert_int_equal(step(b, &op), 0);
    b->done = false;
    maker_pace(&b->maker, 0, true, (struct kho_now){0});
    expect_end(b);
}

/* A stop in a pause gives the file up. */
static void stopped(void **state)
{
    struct bench *b = *state;
    struct op op;
    expect(b, OP_OPEN);
    expect(b, OP_ALLOCATE);
    expect_zeros(b, 0, MAKER_CHUNK);
    assert_int_equal(step(b, &op), 0);
    assert_true(maker_busy(&b->maker));
    maker_stop(&b->maker);
    expect(b, OP_CLOSE_FILE);
    assert_int_equal(step(b, &op), 0);
    assert_false(maker_busy(&b->maker));
    assert_false(b->done);
}

/* The maker ends what it was at and begins with the file of a segment that retired. */
static void recycle(struct bench *b, uint64_t id)
{
    struct segment segment = {.id = id, .size = SEGMENT, .alignment = 4096, .sealed = true};
    struct op op;
    maker_pace(&b->maker, 0, true, (struct kho_now){0});
    while (!b->done)
        assert_true(step(b, &op) != 0);
    b->done = false;
    assert_int_equal(manifest_add_segment(&b->depot.manifest, &segment), 0);
    assert_int_equal(manifest_retire(&b->depot.manifest, b->depot.manifest.newest), 0);
    b->depot.kept = id;
    maker_start(&b->maker);
    assert_int_equal(b->depot.kept, 0);
}

/* A retired segment's file is taken under the temporary name of the new one, and made zeros before
 * anything else. */
static void recycled(void **state)
{
    struct bench *b = *state;
    struct op op;
    recycle(b, 77);
    assert_int_equal(step(b, &op), OP_RENAME);
    assert_int_equal(op.name.id, 77);
    assert_false(op.name.temporary);
    assert_int_equal(op.target.id, b->maker.id);
    assert_true(op.target.temporary);
    assert_int_equal(step(b, &op), OP_OPEN);
    assert_int_equal(op.flags, OP_OPEN_DIRECT);
    assert_int_equal(step(b, &op), OP_ALLOCATE);
    assert_int_equal(op.flags, OP_ALLOCATE_ZEROS);
    assert_int_equal(op.len, SEGMENT);
    maker_pace(&b->maker, SEGMENT, false, (struct kho_now){0});
    expect_zeros(b, 0, SEGMENT);
    expect_end(b);
    assert_int_equal(b->maker.recycled_segments, 1);
    assert_false(manifest_is_retired(&b->depot.manifest, 77));
}

/* Where the file is gone, or the file system can't make it zeros, the next one is a fresh one. */
static void not_recycled(void **state)
{
    struct bench *b = *state;
    struct op op;
    recycle(b, 77);
    assert_int_equal(step_fail(b, -ENOENT), OP_RENAME);
    assert_int_equal(step(b, &op), 0);
    assert_false(maker_busy(&b->maker));
    maker_start(&b->maker);
    expect(b, OP_OPEN);
    recycle(b, 78);
    expect(b, OP_RENAME);
    expect(b, OP_OPEN);
    assert_int_equal(step_fail(b, -EOPNOTSUPP), OP_ALLOCATE);
    expect(b, OP_CLOSE_FILE);
    expect(b, OP_UNLINK);
    assert_false(maker_busy(&b->maker));
    assert_true(b->depot.recycling_fails);
    assert_false(b->depot.read_only);
    maker_start(&b->maker);
    assert_int_equal(step(b, &op), OP_OPEN);
    assert_int_equal(op.flags, OP_OPEN_CREATE | OP_OPEN_DIRECT);
    assert_int_equal(b->maker.recycled_segments, 0);
}

/* An error that only a used file meets doesn't stop the log; one that can't be taken is given up.
 */
static void never_final(void **state)
{
    struct bench *b = *state;
    struct op op;
    recycle(b, 77);
    expect(b, OP_RENAME);
    expect(b, OP_OPEN);
    assert_int_equal(step_fail(b, -EINVAL), OP_ALLOCATE);
    expect(b, OP_CLOSE_FILE);
    expect(b, OP_UNLINK);
    assert_true(b->depot.recycling_fails);
    assert_false(b->depot.read_only);
    b->depot.recycling_fails = false;
    maker_start(&b->maker);
    expect(b, OP_OPEN);
    recycle(b, 78);
    assert_int_equal(step_fail(b, -ENOSPC), OP_RENAME);
    assert_int_equal(step(b, &op), 0);
    assert_false(maker_busy(&b->maker));
    assert_int_equal(b->depot.kept, 78);
    assert_false(b->depot.read_only);
    maker_start(&b->maker);
    assert_int_equal(step(b, &op), OP_OPEN);
    assert_int_equal(op.flags, OP_OPEN_CREATE | OP_OPEN_DIRECT);
    assert_int_equal(b->depot.kept, 78);
}

/* The zeros of a used file fail as a fresh one's would: that counts as for a fresh one. Where it
 * can't be taken and another one was kept meanwhile, that one stays; a stop gives it up unharmed.
 */
static void recycled_fails(void **state)
{
    static const int errors[] = {-EIO, -ENOSPC, -EDQUOT};
    struct bench *b = *state;
    for (size_t e = 0; e < KHO_COUNT_OF(errors); e++) {
        teardown(state);
        setup(state);
        b = *state;
        recycle(b, 77);
        expect(b, OP_RENAME);
        expect(b, OP_OPEN);
        assert_int_equal(step_fail(b, errors[e]), OP_ALLOCATE);
        assert_false(b->depot.recycling_fails);
        assert_int_equal(b->depot.no_space, errors[e] != -EIO);
        assert_int_equal(b->depot.read_only, errors[e] == -EIO);
        expect(b, OP_CLOSE_FILE);
        expect(b, OP_UNLINK);
        assert_false(maker_busy(&b->maker));
    }
    teardown(state);
    setup(state);
    b = *state;
    recycle(b, 77);
    b->depot.kept = 99;
    assert_int_equal(step_fail(b, -EIO), OP_RENAME);
    assert_int_equal(b->depot.kept, 99);
    assert_false(b->depot.recycling_fails);
    maker_start(&b->maker);
    maker_stop(&b->maker);
    expect(b, OP_RENAME);
    assert_false(maker_busy(&b->maker));
    assert_false(b->depot.read_only);
}

/* Each step of the making of a fresh segment fails. No room: the file goes again, and the log is
 * told; nothing else is hurt. Anything else is final (R4). A short write is a failure. */
static void fails(void **state)
{
    static const int errors[] = {-ENOSPC, -EDQUOT, -EIO, 1};
    struct bench *b = *state;
    teardown(state);
    uint32_t tried = 0;
    for (size_t e = 0; e < KHO_COUNT_OF(errors); e++)
        for (uint32_t at = 0;; at++) {
            struct op op = {0};
            uint8_t kind = 0;
            assert_int_equal(setup(state), 0);
            b = *state;
            maker_pace(&b->maker, SEGMENT, false, (struct kho_now){0});
            for (uint32_t i = 0; i < at && !b->done; i++)
                step(b, &op);
            if (b->done) {
                teardown(state);
                break;
            }
            kind = step_fail(b, errors[e]);
            /* A result of 1 byte is a short write; of all else it is well. */
            bool failed = errors[e] < 0 || kind == OP_WRITE;
            if (failed) {
                bool room = errors[e] == -ENOSPC || errors[e] == -EDQUOT;
                tried++;
                assert_int_equal(b->depot.no_space, room);
                assert_int_equal(b->depot.read_only, !room);
                if (kind != OP_OPEN) {
                    expect(b, OP_CLOSE_FILE);
                    expect(b, OP_UNLINK);
                }
                assert_false(maker_busy(&b->maker));
                assert_false(b->done);
                /* With room again the next one is made, and a lack is told once. */
                uint32_t events = b->world.event_count;
                if (room) {
                    maker_start(&b->maker);
                    assert_int_equal(step_fail(b, errors[e]), OP_OPEN);
                    assert_int_equal(b->world.event_count, events);
                    maker_start(&b->maker);
                    expect(b, OP_OPEN);
                }
            }
            teardown(state);
        }
    print_message("%u failures tried\n", tried);
    assert_true(tried > 20);
    setup(state);
}

/* A step that ends while the maker stops gives the file up, closed but not unlinked: the next start
 * removes what was never renamed. */
static void stopped_anywhere(void **state)
{
    struct bench *b = *state;
    teardown(state);
    for (uint32_t at = 0;; at++) {
        struct op op = {0};
        assert_int_equal(setup(state), 0);
        b = *state;
        maker_pace(&b->maker, SEGMENT, false, (struct kho_now){0});
        for (uint32_t i = 0; i < at && !b->done; i++)
            step(b, &op);
        if (b->done)
            break;
        maker_stop(&b->maker);
        uint8_t kind = step(b, &op);
        assert_true(kind != 0);
        if (kind != OP_OPEN)
            expect(b, OP_CLOSE_FILE);
        assert_false(maker_busy(&b->maker));
        assert_false(b->done);
        assert_false(b->depot.read_only);
        teardown(state);
    }
}

/* Without memory for its zeros, no segment is begun; it can be begun later. */
static void no_memory(void **state)
{
    struct bench *b = *state;
    teardown(state);
    assert_int_equal(setup(state), 0);
    b = *state;
    struct op op;
    maker_pace(&b->maker, SEGMENT, false, (struct kho_now){0});
    while (!b->done)
        assert_true(step(b, &op) != 0);
    b->world.memory_max = b->world.memory_bytes;
    maker_start(&b->maker);
    assert_false(maker_busy(&b->maker));
    b->world.memory_max = 64 << 20;
    maker_start(&b->maker);
    expect(b, OP_OPEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(paced, setup, teardown),
        cmocka_unit_test_setup_teardown(hurried, setup, teardown),
        cmocka_unit_test_setup_teardown(stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(recycled, setup, teardown),
        cmocka_unit_test_setup_teardown(not_recycled, setup, teardown),
        cmocka_unit_test_setup_teardown(never_final, setup, teardown),
        cmocka_unit_test_setup_teardown(recycled_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(fails, setup, teardown),
        cmocka_unit_test_setup_teardown(stopped_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(no_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
