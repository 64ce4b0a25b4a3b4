/* cluster_init_test.c: a cluster is made from nodes without a map, or the refusal names the node
 * and the cause. The nodes are played by hand: the test reads the ops and says what comes back. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/client.h"
#include "client/plan.h"

#include <kho/wire.h>

enum { NODES = 3, OPS = 16 };

/* How a played node behaves. */
struct actor {
    int connect; /* result of CONNECT */
    struct wire_hello_node hello;
    bool mute;
    int push; /* status of its answer to MAP_PUSH */
    uint8_t *map;
    size_t map_len;
    uint8_t decide;
    unsigned pushes;
    bool closed;
};

struct scene {
    struct actor actors[NODES];
    struct cluster_init *init;
    struct kho_now now;
    size_t piece; /* bytes delivered at once, 0: all */
    unsigned pushed_before_home;
};

static void scene_begin(struct scene *s)
{
    memset(s, 0, sizeof *s);
    s->now = (struct kho_now){.mono_ns = 5000000000u, .wall_ms = 1700000000000u};
    for (uint8_t i = 0; i < NODES; i++) {
        struct wire_hello_node *hello = &s->actors[i].hello;
        hello->protocol = KHO_PROTOCOL;
        hello->shard_count = i + 1u;
        memset(hello->incarnation.bytes, 0x10 + i, 16);
    }
}

static void scene_end(struct scene *s)
{
    cluster_init_destroy(s->init);
    for (int i = 0; i < NODES; i++)
        free(s->actors[i].map);
}

static void deliver(struct scene *s, int32_t conn, const uint8_t *bytes, size_t len)
{
    size_t piece = s->piece != 0 ? s->piece : len;
    for (size_t at = 0; at < len; at += piece)
        cluster_init_received(s->init, conn, bytes + at, kho_min(piece, len - at), s->now);
}

static void play_hello(struct scene *s, const struct client_op *op)
{
    struct actor *actor = &s->actors[op->conn];
    struct wire_hello_client hello;
    uint8_t answer[KHO_HELLO_NODE_SIZE];
    assert_int_equal(op->len, KHO_HELLO_CLIENT_SIZE);
    assert_int_equal(wire_hello_client_decode(op->data, &hello), 0);
    assert_true(kho_id_is_zero(&hello.cluster));
    wire_hello_node_encode(&actor->hello, answer);
    deliver(s, op->conn, answer, sizeof answer);
}

static void play_push(struct scene *s, const struct client_op *op)
{
    struct actor *actor = &s->actors[op->conn];
    struct wire_head head = {0};
    uint8_t answer[KHO_FRAME_HEAD];
    assert_int_equal(wire_frame_length(op->data, op->len), op->len);
    assert_int_equal(wire_frame_decode(op->data, &head), 0);
    assert_int_equal(head.type, WIRE_MAP_PUSH);
    const uint8_t *body = op->data + KHO_FRAME_HEAD;
    assert_int_equal(kho_load64(body), 0); /* expected: no map */
    assert_int_equal(kho_load64(body + 8), 0);
    if (op->conn != 0 && s->actors[0].pushes == 0)
        s->pushed_before_home++;
    actor->pushes++;
    actor->decide = body[16];
    actor->map_len = op->len - KHO_FRAME_HEAD - WIRE_MAP_PUSH_HEAD;
    actor->map = malloc(actor->map_len);
    assert_non_null(actor->map);
    memcpy(actor->map, body + WIRE_MAP_PUSH_HEAD, actor->map_len);
    struct wire_head answer_head = {.length = KHO_FRAME_HEAD,
                                    .type = WIRE_MAP_PUSH,
                                    .request = head.request,
                                    .status = actor->push};
    wire_frame_seal(answer, &answer_head, true);
    deliver(s, op->conn, answer, sizeof answer);
}

/* Carries out ops until none is left. */
static void play(struct scene *s)
{
    struct client_op *op;
    while ((op = cluster_init_next_op(s->init)) != NULL) {
        struct actor *actor = &s->actors[op->conn];
        bool greeting = op->kind == CLIENT_OP_SEND && op->len == KHO_HELLO_CLIENT_SIZE;
        op->result = op->kind == CLIENT_OP_CONNECT ? actor->connect : 0;
        if (op->kind == CLIENT_OP_CLOSE)
            actor->closed = true;
        struct client_op copy = *op;
        cluster_init_completed(s->init, op, s->now);
        if (copy.kind == CLIENT_OP_SEND && greeting && !actor->mute)
            play_hello(s, &copy);
        else if (copy.kind == CLIENT_OP_SEND && !greeting)
            play_push(s, &copy);
    }
}

static int run(struct scene *s, const struct kho_cluster_plan *plan, const char **ret_message,
               struct map *ret_map)
{
    int status;
    const uint8_t *map;
    size_t map_len;
    assert_int_equal(cluster_init_create(plan, 3000, 42, s->now, &s->init), 0);
    play(s);
    if (!cluster_init_done(s->init, &status, ret_message, &map, &map_len)) {
        assert_int_equal(cluster_init_deadline(s->init), s->now.mono_ns + 3000000000u);
        s->now.mono_ns += 3000000000u;
        cluster_init_tick(s->init, s->now);
        play(s);
    }
    assert_true(cluster_init_done(s->init, &status, ret_message, &map, &map_len));
    assert_int_equal(cluster_init_deadline(s->init), UINT64_MAX);
    if (ret_map != NULL)
        assert_int_equal(map_decode(map, map_len, ret_map), 0);
    else
        assert_null(map);
    return status;
}

static const struct kho_cluster_plan plan_of_three = {
    .struct_size = sizeof plan_of_three,
    .addresses = "10.0.0.1:7001,host-b:7002,[fd00::3]:7003",
    .partitions = 64,
};

static void test_three_nodes(void **state)
{
    /* Three fresh nodes become a cluster: one map everywhere, decided at the first. */
    (void)state;
    for (size_t piece = 0; piece < 8; piece++) {
        struct scene s;
        struct map map;
        struct map_node node;
        const char *message;
        scene_begin(&s);
        s.piece = piece;
        assert_int_equal(run(&s, &plan_of_three, &message, &map), 0);
        assert_int_equal(map.epoch, 1);
        assert_int_equal(map.home, 0);
        assert_int_equal(map.replicas, 3);
        assert_int_equal(map.write_quorum, 2);
        assert_int_equal(map.read_quorum, 2);
        assert_int_equal(map.partitions, 64);
        assert_int_equal(map.changed_ms, s.now.wall_ms);
        map_node(&map, 2, &node);
        assert_string_equal(node.name, "c");
        assert_string_equal(node.address, "fd00::3");
        assert_int_equal(node.port, 7003);
        assert_int_equal(node.shards, 3);
        assert_memory_equal(node.incarnation.bytes, s.actors[2].hello.incarnation.bytes, 16);
        assert_int_equal(s.pushed_before_home, 0);
        for (int i = 0; i < NODES; i++) {
            assert_int_equal(s.actors[i].decide, i == 0);
            assert_int_equal(s.actors[i].pushes, 1);
            assert_int_equal(s.actors[i].map_len, map.length);
            assert_memory_equal(s.actors[i].map, map.bytes, map.length);
            assert_true(s.actors[i].closed);
        }
        scene_end(&s);
    }
}

static void test_names_zones_numbers(void **state)
{
    /* What the plan says is what the map says. */
    (void)state;
    struct scene s;
    struct map map;
    struct map_node node;
    const char *message;
    struct kho_cluster_plan plan = plan_of_three;
    plan.names = "north,mid,south";
    plan.zones = "z1,z1,z2";
    plan.replicas = 2;
    plan.write_quorum = 2;
    scene_begin(&s);
    assert_int_equal(run(&s, &plan, &message, &map), 0);
    assert_int_equal(map.replicas, 2);
    assert_int_equal(map.read_quorum, 1);
    map_node(&map, 0, &node);
    assert_string_equal(node.name, "north");
    for (uint32_t p = 0; p < map.partitions; p++) /* two zones: each partition stands in both */
        assert_true(map_replica(&map, p, 0) == 2 || map_replica(&map, p, 1) == 2);
    scene_end(&s);
}

static void test_same_seed_same_map(void **state)
{
    /* The generator is the only source of chance. */
    (void)state;
    struct scene a, b;
    struct map map_a, map_b;
    const char *message;
    scene_begin(&a);
    scene_begin(&b);
    assert_int_equal(run(&a, &plan_of_three, &message, &map_a), 0);
    assert_int_equal(run(&b, &plan_of_three, &message, &map_b), 0);
    assert_int_equal(map_a.hash, map_b.hash);
    scene_end(&a);
    scene_end(&b);
}

static void expect_refusal(struct scene *s, int status, const char *node, const char *cause)
{
    const char *message;
    assert_int_equal(run(s, &plan_of_three, &message, NULL), status);
    if (strstr(message, node) == NULL || strstr(message, cause) == NULL)
        fail_msg("'%s' doesn't name '%s' and '%s'", message, node, cause);
    for (int i = 0; i < NODES; i++) {
        assert_int_equal(s->actors[i].pushes, 0);
        assert_true(s->actors[i].closed);
    }
    scene_end(s);
}

static void test_refusals(void **state)
{
    /* Nothing is made, all connections are closed, and the sentence says where and why. */
    (void)state;
    struct scene s;
    scene_begin(&s);
    s.actors[1].hello.epoch = 7;
    memset(s.actors[1].hello.cluster.bytes, 9, 16);
    expect_refusal(&s, -EEXIST, "b (host-b:7002)", "epoch 7");
    scene_begin(&s);
    s.actors[2].connect = -ECONNREFUSED;
    expect_refusal(&s, -ECONNREFUSED, "c (fd00::3:7003)", "can't be reached");
    scene_begin(&s);
    s.actors[2].hello.incarnation = s.actors[0].hello.incarnation;
    expect_refusal(&s, -EEXIST, "a (10.0.0.1:7001)", "same node");
    scene_begin(&s);
    s.actors[1].mute = true;
    expect_refusal(&s, KHO_EDEADLINE, "b (host-b:7002)", "3000 ms");
    scene_begin(&s);
    s.actors[0].hello.status = KHO_EVERSION;
    expect_refusal(&s, KHO_EVERSION, "a (10.0.0.1:7001)", "refused HELLO");
    scene_begin(&s);
    s.actors[0].hello.shard_count = 0;
    expect_refusal(&s, KHO_EMALFORMED, "a (10.0.0.1:7001)", "HELLO");
}

static void test_home_refuses(void **state)
{
    /* Where the home doesn't take the map there is no cluster, and nobody else hears of it. */
    (void)state;
    struct scene s;
    const char *message;
    scene_begin(&s);
    s.actors[0].push = KHO_EEPOCHOLD;
    assert_int_equal(run(&s, &plan_of_three, &message, NULL), KHO_EEPOCHOLD);
    assert_int_equal(s.actors[1].pushes + s.actors[2].pushes, 0);
    assert_non_null(strstr(message, "a (10.0.0.1:7001)"));
    scene_end(&s);
}

static void test_another_refuses(void **state)
{
    /* Once the home has decided the cluster exists: the map is handed out with the failure. */
    (void)state;
    struct scene s;
    struct map map;
    const char *message;
    scene_begin(&s);
    s.actors[2].push = KHO_ENOSPACE;
    assert_int_equal(run(&s, &plan_of_three, &message, &map), KHO_ENOSPACE);
    assert_non_null(strstr(message, "c (fd00::3:7003)"));
    assert_non_null(strstr(message, "kho repair"));
    scene_end(&s);
}

static void test_garbage(void **state)
{
    /* Bytes that are no kho message end the attempt, whatever they are. */
    (void)state;
    struct kho_random random;
    kho_random_init(&random, 3);
    for (int round = 0; round < 200; round++) {
        struct scene s;
        uint8_t bytes[400];
        int status;
        const char *message;
        const uint8_t *map;
        size_t map_len;
        scene_begin(&s);
        s.actors[0].mute = s.actors[1].mute = s.actors[2].mute = true;
        assert_int_equal(cluster_init_create(&plan_of_three, 3000, 42, s.now, &s.init), 0);
        play(&s);
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)kho_random_next(&random);
        deliver(&s, (int32_t)(round % NODES), bytes, sizeof bytes);
        play(&s);
        assert_true(cluster_init_done(s.init, &status, &message, &map, &map_len));
        assert_int_equal(status, KHO_EMALFORMED);
        scene_end(&s);
    }
}

static void test_plans(void **state)
{
    /* A plan that can't work is refused before anything is connected. */
    (void)state;
    static const struct {
        const char *addresses, *names, *zones;
        uint32_t partitions;
        unsigned r, w, q;
        const char *says;
    } plans[] = {
        {"", NULL, NULL, 0, 0, 0, 0, "no addresses"},
        {"host", NULL, NULL, 0, 0, 0, 0, "'host' isn't HOST:PORT"},
        {"host:0", NULL, NULL, 0, 0, 0, 0, "HOST:PORT"},
        {"host:65536", NULL, NULL, 0, 0, 0, 0, "HOST:PORT"},
        {"h:1,,k:2", NULL, NULL, 0, 0, 0, 0, "HOST:PORT"},
        {"fd00::3:7003", NULL, NULL, 0, 0, 0, 0, "[::1]:7001"},
        {"h:1,h:1", NULL, NULL, 0, 0, 0, 0, "twice"},
        {"h:1,k:2", "a", NULL, 0, 0, 0, 0, "1 names for 2 nodes"},
        {"h:1,k:2", "a,a", NULL, 0, 0, 0, 0, "unique"},
        {"h:1,k:2", "a,B", NULL, 0, 0, 0, 0, "'B'"},
        {"h:1,k:2", NULL, "z", 0, 0, 0, 0, "1 zones for 2 nodes"},
        {"h:1,k:2", NULL, NULL, 100, 0, 0, 0, "power of two"},
        {"h:1,k:2", NULL, NULL, 16384, 0, 0, 0, "power of two"},
        {"h:1,k:2", NULL, NULL, 0, 3, 0, 0, "3 replicas"},
        {"h:1,k:2,l:3", NULL, NULL, 0, 3, 1, 2, "quorum"},
        {"h:1,k:2,l:3", NULL, NULL, 0, 3, 4, 0, "quorum"},
        {"a:1,b:1,c:1,d:1,e:1,f:1,g:1", NULL, NULL, 8192, 7, 0, 0, "bytes of at most"},
    };
    for (size_t i = 0; i < KHO_COUNT_OF(plans); i++) {
        struct kho_cluster_plan plan = {
            .struct_size = sizeof plan,
            .addresses = plans[i].addresses,
            .names = plans[i].names,
            .zones = plans[i].zones,
            .partitions = plans[i].partitions,
            .replicas = plans[i].r,
            .write_quorum = plans[i].w,
            .read_quorum = plans[i].q,
        };
        struct scene s;
        const char *message;
        scene_begin(&s);
        assert_true(run(&s, &plan, &message, NULL) < 0);
        if (strstr(message, plans[i].says) == NULL)
            fail_msg("'%s' doesn't say '%s'", message, plans[i].says);
        assert_null(cluster_init_next_op(s.init));
        scene_end(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_nodes),
        cmocka_unit_test(test_names_zones_numbers),
        cmocka_unit_test(test_same_seed_same_map),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_home_refuses),
        cmocka_unit_test(test_another_refuses),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_plans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
