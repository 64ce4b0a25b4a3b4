/* serve_probe.c: PROBE: state, version and floor of keys, from the index alone.
 *
 * Happy path: one look-up an entry, written straight into the answer. A key of an unknown
 * collection is absent. A partition of which this node is no replica, or which the map doesn't
 * have, is answered as unknown: "absent" would be a vote (R2). */
#include "serve.h"

enum { PROBE_AHEAD = 16 };

static void probe_one(struct conn *conn, struct serve_policy *policy,
                      const struct wire_probe_ask *ask, struct wire_probe_answer *ret)
{
    struct serve *serve = serve_of(conn);
    memset(ret, 0, sizeof *ret);
    int status = serve_policy(conn, policy, ask->collection, SERVE_VERB_READ);
    if (status == KHO_ENOCOLLECTION) {
        ret->state = WIRE_ABSENT;
    } else if (status < 0 || !serve_is_replica(serve, ask->partition, policy->replicas)) {
        ret->state = WIRE_UNKNOWN;
    } else {
        store_probe(serve->store, ask->collection, ask->partition, ask->hash, ret);
    }
}

/* Looks up some keys at once, so that their cache misses overlap. */
static void probe_group(struct conn *conn, struct serve_policy *policy, const uint8_t *body,
                        uint32_t count, uint8_t *to)
{
    const struct store *store = serve_of(conn)->store;
    struct wire_probe_ask asks[PROBE_AHEAD];
    for (uint32_t i = 0; i < count; i++)
        wire_probe_ask_decode(body + (size_t)i * WIRE_PROBE_ASK, &asks[i]);
    for (uint32_t step = 0; step < STORE_PREFETCH_STEPS; step++)
        for (uint32_t i = 0; i < count; i++)
            store_prefetch(store, asks[i].collection, asks[i].partition, asks[i].hash, step);
    for (uint32_t i = 0; i < count; i++) {
        struct wire_probe_answer answer;
        probe_one(conn, policy, &asks[i], &answer);
        wire_probe_answer_encode(&answer, to + (size_t)i * WIRE_PROBE_ANSWER);
    }
}

enum serve_verdict serve_probe(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                               uint32_t len)
{
    struct serve_policy policy = {0};
    if (len != (uint32_t)head->count * WIRE_PROBE_ASK)
        return SERVE_MALFORMED;
    uint32_t bytes = (uint32_t)head->count * WIRE_PROBE_ANSWER;
    uint8_t *to = conn_frame(conn, NULL, WIRE_PROBE, head->request, 0, bytes);
    if (to == NULL)
        return SERVE_DONE;
    for (uint32_t i = 0; i < head->count; i += PROBE_AHEAD) {
        uint32_t group = (uint32_t)kho_min(PROBE_AHEAD, head->count - i);
        probe_group(conn, &policy, body + (size_t)i * WIRE_PROBE_ASK, group,
                    to + (size_t)i * WIRE_PROBE_ANSWER);
    }
    conn_frame_added(conn, bytes, head->count);
    conn_frame_end(conn, 0, 0);
    return SERVE_DONE;
}
