/* story_store.c: the store of a shard over a disk in memory: made, filled, compacted, recycled,
 * scrubbed, stopped, killed, cut from its power, and started again.
 *
 * What was written is known by its counter: refused, taken, or acknowledged. A read may fail while
 * failures go on, but it never tells a refused write, one older than an acknowledged one, or other
 * bytes. Once the failure is over and the store was started anew, all that was acknowledged is
 * there. Where the disk failed to read, the store may say that it doesn't know (R2), if it says so
 * of itself, too; where memory failed, it may not. */
#include "stories.h"

#include "tests/lib/store_rig.h"

#include <errno.h>

enum { KEYS = 24, WRITES = 24 };

enum written { WRITE_REFUSED, WRITE_TAKEN, WRITE_ACKED };

struct write {
    uint32_t len;
    enum written end;
    uint64_t sequence;
    uint64_t life;
};

struct den {
    struct rig rig;
    uint64_t life; /* counts the starts */
    bool over;     /* the failure is */
    bool rotten;   /* so is the disk */
    uint64_t epoch;
    struct write writes[2][KEYS][WRITES];
    uint32_t counts[2][KEYS];
};

static const uint64_t T0 = 1700000000000ull << KHO_COUNTER_TIME_BITS;

/* --- The disk and time ------------------------------------------------------------------------ */

static bool late(const struct op *op)
{
    return failure_chance(FAILURE_LATENESS, op->kind) != 0;
}

/* What is late comes now, and what that leads to. */
static void catch_up(struct den *d)
{
    rig_run(&d->rig);
    for (int i = 0; i < 10000 && d->rig.held_count > 0; i++) {
        rig_release(&d->rig);
        rig_run(&d->rig);
    }
    if (d->rig.held_count > 0)
        failure_violation("late ops never end");
}

/* Notes which writes are durable now. */
static void look(struct den *d)
{
    uint64_t durable = store_durable(d->rig.store);
    for (uint32_t i = 0; i < 2 * KEYS; i++)
        for (uint32_t k = 0; k < d->counts[i % 2][i / 2]; k++) {
            struct write *w = &d->writes[i % 2][i / 2][k];
            if (w->end == WRITE_TAKEN && w->life == d->life && w->sequence <= durable)
                w->end = WRITE_ACKED;
        }
}

static void run(struct den *d)
{
    rig_run(&d->rig);
    look(d);
}

static void pass(struct den *d, uint32_t times)
{
    for (uint32_t i = 0; i < times; i++) {
        rig_pass(&d->rig, 20);
        look(d);
    }
}

/* --- Life ------------------------------------------------------------------------------------- */

static void drop(struct den *d)
{
    struct rig *rig = &d->rig;
    store_destroy(rig->store);
    rig->store = NULL;
    rig->held_count = 0;
    if (rig->world.memory_bytes != 0)
        failure_violation("%llu bytes are in use after the end",
                          (unsigned long long)rig->world.memory_bytes);
    failure_check_heap();
}

/* One start; true: it serves. */
static bool start(struct den *d, bool power)
{
    struct rig *rig = &d->rig;
    struct file_found files[MEMORY_FILES];
    drop(d);
    if (power)
        memory_disk_crash(&rig->disk);
    else
        memset(rig->disk.handles, 0, sizeof rig->disk.handles);
    size_t count = memory_disk_list(&rig->disk, files, MEMORY_FILES);
    world_init(&rig->world, rig->options.memory_max, rig->options.seed);
    d->life++;
    int error = store_create(&rig->options, &rig->world, &rig->store);
    if (error != 0) {
        failure_typed(error, "store_create");
        rig->store = NULL;
        drop(d);
        return false;
    }
    store_start(rig->store, files, count, rig->now);
    catch_up(d);
    for (int i = 0; i < 3 && store_phase(rig->store) == STORE_STARTING; i++)
        pass(d, 100); /* it may have to wait for memory */
    catch_up(d);
    if (store_phase(rig->store) == STORE_STARTING)
        failure_violation("a start never ends");
    return store_phase(rig->store) == STORE_READY;
}

static bool has_map(struct den *d)
{
    return store_map(d->rig.store) != NULL && store_map_self(d->rig.store) >= 0;
}

/* A map in force: the first try may fail. */
static void bring_map(struct den *d)
{
    for (int tries = 0; tries < 4 && !has_map(d); tries++) {
        struct store_done done;
        bool ended;
        rig_map_build(&d->rig, d->epoch, 0, 1);
        int status =
            store_map_set(d->rig.store, d->rig.map, d->rig.map_bytes, d, 0, d->rig.now, &ended);
        failure_typed(status, "store_map_set");
        catch_up(d);
        bool told = status != 0 || ended;
        for (int i = 0; i < 5; i++) {
            while (store_next_done(d->rig.store, &done)) {
                failure_typed(done.status, "a map");
                told |= done.kind == STORE_DONE_MAP;
            }
            pass(d, 60);
        }
        /* Without memory the manifest waits, and so does who waits for it, to its own deadline. */
        bool waits = failure_is(FAILURE_NODE_HEAP) && failure_for_ever() && !d->over;
        if (!told && !waits)
            failure_violation("who brought a map is never answered");
    }
}

static void end_failure(struct den *d)
{
    failure_end();
    d->over = true;
    if (d->rig.store != NULL)
        catch_up(d);
}

/* Serves, with a map: by force, if the failure doesn't let it. */
static void again(struct den *d, bool power)
{
    bool well = start(d, power);
    for (int tries = 0; tries < 2 && !well; tries++)
        well = start(d, false);
    if (well)
        bring_map(d);
    if (well && has_map(d))
        return;
    end_failure(d);
    if (!start(d, false))
        failure_violation("a start fails when all is well: %s", d->rig.last_event);
    bring_map(d);
    if (!has_map(d))
        failure_violation("no map can be brought when all is well");
}

static void stop(struct den *d)
{
    store_stop(d->rig.store, d->rig.now);
    run(d);
    if (d->rig.held_count > 0 && store_phase(d->rig.store) == STORE_STOPPED)
        failure_violation("stopped with ops under way");
    catch_up(d);
    look(d);
    if (store_phase(d->rig.store) != STORE_STOPPED)
        failure_violation("a store never stops");
}

/* --- Records ---------------------------------------------------------------------------------- */

static uint64_t seed_of(uint32_t collection, uint32_t number, uint32_t version)
{
    return (uint64_t)collection << 40 | (uint64_t)number << 20 | version;
}

static void put(struct den *d, uint32_t collection, uint32_t number, uint32_t len)
{
    struct rig_key key = rig_key(collection, number);
    uint32_t *count = &d->counts[collection - 1][number];
    KHO_ASSERT(*count < WRITES);
    struct write *w = &d->writes[collection - 1][number][*count];
    uint32_t version = (*count)++;
    *w = (struct write){.len = len, .life = d->life};
    int status = rig_put(&d->rig, &key, T0 + version, seed_of(collection, number, version), len,
                         false, &w->sequence);
    failure_typed(status, "store_write");
    w->end = status == 0 ? WRITE_TAKEN : WRITE_REFUSED;
}

/* The value that `read` holds is that of the write; as in rig_check(), which can't fail. */
static bool holds(const struct store_read *read, const struct rig_key *key, uint64_t seed,
                  uint32_t len)
{
    struct kho_random random;
    const struct record *r = &read->record;
    if (r->key_len != key->key_len || memcmp(r->key, key->key, key->key_len) != 0)
        return false;
    if (len == RIG_TOMBSTONE)
        return read->state == WIRE_TOMBSTONE;
    if (read->state != WIRE_PRESENT || r->raw_len != len || r->stored_len != len)
        return false;
    kho_random_init(&random, seed);
    for (uint32_t i = 0; i < len; i++) {
        uint8_t byte = i / 32 % 2 == 0 ? 'k' : (uint8_t)(kho_random_next(&random) >> 56);
        if (r->value[i] != byte)
            return false;
    }
    return true;
}

/* What is told of a key agrees with what was written; with `must`, something is told. */
static void check(struct den *d, uint32_t collection, uint32_t number, bool must)
{
    struct rig_key key = rig_key(collection, number);
    const struct write *writes = d->writes[collection - 1][number];
    uint32_t count = d->counts[collection - 1][number], least = 0;
    struct store *store = d->rig.store;
    struct store_read read = {.collection = key.collection,
                              .partition = key.partition,
                              .hash = key.hash,
                              .key = key.key,
                              .key_len = key.key_len};
    struct store_done done;
    for (uint32_t i = 0; i < count; i++)
        if (writes[i].end == WRITE_ACKED)
            least = i + 1;
    if (!store_read(store, &read, d->rig.now)) {
        catch_up(d);
        if (!store_next_done(store, &done) || done.read != &read)
            failure_violation("a read never ends");
    }
    failure_typed(read.status, "a read");
    bool unsure = store_episodes(store, NULL, 0) > 0 || store_suspect(store);
    bool excused = !must || d->rotten || (failure_is(FAILURE_DISK) && unsure);
    if (read.status != 0 && !excused)
        failure_violation("key %u.%u can't be read when all is well: %d", collection, number,
                          read.status);
    /* What a suspect shard tells is no vote (R3): it may have forgotten, if it says so. */
    if (store_suspect(store))
        least = 0;
    if (read.status == 0 && read.state == WIRE_ABSENT && least > 0)
        failure_violation("key %u.%u is absent; write %u of it was acknowledged", collection,
                          number, least - 1);
    if (read.status == 0 && read.state != WIRE_ABSENT) {
        uint64_t version = read.record.version.counter - T0;
        if (version >= count || writes[version].end == WRITE_REFUSED)
            failure_violation("key %u.%u has version %llu, which was refused", collection, number,
                              (unsigned long long)version);
        if (version + 1 < least)
            failure_violation("key %u.%u has version %llu; %u was acknowledged", collection, number,
                              (unsigned long long)version, least - 1);
        if (!holds(&read, &key, seed_of(collection, number, (uint32_t)version),
                   writes[version].len))
            failure_violation("key %u.%u: wrong bytes", collection, number);
    }
    store_read_end(store, &read);
}

static void check_all(struct den *d, bool must)
{
    for (uint32_t i = 0; i < 2 * KEYS; i++)
        check(d, 1 + i % 2, i / 2, must);
}

static void fill(struct den *d, uint32_t rounds, uint32_t bytes)
{
    for (uint32_t round = 0; round < rounds; round++)
        for (uint32_t i = 0; i < KEYS; i++) {
            if (round > 0 && i % 8 == 7)
                continue;
            put(d, 1, i, i % 11 == 5 && round % 2 == 1 ? RIG_TOMBSTONE : bytes + i * 17);
            put(d, 2, i, 300);
            if (i % 5 == 4)
                run(d);
        }
    run(d);
}

/* --- Stories ---------------------------------------------------------------------------------- */

static struct den *begin(void)
{
    struct den *d = calloc(1, sizeof *d);
    KHO_ASSERT(d != NULL);
    rig_init(&d->rig);
    d->rig.options.segment_bytes = 1u << 20;
    d->rig.options.memory_max = 64u << 20;
    d->rig.options.compact_dead_percent = 20;
    d->rig.options.commits_max = 2;
    d->rig.options.footer_entries = 20;
    d->rig.holds = late;
    d->epoch = 1;
    return d;
}

static void end(struct den *d)
{
    end_failure(d);
    check_all(d, false);
    if (failure_is(FAILURE_NODE_HEAP) && store_failed(d->rig.store) != 0)
        failure_violation("memory is back, and the shard takes no writes");
    for (int power = 0; power < 2; power++) {
        if (!start(d, power))
            failure_violation("a start fails when all is well: %s", d->rig.last_event);
        bring_map(d);
        check_all(d, true);
        if (failure_is(FAILURE_NODE_HEAP) && !d->rotten &&
            (store_episodes(d->rig.store, NULL, 0) > 0 || store_suspect(d->rig.store)))
            failure_violation("for want of memory, records were taken for damaged");
        fill(d, 1, 2000);
        pass(d, 20);
        check_all(d, true);
        if (store_failed(d->rig.store) != 0)
            failure_violation("writes fail when all is well: %s", d->rig.last_event);
    }
    stop(d);
    drop(d);
    memory_disk_fini(&d->rig.disk);
    free(d);
}

/* Made, filled, stopped, killed, cut from power, each time started on what is there. */
void story_store_starts(void)
{
    struct den *d = begin();
    failure_begin();
    again(d, false);
    fill(d, 2, 500);
    pass(d, 10);
    check_all(d, false);
    again(d, true);
    check_all(d, false);
    put(d, 1, 3, 400000);
    run(d);
    check(d, 1, 3, false);
    fill(d, 2, 3000);
    pass(d, 10);
    stop(d);
    again(d, false);
    fill(d, 1, 100);
    again(d, false);
    check_all(d, false);
    end(d);
}

/* Overwritten until compaction retires segments and their files are used again; scrubbed. */
void story_store_compacts(void)
{
    struct den *d = begin();
    again(d, false);
    fill(d, 8, 16000);
    stop(d);
    d->rig.options.compact_rate = 1ull << 30;
    d->rig.options.scrub_ms = 100;
    failure_begin();
    again(d, false);
    pass(d, 30);
    fill(d, 6, 12000);
    pass(d, 30);
    check_all(d, false);
    fill(d, 5, 9000);
    pass(d, 30);
    check_all(d, false);
    /* The disk is short for a while: what was kept for later use goes. */
    d->rig.disk.free_bytes = 2u << 20;
    pass(d, 80);
    fill(d, 1, 9000);
    d->rig.disk.free_bytes = 1ull << 40;
    pass(d, 80);
    check_all(d, false);
    end(d);
}

/* An episode was closed, and no repair came before: what it hid may be gone for good. */
static void acknowledged_forget(struct den *d)
{
    for (uint32_t i = 0; i < 2 * KEYS; i++)
        for (uint32_t k = 0; k < d->counts[i % 2][i / 2]; k++) {
            struct write *w = &d->writes[i % 2][i / 2][k];
            if (w->end == WRITE_ACKED)
                *w = (struct write){.len = w->len, .end = WRITE_TAKEN, .life = UINT64_MAX};
        }
}

/* Bits flip in what is sealed and in what isn't: found by reads, by a start, by compaction, by the
 * scrub; episodes open and are closed. */
void story_store_rots(void)
{
    struct den *d = begin();
    again(d, false);
    fill(d, 8, 16000);
    stop(d);
    d->rotten = true;
    for (uint64_t id = 1; id <= 4; id++) {
        struct memory_file *file = memory_disk_file(&d->rig.disk, FILE_SEGMENT, id);
        for (uint64_t at = 70000; file != NULL && at < file->used; at += 130000)
            memory_disk_flip(file, at, 0x10);
    }
    d->rig.options.compact_rate = 1ull << 30;
    d->rig.options.scrub_ms = 100;
    failure_begin();
    again(d, false);
    check_all(d, false);
    pass(d, 30);
    again(d, true);
    fill(d, 2, 12000);
    pass(d, 60);
    check_all(d, false);
    d->epoch = 2;
    rig_map_build(&d->rig, d->epoch, 0, 1);
    bool ended;
    struct store_done done;
    failure_typed(
        store_map_set(d->rig.store, d->rig.map, d->rig.map_bytes, d, 0, d->rig.now, &ended),
        "store_map_set");
    catch_up(d);
    struct wire_episode episode;
    for (int i = 0; i < 40 && store_episodes(d->rig.store, &episode, 1) > 0; i++) {
        failure_typed(store_episode_close(d->rig.store, episode.id, episode.first_partition, d, 0),
                      "store_episode_close");
        acknowledged_forget(d);
        catch_up(d);
    }
    while (store_next_done(d->rig.store, &done))
        failure_typed(done.status, "an episode's end");
    check_all(d, false);
    end(d);
}
