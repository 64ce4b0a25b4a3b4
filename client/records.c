/* records.c: a call of put, del, append, get or stat.
 *
 * It owns the block that holds a call's items, results, slots, keys and values, from submission to
 * the moment when the done was delivered and no laggard needs a value any more. The happy path:
 * records_create copies what the caller lent, compressing larger values on the way, records_begin
 * finds the collection and starts every item, item.c and read.c end them one by one, the last end
 * ends the call.
 *
 * How it fails: bad arguments and want of memory are told at submission, and nothing happens. A
 * call before the first map waits for it, `unavailable_after` at the longest. The deadline ends
 * every item that is left. Values held back for laggards are bounded: the oldest call's are dropped
 * and counted, for flush to tell and repair to find. */
#include "bundle.h"
#include "item.h"
#include "quorum.h"

#include <kho/piece.h>

#define RECORDS_COUNT_MAX 65536u
#define RECORDS_KEY_NEW   16u /* bytes of a key that append draws */
#define RECORDS_CHUNK_MIN (4u << 10)
#define RECORDS_CHUNK_MAX (256u << 10)

static void records_timer(struct client *client, struct call *base, struct kho_now now);
static void records_cancel(struct client *client, struct call *base, struct kho_now now);
static void records_release(struct client *client, struct call *base);

static const struct call_kind records_kind = {
    .timer = records_timer,
    .cancel = records_cancel,
    .release = records_release,
};

struct records *records_of(struct call *call)
{
    return call->kind == &records_kind ? KHO_CONTAINER_OF(call, struct records, call) : NULL;
}

/* --- Memory ----------------------------------------------------------------------------------- */

/* Calls of one small record come by the hundred thousand a second: their blocks are kept for reuse,
 * up to 1 MiB of them. */
#define RECORDS_SMALL      2048u
#define RECORDS_SMALL_KEPT 512u

struct small_block {
    struct small_block *next;
    uint8_t bytes[RECORDS_SMALL - sizeof(struct small_block *)];
};

static void *records_small_take(struct client *client)
{
    struct small_block *block = client->smalls.free_blocks;
    if (block == NULL)
        return client_allocate(client, sizeof *block);
    client->smalls.free_blocks = block->next;
    client->smalls.free_count--;
    return block;
}

static void records_small_give(struct client *client, void *bytes)
{
    struct small_block *block = (struct small_block *)bytes;
    if (client->smalls.free_count == RECORDS_SMALL_KEPT) {
        client_release(client, block);
        return;
    }
    block->next = client->smalls.free_blocks;
    client->smalls.free_blocks = block;
    client->smalls.free_count++;
}

void records_pool_free(struct client *client)
{
    while (client->smalls.free_blocks != NULL) {
        struct small_block *block = client->smalls.free_blocks;
        client->smalls.free_blocks = block->next;
        client_release(client, block);
    }
}

uint8_t *records_value(struct client *client, struct records *call, size_t len)
{
    struct value_chunk *chunk = call->chunks;
    if (call->small && len <= call->room) {
        uint8_t *value = call->room_at;
        call->room_at += len;
        call->room -= (uint32_t)len;
        return value;
    }
    if (chunk == NULL || chunk->size - chunk->used < len) {
        size_t size = chunk == NULL ? RECORDS_CHUNK_MIN : chunk->size * 2;
        size = (size_t)kho_min(size, RECORDS_CHUNK_MAX);
        size = (size_t)kho_max(size, len);
        chunk = (struct value_chunk *)client_allocate(client, sizeof *chunk + size);
        if (chunk == NULL)
            return NULL;
        *chunk = (struct value_chunk){.next = call->chunks, .size = size};
        call->chunks = chunk;
    }
    uint8_t *value = chunk->bytes + chunk->used;
    chunk->used += len;
    return value;
}

static void records_free(struct client *client, struct records *call)
{
    /* Before it is resolved, no item is in a bundle, and some may not be filled yet. */
    for (uint32_t i = 0; call->resolved && i < call->count; i++)
        bundle_leave(client, &call->items[i]);
    while (call->chunks != NULL) {
        struct value_chunk *chunk = call->chunks;
        call->chunks = chunk->next;
        client_release(client, chunk);
    }
    client_release(client, call->slots_own);
    if (call->small)
        records_small_give(client, call);
    else
        client_release(client, call);
}

/* --- Submission ------------------------------------------------------------------------------- */

static int records_check(enum client_verb verb, const char *collection,
                         const struct kho_item *items, size_t count, uint64_t *ret_bytes)
{
    uint64_t bytes = 0;
    bool values = verb == CLIENT_PUT || verb == CLIENT_APPEND;
    if (verb < CLIENT_PUT || verb > CLIENT_STAT || count < 1 || count > RECORDS_COUNT_MAX ||
        items == NULL || collection == NULL)
        return -EINVAL;
    if (!key_name_valid(collection, strlen(collection)))
        return KHO_ECOLLECTIONNAME;
    for (size_t i = 0; i < count; i++) {
        const struct kho_item *item = &items[i];
        size_t key_len = item->key_len;
        if (verb == CLIENT_APPEND && key_len == 0)
            key_len = RECORDS_KEY_NEW;
        else if (item->key == NULL || key_len < 1 || key_len > KHO_KEY_MAX ||
                 (verb == CLIENT_APPEND && key_len != RECORDS_KEY_NEW))
            return KHO_EKEYSIZE;
        if (values && item->value_len > KHO_VALUE_MAX)
            return KHO_EVALUESIZE;
        if (values && item->value == NULL && item->value_len > 0)
            return -EINVAL;
        bytes += key_len + (values ? item->value_len : 0);
    }
    *ret_bytes = bytes;
    return 0;
}

/* Copies a value as it will be sent to all replicas: compressed where that saves an eighth. Returns
 * the bytes written, at most its own length. */
static uint32_t records_copy_value(const struct client *client, struct item *item,
                                   const uint8_t *from, uint8_t *to)
{
    uint32_t len = item->value_len;
    item->content = content_hash(from, len);
    item->value = to;
    item->stored_len = len >= client->compress_min ? value_pack(from, len, to) : 0;
    item->codec = item->stored_len > 0 ? KHO_CODEC_LZ4 : KHO_CODEC_NONE;
    if (item->codec == KHO_CODEC_NONE) {
        item->stored_len = len;
        if (len > 0)
            memcpy(to, from, len);
    }
    return item->stored_len;
}

/* Copies one item; `*to` moves on. 0 or KHO_ETOKEN. */
static int records_copy(struct client *client, struct records *call, uint32_t index,
                        const struct kho_item *from, uint8_t **to)
{
    struct item *item = &call->items[index];
    bool values = call->verb == CLIENT_PUT || call->verb == CLIENT_APPEND;
    memset(item, 0, sizeof *item);
    queue_init(&item->link);
    queue_init(&item->waiters);
    item->call = call;
    item->index = index;
    item->phase = ITEM_EARLY;
    item->key = *to;
    item->key_len = (uint16_t)from->key_len;
    if (from->key_len == 0) {
        struct kho_id id = kho_random_id(&client->random);
        memcpy(*to, id.bytes, RECORDS_KEY_NEW);
        item->key_len = RECORDS_KEY_NEW;
        item->unprobed = true;
    } else {
        memcpy(*to, from->key, from->key_len);
    }
    *to += item->key_len;
    item->value = *to;
    if (values) {
        item->value_len = (uint32_t)from->value_len;
        *to += records_copy_value(client, item, (const uint8_t *)from->value, *to);
    }
    item->tombstone = call->verb == CLIENT_DEL;
    call->results[index].key = item->key;
    call->results[index].key_len = item->key_len;
    if (from->token == NULL || !records_write(call))
        return 0;
    item->token = true;
    item->stamped = !KHO_PLANTED(token_stamped_anew);
    return token_check(from->token, item);
}

/* Slots an item may need under the map in force, or under any. */
static uint32_t records_width(const struct client *client)
{
    if (!client_has_map(client))
        return KHO_MAP_REPLICAS_MAX;
    return client->map.previous_count > 0 ? 2u * client->map.width : client->map.width;
}

static struct records *records_create(struct client *client, enum client_verb verb,
                                      const char *collection, size_t count, uint64_t bytes)
{
    uint32_t width = records_width(client);
    size_t items_at = kho_round_up(sizeof(struct records), 16);
    size_t results_at = items_at + count * sizeof(struct item);
    size_t slots_at = results_at + count * sizeof(struct kho_result);
    size_t bytes_at = slots_at + count * width * sizeof(struct slot);
    size_t size = bytes_at + (size_t)bytes;
    bool small = size <= RECORDS_SMALL;
    uint8_t *block =
        (uint8_t *)(small ? records_small_take(client) : client_allocate(client, size));
    if (block == NULL)
        return NULL;
    struct records *call = (struct records *)(void *)block;
    memset(call, 0, sizeof *call);
    queue_init(&call->held_link);
    call->verb = verb;
    call->count = (uint32_t)count;
    call->width = width;
    call->bytes = bytes;
    memcpy(call->name, collection, strlen(collection));
    call->items = (struct item *)(void *)(block + items_at);
    call->results = (struct kho_result *)(void *)(block + results_at);
    memset(call->results, 0, count * sizeof *call->results);
    call->slots = (struct slot *)(void *)(block + slots_at);
    call->small = small;
    if (small) {
        call->room_at = block + size;
        call->room = (uint32_t)(RECORDS_SMALL - size);
    }
    return call;
}

static void records_resolve_and_start(struct client *client, struct records *call,
                                      struct kho_now now);

int client_records(struct client *client, enum client_verb verb, const char *collection,
                   const struct kho_item *items, size_t count, uint32_t deadline_ms, void *context,
                   struct kho_now now, kho_call_id *ret_call)
{
    uint64_t bytes;
    int status = records_check(verb, collection, items, count, &bytes);
    if (status != 0)
        return status;
    if (client->closing)
        return KHO_ECLOSED;
    if (client->inflight_bytes > 0 && client->inflight_bytes + bytes > client->inflight_bytes_max)
        return KHO_EBUSY;
    struct records *call = records_create(client, verb, collection, count, bytes);
    if (call == NULL)
        return -ENOMEM;
    uint8_t *to = (uint8_t *)(void *)(call->slots + count * call->width);
    for (uint32_t i = 0; i < count && status == 0; i++)
        status = records_copy(client, call, i, &items[i], &to);
    if (status == 0 && records_write(call))
        status = line_reserve(client, call->count);
    if (status == 0)
        status = call_begin(client, &call->call, &records_kind, verb, deadline_ms, context, now);
    if (status != 0) {
        records_free(client, call);
        return status;
    }
    call->call.lasting = true;
    call->call.done.records.results = call->results;
    call->call.done.records.count = count;
    client->inflight_bytes += bytes;
    if (records_write(call)) {
        call->serial = ++client->write_serial;
        client->unsettled++;
    }
    *ret_call = call->call.done.call;
    if (client_has_map(client))
        records_resolve_and_start(client, call, now);
    else
        call_timer_set(client, &call->call,
                       kho_min(call->call.deadline_ns, now.mono_ns + client->unavailable_after_ns));
    return 0;
}

/* --- Starting --------------------------------------------------------------------------------- */

static void records_give_up(struct client *client, struct records *call, int status,
                            struct kho_now now)
{
    for (uint32_t i = 0; i < call->count && !call->all_ended; i++)
        item_give_up(client, &call->items[i], status, now);
}

/* Finds the collection in the map in force. False: it has none of that name. */
static bool records_resolve(const struct client *client, struct records *call)
{
    int index = map_collection_by_name(&client->map, call->name);
    if (index < 0)
        return false;
    struct map_collection collection;
    map_collection(&client->map, (uint32_t)index, &collection);
    call->collection = collection.id;
    call->separator = collection.separator;
    call->replicas = collection.replicas;
    call->write_quorum =
        KHO_PLANTED(write_quorum_one) ? 1 : quorum_write(&client->map, collection.replicas);
    call->read_quorum = quorum_read(&client->map, collection.replicas);
    call->resolved = true;
    return true;
}

static void records_start_item(struct client *client, struct records *call, struct item *item,
                               struct kho_now now)
{
    item->hash = key_hash(call->collection, item->key, item->key_len, client->map.seed);
    item->partition = key_partition(call->collection, item->key, item->key_len, client->map.seed,
                                    call->separator, client->map.partitions, item->hash);
    item->phase = ITEM_LINED;
    if (!records_write(call) || line_join(client, item))
        item_start(client, item, now);
}

/* A map with wider replica sets than the block foresaw, or one that changes them: the slots move to
 * memory of their own. All are detached now. */
static bool records_widen(struct client *client, struct records *call)
{
    uint32_t width = call->replicas * (client->map.previous_count > 0 ? 2u : 1u);
    if (width <= call->width)
        return true;
    size_t size = (size_t)call->count * width * sizeof(struct slot);
    struct slot *slots = (struct slot *)client_allocate_zeroed(client, size);
    if (slots == NULL)
        return false;
    client_release(client, call->slots_own);
    call->slots_own = slots;
    call->slots = slots;
    call->width = width;
    return true;
}

/* A collection may be younger than our map: its call waits while the nodes are asked for theirs. */
static void records_await_refresh(struct client *client, struct records *call, struct kho_now now)
{
    if (!route_refresh(client, now)) {
        records_give_up(client, call, KHO_ENOCOLLECTION, now);
        return;
    }
    client->refresh_waited = true;
    call_timer_set(client, &call->call,
                   kho_min(call->call.deadline_ns, client->refresh_ns + ROUTE_REFRESH_NS));
}

static void records_resolve_and_start(struct client *client, struct records *call,
                                      struct kho_now now)
{
    if (!records_resolve(client, call)) {
        records_await_refresh(client, call, now);
        return;
    }
    call_timer_set(client, &call->call,
                   call->call.deadline_ns +
                       (KHO_PLANTED(deadline_missed) ? 1000 * CLIENT_MS_NS : 0));
    /* The block foresaw the width of the map of then, or the most there can be. */
    if (!records_widen(client, call)) {
        records_give_up(client, call, -ENOMEM, now);
        return;
    }
    for (uint32_t i = 0; i < call->count && !call->all_ended; i++)
        records_start_item(client, call, &call->items[i], now);
}

void records_refreshed(struct client *client, struct kho_now now)
{
    client->refresh_waited = false;
    QUEUE_FOREACH_SAFE (link, &client->calls) {
        struct records *call = records_of(KHO_CONTAINER_OF(link, struct call, link));
        if (call != NULL && !call->resolved)
            records_give_up(client, call, KHO_ENOCOLLECTION, now);
    }
}

/* --- A new map -------------------------------------------------------------------------------- */

static void records_detach(struct client *client, struct records *call)
{
    for (uint32_t i = 0; i < call->count; i++) {
        struct item *item = &call->items[i];
        bool moving = item->phase >= ITEM_STAMP && (item->phase < ITEM_ENDED || item->held);
        if (item->slots == NULL || !moving)
            continue;
        item->sent_before |= item_may_be_there(item);
        for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
            slot_detach(client, s);
    }
}

void records_detach_all(struct client *client)
{
    QUEUE_FOREACH (link, &client->calls) {
        struct records *call = records_of(KHO_CONTAINER_OF(link, struct call, link));
        if (call != NULL && call->resolved)
            records_detach(client, call);
    }
    QUEUE_FOREACH (link, &client->held) {
        records_detach(client, KHO_CONTAINER_OF(link, struct records, held_link));
    }
}

static void records_restart(struct client *client, struct records *call, struct kho_now now)
{
    bool found = records_resolve(client, call);
    bool wide = found && records_widen(client, call);
    /* The last held item of a call that was delivered takes the call with it. One that hasn't
     * ended may do so within. */
    bool ended = call->all_ended;
    uint32_t left = ended ? call->held : call->count;
    for (uint32_t i = 0; left > 0; i++) {
        struct item *item = &call->items[i];
        bool moving = item->phase >= ITEM_STAMP && item->phase < ITEM_ENDED;
        left -= !ended || item->held;
        if (item->held || moving)
            item->slots = NULL;
        if (KHO_PLANTED(restart_stamped_anew) && moving)
            item->stamped = false;
        if (item->held && found && wide)
            item_background_restart(client, item, now);
        else if (item->held)
            item_background_end(client, item);
        else if (moving && found && wide)
            item_start(client, item, now);
        else if (moving)
            item_give_up(client, item, found ? -ENOMEM : KHO_ENOCOLLECTION, now);
    }
}

void records_map_changed(struct client *client, struct kho_now now)
{
    QUEUE_FOREACH_SAFE (link, &client->held) {
        records_restart(client, KHO_CONTAINER_OF(link, struct records, held_link), now);
    }
    QUEUE_FOREACH_SAFE (link, &client->calls) {
        struct records *call = records_of(KHO_CONTAINER_OF(link, struct call, link));
        if (call != NULL && call->resolved)
            records_restart(client, call, now);
        else if (call != NULL)
            records_resolve_and_start(client, call, now);
    }
}

/* --- Ending ----------------------------------------------------------------------------------- */

static void records_check_settled(struct client *client, struct records *call)
{
    if (!call->all_ended || call->held > 0)
        return;
    if (call->holding) {
        call->holding = false;
        queue_remove(&call->held_link);
        client->held_bytes -= call->bytes;
        call_timer_set(client, &call->call, CLIENT_NEVER);
    }
    if (records_write(call) && !call->settled) {
        call->settled = true;
        client->unsettled--;
        flush_settled(client, call->serial);
    }
    if (call->delivered) {
        call_forget(client, &call->call);
        records_free(client, call);
    }
}

void records_item_ended(struct client *client, struct records *call)
{
    if (++call->ended < call->count)
        return;
    call->all_ended = true;
    client->inflight_bytes -= call->bytes;
    call_end(client, &call->call, 0);
    if (call->held > 0) {
        call->holding = true;
        client->held_bytes += call->bytes;
        queue_push(&client->held, &call->held_link);
        call_timer_set(client, &call->call, call->call.deadline_ns);
    }
    records_check_settled(client, call);
}

void records_item_settled(struct client *client, struct records *call)
{
    KHO_ASSERT(call->held > 0);
    call->held--;
    records_check_settled(client, call);
}

/* Gives up what laggards still lack. The call may be gone afterwards. */
static void records_drop_held(struct client *client, struct records *call)
{
    uint32_t left = call->held;
    for (uint32_t i = 0; left > 0; i++) {
        if (!call->items[i].held)
            continue;
        left--;
        item_background_end(client, &call->items[i]);
    }
}

void records_bound_held(struct client *client)
{
    while (client->held_bytes > client->holdback_bytes_max)
        records_drop_held(client, KHO_CONTAINER_OF(client->held.next, struct records, held_link));
}

static void records_timer(struct client *client, struct call *base, struct kho_now now)
{
    struct records *call = KHO_CONTAINER_OF(base, struct records, call);
    if (!call->resolved && now.mono_ns < base->deadline_ns) {
        records_give_up(client, call, client_has_map(client) ? KHO_ENOCOLLECTION : KHO_EUNAVAILABLE,
                        now);
        return;
    }
    if (!call->all_ended)
        records_give_up(client, call, KHO_EDEADLINE, now);
    if (call->held > 0)
        records_drop_held(client, call);
}

static void records_cancel(struct client *client, struct call *base, struct kho_now now)
{
    records_give_up(client, KHO_CONTAINER_OF(base, struct records, call), KHO_ECANCELED, now);
}

static void records_release(struct client *client, struct call *base)
{
    struct records *call = KHO_CONTAINER_OF(base, struct records, call);
    call->delivered = true;
    records_check_settled(client, call);
}

void records_destroy(struct client *client, struct call *base)
{
    struct records *call = records_of(base);
    if (call != NULL)
        records_free(client, call);
}
