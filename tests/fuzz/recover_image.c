/* recover_image.c: makes an image with a rig, and carries out a store's file ops on it
 * (recover_image.h). */
#include "recover_image.h"

#include "node/footer.h"
#include "node/manifest.h"
#include "node/segment.h"

#include <errno.h>

/* --- Making ----------------------------------------------------------------------------------- */

static const uint64_t T0 = 1700000000000ull << KHO_COUNTER_TIME_BITS;

struct rig_key image_key(const struct image_record *record)
{
    return rig_key(record->collection, record->number);
}

static void record_put(struct image *image, struct rig *rig, uint32_t number, uint32_t len)
{
    KHO_ASSERT(image->record_count < IMAGE_RECORDS);
    struct image_record *r = &image->records[image->record_count];
    *r = (struct image_record){.collection = 1 + number % 2,
                               .number = number,
                               .counter = T0 + image->record_count,
                               .len = len};
    struct rig_key key = image_key(r);
    uint64_t seed = image->record_count + 1;
    while (rig_put(rig, &key, r->counter, seed, len, false, &r->sequence) == -EAGAIN)
        rig_run(rig);
    r->value = rig_value(seed, len == RIG_TOMBSTONE ? 0 : len);
    image->record_count++;
}

/* Some turns of writes of a few records each, deletions among them. */
static void story(struct image *image, struct rig *rig, uint32_t turns, uint32_t salt)
{
    for (uint32_t turn = 0; turn < turns; turn++) {
        for (uint32_t i = 0; i < 1 + turn % 3; i++) {
            uint32_t n = salt + turn * 7 + i;
            record_put(image, rig, n % IMAGE_KEYS, n % 5 == 4 ? RIG_TOMBSTONE : 60 + n % 700);
        }
        rig_run(rig);
    }
}

static void file_take(struct image *image, const struct memory_file *from)
{
    KHO_ASSERT(image->file_count < IMAGE_FILES && from->size <= IMAGE_FILE_MAX);
    struct image_file *to = &image->files[image->file_count++];
    *to = (struct image_file){.there = true,
                              .was_there = true,
                              .name = from->name,
                              .was_name = from->name,
                              .size = from->size,
                              .was_size = from->size,
                              .was_used = from->used,
                              .data = calloc(1, IMAGE_FILE_MAX),
                              .was = calloc(1, IMAGE_FILE_MAX)};
    KHO_ASSERT(to->data != NULL && to->was != NULL);
    memcpy(to->data, from->data, from->used);
    memcpy(to->was, from->data, from->used);
}

static void head_add(struct image *image, uint32_t file, enum image_head_kind kind, uint64_t offset,
                     uint64_t durable)
{
    KHO_ASSERT(image->head_count < IMAGE_HEADS);
    image->heads[image->head_count++] = (struct image_head){
        .file = (uint8_t)file, .kind = kind, .offset = (uint32_t)offset, .durable = durable};
}

static void segment_heads(struct image *image, uint32_t file)
{
    const uint8_t *bytes = image->files[file].was;
    uint64_t at = segment_start(image->options.alignment);
    head_add(image, file, HEAD_SEGMENT, 0, 0);
    while (at < image->files[file].was_used) {
        struct commit_head commit;
        struct footer_head footer;
        struct block_head block;
        struct kho_id checksum;
        if (commit_head_decode(bytes + at, &image->identity, &commit, &checksum) == 0) {
            uint32_t next = COMMIT_HEAD;
            head_add(image, file, HEAD_COMMIT, at, commit.durable);
            while (commit_next_block(bytes + at, &commit, &image->identity, &next, &block) == 1)
                head_add(image, file, HEAD_BLOCK, block.offset, 0);
            at += commit.length;
        } else if (footer_head_decode(bytes + at, &image->identity, &footer) == 0) {
            head_add(image, file, HEAD_FOOTER, at, 0);
            at += footer.length;
        } else {
            at += image->options.alignment;
        }
    }
}

static void manifest_look(struct image *image, uint32_t file)
{
    struct shard_world world;
    struct manifest manifest;
    world_init(&world, 64u << 20, 1);
    manifest_init(&manifest, &world);
    int error = manifest_decode(&manifest, image->files[file].was, image->files[file].was_size);
    KHO_ASSERT(error == 0);
    image->identity = manifest.identity;
    image->durable = kho_max(manifest.durable, manifest.base);
    for (uint32_t i = 0; i < manifest.segments.count; i++)
        if (manifest_segment(&manifest, i)->sealed)
            image->durable = kho_max(image->durable, manifest_segment(&manifest, i)->last);
    manifest_fini(&manifest);
}

static void options_make(struct shard_options *options)
{
    options->segment_bytes = IMAGE_FILE_MAX;
    options->commits_max = 1;
    options->memory_max = 64u << 20;
    options->footer_entries = 12;
    options->reserve_bytes = 0;
}

/* The first segment is full, with a block of it rotten and found so; the log goes on in the second.
 */
static void rig_story(struct image *image, struct rig *rig, bool orderly)
{
    rig_ready(rig);
    story(image, rig, 12, 0);
    for (uint32_t i = 0; i < 4; i++) {
        record_put(image, rig, 2 + i, 240000);
        rig_run(rig);
    }
    story(image, rig, 10, 3);
    rig_pass(rig, 60);
    if (orderly) {
        rig_stop(rig);
        return;
    }
    struct rig_key key = image_key(&image->records[1]);
    struct memory_file *first = memory_disk_file(&rig->disk, FILE_SEGMENT, 1);
    for (uint64_t at = 4096 + 400; at < 40000; at += 4096)
        memory_disk_flip(first, at, 4);
    (void)rig_check(rig, &key, T0 + 1, 2, 60);
    rig_crash(rig);
    KHO_ASSERT(store_phase(rig->store) == STORE_READY);
    story(image, rig, 6, 11);
    rig_pass(rig, 60);
    story(image, rig, 1, 5);
}

struct image *image_make(bool orderly)
{
    struct image *image = calloc(1, sizeof *image);
    struct rig *rig = malloc(sizeof *rig);
    KHO_ASSERT(image != NULL && rig != NULL);
    rig_init(rig);
    options_make(&rig->options);
    image->options = rig->options;
    rig_story(image, rig, orderly);
    for (int i = 0; i < MEMORY_FILES; i++)
        if (rig->disk.files[i].named)
            file_take(image, &rig->disk.files[i]);
    rig_fini(rig);
    free(rig);
    for (uint32_t i = 0; i < image->file_count; i++)
        if (image->files[i].name.kind == FILE_MANIFEST)
            manifest_look(image, i);
    for (uint32_t i = 0; i < image->file_count; i++)
        if (image->files[i].name.kind == FILE_SEGMENT)
            segment_heads(image, i);
        else
            head_add(image, i, HEAD_SMALL_FILE, 0, 0);
    image_reset(image);
    return image;
}

/* --- As a disk -------------------------------------------------------------------------------- */

void image_reset(struct image *image)
{
    memset(image->handles, 0, sizeof image->handles);
    image->bad_file = -1;
    for (int i = 0; i < IMAGE_FILES; i++) {
        struct image_file *f = &image->files[i];
        f->there = f->was_there;
        f->name = f->was_name;
        f->size = f->was_size;
        for (uint32_t p = 0; f->data != NULL && p < IMAGE_FILE_MAX / IMAGE_PAGE; p++) {
            if (!f->dirty[p])
                continue;
            size_t at = (size_t)p * IMAGE_PAGE;
            f->dirty[p] = false;
            if (f->was != NULL)
                memcpy(f->data + at, f->was + at, IMAGE_PAGE);
            else
                memset(f->data + at, 0, IMAGE_PAGE);
        }
    }
}

uint8_t *image_change(struct image *image, uint32_t file, uint64_t offset, uint64_t len)
{
    struct image_file *f = &image->files[file];
    KHO_ASSERT(offset + len <= IMAGE_FILE_MAX && f->data != NULL);
    for (uint64_t p = offset / IMAGE_PAGE; p * IMAGE_PAGE < offset + len; p++)
        f->dirty[p] = true;
    return f->data + offset;
}

static bool same_name(const struct file_name *a, const struct file_name *b)
{
    return a->kind == b->kind && a->temporary == b->temporary && a->id == b->id;
}

int image_find(const struct image *image, const struct file_name *name)
{
    for (int i = 0; i < IMAGE_FILES; i++)
        if (image->files[i].there && same_name(&image->files[i].name, name))
            return i;
    return -1;
}

static int file_open(struct image *image, const struct op *op)
{
    int at = image_find(image, &op->name);
    KHO_ASSERT(op->file >= 0 && op->file < MEMORY_HANDLES && image->handles[op->file] == 0);
    if ((op->flags & OP_OPEN_CREATE) != 0) {
        if (at >= 0)
            image->files[at].there = false;
        for (at = 0; at < IMAGE_FILES && (image->files[at].there || image->files[at].was_there);)
            at++;
        if (at == IMAGE_FILES)
            return -ENOSPC;
        struct image_file *f = &image->files[at];
        if (f->data == NULL)
            f->data = calloc(1, IMAGE_FILE_MAX);
        KHO_ASSERT(f->data != NULL);
        for (uint32_t p = 0; p < IMAGE_FILE_MAX / IMAGE_PAGE; p++)
            if (f->dirty[p])
                memset(f->data + (size_t)p * IMAGE_PAGE, 0, IMAGE_PAGE);
        memset(f->dirty, 0, sizeof f->dirty);
        f->there = true;
        f->name = op->name;
        f->size = 0;
    }
    if (at < 0)
        return -ENOENT;
    image->handles[op->file] = at + 1;
    return 0;
}

static int file_read(const struct image *image, const struct op *op, int file)
{
    const struct image_file *f = &image->files[file];
    if (file == image->bad_file && op->offset < image->bad_to &&
        op->offset + op->len > image->bad_from)
        return -EIO;
    uint64_t there = op->offset < f->size ? f->size - op->offset : 0;
    uint32_t len = (uint32_t)kho_min(op->len, there);
    if (len > 0)
        memcpy(op->data, f->data + op->offset, len);
    return (int)len;
}

static int file_write(struct image *image, const struct op *op, int file)
{
    struct image_file *f = &image->files[file];
    if (op->offset + op->len > IMAGE_FILE_MAX)
        return -ENOSPC;
    /* Zeros on zeros change nothing. */
    if (op->len < 65536 || op->data[0] != 0 || memcmp(op->data, op->data + 1, op->len - 1) != 0)
        memcpy(image_change(image, (uint32_t)file, op->offset, op->len), op->data, op->len);
    else
        for (uint64_t at = op->offset; at < op->offset + op->len; at += IMAGE_PAGE)
            if (f->dirty[at / IMAGE_PAGE] || f->was != NULL)
                memset(image_change(image, (uint32_t)file, at, IMAGE_PAGE), 0, IMAGE_PAGE);
    f->size = kho_max(f->size, op->offset + op->len);
    return (int)op->len;
}

static int file_rename(struct image *image, const struct op *op)
{
    int at = image_find(image, &op->name), old = image_find(image, &op->target);
    if (at < 0)
        return -ENOENT;
    if (old >= 0)
        image->files[old].there = false;
    image->files[at].name = op->target;
    return 0;
}

static int carry_out(struct image *image, struct op *op)
{
    int at = op->file >= 0 && op->file < MEMORY_HANDLES ? image->handles[op->file] - 1 : -1;
    switch (op->kind) {
    case OP_OPEN:
        return file_open(image, op);
    case OP_ALLOCATE:
        KHO_ASSERT(at >= 0);
        if ((op->flags & OP_ALLOCATE_ZEROS) != 0)
            return -EOPNOTSUPP;
        if (op->len > IMAGE_FILE_MAX)
            return -ENOSPC;
        image->files[at].size = kho_max(image->files[at].size, op->len);
        return 0;
    case OP_READ:
        KHO_ASSERT(at >= 0);
        return file_read(image, op, at);
    case OP_WRITE:
        KHO_ASSERT(at >= 0);
        return file_write(image, op, at);
    case OP_SYNC:
    case OP_SYNC_FOLDER:
        return 0;
    case OP_RENAME:
        return file_rename(image, op);
    case OP_UNLINK:
        at = image_find(image, &op->name);
        if (at < 0)
            return -ENOENT;
        image->files[at].there = false;
        return 0;
    case OP_CLOSE_FILE:
        KHO_ASSERT(at >= 0);
        image->handles[op->file] = 0;
        return 0;
    case OP_SPACE:
        op->offset = 1ull << 40;
        return 0;
    default:
        return -EINVAL;
    }
}

void image_execute(struct image *image, struct op *op)
{
    op->result = carry_out(image, op);
}

size_t image_list(const struct image *image, struct file_found *ret, size_t max)
{
    size_t count = 0;
    for (int i = 0; i < IMAGE_FILES && count < max; i++)
        if (image->files[i].there)
            ret[count++] =
                (struct file_found){.name = image->files[i].name, .size = image->files[i].size};
    return count;
}
