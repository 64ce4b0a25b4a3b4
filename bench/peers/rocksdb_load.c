/* rocksdb_load.c: RocksDB as a library in this process: one copy, no network. A unit of writes is a
 * write batch of B records with sync, which returns when RocksDB's log is on stable storage; of
 * reads, B gets. As many threads as lanes, each with numbers of its own; RocksDB gathers what they
 * write at the same time into one write of its log. */
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdlib.h>

#include "clock.h"
#include "peer.h"

enum { CACHE_BYTES = 256 << 20, BLOOM_BITS = 10, VALUE_ROOM = 512 };
#define THREAD_NUMBERS UINT64_C(1000000000) /* how many records a thread may write */

struct thread {
    pthread_t id;
    struct peer *own; /* the options, and figures of this thread */
    struct peer_unit unit;
};

static rocksdb_t *db;
static rocksdb_writeoptions_t *synced;
static rocksdb_readoptions_t *reading;

static void db_open(const struct peer *peer)
{
    char *error = NULL;
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_cache_t *cache = rocksdb_cache_create_lru(CACHE_BYTES);
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_filter_policy(table,
                                                  rocksdb_filterpolicy_create_bloom(BLOOM_BITS));
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_compression(options, rocksdb_lz4_compression);
    rocksdb_options_increase_parallelism(options, 2);
    db = rocksdb_open(options, peer->at, &error);
    if (error != NULL)
        peer_die(peer, error);
    rocksdb_cache_destroy(cache);
    rocksdb_block_based_options_destroy(table);
    rocksdb_options_destroy(options);
    synced = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(synced, 1);
    reading = rocksdb_readoptions_create();
}

static void db_close(void)
{
    rocksdb_close(db);
    rocksdb_writeoptions_destroy(synced);
    rocksdb_readoptions_destroy(reading);
}

static void unit_write(struct peer *own, const struct peer_unit *unit)
{
    char key[VALUE_KEY], value[VALUE_ROOM], *error = NULL;
    rocksdb_writebatch_t *writes = rocksdb_writebatch_create();
    for (uint64_t i = 0; i < own->batch; i++) {
        value_key(unit->numbers[i], key);
        size_t len = value_make(&own->values, unit->numbers[i], 0, value);
        rocksdb_writebatch_put(writes, key, VALUE_KEY, value, len);
    }
    rocksdb_write(db, synced, writes, &error);
    if (error != NULL)
        peer_die(own, error);
    rocksdb_writebatch_destroy(writes);
}

static void unit_read(struct peer *own, const struct peer_unit *unit)
{
    for (uint64_t i = 0; i < own->batch; i++) {
        char key[VALUE_KEY], *error = NULL;
        size_t len = 0;
        value_key(unit->numbers[i], key);
        char *value = rocksdb_get(db, reading, key, VALUE_KEY, &len, &error);
        if (error != NULL)
            peer_die(own, error);
        peer_check(own, unit->numbers[i], value, len);
        rocksdb_free(value);
    }
}

static void units_run(struct thread *t)
{
    uint64_t now_ns = clock_ns();
    while (peer_draw(t->own, &t->unit, now_ns)) {
        if (t->unit.writes)
            unit_write(t->own, &t->unit);
        else
            unit_read(t->own, &t->unit);
        now_ns = clock_ns();
        peer_take(t->own, &t->unit, now_ns);
    }
}

static void *thread_main(void *arg)
{
    struct thread *t = arg;
    units_run(t);
    peer_begin(t->own, PEER_READBACK);
    units_run(t);
    return NULL;
}

/* What is to be read is written at once. */
static void load(struct peer *peer)
{
    struct peer_unit unit = {.numbers = peer_alloc(peer, peer->records + 1, sizeof(uint64_t))};
    uint64_t batch = peer->batch;
    peer->batch = peer->records;
    peer_begin(peer, PEER_LOAD);
    if (peer_draw(peer, &unit, clock_ns()))
        unit_write(peer, &unit);
    peer->batch = batch;
    free(unit.numbers);
}

static void threads_start(struct peer *peer, struct thread *threads)
{
    for (size_t i = 0; i < peer->lanes; i++) {
        struct thread *t = &threads[i];
        t->own = peer_alloc(peer, 1, sizeof *t->own);
        *t->own = *peer;
        t->own->dice = dice_of(i + 1);
        t->own->read_back_max = PEER_READ_BACK / peer->lanes + 1;
        if (peer->records == 0)
            t->own->first = t->own->next = i * THREAD_NUMBERS;
        t->unit.numbers = peer_alloc(peer, peer->batch, sizeof(uint64_t));
        if (pthread_create(&t->id, NULL, thread_main, t) != 0)
            peer_die(peer, "can't start a thread");
    }
}

static void threads_end(struct peer *peer, struct thread *threads)
{
    for (size_t i = 0; i < peer->lanes; i++) {
        pthread_join(threads[i].id, NULL);
        peer_merge(peer, threads[i].own);
        free(threads[i].own);
        free(threads[i].unit.numbers);
    }
}

int main(int argc, char **argv)
{
    static struct peer peer;
    peer_init(&peer, "rocksdb_load", argc, argv);
    if (peer.flight != 1 || peer.values.max > VALUE_ROOM || peer.server_count > 0)
        peer_die(&peer, "takes a --flight of 1 and no --servers");
    struct thread *threads = peer_alloc(&peer, peer.lanes, sizeof *threads);
    db_open(&peer);
    if (peer.records > 0)
        load(&peer);
    peer_begin(&peer, PEER_RUN);
    threads_start(&peer, threads);
    threads_end(&peer, threads);
    free(threads);
    db_close();
    return peer_end(&peer);
}
