/* story_cluster.c: three nodes and a client, all from the cores that ship; one side fails.
 *
 * The failures are the client's or the first node's alone, so that a majority could always answer.
 * Nothing is demanded of a call while they go on but that it ends in time and typed. Then they end,
 * and all is demanded: nodes start, a repair comes through, replicas are equal, one history
 * explains all reads (a write told as not applied is read nowhere, one acknowledged is there), and
 * no allocation is left. */
#include "failure.h"
#include "stories.h"

#include "tests/sim/answer.h"
#include "tests/sim/cluster.h"
#include "tests/sim/damage.h"
#include "tests/sim/history.h"
#include "tests/sim/raw.h"

#include <errno.h>

enum { KEYS = 64, VALUES = 512, BATCH = 40 };

struct tale {
    struct sim sim;
    struct cluster *cluster;
    struct client_end *client;
    struct history history;
    struct {
        uint8_t bytes[32];
        size_t len;
        bool event;
        bool known; /* an append tells its key at its end only */
    } keys[KEYS];
    uint32_t key_count;
    uint32_t lens[VALUES]; /* by the value's id */
    uint64_t value_count;
};

/* --- Values ----------------------------------------------------------------------------------- */

static uint8_t *value_bytes(uint64_t id, uint32_t len)
{
    uint8_t *bytes = malloc(len + 8u);
    uint64_t state = id * 77;
    KHO_ASSERT(bytes != NULL);
    /* Half of it repeats, so that small ones are packed together. */
    for (uint32_t at = 0; at < len; at += 8)
        kho_store64(bytes + at, at / 64 % 2 == 0 ? id : kho_splitmix(&state));
    kho_store64(bytes, id);
    return bytes;
}

static uint64_t value_new(struct tale *t, uint32_t len)
{
    KHO_ASSERT(t->value_count < VALUES && len >= 8);
    t->lens[t->value_count] = len;
    return t->value_count++;
}

static uint64_t value_read(const struct tale *t, uint32_t key, const uint8_t *bytes, size_t len)
{
    uint64_t id = len >= 8 ? kho_load64(bytes) : 0;
    if (id == 0 || id >= t->value_count || t->lens[id] != len)
        failure_violation("key %u: %zu bytes were read that nobody wrote", key, len);
    uint8_t *right = value_bytes(id, t->lens[id]);
    bool same = memcmp(right, bytes, len) == 0;
    free(right);
    if (!same)
        failure_violation("key %u: value %llu was read with wrong bytes", key,
                          (unsigned long long)id);
    return id;
}

/* --- Calls ------------------------------------------------------------------------------------ */

/* What the simulation itself found, but for cores that couldn't be made. */
static void sim_look(struct tale *t)
{
    if (!t->sim.failed)
        return;
    if (strstr(t->sim.failure, "create says -12") == NULL)
        failure_violation("%s", t->sim.failure);
    t->sim.failed = false;
}

/* The call began with `rc`; runs until it has ended. False: it never began. */
static bool call_ends(struct tale *t, struct answer *a, int rc, const char *what)
{
    if (rc != 0) {
        failure_typed(rc, what);
        return false;
    }
    if (!answer_wait(a, t->client, 700 * SIM_S)) {
        sim_look(t);
        failure_violation("%s never ends", what);
    }
    sim_look(t);
    failure_typed(a->status, what);
    return true;
}

static uint32_t key_new(struct tale *t, const char *name, bool event)
{
    KHO_ASSERT(t->key_count < KEYS);
    uint32_t key = history_key(&t->history);
    KHO_ASSERT(key == t->key_count++);
    t->keys[key].event = event;
    if (name != NULL) {
        t->keys[key].known = true;
        t->keys[key].len = strlen(name);
        memcpy(t->keys[key].bytes, name, t->keys[key].len);
    }
    return key;
}

static void write_told(struct tale *t, size_t op, const struct kho_result *r)
{
    struct version version = {.counter = r->version.counter, .writer = r->version.writer};
    enum history_end end = r->outcome == KHO_APPLIED       ? HISTORY_OK
                           : r->outcome == KHO_NOT_APPLIED ? HISTORY_NOT
                                                           : HISTORY_IN_DOUBT;
    failure_typed(r->status, "a write");
    if ((end == HISTORY_OK) != (r->status == 0))
        failure_violation("a write ended with status %d and outcome %d", r->status,
                          (int)r->outcome);
    history_end(&t->history, op, end, 0, version);
}

/* Writes `count` keys from `first` on in one call; len 0: deletes them. */
static void write_many(struct tale *t, enum client_verb verb, uint32_t first, uint32_t count,
                       uint32_t len)
{
    struct kho_item items[BATCH] = {0};
    uint8_t *values[BATCH] = {0};
    size_t ops[BATCH];
    struct answer a = {0};
    KHO_ASSERT(count <= BATCH);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t key = first + i;
        uint64_t id = verb == CLIENT_DEL ? 0 : value_new(t, len);
        if (t->keys[key].known) {
            items[i].key = t->keys[key].bytes;
            items[i].key_len = t->keys[key].len;
        }
        if (id != 0) {
            items[i].value = values[i] = value_bytes(id, len);
            items[i].value_len = len;
        }
        ops[i] = history_begin(&t->history, key, 0, HISTORY_WRITE, id);
    }
    int rc = answer_records(&a, t->client, verb, t->keys[first].event ? "events" : "records", items,
                            count, 0);
    for (uint32_t i = 0; i < count; i++)
        free(values[i]);
    bool began = call_ends(t, &a, rc, "a write");
    if (began && a.count != count)
        failure_violation("a batch of %u records has %zu results", count, a.count);
    for (uint32_t i = 0; i < count; i++) {
        if (!began) {
            history_end(&t->history, ops[i], HISTORY_NOT, 0, (struct version){0});
            continue;
        }
        const struct kho_result *r = &a.results[i];
        write_told(t, ops[i], r);
        if (verb == CLIENT_APPEND && r->key != NULL && r->key_len == 16) {
            t->keys[first + i].known = true;
            t->keys[first + i].len = r->key_len;
            memcpy(t->keys[first + i].bytes, r->key, r->key_len);
        }
    }
    answer_fini(&a);
}

static uint32_t put(struct tale *t, const char *name, uint32_t len)
{
    uint32_t key = key_new(t, name, false);
    write_many(t, CLIENT_PUT, key, 1, len);
    return key;
}

/* `must`: no failure is left to excuse it. */
static void read_one(struct tale *t, uint32_t key, bool must)
{
    struct answer a = {0};
    if (!t->keys[key].known)
        return;
    struct kho_item item = {.key = t->keys[key].bytes, .key_len = t->keys[key].len};
    size_t op = history_begin(&t->history, key, 0, HISTORY_READ, 0);
    int rc = answer_records(&a, t->client, CLIENT_GET, t->keys[key].event ? "events" : "records",
                            &item, 1, 0);
    bool began = call_ends(t, &a, rc, "a get");
    int status = began && a.count == 1 ? a.results[0].status : rc != 0 ? rc : KHO_EINTERNAL;
    failure_typed(status, "a get");
    bool told = status == 0 || status == KHO_ENOTFOUND;
    uint64_t value = 0;
    struct version version = {0};
    if (must && !told)
        failure_violation("key %u can't be read when all is well: %d", key, status);
    if (status == 0 && (a.results[0].value == NULL && a.results[0].value_len > 0))
        failure_violation("key %u: a get without its value", key);
    if (status == 0)
        value = value_read(t, key, a.results[0].value, a.results[0].value_len);
    if (told)
        version = (struct version){.counter = a.results[0].version.counter,
                                   .writer = a.results[0].version.writer};
    history_end(&t->history, op, told ? HISTORY_OK : HISTORY_NOT, value, version);
    answer_fini(&a);
}

/* All pages; with `must`, all known keys of "records" that are there are listed once. */
static void list(struct tale *t, bool must)
{
    struct kho_cursor cursor = {{0}};
    for (int done = 0, pages = 0; !done && pages < 20; pages++) {
        struct answer a = {0};
        int rc = answer_list(&a, t->client, "records", &cursor, 30, KHO_LIST_WITH_VALUES, 0);
        bool well = call_ends(t, &a, rc, "a list") && a.status == 0;
        if (must && !well)
            failure_violation("a list fails when all is well: %d, %d", rc, a.status);
        for (size_t i = 0; i < a.count && well; i++)
            if (a.results[i].value != NULL && a.results[i].status == 0)
                value_read(t, 0, a.results[i].value, a.results[i].value_len);
        cursor = a.next;
        done = a.list_done || !well;
        answer_fini(&a);
    }
}

static int simple(struct tale *t, struct answer *a, int rc, const char *what)
{
    bool began = call_ends(t, a, rc, what);
    int status = began ? a->status : rc;
    answer_fini(a);
    return status;
}

static int flush(struct tale *t)
{
    struct answer a = {0};
    return simple(t, &a, answer_flush(&a, t->client, 20000), "a flush");
}
static int compare(struct tale *t, enum client_verb verb)
{
    struct answer a = {0};
    return simple(t, &a, answer_compare(&a, t->client, verb, NULL, 20000), "a comparison");
}
static int repair(struct tale *t)
{
    struct answer a = {0};
    return simple(t, &a, answer_repair(&a, t->client, NULL), "a repair");
}
static int push(struct tale *t)
{
    struct answer a = {0};
    return simple(t, &a, answer_map_push(&a, t->client, 20000), "a map push");
}
static int create(struct tale *t, const char *name)
{
    struct answer a = {0};
    return simple(t, &a, answer_collection_create(&a, t->client, name, 20000), "a creation");
}
static int readmit(struct tale *t, unsigned node)
{
    struct answer a = {0};
    return simple(t, &a, answer_readmit(&a, t->client, t->cluster->nodes[node].name, 20000),
                  "a readmission");
}
static int status(struct tale *t)
{
    struct answer a = {0};
    kho_call_id id = 0;
    a.verb = CLIENT_STATUS;
    int rc = client_status(t->client->client, 20000, &a, client_end_now(t->client), &a.call);
    (void)id;
    if (rc == 0) {
        queue_push(&t->client->answers, &a.link);
        client_end_turn_soon(t->client);
    }
    return simple(t, &a, rc, "a status");
}

static void opened(struct tale *t)
{
    struct answer a = {0};
    a.verb = CLIENT_OPENED;
    int rc = client_opened(t->client->client, &a, client_end_now(t->client), &a.call);
    if (rc == 0) {
        queue_push(&t->client->answers, &a.link);
        client_end_turn_soon(t->client);
    }
    simple(t, &a, rc, "opened");
}

/* A write that the first node has to refuse: its collection isn't in the map. */
static void refused(struct tale *t)
{
    struct raw raw;
    struct wire_head head;
    const uint8_t *answer;
    uint8_t body[KHO_RECORD_HEAD + 64];
    struct record record = {
        .collection = 99,
        .key_len = 4,
        .version = {.counter = 1700000000000ull << KHO_COUNTER_TIME_BITS, .writer = 7},
        .raw_len = 5,
        .stored_len = 5,
        .hash = content_hash("value", 5),
        .key = (const uint8_t *)"lost",
        .value = (const uint8_t *)"value"};
    size_t len = record_encode(&record, body);
    int rc = raw_open(&raw, &t->cluster->nodes[0], &t->cluster->id, 0);
    if (rc == 0 && raw.hello.status == 0) {
        raw_send(&raw, WIRE_WRITE, 0, 1, raw.hello.epoch, raw.hello.map_hash, body, len);
        rc = raw_receive(&raw, &head, &answer);
        if (rc == 0 && head.status == 0 && (int32_t)kho_load32(answer) == 0)
            failure_violation("a write to a collection that isn't there was acknowledged");
    }
    sim_look(t);
    raw_close(&raw);
}

/* --- Nodes ------------------------------------------------------------------------------------ */

/* It stops, by itself or killed, and is started until it serves (or can't, while it fails). */
static void node_again(struct tale *t, unsigned index, bool kill, bool must)
{
    struct node *node = &t->cluster->nodes[index];
    if (kill) {
        node_kill(node);
    } else {
        node_stop(node);
        cluster_run(t->cluster, 10 * SIM_S); /* longer than what it waits for its clients */
        sim_look(t);
        if (node->up && !(failure_is(FAILURE_LATENESS)))
            failure_violation("%s doesn't stop", node->name);
    }
    for (int tries = 0; tries < (must ? 3 : 1) && !node_serving(node); tries++) {
        if (!node->up)
            node_start(node);
        sim_look(t);
        if (node->up)
            node_wait_serving(node, 60 * SIM_S);
        sim_look(t);
    }
    if (must && !node_serving(node))
        failure_violation("%s doesn't come up when all is well: %s", node->name, node->failure);
}

/* Until it has one. */
static bool client_there(struct tale *t, bool must)
{
    for (int tries = 0; tries < 3 && t->client->client == NULL; tries++) {
        client_end_start(t->client);
        sim_look(t);
    }
    if (must && t->client->client == NULL)
        failure_violation("no client can be made when all is well");
    return t->client->client != NULL;
}

static void client_closes(struct tale *t)
{
    struct client_end *end = t->client;
    client_close(end->client, NULL, client_end_now(end));
    client_end_turn_soon(end);
    for (int i = 0; i < 1000 && !client_closed(end->client); i++) {
        cluster_run(t->cluster, 100 * SIM_MS);
        sim_look(t);
    }
    if (!client_closed(end->client))
        failure_violation("a client never closes");
    client_end_crash(end);
}

/* --- Begin and end ---------------------------------------------------------------------------- */

static struct tale *begin(void)
{
    struct tale *t = calloc(1, sizeof *t);
    struct cluster_options options;
    KHO_ASSERT(t != NULL);
    cluster_options_init(&options);
    options.segment_bytes = 2ull << 20;
    options.footer_entries = 10;
    options.compact_dead_percent = 10;
    options.deadline_ms = 3000;
    sim_init(&t->sim, 5, getenv("KHO_STORY") != NULL);
    history_init(&t->history, &t->sim);
    t->value_count = 1;
    t->cluster = cluster_create(&t->sim, &options);
    sim_look(t);
    t->client = &t->cluster->clients[0];
    return t;
}

static void end(struct tale *t)
{
    failure_end();
    client_there(t, true);
    for (unsigned i = 0; i < t->cluster->options.nodes; i++)
        if (!node_serving(&t->cluster->nodes[i]))
            node_again(t, i, true, true);
    /* A shard that failed for good, or that is behind, is mended as an admin would. */
    node_again(t, 0, true, true);
    cluster_run(t->cluster, 10 * SIM_S);
    sim_look(t);
    int rc = KHO_EUNAVAILABLE;
    for (int tries = 0; tries < 20 && rc != 0; tries++) {
        rc = push(t);
        cluster_run(t->cluster, SIM_S);
    }
    if (rc != 0)
        failure_violation("the map can't be brought when all is well: %d", rc);
    for (uint32_t i = 0; i < t->key_count; i++)
        read_one(t, i, true);
    flush(t);
    rc = KHO_EUNAVAILABLE;
    for (int tries = 0; tries < 20 && rc != 0; tries++) {
        rc = repair(t);
        cluster_run(t->cluster, SIM_S);
    }
    if (rc != 0)
        failure_violation("a repair fails when all is well: %d", rc);
    if (compare(t, CLIENT_VERIFY) != 0)
        failure_violation("a comparison fails when all is well");
    /* Once more from the disks alone. */
    for (unsigned i = 0; i < t->cluster->options.nodes; i++)
        node_again(t, i, i % 2 == 0, true);
    for (uint32_t i = 0; i < t->key_count; i++)
        read_one(t, i, true);
    list(t, true);
    check_history(&t->history);
    sim_look(t);
    client_closes(t);
    for (unsigned i = 0; i < t->cluster->options.nodes; i++) {
        node_stop(&t->cluster->nodes[i]);
        cluster_run(t->cluster, 5 * SIM_S);
        sim_look(t);
        if (t->cluster->nodes[i].up)
            failure_violation("%s doesn't stop", t->cluster->nodes[i].name);
    }
    cluster_destroy(t->cluster);
    history_fini(&t->history);
    sim_fini(&t->sim);
    free(t);
    failure_check_heap();
}

/* --- Stories ---------------------------------------------------------------------------------- */

/* Records of all kinds, a node that starts anew among them, a client that closes and another. */
void story_cluster_records(void)
{
    struct tale *t = begin();
    failure_begin();
    opened(t);
    uint32_t one = put(t, "one", 100);
    read_one(t, one, false);
    uint32_t many = t->key_count;
    for (uint32_t i = 0; i < BATCH; i++) {
        char name[16];
        snprintf(name, sizeof name, "many-%u", i);
        key_new(t, name, false);
    }
    write_many(t, CLIENT_PUT, many, BATCH, 400);
    uint32_t event = key_new(t, NULL, true);
    key_new(t, NULL, true);
    write_many(t, CLIENT_APPEND, event, 2, 64);
    uint32_t large = put(t, "large", 700000);
    uint32_t middle = put(t, "middle", 30000);
    read_one(t, large, false);
    read_one(t, middle, false);
    refused(t);
    write_many(t, CLIENT_DEL, many, 3, 0);
    write_many(t, CLIENT_PUT, one, 1, 300);
    for (uint32_t i = 0; i < 4; i++)
        read_one(t, many + i, false);
    list(t, false);
    flush(t);
    node_again(t, 0, false, false);
    write_many(t, CLIENT_PUT, many, 30, 150);
    read_one(t, one, false);
    read_one(t, large, false);
    write_many(t, CLIENT_PUT, large, 1, 500000);
    client_closes(t);
    if (client_there(t, false)) {
        read_one(t, large, false);
        read_one(t, event, false);
        list(t, false);
    }
    end(t);
}

/* What an admin does: status, comparisons, a new collection, a node let in anew, repairs. */
void story_cluster_admin(void)
{
    struct tale *t = begin();
    uint32_t many = t->key_count;
    for (uint32_t i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "many-%u", i);
        key_new(t, name, false);
    }
    write_many(t, CLIENT_PUT, many, 20, 200);
    uint32_t large = put(t, "large", 300000);
    flush(t);
    failure_begin();
    status(t);
    compare(t, CLIENT_DIGESTS);
    compare(t, CLIENT_VERIFY);
    create(t, "more");
    push(t);
    /* The second node loses its folder; the first copies to it. */
    struct node *node = &t->cluster->nodes[1];
    node_kill(node);
    node_wipe(node);
    node_start(node);
    sim_look(t);
    node_wait_serving(node, 60 * SIM_S);
    sim_look(t);
    int rc = KHO_EUNAVAILABLE;
    for (int tries = 0; tries < 3 && rc != 0 && rc != -EALREADY; tries++)
        rc = readmit(t, 1);
    write_many(t, CLIENT_PUT, many, 5, 100);
    repair(t);
    repair(t);
    read_one(t, large, false);
    compare(t, CLIENT_VERIFY);
    if (rc != 0 && rc != -EALREADY) {
        failure_end();
        node_again(t, 0, true, true);
        client_there(t, true);
        for (int tries = 0; tries < 20 && rc != 0 && rc != -EALREADY; tries++) {
            rc = readmit(t, 1);
            cluster_run(t->cluster, SIM_S);
        }
        if (rc != 0 && rc != -EALREADY)
            failure_violation("a node can't be let in when all is well: %d", rc);
    }
    end(t);
}

/* The first node's disk rots: it starts, is read, repaired, and its episodes are closed. */
void story_cluster_damage(void)
{
    struct tale *t = begin();
    uint32_t many = t->key_count;
    for (uint32_t i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "many-%u", i);
        key_new(t, name, false);
    }
    write_many(t, CLIENT_PUT, many, 20, 200);
    uint32_t large = put(t, "large", 300000);
    uint32_t middle = put(t, "middle", 30000);
    flush(t);
    node_again(t, 0, false, true);
    write_many(t, CLIENT_PUT, many, 10, 100);
    flush(t);
    for (int i = 0; i < 4; i++)
        damage_flip(&t->sim, t->cluster->nodes[0].disk);
    uint8_t *bytes = value_bytes(21, 300000);
    damage_rot(&t->sim, t->cluster->nodes[0].disk, bytes + 100000, 64);
    free(bytes);
    failure_begin();
    read_one(t, large, false);
    node_again(t, 0, true, false);
    read_one(t, large, false);
    read_one(t, middle, false);
    for (uint32_t i = 0; i < 3; i++)
        read_one(t, many + i, false);
    compare(t, CLIENT_VERIFY);
    repair(t);
    repair(t);
    read_one(t, large, false);
    write_many(t, CLIENT_PUT, many, 5, 150);
    end(t);
}
