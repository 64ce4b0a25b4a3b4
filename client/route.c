/* route.c: the map in force, its nodes, and how the first map is found.
 *
 * It owns client->map, the remotes and, through them, the sessions. The happy path: the seeds are
 * asked all at once; the first map that comes is put in force and the seeds are let go; sessions to
 * its nodes are made when a record needs them. Any HELLO or answer of a higher epoch fetches the
 * next map, and a refusal as KHO_EEPOCHOLD brings it.
 *
 * How it fails: a map that doesn't decode, is another cluster's, or has our epoch with another
 * hash, is refused, and the session that brought it remembers why. Memory is taken before anything
 * is changed. */
#include "item.h"
#include "session.h"

/* --- Remotes ---------------------------------------------------------------------------------- */

static struct remote *remote_create(struct client *client, const char *address, uint16_t port,
                                    uint32_t shards)
{
    size_t size = sizeof(struct remote) + (size_t)shards * sizeof(struct session *);
    struct remote *remote = (struct remote *)client_allocate_zeroed(client, size);
    if (remote == NULL)
        return NULL;
    snprintf(remote->address, sizeof remote->address, "%s", address);
    remote->port = port;
    remote->shards = shards;
    return remote;
}

static void remote_retire(struct client *client, struct remote *remote, struct kho_now now)
{
    for (uint32_t i = 0; i < remote->shards; i++)
        if (remote->sessions[i] != NULL)
            session_retire(client, remote->sessions[i], now);
    client_release(client, remote);
}

static void route_retire_all(struct client *client, struct remote **remotes, uint32_t count,
                             struct kho_now now)
{
    for (uint32_t i = 0; i < count; i++)
        if (remotes[i] != NULL)
            remote_retire(client, remotes[i], now);
    client_release(client, remotes);
}

struct session *route_session(struct client *client, uint32_t node, uint32_t shard,
                              struct kho_now now)
{
    KHO_ASSERT(node < client->remote_count);
    struct remote *remote = client->remotes[node];
    KHO_ASSERT(shard < remote->shards);
    if (remote->sessions[shard] == NULL)
        remote->sessions[shard] = session_create(client, remote, shard, now);
    return remote->sessions[shard];
}

uint32_t route_shard(const struct client *client, uint32_t node, uint32_t partition)
{
    return KHO_PLANTED(wrong_shard) ? 0 : partition % client->remotes[node]->shards;
}

/* --- Seeds ------------------------------------------------------------------------------------ */

/* HOST:PORT or [IPV6]:PORT in `len` bytes. */
static int route_parse_seed(const char *text, size_t len, char *ret_host, uint16_t *ret_port)
{
    size_t colon = len;
    while (colon > 0 && text[colon - 1] != ':')
        colon--;
    if (colon < 2 || colon == len)
        return -EINVAL;
    uint32_t port = 0;
    for (size_t i = colon; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || port > 6553)
            return -EINVAL;
        port = port * 10 + (uint32_t)(text[i] - '0');
    }
    size_t host_len = colon - 1;
    if (host_len >= 2 && text[0] == '[' && text[host_len - 1] == ']') {
        text++;
        host_len -= 2;
    }
    if (port == 0 || port > 65535 || host_len == 0 || host_len > 64)
        return -EINVAL;
    memcpy(ret_host, text, host_len);
    ret_host[host_len] = '\0';
    *ret_port = (uint16_t)port;
    return 0;
}

static int route_add_seed(struct client *client, const char *text, size_t len, struct kho_now now)
{
    char host[65];
    uint16_t port;
    int status = route_parse_seed(text, len, host, &port);
    if (status != 0)
        return status;
    struct remote *remote = remote_create(client, host, port, 1);
    if (remote == NULL)
        return -ENOMEM;
    remote->seed = true;
    remote->node = client->seed_count;
    client->seeds[client->seed_count++] = remote;
    remote->sessions[0] = session_create(client, remote, 0, now);
    return remote->sessions[0] == NULL ? -ENOMEM : 0;
}

int route_open(struct client *client, const char *seeds, struct kho_now now)
{
    size_t count = 1;
    if (seeds == NULL)
        return -EINVAL;
    for (const char *c = seeds; *c != '\0'; c++)
        count += *c == ',';
    client->seeds =
        (struct remote **)client_allocate_zeroed(client, count * sizeof(struct remote *));
    if (client->seeds == NULL)
        return -ENOMEM;
    for (const char *at = seeds;;) {
        const char *end = strchr(at, ',');
        size_t len = end == NULL ? strlen(at) : (size_t)(end - at);
        int status = route_add_seed(client, at, len, now);
        if (status != 0)
            return status;
        if (end == NULL)
            return 0;
        at = end + 1;
    }
}

/* --- Visits ----------------------------------------------------------------------------------- */

struct remote *route_visit(struct client *client, const char *address, uint16_t port,
                           struct kho_now now)
{
    struct remote *visit = remote_create(client, address, port, 1);
    if (visit == NULL)
        return NULL;
    visit->seed = visit->visit = true;
    visit->sessions[0] = session_create(client, visit, 0, now);
    if (visit->sessions[0] == NULL) {
        client_release(client, visit);
        return NULL;
    }
    visit->next_visit = client->visits;
    client->visits = visit;
    return visit;
}

void route_leave(struct client *client, struct remote *visit, struct kho_now now)
{
    struct remote **at = &client->visits;
    while (*at != visit)
        at = &(*at)->next_visit;
    *at = visit->next_visit;
    remote_retire(client, visit, now);
}

/* --- The map ---------------------------------------------------------------------------------- */

/* 1: to be put in force; 0: not newer; or why it is refused. */
static int route_map_judge(const struct client *client, const struct map *map)
{
    if (!client_has_map(client))
        return kho_id_is_zero(&client->cluster) || kho_id_equal(&map->cluster, &client->cluster)
                   ? 1
                   : KHO_ECLUSTER;
    if (!kho_id_equal(&map->cluster, &client->map.cluster))
        return KHO_ECLUSTER;
    if (map->epoch == client->map.epoch && map->hash != client->map.hash)
        return KHO_EMAP;
    return map->epoch > client->map.epoch;
}

static bool remote_is(const struct remote *remote, const struct map_node *node)
{
    return remote != NULL && kho_id_equal(&remote->incarnation, &node->incarnation) &&
           remote->port == node->port && remote->shards == node->shards &&
           strcmp(remote->address, node->address) == 0;
}

static int remote_index(const struct client *client, const struct map_node *node)
{
    for (uint32_t i = 0; i < client->remote_count; i++)
        if (remote_is(client->remotes[i], node))
            return (int)i;
    return -1;
}

/* The remotes of a map: those in use where the node is the same, new ones otherwise (`ret_old` says
 * where an old one went, by its index now). NULL: memory is out, nothing was changed. */
static struct remote **route_remotes(struct client *client, const struct map *map)
{
    struct remote **remotes =
        (struct remote **)client_allocate_zeroed(client, map->node_count * sizeof(struct remote *));
    if (remotes == NULL)
        return NULL;
    for (uint32_t i = 0; i < map->node_count; i++) {
        struct map_node node;
        map_node(map, i, &node);
        if (remote_index(client, &node) >= 0)
            continue;
        remotes[i] = remote_create(client, node.address, node.port, node.shards);
        if (remotes[i] == NULL) {
            for (uint32_t k = 0; k < i; k++)
                client_release(client, remotes[k]);
            client_release(client, remotes);
            return NULL;
        }
        remotes[i]->incarnation = node.incarnation;
    }
    /* From here on nothing fails: the old ones that stay move over. */
    for (uint32_t i = 0; i < map->node_count; i++) {
        struct map_node node;
        map_node(map, i, &node);
        int old = remotes[i] == NULL ? remote_index(client, &node) : -1;
        if (old >= 0) {
            remotes[i] = client->remotes[old];
            client->remotes[old] = NULL;
        }
        KHO_ASSERT(remotes[i] != NULL);
        remotes[i]->node = i;
    }
    return remotes;
}

/* Everything that was asked under the old map ends or waits before the new one is put in force. */
static void route_map_swap(struct client *client, const struct map *map, uint8_t *bytes,
                           struct remote **remotes, struct kho_now now)
{
    struct remote **old = client->remotes;
    uint32_t old_count = client->remote_count;
    uint8_t *old_bytes = client->map_bytes;
    records_detach_all(client);
    client->map = *map;
    client->map_bytes = bytes;
    client->remotes = remotes;
    client->remote_count = map->node_count;
    client->map_error = 0;
    QUEUE_FOREACH (link, &client->sessions) {
        session_epoch_changed(client, KHO_CONTAINER_OF(link, struct session, link), now);
    }
    route_retire_all(client, old, old_count, now);
    route_retire_all(client, client->seeds, client->seed_count, now);
    client->seeds = NULL;
    client->seed_count = 0;
    client_release(client, old_bytes);
}

static int route_map_force(struct client *client, const uint8_t *bytes, size_t len,
                           struct kho_now now)
{
    struct map map;
    uint8_t *copy = (uint8_t *)client_allocate(client, len);
    if (copy == NULL)
        return -ENOMEM;
    memcpy(copy, bytes, len);
    int status = map_decode(copy, len, &map);
    KHO_ASSERT(status == 0);
    struct remote **remotes = route_remotes(client, &map);
    if (remotes == NULL) {
        client_release(client, copy);
        return -ENOMEM;
    }
    route_map_swap(client, &map, copy, remotes, now);
    records_map_changed(client, now);
    QUEUE_FOREACH_SAFE (link, &client->calls) {
        struct call *call = KHO_CONTAINER_OF(link, struct call, link);
        if (call->kind->map_changed != NULL)
            call->kind->map_changed(client, call, now);
    }
    return 1;
}

int route_map_install(struct client *client, const uint8_t *bytes, size_t len, struct kho_now now)
{
    struct map map;
    int status = map_decode(bytes, len, &map);
    if (status == 0)
        status = route_map_judge(client, &map);
    return status > 0 ? route_map_force(client, bytes, len, now) : status;
}

int route_map_adopt(struct client *client, const uint8_t *bytes, size_t len, struct kho_now now)
{
    struct map map;
    int status = map_decode(bytes, len, &map);
    if (status < 0)
        return status;
    KHO_ASSERT(map.epoch == client->map.epoch && kho_id_equal(&map.cluster, &client->map.cluster));
    return route_map_force(client, bytes, len, now);
}

#define ROUTE_REFRESH_NODES 3u

bool route_refresh(struct client *client, struct kho_now now)
{
    if (client->refreshing > 0)
        return true;
    if (client->refresh_ns != 0 && now.mono_ns - client->refresh_ns < ROUTE_REFRESH_NS)
        return false;
    client->refresh_ns = now.mono_ns;
    for (uint32_t i = 0; i < ROUTE_REFRESH_NODES && i < client->remote_count; i++) {
        uint32_t node = (client->map.home + i) % client->remote_count;
        struct session *session = route_session(client, node, 0, now);
        if (session == NULL)
            continue;
        session_fetch_map(client, session, now);
        session->refresh = true;
        client->refreshing++;
    }
    return client->refreshing > 0;
}

/* --- Close ------------------------------------------------------------------------------------ */

void route_close(struct client *client, struct kho_now now)
{
    struct remote **remotes = client->remotes;
    uint32_t count = client->remote_count;
    client->remotes = NULL;
    client->remote_count = 0;
    route_retire_all(client, remotes, count, now);
    route_retire_all(client, client->seeds, client->seed_count, now);
    client->seeds = NULL;
    client->seed_count = 0;
    while (client->visits != NULL)
        route_leave(client, client->visits, now);
}

void route_destroy(struct client *client)
{
    QUEUE_FOREACH_SAFE (link, &client->sessions) {
        session_destroy(client, KHO_CONTAINER_OF(link, struct session, link));
    }
    for (uint32_t i = 0; i < client->remote_count; i++)
        client_release(client, client->remotes[i]);
    for (uint32_t i = 0; i < client->seed_count; i++)
        client_release(client, client->seeds[i]);
    while (client->visits != NULL) {
        struct remote *visit = client->visits;
        client->visits = visit->next_visit;
        client_release(client, visit);
    }
    client_release(client, client->remotes);
    client_release(client, client->seeds);
    client_release(client, client->map_bytes);
    client_release(client, client->conns);
}
