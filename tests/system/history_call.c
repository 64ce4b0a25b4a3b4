/* history_call.c: what a call is told must fit what kho.h promises of an answer; what doesn't is
 * counted as odd and said. Whether answers fit each other is the checker's to find. */
#include "history_call.h"

#include <time.h>

enum { AGAIN_MAX = 6, AGAIN_MS = 300, COMPLAINTS = 20 };

uint64_t call_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void call_sleep_ms(uint64_t ms)
{
    struct timespec span = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&span, NULL);
}

/* --- Counting --------------------------------------------------------------------------------- */

static void count_status(struct tally *tally, int status, uint64_t times)
{
    for (size_t i = 0; i < STATUSES_MAX; i++) {
        if (tally->times[i] != 0 && tally->statuses[i] != status)
            continue;
        tally->statuses[i] = status;
        tally->times[i] += times;
        return;
    }
    KHO_ASSERT(!"there are more statuses than a tally has room for");
}

void tally_add(struct tally *to, const struct tally *from)
{
    to->calls += from->calls;
    to->operations += from->operations;
    to->acknowledged += from->acknowledged;
    to->refused += from->refused;
    to->doubtful += from->doubtful;
    to->resolved += from->resolved;
    to->read += from->read;
    to->absent += from->absent;
    to->unanswered += from->unanswered;
    to->wrong += from->wrong;
    to->odd += from->odd;
    to->slowest = from->slowest > to->slowest ? from->slowest : to->slowest;
    for (size_t i = 0; i < STATUSES_MAX && from->times[i] != 0; i++)
        count_status(to, from->statuses[i], from->times[i]);
}

void tally_print(const struct tally *t)
{
    const struct {
        const char *name;
        uint64_t count;
    } rows[] = {
        {"calls", t->calls},       {"operations", t->operations},
        {"refused", t->refused},   {"acknowledged", t->acknowledged},
        {"doubtful", t->doubtful}, {"resolved", t->resolved},
        {"read", t->read},         {"absent", t->absent},
        {"wrong", t->wrong},       {"unanswered", t->unanswered},
        {"odd", t->odd},
    };
    for (size_t i = 0; i < KHO_COUNT_OF(rows); i++)
        printf("\"%s\": %llu, ", rows[i].name, (unsigned long long)rows[i].count);
    printf("\"slowest\": %.3f, \"statuses\": {", t->slowest);
    for (size_t i = 0; i < STATUSES_MAX && t->times[i] != 0; i++) {
        const char *name = kho_error_name(t->statuses[i]);
        printf("%s\"%s\": %llu", i > 0 ? ", " : "", name != NULL ? name : "errno",
               (unsigned long long)t->times[i]);
    }
    printf("}");
}

static void complain(struct caller *caller, const struct call_item *item, const char *what,
                     int status)
{
    if (caller->tally.odd++ < COMPLAINTS)
        fprintf(stderr, "client %u, op %llu: %s: %s\n", caller->number,
                (unsigned long long)item->op, what, kho_strerror(status));
}

/* --- Lines ------------------------------------------------------------------------------------ */

static bool is_read(enum history_verb verb)
{
    return verb == HISTORY_GET || verb == HISTORY_STAT || verb == HISTORY_LIST;
}

static struct history_line line_of(const struct caller *caller, enum history_verb verb,
                                   const struct call_item *item, uint64_t at_ns)
{
    struct history_line line = {.op = item->op,
                                .at_ns = at_ns,
                                .value = item->value_id,
                                .hash = item->hash,
                                .client = caller->number,
                                .verb = (uint8_t)verb,
                                .outcome = HISTORY_BEGUN,
                                .key_len = (uint8_t)item->key_len};
    memcpy(line.key, item->key, item->key_len);
    return line;
}

static void begin(struct caller *caller, struct call *call)
{
    struct history_line lines[CALL_ITEMS_MAX];
    for (size_t i = 0; i < call->count; i++) {
        struct call_item *item = &call->items[i];
        item->op = atomic_fetch_add(caller->next_op, 1);
        item->value_id = item->hash = 0;
        item->value = NULL;
        item->again = false;
        if (call->verb == HISTORY_PUT || call->verb == HISTORY_APPEND) {
            item->value_id = atomic_fetch_add(caller->next_value, 1);
            item->value = history_value_make(item->value_id, caller->value_max, &item->value_len);
            item->hash = history_value_hash(item->value, item->value_len);
        }
        lines[i] = line_of(caller, call->verb, item, call_clock_ns());
    }
    history_file_append(caller->file, lines, call->count);
    caller->tally.operations += call->count;
}

/* --- What was told ---------------------------------------------------------------------------- */

static void told(struct history_line *line, const struct kho_result *r)
{
    line->status = r->status;
    line->counter = r->version.counter;
    line->writer = r->version.writer;
}

static void read_told(struct caller *caller, struct history_line *line, struct call_item *item,
                      const struct kho_result *r)
{
    struct tally *tally = &caller->tally;
    told(line, r);
    item->status = r->status;
    if (r->status != 0 && r->status != KHO_ENOTFOUND) {
        line->outcome = HISTORY_REFUSED;
        tally->unanswered++;
        count_status(tally, r->status, 1);
        return;
    }
    line->outcome = HISTORY_DONE;
    tally->absent += r->status != 0;
    tally->read += r->status == 0;
    if (r->status != 0)
        return;
    line->hash = kho_load64(r->hash);
    if (line->verb == HISTORY_STAT)
        return;
    line->value = history_value_id(r->value, r->value_len, caller->value_max);
    if (line->value == 0 || line->hash != history_value_hash(r->value, r->value_len)) {
        line->outcome = HISTORY_WRONG;
        tally->wrong++;
        fprintf(stderr, "client %u, op %llu: bytes that nobody wrote\n", caller->number,
                (unsigned long long)line->op);
    }
}

static void write_told(struct caller *caller, struct history_line *line, struct call_item *item,
                       const struct kho_result *r)
{
    struct tally *tally = &caller->tally;
    bool before = item->again;
    told(line, r);
    item->status = r->status;
    item->again = r->outcome == KHO_IN_DOUBT;
    line->outcome = r->outcome == KHO_APPLIED       ? HISTORY_DONE
                    : r->outcome == KHO_NOT_APPLIED ? HISTORY_REFUSED
                                                    : HISTORY_DOUBTFUL;
    if ((r->outcome == KHO_APPLIED) != (r->status == 0) ||
        (r->outcome == KHO_IN_DOUBT && r->status != KHO_EINDOUBT))
        complain(caller, item, "a status that doesn't fit its outcome", r->status);
    if (line->verb == HISTORY_APPEND && item->key_len == 0 && r->key != NULL && r->key_len == 16) {
        memcpy(item->key, r->key, 16);
        memcpy(line->key, r->key, 16);
        item->key_len = line->key_len = 16;
    }
    if (r->outcome == KHO_APPLIED && item->key_len == 0)
        complain(caller, item, "an append that was acknowledged without a key", r->status);
    if (r->outcome == KHO_APPLIED && line->counter == 0)
        complain(caller, item, "a write that was acknowledged without a version", r->status);
    if (item->again)
        item->token = r->token;
    tally->acknowledged += r->outcome == KHO_APPLIED;
    tally->refused += r->outcome == KHO_NOT_APPLIED;
    tally->doubtful += item->again && !before;
    tally->doubtful -= !item->again && before;
    tally->resolved += !item->again && before;
    if (r->status != 0)
        count_status(tally, r->status, 1);
}

/* The call itself was refused: nothing of it was done now. */
static void call_refused(struct caller *caller, const struct call *call, int error)
{
    struct history_line lines[CALL_ITEMS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < call->count; i++) {
        if (call->items[i].again)
            continue; /* as doubtful as it was */
        lines[count] = line_of(caller, call->verb, &call->items[i], call_clock_ns());
        lines[count].outcome = HISTORY_REFUSED;
        lines[count++].status = error;
        caller->tally.refused += !is_read(call->verb);
        caller->tally.unanswered += is_read(call->verb);
    }
    count_status(&caller->tally, error, 1);
    if (count > 0)
        history_file_append(caller->file, lines, count);
}

/* --- Calls ------------------------------------------------------------------------------------ */

static int call_make(struct caller *caller, const struct call *call, struct kho_results **results)
{
    typedef int (*verb_call)(struct kho_blocking *, const char *, const struct kho_item *, size_t,
                             uint32_t, struct kho_results **);
    static const verb_call verbs[] = {[HISTORY_PUT] = kho_blocking_put,
                                      [HISTORY_DEL] = kho_blocking_del,
                                      [HISTORY_APPEND] = kho_blocking_append,
                                      [HISTORY_GET] = kho_blocking_get,
                                      [HISTORY_STAT] = kho_blocking_stat};
    struct kho_item items[CALL_ITEMS_MAX];
    memset(items, 0, sizeof items);
    for (size_t i = 0; i < call->count; i++) {
        const struct call_item *item = &call->items[i];
        items[i] = (struct kho_item){.key = item->key_len > 0 ? item->key : NULL,
                                     .key_len = item->key_len,
                                     .value = item->value,
                                     .value_len = item->value != NULL ? item->value_len : 0,
                                     .token = item->again ? &item->token : NULL};
    }
    return verbs[call->verb](caller->client, caller->collection, items, call->count,
                             caller->deadline_ms, results);
}

/* One attempt. False: the call was refused. */
static bool attempt(struct caller *caller, struct call *call)
{
    struct history_line lines[CALL_ITEMS_MAX];
    struct kho_results *results = NULL;
    uint64_t begun = call_clock_ns();
    int error = call_make(caller, call, &results);
    uint64_t ended = call_clock_ns();
    double took = (double)(ended - begun) / 1e9;
    caller->tally.calls++;
    caller->tally.slowest = took > caller->tally.slowest ? took : caller->tally.slowest;
    if (error == 0 && results->count != call->count) {
        complain(caller, &call->items[0], "another count of results than of items", 0);
        error = KHO_EINTERNAL;
    }
    if (error != 0) {
        call_refused(caller, call, error);
        kho_results_free(results);
        return false;
    }
    for (size_t i = 0; i < call->count; i++) {
        lines[i] = line_of(caller, call->verb, &call->items[i], ended);
        if (is_read(call->verb))
            read_told(caller, &lines[i], &call->items[i], &results->records[i]);
        else
            write_told(caller, &lines[i], &call->items[i], &results->records[i]);
    }
    kho_results_free(results);
    history_file_append(caller->file, lines, call->count);
    return true;
}

/* Keeps what is in doubt and shall be gone on with. */
static void keep_doubtful(struct caller *caller, struct call *call)
{
    size_t kept = 0;
    for (size_t i = 0; i < call->count; i++) {
        struct call_item *item = &call->items[i];
        bool again = item->again && item->key_len > 0 && kho_random_below(&caller->random, 3) > 0;
        if (again)
            call->items[kept++] = *item;
        else
            free(item->value);
    }
    call->count = kept;
}

void call_run(struct caller *caller, struct call *call)
{
    struct call again;
    begin(caller, call);
    bool went = attempt(caller, call);
    again = *call;
    for (int tries = 0; went && tries < AGAIN_MAX; tries++) {
        keep_doubtful(caller, &again);
        if (again.count == 0)
            break;
        call_sleep_ms(kho_random_below(&caller->random, AGAIN_MS));
        went = attempt(caller, &again);
    }
    for (size_t i = 0; i < again.count; i++)
        free(again.items[i].value);
}

void call_listed(struct caller *caller, uint64_t begun_ns, const uint8_t *key, size_t key_len,
                 const struct kho_result *r)
{
    static const struct kho_result none = {.status = KHO_ENOTFOUND};
    struct call_item item = {.key_len = key_len, .op = atomic_fetch_add(caller->next_op, 1)};
    struct history_line lines[2];
    memcpy(item.key, key, key_len);
    lines[0] = line_of(caller, HISTORY_LIST, &item, begun_ns);
    lines[1] = line_of(caller, HISTORY_LIST, &item, call_clock_ns());
    read_told(caller, &lines[1], &item, r != NULL ? r : &none);
    history_file_append(caller->file, lines, 2);
    caller->tally.operations++;
}
