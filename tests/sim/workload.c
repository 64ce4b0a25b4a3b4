/* workload.c: draws a plan, runs its phases. */
#include "workload.h"

static uint32_t one_of(struct sim *sim, uint32_t a, uint32_t b, uint32_t c)
{
    uint64_t dice = sim_below(sim, 3);
    return dice == 0 ? a : dice == 1 ? b : c;
}

/* Each run has a few of the faults: those that hide others are off in most runs. */
static uint32_t faults_draw(struct sim *sim)
{
    static const enum sim_fault drawn[] = {
        SIM_FAULT_kill,    SIM_FAULT_power,        SIM_FAULT_site_power,  SIM_FAULT_stop,
        SIM_FAULT_garbage, SIM_FAULT_read_error,   SIM_FAULT_write_error, SIM_FAULT_no_space,
        SIM_FAULT_flip,    SIM_FAULT_drop,         SIM_FAULT_half_drop,   SIM_FAULT_partition,
        SIM_FAULT_pause,   SIM_FAULT_client_crash, SIM_FAULT_cancel,      SIM_FAULT_clock_jump,
        SIM_FAULT_wipe,    SIM_FAULT_repair,       SIM_FAULT_collection,
    };
    uint32_t faults = 0;
    uint64_t in_ten = sim_between(sim, 1, 8);
    for (size_t i = 0; i < KHO_COUNT_OF(drawn); i++)
        if (sim_below(sim, 10) < in_ten)
            faults |= 1u << drawn[i];
    return faults;
}

void plan_draw(struct sim *sim, struct plan *ret_plan, struct cluster_options *ret_options)
{
    struct plan *p = ret_plan;
    struct cluster_options *o = ret_options;
    cluster_options_init(o);
    *p = (struct plan){.clients = (uint32_t)sim_between(sim, 1, 4),
                       .keys = (uint32_t)sim_between(sim, 1, 8),
                       .calls = (uint32_t)sim_between(sim, 40, 400),
                       .depth = (uint32_t)sim_between(sim, 1, 3),
                       .batch_max = (uint32_t)sim_between(sim, 1, 8),
                       .deadline_ms = one_of(sim, 500, 3000, 10000),
                       .think_ns = sim_between(sim, 1, 60) * SIM_MS,
                       .value_max = one_of(sim, 400, 60000, 700000),
                       .read_ppm = (uint32_t)sim_between(sim, 200000, 600000),
                       .delete_ppm = (uint32_t)sim_between(sim, 0, 100000),
                       .append_ppm = (uint32_t)sim_between(sim, 0, 80000),
                       .stat_ppm = (uint32_t)sim_between(sim, 0, 60000),
                       .retry_ppm = (uint32_t)sim_between(sim, 0, 1000000)};
    p->faults = faults_draw(sim);
    p->fault_interval_ns = sim_below(sim, 16) == 0 ? 0 : sim_between(sim, 2, 200) * SIM_MS;
    o->nodes = sim_below(sim, 4) == 0 ? 4 : 3;
    if (sim_below(sim, 10) == 0) {
        o->nodes = o->replicas = 5;
        o->write_quorum = o->read_quorum = 3;
    }
    p->weak = (int32_t)sim_below(sim, o->nodes);
    o->clients = p->clients;
    o->partitions = 1u << sim_below(sim, 5);
    o->alignment = sim_below(sim, 3) == 0 ? 512 : 4096;
    o->commits_max = (uint32_t)sim_between(sim, 1, 4);
    o->footer_entries = (uint32_t)one_of(sim, 1, 10, 100);
    o->idle_mark_ms = one_of(sim, 5, 20, 100);
    o->deadline_ms = p->deadline_ms;
    o->hedge_ms = one_of(sim, 1, 20, 50);
    if (sim_below(sim, 4) == 0) {
        o->inflight_bytes_max = sim_between(sim, 1000, 200000);
        o->holdback_bytes_max = sim_between(sim, 1000, 200000);
        o->net.window_bytes = sim_between(sim, 1000, 200000);
    }
    o->net.delay_ns = one_of(sim, 20, 100, 2000) * SIM_US;
    o->net.chunk_bytes_max = one_of(sim, 0, 3000, 64 << 10);
    /* Bulk: enough small records at once that clients send them compressed together. */
    if (sim_below(sim, 4) == 0) {
        p->keys = (uint32_t)sim_between(sim, 60, 120);
        p->batch_max = WORKLOAD_BATCH_MAX;
        p->calls = (uint32_t)sim_between(sim, 20, 100);
        p->value_max = 400;
        p->think_ns *= 4;
    }
    /* Small segments, so that compaction has some to choose from; their files are limited. */
    o->segment_bytes = (uint64_t)one_of(sim, 1, 2, 8) << 20;
    if (p->value_max > 100000)
        o->segment_bytes *= 4;
    o->compact_rate = sim_below(sim, 8) == 0 ? 0 : (uint64_t)one_of(sim, 1, 16, 256) << 20;
    o->compact_dead_percent = one_of(sim, 10, 30, 60);
    o->scrub_ms = one_of(sim, 0, 3000, 60000);
    o->shards = one_of(sim, 1, 2, 3);
}

void workload_run(struct workload *w, struct sim *sim)
{
    struct cluster_options options;
    *w = (struct workload){.sim = sim, .troubled = -1};
    history_init(&w->history, sim);
    plan_draw(sim, &w->plan, &options);
    sim_trace(sim,
              "plan: %u nodes of %u shards, %u clients, %u keys, %u calls, faults %x every %llu ms",
              options.nodes, options.shards, options.clients, w->plan.keys, w->plan.calls,
              w->plan.faults, (unsigned long long)(w->plan.fault_interval_ns / SIM_MS));
    w->cluster = cluster_create(sim, &options);
    if (sim->failed)
        return;
    for (uint32_t i = 0; i < options.nodes; i++) {
        uint64_t write_ns = one_of(sim, 50, 200, 5000) * SIM_US;
        uint64_t read_ns = one_of(sim, 50, 150, 5000) * SIM_US;
        for (uint32_t k = 0; k < options.shards; k++) {
            struct vdisk_faults *faults = vdisk_faults(w->cluster->nodes[i].shards[k].disk);
            faults->write_ns = write_ns;
            faults->read_ns = read_ns;
        }
    }
    workload_begin(w);
    trouble_begin(w);
    sim_run(sim, sim->now_ns + 600 * SIM_S, &w->idle);
    if (!sim->failed)
        trouble_heal(w);
    if (!sim->failed)
        verdict(w);
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
