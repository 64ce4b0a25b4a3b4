/* checkers_test.c: does each check of the simulator fail when it should? A run without faults, in
 * which all checks pass; then damage planted by hand, which each must tell. */
#include "tests/sim/answer.h"
#include "tests/sim/listing.h"
#include "tests/sim/medium_check.h"
#include "tests/sim/raw.h"
#include "tests/sim/workload.h"

#include <kho/hash.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct run {
    struct sim sim;
    struct workload w;
    struct medium_view view;
};

/* A record whose newest version on the disk of node 1 is the one that clients were told of, deleted
 * or not; *ret_shard says in which shard. NULL: there is none. */
static const struct medium_record *acknowledged(struct run *run, bool tombstone,
                                                uint32_t *ret_shard)
{
    for (uint32_t s = 0; s < run->w.cluster->options.shards; s++) {
        const struct medium_scan *scan = &run->view.scans[1][s];
        *ret_shard = s;
        for (size_t i = 0; i < scan->count; i++)
            for (size_t k = 0; k < run->w.history.count; k++) {
                const struct history_op *op = &run->w.history.ops[k];
                if (version_compare(op->version, scan->records[i].version) == 0 &&
                    op->end == HISTORY_OK && op->kind == HISTORY_WRITE &&
                    scan->records[i].tombstone == tombstone && medium_scan_is_newest(scan, i))
                    return &scan->records[i];
            }
    }
    return NULL;
}

/* The first key, told to the history. */
static void delete_first(struct run *run)
{
    struct workload *w = &run->w;
    struct client_end *end = &w->cluster->clients[0];
    struct kho_item item = {.key = w->slots[0].bytes, .key_len = w->slots[0].len};
    struct answer a = {0};
    size_t op = history_begin(&w->history, w->slots[0].history_key, 0, HISTORY_WRITE, 0);
    assert_int_equal(answer_records(&a, end, CLIENT_DEL, "records", &item, 1, 10000), 0);
    assert_true(answer_wait(&a, end, 60 * SIM_S));
    assert_int_equal(a.results[0].status, 0);
    history_end(&w->history, op, HISTORY_OK, 0,
                (struct version){.counter = a.results[0].version.counter,
                                 .writer = a.results[0].version.writer});
    answer_fini(&a);
}

/* The seed draws a cluster of three nodes, and values of which some share a block. */
static bool seed_fits(struct sim *sim)
{
    struct plan plan;
    struct cluster_options options;
    plan_draw(sim, &plan, &options);
    return !plan.beyond && options.nodes == 3 && plan.keys > 1 && plan.value_max < 10000;
}

/* A short run without any fault, its last view of the disks taken. */
static struct run *run_begin(void)
{
    struct limits limits = {.calls_max = 60, .rounds_max = 1};
    for (int i = 0; i < SIM_FAULT_COUNT; i++)
        limits.without[i] = true;
    for (uint64_t seed = 1; seed < 200; seed++) {
        struct run *run = calloc(1, sizeof *run);
        uint32_t shard;
        assert_non_null(run);
        sim_init(&run->sim, seed, false);
        if (seed_fits(&run->sim)) {
            workload_run_limited(&run->w, &run->sim, &limits);
            assert_string_equal(run->sim.failure, "");
            delete_first(run);
            cluster_run(run->w.cluster, 5 * SIM_S); /* the third replica has it, too */
            medium_view_take(&run->w, &run->view);
            medium_check_records(&run->w, &run->view, true);
            assert_string_equal(run->sim.failure, "");
            if (acknowledged(run, true, &shard) != NULL && acknowledged(run, false, &shard) != NULL)
                return run;
            medium_view_fini(&run->view);
            workload_fini(&run->w);
        }
        sim_fini(&run->sim);
        free(run);
    }
    fail_msg("no seed of 200 fits");
    return NULL;
}

static void run_end(struct run *run)
{
    medium_view_fini(&run->view);
    workload_fini(&run->w);
    sim_fini(&run->sim);
    free(run);
}

/* The simulation has failed, and says so; it goes on. */
static void expect_failed(struct run *run, const char *part)
{
    if (!run->sim.failed || strstr(run->sim.failure, part) == NULL)
        fail_msg("expected '%s', got '%s'", part, run->sim.failure);
    run->sim.failed = false;
    run->sim.failure[0] = '\0';
}

static struct vdisk *disk_of(struct run *run, uint32_t node, uint32_t shard)
{
    return run->w.cluster->nodes[node].shards[shard].disk;
}

static uint8_t byte_at(const struct vdisk *disk, uint64_t segment, uint64_t offset)
{
    uint8_t byte;
    struct file_name name = {.kind = FILE_SEGMENT, .id = segment};
    assert_int_equal(vdisk_peek(disk, name, offset, &byte, 1), 1);
    return byte;
}

/* One bit of the block's body. */
static void block_damage(struct run *run, uint32_t node, uint32_t shard,
                         const struct medium_record *r)
{
    struct file_name name = {.kind = FILE_SEGMENT, .id = r->segment};
    struct vdisk *disk = disk_of(run, node, shard);
    uint8_t byte = (uint8_t)(byte_at(disk, r->segment, r->offset + 192) ^ 1);
    assert_true(vdisk_poke(disk, name, r->offset + 192, &byte, 1));
}

static void view_again(struct run *run)
{
    medium_view_fini(&run->view);
    medium_view_take(&run->w, &run->view);
}

/* --- Records on disks ------------------------------------------------------------------------- */

/* An acknowledged record that isn't whole on one replica any more: after a repair that is told. A
 * sector that can't be read, and a delete, are no different. */
static void test_lost_record(void **state)
{
    (void)state;
    for (int how = 0; how < 3; how++) {
        struct run *run = run_begin();
        uint32_t shard;
        const struct medium_record *r = acknowledged(run, how == 2, &shard);
        struct file_name name = {.kind = FILE_SEGMENT, .id = r->segment};
        assert_true(run->w.checked.records > 0 && run->w.checked.keys > 0);
        if (how == 1)
            assert_true(vdisk_spoil(disk_of(run, 1, shard), name, r->offset & ~511ull, 512));
        else
            block_damage(run, 1, shard, r);
        view_again(run);
        assert_false(run->sim.failed);
        medium_check_records(&run->w, &run->view, true);
        expect_failed(run, "after repair, key");
        run_end(run);
    }
}

/* Before a repair, one copy beside the weak node's is enough, and none isn't. */
static void test_lost_before_repair(void **state)
{
    (void)state;
    struct run *run = run_begin();
    uint32_t shard, lost = 0;
    const struct medium_record *r = acknowledged(run, false, &shard);
    struct medium_record record = *r;
    uint8_t key[32];
    assert_int_equal(run->w.cluster->options.nodes, 3);
    memcpy(key, run->view.scans[1][shard].keys + r->key_at, r->key_len);
    run->w.weak = 0;
    for (uint32_t n = 0; n < 3; n++) {
        const struct medium_record *copy =
            medium_scan_newest(&run->view.scans[n][shard], record.collection, key, record.key_len);
        if (n == 0 || copy == NULL)
            continue;
        block_damage(run, n, shard, copy);
        view_again(run);
        medium_check_records(&run->w, &run->view, false);
        if (++lost == 1)
            assert_false(run->sim.failed);
    }
    assert_int_equal(lost, 2);
    expect_failed(run, "healed, key");
    run_end(run);
}

/* What nobody wrote, what was said not to be applied, and what was told with another value. */
static void test_wrong_values(void **state)
{
    (void)state;
    struct run *run = run_begin();
    uint32_t shard;
    const struct medium_record *r = acknowledged(run, false, &shard);
    uint64_t value = 1;
    while (memcmp(run->w.value_hashes[value].bytes, r->hash.bytes, 16) != 0)
        value++;
    run->w.value_hashes[value].bytes[3] ^= 1;
    medium_check_records(&run->w, &run->view, true);
    expect_failed(run, "nobody wrote");
    run->w.value_hashes[value].bytes[3] ^= 1;
    struct history_op *write = run->w.history.ops;
    while (write->kind != HISTORY_WRITE || write->value != value)
        write++;
    uint8_t end = write->end;
    write->end = HISTORY_NOT;
    medium_check_records(&run->w, &run->view, true);
    expect_failed(run, "not applied");
    write->end = end;
    write->version.writer++;
    medium_check_records(&run->w, &run->view, true);
    expect_failed(run, "another version");
    write->version.writer--;
    medium_check_records(&run->w, &run->view, true);
    assert_false(run->sim.failed);
    run_end(run);
}

static void seal(uint8_t *hash, const uint8_t *bytes, size_t len)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, len));
    memcpy(hash, canonical.digest, 16);
}

/* A block that is whole and holds a record that isn't: a node wrote what it should have refused. */
static void test_whole_block_of_a_wrong_record(void **state)
{
    (void)state;
    struct run *run = run_begin();
    for (uint32_t s = 0; s < run->w.cluster->options.shards && !run->sim.failed; s++) {
        const struct medium_scan *scan = &run->view.scans[2][s];
        for (size_t i = 0; i < scan->count; i++) {
            struct file_name name = {.kind = FILE_SEGMENT, .id = scan->records[i].segment};
            uint64_t at = scan->records[i].offset;
            uint8_t head[192];
            assert_int_equal(vdisk_peek(disk_of(run, 2, s), name, at, head, 192), 192);
            uint32_t len = kho_load32(head + 76);
            if (head[84] != 0 || scan->records[i].tombstone)
                continue;
            uint8_t *body = malloc(len);
            assert_non_null(body);
            assert_int_equal(vdisk_peek(disk_of(run, 2, s), name, at + 192, body, len), len);
            body[len - 1] ^= 1; /* of the last record's value */
            seal(head + 96, body, len);
            seal(head + 176, head, 176);
            assert_true(vdisk_poke(disk_of(run, 2, s), name, at, head, 192));
            assert_true(vdisk_poke(disk_of(run, 2, s), name, at + 192, body, len));
            free(body);
            view_again(run);
            break;
        }
    }
    expect_failed(run, "a record that isn't");
    run_end(run);
}

/* --- Digests and votes ------------------------------------------------------------------------ */

/* A record more, one less, another version or another length: each makes another digest. */
static void test_digests(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++) {
        struct run *run = run_begin();
        uint32_t shard;
        assert_true(run->w.checked.digests > 0);
        medium_check_digests(&run->w, &run->view);
        assert_false(run->sim.failed);
        (void)acknowledged(run, false, &shard);
        struct medium_scan *scan = &run->view.scans[1][shard];
        struct medium_record *last = &scan->records[scan->count - 1];
        if (how == 0)
            scan->count--;
        else if (how == 1)
            last->version.writer ^= 1;
        else if (how == 2)
            last->value_len++;
        else
            last->tombstone = !last->tombstone;
        run->w.weak_ever = how % 2 == 0 ? 0 : UINT32_MAX;
        medium_check_digests(&run->w, &run->view);
        expect_failed(run, "its disk has");
        run_end(run);
    }
}

/* Node 1 is asked for a record. */
static void read_raw(struct run *run, uint32_t shard, const struct medium_record *r)
{
    struct cluster *cluster = run->w.cluster;
    uint8_t body[WIRE_READ_ASK + 32];
    const uint8_t *key = run->view.scans[1][shard].keys + r->key_at, *answer;
    struct raw raw;
    struct wire_head head;
    struct wire_read_ask ask = {.collection = r->collection,
                                .key_len = (uint16_t)r->key_len,
                                .hash = key_hash(r->collection, key, r->key_len, cluster->map_seed),
                                .key = key};
    ask.partition = (uint32_t)(ask.hash.low % cluster->options.partitions);
    wire_read_ask_encode(&ask, body);
    assert_int_equal(raw_open_shard(&raw, &cluster->nodes[1], shard, &cluster->id, 0), 0);
    raw_send(&raw, WIRE_READ, 0, 1, raw.hello.epoch, raw.hello.map_hash, body,
             WIRE_READ_ASK + r->key_len);
    assert_int_equal(raw_receive(&raw, &head, &answer), 0);
    raw_close(&raw);
}

/* A durable sequence that went back, an epoch that isn't the newest, an episode. */
static void test_votes(void **state)
{
    (void)state;
    struct run *run = run_begin();
    medium_check_votes(&run->w);
    assert_false(run->sim.failed);
    run->w.remembered[1][0].durable += 1u << 20;
    medium_check_votes(&run->w);
    expect_failed(run, "went from");
    run->w.epoch++;
    medium_check_votes(&run->w);
    expect_failed(run, "is in epoch");
    run->w.epoch = 0;
    uint32_t shard;
    const struct medium_record *r = acknowledged(run, false, &shard);
    block_damage(run, 1, shard, r);
    /* A start forgets what the cache has of it. */
    node_kill(&run->w.cluster->nodes[1]);
    node_start(&run->w.cluster->nodes[1]);
    assert_true(node_wait_serving(&run->w.cluster->nodes[1], 60 * SIM_S));
    read_raw(run, shard, r);
    medium_check_votes(&run->w);
    expect_failed(run, "gives no vote");
    run_end(run);
}

/* --- Listings --------------------------------------------------------------------------------- */

/* A history of three keys: "a" was put before the listing, "b" put and deleted before, "c" put and
 * then deleted by a delete in doubt; what is told of them is the listing's. */
struct listed_story {
    struct sim sim;
    struct workload w;
    struct slot slots[3];
    struct listing listing;
};

static void story_op(struct listed_story *s, uint32_t key, uint64_t value, uint64_t counter,
                     enum history_end end)
{
    size_t op = history_begin(&s->w.history, key, 0, HISTORY_WRITE, value);
    s->sim.now_ns += 10;
    history_end(&s->w.history, op, end, 0, (struct version){.counter = counter, .writer = 1});
    s->sim.now_ns += 10;
}

static void story_open(struct listed_story *s)
{
    memset(s, 0, sizeof *s);
    sim_init(&s->sim, 1, false);
    s->w.sim = &s->sim;
    s->w.slots = s->slots;
    s->w.slot_count = 3;
    history_init(&s->w.history, &s->sim);
    for (uint32_t i = 0; i < 3; i++)
        s->slots[i] = (struct slot){
            .bytes = {(uint8_t)('a' + i)}, .len = 1, .history_key = history_key(&s->w.history)};
    story_op(s, 0, 1, 10, HISTORY_OK);
    story_op(s, 1, 2, 10, HISTORY_OK);
    story_op(s, 1, 0, 20, HISTORY_OK);
    story_op(s, 2, 3, 10, HISTORY_OK);
    story_op(s, 2, 0, 20, HISTORY_IN_DOUBT);
    s->listing = (struct listing){.w = &s->w, .begun_ns = s->sim.now_ns, .page_ns = s->sim.now_ns};
    s->sim.now_ns += 10;
}

static void story_told(struct listed_story *s, const char *key, uint64_t counter)
{
    struct kho_result r = {.key = key, .key_len = 1, .version = {.counter = counter, .writer = 1}};
    listing_add(&s->listing, &r);
}

static void story_judged(struct listed_story *s, const char *failure)
{
    if (!s->sim.failed)
        listing_judge(&s->listing);
    if (failure == NULL ? s->sim.failed : strstr(s->sim.failure, failure) == NULL)
        fail_msg("expected '%s', got '%s'", failure != NULL ? failure : "", s->sim.failure);
    listing_fini(&s->listing);
    history_fini(&s->w.history);
    sim_fini(&s->sim);
}

/* A listing that is right; then one key missing, twice, older than before, deleted, unknown. */
static void test_listings(void **state)
{
    (void)state;
    struct listed_story s;
    story_open(&s);
    story_told(&s, "a", 10);
    story_judged(&s, NULL);
    story_open(&s);
    story_told(&s, "a", 10);
    story_told(&s, "c", 10);
    story_judged(&s, NULL);
    story_open(&s);
    story_told(&s, "c", 10);
    story_judged(&s, "doesn't tell key 0");
    story_open(&s);
    s.listing.damaged = 1;
    story_judged(&s, NULL);
    story_open(&s);
    story_told(&s, "a", 10);
    story_told(&s, "a", 10);
    story_judged(&s, "2 times");
    story_open(&s);
    story_told(&s, "a", 9);
    story_judged(&s, "before its page");
    story_open(&s);
    story_told(&s, "a", 10);
    story_told(&s, "b", 20);
    story_judged(&s, "deleted");
    /* Put anew while the listing goes on, it may be there again. */
    story_open(&s);
    story_op(&s, 1, 4, 30, HISTORY_OK);
    story_told(&s, "a", 10);
    story_told(&s, "b", 30);
    story_judged(&s, NULL);
    /* And a key that is deleted meanwhile may be missing. */
    story_open(&s);
    story_op(&s, 0, 0, 30, HISTORY_OK);
    story_judged(&s, NULL);
    story_open(&s);
    s.slots[0].event = true;
    story_told(&s, "a", 10);
    story_judged(&s, "another collection");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lost_record),  cmocka_unit_test(test_lost_before_repair),
        cmocka_unit_test(test_wrong_values), cmocka_unit_test(test_whole_block_of_a_wrong_record),
        cmocka_unit_test(test_digests),      cmocka_unit_test(test_votes),
        cmocka_unit_test(test_listings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
