/* window_test.c: the bounded reads by which compaction and scrub walk through a segment: what was
 * read is kept, what can't be read is a hole as small as the alignment, and no memory is told. */
#include "node/window.h"
#include "unit.h"

#include <errno.h>

enum { ALIGNMENT = 4096, SIZE = 3 * WINDOW_READ };

struct bench {
    struct shard_world world;
    struct depot depot;
    struct window window;
    uint8_t file[SIZE];
    uint64_t bad; /* an offset that can't be read; 0: none */
};

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    struct kho_random random;
    assert_non_null(b);
    world_init(&b->world, 64u << 20, 1);
    kho_random_init(&random, 1);
    for (size_t i = 0; i < SIZE; i++)
        b->file[i] = (uint8_t)kho_random_next(&random);
    b->depot.world = &b->world;
    b->depot.options.alignment = ALIGNMENT;
    window_init(&b->window, &b->depot);
    window_open(&b->window, 3, SIZE);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    window_fini(&b->window);
    assert_int_equal(b->world.memory_bytes, 0);
    struct window never = {0};
    window_fini(&never);
    free(b);
    return 0;
}

/* Carries out what the window asks for, until it has all; `cut`: each read brings at most so many
 * bytes. */
static const uint8_t *need(struct bench *b, uint64_t offset, size_t length, uint32_t cut)
{
    const uint8_t *bytes = NULL;
    for (;;) {
        int state = window_need(&b->window, offset, length, &bytes);
        assert_true(state >= 0);
        if (state == 1)
            return bytes;
        for (bool there = false; !there;) {
            struct queue *link = queue_pop(&b->world.outbox);
            assert_non_null(link);
            struct op *op = KHO_CONTAINER_OF(link, struct op, link);
            b->depot.ops--;
            assert_int_equal(op->offset % ALIGNMENT, 0);
            uint64_t left = SIZE - op->offset;
            uint32_t len = (uint32_t)kho_min(kho_min(op->len, left), cut);
            memcpy(op->data, b->file + op->offset, len);
            op->result = (int32_t)len;
            if (b->bad != 0 && op->offset <= b->bad && b->bad < op->offset + op->len)
                op->result = -EIO;
            there = window_completed(&b->window, op);
        }
    }
}

/* Forwards, backwards, across what is there, and more than one read at once. */
static void anywhere(void **state)
{
    static const struct {
        uint64_t offset;
        size_t length;
    } asks[] = {{0, 64},
                {100, 5000},
                {WINDOW_READ - 100, 200},
                {WINDOW_READ + 5000, 64},
                {50, 10},
                {0, 2 * WINDOW_READ},
                {2 * WINDOW_READ - 10, WINDOW_READ},
                {SIZE - 1, 1}};
    struct bench *b = *state;
    for (size_t i = 0; i < KHO_COUNT_OF(asks); i++)
        assert_memory_equal(need(b, asks[i].offset, asks[i].length, UINT32_MAX),
                            b->file + asks[i].offset, asks[i].length);
    assert_false(b->window.holes);
}

/* One sector that can't be read hides its alignment's worth of bytes, no more. */
static void hole(void **state)
{
    struct bench *b = *state;
    b->bad = 5 * ALIGNMENT + 17;
    const uint8_t *bytes = need(b, 0, WINDOW_READ, UINT32_MAX);
    assert_true(b->window.holes);
    for (size_t at = 0; at < WINDOW_READ; at += ALIGNMENT) {
        if (at / ALIGNMENT != 5)
            assert_memory_equal(bytes + at, b->file + at, ALIGNMENT);
        else
            for (size_t i = 0; i < ALIGNMENT; i++)
                assert_int_equal(bytes[at + i], WINDOW_HOLE);
    }
}

/* A file that ends early is a hole from there on. */
static void short_read(void **state)
{
    struct bench *b = *state;
    const uint8_t *bytes = need(b, 0, 3 * ALIGNMENT, ALIGNMENT + 100);
    assert_true(b->window.holes);
    assert_memory_equal(bytes, b->file, ALIGNMENT + 100);
    assert_int_equal(bytes[ALIGNMENT + 100], WINDOW_HOLE);
}

/* No memory: nothing is read, what was there stays there. */
static void no_memory(void **state)
{
    struct bench *b = *state;
    const uint8_t *bytes;
    need(b, 0, 100, UINT32_MAX);
    b->world.memory_max = b->world.memory_bytes;
    assert_int_equal(window_need(&b->window, 10, 2 * WINDOW_READ, &bytes), -ENOMEM);
    assert_true(queue_empty(&b->world.outbox));
    b->world.memory_max = 64u << 20;
    assert_memory_equal(need(b, 10, 2 * WINDOW_READ, UINT32_MAX), b->file + 10, 2 * WINDOW_READ);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(hole, setup, teardown),
        cmocka_unit_test_setup_teardown(short_read, setup, teardown),
        cmocka_unit_test_setup_teardown(no_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
