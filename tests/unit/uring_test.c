/* uring_test.c: reads and writes in registered areas, beside them, and partly in them. */
#include "node/uring.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { AREA = 8192, AREAS = 3, FILE_BYTES = 4 * AREA };

struct wait {
    struct task task;
    bool ended;
    int result;
};

static void wait_ended(struct task *task, int result)
{
    struct wait *wait = KHO_CONTAINER_OF(task, struct wait, task);
    wait->ended = true;
    wait->result = result;
}

static int wait_for(struct uring *uring, struct wait *wait)
{
    while (!wait->ended) {
        assert_int_equal(uring_wait(uring, UINT64_MAX), 0);
        uring_reap(uring);
    }
    return wait->result;
}

static int write_all(struct uring *uring, int fd, const uint8_t *from, uint32_t len,
                     uint64_t offset)
{
    struct wait wait = {.task.ended = wait_ended};
    uring_write(uring, &wait.task, fd, from, len, offset, true);
    return wait_for(uring, &wait);
}

static int read_all(struct uring *uring, int fd, uint8_t *to, uint32_t len, uint64_t offset)
{
    struct wait wait = {.task.ended = wait_ended};
    uring_read(uring, &wait.task, fd, to, len, offset);
    return wait_for(uring, &wait);
}

static int file_make(void)
{
    char name[] = "/tmp/kho-uring-XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    assert_int_equal(unlink(name), 0);
    return fd;
}

/* Each place of one piece of memory whose middle is areas, written from and read into: what lies in
 * an area, in none, or reaches beyond one, arrives alike. */
static void test_areas(void **state)
{
    (void)state;
    static uint8_t memory[FILE_BYTES + AREA], back[FILE_BYTES];
    char error[URING_ERROR_MAX];
    bool refused = false;
    struct uring *uring = uring_create(2048, error, &refused);
    if (uring == NULL) {
        assert_true(refused);
        skip(); /* this machine doesn't allow it */
    }
    /* Not in order, and two of them neighbours. */
    struct io_area areas[AREAS] = {
        {memory + 2 * AREA, AREA}, {memory + AREA, AREA}, {memory + 3 * AREA + 512, 512}};
    int fd = file_make(), registered = uring_register(uring, areas, AREAS);
    if (registered != 0)
        assert_int_equal(registered, -ENOMEM); /* RLIMIT_MEMLOCK: it goes on without */
    for (size_t i = 0; i < sizeof memory; i++)
        memory[i] = (uint8_t)(i * 7 + i / 251);
    static const uint32_t lengths[] = {1, 511, 512, 4096, AREA, AREA + 1};
    uint32_t tried = 0;
    for (uint32_t at = 0; at < FILE_BYTES; at += 512)
        for (size_t k = 0; k < KHO_COUNT_OF(lengths); k++, tried++) {
            uint32_t len = lengths[k];
            assert_int_equal(write_all(uring, fd, memory + at, len, at), len);
            assert_int_equal(pread(fd, back, len, at), len);
            assert_memory_equal(back, memory + at, len);
            memset(memory + at, 0, len);
            assert_int_equal(read_all(uring, fd, memory + at, len, at), len);
            assert_memory_equal(back, memory + at, len);
        }
    assert_int_equal(tried, FILE_BYTES / 512 * KHO_COUNT_OF(lengths));
    uring_destroy(uring);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_areas)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
