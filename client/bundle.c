/* bundle.c: makes bundles, finds them again at other sessions, packs them into frames (bundle.h).
 *
 * The happy path: bundle_make lays out and compresses what waits, at the first session that packs;
 * bundle_pack moves a bundle's slots from the queue into the batch, there and at the others.
 *
 * How it fails: no memory, or records that don't compress, and the records go one by one. */
#include "bundle.h"

#include <lz4.h>

enum {
    BUNDLE_VALUE_MAX = CLIENT_COMPRESS_MIN - 1, /* a larger one would be alone in a block */
    BUNDLE_RAW_MIN = KHO_BLOCK_RAW_MAX / 2,
    BUNDLE_WALK_MAX = 4096, /* slots looked at for those of one set of replicas */
    BUNDLE_RECORDS_MAX = KHO_BLOCK_RAW_MAX / (KHO_RECORD_HEAD + 1)
};

static struct slot *slot_first(const struct session *session)
{
    const struct queue *waiting = &session->waiting[SLOT_WRITE];
    return queue_empty(waiting) ? NULL : KHO_CONTAINER_OF(waiting->next, struct slot, link);
}

static uint32_t item_bytes(const struct item *item)
{
    return KHO_RECORD_HEAD + item->key_len + item->stored_len;
}

static bool item_fits(const struct item *item)
{
    return item->bundle == NULL && !item->single && item->codec == KHO_CODEC_NONE &&
           item->stored_len <= BUNDLE_VALUE_MAX;
}

static bool same_replicas(const struct item *a, const struct item *b)
{
    if (a->columns != b->columns)
        return false;
    for (const struct slot *s = item_slot_begin(a); s < item_slot_end(a); s++) {
        const struct slot *t = item_slot_begin(b);
        while (t < item_slot_end(b) && t->session != s->session)
            t++;
        if (t == item_slot_end(b))
            return false;
    }
    return true;
}

/* --- Making ----------------------------------------------------------------------------------- */

/* Bytes of the records that could be bundled with the first, at most a frame's. */
static uint32_t bytes_at_hand(const struct session *session, const struct item *first)
{
    uint32_t bytes = 0, walked = 0;
    QUEUE_FOREACH (link, &session->waiting[SLOT_WRITE]) {
        const struct item *item = KHO_CONTAINER_OF(link, struct slot, link)->item;
        if (walked++ == BUNDLE_WALK_MAX)
            break;
        if (!item_fits(item) || !same_replicas(first, item))
            continue;
        if (bytes + item_bytes(item) > KHO_FRAME_RAW_MAX)
            break;
        bytes += item_bytes(item);
    }
    return bytes;
}

/* Compresses the records laid out in `raw` and lets their items point to the result. */
static void close_bundle(struct client *client, struct item **items, uint32_t count,
                         const uint8_t *raw, uint32_t raw_len)
{
    uint8_t stored[KHO_BLOCK_RAW_MAX];
    struct bundle *bundle = NULL;
    int n = 0;
    /* It has to save an eighth, as the nodes ask of what they store compressed. */
    if (raw_len >= BUNDLE_RAW_MIN)
        n = LZ4_compress_default((const char *)raw, (char *)stored, (int)raw_len,
                                 (int)(raw_len - raw_len / 8));
    size_t pointers = count * sizeof(struct item *);
    if (n > 0)
        bundle = (struct bundle *)client_allocate(client, sizeof *bundle + pointers + (size_t)n);
    if (bundle == NULL) {
        for (uint32_t i = 0; i < count; i++)
            items[i]->single = true;
        return;
    }
    *bundle = (struct bundle){.refs = count,
                              .count = count,
                              .raw_len = raw_len,
                              .stored_len = (uint32_t)n,
                              .items = (struct item **)(void *)(bundle + 1)};
    bundle->stored = (uint8_t *)(bundle->items + count);
    memcpy(bundle->items, items, pointers);
    memcpy(bundle->stored, stored, (size_t)n);
    for (uint32_t i = 0; i < count; i++)
        items[i]->bundle = bundle;
}

void bundle_make(struct client *client, struct session *session)
{
    const struct slot *head = slot_first(session);
    if (head == NULL || !item_fits(head->item))
        return;
    const struct item *first = head->item;
    uint32_t left = bytes_at_hand(session, first);
    uint8_t raw[KHO_BLOCK_RAW_MAX];
    struct item *items[BUNDLE_RECORDS_MAX];
    uint32_t count = 0, used = 0;
    /* Blocks of about one size: a small last one would compress worse. */
    uint32_t blocks = (left + KHO_BLOCK_RAW_MAX - 1) / KHO_BLOCK_RAW_MAX;
    uint32_t target = left < BUNDLE_RAW_MIN ? 0 : left / blocks;
    QUEUE_FOREACH (link, &session->waiting[SLOT_WRITE]) {
        struct item *item = KHO_CONTAINER_OF(link, struct slot, link)->item;
        if (left == 0 || target == 0)
            break;
        if (!item_fits(item) || !same_replicas(first, item))
            continue;
        uint32_t size = item_bytes(item);
        if (used + size > KHO_BLOCK_RAW_MAX || (used >= target && left >= BUNDLE_RAW_MIN)) {
            close_bundle(client, items, count, raw, used);
            count = used = 0;
        }
        struct record record = item_record(item);
        used += (uint32_t)record_encode(&record, raw + used);
        items[count++] = item;
        left -= (uint32_t)kho_min(size, left);
    }
    if (count > 0)
        close_bundle(client, items, count, raw, used);
}

/* --- Sending ---------------------------------------------------------------------------------- */

/* The item's slot that waits to be written at the session, or NULL. */
static struct slot *slot_of(const struct item *item, const struct session *session)
{
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
        if (s->session == session)
            return s->ask == SLOT_WAITING && s->kind == SLOT_WRITE && s->large == NULL ? s : NULL;
    return NULL;
}

/* True where all of the bundle's records wait here. */
static bool bundle_whole(const struct bundle *bundle, const struct session *session)
{
    if (bundle->refs < bundle->count)
        return false;
    for (uint32_t i = 0; i < bundle->count; i++)
        if (bundle->items[i]->slots == NULL || slot_of(bundle->items[i], session) == NULL)
            return false;
    return true;
}

bool bundle_waits(const struct session *session)
{
    const struct slot *first = slot_first(session);
    return first != NULL && first->item->bundle != NULL &&
           bundle_whole(first->item->bundle, session);
}

static void bundle_take(const struct bundle *bundle, struct session *session, struct batch *batch)
{
    for (uint32_t i = 0; i < bundle->count; i++) {
        struct slot *slot = slot_of(bundle->items[i], session);
        queue_remove(&slot->link);
        session->waiting_count[SLOT_WRITE]--;
        slot_sent(slot, batch, batch->count);
        batch->slots[batch->count++] = slot;
    }
}

uint32_t bundle_pack(struct session *session, struct batch *batch, uint32_t max, uint8_t *to,
                     uint32_t room)
{
    uint32_t used = 0, raw = 0;
    while (bundle_waits(session)) {
        const struct bundle *bundle = slot_first(session)->item->bundle;
        uint32_t size = WIRE_BLOCK_HEAD + bundle->stored_len;
        if (size > room - used || batch->count + bundle->count > max ||
            raw + bundle->raw_len > KHO_FRAME_RAW_MAX)
            break;
        struct wire_block_head head = {
            .raw_len = bundle->raw_len, .stored_len = bundle->stored_len, .records = bundle->count};
        wire_block_head_encode(&head, to + used);
        memcpy(to + used + WIRE_BLOCK_HEAD, bundle->stored, bundle->stored_len);
        bundle_take(bundle, session, batch);
        used += size;
        raw += bundle->raw_len;
    }
    return used;
}

void bundle_leave(struct client *client, struct item *item)
{
    struct bundle *bundle = item->bundle;
    item->bundle = NULL;
    item->single = false;
    if (bundle != NULL && --bundle->refs == 0)
        client_release(client, bundle);
}
