/* list_test.c: a listing tells every record exactly once, as a get would tell it. */
#include "story.h"

#include "client/core.h"

#include <errno.h>
#include <kho/key.h>

/* What a walk over all pages told. */
struct walk {
    int status;
    unsigned pages;
    unsigned count;
    unsigned damaged; /* records without a value */
    unsigned seen[1000];
    size_t value_bytes;
};

/* Lists `collection` page by page; keys are "<prefix><i>" with the values of story_fill, or of
 * whatever kind if `prefix` is NULL. */
static struct walk walk_all(struct story *s, const char *prefix, size_t limit, unsigned flags,
                            uint32_t deadline_ms)
{
    struct walk walk = {0};
    struct kho_cursor cursor = {0};
    for (bool done = false; !done;) {
        struct answer a = {0};
        assert_int_equal(answer_list(&a, s->client, "records", &cursor, limit, flags, deadline_ms),
                         0);
        assert_true(answer_wait(&a, s->client, 120 * SIM_S));
        walk.status = a.status;
        walk.pages++;
        assert_true(a.count <= limit);
        for (size_t i = 0; i < a.count; i++) {
            const struct kho_result *r = &a.results[i];
            unsigned number = 0;
            char key[64] = {0};
            walk.count++;
            if (r->status == KHO_EDAMAGED) {
                assert_int_equal(r->key_len, 0);
                walk.damaged++;
                continue;
            }
            assert_int_equal(r->status, 0);
            walk.value_bytes += r->value_len;
            assert_true((r->value != NULL) == (flags == KHO_LIST_WITH_VALUES));
            if (prefix == NULL)
                continue;
            memcpy(key, r->key, kho_min(r->key_len, sizeof key - 1));
            assert_int_equal(sscanf(key + strlen(prefix), "%u", &number), 1);
            assert_true(number < KHO_COUNT_OF(walk.seen));
            walk.seen[number]++;
            if (r->value != NULL) {
                uint8_t value[64];
                story_fill_value(prefix, number, value);
                assert_int_equal(r->value_len, sizeof value);
                assert_memory_equal(r->value, value, sizeof value);
            }
        }
        done = a.list_done != 0 || a.status != 0;
        cursor = a.next;
        answer_fini(&a);
    }
    return walk;
}

static void expect_each_once(const struct walk *walk, unsigned from, unsigned to)
{
    assert_int_equal(walk->status, 0);
    assert_int_equal(walk->count, to - from);
    for (unsigned i = from; i < to; i++)
        assert_int_equal(walk->seen[i], 1);
}

/* Pages of any size bring the same records, deleted ones left out; an empty collection has none. */
static void test_pages(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 1);
    struct walk walk = walk_all(s, "r", 10, 0, 0);
    assert_int_equal(walk.status, 0);
    assert_int_equal(walk.count, 0);
    story_fill(s, "r", 120);
    for (unsigned i = 0; i < 20; i++) {
        char key[8];
        snprintf(key, sizeof key, "r%u", i);
        assert_int_equal(story_write(s, s->client, CLIENT_DEL, key, NULL, NULL, 0).status, 0);
    }
    static const size_t limits[] = {1, 7, 100, 65536};
    for (size_t i = 0; i < KHO_COUNT_OF(limits); i++) {
        walk = walk_all(s, "r", limits[i], KHO_LIST_WITH_VALUES, 0);
        expect_each_once(&walk, 20, 120);
        assert_true(walk.pages >= 100 / limits[i]);
    }
    walk = walk_all(s, "r", 50, 0, 0);
    expect_each_once(&walk, 20, 120);
    story_end(s);
}

/* What can't be asked is refused at once. */
static void test_refusals(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 2);
    struct answer a = {0};
    struct kho_cursor cursor = {{0}};
    assert_int_equal(answer_list(&a, s->client, "records", NULL, 0, 0, 0), -EINVAL);
    assert_int_equal(answer_list(&a, s->client, "records", NULL, 65537, 0, 0), -EINVAL);
    assert_int_equal(answer_list(&a, s->client, "records", NULL, 10, 2, 0), -EINVAL);
    assert_int_equal(answer_list(&a, s->client, "Records", NULL, 10, 0, 0), KHO_ECOLLECTIONNAME);
    cursor.bytes[15] = 1;
    assert_int_equal(answer_list(&a, s->client, "records", &cursor, 10, 0, 0), -EINVAL);
    assert_int_equal(answer_list(&a, s->client, "absent", NULL, 10, 0, 0), 0);
    assert_true(answer_wait(&a, s->client, 30 * SIM_S));
    assert_int_equal(a.status, KHO_ENOCOLLECTION);
    answer_fini(&a);
    story_end(s);
}

/* One node dead, or one that missed writes, costs no record; with two dead the listing ends as
 * unavailable before its deadline. */
static void test_nodes_away(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 3);
    story_fill(s, "r", 40);
    for (unsigned dead = 0; dead < 3; dead++) {
        node_kill(&s->nodes[dead]);
        struct walk walk = walk_all(s, "r", 15, KHO_LIST_WITH_VALUES, 0);
        expect_each_once(&walk, 0, 40);
        story_start(s, dead);
        story_run_ms(s, 3000);
    }
    node_sleep(&s->nodes[1], 60 * SIM_S);
    struct walk walk = walk_all(s, "r", 15, KHO_LIST_WITH_VALUES, 0);
    expect_each_once(&walk, 0, 40);
    story_run_ms(s, 61000);
    node_kill(&s->nodes[0]);
    node_kill(&s->nodes[2]);
    uint64_t begun = s->sim.now_ns;
    walk = walk_all(s, "r", 15, 0, 8000);
    assert_int_equal(walk.status, KHO_EUNAVAILABLE);
    assert_true(s->sim.now_ns - begun < 8 * SIM_S);
    story_end(s);
}

/* Values from nothing to several MiB come whole, those over a frame too. */
static void test_large_values(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 60000, 65536, 70000, 262144, 300000, 3000000};
    struct story *s = story_begin(NULL, 4);
    size_t total = 0;
    uint8_t *value = malloc(3000000);
    assert_non_null(value);
    for (size_t i = 0; i < 3000000; i++)
        value[i] = (uint8_t)dice_below(&s->sim.dice, 256);
    for (size_t i = 0; i < KHO_COUNT_OF(sizes); i++) {
        struct answer a = {0};
        char key[16];
        snprintf(key, sizeof key, "large%zu", i);
        struct kho_item item = {
            .key = key, .key_len = strlen(key), .value = value, .value_len = sizes[i]};
        assert_int_equal(answer_records(&a, s->client, CLIENT_PUT, "records", &item, 1, 30000), 0);
        assert_true(answer_wait(&a, s->client, 60 * SIM_S));
        assert_int_equal(a.results[0].status, 0);
        answer_fini(&a);
        total += sizes[i];
    }
    free(value);
    struct walk walk = walk_all(s, NULL, 100, KHO_LIST_WITH_VALUES, 30000);
    assert_int_equal(walk.status, 0);
    assert_int_equal(walk.count, KHO_COUNT_OF(sizes));
    assert_int_equal(walk.value_bytes, total);
    walk = walk_all(s, NULL, 100, 0, 30000);
    assert_int_equal(walk.count, KHO_COUNT_OF(sizes));
    assert_int_equal(walk.value_bytes, total); /* lengths, without the values */
    story_end(s);
}

/* A first-hand write straight to one node: newer than all that the others have. */
static void write_to_one(struct story *s, unsigned node, const char *key, const char *value,
                         uint64_t above)
{
    struct raw raw;
    struct wire_head head;
    const uint8_t *answer;
    uint8_t body[512];
    struct record record = {
        .collection = 1,
        .key_len = (uint16_t)strlen(key),
        .version = {.counter = above + 1, .writer = 7},
        .key = (const uint8_t *)key,
    };
    if (value != NULL) {
        record.raw_len = record.stored_len = (uint32_t)strlen(value);
        record.value = (const uint8_t *)value;
        record.hash = content_hash(value, strlen(value));
    } else {
        record.flags = KHO_RECORD_TOMBSTONE;
    }
    size_t len = record_encode(&record, body);
    assert_int_equal(raw_open(&raw, &s->nodes[node], &s->cluster->id, 0), 0);
    raw_send(&raw, WIRE_WRITE, 0, 1, raw.hello.epoch, raw.hello.map_hash, body, len);
    assert_int_equal(raw_receive(&raw, &head, &answer), 0);
    assert_int_equal(head.status, 0);
    assert_int_equal((int32_t)kho_load32(answer), 0);
    raw_close(&raw);
}

static unsigned holders(struct story *s, const char *key, uint64_t counter)
{
    unsigned count = 0;
    for (unsigned i = 0; i < 3; i++)
        count += story_probe(s, i, key).version.counter == counter;
    return count;
}

/* A version that only one replica has is either not told, or a majority has it by then: a listing
 * writes it back, a delete too. */
static void test_writes_back(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 5);
    unsigned new_told = 0, deleted_told = 0;
    for (unsigned node = 0; node < 3; node++) {
        char put[8], del[8];
        snprintf(put, sizeof put, "a%u", node);
        snprintf(del, sizeof del, "b%u", node);
        story_put(s, put, "old");
        story_put(s, del, "old");
        story_flush(s);
        uint64_t put_counter = story_probe(s, 0, put).version.counter;
        uint64_t del_counter = story_probe(s, 0, del).version.counter;
        write_to_one(s, node, put, "new", put_counter);
        write_to_one(s, node, del, NULL, del_counter);
        struct answer a = {0};
        bool told_del = false, told_put = false;
        assert_int_equal(
            answer_list(&a, s->client, "records", NULL, 10, KHO_LIST_WITH_VALUES, 10000), 0);
        assert_true(answer_wait(&a, s->client, 60 * SIM_S));
        assert_int_equal(a.status, 0);
        for (size_t i = 0; i < a.count; i++) {
            const struct kho_result *r = &a.results[i];
            told_del |= memcmp(r->key, del, 2) == 0;
            if (memcmp(r->key, put, 2) != 0)
                continue;
            told_put = true;
            bool is_new = r->version.counter == put_counter + 1;
            assert_memory_equal(r->value, is_new ? "new" : "old", 3);
            if (is_new)
                assert_true(holders(s, put, put_counter + 1) >= 2);
            new_told += is_new;
        }
        assert_true(told_put);
        if (!told_del)
            assert_true(holders(s, del, del_counter + 1) >= 2);
        deleted_told += !told_del;
        answer_fini(&a);
    }
    /* With three replicas and two asked, it is met at least once. */
    assert_true(new_told > 0 && deleted_told > 0);
    story_end(s);
}

/* A record whose newest value is rotten wherever it is isn't skipped: it is told as damaged. */
static void test_damage_is_told(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 6);
    uint8_t value[64];
    story_fill(s, "r", 10);
    story_flush(s);
    story_run_ms(s, 500);
    story_fill_value("r", 4, value);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(damage_rot(&s->sim, s->nodes[i].disk, value, sizeof value));
        node_kill(&s->nodes[i]);
    }
    for (unsigned i = 0; i < 3; i++)
        story_start(s, i);
    story_run_ms(s, 8000);
    struct walk walk = walk_all(s, "r", 100, KHO_LIST_WITH_VALUES, 20000);
    if (walk.status == 0) {
        /* Versions were known: the record itself, and whatever shares its block, is damaged. */
        assert_int_equal(walk.count, 10);
        assert_true(walk.damaged >= 1);
        assert_int_equal(walk.seen[4], 0);
    } else {
        /* Nobody knows what the damage hides: then nothing may be told as complete. */
        assert_int_equal(walk.status, KHO_EUNKNOWN);
    }
    story_end(s);
}

/* Out of memory at any allocation: the listing ends with -ENOMEM or whole, and never hangs. */
static struct {
    unsigned left;
} scarce;

static void *scarce_allocate(size_t size, void *arg)
{
    (void)arg;
    if (scarce.left > 0 && --scarce.left == 0)
        return NULL;
    return malloc(size);
}

static void scarce_release(void *memory, void *arg)
{
    (void)arg;
    free(memory);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    unsigned failed = 0;
    for (unsigned n = 1; n < 60; n++) {
        struct story *s = story_begin(NULL, 7);
        story_fill(s, "r", 12);
        story_put(s, "late", "1");
        write_to_one(s, n % 3, "late", "2", story_probe(s, 0, "late").version.counter);
        struct kho_heap *heap = &s->client->client->heap;
        heap->allocate = scarce_allocate;
        heap->release = scarce_release;
        scarce.left = n;
        struct answer a = {0};
        int rc = answer_list(&a, s->client, "records", NULL, 100, KHO_LIST_WITH_VALUES, 10000);
        if (rc == 0) {
            assert_true(answer_wait(&a, s->client, 60 * SIM_S));
            assert_true(a.status == 0 || a.status == -ENOMEM || a.status == KHO_EUNAVAILABLE);
            if (a.status == 0)
                assert_true(a.list_done == 0 || a.count == 13);
            failed += a.status == -ENOMEM;
            answer_fini(&a);
        } else {
            assert_int_equal(rc, -ENOMEM);
            failed++;
        }
        scarce.left = 0;
        story_end(s);
    }
    assert_true(failed > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages),         cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_nodes_away),    cmocka_unit_test(test_large_values),
        cmocka_unit_test(test_writes_back),   cmocka_unit_test(test_damage_is_told),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
