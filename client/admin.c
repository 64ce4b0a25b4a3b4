/* admin.c: owns CLIENT_COLLECTION_CREATE, CLIENT_MAP_PUSH and CLIENT_READMIT.
 *
 * Happy paths, each once there is a map:
 *   create   CHANGE: a map with one more collection is decided at the home and brought to all.
 *   push     PUSH: the map in force is brought to all nodes; where one of them holds another of the
 *            same epoch, CHANGE: an epoch above both, and PUSH again.
 *   readmit  ASK: the node at the address says HELLO and so its present incarnation; CHANGE: a map
 *            that names it, `readmitted` in that epoch, is decided and brought to all; PUSH: once
 *            more to all, since a readmit has ended only when the node itself has the map, by which
 *            it opens an episode over all its partitions (R2).
 *
 * They fail as change.c and push.c do; readmit with -ENOENT (no such node), -EALREADY (its
 * incarnation is the map's), KHO_ECLUSTER (another cluster's node), KHO_EINCARNATION (its folder is
 * a copy of another node's). */
#include "change.h"

#define ADMIN_PAUSE_NS (100 * CLIENT_MS_NS)

enum admin_phase { ADMIN_WAIT, ADMIN_ASK, ADMIN_CHANGE, ADMIN_PUSH, ADMIN_ENDED };

/* Allowed moves, as bits of the phases that may follow. */
static const uint8_t admin_moves[] = {
    [ADMIN_WAIT] = 1u << ADMIN_ASK | 1u << ADMIN_CHANGE | 1u << ADMIN_PUSH | 1u << ADMIN_ENDED,
    [ADMIN_ASK] = 1u << ADMIN_WAIT | 1u << ADMIN_CHANGE | 1u << ADMIN_ENDED,
    [ADMIN_CHANGE] = 1u << ADMIN_PUSH | 1u << ADMIN_ENDED,
    [ADMIN_PUSH] = 1u << ADMIN_WAIT | 1u << ADMIN_CHANGE | 1u << ADMIN_ENDED,
    [ADMIN_ENDED] = 0,
};

struct admin {
    struct call call;
    enum admin_phase phase;
    char name[KHO_NAME_MAX + 1]; /* of the collection or the node */
    uint16_t separator;
    uint8_t replicas;
    struct change change;
    struct push push;
    bool raised; /* the epoch was, since the maps of some nodes differed */
    /* Readmit. */
    struct request request;
    bool asked;
    uint32_t node;
    struct wire_hello_node hello;
    int new_home; /* where the node was the map's home and has no map any more */
};

static struct admin *admin_of(struct call *call)
{
    return KHO_CONTAINER_OF(call, struct admin, call);
}

static void admin_move(struct admin *admin, enum admin_phase to)
{
    KHO_ASSERT((admin_moves[admin->phase] & (1u << to)) != 0);
    admin->phase = to;
}

static void admin_stop(struct client *client, struct admin *admin)
{
    if (admin->asked)
        request_drop(client, &admin->request);
    admin->asked = false;
    change_stop(client, &admin->change);
    push_stop(client, &admin->push);
}

static void admin_end(struct client *client, struct admin *admin, int status)
{
    admin_stop(client, admin);
    admin_move(admin, ADMIN_ENDED);
    call_end(client, &admin->call, status);
}

/* One timer serves the deadline and what the change waits for. */
static void admin_timer_set(struct client *client, struct admin *admin)
{
    if (admin->phase != ADMIN_ENDED)
        call_timer_set(client, &admin->call,
                       kho_min(admin->call.deadline_ns, admin->change.wake_ns));
}

/* --- Push ------------------------------------------------------------------------------------- */

static void admin_change(struct client *client, struct admin *admin, struct kho_now now);

static void admin_pushed(struct client *client, struct push *push, struct kho_now now)
{
    struct admin *admin = push->owner;
    if (push->waiting > 0)
        return;
    if (push->error == KHO_EEPOCHOLD) { /* a newer map is in force: that one then */
        push_stop(client, push);
        admin_move(admin, ADMIN_WAIT);
        call_timer_set(client, &admin->call, now.mono_ns);
        return;
    }
    if (push_forked(push) && !admin->raised) {
        push_stop(client, push);
        admin->raised = true;
        admin_change(client, admin, now);
        return;
    }
    int status = push->error;
    if (admin->call.done.verb == CLIENT_READMIT) {
        KHO_ASSERT(admin->node < push->node_count);
        status = push->nodes[admin->node].status;
    }
    admin_end(client, admin, status);
}

static void admin_push(struct client *client, struct admin *admin, struct kho_now now)
{
    uint64_t left = admin->call.deadline_ns - now.mono_ns;
    admin_move(admin, ADMIN_PUSH);
    /* A little before the call's own end, so that it is told which way it went. */
    admin->push.deadline_ns = now.mono_ns + (left - left / 8);
    admin->push.told = admin_pushed;
    admin->push.owner = admin;
    if (push_start(client, &admin->push, &client->map, -1, -1, now) != 0)
        admin_end(client, admin, -ENOMEM);
}

/* --- Change ----------------------------------------------------------------------------------- */

static int admin_edit_create(struct client *client, struct change *change,
                             struct change_parts *parts)
{
    struct admin *admin = change->owner;
    int index = map_collection_by_name(&client->map, admin->name);
    if (index >= 0) {
        const struct map_collection *there = &parts->collections[index];
        bool ours = change->in_doubt && there->since == change->proposed_epoch &&
                    there->separator == admin->separator;
        return ours ? -EALREADY : KHO_ECOLLECTIONEXISTS;
    }
    uint16_t count = parts->parts.collection_count;
    uint8_t replicas = admin->replicas != 0 ? admin->replicas : parts->parts.replicas;
    if (replicas > parts->parts.width)
        return -EINVAL;
    if (count == KHO_MAP_COLLECTIONS_MAX)
        return KHO_ETOOLARGE;
    struct map_collection *collection = &parts->collections[count];
    memset(collection, 0, sizeof *collection);
    memcpy(collection->name, admin->name, sizeof admin->name);
    collection->id = count > 0 ? parts->collections[count - 1].id + 1 : 1;
    collection->replicas = replicas;
    collection->separator = admin->separator;
    collection->since = parts->parts.epoch;
    parts->parts.collection_count++;
    return 0;
}

/* Another home, where the readmitted node was it: the first other that is up and answers; -1: none
 * does, yet. */
static int admin_new_home(struct client *client, uint32_t home, struct kho_now now)
{
    for (uint32_t i = 0; i < client->map.node_count; i++) {
        struct map_node node;
        struct session *session = route_session(client, i, 0, now);
        map_node(&client->map, i, &node);
        if (i != home && node.state == MAP_NODE_UP && session != NULL &&
            session->state == SESSION_UP && session_out_since(session) == CLIENT_NEVER)
            return (int)i;
    }
    return client->map.node_count == 1 ? (int)home : -1;
}

static int admin_edit_readmit(struct client *client, struct change *change,
                              struct change_parts *parts)
{
    struct admin *admin = change->owner;
    int index = map_node_by_name(&client->map, admin->name);
    int other = map_node_by_incarnation(&client->map, &admin->hello.incarnation);
    if (index < 0)
        return -ENOENT;
    admin->node = (uint32_t)index;
    if (other == index)
        return -EALREADY;
    if (other >= 0)
        return KHO_EINCARNATION; /* a copy of another node's folder */
    struct map_node *node = &parts->nodes[index];
    node->incarnation = admin->hello.incarnation;
    node->shards = (uint16_t)admin->hello.shard_count;
    node->readmitted = parts->parts.epoch;
    change->lost_home = -1;
    if (parts->parts.home == index && kho_id_is_zero(&admin->hello.cluster)) {
        if (admin->new_home < 0)
            return KHO_EUNAVAILABLE;
        change->lost_home = index;
        parts->parts.home = (uint16_t)admin->new_home;
    }
    return 0;
}

static void admin_changed(struct client *client, struct change *change, int status,
                          struct kho_now now)
{
    struct admin *admin = change->owner;
    if (status == 0 && admin->call.done.verb != CLIENT_COLLECTION_CREATE)
        admin_push(client, admin, now);
    else
        admin_end(client, admin, status);
    admin_timer_set(client, admin);
}

static void admin_wake(struct client *client, struct change *change)
{
    admin_timer_set(client, change->owner);
}

static void admin_change(struct client *client, struct admin *admin, struct kho_now now)
{
    bool create = admin->call.done.verb == CLIENT_COLLECTION_CREATE;
    admin_move(admin, ADMIN_CHANGE);
    admin->change.edit = create          ? admin_edit_create
                         : admin->raised ? change_raise
                                         : admin_edit_readmit;
    admin->change.end = admin_changed;
    admin->change.wake = admin_wake;
    admin->change.owner = admin;
    admin->change.deadline_ns = admin->call.deadline_ns;
    admin->change.lost_home = -1;
    int rc = change_start(client, &admin->change, now);
    if (rc != 0)
        admin_end(client, admin, rc);
    admin_timer_set(client, admin);
}

static void admin_look_again(struct client *client, struct admin *admin, struct kho_now now)
{
    admin_move(admin, ADMIN_WAIT);
    call_timer_set(client, &admin->call,
                   kho_min(now.mono_ns + ADMIN_PAUSE_NS, admin->call.deadline_ns));
}

/* Who is at the address is known. A lost home needs another first, which may take a moment to
 * connect. */
static void admin_readmit(struct client *client, struct admin *admin, struct kho_now now)
{
    admin->new_home = admin_new_home(client, admin->node, now);
    if (admin->node == client->map.home && admin->new_home < 0)
        admin_look_again(client, admin, now);
    else
        admin_change(client, admin, now);
}

/* --- Readmit: who is at the address? ---------------------------------------------------------- */

/* What the node's last HELLO says, when the request that made it say one has ended. */
static void admin_judge(struct client *client, struct admin *admin, struct session *session,
                        int status, struct kho_now now)
{
    const struct kho_id *named = &session->remote->incarnation;
    const struct wire_hello_node *hello = &session->hello;
    if (kho_id_equal(&hello->incarnation, named)) {
        admin_end(client, admin, status == 0 || status == KHO_EROLLEDBACK ? -EALREADY : status);
    } else if (!kho_id_is_zero(&hello->cluster) &&
               !kho_id_equal(&hello->cluster, &client->map.cluster)) {
        admin_end(client, admin, KHO_ECLUSTER);
    } else if (status == 0) {
        admin_look_again(client, admin, now); /* it brought a newer map */
    } else {
        admin->hello = *hello;
        admin_readmit(client, admin, now);
    }
}

static void admin_asked(struct client *client, struct request *request, int status,
                        struct kho_now now)
{
    struct admin *admin = request->owner;
    int index = map_node_by_name(&client->map, admin->name);
    admin->asked = false;
    struct session *session = index >= 0 ? route_session(client, (uint32_t)index, 0, now) : NULL;
    if (session == NULL)
        admin_end(client, admin, index < 0 ? -ENOENT : -ENOMEM);
    else if (status == KHO_EUNAVAILABLE && !session_unavailable(client, session, now))
        admin_look_again(client, admin, now); /* the connection broke: who answers now? */
    else if (!session->hello_known)
        admin_end(client, admin, status != 0 ? status : KHO_EUNAVAILABLE);
    else
        admin_judge(client, admin, session, status, now);
}

static void admin_ask(struct client *client, struct admin *admin, struct kho_now now)
{
    int index = map_node_by_name(&client->map, admin->name);
    uint64_t left = admin->call.deadline_ns - now.mono_ns;
    if (index < 0) {
        admin_end(client, admin, -ENOENT);
        return;
    }
    admin_move(admin, ADMIN_ASK);
    admin->node = (uint32_t)index;
    admin->new_home = -1;
    admin->request = (struct request){
        .type = WIRE_MAP,
        .deadline_ns = now.mono_ns + left / 2,
        .end = admin_asked,
        .owner = admin,
    };
    int rc = request_send(client, &admin->request, admin->node, 0, now);
    admin->asked = rc == 0;
    if (rc != 0)
        admin_end(client, admin, rc);
}

/* --- The calls -------------------------------------------------------------------------------- */

static void admin_start(struct client *client, struct admin *admin, struct kho_now now)
{
    call_timer_set(client, &admin->call, admin->call.deadline_ns);
    if (admin->call.done.verb == CLIENT_MAP_PUSH)
        admin_push(client, admin, now);
    else if (admin->call.done.verb == CLIENT_READMIT)
        admin_ask(client, admin, now);
    else
        admin_change(client, admin, now);
}

static void admin_timer(struct client *client, struct call *call, struct kho_now now)
{
    struct admin *admin = admin_of(call);
    if (admin->phase == ADMIN_CHANGE)
        change_tick(client, &admin->change, now);
    if (admin->phase == ADMIN_ENDED)
        return;
    if (now.mono_ns >= call->deadline_ns)
        admin_end(client, admin,
                  !client_has_map(client) && client->map_error != 0 ? client->map_error
                                                                    : KHO_EDEADLINE);
    else if (admin->phase == ADMIN_WAIT && client_has_map(client))
        admin_start(client, admin, now);
    else
        admin_timer_set(client, admin);
}

static void admin_cancel(struct client *client, struct call *call, struct kho_now now)
{
    (void)now;
    admin_end(client, admin_of(call), KHO_ECANCELED);
}

static void admin_map_changed(struct client *client, struct call *call, struct kho_now now)
{
    if (admin_of(call)->phase == ADMIN_WAIT)
        call_timer_set(client, call, now.mono_ns);
}

static void admin_release(struct client *client, struct call *call)
{
    struct admin *admin = admin_of(call);
    admin_stop(client, admin);
    client_release(client, admin);
}

static const struct call_kind admin_kind = {
    .timer = admin_timer,
    .cancel = admin_cancel,
    .map_changed = admin_map_changed,
    .release = admin_release,
};

static int admin_begin(struct client *client, struct admin *admin, enum client_verb verb,
                       uint32_t deadline_ms, void *context, struct kho_now now,
                       kho_call_id *ret_call)
{
    admin->phase = ADMIN_WAIT;
    admin->change.wake_ns = CLIENT_NEVER;
    int rc = call_begin(client, &admin->call, &admin_kind, verb, deadline_ms, context, now);
    if (rc != 0) {
        client_release(client, admin);
        return rc;
    }
    if (ret_call != NULL)
        *ret_call = admin->call.done.call;
    if (client_has_map(client))
        call_timer_set(client, &admin->call, now.mono_ns);
    return 0;
}

int client_collection_create(struct client *client, const char *name, int separator,
                             unsigned replicas, uint32_t deadline_ms, void *context,
                             struct kho_now now, kho_call_id *ret_call)
{
    if (name == NULL || !key_name_valid(name, strlen(name)))
        return KHO_ECOLLECTIONNAME;
    if (separator < -1 || separator > 255 || replicas > KHO_MAP_REPLICAS_MAX)
        return -EINVAL;
    struct admin *admin = client_allocate_zeroed(client, sizeof *admin);
    if (admin == NULL)
        return -ENOMEM;
    memcpy(admin->name, name, strlen(name));
    admin->separator = separator >= 0 ? (uint16_t)separator : KHO_NO_SEPARATOR;
    admin->replicas = (uint8_t)replicas;
    return admin_begin(client, admin, CLIENT_COLLECTION_CREATE, deadline_ms, context, now,
                       ret_call);
}

int client_map_push(struct client *client, uint32_t deadline_ms, void *context, struct kho_now now,
                    kho_call_id *ret_call)
{
    struct admin *admin = client_allocate_zeroed(client, sizeof *admin);
    if (admin == NULL)
        return -ENOMEM;
    return admin_begin(client, admin, CLIENT_MAP_PUSH, deadline_ms, context, now, ret_call);
}

int client_readmit(struct client *client, const char *node, uint32_t deadline_ms, void *context,
                   struct kho_now now, kho_call_id *ret_call)
{
    if (node == NULL || node[0] == '\0' || strlen(node) > KHO_NAME_MAX)
        return -EINVAL;
    struct admin *admin = client_allocate_zeroed(client, sizeof *admin);
    if (admin == NULL)
        return -ENOMEM;
    memcpy(admin->name, node, strlen(node));
    return admin_begin(client, admin, CLIENT_READMIT, deadline_ms, context, now, ret_call);
}
