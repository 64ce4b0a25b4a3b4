/* trouble.c: which faults come when, each by dice of its own, and the end of all of them. */
#include "workload.h"

/* Of one fault in a round: some do harm, the rest takes time. */
enum { TIMES_MAX = 24, LONG_MAX = 3 };

static void trouble_next(void *owner, uint64_t round);

/* What a fault's average distance is multiplied by: those that take long, or hide others, are
 * rarer. 0: it has no moments of its own, but is a rate or a consequence of others. */
static const uint8_t rarity[SIM_FAULT_COUNT] = {
    [SIM_FAULT_kill] = 8,
    [SIM_FAULT_kill_step] = 1,
    [SIM_FAULT_power] = 2,
    [SIM_FAULT_site_power] = 2,
    [SIM_FAULT_stop] = 1,
    [SIM_FAULT_pause] = 6,
    [SIM_FAULT_long_pause] = 3,
    [SIM_FAULT_client_crash] = 16,
    [SIM_FAULT_clock_jump] = 20,
    [SIM_FAULT_clock_hour] = 20,
    [SIM_FAULT_clock_decade] = 20,
    [SIM_FAULT_clock_back] = 20,
    [SIM_FAULT_wipe] = 1,
    [SIM_FAULT_swap] = 1,
    [SIM_FAULT_clone] = 1,
    [SIM_FAULT_garbage] = 3,
    [SIM_FAULT_stale] = 1,
    [SIM_FAULT_lost_write] = 8,
    [SIM_FAULT_misdirected_write] = 8,
    [SIM_FAULT_misdirected_read] = 4,
    [SIM_FAULT_flip] = 30,
    [SIM_FAULT_latent] = 60,
    [SIM_FAULT_read_error] = 5,
    [SIM_FAULT_write_error] = 1,
    [SIM_FAULT_sync_error] = 1,
    [SIM_FAULT_no_space] = 4,
    [SIM_FAULT_slow_disk] = 4,
    [SIM_FAULT_delay] = 16,
    [SIM_FAULT_drop] = 20,
    [SIM_FAULT_half_drop] = 20,
    [SIM_FAULT_partition] = 2,
    [SIM_FAULT_one_way] = 2,
    [SIM_FAULT_slow_reader] = 16,
    [SIM_FAULT_repair] = 6,
    [SIM_FAULT_collection] = 2,
    [SIM_FAULT_member] = 4,
};

/* Those that need more than their moment to come about: a segment that is recycled just then, a
 * disk that is written to meanwhile, minutes. They are on in most seeds, and tried more often. */
static bool hard_to_come_by(enum sim_fault fault)
{
    return fault == SIM_FAULT_stale || fault == SIM_FAULT_long_pause ||
           fault == SIM_FAULT_slow_disk || fault == SIM_FAULT_no_space ||
           fault == SIM_FAULT_sync_error || fault == SIM_FAULT_wipe;
}

/* Faults that keep one node busy for a while. */
static bool takes_a_node(enum sim_fault fault)
{
    switch (fault) {
    case SIM_FAULT_kill:
    case SIM_FAULT_kill_step:
    case SIM_FAULT_power:
    case SIM_FAULT_site_power:
    case SIM_FAULT_stop:
    case SIM_FAULT_pause:
    case SIM_FAULT_long_pause:
    case SIM_FAULT_wipe:
    case SIM_FAULT_swap:
    case SIM_FAULT_clone:
    case SIM_FAULT_write_error:
    case SIM_FAULT_sync_error:
    case SIM_FAULT_no_space:
    case SIM_FAULT_slow_disk:
    case SIM_FAULT_partition:
    case SIM_FAULT_one_way:
        return true;
    default:
        return false;
    }
}

void troubles_draw(struct workload *w)
{
    struct kho_random dice;
    sim_dice(w->sim, "faults", 0, &dice);
    uint64_t in_ten = dice_between(&dice, 2, 8);
    uint64_t interval = dice_between(&dice, 2, 60) * SIM_MS * w->plan.scale;
    bool none = dice_below(&dice, 16) == 0;
    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        struct trouble *t = &w->troubles[i];
        *t = (struct trouble){.workload = w, .fault = (enum sim_fault)i};
        sim_dice(w->sim, sim_fault_name(t->fault), 0, &t->dice);
        bool hard = hard_to_come_by(t->fault);
        bool mill = w->plan.mill && t->fault == SIM_FAULT_stale;
        t->on = (dice_below(&t->dice, 10) < (hard ? 8 : in_ten) || mill) && !none &&
                !w->limits.without[i];
        t->every_ns = interval * rarity[i] * dice_between(&t->dice, 1, 4) / (hard ? 3 : 2);
        if (mill)
            t->every_ns = SIM_MS;
        else if (w->plan.mill && takes_a_node(t->fault))
            t->on = false; /* only one node has a trouble at a time */
    }
}

/* --- Those that are small ----------------------------------------------------------------------
 */

static void client_start_later(void *owner, uint64_t arg)
{
    struct client_end *end = owner;
    (void)arg;
    if (end->client == NULL && !end->cluster->sim->failed)
        client_end_start(end);
}

static void client_trouble(struct workload *w, struct kho_random *dice)
{
    struct client_end *end = &w->cluster->clients[dice_below(dice, w->plan.clients)];
    if (end->client == NULL)
        return;
    sim_trace(w->sim, "fault: client %u is gone", end->index);
    sim_fault(w->sim, SIM_FAULT_client_crash);
    client_end_crash(end);
    sim_after(w->sim, dice_below(dice, SIM_S), client_start_later, end, 0);
}

/* One node's clock may be far off, all may be off by seconds. A client's may be anything. */
static void clock_trouble(struct trouble *t)
{
    static const int64_t hour = 3600 * 1000, year = 365 * 24 * hour;
    struct workload *w = t->workload;
    struct node *node = &w->cluster->nodes[w->clock];
    int64_t skew;
    switch (t->fault) {
    case SIM_FAULT_clock_hour:
        skew = dice_below(&t->dice, 2) == 0 ? hour : -hour;
        break;
    case SIM_FAULT_clock_decade:
        skew = 10 * year;
        break;
    case SIM_FAULT_clock_back:
        skew = -(int64_t)dice_between(&t->dice, 1, (uint64_t)(10 * year));
        break;
    default:
        node = &w->cluster->nodes[dice_below(&t->dice, w->cluster->options.nodes)];
        skew = (int64_t)dice_below(&t->dice, 20001) - 10000;
    }
    sim_fault(w->sim, t->fault);
    if (dice_below(&t->dice, 4) == 0) {
        struct client_end *end = &w->cluster->clients[dice_below(&t->dice, w->plan.clients)];
        sim_trace(w->sim, "fault: the clock of client %u is off by %lld ms", end->index,
                  (long long)skew);
        end->skew_ms = skew;
        return;
    }
    sim_trace(w->sim, "fault: the clock of %s is off by %lld ms", node->name, (long long)skew);
    node->skew_ms = skew;
}

static void net_trouble(struct trouble *t)
{
    struct vnet *net = t->workload->cluster->net;
    uint64_t ns = dice_between(&t->dice, SIM_MS, 2 * SIM_S);
    switch (t->fault) {
    case SIM_FAULT_slow_reader:
        vnet_slow_reader(net, &t->dice, ns);
        break;
    case SIM_FAULT_delay:
        vnet_lag(net, &t->dice, dice_between(&t->dice, SIM_MS, 500 * SIM_MS), ns);
        break;
    default:
        vnet_drop(net, &t->dice, t->fault == SIM_FAULT_half_drop);
    }
}

/* --- When --------------------------------------------------------------------------------------
 */

static void trouble_run(struct trouble *t)
{
    struct workload *w = t->workload;
    switch (t->fault) {
    case SIM_FAULT_lost_write:
    case SIM_FAULT_misdirected_write:
    case SIM_FAULT_misdirected_read:
    case SIM_FAULT_flip:
    case SIM_FAULT_latent:
    case SIM_FAULT_read_error:
        trouble_disk(t);
        break;
    case SIM_FAULT_delay:
    case SIM_FAULT_drop:
    case SIM_FAULT_half_drop:
    case SIM_FAULT_slow_reader:
        net_trouble(t);
        break;
    case SIM_FAULT_client_crash:
        client_trouble(w, &t->dice);
        break;
    case SIM_FAULT_clock_jump:
    case SIM_FAULT_clock_hour:
    case SIM_FAULT_clock_decade:
    case SIM_FAULT_clock_back:
        clock_trouble(t);
        break;
    case SIM_FAULT_garbage:
        trouble_garbage(t);
        break;
    case SIM_FAULT_stale:
        trouble_stale(t);
        break;
    case SIM_FAULT_wipe:
        admin_wipe(w);
        break;
    case SIM_FAULT_repair:
        admin_repair(w);
        break;
    case SIM_FAULT_collection:
        admin_collection(w);
        break;
    case SIM_FAULT_member:
        admin_member(w);
        break;
    default:
        trouble_node(t);
    }
}

static bool damages(enum sim_fault fault)
{
    return fault >= SIM_FAULT_lost_write && fault <= SIM_FAULT_read_error;
}

static void trouble_later(struct trouble *t)
{
    sim_after(t->workload->sim, dice_below(&t->dice, t->every_ns * 2) + 1, trouble_next, t,
              t->workload->round);
}

static void trouble_next(void *owner, uint64_t round)
{
    struct trouble *t = owner;
    struct workload *w = t->workload;
    if (w->quiet || w->sim->failed || w->round != round)
        return;
    trouble_run(t);
    /* Damage may show late or never; the others count when they come about. */
    uint64_t most = t->fault == SIM_FAULT_long_pause              ? LONG_MAX
                    : t->fault == SIM_FAULT_stale && w->plan.mill ? UINT32_MAX
                                                                  : TIMES_MAX;
    if ((damages(t->fault) ? ++t->times : w->sim->faults[t->fault] - t->before) < most)
        trouble_later(t);
}

void trouble_begin(struct workload *w)
{
    trouble_node_init(w);
    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        w->troubles[i].times = 0;
        w->troubles[i].before = w->sim->faults[i];
        if (w->troubles[i].on && rarity[i] > 0)
            trouble_later(&w->troubles[i]);
    }
    vnet_options(w->cluster->net)->cut_ppm = w->troubles[SIM_FAULT_cut].on ? 100000 : 0;
    for (uint32_t i = 0; i < w->cluster->options.nodes; i++)
        for (uint32_t k = 0; k < w->cluster->options.shards; k++)
            vdisk_faults(w->cluster->nodes[i].shards[k].disk)->short_io =
                w->troubles[SIM_FAULT_short_write].on ? 50000 : 0;
}

/* --- The end of it -----------------------------------------------------------------------------
 */

static void node_heal(struct workload *w, struct node *node)
{
    node_sleep(node, 0);
    disk_heal(node);
    node->skew_ms = 0;
    node->crash_after = 0;
    node->zeros_awaited = false;
    for (int ms = 0; node->stopping && ms < 60000 && !w->sim->failed; ms++)
        cluster_run(w->cluster, SIM_MS);
    if (node->stopping)
        sim_fail(w->sim, "%s doesn't stop within a minute", node->name);
    else if (node->up && (node_stat(node, STAT_readonly) != 0 || node_weak(w, node)))
        node_kill(node); /* a start finds what rotted where no footer stands for it */
    if (!node->up && !w->sim->failed)
        node_up(w, node);
}

void trouble_heal(struct workload *w)
{
    sim_trace(w->sim, "everything is healed");
    w->quiet = true;
    vnet_open_all(w->cluster->net);
    vnet_options(w->cluster->net)->cut_ppm = 0;
    folders_return(w);
    for (uint32_t i = 0; i < w->cluster->options.nodes && !w->sim->failed; i++)
        node_heal(w, &w->cluster->nodes[i]);
    for (uint32_t i = 0; i < w->cluster->options.nodes && !w->sim->failed; i++)
        if (!node_wait_serving(&w->cluster->nodes[i], 900 * SIM_S))
            sim_fail(w->sim, "%s doesn't come up again: %s", w->cluster->nodes[i].name,
                     w->cluster->nodes[i].failure);
    for (uint32_t i = 0; i < w->cluster->client_count; i++) {
        w->cluster->clients[i].skew_ms = 0;
        client_start_later(&w->cluster->clients[i], 0);
    }
    w->troubled = -1;
    w->trouble_count++;
    w->swapped[0] = w->swapped[1] = w->cloned = -1;
    if (!w->sim->failed)
        cluster_run(w->cluster, 5 * SIM_S); /* a node looks at its free space now and then */
    /* What was under way may have failed still: that, too, needs a start. */
    for (uint32_t i = 0; i < w->cluster->options.nodes && !w->sim->failed; i++) {
        struct node *node = &w->cluster->nodes[i];
        if (!node->up || node_stat(node, STAT_readonly) == 0)
            continue;
        node_kill(node);
        node_up(w, node);
        if (!node_wait_serving(node, 900 * SIM_S))
            sim_fail(w->sim, "%s doesn't come up again: %s", node->name, node->failure);
    }
}
