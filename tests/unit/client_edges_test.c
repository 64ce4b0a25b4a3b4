/* client_edges_test.c: the client's core where several misfortunes meet: calls that end while a map
 * is put in force, steps that take long, answers that no honest node gives. */
#include "fake_cluster.h"

/* Keeps a node that is asked something in reach: it says at least its map. */
static void chat(struct fake_cluster *cluster, uint32_t node, uint64_t ms)
{
    for (uint64_t at = 0; at < ms; at += 250) {
        session_fetch_map(cluster->client, cluster->client->remotes[node]->sessions[0],
                          cluster->now);
        fake_run(cluster, 250, NULL);
    }
}

static void lose_acks(struct fake_cluster *cluster, bool lose)
{
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].lose_acks = lose;
}

/* A newer map ends the last record of a batch that others have left before: nothing behind the
 * batch's records is looked at. */
static void test_map_ends_the_first_of_a_batch(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct fake_done first, batch = {0};
    kho_call_id call;
    fake_call(cluster, CLIENT_PUT, "b", "0");
    lose_acks(cluster, true);
    kho_call_id before = fake_submit(cluster, CLIENT_PUT, "people", "a", "1", NULL, 0, &first);
    fake_run(cluster, 30, NULL);
    lose_acks(cluster, false);
    struct kho_item items[2] = {{.key = "a", .key_len = 1, .value = "2", .value_len = 1},
                                {.key = "b", .key_len = 1, .value = "2", .value_len = 1}};
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", items, 2, 9000, &batch,
                                    cluster->now, &call),
                     0);
    fake_run(cluster, 30, NULL);
    lose_acks(cluster, true);
    client_cancel(cluster->client, before, cluster->now);
    fake_run(cluster, 30, NULL);
    assert_true(first.come);
    assert_false(batch.come);
    fake_node_down(cluster, 0);
    fake_node_down(cluster, 1);
    chat(cluster, 2, 3000);
    assert_false(batch.come);
    fake_node_map(cluster, 2, 2);
    chat(cluster, 2, 250);
    assert_int_equal(client_map(cluster->client)->epoch, 2);
    assert_true(batch.come);
    assert_int_equal(batch.first.status, KHO_EINDOUBT);
    fake_destroy(cluster);
}

/* A step that takes longer than a node may be silent: the silence begins when its requests were
 * sent, so nobody is given up. */
static void test_long_step(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    struct client_op *op;
    struct fake_done put;
    fake_call(cluster, CLIENT_PUT, "a", "1");
    fake_run(cluster, 1000, NULL);
    fake_submit(cluster, CLIENT_PUT, "people", "a", "2", NULL, 0, &put);
    client_step_end(cluster->client, cluster->now);
    cluster->now.mono_ns += 3000 * CLIENT_MS_NS;
    while ((op = client_next_op(cluster->client)) != NULL)
        fake_op(cluster, op);
    client_tick(cluster->client, cluster->now);
    fake_run(cluster, 1000, &put);
    assert_true(put.come);
    assert_int_equal(put.first.status, 0);
    assert_true(fake_holders(cluster, "a", "2") >= 2);
    /* One that stays silent is given up as ever, however much it is sent. */
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].mute = true;
    uint64_t since = cluster->now.mono_ns;
    fake_submit(cluster, CLIENT_PUT, "people", "a", "3", NULL, 0, &put);
    for (int i = 0; i < 30 && !put.come; i++) {
        struct fake_done other;
        fake_run(cluster, 100, &put);
        if (!put.come)
            fake_submit(cluster, CLIENT_GET, "people", "b", NULL, NULL, 50, &other);
        if (!put.come)
            fake_run(cluster, 60, &other);
    }
    assert_true(put.come);
    assert_in_range((cluster->now.mono_ns - since) / CLIENT_MS_NS, 1900, 2300);
    fake_destroy(cluster);
}

/* The only node with the newest record gives it and is found damaged before it can be written back:
 * the others are a majority and have the answer. */
static void test_source_is_damaged_meanwhile(void **state)
{
    (void)state;
    uint32_t asked = 0;
    for (int source = 0; source < FAKE_NODES; source++) {
        struct fake_cluster *cluster = fake_open();
        struct fake_done get;
        fake_call(cluster, CLIENT_GET, "b", NULL);
        for (int i = 0; i < FAKE_NODES; i++)
            fake_place(cluster, i, "a", i == source ? "2" : "1", i == source ? 2000 : 1000);
        uint32_t reads = cluster->nodes[source].reads;
        fake_submit(cluster, CLIENT_GET, "people", "a", NULL, NULL, 0, &get);
        /* It ends at once where the other two answer first. */
        for (int i = 0; i < 100 && cluster->nodes[source].reads == reads && !get.come; i++)
            fake_step(cluster);
        asked += cluster->nodes[source].reads - reads;
        cluster->nodes[source].unknown = true;
        for (int i = 0; i < 100 && !get.come; i++)
            fake_step(cluster);
        assert_true(get.come);
        assert_int_equal(get.first.status, 0);
        assert_memory_equal(get.first_value, "1", 1);
        fake_destroy(cluster);
    }
    assert_true(asked > 0);
}

/* A large value of another key is none: another replica is asked. */
static void test_alien_large_value(void **state)
{
    (void)state;
    for (int alien = 0; alien < FAKE_NODES; alien++) {
        struct fake_cluster *cluster = fake_open();
        uint8_t *large = (uint8_t *)malloc(300000);
        fake_noise(large, 300000, 9);
        struct kho_item item = {.key = "a", .key_len = 1, .value = large, .value_len = 300000};
        struct fake_done put = {0};
        kho_call_id call;
        assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", &item, 1, 0, &put,
                                        cluster->now, &call),
                         0);
        fake_run(cluster, 5000, &put);
        assert_int_equal(put.first.status, 0);
        cluster->nodes[alien].alien = true;
        for (int i = 0; i < FAKE_NODES; i++) {
            struct fake_done get = fake_call(cluster, CLIENT_GET, "a", NULL);
            assert_int_equal(get.first.status, 0);
            assert_int_equal(get.first.value_len, 300000);
        }
        free(large);
        fake_destroy(cluster);
    }
}

/* A repair that reaches no node says so and ends. */
static void test_repair_without_nodes(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    kho_call_id call;
    fake_call(cluster, CLIENT_PUT, "a", "1");
    for (int i = 0; i < FAKE_NODES; i++)
        fake_node_down(cluster, i);
    assert_int_equal(client_repair(cluster->client, NULL, NULL, cluster->now, &call), 0);
    fake_run(cluster, 120000, NULL);
    assert_true(queue_empty(&cluster->client->calls));
    fake_destroy(cluster);
}

/* A status above 0 is none that a node may answer: it never becomes a result. */
static void test_strange_status(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_open();
    fake_place(cluster, 0, "a", "1", 1000);
    for (int i = 0; i < FAKE_NODES; i++)
        cluster->nodes[i].write_status = 77;
    struct fake_done get = fake_call(cluster, CLIENT_GET, "a", NULL);
    struct fake_done put = fake_call(cluster, CLIENT_PUT, "b", "1");
    if (get.first.status == 0)
        assert_memory_equal(get.first_value, "1", 1);
    assert_true(get.first.status <= 0);
    assert_int_equal(put.first.status, KHO_EINDOUBT);
    fake_destroy(cluster);
}

/* --- Answers that no honest node gives ----------------------------------------------------------
 */

static uint32_t strange_number(struct kho_random *random)
{
    static const uint32_t numbers[] = {0, 1, 2, 255, 4096, 65535, 1u << 24, INT32_MAX, UINT32_MAX};
    uint64_t at = kho_random_below(random, KHO_COUNT_OF(numbers) + 1);
    return at < KHO_COUNT_OF(numbers) ? numbers[at] : (uint32_t)kho_random_next(random);
}

/* Changes one frame, whose checksum then fits again. Its memory ends where it ends. */
static void forge(struct kho_random *random, uint8_t *frame, uint32_t *len)
{
    struct wire_head head;
    if (wire_frame_decode(frame, &head) != 0)
        return;
    for (uint64_t left = 1 + kho_random_below(random, 3); left > 0; left--) {
        uint32_t body = head.length - KHO_FRAME_HEAD;
        switch (kho_random_below(random, 7)) {
        case 0:
            head.count = (uint16_t)(head.count + kho_random_below(random, 3) - 1);
            break;
        case 1:
            head.flags ^= (uint8_t)(1u << kho_random_below(random, 8));
            break;
        case 2:
            head.length -= (uint32_t)kho_random_below(random, body + 1);
            break;
        case 3:
            head.status = -(int32_t)kho_random_below(random, 1100);
            break;
        case 4:
            if (body > 0)
                frame[KHO_FRAME_HEAD + kho_random_below(random, body)] ^=
                    (uint8_t)(1u << kho_random_below(random, 8));
            break;
        case 5:
            if (body >= 4)
                kho_store32(frame + KHO_FRAME_HEAD + kho_random_below(random, body / 4) * 4,
                            strange_number(random));
            break;
        default:
            head.type = (uint8_t)(1 + kho_random_below(random, WIRE_TYPE_END - 1));
        }
    }
    wire_frame_seal(frame, &head, true);
    *len = head.length;
}

/* Forges some of what a connection brings; some frames come twice. */
static void forge_out(struct kho_random *random, struct fake_conn *conn, uint32_t one_in)
{
    uint8_t *to = (uint8_t *)malloc(conn->out_len * 2 + 1);
    size_t at = 0, len = 0;
    while (at < conn->out_len) {
        bool hello = kho_load32(conn->out + at) == KHO_HELLO_MAGIC;
        uint32_t size = hello ? KHO_HELLO_NODE_SIZE : kho_load32(conn->out + at), left = size;
        memcpy(to + len, conn->out + at, size);
        if (!hello && kho_random_below(random, one_in) == 0)
            forge(random, to + len, &left);
        len += left;
        if (!hello && kho_random_below(random, one_in * 8) == 0) {
            memcpy(to + len, to + len - left, left);
            len += left;
        }
        at += size;
    }
    free(conn->out);
    conn->out = to;
    conn->out_len = len;
}

static void forged_round(struct fake_cluster *cluster, struct kho_random *random, uint32_t nodes)
{
    struct fake_done dones[24];
    char key[16], value[16];
    for (uint32_t i = 0; i < KHO_COUNT_OF(dones); i++) {
        static const enum client_verb verbs[] = {CLIENT_PUT, CLIENT_GET, CLIENT_DEL, CLIENT_STAT};
        enum client_verb verb = verbs[kho_random_below(random, KHO_COUNT_OF(verbs))];
        snprintf(key, sizeof key, "k%u", (unsigned)kho_random_below(random, 8));
        snprintf(value, sizeof value, "v%u", i);
        fake_submit(cluster, verb, "people", key, verb == CLIENT_PUT ? value : NULL, NULL, 4000,
                    &dones[i]);
    }
    for (int turn = 0; turn < 300; turn++) {
        for (int i = 0; i < FAKE_CONNS; i++) {
            struct fake_conn *conn = &cluster->conns[i];
            if (!conn->open)
                continue;
            fake_work(cluster, conn);
            if (conn->out_len > 0 && (uint32_t)conn->node < nodes)
                forge_out(random, conn, 4);
        }
        fake_step(cluster);
        cluster->now.mono_ns += 3 * CLIENT_MS_NS;
    }
    fake_run(cluster, 8000, NULL);
    for (uint32_t i = 0; i < KHO_COUNT_OF(dones); i++)
        assert_true(dones[i].come);
}

/* Forged counts, lengths, indexes, states and statuses end in results or errors, by the deadline,
 * and the client serves on when the nodes are honest again. */
static void test_forged_answers(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct fake_cluster *cluster = fake_open();
        struct kho_random random;
        kho_random_init(&random, seed);
        uint8_t *large = (uint8_t *)malloc(400000);
        fake_noise(large, 400000, seed);
        struct kho_item item = {.key = "k7", .key_len = 2, .value = large, .value_len = 400000};
        struct fake_done put = {0};
        kho_call_id call;
        assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", &item, 1, 0, &put,
                                        cluster->now, &call),
                         0);
        fake_run(cluster, 5000, &put);
        free(large);
        for (uint32_t nodes = 1; nodes <= FAKE_NODES; nodes++)
            forged_round(cluster, &random, nodes);
        fake_run(cluster, 8000, NULL);
        assert_int_equal(fake_call(cluster, CLIENT_PUT, "fresh", "v").first.status, 0);
        assert_int_equal(fake_call(cluster, CLIENT_GET, "fresh", NULL).first.status, 0);
        fake_destroy(cluster);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_ends_the_first_of_a_batch),
        cmocka_unit_test(test_long_step),
        cmocka_unit_test(test_source_is_damaged_meanwhile),
        cmocka_unit_test(test_alien_large_value),
        cmocka_unit_test(test_repair_without_nodes),
        cmocka_unit_test(test_strange_status),
        cmocka_unit_test(test_forged_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
