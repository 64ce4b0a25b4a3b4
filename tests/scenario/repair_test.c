/* repair_test.c: what repair makes equal, what it can't, and how the map changes. */
#include "client/core.h"
#include "story.h"

#include <errno.h>
#include <kho/key.h>

static int wait_status(struct story *s, struct answer *a, int rc)
{
    if (rc != 0)
        return rc;
    assert_true(answer_wait(a, s->client, 600 * SIM_S));
    int status = a->status;
    answer_fini(a);
    return status;
}

static int readmit(struct story *s, const char *name)
{
    struct answer a = {0};
    return wait_status(s, &a, answer_readmit(&a, s->client, name, 20000));
}

static int create(struct story *s, const char *name, uint32_t deadline_ms)
{
    struct answer a = {0};
    return wait_status(s, &a, answer_collection_create(&a, s->client, name, deadline_ms));
}

static void wipe(struct story *s, unsigned node)
{
    node_kill(&s->nodes[node]);
    story_run_ms(s, 1000); /* what its disk was doing has ended */
    node_wipe(&s->nodes[node]);
    story_start(s, node);
}

/* A node that was away gets all that it missed: new values, large ones, deletes. */
static void test_node_that_was_away(void **state)
{
    (void)state;
    static const size_t sizes[] = {100000, 262000, 700000};
    struct story *s = story_begin(NULL, 1);
    uint8_t *value = malloc(700000);
    assert_non_null(value);
    for (size_t i = 0; i < 700000; i++)
        value[i] = (uint8_t)dice_below(&s->sim.dice, 256);
    story_fill(s, "r", 60);
    story_flush(s); /* all three have them, not just a majority */
    node_kill(&s->nodes[2]);
    for (unsigned i = 0; i < 20; i++) {
        char key[8];
        snprintf(key, sizeof key, "r%u", i);
        if (i < 10)
            story_put(s, key, "newer");
        else
            assert_int_equal(story_write(s, s->client, CLIENT_DEL, key, NULL, NULL, 0).status, 0);
    }
    story_fill(s, "q", 200);
    for (size_t i = 0; i < KHO_COUNT_OF(sizes); i++) {
        struct answer a = {0};
        char key[8];
        snprintf(key, sizeof key, "big%zu", i);
        struct kho_item item = {
            .key = key, .key_len = strlen(key), .value = value, .value_len = sizes[i]};
        assert_int_equal(answer_records(&a, s->client, CLIENT_PUT, "records", &item, 1, 30000), 0);
        assert_true(answer_wait(&a, s->client, 60 * SIM_S));
        assert_int_equal(a.results[0].status, 0);
        answer_fini(&a);
    }
    free(value);
    /* Another client repairs: this one would bring what it held back. */
    client_end_crash(s->client);
    client_end_start(s->client);
    story_start(s, 2);
    struct kho_repair_result repaired;
    assert_int_equal(story_repair(s, &repaired), 0);
    assert_int_equal(repaired.records_copied, 20 + 200 + KHO_COUNT_OF(sizes));
    assert_int_equal(repaired.records_lost, 0);
    assert_true(repaired.partitions_differing > 0);
    assert_int_equal(repaired.partitions, repaired.partitions_done);
    story_expect_verified(s);
    node_kill(&s->nodes[0]);
    story_expect_filled(s, s->client, "q", 200);
    story_expect(s, "r3", "newer");
    story_expect(s, "r15", NULL);
    assert_int_equal(story_repair(s, &repaired), KHO_EUNAVAILABLE);
    assert_int_equal(repaired.nodes_unreached, 1);
    story_end(s);
}

/* Where nothing differs, nothing is done, whatever is deleted. */
static void test_nothing_to_do(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 2);
    struct kho_repair_result repaired;
    story_fill(s, "r", 20);
    assert_int_equal(story_write(s, s->client, CLIENT_DEL, "r3", NULL, NULL, 0).status, 0);
    story_flush(s);
    uint64_t epoch = client_map(s->client->client)->epoch;
    assert_int_equal(story_repair(s, &repaired), 0);
    assert_int_equal(repaired.partitions, 0);
    assert_int_equal(repaired.records_copied, 0);
    assert_int_equal(repaired.epoch, epoch);
    struct answer a = {0};
    assert_int_equal(wait_status(s, &a, answer_repair(&a, s->client, "absent")), KHO_ENOCOLLECTION);
    story_end(s);
}

/* A put of r2, one version above node 0's, that reached only these nodes before its client died,
 * and whose value rots there. */
static struct version rotten_put(struct story *s, unsigned nodes)
{
    uint8_t value[64], body[256];
    struct raw raw;
    struct wire_head head;
    const uint8_t *answer;
    story_fill_value("lost", 1, value);
    struct record record = {.collection = 1,
                            .key_len = 2,
                            .key = (const uint8_t *)"r2",
                            .version = story_probe(s, 0, "r2").version,
                            .raw_len = sizeof value,
                            .stored_len = sizeof value,
                            .value = value,
                            .hash = content_hash(value, sizeof value)};
    record.version.counter++;
    size_t len = record_encode(&record, body);
    for (unsigned i = 0; i < nodes; i++) {
        assert_int_equal(raw_open(&raw, &s->nodes[i], &s->cluster->id, 0), 0);
        raw_send(&raw, WIRE_WRITE, 0, 1, raw.hello.epoch, raw.hello.map_hash, body, len);
        assert_int_equal(raw_receive(&raw, &head, &answer), 0);
        assert_int_equal((int32_t)kho_load32(answer), 0);
        raw_close(&raw);
    }
    story_run_ms(s, 300);
    for (unsigned i = 0; i < nodes; i++)
        assert_true(damage_rot(&s->sim, s->nodes[i].disk, value, sizeof value));
    return record.version;
}

/* The newest value is rotten on the only replica that has it. It was never acknowledged, so the
 * version before it stands on all of them, whether the damaged one knows its versions still or,
 * after a start, hides them, from blocks or with a footer that names the version. */
static void test_value_of_nobody(void **state)
{
    (void)state;
    enum { KNOWN, HIDDEN, HIDDEN_NAMED, KINDS };
    for (unsigned kind = 0; kind < KINDS; kind++) {
        struct cluster_options options;
        cluster_options_init(&options);
        options.footer_entries = kind == HIDDEN_NAMED ? 5 : 1000;
        struct story *s = story_begin(&options, 3 + kind);
        struct kho_repair_result repaired;
        story_fill(s, "r", 5);
        story_flush(s);
        story_run_ms(s, 300);
        struct version version = rotten_put(s, 1);
        struct version before = story_probe(s, 1, "r2").version;
        assert_int_equal(before.counter + 1, version.counter);
        /* A read that has to ask node 0 finds the damage: the record is nowhere else. */
        node_kill(&s->nodes[2]);
        assert_int_equal(story_read(s, s->client, CLIENT_GET, "r2", 5000).status, KHO_EDAMAGED);
        story_start(s, 2);
        story_run_ms(s, 3000);
        assert_int_equal(story_probe(s, 0, "r2").state, WIRE_VALUE_UNKNOWN);
        if (kind != KNOWN) {
            story_fill(s, "q", 20);
            story_flush(s);
            story_run_ms(s, 300);
            node_kill(&s->nodes[0]);
            story_start(s, 0);
            story_run_ms(s, 3000);
        }
        assert_int_equal(story_repair(s, &repaired), 0);
        assert_int_equal(repaired.records_lost, 0);
        assert_int_equal(repaired.records_dropped, kind != HIDDEN);
        for (unsigned i = 0; i < 3; i++) {
            struct wire_probe_answer probe = story_probe(s, i, "r2");
            assert_int_equal(probe.state, WIRE_PRESENT);
            assert_int_equal(probe.version.counter, before.counter);
        }
        story_expect_filled(s, s->client, "r", 5);
        story_expect_verified(s);
        assert_int_equal(node_stat(&s->nodes[0], STAT_episodes), 0);
        /* A write that goes on is newer. */
        story_put(s, "r2", "after");
        story_expect(s, "r2", "after");
        story_end(s);
    }
}

/* The newest value is rotten on both replicas that acknowledged it: it is counted as lost, and
 * neither deleted nor replaced by the older one. */
static void test_lost_record(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 3);
    struct kho_repair_result repaired;
    story_fill(s, "r", 5);
    story_flush(s);
    story_run_ms(s, 300);
    struct version version = rotten_put(s, 2);
    assert_int_equal(story_read(s, s->client, CLIENT_GET, "r2", 5000).status, KHO_EDAMAGED);
    for (unsigned pass = 0; pass < 2; pass++) {
        assert_int_equal(story_repair(s, &repaired), KHO_EDAMAGED);
        assert_int_equal(repaired.records_lost, 1);
        assert_int_equal(repaired.records_dropped, 0);
        for (unsigned i = 0; i < 2; i++) {
            struct wire_probe_answer probe = story_probe(s, i, "r2");
            assert_int_equal(probe.state, WIRE_VALUE_UNKNOWN);
            assert_int_equal(probe.version.counter, version.counter);
        }
    }
    assert_int_equal(story_read(s, s->client, CLIENT_GET, "r2", 5000).status, KHO_EDAMAGED);
    story_expect(s, "absent", NULL);
    story_end(s);
}

/* Two of three replicas wiped at once: what the third has is copied, but nobody can say that
 * nothing was lost, so the episodes stay and an admin must decide. */
static void test_overlapping_episodes(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 4);
    struct kho_repair_result repaired;
    story_fill(s, "r", 30);
    story_flush(s);
    wipe(s, 1);
    assert_int_equal(readmit(s, "n1"), 0);
    wipe(s, 2);
    assert_int_equal(readmit(s, "n2"), 0);
    assert_int_equal(story_repair(s, &repaired), KHO_EOVERLAP);
    assert_int_equal(repaired.episodes_closed, 0);
    assert_true(repaired.episodes_found > 0);
    assert_int_equal(repaired.records_copied, 60);
    /* All is there, and still no vote. */
    struct answer a = {0};
    assert_int_equal(answer_compare(&a, s->client, CLIENT_VERIFY, "records", 30000), 0);
    assert_true(answer_wait(&a, s->client, 60 * SIM_S));
    assert_int_equal(a.status, 0);
    assert_int_equal(a.verify[0].partitions_differing, 0);
    assert_int_equal(a.verify[0].partitions_damaged, s->cluster->options.partitions);
    answer_fini(&a);
    assert_int_equal(story_probe(s, 1, "r5").state, WIRE_UNKNOWN);
    story_end(s);
}

/* The home node itself loses its folder: another becomes the home, the wiped one is let in and
 * filled, and changes can be decided again. */
static void test_wiped_home(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 5);
    story_fill(s, "r", 30);
    story_flush(s);
    unsigned home = client_map(s->client->client)->home;
    struct map_node node;
    map_node(client_map(s->client->client), home, &node);
    wipe(s, home);
    assert_int_not_equal(create(s, "more", 5000), 0);
    assert_int_equal(readmit(s, node.name), 0);
    assert_int_not_equal(client_map(s->client->client)->home, home);
    assert_int_equal(create(s, "more", 5000), 0);
    assert_int_equal(story_repair(s, NULL), 0);
    story_expect_verified(s);
    node_kill(&s->nodes[(home + 1) % 3]);
    story_expect_filled(s, s->client, "r", 30);
    story_end(s);
}

/* Readmit says why it did nothing. */
static void test_readmit_refusals(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 6);
    story_put(s, "a", "1");
    assert_int_equal(readmit(s, "n1"), -EALREADY);
    assert_int_equal(readmit(s, "nobody"), -ENOENT);
    assert_int_equal(readmit(s, ""), -EINVAL);
    node_kill(&s->nodes[1]);
    assert_int_not_equal(readmit(s, "n1"), 0);
    assert_int_equal(client_map(s->client->client)->epoch, 1);
    story_end(s);
}

/* Collections get ids in order, once a name; a change needs the home, and says so in time. */
static void test_collections(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 7);
    story_put(s, "a", "1");
    const struct map *map = client_map(s->client->client);
    uint64_t epoch = map->epoch;
    uint32_t before = map->collection_count;
    assert_int_equal(create(s, "eid", 5000), 0);
    assert_int_equal(create(s, "eid", 5000), KHO_ECOLLECTIONEXISTS);
    assert_int_equal(create(s, "EID", 5000), KHO_ECOLLECTIONNAME);
    map = client_map(s->client->client);
    assert_int_equal(map->epoch, epoch + 1);
    assert_int_equal(map->collection_count, before + 1);
    node_kill(&s->nodes[(map->home + 1) % 3]);
    assert_int_equal(create(s, "dossiers", 5000), 0);
    story_start(s, (map->home + 1) % 3);
    map = client_map(s->client->client);
    node_kill(&s->nodes[map->home]);
    uint64_t begun = s->sim.now_ns;
    int status = create(s, "scans", 5000);
    assert_true(status == KHO_EUNAVAILABLE || status == KHO_EDEADLINE);
    assert_true(s->sim.now_ns - begun <= 5 * SIM_S + 10 * SIM_MS);
    story_end(s);
}

/* Two admins at once: both changes are made, one after the other. */
static void test_two_admins(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 8);
    uint32_t other = cluster_client_add(s->cluster);
    struct client_end *second = &s->cluster->clients[other];
    story_put(s, "a", "1");
    assert_int_equal(story_write(s, second, CLIENT_PUT, "b", "2", NULL, 0).status, 0);
    struct answer a = {0}, b = {0};
    uint32_t before = client_map(s->client->client)->collection_count;
    assert_int_equal(answer_collection_create(&a, s->client, "one", 10000), 0);
    assert_int_equal(answer_collection_create(&b, second, "two", 10000), 0);
    assert_true(answer_wait(&a, s->client, 60 * SIM_S));
    assert_true(answer_wait(&b, second, 60 * SIM_S));
    assert_int_equal(a.status, 0);
    assert_int_equal(b.status, 0);
    answer_fini(&a);
    answer_fini(&b);
    story_run_ms(s, 2000);
    story_put(s, "a", "2");
    const struct map *map = client_map(s->client->client);
    assert_int_equal(map->collection_count, before + 2);
    assert_true(map_collection_by_name(map, "one") >= 0 && map_collection_by_name(map, "two") >= 0);
    story_end(s);
}

/* Repair while records are written and another admin raises the epoch: it ends, and once the
 * writes have ended another one finds all equal. */
static void test_repair_under_load(void **state)
{
    (void)state;
    for (uint64_t seed = 20; seed < 40; seed++) {
        struct story *s = story_begin(NULL, seed);
        story_fill(s, "r", 40);
        node_kill(&s->nodes[1]);
        story_fill(s, "q", 40);
        story_start(s, 1);
        struct answer a = {0};
        assert_int_equal(answer_repair(&a, s->client, NULL), 0);
        story_fill(s, "w", 10);
        assert_int_equal(create(s, "while", 20000), 0);
        story_fill(s, "x", 10);
        assert_true(answer_wait(&a, s->client, 600 * SIM_S));
        assert_int_equal(a.status, 0);
        answer_fini(&a);
        story_flush(s);
        assert_int_equal(story_repair(s, NULL), 0);
        story_expect_verified(s);
        story_end(s);
    }
}

/* A cancelled repair ends at once, and leaves nothing behind that hinders the next. */
static void test_cancel(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 30);
    story_fill(s, "r", 40);
    node_kill(&s->nodes[1]);
    story_fill(s, "q", 40);
    story_start(s, 1);
    for (uint64_t after_us = 0; after_us < 20000; after_us += 2500) {
        struct answer a = {0};
        assert_int_equal(answer_repair(&a, s->client, NULL), 0);
        cluster_run(s->cluster, after_us * SIM_US);
        if (!a.done) {
            client_cancel(s->client->client, a.call, client_end_now(s->client));
            client_end_turn_soon(s->client);
        }
        assert_true(answer_wait(&a, s->client, SIM_S));
        assert_true(a.status == KHO_ECANCELED || a.status == 0);
        answer_fini(&a);
    }
    assert_int_equal(story_repair(s, NULL), 0);
    story_expect_verified(s);
    story_end(s);
}

/* Out of memory at any allocation: the repair ends, with -ENOMEM or done, and the next one heals.
 */
static unsigned scarce_left;

static void *scarce_allocate(size_t size, void *arg)
{
    (void)arg;
    if (scarce_left > 0 && --scarce_left == 0)
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
    struct story *s = story_begin(NULL, 31);
    story_fill(s, "r", 20);
    struct kho_heap *heap = &s->client->client->heap;
    heap->allocate = scarce_allocate;
    heap->release = scarce_release;
    for (unsigned n = 1; n < 120; n += 1 + n / 30) {
        if (n % 10 == 1) {
            scarce_left = 0;
            wipe(s, 1);
            assert_int_equal(readmit(s, "n1"), 0);
        }
        struct answer a = {0};
        scarce_left = n;
        int rc = answer_repair(&a, s->client, NULL);
        if (rc == 0) {
            assert_true(answer_wait(&a, s->client, 120 * SIM_S));
            assert_true(a.status == 0 || a.status == -ENOMEM || a.status == KHO_EUNAVAILABLE ||
                        a.status == KHO_EEPISODE);
            failed += a.status == -ENOMEM;
            answer_fini(&a);
        } else {
            assert_int_equal(rc, -ENOMEM);
            failed++;
        }
        scarce_left = 0;
    }
    assert_true(failed > 5);
    story_run_ms(s, 5000);
    assert_int_equal(story_repair(s, NULL), 0);
    story_expect_verified(s);
    story_expect_filled(s, s->client, "r", 20);
    story_end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_node_that_was_away),
        cmocka_unit_test(test_nothing_to_do),
        cmocka_unit_test(test_value_of_nobody),
        cmocka_unit_test(test_lost_record),
        cmocka_unit_test(test_overlapping_episodes),
        cmocka_unit_test(test_wiped_home),
        cmocka_unit_test(test_readmit_refusals),
        cmocka_unit_test(test_collections),
        cmocka_unit_test(test_two_admins),
        cmocka_unit_test(test_repair_under_load),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
