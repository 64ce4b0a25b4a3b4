/* change.c: owns one change of the cluster map, from the edit to the nodes.
 *
 * Happy path: the edit makes the next map from the one in force, epoch + 1. DECIDE: it goes to the
 * map's home node, which swaps it for the map that the edit began from, and for no other: so of two
 * admins one loses, sees the other's map (KHO_EEPOCHOLD brings it) and edits again. BRING: it is in
 * force here, and goes to all nodes; the change is done when a majority of them has it, and the
 * others have had a moment.
 *
 * How it fails: where the home can't be reached, or its answer was lost, the same proposal is sent
 * again after a pause (a home that took it says so, or answers with a newer map); the deadline ends
 * that. A home that holds an older map than we do is brought ours first.
 *
 * Where the home itself has lost its map (its folder was made anew) nobody can decide by
 * compare-and-swap. Then `lost_home` names it and the edit chooses another home. GATHER asks all
 * other nodes for their maps; SPREAD brings the next map to all but the new home; it counts once
 * those that have it are, with the new home, more than half; then SEAT gives it to the new home,
 * which can decide what follows only from then on. Two admins who do this at once may each reach
 * some nodes, which refuse the other's map of the same epoch; at most one reaches more than half,
 * so at most one of those maps is decided, and neither may be.
 *
 * A home that refuses ours as such another map (KHO_EMAP) makes the change gather, too. A map that
 * more than half of the nodes may hold, as far as they were heard, may be decided: if that is the
 * other one only, it takes the place of ours; if it is none or ours only, a map above both is
 * spread; and if it may be both, those that weren't heard are waited for. A node whose folder was
 * made anew holds none. */
#include "change.h"

#define CHANGE_TRIES    16u
#define CHANGE_PAUSE_NS (200 * CLIENT_MS_NS)
#define CHANGE_ASK_NS   (3000 * CLIENT_MS_NS)
/* What nodes beyond the majority are waited for. */
#define CHANGE_GRACE_NS (500 * CLIENT_MS_NS)

/* Allowed moves, as bits of the phases that may follow. */
static const uint8_t change_moves[] = {
    [CHANGE_IDLE] = 1u << CHANGE_DECIDE | 1u << CHANGE_GATHER | 1u << CHANGE_BRING,
    [CHANGE_PAUSE] =
        1u << CHANGE_DECIDE | 1u << CHANGE_GATHER | 1u << CHANGE_BRING | 1u << CHANGE_IDLE,
    [CHANGE_DECIDE] = 1u << CHANGE_PAUSE | 1u << CHANGE_BRING | 1u << CHANGE_IDLE,
    [CHANGE_GATHER] = 1u << CHANGE_PAUSE | 1u << CHANGE_SPREAD | 1u << CHANGE_IDLE,
    [CHANGE_SPREAD] = 1u << CHANGE_PAUSE | 1u << CHANGE_SEAT | 1u << CHANGE_IDLE,
    [CHANGE_SEAT] = 1u << CHANGE_PAUSE | 1u << CHANGE_BRING | 1u << CHANGE_IDLE,
    [CHANGE_BRING] = 1u << CHANGE_IDLE | 1u << CHANGE_BRING,
};

static void change_move(struct change *change, enum change_phase to)
{
    KHO_ASSERT((change_moves[change->phase] & (1u << to)) != 0);
    change->phase = to;
}

static void change_wake_at(struct client *client, struct change *change, uint64_t mono_ns)
{
    change->wake_ns = kho_min(change->deadline_ns, mono_ns);
    change->wake(client, change);
}

static void change_nodes_free(struct client *client, struct change *change)
{
    for (uint32_t i = 0; change->nodes != NULL && i < change->node_count; i++) {
        if (change->nodes[i].asked)
            request_drop(client, &change->nodes[i].request);
        client_release(client, change->nodes[i].bytes);
    }
    client_release(client, change->nodes);
    change->nodes = NULL;
    change->node_count = change->waiting = 0;
}

void change_stop(struct client *client, struct change *change)
{
    if (change->asked)
        request_drop(client, &change->request);
    change->asked = false;
    push_stop(client, &change->push);
    change_nodes_free(client, change);
    client_release(client, change->body);
    change->body = NULL;
    change->phase = CHANGE_IDLE;
    change->wake_ns = CLIENT_NEVER;
}

static void change_end(struct client *client, struct change *change, int status, struct kho_now now)
{
    change_stop(client, change);
    change->end(client, change, status, now);
}

/* --- The next map ----------------------------------------------------------------------------- */

static void change_unpack(const struct map *map, struct change_parts *to, struct kho_now now)
{
    uint16_t *table = to->table;
    uint32_t *since = to->since;
    to->parts = (struct map_parts){
        .cluster = map->cluster,
        .epoch = map->epoch + 1,
        .seed = map->seed,
        .changed_ms = now.wall_ms,
        .partitions = map->partitions,
        .replicas = map->replicas,
        .write_quorum = map->write_quorum,
        .read_quorum = map->read_quorum,
        .width = map->width,
        .home = map->home,
        .node_count = map->node_count,
        .collection_count = map->collection_count,
        .nodes = to->nodes,
        .collections = to->collections,
        .table = table,
        .since = since,
        .previous = map->previous,
        .previous_count = map->previous_count,
    };
    for (uint32_t i = 0; i < map->node_count; i++)
        map_node(map, i, &to->nodes[i]);
    for (uint32_t i = 0; i < map->collection_count; i++)
        map_collection(map, i, &to->collections[i]);
    for (uint32_t p = 0; p < map->partitions; p++)
        for (uint32_t k = 0; k < map->width; k++) {
            table[(size_t)p * map->width + k] = map_replica(map, p, k);
            since[(size_t)p * map->width + k] = map_replica_since(map, p, k);
        }
}

/* Encodes the edited parts into change->body. */
static int change_pack(struct client *client, struct change *change,
                       const struct change_parts *parts)
{
    size_t size = map_size(&parts->parts);
    struct map map;
    if (size > KHO_MAP_SIZE_MAX)
        return KHO_ETOOLARGE;
    client_release(client, change->body);
    change->body_len = WIRE_MAP_PUSH_HEAD + (uint32_t)size;
    change->body = client_allocate(client, change->body_len);
    if (change->body == NULL)
        return -ENOMEM;
    memset(change->body, 0, WIRE_MAP_PUSH_HEAD);
    kho_store64(change->body, client->map.epoch);
    kho_store64(change->body + 8, client->map.hash);
    change->body[16] = 1;
    map_encode(&parts->parts, change->body + WIRE_MAP_PUSH_HEAD);
    int rc = map_decode(change->body + WIRE_MAP_PUSH_HEAD, size, &map);
    if (rc == 0)
        change->hash = map.hash;
    return rc;
}

int change_raise(struct client *client, struct change *change, struct change_parts *parts)
{
    (void)client;
    (void)change;
    (void)parts;
    return 0;
}

static void change_parts_free(struct client *client, struct change_parts *parts)
{
    if (parts == NULL)
        return;
    client_release(client, parts->table);
    client_release(client, parts->since);
    client_release(client, parts->previous);
    client_release(client, parts);
}

static struct change_parts *change_parts_new(struct client *client)
{
    const struct map *map = &client->map;
    size_t cells = (size_t)map->partitions * map->width;
    struct change_parts *parts = client_allocate_zeroed(client, sizeof *parts);
    if (parts == NULL)
        return NULL;
    parts->table = client_allocate(client, cells * sizeof *parts->table);
    parts->since = client_allocate(client, cells * sizeof *parts->since);
    parts->previous = client_allocate(client, map->partitions * map_row_size(map->width));
    if (parts->table != NULL && parts->since != NULL && parts->previous != NULL)
        return parts;
    change_parts_free(client, parts);
    return NULL;
}

/* The next map as the edit makes it from the one in force: *ret_parts, to be freed. */
static int change_draft(struct client *client, struct change *change,
                        struct change_parts **ret_parts, struct kho_now now)
{
    struct change_parts *parts = change_parts_new(client);
    int rc = parts == NULL ? -ENOMEM : client->map.epoch >= UINT32_MAX ? KHO_EMAP : 0;
    if (rc == 0) {
        change_unpack(&client->map, parts, now);
        change->now = now;
        rc = change->edit(client, change, parts);
    }
    if (rc != 0) {
        change_parts_free(client, parts);
        parts = NULL;
    }
    *ret_parts = parts;
    return rc;
}

int change_preview(struct client *client, struct change *change, struct kho_now now)
{
    struct change_parts *parts;
    int rc = change_draft(client, change, &parts, now);
    change_parts_free(client, parts);
    return rc;
}

/* Makes the proposal from the map in force. */
static int change_propose(struct client *client, struct change *change, struct kho_now now)
{
    struct change_parts *parts;
    int rc = change_draft(client, change, &parts, now);
    if (rc != 0)
        return rc;
    rc = change_pack(client, change, parts);
    if (rc == 0)
        change->proposed_epoch = client->map.epoch + 1;
    change_parts_free(client, parts);
    return rc;
}

/* Is the last proposal the map in force? */
static bool change_in_force(const struct client *client, const struct change *change)
{
    return change->body != NULL && client->map.hash == change->hash &&
           client->map.epoch == change->proposed_epoch;
}

/* --- Bringing --------------------------------------------------------------------------------- */

static void change_again(struct client *client, struct change *change, int cause,
                         struct kho_now now);

static void change_brought(struct client *client, struct push *push, struct kho_now now)
{
    struct change *change = push->owner;
    change->majority = push->held > push->told_count / 2;
    if (push->waiting == 0)
        change_end(client, change, change->majority ? 0 : KHO_EUNAVAILABLE, now);
    else if (change->majority)
        change_wake_at(client, change, now.mono_ns + CHANGE_GRACE_NS);
}

/* The change is decided and in force here: to all nodes. */
static void change_bring(struct client *client, struct change *change, struct kho_now now)
{
    change_move(change, CHANGE_BRING);
    change->majority = false;
    change->push.deadline_ns = change->deadline_ns;
    change->push.told = change_brought;
    change->push.owner = change;
    change_wake_at(client, change, change->deadline_ns);
    if (push_start(client, &change->push, &client->map, -1, -1, now) != 0)
        change_end(client, change, -ENOMEM, now);
}

static void change_decided(struct client *client, struct change *change, struct kho_now now)
{
    if (!change_in_force(client, change)) {
        int rc = route_map_install(client, change->body + WIRE_MAP_PUSH_HEAD,
                                   change->body_len - WIRE_MAP_PUSH_HEAD, now);
        if (rc < 0) {
            change_end(client, change, rc, now);
            return;
        }
    }
    change_bring(client, change, now);
}

/* --- Without a home to decide ----------------------------------------------------------------- */

/* Nobody can decide alone: see the head of this file. */
static bool change_homeless(const struct change *change)
{
    return change->lost_home >= 0 || change->forked;
}

/* Where the home of the map that is proposed stands in the map in force. */
static int change_seat_of(const struct client *client, const struct change *change)
{
    struct map map;
    struct map_node node;
    int rc =
        map_decode(change->body + WIRE_MAP_PUSH_HEAD, change->body_len - WIRE_MAP_PUSH_HEAD, &map);
    KHO_ASSERT(rc == 0);
    map_node(&map, map.home, &node);
    return map_node_by_name(&client->map, node.name);
}

static void change_seated(struct client *client, struct request *request, int status,
                          struct kho_now now)
{
    struct change *change = request->owner;
    change->asked = false;
    if (status == 0)
        change_decided(client, change, now);
    else
        change_again(client, change, status, now);
}

static void change_seat(struct client *client, struct change *change, struct kho_now now)
{
    change_move(change, CHANGE_SEAT);
    push_stop(client, &change->push);
    change->body[16] = 0; /* as a decided one */
    change->request = (struct request){
        .type = WIRE_MAP_PUSH,
        .count = 1,
        .body = change->body,
        .body_len = change->body_len,
        .deadline_ns = kho_min(change->deadline_ns, now.mono_ns + CHANGE_ASK_NS),
        .end = change_seated,
        .owner = change,
    };
    int rc =
        request_send(client, &change->request, (uint32_t)change_seat_of(client, change), 0, now);
    change->asked = rc == 0;
    if (rc != 0)
        change_end(client, change, rc, now);
}

static void change_spread_told(struct client *client, struct push *push, struct kho_now now)
{
    struct change *change = push->owner;
    if (push->waiting > 0)
        return;
    if (2 * (push->held + 1) > push->told_count + 1)
        change_seat(client, change, now);
    else
        change_again(client, change, push->error, now);
}

static void change_spread(struct client *client, struct change *change, struct kho_now now)
{
    struct map map;
    int seat = change_seat_of(client, change);
    int rc =
        map_decode(change->body + WIRE_MAP_PUSH_HEAD, change->body_len - WIRE_MAP_PUSH_HEAD, &map);
    KHO_ASSERT(rc == 0);
    change_nodes_free(client, change);
    change_move(change, CHANGE_SPREAD);
    if (seat < 0) {
        change_end(client, change, KHO_EMAP, now);
        return;
    }
    change->push.deadline_ns = kho_min(change->deadline_ns, now.mono_ns + CHANGE_ASK_NS);
    change->push.told = change_spread_told;
    change->push.owner = change;
    change->in_doubt = true;
    if (push_start(client, &change->push, &map, change->lost_home, seat, now) != 0)
        change_end(client, change, -ENOMEM, now);
    else if (change->push.waiting == 0)
        change_spread_told(client, &change->push, now); /* the new home is alone */
}

/* The map of our epoch, other than ours, that most nodes hold: one of those, or NULL. */
static const struct change_node *change_rival(const struct change *change, uint32_t *ret_held)
{
    const struct change_node *rival = NULL;
    *ret_held = 0;
    for (uint32_t i = 0; i < change->node_count; i++) {
        uint32_t held = 0;
        if (change->nodes[i].bytes == NULL)
            continue;
        for (uint32_t k = 0; k < change->node_count; k++)
            held +=
                change->nodes[k].bytes != NULL && change->nodes[k].hash == change->nodes[i].hash;
        if (held > *ret_held) {
            *ret_held = held;
            rival = &change->nodes[i];
        }
    }
    return rival;
}

static void change_gathered(struct client *client, struct change *change, struct kho_now now)
{
    uint32_t asked = 0, unheard = 0, ours = 0, theirs;
    if (client->map.epoch != change->gathering.epoch ||
        client->map.hash != change->gathering.hash) {
        change_again(client, change, 0, now); /* a newer map is in force */
        return;
    }
    for (uint32_t i = 0; i < change->node_count; i++) {
        const struct change_node *node = &change->nodes[i];
        if (node->change == NULL)
            continue;
        asked++;
        unheard += !node->heard;
        ours += node->heard && node->hash == client->map.hash && node->epoch == client->map.epoch;
    }
    const struct change_node *rival = change_rival(change, &theirs);
    bool may_be = rival != NULL && 2 * (theirs + unheard) > asked;
    if (!may_be) {
        change_spread(client, change, now);
    } else if (2 * (ours + unheard) > asked) {
        change_again(client, change, KHO_EUNAVAILABLE, now);
    } else {
        int rc = route_map_adopt(client, rival->bytes, rival->len, now);
        change_again(client, change, rc < 0 ? rc : 0, now);
    }
}

static void change_map_frame(struct client *client, struct request *request,
                             const struct wire_head *head, const uint8_t *body, size_t len,
                             struct kho_now now)
{
    struct change_node *node = request->owner;
    struct change *change = node->change;
    struct map map;
    if (head->count == 0) {
        node->heard = true;
        return;
    }
    if (map_decode(body, len, &map) != 0 || !kho_id_equal(&map.cluster, &client->map.cluster))
        return;
    node->heard = true;
    node->epoch = map.epoch;
    node->hash = map.hash;
    bool proposed = map.epoch == change->proposed_epoch && map.hash == change->hash;
    if (map.epoch > client->map.epoch && !proposed) {
        (void)route_map_install(client, body, len, now); /* told by the map in force then */
    } else if (map.epoch == client->map.epoch && map.hash != client->map.hash &&
               node->bytes == NULL) {
        node->bytes = client_allocate(client, len);
        node->len = (uint32_t)len;
        if (node->bytes != NULL)
            memcpy(node->bytes, body, len);
        node->heard = node->bytes != NULL;
    }
}

/* Is there a folder without a map where the node was? Whatever it held, nobody can hold it there.
 */
static bool change_emptied(struct client *client, uint32_t index, struct kho_now now)
{
    if (index >= client->remote_count)
        return false;
    const struct session *session = route_session(client, index, 0, now);
    return session != NULL && session->hello_known && session->error == KHO_EINCARNATION &&
           kho_id_is_zero(&session->hello.cluster);
}

static void change_map_told(struct client *client, struct request *request, int status,
                            struct kho_now now)
{
    struct change_node *node = request->owner;
    struct change *change = node->change;
    node->asked = false;
    node->heard &= status == 0;
    if (status != 0 && change_emptied(client, (uint32_t)(node - change->nodes), now))
        node->heard = true;
    if (--change->waiting == 0)
        change_gathered(client, change, now);
}

static int change_gather(struct client *client, struct change *change, struct kho_now now)
{
    const struct map *map = &client->map;
    change_nodes_free(client, change);
    change_move(change, CHANGE_GATHER);
    change->nodes = client_allocate_zeroed(client, map->node_count * sizeof *change->nodes);
    if (change->nodes == NULL)
        return -ENOMEM;
    change->node_count = map->node_count;
    change->gathering.epoch = map->epoch;
    change->gathering.hash = map->hash;
    for (uint32_t i = 0; i < map->node_count; i++) {
        struct map_node node;
        struct change_node *to = &change->nodes[i];
        map_node(map, i, &node);
        if ((int)i == change->lost_home || node.state == MAP_NODE_OUT)
            continue;
        to->change = change;
        to->request = (struct request){
            .type = WIRE_MAP,
            .deadline_ns = kho_min(change->deadline_ns, now.mono_ns + CHANGE_ASK_NS),
            .frame = change_map_frame,
            .end = change_map_told,
            .owner = to,
        };
        int rc = request_send(client, &to->request, i, 0, now);
        if (rc != 0)
            return rc;
        to->asked = true;
        change->waiting++;
    }
    if (change->waiting == 0)
        change_gathered(client, change, now);
    return 0;
}

/* --- Deciding --------------------------------------------------------------------------------- */

static void change_answered(struct client *client, struct request *request, int status,
                            struct kho_now now)
{
    struct change *change = request->owner;
    change->asked = false;
    if (status == 0 || change_in_force(client, change))
        change_decided(client, change, now);
    else
        change_again(client, change, status, now);
}

static void change_home_told(struct client *client, struct push *push, struct kho_now now)
{
    struct change *change = push->owner;
    /* The others' failures are theirs: one may be the very node that the change is about. */
    if (push->waiting == 0)
        change_again(client, change,
                     client->map.home < push->node_count ? push->nodes[client->map.home].status : 0,
                     now);
}

/* The home holds an older map than we do: it is brought ours, then asked again. */
static void change_bring_home(struct client *client, struct change *change, struct kho_now now)
{
    change->push.deadline_ns = kho_min(change->deadline_ns, now.mono_ns + CHANGE_ASK_NS);
    change->push.told = change_home_told;
    change->push.owner = change;
    if (push_start(client, &change->push, &client->map, -1, -1, now) != 0)
        change_end(client, change, -ENOMEM, now);
}

static int change_decide(struct client *client, struct change *change, struct kho_now now)
{
    change_move(change, CHANGE_DECIDE);
    change->in_doubt = true;
    change->request = (struct request){
        .type = WIRE_MAP_PUSH,
        .count = 1,
        .body = change->body,
        .body_len = change->body_len,
        .deadline_ns = kho_min(change->deadline_ns, now.mono_ns + CHANGE_ASK_NS),
        .end = change_answered,
        .owner = change,
    };
    int rc = request_send(client, &change->request, client->map.home, 0, now);
    change->asked = rc == 0;
    return rc;
}

/* A proposal failed for this cause: what next? */
static void change_again(struct client *client, struct change *change, int cause,
                         struct kho_now now)
{
    bool pause = false;
    change->cause = cause;
    switch (cause) {
    case 0:
    case KHO_EEPOCHOLD:
        break; /* the newer map is in force here: edited anew */
    case KHO_EBEHIND:
    case KHO_ENOMAP:
    case KHO_ENOTHOME:
        if (change->phase == CHANGE_DECIDE && change->push.nodes == NULL) {
            change_bring_home(client, change, now);
            return;
        }
        pause = true;
        break;
    case KHO_EUNAVAILABLE:
    case KHO_EDEADLINE:
    case KHO_EBUSY:
    case KHO_ESTOPPING:
        pause = true;
        break;
    case KHO_EMAP:
        /* The home, or one that was to take it, holds another map of that epoch. */
        if (change->phase == CHANGE_DECIDE || change_homeless(change)) {
            change->forked = true;
            pause = true;
            break;
        }
        change_end(client, change, cause, now);
        return;
    default:
        change_end(client, change, cause, now);
        return;
    }
    if (++change->tries > CHANGE_TRIES) {
        change_end(client, change, cause, now);
        return;
    }
    push_stop(client, &change->push);
    change_nodes_free(client, change);
    change_move(change, CHANGE_PAUSE);
    change_wake_at(client, change, now.mono_ns + (pause ? CHANGE_PAUSE_NS : CLIENT_MS_NS));
}

/* Proposes, or proposes again. Whatever is returned, nothing is under way if it isn't 0. */
static int change_try(struct client *client, struct change *change, struct kho_now now)
{
    if (change_in_force(client, change) && !change_homeless(change)) {
        change_bring(client, change, now);
        return 0;
    }
    if (change_in_force(client, change)) /* some node told us; it isn't decided by that */
        return change_gather(client, change, now);
    /* The map in force is still the one that the proposal began from: the same bytes go again, so
     * that a home that took them already recognises them. */
    bool same = change->body != NULL && kho_load64(change->body) == client->map.epoch &&
                kho_load64(change->body + 8) == client->map.hash;
    int rc = same ? 0 : change_propose(client, change, now);
    if (rc == -EALREADY) {
        change_bring(client, change, now);
        return 0;
    }
    if (rc != 0)
        return rc;
    change_wake_at(client, change, change->deadline_ns);
    return change_homeless(change) ? change_gather(client, change, now)
                                   : change_decide(client, change, now);
}

int change_start(struct client *client, struct change *change, struct kho_now now)
{
    KHO_ASSERT(change->phase == CHANGE_IDLE && client_has_map(client));
    change->tries = 0;
    change->in_doubt = change->forked = false;
    change->proposed_epoch = 0;
    change->cause = 0;
    change->wake_ns = CLIENT_NEVER;
    int rc = change_try(client, change, now);
    if (rc != 0)
        change_stop(client, change);
    return rc;
}

void change_tick(struct client *client, struct change *change, struct kho_now now)
{
    if (change->phase == CHANGE_IDLE || now.mono_ns < change->wake_ns)
        return;
    if (change->phase == CHANGE_BRING && change->majority) {
        change_end(client, change, 0, now);
    } else if (now.mono_ns >= change->deadline_ns) {
        bool unavailable = change->phase == CHANGE_BRING || change->cause == KHO_EUNAVAILABLE;
        change_end(client, change, unavailable ? KHO_EUNAVAILABLE : KHO_EDEADLINE, now);
    } else if (change->phase == CHANGE_PAUSE) {
        int rc = change_try(client, change, now);
        if (rc != 0)
            change_end(client, change, rc, now);
    } else {
        change_wake_at(client, change, change->deadline_ns);
    }
}
