/* trouble_node.c: nodes that are down, stopped, cut off or fail, one at a time. */
#include "workload.h"

#include "damage.h"

static bool one_in(struct kho_random *dice, uint64_t n)
{
    return dice_below(dice, n) == 0;
}

/* Power cuts leave garbage on the weak node only. Where that one's disk may be damaged, those of
 * the others leave nothing to suspect: two damaged replicas at once are more than R = 3 bears. */
static void power_plan(struct workload *w, struct node *node)
{
    static const enum sim_fault damaging[] = {
        SIM_FAULT_flip,
        SIM_FAULT_garbage,
        SIM_FAULT_read_error,
        SIM_FAULT_wipe,
        SIM_FAULT_latent,
        SIM_FAULT_lost_write,
        SIM_FAULT_clock_back,
        SIM_FAULT_misdirected_write,
        SIM_FAULT_misdirected_read,
    };
    bool weak = (int32_t)node->index == w->weak, damaged = false;
    for (size_t i = 0; i < KHO_COUNT_OF(damaging); i++)
        damaged |= w->troubles[damaging[i]].on;
    for (uint32_t i = 0; i < node->shard_count; i++) {
        struct vdisk_faults *faults = vdisk_faults(node->shards[i].disk);
        faults->garbage = weak && w->troubles[SIM_FAULT_garbage].on ? 700000 : 0;
        faults->gentle = !weak && damaged;
    }
}

static void power_cut(struct workload *w, struct node *node)
{
    power_plan(w, node);
    node_power_cut(node);
}

void node_up(struct workload *w, struct node *node)
{
    struct trouble *flip = &w->troubles[SIM_FAULT_flip];
    node_sleep(node, 0);
    disk_heal(node);
    if (!node->up) {
        /* Rot at the very end can't be told from a torn write. */
        if (flip->on && (int32_t)node->index == w->weak && w->weaker < 0 && !node->cloned &&
            w->swapped[0] < 0 && one_in(&flip->dice, 2))
            damage_flip_end(w->sim, node->shards[dice_below(&flip->dice, node->shard_count)].disk,
                            4096);
        sim_fault(w->sim, SIM_FAULT_restart);
        node_start(node);
    }
}

/* --- Folders in the wrong place ----------------------------------------------------------------
 */

static struct node *node_draw(struct workload *w, struct kho_random *dice)
{
    return &w->cluster->nodes[dice_below(dice, w->cluster->options.nodes)];
}

void folders_return(struct workload *w)
{
    if (w->swapped[0] >= 0) {
        struct node *a = &w->cluster->nodes[w->swapped[0]], *b = &w->cluster->nodes[w->swapped[1]];
        node_kill(a);
        node_kill(b);
        node_folders_swap(a, b);
        w->swapped[0] = w->swapped[1] = -1;
    }
    if (w->cloned >= 0) {
        struct node *node = &w->cluster->nodes[w->cloned];
        node_kill(node);
        node_folder_own(node);
        w->cloned = -1;
    }
}

static void folders_over(void *owner, uint64_t round)
{
    struct workload *w = owner;
    int32_t nodes[3] = {w->swapped[0], w->swapped[1], w->cloned};
    if (w->quiet || w->sim->failed || w->round != round)
        return;
    folders_return(w);
    for (int i = 0; i < 3; i++)
        if (nodes[i] >= 0)
            node_up(w, &w->cluster->nodes[nodes[i]]);
    w->troubled = -1;
}

/* Two nodes with each other's folders; or one with a copy of the other's, who goes on. */
static void folders_trouble(struct trouble *t, uint64_t lasts)
{
    struct workload *w = t->workload;
    struct node *a = node_draw(w, &t->dice), *b = node_draw(w, &t->dice);
    if (a == b || !node_serving(a) || !node_serving(b) || w->readmit)
        return;
    sim_fault(w->sim, t->fault);
    node_kill(b);
    if (t->fault == SIM_FAULT_swap) {
        node_kill(a);
        node_folders_swap(a, b);
        node_start(a);
        w->swapped[0] = (int32_t)a->index;
        w->swapped[1] = (int32_t)b->index;
    } else {
        node_folder_clone(b, a);
        w->cloned = (int32_t)b->index;
    }
    if (!w->sim->failed)
        node_start(b);
    w->troubled = (int32_t)b->index;
    sim_after(w->sim, lasts, folders_over, w, w->round);
}

static void trouble_over(void *owner, uint64_t number);

/* --- One node ----------------------------------------------------------------------------------
 */

/* The node has a trouble that lasts so long. What it had before ends with it. */
static void trouble_lasts(struct workload *w, const struct node *node, uint64_t ns)
{
    w->troubled = (int32_t)node->index;
    /* Then as long a time in which only planned crashes come. */
    w->calm_until = w->sim->now_ns + kho_min(ns, SIM_S) / 2;
    sim_after(w->sim, ns, trouble_over, w, ++w->trouble_count);
}

static void trouble_over(void *owner, uint64_t number)
{
    struct workload *w = owner;
    if (w->quiet || w->sim->failed || w->trouble_count != number)
        return;
    struct node *node = &w->cluster->nodes[w->troubled];
    /* A node that refuses writes since one failed needs a start. */
    if (node->up && node_stat(node, STAT_readonly) != 0)
        node_kill(node);
    vnet_block(w->cluster->net, UINT32_MAX, node->index, true, false);
    vnet_block(w->cluster->net, UINT32_MAX, node->index, false, false);
    if (node->stopping) {
        sim_after(w->sim, 10 * SIM_MS, trouble_over, w, number);
        return;
    }
    node_up(w, node);
    w->troubled = -1;
}

static void site_over(void *owner, uint64_t round)
{
    struct workload *w = owner;
    if (w->quiet || w->sim->failed || w->round != round)
        return;
    for (uint32_t i = 0; i < w->cluster->options.nodes; i++)
        if (!w->cluster->nodes[i].up)
            node_up(w, &w->cluster->nodes[i]);
    w->troubled = -1;
}

static void site_power_cut(struct trouble *t)
{
    struct workload *w = t->workload;
    sim_fault(w->sim, SIM_FAULT_site_power);
    for (uint32_t i = 0; i < w->cluster->options.nodes; i++)
        power_cut(w, &w->cluster->nodes[i]);
    w->troubled = 0;
    sim_after(w->sim,
              dice_between(&t->dice, 10 * SIM_MS, one_in(&t->dice, 4) ? 3 * SIM_S : 300 * SIM_MS),
              site_over, w, w->round);
}

static void partition(struct trouble *t, struct node *node)
{
    struct workload *w = t->workload;
    bool one_way = t->fault == SIM_FAULT_one_way, to = one_in(&t->dice, 2);
    uint32_t client =
        one_in(&t->dice, 2) ? UINT32_MAX : (uint32_t)dice_below(&t->dice, w->plan.clients);
    sim_trace(w->sim, "fault: %s is cut off from client %d%s", node->name, (int)client,
              !one_way ? ""
              : to     ? ", inwards"
                       : ", outwards");
    sim_fault(w->sim, t->fault);
    if (!one_way || to)
        vnet_block(w->cluster->net, client, node->index, true, true);
    if (!one_way || !to)
        vnet_block(w->cluster->net, client, node->index, false, true);
}

/* The node's disk fails in a way that says so. */
static void disk_fails(struct trouble *t, struct node *node)
{
    struct workload *w = t->workload;
    struct vdisk *disk = node->shards[dice_below(&t->dice, node->shard_count)].disk;
    struct vdisk_faults *faults = vdisk_faults(disk);
    uint32_t rate = (uint32_t)dice_between(&t->dice, 10000, 1000000);
    sim_trace(w->sim, "fault: the disk of %s fails (%s)", node->name, sim_fault_name(t->fault));
    switch (t->fault) {
    case SIM_FAULT_write_error:
        faults->write_error = rate;
        break;
    case SIM_FAULT_sync_error:
        faults->sync_error = rate;
        break;
    case SIM_FAULT_slow_disk:
        faults->slow = rate / 4;
        break;
    default:
        KHO_ASSERT(t->fault == SIM_FAULT_no_space);
        faults->full = true;
        faults->space_max =
            vdisk_space_used(disk) + dice_below(&t->dice, 4 * w->cluster->options.segment_bytes);
    }
}

/* In the middle of a turn: what it asks for behind a certain op is asked of nobody. */
static void crash_plan(struct trouble *t, struct node *node, bool power)
{
    static const uint8_t kinds[] = {0,       OP_WRITE,    OP_WRITE,  OP_WRITE,       OP_WRITE,
                                    OP_SYNC, OP_ALLOCATE, OP_RENAME, OP_SYNC_FOLDER, OP_UNLINK};
    node->crash_kind = kinds[dice_below(&t->dice, KHO_COUNT_OF(kinds))];
    node->crash_after = (uint32_t)dice_between(&t->dice, 1, node->crash_kind == 0 ? 30 : 4);
    node->crash_power = power;
}

/* For cluster.c: the node's power goes now, in the middle of a turn. */
static bool may_crash(void *owner, struct node *node)
{
    struct workload *w = owner;
    struct trouble *t = &w->troubles[SIM_FAULT_kill_step];
    if (w->quiet || w->swapped[0] >= 0 || w->cloned >= 0 ||
        (w->troubled >= 0 && w->troubled != (int32_t)node->index))
        return false;
    if (node->crash_power)
        power_plan(w, node);
    trouble_lasts(w, node, dice_between(&t->dice, SIM_MS, 300 * SIM_MS));
    return true;
}

void trouble_stale(struct trouble *t)
{
    struct cluster *cluster = t->workload->cluster;
    for (uint32_t i = 0; i < cluster->options.nodes; i++)
        cluster->nodes[i].zeros_awaited = true;
}

void trouble_garbage(struct trouble *t)
{
    struct node *node = &t->workload->cluster->nodes[t->workload->weak];
    crash_plan(t, node, true);
    node->crash_kind = OP_WRITE;
}

void trouble_node_init(struct workload *w)
{
    w->cluster->may_crash = may_crash;
    w->cluster->owner = w;
}

void trouble_node(struct trouble *t)
{
    struct workload *w = t->workload;
    struct node *node = node_draw(w, &t->dice);
    uint64_t lasts =
        dice_between(&t->dice, SIM_MS, (one_in(&t->dice, 4) ? 4 * SIM_S : 300 * SIM_MS));
    if (w->troubles[SIM_FAULT_garbage].on && one_in(&t->dice, 2))
        node = &w->cluster->nodes[w->weak];
    if (t->fault == SIM_FAULT_kill_step || (t->fault == SIM_FAULT_power && !one_in(&t->dice, 4))) {
        crash_plan(t, node, t->fault == SIM_FAULT_power || one_in(&t->dice, 2));
        return;
    }
    if (w->troubled >= 0 || w->sim->now_ns < w->calm_until || !node_serving(node))
        return;
    switch (t->fault) {
    case SIM_FAULT_site_power:
        site_power_cut(t);
        return;
    case SIM_FAULT_swap:
    case SIM_FAULT_clone:
        folders_trouble(t, lasts);
        return;
    case SIM_FAULT_kill:
        node_kill(node);
        break;
    case SIM_FAULT_power:
        power_cut(w, node);
        break;
    case SIM_FAULT_stop:
        node_stop(node);
        break;
    case SIM_FAULT_long_pause:
        lasts = dice_between(&t->dice, 60, 120) * SIM_S;
        sim_fault(w->sim, SIM_FAULT_long_pause);
        w->asleep_until = w->sim->now_ns + lasts;
        node_sleep(node, lasts);
        break;
    case SIM_FAULT_pause:
        node_sleep(node, lasts);
        break;
    case SIM_FAULT_partition:
    case SIM_FAULT_one_way:
        partition(t, node);
        break;
    default:
        disk_fails(t, node);
        lasts *= 4;
        if (one_in(&t->dice, 2)) {
            /* A start writes and syncs more than a quiet hour. */
            node_kill(node);
            node_start(node);
        }
    }
    trouble_lasts(w, node, lasts);
}
