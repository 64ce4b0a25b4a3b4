/* start_memory_test.c: a store whose N-th allocation fails: while it is made, while it reads its
 * folder, while it takes records. It ends or refuses with a code that says so, gives all memory
 * back, and loses nothing that it acknowledged. (The linker puts __wrap_world_allocate before the
 * store.) */
#include "rig.h"

#include <errno.h>

enum { RECORDS = 16, LEN = 3000 };

static uint64_t allocations, fail_at;

void *__real_world_allocate(struct shard_world *world, size_t size, size_t alignment);
void *__wrap_world_allocate(struct shard_world *world, size_t size, size_t alignment);
void *__wrap_world_allocate(struct shard_world *world, size_t size, size_t alignment)
{
    return ++allocations == fail_at ? NULL : __real_world_allocate(world, size, alignment);
}

static int put(struct rig *rig, uint32_t number, uint32_t len)
{
    struct rig_key key = rig_key(1, number);
    return rig_put(rig, &key, T0 + 1, number + 1, len, false, NULL);
}

static int check(struct rig *rig, uint32_t number, uint32_t len)
{
    struct rig_key key = rig_key(1, number);
    return rig_check(rig, &key, T0 + 1, number + 1, len);
}

static void folder_make(struct rig *rig)
{
    rig_fini(rig);
    rig_init(rig);
    rig->options.segment_bytes = 1u << 20;
    rig->options.footer_entries = 4;
    rig_ready(rig);
    for (uint32_t i = 0; i < RECORDS; i++) {
        assert_int_equal(put(rig, i, i % 8 == 0 ? 150000 : LEN), 0);
        rig_run(rig);
    }
    rig_pass(rig, 60);
    /* A block that is known to be damaged, so that a start has a list of these. */
    struct memory_file *segment = memory_disk_file(&rig->disk, FILE_SEGMENT, 1);
    memory_disk_flip(segment, 4096 + 100000, 1);
    rig_crash(rig);
    assert_int_equal(check(rig, 0, 150000), KHO_EDAMAGED);
    rig_run(rig);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
    store_destroy(rig->store);
    rig->store = NULL;
    memory_disk_crash(&rig->disk);
}

/* Makes and starts the store. The phase, or the error of its making. */
static int start(struct rig *rig, uint64_t n)
{
    struct file_found files[MEMORY_FILES];
    size_t count = memory_disk_list(&rig->disk, files, MEMORY_FILES);
    world_init(&rig->world, rig->options.memory_max, rig->options.seed);
    allocations = 0;
    fail_at = n;
    int error = store_create(&rig->options, &rig->world, &rig->store);
    if (error != 0) {
        assert_int_equal(rig->world.memory_bytes, 0);
        rig->store = NULL;
        return error;
    }
    store_start(rig->store, files, count, rig->now);
    rig_run(rig);
    return (int)store_phase(rig->store);
}

static void end(struct rig *rig)
{
    fail_at = 0;
    store_destroy(rig->store);
    rig->store = NULL;
    assert_int_equal(rig->world.memory_bytes, 0);
    memory_disk_crash(&rig->disk);
}

static void starts(void **state)
{
    struct rig *rig = *state;
    uint32_t tried = 0, not_made = 0, ended = 0;
    folder_make(rig);
    for (uint64_t n = 1;; n++) {
        rig->last_event[0] = 0;
        int phase = start(rig, n);
        if (phase < 0) {
            assert_int_equal(phase, -ENOMEM);
            not_made++;
        } else if (phase == STORE_FAILED) {
            ended++;
            assert_non_null(strstr(rig->last_event, "memory"));
        } else {
            assert_int_equal(phase, STORE_READY);
        }
        bool fired = allocations >= n;
        end(rig);
        tried++;
        if (!fired)
            break;
    }
    /* None of them did any harm. */
    assert_int_equal(start(rig, 0), STORE_READY);
    assert_int_equal(store_episodes(rig->store, NULL, 0), 1);
    rig_map_build(rig, 2, 0, 1);
    assert_int_equal(rig_map_set(rig), 0);
    assert_int_equal(rig_close_episodes(rig), 0);
    uint32_t there = 0;
    for (uint32_t i = 0; i < RECORDS; i++)
        there += check(rig, i, i % 8 == 0 ? 150000 : LEN) == 0;
    assert_in_range(there, RECORDS - 2, RECORDS - 1);
    print_message("%u starts tried: %u stores not made, %u starts ended\n", tried, not_made, ended);
    assert_true(not_made > 10 && ended > 5);
}

/* While records of all sizes come in: one is refused as having no room now or none at all, or
 * taken; what was taken is there after a crash. */
static void writes(void **state)
{
    struct rig *rig = *state;
    uint32_t tried = 0, refused = 0;
    for (uint64_t n = 1; n < 40; n++) {
        uint32_t taken[24] = {0};
        rig_fini(rig);
        rig_init(rig);
        rig->options.segment_bytes = 16u << 20;
        rig_ready(rig);
        allocations = 0;
        fail_at = n;
        for (uint32_t i = 0; i < 24; i++) {
            uint32_t len = i % 12 == 0 ? 2200000 : i * 100;
            int status = put(rig, i, len);
            if (status == 0)
                taken[i] = 1;
            else
                refused++;
            assert_true(status == 0 || status == -EAGAIN || status == KHO_EFULL ||
                        status == KHO_ENOSPACE);
            if (i % 3 == 0)
                rig_run(rig);
        }
        rig_run(rig);
        bool fired = allocations >= n;
        fail_at = 0;
        rig_crash(rig);
        for (uint32_t i = 0; i < 24; i++)
            if (taken[i] != 0)
                assert_int_equal(check(rig, i, i % 12 == 0 ? 2200000 : i * 100), 0);
        tried++;
        if (!fired)
            break;
    }
    print_message("%u runs tried, %u records refused\n", tried, refused);
    assert_true(tried > 5 && refused > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(starts, setup, teardown),
        cmocka_unit_test_setup_teardown(writes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
