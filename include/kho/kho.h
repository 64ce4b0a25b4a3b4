/* kho.h: libkho, the client of a kho cluster. Installed, with error.h.
 *
 * What it promises (README, "Guarantees"): a write that ended KHO_APPLIED is on stable storage on W
 * of the record's R replicas (2 of 3 by default), and every read that begins later returns it or a
 * newer one. Nothing here weakens that.
 *
 * Two layers:
 *   struct kho           asynchronous, on the caller's libuv loop. All calls on it, and all its
 *                        callbacks, belong to the loop's thread. No call blocks.
 *   struct kho_blocking  for programs without a loop: runs one in a thread of its own. Any number
 * of threads may call it at once; each call returns when its operation ended.
 *
 * Rules of every asynchronous call
 *   - It returns 0 and its callback runs exactly once, later, never within the call; or it returns
 * a negative code and its callback never runs.
 *   - Names, keys, values and items are copied before the call returns.
 *   - What a callback is handed (results, keys, values) is lent until the callback returns.
 *   - Each call has a deadline in milliseconds from now (0: the option's) and ends by it.
 *   - A batch isn't atomic: each record has its own result, in the order of the items. Equal keys
 * in one batch apply in the order of the array. Puts on one key by one client are sent in the order
 *     of submission, with rising versions.
 *   - Codes are those of error.h, or -errno.
 *   - A client keeps its loop alive until it has closed. It raises no SIGPIPE and touches no signal
 *     disposition.
 *   - A child made by fork() opens clients of its own: calls on an inherited one (of either layer)
 *     return KHO_ECLOSED, and closing it there has no effect.
 */
#ifndef KHO_KHO_H
#define KHO_KHO_H

#include <stddef.h>
#include <stdint.h>

#include <kho/error.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define KHO_API __attribute__((visibility("default")))
#else
#define KHO_API
#endif

struct uv_loop_s;
struct kho;
struct kho_blocking;

/* The order of writes to one key: by counter, then by writer. Counters hold milliseconds since 1970
 * times 2^20 as long as nothing pushed them ahead. */
struct kho_version {
    uint64_t counter;
    uint32_t writer;
};

/* The outcome of a write. */
enum kho_outcome {
    KHO_APPLIED = 0,     /* durable on a majority */
    KHO_NOT_APPLIED = 1, /* no replica has it or will */
    KHO_IN_DOUBT = 2     /* it may be there, or appear later: go on with the token */
};

/* Names an in-doubt write. Plain bytes: may be stored and used by another process. Handing it in
 * with the same collection, key and value goes on with the same version, so the write happens once.
 */
struct kho_token {
    uint8_t bytes[64];
};

/* One record of a call. get, stat and del read the key only; append takes key_len 0 for a new key,
 * or a key of 16 bytes that it returned before. */
struct kho_item {
    const void *key;
    size_t key_len;                /* 1 to 1,024 */
    const void *value;             /* put, append */
    size_t value_len;              /* 0 to 16,777,216 */
    const struct kho_token *token; /* put, del, append: of an in-doubt attempt; else NULL */
};

struct kho_result {
    int status;                 /* 0; KHO_ENOTFOUND; another code. In doubt: KHO_EINDOUBT */
    enum kho_outcome outcome;   /* of a write */
    struct kho_version version; /* of the record read or written; zero if there is none */
    const void *key;
    size_t key_len;
    const void *value;      /* get and list with values; NULL otherwise */
    size_t value_len;       /* get, stat, list: the value's length, present or not */
    uint8_t hash[16];       /* XXH3-128 (canonical) of the value: get, stat, put, append, list */
    struct kho_token token; /* where outcome is KHO_IN_DOUBT */
};

/* Memory comes from here. Zeroed members: malloc and free. `release` takes NULL. Of the blocking
 * layer it is called by several threads at once. */
struct kho_heap {
    void *(*allocate)(size_t size, void *arg);
    void (*release)(void *memory, void *arg);
    void *arg;
};

/* Set by kho_options_init; change what you need. */
struct kho_options {
    size_t struct_size;
    const char *cluster;           /* seeds, "HOST:PORT,HOST:PORT"; any one reachable is enough */
    uint32_t deadline_ms;          /* of calls that name none; default 10,000 */
    uint32_t unavailable_after_ms; /* a majority out of reach so long fails calls; default 2,000 */
    /* A read asks a majority of the replicas. What takes longer than 99 of 100 such requests have
     * taken lately, but 1 ms at least, is asked of another replica, too, for up to 5 % of the
     * reads; after hedge_ms, until it is known how long they take, and of a node that says nothing
     * for so long, for all. Default 50; UINT32_MAX: never (reads ask all replicas from the start).
     */
    uint32_t hedge_ms;
    uint64_t inflight_bytes_max; /* keys and values of calls under way; default 64 MiB */
    uint64_t holdback_bytes_max; /* values held for lagging replicas after W; default 64 MiB */
    struct kho_heap heap;
    /* 16 bytes, copied: a seed of another cluster is refused (KHO_ECLUSTER), so that a service
     * whose addresses went to other nodes doesn't read and write there. NULL: whichever answers
     * first. kho_cluster tells the id. */
    const uint8_t *cluster_id;
    /* A value of at least so many bytes is compressed by the call that puts it, once for all its
     * replicas, where that saves an eighth: about 1 ms for each MiB, on the thread of the call.
     * Readers get what was put. Default 8,000; UINT32_MAX: no value is compressed by itself. Values
     * below 8,000 bytes are compressed together, where several wait to be sent. */
    uint32_t compress_min;
    uint32_t reserved; /* 0 */
};

/* Sets the defaults in the first struct_size bytes, which is what the caller knows of the struct:
 * an older program goes on with a newer library. */
KHO_API void kho_options_init_sized(struct kho_options *options, size_t struct_size);
static inline void kho_options_init(struct kho_options *options)
{
    kho_options_init_sized(options, sizeof *options);
}

/* "1.0.0" */
KHO_API const char *kho_version_string(void);
/* The sentence of any code, the kernel's included. Never NULL, never freed. */
KHO_API const char *kho_strerror(int code);

typedef void (*kho_done_cb)(struct kho *client, int status, void *arg);
typedef void (*kho_records_cb)(struct kho *client, const struct kho_result *results, size_t count,
                               void *arg);

/* Names a call under way, for kho_cancel. 0 is none. */
typedef uint64_t kho_call_id;

/* --- Opening and closing ---------------------------------------------------------------------- */

/* Makes a client on `loop` and starts to look for the cluster. `opened` (may be NULL) runs once the
 * map is there, or with an error when the deadline passed without one; the client goes on trying
 * either way. Calls may be submitted at once. -EINVAL: no seeds, or one that isn't HOST:PORT. */
KHO_API int kho_open(struct uv_loop_s *loop, const struct kho_options *options, kho_done_cb opened,
                     void *arg, struct kho **ret_client);

/* Refuses new calls (KHO_ECLOSED), lets those under way end, waits until acknowledged writes have
 * reached all replicas or their deadlines ended, closes, runs `closed` and frees the client, which
 * must not be touched from then on. `closed` may be NULL. Call it once. */
KHO_API void kho_close(struct kho *client, kho_done_cb closed, void *arg);

/* Ends a call now: its callback runs with KHO_ECANCELED, and KHO_IN_DOUBT for writes that were
 * sent. A call that has ended is no error. */
KHO_API void kho_cancel(struct kho *client, kho_call_id call);

/* --- Records ---------------------------------------------------------------------------------- */

/* Each takes `count` items (1 to 65,536) of one collection, deadline_ms (0: the option's), a
 * callback, and an optional place for the call's id.
 *
 * Errors of the call: KHO_EKEYSIZE, KHO_EVALUESIZE, KHO_ECOLLECTIONNAME, KHO_ETOKEN, KHO_EBUSY (the
 * bound of bytes in flight: wait for kho_on_room; a call is always taken while nothing is in
 * flight), KHO_ECLOSED, -ENOMEM, -EINVAL. Errors of a result: KHO_ENOCOLLECTION, KHO_EUNAVAILABLE,
 * KHO_EDEADLINE, KHO_ECANCELED, KHO_EINDOUBT, KHO_EFULL, KHO_ENOSPACE, KHO_EREADONLY,
 * KHO_ECONFLICT, KHO_EDAMAGED; get and stat also KHO_ENOTFOUND.  del of an absent key is applied
 * (it writes a tombstone). */
KHO_API int kho_put(struct kho *client, const char *collection, const struct kho_item *items,
                    size_t count, uint32_t deadline_ms, kho_records_cb cb, void *arg,
                    kho_call_id *ret_call);
KHO_API int kho_del(struct kho *client, const char *collection, const struct kho_item *items,
                    size_t count, uint32_t deadline_ms, kho_records_cb cb, void *arg,
                    kho_call_id *ret_call);
/* Stores a value under a new 16-byte key, which the result brings: one round trip instead of two.
 */
KHO_API int kho_append(struct kho *client, const char *collection, const struct kho_item *items,
                       size_t count, uint32_t deadline_ms, kho_records_cb cb, void *arg,
                       kho_call_id *ret_call);
/* The newest value, its content hash checked here against the one that the writer computed. */
KHO_API int kho_get(struct kho *client, const char *collection, const struct kho_item *items,
                    size_t count, uint32_t deadline_ms, kho_records_cb cb, void *arg,
                    kho_call_id *ret_call);
/* As get, without the value: version, length and content hash. */
KHO_API int kho_stat(struct kho *client, const char *collection, const struct kho_item *items,
                     size_t count, uint32_t deadline_ms, kho_records_cb cb, void *arg,
                     kho_call_id *ret_call);

/* Bytes of keys and values under way, and the bound. */
KHO_API uint64_t kho_inflight_bytes(const struct kho *client);
/* Runs `cb` once when the bytes under way have fallen to half of the bound. One at a time: a later
 * call replaces an earlier one. */
KHO_API void kho_on_room(struct kho *client, kho_done_cb cb, void *arg);

/* Waits until all writes submitted before are on all R replicas: 0; KHO_EUNAVAILABLE, if some were
 * given up (a replica away for long, the bound of held-back bytes): kho_repair brings them. */
KHO_API int kho_flush(struct kho *client, uint32_t deadline_ms, kho_done_cb cb, void *arg);

/* --- Listing ---------------------------------------------------------------------------------- */

/* Where a listing goes on. Zeroed: at the start. Plain bytes, stable while the cluster grows. */
struct kho_cursor {
    uint8_t bytes[16];
};

typedef void (*kho_list_cb)(struct kho *client, int status, const struct kho_result *results,
                            size_t count, const struct kho_cursor *next, int done, void *arg);

enum { KHO_LIST_WITH_VALUES = 1 };

/* One page of a collection, about `limit` records (1 to 65,536; it may be fewer or none before
 * `done`), in the order of key hashes. A record acknowledged before the listing began and not
 * deleted appears exactly once. No snapshot, no order by key, no prefixes. A record whose newest
 * value no replica can give is there, too: with status KHO_EDAMAGED and without its key, which lies
 * with the value. */
KHO_API int kho_list(struct kho *client, const char *collection, const struct kho_cursor *from,
                     size_t limit, unsigned flags, uint32_t deadline_ms, kho_list_cb cb, void *arg,
                     kho_call_id *ret_call);

/* --- The cluster ------------------------------------------------------------------------------ */

struct kho_collection_info {
    const char *name;
    uint32_t id;
    unsigned replicas;
    int separator; /* of the placement key, -1: none */
};

struct kho_cluster_info {
    uint8_t cluster[16];
    uint64_t epoch; /* 0: no map yet */
    uint64_t map_hash;
    uint32_t partitions;
    unsigned replicas, write_quorum, read_quorum;
    const char *home;
    size_t node_count;
    size_t collection_count;
    const struct kho_collection_info *collections;
};

/* What the client's map says; lent until the next callback or call. KHO_ENOMAP before `opened`. */
KHO_API int kho_cluster(struct kho *client, struct kho_cluster_info *ret_info);

/* What one node says of itself. */
struct kho_node_status {
    const char *name;
    const char *address;
    uint16_t port;
    const char *zone;
    int status; /* 0, or why it couldn't be asked */
    uint8_t incarnation[16];
    uint64_t epoch; /* of the map it holds */
    size_t stat_count;
    const char *const *stat_names; /* names of error-free numbers: see kho_stat_sentence */
    const uint64_t *stats;
};
typedef void (*kho_status_cb)(struct kho *client, int status, const struct kho_node_status *nodes,
                              size_t count, void *arg);
KHO_API int kho_status(struct kho *client, uint32_t deadline_ms, kho_status_cb cb, void *arg);
/* What a number of that name means, or NULL. */
KHO_API const char *kho_stat_sentence(const char *name);

/* The digest of one collection on one node: equal digests, equal (key hash, version) sets.
 * `records` counts tombstones too. */
struct kho_digest {
    const char *collection;
    const char *node;
    int status; /* 0, or why it couldn't be asked */
    uint64_t records;
    uint64_t bytes;
    uint8_t sum[16];
    uint64_t episodes; /* partitions in which a damage episode is open */
};
typedef void (*kho_digests_cb)(struct kho *client, int status, const struct kho_digest *digests,
                               size_t count, void *arg);
/* collection NULL: all. */
KHO_API int kho_digests(struct kho *client, const char *collection, uint32_t deadline_ms,
                        kho_digests_cb cb, void *arg);

/* Comparison of all replicas of one collection, partition by partition. */
struct kho_verify_result {
    const char *collection;
    uint64_t records; /* the largest count among the replicas, summed */
    uint64_t bytes;
    uint32_t partitions; /* that hold records */
    uint32_t partitions_differing;
    uint32_t partitions_unreached; /* some replica couldn't be asked */
    uint32_t partitions_damaged;   /* some replica has an open episode */
};
typedef void (*kho_verify_cb)(struct kho *client, int status,
                              const struct kho_verify_result *results, size_t count, void *arg);
KHO_API int kho_verify(struct kho *client, const char *collection, uint32_t deadline_ms,
                       kho_verify_cb cb, void *arg);

/* Progress and result of a repair. */
struct kho_repair_result {
    uint32_t partitions; /* to look at */
    uint32_t partitions_done;
    uint32_t partitions_differing;
    uint64_t records_compared;
    uint64_t records_copied;
    uint64_t bytes_copied;
    uint64_t records_lost; /* no replica could give the newest value */
    /* Of puts that were never acknowledged and left a version whose value no replica has: given
     * up, for the version before. */
    uint64_t records_dropped;
    uint64_t episodes_found; /* partitions with an open episode, replica by replica */
    uint64_t episodes_closed;
    uint64_t nodes_unreached;
    uint64_t epoch;
    uint32_t partitions_moving; /* whose replica sets change still */
    uint32_t partitions_moved;  /* of them, those whose new replicas have everything */
    uint64_t layouts_finished;  /* changes of the layout that this repair brought to their end */
};
typedef void (*kho_repair_cb)(struct kho *client, int status,
                              const struct kho_repair_result *result, int done, void *arg);
/* Makes the replicas of a collection (NULL: of all) equal: brings the map to nodes that are behind,
 * raises the epoch where episodes are open (R2), compares, copies what differs, closes episodes.
 * A repair of all collections also brings a change of the layout to its end (kho_node_add and what
 * follows it): copies the partitions that change to their new replicas, and decides the map in
 * which the new layout stands alone once a majority of it has everything (R5).
 * `cb` runs with done 0 as it goes on (about twice a second) and once with done 1. Ends with 0;
 * KHO_EUNAVAILABLE: some replica was out of reach, the rest is done; KHO_EOVERLAP: episodes
 * overlap; KHO_EDAMAGED: records_lost; KHO_EMOVING: the layout still changes, since some new
 * replica lacks something. */
KHO_API int kho_repair(struct kho *client, const char *collection, kho_repair_cb cb, void *arg,
                       kho_call_id *ret_call);

/* Makes a collection; separator -1: none; replicas 0: the cluster's. Ends when a majority of the
 * nodes has the new map. KHO_ECOLLECTIONEXISTS. KHO_EUNAVAILABLE and KHO_EDEADLINE are no refusal:
 * the home may have decided already and the collection appear; a second call then says that it
 * exists. */
KHO_API int kho_collection_create(struct kho *client, const char *name, int separator,
                                  unsigned replicas, uint32_t deadline_ms, kho_done_cb cb,
                                  void *arg);

/* Brings the client's map to the nodes that hold an older one or none. Ends with the first error,
 * or KHO_EUNAVAILABLE where a node couldn't be reached. */
KHO_API int kho_map_push(struct kho *client, uint32_t deadline_ms, kho_done_cb cb, void *arg);

/* Takes a node back whose data folder was made anew: puts its present incarnation into the map,
 * every partition of it as an open episode, for kho_repair to close (R2). -ENOENT: no node of that
 * name; -EALREADY: the map names its present incarnation. */
KHO_API int kho_node_readmit(struct kho *client, const char *name, uint32_t deadline_ms,
                             kho_done_cb cb, void *arg);

/* --- Changes of the nodes --------------------------------------------------------------------- */

/* A change of the nodes says what shall be: who is there, with which weight, in which zone. What
 * that moves is done in rounds. A round is one decided map in which some partitions have their old
 * replicas and their new ones, so that every operation needs a majority of both (R5); kho_repair
 * copies them and decides the map in which the new ones stand alone; KHO_NODE_BALANCE begins the
 * next round, until none is left. Each step may be interrupted at any point and run again, by
 * whomever. */
enum kho_node_verb {
    KHO_NODE_ADD = 1, /* `name` at `address`, a running node that belongs to no cluster */
    KHO_NODE_DRAIN,   /* `name` gives all it holds to the others; reads and writes go on there */
    KHO_NODE_UNDRAIN, /* `name` takes its share again */
    KHO_NODE_REPLACE, /* `by` at `address` takes the place of `name`, which may be lost for good */
    KHO_NODE_REMOVE,  /* `name`, which holds nothing any more, leaves the map */
    KHO_NODE_SET,     /* `weight` and `zone` of `name` */
    KHO_NODE_HOME,    /* `name` decides the changes from now on */
    KHO_NODE_BALANCE  /* nothing but the next round */
};
struct kho_node_change {
    size_t struct_size;
    enum kho_node_verb verb;
    const char *name; /* [a-z0-9-], up to 32 characters */
    const char *by;
    const char *address; /* "HOST:PORT" */
    const char *zone;    /* NULL: ADD: a zone of its own; REPLACE, SET: as it was */
    unsigned weight;     /* 0: ADD: 100; REPLACE, SET: as it was */
    /* HOME: the present home is lost for good. The other nodes are told at once, without its word.
     * It must be true: where it still runs somewhere, two sides may decide different maps. */
    int force;
    int plan;                /* nothing is changed: what it would take is told */
    uint32_t partitions_max; /* of one round; 0: as many as a map can hold */
};
struct kho_node_change_result {
    uint64_t epoch;            /* of the map that was decided, or is in force */
    uint32_t partitions;       /* whose replica sets change in this round */
    uint32_t partitions_left;  /* and in rounds after it */
    uint64_t replicas;         /* to be filled, in all rounds */
    uint64_t replicas_at_risk; /* plan: partitions of which a present replica is out of reach now */
    uint64_t records, bytes;   /* plan: what those replicas have to be sent, uncompressed */
    uint32_t fullest, fullest_after; /* the fullest node over its share, in thousandths */
};
/* `result` is lent for the call. */
typedef void (*kho_node_change_cb)(struct kho *client, int status,
                                   const struct kho_node_change_result *result, void *arg);
/* Ends when a majority of the nodes has the new map; a change that is in force already ends with 0.
 * -ENOENT: no node of that name; -EEXIST: a node of that name, or that node, is in the map;
 * -EINVAL: a name, an address or a weight is no good, or fewer nodes would be left than replicas;
 * -EBUSY: REMOVE, and it holds partitions still; KHO_EMOVING: another change's round is under way,
 * run kho_repair; KHO_ECLUSTER: the node at the address belongs to another cluster; KHO_ETOOLARGE.
 */
KHO_API int kho_node_change(struct kho *client, const struct kho_node_change *change,
                            uint32_t deadline_ms, kho_node_change_cb cb, void *arg);

/* How a new cluster is made from running nodes that have no map yet. */
struct kho_cluster_plan {
    size_t struct_size;
    const char *addresses; /* "HOST:PORT,…": the nodes; the first is the map's home */
    const char *names;     /* "a,b,c": one a node, or NULL: a, b, c, … */
    const char *zones;     /* one a node, or NULL: each its own */
    uint32_t partitions;   /* 0: 4,096 */
    unsigned replicas;     /* 0: 3, or the number of nodes if that is less */
    unsigned write_quorum; /* 0: a majority of replicas */
    unsigned read_quorum;  /* 0: the fewest that overlap with the write quorum */
};
typedef void (*kho_init_cb)(int status, const char *message, const void *map, size_t map_len,
                            void *arg);
/* Asks each node for incarnation and shard count, computes the map and pushes it. `message` names
 * the node and the cause of a failure. `map` is lent: write it to a file for safe keeping. Refused
 * with -EEXIST where a node has a map already. */
KHO_API int kho_cluster_init(struct uv_loop_s *loop, const struct kho_cluster_plan *plan,
                             uint32_t deadline_ms, kho_init_cb cb, void *arg);

/* --- The blocking layer ----------------------------------------------------------------------- */

/* What a blocking call returns. Free with kho_results_free; all inside belongs to it. */
struct kho_results {
    size_t count;
    const struct kho_result *records;
    struct kho_cursor next; /* kho_blocking_list */
    int done;
};
KHO_API void kho_results_free(struct kho_results *results);

/* Opens and waits for the map, at most options->deadline_ms. Where the bound of bytes in flight is
 * reached, later calls wait for room until their deadlines, in order, instead of KHO_EBUSY. */
KHO_API int kho_blocking_open(const struct kho_options *options, struct kho_blocking **ret_client);
/* Drains as kho_close does and frees. No other call may be under way or come later. Takes NULL. */
KHO_API void kho_blocking_close(struct kho_blocking *client);

/* As their asynchronous namesakes. They return the error of the call, or 0 with *ret_results, whose
 * records have each their own status. */
KHO_API int kho_blocking_put(struct kho_blocking *client, const char *collection,
                             const struct kho_item *items, size_t count, uint32_t deadline_ms,
                             struct kho_results **ret_results);
KHO_API int kho_blocking_del(struct kho_blocking *client, const char *collection,
                             const struct kho_item *items, size_t count, uint32_t deadline_ms,
                             struct kho_results **ret_results);
KHO_API int kho_blocking_append(struct kho_blocking *client, const char *collection,
                                const struct kho_item *items, size_t count, uint32_t deadline_ms,
                                struct kho_results **ret_results);
KHO_API int kho_blocking_get(struct kho_blocking *client, const char *collection,
                             const struct kho_item *items, size_t count, uint32_t deadline_ms,
                             struct kho_results **ret_results);
KHO_API int kho_blocking_stat(struct kho_blocking *client, const char *collection,
                              const struct kho_item *items, size_t count, uint32_t deadline_ms,
                              struct kho_results **ret_results);
KHO_API int kho_blocking_list(struct kho_blocking *client, const char *collection,
                              const struct kho_cursor *from, size_t limit, unsigned flags,
                              uint32_t deadline_ms, struct kho_results **ret_results);
KHO_API int kho_blocking_flush(struct kho_blocking *client, uint32_t deadline_ms);
KHO_API int kho_blocking_collection_create(struct kho_blocking *client, const char *name,
                                           int separator, unsigned replicas, uint32_t deadline_ms);

#ifdef __cplusplus
}
#endif

#endif
