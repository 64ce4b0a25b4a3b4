/* trouble.c: the faults of a run, one trouble at a time.
 *
 * At any moment at most one node is down, stopped, cut off or has a failing disk; the power of the
 * whole site may go, too, since honest disks keep what they acknowledged. Only the weak node's disk
 * may rot or leave garbage, so that two other replicas stay whole. */
#include "workload.h"

#include "damage.h"

static void trouble_next(void *owner, uint64_t arg);

static bool on(const struct workload *w, enum sim_fault fault)
{
    return (w->plan.faults & 1u << fault) != 0;
}

static bool one_in(struct workload *w, uint64_t n)
{
    return sim_below(w->sim, n) == 0;
}

static uint32_t node_draw(struct workload *w)
{
    return (uint32_t)sim_below(w->sim, w->cluster->options.nodes);
}

/* Power cuts leave garbage on the weak node only. Where that one's disk may be damaged, those of
 * the others leave nothing to suspect: two damaged replicas at once are more than R = 3 bears. */
static void power_cut(struct workload *w, struct node *node)
{
    bool weak = (int32_t)node->index == w->plan.weak;
    for (uint32_t i = 0; i < node->shard_count; i++) {
        struct vdisk_faults *faults = vdisk_faults(node->shards[i].disk);
        faults->garbage = weak && on(w, SIM_FAULT_garbage) ? 300000 : 0;
        faults->gentle = !weak && (on(w, SIM_FAULT_flip) || on(w, SIM_FAULT_garbage) ||
                                   on(w, SIM_FAULT_read_error) || on(w, SIM_FAULT_wipe));
    }
    node_power_cut(node);
    for (uint32_t i = 0; i < node->shard_count; i++)
        vdisk_faults(node->shards[i].disk)->garbage = 0;
}

/* The disks as they should be. */
static void disk_heal(struct node *node)
{
    for (uint32_t i = 0; i < node->shard_count; i++) {
        struct vdisk_faults *faults = vdisk_faults(node->shards[i].disk);
        faults->read_error = faults->write_error = faults->garbage = 0;
        faults->space_max = 1ull << 40;
    }
}

/* The disk of one of its shards. */
static struct vdisk *disk_draw(struct workload *w, struct node *node)
{
    return node->shards[node->shard_count > 1 ? sim_below(w->sim, node->shard_count) : 0].disk;
}

static void node_up(struct workload *w, struct node *node)
{
    node_sleep(node, 0);
    disk_heal(node);
    if (!node->up) {
        /* Rot at the very end can't be told from a torn write. */
        if (on(w, SIM_FAULT_flip) && (int32_t)node->index == w->plan.weak && one_in(w, 2))
            damage_flip_end(w->sim, disk_draw(w, node), 4096);
        sim_fault(w->sim, SIM_FAULT_restart);
        node_start(node);
    }
}

static void trouble_over(void *owner, uint64_t index)
{
    struct workload *w = owner;
    struct node *node = &w->cluster->nodes[index];
    if (w->quiet || w->sim->failed)
        return;
    /* A node that refuses writes since one failed needs a start. */
    if (node->up && node_stat(node, STAT_readonly) != 0)
        node_kill(node);
    vnet_block(w->cluster->net, UINT32_MAX, node->index, true, false);
    vnet_block(w->cluster->net, UINT32_MAX, node->index, false, false);
    if (node->stopping) {
        sim_after(w->sim, 10 * SIM_MS, trouble_over, w, index);
        return;
    }
    node_up(w, node);
    w->troubled = -1;
}

static void site_over(void *owner, uint64_t arg)
{
    struct workload *w = owner;
    (void)arg;
    for (uint32_t i = 0; i < w->cluster->options.nodes && !w->quiet; i++)
        if (!w->cluster->nodes[i].up)
            node_up(w, &w->cluster->nodes[i]);
    if (!w->quiet)
        w->troubled = -1;
}

static void site_power_cut(struct workload *w)
{
    sim_fault(w->sim, SIM_FAULT_site_power);
    for (uint32_t i = 0; i < w->cluster->options.nodes; i++)
        power_cut(w, &w->cluster->nodes[i]);
    w->troubled = 0;
    sim_after(w->sim, sim_between(w->sim, 10 * SIM_MS, one_in(w, 4) ? 3 * SIM_S : 300 * SIM_MS),
              site_over, w, 0);
}

static void partition(struct workload *w, struct node *node)
{
    bool one_way = sim_below(w->sim, 2) == 0, to = sim_below(w->sim, 2) == 0;
    uint32_t client =
        sim_below(w->sim, 2) == 0 ? UINT32_MAX : (uint32_t)sim_below(w->sim, w->plan.clients);
    sim_trace(w->sim, "fault: %s is cut off from client %d%s", node->name, (int)client,
              !one_way ? ""
              : to     ? ", inwards"
                       : ", outwards");
    sim_fault(w->sim, SIM_FAULT_partition);
    if (!one_way || to)
        vnet_block(w->cluster->net, client, node->index, true, true);
    if (!one_way || !to)
        vnet_block(w->cluster->net, client, node->index, false, true);
}

/* One that lasts; false: it can't be now. */
static bool node_trouble(struct workload *w, enum sim_fault fault, struct node *node)
{
    struct vdisk_faults *faults = vdisk_faults(disk_draw(w, node));
    uint64_t lasts = sim_between(w->sim, SIM_MS, one_in(w, 4) ? 4 * SIM_S : 300 * SIM_MS);
    if (w->troubled >= 0 || !node_serving(node))
        return false;
    switch (fault) {
    case SIM_FAULT_kill:
        node_kill(node);
        break;
    case SIM_FAULT_power:
        power_cut(w, node);
        break;
    case SIM_FAULT_stop:
        node_stop(node);
        break;
    case SIM_FAULT_pause:
        node_sleep(node, lasts);
        break;
    case SIM_FAULT_partition:
        partition(w, node);
        break;
    case SIM_FAULT_write_error:
        sim_trace(w->sim, "fault: writes fail on %s", node->name);
        faults->write_error = (uint32_t)sim_between(w->sim, 10000, 1000000);
        break;
    case SIM_FAULT_no_space:
        sim_trace(w->sim, "fault: the disk of %s is full", node->name);
        faults->space_max = sim_below(w->sim, 64ull << 20);
        break;
    default:
        KHO_ASSERT(fault == SIM_FAULT_read_error);
        node = &w->cluster->nodes[w->plan.weak];
        if (!node_serving(node))
            return false;
        sim_trace(w->sim, "fault: reads fail on %s", node->name);
        vdisk_faults(disk_draw(w, node))->read_error =
            (uint32_t)sim_between(w->sim, 10000, 1000000);
    }
    w->troubled = (int32_t)node->index;
    sim_after(w->sim, lasts, trouble_over, w, node->index);
    return true;
}

static void client_start_later(void *owner, uint64_t arg)
{
    struct client_end *end = owner;
    (void)arg;
    if (end->client == NULL && !end->cluster->sim->failed)
        client_end_start(end);
}

static void client_trouble(struct workload *w)
{
    struct client_end *end = &w->cluster->clients[sim_below(w->sim, w->plan.clients)];
    if (end->client == NULL)
        return;
    sim_trace(w->sim, "fault: client %u is gone", end->index);
    sim_fault(w->sim, SIM_FAULT_client_crash);
    client_end_crash(end);
    sim_after(w->sim, sim_below(w->sim, SIM_S), client_start_later, end, 0);
}

static void clock_jump(struct workload *w)
{
    struct node *node = &w->cluster->nodes[node_draw(w)];
    node->skew_ms = (int64_t)sim_below(w->sim, 20001) - 10000;
    sim_trace(w->sim, "fault: the clock of %s is off by %lld ms", node->name,
              (long long)node->skew_ms);
    sim_fault(w->sim, SIM_FAULT_clock_jump);
}

static void trouble_next(void *owner, uint64_t arg)
{
    struct workload *w = owner;
    (void)arg;
    if (w->quiet || w->sim->failed || w->plan.fault_interval_ns == 0)
        return;
    enum sim_fault fault = (enum sim_fault)sim_below(w->sim, SIM_FAULT_COUNT);
    /* Draw among those that are on. */
    for (unsigned i = 0; i < SIM_FAULT_COUNT && !on(w, fault); i++)
        fault = (enum sim_fault)((fault + 1) % SIM_FAULT_COUNT);
    struct node *node = &w->cluster->nodes[node_draw(w)];
    switch (on(w, fault) ? fault : SIM_FAULT_COUNT) {
    case SIM_FAULT_kill:
    case SIM_FAULT_power:
    case SIM_FAULT_stop:
    case SIM_FAULT_pause:
    case SIM_FAULT_partition:
    case SIM_FAULT_write_error:
    case SIM_FAULT_read_error:
    case SIM_FAULT_no_space:
        node_trouble(w, fault, node);
        break;
    case SIM_FAULT_site_power:
        if (w->troubled < 0)
            site_power_cut(w);
        break;
    case SIM_FAULT_flip:
        damage_flip(w->sim, disk_draw(w, &w->cluster->nodes[w->plan.weak]));
        break;
    case SIM_FAULT_drop:
    case SIM_FAULT_half_drop:
        vnet_drop(w->cluster->net, fault == SIM_FAULT_half_drop);
        break;
    case SIM_FAULT_client_crash:
        client_trouble(w);
        break;
    case SIM_FAULT_clock_jump:
        clock_jump(w);
        break;
    case SIM_FAULT_wipe:
        if (one_in(w, 8))
            admin_wipe(w);
        break;
    case SIM_FAULT_repair:
        admin_repair(w);
        break;
    case SIM_FAULT_collection:
        admin_collection(w);
        break;
    default:
        break; /* consequences and cancels have their own places */
    }
    sim_after(w->sim, sim_below(w->sim, w->plan.fault_interval_ns * 2) + 1, trouble_next, w, 0);
}

void trouble_begin(struct workload *w)
{
    if (w->plan.fault_interval_ns > 0)
        sim_after(w->sim, sim_below(w->sim, w->plan.fault_interval_ns * 2) + 1, trouble_next, w, 0);
}

void trouble_heal(struct workload *w)
{
    sim_trace(w->sim, "everything is healed");
    w->quiet = true;
    vnet_open_all(w->cluster->net);
    for (uint32_t i = 0; i < w->cluster->options.nodes && !w->sim->failed; i++) {
        struct node *node = &w->cluster->nodes[i];
        node_sleep(node, 0);
        disk_heal(node);
        for (int ms = 0; node->stopping && ms < 60000 && !w->sim->failed; ms++)
            cluster_run(w->cluster, SIM_MS);
        if (node->stopping)
            sim_fail(w->sim, "%s doesn't stop within a minute", node->name);
        else if (node->up && (node_stat(node, STAT_readonly) != 0 ||
                              (w->sim->faults[SIM_FAULT_flip] > 0 && (int32_t)i == w->plan.weak)))
            node_kill(node); /* a start finds what rotted where no footer stands for it */
        if (!node->up && !w->sim->failed)
            node_up(w, node);
    }
    for (uint32_t i = 0; i < w->cluster->options.nodes && !w->sim->failed; i++)
        if (!node_wait_serving(&w->cluster->nodes[i], 120 * SIM_S))
            sim_fail(w->sim, "%s doesn't come up again: %s", w->cluster->nodes[i].name,
                     w->cluster->nodes[i].failure);
    for (uint32_t i = 0; i < w->cluster->client_count; i++)
        client_start_later(&w->cluster->clients[i], 0);
    if (!w->sim->failed)
        cluster_run(w->cluster, 5 * SIM_S); /* a node looks at its free space now and then */
}
