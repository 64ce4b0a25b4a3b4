/* wire.h: the messages between a client and a node.
 *
 * A connection opens with one HELLO of 64 bytes from the client, answered by one of 128 bytes from
 * the shard that it names; the client sends nothing more until that answer is there. From then on
 * both sides send *frames*: a head of 64 bytes and a body, at most 256 KiB together. A request
 * carries many operations of one type; its answer names it by `request`. Answers come in any order,
 * and an answer may come as several frames: all but the last have KHO_FRAME_MORE. All integers are
 * little-endian; reserved fields are sent as 0 and refused otherwise.
 *
 * HELLO, client to node (64)                  HELLO, node to client (128)
 *   off len field                               off len field
 *     0   4 magic "khoH"                          0   4 magic "khoH"
 *     4   2 protocol_min                          4   2 protocol   the one to speak
 *     6   2 protocol_max                          6   2 flags      KHO_HELLO_*
 *     8  16 cluster     zero: not known           8   4 status     0, or a code of error.h: then
 *    24   4 shard                                                  the node closes after this
 *    28   4 reserved                             12   4 shard_count
 *    32   8 epoch       of the client's map      16  16 cluster    zero: the node has no map
 *    40  16 reserved                             32  16 incarnation
 *    56   8 XXH3-64 of the 56 bytes before       48  16 boot       drawn at each start
 *                                                64   8 epoch      of the node's map, 0: none
 *                                                72   8 map_hash   low 64 bits of the map's hash
 *                                                80   8 durable    the shard's durable sequence
 *                                                88   8 wall_ms
 *                                                96   8 features
 *                                               104  16 reserved
 *                                               120   8 XXH3-64 of the 120 bytes before
 *
 * Frame head (64)
 *     0   4 length      of the whole frame, head included: 64 to 262,144
 *     4   1 type        enum wire_type; an answer has the type of its request
 *     5   1 flags       KHO_FRAME_*
 *     6   2 count       of entries in the body
 *     8   8 checksum    XXH3-64 of the frame with these 8 bytes as zero
 *    16   8 request     chosen by the client, unique among its requests under way
 *    24   8 epoch       request: of the map it was asked under; answer: of the node's map
 *    32   8 map_hash    the same map's
 *    40  16 cluster     request: the cluster's id
 *        or, answer:    40 8 wall_ms of the node, 48 8 durable sequence of the shard
 *    56   4 status      answer: 0, or why the whole request was refused; then count is 0 and the
 *                       body is empty, or, for KHO_EEPOCHOLD, the node's map
 *    60   4 reserved
 *
 * HELLO and MAP are exempt from the check of epoch and cluster; STATUS from that of the epoch.
 *
 * Bodies (request -> answer). Entries follow one another without padding. A record's value may have
 * been compressed by its writer (record.h, codec 1), wherever a record stands: all that speak this
 * protocol take it, nodes give it back as it came, and readers unpack it. The lengths of a record
 * and of its DATA frames are those of the bytes sent.
 *   PROBE   ask { collection 4, partition 4, hash_low 8, hash_high 8 } x count
 *        -> { counter 8, writer 4, state 1, reserved 3, floor 8, drops 8 } x count, same order.
 *           Serves the stamp of a put and the votes of a get: an index look-up, no disk. `state` is
 *           enum wire_state; `floor` and `drops` are the partition's (R7).
 *   WRITE   { record } x count, or, with KHO_FRAME_COPY (write-back or repair: an existing version,
 *           R6), { drops 8, record } x count: the drop number that this node told before the source
 *           was read (R7). The values of all records have at most KHO_FRAME_VALUES_MAX bytes
 *           uncompressed: as many as one may have
 *        -> { status 4, reserved 4 } x count, same order: 0 is a durable acknowledgement
 *   WRITE_LARGE  as WRITE with count 1, but the body ends before the value; the value follows in
 *           DATA frames of the same request id, the last without KHO_FRAME_MORE -> as WRITE.
 *           Mandatory where the frame would pass 256 KiB.
 *   WRITE_BLOCKS  as WRITE (first-hand only), with the records compressed by the client, once for
 *           all replicas: { raw_len 4, stored_len 4, records 4, reserved 4, LZ4 block of stored_len
 *           bytes } once or more. A block unpacks to `records` records end to end, raw_len bytes of
 *           them (at most KHO_BLOCK_RAW_MAX), none of which is compressed by itself; all of a frame
 * to at most KHO_FRAME_RAW_MAX. `count` is of records, in all blocks. A node stores a block as it
 * came where it takes all that is in it -> as WRITE READ    { collection 4, key_len 2, ask 2,
 * partition 4, reserved 4, hash_low 8, hash_high 8, key } x count; `ask` is KHO_READ_*. With
 * key_len 0 the record is named by its tag (the hash's upper 72 bits; listing and repair know no
 * more), else by its key.
 *        -> { index 4, status 4, floor 8, drops 8, state 1, reserved 3, record_len 4, record }: in
 *           any order, over several frames; `index` says which entry it answers. status 0 with
 *           state PRESENT or TOMBSTONE: the record follows (its value left out, record_len shorter,
 *           if KHO_READ_HEAD asked so). status 0 with state ABSENT: no record. Other statuses
 *           (KHO_EUNKNOWN, KHO_EDAMAGED, -EIO): no vote, no record.
 *           A record that doesn't fit in a frame comes in a frame of its own with KHO_FRAME_LARGE:
 *           one entry whose record ends before the value; DATA frames of the same request id follow
 *           at once, the last with KHO_FRAME_LAST_DATA.
 *   LIST    { collection 4, partition_from 4, partition_to 4 (past the last), tag_low 1, ask 1,
 *             reserved 2, tag_high 8, limit 4, reserved 4 }, count 1
 *        -> each frame: { next_partition 4, next_tag_low 1, done 1, reserved 2, next_tag_high 8 },
 *           then { partition 4, writer 4, counter 8, tag_high 8, tag_low 1, state 1, reserved 2,
 *           record_len 4, record } x count in order of (partition, tag). Records are sent only with
 *           ask KHO_LIST_RECORDS, and never those over 64 KiB uncompressed (record_len 0: READ them
 *           by tag).
 *           `next` (of the last frame) is where to go on; done 1: nothing is left in the range.
 *           KHO_FRAME_EPISODE: a damage episode is open in a partition of the range.
 *   DIGEST  { collection 4 (KHO_ALL: every one), partition_from 4, partition_to 4, reserved 4 }
 *        -> { collection 4, partition 4, count 8, bytes 8, sum 16, floor 8, drops 8, episode 8 }
 *           x count over several frames; empty tables are left out. `count` is of entries,
 *           tombstones included; `episode` is the id of an open one, or 0. Where an episode is
 *           open over a partition without records, an entry with collection KHO_ALL tells it.
 *   EPISODES  empty -> { id 8, kind 4, partitions 4, epoch 8, opened_ms 8, first_partition 4,
 *           reserved 4 } x count; partitions: how many are open; epoch: the node's when it opened
 *   EPISODE_CLOSE  { id 8, partition 4, reserved 4 } x count -> { status 4, reserved 4 } x count.
 *           KHO_EEPISODE: the request's epoch isn't above that in which the episode opened.
 *   FORGET  { collection 4, partition 4, hash_low 8, hash_high 8, counter 8, writer 4, reserved 4 }
 *           x count -> { status 4, reserved 4 } x count: the node gives up a version whose value it
 *           lost, named by tag, since it was never acknowledged and nobody else has it; until
 *           repair has closed the partition's episodes, that answers unknown. -ENOENT: the node
 *           has another version of the key, or the value; KHO_EBUSY: the key is being written;
 *           KHO_EEPISODE: no episode is open there, or one that opened in the request's epoch.
 *   STATUS  empty -> { value 8 } x count, in the order of KHO_STATS; more may follow in time
 *   MAP     empty -> the node's map (count 1), or count 0 where it has none
 *   MAP_PUSH  { expected_epoch 8, expected_hash 8, decide 1, reserved 7, map }. decide 1: a change,
 *           compared with and swapped for the expected map, at its home node only (KHO_ENOTHOME);
 *           decide 0: a decided map, brought to a node that is behind. Answered once it is durable.
 *           KHO_EEPOCHOLD with the node's map: the node has a higher one, or the swap lost.
 *   FLUSH   empty -> empty, when all that was accepted before is durable
 */
#ifndef KHO_WIRE_H
#define KHO_WIRE_H

#include <kho/base.h>
#include <kho/error.h>
#include <kho/hash.h>
#include <kho/key.h>
#include <kho/record.h>
#include <kho/version.h>

#define KHO_PROTOCOL          1u
#define KHO_HELLO_MAGIC       0x486F686Bu /* "khoH" */
#define KHO_HELLO_CLIENT_SIZE 64u
#define KHO_HELLO_NODE_SIZE   128u
#define KHO_FRAME_HEAD        64u
#define KHO_FRAME_MAX         (256u << 10)
#define KHO_FRAME_ENTRIES_MAX 4096u
#define KHO_FRAME_RAW_MAX     KHO_FRAME_MAX /* of WRITE_BLOCKS, uncompressed */
#define KHO_FRAME_VALUES_MAX  KHO_VALUE_MAX /* of WRITE, uncompressed */
#define KHO_LIST_RECORD_MAX   (64u << 10)
#define KHO_ALL               0xFFFFFFFFu

/* HELLO flags of a node. */
#define KHO_HELLO_SUSPECT  1u /* an episode of the whole shard is open (R3) */
#define KHO_HELLO_READONLY 2u /* a write to disk failed (R4) */
#define KHO_HELLO_EPISODE                                                                          \
    4u /* some episode is open: a durable sequence that went back is known                         \
        */

/* Frame flags. */
#define KHO_FRAME_MORE      1u  /* more frames of this answer, or of this value, follow */
#define KHO_FRAME_COPY      2u  /* WRITE: an existing version, with drop numbers */
#define KHO_FRAME_SUSPECT   4u  /* answer: the shard is suspect; this is no vote (R3) */
#define KHO_FRAME_LARGE     8u  /* READ answer: the value follows in DATA frames */
#define KHO_FRAME_LAST_DATA 16u /* DATA: the value ends with this frame */
#define KHO_FRAME_EPISODE   32u /* LIST answer: an episode is open in the range */

#define KHO_READ_RECORD  0u
#define KHO_READ_HEAD    1u
#define KHO_LIST_RECORDS 1u

enum wire_type {
    WIRE_PROBE = 1,
    WIRE_WRITE = 2,
    WIRE_WRITE_LARGE = 3,
    WIRE_WRITE_BLOCKS = 4,
    WIRE_DATA = 5,
    WIRE_READ = 6,
    WIRE_LIST = 7,
    WIRE_DIGEST = 8,
    WIRE_EPISODES = 9,
    WIRE_EPISODE_CLOSE = 10,
    WIRE_STATUS = 11,
    WIRE_MAP = 12,
    WIRE_MAP_PUSH = 13,
    WIRE_FLUSH = 14,
    WIRE_FORGET = 15,
    WIRE_TYPE_END
};

/* What a replica knows of a key. */
enum wire_state {
    WIRE_ABSENT = 0,
    WIRE_PRESENT = 1,
    WIRE_TOMBSTONE = 2,
    WIRE_VALUE_UNKNOWN = 3, /* version known and a vote, the value is damaged (R2) */
    WIRE_UNKNOWN = 4        /* no vote: an episode hides what the replica may have lost */
};

enum wire_episode_kind {
    WIRE_EPISODE_SUSPECT = 1, /* the log's tail was neither whole nor plainly torn (R3) */
    WIRE_EPISODE_ROT = 2,     /* damaged blocks (R2) */
    WIRE_EPISODE_WIPED = 3    /* the folder was made anew and readmitted */
};

/* The numbers that STATUS answers: X(name, sentence). Only ever add at the end. */
#define KHO_STATS(X)                                                                               \
    X(records, "index entries, tombstones included")                                               \
    X(tombstones, "index entries that are deletes")                                                \
    X(value_bytes, "bytes of records as written, before compression")                              \
    X(segments, "segment files")                                                                   \
    X(segment_bytes, "bytes of the log in use, in all segments")                                   \
    X(commits, "commits made durable since start")                                                 \
    X(commit_bytes, "bytes of those commits, padding included")                                    \
    X(written, "records stored since start")                                                       \
    X(reads, "records read since start")                                                           \
    X(disk_reads, "reads that went to the disk since start")                                       \
    X(cache_hits, "reads that the block cache answered since start")                               \
    X(memory_bytes, "memory in use by index, buffers and cache")                                   \
    X(memory_max, "the bound on it")                                                               \
    X(index_bytes, "memory in use by the index")                                                   \
    X(connections, "open connections")                                                             \
    X(disk_free, "free bytes of the folder's file system at the last look")                        \
    X(damaged_blocks, "damaged blocks known")                                                      \
    X(values_unknown, "index entries whose value is damaged")                                      \
    X(episodes, "open damage episodes")                                                            \
    X(episode_partitions, "partitions in which an episode is open")                                \
    X(suspect, "1 if the shard is suspect")                                                        \
    X(readonly, "1 if a disk write failed and the shard takes no more")                            \
    X(durable, "durable sequence")                                                                 \
    X(epoch, "epoch of the map")                                                                   \
    X(recovery_ms, "how long the last start read the log")                                         \
    X(refused, "requests refused since start")                                                     \
    X(sealed_bytes, "bytes of segment files that are full")                                        \
    X(dead_bytes, "bytes of those that nobody needs any more: overwritten, or padding")            \
    X(compacted_segments, "segments that compaction gave back since start")                        \
    X(compacted_in, "bytes of segments that compaction read since start")                          \
    X(compacted_out, "bytes of records that it copied, uncompressed")                              \
    X(zeroed_bytes, "bytes of zeros written into new segments since start")                        \
    X(footer_bytes, "bytes of footers written since start")                                        \
    X(scrubbed_bytes, "bytes of segments that the scrub read since start")                         \
    X(scrub_age, "seconds since the scrub read the segment that waits longest for it")             \
    X(recycled_segments, "segments whose files became new ones since start")

enum wire_stat {
#define KHO_STAT_ENUM(name, sentence) STAT_##name,
    KHO_STATS(KHO_STAT_ENUM)
#undef KHO_STAT_ENUM
        STAT_COUNT
};

struct wire_hello_client {
    uint16_t protocol_min;
    uint16_t protocol_max;
    struct kho_id cluster;
    uint32_t shard;
    uint64_t epoch;
};

struct wire_hello_node {
    uint16_t protocol;
    uint16_t flags;
    int32_t status;
    uint32_t shard_count;
    struct kho_id cluster;
    struct kho_id incarnation;
    struct kho_id boot;
    uint64_t epoch;
    uint64_t map_hash;
    uint64_t durable;
    uint64_t wall_ms;
    uint64_t features;
};

/* A frame's head, decoded. `cluster` belongs to requests, `wall_ms` and `durable` to answers. */
struct wire_head {
    uint32_t length;
    uint8_t type;
    uint8_t flags;
    uint16_t count;
    uint64_t request;
    uint64_t epoch;
    uint64_t map_hash;
    struct kho_id cluster;
    uint64_t wall_ms;
    uint64_t durable;
    int32_t status;
};

enum {
    WIRE_PROBE_ASK = 24,
    WIRE_PROBE_ANSWER = 32,
    WIRE_STATUS_ANSWER = 8, /* of WRITE, EPISODE_CLOSE and FORGET */
    WIRE_DROPS = 8,         /* before each record of a COPY */
    WIRE_BLOCK_HEAD = 16,   /* of WRITE_BLOCKS */
    WIRE_READ_ASK = 32,
    WIRE_READ_ANSWER = 32,
    WIRE_LIST_ASK = 32,
    WIRE_LIST_HEAD = 16,
    WIRE_LIST_ENTRY = 32,
    WIRE_DIGEST_ASK = 16,
    WIRE_DIGEST_ENTRY = 64,
    WIRE_EPISODE_ENTRY = 40,
    WIRE_EPISODE_CLOSE_ASK = 16,
    WIRE_FORGET_ASK = 40,
    WIRE_STAT_VALUE = 8,
    WIRE_MAP_PUSH_HEAD = 24
};

struct wire_probe_ask {
    uint32_t collection;
    uint32_t partition;
    struct key_hash hash;
};
struct wire_probe_answer {
    struct version version;
    uint8_t state; /* enum wire_state */
    uint64_t floor;
    uint64_t drops;
};
struct wire_block_head {
    uint32_t raw_len;
    uint32_t stored_len;
    uint32_t records;
};
struct wire_forget_ask {
    uint32_t collection;
    uint32_t partition;
    struct key_hash hash;
    struct version version;
};
struct wire_read_ask {
    uint32_t collection;
    uint16_t key_len;
    uint16_t ask;
    uint32_t partition;
    struct key_hash hash;
    const uint8_t *key;
};
struct wire_read_answer {
    uint32_t index;
    int32_t status;
    uint64_t floor;
    uint64_t drops;
    uint8_t state;
    uint32_t record_len;
};
struct wire_list_ask {
    uint32_t collection;
    uint32_t partition_from;
    uint32_t partition_to;
    struct key_tag tag;
    uint8_t ask;
    uint32_t limit;
};
struct wire_list_head {
    uint32_t next_partition;
    struct key_tag next_tag;
    bool done;
};
struct wire_list_entry {
    uint32_t partition;
    struct version version;
    struct key_tag tag;
    uint8_t state;
    uint32_t record_len;
};
struct wire_digest_entry {
    uint32_t collection;
    uint32_t partition;
    uint64_t count;
    uint64_t bytes;
    uint64_t sum_low;
    uint64_t sum_high;
    uint64_t floor;
    uint64_t drops;
    uint64_t episode;
};
struct wire_episode {
    uint64_t id;
    uint32_t kind;
    uint32_t partitions;
    uint64_t epoch;
    uint64_t opened_ms;
    uint32_t first_partition;
};

/* --- HELLO ------------------------------------------------------------------------------------ */

static inline void wire_hello_client_encode(const struct wire_hello_client *h, uint8_t *to)
{
    memset(to, 0, KHO_HELLO_CLIENT_SIZE);
    kho_store32(to, KHO_HELLO_MAGIC);
    kho_store16(to + 4, h->protocol_min);
    kho_store16(to + 6, h->protocol_max);
    memcpy(to + 8, h->cluster.bytes, 16);
    kho_store32(to + 24, h->shard);
    kho_store64(to + 32, h->epoch);
    kho_store64(to + 56, XXH3_64bits(to, 56));
}
/* 0, KHO_EMALFORMED (not a HELLO, or a hash that differs), or KHO_EVERSION (no common protocol). */
static inline int wire_hello_client_decode(const uint8_t *from, struct wire_hello_client *ret)
{
    if (kho_load32(from) != KHO_HELLO_MAGIC || kho_load64(from + 56) != XXH3_64bits(from, 56))
        return KHO_EMALFORMED;
    struct wire_hello_client h = {
        .protocol_min = kho_load16(from + 4),
        .protocol_max = kho_load16(from + 6),
        .shard = kho_load32(from + 24),
        .epoch = kho_load64(from + 32),
    };
    memcpy(h.cluster.bytes, from + 8, 16);
    if (h.protocol_min > KHO_PROTOCOL || h.protocol_max < KHO_PROTOCOL)
        return KHO_EVERSION;
    *ret = h;
    return 0;
}
static inline void wire_hello_node_encode(const struct wire_hello_node *h, uint8_t *to)
{
    memset(to, 0, KHO_HELLO_NODE_SIZE);
    kho_store32(to, KHO_HELLO_MAGIC);
    kho_store16(to + 4, h->protocol);
    kho_store16(to + 6, h->flags);
    kho_store32(to + 8, (uint32_t)h->status);
    kho_store32(to + 12, h->shard_count);
    memcpy(to + 16, h->cluster.bytes, 16);
    memcpy(to + 32, h->incarnation.bytes, 16);
    memcpy(to + 48, h->boot.bytes, 16);
    kho_store64(to + 64, h->epoch);
    kho_store64(to + 72, h->map_hash);
    kho_store64(to + 80, h->durable);
    kho_store64(to + 88, h->wall_ms);
    kho_store64(to + 96, h->features);
    kho_store64(to + 120, XXH3_64bits(to, 120));
}
static inline int wire_hello_node_decode(const uint8_t *from, struct wire_hello_node *ret)
{
    if (kho_load32(from) != KHO_HELLO_MAGIC || kho_load64(from + 120) != XXH3_64bits(from, 120))
        return KHO_EMALFORMED;
    struct wire_hello_node h = {
        .protocol = kho_load16(from + 4),
        .flags = kho_load16(from + 6),
        .status = (int32_t)kho_load32(from + 8),
        .shard_count = kho_load32(from + 12),
        .epoch = kho_load64(from + 64),
        .map_hash = kho_load64(from + 72),
        .durable = kho_load64(from + 80),
        .wall_ms = kho_load64(from + 88),
        .features = kho_load64(from + 96),
    };
    memcpy(h.cluster.bytes, from + 16, 16);
    memcpy(h.incarnation.bytes, from + 32, 16);
    memcpy(h.boot.bytes, from + 48, 16);
    if (h.status == 0 && h.protocol != KHO_PROTOCOL)
        return KHO_EVERSION;
    *ret = h;
    return 0;
}

/* --- Frames ----------------------------------------------------------------------------------- */

static inline uint64_t wire_checksum(const uint8_t *frame, size_t length)
{
    /* Head without its checksum (56 bytes gathered), then the body, seeded with the head's hash. */
    uint8_t head[KHO_FRAME_HEAD - 8];
    memcpy(head, frame, 8);
    memcpy(head + 8, frame + 16, KHO_FRAME_HEAD - 16);
    uint64_t hash = XXH3_64bits(head, sizeof head);
    return XXH3_64bits_withSeed(frame + KHO_FRAME_HEAD, length - KHO_FRAME_HEAD, hash);
}
/* Writes the head over the first 64 bytes of a frame whose body (head->length - 64 bytes) is
 * already in place, and the checksum over both. `answer` chooses which of the two meanings 40..55
 * have. */
static inline void wire_frame_seal(uint8_t *frame, const struct wire_head *head, bool answer)
{
    KHO_ASSERT(head->length >= KHO_FRAME_HEAD && head->length <= KHO_FRAME_MAX);
    kho_store32(frame, head->length);
    frame[4] = head->type;
    frame[5] = head->flags;
    kho_store16(frame + 6, head->count);
    kho_store64(frame + 16, head->request);
    kho_store64(frame + 24, head->epoch);
    kho_store64(frame + 32, head->map_hash);
    if (answer) {
        kho_store64(frame + 40, head->wall_ms);
        kho_store64(frame + 48, head->durable);
    } else {
        memcpy(frame + 40, head->cluster.bytes, 16);
    }
    kho_store32(frame + 56, (uint32_t)head->status);
    kho_store32(frame + 60, 0);
    kho_store64(frame + 8, wire_checksum(frame, head->length));
}
/* How long the frame is that begins at `bytes`: 0 while fewer than 4 bytes are there, else its
 * length, or KHO_EMALFORMED: the connection can't be read any further. */
static inline int wire_frame_length(const uint8_t *bytes, size_t len)
{
    if (len < 4)
        return 0;
    uint32_t length = kho_load32(bytes);
    if (length < KHO_FRAME_HEAD || length > KHO_FRAME_MAX)
        return KHO_EMALFORMED;
    return (int)length;
}
/* Decodes and checks a whole frame of wire_frame_length() bytes. 0; KHO_ECHECKSUM; KHO_EMALFORMED:
 * an unknown type, too many entries, or a status above 0. The body is frame + 64, head.length - 64
 * bytes. */
static inline int wire_frame_decode(const uint8_t *frame, struct wire_head *ret)
{
    struct wire_head h = {
        .length = kho_load32(frame),
        .type = frame[4],
        .flags = frame[5],
        .count = kho_load16(frame + 6),
        .request = kho_load64(frame + 16),
        .epoch = kho_load64(frame + 24),
        .map_hash = kho_load64(frame + 32),
        .wall_ms = kho_load64(frame + 40),
        .durable = kho_load64(frame + 48),
        .status = (int32_t)kho_load32(frame + 56),
    };
    memcpy(h.cluster.bytes, frame + 40, 16);
    KHO_ASSERT(h.length >= KHO_FRAME_HEAD && h.length <= KHO_FRAME_MAX);
    if (kho_load64(frame + 8) != wire_checksum(frame, h.length))
        return KHO_ECHECKSUM;
    if (h.type < WIRE_PROBE || h.type >= WIRE_TYPE_END || h.count > KHO_FRAME_ENTRIES_MAX ||
        h.status > 0 || kho_load32(frame + 60) != 0)
        return KHO_EMALFORMED;
    *ret = h;
    return 0;
}

/* --- Entries: the encoders write fixed sizes named in the enum above; the decoders read the same.
 * Callers check first that so many bytes are there. ------------------------------------------- */

static inline void wire_probe_ask_encode(const struct wire_probe_ask *e, uint8_t *to)
{
    kho_store32(to, e->collection);
    kho_store32(to + 4, e->partition);
    kho_store64(to + 8, e->hash.low);
    kho_store64(to + 16, e->hash.high);
}
static inline void wire_probe_ask_decode(const uint8_t *from, struct wire_probe_ask *ret)
{
    ret->collection = kho_load32(from);
    ret->partition = kho_load32(from + 4);
    ret->hash.low = kho_load64(from + 8);
    ret->hash.high = kho_load64(from + 16);
}
static inline void wire_probe_answer_encode(const struct wire_probe_answer *e, uint8_t *to)
{
    kho_store64(to, e->version.counter);
    kho_store32(to + 8, e->version.writer);
    kho_store32(to + 12, e->state);
    kho_store64(to + 16, e->floor);
    kho_store64(to + 24, e->drops);
}
static inline void wire_probe_answer_decode(const uint8_t *from, struct wire_probe_answer *ret)
{
    ret->version.counter = kho_load64(from);
    ret->version.writer = kho_load32(from + 8);
    ret->state = from[12];
    ret->floor = kho_load64(from + 16);
    ret->drops = kho_load64(from + 24);
}
static inline void wire_block_head_encode(const struct wire_block_head *e, uint8_t *to)
{
    kho_store32(to, e->raw_len);
    kho_store32(to + 4, e->stored_len);
    kho_store32(to + 8, e->records);
    kho_store32(to + 12, 0);
}
/* Returns the bytes of the entry, the compressed ones included, or KHO_EMALFORMED. */
static inline int wire_block_head_decode(const uint8_t *from, size_t len,
                                         struct wire_block_head *ret)
{
    if (len < WIRE_BLOCK_HEAD)
        return KHO_EMALFORMED;
    struct wire_block_head e = {
        .raw_len = kho_load32(from),
        .stored_len = kho_load32(from + 4),
        .records = kho_load32(from + 8),
    };
    if (e.raw_len > KHO_BLOCK_RAW_MAX || e.stored_len < 1 || e.stored_len >= e.raw_len ||
        e.records < 1 || e.records > e.raw_len / (KHO_RECORD_HEAD + 1) ||
        kho_load32(from + 12) != 0 || len - WIRE_BLOCK_HEAD < e.stored_len)
        return KHO_EMALFORMED;
    *ret = e;
    return (int)(WIRE_BLOCK_HEAD + e.stored_len);
}
static inline void wire_read_ask_encode(const struct wire_read_ask *e, uint8_t *to)
{
    kho_store32(to, e->collection);
    kho_store16(to + 4, e->key_len);
    kho_store16(to + 6, e->ask);
    kho_store32(to + 8, e->partition);
    kho_store32(to + 12, 0);
    kho_store64(to + 16, e->hash.low);
    kho_store64(to + 24, e->hash.high);
    if (e->key_len > 0)
        memcpy(to + WIRE_READ_ASK, e->key, e->key_len);
}
/* Returns the bytes of the entry, key included, or KHO_EMALFORMED. */
static inline int wire_read_ask_decode(const uint8_t *from, size_t len, struct wire_read_ask *ret)
{
    if (len < WIRE_READ_ASK)
        return KHO_EMALFORMED;
    struct wire_read_ask e = {
        .collection = kho_load32(from),
        .key_len = kho_load16(from + 4),
        .ask = kho_load16(from + 6),
        .partition = kho_load32(from + 8),
        .hash = {.low = kho_load64(from + 16), .high = kho_load64(from + 24)},
        .key = from + WIRE_READ_ASK,
    };
    if (e.key_len > KHO_KEY_MAX || e.ask > KHO_READ_HEAD || kho_load32(from + 12) != 0 ||
        len - WIRE_READ_ASK < e.key_len)
        return KHO_EMALFORMED;
    *ret = e;
    return WIRE_READ_ASK + e.key_len;
}
static inline void wire_read_answer_encode(const struct wire_read_answer *e, uint8_t *to)
{
    kho_store32(to, e->index);
    kho_store32(to + 4, (uint32_t)e->status);
    kho_store64(to + 8, e->floor);
    kho_store64(to + 16, e->drops);
    kho_store32(to + 24, e->state);
    kho_store32(to + 28, e->record_len);
}
static inline void wire_read_answer_decode(const uint8_t *from, struct wire_read_answer *ret)
{
    ret->index = kho_load32(from);
    ret->status = (int32_t)kho_load32(from + 4);
    ret->floor = kho_load64(from + 8);
    ret->drops = kho_load64(from + 16);
    ret->state = from[24];
    ret->record_len = kho_load32(from + 28);
}
static inline void wire_list_ask_encode(const struct wire_list_ask *e, uint8_t *to)
{
    memset(to, 0, WIRE_LIST_ASK);
    kho_store32(to, e->collection);
    kho_store32(to + 4, e->partition_from);
    kho_store32(to + 8, e->partition_to);
    to[12] = e->tag.low;
    to[13] = e->ask;
    kho_store64(to + 16, e->tag.high);
    kho_store32(to + 24, e->limit);
}
static inline void wire_list_ask_decode(const uint8_t *from, struct wire_list_ask *ret)
{
    ret->collection = kho_load32(from);
    ret->partition_from = kho_load32(from + 4);
    ret->partition_to = kho_load32(from + 8);
    ret->tag.low = from[12];
    ret->ask = from[13];
    ret->tag.high = kho_load64(from + 16);
    ret->limit = kho_load32(from + 24);
}
static inline void wire_list_head_encode(const struct wire_list_head *e, uint8_t *to)
{
    memset(to, 0, WIRE_LIST_HEAD);
    kho_store32(to, e->next_partition);
    to[4] = e->next_tag.low;
    to[5] = e->done;
    kho_store64(to + 8, e->next_tag.high);
}
static inline void wire_list_head_decode(const uint8_t *from, struct wire_list_head *ret)
{
    ret->next_partition = kho_load32(from);
    ret->next_tag.low = from[4];
    ret->done = from[5] != 0;
    ret->next_tag.high = kho_load64(from + 8);
}
static inline void wire_list_entry_encode(const struct wire_list_entry *e, uint8_t *to)
{
    kho_store32(to, e->partition);
    kho_store32(to + 4, e->version.writer);
    kho_store64(to + 8, e->version.counter);
    kho_store64(to + 16, e->tag.high);
    to[24] = e->tag.low;
    to[25] = e->state;
    kho_store16(to + 26, 0);
    kho_store32(to + 28, e->record_len);
}
static inline void wire_list_entry_decode(const uint8_t *from, struct wire_list_entry *ret)
{
    ret->partition = kho_load32(from);
    ret->version.writer = kho_load32(from + 4);
    ret->version.counter = kho_load64(from + 8);
    ret->tag.high = kho_load64(from + 16);
    ret->tag.low = from[24];
    ret->state = from[25];
    ret->record_len = kho_load32(from + 28);
}
static inline void wire_digest_entry_encode(const struct wire_digest_entry *e, uint8_t *to)
{
    kho_store32(to, e->collection);
    kho_store32(to + 4, e->partition);
    kho_store64(to + 8, e->count);
    kho_store64(to + 16, e->bytes);
    kho_store64(to + 24, e->sum_low);
    kho_store64(to + 32, e->sum_high);
    kho_store64(to + 40, e->floor);
    kho_store64(to + 48, e->drops);
    kho_store64(to + 56, e->episode);
}
static inline void wire_digest_entry_decode(const uint8_t *from, struct wire_digest_entry *ret)
{
    ret->collection = kho_load32(from);
    ret->partition = kho_load32(from + 4);
    ret->count = kho_load64(from + 8);
    ret->bytes = kho_load64(from + 16);
    ret->sum_low = kho_load64(from + 24);
    ret->sum_high = kho_load64(from + 32);
    ret->floor = kho_load64(from + 40);
    ret->drops = kho_load64(from + 48);
    ret->episode = kho_load64(from + 56);
}
static inline void wire_episode_encode(const struct wire_episode *e, uint8_t *to)
{
    kho_store64(to, e->id);
    kho_store32(to + 8, e->kind);
    kho_store32(to + 12, e->partitions);
    kho_store64(to + 16, e->epoch);
    kho_store64(to + 24, e->opened_ms);
    kho_store32(to + 32, e->first_partition);
    kho_store32(to + 36, 0);
}
static inline void wire_episode_decode(const uint8_t *from, struct wire_episode *ret)
{
    ret->id = kho_load64(from);
    ret->kind = kho_load32(from + 8);
    ret->partitions = kho_load32(from + 12);
    ret->epoch = kho_load64(from + 16);
    ret->opened_ms = kho_load64(from + 24);
    ret->first_partition = kho_load32(from + 32);
}

static inline void wire_forget_ask_encode(const struct wire_forget_ask *e, uint8_t *to)
{
    kho_store32(to, e->collection);
    kho_store32(to + 4, e->partition);
    kho_store64(to + 8, e->hash.low);
    kho_store64(to + 16, e->hash.high);
    kho_store64(to + 24, e->version.counter);
    kho_store32(to + 32, e->version.writer);
    kho_store32(to + 36, 0);
}
/* False: a reserved bit is set. */
static inline bool wire_forget_ask_decode(const uint8_t *from, struct wire_forget_ask *ret)
{
    ret->collection = kho_load32(from);
    ret->partition = kho_load32(from + 4);
    ret->hash = (struct key_hash){.low = kho_load64(from + 8), .high = kho_load64(from + 16)};
    ret->version =
        (struct version){.counter = kho_load64(from + 24), .writer = kho_load32(from + 32)};
    return kho_load32(from + 36) == 0;
}

#endif
