/* answer.c: submits calls and copies what they end with, since results are lent for a step only. */
#include "answer.h"

static void *copy_of(const void *bytes, size_t len)
{
    uint8_t *copy = malloc(len + 1);
    KHO_ASSERT(copy != NULL);
    if (len > 0)
        memcpy(copy, bytes, len);
    copy[len] = 0;
    return copy;
}

static char *text_of(const char *text)
{
    return text != NULL ? copy_of(text, strlen(text)) : NULL;
}

void answer_fini(struct answer *answer)
{
    /* A caller that gave up waiting: its frame goes, the call may not find it again. */
    if (!answer->done && answer->link.next != NULL)
        queue_remove(&answer->link);
    for (size_t i = 0; i < answer->count; i++) {
        if (answer->results != NULL) {
            free((void *)(uintptr_t)answer->results[i].key);
            free((void *)(uintptr_t)answer->results[i].value);
        }
        if (answer->verify != NULL)
            free((void *)(uintptr_t)answer->verify[i].collection);
        if (answer->digests != NULL) {
            free((void *)(uintptr_t)answer->digests[i].collection);
            free((void *)(uintptr_t)answer->digests[i].node);
        }
        if (answer->nodes != NULL)
            free((void *)(uintptr_t)answer->nodes[i].name);
    }
    free(answer->results);
    free(answer->verify);
    free(answer->digests);
    free(answer->nodes);
    memset(answer, 0, sizeof *answer);
}

static void *room_for(size_t count, size_t size)
{
    void *room = calloc(count > 0 ? count : 1, size);
    KHO_ASSERT(room != NULL);
    return room;
}

static void copy_records(struct answer *a, const struct client_done *done)
{
    a->count = done->records.count;
    a->results = room_for(a->count, sizeof *a->results);
    a->next = done->records.next;
    a->list_done = done->records.done;
    for (size_t i = 0; i < a->count; i++) {
        a->results[i] = done->records.results[i];
        const struct kho_result *r = &done->records.results[i];
        a->results[i].key = r->key != NULL ? copy_of(r->key, r->key_len) : NULL;
        a->results[i].value = r->value != NULL ? copy_of(r->value, r->value_len) : NULL;
    }
}

static void copy_done(struct answer *a, const struct client_done *done)
{
    switch (done->verb) {
    case CLIENT_PUT:
    case CLIENT_DEL:
    case CLIENT_APPEND:
    case CLIENT_GET:
    case CLIENT_STAT:
    case CLIENT_LIST:
        copy_records(a, done);
        break;
    case CLIENT_VERIFY:
        a->count = done->verify.count;
        a->verify = room_for(a->count, sizeof *a->verify);
        for (size_t i = 0; i < a->count; i++) {
            a->verify[i] = done->verify.results[i];
            a->verify[i].collection = text_of(a->verify[i].collection);
        }
        break;
    case CLIENT_DIGESTS:
        a->count = done->digests.count;
        a->digests = room_for(a->count, sizeof *a->digests);
        for (size_t i = 0; i < a->count; i++) {
            a->digests[i] = done->digests.digests[i];
            a->digests[i].collection = text_of(a->digests[i].collection);
            a->digests[i].node = text_of(a->digests[i].node);
        }
        break;
    case CLIENT_STATUS:
        a->count = done->node_status.count;
        a->nodes = room_for(a->count, sizeof *a->nodes);
        for (size_t i = 0; i < a->count; i++) {
            a->nodes[i] = (struct kho_node_status){.name = text_of(done->node_status.nodes[i].name),
                                                   .status = done->node_status.nodes[i].status,
                                                   .epoch = done->node_status.nodes[i].epoch};
        }
        break;
    case CLIENT_REPAIR:
        a->repair = done->repair;
        break;
    default:
        break;
    }
}

static void answer_end(struct answer *a, uint64_t now_ns)
{
    queue_remove(&a->link);
    a->ended_ns = now_ns;
    a->done = true;
    if (a->then != NULL)
        a->then(a, a->arg);
}

/* Found among those under way: what is told of another call must not be looked at. */
static struct answer *answer_of(struct client_end *end, const struct client_done *done)
{
    for (struct queue *link = end->answers.next; link != &end->answers; link = link->next) {
        struct answer *a = KHO_CONTAINER_OF(link, struct answer, link);
        if (a == done->context && a->verb == done->verb && a->call == done->call && !a->done)
            return a;
    }
    return NULL;
}

void answer_take(struct client_end *end, const struct client_done *done)
{
    struct sim *sim = end->cluster->sim;
    struct answer *a = answer_of(end, done);
    if (done->verb == CLIENT_CLOSED && queue_empty(&end->answers))
        return; /* no call, and none is left over */
    if (done->last)
        sim_trace(sim, "client %u: verb %d ends: %d", end->index, (int)done->verb, done->status);
    if (a == NULL) {
        sim_fail(sim, "client %u: call %llu ended that isn't under way", end->index,
                 (unsigned long long)done->call);
        return;
    }
    if (!done->last)
        return;
    a->status = done->status;
    copy_done(a, done);
    answer_end(a, sim->now_ns);
}

void answers_lost(struct client_end *end)
{
    struct queue lost;
    queue_init(&lost);
    queue_append_all(&lost, &end->answers);
    while (!queue_empty(&lost)) {
        struct answer *a = KHO_CONTAINER_OF(lost.next, struct answer, link);
        a->crashed = true;
        a->status = KHO_ECLOSED;
        answer_end(a, end->cluster->sim->now_ns);
    }
}

bool answers_over(struct cluster *cluster, uint64_t ns)
{
    struct sim *sim = cluster->sim;
    uint64_t until = sim->now_ns + ns;
    for (uint32_t i = 0; i < cluster->client_count; i++)
        while (!queue_empty(&cluster->clients[i].answers)) {
            if (sim->failed || sim->now_ns >= until)
                return false;
            cluster_run(cluster, SIM_MS);
        }
    return true;
}

/* --- Submitting ------------------------------------------------------------------------------- */

static void begin(struct answer *a, struct client_end *end, enum client_verb verb)
{
    KHO_ASSERT(end->client != NULL);
    void (*then)(struct answer * answer, void *arg) = a->then;
    void *arg = a->arg;
    memset(a, 0, sizeof *a);
    a->then = then;
    a->arg = arg;
    a->verb = verb;
    a->begun_ns = end->cluster->sim->now_ns;
}

static int begun(struct answer *a, struct client_end *end, int rc)
{
    if (rc != 0)
        return rc;
    queue_push(&end->answers, &a->link);
    client_end_turn_soon(end);
    return 0;
}

/* A copy that nobody else has, which is noise and gone as soon as the call that it was handed to
 * returns: the API promises that names, keys, values and items are copied within it. */
struct lent {
    void *bytes;
    size_t len;
};

static void *lend(struct lent *lent, const void *bytes, size_t len)
{
    *lent = (struct lent){.len = len};
    if (bytes == NULL)
        return NULL;
    lent->bytes = malloc(len > 0 ? len : 1);
    KHO_ASSERT(lent->bytes != NULL);
    if (len > 0)
        memcpy(lent->bytes, bytes, len);
    return lent->bytes;
}

static void take_back(struct lent *lent)
{
    if (lent->bytes != NULL)
        memset(lent->bytes, 0xA5, lent->len);
    free(lent->bytes);
}

/* What an item of a batch consists of. */
enum { LENT_KEY, LENT_VALUE, LENT_TOKEN, LENT_OF_ITEM };

int answer_records(struct answer *a, struct client_end *end, enum client_verb verb,
                   const char *collection, const struct kho_item *items, size_t count,
                   uint32_t deadline_ms)
{
    struct lent name, batch, *lent = room_for(count * LENT_OF_ITEM, sizeof *lent);
    struct kho_item *copies = lend(&batch, items, count * sizeof *items);
    for (size_t i = 0; i < count; i++) {
        struct lent *of = &lent[i * LENT_OF_ITEM];
        copies[i].key = lend(&of[LENT_KEY], items[i].key, items[i].key_len);
        copies[i].value = lend(&of[LENT_VALUE], items[i].value, items[i].value_len);
        copies[i].token = lend(&of[LENT_TOKEN], items[i].token, sizeof *items[i].token);
    }
    begin(a, end, verb);
    int rc = client_records(end->client, verb, lend(&name, collection, strlen(collection) + 1),
                            copies, count, deadline_ms, a, client_end_now(end), &a->call);
    for (size_t i = 0; i < count * LENT_OF_ITEM; i++)
        take_back(&lent[i]);
    take_back(&batch);
    take_back(&name);
    free(lent);
    return begun(a, end, rc);
}

int answer_list(struct answer *a, struct client_end *end, const char *collection,
                const struct kho_cursor *from, size_t limit, unsigned flags, uint32_t deadline_ms)
{
    struct lent name, cursor;
    begin(a, end, CLIENT_LIST);
    int rc = client_list(end->client, lend(&name, collection, strlen(collection) + 1),
                         lend(&cursor, from, sizeof *from), limit, flags, deadline_ms, a,
                         client_end_now(end), &a->call);
    take_back(&name);
    take_back(&cursor);
    return begun(a, end, rc);
}

int answer_compare(struct answer *a, struct client_end *end, enum client_verb verb,
                   const char *collection, uint32_t deadline_ms)
{
    begin(a, end, verb);
    return begun(a, end,
                 client_compare(end->client, verb, collection, deadline_ms, a, client_end_now(end),
                                &a->call));
}

int answer_repair(struct answer *a, struct client_end *end, const char *collection)
{
    begin(a, end, CLIENT_REPAIR);
    return begun(a, end, client_repair(end->client, collection, a, client_end_now(end), &a->call));
}

int answer_flush(struct answer *a, struct client_end *end, uint32_t deadline_ms)
{
    begin(a, end, CLIENT_FLUSH);
    return begun(a, end, client_flush(end->client, deadline_ms, a, client_end_now(end), &a->call));
}

int answer_map_push(struct answer *a, struct client_end *end, uint32_t deadline_ms)
{
    begin(a, end, CLIENT_MAP_PUSH);
    return begun(a, end,
                 client_map_push(end->client, deadline_ms, a, client_end_now(end), &a->call));
}

int answer_readmit(struct answer *a, struct client_end *end, const char *node, uint32_t deadline_ms)
{
    begin(a, end, CLIENT_READMIT);
    return begun(a, end,
                 client_readmit(end->client, node, deadline_ms, a, client_end_now(end), &a->call));
}

int answer_member(struct answer *a, struct client_end *end, const struct kho_node_change *change,
                  uint32_t deadline_ms)
{
    begin(a, end, CLIENT_MEMBER);
    return begun(a, end,
                 client_member(end->client, change, deadline_ms, a, client_end_now(end), &a->call));
}

int answer_collection_create(struct answer *a, struct client_end *end, const char *name,
                             uint32_t deadline_ms)
{
    begin(a, end, CLIENT_COLLECTION_CREATE);
    return begun(a, end,
                 client_collection_create(end->client, name, -1, 0, deadline_ms, a,
                                          client_end_now(end), &a->call));
}

bool answer_wait(struct answer *a, struct client_end *end, uint64_t ns)
{
    return sim_run(end->cluster->sim, end->cluster->sim->now_ns + ns, &a->done);
}
