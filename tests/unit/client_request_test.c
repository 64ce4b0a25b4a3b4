/* client_request_test.c: requests on a session: each ends exactly once, by an answer, its deadline,
 * a new map, a node that is out of reach or behind, or not at all when it was dropped. */
#include "fake_cluster.h"

#include <errno.h>

struct asked {
    struct request request;
    int ends, frames, status;
};

static void asked_frame(struct client *client, struct request *request,
                        const struct wire_head *head, const uint8_t *body, size_t len,
                        struct kho_now now)
{
    (void)client, (void)head, (void)body, (void)len, (void)now;
    ((struct asked *)request->owner)->frames++;
}

static void asked_end(struct client *client, struct request *request, int status,
                      struct kho_now now)
{
    struct asked *asked = request->owner;
    (void)client, (void)now;
    asked->ends++;
    asked->status = status;
}

static struct session *session_of_node(struct fake_cluster *cluster, int node)
{
    return cluster->client->remotes[node]->sessions[0];
}

static void ask(struct fake_cluster *cluster, struct asked *asked, uint8_t type, int node,
                uint64_t deadline_ms)
{
    memset(asked, 0, sizeof *asked);
    asked->request.type = type;
    asked->request.frame = asked_frame;
    asked->request.end = asked_end;
    asked->request.owner = asked;
    asked->request.deadline_ns =
        deadline_ms == 0 ? CLIENT_NEVER : cluster->now.mono_ns + deadline_ms * CLIENT_MS_NS;
    assert_int_equal(
        request_send(cluster->client, &asked->request, (uint32_t)node, 0, cluster->now), 0);
}

static struct fake_cluster *open_up(void)
{
    struct fake_cluster *cluster = fake_open();
    assert_int_equal(fake_call(cluster, CLIENT_PUT, "a", "1").first.status, 0);
    fake_run(cluster, 100, NULL);
    return cluster;
}

static void ended(const struct asked *asked, int status)
{
    assert_int_equal(asked->ends, 1);
    assert_int_equal(asked->status, status);
    assert_null(asked->request.session);
}

/* A deadline ends a request that waits for its node, and one that a silent node was sent; one that
 * has none, or a later one, goes on. */
static void test_deadlines(void **state)
{
    (void)state;
    struct fake_cluster *cluster = open_up();
    struct asked early, late, none, sent, sent_late;
    fake_node_down(cluster, 1);
    ask(cluster, &late, WIRE_STATUS, 1, 900);
    ask(cluster, &none, WIRE_STATUS, 1, 0);
    ask(cluster, &early, WIRE_STATUS, 1, 300);
    cluster->nodes[2].mute = true;
    ask(cluster, &sent_late, WIRE_STATUS, 2, 900);
    ask(cluster, &sent, WIRE_STATUS, 2, 300);
    fake_run(cluster, 290, NULL);
    assert_int_equal(early.ends + late.ends + none.ends + sent.ends + sent_late.ends, 0);
    fake_run(cluster, 20, NULL);
    ended(&early, KHO_EDEADLINE);
    ended(&sent, KHO_EDEADLINE);
    assert_int_equal(late.ends + none.ends + sent_late.ends, 0);
    cluster->nodes[1].down = false;
    cluster->nodes[2].mute = false;
    fake_run(cluster, 580, NULL);
    ended(&late, 0);
    ended(&none, 0);
    ended(&sent_late, 0);
    assert_int_equal(late.frames, 1);
    /* The answer to what nobody waits for any more came meanwhile, and broke nothing. */
    assert_int_equal(early.frames + sent.frames, 0);
    assert_int_equal(session_of_node(cluster, 2)->state, SESSION_UP);
    fake_destroy(cluster);
}

/* What is dropped is never told anything, sent or not; dropping what isn't under way is nothing. */
static void test_dropped(void **state)
{
    (void)state;
    struct fake_cluster *cluster = open_up();
    struct asked waits, sent;
    fake_node_down(cluster, 1);
    ask(cluster, &waits, WIRE_STATUS, 1, 0);
    ask(cluster, &sent, WIRE_STATUS, 2, 0);
    client_step_end(cluster->client, cluster->now);
    assert_true(sent.request.sent);
    assert_false(waits.request.sent);
    for (int i = 0; i < 2; i++) {
        request_drop(cluster->client, &waits.request);
        request_drop(cluster->client, &sent.request);
    }
    cluster->nodes[1].down = false;
    fake_run(cluster, 3000, NULL);
    assert_int_equal(waits.ends + sent.ends + waits.frames + sent.frames, 0);
    fake_destroy(cluster);
}

/* A newer map ends what was asked under the old one, except what needs no epoch. */
static void test_new_map(void **state)
{
    (void)state;
    struct fake_cluster *cluster = open_up();
    struct asked waits, waits_exempt, sent, sent_exempt;
    cluster->nodes[1].mute = true;
    ask(cluster, &sent, WIRE_DIGEST, 1, 0);
    ask(cluster, &sent_exempt, WIRE_STATUS, 1, 0);
    fake_run(cluster, 10, NULL);
    fake_node_down(cluster, 2);
    ask(cluster, &waits, WIRE_DIGEST, 2, 0);
    ask(cluster, &waits_exempt, WIRE_STATUS, 2, 0);
    fake_node_map(cluster, 0, 2);
    session_fetch_map(cluster->client, session_of_node(cluster, 0), cluster->now);
    fake_run(cluster, 50, NULL);
    assert_int_equal(client_map(cluster->client)->epoch, 2);
    ended(&sent, KHO_EEPOCHOLD);
    ended(&waits, KHO_EEPOCHOLD);
    assert_int_equal(sent_exempt.ends + waits_exempt.ends, 0);
    fake_node_map(cluster, 1, 2);
    fake_node_map(cluster, 2, 2);
    cluster->nodes[1].mute = false;
    cluster->nodes[2].down = false;
    fake_run(cluster, 1500, NULL);
    ended(&sent_exempt, 0);
    ended(&waits_exempt, 0);
    fake_destroy(cluster);
}

/* A node that is behind our map is given up after a while; what needs no epoch still reaches it. */
static void test_behind(void **state)
{
    (void)state;
    struct fake_cluster *cluster = open_up();
    struct asked needs, exempt;
    fake_node_map(cluster, 0, 2);
    fake_node_map(cluster, 2, 2);
    session_fetch_map(cluster->client, session_of_node(cluster, 0), cluster->now);
    fake_run(cluster, 50, NULL);
    assert_int_equal(client_map(cluster->client)->epoch, 2);
    /* Node 1 refuses what is asked under epoch 2. */
    ask(cluster, &needs, WIRE_DIGEST, 1, 0);
    fake_run(cluster, 50, NULL);
    ended(&needs, KHO_EBEHIND);
    fake_run(cluster, 2500, NULL);
    assert_true(session_of_node(cluster, 1)->given_up);
    ask(cluster, &needs, WIRE_DIGEST, 1, 0);
    ask(cluster, &exempt, WIRE_MAP, 1, 0);
    fake_run(cluster, 100, NULL);
    ended(&needs, KHO_EUNAVAILABLE);
    ended(&exempt, 0);
    assert_int_equal(exempt.frames, 1);
    assert_int_equal(fake_call(cluster, CLIENT_PUT, "a", "2").first.status, 0);
    fake_destroy(cluster);
}

/* A node that stays away ends what waits for it, and so does one that was taken off the map: its
 * incarnation is another one's. */
static void test_out_of_reach(void **state)
{
    (void)state;
    struct fake_cluster *cluster = open_up();
    struct asked waits, sent;
    cluster->nodes[1].mute = true;
    ask(cluster, &sent, WIRE_STATUS, 1, 0);
    fake_run(cluster, 10, NULL);
    fake_node_down(cluster, 1);
    ended(&sent, KHO_EUNAVAILABLE);
    ask(cluster, &waits, WIRE_STATUS, 1, 0);
    fake_run(cluster, 1500, NULL);
    assert_int_equal(waits.ends, 0);
    fake_run(cluster, 1500, NULL);
    ended(&waits, KHO_EUNAVAILABLE);
    /* Another one takes its place. */
    cluster->nodes[1].down = cluster->nodes[1].mute = false;
    fake_run(cluster, 3000, NULL);
    cluster->nodes[1].mute = true;
    ask(cluster, &sent, WIRE_STATUS, 1, 0);
    fake_run(cluster, 10, NULL);
    ask(cluster, &waits, WIRE_STATUS, 1, 0);
    cluster->nodes[1].incarnation.bytes[5] ^= 1;
    for (int i = 0; i < FAKE_NODES; i++)
        fake_node_map(cluster, i, 2);
    session_fetch_map(cluster->client, session_of_node(cluster, 0), cluster->now);
    fake_run(cluster, 50, NULL);
    assert_int_equal(client_map(cluster->client)->epoch, 2);
    ended(&sent, KHO_EUNAVAILABLE);
    ended(&waits, KHO_EUNAVAILABLE);
    cluster->nodes[1].mute = false;
    fake_run(cluster, 3000, NULL);
    ask(cluster, &waits, WIRE_STATUS, 1, 0);
    fake_run(cluster, 100, NULL);
    ended(&waits, 0);
    fake_destroy(cluster);
}

/* More requests than may be under way at once all get their answer, some after the others. */
static void test_more_than_ways(void **state)
{
    (void)state;
    struct fake_cluster *cluster = open_up();
    static struct asked asked[SESSION_WAYS + 20];
    cluster->nodes[1].mute = true;
    uint32_t sent = 0, before = session_of_node(cluster, 1)->way_count;
    for (uint32_t i = 0; i < KHO_COUNT_OF(asked); i++)
        ask(cluster, &asked[i], WIRE_STATUS, 1, 0);
    fake_run(cluster, 50, NULL);
    for (uint32_t i = 0; i < KHO_COUNT_OF(asked); i++) {
        assert_int_equal(asked[i].ends, 0);
        sent += asked[i].request.sent;
    }
    assert_int_equal(before + sent, SESSION_WAYS);
    cluster->nodes[1].mute = false;
    fake_run(cluster, 500, NULL);
    for (uint32_t i = 0; i < KHO_COUNT_OF(asked); i++)
        ended(&asked[i], 0);
    fake_destroy(cluster);
}

/* A session can't be had without memory: nothing happened, and the request can be sent later. */
static void test_no_memory(void **state)
{
    (void)state;
    struct fake_cluster *cluster = fake_create();
    struct kho_options options = fake_options(cluster);
    struct asked asked = {.request = {.type = WIRE_STATUS, .deadline_ns = CLIENT_NEVER}};
    cluster->shards = 2;
    for (int i = 0; i < FAKE_NODES; i++)
        fake_node_map(cluster, i, 1);
    assert_int_equal(client_create(&options, 42, cluster->now, &cluster->client), 0);
    fake_call(cluster, CLIENT_STAT, "a", NULL);
    asked.request.end = asked_end;
    asked.request.owner = &asked;
    uint32_t refused = 0;
    for (uint32_t node = 0; node < FAKE_NODES; node++)
        for (uint32_t shard = 0; shard < 2; shard++) {
            cluster->fail_at = cluster->allocations + 1;
            if (request_send(cluster->client, &asked.request, node, shard, cluster->now) != 0) {
                refused++;
                assert_null(asked.request.session);
                cluster->fail_at = 0;
                assert_int_equal(
                    request_send(cluster->client, &asked.request, node, shard, cluster->now), 0);
            }
            cluster->fail_at = 0;
            fake_run(cluster, 2000, NULL);
            ended(&asked, 0);
            asked.ends = 0;
        }
    assert_true(refused > 0);
    fake_destroy(cluster);
}

/* A refusal that says the node isn't who it should be breaks the connection; any other is only the
 * request's. */
static void test_refusals(void **state)
{
    static const struct {
        int status;
        bool breaks, holds;
    } cases[] = {{KHO_ECLUSTER, true, false},     {KHO_EINCARNATION, true, false},
                 {KHO_EMAP, true, false},         {KHO_EBUSY, false, true},
                 {KHO_ESTOPPING, false, true},    {-ENOMEM, false, true},
                 {KHO_ENOTREPLICA, false, false}, {KHO_EEPOCHOLD, true, true}};
    (void)state;
    for (size_t i = 0; i < KHO_COUNT_OF(cases); i++) {
        struct fake_cluster *cluster = open_up();
        struct session *session = session_of_node(cluster, 1);
        struct asked asked;
        cluster->nodes[1].mute = true;
        ask(cluster, &asked, WIRE_DIGEST, 1, 0);
        client_step_end(cluster->client, cluster->now);
        assert_true(asked.request.sent);
        uint8_t frame[KHO_FRAME_HEAD];
        struct wire_head head = {.length = sizeof frame,
                                 .type = WIRE_DIGEST,
                                 .request = session->ways[asked.request.way].id,
                                 .epoch = 1,
                                 .status = cases[i].status};
        wire_frame_seal(frame, &head, true);
        session_received(cluster->client, session, frame, sizeof frame, cluster->now);
        /* KHO_EEPOCHOLD comes with a map: without one it is no answer that can be used. */
        ended(&asked, cases[i].status);
        assert_int_equal(session->state == SESSION_CLOSING, cases[i].breaks);
        assert_int_equal(session->hold_until_ns != 0, cases[i].holds && !cases[i].breaks);
        fake_destroy(cluster);
    }
}

/* Answers that nobody asked for break the connection: of no request, of an earlier one in the same
 * place, of another type, a value's data where none was asked. */
static void test_unasked(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        struct fake_cluster *cluster = open_up();
        struct session *session = session_of_node(cluster, 1);
        struct asked asked;
        cluster->nodes[1].mute = true;
        ask(cluster, &asked, WIRE_STATUS, 1, 0);
        client_step_end(cluster->client, cluster->now);
        uint64_t id = session->ways[asked.request.way].id;
        uint8_t frame[KHO_FRAME_HEAD];
        struct wire_head head = {.length = sizeof frame, .type = WIRE_STATUS, .request = id};
        if (kind == 0)
            head.request = id + 1;
        else if (kind == 1)
            head.request = id - SESSION_WAYS;
        else
            head.type = kind == 2 ? WIRE_PROBE : WIRE_DATA;
        wire_frame_seal(frame, &head, true);
        session_received(cluster->client, session, frame, sizeof frame, cluster->now);
        assert_int_equal(session->state, SESSION_CLOSING);
        assert_int_equal(session->error, KHO_EMALFORMED);
        ended(&asked, KHO_EUNAVAILABLE);
        assert_int_equal(asked.frames, 0);
        fake_destroy(cluster);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deadlines),    cmocka_unit_test(test_dropped),
        cmocka_unit_test(test_new_map),      cmocka_unit_test(test_behind),
        cmocka_unit_test(test_out_of_reach), cmocka_unit_test(test_more_than_ways),
        cmocka_unit_test(test_no_memory),    cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_unasked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
