/* retire_test.c: which files of segments that nobody needs any more become new ones? Whole ones
 * alone: what rots is found at any time until the last read has left. */
#include "node/place.h"
#include "node/store_inside.h"
#include "store_story.h"

enum { BIG = 20000, ROUNDS = 8, STAYS = 9 };

/* The first segment's key 9 is the only one that is still wanted; then compaction runs while a read
 * of that key is under way, until its segment is off the list. Returns the read's place. */
static uint64_t retired_under_a_read(struct rig *rig, struct store_read *read, struct rig_key *key)
{
    rig->options.segment_bytes = 1u << 20;
    rig->options.compact_dead_percent = 50;
    rig_ready(rig);
    for (uint32_t round = 0; round < ROUNDS; round++)
        for (uint32_t i = 0; i < 10; i++) {
            if (round == 0 || i != STAYS)
                put(rig, 1, i, round, BIG);
            rig_run(rig);
        }
    rig_stop(rig);
    rig_kill(rig);
    rig->options.compact_rate = 1ull << 30;
    rig->store->depot.options.compact_rate = rig->options.compact_rate;
    *key = rig_key(1, STAYS);
    *read = (struct store_read){.collection = 1,
                                .partition = key->partition,
                                .hash = key->hash,
                                .key = key->key,
                                .key_len = key->key_len};
    rig->hold_fetches = true;
    assert_false(store_read(rig->store, read, rig->now));
    const struct retire *retire = &rig->store->compact.retire;
    uint64_t place = read->place;
    for (uint32_t i = 0; i < 300; i++)
        rig_pass(rig, 20);
    assert_true(retire_busy(retire) && retire->slot == place_slot(place) && retire->durable);
    assert_true(retire->whole);
    return place;
}

static void read_ends(struct rig *rig, struct store_read *read)
{
    struct store_done done;
    /* What is given up or kept is seen before the maker takes it. */
    rig->store->depot.options.compact_rate = 0;
    rig->hold_fetches = false;
    rig_release(rig);
    rig_run(rig);
    assert_true(store_next_done(rig->store, &done) && done.read == read);
    store_read_end(rig->store, read);
    rig_run(rig);
    assert_false(retire_busy(&rig->store->compact.retire));
}

/* A whole file is kept for the maker. */
static void whole(void **state)
{
    struct rig *rig = *state;
    struct store_read read;
    struct rig_key key;
    retired_under_a_read(rig, &read, &key);
    uint64_t id = rig->store->compact.retire.id;
    read_ends(rig, &read);
    assert_int_equal(read.status, 0);
    assert_int_equal(rig->store->depot.kept, id);
    assert_int_equal(check(rig, 1, STAYS, 0, BIG), 0);
}

/* One in which the last read found damage goes, though nothing was known of it when the segment
 * left the list. */
static void rotten(void **state)
{
    struct rig *rig = *state;
    struct store_read read;
    struct rig_key key;
    uint64_t place = retired_under_a_read(rig, &read, &key);
    uint64_t id = rig->store->compact.retire.id;
    memory_disk_flip(memory_disk_file(&rig->disk, FILE_SEGMENT, id), place_offset(place) + 300, 4);
    read_ends(rig, &read);
    assert_int_equal(rig->store->depot.kept, 0);
    assert_null(memory_disk_file(&rig->disk, FILE_SEGMENT, id));
    /* No record was hit: the one it held had been copied. */
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    assert_int_equal(check(rig, 1, STAYS, 0, BIG), 0);
}

/* A read whose block the disk can't give is no other case. */
static void unreadable(void **state)
{
    struct rig *rig = *state;
    struct store_read read;
    struct rig_key key;
    uint64_t place = retired_under_a_read(rig, &read, &key);
    uint64_t id = rig->store->compact.retire.id;
    rig->disk.bad_segment = id;
    rig->disk.bad_from = place_offset(place);
    rig->disk.bad_to = rig->disk.bad_from + 512;
    read_ends(rig, &read);
    assert_int_equal(rig->store->depot.kept, 0);
    assert_null(memory_disk_file(&rig->disk, FILE_SEGMENT, id));
    assert_int_equal(store_episodes(rig->store, NULL, 0), 0);
    assert_int_equal(check(rig, 1, STAYS, 0, BIG), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole, setup, teardown),
        cmocka_unit_test_setup_teardown(rotten, setup, teardown),
        cmocka_unit_test_setup_teardown(unreadable, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
