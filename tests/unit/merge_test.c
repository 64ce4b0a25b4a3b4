/* merge_test.c: what listing and repair make of the answers of replicas, hostile ones included. The
 * test stands where sessions and routing are: it keeps the requests and plays the nodes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/fetch.h"
#include "client/merge.h"

enum { REPLICAS = 3, PARTITIONS = 16 };

static struct request *asked[REPLICAS]; /* under way, by node */
static struct kho_now now = {.mono_ns = 1000000000u};

/* --- In place of session.c, request.c and route.c --------------------------------------------- */

static struct session near_session;
static uint32_t no_memory; /* so many nodes, from 0 on, have no session and can't be asked */

uint32_t route_shard(const struct client *client, uint32_t node, uint32_t partition)
{
    (void)client;
    (void)node;
    (void)partition;
    return 0;
}

struct session *route_session(struct client *client, uint32_t node, uint32_t shard,
                              struct kho_now at)
{
    (void)client;
    (void)shard;
    (void)at;
    return node < no_memory ? NULL : &near_session;
}

uint64_t session_out_since(const struct session *session)
{
    (void)session;
    return CLIENT_NEVER;
}

int request_send(struct client *client, struct request *request, uint32_t node, uint32_t shard,
                 struct kho_now at)
{
    (void)client;
    (void)shard;
    (void)at;
    assert_true(node < REPLICAS);
    if (node < no_memory)
        return -ENOMEM;
    assert_null(asked[node]);
    asked[node] = request;
    return 0;
}

void request_drop(struct client *client, struct request *request)
{
    (void)client;
    for (int i = 0; i < REPLICAS; i++)
        if (asked[i] == request)
            asked[i] = NULL;
}

static void end_request(struct client *client, uint32_t node, int status)
{
    struct request *request = asked[node];
    assert_non_null(request);
    asked[node] = NULL;
    request->end(client, request, status, now);
}

static void send_frame(struct client *client, uint32_t node, uint8_t type, uint8_t flags,
                       uint16_t count, const uint8_t *body, size_t len)
{
    struct wire_head head = {.type = type, .flags = flags, .count = count};
    /* Exactly as long as it says, so that a read past its end is found. */
    uint8_t *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    if (len > 0)
        memcpy(copy, body, len);
    if (asked[node] != NULL)
        asked[node]->frame(client, asked[node], &head, copy, len, now);
    free(copy);
}

/* --- Merge ------------------------------------------------------------------------------------ */

static struct {
    int ended;
    int status;
} outcome;

static void merged(struct client *client, struct merge *merge, int status, struct kho_now at)
{
    (void)client;
    (void)merge;
    (void)at;
    outcome.ended++;
    outcome.status = status;
}

struct told {
    uint32_t partition;
    uint64_t tag;
    uint64_t counter;
    uint8_t state;
};

/* One answer of one frame; `next` partition and tag, or done. */
static void tell(struct client *client, uint32_t node, uint8_t flags, const struct told *told,
                 uint16_t count, const struct told *next)
{
    uint8_t body[WIRE_LIST_HEAD + 16 * WIRE_LIST_ENTRY];
    struct wire_list_head head = {.done = next == NULL};
    if (next != NULL)
        head = (struct wire_list_head){.next_partition = next->partition,
                                       .next_tag = {.high = next->tag}};
    wire_list_head_encode(&head, body);
    for (uint16_t i = 0; i < count; i++) {
        struct wire_list_entry entry = {.partition = told[i].partition,
                                        .tag = {.high = told[i].tag},
                                        .version = {.counter = told[i].counter, .writer = 1},
                                        .state = told[i].state};
        wire_list_entry_encode(&entry, body + WIRE_LIST_HEAD + (size_t)i * WIRE_LIST_ENTRY);
    }
    send_frame(client, node, WIRE_LIST, flags, count, body,
               WIRE_LIST_HEAD + (size_t)count * WIRE_LIST_ENTRY);
    if (asked[node] != NULL)
        end_request(client, node, 0);
}

static void merge_begin(struct client *client, struct merge *merge, uint8_t votes)
{
    memset(client, 0, sizeof *client);
    memset(merge, 0, sizeof *merge);
    memset(asked, 0, sizeof asked);
    memset(&outcome, 0, sizeof outcome);
    merge->collection = 1;
    merge->partition_to = PARTITIONS;
    merge->limit = 100;
    merge->replicas = REPLICAS;
    merge->layouts = (struct layouts){(1u << REPLICAS) - 1, (1u << REPLICAS) - 1};
    merge->votes = votes;
    merge->deadline_ns = CLIENT_NEVER;
    merge->end = merged;
    for (uint16_t i = 0; i < REPLICAS; i++)
        merge->nodes[i] = i;
    assert_int_equal(merge_start(client, merge, now), 0);
}

static void test_highest_wins(void **state)
{
    /* For each tag the highest version, who has it, and whether anybody has its value. */
    (void)state;
    struct client client;
    struct merge merge;
    static const struct told a[] = {
        {0, 5, 10, WIRE_PRESENT}, {0, 7, 12, WIRE_VALUE_UNKNOWN}, {3, 1, 9, WIRE_TOMBSTONE}};
    static const struct told b[] = {{0, 5, 11, WIRE_PRESENT}, {0, 7, 12, WIRE_PRESENT}};
    static const struct told c[] = {{0, 7, 12, WIRE_VALUE_UNKNOWN}, {3, 1, 8, WIRE_PRESENT}};
    merge_begin(&client, &merge, 0);
    tell(&client, 0, 0, a, 3, NULL);
    tell(&client, 2, KHO_FRAME_SUSPECT, c, 2, NULL);
    assert_int_equal(outcome.ended, 0);
    tell(&client, 1, KHO_FRAME_EPISODE, b, 2, NULL);
    assert_int_equal(outcome.ended, 1);
    assert_int_equal(outcome.status, 0);
    assert_int_equal(merge.count, 3);
    assert_int_equal(merge.answered, 7);
    assert_int_equal(merge.suspects, 4);
    assert_int_equal(merge.damaged, 2);
    assert_int_equal(merge.entries[0].version.counter, 11);
    assert_int_equal(merge.entries[0].have, 2);
    assert_int_equal(merge.entries[1].have, 7);
    assert_int_equal(merge.entries[1].whole, 2);
    assert_int_equal(merge.entries[1].state, WIRE_PRESENT);
    assert_int_equal(merge.entries[2].state, WIRE_TOMBSTONE);
    assert_int_equal(merge.entries[2].have, 1);
    assert_int_equal(merge.next.partition, PARTITIONS);
    merge_stop(&client, &merge);
}

static void test_ends_at_the_smallest_next(void **state)
{
    /* Beyond the place where one replica's page ended, its silence means nothing. */
    (void)state;
    struct client client;
    struct merge merge;
    static const struct told a[] = {{0, 5, 10, WIRE_PRESENT}, {1, 7, 10, WIRE_PRESENT}};
    static const struct told b[] = {{0, 5, 10, WIRE_PRESENT}};
    static const struct told next = {0, 6, 0, 0};
    merge_begin(&client, &merge, 2);
    tell(&client, 0, 0, a, 2, NULL);
    tell(&client, 1, 0, b, 1, &next);
    assert_int_equal(outcome.ended, 1);
    assert_int_equal(merge.count, 1);
    assert_int_equal(merge.next.partition, 0);
    assert_int_equal(merge.next.tag.high, 6);
    merge_stop(&client, &merge);
}

static void test_votes(void **state)
{
    /* Two unsuspected answers are enough; a suspect one isn't a vote unless all have answered; a
     * damaged one never is (R2, R3). */
    (void)state;
    struct client client;
    struct merge merge;
    merge_begin(&client, &merge, 2);
    assert_null(asked[2]); /* a majority is asked first */
    tell(&client, 0, 0, NULL, 0, NULL);
    tell(&client, 1, 0, NULL, 0, NULL);
    assert_int_equal(outcome.ended, 1);
    merge_stop(&client, &merge);

    merge_begin(&client, &merge, 2);
    tell(&client, 0, KHO_FRAME_SUSPECT, NULL, 0, NULL);
    tell(&client, 1, 0, NULL, 0, NULL);
    assert_int_equal(outcome.ended, 0);
    end_request(&client, 2, KHO_EUNAVAILABLE);
    assert_int_equal(outcome.ended, 1);
    assert_int_equal(outcome.status, KHO_EUNAVAILABLE);
    merge_stop(&client, &merge);

    merge_begin(&client, &merge, 2);
    for (uint32_t i = 0; i < REPLICAS; i++)
        tell(&client, i, KHO_FRAME_SUSPECT, NULL, 0, NULL);
    assert_int_equal(outcome.ended, 1);
    assert_int_equal(outcome.status, 0);
    merge_stop(&client, &merge);

    merge_begin(&client, &merge, 2);
    for (uint32_t i = 0; i < REPLICAS; i++)
        tell(&client, i, i > 0 ? KHO_FRAME_EPISODE : 0, NULL, 0, NULL);
    assert_int_equal(outcome.ended, 1);
    assert_int_equal(outcome.status, KHO_EUNKNOWN);
    merge_stop(&client, &merge);
}

static void test_newer_map_ends_it(void **state)
{
    /* What was told under an older epoch doesn't count, whoever else answered. */
    (void)state;
    struct client client;
    struct merge merge;
    merge_begin(&client, &merge, 2);
    tell(&client, 0, 0, NULL, 0, NULL);
    end_request(&client, 1, KHO_EEPOCHOLD);
    assert_int_equal(outcome.ended, 1);
    assert_int_equal(outcome.status, KHO_EEPOCHOLD);
    assert_null(asked[2]); /* its answer would be one of the newer epoch */
    merge_stop(&client, &merge);
}

static void test_causes(void **state)
{
    /* Where votes lack, the last refusal says why, no memory before all others; what hasn't ended
     * or ended well is no cause. A merge that waits for all goes on without those that failed. */
    static const struct {
        int statuses[REPLICAS], want;
    } cases[] = {{{0, KHO_EBUSY, KHO_EUNAVAILABLE}, KHO_EUNAVAILABLE},
                 {{KHO_EUNAVAILABLE, 0, KHO_EBUSY}, KHO_EBUSY},
                 {{KHO_EUNAVAILABLE, -ENOMEM, KHO_EBUSY}, -ENOMEM},
                 {{-ENOMEM, KHO_EUNAVAILABLE, 0}, -ENOMEM}};
    (void)state;
    struct client client;
    struct merge merge;
    for (size_t i = 0; i < KHO_COUNT_OF(cases); i++) {
        merge_begin(&client, &merge, 2);
        for (uint32_t node = 0; node < REPLICAS; node++) {
            assert_int_equal(outcome.ended, 0);
            if (cases[i].statuses[node] != 0)
                end_request(&client, node, cases[i].statuses[node]);
            else
                tell(&client, node, 0, NULL, 0, NULL);
        }
        assert_int_equal(outcome.ended, 1);
        assert_int_equal(outcome.status, cases[i].want);
        merge_stop(&client, &merge);
    }
    merge_begin(&client, &merge, 0);
    end_request(&client, 0, KHO_EEPOCHOLD);
    end_request(&client, 1, KHO_EUNAVAILABLE);
    assert_int_equal(outcome.ended, 0);
    tell(&client, 2, 0, NULL, 0, NULL);
    assert_int_equal(outcome.ended, 1);
    assert_int_equal(outcome.status, 0);
    assert_int_equal(merge.answered, 4);
    merge_stop(&client, &merge);
    merge_hedge(&client, &merge, now); /* over: nobody is asked */
    for (uint32_t node = 0; node < REPLICAS; node++)
        assert_null(asked[node]);
}

static void test_nobody_can_be_asked(void **state)
{
    /* Without memory for a request another replica is asked; where none can be, nothing happened.
     */
    (void)state;
    struct client client;
    struct merge merge;
    no_memory = 1;
    merge_begin(&client, &merge, 2);
    assert_null(asked[0]);
    tell(&client, 1, 0, NULL, 0, NULL);
    tell(&client, 2, 0, NULL, 0, NULL);
    assert_int_equal(outcome.ended, 1);
    assert_int_equal(outcome.status, 0);
    merge_stop(&client, &merge);
    no_memory = 2;
    memset(asked, 0, sizeof asked);
    assert_int_equal(merge_start(&client, &merge, now), -ENOMEM);
    assert_false(merge.active);
    assert_null(asked[2]); /* asked, and dropped again */
    assert_int_equal(outcome.ended, 1);
    no_memory = 0;
    merge_stop(&client, &merge);
}

/* One entry with a record of so many bytes, as the node's whole answer. */
static void tell_record(struct client *client, uint32_t node, uint64_t tag, uint32_t raw_len,
                        bool garbage)
{
    static uint8_t body[WIRE_LIST_HEAD + WIRE_LIST_ENTRY + KHO_RECORD_HEAD + 1 + (200u << 10)];
    static uint8_t value[200u << 10];
    struct wire_list_head head = {.done = true};
    struct record record = {.collection = 1,
                            .key_len = 1,
                            .version = {.counter = 5, .writer = 1},
                            .raw_len = raw_len,
                            .stored_len = raw_len,
                            .key = (const uint8_t *)"k",
                            .value = value};
    struct wire_list_entry entry = {.partition = 0,
                                    .tag = {.high = tag},
                                    .version = {.counter = 5, .writer = 1},
                                    .state = WIRE_PRESENT,
                                    .record_len = (uint32_t)record_size(&record)};
    wire_list_head_encode(&head, body);
    wire_list_entry_encode(&entry, body + WIRE_LIST_HEAD);
    uint8_t *to = body + WIRE_LIST_HEAD + WIRE_LIST_ENTRY;
    size_t size = record_encode(&record, to);
    if (garbage)
        memset(to, 0xFF, KHO_RECORD_HEAD);
    send_frame(client, node, WIRE_LIST, 0, 1, body, WIRE_LIST_HEAD + WIRE_LIST_ENTRY + size);
}

static void test_records(void **state)
{
    /* The replica that is asked for records sends small ones; one over the bound or that is none
     * counts as left out, and one from a replica that wasn't asked for it fails that one. */
    static const struct {
        uint32_t len;
        bool garbage, large;
    } cases[] = {{100, false, false},
                 {KHO_LIST_RECORD_MAX, false, false},
                 {KHO_LIST_RECORD_MAX + 1, false, true},
                 {100, true, true}};
    (void)state;
    struct client client;
    struct merge merge;
    for (size_t i = 0; i < KHO_COUNT_OF(cases); i++) {
        memset(&merge, 0, sizeof merge);
        merge_begin(&client, &merge, 0);
        /* Anew, with records. */
        merge_stop(&client, &merge);
        memset(asked, 0, sizeof asked);
        merge.records = true;
        assert_int_equal(merge_start(&client, &merge, now), 0);
        for (uint32_t node = 0; node < REPLICAS; node++) {
            tell_record(&client, node, 7, cases[i].len, cases[i].garbage);
            if (asked[node] != NULL)
                end_request(&client, node, 0);
        }
        assert_int_equal(outcome.ended, 1);
        assert_int_equal(outcome.status, 0);
        assert_int_equal(merge.answered, 1);
        assert_int_equal(merge.columns[1].status, KHO_EMALFORMED);
        assert_int_equal(merge.columns[2].status, KHO_EMALFORMED);
        assert_int_equal(merge.count, 1);
        assert_int_equal(merge.entries[0].large, cases[i].large);
        assert_non_null(merge.entries[0].record);
        merge_stop(&client, &merge);
    }
}

static void test_more_than_asked(void **state)
{
    /* A node that goes on and on fails; so does an entry before the place that was asked for. */
    (void)state;
    struct client client;
    struct merge merge;
    static uint8_t body[WIRE_LIST_HEAD + 4096 * WIRE_LIST_ENTRY];
    struct wire_list_head head = {.done = true};
    wire_list_head_encode(&head, body);
    merge_begin(&client, &merge, 0);
    uint32_t frames = 0;
    for (; asked[0] != NULL; frames++) {
        for (uint32_t i = 0; i < 2000; i++) {
            struct wire_list_entry entry = {.partition = 1,
                                            .tag = {.high = frames * 2000 + i},
                                            .version = {.counter = 1, .writer = 1},
                                            .state = WIRE_PRESENT};
            wire_list_entry_encode(&entry, body + WIRE_LIST_HEAD + (size_t)i * WIRE_LIST_ENTRY);
        }
        send_frame(&client, 0, WIRE_LIST, KHO_FRAME_MORE, 2000, body,
                   WIRE_LIST_HEAD + 2000 * WIRE_LIST_ENTRY);
    }
    assert_int_equal(frames, 3); /* at most the limit of 100 and a frame's 4,096 */
    assert_int_equal(merge.columns[0].status, KHO_EMALFORMED);
    merge_stop(&client, &merge);

    static const struct told early[] = {{2, 4, 1, WIRE_PRESENT}};
    merge_begin(&client, &merge, 0);
    merge_stop(&client, &merge);
    memset(asked, 0, sizeof asked);
    merge.from = (struct place){2, {.high = 5}};
    assert_int_equal(merge_start(&client, &merge, now), 0);
    tell(&client, 0, 0, early, 1, NULL);
    assert_int_equal(merge.columns[0].status, KHO_EMALFORMED);
    merge_stop(&client, &merge);
}

static void expect_malformed(const struct told *told, uint16_t count, const struct told *next)
{
    struct client client;
    struct merge merge;
    merge_begin(&client, &merge, 0);
    merge.columns[0].status = 0;
    tell(&client, 1, 0, NULL, 0, NULL);
    tell(&client, 2, 0, NULL, 0, NULL);
    tell(&client, 0, 0, told, count, next);
    assert_int_equal(outcome.ended, 1);
    assert_int_equal(merge.columns[0].status, KHO_EMALFORMED);
    assert_int_equal(merge.answered, 6); /* the others count */
    merge_stop(&client, &merge);
}

static void test_breaks_of_the_layout(void **state)
{
    /* Entries out of order, out of range, of no version or an unknown state, and a page that makes
     * no progress, fail that replica alone. */
    (void)state;
    static const struct told unordered[] = {{1, 5, 1, WIRE_PRESENT}, {0, 9, 1, WIRE_PRESENT}};
    static const struct told twice[] = {{1, 5, 1, WIRE_PRESENT}, {1, 5, 1, WIRE_PRESENT}};
    static const struct told outside[] = {{PARTITIONS, 5, 1, WIRE_PRESENT}};
    static const struct told nothing[] = {{1, 5, 0, WIRE_PRESENT}};
    static const struct told absent[] = {{1, 5, 1, WIRE_ABSENT}};
    static const struct told strange[] = {{1, 5, 1, 77}};
    static const struct told fine[] = {{1, 5, 1, WIRE_PRESENT}};
    static const struct told start = {0, 0, 0, 0}, before = {1, 5, 0, 0}, far = {17, 0, 0, 0};
    expect_malformed(unordered, 2, NULL);
    expect_malformed(twice, 2, NULL);
    expect_malformed(outside, 1, NULL);
    expect_malformed(nothing, 1, NULL);
    expect_malformed(absent, 1, NULL);
    expect_malformed(strange, 1, NULL);
    expect_malformed(NULL, 0, &start);
    expect_malformed(fine, 1, &before);
    expect_malformed(fine, 1, &far);
}

static void test_random_answers(void **state)
{
    /* Any bytes end in a result or an error, and never in a crash. */
    (void)state;
    struct kho_random random;
    kho_random_init(&random, 11);
    for (int round = 0; round < 3000; round++) {
        struct client client;
        struct merge merge;
        uint8_t body[300];
        merge_begin(&client, &merge, (uint8_t)(round % 3));
        merge.records = round % 2 == 0;
        for (uint32_t node = 0; node < REPLICAS; node++) {
            for (size_t i = 0; i < sizeof body; i++)
                body[i] = kho_random_below(&random, 3) == 0 ? (uint8_t)kho_random_next(&random) : 0;
            size_t len = kho_random_below(&random, sizeof body + 1);
            uint16_t count = (uint16_t)kho_random_below(&random, 12);
            send_frame(&client, node, WIRE_LIST, (uint8_t)kho_random_next(&random), count, body,
                       len);
            if (asked[node] != NULL)
                end_request(&client, node, 0);
        }
        assert_int_equal(outcome.ended, 1);
        merge_stop(&client, &merge);
    }
}

/* --- Fetch ------------------------------------------------------------------------------------ */

#define SEED 77u

static struct {
    unsigned records, failed, ended;
    int status, last;
    uint8_t value[600000];
    size_t value_len;
} got;

static void fetched(struct client *client, struct fetch *fetch, uint32_t name, int status,
                    uint8_t state, const struct record *record, struct kho_now at)
{
    (void)client;
    (void)fetch;
    (void)name;
    (void)state;
    (void)at;
    got.records += status == 0;
    got.failed += status != 0;
    got.last = status;
    if (record != NULL && record->value != NULL) {
        got.value_len = record->raw_len;
        memcpy(got.value, record->value, record->raw_len);
    }
}

static void fetch_over(struct client *client, struct fetch *fetch, int status, struct kho_now at)
{
    (void)client;
    (void)fetch;
    (void)at;
    got.ended++;
    got.status = status;
}

/* A map with one collection of id 1: what the check of a record needs. */
static uint8_t *fetch_map(struct client *client)
{
    struct map_node node = {
        .name = "a", .address = "h", .port = 1, .shards = 1, .weight = 1, .state = MAP_NODE_UP};
    struct map_collection collection = {
        .name = "c", .id = 1, .replicas = 1, .separator = KHO_NO_SEPARATOR};
    uint16_t table[PARTITIONS] = {0};
    uint32_t since[PARTITIONS] = {0};
    memset(node.incarnation.bytes, 1, 16);
    struct map_parts parts = {.epoch = 1,
                              .seed = SEED,
                              .partitions = PARTITIONS,
                              .replicas = 1,
                              .write_quorum = 1,
                              .read_quorum = 1,
                              .width = 1,
                              .node_count = 1,
                              .collection_count = 1,
                              .nodes = &node,
                              .collections = &collection,
                              .table = table,
                              .since = since};
    memset(parts.cluster.bytes, 2, 16);
    uint8_t *bytes = malloc(map_size(&parts));
    assert_non_null(bytes);
    map_encode(&parts, bytes);
    assert_int_equal(map_decode(bytes, map_size(&parts), &client->map), 0);
    return bytes;
}

static struct fetch_ask fetch_ask_of(const char *key)
{
    struct key_hash hash = key_hash(1, key, strlen(key), SEED);
    return (struct fetch_ask){.partition = (uint32_t)(hash.low & (PARTITIONS - 1)),
                              .tag = key_tag(hash)};
}

static void fetch_begin(struct client *client, struct fetch *fetch, const char *key, uint8_t **map)
{
    memset(client, 0, sizeof *client);
    memset(fetch, 0, sizeof *fetch);
    memset(asked, 0, sizeof asked);
    memset(&got, 0, sizeof got);
    *map = fetch_map(client);
    fetch->collection = 1;
    fetch->deadline_ns = CLIENT_NEVER;
    fetch->record = fetched;
    fetch->end = fetch_over;
    struct fetch_ask ask = fetch_ask_of(key);
    assert_int_equal(fetch_start(client, fetch, &ask, 1, now), 0);
}

static struct record record_of(const char *key, const uint8_t *value, uint32_t len)
{
    return (struct record){.collection = 1,
                           .key = (const uint8_t *)key,
                           .key_len = (uint16_t)strlen(key),
                           .version = {.counter = 5, .writer = 1},
                           .raw_len = len,
                           .stored_len = len,
                           .value = value,
                           .hash = content_hash(value, len)};
}

static size_t answer_of(const struct record *record, uint8_t *body)
{
    struct wire_read_answer answer = {.state = WIRE_PRESENT,
                                      .record_len = (uint32_t)record_size(record)};
    wire_read_answer_encode(&answer, body);
    return WIRE_READ_ANSWER + record_encode(record, body + WIRE_READ_ANSWER);
}

static void test_fetch_checks_the_record(void **state)
{
    /* Another key's record, a value that doesn't match its hash, another collection's: damaged. */
    (void)state;
    uint8_t body[300], value[50] = {7}, *map;
    for (int fault = 0; fault < 4; fault++) {
        struct client client;
        struct fetch fetch;
        fetch_begin(&client, &fetch, "key", &map);
        struct record record = record_of(fault == 1 ? "kez" : "key", value, sizeof value);
        record.hash.bytes[3] ^= fault == 2;
        record.collection += fault == 3;
        size_t len = answer_of(&record, body);
        send_frame(&client, 0, WIRE_READ, 0, 1, body, len);
        end_request(&client, 0, 0);
        assert_int_equal(got.ended, 1);
        assert_int_equal(got.status, 0);
        assert_int_equal(got.records, fault == 0);
        assert_int_equal(got.failed, fault != 0);
        assert_int_equal(got.last, fault == 0 ? 0 : KHO_EDAMAGED);
        free(map);
    }
}

static void test_fetch_large(void **state)
{
    /* A value over many DATA frames is put together; one byte more or less breaks the layout. */
    (void)state;
    static uint8_t value[500000];
    uint8_t body[WIRE_READ_ANSWER + KHO_RECORD_HEAD + 8], *map;
    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (uint8_t)(i * 31);
    for (int off = -1; off <= 1; off++) {
        struct client client;
        struct fetch fetch;
        fetch_begin(&client, &fetch, "key", &map);
        struct record record = record_of("key", value, sizeof value);
        struct wire_read_answer answer = {.state = WIRE_PRESENT,
                                          .record_len = (uint32_t)record_size(&record)};
        wire_read_answer_encode(&answer, body);
        size_t len = WIRE_READ_ANSWER + record_encode_head(&record, body + WIRE_READ_ANSWER);
        send_frame(&client, 0, WIRE_READ, KHO_FRAME_LARGE | KHO_FRAME_MORE, 1, body, len);
        size_t left = sizeof value;
        for (size_t at = 0; left > 0; at += 200000) {
            size_t piece = kho_min(left, 200000);
            left -= piece;
            if (left == 0 && off != 0)
                piece = off < 0 ? piece - 1 : piece;
            uint8_t flags = left == 0 ? KHO_FRAME_LAST_DATA : KHO_FRAME_MORE;
            if (left == 0 && off > 0) { /* a whole frame too many */
                send_frame(&client, 0, WIRE_DATA, KHO_FRAME_MORE, 0, value + at, piece);
                send_frame(&client, 0, WIRE_DATA, flags, 0, value, 1);
            } else {
                send_frame(&client, 0, WIRE_DATA, flags, 0, value + at, piece);
            }
        }
        if (asked[0] != NULL)
            end_request(&client, 0, 0);
        assert_int_equal(got.ended, 1);
        assert_int_equal(got.status, off == 0 ? 0 : KHO_EMALFORMED);
        assert_int_equal(got.records, off == 0);
        if (off == 0) {
            assert_int_equal(got.value_len, sizeof value);
            assert_memory_equal(got.value, value, sizeof value);
        }
        fetch_stop(&client, &fetch);
        free(map);
    }
}

static void test_fetch_random_answers(void **state)
{
    /* A good answer with bytes changed, cut or repeated ends in a record, a failure or an error. */
    (void)state;
    struct kho_random random;
    uint8_t good[300], body[300], value[40] = {1}, *map;
    unsigned malformed = 0;
    kho_random_init(&random, 5);
    for (int round = 0; round < 5000; round++) {
        struct client client;
        struct fetch fetch;
        fetch_begin(&client, &fetch, "key", &map);
        struct record record = record_of("key", value, sizeof value);
        size_t len = answer_of(&record, good);
        for (int frame = 0; frame < 3 && asked[0] != NULL; frame++) {
            memcpy(body, good, sizeof body);
            for (uint64_t flips = kho_random_below(&random, 4); flips > 0; flips--)
                body[kho_random_below(&random, len)] = (uint8_t)kho_random_next(&random);
            size_t cut =
                kho_random_below(&random, 3) == 0 ? kho_random_below(&random, len + 1) : len;
            uint8_t type = kho_random_below(&random, 4) == 0 ? WIRE_DATA : WIRE_READ;
            send_frame(&client, 0, type, (uint8_t)kho_random_next(&random),
                       (uint16_t)kho_random_below(&random, 3), body, cut);
        }
        if (asked[0] != NULL)
            end_request(&client, 0, 0);
        assert_int_equal(got.ended, 1);
        assert_true(got.records + got.failed <= 1);
        if (got.records == 1 && got.value_len > 0)
            assert_memory_equal(got.value, value, sizeof value);
        malformed += got.status == KHO_EMALFORMED;
        fetch_stop(&client, &fetch);
        free(map);
    }
    assert_true(malformed > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_highest_wins),
        cmocka_unit_test(test_ends_at_the_smallest_next),
        cmocka_unit_test(test_votes),
        cmocka_unit_test(test_newer_map_ends_it),
        cmocka_unit_test(test_causes),
        cmocka_unit_test(test_nobody_can_be_asked),
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_more_than_asked),
        cmocka_unit_test(test_breaks_of_the_layout),
        cmocka_unit_test(test_random_answers),
        cmocka_unit_test(test_fetch_checks_the_record),
        cmocka_unit_test(test_fetch_large),
        cmocka_unit_test(test_fetch_random_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
