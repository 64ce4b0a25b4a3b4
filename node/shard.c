/* shard.c: the door: inputs of the driver go to the store and to the serving side, their ops and
 * events come out of the world that both share.
 *
 * A shard starts (the store recovers), serves, stops (requests end, the store marks the end of its
 * log, connections close) and has stopped. It fails only at its start; a disk that fails later
 * leaves it serving reads (R4). */
#include "shard.h"

#include "footer.h"
#include "serve.h"

#include <errno.h>

struct shard {
    struct shard_options options;
    struct shard_world world;
    struct serve serve;
    struct store *store;
    bool stopping;
    bool store_stopping;
    bool failed;
    uint64_t stop_deadline_ns;
};

/* How long clients may take their last answers when the shard stops. */
static const uint64_t SHARD_STOP_NS = 5ull * 1000 * 1000 * 1000;

/* --- Life ------------------------------------------------------------------------------------- */

void shard_options_init(struct shard_options *options)
{
    *options = (struct shard_options){
        .shard = 0,
        .shard_count = 1,
        .seed = 1,
        .segment_bytes = 256u << 20,
        .alignment = 4096,
        .memory_max = 1ull << 30,
        .connections_max = 1024,
        .commits_max = 4,
        .footer_entries = FOOTER_ENTRIES,
        .idle_mark_ms = 50,
        .reserve_bytes = 1ull << 30,
        .compact_rate = 64u << 20,
        .compact_dead_percent = 50,
        .scrub_ms = 14ull * 24 * 3600 * 1000,
    };
}

static bool shard_options_valid(const struct shard_options *o)
{
    uint64_t mib = 1u << 20;
    if (o->shard_count < 1 || o->shard_count > 256 || o->shard >= o->shard_count)
        return false;
    if (o->segment_bytes < mib || o->segment_bytes > 256 * mib || o->segment_bytes % mib != 0)
        return false;
    if (o->alignment < 512 || o->alignment > 65536 || (o->alignment & (o->alignment - 1)) != 0)
        return false;
    if (o->compact_dead_percent < 10 || o->compact_dead_percent > 90)
        return false;
    return o->memory_max >= 64 * mib && o->connections_max >= 1 &&
           o->connections_max <= (1u << 16) && o->footer_entries >= 1 &&
           o->footer_entries <= FOOTER_ENTRIES && o->commits_max >= 1 && o->commits_max <= 16;
}

int shard_create(const struct shard_options *options, struct shard **ret_shard)
{
    if (!shard_options_valid(options))
        return -EINVAL;
    struct shard *shard = calloc(1, sizeof *shard);
    if (shard == NULL)
        return -ENOMEM;
    shard->options = *options;
    shard->stop_deadline_ns = UINT64_MAX;
    world_init(&shard->world, options->memory_max, options->seed);
    int status = serve_init(&shard->serve, &shard->options, &shard->world);
    if (status == 0)
        status = store_create(&shard->options, &shard->world, &shard->store);
    if (status < 0) {
        shard_destroy(shard);
        return status;
    }
    serve_attach(&shard->serve, shard->store);
    *ret_shard = shard;
    return 0;
}

void shard_destroy(struct shard *shard)
{
    if (shard == NULL)
        return;
    store_destroy(shard->store);
    serve_fini(&shard->serve);
    free(shard);
}

void shard_start(struct shard *shard, const struct file_found *files, size_t count,
                 struct kho_now now)
{
    shard->serve.host.now = now;
    store_start(shard->store, files, count, now);
}

static bool shard_all_ended(const struct shard *shard)
{
    enum store_phase phase = store_phase(shard->store);
    return shard->store_stopping && shard->serve.host.open == 0 &&
           (phase == STORE_STOPPED || phase == STORE_FAILED);
}

enum shard_phase shard_phase(const struct shard *shard)
{
    enum store_phase phase = store_phase(shard->store);
    if (shard->stopping)
        return shard_all_ended(shard) ? SHARD_STOPPED : SHARD_STOPPING;
    if (phase == STORE_FAILED)
        return SHARD_FAILED;
    return phase == STORE_STARTING ? SHARD_STARTING : SHARD_SERVING;
}

void shard_progress(const struct shard *shard, uint64_t *ret_done, uint64_t *ret_total)
{
    store_progress(shard->store, ret_done, ret_total);
}

/* --- Inputs ----------------------------------------------------------------------------------- */

void shard_accepted(struct shard *shard, int32_t conn, const struct wire_hello_client *hello,
                    struct kho_now now)
{
    int refusal = 0;
    if (shard_phase(shard) == SHARD_STARTING)
        refusal = KHO_EUNAVAILABLE;
    else if (shard_phase(shard) != SHARD_SERVING)
        refusal = KHO_ESTOPPING;
    shard->serve.host.now = now;
    serve_accepted(&shard->serve, conn, hello, refusal);
}

void shard_received(struct shard *shard, int32_t conn, const uint8_t *bytes, size_t len,
                    struct kho_now now)
{
    shard->serve.host.now = now;
    serve_received(&shard->serve, conn, bytes, len);
}

void shard_disconnected(struct shard *shard, int32_t conn, int error, struct kho_now now)
{
    shard->serve.host.now = now;
    serve_disconnected(&shard->serve, conn, error);
}

void shard_completed(struct shard *shard, struct op *op, struct kho_now now)
{
    shard->serve.host.now = now;
    if (op->owner == OP_OWNER_STORE) {
        store_completed(shard->store, op, now);
    } else {
        KHO_ASSERT(op->owner == OP_OWNER_CONN);
        serve_completed(&shard->serve, op);
    }
}

void shard_tick(struct shard *shard, struct kho_now now)
{
    shard->serve.host.now = now;
    store_tick(shard->store, now);
    serve_tick(&shard->serve);
    if (now.mono_ns >= shard->stop_deadline_ns) {
        shard->stop_deadline_ns = UINT64_MAX;
        serve_abort(&shard->serve);
        store_hurry(shard->store, now);
    }
}

void shard_turn_end(struct shard *shard, struct kho_now now)
{
    shard->serve.host.now = now;
    serve_turn(&shard->serve);
    store_turn_end(shard->store, now);
    serve_flush(&shard->serve);
    if (shard->stopping && !shard->store_stopping && serve_stopped(&shard->serve)) {
        shard->store_stopping = true;
        if (store_phase(shard->store) != STORE_FAILED)
            store_stop(shard->store, now);
    }
}

void shard_stop(struct shard *shard, struct kho_now now)
{
    if (shard->stopping)
        return;
    shard->serve.host.now = now;
    shard->stopping = true;
    shard->stop_deadline_ns = now.mono_ns + SHARD_STOP_NS;
    serve_stop(&shard->serve);
}

int shard_map_set(struct shard *shard, const uint8_t *bytes, size_t length, struct kho_now now)
{
    bool done;
    if (shard->stopping)
        return KHO_ESTOPPING;
    shard->serve.host.now = now;
    return store_map_set(shard->store, bytes, length, NULL, 0, now, &done);
}

void shard_map_spread(struct shard *shard, uint64_t epoch, struct kho_now now)
{
    shard->serve.host.now = now;
    serve_map_spread(&shard->serve, epoch);
}

const struct map *shard_map(const struct shard *shard)
{
    return store_map(shard->store);
}

uint64_t shard_epoch(const struct shard *shard)
{
    const struct map *map = store_map(shard->store);
    return map != NULL ? map->epoch : 0;
}

/* --- Outputs ---------------------------------------------------------------------------------- */

struct op *shard_next_op(struct shard *shard)
{
    struct queue *link = queue_pop(&shard->world.outbox);
    return link != NULL ? KHO_CONTAINER_OF(link, struct op, link) : NULL;
}

bool shard_next_event(struct shard *shard, struct event *ret_event)
{
    struct shard_world *world = &shard->world;
    if (world->event_count == 0)
        return false;
    if (world->events_lost > 0) {
        ret_event->level = EVENT_WARNING;
        snprintf(ret_event->text, sizeof ret_event->text,
                 "shard %u: %llu log lines were lost: more came in one turn than are kept",
                 (unsigned)shard->options.shard, (unsigned long long)world->events_lost);
        world->events_lost = 0;
        return true;
    }
    *ret_event = world->events[world->event_head];
    world->event_head = (world->event_head + 1) % (uint32_t)KHO_COUNT_OF(world->events);
    world->event_count--;
    return true;
}

uint64_t shard_deadline(const struct shard *shard)
{
    uint64_t deadline = kho_min(store_deadline(shard->store), serve_deadline(&shard->serve));
    return kho_min(deadline, shard->stop_deadline_ns);
}

uint32_t shard_areas(const struct shard *shard, struct io_area *ret_areas)
{
    return store_areas(shard->store, ret_areas);
}

void shard_hello(const struct shard *shard, struct kho_now now, struct wire_hello_node *ret_hello)
{
    serve_hello(&shard->serve, ret_hello);
    ret_hello->wall_ms = now.wall_ms;
}

uint64_t shard_stat(const struct shard *shard, enum wire_stat stat)
{
    uint64_t stats[STAT_COUNT] = {0};
    if ((int)stat < 0 || stat >= STAT_COUNT)
        return 0;
    serve_stats(&shard->serve, stats);
    return stats[stat];
}
