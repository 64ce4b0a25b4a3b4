/* compare.c: owns CLIENT_DIGESTS and CLIENT_VERIFY: what the replicas say they hold.
 *
 * Happy path: a survey asks every node for the digests of its tables (survey.c). DIGESTS sums them
 * per node and collection. VERIFY compares them partition by partition among the replicas of each:
 * equal count and sum mean the same (key hash, version) sets. Under writes that are in flight
 * replicas differ for moments; that is told as it is.
 *
 * A node that can't be asked has its status in DIGESTS and makes its partitions `unreached` in
 * VERIFY; the call fails only without a map, for memory, an unknown collection or its deadline. */
#include "quorum.h"
#include "survey.h"

#define COMPARE_ASK_NS (30000 * CLIENT_MS_NS)

enum compare_phase { COMPARE_WAIT, COMPARE_SURVEY, COMPARE_ENDED };

/* Allowed moves, as bits of the phases that may follow. */
static const uint8_t compare_moves[] = {
    [COMPARE_WAIT] = 1u << COMPARE_SURVEY | 1u << COMPARE_ENDED,
    [COMPARE_SURVEY] = 1u << COMPARE_WAIT | 1u << COMPARE_ENDED,
    [COMPARE_ENDED] = 0,
};

struct compare {
    struct call call;
    enum compare_phase phase;
    bool all;
    char name[KHO_NAME_MAX + 1];
    struct survey survey;
    /* Names are copied: the map may be replaced before the result was taken. */
    char (*collections)[KHO_NAME_MAX + 1];
    char (*nodes)[33];
    struct kho_digest *digests;
    struct kho_verify_result *results;
};

static struct compare *compare_of(struct call *call)
{
    return KHO_CONTAINER_OF(call, struct compare, call);
}

static void compare_move(struct compare *compare, enum compare_phase to)
{
    KHO_ASSERT((compare_moves[compare->phase] & (1u << to)) != 0);
    compare->phase = to;
}

static void compare_end(struct client *client, struct compare *compare, int status)
{
    survey_stop(client, &compare->survey);
    compare_move(compare, COMPARE_ENDED);
    call_end(client, &compare->call, status);
}

/* The collections that are compared, by index in the map: first to past. */
static void compare_range(const struct client *client, const struct compare *compare,
                          uint32_t *ret_first, uint32_t *ret_past)
{
    int index = compare->all ? 0 : map_collection_by_name(&client->map, compare->name);
    KHO_ASSERT(index >= 0);
    *ret_first = (uint32_t)index;
    *ret_past = compare->all ? client->map.collection_count : (uint32_t)index + 1;
}

/* Copies of the names that the results point to. */
static bool compare_names(struct client *client, struct compare *compare)
{
    const struct map *map = &client->map;
    compare->collections =
        client_allocate(client, (map->collection_count + 1u) * sizeof *compare->collections);
    compare->nodes = client_allocate(client, map->node_count * sizeof *compare->nodes);
    if (compare->collections == NULL || compare->nodes == NULL)
        return false;
    for (uint32_t i = 0; i < map->collection_count; i++) {
        struct map_collection collection;
        map_collection(map, i, &collection);
        memcpy(compare->collections[i], collection.name, sizeof *compare->collections);
    }
    for (uint32_t i = 0; i < map->node_count; i++) {
        struct map_node node;
        map_node(map, i, &node);
        memcpy(compare->nodes[i], node.name, sizeof *compare->nodes);
    }
    return true;
}

/* --- Digests ---------------------------------------------------------------------------------- */

static void compare_sum(const struct survey *survey, uint32_t node, uint32_t collection,
                        struct kho_digest *digest)
{
    const struct survey_node *n = &survey->nodes[node];
    unsigned __int128 sum = 0;
    digest->status = n->status;
    for (size_t i = 0; i < n->count; i++) {
        const struct wire_digest_entry *entry = &n->entries[i];
        if (entry->collection != collection)
            continue;
        digest->records += entry->count;
        digest->bytes += entry->bytes;
        sum += (unsigned __int128)entry->sum_high << 64 | entry->sum_low;
    }
    for (uint32_t p = 0; p < survey->partitions; p++)
        digest->episodes += n->status == 0 && survey_open(survey, node, p);
    kho_store64(digest->sum, (uint64_t)sum);
    kho_store64(digest->sum + 8, (uint64_t)(sum >> 64));
}

static int compare_digests(struct client *client, struct compare *compare)
{
    const struct map *map = &client->map;
    uint32_t first, past;
    compare_range(client, compare, &first, &past);
    size_t count = (size_t)(past - first) * map->node_count;
    compare->digests = client_allocate_zeroed(client, (count + 1) * sizeof *compare->digests);
    if (compare->digests == NULL)
        return -ENOMEM;
    struct kho_digest *digest = compare->digests;
    for (uint32_t c = first; c < past; c++) {
        struct map_collection collection;
        map_collection(map, c, &collection);
        for (uint32_t i = 0; i < map->node_count; i++, digest++) {
            digest->collection = compare->collections[c];
            digest->node = compare->nodes[i];
            compare_sum(&compare->survey, i, collection.id, digest);
        }
    }
    compare->call.done.digests.digests = compare->digests;
    compare->call.done.digests.count = count;
    return 0;
}

/* --- Verify ----------------------------------------------------------------------------------- */

/* One partition of one collection, over its replicas. */
static void compare_partition(const struct client *client, const struct compare *compare,
                              const struct map_collection *collection, uint32_t partition,
                              struct kho_verify_result *result)
{
    static const struct wire_digest_entry nothing;
    const struct survey *survey = &compare->survey;
    const struct wire_digest_entry *one = NULL;
    uint64_t records = 0, bytes = 0;
    bool differing = false, unreached = false, damaged = false;
    uint16_t nodes[COLUMNS_MAX];
    struct layouts layouts;
    uint32_t columns =
        layouts_nodes(&client->map, partition, collection->replicas, nodes, &layouts);
    for (uint32_t k = 0; k < columns; k++) {
        uint32_t node = nodes[k];
        if (survey->nodes[node].status != 0) {
            unreached = true;
            continue;
        }
        const struct wire_digest_entry *entry =
            survey_find(survey, node, collection->id, partition);
        entry = entry != NULL ? entry : &nothing;
        damaged |= survey_open(survey, node, partition);
        if (one != NULL)
            differing |= one->count != entry->count || one->sum_low != entry->sum_low ||
                         one->sum_high != entry->sum_high;
        one = entry;
        records = kho_max(records, entry->count);
        bytes = kho_max(bytes, entry->bytes);
    }
    result->records += records;
    result->bytes += bytes;
    result->partitions += records > 0;
    result->partitions_differing += differing;
    result->partitions_unreached += unreached;
    result->partitions_damaged += damaged;
}

static int compare_verify(struct client *client, struct compare *compare)
{
    const struct map *map = &client->map;
    uint32_t first, past;
    compare_range(client, compare, &first, &past);
    compare->results =
        client_allocate_zeroed(client, (past - first + 1u) * sizeof *compare->results);
    if (compare->results == NULL)
        return -ENOMEM;
    for (uint32_t c = first; c < past; c++) {
        struct kho_verify_result *result = &compare->results[c - first];
        struct map_collection collection;
        map_collection(map, c, &collection);
        result->collection = compare->collections[c];
        for (uint32_t partition = 0; partition < map->partitions; partition++)
            compare_partition(client, compare, &collection, partition, result);
    }
    compare->call.done.verify.results = compare->results;
    compare->call.done.verify.count = past - first;
    return 0;
}

/* --- The call --------------------------------------------------------------------------------- */

static void compare_surveyed(struct client *client, struct survey *survey, int status,
                             struct kho_now now)
{
    struct compare *compare = survey->owner;
    if (status == KHO_EEPOCHOLD) { /* a newer map: from the start */
        survey_stop(client, survey);
        compare_move(compare, COMPARE_WAIT);
        call_timer_set(client, &compare->call, now.mono_ns);
        return;
    }
    if (status == 0 && !compare_names(client, compare))
        status = -ENOMEM;
    if (status == 0)
        status = compare->call.done.verb == CLIENT_DIGESTS ? compare_digests(client, compare)
                                                           : compare_verify(client, compare);
    compare_end(client, compare, status);
}

static void compare_start(struct client *client, struct compare *compare, struct kho_now now)
{
    uint64_t deadline_ns = compare->call.deadline_ns;
    uint32_t collection = KHO_ALL;
    if (!compare->all) {
        struct map_collection c;
        int index = map_collection_by_name(&client->map, compare->name);
        if (index < 0) {
            compare_end(client, compare, KHO_ENOCOLLECTION);
            return;
        }
        map_collection(&client->map, (uint32_t)index, &c);
        collection = c.id;
    }
    compare_move(compare, COMPARE_SURVEY);
    compare->survey.collection = collection;
    /* Those that are silent end a little earlier than the call, so that the others are told. */
    uint64_t left = deadline_ns > now.mono_ns ? deadline_ns - now.mono_ns : 0;
    compare->survey.deadline_ns = now.mono_ns + kho_min(left - left / 8, COMPARE_ASK_NS);
    compare->survey.end = compare_surveyed;
    compare->survey.owner = compare;
    call_timer_set(client, &compare->call, deadline_ns);
    if (survey_start(client, &compare->survey, now) != 0)
        compare_end(client, compare, -ENOMEM);
}

static void compare_timer(struct client *client, struct call *call, struct kho_now now)
{
    struct compare *compare = compare_of(call);
    if (now.mono_ns >= call->deadline_ns)
        compare_end(client, compare,
                    !client_has_map(client) && client->map_error != 0 ? client->map_error
                                                                      : KHO_EDEADLINE);
    else if (compare->phase == COMPARE_WAIT && client_has_map(client))
        compare_start(client, compare, now);
    else
        call_timer_set(client, call, call->deadline_ns);
}

static void compare_cancel(struct client *client, struct call *call, struct kho_now now)
{
    (void)now;
    compare_end(client, compare_of(call), KHO_ECANCELED);
}

static void compare_map_changed(struct client *client, struct call *call, struct kho_now now)
{
    if (compare_of(call)->phase == COMPARE_WAIT)
        call_timer_set(client, call, now.mono_ns);
}

static void compare_release(struct client *client, struct call *call)
{
    struct compare *compare = compare_of(call);
    survey_stop(client, &compare->survey);
    client_release(client, compare->collections);
    client_release(client, compare->nodes);
    client_release(client, compare->digests);
    client_release(client, compare->results);
    client_release(client, compare);
}

static const struct call_kind compare_kind = {
    .timer = compare_timer,
    .cancel = compare_cancel,
    .map_changed = compare_map_changed,
    .release = compare_release,
};

int client_compare(struct client *client, enum client_verb verb, const char *collection,
                   uint32_t deadline_ms, void *context, struct kho_now now, kho_call_id *ret_call)
{
    if (verb != CLIENT_DIGESTS && verb != CLIENT_VERIFY)
        return -EINVAL;
    if (collection != NULL && !key_name_valid(collection, strlen(collection)))
        return KHO_ECOLLECTIONNAME;
    struct compare *compare = client_allocate_zeroed(client, sizeof *compare);
    if (compare == NULL)
        return -ENOMEM;
    compare->phase = COMPARE_WAIT;
    compare->all = collection == NULL;
    if (collection != NULL)
        memcpy(compare->name, collection, strlen(collection) + 1);
    int rc = call_begin(client, &compare->call, &compare_kind, verb, deadline_ms, context, now);
    if (rc != 0) {
        client_release(client, compare);
        return rc;
    }
    if (ret_call != NULL)
        *ret_call = compare->call.done.call;
    if (client_has_map(client))
        call_timer_set(client, &compare->call, now.mono_ns);
    return 0;
}
