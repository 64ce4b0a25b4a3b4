/* member.c: owns CLIENT_MEMBER: changes of the nodes, and of what they hold.
 *
 * The map holds what shall be (nodes, weights, zones, states) and what is (the table). A change of
 * the first is decided together with a round of the second: rows of the table that differ from what
 * the nodes' weights call for get their new replicas, with the old ones behind the table as the
 * previous layout. So nothing has to be remembered between rounds: whoever comes later computes
 * what is left from the map alone (placement.h).
 *
 *   add, replace  VISIT: the node at the address says HELLO, and so its incarnation and shards;
 *   plan          SURVEY: the digests of all nodes, for the bytes that would move;
 *   all           CHANGE: the map is decided at the home and brought to all.
 *
 * While a layout changes no other change begins (KHO_EMOVING): repair ends it. A node that drains
 * or is replaced stays until it holds nothing, and is removed by a change of its own: until then it
 * is one of those that are copied from. The home goes to another node with the change that drains
 * or replaces it. */
#include <stdio.h>

#include "change.h"
#include "placement.h"
#include "plan.h"
#include "quorum.h"
#include "survey.h"

#define MEMBER_PAUSE_NS (100 * CLIENT_MS_NS)

enum member_phase { MEMBER_WAIT, MEMBER_VISIT, MEMBER_SURVEY, MEMBER_CHANGE, MEMBER_ENDED };

/* Allowed moves, as bits of the phases that may follow. */
static const uint8_t member_moves[] = {
    [MEMBER_WAIT] =
        1u << MEMBER_VISIT | 1u << MEMBER_SURVEY | 1u << MEMBER_CHANGE | 1u << MEMBER_ENDED,
    [MEMBER_VISIT] =
        1u << MEMBER_WAIT | 1u << MEMBER_SURVEY | 1u << MEMBER_CHANGE | 1u << MEMBER_ENDED,
    [MEMBER_SURVEY] = 1u << MEMBER_WAIT | 1u << MEMBER_ENDED,
    [MEMBER_CHANGE] = 1u << MEMBER_ENDED,
    [MEMBER_ENDED] = 0,
};

struct member {
    struct call call;
    enum member_phase phase;
    /* What is wanted, copied. */
    enum kho_node_verb verb;
    char name[33], by[33], address[65], zone[33];
    uint16_t port;
    bool has_zone, force, plan;
    uint32_t weight, rows_max;
    /* Who is at the address. */
    struct remote *visit;
    struct request request;
    bool asked, met;
    struct wire_hello_node hello;

    struct survey survey;
    bool surveyed;
    struct change change;
    struct kho_node_change_result result;
};

static struct member *member_of(struct call *call)
{
    return KHO_CONTAINER_OF(call, struct member, call);
}

static void member_move(struct member *member, enum member_phase to)
{
    KHO_ASSERT((member_moves[member->phase] & (1u << to)) != 0);
    member->phase = to;
}

static void member_leave(struct client *client, struct member *member, struct kho_now now)
{
    if (member->asked)
        request_drop(client, &member->request);
    member->asked = false;
    if (member->visit != NULL)
        route_leave(client, member->visit, now);
    member->visit = NULL;
}

static void member_end(struct client *client, struct member *member, int status, struct kho_now now)
{
    if (member->phase == MEMBER_ENDED)
        return;
    member_leave(client, member, now);
    survey_stop(client, &member->survey);
    change_stop(client, &member->change);
    member_move(member, MEMBER_ENDED);
    member->result.epoch = client_has_map(client) ? client->map.epoch : 0;
    member->call.done.member = member->result;
    call_end(client, &member->call, status);
}

static void member_timer_set(struct client *client, struct member *member)
{
    if (member->phase != MEMBER_ENDED)
        call_timer_set(client, &member->call,
                       kho_min(member->call.deadline_ns, member->change.wake_ns));
}

/* --- What shall be ---------------------------------------------------------------------------- */

static int parts_node(const struct change_parts *parts, const char *name)
{
    for (uint32_t i = 0; i < parts->parts.node_count; i++)
        if (strcmp(parts->nodes[i].name, name) == 0)
            return (int)i;
    return -1;
}

/* Puts the visited node into the map. 0; -EALREADY: it is there; -EEXIST; KHO_ETOOLARGE. */
static int member_come(const struct member *member, struct change_parts *parts, const char *name,
                       uint32_t weight, const char *zone)
{
    uint32_t count = parts->parts.node_count;
    int there = parts_node(parts, name);
    for (uint32_t i = 0; i < count; i++)
        if (kho_id_equal(&parts->nodes[i].incarnation, &member->hello.incarnation))
            return (int)i == there ? -EALREADY : -EEXIST;
    if (there >= 0)
        return -EEXIST;
    if (count == KHO_MAP_NODES_MAX)
        return KHO_ETOOLARGE;
    struct map_node *node = &parts->nodes[count];
    *node = (struct map_node){.incarnation = member->hello.incarnation,
                              .port = member->port,
                              .shards = (uint16_t)member->hello.shard_count,
                              .weight = weight,
                              .state = MAP_NODE_JOINING,
                              .since = parts->parts.epoch};
    snprintf(node->name, sizeof node->name, "%s", name);
    snprintf(node->address, sizeof node->address, "%s", member->address);
    snprintf(node->zone, sizeof node->zone, "%s", zone);
    parts->parts.node_count++;
    return 0;
}

/* Takes a node that no row names out of the map: the indices behind it move up. */
static int member_go(struct change_parts *parts, uint32_t index)
{
    size_t cells = (size_t)parts->parts.partitions * parts->parts.width;
    for (size_t i = 0; i < cells; i++)
        if (parts->table[i] == index)
            return -EBUSY;
    for (size_t i = 0; i < cells; i++)
        parts->table[i] -= parts->table[i] > index;
    parts->parts.home -= parts->parts.home > index;
    parts->parts.node_count--;
    memmove(&parts->nodes[index], &parts->nodes[index + 1],
            (parts->parts.node_count - index) * sizeof parts->nodes[0]);
    return 0;
}

/* Somebody else who is up and answers, to be the home; -1: nobody, as far as is known. */
static int member_new_home(struct client *client, const struct change_parts *parts,
                           struct kho_now now)
{
    for (uint32_t i = 0; i < client->map.node_count; i++) {
        struct session *session = route_session(client, i, 0, now);
        if (i != parts->parts.home && parts->nodes[i].state == MAP_NODE_UP && session != NULL &&
            session->state == SESSION_UP && session_out_since(session) == CLIENT_NEVER)
            return (int)i;
    }
    return -1;
}

static int member_set(const struct member *member, struct map_node *node)
{
    if (member->weight != 0)
        node->weight = member->weight;
    if (member->has_zone)
        memcpy(node->zone, member->zone, sizeof node->zone);
    return 0;
}

/* What the verb says of the nodes. 0, also where the map says it already. */
static int member_edit_nodes(struct member *member, struct change_parts *parts)
{
    int rc = 0, index = member->name[0] != '\0' ? parts_node(parts, member->name) : -1;
    struct map_node *node = index >= 0 ? &parts->nodes[index] : NULL;
    if (member->verb == KHO_NODE_ADD) {
        rc = member_come(member, parts, member->name, member->weight != 0 ? member->weight : 100,
                         member->zone);
        return rc == -EALREADY ? 0 : rc;
    }
    if (member->verb == KHO_NODE_BALANCE)
        return 0;
    if (node == NULL)
        return -ENOENT;
    switch (member->verb) {
    case KHO_NODE_DRAIN:
        node->state = MAP_NODE_DRAINING;
        return 0;
    case KHO_NODE_UNDRAIN:
        node->state = node->state == MAP_NODE_DRAINING ? MAP_NODE_UP : node->state;
        return 0;
    case KHO_NODE_REPLACE:
        node->state = MAP_NODE_DRAINING;
        rc = member_come(member, parts, member->by,
                         member->weight != 0 ? member->weight : node->weight,
                         member->has_zone ? member->zone : node->zone);
        return rc == -EALREADY ? 0 : rc;
    case KHO_NODE_REMOVE:
        return member_go(parts, (uint32_t)index);
    case KHO_NODE_HOME:
        if (node->state != MAP_NODE_UP)
            return -EINVAL;
        parts->parts.home = (uint16_t)index;
        return 0;
    default:
        return member_set(member, node);
    }
}

/* --- What is ---------------------------------------------------------------------------------- */

/* The table that the nodes call for. Replacing leaves all others where they are. */
static int member_target(struct client *client, const struct member *member,
                         const struct change_parts *parts, uint16_t *ret_table)
{
    const struct map_parts *p = &parts->parts;
    (void)client;
    if (member->verb != KHO_NODE_REPLACE)
        return placement_balance(parts->nodes, p->node_count, p->partitions, p->width, parts->table,
                                 ret_table);
    int from = parts_node(parts, member->name), to = parts_node(parts, member->by);
    KHO_ASSERT(from >= 0 && to >= 0);
    size_t cells = (size_t)p->partitions * p->width;
    for (size_t i = 0; i < cells; i++)
        ret_table[i] = parts->table[i] == (uint16_t)from ? (uint16_t)to : parts->table[i];
    return 0;
}

/* What the new replicas of a partition have to be sent, as the digests say. */
static void member_weigh(const struct client *client, struct member *member, uint32_t partition,
                         uint32_t replicas_new)
{
    const struct map *map = &client->map;
    for (uint32_t c = 0; member->surveyed && c < map->collection_count; c++) {
        struct map_collection collection;
        uint64_t records = 0, bytes = 0;
        map_collection(map, c, &collection);
        for (uint32_t k = 0; k < collection.replicas; k++) {
            const struct wire_digest_entry *entry = survey_find(
                &member->survey, map_replica(map, partition, k), collection.id, partition);
            records = kho_max(records, entry != NULL ? entry->count : 0);
            bytes = kho_max(bytes, entry != NULL ? entry->bytes : 0);
        }
        member->result.records += records * replicas_new;
        member->result.bytes += bytes * replicas_new;
    }
    bool risk = false;
    for (uint32_t k = 0; member->surveyed && k < map->width; k++)
        risk |= member->survey.nodes[map_replica(map, partition, k)].status != 0;
    member->result.replicas_at_risk += risk;
}

/* How many of the row's nodes are not in the other row. */
static uint32_t row_new(const uint16_t *row, const uint16_t *other, uint32_t width)
{
    uint32_t count = 0;
    for (uint32_t k = 0; k < width; k++) {
        bool found = false;
        for (uint32_t j = 0; j < width; j++)
            found |= other[j] == row[k];
        count += !found;
    }
    return count;
}

/* The row of the table becomes `row`; the old one stands among the previous. */
static void parts_row(struct change_parts *parts, uint32_t partition, const uint16_t *row)
{
    uint32_t width = parts->parts.width;
    uint16_t *table = parts->table + (size_t)partition * width;
    uint32_t *since = parts->since + (size_t)partition * width;
    uint32_t since_now[KHO_MAP_REPLICAS_MAX];
    uint8_t *to = parts->previous + parts->parts.previous_count++ * map_row_size(width);
    kho_store32(to, partition);
    for (uint32_t k = 0; k < width; k++) {
        kho_store16(to + 4 + (size_t)k * 2, table[k]);
        kho_store32(to + 4 + (size_t)width * 2 + (size_t)k * 4, since[k]);
        since_now[k] = (uint32_t)parts->parts.epoch;
        for (uint32_t j = 0; j < width; j++)
            if (table[j] == row[k])
                since_now[k] = since[j];
    }
    memcpy(table, row, width * sizeof *row);
    memcpy(since, since_now, width * sizeof *since);
}

/* One round: as many rows as are wanted and fit become those of the target. */
static int member_round(struct client *client, struct member *member, struct change_parts *parts,
                        const uint16_t *target)
{
    struct map_parts *p = &parts->parts;
    size_t size = map_size(p), row = map_row_size(p->width);
    uint64_t room = size < KHO_MAP_SIZE_MAX ? (KHO_MAP_SIZE_MAX - size) / row : 0;
    if (member->rows_max != 0)
        room = kho_min(room, member->rows_max);
    member->result.partitions = member->result.partitions_left = 0;
    member->result.replicas = member->result.replicas_at_risk = 0;
    member->result.records = member->result.bytes = 0;
    p->previous = parts->previous;
    for (uint32_t partition = 0; partition < p->partitions; partition++) {
        const uint16_t *from = parts->table + (size_t)partition * p->width;
        const uint16_t *to = target + (size_t)partition * p->width;
        if (memcmp(from, to, p->width * sizeof *to) == 0)
            continue;
        uint32_t fresh = row_new(to, from, p->width);
        member->result.replicas += fresh;
        member_weigh(client, member, partition, fresh);
        if (member->result.partitions == room) {
            member->result.partitions_left++;
            continue;
        }
        parts_row(parts, partition, to);
        member->result.partitions++;
    }
    return member->result.partitions == 0 && member->result.partitions_left > 0 ? KHO_ETOOLARGE : 0;
}

static int member_edit_layout(struct client *client, struct member *member,
                              struct change_parts *parts)
{
    struct map_parts *p = &parts->parts;
    size_t cells = (size_t)p->partitions * p->width;
    uint16_t *target = client_allocate(client, cells * sizeof *target);
    if (target == NULL)
        return -ENOMEM;
    member->result.fullest =
        placement_fullest(parts->nodes, p->node_count, p->partitions, p->width, parts->table);
    int rc = member_target(client, member, parts, target);
    if (rc == 0) {
        member->result.fullest_after =
            placement_fullest(parts->nodes, p->node_count, p->partitions, p->width, target);
        rc = member_round(client, member, parts, target);
    }
    client_release(client, target);
    /* With nothing to be copied nobody waits to have it. */
    for (uint32_t i = 0; rc == 0 && p->previous_count == 0 && i < p->node_count; i++)
        if (parts->nodes[i].state == MAP_NODE_JOINING)
            parts->nodes[i].state = MAP_NODE_UP;
    return rc;
}

/* A home that drains hands its office on. */
static int member_edit_home(struct client *client, struct member *member,
                            struct change_parts *parts, struct kho_now now)
{
    member->change.lost_home = -1;
    if (member->verb == KHO_NODE_HOME && member->force && parts->parts.home != client->map.home)
        member->change.lost_home = client->map.home;
    if (parts->nodes[parts->parts.home].state == MAP_NODE_UP)
        return 0;
    int home = member_new_home(client, parts, now);
    if (home < 0)
        return KHO_EUNAVAILABLE;
    parts->parts.home = (uint16_t)home;
    return 0;
}

/* Are nodes and home as in the map in force? */
static bool member_same(const struct client *client, const struct change_parts *parts)
{
    const struct map *map = &client->map;
    if (parts->parts.node_count != map->node_count || parts->parts.home != map->home ||
        parts->parts.previous_count != 0)
        return false;
    for (uint32_t i = 0; i < map->node_count; i++) {
        struct map_node node;
        const struct map_node *made = &parts->nodes[i];
        map_node(map, i, &node);
        if (node.state != made->state || node.weight != made->weight ||
            strcmp(node.zone, made->zone) != 0)
            return false;
    }
    return true;
}

static int member_edit(struct client *client, struct change *change, struct change_parts *parts)
{
    struct member *member = change->owner;
    if (client->map.previous_count > 0)
        return KHO_EMOVING;
    bool last = member->verb == KHO_NODE_REMOVE && parts->parts.node_count == 1;
    int rc = last ? -EINVAL : member_edit_nodes(member, parts);
    if (rc == 0 && member->verb != KHO_NODE_REMOVE && member->verb != KHO_NODE_HOME)
        rc = member_edit_layout(client, member, parts);
    if (rc == 0)
        rc = member_edit_home(client, member, parts, member->change.now);
    return rc == 0 && member_same(client, parts) ? -EALREADY : rc;
}

/* --- Change ----------------------------------------------------------------------------------- */

static void member_changed(struct client *client, struct change *change, int status,
                           struct kho_now now)
{
    member_end(client, change->owner, status, now);
}

static void member_wake(struct client *client, struct change *change)
{
    member_timer_set(client, change->owner);
}

static void member_change(struct client *client, struct member *member, struct kho_now now)
{
    member->change.edit = member_edit;
    member->change.end = member_changed;
    member->change.wake = member_wake;
    member->change.owner = member;
    member->change.deadline_ns = member->call.deadline_ns;
    member->change.lost_home = -1;
    if (member->plan) {
        int rc = change_preview(client, &member->change, now);
        member_end(client, member, rc == -EALREADY ? 0 : rc, now);
        return;
    }
    member_move(member, MEMBER_CHANGE);
    int rc = change_start(client, &member->change, now);
    if (rc != 0)
        member_end(client, member, rc, now);
    member_timer_set(client, member);
}

/* --- The survey of a plan --------------------------------------------------------------------- */

static void member_look_again(struct client *client, struct member *member, struct kho_now now)
{
    survey_stop(client, &member->survey);
    member->surveyed = false;
    member_leave(client, member, now);
    member_move(member, MEMBER_WAIT);
    call_timer_set(client, &member->call,
                   kho_min(now.mono_ns + MEMBER_PAUSE_NS, member->call.deadline_ns));
}

static void member_surveyed(struct client *client, struct survey *survey, int status,
                            struct kho_now now)
{
    struct member *member = survey->owner;
    if (status == KHO_EEPOCHOLD) {
        member_look_again(client, member, now);
        return;
    }
    member->surveyed = status == 0;
    if (status != 0)
        member_end(client, member, status, now);
    else
        member_change(client, member, now);
}

/* Who comes is known, where somebody comes. */
static void member_go_on(struct client *client, struct member *member, struct kho_now now)
{
    if (!member->plan) {
        member_change(client, member, now);
        return;
    }
    uint64_t left = member->call.deadline_ns - now.mono_ns;
    member_move(member, MEMBER_SURVEY);
    member->survey.collection = KHO_ALL;
    member->survey.deadline_ns = now.mono_ns + left / 2;
    member->survey.end = member_surveyed;
    member->survey.owner = member;
    if (survey_start(client, &member->survey, now) != 0)
        member_end(client, member, -ENOMEM, now);
    else if (member->survey.waiting == 0)
        member_surveyed(client, &member->survey, 0, now);
}

/* --- The visit -------------------------------------------------------------------------------- */

static void member_asked(struct client *client, struct request *request, int status,
                         struct kho_now now)
{
    struct member *member = request->owner;
    const struct session *session = member->visit->sessions[0];
    member->asked = false;
    if (!session->hello_known) {
        member_end(client, member, status != 0 ? status : KHO_EUNAVAILABLE, now);
        return;
    }
    member->hello = session->hello;
    if (member->hello.status != 0) {
        member_end(client, member, member->hello.status, now);
    } else if (!kho_id_is_zero(&member->hello.cluster) &&
               !kho_id_equal(&member->hello.cluster, &client->map.cluster)) {
        member_end(client, member, KHO_ECLUSTER, now);
    } else if (kho_id_is_zero(&member->hello.incarnation) || member->hello.shard_count < 1 ||
               member->hello.shard_count > 256) {
        member_end(client, member, KHO_EMALFORMED, now);
    } else {
        member->met = true;
        member_leave(client, member, now);
        member_go_on(client, member, now);
    }
}

static void member_visit(struct client *client, struct member *member, struct kho_now now)
{
    uint64_t left = member->call.deadline_ns - now.mono_ns;
    member_move(member, MEMBER_VISIT);
    member->visit = route_visit(client, member->address, member->port, now);
    if (member->visit == NULL) {
        member_end(client, member, -ENOMEM, now);
        return;
    }
    member->request = (struct request){
        .type = WIRE_MAP,
        .deadline_ns = now.mono_ns + left / 2,
        .end = member_asked,
        .owner = member,
    };
    request_send_on(client, &member->request, member->visit->sessions[0], now);
    member->asked = true;
}

/* --- The call --------------------------------------------------------------------------------- */

static void member_start(struct client *client, struct member *member, struct kho_now now)
{
    call_timer_set(client, &member->call, member->call.deadline_ns);
    if (member->address[0] != '\0' && !member->met)
        member_visit(client, member, now);
    else
        member_go_on(client, member, now);
}

static void member_timer(struct client *client, struct call *call, struct kho_now now)
{
    struct member *member = member_of(call);
    if (member->phase == MEMBER_CHANGE)
        change_tick(client, &member->change, now);
    if (member->phase == MEMBER_ENDED)
        return;
    if (now.mono_ns >= call->deadline_ns)
        member_end(client, member,
                   !client_has_map(client) && client->map_error != 0 ? client->map_error
                                                                     : KHO_EDEADLINE,
                   now);
    else if (member->phase == MEMBER_WAIT && client_has_map(client))
        member_start(client, member, now);
    else
        member_timer_set(client, member);
}

static void member_cancel(struct client *client, struct call *call, struct kho_now now)
{
    member_end(client, member_of(call), KHO_ECANCELED, now);
}

static void member_map_changed(struct client *client, struct call *call, struct kho_now now)
{
    if (member_of(call)->phase == MEMBER_WAIT)
        call_timer_set(client, call, now.mono_ns);
}

static void member_release(struct client *client, struct call *call)
{
    struct member *member = member_of(call);
    /* The visit goes with the client where the call didn't end. */
    if (member->asked)
        request_drop(client, &member->request);
    survey_stop(client, &member->survey);
    change_stop(client, &member->change);
    client_release(client, member);
}

static const struct call_kind member_kind = {
    .timer = member_timer,
    .cancel = member_cancel,
    .map_changed = member_map_changed,
    .release = member_release,
};

/* Copies a name. False: it is none. */
static bool member_name(char to[33], const char *from)
{
    size_t len = from != NULL ? strlen(from) : 0;
    if (len < 1 || len > 32)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = from[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    memcpy(to, from, len + 1);
    return true;
}

static bool member_zone(struct member *member, const char *zone)
{
    size_t len = zone != NULL ? strlen(zone) : 0;
    if (len > 32)
        return false;
    for (size_t i = 0; i < len; i++)
        if (zone[i] < 0x21 || zone[i] > 0x7E)
            return false;
    member->has_zone = zone != NULL;
    if (zone != NULL)
        memcpy(member->zone, zone, len + 1);
    return true;
}

static bool member_read(struct member *member, const struct kho_node_change *change)
{
    bool comes = change->verb == KHO_NODE_ADD || change->verb == KHO_NODE_REPLACE;
    if (change->verb < KHO_NODE_ADD || change->verb > KHO_NODE_BALANCE)
        return false;
    if (change->verb != KHO_NODE_BALANCE && !member_name(member->name, change->name))
        return false;
    if (change->verb == KHO_NODE_REPLACE && !member_name(member->by, change->by))
        return false;
    if (comes && (change->address == NULL || plan_address(change->address, strlen(change->address),
                                                          member->address, &member->port) != 0))
        return false;
    member->verb = change->verb;
    member->weight = change->weight;
    member->force = change->force != 0;
    member->plan = change->plan != 0;
    member->rows_max = change->partitions_max;
    return member_zone(member, change->zone);
}

int client_member(struct client *client, const struct kho_node_change *change, uint32_t deadline_ms,
                  void *context, struct kho_now now, kho_call_id *ret_call)
{
    struct member *member = client_allocate_zeroed(client, sizeof *member);
    if (member == NULL)
        return -ENOMEM;
    member->phase = MEMBER_WAIT;
    member->change.wake_ns = CLIENT_NEVER;
    int rc = member_read(member, change) ? 0 : -EINVAL;
    if (rc == 0)
        rc = call_begin(client, &member->call, &member_kind, CLIENT_MEMBER, deadline_ms, context,
                        now);
    if (rc != 0) {
        client_release(client, member);
        return rc;
    }
    if (ret_call != NULL)
        *ret_call = member->call.done.call;
    if (client_has_map(client))
        call_timer_set(client, &member->call, now.mono_ns);
    return 0;
}
