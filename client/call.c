/* call.c: what every call has: an id, one timer, an end that is told once.
 *
 * It owns the table of calls by id and the timers. call_begin reserves a place in both, so that
 * nothing later can fail for want of memory. The happy path: begin, timers as the kind likes,
 * end, delivered by client_next_done, released. */
#include "core.h"

/* --- Table ------------------------------------------------------------------------------------ */

/* Room for one more call in table and heap. */
static int call_reserve(struct client *client)
{
    struct call_table *table = &client->table;
    if (table->free_count > 0)
        return 0;
    uint32_t capacity = table->capacity == 0 ? 64 : table->capacity * 2;
    struct call **slots = (struct call **)client_allocate_zeroed(client, capacity * sizeof *slots);
    struct call **heap = (struct call **)client_allocate_zeroed(client, capacity * sizeof *heap);
    uint32_t *serials = (uint32_t *)client_allocate_zeroed(client, capacity * sizeof *serials);
    uint32_t *frees = (uint32_t *)client_allocate_zeroed(client, capacity * sizeof *frees);
    if (slots == NULL || heap == NULL || serials == NULL || frees == NULL) {
        client_release(client, slots);
        client_release(client, heap);
        client_release(client, serials);
        client_release(client, frees);
        return -ENOMEM;
    }
    if (table->capacity > 0) {
        memcpy(slots, table->slots, table->capacity * sizeof *slots);
        memcpy(serials, table->serials, table->capacity * sizeof *serials);
        memcpy(heap, client->timers.heap, client->timers.count * sizeof *heap);
    }
    client_release(client, table->slots);
    client_release(client, table->serials);
    client_release(client, table->free_slots);
    client_release(client, client->timers.heap);
    for (uint32_t i = capacity; i > table->capacity; i--)
        frees[table->free_count++] = i - 1;
    table->slots = slots;
    table->serials = serials;
    table->free_slots = frees;
    table->capacity = capacity;
    client->timers.heap = heap;
    client->timers.capacity = capacity;
    return 0;
}

static struct call *call_find(const struct client *client, kho_call_id id)
{
    uint32_t slot = (uint32_t)id - 1;
    if ((uint32_t)id == 0 || slot >= client->table.capacity ||
        client->table.serials[slot] != (uint32_t)(id >> 32))
        return NULL;
    return client->table.slots[slot];
}

int call_begin(struct client *client, struct call *call, const struct call_kind *kind,
               enum client_verb verb, uint32_t deadline_ms, void *context, struct kho_now now)
{
    struct call_table *table = &client->table;
    if (client->closing)
        return KHO_ECLOSED;
    if (call_reserve(client) != 0)
        return -ENOMEM;
    uint32_t ms = deadline_ms == 0 ? client->default_deadline_ms : deadline_ms;
    call->kind = kind;
    call->slot = table->free_slots[--table->free_count];
    call->timer_index = UINT32_MAX;
    call->timer_ns = CLIENT_NEVER;
    queue_init(&call->timer_link);
    call->deadline_ns = deadline_ms == CLIENT_NO_DEADLINE
                            ? CLIENT_NEVER
                            : now.mono_ns + (uint64_t)ms * CLIENT_MS_NS;
    call->ended = false;
    call->lasting = false;
    table->slots[call->slot] = call;
    table->serials[call->slot]++;
    call->done.verb = verb;
    call->done.call = (uint64_t)table->serials[call->slot] << 32 | (call->slot + 1);
    call->done.context = context;
    call->done.last = true;
    queue_push(&client->calls, &call->link);
    call_timer_set(client, call, call->deadline_ns);
    return 0;
}

void call_forget(struct client *client, struct call *call)
{
    struct call_table *table = &client->table;
    KHO_ASSERT(table->slots[call->slot] == call);
    call_timer_set(client, call, CLIENT_NEVER);
    table->slots[call->slot] = NULL;
    table->free_slots[table->free_count++] = call->slot;
}

void call_end(struct client *client, struct call *call, int status)
{
    KHO_ASSERT(!call->ended);
    call->ended = true;
    call->done.status = status;
    call->done.last = true;
    call_timer_set(client, call, CLIENT_NEVER);
    queue_remove(&call->link);
    queue_push(&client->ended, &call->link);
}

void client_cancel(struct client *client, kho_call_id id, struct kho_now now)
{
    struct call *call = call_find(client, id);
    if (call != NULL && !call->ended)
        call->kind->cancel(client, call, now);
}

/* --- Progress --------------------------------------------------------------------------------- */

static void progress_release(struct client *client, struct call *call)
{
    client_release(client, call);
}

static const struct call_kind progress_kind = {.release = progress_release};

void call_progress(struct client *client, struct call *call)
{
    struct call *progress = (struct call *)client_allocate_zeroed(client, sizeof *progress);
    if (progress == NULL)
        return;
    progress->kind = &progress_kind;
    progress->ended = true;
    progress->lasting = true; /* it has no place in the table */
    progress->done = call->done;
    progress->done.last = false;
    queue_push(&client->ended, &progress->link);
}

/* --- Timers: the earliest first, equal ones in the order of call ids -----------------------------
 */

static bool timer_before(const struct call *a, const struct call *b)
{
    if (a->timer_ns != b->timer_ns)
        return a->timer_ns < b->timer_ns;
    return a->done.call < b->done.call;
}

static void timer_put(struct call_timers *timers, uint32_t at, struct call *call)
{
    timers->heap[at] = call;
    call->timer_index = at;
}

static void timer_up(struct call_timers *timers, uint32_t at, struct call *call)
{
    while (at > 0 && timer_before(call, timers->heap[(at - 1) / 2])) {
        timer_put(timers, at, timers->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    timer_put(timers, at, call);
}

static void timer_down(struct call_timers *timers, uint32_t at, struct call *call)
{
    for (;;) {
        uint32_t child = at * 2 + 1;
        if (child + 1 < timers->count && timer_before(timers->heap[child + 1], timers->heap[child]))
            child++;
        if (child >= timers->count || !timer_before(timers->heap[child], call))
            break;
        timer_put(timers, at, timers->heap[child]);
        at = child;
    }
    timer_put(timers, at, call);
}

static void timer_clear(struct call_timers *timers, struct call *call)
{
    uint32_t at = call->timer_index;
    if (at == UINT32_MAX) {
        queue_remove(&call->timer_link);
        return;
    }
    struct call *last = timers->heap[--timers->count];
    call->timer_index = UINT32_MAX;
    if (last != call) {
        timer_up(timers, at, last);
        timer_down(timers, last->timer_index, last);
    }
}

void call_timer_set(struct client *client, struct call *call, uint64_t mono_ns)
{
    struct call_timers *timers = &client->timers;
    if (mono_ns == call->timer_ns)
        return;
    if (call->timer_ns != CLIENT_NEVER)
        timer_clear(timers, call);
    call->timer_ns = mono_ns;
    if (mono_ns == CLIENT_NEVER)
        return;
    struct call *last = KHO_CONTAINER_OF(timers->run.prev, struct call, timer_link);
    if (queue_empty(&timers->run) || !timer_before(call, last)) {
        queue_push(&timers->run, &call->timer_link);
        return;
    }
    KHO_ASSERT(timers->count < timers->capacity);
    timer_up(timers, timers->count++, call);
}

static struct call *timers_first(const struct call_timers *timers)
{
    struct call *heaped = timers->count > 0 ? timers->heap[0] : NULL;
    if (queue_empty(&timers->run))
        return heaped;
    struct call *first = KHO_CONTAINER_OF(timers->run.next, struct call, timer_link);
    return heaped != NULL && timer_before(heaped, first) ? heaped : first;
}

void call_timers_run(struct client *client, struct kho_now now)
{
    struct call *call;
    while ((call = timers_first(&client->timers)) != NULL && call->timer_ns <= now.mono_ns) {
        call_timer_set(client, call, CLIENT_NEVER);
        call->kind->timer(client, call, now);
    }
}

uint64_t call_timers_next(const struct client *client)
{
    const struct call *first = timers_first(&client->timers);
    return first == NULL ? CLIENT_NEVER : first->timer_ns;
}
