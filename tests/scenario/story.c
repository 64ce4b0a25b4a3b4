/* story.c: waits, compares, and says in the test's words what went wrong. */
#include "story.h"

#include <kho/key.h>

enum { FILL_BYTES = 64 };
static const uint64_t wait_ns = 120 * SIM_S;

struct story *story_begin(const struct cluster_options *options, uint64_t seed)
{
    struct cluster_options usual;
    struct story *s = calloc(1, sizeof *s);
    assert_non_null(s);
    cluster_options_init(&usual);
    sim_init(&s->sim, seed, getenv("KHO_STORY") != NULL);
    s->cluster = cluster_create(&s->sim, options != NULL ? options : &usual);
    if (s->sim.failed)
        fail_msg("%s", s->sim.failure);
    s->nodes = s->cluster->nodes;
    s->client = &s->cluster->clients[0];
    return s;
}

void story_end(struct story *s)
{
    if (s->sim.failed)
        fail_msg("%s", s->sim.failure);
    cluster_destroy(s->cluster);
    sim_fini(&s->sim);
    free(s);
}

static struct outcome wait_one(struct story *s, struct client_end *end, struct answer *a, int rc)
{
    struct outcome o = {0};
    assert_int_equal(rc, 0);
    bool ended = answer_wait(a, end, wait_ns);
    if (s->sim.failed)
        fail_msg("%s", s->sim.failure);
    assert_true(ended);
    assert_int_equal(a->count, 1);
    const struct kho_result *r = &a->results[0];
    o.status = r->status;
    o.outcome = r->outcome;
    o.version = r->version;
    o.token = r->token;
    o.value_len = r->value_len;
    o.took_ms = (a->ended_ns - a->begun_ns) / SIM_MS;
    if (r->value != NULL && r->value_len > 0)
        memcpy(o.value, r->value, kho_min(r->value_len, sizeof o.value));
    answer_fini(a);
    return o;
}

struct outcome story_write(struct story *s, struct client_end *end, enum client_verb verb,
                           const char *key, const char *value, const struct kho_token *token,
                           uint32_t deadline_ms)
{
    struct answer a = {0};
    struct kho_item item = {.key = key,
                            .key_len = strlen(key),
                            .value = value,
                            .value_len = value != NULL ? strlen(value) : 0,
                            .token = token};
    int rc = answer_records(&a, end, verb, "records", &item, 1, deadline_ms);
    return wait_one(s, end, &a, rc);
}

struct outcome story_read(struct story *s, struct client_end *end, enum client_verb verb,
                          const char *key, uint32_t deadline_ms)
{
    struct answer a = {0};
    struct kho_item item = {.key = key, .key_len = strlen(key)};
    int rc = answer_records(&a, end, verb, "records", &item, 1, deadline_ms);
    return wait_one(s, end, &a, rc);
}

void story_put(struct story *s, const char *key, const char *value)
{
    struct outcome o = story_write(s, s->client, CLIENT_PUT, key, value, NULL, 0);
    if (o.status != 0)
        fail_msg("put of %s: %d %s", key, o.status, kho_error_name(o.status));
    assert_int_equal(o.outcome, KHO_APPLIED);
}

void story_expect(struct story *s, const char *key, const char *value)
{
    struct outcome o = story_read(s, s->client, CLIENT_GET, key, 0);
    if (value == NULL) {
        assert_int_equal(o.status, KHO_ENOTFOUND);
        return;
    }
    if (o.status != 0)
        fail_msg("get of %s: %d %s", key, o.status, kho_error_name(o.status));
    assert_int_equal(o.value_len, strlen(value));
    assert_memory_equal(o.value, value, o.value_len);
}

void story_fill_value(const char *prefix, unsigned i, uint8_t *ret_value)
{
    uint64_t state = XXH3_64bits_withSeed(prefix, strlen(prefix), i);
    for (size_t at = 0; at < FILL_BYTES; at += 8)
        kho_store64(ret_value + at, kho_splitmix(&state));
}

void story_fill(struct story *s, const char *prefix, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char key[64];
        uint8_t value[FILL_BYTES];
        struct answer a = {0};
        snprintf(key, sizeof key, "%s%u", prefix, i);
        story_fill_value(prefix, i, value);
        struct kho_item item = {
            .key = key, .key_len = strlen(key), .value = value, .value_len = sizeof value};
        int rc = answer_records(&a, s->client, CLIENT_PUT, "records", &item, 1, 0);
        struct outcome o = wait_one(s, s->client, &a, rc);
        if (o.status != 0)
            fail_msg("put of %s: %d %s", key, o.status, kho_error_name(o.status));
    }
}

void story_expect_filled(struct story *s, struct client_end *end, const char *prefix,
                         unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char key[64];
        uint8_t value[FILL_BYTES];
        snprintf(key, sizeof key, "%s%u", prefix, i);
        story_fill_value(prefix, i, value);
        struct outcome o = story_read(s, end, CLIENT_GET, key, 0);
        if (o.status != 0)
            fail_msg("get of %s: %d %s", key, o.status, kho_error_name(o.status));
        assert_int_equal(o.value_len, sizeof value);
        assert_memory_equal(o.value, value, sizeof value);
    }
}

static void wait_call(struct story *s, struct answer *a, int rc)
{
    assert_int_equal(rc, 0);
    bool ended = answer_wait(a, s->client, 600 * SIM_S);
    if (s->sim.failed)
        fail_msg("%s", s->sim.failure);
    assert_true(ended);
}

void story_flush(struct story *s)
{
    struct answer a = {0};
    int rc = answer_flush(&a, s->client, 30000);
    wait_call(s, &a, rc);
    assert_int_equal(a.status, 0);
    answer_fini(&a);
}

int story_repair(struct story *s, struct kho_repair_result *ret_result)
{
    struct answer a = {0};
    int rc = answer_repair(&a, s->client, NULL);
    wait_call(s, &a, rc);
    int status = a.status;
    if (ret_result != NULL)
        *ret_result = a.repair;
    answer_fini(&a);
    return status;
}

void story_expect_verified(struct story *s)
{
    struct answer a = {0};
    int rc = answer_compare(&a, s->client, CLIENT_VERIFY, NULL, 30000);
    wait_call(s, &a, rc);
    assert_int_equal(a.status, 0);
    for (size_t i = 0; i < a.count; i++) {
        assert_int_equal(a.verify[i].partitions_differing, 0);
        assert_int_equal(a.verify[i].partitions_unreached, 0);
        assert_int_equal(a.verify[i].partitions_damaged, 0);
    }
    answer_fini(&a);
}

struct wire_probe_answer story_probe(struct story *s, unsigned node, const char *key)
{
    struct raw raw;
    struct wire_head head;
    const uint8_t *answer;
    uint8_t body[WIRE_PROBE_ASK];
    struct wire_probe_answer got;
    struct key_hash hash = key_hash(1, key, strlen(key), s->cluster->map_seed);
    struct wire_probe_ask ask = {.collection = 1,
                                 .partition =
                                     (uint32_t)(hash.low & (s->cluster->options.partitions - 1)),
                                 .hash = hash};
    assert_int_equal(raw_open(&raw, &s->nodes[node], &s->cluster->id, 0), 0);
    assert_int_equal(raw.hello.status, 0);
    wire_probe_ask_encode(&ask, body);
    raw_send(&raw, WIRE_PROBE, 0, 1, raw.hello.epoch, raw.hello.map_hash, body, sizeof body);
    assert_int_equal(raw_receive(&raw, &head, &answer), 0);
    assert_int_equal(head.status, 0);
    wire_probe_answer_decode(answer, &got);
    raw_close(&raw);
    return got;
}

void story_start(struct story *s, unsigned node)
{
    node_start(&s->nodes[node]);
    if (!node_wait_serving(&s->nodes[node], 60 * SIM_S))
        fail_msg("node %u doesn't come up: %s %s", node, s->nodes[node].failure, s->sim.failure);
}

void story_run_ms(struct story *s, uint64_t ms)
{
    cluster_run(s->cluster, ms * SIM_MS);
    if (s->sim.failed)
        fail_msg("%s", s->sim.failure);
}
