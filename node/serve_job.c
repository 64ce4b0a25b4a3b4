/* serve_job.c: requests that go on over several turns (READ, LIST, DIGEST), and the slots of the
 * reads that they have under way.
 *
 * Happy path: a job runs in steps, connection by connection, until it has issued all its reads or
 * written all its entries; its reads come back in any order and end it. A step stops where the
 * turn's units are used up (the shard then asks for another turn at once), where the connection's
 * answers wait to be taken, where those of all connections fill the share, or where all read slots
 * are in use. A job whose map is no longer in
 * force, or whose connection is gone, stops issuing and ends when its reads have. */
#include "serve.h"

#include <errno.h>

/* A small record pins the block that it lies in. */
enum { SLOT_BLOCK_BYTES = 16 << 10 };
static const uint64_t PINNED_MIN = 20u << 20;

int serve_jobs_init(struct serve *serve)
{
    size_t bytes = sizeof *serve->slots * SERVE_READS_MAX;
    serve->slots = world_allocate(serve->world, bytes, 0);
    if (serve->slots == NULL)
        return -ENOMEM;
    memset(serve->slots, 0, bytes);
    for (int i = 0; i < SERVE_READS_MAX; i++) {
        queue_init(&serve->slots[i].link);
        queue_push(&serve->free_slots, &serve->slots[i].link);
    }
    serve->slots_free = SERVE_READS_MAX;
    serve->pinned_max = kho_max(serve->world->memory_max / 8, PINNED_MIN);
    return 0;
}

void serve_jobs_fini(struct serve *serve)
{
    world_release(serve->world, serve->slots, sizeof *serve->slots * SERVE_READS_MAX);
    serve->slots = NULL;
}

/* --- Slots ------------------------------------------------------------------------------------ */

/* What an answer of so many bytes takes of the share, in whole buffers. */
static uint32_t slot_charge(uint32_t expected)
{
    uint32_t bytes = expected + 2 * KHO_FRAME_HEAD;
    if (bytes > SHARE_BUFFER_MIDDLE)
        return SHARE_BUFFER_LARGE;
    return bytes > SHARE_BUFFER_MIDDLE / 2 ? SHARE_BUFFER_MIDDLE : bytes;
}

struct read_slot *slot_begin(struct request *request, uint32_t record_bytes, uint32_t expected,
                             enum job_result *ret_why)
{
    struct conn *conn = request->conn;
    struct serve *serve = serve_of(conn);
    uint32_t pinned = record_bytes + SLOT_BLOCK_BYTES;
    uint64_t coming = conn->unsent + conn->expected;
    /* A LIST writes in order: what has arrived behind its first read counts, too. */
    bool full = request->type == WIRE_LIST ? request->slots >= SERVE_LIST_WINDOW
                                           : request->reads >= SERVE_READS_PER_REQUEST;
    if (full || (coming > 0 && coming + expected + WIRE_READ_ANSWER > CONN_UNSENT_MAX)) {
        *ret_why = JOB_BLOCKED;
        return NULL;
    }
    uint32_t charged = slot_charge(expected + WIRE_READ_ANSWER);
    if (serve->slots_free == 0 || !serve_may_write(serve, charged) ||
        (serve->pinned > 0 && serve->pinned + pinned > serve->pinned_max)) {
        *ret_why = JOB_STARVED;
        return NULL;
    }
    struct queue *link = queue_pop(&serve->free_slots);
    struct read_slot *slot = KHO_CONTAINER_OF(link, struct read_slot, link);
    serve->slots_free--;
    memset(slot, 0, sizeof *slot);
    queue_init(&slot->link);
    slot->request = request;
    slot->pinned = pinned;
    slot->expected = expected + WIRE_READ_ANSWER;
    slot->charged = charged;
    slot->read.owner = slot;
    serve->pinned += pinned;
    serve->charged += charged;
    conn->expected += slot->expected;
    request->reads++;
    request->slots++;
    return slot;
}

void slot_arrived(struct read_slot *slot)
{
    struct request *request = slot->request;
    if (slot->arrived)
        return;
    KHO_ASSERT(request->reads > 0 && request->conn->expected >= slot->expected);
    slot->arrived = true;
    request->reads--;
    request->conn->expected -= slot->expected;
    serve_ready(request->conn);
}

void slot_end(struct read_slot *slot)
{
    struct serve *serve = serve_of(slot->request->conn);
    slot_arrived(slot);
    if (slot->reading)
        store_read_end(serve->store, &slot->read);
    slot->reading = false;
    KHO_ASSERT(serve->pinned >= slot->pinned && serve->charged >= slot->charged);
    serve->pinned -= slot->pinned;
    serve->charged -= slot->charged;
    queue_remove(&slot->link);
    queue_push_front(&serve->free_slots, &slot->link);
    serve->slots_free++;
    KHO_ASSERT(slot->request->slots > 0);
    slot->request->slots--;
    serve->slot_ended = true;
    serve_ready(slot->request->conn);
    slot->request = NULL;
}

/* --- Jobs ------------------------------------------------------------------------------------- */

void serve_ready(struct conn *conn)
{
    bool work = !queue_empty(&conn->jobs) || conn->large != NULL;
    /* Its own reads or sends may be all that a starved connection needs, and it may hold slots. */
    if (work && conn->starved)
        queue_remove(&conn->work);
    conn->starved = false;
    if (work && queue_empty(&conn->work))
        queue_push(&serve_of(conn)->work, &conn->work);
}

void job_begin(struct request *request)
{
    queue_push(&request->conn->jobs, &request->link);
    serve_ready(request->conn);
}

bool job_settle(struct request *request)
{
    if (request->refused == 0 || request->reads > 0 || request->large != NULL)
        return false;
    request_answer(request, request->refused);
    request_end(request);
    return true;
}

void job_stop(struct request *request, int32_t status)
{
    struct queue *link = request->window.next;
    queue_remove(&request->link);
    if (request->refused == 0)
        request->refused = status;
    while (link != &request->window) {
        struct queue *next = link->next;
        struct read_slot *slot = KHO_CONTAINER_OF(link, struct read_slot, link);
        if (slot->arrived)
            slot_end(slot);
        else
            queue_remove(link);
        link = next;
    }
    job_settle(request);
}

static enum job_result job_step(struct request *request)
{
    if (serve_epoch(serve_of(request->conn)) != request->epoch) {
        job_stop(request, KHO_EEPOCHOLD);
        return JOB_DONE;
    }
    if (request->type == WIRE_READ)
        return serve_read_step(request);
    if (request->type == WIRE_LIST)
        return serve_list_step(request);
    return serve_digest_step(request);
}

/* One round over the connection's jobs: each goes as far as it can. */
static enum job_result conn_work(struct conn *conn)
{
    struct queue round, *link;
    enum job_result result = serve_read_pump(conn) ? JOB_DONE : JOB_STARVED;
    queue_init(&round);
    queue_append_all(&round, &conn->jobs);
    while (result != JOB_UNITS && (link = queue_pop(&round)) != NULL) {
        struct request *request = KHO_CONTAINER_OF(link, struct request, link);
        queue_push(&conn->jobs, link);
        enum job_result one = job_step(request);
        if (one == JOB_STARVED || one == JOB_UNITS)
            result = one;
    }
    /* Those that had no turn come first in the next round. */
    queue_append_all(&round, &conn->jobs);
    queue_append_all(&conn->jobs, &round);
    return result;
}

void serve_work(struct serve *serve)
{
    struct queue *link;
    serve->slot_ended = false;
    if (serve->slots_free > 0 || serve_may_write(serve, SHARE_BUFFER_LARGE))
        queue_append_all(&serve->work, &serve->starved);
    /* A connection that is starved or made ready meanwhile comes again in the next turn. */
    struct queue round;
    queue_init(&round);
    queue_append_all(&round, &serve->work);
    while (serve->units > 0 && (link = queue_pop(&round)) != NULL) {
        struct conn *conn = KHO_CONTAINER_OF(link, struct conn, work);
        conn->starved = false;
        enum job_result result = conn_work(conn);
        if (result == JOB_STARVED) {
            queue_remove(&conn->work);
            queue_push(&serve->starved, &conn->work);
            conn->starved = true;
        } else if (result == JOB_UNITS) {
            serve_ready(conn);
        }
    }
    if (!queue_empty(&round)) {
        queue_append_all(&round, &serve->work);
        queue_append_all(&serve->work, &round);
    }
}
