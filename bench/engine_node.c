/* engine_node.c: the loop of one shard without its sockets, after node/driver.c.
 *
 * Warnings and errors of the core go to standard error, as in kho-node. A start that fails, a ring
 * that breaks, a store that becomes read-only end the bench: a figure of half a node is none. */
#include "engine_node.h"

#include <assert.h>
#include <errno.h>

#include <kho/kho.h>
#include <kho/map.h>

#include "clock.h"
#include "journal.h"

enum { TASKS = 4096, WATCH_NS = 50000 /* kho-node's --watch-us */ };
static_assert((int)URING_ERROR_MAX <= (int)FOLDER_ERROR_MAX, "one buffer serves both");

static const struct kho_id CLUSTER = {{'b', 'e', 'n', 'c', 'h'}};
static const struct kho_id INCARNATION = {{'e', 'n', 'g', 'i', 'n', 'e'}};

static int complain(const char *what, const char *why)
{
    fprintf(stderr, "kho-bench: %s: %s\n", what, why);
    return -1;
}

static struct kho_now time_read(void)
{
    return (struct kho_now){.mono_ns = clock_ns(), .wall_ms = clock_wall_ms()};
}

/* --- Turns ------------------------------------------------------------------------------------ */

static uint64_t node_deadline(const struct node *node)
{
    return node->shard != NULL ? shard_deadline(node->shard) : store_deadline(node->store);
}

void node_turn_begin(struct node *node)
{
    struct queue *link;
    node->now = time_read();
    uring_reap(node->uring);
    while ((link = queue_pop(&node->done)) != NULL) {
        struct op *op = KHO_CONTAINER_OF(link, struct op, link);
        KHO_ASSERT(node->under_way > 0);
        node->under_way--;
        if (node->shard != NULL)
            shard_completed(node->shard, op, node->now);
        else
            store_completed(node->store, op, node->now);
    }
    disk_tick(node->disk, node->now);
    if (node_deadline(node) > node->now.mono_ns)
        return;
    if (node->shard != NULL)
        shard_tick(node->shard, node->now);
    else
        store_tick(node->store, node->now);
}

/* The store's events, as shard_next_event() gives the shard's. */
static bool event_next(struct node *node, struct event *ret_event)
{
    struct shard_world *world = &node->world;
    if (node->shard != NULL)
        return shard_next_event(node->shard, ret_event);
    if (world->event_count == 0)
        return false;
    *ret_event = world->events[world->event_head];
    world->event_head = (world->event_head + 1) % KHO_COUNT_OF(world->events);
    world->event_count--;
    return true;
}

static struct op *op_next(struct node *node)
{
    if (node->shard != NULL)
        return shard_next_op(node->shard);
    struct queue *link = queue_pop(&node->world.outbox);
    return link != NULL ? KHO_CONTAINER_OF(link, struct op, link) : NULL;
}

static void outputs_carry(struct node *node)
{
    struct op *op;
    struct event event;
    while ((op = op_next(node)) != NULL) {
        node->under_way++;
        queue_init(&op->link);
        if (op->kind >= OP_SEND)
            queue_push(&node->sockets, &op->link);
        else
            disk_start(node->disk, op, node->now);
    }
    while (event_next(node, &event))
        journal_write((enum event_level)event.level, "%s", event.text);
}

static int node_fails(const struct node *node)
{
    if (node->shard != NULL) {
        if (shard_phase(node->shard) == SHARD_FAILED)
            return complain("the node", "its shard can't start");
        return 0;
    }
    if (store_phase(node->store) == STORE_FAILED)
        return complain("the node", "its store can't start");
    return store_failed(node->store) == 0 ? 0 : complain("the node", "a write to its disk failed");
}

static uint64_t wait_ns(const struct node *node)
{
    uint64_t deadline = kho_min(node_deadline(node), disk_deadline(node->disk));
    if (deadline == UINT64_MAX)
        return UINT64_MAX;
    return deadline > node->now.mono_ns ? deadline - node->now.mono_ns : 0;
}

int node_turn_end(struct node *node, bool wait)
{
    if (node->shard != NULL)
        shard_turn_end(node->shard, node->now);
    else
        store_turn_end(node->store, node->now);
    outputs_carry(node);
    bool idle = node->under_way > 0 && queue_empty(&node->done) && queue_empty(&node->sockets);
    int code = uring_wait(node->uring, wait && idle ? wait_ns(node) : 0);
    return code != 0 ? complain("the ring", strerror(-code)) : node_fails(node);
}

int node_settle(struct node *node)
{
    int error = 0;
    do {
        node_turn_begin(node);
        error = node_turn_end(node, true);
    } while (error == 0 && node->under_way > 0 && queue_empty(&node->sockets));
    return error;
}

uint64_t node_stat(const struct node *node, enum wire_stat stat)
{
    uint64_t stats[STAT_COUNT] = {0};
    if (node->shard != NULL)
        return shard_stat(node->shard, stat);
    store_stats(node->store, stats);
    return stats[stat];
}

/* --- Life ------------------------------------------------------------------------------------- */

int node_init(const char *path, uint32_t segment_mib)
{
    char error[FOLDER_ERROR_MAX];
    struct identity identity = {.incarnation = INCARNATION,
                                .shard_count = 1,
                                .segment_bytes = (uint64_t)segment_mib << 20,
                                .created_ms = time_read().wall_ms};
    if (folder_init(path, &identity, error) != 0) {
        fprintf(stderr, "kho-bench: %s\n", error);
        return -1;
    }
    return 0;
}

/* A map of this node alone. */
static int map_bring(struct node *node)
{
    struct map_node self = {.name = "bench",
                            .incarnation = INCARNATION,
                            .address = "127.0.0.1",
                            .port = 1,
                            .shards = 1,
                            .weight = 1,
                            .state = MAP_NODE_UP,
                            .since = 1};
    struct map_collection collection = {.name = "herd",
                                        .id = HERD_COLLECTION,
                                        .replicas = 1,
                                        .separator = KHO_NO_SEPARATOR,
                                        .since = 1};
    static const uint16_t table[NODE_PARTITIONS];
    static uint32_t since[NODE_PARTITIONS];
    for (uint32_t i = 0; i < NODE_PARTITIONS; i++)
        since[i] = 1;
    struct map_parts parts = {.cluster = CLUSTER,
                              .epoch = 1,
                              .seed = NODE_SEED,
                              .partitions = NODE_PARTITIONS,
                              .replicas = 1,
                              .write_quorum = 1,
                              .read_quorum = 1,
                              .width = 1,
                              .node_count = 1,
                              .collection_count = 1,
                              .nodes = &self,
                              .collections = &collection,
                              .table = table,
                              .since = since};
    uint8_t *bytes = malloc(map_size(&parts));
    bool done = false;
    int status = bytes == NULL ? -ENOMEM : 0;
    if (status == 0) {
        map_encode(&parts, bytes);
        status = store_map_set(node->store, bytes, map_size(&parts), NULL, 0, node->now, &done);
    }
    free(bytes);
    while (status == 0 && !done) {
        struct store_done ended;
        node_turn_begin(node);
        if (store_next_done(node->store, &ended)) {
            done = ended.kind == STORE_DONE_MAP;
            status = ended.status;
        }
        if (node_turn_end(node, !done) != 0)
            return -1;
    }
    return status == 0 ? 0 : complain("the bench's map", kho_strerror(status));
}

static bool starting(const struct node *node)
{
    if (node->shard != NULL)
        return shard_phase(node->shard) == SHARD_STARTING;
    return store_phase(node->store) == STORE_STARTING;
}

/* Turns until it serves. */
static int start_await(struct node *node, const char *path, double *ret_seconds)
{
    uint64_t began_ns = clock_ns();
    const struct shard_folder *folder = &node->folder.shards[0];
    node->now = time_read();
    if (node->shard != NULL)
        shard_start(node->shard, folder->files, folder->file_count, node->now);
    else
        store_start(node->store, folder->files, folder->file_count, node->now);
    while (starting(node)) {
        node_turn_begin(node);
        if (node_turn_end(node, true) != 0)
            return complain(path, "it can't be served");
    }
    if (ret_seconds != NULL)
        *ret_seconds = (double)(clock_ns() - began_ns) / 1e9;
    if (node->store != NULL && store_map(node->store) == NULL && map_bring(node) != 0)
        return -1;
    return node_settle(node);
}

/* The folder, the ring, the disk. */
static int driver_open(struct node *node, const char *path)
{
    char error[FOLDER_ERROR_MAX];
    bool refused;
    *node = (struct node){.folder = {.fd = -1, .lock_fd = -1}};
    queue_init(&node->done);
    queue_init(&node->sockets);
    if (folder_open(path, &node->folder, error) != 0) {
        fprintf(stderr, "kho-bench: %s\n", error);
        return -1;
    }
    node->uring = uring_create(TASKS, error, &refused);
    if (node->uring == NULL) {
        folder_close(&node->folder);
        return complain("io_uring", error);
    }
    uring_watch(node->uring, WATCH_NS);
    node->disk = disk_create(node->uring, &node->folder.shards[0], &node->done);
    if (node->disk == NULL) {
        node_drop(node);
        return complain("the disk driver", strerror(ENOMEM));
    }
    return 0;
}

/* What is opened. */
enum core { CORE_STORE, CORE_STILL_STORE, CORE_SHARD };

/* Where it can't, it goes on without, as a node does. */
static void areas_register(struct node *node)
{
    struct io_area areas[IO_AREAS_MAX];
    uint32_t count =
        node->shard != NULL ? shard_areas(node->shard, areas) : store_areas(node->store, areas);
    uring_register(node->uring, areas, count);
}

static int core_open(struct node *node, const char *path, uint64_t memory, enum core core,
                     double *ret_seconds)
{
    if (driver_open(node, path) != 0)
        return -1;
    struct shard_options *options = &node->options;
    shard_options_init(options);
    options->incarnation = node->folder.identity.incarnation;
    options->segment_bytes = node->folder.identity.segment_bytes;
    options->alignment = node->folder.shards[0].alignment;
    options->memory_max = memory;
    options->connections_max = 1;
    options->reserve_bytes = (uint64_t)64 << 20;
    world_init(&node->world, memory, 1);
    if (core == CORE_STILL_STORE)
        options->compact_rate = 0;
    int code = core == CORE_SHARD ? shard_create(options, &node->shard)
                                  : store_create(options, &node->world, &node->store);
    if (code == 0)
        areas_register(node);
    if (code != 0 || start_await(node, path, ret_seconds) != 0) {
        node_drop(node);
        return code != 0 ? complain("the shard", strerror(-code)) : -1;
    }
    return 0;
}

int node_open(struct node *node, const char *path, uint64_t memory, double *ret_seconds)
{
    return core_open(node, path, memory, CORE_STORE, ret_seconds);
}

int node_open_still(struct node *node, const char *path, uint64_t memory)
{
    return core_open(node, path, memory, CORE_STILL_STORE, NULL);
}

int node_open_shard(struct node *node, const char *path, uint64_t memory)
{
    return core_open(node, path, memory, CORE_SHARD, NULL);
}

void node_drop(struct node *node)
{
    while (queue_pop(&node->sockets) != NULL)
        node->under_way--;
    /* The kernel may still write into the ops' buffers. */
    for (;;) {
        while (queue_pop(&node->done) != NULL)
            node->under_way--;
        if (node->under_way == 0 || uring_wait(node->uring, UINT64_MAX) != 0)
            break;
        disk_tick(node->disk, time_read());
        uring_reap(node->uring);
    }
    uring_destroy(node->uring);
    disk_destroy(node->disk);
    store_destroy(node->store);
    shard_destroy(node->shard);
    folder_close(&node->folder);
    *node = (struct node){.folder = {.fd = -1, .lock_fd = -1}};
}

int node_close(struct node *node)
{
    int error = 0;
    store_stop(node->store, node->now);
    while (error == 0 && store_phase(node->store) != STORE_STOPPED) {
        node_turn_begin(node);
        error = node_turn_end(node, true);
    }
    node_drop(node);
    return error;
}
