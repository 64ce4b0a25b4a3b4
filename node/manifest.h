/* manifest.h: what a shard knows about its folder besides the log: which segments are live, which
 * damage is known, which episodes are open. A small file that is replaced whole (replace.c).
 *
 * File "manifest": head, then segments, episodes, damage, floors, retired, then zeros up to the
 * alignment.
 * Head (192)
 *   off len field
 *     0   4 magic "khoN"
 *     4   2 format       1
 *     6   2 least_reader 1
 *     8   8 length       of all that counts: head and the five lists
 *    16  16 checksum     XXH3-128, canonical order, of the bytes from 32 to `length`, seeded with
 *                        the XXH3-64 of the 16 bytes before
 *    32  16 cluster      zero: no map came yet
 *    48  16 incarnation
 *    64   4 shard
 *    68   4 shard_count
 *    72   8 generation   one more with each replacement
 *    80   8 durable      a sequence known to be durable
 *    88   8 next_segment the lowest segment id never used
 *    96   8 next_episode the lowest episode id never used; from 1
 *   104   8 readmitted   the highest epoch of a readmission that was handled (R2, WIPED)
 *   112   4 partitions   P; 0 where cluster is zero
 *   116   4 segments     counts of the lists
 *   120   4 episodes
 *   124   4 damages
 *   128   4 floors
 *   132   4 retired
 *   136   8 base         the sequence up to which segments account that are retired and older than
 *                        all listed ones; from 0
 *   144  16 base_checksum  of the last whole commit's head up to there: the first predecessor
 *   160  32 reserved, 0
 * Segment (88), by rising id
 *     0   8 id
 *     8   8 size         of the file
 *    16   4 alignment
 *    20   1 sealed       1: nothing is written any more, all that follows holds
 *    21   3 reserved
 *    24   8 end          of the commits
 *    32   8 last         the sequence up to which this segment and those before account for; what
 *                        was lost or dropped at its end is included, and so are the retired
 *                        segments between this one and the next; never falls, from `base` on
 *    40   4 footer       offset of the last footer in it; 0: none is known
 *    44   4 footer_bytes its length
 *    48  16 last_checksum  of the last whole commit's head up to here: the next predecessor
 *    64   8 stored       bytes of its blocks as stored (live.h)
 *    72   8 weight       what all its records weigh
 *    80   8 checked_ms   wall time when the scrub has last read it whole, or it was made
 * Episode (32 + P / 8, rounded up to 8)
 *     0   8 id
 *     8   1 kind         enum wire_episode_kind
 *     9   7 reserved
 *    16   8 epoch        of the map in force when it opened
 *    24   8 opened_ms
 *    32   … a bit a partition: 1 where it is open; bit p mod 8 of byte p / 8
 * Damage (40): a stretch of a segment known to be damaged; kept when its episode is closed, so that
 * a block that was healed by a copy opens no episode at the next start
 *     0   8 segment      id
 *     8   8 offset
 *    16   8 length       up to the end: 2^64 - 1
 *    24   8 episode      that it opened, 0: none (nothing live was lost)
 *    32   8 found_ms
 * Floor (24), of partitions where either isn't 0, rising
 *     0   4 partition
 *     4   4 reserved
 *     8   8 floor        highest counter of a tombstone dropped (R7)
 *    16   8 drops
 * Retired (8): the id of a segment that isn't listed any more since nothing in it is wanted, while
 * its file may still be there: it goes at the next start
 *
 * The segment table of this run lives here, too: its persisted part and what only this run knows. A
 * segment's slot in it is what places name (place.h). Ids rise for ever, slots are used again: once
 * a segment has retired and nothing names its slot. */
#ifndef KHO_NODE_MANIFEST_H
#define KHO_NODE_MANIFEST_H

#include <kho/wire.h>

#include "segment.h"

struct shard_world;

enum {
    MANIFEST_HEAD = 192,
    MANIFEST_FORMAT = 1,
    MANIFEST_SEGMENT = 88,
    MANIFEST_EPISODE = 32,
    MANIFEST_DAMAGE = 40,
    MANIFEST_FLOOR = 24,
    MANIFEST_RETIRED = 8,
    MANIFEST_EPISODES_MAX = 1024,
    MANIFEST_DAMAGES_MAX = 1 << 16
};
#define MANIFEST_MAGIC      0x4E6F686Bu /* "khoN" */
#define MANIFEST_LENGTH_MAX (128u << 20)
#define DAMAGE_TO_END       UINT64_MAX
#define MANIFEST_NO_SLOT    UINT32_MAX

enum segment_state {
    SEGMENT_FREE,   /* the slot has no segment */
    SEGMENT_MADE,   /* its file is being made */
    SEGMENT_LISTED, /* in the manifest */
    SEGMENT_RETIRED /* not any more: reads that began before may still name the slot */
};

struct segment {
    uint64_t id;
    uint64_t size;
    uint32_t alignment;
    bool sealed;
    uint64_t end;
    uint64_t last;
    struct kho_id last_checksum;
    uint32_t footer,
        footer_bytes;        /* the last one known to be written; in the manifest: if sealed */
    uint64_t stored, weight; /* of what was put into it: live.h */
    uint64_t checked_ms;
    /* Of this run only. */
    uint64_t live_weight, live_records;
    uint64_t landed;       /* unsealed: all up to here is written, commits and footers */
    uint32_t users;        /* scrub's reads under way */
    bool rewrite;          /* something in it is broken: compaction copies what isn't, and its file
                              isn't used again */
    bool stays;            /* compaction can't empty it */
    uint8_t state;         /* enum segment_state */
    uint32_t older, newer; /* neighbours among the listed ones, by id; MANIFEST_NO_SLOT: none */
    int32_t file;
    bool open;     /* the file can be read */
    bool touched;  /* recovery found other bytes than zeros behind its head… */
    uint64_t used; /* …up to here */
    struct survey_first {
        uint64_t sequence; /* 0: none was seen */
        struct kho_id predecessor;
    } first; /* the commit that it begins with, as its head says */
    struct survey_footer {
        uint64_t last; /* the highest sequence that it covers */
        uint32_t offset, length;
    } seen; /* the last footer that the survey saw, durable or not */
};

struct episode {
    uint64_t id;
    uint64_t epoch;
    uint64_t opened_ms;
    uint8_t kind; /* enum wire_episode_kind */
    uint8_t *bits;
    uint32_t open; /* bits that are set */
    /* Of this run only: the index still has the versions of what is damaged, so only the values of
     * the entries that say so are unknown. After a restart all the partition is. */
    bool versions_known;
};

struct damage {
    uint64_t segment;
    uint64_t offset;
    uint64_t length;
    uint64_t episode;
    uint64_t found_ms;
};

struct floor {
    uint64_t floor;
    uint64_t drops;
};

/* A growing array: `items` has room for `room`. */
struct list {
    void *items;
    uint32_t count, room;
};

struct manifest {
    struct shard_world *world;
    struct identity identity;
    uint32_t shard_count;
    uint64_t generation, durable, next_segment, next_episode, readmitted;
    uint32_t partitions;
    struct list segments;            /* struct segment, the slot is the position */
    uint32_t oldest, newest, listed; /* of the listed ones: slots, and how many there are */
    uint64_t base;
    struct kho_id base_checksum;
    struct list episodes; /* struct episode */
    struct list damages;  /* struct damage, in order of finding */
    struct list retired;  /* uint64_t, ids */
    struct floor *floors; /* one a partition once `partitions` is known */
    uint32_t hiding;      /* open episodes that hide (manifest_hides) */
};

void manifest_init(struct manifest *manifest, struct shard_world *world);
void manifest_fini(struct manifest *manifest);
/* Once, when the first map comes: floors and bitmaps get their size. -ENOMEM. */
int manifest_set_partitions(struct manifest *manifest, uint32_t partitions);

size_t manifest_length(const struct manifest *manifest);
/* Writes manifest_length() bytes. */
void manifest_encode(const struct manifest *manifest, uint8_t *to);
/* Fills a manifest that was only init()ed. 0; KHO_EMALFORMED; KHO_ECHECKSUM; KHO_EVERSION; -ENOMEM
 * (fini it in any case). Identity and shard count are filled in, not compared. */
int manifest_decode(struct manifest *manifest, const uint8_t *from, size_t length);

static inline struct segment *manifest_segment(const struct manifest *manifest, uint32_t slot)
{
    KHO_ASSERT(slot < manifest->segments.count);
    return (struct segment *)manifest->segments.items + slot;
}
static inline struct episode *manifest_episode(const struct manifest *manifest, uint32_t i)
{
    KHO_ASSERT(i < manifest->episodes.count);
    return (struct episode *)manifest->episodes.items + i;
}
static inline struct damage *manifest_damage(const struct manifest *manifest, uint32_t i)
{
    KHO_ASSERT(i < manifest->damages.count);
    return (struct damage *)manifest->damages.items + i;
}
/* A free slot for a segment that is being made. -ENOMEM; -ENOSPC: places name no more slots.
 * Pointers to segments are void afterwards: the table may have moved. */
int manifest_take_slot(struct manifest *manifest, uint32_t *ret_slot);
/* Lists a segment, whose id is higher than all before, in a slot that was taken for it. */
void manifest_list(struct manifest *manifest, uint32_t slot, const struct segment *segment);
/* Both. */
int manifest_add_segment(struct manifest *manifest, const struct segment *segment);
/* Whether a damage of that segment is known. */
bool manifest_has_damage(const struct manifest *manifest, uint64_t segment);
/* Takes a sealed segment in which nothing is wanted off the list, its damages too; the one before
 * it accounts for its sequences from now on, so that the log has no gap. Its slot stays taken until
 * manifest_free_slot(). -ENOMEM, and nothing happened. */
int manifest_retire(struct manifest *manifest, uint32_t slot);
bool manifest_is_retired(const struct manifest *manifest, uint64_t id);
/* The file of a retired segment is gone for good. */
void manifest_retired_gone(struct manifest *manifest, uint64_t id);
/* Nothing names the slot of a retired segment any more, or none was made in it. */
void manifest_free_slot(struct manifest *manifest, uint32_t slot);
/* True if [offset, offset + length) of the segment lies within known damage. */
bool manifest_damage_known(const struct manifest *manifest, uint64_t segment, uint64_t offset,
                           uint64_t length);
/* Drops damage that can't be noted (bound or memory) silently: the list saves work only. */
void manifest_add_damage(struct manifest *manifest, const struct damage *damage);
/* [offset, offset + length) of the segment holds after all: known damage is cut around it. False:
 * none is known there, or a part behind it can't be noted, and then nothing happened. */
bool manifest_cut_damage(struct manifest *manifest, uint64_t segment, uint64_t offset,
                         uint64_t length);

/* --- Episodes --------------------------------------------------------------------------------- */

/* An open one of that kind, epoch and mark, or a new one without partitions; NULL: no memory, or
 * MANIFEST_EPISODES_MAX. Reusing one keeps the list short: a repair that closes it works under a
 * higher epoch anyway. */
struct episode *manifest_open_episode(struct manifest *manifest, uint8_t kind, uint64_t epoch,
                                      uint64_t now_ms, bool versions_known);
void manifest_episode_set(struct manifest *manifest, struct episode *episode, uint32_t partition);
/* Closes one partition; an episode without partitions is removed. False: it wasn't open. */
bool manifest_episode_clear(struct manifest *manifest, uint64_t id, uint32_t partition);
struct episode *manifest_episode_find(const struct manifest *manifest, uint64_t id);
static inline bool manifest_episode_has(const struct episode *episode, uint32_t partition)
{
    return (episode->bits[partition / 8] >> (partition % 8) & 1) != 0;
}
/* The id of an open episode that hides what the partition may have lost: not SUSPECT ones, whose
 * answers are flagged, nor those whose versions are known. 0: none. */
uint64_t manifest_hides(const struct manifest *manifest, uint32_t partition);
/* The id of any open episode of the partition, those that hide first; 0: none. */
uint64_t manifest_episode_of(const struct manifest *manifest, uint32_t partition);
bool manifest_suspect(const struct manifest *manifest);

#endif
