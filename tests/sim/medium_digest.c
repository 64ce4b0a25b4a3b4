/* medium_digest.c: the digests that shards answer, against those of what is on their disks. */
#include "known.h"
#include "medium_check.h"
#include "raw.h"

#include <kho/hash.h>
#include <kho/map.h>

static void *zeros(size_t count, size_t size)
{
    void *room = calloc(count + 1, size);
    KHO_ASSERT(room != NULL);
    return room;
}

/* --- Of a disk -------------------------------------------------------------------------------- */

enum {
    ENTRY_COLLECTION = 0,
    ENTRY_PARTITION = 4,
    ENTRY_COUNT = 8,
    ENTRY_BYTES = 16,
    ENTRY_SUM = 24,
    ENTRY_SIZE = 64
};
enum { DIGEST_VALUE_MAX = (1 << 24) - 1, DIGEST_RECORD_HEAD = 48 };

struct digest {
    uint64_t count, bytes;
    unsigned __int128 sum;
};

/* Those that have records. */
static uint32_t collections(const struct workload *w)
{
    return CLUSTER_COLLECTIONS + w->cluster->options.ballast;
}

/* What one record adds: the hash of the upper 72 bits of its key's hash, its version with the top
 * bit of the counter set for a tombstone, seeded with the cluster's seed. */
static void digest_add(struct digest *digest, const struct workload *w,
                       const struct medium_record *r, XXH128_hash_t key)
{
    uint8_t bytes[21];
    kho_store64(bytes, key.high64);
    bytes[8] = (uint8_t)(key.low64 >> 56);
    kho_store64(bytes + 9, r->version.counter | (uint64_t)r->tombstone << 63);
    kho_store32(bytes + 17, r->version.writer);
    XXH128_hash_t hash = XXH3_128bits_withSeed(bytes, sizeof bytes, w->cluster->map_seed);
    digest->count++;
    digest->bytes += DIGEST_RECORD_HEAD + kho_min(r->value_len, DIGEST_VALUE_MAX);
    digest->sum += (unsigned __int128)hash.high64 << 64 | hash.low64;
}

/* The records of one shard's disk that one table holds, or may hold. */
struct table {
    const struct medium_scan *scan;
    uint32_t collection, partition;
    const struct known *known;
    size_t *ends; /* of each key of it: behind its newest version */
    size_t key_count;
    uint64_t tries;
};

static XXH128_hash_t key_hash_of(const struct workload *w, const struct medium_scan *scan,
                                 const struct medium_record *r)
{
    uint8_t bytes[4 + 1024];
    KHO_ASSERT(r->key_len <= 1024);
    kho_store32(bytes, r->collection);
    memcpy(bytes + 4, scan->keys + r->key_at, r->key_len);
    return XXH3_128bits_withSeed(bytes, 4 + r->key_len, w->cluster->map_seed);
}

/* Of one shard's disk: `ret` has a digest for each collection and partition. */
static void digests_of(struct workload *w, const char *name, const struct medium_scan *scan,
                       struct digest *ret)
{
    uint32_t partitions = w->cluster->options.partitions;
    for (size_t i = 0; i < scan->count && !w->sim->failed; i++) {
        const struct medium_record *r = &scan->records[i];
        if (r->collection < 1 || r->collection > collections(w)) {
            sim_fail(w->sim, "%s has a record of collection %u", name, r->collection);
            return;
        }
        if (!medium_scan_is_newest(scan, i))
            continue;
        XXH128_hash_t key = key_hash_of(w, scan, r);
        uint32_t partition = (uint32_t)(key.low64 % partitions);
        digest_add(&ret[(r->collection - 1) * partitions + partition], w, r, key);
    }
}

static bool digest_equal(const struct digest *a, const struct digest *b)
{
    return a->count == b->count && a->bytes == b->bytes && a->sum == b->sum;
}

/* True if there is a choice of one version a key, from the k-th on, that makes the digest: none
 * older than what was told to a client, or no record where nothing was. */
static bool choice_exists(struct workload *w, struct table *t, size_t k, struct digest so_far,
                          const struct digest *wanted)
{
    if (k == t->key_count)
        return digest_equal(&so_far, wanted);
    if (++t->tries > 100000 || so_far.count > wanted->count)
        return false;
    const struct medium_record *newest = &t->scan->records[t->ends[k] - 1];
    const uint8_t *key = t->scan->keys + newest->key_at;
    const struct slot *slot = known_slot(t->known, t->collection, key, newest->key_len);
    struct version least = slot != NULL ? t->known->least[slot->history_key] : (struct version){0};
    XXH128_hash_t hash = key_hash_of(w, t->scan, newest);
    for (size_t i = t->ends[k]; i-- > 0;) {
        const struct medium_record *r = &t->scan->records[i];
        if ((i + 1 < t->ends[k] && medium_scan_is_newest(t->scan, i)) ||
            version_compare(r->version, least) < 0)
            break;
        struct digest with = so_far;
        digest_add(&with, w, r, hash);
        if (choice_exists(w, t, k + 1, with, wanted))
            return true;
    }
    return version_is_zero(least) && choice_exists(w, t, k + 1, so_far, wanted);
}

/* What one block holds of records that no client was told of. */
struct block_sum {
    uint64_t segment, offset;
    struct digest untold;
};

/* True if the digest is that of all but the untold records of one block, or of two: a start that
 * couldn't read them (their disk lied just then) doesn't know them, and nobody else has them. */
static bool blocks_missing(struct workload *w, const struct table *t, const struct digest *wanted)
{
    struct block_sum *blocks = zeros(t->key_count, sizeof *blocks);
    struct digest all = {0};
    size_t count = 0;
    bool found = false;
    for (size_t k = 0; k < t->key_count; k++) {
        const struct medium_record *r = &t->scan->records[t->ends[k] - 1];
        const struct slot *slot =
            known_slot(t->known, t->collection, t->scan->keys + r->key_at, r->key_len);
        XXH128_hash_t hash = key_hash_of(w, t->scan, r);
        digest_add(&all, w, r, hash);
        if (slot != NULL && !version_is_zero(t->known->least[slot->history_key]))
            continue;
        size_t b = 0;
        while (b < count && (blocks[b].segment != r->segment || blocks[b].offset != r->offset))
            b++;
        if (b == count)
            blocks[count++] = (struct block_sum){.segment = r->segment, .offset = r->offset};
        digest_add(&blocks[b].untold, w, r, hash);
    }
    for (size_t a = 0; a < count && !found; a++)
        for (size_t b = a; b < count && !found; b++) {
            const struct digest *x = &blocks[a].untold, *y = &blocks[b].untold;
            struct digest rest = {all.count - x->count, all.bytes - x->bytes, all.sum - x->sum};
            if (b > a)
                rest = (struct digest){rest.count - y->count, rest.bytes - y->bytes,
                                       rest.sum - y->sum};
            found = digest_equal(&rest, wanted);
        }
    free(blocks);
    return found;
}

/* A shard that gave up a version whose value it lost (FORGET) goes back to what others have of the
 * key, while its disk may hold versions in between, of writes in doubt: it counts none of those. */
static bool digest_explained(struct workload *w, const struct medium_scan *scan, size_t at,
                             const struct digest *told)
{
    uint32_t partitions = w->cluster->options.partitions;
    struct known known;
    struct table t = {.scan = scan,
                      .collection = (uint32_t)(at / partitions) + 1,
                      .partition = (uint32_t)(at % partitions),
                      .known = &known,
                      .ends = zeros(scan->count, sizeof *t.ends)};
    known_init(&known, w);
    for (size_t i = 0; i < scan->count; i++)
        if (scan->records[i].collection == t.collection && medium_scan_is_newest(scan, i) &&
            key_hash_of(w, scan, &scan->records[i]).low64 % partitions == t.partition)
            t.ends[t.key_count++] = i + 1;
    bool explained =
        blocks_missing(w, &t, told) || choice_exists(w, &t, 0, (struct digest){0}, told);
    known_fini(&known);
    free(t.ends);
    return explained;
}

static void digest_take(struct workload *w, const char *name, const uint8_t *entry,
                        struct digest *ret_told)
{
    uint32_t collection = kho_load32(entry + ENTRY_COLLECTION);
    uint32_t partition = kho_load32(entry + ENTRY_PARTITION);
    if (collection < 1 || collection > collections(w) ||
        partition >= w->cluster->options.partitions) {
        sim_fail(w->sim, "%s answers a digest of collection %u, partition %u", name, collection,
                 partition);
        return;
    }
    ret_told[(collection - 1) * w->cluster->options.partitions + partition] =
        (struct digest){.count = kho_load64(entry + ENTRY_COUNT),
                        .bytes = kho_load64(entry + ENTRY_BYTES),
                        .sum = (unsigned __int128)kho_load64(entry + ENTRY_SUM + 8) << 64 |
                               kho_load64(entry + ENTRY_SUM)};
}

/* Asks a shard for all its digests. */
static void digests_ask(struct workload *w, struct node *node, uint32_t shard,
                        struct digest *ret_told)
{
    struct raw raw;
    struct wire_head head = {.flags = KHO_FRAME_MORE};
    uint8_t ask[WIRE_DIGEST_ASK] = {0};
    const uint8_t *body;
    int rc = raw_open_shard(&raw, node, shard, &w->cluster->id, 0);
    if (rc == 0) {
        kho_store32(ask, KHO_ALL);
        kho_store32(ask + 8, w->cluster->options.partitions);
        raw_send(&raw, WIRE_DIGEST, 0, 1, raw.hello.epoch, raw.hello.map_hash, ask, sizeof ask);
    }
    while (rc == 0 && (head.flags & KHO_FRAME_MORE) != 0 && !w->sim->failed) {
        rc = raw_receive(&raw, &head, &body);
        rc = rc == 0 ? head.status : rc;
        for (uint32_t i = 0; rc == 0 && i < head.count && !w->sim->failed; i++)
            digest_take(w, node->name, body + (size_t)i * ENTRY_SIZE, ret_told);
    }
    if (rc != 0)
        sim_fail(w->sim, "%s.%u doesn't answer with its digests: %d", node->name, shard, rc);
    raw_close(&raw);
}

/* For the story: what of a shard's disk counts. */
static void disk_tell(struct workload *w, const char *name, const struct medium_scan *scan)
{
    for (size_t i = 0; i < scan->count; i++) {
        const struct medium_record *r = &scan->records[i];
        sim_trace(w->sim,
                  "disk of %s: collection %u key %.*s version %llu.%u%s, %u bytes, segment %llu "
                  "offset %llu%s",
                  name, r->collection, r->collection == 1 ? (int)r->key_len : 0,
                  (const char *)scan->keys + r->key_at, (unsigned long long)r->version.counter,
                  r->version.writer, r->tombstone ? ", deleted" : "", r->value_len,
                  (unsigned long long)r->segment, (unsigned long long)r->offset,
                  medium_scan_is_newest(scan, i) ? ": the newest" : "");
    }
}

static void shard_digests_check(struct workload *w, struct node *node, uint32_t shard,
                                const struct medium_scan *scan)
{
    size_t count = (size_t)collections(w) * w->cluster->options.partitions;
    const struct map *map = workload_map(w);
    KHO_ASSERT(map != NULL);
    struct digest *digests = zeros(count, sizeof *digests);
    struct digest *told = zeros(count, sizeof *told);
    digests_of(w, node->name, scan, digests);
    if (!w->sim->failed)
        digests_ask(w, node, shard, told);
    for (size_t i = 0; i < count && !w->sim->failed; i++) {
        const struct digest *t = &told[i], *d = &digests[i];
        w->checked.digests += t->count != 0 || d->count != 0;
        uint32_t partition = (uint32_t)(i % w->cluster->options.partitions);
        uint64_t since = map_listed_since(map, partition, node->index);
        bool listed = map_is_listed(map, partition, map->width, node->index);
        if (digest_equal(t, d))
            continue;
        /* What it held before counts for nothing; where it is a replica again, what it held before
         * that, and nobody was told of, may be newer. */
        if (!listed && t->count == 0)
            continue;
        if (((w->weak_ever >> node->index & 1) != 0 || since > 1) &&
            digest_explained(w, scan, i, t)) {
            w->checked.digests_older++;
            continue;
        }
        disk_tell(w, node->name, scan);
        sim_fail(w->sim,
                 "%s.%u answers for collection %zu, partition %zu: %llu records, %llu bytes, sum "
                 "%016llx...; its disk has %llu, %llu, %016llx...",
                 node->name, shard, i / w->cluster->options.partitions + 1,
                 i % w->cluster->options.partitions, (unsigned long long)t->count,
                 (unsigned long long)t->bytes, (unsigned long long)(t->sum >> 64),
                 (unsigned long long)d->count, (unsigned long long)d->bytes,
                 (unsigned long long)(d->sum >> 64));
    }
    free(digests);
    free(told);
}

void medium_check_digests(struct workload *w, const struct medium_view *view)
{
    const struct cluster_options *o = &w->cluster->options;
    for (uint32_t n = 0; n < o->nodes * o->shards && !w->sim->failed; n++)
        shard_digests_check(w, &w->cluster->nodes[n / o->shards], n % o->shards,
                            &view->scans[n / o->shards][n % o->shards]);
}
