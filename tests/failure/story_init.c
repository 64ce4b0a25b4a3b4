/* story_init.c: a cluster is made from three nodes that the story plays; files are split into
 * records. A failure ends either with a code and, of the cluster, a sentence; tried again, all is
 * well. */
#include "stories.h"

#include "client/cli/format.h"
#include "client/client.h"
#include "client/plan.h"

#include <errno.h>
#include <kho/map.h>
#include <kho/wire.h>

/* --- A cluster is made ------------------------------------------------------------------------ */

enum { NODES = 3 };

struct scene {
    struct cluster_init *init;
    struct kho_now now;
    bool greeted[NODES];
    bool open[NODES];
    bool made[NODES]; /* has a map */
};

static const struct kho_cluster_plan plan_of_three = {
    .struct_size = sizeof plan_of_three,
    .addresses = "10.0.0.1:7001,host-b:7002,[fd00::3]:7003",
    .names = "north,mid,south",
    .zones = "z1,z2,z3",
    .partitions = 64,
};

static void answer(struct scene *s, const struct client_op *op)
{
    uint8_t bytes[KHO_HELLO_NODE_SIZE > KHO_FRAME_HEAD ? KHO_HELLO_NODE_SIZE : KHO_FRAME_HEAD];
    int32_t conn = op->conn;
    if (!s->greeted[conn]) {
        struct wire_hello_node hello = {.protocol = KHO_PROTOCOL, .shard_count = 1};
        memset(hello.incarnation.bytes, 0x10 + conn, 16);
        wire_hello_node_encode(&hello, bytes);
        s->greeted[conn] = true;
        cluster_init_received(s->init, conn, bytes, KHO_HELLO_NODE_SIZE, s->now);
        return;
    }
    struct wire_head head = {0};
    if (wire_frame_decode(op->data, &head) != 0 || head.type != WIRE_MAP_PUSH)
        failure_violation("a node was sent something else than a map");
    struct wire_head told = {
        .length = KHO_FRAME_HEAD, .type = WIRE_MAP_PUSH, .request = head.request};
    wire_frame_seal(bytes, &told, true);
    s->made[conn] = true;
    cluster_init_received(s->init, conn, bytes, KHO_FRAME_HEAD, s->now);
}

static void play(struct scene *s)
{
    struct client_op *op;
    while ((op = cluster_init_next_op(s->init)) != NULL) {
        struct client_op copy = *op;
        KHO_ASSERT(op->conn >= 0 && op->conn < NODES);
        int error = failure_chance(FAILURE_CLIENT_NET, op->kind);
        op->result = error;
        if (op->kind == CLIENT_OP_CONNECT)
            s->open[op->conn] = error == 0;
        if (op->kind == CLIENT_OP_CLOSE)
            s->open[op->conn] = false;
        cluster_init_completed(s->init, op, s->now);
        if (copy.kind == CLIENT_OP_SEND && error == 0 && s->open[copy.conn])
            answer(s, &copy);
    }
}

/* Returns the status it ended with. */
static int make(void)
{
    struct scene s = {.now = {.mono_ns = 5000000000u, .wall_ms = 1700000000000u}};
    const char *message = NULL;
    const uint8_t *map_bytes = NULL;
    size_t map_len = 0;
    struct map map;
    int status = 0;
    int rc = cluster_init_create(&plan_of_three, 3000, 42, s.now, &s.init);
    failure_typed(rc, "cluster_init_create");
    if (rc != 0)
        return rc;
    play(&s);
    for (int i = 0; i < 10 && !cluster_init_done(s.init, &status, &message, &map_bytes, &map_len);
         i++) {
        uint64_t at = cluster_init_deadline(s.init);
        if (at == UINT64_MAX)
            break;
        s.now.mono_ns = kho_max(at, s.now.mono_ns);
        cluster_init_tick(s.init, s.now);
        play(&s);
    }
    if (!cluster_init_done(s.init, &status, &message, &map_bytes, &map_len))
        failure_violation("the making of a cluster never ends");
    failure_typed(status, "the making of a cluster");
    if (status != 0 && (message == NULL || message[0] == '\0'))
        failure_violation("it ended with %d and no sentence", status);
    if (status == 0 && (map_bytes == NULL || map_decode(map_bytes, map_len, &map) != 0 ||
                        map.node_count != NODES || !s.made[0]))
        failure_violation("it succeeded without a map");
    for (int i = 0; i < NODES; i++)
        if (s.open[i])
            failure_violation("connection %d stays open", i);
    cluster_init_destroy(s.init);
    return status;
}

void story_init(void)
{
    failure_begin();
    make();
    failure_end();
    failure_check_heap();
    if (make() != 0)
        failure_violation("no cluster can be made when all is well");
    failure_check_heap();
}

/* --- Files are split -------------------------------------------------------------------------- */

/* The files are well formed: a record may be refused for want of memory only. */
static void told(const struct splitter *s, int rc, int *records)
{
    *records += rc == 1;
    if (rc < 0 && rc != -ENOMEM)
        failure_violation("a good record is refused: %.300s", s->message);
}

/* Returns the records found, or -ENOMEM. */
static int split(const struct format *format, const char *text, size_t repeats)
{
    struct splitter_options options = {.format = format, .source = "file"};
    struct splitter s;
    struct format_record record;
    int records = 0, rc;
    splitter_init(&s, &options);
    for (size_t i = 0; i < repeats; i++) {
        size_t room, len = strlen(text);
        uint8_t *to = splitter_room(&s, &room);
        if (to == NULL) {
            /* The caller may give up here, or go on when there is memory: nothing is lost. */
            to = splitter_room(&s, &room);
            if (to == NULL) {
                splitter_fini(&s);
                return -ENOMEM;
            }
        }
        KHO_ASSERT(room >= len);
        memcpy(to, text, len);
        splitter_filled(&s, len);
        while ((rc = splitter_next(&s, &record)) != 0)
            told(&s, rc, &records);
    }
    splitter_end(&s);
    while ((rc = splitter_next(&s, &record)) != 0)
        told(&s, rc, &records);
    splitter_fini(&s);
    return records;
}

void story_formats(void)
{
    static const struct {
        const struct format *format;
        const char *text;
        size_t repeats;
        int records;
    } files[] = {
        {&format_deb822, "Package: a\nTag: x,\n y\n\n", 5, 5},
        {&format_jsonl, "{\"id\":\"a\",\"n\":[1,2.5],\"o\":{\"x\":null}}\n", 5, 5},
        {&format_csv, "id,name\n", 5, 4},
        {&format_lines, "one\n", 5, 5},
        /* One record of many pieces: the buffer grows. */
        {&format_lines, "no end of this line in sight, it goes on and on, ", 20000, 1},
    };
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 0)
            failure_begin();
        else
            failure_end();
        for (size_t i = 0; i < KHO_COUNT_OF(files); i++) {
            int records = split(files[i].format, files[i].text, files[i].repeats);
            bool excused = pass == 0 && failure_is(FAILURE_CLIENT_HEAP);
            if (records != files[i].records && !excused)
                failure_violation("%s: %d records of %d", files[i].format->name, records,
                                  files[i].records);
            if (records > files[i].records)
                failure_violation("%s: too many records", files[i].format->name);
        }
        failure_check_heap();
    }
}
