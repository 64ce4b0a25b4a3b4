/* fetch.c: owns one READ request by tags and the checking of what comes back.
 *
 * The answer's entries may come in any order over several frames; one too large for a frame comes
 * as a head in a frame of its own (KHO_FRAME_LARGE) and DATA frames behind it, which are gathered
 * in one buffer of exactly its size. Every record is checked end to end before its owner sees it:
 * layout, collection, that its key has the tag and the partition that were asked, and the content
 * hash of its value.
 *
 * It fails as a whole when the request does, or when the answer breaks the layout
 * (KHO_EMALFORMED); one entry fails alone when its record is damaged. */
#include "fetch.h"

#include <kho/piece.h>

static void fetch_release(struct client *client, struct fetch *fetch)
{
    client_release(client, fetch->body);
    client_release(client, fetch->large);
    fetch->body = NULL;
    fetch->large = NULL;
    fetch->active = false;
}

void fetch_stop(struct client *client, struct fetch *fetch)
{
    if (!fetch->active)
        return;
    request_drop(client, &fetch->request);
    fetch_release(client, fetch);
}

static void fetch_fail(struct client *client, struct fetch *fetch, int status, struct kho_now now)
{
    fetch_stop(client, fetch);
    fetch->end(client, fetch, status, now);
}

/* Is this the record that was asked for? 0, or why it can't be used. */
static int fetch_check(const struct client *client, const struct fetch *fetch,
                       const struct fetch_ask *ask, const struct record *record)
{
    if (record->collection != fetch->collection)
        return KHO_EDAMAGED;
    if (!client_has_map(client))
        return KHO_EEPOCHOLD;
    int index = map_collection_by_id(&client->map, fetch->collection);
    if (index < 0)
        return KHO_ENOCOLLECTION;
    struct map_collection collection;
    map_collection(&client->map, (uint32_t)index, &collection);
    uint64_t seed = client->map.seed;
    struct key_hash hash = key_hash(record->collection, record->key, record->key_len, seed);
    uint32_t partition = key_partition(record->collection, record->key, record->key_len, seed,
                                       collection.separator, client->map.partitions, hash);
    if (partition != ask->partition || key_tag_compare(key_tag(hash), ask->tag) != 0)
        return KHO_EDAMAGED;
    if (record->value != NULL && !value_matches(record, client->piece))
        return KHO_EDAMAGED;
    return 0;
}

/* Hands one entry to the owner. */
static void fetch_answer(struct client *client, struct fetch *fetch, uint32_t index, int status,
                         uint8_t state, const struct record *record, struct kho_now now)
{
    const struct fetch_ask *ask = &fetch->asks[index];
    fetch->answered[index] = true;
    fetch->left--;
    if (status == 0 && record != NULL)
        status = fetch_check(client, fetch, ask, record);
    fetch->record(client, fetch, ask->name, status, state, status == 0 ? record : NULL, now);
}

/* The head and key of a record whose value follows in DATA frames. */
static int fetch_large_begin(struct client *client, struct fetch *fetch, uint32_t index,
                             uint8_t state, const uint8_t *bytes, size_t len)
{
    struct record record;
    int head = record_decode_head(bytes, len, &record);
    if (head < 0 || (size_t)head != len || fetch->large != NULL || record_is_tombstone(&record))
        return KHO_EMALFORMED;
    fetch->large_size = len + record.stored_len;
    fetch->large = client_allocate(client, fetch->large_size);
    if (fetch->large == NULL)
        return -ENOMEM;
    memcpy(fetch->large, bytes, len);
    fetch->large_len = len;
    fetch->large_index = index;
    fetch->large_state = state;
    return 0;
}

static int fetch_large_data(struct client *client, struct fetch *fetch,
                            const struct wire_head *head, const uint8_t *bytes, size_t len,
                            struct kho_now now)
{
    if (fetch->large == NULL || len > fetch->large_size - fetch->large_len)
        return KHO_EMALFORMED;
    if (len > 0)
        memcpy(fetch->large + fetch->large_len, bytes, len);
    fetch->large_len += len;
    if ((head->flags & KHO_FRAME_LAST_DATA) == 0)
        return 0;
    struct record record;
    if (fetch->large_len != fetch->large_size ||
        record_decode(fetch->large, fetch->large_len, &record) < 0)
        return KHO_EMALFORMED;
    /* The owner may stop the fetch within, which must not free what it is looking at. */
    uint8_t *bytes_lent = fetch->large;
    fetch->large = NULL;
    fetch_answer(client, fetch, fetch->large_index, 0, fetch->large_state, &record, now);
    client_release(client, bytes_lent);
    return 0;
}

/* One entry of a READ answer. Returns its bytes or an error. */
static int fetch_entry(struct client *client, struct fetch *fetch, const struct wire_head *head,
                       const uint8_t *bytes, size_t len, struct kho_now now)
{
    struct wire_read_answer answer;
    if (len < WIRE_READ_ANSWER)
        return KHO_EMALFORMED;
    wire_read_answer_decode(bytes, &answer);
    len -= WIRE_READ_ANSWER;
    bool large = (head->flags & KHO_FRAME_LARGE) != 0;
    if (answer.index >= fetch->count || fetch->answered[answer.index] || answer.status > 0 ||
        (answer.record_len > len && !large))
        return KHO_EMALFORMED;
    const uint8_t *at = bytes + WIRE_READ_ANSWER;
    int size = (int)(WIRE_READ_ANSWER + answer.record_len);
    if (answer.status != 0 || answer.state == WIRE_ABSENT) {
        if (answer.record_len > len)
            return KHO_EMALFORMED;
        fetch_answer(client, fetch, answer.index, answer.status, answer.state, NULL, now);
        return size;
    }
    if (answer.state != WIRE_PRESENT && answer.state != WIRE_TOMBSTONE)
        return KHO_EMALFORMED;
    if (large) {
        if (head->count != 1)
            return KHO_EMALFORMED;
        int rc = fetch_large_begin(client, fetch, answer.index, answer.state, at, len);
        return rc != 0 ? rc : (int)(WIRE_READ_ANSWER + len);
    }
    struct record record;
    bool only_head = fetch->asks[answer.index].head;
    int used = only_head ? record_decode_head(at, answer.record_len, &record)
                         : record_decode(at, answer.record_len, &record);
    if (used < 0 || (uint32_t)used != answer.record_len ||
        record_is_tombstone(&record) != (answer.state == WIRE_TOMBSTONE))
        return KHO_EMALFORMED;
    fetch_answer(client, fetch, answer.index, 0, answer.state, &record, now);
    return size;
}

static void fetch_frame(struct client *client, struct request *request,
                        const struct wire_head *head, const uint8_t *body, size_t len,
                        struct kho_now now)
{
    struct fetch *fetch = request->owner;
    uint32_t serial =
        fetch->serial; /* within a record's callback it may be stopped, started anew */
    int rc = 0;
    if (head->type == WIRE_DATA) {
        rc = fetch_large_data(client, fetch, head, body, len, now);
        if (rc != 0)
            fetch_fail(client, fetch, rc, now);
        return;
    }
    for (uint32_t i = 0; i < head->count; i++) {
        rc = fetch_entry(client, fetch, head, body, len, now);
        if (!fetch->active || fetch->serial != serial)
            return;
        if (rc < 0)
            break;
        body += rc;
        len -= (size_t)rc;
    }
    if (rc < 0 || len != 0)
        fetch_fail(client, fetch, rc < 0 ? rc : KHO_EMALFORMED, now);
}

static void fetch_ended(struct client *client, struct request *request, int status,
                        struct kho_now now)
{
    struct fetch *fetch = request->owner;
    if (status == 0 && (fetch->left != 0 || fetch->large != NULL))
        status = KHO_EMALFORMED;
    fetch_release(client, fetch);
    fetch->end(client, fetch, status, now);
}

int fetch_start(struct client *client, struct fetch *fetch, const struct fetch_ask *asks,
                uint32_t count, struct kho_now now)
{
    KHO_ASSERT(!fetch->active && count > 0 && count <= FETCH_MAX);
    fetch->body = client_allocate(client, (size_t)count * WIRE_READ_ASK);
    if (fetch->body == NULL)
        return -ENOMEM;
    uint32_t shard = route_shard(client, fetch->node, asks[0].partition);
    for (uint32_t i = 0; i < count; i++) {
        struct wire_read_ask ask = {
            .collection = fetch->collection,
            .ask = asks[i].head ? KHO_READ_HEAD : KHO_READ_RECORD,
            .partition = asks[i].partition,
            .hash = {.low = (uint64_t)asks[i].tag.low << 56, .high = asks[i].tag.high},
        };
        KHO_ASSERT(route_shard(client, fetch->node, asks[i].partition) == shard);
        wire_read_ask_encode(&ask, fetch->body + (size_t)i * WIRE_READ_ASK);
        fetch->asks[i] = asks[i];
        fetch->answered[i] = false;
    }
    fetch->count = count;
    fetch->left = count;
    fetch->request = (struct request){
        .type = WIRE_READ,
        .count = (uint16_t)count,
        .body = fetch->body,
        .body_len = count * WIRE_READ_ASK,
        .deadline_ns = fetch->deadline_ns,
        .frame = fetch_frame,
        .end = fetch_ended,
        .owner = fetch,
    };
    int rc = request_send(client, &fetch->request, fetch->node, shard, now);
    if (rc != 0) {
        client_release(client, fetch->body);
        fetch->body = NULL;
        return rc;
    }
    fetch->active = true;
    fetch->serial++;
    return 0;
}
