/* repair.c: owns CLIENT_REPAIR: makes the replicas equal and closes damage episodes (R2, R5).
 *
 * A pass:
 *   PUSH      the map in force is brought to all nodes, those behind and those without one;
 *   EPISODES  every shard in reach tells its open episodes,
 *   SURVEY    and its digests (repair_look.c);
 *   RAISE     if an open episode began in the epoch in force, or some node holds another map
 *             of it: a map with the next epoch and no other change is decided and brought to all,
 *             since only under a later epoch may a repair close it;
 *   WORK      partitions that differ, or in which an episode is open (repair_unit.c);
 *   CLOSE     episodes of replicas that were shown to have caught up (repair_close.c);
 *   FINISH    once all partitions whose layout changes were shown to have moved, the map in which
 *             the new layout stands alone is decided (R5).
 *
 * Then the next pass compares again; the repair ends when a look finds nothing to do, when a pass
 * changed nothing, or after three (under writes, replicas differ by what is in flight).
 *
 * Nodes out of reach are left out and counted. A newer map (another admin's) starts the pass again:
 * what was listed under an older epoch proves nothing. It has no deadline of its own (only for the
 * first map, the option's); cancelling it
 * leaves everything as far as it came, and each copy by itself is harmless (R6). Ends as kho.h
 * says; damage that remains is told before a refusal, that before who was away. */
#include "repair.h"

#define REPAIR_PASSES      3u
#define REPAIR_RESTARTS    64u
#define REPAIR_PROGRESS_NS (500 * CLIENT_MS_NS)
#define REPAIR_PUSH_NS     (5000 * CLIENT_MS_NS)
#define REPAIR_RAISE_NS    (15000 * CLIENT_MS_NS)
#define REPAIR_PAUSE_NS    (50 * CLIENT_MS_NS)

/* Allowed moves, as bits of the phases that may follow. All may end, or begin the pass anew. */
#define REPAIR_ANY (1u << REPAIR_WAIT | 1u << REPAIR_ENDED)
static const uint16_t repair_moves[] = {
    [REPAIR_WAIT] = 1u << REPAIR_PUSH | REPAIR_ANY,
    [REPAIR_PUSH] = 1u << REPAIR_EPISODES | REPAIR_ANY,
    [REPAIR_EPISODES] = 1u << REPAIR_SURVEY | REPAIR_ANY,
    [REPAIR_SURVEY] = 1u << REPAIR_RAISE | 1u << REPAIR_WORK | REPAIR_ANY,
    [REPAIR_RAISE] = 1u << REPAIR_WORK | REPAIR_ANY,
    [REPAIR_WORK] = 1u << REPAIR_CLOSE | REPAIR_ANY,
    [REPAIR_CLOSE] = 1u << REPAIR_PUSH | 1u << REPAIR_FINISH | REPAIR_ANY,
    [REPAIR_FINISH] = 1u << REPAIR_PUSH | REPAIR_ANY,
    [REPAIR_ENDED] = 0,
};

static void repair_pass(struct client *client, struct repair *repair, struct kho_now now);

static struct repair *repair_of(struct call *call)
{
    return KHO_CONTAINER_OF(call, struct repair, call);
}

void repair_move(struct repair *repair, enum repair_phase to)
{
    KHO_ASSERT((repair_moves[repair->phase] & (1u << to)) != 0);
    repair->phase = to;
}

/* --- Life ------------------------------------------------------------------------------------- */

static void repair_stop(struct client *client, struct repair *repair)
{
    push_stop(client, &repair->push);
    change_stop(client, &repair->change);
    repair_look_stop(client, repair);
    repair_work_stop(client, repair);
    repair_close_stop(client, repair);
    survey_stop(client, &repair->survey);
}

/* What was made for one map. */
static void repair_clear(struct client *client, struct repair *repair)
{
    for (uint32_t i = 0; i < repair->node_count; i++) {
        client_release(client, repair->nodes[i].episodes);
        client_release(client, repair->nodes[i].open);
        client_release(client, repair->nodes[i].proved);
    }
    client_release(client, repair->nodes);
    client_release(client, repair->unreached);
    client_release(client, repair->work);
    client_release(client, repair->moved);
    client_release(client, repair->lost);
    repair->nodes = NULL;
    repair->unreached = NULL;
    repair->work = NULL;
    repair->moved = NULL;
    repair->layout = 0;
    repair->lost = NULL;
    repair->node_count = 0;
}

static int repair_reserve(struct client *client, struct repair *repair)
{
    const struct map *map = &client->map;
    size_t bits = (map->partitions + 7) / 8;
    if (repair->node_count == map->node_count && repair->partitions == map->partitions)
        return 0;
    repair_clear(client, repair);
    repair->nodes = client_allocate_zeroed(client, map->node_count * sizeof *repair->nodes);
    if (repair->nodes == NULL)
        return -ENOMEM;
    repair->node_count = map->node_count;
    repair->partitions = map->partitions;
    for (uint32_t i = 0; i < map->node_count; i++) {
        repair->nodes[i].open = client_allocate_zeroed(client, bits);
        repair->nodes[i].proved = client_allocate_zeroed(client, bits);
        if (repair->nodes[i].open == NULL || repair->nodes[i].proved == NULL)
            return -ENOMEM;
    }
    repair->unreached = client_allocate_zeroed(client, map->node_count * sizeof *repair->unreached);
    repair->work = client_allocate_zeroed(client, bits);
    repair->moved = client_allocate_zeroed(client, bits);
    repair->lost = client_allocate_zeroed(client, map->partitions * sizeof *repair->lost);
    bool all = repair->unreached != NULL && repair->work != NULL && repair->moved != NULL &&
               repair->lost != NULL;
    return all ? 0 : -ENOMEM;
}

/* The numbers that are sums over what is known. */
static void repair_count(const struct client *client, struct repair *repair)
{
    struct kho_repair_result *result = &repair->result;
    result->nodes_unreached = 0;
    result->records_lost = 0;
    result->epoch = client_has_map(client) ? client->map.epoch : 0;
    result->partitions_moving = client_has_map(client) ? client->map.previous_count : 0;
    result->partitions_moved = 0;
    if (repair->unreached == NULL || repair->lost == NULL || repair->moved == NULL)
        return;
    for (uint32_t i = 0; i < repair->node_count; i++)
        result->nodes_unreached += repair->unreached[i] != 0;
    for (uint32_t p = 0; p < repair->partitions; p++) {
        result->records_lost += repair->lost[p];
        result->partitions_moved += repair_bit(repair->moved, p);
    }
}

void repair_end(struct client *client, struct repair *repair, int status)
{
    if (repair->phase == REPAIR_ENDED)
        return;
    repair_stop(client, repair);
    repair_move(repair, REPAIR_ENDED);
    repair_count(client, repair);
    repair->call.done.repair = repair->result;
    call_end(client, &repair->call, status);
}

void repair_restart(struct client *client, struct repair *repair, struct kho_now now)
{
    if (repair->phase == REPAIR_ENDED || repair->phase == REPAIR_WAIT)
        return;
    if (repair->phase >= REPAIR_RAISE && repair->pass > 0)
        repair->pass--; /* it counts when it came to its end */
    repair->interrupted = true;
    if (++repair->restarts > REPAIR_RESTARTS) {
        repair_end(client, repair, KHO_EEPOCHOLD);
        return;
    }
    repair_stop(client, repair);
    repair_move(repair, REPAIR_WAIT);
    call_timer_set(client, &repair->call, now.mono_ns + REPAIR_PAUSE_NS);
}

void repair_unreach(struct repair *repair, uint32_t node, int status)
{
    if (repair->unreached[node] == 0)
        repair->unreached[node] = status;
}

bool repair_failed(struct client *client, struct repair *repair, int status, struct kho_now now)
{
    if (status == -ENOMEM)
        repair_end(client, repair, status);
    else if (status == KHO_EEPOCHOLD)
        repair_restart(client, repair, now);
    else
        return false;
    return true;
}

/* What a proof of having moved stands for: both layouts and who is in them. */
static uint64_t repair_layout(const struct client *client)
{
    const struct map *map = &client->map;
    size_t nodes = (size_t)map->node_count * KHO_MAP_NODE;
    return XXH3_64bits_withSeed(map->table, (size_t)(map->bytes + map->length - map->table),
                                XXH3_64bits(map->nodes, nodes));
}

/* Is a change of the map under way? */
static bool repair_changes(const struct repair *repair)
{
    return repair->phase == REPAIR_RAISE || repair->phase == REPAIR_FINISH;
}

/* --- Phases ----------------------------------------------------------------------------------- */

/* A look found nothing to do, or the last pass changed nothing: what came of it all? */
static void repair_finish(struct client *client, struct repair *repair)
{
    int status = 0;
    repair_count(client, repair);
    if (repair->result.records_lost > 0)
        status = KHO_EDAMAGED;
    else if (repair->refusal != 0)
        status = repair->refusal;
    else if (repair->result.nodes_unreached > 0)
        status = KHO_EUNAVAILABLE;
    else if (repair->open_partitions > 0 && repair->overlap)
        status = KHO_EOVERLAP;
    else if (repair->all && client->map.previous_count > 0)
        status = repair->finish_error != 0 ? repair->finish_error : KHO_EMOVING;
    else if (repair->open_partitions > 0)
        status = repair->raise_error != 0 ? repair->raise_error : KHO_EEPISODE;
    repair_end(client, repair, status);
}

static void repair_begin_work(struct client *client, struct repair *repair, struct kho_now now)
{
    repair_move(repair, REPAIR_WORK);
    if (repair->units == NULL)
        repair->units = client_allocate_zeroed(client, REPAIR_UNITS * sizeof *repair->units);
    if (repair->units == NULL) {
        repair_end(client, repair, -ENOMEM);
        return;
    }
    repair->overlap = false;
    repair->refusal = 0;
    repair->next_partition = 0;
    repair->result.partitions += repair->needs;
    repair->copied_before = repair->result.records_copied;
    repair->dropped_before = repair->result.records_dropped;
    repair->closed_before = repair->result.episodes_closed;
    repair_work(client, repair, now);
}

static void repair_raised(struct client *client, struct change *change, int status,
                          struct kho_now now)
{
    struct repair *repair = change->owner;
    repair->raise_error = status;
    if (status == -ENOMEM)
        repair_end(client, repair, status);
    else if (repair->node_count != client->map.node_count ||
             repair->partitions != client->map.partitions)
        repair_restart(client, repair, now); /* another admin's change came with it */
    else
        repair_begin_work(client, repair, now); /* not raised: copied, if not closed */
}

static void repair_wake(struct client *client, struct change *change)
{
    struct repair *repair = change->owner;
    call_timer_set(client, &repair->call, kho_min(change->wake_ns, repair->progress_ns));
}

/* Starts a change of the map; `end` is told even where it can't begin. */
static void repair_change(struct client *client, struct repair *repair, change_edit_fn edit,
                          change_end_fn end, struct kho_now now)
{
    repair->change.edit = edit;
    repair->change.end = end;
    repair->change.wake = repair_wake;
    repair->change.owner = repair;
    repair->change.deadline_ns = now.mono_ns + REPAIR_RAISE_NS;
    repair->change.lost_home = -1;
    int rc = change_start(client, &repair->change, now);
    if (rc != 0)
        end(client, &repair->change, rc, now);
}

static void repair_raise(struct client *client, struct repair *repair, struct kho_now now)
{
    repair_move(repair, REPAIR_RAISE);
    repair_change(client, repair, change_raise, repair_raised, now);
}

void repair_looked(struct client *client, struct repair *repair, struct kho_now now)
{
    bool changed = repair->pass == 0 || repair->interrupted || repair->finished ||
                   repair->result.records_copied > repair->copied_before ||
                   repair->result.records_dropped > repair->dropped_before ||
                   repair->result.episodes_closed > repair->closed_before;
    bool work = repair->needs > 0 || repair->open_partitions > 0 || repair->forked;
    if (!work || !changed || repair->pass == REPAIR_PASSES) {
        repair_finish(client, repair);
        return;
    }
    repair->pass++;
    repair->interrupted = repair->finished = false;
    if (repair->forked ||
        (repair->open_partitions > 0 && repair->episode_epoch >= client->map.epoch))
        repair_raise(client, repair, now);
    else
        repair_begin_work(client, repair, now);
}

void repair_worked(struct client *client, struct repair *repair, struct kho_now now)
{
    repair_work_stop(client, repair);
    repair_close(client, repair, now);
}

/* --- The end of a layout's change ------------------------------------------------------------- */

/* The new layout stands alone, and who joined with it is a node like others. */
static int repair_finish_edit(struct client *client, struct change *change,
                              struct change_parts *parts)
{
    struct repair *repair = change->owner;
    if (repair_layout(client) != repair->layout)
        return KHO_EEPOCHOLD; /* another admin's: what was shown doesn't stand for it */
    parts->parts.previous = NULL;
    parts->parts.previous_count = 0;
    for (uint32_t i = 0; i < parts->parts.node_count; i++)
        if (parts->nodes[i].state == MAP_NODE_JOINING)
            parts->nodes[i].state = MAP_NODE_UP;
    return 0;
}

static void repair_finish_ended(struct client *client, struct change *change, int status,
                                struct kho_now now)
{
    struct repair *repair = change->owner;
    repair->finish_error = status;
    repair->finished = status == 0;
    repair->result.layouts_finished += status == 0;
    if (status == -ENOMEM)
        repair_end(client, repair, status);
    else if (status == KHO_EEPOCHOLD)
        repair_restart(client, repair, now);
    else
        repair_pass(client, repair, now);
}

void repair_closed(struct client *client, struct repair *repair, struct kho_now now)
{
    repair_count(client, repair);
    if (repair->all && client->map.previous_count > 0 &&
        repair->result.partitions_moved == client->map.previous_count) {
        repair_move(repair, REPAIR_FINISH);
        repair_change(client, repair, repair_finish_edit, repair_finish_ended, now);
        return;
    }
    repair_pass(client, repair, now);
}

static void repair_pushed(struct client *client, struct push *push, struct kho_now now)
{
    struct repair *repair = push->owner;
    if (push->waiting > 0)
        return;
    if (push->node_count != client->map.node_count) {
        repair_restart(client, repair, now);
        return;
    }
    for (uint32_t i = 0; i < push->node_count; i++) {
        struct map_node node;
        int status = push->nodes[i].status;
        if (repair_failed(client, repair, status, now))
            return;
        /* It takes another admin's map just now. */
        if (status == KHO_EBUSY) {
            repair_restart(client, repair, now);
            return;
        }
        map_node(&client->map, i, &node);
        if (status != 0 && node.state != MAP_NODE_OUT)
            repair_unreach(repair, i, status);
    }
    repair->forked = push_forked(push);
    push_stop(client, push);
    repair_look(client, repair, now);
}

static void repair_pass(struct client *client, struct repair *repair, struct kho_now now)
{
    int rc = repair_reserve(client, repair);
    if (rc != 0) {
        repair_end(client, repair, rc);
        return;
    }
    if (!repair->all && map_collection_by_name(&client->map, repair->name) < 0) {
        repair_end(client, repair, KHO_ENOCOLLECTION);
        return;
    }
    repair_move(repair, REPAIR_PUSH);
    if (repair->layout != repair_layout(client)) {
        repair->layout = repair_layout(client);
        memset(repair->moved, 0, (repair->partitions + 7) / 8);
    }
    memset(repair->unreached, 0, repair->node_count * sizeof *repair->unreached);
    repair->push.deadline_ns = now.mono_ns + REPAIR_PUSH_NS;
    repair->push.told = repair_pushed;
    repair->push.owner = repair;
    if (push_start(client, &repair->push, &client->map, -1, -1, now) != 0)
        repair_end(client, repair, -ENOMEM);
}

/* --- The call --------------------------------------------------------------------------------- */

static void repair_timer(struct client *client, struct call *call, struct kho_now now)
{
    struct repair *repair = repair_of(call);
    if (repair_changes(repair))
        change_tick(client, &repair->change, now);
    if (repair->phase == REPAIR_WAIT && client_has_map(client))
        repair_pass(client, repair, now);
    else if (repair->phase == REPAIR_WAIT && now.mono_ns >= repair->map_ns)
        repair_end(client, repair, client->map_error != 0 ? client->map_error : KHO_EUNAVAILABLE);
    if (repair->phase == REPAIR_ENDED)
        return;
    if (now.mono_ns >= repair->progress_ns && client_has_map(client)) {
        repair_count(client, repair);
        call->done.repair = repair->result;
        call_progress(client, call);
        repair->progress_ns = now.mono_ns + REPAIR_PROGRESS_NS;
    }
    uint64_t next = kho_max(repair->progress_ns, now.mono_ns + REPAIR_PAUSE_NS);
    if (repair_changes(repair))
        next = kho_min(next, repair->change.wake_ns);
    call_timer_set(client, call, kho_min(next, now.mono_ns + REPAIR_PROGRESS_NS));
}

static void repair_cancel(struct client *client, struct call *call, struct kho_now now)
{
    (void)now;
    repair_end(client, repair_of(call), KHO_ECANCELED);
}

static void repair_map_changed(struct client *client, struct call *call, struct kho_now now)
{
    struct repair *repair = repair_of(call);
    if (repair->phase == REPAIR_WAIT)
        call_timer_set(client, call, now.mono_ns);
    else if (!repair_changes(repair)) /* there it is most likely our own */
        repair_restart(client, repair, now);
}

static void repair_release(struct client *client, struct call *call)
{
    struct repair *repair = repair_of(call);
    repair_stop(client, repair);
    repair_clear(client, repair);
    client_release(client, repair->units);
    client_release(client, repair);
}

static const struct call_kind repair_kind = {
    .timer = repair_timer,
    .cancel = repair_cancel,
    .map_changed = repair_map_changed,
    .release = repair_release,
};

int client_repair(struct client *client, const char *collection, void *context, struct kho_now now,
                  kho_call_id *ret_call)
{
    if (collection != NULL && !key_name_valid(collection, strlen(collection)))
        return KHO_ECOLLECTIONNAME;
    struct repair *repair = client_allocate_zeroed(client, sizeof *repair);
    if (repair == NULL)
        return -ENOMEM;
    repair->phase = REPAIR_WAIT;
    repair->all = collection == NULL;
    repair->change.wake_ns = CLIENT_NEVER;
    repair->progress_ns = now.mono_ns + REPAIR_PROGRESS_NS;
    repair->map_ns = now.mono_ns + client->default_deadline_ms * CLIENT_MS_NS;
    if (collection != NULL)
        memcpy(repair->name, collection, strlen(collection));
    int rc = call_begin(client, &repair->call, &repair_kind, CLIENT_REPAIR, CLIENT_NO_DEADLINE,
                        context, now);
    if (rc != 0) {
        client_release(client, repair);
        return rc;
    }
    if (ret_call != NULL)
        *ret_call = repair->call.done.call;
    call_timer_set(client, &repair->call,
                   client_has_map(client) ? now.mono_ns : now.mono_ns + REPAIR_PROGRESS_NS);
    return 0;
}
