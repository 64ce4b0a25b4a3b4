/* request.c: requests on a session, from waiting to the last frame of the answer.
 *
 * It owns the table of ways (requests under way by id) and what an answer means for the session.
 * The happy path: request_send queues; pack.c takes a way and sends; request_answered finds the way
 * by the answer's id, hands each frame on, and ends the request with the last.
 *
 * How it fails: an answer that nobody asked for, or whose hash differs, breaks the session. A
 * request that is dropped leaves its way in use until the answer has come, so that an id is never
 * mistaken. An id is serial * SESSION_WAYS + way. */
#include "item.h"
#include "session.h"

static void request_finish(struct client *client, struct request *request, int status,
                           struct kho_now now)
{
    request->session = NULL;
    request->sent = false;
    request->end(client, request, status, now);
}

void request_send_on(struct client *client, struct request *request, struct session *session,
                     struct kho_now now)
{
    (void)client;
    (void)now;
    KHO_ASSERT(request->session == NULL && request->end != NULL);
    KHO_ASSERT(request->body_len <= KHO_FRAME_MAX - KHO_FRAME_HEAD);
    request->session = session;
    request->sent = false;
    session->pending_deadline_ns = kho_min(session->pending_deadline_ns, request->deadline_ns);
    queue_push(request->type == WIRE_WRITE_LARGE ? &session->larges : &session->pending,
               &request->link);
}

int request_send(struct client *client, struct request *request, uint32_t node, uint32_t shard,
                 struct kho_now now)
{
    struct session *session = route_session(client, node, shard, now);
    if (session == NULL)
        return -ENOMEM;
    request_send_on(client, request, session, now);
    return 0;
}

void request_drop(struct client *client, struct request *request)
{
    (void)client;
    struct session *session = request->session;
    if (session == NULL)
        return;
    if (request->sent)
        session->ways[request->way].request = NULL;
    else
        queue_remove(&request->link);
    request->session = NULL;
    request->sent = false;
}

/* --- Ways ------------------------------------------------------------------------------------- */

struct way *request_way(struct session *session, struct request *request, uint32_t bytes,
                        bool batch, struct kho_now now)
{
    if (session->way_count == SESSION_WAYS)
        return NULL;
    uint32_t at = 0;
    while (session->ways[at].used)
        at++;
    if (session->way_count == 0) {
        session->asked_ns = now.mono_ns;
        session->asking_send = session->send_serial + 1;
    }
    session->way_count++;
    session->batch_count += batch;
    session->bytes_under_way += bytes;
    session->ways[at] = (struct way){
        .request = request,
        .id = ++session->request_serial * SESSION_WAYS + at,
        .sent_ns = now.mono_ns,
        .bytes = bytes,
        .type = request->type,
        .used = true,
        .batch = batch,
    };
    request->way = at;
    request->sent = true;
    request->session = session;
    return &session->ways[at];
}

static void request_way_free(struct session *session, struct way *way)
{
    KHO_ASSERT(way->used && session->way_count > 0);
    /* An answer before its last DATA: refused at the begin, so the node wants no more of it. */
    if (session->streaming && &session->ways[session->stream_way] == way)
        session->streaming = false;
    session->way_count--;
    session->batch_count -= way->batch;
    session->bytes_under_way -= way->bytes;
    *way = (struct way){0};
}

void request_end_sent(struct client *client, struct session *session, int status,
                      struct kho_now now)
{
    for (uint32_t i = 0; i < SESSION_WAYS; i++) {
        if (!session->ways[i].used)
            continue;
        struct request *request = session->ways[i].request;
        request_way_free(session, &session->ways[i]);
        if (request != NULL)
            request_finish(client, request, status, now);
    }
}

static bool request_epoch_exempt(const struct request *request)
{
    return request->type == WIRE_MAP || request->type == WIRE_MAP_PUSH ||
           request->type == WIRE_STATUS;
}

/* Ends all of a list that may grow meanwhile: those that come in are left alone. A node that
 * answers but is behind still gets what needs no epoch: bringing it the map is what helps it. */
static void request_end_all(struct client *client, struct session *session, struct queue *list,
                            int status, struct kho_now now)
{
    bool behind = session->remote != NULL && session->state == SESSION_UP && !session->foreign &&
                  session->behind_since_ns != 0;
    struct queue ended, *link;
    queue_init(&ended);
    queue_append_all(&ended, list);
    while ((link = queue_pop(&ended)) != NULL) {
        struct request *request = KHO_CONTAINER_OF(link, struct request, link);
        if (behind && request_epoch_exempt(request))
            queue_push(list, link);
        else
            request_finish(client, request, status, now);
    }
}

/* Large values of items wait for the node as their slots do; only a retired session drops them. */
void request_end_pending(struct client *client, struct session *session, int status,
                         struct kho_now now)
{
    request_end_all(client, session, &session->pending, status, now);
    if (session->remote == NULL) {
        request_end_all(client, session, &session->larges, status, now);
        return;
    }
    struct queue rest, *link;
    queue_init(&rest);
    queue_append_all(&rest, &session->larges);
    while ((link = queue_pop(&rest)) != NULL) {
        struct request *request = KHO_CONTAINER_OF(link, struct request, link);
        if (request->end == item_large_end)
            queue_push(&session->larges, link);
        else
            request_finish(client, request, status, now);
    }
}

void session_epoch_changed(struct client *client, struct session *session, struct kho_now now)
{
    struct queue old, *link;
    queue_init(&old);
    QUEUE_FOREACH_SAFE (at, &session->pending) {
        if (request_epoch_exempt(KHO_CONTAINER_OF(at, struct request, link)))
            continue;
        queue_remove(at);
        queue_push(&old, at);
    }
    queue_append_all(&old, &session->larges);
    for (uint32_t i = 0; i < SESSION_WAYS; i++) {
        struct request *request = session->ways[i].request;
        if (request == NULL || request_epoch_exempt(request))
            continue;
        session->ways[i].request = NULL;
        queue_push(&old, &request->link);
        request->sent = false;
    }
    session->behind_since_ns = 0;
    session->hold_until_ns = 0;
    while ((link = queue_pop(&old)) != NULL)
        request_finish(client, KHO_CONTAINER_OF(link, struct request, link), KHO_EEPOCHOLD, now);
}

/* The next request whose deadline has passed, taken out of its list, or NULL; on the way the
 * earliest deadline of the others. */
static struct request *request_next_expired(struct session *session, struct kho_now now,
                                            uint64_t *ret_earliest)
{
    struct queue *lists[2] = {&session->pending, &session->larges};
    *ret_earliest = CLIENT_NEVER;
    for (int i = 0; i < 2; i++) {
        QUEUE_FOREACH (link, lists[i]) {
            struct request *request = KHO_CONTAINER_OF(link, struct request, link);
            if (now.mono_ns >= request->deadline_ns) {
                queue_remove(link);
                return request;
            }
            *ret_earliest = kho_min(*ret_earliest, request->deadline_ns);
        }
    }
    for (uint32_t i = 0; i < SESSION_WAYS; i++) {
        struct request *request = session->ways[i].request;
        if (request == NULL)
            continue;
        if (now.mono_ns >= request->deadline_ns) {
            session->ways[i].request = NULL;
            return request;
        }
        *ret_earliest = kho_min(*ret_earliest, request->deadline_ns);
    }
    return NULL;
}

void request_expire(struct client *client, struct session *session, struct kho_now now)
{
    struct request *request;
    uint64_t earliest;
    while ((request = request_next_expired(session, now, &earliest)) != NULL)
        request_finish(client, request, KHO_EDEADLINE, now);
    session->pending_deadline_ns = earliest;
}

/* --- Answers ---------------------------------------------------------------------------------- */

static struct way *request_way_find(struct session *session, const struct wire_head *head)
{
    struct way *way = &session->ways[head->request % SESSION_WAYS];
    if (!way->used || way->id != head->request)
        return NULL;
    bool data = head->type == WIRE_DATA && way->type == WIRE_READ;
    return head->type == way->type || data ? way : NULL;
}

/* What a refusal says of the node itself. */
static int request_refused(struct client *client, struct session *session,
                           const struct wire_head *head, const uint8_t *body, struct kho_now now)
{
    switch (head->status) {
    case KHO_EEPOCHOLD: {
        int status = route_map_install(client, body, head->length - KHO_FRAME_HEAD, now);
        if (status < 0 && session->remote != NULL)
            session->error = status;
        if (status < 0)
            session->hold_until_ns = now.mono_ns + SESSION_BEHIND_NS;
        return status < 0 ? status : 0;
    }
    case KHO_EBEHIND:
    case KHO_ENOMAP:
        if (session->behind_since_ns == 0)
            session->behind_since_ns = now.mono_ns;
        session->hold_until_ns = now.mono_ns + SESSION_BEHIND_NS;
        return 0;
    case KHO_ESTOPPING:
    case KHO_EBUSY:
    case -ENOMEM:
        session->hold_until_ns = now.mono_ns + SESSION_BEHIND_NS;
        return 0;
    case KHO_ECLUSTER:
    case KHO_EINCARNATION:
    case KHO_EMAP:
        return head->status;
    default:
        return 0;
    }
}

static void request_answer_refusal(struct client *client, struct session *session, struct way *way,
                                   const struct wire_head *head, const uint8_t *body,
                                   struct kho_now now)
{
    uint64_t id = way->id;
    int broken = request_refused(client, session, head, body, now);
    /* A new map ends what it made stale (then the way has no owner any more), and may have retired
     * this session (then its ways are free already). */
    if (!way->used || way->id != id)
        return;
    struct request *request = way->request;
    request_way_free(session, way);
    if (request != NULL)
        request_finish(client, request, head->status, now);
    if (broken != 0)
        session_break(client, session, broken, now);
}

static bool request_answer_is_last(const struct wire_head *head)
{
    if ((head->flags & KHO_FRAME_LARGE) != 0)
        return false;
    if (head->type == WIRE_DATA && (head->flags & KHO_FRAME_LAST_DATA) == 0)
        return false;
    return (head->flags & KHO_FRAME_MORE) == 0;
}

static void request_heard(struct session *session, const struct wire_head *head,
                          const struct way *way, struct kho_now now)
{
    session->wall_ms = head->wall_ms;
    session->wall_heard_ns = now.mono_ns;
    session->durable = kho_max(session->durable, head->durable);
    if (head->status == 0)
        session->backoff_ns = SESSION_BACKOFF_MIN;
    /* A node that took a map isn't behind ours, which is no newer than what we push. */
    if (head->status == 0 && way->type != WIRE_MAP && way->type != WIRE_STATUS)
        session->behind_since_ns = 0;
    if (head->status == 0 && way->type == WIRE_MAP_PUSH)
        session->hold_until_ns = 0;
}

void request_answered(struct client *client, struct session *session, const uint8_t *frame,
                      struct kho_now now)
{
    struct wire_head head;
    int status = wire_frame_decode(frame, &head);
    struct way *way = status == 0 ? request_way_find(session, &head) : NULL;
    if (way == NULL) {
        session_break(client, session, status != 0 ? status : KHO_EMALFORMED, now);
        return;
    }
    const uint8_t *body = frame + KHO_FRAME_HEAD;
    if (!session->remote->seed && !session->foreign) {
        request_heard(session, &head, way, now);
        /* What is asked next must not wait for a tick to find the node in reach again. */
        session->given_up = session->given_up && session_unavailable(client, session, now);
    }
    if (head.status != 0) {
        request_answer_refusal(client, session, way, &head, body, now);
        return;
    }
    uint64_t id = way->id;
    uint8_t type = way->type;
    if (way->request != NULL && way->request->frame != NULL)
        way->request->frame(client, way->request, &head, body, head.length - KHO_FRAME_HEAD, now);
    /* The handler may have broken the session (a map that retires it, a body of the wrong length):
     * then its ways are free already. */
    if (!way->used || way->id != id || session->state != SESSION_UP)
        return;
    if (request_answer_is_last(&head)) {
        struct request *request = way->request;
        request_way_free(session, way);
        if (request != NULL)
            request_finish(client, request, 0, now);
    }
    /* A map that was brought and couldn't be put in force isn't asked for again at once. */
    if (type != WIRE_MAP && session->state == SESSION_UP && session->remote != NULL &&
        client_has_map(client) && head.epoch > client->map.epoch)
        session_fetch_map(client, session, now);
}
