/* list.c: owns CLIENT_LIST: one page of a collection, in order of (partition, tag).
 *
 * Happy path: from the cursor on, consecutive partitions with the same replicas are one range; Q of
 * them are asked for its index, one with records (merge.c). An entry whose newest version W
 * replicas have, and whose record came along, is a result as it is. The others (too large to come
 * along, newer elsewhere, or on too few replicas) are settled as a get would (mend.c): read by tag,
 * written back until W have them. Then the next range, until the page is full or the collection
 * ends. Tombstones are passed over once W have them.
 *
 * The cursor: partition 4, tag's high part 8, tag's low part 1, 1 (so that it isn't the zeroed
 * cursor, which means the start), 2 reserved.
 *
 * How it fails: episodes that leave a range too few votes make the range narrower, down to one
 * partition; a newer map, a node that goes away or comes back lead to another try after a pause,
 * until the deadline or until too few replicas are in reach. What is complete by then is a page
 * that ends there; an error is told only where nothing is. A record whose newest value nobody can
 * give is a result without a key, status KHO_EDAMAGED: a listing never skips it silently. */
#include "mend.h"
#include "quorum.h"

#include <kho/piece.h>

#define LIST_LIMIT_MAX   65536u
#define LIST_BATCH       64u         /* entries settled at once */
#define LIST_PAGE_BYTES  (4u << 20)  /* a page ends behind the record that passes it */
#define LIST_ROUND_BYTES (1u << 20)  /* records of one range, about */
#define LIST_CHUNK       (64u << 10) /* of results' bytes */
#define LIST_PAUSE_NS    (100 * CLIENT_MS_NS)
#define LIST_HEDGE_NS    (500 * CLIENT_MS_NS)
#define LIST_ASK_NS      (3000 * CLIENT_MS_NS)

enum list_phase { LIST_WAIT, LIST_MERGE, LIST_MEND, LIST_ENDED };

/* Allowed moves, as bits of the phases that may follow. */
static const uint8_t list_moves[] = {
    [LIST_WAIT] = 1u << LIST_MERGE | 1u << LIST_WAIT | 1u << LIST_ENDED,
    [LIST_MERGE] = 1u << LIST_MERGE | 1u << LIST_MEND | 1u << LIST_WAIT | 1u << LIST_ENDED,
    [LIST_MEND] = 1u << LIST_MEND | 1u << LIST_MERGE | 1u << LIST_WAIT | 1u << LIST_ENDED,
    [LIST_ENDED] = 0,
};

struct list_chunk {
    struct list_chunk *next;
    size_t used, size;
    uint8_t bytes[];
};

struct list {
    struct call call;
    enum list_phase phase;
    char name[KHO_NAME_MAX + 1];
    bool values;
    uint32_t limit;

    /* What is complete lies before `at`. */
    struct place at;
    uint32_t complete; /* results before `at` */
    struct kho_result *results;
    uint32_t count, capacity;
    struct list_chunk *chunks;
    uint64_t bytes;

    /* The range under way. */
    uint32_t collection;
    uint8_t replicas, write_quorum, read_quorum;
    bool narrow; /* one partition at a time */
    uint32_t reach;
    struct merge merge;
    uint32_t merge_at; /* entries before it have their results */
    struct mend mend;
    struct mend_entry batch[LIST_BATCH];
    uint32_t batch_results[LIST_BATCH]; /* where each result goes */
    uint32_t batch_count;
    bool out_of_memory;
};

static void list_round(struct client *client, struct list *list, struct kho_now now);

static struct list *list_of(struct call *call)
{
    return KHO_CONTAINER_OF(call, struct list, call);
}

static void list_move(struct list *list, enum list_phase to)
{
    KHO_ASSERT((list_moves[list->phase] & (1u << to)) != 0);
    list->phase = to;
}

/* --- Cursor ----------------------------------------------------------------------------------- */

static void list_cursor_encode(struct place place, struct kho_cursor *ret)
{
    memset(ret, 0, sizeof *ret);
    kho_store32(ret->bytes, place.partition);
    kho_store64(ret->bytes + 4, place.tag.high);
    ret->bytes[12] = place.tag.low;
    ret->bytes[13] = 1;
}

static int list_cursor_decode(const struct kho_cursor *cursor, struct place *ret)
{
    static const struct kho_cursor zero;
    struct place place = {0};
    if (cursor != NULL && memcmp(cursor, &zero, sizeof zero) != 0) {
        place.partition = kho_load32(cursor->bytes);
        place.tag.high = kho_load64(cursor->bytes + 4);
        place.tag.low = cursor->bytes[12];
        if (cursor->bytes[13] != 1 || cursor->bytes[14] != 0 || cursor->bytes[15] != 0 ||
            place.partition > KHO_PARTITIONS_MAX)
            return -EINVAL;
    }
    *ret = place;
    return 0;
}

/* --- Results ---------------------------------------------------------------------------------- */

static uint8_t *list_bytes(struct client *client, struct list *list, size_t len)
{
    struct list_chunk *chunk = list->chunks;
    if (chunk == NULL || len > chunk->size - chunk->used) {
        size_t size = kho_max(len, LIST_CHUNK);
        chunk = client_allocate(client, sizeof *chunk + size);
        if (chunk == NULL)
            return NULL;
        chunk->next = list->chunks;
        chunk->used = 0;
        chunk->size = size;
        list->chunks = chunk;
    }
    uint8_t *bytes = chunk->bytes + chunk->used;
    chunk->used += len;
    list->bytes += len;
    return bytes;
}

/* A place for one more result, in order. False: no memory. */
static bool list_result(struct client *client, struct list *list, uint32_t *ret_index)
{
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        struct kho_result *results = client_allocate(client, (size_t)capacity * sizeof *results);
        if (results == NULL)
            return false;
        if (list->count > 0)
            memcpy(results, list->results, (size_t)list->count * sizeof *results);
        client_release(client, list->results);
        list->results = results;
        list->capacity = capacity;
    }
    *ret_index = list->count++;
    memset(&list->results[*ret_index], 0, sizeof *list->results);
    return true;
}

static bool list_fill(struct client *client, struct list *list, uint32_t index,
                      const struct record *record)
{
    struct kho_result *result = &list->results[index];
    KHO_ASSERT(record->key != NULL);
    size_t value_len = list->values && record->value != NULL ? record->raw_len : 0;
    uint8_t *bytes = list_bytes(client, list, record->key_len + value_len);
    if (bytes == NULL)
        return false;
    memcpy(bytes, record->key, record->key_len);
    /* The value was checked, so that it unpacks. */
    if (value_len > 0 && value_unpack(record, bytes + record->key_len) != 0)
        return false;
    *result = (struct kho_result){
        .version = {record->version.counter, record->version.writer},
        .key = bytes,
        .key_len = record->key_len,
        .value = list->values ? bytes + record->key_len : NULL,
        .value_len = record->raw_len,
    };
    memcpy(result->hash, record->hash.bytes, sizeof result->hash);
    return true;
}

/* --- The end ---------------------------------------------------------------------------------- */

static void list_stop(struct client *client, struct list *list)
{
    merge_stop(client, &list->merge);
    mend_stop(client, &list->mend);
}

static void list_end(struct client *client, struct list *list, int status)
{
    list_stop(client, list);
    list_move(list, LIST_ENDED);
    /* A record that was passed over left its place behind. */
    uint32_t kept = 0;
    for (uint32_t i = 0; i < list->complete; i++)
        if (list->results[i].status != KHO_ENOTFOUND)
            list->results[kept++] = list->results[i];
    list->call.done.records.results = list->results;
    list->call.done.records.count = kept;
    list_cursor_encode(list->at, &list->call.done.records.next);
    list->call.done.records.done =
        client_has_map(client) && list->at.partition >= client->map.partitions;
    call_end(client, &list->call, status);
}

/* Tells what is complete; the cause only where nothing is. */
static void list_give_up(struct client *client, struct list *list, int status)
{
    list_end(client, list, list->complete > 0 ? 0 : status);
}

/* Can Q replicas of the partition under way be reached, as far as is known? */
static bool list_in_reach(struct client *client, const struct list *list, struct kho_now now)
{
    columns_t reachable = 0;
    uint16_t nodes[COLUMNS_MAX];
    struct layouts layouts;
    uint32_t count =
        layouts_nodes(&client->map, list->at.partition, list->replicas, nodes, &layouts);
    for (uint32_t k = 0; k < count; k++) {
        uint32_t shard = route_shard(client, nodes[k], list->at.partition);
        struct session *session = route_session(client, nodes[k], shard, now);
        if (session != NULL && !session_unavailable(client, session, now))
            reachable |= column_bit(k);
    }
    return layouts_have(layouts, reachable, list->read_quorum);
}

/* The range under way failed: it is tried again after a pause where that can help. */
static void list_retry(struct client *client, struct list *list, int status, struct kho_now now)
{
    list_stop(client, list);
    list->count = list->complete;
    bool fresh_map = status == KHO_EEPOCHOLD;
    if (status == -ENOMEM) {
        list_end(client, list, status);
    } else if (!fresh_map && client_has_map(client) && !list_in_reach(client, list, now)) {
        list_give_up(client, list, KHO_EUNAVAILABLE);
    } else if (status == KHO_EUNKNOWN && list->narrow) {
        list_give_up(client, list, status);
    } else {
        list->narrow |= status == KHO_EUNKNOWN;
        list_move(list, LIST_WAIT);
        uint64_t pause = fresh_map || status == KHO_EUNKNOWN ? 0 : LIST_PAUSE_NS;
        call_timer_set(client, &list->call, kho_min(now.mono_ns + pause, list->call.deadline_ns));
    }
}

/* --- Entries ---------------------------------------------------------------------------------- */

static void list_take(struct client *client, struct list *list, struct kho_now now);

static void list_mended_record(struct client *client, struct mend *mend, uint32_t index,
                               const struct record *record, struct kho_now now)
{
    struct list *list = mend->owner;
    (void)now;
    if (!record_is_tombstone(record) &&
        !list_fill(client, list, list->batch_results[index], record))
        list->out_of_memory = true;
}

static void list_mended(struct client *client, struct mend *mend, int status, struct kho_now now)
{
    struct list *list = mend->owner;
    if (list->out_of_memory)
        status = -ENOMEM;
    for (uint32_t i = 0; i < list->batch_count && status == 0; i++) {
        const struct mend_entry *entry = &list->batch[i];
        struct kho_result *result = &list->results[list->batch_results[i]];
        if (entry->status == KHO_EDAMAGED)
            *result = (struct kho_result){
                .status = KHO_EDAMAGED, .version = {entry->version.counter, entry->version.writer}};
        else if (entry->status != 0)
            status = entry->status;
        else if (entry->state != WIRE_PRESENT)
            result->status = KHO_ENOTFOUND; /* passed over */
        else
            KHO_ASSERT(result->key != NULL);
    }
    if (status != 0)
        list_retry(client, list, status, now);
    else
        list_take(client, list, now);
}

static void list_mend(struct client *client, struct list *list, struct kho_now now)
{
    struct mend *mend = &list->mend;
    list_move(list, LIST_MEND);
    mend->collection = list->collection;
    mend->replicas = list->merge.replicas;
    mend->layouts = list->merge.layouts;
    memcpy(mend->nodes, list->merge.nodes, sizeof mend->nodes);
    mend->votes = list->read_quorum;
    mend->acks = list->write_quorum;
    mend->heads = !list->values;
    mend->entries = list->batch;
    mend->count = list->batch_count;
    mend->deadline_ns = kho_min(list->call.deadline_ns, now.mono_ns + LIST_ASK_NS);
    mend->record = list_mended_record;
    mend->end = list_mended;
    mend->owner = list;
    if (mend_start(client, mend, now) != 0)
        list_retry(client, list, -ENOMEM, now);
}

/* The record that came along, checked. False: it can't be used, another replica is asked. */
static bool list_record(const struct client *client, const struct list *list,
                        const struct merge_entry *entry, struct record *ret)
{
    return entry->record != NULL &&
           record_decode(entry->record, entry->record_len, ret) == (int)entry->record_len &&
           ret->collection == list->collection &&
           version_compare(ret->version, entry->version) == 0 && value_matches(ret, client->piece);
}

enum list_verdict { LIST_TAKEN, LIST_PASSED, LIST_UNSETTLED, LIST_NO_MEMORY };

static enum list_verdict list_entry(struct client *client, struct list *list,
                                    const struct merge_entry *entry)
{
    struct record record = {0};
    uint32_t index;
    bool enough = layouts_have(list->merge.layouts, entry->have, list->write_quorum);
    if (enough && entry->state == WIRE_TOMBSTONE)
        return LIST_PASSED;
    if (!list_result(client, list, &index))
        return LIST_NO_MEMORY;
    if (enough && entry->state == WIRE_PRESENT && list_record(client, list, entry, &record))
        return list_fill(client, list, index, &record) ? LIST_TAKEN : LIST_NO_MEMORY;
    list->batch[list->batch_count] = (struct mend_entry){.place = entry->place};
    list->batch_results[list->batch_count++] = index;
    return LIST_UNSETTLED;
}

/* The page ends before this place. */
static bool list_full(const struct list *list)
{
    return list->count >= list->limit || list->bytes >= LIST_PAGE_BYTES;
}

/* All entries before merge_at have their results: from here on another try would begin. */
static void list_settled(struct list *list)
{
    const struct merge *merge = &list->merge;
    list->complete = list->count;
    list->at = list->merge_at == merge->count ? merge->next : merge->entries[list->merge_at].place;
}

/* Goes through the merged entries in order; stops to settle a batch, or when the page is full. */
static void list_take(struct client *client, struct list *list, struct kho_now now)
{
    struct merge *merge = &list->merge;
    list->batch_count = 0;
    list_settled(list);
    while (list->merge_at < merge->count && list->batch_count < LIST_BATCH) {
        const struct merge_entry *entry = &merge->entries[list->merge_at];
        if (list_full(list))
            break;
        if (entry->large && list->batch_count > 0)
            break; /* a large value is settled by itself, to bound memory */
        if (list_entry(client, list, entry) == LIST_NO_MEMORY) {
            list_end(client, list, -ENOMEM);
            return;
        }
        list->merge_at++;
        if (entry->large && list->batch_count > 0)
            break;
    }
    if (list->batch_count > 0) {
        list_mend(client, list, now);
        return;
    }
    list_settled(list);
    if (list->merge_at == merge->count)
        list->narrow = false;
    if (list_full(list))
        list_end(client, list, 0);
    else
        list_round(client, list, now);
}

static void list_merged(struct client *client, struct merge *merge, int status, struct kho_now now)
{
    struct list *list = merge->owner;
    call_timer_set(client, &list->call, list->call.deadline_ns);
    if (status != 0) {
        list_retry(client, list, status, now);
        return;
    }
    /* The next range's size follows from this one's records. */
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < merge->count; i++)
        bytes += merge->entries[i].record_len;
    if (merge->count > 0) {
        uint64_t mean = kho_max(bytes / merge->count, 64);
        list->reach = (uint32_t)kho_max(kho_min(LIST_ROUND_BYTES / mean, MERGE_LIMIT_MAX), 16);
    }
    list->merge_at = 0;
    list_take(client, list, now);
}

/* --- Ranges ----------------------------------------------------------------------------------- */

/* Does the partition have the same replicas, in either layout, as the first of the range? */
static bool list_same_replicas(const struct list *list, const struct map *map, uint32_t partition)
{
    const struct merge *merge = &list->merge;
    uint16_t nodes[COLUMNS_MAX];
    struct layouts layouts;
    uint32_t count = layouts_nodes(map, partition, list->replicas, nodes, &layouts);
    /* A range with two layouts is the one partition. */
    if (layouts_joint(layouts) || layouts_joint(merge->layouts) || count != merge->replicas)
        return false;
    for (uint32_t k = 0; k < count; k++) {
        bool found = false;
        for (uint32_t j = 0; j < count; j++)
            found |= merge->nodes[j] == nodes[k];
        if (!found)
            return false;
    }
    return true;
}

/* Sets the replicas and the end of the range that begins at list->at. */
static void list_range(struct list *list, const struct map *map)
{
    struct merge *merge = &list->merge;
    bool wide = !list->narrow;
    merge->replicas = (uint8_t)layouts_nodes(map, list->at.partition, list->replicas, merge->nodes,
                                             &merge->layouts);
    for (uint32_t k = 0; k < merge->replicas; k++) {
        struct map_node node;
        map_node(map, merge->nodes[k], &node);
        wide &= node.shards == 1; /* else neighbours belong to different shards */
    }
    merge->partition_to = list->at.partition + 1;
    while (wide && merge->partition_to < map->partitions &&
           list_same_replicas(list, map, merge->partition_to))
        merge->partition_to++;
}

static void list_round(struct client *client, struct list *list, struct kho_now now)
{
    const struct map *map = &client->map;
    if (!client_has_map(client)) {
        list_move(list, LIST_WAIT);
        return;
    }
    int index = map_collection_by_name(map, list->name);
    if (index < 0) {
        list_give_up(client, list, KHO_ENOCOLLECTION);
        return;
    }
    if (list->at.partition >= map->partitions) {
        list->at = (struct place){map->partitions, {0}};
        list_end(client, list, 0);
        return;
    }
    struct map_collection collection;
    map_collection(map, (uint32_t)index, &collection);
    list->collection = collection.id;
    list->replicas = collection.replicas;
    list->write_quorum = quorum_write(map, collection.replicas);
    list->read_quorum = quorum_read(map, collection.replicas);
    list_move(list, LIST_MERGE);
    struct merge *merge = &list->merge;
    merge_stop(client, merge);
    list_range(list, map);
    merge->collection = collection.id;
    merge->from = list->at;
    merge->limit = (uint32_t)kho_min(list->reach, list->limit - list->count);
    merge->votes = list->read_quorum;
    merge->records = true;
    merge->deadline_ns = kho_min(list->call.deadline_ns, now.mono_ns + LIST_ASK_NS);
    merge->end = list_merged;
    merge->owner = list;
    if (merge_start(client, merge, now) != 0) {
        list_retry(client, list, -ENOMEM, now);
        return;
    }
    call_timer_set(client, &list->call,
                   kho_min(now.mono_ns + LIST_HEDGE_NS, list->call.deadline_ns));
}

/* --- The call --------------------------------------------------------------------------------- */

static void list_timer(struct client *client, struct call *call, struct kho_now now)
{
    struct list *list = list_of(call);
    if (now.mono_ns >= call->deadline_ns) {
        int cause =
            !client_has_map(client) && client->map_error != 0 ? client->map_error : KHO_EDEADLINE;
        list_give_up(client, list, cause);
    } else if (list->phase == LIST_WAIT) {
        list_round(client, list, now);
        if (list->phase == LIST_WAIT) /* still no map */
            call_timer_set(client, call, call->deadline_ns);
    } else {
        merge_hedge(client, &list->merge, now);
        call_timer_set(client, call, call->deadline_ns);
    }
}

static void list_cancel(struct client *client, struct call *call, struct kho_now now)
{
    struct list *list = list_of(call);
    (void)now;
    list->complete = 0;
    list_end(client, list, KHO_ECANCELED);
}

static void list_map_changed(struct client *client, struct call *call, struct kho_now now)
{
    struct list *list = list_of(call);
    if (list->phase == LIST_WAIT)
        call_timer_set(client, call, now.mono_ns);
}

static void list_release(struct client *client, struct call *call)
{
    struct list *list = list_of(call);
    list_stop(client, list);
    while (list->chunks != NULL) {
        struct list_chunk *next = list->chunks->next;
        client_release(client, list->chunks);
        list->chunks = next;
    }
    client_release(client, list->results);
    client_release(client, list);
}

static const struct call_kind list_kind = {
    .timer = list_timer,
    .cancel = list_cancel,
    .map_changed = list_map_changed,
    .release = list_release,
};

int client_list(struct client *client, const char *collection, const struct kho_cursor *from,
                size_t limit, unsigned flags, uint32_t deadline_ms, void *context,
                struct kho_now now, kho_call_id *ret_call)
{
    struct place at;
    int rc = list_cursor_decode(from, &at);
    if (rc != 0 || limit < 1 || limit > LIST_LIMIT_MAX ||
        (flags & ~(unsigned)KHO_LIST_WITH_VALUES) != 0)
        return -EINVAL;
    if (collection == NULL || !key_name_valid(collection, strlen(collection)))
        return KHO_ECOLLECTIONNAME;
    struct list *list = client_allocate_zeroed(client, sizeof *list);
    if (list == NULL)
        return -ENOMEM;
    list->phase = LIST_WAIT;
    memcpy(list->name, collection, strlen(collection) + 1);
    list->values = (flags & KHO_LIST_WITH_VALUES) != 0;
    list->limit = (uint32_t)limit;
    list->at = at;
    list->reach = 256;
    rc = call_begin(client, &list->call, &list_kind, CLIENT_LIST, deadline_ms, context, now);
    if (rc != 0) {
        client_release(client, list);
        return rc;
    }
    if (ret_call != NULL)
        *ret_call = list->call.done.call;
    if (client_has_map(client))
        call_timer_set(client, &list->call, now.mono_ns);
    return 0;
}
