/* What does a start make of a damaged folder? An image of a whole store (recover_image.h) is
 * changed by the input's list of edits; the shipping store recovers it and is read. Whatever was
 * changed:
 *
 *   - it ends ready, or failed with an error that says why;
 *   - where the checksums of bodies were left alone, what it gives for a key and version is what
 * was written;
 *   - where no checksum was mended, a key of which the undamaged bytes say that it was durable is
 *     not answered as absent or older, unless an episode is open there (R2, R3);
 *   - it goes on: takes a write, stops, starts again, and still has it.
 *
 * Input: mode 1, then edits: what 1, place 4, value. */
#include "fuzz.h"

#include "recover_image.h"

#include <errno.h>

#include "node/footer.h"
#include "node/segment.h"

enum {
    MODE_CRASHED = 1,
    MODE_MEND_HEADS = 2,
    MODE_MEND_BODIES = 4,
    MODE_MAP = 8,
    MODE_GO_ON = 16,
    MODE_REVERSED = 32,
    EDITS_MAX = 24,
    TURNS_MAX = 20000,
    OPS_MAX = 256
};

static const uint64_t T0 = 1700000000000ull << KHO_COUNTER_TIME_BITS;
static struct image *g_images[2];
static struct shard_world g_world;
static struct kho_now g_now;
static bool g_error_told;
static bool g_tell; /* KHO_FUZZ_EVENTS is set: events to stderr, for whoever looks into a finding */

/* --- Memory -----------------------------------------------------------------------------------
 * A start takes some 30 MiB in a few large pieces. They are kept from one run to the next, which is
 * ten times as fast as to take them from the heap. What is asked for at another size has its own
 * place in the pool; everything smaller comes from the heap, with the sanitizer's eye on it. */

enum { POOL_FROM = 32 << 10, POOL_MAX = 256 };

struct pooled {
    void *memory;
    size_t size, alignment;
    bool used;
};
static struct pooled g_pool[POOL_MAX];
static uint32_t g_pool_count;

void *__real_world_allocate(struct shard_world *world, size_t size, size_t alignment);
void *__wrap_world_allocate(struct shard_world *world, size_t size, size_t alignment);
void __real_world_release(struct shard_world *world, void *memory, size_t size);
void __wrap_world_release(struct shard_world *world, void *memory, size_t size);

void *__wrap_world_allocate(struct shard_world *world, size_t size, size_t alignment)
{
    if (size < POOL_FROM || world != &g_world)
        return __real_world_allocate(world, size, alignment);
    if (world->memory_bytes > world->memory_max || size > world->memory_max - world->memory_bytes)
        return NULL;
    struct pooled *found = NULL;
    for (uint32_t i = 0; i < g_pool_count && found == NULL; i++)
        if (!g_pool[i].used && g_pool[i].size == size && g_pool[i].alignment == alignment)
            found = &g_pool[i];
    if (found == NULL && g_pool_count < POOL_MAX) {
        found = &g_pool[g_pool_count++];
        *found = (struct pooled){.size = size, .alignment = alignment};
        size_t least = alignment == 0 ? 16 : alignment;
        KHO_ASSERT(posix_memalign(&found->memory, least, size) == 0);
        memset(found->memory, 0x5A, size);
    }
    if (found == NULL)
        return __real_world_allocate(world, size, alignment);
    found->used = true;
    world->memory_bytes += size;
    return found->memory;
}

void __wrap_world_release(struct shard_world *world, void *memory, size_t size)
{
    for (uint32_t i = 0; memory != NULL && size >= POOL_FROM && i < g_pool_count; i++) {
        if (g_pool[i].memory != memory)
            continue;
        KHO_ASSERT(g_pool[i].used && g_pool[i].size == size && world->memory_bytes >= size);
        g_pool[i].used = false;
        world->memory_bytes -= size;
        return;
    }
    __real_world_release(world, memory, size);
}

/* --- Edits ------------------------------------------------------------------------------------ */

enum edit {
    EDIT_HEAD_BYTE, /* a byte near a head */
    EDIT_HEAD_LONG, /* eight bytes there */
    EDIT_BYTE,      /* anywhere */
    EDIT_FLIP,
    EDIT_FILL,
    EDIT_TRUNCATE,
    EDIT_REMOVE,
    EDIT_SWAP,
    EDIT_COPY, /* a stretch to another place: stale, misdirected */
    EDIT_RENAME,
    EDIT_UNREADABLE,
    EDIT_KINDS
};

static uint32_t file_pick(const struct image *image, uint64_t number)
{
    return (uint32_t)(number % image->file_count);
}

static uint64_t place_pick(const struct image *image, uint32_t file, uint64_t number)
{
    uint64_t used = kho_max(image->files[file].was_used, 1);
    return number % kho_min(used + 8192, IMAGE_FILE_MAX - 8);
}

static void edit_head(struct image *image, uint64_t place, uint64_t value, bool wide)
{
    const struct image_head *head = &image->heads[place % image->head_count];
    uint64_t offset = head->offset + place / 65536 % 256;
    uint8_t *at = image_change(image, head->file, offset, 8);
    if (wide)
        kho_store64(at, value);
    else
        at[0] = (uint8_t)value;
}

static void edit_files(struct image *image, enum edit edit, uint32_t file, uint32_t other,
                       uint64_t offset, uint64_t value)
{
    struct image_file *f = &image->files[file], *o = &image->files[other];
    uint64_t len = 1 + value / 256 % 16384;
    uint64_t to = place_pick(image, other, value);
    switch (edit) {
    case EDIT_FILL:
        len = kho_min(len, IMAGE_FILE_MAX - offset);
        memset(image_change(image, file, offset, len), (int)(value & 0xFF), len);
        break;
    case EDIT_TRUNCATE:
        f->size = kho_min(f->size, offset);
        break;
    case EDIT_REMOVE:
        f->there = false;
        break;
    case EDIT_SWAP: {
        struct file_name name = f->name;
        f->name = o->name;
        o->name = name;
        break;
    }
    case EDIT_COPY:
        offset &= ~511ull;
        to &= ~511ull;
        len = kho_min(kho_round_up(len, 512), IMAGE_FILE_MAX - kho_max(offset, to));
        memmove(image_change(image, other, to, len), f->data + offset, len);
        break;
    case EDIT_RENAME:
        f->name.temporary = (value & 1) != 0;
        f->name.id += f->name.kind == FILE_SEGMENT ? value >> 1 & 7 : 0;
        break;
    case EDIT_UNREADABLE:
        image->bad_file = (int)file;
        image->bad_from = offset;
        image->bad_to = offset + len;
        break;
    default:
        break;
    }
}

static void edit(struct image *image, struct fuzz_input *in)
{
    uint8_t what = (uint8_t)(fuzz_take(in, 1) % EDIT_KINDS);
    uint64_t place = fuzz_take(in, 4), value = fuzz_take(in, what == EDIT_HEAD_LONG ? 8 : 3);
    uint32_t file = file_pick(image, place >> 24), other = file_pick(image, place >> 28);
    uint64_t offset = place_pick(image, file, place & 0xFFFFFF);
    switch (what) {
    case EDIT_HEAD_BYTE:
    case EDIT_HEAD_LONG:
        edit_head(image, place, value, what == EDIT_HEAD_LONG);
        break;
    case EDIT_BYTE:
        *image_change(image, file, offset, 1) = (uint8_t)value;
        break;
    case EDIT_FLIP:
        *image_change(image, file, offset, 1) ^= (uint8_t)(1u << (value & 7));
        break;
    default:
        edit_files(image, (enum edit)what, file, other, offset, value);
        break;
    }
}

/* Two files of one name can't be. */
static void names_settle(struct image *image)
{
    for (uint32_t i = 0; i < image->file_count; i++)
        if (image->files[i].there && image_find(image, &image->files[i].name) != (int)i)
            image->files[i].there = false;
}

/* --- Mending ---------------------------------------------------------------------------------- */

static bool dirty(const struct image *image, const struct image_head *head, uint64_t len)
{
    const struct image_file *f = &image->files[head->file];
    uint64_t end = kho_min(head->offset + len, IMAGE_FILE_MAX);
    for (uint64_t p = head->offset / IMAGE_PAGE; p * IMAGE_PAGE < end; p++)
        if (f->dirty[p])
            return true;
    return false;
}

static void hash_put(uint8_t *to, struct kho_id hash)
{
    memcpy(to, hash.bytes, sizeof hash.bytes);
}

static void small_file_mend(struct image *image, const struct image_head *head)
{
    struct image_file *f = &image->files[head->file];
    uint8_t *bytes = f->data;
    if (f->was_name.kind == FILE_MANIFEST) {
        uint64_t length = kho_load64(bytes + 8);
        if (length < 192 || length > f->size)
            return;
        XXH128_canonical_t canonical;
        XXH128_canonicalFromHash(
            &canonical, XXH3_128bits_withSeed(bytes + 32, length - 32, XXH3_64bits(bytes, 16)));
        memcpy(image_change(image, head->file, 16, 16), canonical.digest, 16);
    } else {
        uint32_t length = kho_load32(bytes + 76);
        if (length >= KHO_MAP_HEAD && length <= f->size)
            hash_put(image_change(image, head->file, 32, 16), map_hash(bytes, length));
    }
}

/* The commit's hash of its blocks' heads, which follow it in the list. */
static void heads_hash_mend(struct image *image, uint32_t commit)
{
    const struct image_head *head = &image->heads[commit];
    struct kho_id hash = {{0}};
    for (uint32_t i = commit + 1; i < image->head_count && image->heads[i].kind == HEAD_BLOCK; i++)
        commit_hash_head(&hash, image->files[head->file].data + image->heads[i].offset);
    hash_put(image_change(image, head->file, head->offset + 112, 16), hash);
}

static void unit_mend(struct image *image, uint32_t i, bool bodies)
{
    const struct image_head *head = &image->heads[i];
    uint8_t *at = image_change(image, head->file, head->offset, 192);
    uint64_t room = IMAGE_FILE_MAX - head->offset - 192;
    if (head->kind == HEAD_BLOCK && bodies)
        hash_put(at + 96, hash128(at + 192, kho_min(kho_load32(at + 80), room)));
    if (head->kind == HEAD_FOOTER && bodies)
        hash_put(at + 160, hash128(at + 192, kho_min(kho_load32(at + 108), room)));
    if (head->kind == HEAD_COMMIT)
        heads_hash_mend(image, i);
    hash_put(at + 176, hash128(at, 176));
}

/* What was changed gets the checksums that it would have, and so do the commits that name it as
 * their predecessor. */
static void mend(struct image *image, bool bodies)
{
    struct kho_id was = {{0}}, is = {{0}};
    for (uint32_t i = image->head_count; i-- > 0;) {
        const struct image_head *head = &image->heads[i];
        uint8_t *at = image->files[head->file].data + head->offset;
        if (head->kind == HEAD_SMALL_FILE && image->files[head->file].dirty[0])
            small_file_mend(image, head);
        else if (head->kind == HEAD_SEGMENT && image->files[head->file].dirty[0])
            hash_put(image_change(image, head->file, 4080, 16), hash128(at, 4080));
        else if ((head->kind == HEAD_BLOCK || head->kind == HEAD_FOOTER) &&
                 dirty(image, head, bodies ? 192 + 16384 : 192))
            unit_mend(image, i, bodies);
    }
    for (uint32_t i = 0; i < image->head_count; i++) {
        const struct image_head *head = &image->heads[i];
        if (head->kind != HEAD_COMMIT)
            continue;
        uint8_t *at = image->files[head->file].data + head->offset;
        bool follows = memcmp(at + 96, was.bytes, 16) == 0 && !kho_id_is_zero(&was);
        if (follows)
            hash_put(image_change(image, head->file, head->offset + 96, 16), is);
        if (!follows && !dirty(image, head, 192))
            continue;
        memcpy(was.bytes, image->files[head->file].was + head->offset + 176, 16);
        unit_mend(image, i, bodies);
        memcpy(is.bytes, at + 176, 16);
    }
}

/* --- A store on it ---------------------------------------------------------------------------- */

static void events_take(void)
{
    while (g_world.event_count > 0) {
        const struct event *event = &g_world.events[g_world.event_head];
        KHO_ASSERT(event->text[0] != '\0' && memchr(event->text, 0, sizeof event->text) != NULL);
        g_error_told |= event->level == EVENT_ERROR;
        if (g_tell)
            fprintf(stderr, "  [%d] %s\n", event->level, event->text);
        g_world.event_head = (g_world.event_head + 1) % KHO_COUNT_OF(g_world.events);
        g_world.event_count--;
    }
}

static void run(struct image *image, struct store *store, bool reversed)
{
    struct op *ops[OPS_MAX];
    for (uint32_t turn = 0; turn < TURNS_MAX; turn++) {
        struct queue *link;
        uint32_t count = 0;
        store_turn_end(store, g_now);
        while ((link = queue_pop(&g_world.outbox)) != NULL) {
            KHO_ASSERT(count < OPS_MAX);
            ops[count++] = KHO_CONTAINER_OF(link, struct op, link);
        }
        for (uint32_t i = 0; i < count; i++) {
            struct op *op = ops[reversed ? count - 1 - i : i];
            image_execute(image, op);
            store_completed(store, op, g_now);
        }
        events_take();
        if (count == 0 && queue_empty(&g_world.outbox))
            return;
    }
    KHO_ASSERT(!"it comes to an end");
}

static struct store *start(struct image *image, bool reversed)
{
    struct file_found files[IMAGE_FILES];
    struct store *store = NULL;
    size_t count = image_list(image, files, IMAGE_FILES);
    memset(image->handles, 0, sizeof image->handles);
    uint64_t held = g_world.memory_bytes;
    KHO_ASSERT(held == 0);
    g_world.memory_max = image->options.memory_max;
    g_world.event_count = 0;
    queue_init(&g_world.outbox);
    kho_random_init(&g_world.random, 1);
    g_error_told = false;
    int error = store_create(&image->options, &g_world, &store);
    KHO_ASSERT(error == 0);
    store_start(store, files, count, g_now);
    events_take();
    run(image, store, reversed);
    enum store_phase phase = store_phase(store);
    KHO_ASSERT(phase == STORE_READY || phase == STORE_FAILED);
    KHO_ASSERT(phase == STORE_READY || g_error_told);
    return store;
}

/* --- What it answers -------------------------------------------------------------------------- */

/* A sequence that the bytes as they are still say was durable. */
static uint64_t durable_said(const struct image *image)
{
    uint64_t durable = 0;
    for (uint32_t i = 0; i < image->head_count; i++) {
        const struct image_head *head = &image->heads[i];
        const struct image_file *f = &image->files[head->file];
        bool kept = f->there && f->size == f->was_size && f->name.id == f->was_name.id &&
                    f->name.kind == f->was_name.kind && !f->name.temporary &&
                    image->bad_file != head->file;
        if (!kept)
            continue;
        if (head->kind == HEAD_COMMIT &&
            memcmp(f->data + head->offset, f->was + head->offset, COMMIT_HEAD) == 0)
            durable = kho_max(durable, head->durable);
        if (head->kind == HEAD_SMALL_FILE && f->name.kind == FILE_MANIFEST &&
            memcmp(f->data, f->was, f->was_used) == 0)
            durable = kho_max(durable, image->durable);
    }
    return durable;
}

static int read_key(struct image *image, struct store *store, const struct rig_key *key,
                    struct store_read *read)
{
    struct store_done done;
    *read = (struct store_read){.collection = key->collection,
                                .partition = key->partition,
                                .hash = key->hash,
                                .key = key->key,
                                .key_len = key->key_len};
    if (!store_read(store, read, g_now)) {
        run(image, store, false);
        bool finished = store_next_done(store, &done);
        KHO_ASSERT(finished && done.kind == STORE_DONE_READ && done.read == read);
    }
    return read->status;
}

/* The record of that key and version, or NULL. */
static const struct image_record *written(const struct image *image, uint32_t number,
                                          struct version version)
{
    for (uint32_t i = 0; i < image->record_count; i++)
        if (image->records[i].number == number && image->records[i].counter == version.counter)
            return version.writer == 5 ? &image->records[i] : NULL;
    return NULL;
}

static void value_look(const struct image *image, const struct rig_key *key, uint32_t number,
                       const struct store_read *read)
{
    const struct record *r = &read->record;
    const struct image_record *w = written(image, number, r->version);
    KHO_ASSERT(w != NULL);
    KHO_ASSERT(r->collection == key->collection && r->key_len == key->key_len);
    KHO_ASSERT(memcmp(r->key, key->key, key->key_len) == 0);
    KHO_ASSERT((read->state == WIRE_TOMBSTONE) == (w->len == RIG_TOMBSTONE));
    if (w->len != RIG_TOMBSTONE)
        KHO_ASSERT(r->stored_len == w->len && memcmp(r->value, w->value, w->len) == 0);
}

static void keys_look(struct image *image, struct store *store, uint8_t mode)
{
    bool mended = (mode & (MODE_MEND_HEADS | MODE_MEND_BODIES)) != 0;
    uint64_t durable = mended ? 0 : durable_said(image);
    for (uint32_t number = 0; number < IMAGE_KEYS; number++) {
        struct image_record any = {.collection = 1 + number % 2, .number = number};
        struct rig_key key = image_key(&any);
        struct store_read read;
        struct wire_probe_answer probe;
        uint64_t least = 0;
        for (uint32_t i = 0; i < image->record_count; i++)
            if (image->records[i].number == number && image->records[i].sequence <= durable)
                least = image->records[i].counter;
        store_probe(store, key.collection, key.partition, key.hash, &probe);
        int status = read_key(image, store, &key, &read);
        /* The read may have found damage just now. */
        bool known = store_episode_of(store, key.partition) == 0 && !store_suspect(store);
        if (status == 0 && read.state != WIRE_ABSENT) {
            KHO_ASSERT(read.state == WIRE_PRESENT || read.state == WIRE_TOMBSTONE);
            if ((mode & MODE_MEND_BODIES) == 0)
                value_look(image, &key, number, &read);
        }
        if (status == 0 && known && !mended)
            KHO_ASSERT(read.state == WIRE_ABSENT ? least == 0
                                                 : read.record.version.counter >= least);
        if (known && !mended && (probe.state == WIRE_PRESENT || probe.state == WIRE_TOMBSTONE))
            KHO_ASSERT(written(image, number, probe.version) != NULL &&
                       probe.version.counter >= least);
        store_read_end(store, &read);
    }
}

/* Listings and digests tell of the same entries. */
static void tables_look(const struct store *store)
{
    uint32_t ids[16];
    uint32_t count = store_collections(store, ids, KHO_COUNT_OF(ids));
    for (uint32_t c = 0; c < kho_min(count, KHO_COUNT_OF(ids)); c++)
        for (uint32_t p = 0; p < RIG_PARTITIONS; p++) {
            struct wire_digest_entry digest;
            struct wire_list_entry entry;
            struct key_tag from = {0};
            uint64_t entries = 0;
            store_digest(store, ids[c], p, &digest);
            while (entries <= digest.count && store_next(store, ids[c], p, from, &entry)) {
                KHO_ASSERT(key_tag_compare(entry.tag, from) >= 0 && entry.partition == p);
                entries++;
                from = entry.tag;
                from.low++;
                from.high += from.low == 0;
            }
            KHO_ASSERT(entries == digest.count);
        }
}

/* --- It goes on ------------------------------------------------------------------------------- */

static void map_bring(struct image *image, struct store *store)
{
    static struct rig rig;
    bool done;
    rig_map_build(&rig, 2, 0, 1);
    (void)store_map_set(store, rig.map, rig.map_bytes, NULL, 0, g_now, &done);
    run(image, store, false);
    struct store_done end;
    while (store_next_done(store, &end))
        KHO_ASSERT(end.kind == STORE_DONE_MAP);
}

/* The key as the map in force, which may be a forged one, has it. */
static struct rig_key key_by_map(const struct map *map)
{
    struct rig_key key = rig_key(1, 1000);
    uint16_t separator = KHO_NO_SEPARATOR;
    int at = map != NULL ? map_collection_by_id(map, key.collection) : -1;
    if (map == NULL)
        return key;
    if (at >= 0) {
        struct map_collection collection;
        map_collection(map, (uint32_t)at, &collection);
        separator = collection.separator;
    }
    key.hash = key_hash(key.collection, key.key, key.key_len, map->seed);
    key.partition = key_partition(key.collection, key.key, key.key_len, map->seed, separator,
                                  map->partitions, key.hash);
    return key;
}

/* A record is taken, and is still there after the next start; or it was refused. */
static struct store *go_on(struct image *image, struct store *store)
{
    static const uint8_t value[] = "written after the damage";
    struct rig_key key = key_by_map(store_map(store));
    struct record record = {.collection = 1,
                            .key_len = key.key_len,
                            .version = {T0 + 1000000, 5},
                            .raw_len = sizeof value,
                            .stored_len = sizeof value,
                            .hash = content_hash(value, sizeof value),
                            .key = key.key,
                            .value = value};
    struct store_read read;
    uint64_t sequence = UINT64_MAX;
    int status = store_write(store, key.partition, key.hash, &record, false, 0, g_now, &sequence);
    run(image, store, false);
    bool taken = status == 0 && store_durable(store) >= sequence;
    g_now.mono_ns += 100000000;
    store_tick(store, g_now);
    run(image, store, false);
    store_stop(store, g_now);
    run(image, store, false);
    KHO_ASSERT(store_phase(store) == STORE_STOPPED);
    store_destroy(store);
    image->bad_file = -1;
    store = start(image, false);
    if (store_phase(store) == STORE_FAILED)
        return store;
    status = store_map(store) != NULL ? read_key(image, store, &key, &read) : KHO_EUNKNOWN;
    if (taken && status == 0 && store_episode_of(store, key.partition) == 0)
        KHO_ASSERT(read.state == WIRE_PRESENT && read.record.stored_len == sizeof value &&
                   memcmp(read.record.value, value, sizeof value) == 0);
    if (store_map(store) != NULL)
        store_read_end(store, &read);
    return store;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct fuzz_input in = {bytes, len};
    uint8_t mode = (uint8_t)fuzz_take(&in, 1);
    struct image **slot = &g_images[(mode & MODE_CRASHED) != 0];
    g_tell = getenv("KHO_FUZZ_EVENTS") != NULL;
    if (*slot == NULL)
        *slot = image_make((mode & MODE_CRASHED) == 0);
    struct image *image = *slot;
    g_now = (struct kho_now){.mono_ns = 1000000000, .wall_ms = 1700000100000};
    for (int i = 0; i < EDITS_MAX && in.len > 0; i++)
        edit(image, &in);
    names_settle(image);
    if ((mode & (MODE_MEND_HEADS | MODE_MEND_BODIES)) != 0)
        mend(image, (mode & MODE_MEND_BODIES) != 0);
    struct store *store = start(image, (mode & MODE_REVERSED) != 0);
    if (store_phase(store) == STORE_READY) {
        if ((mode & MODE_MAP) != 0)
            map_bring(image, store);
        if (store_map(store) != NULL) {
            keys_look(image, store, mode);
            tables_look(store);
        }
        if ((mode & MODE_GO_ON) != 0)
            store = go_on(image, store);
    }
    store_destroy(store);
    KHO_ASSERT(g_world.memory_bytes == 0);
    image_reset(image);
    return 0;
}

/* Numbers in heads as large as they can be. */
static size_t seed_numbers(unsigned n, uint8_t *to)
{
    static const uint8_t fields[] = {8, 56, 64, 72, 80, 88, 96, 136, 224};
    static const uint8_t heads[] = {0, 1, 2, 5, 30, 58, 59, 60};
    if (n >= KHO_COUNT_OF(fields) * KHO_COUNT_OF(heads))
        return 0;
    to[0] = (uint8_t)(n & 1) | MODE_MEND_HEADS | MODE_GO_ON;
    to[1] = EDIT_HEAD_LONG;
    kho_store32(to + 2, (uint32_t)fields[n / 8] << 16 | heads[n % 8]);
    kho_store64(to + 6, UINT64_MAX >> (n % 3));
    return 14;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    const unsigned kinds = 2 * EDIT_KINDS + 4;
    if (max < 64)
        return 0;
    if (n >= kinds)
        return seed_numbers(n - kinds, to);
    memset(to, 0, 64);
    to[0] = (uint8_t)(n & 1) | (uint8_t)(n % 3 == 0 ? MODE_GO_ON : MODE_MEND_HEADS);
    if (n < 4)
        return 1;
    to[1] = (uint8_t)(n / 2 - 2);
    kho_store32(to + 2, 0x01000000u * (n % 5) + 777 * n);
    kho_store32(to + 6, 0x00012300u + n);
    return 1 + 5 + (to[1] == EDIT_HEAD_LONG ? 8 : 3);
}
