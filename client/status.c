/* status.c: owns CLIENT_STATUS: what every node says of itself.
 *
 * Happy path: every shard of every node is asked for its numbers; those of one node are added up
 * (but for the ones that are the node's own, where the largest counts). A node that can't be asked
 * has its status; its incarnation is the one that it told last, since a node that was made anew
 * answers HELLO and is what a person wants to see. The call fails only without a map, for memory,
 * or when it is cancelled: at its deadline it tells what it has. */
#include "session.h"

enum status_phase { STATUS_WAIT, STATUS_ASK, STATUS_ENDED };

/* Allowed moves, as bits of the phases that may follow. */
static const uint8_t status_moves[] = {
    [STATUS_WAIT] = 1u << STATUS_ASK | 1u << STATUS_ENDED,
    [STATUS_ASK] = 1u << STATUS_WAIT | 1u << STATUS_ENDED,
    [STATUS_ENDED] = 0,
};

static const char *const status_names[] = {
#define STATUS_NAME(name, sentence) #name,
    KHO_STATS(STATUS_NAME)
#undef STATUS_NAME
};

struct status_part {
    struct status *status;
    struct request request;
    uint32_t node;
    bool asked;
};

struct status_node {
    struct map_node node;
    uint64_t stats[STAT_COUNT];
    bool answered;
};

struct status {
    struct call call;
    enum status_phase phase;
    struct status_part *parts;
    uint32_t part_count;
    uint32_t waiting;
    struct status_node *nodes;
    struct kho_node_status *results;
    uint32_t node_count;
};

static struct status *status_of(struct call *call)
{
    return KHO_CONTAINER_OF(call, struct status, call);
}

static void status_move(struct status *status, enum status_phase to)
{
    KHO_ASSERT((status_moves[status->phase] & (1u << to)) != 0);
    status->phase = to;
}

static void status_drop(struct client *client, struct status *status)
{
    for (uint32_t i = 0; i < status->part_count; i++)
        if (status->parts[i].asked)
            request_drop(client, &status->parts[i].request);
    client_release(client, status->parts);
    status->parts = NULL;
    status->part_count = status->waiting = 0;
}

static void status_forget(struct client *client, struct status *status)
{
    status_drop(client, status);
    client_release(client, status->nodes);
    client_release(client, status->results);
    status->nodes = NULL;
    status->results = NULL;
    status->node_count = 0;
}

static void status_end(struct client *client, struct status *status, int code)
{
    if (code == 0)
        for (uint32_t i = 0; i < status->part_count; i++)
            if (status->parts[i].asked && status->results[status->parts[i].node].status == 0)
                status->results[status->parts[i].node].status = KHO_EDEADLINE;
    status_drop(client, status);
    status_move(status, STATUS_ENDED);
    for (uint32_t i = 0; i < status->node_count; i++)
        if (status->results[i].status != 0)
            status->results[i].stat_count = 0;
    status->call.done.node_status.nodes = status->results;
    status->call.done.node_status.count = status->node_count;
    call_end(client, &status->call, code);
}

/* Numbers of the node rather than of one of its shards. */
static bool status_is_shared(uint32_t stat)
{
    return stat == STAT_disk_free || stat == STAT_epoch || stat == STAT_recovery_ms ||
           stat == STAT_scrub_age;
}

static void status_frame(struct client *client, struct request *request,
                         const struct wire_head *head, const uint8_t *body, size_t len,
                         struct kho_now now)
{
    struct status_part *part = request->owner;
    struct status *status = part->status;
    struct status_node *node = &status->nodes[part->node];
    uint64_t *stats = node->stats;
    (void)client;
    (void)now;
    /* A newer node may tell more numbers than we know, an older one fewer. */
    for (uint32_t i = 0; i < head->count && i < STAT_COUNT && len >= WIRE_STAT_VALUE; i++) {
        uint64_t value = kho_load64(body);
        if (i == STAT_epoch && node->answered)
            stats[i] = kho_min(stats[i], value); /* the node goes by what all its shards go by */
        else
            stats[i] = status_is_shared(i) ? kho_max(stats[i], value) : stats[i] + value;
        body += WIRE_STAT_VALUE;
        len -= WIRE_STAT_VALUE;
    }
    uint64_t *epoch = &status->results[part->node].epoch;
    *epoch = node->answered ? kho_min(*epoch, head->epoch) : head->epoch;
    node->answered = true;
}

/* What the node's HELLO told, if it told more than the map knows. */
static void status_hello(struct client *client, struct status *status, struct status_part *part,
                         struct kho_now now)
{
    struct kho_node_status *result = &status->results[part->node];
    if (part->node >= client->map.node_count)
        return;
    struct session *session = route_session(client, part->node, 0, now);
    if (session == NULL || !session->hello_known)
        return;
    memcpy(result->incarnation, session->hello.incarnation.bytes, sizeof result->incarnation);
    if (!status->nodes[part->node].answered)
        result->epoch = session->hello.epoch;
}

static void status_ended(struct client *client, struct request *request, int code,
                         struct kho_now now)
{
    struct status_part *part = request->owner;
    struct status *status = part->status;
    part->asked = false;
    if (code != 0 && status->results[part->node].status == 0)
        status->results[part->node].status = code;
    status_hello(client, status, part, now);
    if (--status->waiting == 0)
        status_end(client, status, 0);
}

static int status_ask(struct client *client, struct status *status, struct status_part *part,
                      uint32_t node, uint32_t shard, struct kho_now now)
{
    uint64_t left = status->call.deadline_ns - now.mono_ns;
    part->status = status;
    part->node = node;
    part->request = (struct request){
        .type = WIRE_STATUS,
        .deadline_ns = now.mono_ns + (left - left / 8),
        .frame = status_frame,
        .end = status_ended,
        .owner = part,
    };
    int rc = request_send(client, &part->request, node, shard, now);
    part->asked = rc == 0;
    status->waiting += rc == 0;
    return rc;
}

static int status_reserve(struct client *client, struct status *status)
{
    const struct map *map = &client->map;
    uint32_t parts = 0;
    for (uint32_t i = 0; i < map->node_count; i++) {
        struct map_node node;
        map_node(map, i, &node);
        parts += node.shards;
    }
    status->nodes = client_allocate_zeroed(client, map->node_count * sizeof *status->nodes);
    status->results = client_allocate_zeroed(client, map->node_count * sizeof *status->results);
    status->parts = client_allocate_zeroed(client, (parts + 1u) * sizeof *status->parts);
    if (status->nodes == NULL || status->results == NULL || status->parts == NULL)
        return -ENOMEM;
    status->node_count = map->node_count;
    status->part_count = parts;
    return 0;
}

static int status_start(struct client *client, struct status *status, struct kho_now now)
{
    const struct map *map = &client->map;
    status_forget(client, status);
    int rc = status_reserve(client, status);
    if (rc != 0)
        return rc;
    status_move(status, STATUS_ASK);
    call_timer_set(client, &status->call, status->call.deadline_ns);
    uint32_t at = 0;
    for (uint32_t i = 0; i < map->node_count && rc == 0; i++) {
        struct status_node *node = &status->nodes[i];
        map_node(map, i, &node->node);
        struct kho_node_status *result = &status->results[i];
        *result = (struct kho_node_status){
            .name = node->node.name,
            .address = node->node.address,
            .port = node->node.port,
            .zone = node->node.zone,
            .stat_count = STAT_COUNT,
            .stat_names = status_names,
            .stats = node->stats,
        };
        memcpy(result->incarnation, node->node.incarnation.bytes, sizeof result->incarnation);
        for (uint32_t shard = 0; shard < node->node.shards && rc == 0; shard++)
            rc = status_ask(client, status, &status->parts[at++], i, shard, now);
    }
    return rc;
}

/* --- The call --------------------------------------------------------------------------------- */

static void status_timer(struct client *client, struct call *call, struct kho_now now)
{
    struct status *status = status_of(call);
    if (now.mono_ns >= call->deadline_ns) {
        if (status->phase == STATUS_ASK)
            status_end(client, status, 0);
        else
            status_end(client, status, client->map_error != 0 ? client->map_error : KHO_EDEADLINE);
    } else if (status->phase == STATUS_WAIT && client_has_map(client)) {
        int rc = status_start(client, status, now);
        if (rc != 0)
            status_end(client, status, rc);
    } else {
        call_timer_set(client, call, call->deadline_ns);
    }
}

static void status_cancel(struct client *client, struct call *call, struct kho_now now)
{
    (void)now;
    status_end(client, status_of(call), KHO_ECANCELED);
}

/* The nodes of the newer map are asked: some may have come, gone or moved. */
static void status_map_changed(struct client *client, struct call *call, struct kho_now now)
{
    struct status *status = status_of(call);
    if (status->phase == STATUS_ASK) {
        status_forget(client, status);
        status_move(status, STATUS_WAIT);
    }
    call_timer_set(client, call, now.mono_ns);
}

static void status_release(struct client *client, struct call *call)
{
    struct status *status = status_of(call);
    status_forget(client, status);
    client_release(client, status);
}

static const struct call_kind status_kind = {
    .timer = status_timer,
    .cancel = status_cancel,
    .map_changed = status_map_changed,
    .release = status_release,
};

int client_status(struct client *client, uint32_t deadline_ms, void *context, struct kho_now now,
                  kho_call_id *ret_call)
{
    struct status *status = client_allocate_zeroed(client, sizeof *status);
    if (status == NULL)
        return -ENOMEM;
    status->phase = STATUS_WAIT;
    int rc =
        call_begin(client, &status->call, &status_kind, CLIENT_STATUS, deadline_ms, context, now);
    if (rc != 0) {
        client_release(client, status);
        return rc;
    }
    if (ret_call != NULL)
        *ret_call = status->call.done.call;
    if (client_has_map(client))
        call_timer_set(client, &status->call, now.mono_ns);
    return 0;
}
