/* What nodes say of themselves: asked of all shards, made one, and shown to a person. */
#include "fake_cluster.h"

#include "client/cli/nodes.h"

/* --- Asked ------------------------------------------------------------------------------------ */

/* A node's numbers are the sums of its shards', but for those that are the node's own. */
static void test_shards_made_one(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_create();
    struct kho_options options = fake_options(cluster);
    struct fake_done done = {0};
    cluster->shards = 2;
    for (int i = 0; i < FAKE_NODES; i++) {
        fake_node_map(cluster, i, 1);
        for (uint64_t shard = 0; shard < 2; shard++) {
            uint64_t *stats = cluster->nodes[i].stats[shard];
            stats[STAT_records] = 100 + shard;
            stats[STAT_dead_bytes] = 7;
            stats[STAT_disk_free] = 5000 + shard;
            stats[STAT_scrub_age] = 3600 * (2 - shard);
            stats[STAT_epoch] = 4 - shard;
        }
    }
    assert_int_equal(client_create(&options, 42, cluster->now, &cluster->client), 0);
    assert_int_equal(client_status(cluster->client, 5000, &done, cluster->now, NULL), 0);
    fake_run(cluster, 60000, &done);
    assert_true(done.come);
    assert_int_equal(done.done.status, 0);
    assert_int_equal(done.node_count, FAKE_NODES);
    const struct kho_node_status *node = &done.nodes[1];
    assert_int_equal(node->status, 0);
    assert_int_equal(node_number(node, "records"), 201);
    assert_int_equal(node_number(node, "dead_bytes"), 14);
    assert_int_equal(node_number(node, "disk_free"), 5001);
    assert_int_equal(node_number(node, "scrub_age"), 7200);
    assert_int_equal(node_number(node, "epoch"), 3);
    fake_destroy(cluster);
}

/* --- Shown ------------------------------------------------------------------------------------ */

enum { SHOWN = 16 };

struct shown {
    const char *names[SHOWN];
    uint64_t stats[SHOWN];
    struct kho_node_status node;
};

static struct shown *shown_make(const char *name)
{
    struct shown *shown = calloc(1, sizeof *shown);
    assert_non_null(shown);
    shown->node = (struct kho_node_status){.name = name,
                                           .address = "10.0.0.1",
                                           .port = 7700,
                                           .zone = "north",
                                           .epoch = 3,
                                           .stat_names = shown->names,
                                           .stats = shown->stats};
    return shown;
}

static void shown_set(struct shown *shown, const char *name, uint64_t value)
{
    size_t at = shown->node.stat_count++;
    assert_true(at < SHOWN);
    shown->names[at] = name;
    shown->stats[at] = value;
}

/* The cell of the first row under that title. */
static const char *cell(const struct table *table, const char *title)
{
    for (size_t i = 0; i < table->columns; i++)
        if (strcmp(table->titles[i] + (table->titles[i][0] == '>'), title) == 0)
            return table->cells[i].text;
    fail_msg("there is no column %s", title);
    return NULL;
}

static void test_numbers_shown(void **state)
{
    (void)state;
    struct shown *shown = shown_make("a");
    struct table table;
    shown_set(shown, "records", 2000000);
    shown_set(shown, "segments", 12);
    shown_set(shown, "segment_bytes", 3ull << 30);
    shown_set(shown, "sealed_bytes", 2ull << 30);
    shown_set(shown, "dead_bytes", 1ull << 29);
    shown_set(shown, "compacted_in", 5ull << 20);
    shown_set(shown, "scrubbed_bytes", 640 << 10);
    shown_set(shown, "scrub_age", 3 * 86400 + 4 * 3600 + 3599);
    shown_set(shown, "cache_hits", 98);
    shown_set(shown, "disk_reads", 2);
    shown_set(shown, "index_bytes", 63000000);
    shown_set(shown, "disk_free", 9ull << 40);
    shown_set(shown, "memory_bytes", 1ull << 30);
    nodes_work_table(&shown->node, 1, &table);
    assert_int_equal(table.count, table.columns);
    assert_string_equal(cell(&table, "NODE"), "a");
    assert_string_equal(cell(&table, "SEGMENTS"), "12");
    assert_string_equal(cell(&table, "LOG"), "3.0 GiB");
    assert_string_equal(cell(&table, "DEAD"), "25 %");
    assert_string_equal(cell(&table, "COMPACTED"), "5.0 MiB");
    assert_string_equal(cell(&table, "SCRUBBED"), "640 KiB");
    assert_string_equal(cell(&table, "CHECKED WITHIN"), "3 d 04 h");
    assert_string_equal(cell(&table, "CACHE"), "98 %");
    assert_string_equal(cell(&table, "INDEX/RECORD"), "32 B");
    table_fini(&table);
    nodes_table(&shown->node, 1, &table);
    assert_string_equal(cell(&table, "ADDRESS"), "10.0.0.1:7700");
    assert_string_equal(cell(&table, "RECORDS"), "2,000,000");
    assert_string_equal(cell(&table, "MEMORY"), "1.0 GiB");
    assert_string_equal(cell(&table, "DISK FREE"), "9.0 TiB");
    assert_string_equal(cell(&table, "EPISODES"), "0");
    assert_string_equal(cell(&table, "STATE"), "up");
    table_fini(&table);
    free(shown);
}

/* An empty node has no shares to tell; one that is away has no second row. */
static void test_nothing_to_show(void **state)
{
    (void)state;
    struct shown *shown = shown_make("a");
    struct table table;
    nodes_work_table(&shown->node, 1, &table);
    assert_string_equal(cell(&table, "DEAD"), "-");
    assert_string_equal(cell(&table, "CHECKED WITHIN"), "-");
    assert_string_equal(cell(&table, "CACHE"), "-");
    assert_string_equal(cell(&table, "INDEX/RECORD"), "-");
    assert_string_equal(cell(&table, "LOG"), "0 B");
    table_fini(&table);
    shown->node.status = KHO_EDEADLINE;
    nodes_work_table(&shown->node, 1, &table);
    assert_int_equal(table.count, 0);
    table_fini(&table);
    nodes_table(&shown->node, 1, &table);
    assert_string_equal(cell(&table, "RECORDS"), "-");
    assert_string_equal(cell(&table, "STATE"), "unreachable");
    table_fini(&table);
    free(shown);
}

/* The worst of a node stands first. */
static void test_states(void **state)
{
    (void)state;
    static const char *const worse[] = {"episodes", "readonly", "suspect"};
    static const char *const words[] = {"damaged", "read-only", "suspect"};
    struct shown *shown = shown_make("a");
    enum table_mark mark;
    assert_string_equal(node_state(&shown->node, &mark), "up");
    assert_int_equal(mark, MARK_GOOD);
    assert_false(node_damaged(&shown->node));
    for (size_t i = 0; i < KHO_COUNT_OF(worse); i++) {
        shown_set(shown, worse[i], 1);
        assert_int_equal(strncmp(node_state(&shown->node, &mark), words[i], strlen(words[i])), 0);
        assert_int_equal(mark, MARK_BAD);
        assert_true(node_damaged(&shown->node));
    }
    shown->node.status = KHO_EINCARNATION;
    assert_string_equal(node_state(&shown->node, &mark), kho_strerror(KHO_EINCARNATION));
    free(shown);
}

static void test_seconds(void **state)
{
    (void)state;
    static const struct {
        double seconds;
        const char *text;
    } known[] = {{0, "0.0 s"},
                 {9.94, "9.9 s"},
                 {59.4, "59 s"},
                 {60, "1 min 00 s"},
                 {119.9, "1 min 59 s"},
                 {3600, "1 h 00 min"},
                 {7199, "1 h 59 min"},
                 {2 * 86400 - 1, "47 h 59 min"},
                 {2 * 86400, "2 d 00 h"},
                 {14 * 86400 + 23 * 3600 + 3599, "14 d 23 h"}};
    struct small_text text;
    for (size_t i = 0; i < KHO_COUNT_OF(known); i++)
        assert_string_equal(human_seconds(known[i].seconds, &text), known[i].text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shards_made_one), cmocka_unit_test(test_numbers_shown),
        cmocka_unit_test(test_nothing_to_show), cmocka_unit_test(test_states),
        cmocka_unit_test(test_seconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
