/* workload.c: draws a plan, runs its phases. */
#include "workload.h"

/* Each thing is drawn by dice of its own name. */
static uint64_t draw(const struct sim *sim, const char *name, uint64_t low, uint64_t high)
{
    struct kho_random dice;
    sim_dice(sim, name, 0, &dice);
    return dice_between(&dice, low, high);
}
static bool one_in(const struct sim *sim, const char *name, uint64_t n)
{
    return draw(sim, name, 1, n) == 1;
}
static uint64_t one_of(const struct sim *sim, const char *name, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t n = draw(sim, name, 0, 2);
    return n == 0 ? a : n == 1 ? b : c;
}

static void shape_draw(const struct sim *sim, struct cluster_options *o)
{
    cluster_options_init(o);
    o->nodes = one_in(sim, "four nodes", 4) ? 4 : 3;
    if (one_in(sim, "many nodes", 5)) {
        o->nodes = (uint32_t)draw(sim, "nodes", 5, 7);
        if (one_in(sim, "five replicas", 2)) {
            o->replicas = 5;
            o->write_quorum = o->read_quorum = 3;
        }
    }
    o->shards = (uint32_t)one_of(sim, "shards", 1, 2, 3);
    o->partitions = 1u << draw(sim, "partitions", 0, 4);
    o->alignment = one_in(sim, "alignment", 3) ? 512 : 4096;
    o->commits_max = (uint32_t)draw(sim, "commits", 1, 4);
    o->footer_entries = (uint32_t)one_of(sim, "footer entries", 1, 10, 100);
    o->idle_mark_ms = (uint32_t)one_of(sim, "idle mark", 5, 20, 100);
    o->compact_rate = one_in(sim, "no compaction", 8)
                          ? 0
                          : (uint64_t)one_of(sim, "compaction rate", 1, 16, 256) << 20;
    o->compact_dead_percent = (uint32_t)one_of(sim, "dead percent", 10, 30, 60);
    o->scrub_ms = one_of(sim, "scrub", 0, 3000, 60000);
    o->hedge_ms = (uint32_t)one_of(sim, "hedge", 1, 20, 50);
    if (one_in(sim, "narrow", 4)) {
        o->inflight_bytes_max = draw(sim, "in flight", 1000, 200000);
        o->holdback_bytes_max = draw(sim, "held back", 1000, 200000);
        o->net.window_bytes = draw(sim, "window", 1000, 200000);
    }
    o->net.delay_ns = one_of(sim, "delay", 20, 100, 2000) * SIM_US;
    o->net.chunk_bytes_max = (uint32_t)one_of(sim, "chunk", 0, 3000, 64 << 10);
}

void plan_draw(struct sim *sim, struct plan *ret_plan, struct cluster_options *ret_options)
{
    struct plan *p = ret_plan;
    struct cluster_options *o = ret_options;
    shape_draw(sim, o);
    *p = (struct plan){
        .rounds = (uint32_t)draw(sim, "rounds", 1, 4),
        .clients = (uint32_t)draw(sim, "clients", 1, WORKLOAD_CLIENTS_MAX),
        .keys = (uint32_t)draw(sim, "keys", 1, 8),
        .calls = (uint32_t)draw(sim, "calls", 40, 300),
        .depth = (uint32_t)draw(sim, "depth", 1, 3),
        .batch_max = (uint32_t)draw(sim, "batch", 1, 8),
        .deadline_ms = (uint32_t)one_of(sim, "deadline", 500, 3000, 10000),
        .scale = (uint32_t)one_of(sim, "scale", 1, 1, one_of(sim, "long", 3, 10, 60)),
        .value_max = one_of(sim, "value", 400, 60000, 700000),
        .read_ppm = (uint32_t)draw(sim, "reads", 200000, 600000),
        .delete_ppm = (uint32_t)draw(sim, "deletes", 0, 100000),
        .append_ppm = (uint32_t)draw(sim, "appends", 0, 80000),
        .stat_ppm = (uint32_t)draw(sim, "stats", 0, 60000),
        .retry_ppm = (uint32_t)draw(sim, "retries", 0, 1000000),
    };
    if (one_in(sim, "listings", 3))
        p->list_ppm = (uint32_t)draw(sim, "listing rate", 10000, 120000);
    p->think_ns = draw(sim, "think", 1, 60) * SIM_MS * p->scale;
    p->rest_ns =
        one_of(sim, "rest", 1, draw(sim, "minutes", 60, 600), draw(sim, "hour", 600, 3600)) * SIM_S;
    /* A rest has some passes of the scrub, not a thousand. */
    if (o->scrub_ms > 0)
        o->scrub_ms = kho_max(o->scrub_ms, p->rest_ns / SIM_MS / 20);
    p->beyond = one_in(sim, "beyond", 8);
    if (p->beyond)
        p->rounds = 1;
    /* Bulk: enough small records at once that clients send them compressed together. */
    if (one_in(sim, "bulk", 4)) {
        p->keys = (uint32_t)draw(sim, "bulk keys", 60, 120);
        p->batch_max = WORKLOAD_BATCH_MAX;
        p->calls = (uint32_t)draw(sim, "bulk calls", 20, 100);
        p->value_max = 400;
        p->think_ns *= 4;
    }
    p->admins = one_in(sim, "two admins", 3) ? 2 : 1;
    p->mill = one_in(sim, "mill", 12);
    p->churn = p->mill || one_in(sim, "churn", 3);
    if (p->churn) {
        p->value_max = 60000;
        p->keys = (uint32_t)kho_min(p->keys, 3);
        o->shards = 1;
        p->batch_max = 8;
        p->read_ppm /= 4;
        o->compact_rate = 256ull << 20;
        o->compact_dead_percent = 10;
    }
    /* Small segments, so that compaction has some to choose from; their files are limited. */
    o->segment_bytes = (p->churn ? 1 : one_of(sim, "segment", 1, 2, 8)) << 20;
    if (p->value_max > 100000)
        o->segment_bytes *= 4;
    o->reserve_bytes = one_of(sim, "reserve", 0, o->segment_bytes, 64ull << 20);
    if (!p->beyond && one_in(sim, "memory", 16))
        memory_plan(p, o);
    o->clients = p->clients;
    o->deadline_ms = p->deadline_ms;
}

/* Another node may be the weak one in the next round where nothing stays on the disks of this
 * round's that nobody has met yet: rot that no scrub has reached would be a second damaged replica.
 */
static bool weak_moves(const struct workload *w)
{
    for (uint32_t i = 0; i < w->cluster->options.nodes; i++)
        for (uint32_t k = 0; k < w->cluster->options.shards; k++)
            if (vdisk_hurt(w->cluster->nodes[i].shards[k].disk))
                return false;
    return true;
}

static void round_begin(struct workload *w)
{
    struct kho_random dice;
    uint32_t nodes = w->cluster->options.nodes;
    w->round++;
    w->quiet = w->idle = false;
    w->wiped = 0;
    sim_dice(w->sim, "weak", w->round, &dice);
    if (w->round == 1 || weak_moves(w))
        w->weak = (int32_t)dice_below(&dice, nodes);
    w->weak_ever |= 1u << w->weak;
    w->weaker = -1;
    if (w->plan.beyond)
        w->weaker = (int32_t)((w->weak + 1 + dice_below(&dice, nodes - 1)) % nodes);
    sim_dice(w->sim, "clock", w->round, &dice);
    w->clock = (int32_t)dice_below(&dice, nodes);
    sim_trace(w->sim, "round %llu: the weak node is n%d, the clock of n%d may be far off",
              (unsigned long long)w->round, w->weak, w->clock);
    workload_begin(w);
    trouble_begin(w);
}

static void round_run(struct workload *w)
{
    round_begin(w);
    sim_run(w->sim, w->sim->now_ns + 3600 * SIM_S, &w->idle);
    if (w->asleep_until > w->sim->now_ns && !w->sim->failed)
        sim_run(w->sim, w->asleep_until, NULL);
    if (w->plan.beyond && !w->sim->failed) {
        verdict_beyond(w);
        return;
    }
    if (!w->sim->failed)
        trouble_heal(w);
    if (!w->sim->failed)
        verdict(w);
    if (!w->sim->failed)
        workload_put_all(w, &w->cluster->clients[w->cluster->client_count - 1]);
}

static void disks_draw(struct workload *w)
{
    for (uint32_t i = 0; i < w->cluster->options.nodes; i++) {
        struct kho_random dice;
        static const uint64_t us[] = {50, 200, 5000};
        sim_dice(w->sim, "disk speed", i, &dice);
        uint64_t write_ns = us[dice_below(&dice, 3)] * SIM_US;
        uint64_t read_ns = us[dice_below(&dice, 3)] * SIM_US;
        for (uint32_t k = 0; k < w->cluster->options.shards; k++) {
            struct vdisk_faults *faults = vdisk_faults(w->cluster->nodes[i].shards[k].disk);
            faults->write_ns = write_ns;
            faults->read_ns = read_ns;
        }
    }
}

void workload_run(struct workload *w, struct sim *sim)
{
    workload_run_limited(w, sim, NULL);
}

void workload_run_limited(struct workload *w, struct sim *sim, const struct limits *limits)
{
    struct cluster_options options;
    *w = (struct workload){.sim = sim, .troubled = -1, .swapped = {-1, -1}, .cloned = -1};
    if (limits != NULL)
        w->limits = *limits;
    history_init(&w->history, sim);
    plan_draw(sim, &w->plan, &options);
    troubles_draw(w);
    for (uint32_t i = 0; i < WORKLOAD_CLIENTS_MAX; i++)
        sim_dice(sim, "calls", i, &w->dice[i]);
    sim_dice(sim, "admin", 0, &w->admin_dice);
    sim_dice(sim, "lists", 0, &w->list_dice);
    if (w->limits.calls_max > 0)
        w->plan.calls = (uint32_t)kho_min(w->plan.calls, w->limits.calls_max);
    if (w->limits.rounds_max > 0)
        w->plan.rounds = (uint32_t)kho_min(w->plan.rounds, w->limits.rounds_max);
    sim_trace(sim, "plan%s: %u rounds, %u nodes of %u shards, %u clients, %u keys, %u calls",
              w->plan.beyond ? " beyond" : "", w->plan.rounds, options.nodes, options.shards,
              options.clients, w->plan.keys, w->plan.calls);
    w->cluster = cluster_create(sim, &options);
    if (!sim->failed)
        disks_draw(w);
    workload_keys(w);
    if (w->plan.full && !sim->failed)
        memory_fill(w);
    for (uint32_t round = 0; round < w->plan.rounds && !sim->failed; round++) {
        if (round > 0)
            cluster_run(w->cluster, w->plan.rest_ns);
        round_run(w);
    }
    w->checked.memory = w->cluster->memory_looks;
    for (uint32_t i = 0; i < options.nodes; i++) {
        w->compacted += node_stat(&w->cluster->nodes[i], STAT_compacted_segments);
        w->recycled += node_stat(&w->cluster->nodes[i], STAT_recycled_segments);
    }
}

void workload_fini(struct workload *w)
{
    /* Clients hand back what they had under way; nothing of it is judged any more. */
    w->calls_left = 0;
    w->sim->failed = true;
    cluster_destroy(w->cluster);
    history_fini(&w->history);
    free(w->slots);
    free(w->value_hashes);
}
