/* disk_test.c: a disk that is full or fails, on one node. */
#include "story.h"

/* A full disk refuses before it acknowledges; the others carry on; with room it takes writes anew.
 */
static void test_full_disk(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 1);
    story_fill(s, "a", 5);
    struct vdisk_faults *faults = vdisk_faults(s->nodes[1].disk);
    faults->space_max = 0;
    story_run_ms(s, 5000);
    story_fill(s, "b", 20);
    story_expect_filled(s, s->client, "a", 5);
    story_expect_filled(s, s->client, "b", 20);
    faults->space_max = 1ull << 40;
    story_run_ms(s, 20000);
    assert_int_equal(story_repair(s, NULL), 0);
    story_expect_verified(s);
    story_end(s);
}

static uint64_t used(const struct vdisk *disk)
{
    struct file_found files[64];
    size_t count = vdisk_list(disk, files, 64);
    uint64_t bytes = 0;
    assert_true(count <= 64);
    for (size_t i = 0; i < count; i++)
        bytes += kho_round_up(files[i].size, 4096);
    return bytes;
}

/* Disks full to their reserve on two nodes: a put is refused as what it is and certainly not there;
 * reads, and deletes out of the reserve, go on. */
static void test_two_full_disks(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 2);
    story_put(s, "a", "1");
    story_flush(s);
    story_run_ms(s, 3000);
    uint64_t reserve = s->cluster->options.reserve_bytes;
    for (unsigned i = 0; i < 2; i++)
        vdisk_faults(s->nodes[i].disk)->space_max = used(s->nodes[i].disk) + reserve * 3 / 4;
    /* The next look at the free space is only seconds away. */
    story_run_ms(s, 30000);
    struct outcome o = story_write(s, s->client, CLIENT_PUT, "a", "2", NULL, 6000);
    assert_int_not_equal(o.status, 0);
    assert_int_equal(o.outcome, KHO_IN_DOUBT); /* the third node took it */
    struct outcome read = story_read(s, s->client, CLIENT_GET, "a", 0);
    assert_int_equal(read.status, 0);
    vdisk_faults(s->nodes[2].disk)->space_max = used(s->nodes[2].disk) + reserve * 3 / 4;
    story_run_ms(s, 30000);
    o = story_write(s, s->client, CLIENT_PUT, "b", "1", NULL, 6000);
    assert_int_equal(o.status, KHO_ENOSPACE);
    assert_int_equal(o.outcome, KHO_NOT_APPLIED);
    o = story_write(s, s->client, CLIENT_DEL, "a", NULL, NULL, 6000);
    assert_int_equal(o.status, 0);
    story_expect(s, "a", NULL);
    story_end(s);
}

/* A write error makes a shard read-only for good: it says so and goes on serving reads; a start on
 * a disk that works takes writes again. */
static void test_write_error(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 3);
    story_fill(s, "a", 5);
    story_flush(s);
    story_run_ms(s, 1000);
    vdisk_faults(s->nodes[2].disk)->write_error = 1000000;
    story_fill(s, "b", 10);
    vdisk_faults(s->nodes[2].disk)->write_error = 0;
    story_run_ms(s, 1000);
    assert_int_equal(node_stat(&s->nodes[2], STAT_readonly), 1);
    story_fill(s, "c", 5);
    node_kill(&s->nodes[0]);
    /* Reads need the read-only one now. */
    story_expect_filled(s, s->client, "a", 5);
    story_start(s, 0);
    node_kill(&s->nodes[2]);
    story_start(s, 2);
    assert_int_equal(node_stat(&s->nodes[2], STAT_readonly), 0);
    assert_int_equal(story_repair(s, NULL), 0);
    story_expect_verified(s);
    story_expect_filled(s, s->client, "b", 10);
    story_end(s);
}

/* Each shard has a log of its own: where one can't write any more, the others of its node can. */
static void test_write_error_of_one_shard(void **state)
{
    (void)state;
    struct cluster_options options;
    cluster_options_init(&options);
    options.shards = 3;
    struct story *s = story_begin(&options, 5);
    struct node *node = &s->nodes[2];
    story_fill(s, "a", 20);
    story_flush(s);
    vdisk_faults(node->shards[1].disk)->write_error = 1000000;
    story_fill(s, "b", 20);
    story_run_ms(s, 1000);
    assert_int_equal(shard_stat(node->shards[1].shard, STAT_readonly), 1);
    assert_int_equal(node_stat(node, STAT_readonly), 1);
    uint64_t durable = shard_stat(node->shards[0].shard, STAT_durable);
    story_fill(s, "c", 20);
    story_run_ms(s, 1000);
    assert_true(shard_stat(node->shards[0].shard, STAT_durable) > durable);
    node_kill(&s->nodes[0]);
    story_expect_filled(s, s->client, "a", 20);
    story_start(s, 0);
    vdisk_faults(node->shards[1].disk)->write_error = 0;
    node_kill(node);
    story_start(s, 2);
    assert_int_equal(node_stat(node, STAT_readonly), 0);
    assert_int_equal(story_repair(s, NULL), 0);
    story_expect_verified(s);
    story_expect_filled(s, s->client, "b", 20);
    story_expect_filled(s, s->client, "c", 20);
    story_end(s);
}

/* A read error is no answer: the record comes from another node. */
static void test_read_error(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 4);
    story_fill(s, "a", 10);
    story_flush(s);
    for (unsigned i = 0; i < 3; i++) {
        node_kill(&s->nodes[i]);
        story_start(s, i);
    }
    vdisk_faults(s->nodes[0].disk)->read_error = 1000000;
    for (unsigned round = 0; round < 3; round++)
        story_expect_filled(s, s->client, "a", 10);
    vdisk_faults(s->nodes[0].disk)->read_error = 0;
    assert_int_equal(story_repair(s, NULL), 0);
    story_expect_verified(s);
    story_end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_disk),   cmocka_unit_test(test_two_full_disks),
        cmocka_unit_test(test_write_error), cmocka_unit_test(test_write_error_of_one_shard),
        cmocka_unit_test(test_read_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
