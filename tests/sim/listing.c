/* listing.c: a listing's pages one after the other, and its judgement. */
#include "listing.h"

enum { PAGE_MAX = 24 };

static struct listed *listed_of(struct listing *l, uint32_t key)
{
    if (key >= l->room) {
        size_t room = key + 64;
        l->listed = realloc(l->listed, room * sizeof *l->listed);
        KHO_ASSERT(l->listed != NULL);
        memset(l->listed + l->room, 0, (room - l->room) * sizeof *l->listed);
        l->room = room;
    }
    return &l->listed[key];
}

void listing_add(struct listing *l, const struct kho_result *r)
{
    struct workload *w = l->w;
    if (r->status == KHO_EDAMAGED && r->key == NULL) {
        l->damaged++;
        return;
    }
    const struct slot *slot = NULL;
    for (size_t i = 0; i < w->slot_count && slot == NULL; i++)
        if (w->slots[i].len == r->key_len && memcmp(w->slots[i].bytes, r->key, r->key_len) == 0)
            slot = &w->slots[i];
    if (r->status != 0) {
        sim_fail(w->sim, "list tells a record with status %d", r->status);
        return;
    }
    if (slot == NULL)
        return; /* an append whose end its client wasn't told of yet */
    if (slot->event != l->event) {
        sim_fail(w->sim, "list tells key %u of another collection", slot->history_key);
        return;
    }
    struct listed *listed = listed_of(l, slot->history_key);
    listed->times++;
    listed->page_ns = l->page_ns;
    listed->version = (struct version){.counter = r->version.counter, .writer = r->version.writer};
    if (r->value != NULL)
        listed->value = value_check(w, slot, r->value, r->value_len);
    w->checked.listed++;
}

/* --- The judgement ---------------------------------------------------------------------------- */

/* What the history says of a key. */
struct expected {
    struct version before; /* the highest told before the listing began… */
    uint64_t value;        /* …and its value, 0: deleted */
    struct version at_page;
    bool written, deleted; /* by a write that may have taken effect behind `before` */
};

/* What was told before the listing, or before its page. */
static void expect_told(struct listing *l, struct expected *e, const struct history_op *op)
{
    const struct listed *listed = listed_of(l, op->key);
    if (op->end != HISTORY_OK)
        return;
    if (op->ended_ns < l->begun_ns && version_compare(op->version, e->before) > 0) {
        e->before = op->version;
        e->value = op->value;
    }
    if (op->ended_ns < listed->page_ns)
        e->at_page = version_max(e->at_page, op->version);
    if (listed->times > 0 && listed->value != 0 && op->value != listed->value &&
        version_compare(op->version, listed->version) == 0)
        sim_fail(l->w->sim, "list tells value %llu of key %u version %llu.%u, others %llu",
                 (unsigned long long)listed->value, op->key,
                 (unsigned long long)op->version.counter, op->version.writer,
                 (unsigned long long)op->value);
}

static void expect_writes(struct expected *e, const struct history_op *op)
{
    if (op->kind != HISTORY_WRITE || op->end == HISTORY_NOT ||
        (op->end == HISTORY_OK && version_compare(op->version, e->before) <= 0))
        return;
    e->deleted |= op->value == 0;
    e->written |= op->value != 0;
}

/* Returns true if the key is missing. */
static bool judge_key(struct listing *l, uint32_t key, const struct expected *e)
{
    const struct listed *listed = listed_of(l, key);
    struct sim *sim = l->w->sim;
    bool told = !version_is_zero(e->before);
    if (listed->times > 1)
        sim_fail(sim, "list tells key %u %u times", key, listed->times);
    else if (listed->times == 1 && version_compare(listed->version, e->at_page) < 0)
        sim_fail(sim,
                 "list tells version %llu.%u of key %u, and %llu.%u was told before its page was "
                 "asked for",
                 (unsigned long long)listed->version.counter, listed->version.writer, key,
                 (unsigned long long)e->at_page.counter, e->at_page.writer);
    else if (listed->times == 1 && (!told || e->value == 0) && !e->written)
        sim_fail(sim, "list tells key %u, which was %s", key, told ? "deleted" : "never written");
    return listed->times == 0 && told && e->value != 0 && !e->deleted;
}

void listing_judge(struct listing *l)
{
    struct workload *w = l->w;
    const struct history *h = &w->history;
    struct expected *expected = calloc(h->keys + 1, sizeof *expected);
    KHO_ASSERT(expected != NULL);
    for (size_t i = 0; i < h->count; i++)
        expect_told(l, &expected[h->ops[i].key], &h->ops[i]);
    for (size_t i = 0; i < h->count; i++)
        expect_writes(&expected[h->ops[i].key], &h->ops[i]);
    uint32_t missing = 0, first = 0;
    for (size_t i = 0; i < w->slot_count && !w->sim->failed; i++) {
        uint32_t key = w->slots[i].history_key;
        if (w->slots[i].event != l->event || !judge_key(l, key, &expected[key]))
            continue;
        first = missing++ == 0 ? key : first;
    }
    if (missing > l->damaged && !w->sim->failed)
        sim_fail(w->sim,
                 "list doesn't tell key %u, which was there before it began (%u missing, %u "
                 "damaged)",
                 first, missing, l->damaged);
    free(expected);
    w->checked.lists++;
}

/* --- The pages -------------------------------------------------------------------------------- */

void listing_fini(struct listing *l)
{
    answer_fini(&l->answer);
    free(l->listed);
}

static void listing_over(struct listing *l)
{
    struct workload *w = l->w;
    uint32_t client = l->client;
    listing_fini(l);
    free(l);
    workload_call_over(w, client);
}

static void page_ask(struct listing *l);

static void page_next(void *owner, uint64_t arg)
{
    (void)arg;
    page_ask(owner);
}

static void page_done(struct answer *a, void *arg)
{
    struct listing *l = arg;
    struct workload *w = l->w;
    if (a->crashed || w->sim->failed || a->status != 0) {
        listing_over(l); /* what was told so far promises nothing */
        return;
    }
    for (size_t i = 0; i < a->count && !w->sim->failed; i++)
        listing_add(l, &a->results[i]);
    l->cursor = a->next;
    bool last = a->list_done != 0;
    answer_fini(a);
    if (!last) {
        sim_after(w->sim, dice_below(&w->list_dice, 20 * SIM_MS), page_next, l, 0);
        return;
    }
    if (!w->sim->failed)
        listing_judge(l);
    listing_over(l);
}

static void page_ask(struct listing *l)
{
    struct workload *w = l->w;
    struct client_end *end = &w->cluster->clients[l->client];
    l->page_ns = w->sim->now_ns;
    l->answer = (struct answer){.then = page_done, .arg = l};
    if (w->sim->failed || end->client == NULL ||
        answer_list(&l->answer, end, l->event ? "events" : "records", &l->cursor, l->limit,
                    l->flags, w->plan.deadline_ms) != 0)
        listing_over(l);
}

void listing_start(struct workload *w, uint32_t client)
{
    struct listing *l = calloc(1, sizeof *l);
    KHO_ASSERT(l != NULL);
    *l = (struct listing){.w = w,
                          .client = client,
                          .event = dice_below(&w->list_dice, 3) == 0,
                          .begun_ns = w->sim->now_ns,
                          .limit = 1 + dice_below(&w->list_dice, PAGE_MAX),
                          .flags = dice_below(&w->list_dice, 2) == 0 ? KHO_LIST_WITH_VALUES : 0};
    page_ask(l);
}
