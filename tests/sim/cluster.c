/* cluster.c: the drivers' part for nodes and clients.
 *
 * What ends is queued and reported at the next turn, a moment later, so that turns gather several
 * inputs as real ones do. Events of a life that is over are known by its number and ignored. */
#include "cluster.h"

#include "answer.h"
#include "raw.h"
#include <kho/map.h>

enum { FILES_MAX = 512, SEND_MAX = 16 << 20 };

/* --- Time ------------------------------------------------------------------------------------- */

static uint64_t wall(const struct cluster *cluster, int64_t skew_ms)
{
    return (uint64_t)((int64_t)(cluster->wall_ms + cluster->sim->now_ns / SIM_MS) + skew_ms);
}

struct kho_now node_now(const struct node *node)
{
    /* Monotonic clocks of different machines have nothing in common. */
    return (struct kho_now){.mono_ns = node->cluster->sim->now_ns + node->index * 1000 * SIM_S,
                            .wall_ms = wall(node->cluster, node->skew_ms)};
}

struct kho_now client_end_now(const struct client_end *end)
{
    return (struct kho_now){.mono_ns = end->cluster->sim->now_ns + end->index * 77 * SIM_S,
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
    if (node->turn_due || node->shard == NULL)
        return;
    node->turn_due = true;
    sim_after(node->cluster->sim, sim_below(node->cluster->sim, 10 * SIM_US), node_turn, node,
              node->life);
}

/* Reports what has ended. */
static void node_report(struct node *node)
{
    struct queue *link;
    while ((link = queue_pop(&node->ended)) != NULL)
        shard_completed(node->shard, KHO_CONTAINER_OF(link, struct op, link), node_now(node));
}

static void node_events(struct node *node)
{
    struct event event;
    while (shard_next_event(node->shard, &event)) {
        sim_trace(node->cluster->sim, "%s: [%u] %s", node->name, event.level, event.text);
        if (event.level == EVENT_ERROR)
            snprintf(node->failure, sizeof node->failure, "%s", event.text);
    }
}

static void node_ops(struct node *node)
{
    struct op *op;
    while (node->shard != NULL && (op = shard_next_op(node->shard)) != NULL) {
        queue_init(&op->link);
        if (op->kind >= OP_SEND)
            vnet_node_op(node->cluster->net, node->index, op);
        else
            vdisk_submit(node->disk, op);
        if (node->cluster->sim->failed)
            return;
    }
}

static void node_down(struct node *node, bool silent)
{
    if (node->shard == NULL)
        return;
    node_events(node);
    node->life++;
    node->turn_due = false;
    node->stopping = false;
    node->asleep_until = 0;
    node->silent = silent;
    queue_init(&node->ended);
    vnet_node_gone(node->cluster->net, node->index, silent);
    shard_destroy(node->shard);
    node->shard = NULL;
}

static void node_tick_plan(struct node *node)
{
    uint64_t deadline = shard_deadline(node->shard);
    struct sim *sim = node->cluster->sim;
    if (deadline == UINT64_MAX)
        return;
    uint64_t at = at_virtual(deadline, node_now(node), sim->now_ns);
    if (node->tick_at > sim->now_ns && node->tick_at <= at)
        return;
    node->tick_at = kho_max(at, sim->now_ns + 1);
    sim_at(sim, node->tick_at, node_tick, node, node->life);
}

static void node_turn(void *owner, uint64_t life)
{
    struct node *node = owner;
    struct sim *sim = node->cluster->sim;
    if (node->life != life || node->shard == NULL)
        return;
    if (asleep(node) > 0) {
        sim_at(sim, asleep(node), node_turn, node, life);
        return;
    }
    node->turn_due = false;
    struct kho_now now = node_now(node);
    enum shard_phase before = shard_phase(node->shard);
    node_report(node);
    if (shard_deadline(node->shard) <= now.mono_ns)
        shard_tick(node->shard, now);
    shard_turn_end(node->shard, now);
    node_ops(node);
    node_events(node);
    if (sim->failed)
        return;
    enum shard_phase phase = shard_phase(node->shard);
    if (phase != before)
        sim_trace(sim, "%s: phase %d", node->name, (int)phase);
    if (phase == SHARD_FAILED || phase == SHARD_STOPPED) {
        node->refused_failed += phase == SHARD_FAILED;
        if (phase == SHARD_STOPPED && vdisk_busy(node->disk))
            sim_fail(sim, "%s: stopped with ops under way", node->name);
        node_down(node, false);
        vdisk_cut(node->disk, VDISK_KILL);
        return;
    }
    if (!queue_empty(&node->ended))
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
    struct node *node = owner;
    queue_push(&node->ended, &op->link);
    node_turn_soon(node);
}

/* --- What the net tells a node ---------------------------------------------------------------- */

static struct node *node_of(void *owner, uint32_t index)
{
    return &((struct cluster *)owner)->nodes[index];
}

static uint64_t net_node_asleep(void *owner, uint32_t index)
{
    return asleep(node_of(owner, index));
}
static int net_node_listening(void *owner, uint32_t index)
{
    struct node *node = node_of(owner, index);
    if (node->shard == NULL)
        return node->silent ? -1 : 0;
    if (asleep(node) > 0)
        return -1;
    return shard_phase(node->shard) == SHARD_SERVING;
}
static void net_node_accepted(void *owner, uint32_t index, int32_t conn,
                              const struct wire_hello_client *hello)
{
    struct node *node = node_of(owner, index);
    node_report(node);
    shard_accepted(node->shard, conn, hello, node_now(node));
    node_turn_soon(node);
}
static void net_node_refused(void *owner, uint32_t index, int status,
                             struct wire_hello_node *ret_hello)
{
    struct node *node = node_of(owner, index);
    shard_hello(node->shard, node_now(node), ret_hello);
    ret_hello->status = status;
}
static void net_node_received(void *owner, uint32_t index, int32_t conn, const uint8_t *bytes,
                              size_t len)
{
    struct node *node = node_of(owner, index);
    node_report(node);
    shard_received(node->shard, conn, bytes, len, node_now(node));
    node_turn_soon(node);
}
static void net_node_disconnected(void *owner, uint32_t index, int32_t conn, int error)
{
    struct node *node = node_of(owner, index);
    node_report(node);
    shard_disconnected(node->shard, conn, error, node_now(node));
    node_turn_soon(node);
}
static void net_node_completed(void *owner, uint32_t index, struct op *op)
{
    struct node *node = node_of(owner, index);
    queue_push(&node->ended, &op->link);
    node_turn_soon(node);
}

/* --- Turns of a client ------------------------------------------------------------------------ */

static void client_turn(void *owner, uint64_t life);

void client_end_turn_soon(struct client_end *end)
{
    if (end->turn_due || end->client == NULL)
        return;
    end->turn_due = true;
    sim_after(end->cluster->sim, sim_below(end->cluster->sim, 10 * SIM_US), client_turn, end,
              end->life);
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

void node_start(struct node *node)
{
    struct cluster *cluster = node->cluster;
    struct file_found files[FILES_MAX];
    struct shard_options options;
    KHO_ASSERT(node->shard == NULL);
    size_t count = vdisk_list(node->disk, files, FILES_MAX);
    KHO_ASSERT(count <= FILES_MAX);
    shard_options_init(&options);
    options.shard = 0;
    options.shard_count = 1;
    options.incarnation = node->incarnation;
    options.boot = kho_random_id(&cluster->random);
    options.seed = kho_random_next(&cluster->random);
    options.segment_bytes = cluster->options.segment_bytes;
    options.compact_rate = cluster->options.compact_rate;
    options.compact_dead_percent = cluster->options.compact_dead_percent;
    options.alignment = cluster->options.alignment;
    options.memory_max = cluster->options.memory_max;
    options.connections_max = cluster->options.net.connections_max;
    options.commits_max = cluster->options.commits_max;
    options.footer_entries = cluster->options.footer_entries;
    options.idle_mark_ms = cluster->options.idle_mark_ms;
    options.reserve_bytes = cluster->options.reserve_bytes;
    int rc = shard_create(&options, &node->shard);
    if (rc != 0) {
        sim_fail(cluster->sim, "%s: shard_create says %d", node->name, rc);
        return;
    }
    node->life++;
    node->silent = false;
    node->stopping = false;
    node->asleep_until = 0;
    node->tick_at = 0;
    node->failure[0] = '\0';
    vnet_node_back(cluster->net, node->index);
    sim_trace(cluster->sim, "%s: starts with %zu files", node->name, count);
    shard_start(node->shard, files, count, node_now(node));
    node_turn_soon(node);
}

void node_kill(struct node *node)
{
    if (node->shard == NULL)
        return;
    sim_trace(node->cluster->sim, "fault: %s is killed", node->name);
    sim_fault(node->cluster->sim, SIM_FAULT_kill);
    vdisk_cut(node->disk, VDISK_KILL);
    node_down(node, false);
}

void node_power_cut(struct node *node)
{
    sim_trace(node->cluster->sim, "fault: %s loses power", node->name);
    sim_fault(node->cluster->sim, SIM_FAULT_power);
    vdisk_cut(node->disk, VDISK_POWER);
    node->silent = true;
    node_down(node, true);
}

void node_stop(struct node *node)
{
    if (node->shard == NULL || node->stopping)
        return;
    sim_trace(node->cluster->sim, "fault: %s is asked to stop", node->name);
    sim_fault(node->cluster->sim, SIM_FAULT_stop);
    node->stopping = true;
    shard_stop(node->shard, node_now(node));
    node_turn_soon(node);
}

void node_wipe(struct node *node)
{
    KHO_ASSERT(node->shard == NULL);
    vdisk_wipe(node->disk);
    node->incarnation = kho_random_id(&node->cluster->random);
    sim_trace(node->cluster->sim, "fault: the folder of %s is made anew", node->name);
}

void node_sleep(struct node *node, uint64_t ns)
{
    bool slept = asleep(node) > 0;
    node->asleep_until = ns == 0 ? 0 : node->cluster->sim->now_ns + ns;
    if (ns == 0) {
        /* What waits for the moment it was to wake at must not. */
        if (slept && node->shard != NULL) {
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
    return node->shard != NULL && shard_phase(node->shard) == SHARD_SERVING;
}

bool node_wait_serving(struct node *node, uint64_t ns)
{
    uint64_t until = node->cluster->sim->now_ns + ns;
    while (!node_serving(node) && node->shard != NULL && node->cluster->sim->now_ns < until &&
           !node->cluster->sim->failed)
        sim_run(node->cluster->sim, kho_min(until, node->cluster->sim->now_ns + SIM_MS), NULL);
    return node_serving(node);
}

uint64_t node_stat(const struct node *node, enum wire_stat stat)
{
    return node->shard != NULL ? shard_stat(node->shard, stat) : 0;
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
    vnet_client_gone(end->cluster->net, end->index, sim_below(end->cluster->sim, 2) == 0);
    client_destroy(client);
    answers_lost(end);
}

uint32_t cluster_client_add(struct cluster *cluster)
{
    uint32_t index = cluster->client_count++;
    KHO_ASSERT(index < VNET_CLIENTS_MAX);
    struct client_end *end = &cluster->clients[index];
    *end = (struct client_end){.cluster = cluster, .index = index};
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
        .partitions = 8,
        .replicas = 3,
        .write_quorum = 2,
        .read_quorum = 2,
        .alignment = 4096,
        .commits_max = 2,
        .footer_entries = 30,
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

struct cluster *cluster_create(struct sim *sim, const struct cluster_options *options)
{
    struct cluster *cluster = calloc(1, sizeof *cluster);
    KHO_ASSERT(cluster != NULL && options->nodes <= VNET_NODES_MAX);
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
        queue_init(&node->ended);
        node->incarnation = kho_random_id(&cluster->random);
        node->disk = vdisk_create(sim, node->name, options->alignment, disk_ended, node);
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
        shard_destroy(cluster->nodes[i].shard);
        vdisk_destroy(cluster->nodes[i].disk);
    }
    vnet_destroy(cluster->net);
    free(cluster->map);
    free(cluster);
}

void cluster_run(struct cluster *cluster, uint64_t ns)
{
    sim_run(cluster->sim, cluster->sim->now_ns + ns, NULL);
}
