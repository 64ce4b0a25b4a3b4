/* store_rig.c: drives a store over a disk in memory (store_rig.h). */
#include "store_rig.h"

#include "node/depot.h"

#include <kho/map.h>
#include <kho/piece.h>

static const struct kho_id RIG_INCARNATION = {{1, 2, 3, 4, 5, 6, 7, 8, 9}};
static const struct kho_id RIG_CLUSTER = {{9, 9, 9, 9}};

void rig_init(struct rig *rig)
{
    memset(rig, 0, sizeof *rig);
    memory_disk_init(&rig->disk);
    rig->options = (struct shard_options){
        .shard_count = 1,
        .incarnation = RIG_INCARNATION,
        .seed = 1,
        .segment_bytes = 4u << 20,
        .alignment = 4096,
        .memory_max = 128u << 20,
        .connections_max = 1,
        .commits_max = 4,
        .footer_entries = FOOTER_ENTRIES,
        .idle_mark_ms = 50,
        .reserve_bytes = 1u << 20,
    };
    rig->now = (struct kho_now){.mono_ns = 1000000000, .wall_ms = 1700000000000};
    rig->crash_at = UINT64_MAX;
}

static void rig_drop(struct rig *rig)
{
    store_destroy(rig->store);
    rig->store = NULL;
    rig->held_count = 0;
    rig->crashed = false;
    if (rig->world.memory_max != 0)
        KHO_ASSERT(rig->world.memory_bytes == 0);
}

void rig_fini(struct rig *rig)
{
    rig_drop(rig);
    memory_disk_fini(&rig->disk);
}

static void rig_events(struct rig *rig)
{
    struct shard_world *world = &rig->world;
    while (world->event_count > 0) {
        const struct event *event = &world->events[world->event_head];
        if (event->level >= EVENT_WARNING)
            memcpy(rig->last_event, event->text, sizeof rig->last_event);
#ifdef KHO_RIG_EVENTS
        fprintf(stderr, "  [%d] %s\n", event->level, event->text);
#endif
        world->event_head = (world->event_head + 1) % KHO_COUNT_OF(world->events);
        world->event_count--;
    }
}

/* One turn; true if ops were carried out. */
static bool rig_turn(struct rig *rig)
{
    struct op *ops[RIG_OPS];
    uint32_t count = 0;
    struct queue *link;
    store_turn_end(rig->store, rig->now);
    while ((link = queue_pop(&rig->world.outbox)) != NULL) {
        struct op *op = KHO_CONTAINER_OF(link, struct op, link);
        KHO_ASSERT(count < RIG_OPS);
        bool commit = op->kind == OP_WRITE && (op->flags & OP_WRITE_DURABLE) != 0;
        bool hold = (rig->hold_commits && commit) ||
                    (rig->hold_fetches && op->purpose == PURPOSE_FETCH) ||
                    (rig->holds != NULL && rig->holds(op));
        KHO_ASSERT(!hold || rig->held_count < RIG_OPS);
        if (hold)
            rig->held[rig->held_count++] = op;
        else
            ops[count++] = op;
    }
    rig_events(rig);
    for (uint32_t i = 0; i < count; i++) {
        struct op *op = ops[rig->reversed ? count - 1 - i : i];
        if (rig->disk.executed >= rig->crash_at) {
            rig->crashed = true;
            return false;
        }
        memory_disk_execute(&rig->disk, op);
        store_completed(rig->store, op, rig->now);
    }
    rig_events(rig);
    return count > 0;
}

void rig_run(struct rig *rig)
{
    for (uint32_t i = 0; i < 100000 && !rig->crashed; i++)
        if (!rig_turn(rig) && queue_empty(&rig->world.outbox))
            return;
    KHO_ASSERT(rig->crashed);
}

void rig_pass(struct rig *rig, uint64_t ms)
{
    rig->now.mono_ns += ms * 1000000;
    rig->now.wall_ms += ms;
    store_tick(rig->store, rig->now);
    rig_run(rig);
}

void rig_release(struct rig *rig)
{
    uint32_t count = rig->held_count;
    rig->held_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct op *op = rig->held[rig->reversed ? count - 1 - i : i];
        memory_disk_execute(&rig->disk, op);
        store_completed(rig->store, op, rig->now);
    }
}

void rig_start(struct rig *rig)
{
    struct file_found files[MEMORY_FILES];
    size_t count = memory_disk_list(&rig->disk, files, MEMORY_FILES);
    world_init(&rig->world, rig->options.memory_max, rig->options.seed);
    int error = store_create(&rig->options, &rig->world, &rig->store);
    KHO_ASSERT(error == 0);
    store_start(rig->store, files, count, rig->now);
    rig_run(rig);
}

void rig_stop(struct rig *rig)
{
    store_stop(rig->store, rig->now);
    rig_run(rig);
}

void rig_crash(struct rig *rig)
{
    rig_drop(rig);
    memory_disk_crash(&rig->disk);
    rig->crash_at = UINT64_MAX;
    rig_start(rig);
}

void rig_kill(struct rig *rig)
{
    rig_drop(rig);
    memset(rig->disk.handles, 0, sizeof rig->disk.handles);
    rig->disk.fail_count = 0;
    rig_start(rig);
}

void rig_map_build(struct rig *rig, uint64_t epoch, uint64_t readmitted, uint32_t since)
{
    struct map_node node = {.name = "a",
                            .incarnation = RIG_INCARNATION,
                            .address = "localhost",
                            .port = 4100,
                            .shards = 1,
                            .weight = 1,
                            .state = MAP_NODE_UP,
                            .since = 1,
                            .readmitted = readmitted};
    struct map_collection collections[2] = {
        {.name = "one", .id = 1, .replicas = 1, .separator = KHO_NO_SEPARATOR, .since = 1},
        {.name = "two", .id = 2, .replicas = 1, .separator = '/', .since = 1}};
    uint16_t table[RIG_PARTITIONS] = {0};
    uint32_t sinces[RIG_PARTITIONS];
    for (int i = 0; i < RIG_PARTITIONS; i++)
        sinces[i] = since;
    struct map_parts parts = {.cluster = RIG_CLUSTER,
                              .epoch = epoch,
                              .seed = RIG_SEED,
                              .partitions = RIG_PARTITIONS,
                              .replicas = 1,
                              .write_quorum = 1,
                              .read_quorum = 1,
                              .width = 1,
                              .node_count = 1,
                              .collection_count = 2,
                              .nodes = &node,
                              .collections = collections,
                              .table = table,
                              .since = sinces};
    KHO_ASSERT(map_size(&parts) <= sizeof rig->map);
    map_encode(&parts, rig->map);
    rig->map_bytes = map_size(&parts);
}

static int rig_done(struct rig *rig, enum store_done_kind kind)
{
    struct store_done done;
    int status = 1;
    while (store_next_done(rig->store, &done))
        if (done.kind == kind)
            status = done.status;
    return status;
}

int rig_map_set(struct rig *rig)
{
    bool done;
    int status = store_map_set(rig->store, rig->map, rig->map_bytes, rig, 0, rig->now, &done);
    if (status != 0 || done)
        return status;
    rig_run(rig);
    return rig_done(rig, STORE_DONE_MAP);
}

void rig_ready(struct rig *rig)
{
    rig_start(rig);
    KHO_ASSERT(store_phase(rig->store) == STORE_READY);
    rig_map_build(rig, 1, 0, 1);
    int status = rig_map_set(rig);
    KHO_ASSERT(status == 0);
    rig_run(rig);
}

struct rig_key rig_key(uint32_t collection, uint32_t number)
{
    struct rig_key key = {.collection = collection};
    key.key_len = (uint16_t)snprintf((char *)key.key, sizeof key.key, "citizen-%u/card", number);
    key.hash = key_hash(collection, key.key, key.key_len, RIG_SEED);
    key.partition =
        key_partition(collection, key.key, key.key_len, RIG_SEED,
                      collection == 2 ? '/' : KHO_NO_SEPARATOR, RIG_PARTITIONS, key.hash);
    return key;
}

/* Every other stretch of 32 bytes repeats, so that packed blocks compress. */
uint8_t *rig_value(uint64_t seed, uint32_t len)
{
    struct kho_random random;
    uint8_t *value = malloc(len > 0 ? len : 1);
    KHO_ASSERT(value != NULL);
    kho_random_init(&random, seed);
    for (uint32_t i = 0; i < len; i++)
        value[i] = i / 32 % 2 == 0 ? 'k' : (uint8_t)(kho_random_next(&random) >> 56);
    return value;
}

int rig_put(struct rig *rig, const struct rig_key *key, uint64_t counter, uint64_t seed,
            uint32_t len, bool copy, uint64_t *ret_sequence)
{
    bool tombstone = len == RIG_TOMBSTONE;
    uint8_t *value = rig_value(seed, tombstone ? 0 : len);
    struct record record = {.collection = key->collection,
                            .key_len = key->key_len,
                            .flags = tombstone ? KHO_RECORD_TOMBSTONE : 0,
                            .version = {.counter = counter, .writer = 5},
                            .raw_len = tombstone ? 0 : len,
                            .stored_len = tombstone ? 0 : len,
                            .key = key->key,
                            .value = value};
    uint64_t sequence;
    if (!tombstone)
        record.hash = content_hash(value, len);
    uint8_t *packed = NULL;
    if (rig->packed && record.raw_len > 0) {
        packed = malloc(value_packed_max(len));
        KHO_ASSERT(packed != NULL);
        uint32_t packed_len = value_pack(value, len, packed);
        if (packed_len > 0) {
            record.codec = KHO_CODEC_LZ4;
            record.value = packed;
            record.stored_len = packed_len;
        }
    }
    int status = store_write(rig->store, key->partition, key->hash, &record, copy, 0, rig->now,
                             ret_sequence != NULL ? ret_sequence : &sequence);
    free(value);
    free(packed);
    return status;
}

static bool rig_matches(const struct store_read *read, const struct rig_key *key, uint64_t counter,
                        uint64_t seed, uint32_t len)
{
    const struct record *r = &read->record;
    bool tombstone = len == RIG_TOMBSTONE;
    if (read->state != (tombstone ? WIRE_TOMBSTONE : WIRE_PRESENT) ||
        r->version.counter != counter || r->version.writer != 5 || r->key_len != key->key_len ||
        memcmp(r->key, key->key, r->key_len) != 0)
        return false;
    if (tombstone)
        return true;
    uint8_t *value = rig_value(seed, len), *read_value = malloc(len + 1);
    KHO_ASSERT(read_value != NULL);
    bool same = r->raw_len == len && value_unpack(r, read_value) == 0 &&
                memcmp(value, read_value, len) == 0;
    free(value);
    free(read_value);
    return same;
}

int rig_check(struct rig *rig, const struct rig_key *key, uint64_t counter, uint64_t seed,
              uint32_t len)
{
    struct store_read read = {.collection = key->collection,
                              .partition = key->partition,
                              .hash = key->hash,
                              .key = key->key,
                              .key_len = key->key_len};
    struct store_done done;
    if (!store_read(rig->store, &read, rig->now)) {
        rig_run(rig);
        bool finished = store_next_done(rig->store, &done);
        KHO_ASSERT(finished && done.kind == STORE_DONE_READ && done.read == &read);
    }
    int status = read.status;
    if (status == 0)
        status = read.state == WIRE_ABSENT ? KHO_ENOTFOUND
                                           : !rig_matches(&read, key, counter, seed, len);
    store_read_end(rig->store, &read);
    return status;
}

uint8_t rig_probe(struct rig *rig, const struct rig_key *key, struct version *ret_version)
{
    struct wire_probe_answer answer;
    store_probe(rig->store, key->collection, key->partition, key->hash, &answer);
    if (ret_version != NULL)
        *ret_version = answer.version;
    return answer.state;
}

int rig_close_episodes(struct rig *rig)
{
    struct wire_episode episode;
    while (store_episodes(rig->store, &episode, 1) > 0) {
        int status = store_episode_close(rig->store, episode.id, episode.first_partition, rig, 0);
        if (status != 0)
            return status;
    }
    rig_run(rig);
    return rig_done(rig, STORE_DONE_EPISODE);
}
