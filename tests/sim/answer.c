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

void answer_take(struct client_end *end, const struct client_done *done)
{
    struct sim *sim = end->cluster->sim;
    struct answer *a = done->context;
    if (!done->last || done->context == NULL)
        return;
    sim_trace(sim, "client %u: verb %d ends: %d", end->index, (int)done->verb, done->status);
    if (a->done || a->verb != done->verb || a->call != done->call) {
        sim_fail(sim, "client %u: call %llu ended that isn't under way", end->index,
                 (unsigned long long)done->call);
        return;
    }
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

int answer_records(struct answer *a, struct client_end *end, enum client_verb verb,
                   const char *collection, const struct kho_item *items, size_t count,
                   uint32_t deadline_ms)
{
    begin(a, end, verb);
    return begun(a, end,
                 client_records(end->client, verb, collection, items, count, deadline_ms, a,
                                client_end_now(end), &a->call));
}

int answer_list(struct answer *a, struct client_end *end, const char *collection,
                const struct kho_cursor *from, size_t limit, unsigned flags, uint32_t deadline_ms)
{
    begin(a, end, CLIENT_LIST);
    return begun(a, end,
                 client_list(end->client, collection, from, limit, flags, deadline_ms, a,
                             client_end_now(end), &a->call));
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
