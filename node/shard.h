/* shard.h: the door of the node's core: one shard as a state machine.
 *
 * No system call, clock, thread or I/O happens inside. The driver feeds inputs (all shard_* calls
 * that take `now`), then calls shard_turn_end(), drains the outbox (ops) and the events, and sleeps
 * until something completes or shard_deadline() passes. A turn:
 *
 *     shard_completed(…) / shard_accepted(…) / shard_received(…) / shard_disconnected(…)  any
 * number shard_tick(…)                  if the deadline passed shard_turn_end(…)              group
 * commit seals, replies are gathered into sends while ((op = shard_next_op()))     carry it out
 *     while (shard_next_event(&event))   log it
 *
 * Inputs may be called from inside no other input. The shard allocates from the heap within
 * options.memory_max; buffers for file I/O are aligned to options.alignment. */
#ifndef KHO_NODE_SHARD_H
#define KHO_NODE_SHARD_H

#include <kho/base.h>
#include <kho/map.h>
#include <kho/wire.h>

#include "op.h"

struct shard;

struct shard_options {
    uint32_t shard;       /* this one's number */
    uint32_t shard_count; /* of the folder */
    struct kho_id incarnation;
    struct kho_id boot;
    uint64_t seed;
    uint64_t segment_bytes; /* 32 MiB to 256 MiB, a multiple of 1 MiB; fewer, down to 1 MiB, only
                               for tests, in which each record fits */
    uint32_t alignment;     /* of direct I/O: a power of two, 512 to 65,536 */
    uint64_t memory_max;    /* bytes, index and buffers included; at least 64 MiB */
    uint32_t connections_max;
    uint32_t commits_max; /* commits in flight, 1 to 16 */
    uint32_t
        footer_entries;     /* records after which a footer is written, at most 16,384 (footer.h) */
    uint32_t idle_mark_ms;  /* after so long without a write an empty commit marks the end (R3) */
    uint64_t reserve_bytes; /* R4: below this much free disk user writes are refused; deletes,
                               repair and write-back below half of it; compaction below a quarter */
    uint64_t compact_rate;  /* bytes of segments that compaction reads a second; 0: none */
    uint64_t scrub_ms;      /* for a pass of the scrub over all sealed segments; 0: none is made */
    uint32_t compact_dead_percent; /* of the sealed segments, from which on it works: 10 to 90 */
};

void shard_options_init(struct shard_options *options);

enum shard_phase {
    SHARD_STARTING, /* recovery reads the folder; no connection is taken yet */
    SHARD_SERVING,
    SHARD_STOPPING,
    SHARD_STOPPED, /* all ops ended: destroy it */
    SHARD_FAILED   /* it can't start: the events say why */
};

/* -ENOMEM, -EINVAL (an option out of its range). */
int shard_create(const struct shard_options *options, struct shard **ret_shard);
/* Only in SHARD_STOPPED or SHARD_FAILED, or to drop it as a crash does: then the caller sees to it
 * that no op's buffer is touched any more. Takes NULL. */
void shard_destroy(struct shard *shard);

/* The areas that most reads and writes of files lie in, at most IO_AREAS_MAX: a driver may make
 * them known to the kernel. Returns how many. */
uint32_t shard_areas(const struct shard *shard, struct io_area *ret_areas);

/* Begins recovery. `files` is what the folder holds (temporary files too); read within the call. */
void shard_start(struct shard *shard, const struct file_found *files, size_t count,
                 struct kho_now now);
enum shard_phase shard_phase(const struct shard *shard);
/* Recovery for a progress line: bytes read and to read. */
void shard_progress(const struct shard *shard, uint64_t *ret_done, uint64_t *ret_total);

/* A connection whose HELLO the driver has received exactly and wire_hello_client_decode()d for this
 * shard; `conn` is below options.connections_max. The shard answers it (a refusal too, then
 * closes). */
void shard_accepted(struct shard *shard, int32_t conn, const struct wire_hello_client *hello,
                    struct kho_now now);
/* Bytes that came in, lent for the call. At most 256 KiB at once. */
void shard_received(struct shard *shard, int32_t conn, const uint8_t *bytes, size_t len,
                    struct kho_now now);
/* The peer closed or the connection broke (error: 0 or -errno). The shard answers with OP_CLOSE. */
void shard_disconnected(struct shard *shard, int32_t conn, int error, struct kho_now now);
void shard_completed(struct shard *shard, struct op *op, struct kho_now now);
void shard_tick(struct shard *shard, struct kho_now now);
void shard_turn_end(struct shard *shard, struct kho_now now);
/* Takes no new requests, finishes what is in flight, marks the end of the log, closes everything.
 */
void shard_stop(struct shard *shard, struct kho_now now);

/* The map that another shard of this node has in force: it is checked, persisted and put in force
 * as a pushed one is. Copied. 0: begun, or in force already; else as store_map_set(), and nothing
 * happened. */
int shard_map_set(struct shard *shard, const uint8_t *bytes, size_t length, struct kho_now now);
/* All shards of this node go by the map of `epoch` now, or aren't waited for: who pushed it, and
 * those before it, is answered. A folder of one shard needs no telling. */
void shard_map_spread(struct shard *shard, uint64_t epoch, struct kho_now now);
/* The map in force, or NULL; valid until the next input. */
const struct map *shard_map(const struct shard *shard);
/* Its epoch, or 0. */
uint64_t shard_epoch(const struct shard *shard);

/* The next op to carry out, removed from the outbox, or NULL. */
struct op *shard_next_op(struct shard *shard);
bool shard_next_event(struct shard *shard, struct event *ret_event);
/* When shard_tick() is wanted, monotonic ns; UINT64_MAX: not at all. */
uint64_t shard_deadline(const struct shard *shard);

/* For HELLO refusals made by the driver, and for tests. */
void shard_hello(const struct shard *shard, struct kho_now now, struct wire_hello_node *ret_hello);
uint64_t shard_stat(const struct shard *shard, enum wire_stat stat);

#endif
