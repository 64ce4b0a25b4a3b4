/* cluster.c: the drivers' part for nodes and clients.
 *
 * What ends is queued and reported at the next turn, a moment later, so that turns gather several
 * inputs as real ones do. Events of a life that is over are known by its number and ignored. */
#include "cluster.h"

#include "answer.h"
#include "raw.h"
#include <kho/map.h>

/* --- Time ------------------------------------------------------------------------------------- */

static uint64_t wall(const struct cluster *cluster, int64_t skew_ms)
{
    return (uint64_t)((int64_t)(cluster->wall_ms + cluster->sim->now_ns / SIM_MS) + skew_ms);
}

struct kho_now node_now(const struct node *node)
{
    /* Monotonic clocks of different machines have nothing in common. */
    return (struct kho_now){.mono_ns =
                                node->cluster->sim->now_ns + UINT64_C(1000) * node->index * SIM_S,
                            .wall_ms = wall(node->cluster, node->skew_ms)};
}

struct kho_now client_end_now(const struct client_end *end)
{
    return (struct kho_now){.mono_ns =
                                end->cluster->sim->now_ns + UINT64_C(77) * end->index * SIM_S,
                            .wall_ms = wall(end->cluster, end->skew_ms)};
}

/* From a core's monotonic moment to virtual time. */
static uint64_t at_virtual(uint64_t mono_ns, struct kho_now now, uint64_t now_ns)
{
    return mono_ns <= now.mono_ns ? now_ns : now_ns + (mono_ns - now.mono_ns);
}

/* --- Turns of a node -------------------------------------------------------------------------- */

static void node_turn(void *owner, uint64_t life);
static void node_tick(void *owner, uint64_t life);

static uint64_t asleep(const struct node *node)
{
    return node->asleep_until > node->cluster->sim->now_ns ? node->asleep_until : 0;
}

static void node_turn_soon(struct node *node)
{
    if (node->turn_due || !node->up)
        return;
    node->turn_due = true;
    sim_after(node->cluster->sim, dice_below(&node->dice, 10 * SIM_US), node_turn, node,
              node->life);
}

/* Reports what has ended. */
static void shard_report(struct node_shard *s)
{
    struct queue *link;
    while ((link = queue_pop(&s->ended)) != NULL)
        shard_completed(s->shard, KHO_CONTAINER_OF(link, struct op, link), node_now(s->node));
}

static void shard_events(struct node_shard *s)
{
    struct node *node = s->node;
    struct event event;
    while (shard_next_event(s->shard, &event)) {
        sim_trace(node->cluster->sim, "%s.%u: [%u] %s", node->name, s->number, event.level,
                  event.text);
        if (event.level == EVENT_ERROR)
            snprintf(node->failure, sizeof node->failure, "%s", event.text);
    }
}

/* What was zeroed by the file system and isn't synced yet may come back as it was. */
static bool zeros_at_stake(struct node_shard *s, const struct op *op)
{
    if (op->kind == OP_ALLOCATE && (op->flags & OP_ALLOCATE_ZEROS) != 0)
        s->zeros_under_way = op->file + 1;
    if (op->kind != OP_SYNC || s->zeros_under_way != op->file + 1)
        return false;
    s->zeros_under_way = 0;
    return s->node->zeros_awaited;
}

/* A crash was planned for this op. */
static bool crash_wanted(struct node_shard *s, const struct op *op)
{
    struct node *node = s->node;
    bool zeros = zeros_at_stake(s, op);
    if (node->cluster->may_crash == NULL)
        return false;
    if (zeros) {
        node->crash_power = true;
        return true;
    }
    if (node->crash_after == 0 ||
        (node->crash_kind == 0 ? op->kind >= OP_SEND : op->kind != node->crash_kind))
        return false;
    node->crash_after -= node->crash_after > 1;
    return node->crash_after == 1;
}

static void shard_ops(struct node_shard *s)
{
    struct node *node = s->node;
    struct cluster *cluster = node->cluster;
    struct op *op;
    while (!node->crash_due && (op = shard_next_op(s->shard)) != NULL) {
        queue_init(&op->link);
        if (op->kind >= OP_SEND)
            vnet_node_op(node->cluster->net, node->index, op);
        else
            vdisk_submit(s->disk, op);
        if (node->cluster->sim->failed)
            return;
        if (crash_wanted(s, op) && cluster->may_crash(cluster->owner, node))
            node->crash_due = true;
    }
}

static void node_down(struct node *node, bool silent)
{
    if (!node->up)
        return;
    node->up = false;
    node->life++;
    node->turn_due = node->map_due = false;
    node->stopping = false;
    node->crash_due = false;
    node->crash_after = 0;
    node->crash_kind = 0;
    node->asleep_until = 0;
    node->silent = silent;
    vnet_node_gone(node->cluster->net, node->index, silent);
    for (uint32_t i = 0; i < node->shard_count; i++) {
        struct node_shard *s = &node->shards[i];
        shard_events(s);
        queue_init(&s->ended);
        s->zeros_under_way = 0;
        shard_destroy(s->shard);
        s->shard = NULL;
    }
}

/* --- The shards' common map ------------------------------------------------------------------- */

static void node_epochs(const struct node *node, uint64_t *ret_lowest, uint64_t *ret_newest)
{
    *ret_lowest = UINT64_MAX;
    *ret_newest = 0;
    for (uint32_t i = 0; i < node->shard_count; i++) {
        uint64_t epoch = shard_epoch(node->shards[i].shard);
        *ret_lowest = kho_min(*ret_lowest, epoch);
        *ret_newest = kho_max(*ret_newest, epoch);
    }
}

/* Brings the newest map to the shards that are behind, some time after it came into force. */
static void node_map_bring(void *owner, uint64_t life)
{
    struct node *node = owner;
    const struct map *newest = NULL;
    if (node->life != life || !node->up)
        return;
    node->map_due = false;
    for (uint32_t i = 0; i < node->shard_count; i++) {
        const struct map *map = shard_map(node->shards[i].shard);
        if (map != NULL && (newest == NULL || map->epoch > newest->epoch))
            newest = map;
    }
    for (uint32_t i = 0; newest != NULL && i < node->shard_count; i++) {
        struct shard *shard = node->shards[i].shard;
        if (shard_epoch(shard) < newest->epoch && shard_phase(shard) == SHARD_SERVING)
            shard_map_set(shard, newest->bytes, newest->length, node_now(node));
    }
    node_turn_soon(node);
}

static void node_map_follow(struct node *node)
{
    struct sim *sim = node->cluster->sim;
    uint64_t lowest, newest;
    node_epochs(node, &lowest, &newest);
    bool behind = lowest < newest;
    if (!behind)
        node->map_spread_at = 0;
    else if (node->map_spread_at == 0)
        node->map_spread_at = sim->now_ns + SIM_S;
    bool waited = behind && sim->now_ns >= node->map_spread_at;
    for (uint32_t i = 0; i < node->shard_count && node->shard_count > 1; i++)
        shard_map_spread(node->shards[i].shard, waited ? newest : lowest, node_now(node));
    if (behind && !node->map_due) {
        node->map_due = true;
        sim_after(sim, dice_below(&node->dice, 20 * SIM_MS), node_map_bring, node, node->life);
    }
}

/* --- A turn ----------------------------------------------------------------------------------- */

static uint64_t node_deadline(const struct node *node)
{
    uint64_t deadline = UINT64_MAX;
    for (uint32_t i = 0; i < node->shard_count; i++)
        deadline = kho_min(deadline, shard_deadline(node->shards[i].shard));
    return deadline;
}

static void node_tick_plan(struct node *node)
{
    uint64_t deadline = node_deadline(node);
    struct sim *sim = node->cluster->sim;
    if (deadline == UINT64_MAX)
        return;
    uint64_t at = at_virtual(deadline, node_now(node), sim->now_ns);
    if (node->tick_at > sim->now_ns && node->tick_at <= at)
        return;
    node->tick_at = kho_max(at, sim->now_ns + 1);
    sim_at(sim, node->tick_at, node_tick, node, node->life);
}

/* A disk that nothing was done to has no damage; a shard that finds some there has made it. */
static void shard_hale(const struct node_shard *s)
{
    static const enum wire_stat stats[] = {STAT_damaged_blocks, STAT_values_unknown};
    for (size_t i = 0; i < KHO_COUNT_OF(stats); i++) {
        uint64_t count = shard_stat(s->shard, stats[i]);
        if (count > 0 && !vdisk_hurt(s->disk))
            sim_fail(s->node->cluster->sim, "%s.%u has %llu %s on a disk that nothing was done to",
                     s->node->name, s->number, (unsigned long long)count,
                     i == 0 ? "damaged blocks" : "values unknown");
    }
}

/* A start may use more for a while, and says so by its bound. */
static void memory_look(const struct node_shard *s)
{
    uint64_t max = shard_phase(s->shard) == SHARD_SERVING ? s->node->memory_max
                                                          : shard_stat(s->shard, STAT_memory_max);
    uint64_t bytes = shard_stat(s->shard, STAT_memory_bytes);
    s->node->cluster->memory_looks++;
    if (bytes > max)
        sim_fail(s->node->cluster->sim, "%s.%u uses %llu bytes of memory, its bound is %llu",
                 s->node->name, s->number, (unsigned long long)bytes, (unsigned long long)max);
}

static void shard_turn(struct node_shard *s, struct kho_now now)
{
    enum shard_phase before = shard_phase(s->shard);
    shard_report(s);
    if (shard_deadline(s->shard) <= now.mono_ns)
        shard_tick(s->shard, now);
    shard_turn_end(s->shard, now);
    shard_ops(s);
    shard_events(s);
    memory_look(s);
    enum shard_phase phase = shard_phase(s->shard);
    if (phase == SHARD_SERVING && s->turns++ % 32 == 0)
        shard_hale(s);
    if (phase != before)
        sim_trace(s->node->cluster->sim, "%s.%u: phase %d", s->node->name, s->number, (int)phase);
}

/* True: one of its shards can't start, or all have stopped. */
static bool node_ended(struct node *node)
{
    struct sim *sim = node->cluster->sim;
    uint32_t stopped = 0;
    bool failed = false;
    for (uint32_t i = 0; i < node->shard_count; i++) {
        const struct node_shard *s = &node->shards[i];
        enum shard_phase phase = shard_phase(s->shard);
        failed = failed || phase == SHARD_FAILED;
        stopped += phase == SHARD_STOPPED;
        if (phase == SHARD_STOPPED && vdisk_busy(s->disk))
            sim_fail(sim, "%s: stopped with ops under way", node->name);
    }
    if (!failed && stopped < node->shard_count)
        return false;
    node->refused_failed += failed;
    node_down(node, false);
    for (uint32_t i = 0; i < node->shard_count; i++)
        vdisk_cut(node->shards[i].disk, VDISK_KILL);
    return true;
}

static void node_turn(void *owner, uint64_t life)
{
    struct node *node = owner;
    struct sim *sim = node->cluster->sim;
    if (node->life != life || !node->up)
        return;
    if (asleep(node) > 0) {
        sim_at(sim, asleep(node), node_turn, node, life);
        return;
    }
    node->turn_due = false;
    bool more = false;
    for (uint32_t i = 0; i < node->shard_count && !sim->failed && !node->crash_due; i++) {
        shard_turn(&node->shards[i], node_now(node));
        more = more || !queue_empty(&node->shards[i].ended);
    }
    if (sim->failed)
        return;
    if (node->crash_due) {
        /* What the cores asked for behind it is asked of nobody. */
        node->zeros_awaited = false;
        sim_fault(sim, SIM_FAULT_kill_step);
        if (node->crash_power)
            node_power_cut(node);
        else
            node_kill(node);
        return;
    }
    if (node_ended(node))
        return;
    node_map_follow(node);
    if (more)
        node_turn_soon(node);
    node_tick_plan(node);
}

static void node_tick(void *owner, uint64_t life)
{
    struct node *node = owner;
    if (node->life == life)
        node_turn_soon(node);
}

static void disk_ended(void *owner, struct op *op)
{
    struct node_shard *s = owner;
    queue_push(&s->ended, &op->link);
    node_turn_soon(s->node);
}

/* --- What the net tells a node ---------------------------------------------------------------- */

static struct node *node_of(void *owner, uint32_t index)
{
    return &((struct cluster *)owner)->nodes[index];
}

/* The shard of a connection, its earlier inputs reported. */
static struct node_shard *shard_of(struct node *node, int32_t conn)
{
    KHO_ASSERT(conn >= 0 && conn < VNET_CONNS_MAX);
    return &node->shards[node->shard_of[conn]];
}

static uint64_t net_node_asleep(void *owner, uint32_t index)
{
    return asleep(node_of(owner, index));
}
static int net_node_listening(void *owner, uint32_t index)
{
    struct node *node = node_of(owner, index);
    if (!node->up)
        return node->silent ? -1 : 0;
    if (asleep(node) > 0)
        return -1;
    return node_serving(node);
}
static void net_node_accepted(void *owner, uint32_t index, int32_t conn,
                              const struct wire_hello_client *hello)
{
    struct node *node = node_of(owner, index);
    KHO_ASSERT(conn >= 0 && conn < VNET_CONNS_MAX);
    node->shard_of[conn] = (uint8_t)(hello->shard < node->shard_count ? hello->shard : 0);
    struct node_shard *s = shard_of(node, conn);
    shard_report(s);
    shard_accepted(s->shard, conn, hello, node_now(node));
    node_turn_soon(node);
}
static void net_node_refused(void *owner, uint32_t index, int status,
                             struct wire_hello_node *ret_hello)
{
    struct node *node = node_of(owner, index);
    shard_hello(node->shards[0].shard, node_now(node), ret_hello);
    ret_hello->status = status;
}
static void net_node_received(void *owner, uint32_t index, int32_t conn, const uint8_t *bytes,
                              size_t len)
{
    struct node *node = node_of(owner, index);
    struct node_shard *s = shard_of(node, conn);
    shard_report(s);
    shard_received(s->shard, conn, bytes, len, node_now(node));
    node_turn_soon(node);
}
static void net_node_disconnected(void *owner, uint32_t index, int32_t conn, int error)
{
    struct node *node = node_of(owner, index);
    struct node_shard *s = shard_of(node, conn);
    shard_report(s);
    shard_disconnected(s->shard, conn, error, node_now(node));
    node_turn_soon(node);
}
static void net_node_completed(void *owner, uint32_t index, struct op *op)
{
    struct node *node = node_of(owner, index);
    queue_push(&shard_of(node, op->conn)->ended, &op->link);
    node_turn_soon(node);
}

/* --- Turns of a client ------------------------------------------------------------------------ */

static void client_turn(void *owner, uint64_t life);

void client_end_turn_soon(struct client_end *end)
{
    if (end->turn_due || end->client == NULL)
        return;
    end->turn_due = true;
    sim_after(end->cluster->sim, dice_below(&end->dice, 10 * SIM_US), client_turn, end, end->life);
}

static void client_tick_arrives(void *owner, uint64_t life)
{
    struct client_end *end = owner;
    if (end->life == life)
        client_end_turn_soon(end);
}

static void client_report(struct client_end *end)
{
    struct queue *link;
    while ((link = queue_pop(&end->ended)) != NULL)
        client_completed(end->client, KHO_CONTAINER_OF(link, struct client_op, link),
                         client_end_now(end));
}

static void client_turn(void *owner, uint64_t life)
{
    struct client_end *end = owner;
    struct sim *sim = end->cluster->sim;
    struct client_done done;
    struct client_op *op;
    if (end->life != life || end->client == NULL)
        return;
    end->turn_due = false;
    struct kho_now now = client_end_now(end);
    client_report(end);
    if (client_deadline(end->client) <= now.mono_ns)
        client_tick(end->client, now);
    client_step_end(end->client, now);
    while ((op = client_next_op(end->client)) != NULL) {
        queue_init(&op->link);
        vnet_client_op(end->cluster->net, end->index, op);
        if (sim->failed)
            return;
    }
    while (end->life == life && client_next_done(end->client, &done))
        answer_take(end, &done);
    if (end->life != life)
        return; /* a callback ended this client */
    if (!queue_empty(&end->ended))
        client_end_turn_soon(end);
    uint64_t deadline = client_deadline(end->client);
    if (deadline == UINT64_MAX)
        return;
    uint64_t at = at_virtual(deadline, now, sim->now_ns);
    if (end->tick_at > sim->now_ns && end->tick_at <= at)
        return;
    end->tick_at = kho_max(at, sim->now_ns + 1);
    sim_at(sim, end->tick_at, client_tick_arrives, end, end->life);
}

static struct client_end *end_of(void *owner, uint32_t index)
{
    return &((struct cluster *)owner)->clients[index];
}
static void net_client_received(void *owner, uint32_t index, int32_t conn, const uint8_t *bytes,
                                size_t len)
{
    struct client_end *end = end_of(owner, index);
    client_report(end);
    client_received(end->client, conn, bytes, len, client_end_now(end));
    client_end_turn_soon(end);
}
static void net_client_disconnected(void *owner, uint32_t index, int32_t conn, int error)
{
    struct client_end *end = end_of(owner, index);
    client_report(end);
    client_disconnected(end->client, conn, error, client_end_now(end));
    client_end_turn_soon(end);
}
static void net_client_completed(void *owner, uint32_t index, struct client_op *op)
{
    struct client_end *end = end_of(owner, index);
    queue_push(&end->ended, &op->link);
    client_end_turn_soon(end);
}

/* --- Nodes up and down ------------------------------------------------------------------------ */

static bool shard_begin(struct node_shard *s, const struct shard_options *common)
{
    struct sim *sim = s->node->cluster->sim;
    struct shard_options options = *common;
    size_t count = vdisk_list(s->disk, NULL, 0);
    struct file_found *files = calloc(count + 1, sizeof *files);
    KHO_ASSERT(files != NULL);
    vdisk_list(s->disk, files, count);
    options.shard = s->number;
    options.seed = kho_random_next(&s->node->cluster->random);
    int rc = shard_create(&options, &s->shard);
    if (rc != 0) {
        sim_fail(sim, "%s: shard_create says %d", s->node->name, rc);
        free(files);
        return false;
    }
    sim_trace(sim, "%s.%u: starts with %zu files", s->node->name, s->number, count);
    shard_start(s->shard, files, count, node_now(s->node));
    free(files);
    return true;
}

void node_start(struct node *node)
{
    struct cluster *cluster = node->cluster;
    struct shard_options options;
    KHO_ASSERT(!node->up);
    shard_options_init(&options);
    options.shard_count = node->shard_count;
    options.incarnation = node->incarnation;
    options.boot = kho_random_id(&cluster->random);
    options.segment_bytes = cluster->options.segment_bytes;
    options.compact_rate = cluster->options.compact_rate;
    options.scrub_ms = cluster->options.scrub_ms;
    options.compact_dead_percent = cluster->options.compact_dead_percent;
    options.alignment = cluster->options.alignment;
    options.memory_max = node->memory_max = cluster->options.memory_max;
    options.connections_max = cluster->options.net.connections_max;
    options.commits_max = cluster->options.commits_max;
    options.footer_entries = cluster->options.footer_entries;
    options.idle_mark_ms = cluster->options.idle_mark_ms;
    options.reserve_bytes = cluster->options.reserve_bytes;
    for (uint32_t i = 0; i < node->shard_count; i++)
        if (!shard_begin(&node->shards[i], &options))
            return;
    node->up = true;
    node->life++;
    node->silent = false;
    node->stopping = false;
    node->asleep_until = 0;
    node->tick_at = 0;
    node->map_spread_at = 0;
    node->failure[0] = '\0';
    /* What is read at a start decides where the log ends: nobody but the disk could know better. */
    for (uint32_t i = 0; i < node->shard_count; i++)
        vdisk_faults(node->shards[i].disk)->misdirected_read = 0;
    vnet_node_back(cluster->net, node->index);
    node_turn_soon(node);
}

static void disks_cut(struct node *node, enum vdisk_cut cut)
{
    for (uint32_t i = 0; i < node->shard_count; i++)
        vdisk_cut(node->shards[i].disk, cut);
}

void node_kill(struct node *node)
{
    if (!node->up)
        return;
    sim_trace(node->cluster->sim, "fault: %s is killed", node->name);
    sim_fault(node->cluster->sim, SIM_FAULT_kill);
    disks_cut(node, VDISK_KILL);
    node_down(node, false);
}

void node_power_cut(struct node *node)
{
    sim_trace(node->cluster->sim, "fault: %s loses power", node->name);
    sim_fault(node->cluster->sim, SIM_FAULT_power);
    disks_cut(node, VDISK_POWER);
    node->silent = true;
    node_down(node, true);
}

void node_stop(struct node *node)
{
    if (!node->up || node->stopping)
        return;
    sim_trace(node->cluster->sim, "fault: %s is asked to stop", node->name);
    sim_fault(node->cluster->sim, SIM_FAULT_stop);
    node->stopping = true;
    for (uint32_t i = 0; i < node->shard_count; i++)
        shard_stop(node->shards[i].shard, node_now(node));
    node_turn_soon(node);
}

void node_wipe(struct node *node)
{
    KHO_ASSERT(!node->up);
    for (uint32_t i = 0; i < node->shard_count; i++)
        vdisk_wipe(node->shards[i].disk);
    node->incarnation = kho_random_id(&node->cluster->random);
    sim_trace(node->cluster->sim, "fault: the folder of %s is made anew", node->name);
}

static void folder_take(struct node *node, struct vdisk *const *disks, struct kho_id incarnation)
{
    node->incarnation = incarnation;
    for (uint32_t i = 0; i < node->shard_count; i++) {
        node->shards[i].disk = disks[i];
        vdisk_owner(disks[i], &node->shards[i]);
    }
    node->disk = node->shards[0].disk;
}

static void folder_of(const struct node *node, struct vdisk **ret_disks)
{
    for (uint32_t i = 0; i < node->shard_count; i++)
        ret_disks[i] = node->shards[i].disk;
}

void node_folders_swap(struct node *a, struct node *b)
{
    struct vdisk *of_a[NODE_SHARDS_MAX], *of_b[NODE_SHARDS_MAX];
    struct kho_id incarnation = a->incarnation;
    KHO_ASSERT(!a->up && !b->up);
    folder_of(a, of_a);
    folder_of(b, of_b);
    folder_take(a, of_b, b->incarnation);
    folder_take(b, of_a, incarnation);
    sim_trace(a->cluster->sim, "fault: %s and %s get each other's folders", a->name, b->name);
}

void node_folder_clone(struct node *node, const struct node *from)
{
    struct vdisk *clones[NODE_SHARDS_MAX];
    KHO_ASSERT(!node->up && !node->cloned);
    folder_of(node, node->own_disks);
    node->own_incarnation = node->incarnation;
    node->cloned = true;
    for (uint32_t i = 0; i < node->shard_count; i++) {
        char name[32];
        snprintf(name, sizeof name, "c%u.%u", node->index, i);
        clones[i] = vdisk_clone(from->shards[i].disk, name);
    }
    folder_take(node, clones, from->incarnation);
    sim_trace(node->cluster->sim, "fault: %s gets a copy of the folder of %s", node->name,
              from->name);
}

void node_folder_own(struct node *node)
{
    KHO_ASSERT(!node->up && node->cloned);
    struct cluster *cluster = node->cluster;
    size_t count = cluster->given_back_count + node->shard_count;
    cluster->given_back = realloc(cluster->given_back, count * sizeof(struct vdisk *));
    KHO_ASSERT(cluster->given_back != NULL);
    for (uint32_t i = 0; i < node->shard_count; i++) {
        vdisk_wipe(node->shards[i].disk);
        cluster->given_back[cluster->given_back_count++] = node->shards[i].disk;
    }
    folder_take(node, node->own_disks, node->own_incarnation);
    node->cloned = false;
    sim_trace(node->cluster->sim, "%s has its own folder again", node->name);
}

void node_sleep(struct node *node, uint64_t ns)
{
    bool slept = asleep(node) > 0;
    node->asleep_until = ns == 0 ? 0 : kho_max(node->asleep_until, node->cluster->sim->now_ns + ns);
    if (ns == 0) {
        /* What waits for the moment it was to wake at must not. */
        if (slept && node->up) {
            node->turn_due = false;
            node_turn_soon(node);
            vnet_node_awake(node->cluster->net, node->index);
        }
        return;
    }
    sim_trace(node->cluster->sim, "fault: %s is stopped for %llu ms", node->name,
              (unsigned long long)(ns / SIM_MS));
    sim_fault(node->cluster->sim, SIM_FAULT_pause);
}

bool node_serving(const struct node *node)
{
    for (uint32_t i = 0; i < node->shard_count && node->up; i++)
        if (shard_phase(node->shards[i].shard) != SHARD_SERVING)
            return false;
    return node->up;
}

bool node_wait_serving(struct node *node, uint64_t ns)
{
    uint64_t until = node->cluster->sim->now_ns + ns;
    while (!node_serving(node) && node->up && node->cluster->sim->now_ns < until &&
           !node->cluster->sim->failed)
        sim_run(node->cluster->sim, kho_min(until, node->cluster->sim->now_ns + SIM_MS), NULL);
    return node_serving(node);
}

uint64_t node_stat(const struct node *node, enum wire_stat stat)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < node->shard_count && node->up; i++)
        sum += shard_stat(node->shards[i].shard, stat);
    return sum;
}

/* --- Clients up and down ---------------------------------------------------------------------- */

void client_end_start(struct client_end *end)
{
    struct cluster *cluster = end->cluster;
    struct kho_options options;
    KHO_ASSERT(end->client == NULL);
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.cluster = cluster->seeds;
    options.deadline_ms = cluster->options.deadline_ms;
    options.unavailable_after_ms = 2000;
    options.hedge_ms = cluster->options.hedge_ms;
    options.inflight_bytes_max = cluster->options.inflight_bytes_max;
    options.holdback_bytes_max = cluster->options.holdback_bytes_max;
    /* One after the other compresses as is usual, never, or whatever compresses: the same value may
     * go out again in other bytes. */
    static const uint32_t compress_min[] = {0, UINT32_MAX, 1};
    options.compress_min = compress_min[(end->index + end->life) % 3];
    end->life++;
    end->turn_due = false;
    end->tick_at = 0;
    queue_init(&end->ended);
    int rc = client_create(&options, kho_random_next(&cluster->random), client_end_now(end),
                           &end->client);
    if (rc != 0) {
        sim_fail(cluster->sim, "client %u: client_create says %d", end->index, rc);
        return;
    }
    client_end_turn_soon(end);
}

void client_end_crash(struct client_end *end)
{
    if (end->client == NULL)
        return;
    struct client *client = end->client;
    end->client = NULL;
    end->life++;
    end->turn_due = false;
    queue_init(&end->ended);
    vnet_client_gone(end->cluster->net, end->index, dice_below(&end->dice, 2) == 0);
    client_destroy(client);
    answers_lost(end);
}

uint32_t cluster_client_add(struct cluster *cluster)
{
    uint32_t index = cluster->client_count++;
    KHO_ASSERT(index < VNET_CLIENTS_MAX);
    struct client_end *end = &cluster->clients[index];
    *end = (struct client_end){.cluster = cluster, .index = index};
    sim_dice(cluster->sim, "client", index, &end->dice);
    queue_init(&end->ended);
    queue_init(&end->answers);
    client_end_start(end);
    return index;
}

/* --- The cluster ------------------------------------------------------------------------------ */

void cluster_options_init(struct cluster_options *options)
{
    *options = (struct cluster_options){
        .nodes = 3,
        .clients = 1,
        .shards = 1,
        .partitions = 8,
        .replicas = 3,
        .write_quorum = 2,
        .read_quorum = 2,
        .alignment = 4096,
        .commits_max = 2,
        .footer_entries = 60,
        .idle_mark_ms = 20,
        .segment_bytes = 32ull << 20,
        .compact_rate = 64ull << 20,
        .compact_dead_percent = 50,
        .memory_max = 128ull << 20,
        .reserve_bytes = 64ull << 20,
        .deadline_ms = 10000,
        .hedge_ms = 50,
        .inflight_bytes_max = 64ull << 20,
        .holdback_bytes_max = 64ull << 20,
        .net = {.delay_ns = 100 * SIM_US, .connections_max = 64, .window_bytes = 256 << 10},
        .map = true,
    };
}

static const struct vnet_world net_world = {
    .node_asleep = net_node_asleep,
    .node_listening = net_node_listening,
    .node_accepted = net_node_accepted,
    .node_refused = net_node_refused,
    .node_received = net_node_received,
    .node_disconnected = net_node_disconnected,
    .node_completed = net_node_completed,
    .client_received = net_client_received,
    .client_disconnected = net_client_disconnected,
    .client_completed = net_client_completed,
};

static void map_bring(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->options.nodes; i++) {
        struct node *node = &cluster->nodes[i];
        if (!node_wait_serving(node, 60 * SIM_S)) {
            sim_fail(cluster->sim, "%s doesn't come up on an empty disk: %s", node->name,
                     node->failure);
            return;
        }
        int rc = raw_map_push(node, cluster->map, cluster->map_len);
        if (rc != 0)
            sim_fail(cluster->sim, "%s refuses the first map: %d", node->name, rc);
    }
}

static void shard_place(struct node *node, uint32_t number)
{
    struct cluster *cluster = node->cluster;
    struct node_shard *s = &node->shards[number];
    char name[32];
    *s = (struct node_shard){.node = node, .number = number};
    queue_init(&s->ended);
    snprintf(name, sizeof name, "%s.%u", node->name, number);
    s->disk = vdisk_create(cluster->sim, name, cluster->options.alignment, disk_ended, s);
}

struct cluster *cluster_create(struct sim *sim, const struct cluster_options *options)
{
    struct cluster *cluster = calloc(1, sizeof *cluster);
    KHO_ASSERT(cluster != NULL && options->nodes <= VNET_NODES_MAX);
    KHO_ASSERT(options->shards >= 1 && options->shards <= NODE_SHARDS_MAX);
    KHO_ASSERT(options->net.connections_max <= VNET_CONNS_MAX);
    cluster->sim = sim;
    cluster->options = *options;
    kho_random_init(&cluster->random, sim->seed * 31 + 7);
    cluster->wall_ms = 1700000000000ull;
    cluster->id = kho_random_id(&cluster->random);
    cluster->map_seed = kho_random_next(&cluster->random);
    cluster->net = vnet_create(sim, &options->net, &net_world, cluster);
    for (uint32_t i = 0; i < options->nodes; i++) {
        struct node *node = &cluster->nodes[i];
        *node = (struct node){.cluster = cluster, .index = i};
        snprintf(node->name, sizeof node->name, "n%u", i);
        sim_dice(sim, "node", i, &node->dice);
        node->incarnation = kho_random_id(&cluster->random);
        node->shard_count = options->shards;
        for (uint32_t k = 0; k < options->shards; k++)
            shard_place(node, k);
        node->disk = node->shards[0].disk;
        size_t len = strlen(cluster->seeds);
        snprintf(cluster->seeds + len, sizeof cluster->seeds - len, "%sn%u:%u", i > 0 ? "," : "", i,
                 VNET_PORT + i);
        node_start(node);
    }
    cluster->map = cluster_map_make(cluster, 1, &cluster->map_len);
    if (options->map && !sim->failed)
        map_bring(cluster);
    for (uint32_t i = 0; i < options->clients && !sim->failed; i++)
        cluster_client_add(cluster);
    return cluster;
}

void cluster_destroy(struct cluster *cluster)
{
    if (cluster == NULL)
        return;
    for (uint32_t i = 0; i < cluster->client_count; i++)
        client_end_crash(&cluster->clients[i]);
    for (uint32_t i = 0; i < cluster->options.nodes; i++) {
        for (uint32_t k = 0; k < cluster->nodes[i].shard_count; k++) {
            if (cluster->nodes[i].cloned)
                vdisk_destroy(cluster->nodes[i].own_disks[k]);
            shard_destroy(cluster->nodes[i].shards[k].shard);
            vdisk_destroy(cluster->nodes[i].shards[k].disk);
        }
    }
    for (size_t i = 0; i < cluster->given_back_count; i++)
        vdisk_destroy(cluster->given_back[i]);
    free(cluster->given_back);
    vnet_destroy(cluster->net);
    free(cluster->map);
    free(cluster);
}

void cluster_run(struct cluster *cluster, uint64_t ns)
{
    sim_run(cluster->sim, cluster->sim->now_ns + ns, NULL);
}
