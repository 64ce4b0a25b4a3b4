/* engine_read.c: rows 'read': single records from the disk and from the cache, by the store's own
 * door; what asks and answers cost is the serving side's (engine_serve.c).
 *
 * Cold reads that a cached block answers are not counted, nor their time's worth given back. Cached
 * reads do what a request would: the key is hashed, the index fetched ahead in groups, the record
 * copied into an answer. */
#include "clock.h"
#include "engine_stored.h"

#include <kho/kho.h>

enum {
    DEPTH = 32,
    GROUP = STORE_READS_CACHED,
    HOT_RECORDS = 32768,
    TURN_READS = 4096,
    ANSWER_BYTES = 64 << 10
};

struct reads {
    struct stored *stored;
    struct kho_random random;
    struct store_read slots[DEPTH];
    uint32_t in_flight;
    uint64_t begun, ended;
    int status; /* of the first read that failed */
    uint8_t answer[ANSWER_BYTES];
    size_t answer_len;
};

static int complain(const char *row, int status)
{
    fprintf(stderr, "kho-bench: %s: a record can't be read: %s\n", row,
            status > 0 ? "it isn't there" : kho_strerror(status));
    return -1;
}

static void read_prepare(struct store_read *read, const uint8_t *bytes)
{
    struct wire_read_ask ask;
    int used = wire_read_ask_decode(bytes, STORED_ASK, &ask);
    KHO_ASSERT(used == STORED_ASK);
    *read = (struct store_read){.collection = ask.collection,
                                .partition = ask.partition,
                                .hash = ask.hash,
                                .key = ask.key,
                                .key_len = ask.key_len};
}

static void read_ended(struct reads *reads, struct store_read *read)
{
    int status = read->status != 0 ? read->status : read->state == WIRE_PRESENT ? 0 : 1;
    if (reads->status == 0)
        reads->status = status;
    store_read_end(reads->stored->node.store, read);
    reads->ended++;
}

/* --- Cold ------------------------------------------------------------------------------------- */

/* Starts a read of a random record; true: it is under way. */
static bool cold_begin(struct reads *reads, struct store_read *read)
{
    const struct stored *stored = reads->stored;
    uint64_t which = kho_random_below(&reads->random, stored->ask_count);
    read_prepare(read, stored->asks + which * STORED_ASK);
    reads->begun++;
    if (!store_read(stored->node.store, read, stored->node.now))
        return true;
    read_ended(reads, read);
    return false;
}

/* Keeps a slot busy; reads that end at once are many where the cache holds all. */
static void cold_refill(struct reads *reads, struct store_read *slot, bool open)
{
    for (uint32_t i = 0; open && i < TURN_READS; i++)
        if (cold_begin(reads, slot)) {
            reads->in_flight++;
            return;
        }
}

static int cold_turns(struct reads *reads, double seconds)
{
    struct node *node = &reads->stored->node;
    uint64_t end_ns = clock_ns() + (uint64_t)(seconds * 1e9);
    for (uint32_t i = 0; i < DEPTH; i++)
        cold_refill(reads, &reads->slots[i], true);
    while (reads->in_flight > 0) {
        struct store_done done;
        if (node_turn_end(node, true) != 0)
            return -1;
        node_turn_begin(node);
        bool open = node->now.mono_ns < end_ns && !engine_interrupted();
        while (store_next_done(node->store, &done)) {
            if (done.kind != STORE_DONE_READ)
                continue;
            reads->in_flight--;
            read_ended(reads, done.read);
            cold_refill(reads, done.read, open && reads->begun < reads->stored->ask_count);
        }
    }
    return engine_interrupted() ? -1 : 0;
}

static int cold_round(struct reads *reads, struct engine_row *row)
{
    struct stored *stored = reads->stored;
    struct floor_figures floor;
    struct floor_plan plan = {.random = true,
                              .bytes = FLOOR_ALIGNMENT,
                              .depth = DEPTH,
                              .seed = kho_random_next(&reads->random),
                              .seconds = stored->engine->options->seconds};
    uint64_t hits = node_stat(&stored->node, STAT_cache_hits);
    uint64_t cpu_ns = clock_cpu_ns(), began_ns = clock_ns();
    reads->begun = reads->ended = 0;
    node_turn_begin(&stored->node);
    if (cold_turns(reads, plan.seconds) != 0)
        return -1;
    double elapsed = (double)(clock_ns() - began_ns);
    double cpu = (double)(clock_cpu_ns() - cpu_ns);
    if (reads->status != 0)
        return complain(row->name, reads->status);
    hits = node_stat(&stored->node, STAT_cache_hits) - hits;
    if (floor_run(stored->floor, &plan, &floor) != 0)
        return -1;
    row_add_floored(row, (double)(reads->ended - hits) / elapsed * 1e9,
                    (double)floor.requests / floor.seconds);
    snprintf(row->note, sizeof row->note, "%.1f %% cached, CPU %.0f %%",
             (double)hits / (double)reads->ended * 100, cpu / elapsed * 100);
    return 0;
}

/* --- Cached ----------------------------------------------------------------------------------- */

static void answer_copy(struct reads *reads, const struct record *record)
{
    if (reads->answer_len + record_size(record) > ANSWER_BYTES)
        reads->answer_len = 0;
    reads->answer_len += record_encode(record, reads->answer + reads->answer_len);
}

/* A group of random hot records. False: one wasn't in the cache; its read goes on. */
static bool hot_group(struct reads *reads, uint64_t hot)
{
    const struct stored *stored = reads->stored;
    struct store *store = stored->node.store;
    for (uint32_t i = 0; i < GROUP; i++) {
        struct store_read *read = &reads->slots[i];
        read_prepare(read, stored->asks + kho_random_below(&reads->random, hot) * STORED_ASK);
        struct record named = {
            .collection = read->collection, .key = read->key, .key_len = read->key_len};
        read->partition = node_place(&named, &read->hash);
    }
    uint32_t done = store_read_cached(store, reads->slots, GROUP);
    for (uint32_t i = 0; i < GROUP; i++) {
        struct store_read *read = &reads->slots[i];
        if ((done >> i & 1) == 0 && !store_read(store, read, stored->node.now)) {
            reads->in_flight++;
            continue;
        }
        if (read->status == 0 && read->state == WIRE_PRESENT)
            answer_copy(reads, &read->record);
        read_ended(reads, read);
    }
    return reads->in_flight == 0;
}

/* Until those that went to the disk are there. */
static int hot_await(struct reads *reads)
{
    struct node *node = &reads->stored->node;
    struct store_done done;
    while (reads->in_flight > 0) {
        if (node_turn_end(node, true) != 0)
            return -1;
        node_turn_begin(node);
        while (store_next_done(node->store, &done))
            if (done.kind == STORE_DONE_READ) {
                reads->in_flight--;
                read_ended(reads, done.read);
            }
    }
    return 0;
}

static int hot_turns(struct reads *reads, uint64_t hot, double seconds)
{
    struct node *node = &reads->stored->node;
    uint64_t end_ns = clock_ns() + (uint64_t)(seconds * 1e9);
    do {
        for (uint32_t i = 0; i < TURN_READS / GROUP; i++)
            if (!hot_group(reads, hot) && hot_await(reads) != 0)
                return -1;
        if (node_turn_end(node, false) != 0)
            return -1;
        node_turn_begin(node);
    } while (node->now.mono_ns < end_ns && !engine_interrupted());
    return engine_interrupted() ? -1 : 0;
}

static int hot_round(struct reads *reads, struct engine_row *row)
{
    struct stored *stored = reads->stored;
    double seconds = stored->engine->options->seconds;
    uint64_t hot = kho_min(HOT_RECORDS, stored->ask_count);
    node_turn_begin(&stored->node);
    /* What is asked for again and again has come into the cache by then. */
    if (hot_turns(reads, hot, seconds / 4) != 0)
        return -1;
    uint64_t hits = node_stat(&stored->node, STAT_cache_hits);
    uint64_t cpu_ns = clock_cpu_ns();
    reads->ended = 0;
    if (hot_turns(reads, hot, seconds) != 0)
        return -1;
    if (reads->status != 0)
        return complain(row->name, reads->status);
    double cpu = (double)(clock_cpu_ns() - cpu_ns);
    hits = node_stat(&stored->node, STAT_cache_hits) - hits;
    row_add(row, (double)reads->ended / cpu * 1e9);
    snprintf(row->note, sizeof row->note, "%.2f %% cached",
             (double)hits / (double)reads->ended * 100);
    return 0;
}

/* --- The group -------------------------------------------------------------------------------- */

static int row_rounds(struct reads *reads, struct engine_row *row,
                      int (*round)(struct reads *, struct engine_row *))
{
    struct stored *stored = reads->stored;
    if (!engine_options_want(stored->engine->options, row->name))
        return 0;
    int error = node_open(&stored->node, stored->path, stored->memory, NULL);
    if (error != 0)
        return error;
    for (uint64_t i = 0; error == 0 && i < stored->engine->options->rounds; i++) {
        engine_progress(stored->engine, "%s: round %llu", row->name, (unsigned long long)i + 1);
        if (i > 0 && stored->small) {
            node_drop(&stored->node);
            error = node_open(&stored->node, stored->path, stored->memory, NULL);
        }
        if (error == 0)
            error = round(reads, row);
    }
    node_drop(&stored->node);
    if (error == 0)
        engine_row_done(stored->engine, row);
    return error;
}

int engine_read(struct stored *stored)
{
    static struct reads reads;
    struct engine_row cold = {.name = "read.cold.qd32", .unit = "records/s"};
    struct engine_row cached = {.name = "read.cached", .unit = "records/s core"};
    reads = (struct reads){.stored = stored};
    kho_random_init(&reads.random, 5);
    int error = row_rounds(&reads, &cold, cold_round);
    return error == 0 ? row_rounds(&reads, &cached, hot_round) : error;
}
