/* manifest.c: the manifest in memory, and as bytes (layout: manifest.h).
 *
 * The state in memory is changed at once; store.c has it written and tells those who wait when that
 * is durable. Decoding trusts nothing: all counts are checked against the length first. */
#include "manifest.h"

#include "footer.h"
#include "place.h"
#include "store.h"

#include <errno.h>

enum { AT_CHECKED = 32, AT_BASE_CHECKSUM = 144, AT_RESERVED = 160 };

static uint32_t bitmap_bytes(uint32_t partitions)
{
    return (uint32_t)kho_round_up((partitions + 7) / 8, 8);
}
static uint32_t episode_bytes(uint32_t partitions)
{
    return MANIFEST_EPISODE + bitmap_bytes(partitions);
}

/* --- Lists ------------------------------------------------------------------------------------ */

static void *list_add(struct shard_world *world, struct list *list, size_t item)
{
    if (list->count == list->room) {
        uint32_t room = list->room == 0 ? 8 : list->room * 2;
        void *items = world_allocate(world, room * item, 0);
        if (items == NULL)
            return NULL;
        if (list->count > 0)
            memcpy(items, list->items, list->count * item);
        world_release(world, list->items, list->room * item);
        list->items = items;
        list->room = room;
    }
    void *added = (uint8_t *)list->items + list->count++ * item;
    memset(added, 0, item);
    return added;
}

static void list_fini(struct shard_world *world, struct list *list, size_t item)
{
    world_release(world, list->items, list->room * item);
    *list = (struct list){0};
}

/* --- Life ------------------------------------------------------------------------------------- */

void manifest_init(struct manifest *manifest, struct shard_world *world)
{
    *manifest = (struct manifest){.world = world,
                                  .next_segment = 1,
                                  .next_episode = 1,
                                  .oldest = MANIFEST_NO_SLOT,
                                  .newest = MANIFEST_NO_SLOT};
}

void manifest_fini(struct manifest *manifest)
{
    struct shard_world *world = manifest->world;
    if (world == NULL)
        return;
    for (uint32_t i = 0; i < manifest->episodes.count; i++)
        world_release(world, manifest_episode(manifest, i)->bits,
                      bitmap_bytes(manifest->partitions));
    list_fini(world, &manifest->segments, sizeof(struct segment));
    list_fini(world, &manifest->episodes, sizeof(struct episode));
    list_fini(world, &manifest->damages, sizeof(struct damage));
    list_fini(world, &manifest->retired, sizeof(uint64_t));
    world_release(world, manifest->floors, manifest->partitions * sizeof(struct floor));
    manifest->floors = NULL;
}

int manifest_set_partitions(struct manifest *manifest, uint32_t partitions)
{
    KHO_ASSERT(manifest->partitions == 0 && partitions > 0);
    size_t size = partitions * sizeof(struct floor);
    manifest->floors = world_allocate(manifest->world, size, 0);
    if (manifest->floors == NULL)
        return -ENOMEM;
    memset(manifest->floors, 0, size);
    manifest->partitions = partitions;
    return 0;
}

/* --- Segments --------------------------------------------------------------------------------- */

int manifest_take_slot(struct manifest *manifest, uint32_t *ret_slot)
{
    uint32_t slot = 0, count = manifest->segments.count;
    while (slot < count && manifest_segment(manifest, slot)->state != SEGMENT_FREE)
        slot++;
    if (slot >= PLACE_SLOTS_MAX)
        return -ENOSPC;
    if (slot == count &&
        list_add(manifest->world, &manifest->segments, sizeof(struct segment)) == NULL)
        return -ENOMEM;
    *manifest_segment(manifest, slot) = (struct segment){.state = SEGMENT_MADE, .file = -1};
    *ret_slot = slot;
    return 0;
}

void manifest_list(struct manifest *manifest, uint32_t slot, const struct segment *segment)
{
    uint32_t newest = manifest->newest;
    struct segment *listed = manifest_segment(manifest, slot);
    KHO_ASSERT(listed->state == SEGMENT_MADE);
    *listed = *segment;
    listed->state = SEGMENT_LISTED;
    listed->older = newest;
    listed->newer = MANIFEST_NO_SLOT;
    if (newest == MANIFEST_NO_SLOT) {
        manifest->oldest = slot;
    } else {
        KHO_ASSERT(manifest_segment(manifest, newest)->id < segment->id);
        manifest_segment(manifest, newest)->newer = slot;
    }
    manifest->newest = slot;
    manifest->listed++;
}

int manifest_add_segment(struct manifest *manifest, const struct segment *segment)
{
    uint32_t slot;
    int error = manifest_take_slot(manifest, &slot);
    if (error == 0)
        manifest_list(manifest, slot, segment);
    return error;
}

static void unlist(struct manifest *manifest, struct segment *segment)
{
    if (segment->older == MANIFEST_NO_SLOT) {
        manifest->oldest = segment->newer;
        manifest->base = segment->last;
        manifest->base_checksum = segment->last_checksum;
    } else {
        struct segment *older = manifest_segment(manifest, segment->older);
        KHO_ASSERT(older->sealed && older->last <= segment->last);
        older->newer = segment->newer;
        older->last = segment->last;
        older->last_checksum = segment->last_checksum;
    }
    if (segment->newer == MANIFEST_NO_SLOT)
        manifest->newest = segment->older;
    else
        manifest_segment(manifest, segment->newer)->older = segment->older;
    manifest->listed--;
}

static void damages_drop(struct manifest *manifest, uint64_t segment)
{
    struct damage *damages = manifest->damages.items;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < manifest->damages.count; i++)
        if (damages[i].segment != segment)
            damages[kept++] = damages[i];
    manifest->damages.count = kept;
}

bool manifest_has_damage(const struct manifest *manifest, uint64_t segment)
{
    const struct damage *damages = manifest->damages.items;
    for (uint32_t i = 0; i < manifest->damages.count; i++)
        if (damages[i].segment == segment)
            return true;
    return false;
}

int manifest_retire(struct manifest *manifest, uint32_t slot)
{
    struct segment *segment = manifest_segment(manifest, slot);
    KHO_ASSERT(segment->state == SEGMENT_LISTED && segment->sealed);
    uint64_t *added = list_add(manifest->world, &manifest->retired, sizeof *added);
    if (added == NULL)
        return -ENOMEM;
    *added = segment->id;
    unlist(manifest, segment);
    damages_drop(manifest, segment->id);
    segment->state = SEGMENT_RETIRED;
    return 0;
}

/* Where the id is among the retired ones, or their count. */
static uint32_t retired_find(const struct manifest *manifest, uint64_t id)
{
    const uint64_t *ids = manifest->retired.items;
    uint32_t i = 0;
    while (i < manifest->retired.count && ids[i] != id)
        i++;
    return i;
}

bool manifest_is_retired(const struct manifest *manifest, uint64_t id)
{
    return retired_find(manifest, id) < manifest->retired.count;
}

void manifest_retired_gone(struct manifest *manifest, uint64_t id)
{
    uint64_t *ids = manifest->retired.items;
    uint32_t at = retired_find(manifest, id);
    KHO_ASSERT(at < manifest->retired.count);
    ids[at] = ids[--manifest->retired.count];
}

void manifest_free_slot(struct manifest *manifest, uint32_t slot)
{
    struct segment *segment = manifest_segment(manifest, slot);
    KHO_ASSERT(segment->state == SEGMENT_RETIRED || segment->state == SEGMENT_MADE);
    *segment = (struct segment){.state = SEGMENT_FREE, .file = -1};
}

/* --- Damage ----------------------------------------------------------------------------------- */

bool manifest_damage_known(const struct manifest *manifest, uint64_t segment, uint64_t offset,
                           uint64_t length)
{
    for (uint32_t i = 0; i < manifest->damages.count; i++) {
        const struct damage *d = manifest_damage(manifest, i);
        if (d->segment == segment && offset >= d->offset && offset - d->offset <= d->length &&
            length <= d->length - (offset - d->offset))
            return true;
    }
    return false;
}

void manifest_add_damage(struct manifest *manifest, const struct damage *damage)
{
    if (manifest->damages.count >= MANIFEST_DAMAGES_MAX)
        return;
    struct damage *added = list_add(manifest->world, &manifest->damages, sizeof *added);
    if (added != NULL)
        *added = *damage;
}

static uint64_t damage_end(const struct damage *damage)
{
    return damage->length > UINT64_MAX - damage->offset ? UINT64_MAX
                                                        : damage->offset + damage->length;
}

bool manifest_cut_damage(struct manifest *manifest, uint64_t segment, uint64_t offset,
                         uint64_t length)
{
    struct list *damages = &manifest->damages;
    uint64_t end = offset + length;
    uint32_t splits = 0, kept = 0, count = damages->count;
    bool cut = false;
    for (uint32_t i = 0; i < count; i++) {
        const struct damage *d = manifest_damage(manifest, i);
        splits += d->segment == segment && d->offset < offset && damage_end(d) > end;
    }
    if (splits > MANIFEST_DAMAGES_MAX - count)
        return false;
    /* What is behind a cut in the middle first, while nothing has changed. */
    for (uint32_t i = 0; i < count && splits > 0; i++) {
        struct damage behind = *manifest_damage(manifest, i);
        if (behind.segment != segment || behind.offset >= offset || damage_end(&behind) <= end)
            continue;
        behind.length = damage_end(&behind) - end;
        behind.offset = end;
        struct damage *added = list_add(manifest->world, damages, sizeof *added);
        if (added == NULL) {
            damages->count = count;
            return false;
        }
        *added = behind;
    }
    for (uint32_t i = 0; i < damages->count; i++) {
        struct damage d = *manifest_damage(manifest, i);
        uint64_t to = damage_end(&d);
        if (d.segment == segment && d.offset < end && to > offset) {
            cut = true;
            if (d.offset >= offset && to <= end)
                continue;
            if (d.offset < offset) {
                d.length = offset - d.offset;
            } else {
                d.offset = end;
                d.length = to - end;
            }
        }
        *manifest_damage(manifest, kept++) = d;
    }
    damages->count = kept;
    return cut;
}

/* --- Episodes --------------------------------------------------------------------------------- */

static bool hides(const struct episode *episode)
{
    return episode->kind != WIRE_EPISODE_SUSPECT && !episode->versions_known;
}

static struct episode *episode_add(struct manifest *manifest)
{
    uint32_t bytes = bitmap_bytes(manifest->partitions);
    KHO_ASSERT(manifest->partitions > 0);
    if (manifest->episodes.count >= MANIFEST_EPISODES_MAX)
        return NULL;
    uint8_t *bits = world_allocate(manifest->world, bytes, 0);
    if (bits == NULL)
        return NULL;
    struct episode *episode = list_add(manifest->world, &manifest->episodes, sizeof *episode);
    if (episode == NULL) {
        world_release(manifest->world, bits, bytes);
        return NULL;
    }
    memset(bits, 0, bytes);
    episode->bits = bits;
    return episode;
}

struct episode *manifest_open_episode(struct manifest *manifest, uint8_t kind, uint64_t epoch,
                                      uint64_t now_ms, bool versions_known)
{
    for (uint32_t i = 0; i < manifest->episodes.count; i++) {
        struct episode *e = manifest_episode(manifest, i);
        if (e->kind == kind && e->epoch == epoch && e->versions_known == versions_known)
            return e;
    }
    struct episode *e = episode_add(manifest);
    if (e == NULL)
        return NULL;
    e->id = manifest->next_episode++;
    e->kind = kind;
    e->epoch = epoch;
    e->opened_ms = now_ms;
    e->versions_known = versions_known;
    manifest->hiding += hides(e);
    return e;
}

void manifest_episode_set(struct manifest *manifest, struct episode *episode, uint32_t partition)
{
    KHO_ASSERT(partition < manifest->partitions);
    if (manifest_episode_has(episode, partition))
        return;
    episode->bits[partition / 8] |= (uint8_t)(1u << (partition % 8));
    episode->open++;
}

struct episode *manifest_episode_find(const struct manifest *manifest, uint64_t id)
{
    for (uint32_t i = 0; i < manifest->episodes.count; i++)
        if (manifest_episode(manifest, i)->id == id)
            return manifest_episode(manifest, i);
    return NULL;
}

bool manifest_episode_clear(struct manifest *manifest, uint64_t id, uint32_t partition)
{
    struct episode *e = manifest_episode_find(manifest, id);
    if (e == NULL || partition >= manifest->partitions || !manifest_episode_has(e, partition))
        return false;
    e->bits[partition / 8] &= (uint8_t) ~(1u << (partition % 8));
    if (--e->open > 0)
        return true;
    manifest->hiding -= hides(e);
    world_release(manifest->world, e->bits, bitmap_bytes(manifest->partitions));
    uint32_t at = (uint32_t)(e - (struct episode *)manifest->episodes.items);
    memmove(e, e + 1, (manifest->episodes.count - at - 1) * sizeof *e);
    manifest->episodes.count--;
    return true;
}

uint64_t manifest_hides(const struct manifest *manifest, uint32_t partition)
{
    if (manifest->hiding == 0 || partition >= manifest->partitions)
        return 0;
    for (uint32_t i = 0; i < manifest->episodes.count; i++) {
        const struct episode *e = manifest_episode(manifest, i);
        if (hides(e) && manifest_episode_has(e, partition))
            return e->id;
    }
    return 0;
}

uint64_t manifest_episode_of(const struct manifest *manifest, uint32_t partition)
{
    uint64_t id = manifest_hides(manifest, partition);
    for (uint32_t i = 0; id == 0 && i < manifest->episodes.count; i++) {
        const struct episode *e = manifest_episode(manifest, i);
        if (partition < manifest->partitions && manifest_episode_has(e, partition))
            id = e->id;
    }
    return id;
}

bool manifest_suspect(const struct manifest *manifest)
{
    for (uint32_t i = 0; i < manifest->episodes.count; i++)
        if (manifest_episode(manifest, i)->kind == WIRE_EPISODE_SUSPECT)
            return true;
    return false;
}

/* --- As bytes --------------------------------------------------------------------------------- */

static uint32_t floors_set(const struct manifest *manifest)
{
    uint32_t count = 0;
    for (uint32_t p = 0; p < manifest->partitions; p++)
        count += manifest->floors[p].floor != 0 || manifest->floors[p].drops != 0;
    return count;
}

size_t manifest_length(const struct manifest *manifest)
{
    return MANIFEST_HEAD + (size_t)manifest->listed * MANIFEST_SEGMENT +
           (size_t)manifest->episodes.count * episode_bytes(manifest->partitions) +
           (size_t)manifest->damages.count * MANIFEST_DAMAGE +
           (size_t)floors_set(manifest) * MANIFEST_FLOOR +
           (size_t)manifest->retired.count * MANIFEST_RETIRED;
}

static struct kho_id manifest_checksum(const uint8_t *bytes, size_t length)
{
    struct kho_id id;
    XXH128_canonical_t canonical;
    uint64_t seed = XXH3_64bits(bytes, 16);
    XXH128_canonicalFromHash(&canonical,
                             XXH3_128bits_withSeed(bytes + AT_CHECKED, length - AT_CHECKED, seed));
    memcpy(id.bytes, canonical.digest, 16);
    return id;
}

static uint8_t *encode_lists(const struct manifest *manifest, uint8_t *p)
{
    const struct segment *s;
    for (uint32_t i = manifest->oldest; i != MANIFEST_NO_SLOT; i = s->newer) {
        s = manifest_segment(manifest, i);
        kho_store64(p, s->id);
        kho_store64(p + 8, s->size);
        kho_store32(p + 16, s->alignment);
        p[20] = s->sealed;
        if (s->sealed) {
            kho_store64(p + 24, s->end);
            kho_store64(p + 32, s->last);
            kho_store32(p + 40, s->footer);
            kho_store32(p + 44, s->footer_bytes);
            memcpy(p + 48, s->last_checksum.bytes, 16);
            kho_store64(p + 64, s->stored);
            kho_store64(p + 72, s->weight);
        }
        kho_store64(p + 80, s->checked_ms);
        p += MANIFEST_SEGMENT;
    }
    for (uint32_t i = 0; i < manifest->episodes.count; i++) {
        const struct episode *e = manifest_episode(manifest, i);
        kho_store64(p, e->id);
        p[8] = e->kind;
        kho_store64(p + 16, e->epoch);
        kho_store64(p + 24, e->opened_ms);
        memcpy(p + MANIFEST_EPISODE, e->bits, bitmap_bytes(manifest->partitions));
        p += episode_bytes(manifest->partitions);
    }
    for (uint32_t i = 0; i < manifest->damages.count; i++, p += MANIFEST_DAMAGE) {
        const struct damage *d = manifest_damage(manifest, i);
        kho_store64(p, d->segment);
        kho_store64(p + 8, d->offset);
        kho_store64(p + 16, d->length);
        kho_store64(p + 24, d->episode);
        kho_store64(p + 32, d->found_ms);
    }
    for (uint32_t i = 0; i < manifest->partitions; i++) {
        const struct floor *f = &manifest->floors[i];
        if (f->floor == 0 && f->drops == 0)
            continue;
        kho_store32(p, i);
        kho_store64(p + 8, f->floor);
        kho_store64(p + 16, f->drops);
        p += MANIFEST_FLOOR;
    }
    for (uint32_t i = 0; i < manifest->retired.count; i++, p += MANIFEST_RETIRED)
        kho_store64(p, ((const uint64_t *)manifest->retired.items)[i]);
    return p;
}

void manifest_encode(const struct manifest *m, uint8_t *to)
{
    size_t length = manifest_length(m);
    memset(to, 0, length);
    kho_store32(to, MANIFEST_MAGIC);
    kho_store16(to + 4, MANIFEST_FORMAT);
    kho_store16(to + 6, MANIFEST_FORMAT);
    kho_store64(to + 8, length);
    memcpy(to + 32, m->identity.cluster.bytes, 16);
    memcpy(to + 48, m->identity.incarnation.bytes, 16);
    kho_store32(to + 64, m->identity.shard);
    kho_store32(to + 68, m->shard_count);
    kho_store64(to + 72, m->generation);
    kho_store64(to + 80, m->durable);
    kho_store64(to + 88, m->next_segment);
    kho_store64(to + 96, m->next_episode);
    kho_store64(to + 104, m->readmitted);
    kho_store32(to + 112, m->partitions);
    kho_store32(to + 116, m->listed);
    kho_store32(to + 120, m->episodes.count);
    kho_store32(to + 124, m->damages.count);
    kho_store32(to + 128, floors_set(m));
    kho_store32(to + 132, m->retired.count);
    kho_store64(to + 136, m->base);
    memcpy(to + AT_BASE_CHECKSUM, m->base_checksum.bytes, 16);
    uint8_t *end = encode_lists(m, to + MANIFEST_HEAD);
    KHO_ASSERT((size_t)(end - to) == length);
    struct kho_id checksum = manifest_checksum(to, length);
    memcpy(to + 16, checksum.bytes, 16);
}

static bool footer_valid(const struct segment *s)
{
    if (s->footer == 0)
        return s->footer_bytes == 0;
    return s->sealed && s->footer >= segment_start(s->alignment) && s->footer % s->alignment == 0 &&
           s->footer_bytes % s->alignment == 0 && s->footer_bytes > 0 &&
           s->footer_bytes <= FOOTER_BYTES_MAX && (uint64_t)s->footer + s->footer_bytes <= s->end;
}

static int decode_segments(struct manifest *manifest, const uint8_t **p, uint32_t count)
{
    uint64_t before = 0, last = manifest->base;
    for (uint32_t i = 0; i < count; i++, *p += MANIFEST_SEGMENT) {
        struct segment s = {
            .id = kho_load64(*p),
            .size = kho_load64(*p + 8),
            .alignment = kho_load32(*p + 16),
            .sealed = (*p)[20] == 1,
            .end = kho_load64(*p + 24),
            .last = kho_load64(*p + 32),
            .footer = kho_load32(*p + 40),
            .footer_bytes = kho_load32(*p + 44),
            .stored = kho_load64(*p + 64),
            .weight = kho_load64(*p + 72),
            .checked_ms = kho_load64(*p + 80),
            .file = -1,
        };
        memcpy(s.last_checksum.bytes, *p + 48, 16);
        if (s.id <= before || s.id >= manifest->next_segment || (*p)[20] > 1 ||
            s.size > SEGMENT_BYTES_MAX || s.size < SEGMENT_UNIT || s.size % SEGMENT_UNIT != 0 ||
            s.alignment < SECTOR || s.alignment > 65536 || (s.alignment & (s.alignment - 1)) != 0)
            return KHO_EMALFORMED;
        if (s.sealed &&
            (s.end < segment_start(s.alignment) || s.end > s.size || s.end % s.alignment != 0))
            return KHO_EMALFORMED;
        if (!footer_valid(&s) || (s.sealed && (s.last < last || s.last > RISING_MAX)))
            return KHO_EMALFORMED;
        last = s.sealed ? s.last : last;
        int error = manifest_add_segment(manifest, &s);
        if (error != 0)
            return error;
        before = s.id;
    }
    return 0;
}

static int decode_episodes(struct manifest *manifest, const uint8_t **p, uint32_t count)
{
    uint32_t bytes = bitmap_bytes(manifest->partitions);
    for (uint32_t i = 0; i < count; i++) {
        struct episode *e = episode_add(manifest);
        if (e == NULL)
            return -ENOMEM;
        e->id = kho_load64(*p);
        e->kind = (*p)[8];
        e->epoch = kho_load64(*p + 16);
        e->opened_ms = kho_load64(*p + 24);
        memcpy(e->bits, *p + MANIFEST_EPISODE, bytes);
        for (uint32_t b = 0; b < bytes; b++)
            e->open += (uint32_t)__builtin_popcount(e->bits[b]);
        for (uint32_t b = manifest->partitions; b < bytes * 8; b++)
            if (manifest_episode_has(e, b))
                return KHO_EMALFORMED;
        if (e->id == 0 || e->id >= manifest->next_episode || e->open == 0 ||
            e->kind < WIRE_EPISODE_SUSPECT || e->kind > WIRE_EPISODE_WIPED)
            return KHO_EMALFORMED;
        manifest->hiding += hides(e);
        *p += MANIFEST_EPISODE + bytes;
    }
    return 0;
}

static int decode_retired(struct manifest *manifest, const uint8_t *p, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++, p += MANIFEST_RETIRED) {
        uint64_t id = kho_load64(p);
        if (id == 0 || id >= manifest->next_segment || manifest_is_retired(manifest, id))
            return KHO_EMALFORMED;
        uint64_t *added = list_add(manifest->world, &manifest->retired, sizeof *added);
        if (added == NULL)
            return -ENOMEM;
        *added = id;
    }
    return 0;
}

static int decode_rest(struct manifest *manifest, const uint8_t *p, uint32_t damages,
                       uint32_t floors, uint32_t retired)
{
    for (uint32_t i = 0; i < damages; i++, p += MANIFEST_DAMAGE) {
        struct damage d = {
            .segment = kho_load64(p),
            .offset = kho_load64(p + 8),
            .length = kho_load64(p + 16),
            .episode = kho_load64(p + 24),
            .found_ms = kho_load64(p + 32),
        };
        struct damage *added = list_add(manifest->world, &manifest->damages, sizeof d);
        if (added == NULL)
            return -ENOMEM;
        *added = d;
    }
    for (uint32_t i = 0; i < floors; i++, p += MANIFEST_FLOOR) {
        uint32_t partition = kho_load32(p);
        if (partition >= manifest->partitions)
            return KHO_EMALFORMED;
        manifest->floors[partition] =
            (struct floor){.floor = kho_load64(p + 8), .drops = kho_load64(p + 16)};
    }
    return decode_retired(manifest, p, retired);
}

int manifest_decode(struct manifest *m, const uint8_t *from, size_t available)
{
    if (available < MANIFEST_HEAD || kho_load32(from) != MANIFEST_MAGIC)
        return KHO_EMALFORMED;
    uint64_t length = kho_load64(from + 8);
    if (length < MANIFEST_HEAD || length > available || length > MANIFEST_LENGTH_MAX)
        return KHO_EMALFORMED;
    struct kho_id checksum = manifest_checksum(from, length);
    if (memcmp(checksum.bytes, from + 16, 16) != 0)
        return KHO_ECHECKSUM;
    if (kho_load16(from + 6) > MANIFEST_FORMAT)
        return KHO_EVERSION;
    memcpy(m->identity.cluster.bytes, from + 32, 16);
    memcpy(m->identity.incarnation.bytes, from + 48, 16);
    m->identity.shard = kho_load32(from + 64);
    m->shard_count = kho_load32(from + 68);
    m->generation = kho_load64(from + 72);
    m->durable = kho_load64(from + 80);
    m->next_segment = kho_load64(from + 88);
    m->next_episode = kho_load64(from + 96);
    m->readmitted = kho_load64(from + 104);
    uint32_t partitions = kho_load32(from + 112), segments = kho_load32(from + 116);
    uint32_t episodes = kho_load32(from + 120), damages = kho_load32(from + 124);
    uint32_t floors = kho_load32(from + 128), retired = kho_load32(from + 132);
    m->base = kho_load64(from + 136);
    memcpy(m->base_checksum.bytes, from + AT_BASE_CHECKSUM, 16);
    uint64_t wanted = MANIFEST_HEAD + (uint64_t)segments * MANIFEST_SEGMENT +
                      (uint64_t)episodes * episode_bytes(partitions) +
                      (uint64_t)damages * MANIFEST_DAMAGE + (uint64_t)floors * MANIFEST_FLOOR +
                      (uint64_t)retired * MANIFEST_RETIRED;
    if (partitions > KHO_PARTITIONS_MAX || wanted != length || m->shard_count == 0 ||
        episodes > MANIFEST_EPISODES_MAX || damages > MANIFEST_DAMAGES_MAX ||
        !all_zero(from + AT_RESERVED, MANIFEST_HEAD - AT_RESERVED) || m->generation > RISING_MAX ||
        m->durable > RISING_MAX || m->base > RISING_MAX || m->next_segment > RISING_MAX ||
        m->next_episode > RISING_MAX || m->readmitted > RISING_MAX ||
        (partitions == 0) != kho_id_is_zero(&m->identity.cluster) ||
        (partitions == 0 && segments + episodes + damages + floors + retired > 0))
        return KHO_EMALFORMED;
    int error = partitions > 0 ? manifest_set_partitions(m, partitions) : 0;
    const uint8_t *p = from + MANIFEST_HEAD;
    if (error == 0)
        error = decode_segments(m, &p, segments);
    if (error == 0)
        error = decode_episodes(m, &p, episodes);
    return error != 0 ? error : decode_rest(m, p, damages, floors, retired);
}
