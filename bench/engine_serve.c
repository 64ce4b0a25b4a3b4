/* engine_serve.c: rows 'multiget.neighbours' and 'scan': requests to a whole shard, and the bytes
 * of records that come back, uncompressed, beside what the disk reads one after the other.
 *
 * A multi-get asks for records that were written one after another, from a random one on; the scan
 * lists the collection with its records, several ranges of partitions at a time, page after page.
 */
#include "clock.h"
#include "engine_conn.h"
#include "engine_stored.h"

enum {
    REQUESTS = 8, /* under way at once */
    NEIGHBOURS = 256,
    PAGE_ENTRIES = 4096,
    FLOOR_BYTES = 1 << 20,
    FLOOR_DEPTH = 8
};

struct range {
    struct wire_list_ask ask;
    bool done;
};

struct requests {
    struct stored *stored;
    struct conn_client client;
    struct kho_random random;
    uint64_t end_ns, now_ns;
    uint32_t under_way;
    uint64_t records, bytes, missing;
    uint64_t asked, asked_max; /* multi-get: records of this round */
    struct range ranges[REQUESTS];
};

static bool open_still(const struct requests *requests)
{
    return requests->now_ns < requests->end_ns && !engine_interrupted();
}

/* --- Multi-get -------------------------------------------------------------------------------- */

static void neighbours_ask(struct requests *requests, uint64_t request)
{
    const struct stored *stored = requests->stored;
    uint64_t count = kho_min(NEIGHBOURS, stored->ask_count);
    uint64_t first = kho_random_below(&requests->random, stored->ask_count - count + 1);
    size_t len = (size_t)count * STORED_ASK;
    memcpy(conn_client_body(&requests->client, len), stored->asks + first * STORED_ASK, len);
    conn_client_send(&requests->client, WIRE_READ, request, (uint16_t)count, len);
    requests->under_way++;
    requests->asked += count;
}

static void neighbours_answered(void *owner, const struct wire_head *head, const uint8_t *body)
{
    struct requests *requests = owner;
    for (uint16_t i = 0; i < head->count; i++) {
        struct wire_read_answer answer;
        wire_read_answer_decode(body, &answer);
        body += WIRE_READ_ANSWER + answer.record_len;
        requests->missing += answer.status != 0 || answer.state != WIRE_PRESENT;
        requests->records++;
        requests->bytes += answer.record_len;
    }
    if ((head->flags & KHO_FRAME_MORE) != 0)
        return;
    requests->under_way--;
    if (open_still(requests) && requests->asked < requests->asked_max)
        neighbours_ask(requests, head->request);
}

/* --- Scan ------------------------------------------------------------------------------------- */

static void page_ask(struct requests *requests, uint64_t request)
{
    const struct range *range = &requests->ranges[request];
    wire_list_ask_encode(&range->ask, conn_client_body(&requests->client, WIRE_LIST_ASK));
    conn_client_send(&requests->client, WIRE_LIST, request, 1, WIRE_LIST_ASK);
    requests->under_way++;
}

static void page_answered(void *owner, const struct wire_head *head, const uint8_t *body)
{
    struct requests *requests = owner;
    struct range *range = &requests->ranges[head->request];
    struct wire_list_head next;
    wire_list_head_decode(body, &next);
    body += WIRE_LIST_HEAD;
    for (uint16_t i = 0; i < head->count; i++) {
        struct wire_list_entry entry;
        wire_list_entry_decode(body, &entry);
        body += WIRE_LIST_ENTRY + entry.record_len;
        requests->missing += entry.state != WIRE_PRESENT || entry.record_len == 0;
        requests->records++;
        requests->bytes += entry.record_len;
    }
    if ((head->flags & KHO_FRAME_MORE) != 0)
        return;
    requests->under_way--;
    range->ask.partition_from = next.next_partition;
    range->ask.tag = next.next_tag;
    range->done = next.done;
    if (!range->done && open_still(requests))
        page_ask(requests, head->request);
}

static void ranges_begin(struct requests *requests)
{
    uint32_t each = NODE_PARTITIONS / REQUESTS;
    for (uint32_t i = 0; i < REQUESTS; i++)
        requests->ranges[i] = (struct range){.ask = {.collection = HERD_COLLECTION,
                                                     .partition_from = i * each,
                                                     .partition_to = (i + 1) * each,
                                                     .ask = KHO_LIST_RECORDS,
                                                     .limit = PAGE_ENTRIES}};
}

/* --- Rounds ----------------------------------------------------------------------------------- */

/* A kind of request: what asks, and what takes the answers. */
struct kind {
    struct engine_row row;
    void (*ask)(struct requests *requests, uint64_t request);
    void (*answered)(void *owner, const struct wire_head *head, const uint8_t *body);
};

static int requests_run(struct requests *requests, const struct kind *kind)
{
    for (uint64_t i = 0; i < REQUESTS; i++)
        kind->ask(requests, i);
    while (requests->under_way > 0) {
        requests->now_ns = clock_ns();
        if (conn_client_turn(&requests->client) != 0)
            return -1;
    }
    if (requests->missing == 0)
        return engine_interrupted() ? -1 : 0;
    fprintf(stderr, "kho-bench: %s: %llu of %llu records didn't come\n", kind->row.name,
            (unsigned long long)requests->missing, (unsigned long long)requests->records);
    return -1;
}

static int round_run(struct requests *requests, struct kind *kind)
{
    struct stored *stored = requests->stored;
    struct floor_figures floor;
    struct floor_plan plan = {.bytes = FLOOR_BYTES,
                              .depth = FLOOR_DEPTH,
                              .seed = 6,
                              .seconds = stored->engine->options->seconds};
    requests->client.owner = requests;
    requests->client.on_frame = kind->answered;
    requests->records = requests->bytes = requests->asked = 0;
    requests->asked_max = stored->ask_count;
    ranges_begin(requests);
    uint64_t cpu_ns = clock_cpu_ns(), began_ns = clock_ns();
    requests->now_ns = began_ns;
    requests->end_ns = began_ns + (uint64_t)(plan.seconds * 1e9);
    if (requests_run(requests, kind) != 0)
        return -1;
    double elapsed = (double)(clock_ns() - began_ns), cpu = (double)(clock_cpu_ns() - cpu_ns);
    if (floor_run(stored->floor, &plan, &floor) != 0)
        return -1;
    row_add_floored(&kind->row, (double)requests->bytes / elapsed * 1e3,
                    (double)floor.requests * FLOOR_BYTES / floor.seconds / 1e6);
    snprintf(kind->row.note, sizeof kind->row.note, "%.0f records/s, CPU %.0f %%",
             (double)requests->records / elapsed * 1e9, cpu / elapsed * 100);
    return 0;
}

/* A round on a shard that was opened for it, or on one that stays open. */
static int requests_open(struct requests *requests)
{
    struct stored *stored = requests->stored;
    if (node_open_shard(&stored->node, stored->path, stored->memory) != 0)
        return -1;
    if (conn_client_open(&requests->client, &stored->node) == 0)
        return 0;
    node_drop(&stored->node);
    return -1;
}

static void requests_close(struct requests *requests)
{
    conn_client_close(&requests->client);
    node_drop(&requests->stored->node);
}

static int kind_rounds(struct requests *requests, struct kind *kind)
{
    struct stored *stored = requests->stored;
    struct engine *engine = stored->engine;
    if (!engine_options_want(engine->options, kind->row.name))
        return 0;
    if (requests_open(requests) != 0)
        return -1;
    int error = 0;
    for (uint64_t i = 0; error == 0 && i < engine->options->rounds; i++) {
        engine_progress(engine, "%s: round %llu", kind->row.name, (unsigned long long)i + 1);
        if (i > 0 && stored->small) {
            requests_close(requests);
            if (requests_open(requests) != 0)
                return -1;
        }
        error = round_run(requests, kind);
    }
    requests_close(requests);
    if (error == 0)
        engine_row_done(engine, &kind->row);
    return error;
}

int engine_serve(struct stored *stored)
{
    static struct requests requests;
    struct kind neighbours = {.row = {.name = "multiget.neighbours", .unit = "MB/s"},
                              .ask = neighbours_ask,
                              .answered = neighbours_answered};
    struct kind scan = {
        .row = {.name = "scan", .unit = "MB/s"}, .ask = page_ask, .answered = page_answered};
    requests = (struct requests){.stored = stored};
    kho_random_init(&requests.random, 7);
    int error = kind_rounds(&requests, &neighbours);
    return error == 0 ? kind_rounds(&requests, &scan) : error;
}
