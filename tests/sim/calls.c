/* calls.c: clients that put, delete, append, get and stat, batch by batch, and write down what they
 * were told. */
#include "listing.h"
#include "workload.h"

#include <kho/key.h>

struct job_item {
    size_t slot; /* SIZE_MAX: an append whose key isn't known yet */
    uint32_t history_key;
    size_t op;
    uint64_t value;
    struct kho_token token;
    bool again; /* goes on with the token */
};

struct job {
    struct answer answer;
    struct workload *w;
    uint32_t client;
    enum client_verb verb;
    size_t count;
    uint32_t deadline_ms;
    struct job_item items[WORKLOAD_BATCH_MAX];
};

/* --- Values ----------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t id)
{
    return kho_splitmix(&id);
}

uint8_t *value_make(const struct workload *w, uint64_t id, size_t *ret_len)
{
    uint64_t dice = mix(id ^ w->sim->seed);
    uint64_t max = w->plan.churn     ? w->plan.value_max
                   : dice % 100 < 70 ? 400
                   : dice % 100 < 95 ? 8000
                                     : w->plan.value_max;
    size_t len = 8 + (size_t)((dice >> 8) % kho_max(kho_min(max, w->plan.value_max), 1));
    uint8_t *bytes = malloc(len);
    KHO_ASSERT(bytes != NULL);
    kho_store64(bytes, id);
    /* Of 128 bytes, so many are noise: what is all noise doesn't compress, what is half of it still
     * fills frames when it is compressed, what has none becomes next to nothing. */
    size_t noise = (dice & 128) == 0 ? 0 : (dice & 64) != 0 ? 128 : 64;
    uint64_t state = id;
    for (size_t i = 8; i < len; i++) {
        if (i % 8 == 0)
            dice = kho_splitmix(&state);
        bytes[i] =
            i % 128 < noise ? (uint8_t)(dice >> (i % 8 * 8)) : (uint8_t)("kho "[i % 4] + (id & 1));
    }
    *ret_len = len;
    return bytes;
}

static uint64_t value_new(struct workload *w)
{
    if (w->value_count == w->value_room) {
        w->value_room = w->value_room * 2 + 256;
        w->value_hashes = realloc(w->value_hashes, w->value_room * sizeof *w->value_hashes);
        KHO_ASSERT(w->value_hashes != NULL);
        if (w->value_count == 0) {
            memset(&w->value_hashes[0], 0, sizeof w->value_hashes[0]);
            w->value_count = 1; /* 0: no record */
        }
    }
    uint64_t id = w->value_count++;
    size_t len;
    uint8_t *bytes = value_make(w, id, &len);
    w->value_hashes[id] = content_hash(bytes, len);
    free(bytes);
    return id;
}

uint64_t value_check(struct workload *w, const struct slot *slot, const uint8_t *bytes, size_t len)
{
    uint64_t id = len >= 8 ? kho_load64(bytes) : 0;
    bool right = false;
    if (id > 0 && id < w->value_count) {
        size_t expected_len;
        uint8_t *expected = value_make(w, id, &expected_len);
        right = expected_len == len && memcmp(expected, bytes, len) == 0;
        free(expected);
    }
    if (!right) {
        sim_fail(w->sim, "key %u: a value of %zu bytes was read that nobody wrote",
                 slot->history_key, len);
        return 0;
    }
    return id;
}

static uint64_t value_by_hash(struct workload *w, const uint8_t *hash)
{
    for (uint64_t id = 1; id < w->value_count; id++)
        if (memcmp(w->value_hashes[id].bytes, hash, 16) == 0)
            return id;
    return 0;
}

/* --- What was told ---------------------------------------------------------------------------- */

static struct version version_of(const struct kho_result *r)
{
    return (struct version){.counter = r->version.counter, .writer = r->version.writer};
}

void read_end(struct workload *w, const struct slot *slot, size_t op, const struct kho_result *r,
              bool stat)
{
    uint64_t value = 0;
    if (r->status != 0 && r->status != KHO_ENOTFOUND) {
        w->ops_failed++;
        w->reads_damaged += r->status == KHO_EDAMAGED;
        history_end(&w->history, op, HISTORY_NOT, 0, (struct version){0});
        return;
    }
    if (r->status == 0 && !stat) {
        if (r->value == NULL) {
            sim_fail(w->sim, "key %u: get returned no value", slot->history_key);
            return;
        }
        value = value_check(w, slot, r->value, r->value_len);
        if (value != 0 && memcmp(w->value_hashes[value].bytes, r->hash, 16) != 0)
            sim_fail(w->sim, "key %u: get returned another hash than its value's",
                     slot->history_key);
    } else if (r->status == 0) {
        value = value_by_hash(w, r->hash);
        if (value == 0)
            sim_fail(w->sim, "key %u: stat returned the hash of no value", slot->history_key);
    }
    w->ops_ok++;
    history_end(&w->history, op, HISTORY_OK, value, version_of(r));
}

static size_t slot_add(struct workload *w, const void *key, size_t len, uint32_t history_key,
                       bool event)
{
    if (w->slot_count == w->slot_room) {
        w->slot_room = w->slot_room * 2 + 64;
        w->slots = realloc(w->slots, w->slot_room * sizeof *w->slots);
        KHO_ASSERT(w->slots != NULL);
    }
    struct slot *slot = &w->slots[w->slot_count];
    *slot = (struct slot){.len = len, .history_key = history_key, .event = event};
    KHO_ASSERT(len <= sizeof slot->bytes);
    memcpy(slot->bytes, key, len);
    return w->slot_count++;
}

/* No version is of a time to come: one node's clock may be anything, but the lowest of a majority
 * decides, and those of the others are off by seconds. */
static void version_check(struct workload *w, struct version version)
{
    uint64_t now_ms = w->cluster->wall_ms + w->sim->now_ns / SIM_MS;
    uint64_t ms = version.counter >> KHO_COUNTER_TIME_BITS;
    if (ms > now_ms + 11000)
        sim_fail(w->sim, "a write got a version %llu ms ahead of the time",
                 (unsigned long long)(ms - now_ms));
}

static void write_end(struct job *job, struct job_item *item, const struct kho_result *r)
{
    struct workload *w = job->w;
    enum history_end end = r->outcome == KHO_APPLIED       ? HISTORY_OK
                           : r->outcome == KHO_NOT_APPLIED ? HISTORY_NOT
                                                           : HISTORY_IN_DOUBT;
    if ((end == HISTORY_OK) != (r->status == 0) ||
        (end == HISTORY_IN_DOUBT && r->status != KHO_EINDOUBT && r->status != KHO_ECANCELED))
        sim_fail(w->sim, "a write ended with status %d and outcome %d", r->status, (int)r->outcome);
    if (job->verb == CLIENT_APPEND && item->slot == SIZE_MAX && r->key != NULL && r->key_len == 16)
        item->slot = slot_add(w, r->key, r->key_len, item->history_key, true);
    if (end == HISTORY_OK && item->slot == SIZE_MAX)
        sim_fail(w->sim, "an append was acknowledged without a key");
    if (end == HISTORY_OK)
        version_check(w, version_of(r));
    w->ops_ok += end == HISTORY_OK;
    w->ops_failed += end == HISTORY_NOT;
    w->checked.refused_full += r->status == KHO_EFULL;
    w->ops_doubtful += end == HISTORY_IN_DOUBT;
    history_end(&w->history, item->op, end, 0, version_of(r));
    item->token = r->token;
}

/* --- Jobs ------------------------------------------------------------------------------------- */

static void job_start(struct job *job);
static void client_think(void *owner, uint64_t client);

void workload_call_over(struct workload *w, uint32_t client)
{
    KHO_ASSERT(w->calls_under_way > 0);
    w->calls_under_way--;
    w->idle = w->calls_left == 0 && w->calls_under_way == 0;
    if (w->calls_left > 0)
        sim_after(w->sim, 1 + dice_below(&w->dice[client], w->plan.think_ns * 2 + 1), client_think,
                  w, client);
}

static void job_over(struct job *job)
{
    workload_call_over(job->w, job->client);
    answer_fini(&job->answer);
    free(job);
}

/* Keeps of the job what is in doubt and shall be gone on with; false: nothing. */
static bool job_keep_doubtful(struct job *job)
{
    const struct answer *a = &job->answer;
    size_t kept = 0;
    for (size_t i = 0; i < job->count; i++) {
        if (a->results[i].outcome != KHO_IN_DOUBT || job->items[i].slot == SIZE_MAX ||
            !dice_chance(&job->w->dice[job->client], job->w->plan.retry_ppm))
            continue;
        job->items[kept] = job->items[i];
        job->items[kept++].again = true;
    }
    job->count = kept;
    return kept > 0;
}

static void job_again(void *owner, uint64_t arg)
{
    struct job *job = owner;
    (void)arg;
    job_start(job);
}

/* The job ends without results: `refused` by the call itself, so that nothing of it was done, or
 * lost with its client. */
static void job_lost(struct job *job, bool refused)
{
    for (size_t i = 0; i < job->count; i++) {
        bool nothing = job->verb == CLIENT_GET || job->verb == CLIENT_STAT ||
                       (refused && !job->items[i].again);
        history_end(&job->w->history, job->items[i].op, nothing ? HISTORY_NOT : HISTORY_IN_DOUBT, 0,
                    (struct version){0});
    }
    job_over(job);
}

static void job_done(struct answer *a, void *arg)
{
    struct job *job = arg;
    struct workload *w = job->w;
    bool read = job->verb == CLIENT_GET || job->verb == CLIENT_STAT;
    if (a->crashed || w->sim->failed) {
        job_lost(job, false);
        return;
    }
    uint64_t limit = a->begun_ns + job->deadline_ms * SIM_MS + 20 * SIM_MS;
    if (a->ended_ns > limit)
        sim_fail(w->sim, "client %u: a call with a deadline of %u ms took %llu ms", job->client,
                 job->deadline_ms, (unsigned long long)((a->ended_ns - a->begun_ns) / SIM_MS));
    if (a->count != job->count) {
        sim_fail(w->sim, "client %u: a batch of %zu records has %zu results", job->client,
                 job->count, a->count);
        job_lost(job, false);
        return;
    }
    for (size_t i = 0; i < job->count; i++) {
        const struct kho_result *r = &a->results[i];
        struct job_item *item = &job->items[i];
        sim_trace(w->sim,
                  "client %u: verb %d key %u value %llu: status %d outcome %d version %llu.%u",
                  job->client, (int)job->verb, item->history_key, (unsigned long long)item->value,
                  r->status, read ? 0 : (int)r->outcome, (unsigned long long)r->version.counter,
                  r->version.writer);
        if (read)
            read_end(w, &w->slots[item->slot], item->op, r, job->verb == CLIENT_STAT);
        else
            write_end(job, item, r);
    }
    if (!read && !w->sim->failed && job_keep_doubtful(job)) {
        answer_fini(a);
        sim_after(w->sim, 1 + dice_below(&w->dice[job->client], 300 * SIM_MS), job_again, job, 0);
        return;
    }
    job_over(job);
}

static void cancel_later(void *owner, uint64_t call)
{
    struct client_end *end = owner;
    if (end->client == NULL)
        return;
    client_cancel(end->client, call, client_end_now(end));
    client_end_turn_soon(end);
}

static void job_start(struct job *job)
{
    struct workload *w = job->w;
    struct client_end *end = &w->cluster->clients[job->client];
    struct trouble *cancel = &w->troubles[SIM_FAULT_cancel];
    struct kho_item items[WORKLOAD_BATCH_MAX];
    uint8_t *values[WORKLOAD_BATCH_MAX] = {0};
    if (w->sim->failed || end->client == NULL) {
        job_lost(job, true);
        return;
    }
    memset(items, 0, sizeof items);
    bool event = false;
    for (size_t i = 0; i < job->count; i++) {
        struct job_item *item = &job->items[i];
        if (item->slot != SIZE_MAX) {
            items[i].key = w->slots[item->slot].bytes;
            items[i].key_len = w->slots[item->slot].len;
            event = w->slots[item->slot].event;
        }
        if (job->verb == CLIENT_PUT || job->verb == CLIENT_APPEND)
            items[i].value = values[i] = value_make(w, item->value, &items[i].value_len);
        if (item->again)
            items[i].token = &item->token;
    }
    event |= job->verb == CLIENT_APPEND;
    job->answer = (struct answer){.then = job_done, .arg = job};
    int rc = answer_records(&job->answer, end, job->verb, event ? "events" : "records", items,
                            job->count, job->deadline_ms);
    for (size_t i = 0; i < job->count; i++)
        free(values[i]);
    if (rc == KHO_EBUSY || rc == KHO_ECLOSED) {
        job_lost(job, true);
    } else if (rc != 0) {
        sim_fail(w->sim, "client %u: verb %d refused: %d", job->client, (int)job->verb, rc);
        job_lost(job, true);
    } else if (!w->quiet && cancel->on && dice_below(&cancel->dice, 20) == 0) {
        sim_fault(w->sim, SIM_FAULT_cancel);
        sim_after(w->sim, dice_below(&cancel->dice, 5 * SIM_MS), cancel_later, end,
                  job->answer.call);
    }
}

static enum client_verb verb_draw(struct workload *w, struct kho_random *dice_of)
{
    const struct plan *p = &w->plan;
    uint64_t dice = dice_below(dice_of, 1000000);
    if (dice < p->read_ppm)
        return CLIENT_GET;
    dice -= p->read_ppm;
    if (dice < p->stat_ppm)
        return CLIENT_STAT;
    dice -= p->stat_ppm;
    if (dice < p->delete_ppm)
        return CLIENT_DEL;
    dice -= p->delete_ppm;
    return dice < p->append_ppm ? CLIENT_APPEND : CLIENT_PUT;
}

static void item_draw(struct workload *w, struct job *job, struct job_item *item, bool event)
{
    bool read = job->verb == CLIENT_GET || job->verb == CLIENT_STAT;
    *item = (struct job_item){.slot = SIZE_MAX};
    if (job->verb == CLIENT_APPEND) {
        item->history_key = history_key(&w->history);
    } else {
        /* The first slots are the records'. */
        size_t from = event ? w->plan.keys : 0;
        size_t count = event ? w->slot_count - w->plan.keys : w->plan.keys;
        item->slot = from + dice_below(&w->dice[job->client], count);
        item->history_key = w->slots[item->slot].history_key;
    }
    if (job->verb == CLIENT_PUT || job->verb == CLIENT_APPEND)
        item->value = value_new(w);
    item->op = history_begin(&w->history, item->history_key, job->client,
                             read ? HISTORY_READ : HISTORY_WRITE, item->value);
}

static void client_think(void *owner, uint64_t client)
{
    struct workload *w = owner;
    if (w->calls_left == 0 || w->sim->failed)
        return;
    if (w->cluster->clients[client].client == NULL) {
        sim_after(w->sim, 10 * SIM_MS, client_think, w, client);
        return;
    }
    w->calls_left--;
    w->calls_under_way++;
    w->calls_made++;
    if (dice_chance(&w->list_dice, w->plan.list_ppm)) {
        listing_start(w, (uint32_t)client);
        return;
    }
    struct job *job = calloc(1, sizeof *job);
    KHO_ASSERT(job != NULL);
    job->w = w;
    job->client = (uint32_t)client;
    job->verb = verb_draw(w, &w->dice[client]);
    job->count = 1 + dice_below(&w->dice[client], w->plan.batch_max);
    job->deadline_ms = w->plan.deadline_ms;
    bool event = job->verb != CLIENT_PUT && job->verb != CLIENT_DEL &&
                 w->slot_count > w->plan.keys && dice_below(&w->dice[client], 4) == 0;
    for (size_t i = 0; i < job->count; i++)
        item_draw(w, job, &job->items[i], event);
    job_start(job);
}

void workload_keys(struct workload *w)
{
    for (uint32_t i = 0; i < w->plan.keys; i++) {
        char key[16];
        int len = snprintf(key, sizeof key, "key-%u", i);
        slot_add(w, key, (size_t)len, history_key(&w->history), false);
    }
}

void workload_begin(struct workload *w)
{
    w->calls_left = w->plan.calls;
    for (uint32_t i = 0; i < w->plan.clients; i++)
        for (uint32_t d = 0; d < w->plan.depth; d++)
            sim_after(w->sim, dice_below(&w->dice[i], 10 * SIM_MS), client_think, w, i);
}

void workload_put(struct workload *w, struct client_end *end, const struct slot *slot, bool del)
{
    struct kho_item item = {.key = slot->bytes, .key_len = slot->len};
    struct answer a = {0};
    uint64_t value = del ? 0 : value_new(w);
    size_t op = history_begin(&w->history, slot->history_key, end->index, HISTORY_WRITE, value);
    uint8_t *bytes = del ? NULL : value_make(w, value, &item.value_len);
    item.value = bytes;
    int rc = answer_records(&a, end, del ? CLIENT_DEL : CLIENT_PUT,
                            slot->event ? "events" : "records", &item, 1, 10000);
    if (rc != 0 || !answer_wait(&a, end, 60 * SIM_S) || a.count != 1 || a.results[0].status != 0)
        sim_fail(w->sim, "all is healed: a %s of key %u fails (%d, %d)", del ? "delete" : "put",
                 slot->history_key, rc, a.count == 1 ? a.results[0].status : 0);
    else
        history_end(&w->history, op, HISTORY_OK, 0, version_of(&a.results[0]));
    free(bytes);
    answer_fini(&a);
}

void workload_put_all(struct workload *w, struct client_end *end)
{
    for (size_t i = 0; i < w->plan.keys && !w->sim->failed; i++)
        workload_put(w, end, &w->slots[i], false);
}
