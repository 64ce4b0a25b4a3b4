/* merge.c: owns the LIST requests of one page and their merging.
 *
 * Happy path: the replicas are asked for the same range; each tells its entries in order of
 * (partition, tag) up to a place of its own, `next`. The page ends at the smallest `next`, since
 * beyond it somebody's silence means nothing. Up to there the answers are merged like sorted files.
 *
 * With votes (listing) it asks as many replicas as are needed, those in reach first, and one more
 * whenever one fails, is suspect (R3) or has an episode in the range (R2): such an answer is no
 * vote, but what it knows takes part, since it can only raise a version. All R replicas stand for
 * a majority even if suspect. Without votes (repair) it asks all and tells who answered.
 *
 * An answer out of order, or one that makes no progress, breaks the layout (KHO_EMALFORMED): that
 * replica has failed. */
#include "merge.h"

#define MERGE_SILENCE_NS (100 * CLIENT_MS_NS)

static void merge_clear(struct client *client, struct merge *merge)
{
    for (uint32_t k = 0; k < COLUMNS_MAX; k++) {
        struct merge_replica *column = &merge->columns[k];
        if (column->asked && !column->ended)
            request_drop(client, &column->request);
        client_release(client, column->items);
        client_release(client, column->records);
        memset(column, 0, sizeof *column);
    }
    client_release(client, merge->entries);
    merge->entries = NULL;
    merge->count = merge->capacity = 0;
    merge->answered = merge->suspects = merge->damaged = 0;
    merge->active = false;
}

void merge_stop(struct client *client, struct merge *merge)
{
    merge_clear(client, merge);
}

static void merge_drop_rest(struct client *client, struct merge *merge)
{
    for (uint32_t k = 0; k < merge->replicas; k++) {
        struct merge_replica *column = &merge->columns[k];
        if (column->asked && !column->ended) {
            request_drop(client, &column->request);
            column->ended = true;
            column->status = KHO_ECANCELED;
        }
    }
    merge->active = false;
}

static void merge_end(struct client *client, struct merge *merge, int status, struct kho_now now)
{
    merge_drop_rest(client, merge);
    merge->end(client, merge, status, now);
}

/* --- Merging ---------------------------------------------------------------------------------- */

static bool merge_reserve(struct client *client, struct merge *merge, uint32_t count)
{
    if (count == 0)
        return true;
    merge->entries = client_allocate(client, (size_t)count * sizeof *merge->entries);
    merge->capacity = merge->entries != NULL ? count : 0;
    return merge->entries != NULL;
}

static struct place merge_item_place(const struct merge_item *item)
{
    return (struct place){item->entry.partition, item->entry.tag};
}

/* Too large to come with others: it didn't come along (NULL), or a node that doesn't keep to that
 * sent it. */
static bool record_large(const uint8_t *bytes, uint32_t len)
{
    struct record record;
    return bytes == NULL || record_decode_head(bytes, len, &record) < 0 ||
           record.raw_len > KHO_LIST_RECORD_MAX;
}

/* One replica's knowledge of the entry. */
static void merge_add(const struct merge *merge, struct merge_entry *entry, uint32_t k,
                      const struct merge_item *item)
{
    const struct merge_replica *column = &merge->columns[k];
    int order = version_compare(item->entry.version, entry->version);
    if (order < 0)
        return;
    if (order > 0) {
        entry->version = item->entry.version;
        entry->state = WIRE_VALUE_UNKNOWN;
        entry->have = entry->whole = 0;
        entry->record = NULL;
        entry->record_len = 0;
        entry->large = false;
    }
    entry->have |= column_bit(k);
    if (item->entry.state == WIRE_VALUE_UNKNOWN)
        return;
    entry->whole |= column_bit(k);
    entry->state = item->entry.state;
    if (merge->records && k == merge->records_column) {
        entry->record_len = item->entry.record_len;
        entry->record = entry->record_len > 0 ? column->records + item->record_at : NULL;
        entry->large =
            entry->state == WIRE_PRESENT && record_large(entry->record, entry->record_len);
    }
}

/* The smallest place that a replica's cursor stands on, before `next`. False: none. */
static bool merge_lowest(const struct merge *merge, struct place *ret_place)
{
    bool found = false;
    for (uint32_t k = 0; k < merge->replicas; k++) {
        const struct merge_replica *column = &merge->columns[k];
        if ((merge->answered & (1u << k)) == 0 || column->at == column->count)
            continue;
        struct place place = merge_item_place(&column->items[column->at]);
        if (place_compare(place, merge->next) < 0 &&
            (!found || place_compare(place, *ret_place) < 0)) {
            *ret_place = place;
            found = true;
        }
    }
    return found;
}

static int merge_all(struct client *client, struct merge *merge)
{
    uint32_t most = 0;
    merge->next = (struct place){merge->partition_to, {0}};
    merge->answered = merge->suspects = merge->damaged = 0;
    for (uint32_t k = 0; k < merge->replicas; k++) {
        const struct merge_replica *column = &merge->columns[k];
        if (!column->asked || !column->ended || column->status != 0)
            continue;
        columns_t bit = column_bit(k);
        merge->answered |= bit;
        merge->suspects |= column->suspect ? bit : 0;
        merge->damaged |= column->episode ? bit : 0;
        most += column->count;
        if (place_compare(column->next, merge->next) < 0)
            merge->next = column->next;
    }
    if (!merge_reserve(client, merge, most))
        return -ENOMEM;
    struct place place;
    while (merge_lowest(merge, &place)) {
        KHO_ASSERT(merge->count < merge->capacity);
        struct merge_entry *entry = &merge->entries[merge->count++];
        *entry = (struct merge_entry){.place = place};
        for (uint32_t k = 0; k < merge->replicas; k++) {
            struct merge_replica *column = &merge->columns[k];
            if ((merge->answered & (1u << k)) == 0 || column->at == column->count ||
                place_compare(merge_item_place(&column->items[column->at]), place) != 0)
                continue;
            merge_add(merge, entry, k, &column->items[column->at++]);
        }
    }
    return 0;
}

/* --- Votes ------------------------------------------------------------------------------------ */

static uint32_t merge_asked(const struct merge *merge, bool only_waiting)
{
    uint32_t count = 0;
    for (uint32_t k = 0; k < merge->replicas; k++)
        count += merge->columns[k].asked && !(only_waiting && merge->columns[k].ended);
    return count;
}

static bool merge_enough(const struct merge *merge)
{
    columns_t votes = 0, told = 0;
    for (uint32_t k = 0; k < merge->replicas; k++) {
        const struct merge_replica *column = &merge->columns[k];
        if (!column->ended || column->status != 0 || column->episode)
            continue;
        told |= column_bit(k);
        if (!column->suspect)
            votes |= column_bit(k);
    }
    return layouts_voted(merge->layouts, votes, told, merge->votes);
}

/* Why there are too few votes. */
static int merge_cause(const struct merge *merge)
{
    int status = KHO_EUNKNOWN;
    for (uint32_t k = 0; k < merge->replicas; k++) {
        const struct merge_replica *column = &merge->columns[k];
        if (!column->ended || column->status == 0)
            continue;
        if (column->status == KHO_EEPOCHOLD || column->status == -ENOMEM)
            return column->status;
        status = column->status;
    }
    return status;
}

static int merge_ask(struct client *client, struct merge *merge, uint32_t k, struct kho_now now);

/* Asks the next replica, those in reach first. False: none is left. */
static bool merge_ask_next(struct client *client, struct merge *merge, struct kho_now now)
{
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t k = 0; k < merge->replicas; k++) {
            if (merge->columns[k].asked || (merge->skip & (1u << k)) != 0)
                continue;
            uint32_t shard = route_shard(client, merge->nodes[k], merge->from.partition);
            struct session *session = route_session(client, merge->nodes[k], shard, now);
            uint64_t since = session != NULL ? session_out_since(session) : 0;
            /* One that was asked a moment ago is not out of reach. */
            bool in_reach = since == CLIENT_NEVER || now.mono_ns < since + MERGE_SILENCE_NS;
            if (!in_reach && pass == 0)
                continue;
            if (merge_ask(client, merge, k, now) == 0)
                return true;
        }
    return false;
}

/* A replica's answer is whole, or failed: is the page complete? */
static void merge_check(struct client *client, struct merge *merge, struct kho_now now)
{
    int rc;
    if (merge->votes > 0 && !merge_enough(merge)) {
        uint32_t waiting = merge_asked(merge, true);
        if (merge_ask_next(client, merge, now) || waiting > 0)
            return;
        merge_end(client, merge, merge_cause(merge), now);
        return;
    }
    if (merge->votes == 0 && merge_asked(merge, true) > 0)
        return;
    rc = merge_all(client, merge);
    merge_end(client, merge, rc, now);
}

void merge_hedge(struct client *client, struct merge *merge, struct kho_now now)
{
    if (merge->active)
        (void)merge_ask_next(client, merge, now);
}

/* --- One replica's answer --------------------------------------------------------------------- */

static bool merge_items_reserve(struct client *client, struct merge_replica *column, uint32_t more)
{
    if (more <= column->capacity - column->count)
        return true;
    uint32_t capacity = (uint32_t)kho_max((uint64_t)column->capacity * 2, column->count + more);
    struct merge_item *items = client_allocate(client, (size_t)capacity * sizeof *items);
    if (items == NULL)
        return false;
    if (column->count > 0)
        memcpy(items, column->items, (size_t)column->count * sizeof *items);
    client_release(client, column->items);
    column->items = items;
    column->capacity = capacity;
    return true;
}

/* Keeps the bytes of a record; beyond the bound it is left out, to be fetched by its tag. */
static int merge_keep(struct client *client, struct merge_replica *column, struct merge_item *item,
                      const uint8_t *bytes)
{
    size_t len = item->entry.record_len;
    if (column->records_len + len > MERGE_RECORD_BYTES_MAX) {
        item->entry.record_len = 0;
        return 0;
    }
    if (len > column->records_size - column->records_len) {
        size_t size = kho_max(column->records_size * 2, column->records_len + len);
        uint8_t *records = client_allocate(client, size);
        if (records == NULL)
            return -ENOMEM;
        if (column->records_len > 0)
            memcpy(records, column->records, column->records_len);
        client_release(client, column->records);
        column->records = records;
        column->records_size = size;
    }
    memcpy(column->records + column->records_len, bytes, len);
    item->record_at = column->records_len;
    column->records_len += len;
    return 0;
}

static bool merge_item_valid(const struct merge *merge, const struct merge_replica *column,
                             const struct merge_item *item)
{
    const struct wire_list_entry *entry = &item->entry;
    struct place place = merge_item_place(item);
    if (place_compare(place, merge->from) < 0 || place.partition >= merge->partition_to ||
        entry->version.counter < 1 || entry->version.counter > KHO_COUNTER_MAX)
        return false;
    if (column->count > 0 &&
        place_compare(place, merge_item_place(&column->items[column->count - 1])) <= 0)
        return false;
    return entry->state == WIRE_PRESENT || entry->state == WIRE_TOMBSTONE ||
           entry->state == WIRE_VALUE_UNKNOWN;
}

static int merge_entries(struct client *client, struct merge_replica *column, uint32_t count,
                         const uint8_t *body, size_t len)
{
    const struct merge *merge = column->merge;
    bool records = merge->records && column == &merge->columns[merge->records_column];
    /* A node that sends more than it was asked for must not fill our memory. */
    if (column->count + count > merge->limit + KHO_FRAME_ENTRIES_MAX)
        return KHO_EMALFORMED;
    if (!merge_items_reserve(client, column, count))
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        struct merge_item item = {0};
        if (len < WIRE_LIST_ENTRY)
            return KHO_EMALFORMED;
        wire_list_entry_decode(body, &item.entry);
        body += WIRE_LIST_ENTRY;
        len -= WIRE_LIST_ENTRY;
        size_t record_len = item.entry.record_len;
        if (record_len > len || (record_len > 0 && !records) ||
            !merge_item_valid(merge, column, &item))
            return KHO_EMALFORMED;
        if (record_len > 0) {
            int rc = merge_keep(client, column, &item, body);
            if (rc != 0)
                return rc;
        }
        body += record_len;
        len -= record_len;
        column->items[column->count++] = item;
    }
    return len == 0 ? 0 : KHO_EMALFORMED;
}

static void merge_fail(struct client *client, struct merge_replica *column, int status,
                       struct kho_now now)
{
    request_drop(client, &column->request);
    column->ended = true;
    column->status = status;
    merge_check(client, column->merge, now);
}

static void merge_frame(struct client *client, struct request *request,
                        const struct wire_head *head, const uint8_t *body, size_t len,
                        struct kho_now now)
{
    struct merge_replica *column = request->owner;
    struct wire_list_head page;
    if (len < WIRE_LIST_HEAD) {
        merge_fail(client, column, KHO_EMALFORMED, now);
        return;
    }
    wire_list_head_decode(body, &page);
    column->suspect |= (head->flags & KHO_FRAME_SUSPECT) != 0;
    column->episode |= (head->flags & KHO_FRAME_EPISODE) != 0;
    if (page.done)
        column->next = (struct place){column->merge->partition_to, {0}};
    else
        column->next = (struct place){page.next_partition, page.next_tag};
    int rc =
        merge_entries(client, column, head->count, body + WIRE_LIST_HEAD, len - WIRE_LIST_HEAD);
    if (rc != 0)
        merge_fail(client, column, rc, now);
}

/* Does the answer's end lie behind its entries, and further than where it began? */
static bool merge_progressed(const struct merge *merge, const struct merge_replica *column)
{
    if (place_compare(column->next, merge->from) <= 0 ||
        column->next.partition > merge->partition_to)
        return false;
    return column->count == 0 ||
           place_compare(merge_item_place(&column->items[column->count - 1]), column->next) < 0;
}

static void merge_ended(struct client *client, struct request *request, int status,
                        struct kho_now now)
{
    struct merge_replica *column = request->owner;
    if (status == 0 && !merge_progressed(column->merge, column))
        status = KHO_EMALFORMED;
    column->ended = true;
    column->status = status;
    /* Votes of two epochs make no majority (R5), and the columns are those of the older map. */
    if (status == KHO_EEPOCHOLD && column->merge->votes > 0)
        merge_end(client, column->merge, status, now);
    else
        merge_check(client, column->merge, now);
}

static int merge_ask(struct client *client, struct merge *merge, uint32_t k, struct kho_now now)
{
    struct merge_replica *column = &merge->columns[k];
    bool first = merge_asked(merge, false) == 0;
    bool records = merge->records && first;
    struct wire_list_ask ask = {
        .collection = merge->collection,
        .partition_from = merge->from.partition,
        .partition_to = merge->partition_to,
        .tag = merge->from.tag,
        .ask = records ? KHO_LIST_RECORDS : 0,
        .limit = merge->limit,
    };
    wire_list_ask_encode(&ask, column->body);
    column->merge = merge;
    column->request = (struct request){
        .type = WIRE_LIST,
        .count = 1,
        .body = column->body,
        .body_len = WIRE_LIST_ASK,
        .deadline_ns = merge->deadline_ns,
        .frame = merge_frame,
        .end = merge_ended,
        .owner = column,
    };
    uint32_t shard = route_shard(client, merge->nodes[k], merge->from.partition);
    int rc = request_send(client, &column->request, merge->nodes[k], shard, now);
    if (rc != 0)
        return rc;
    if (records)
        merge->records_column = (uint8_t)k;
    column->asked = true;
    return 0;
}

int merge_start(struct client *client, struct merge *merge, struct kho_now now)
{
    KHO_ASSERT(!merge->active && merge->replicas <= COLUMNS_MAX);
    merge_clear(client, merge);
    uint32_t all = merge->replicas - columns_count(merge->skip);
    bool some = merge->votes > 0 && !layouts_joint(merge->layouts);
    uint32_t want = some ? (uint32_t)kho_min(merge->votes, all) : all;
    KHO_ASSERT(want > 0);
    for (uint32_t i = 0; i < want; i++)
        if (!merge_ask_next(client, merge, now)) {
            merge_clear(client, merge);
            return -ENOMEM;
        }
    merge->active = true;
    return 0;
}
