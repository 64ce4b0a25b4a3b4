/* image.c: folders that share pages (image.h). */
#include "image.h"

#include <xxhash.h>

static const uint8_t zeros[IMAGE_PAGE];

/* --- Sharing ---------------------------------------------------------------------------------- */

static void page_release(struct image_page *page)
{
    if (page != NULL && --page->refs == 0)
        free(page);
}

static void file_release(struct image_file *file)
{
    if (file == NULL || --file->refs > 0)
        return;
    for (int i = 0; i < IMAGE_PAGES; i++)
        page_release(file->pages[i]);
    free(file);
}

/* The file, this image's own. */
static struct image_file *file_own(struct image *image, uint16_t at)
{
    struct image_file *file = image->files[at];
    KHO_ASSERT(at < IMAGE_FILES && file != NULL);
    if (file->refs == 1)
        return file;
    struct image_file *copy = malloc(sizeof *copy);
    KHO_ASSERT(copy != NULL);
    *copy = *file;
    copy->refs = 1;
    for (int i = 0; i < IMAGE_PAGES; i++)
        if (copy->pages[i] != NULL)
            copy->pages[i]->refs++;
    file->refs--;
    image->files[at] = copy;
    return copy;
}

static struct image_page *page_own(struct image_file *file, uint32_t at)
{
    struct image_page *page = file->pages[at];
    if (page != NULL && page->refs == 1)
        return page;
    struct image_page *copy = malloc(sizeof *copy);
    KHO_ASSERT(copy != NULL);
    copy->refs = 1;
    memcpy(copy->bytes, page != NULL ? page->bytes : zeros, IMAGE_PAGE);
    page_release(page);
    file->pages[at] = copy;
    return copy;
}

void image_clear(struct image *image)
{
    for (int i = 0; i < IMAGE_FILES; i++)
        file_release(image->files[i]);
    memset(image, 0, sizeof *image);
}

void image_copy(struct image *to, const struct image *from)
{
    image_clear(to);
    *to = *from;
    for (int i = 0; i < IMAGE_FILES; i++)
        if (to->files[i] != NULL)
            to->files[i]->refs++;
}

static uint64_t name_hash(const struct file_name *name)
{
    uint64_t words[3] = {name->kind, name->temporary, name->id};
    return XXH3_64bits(words, sizeof words);
}

uint64_t image_hash(const struct image *image)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < image->entry_count; i++) {
        const struct image_entry *e = &image->entries[i];
        const struct image_file *file = image->files[e->file];
        uint64_t words[3] = {name_hash(&e->name), file->size, file->sum};
        sum += XXH3_64bits(words, sizeof words);
    }
    return sum;
}

/* --- Bytes ------------------------------------------------------------------------------------ */

void image_file_make(struct image *image, uint16_t file)
{
    KHO_ASSERT(file < IMAGE_FILES && image->files[file] == NULL);
    image->files[file] = calloc(1, sizeof(struct image_file));
    KHO_ASSERT(image->files[file] != NULL);
    image->files[file]->refs = 1;
}

void image_file_drop(struct image *image, uint16_t file)
{
    file_release(image->files[file]);
    image->files[file] = NULL;
}

static uint64_t sector_hash(const uint8_t *bytes, uint32_t sector)
{
    if (memcmp(bytes, zeros, IMAGE_SECTOR) == 0)
        return 0;
    return XXH3_64bits_withSeed(bytes, IMAGE_SECTOR, sector);
}

static const uint8_t *sector_at(const struct image *image, uint16_t file, uint32_t sector)
{
    uint32_t page = sector / (IMAGE_PAGE / IMAGE_SECTOR);
    KHO_ASSERT(page < IMAGE_PAGES && image->files[file] != NULL);
    const struct image_page *p = image->files[file]->pages[page];
    return p != NULL ? p->bytes + sector % (IMAGE_PAGE / IMAGE_SECTOR) * IMAGE_SECTOR : zeros;
}

bool image_sector_equal(const struct image *image, uint16_t file, uint32_t sector,
                        const uint8_t *bytes)
{
    return memcmp(sector_at(image, file, sector), bytes, IMAGE_SECTOR) == 0;
}

void image_sector_write(struct image *image, uint16_t file, uint32_t sector, const uint8_t *bytes)
{
    if (image_sector_equal(image, file, sector, bytes))
        return;
    struct image_file *own = file_own(image, file);
    struct image_page *page = page_own(own, sector / (IMAGE_PAGE / IMAGE_SECTOR));
    uint8_t *to = page->bytes + sector % (IMAGE_PAGE / IMAGE_SECTOR) * IMAGE_SECTOR;
    own->sum += sector_hash(bytes, sector) - sector_hash(to, sector);
    memcpy(to, bytes, IMAGE_SECTOR);
}

void image_resize(struct image *image, uint16_t file, uint64_t size)
{
    if (image->files[file]->size == size)
        return;
    KHO_ASSERT(size <= (uint64_t)IMAGE_PAGES * IMAGE_PAGE);
    file_own(image, file)->size = size;
}

uint32_t image_read(const struct image *image, uint16_t file, uint64_t offset, uint8_t *to,
                    uint32_t len)
{
    const struct image_file *f = image->files[file];
    KHO_ASSERT(f != NULL);
    len = (uint32_t)kho_min(len, offset < f->size ? f->size - offset : 0);
    for (uint32_t done = 0; done < len;) {
        uint64_t at = offset + done;
        uint32_t part = (uint32_t)kho_min(len - done, IMAGE_PAGE - at % IMAGE_PAGE);
        const struct image_page *page = f->pages[at / IMAGE_PAGE];
        if (page != NULL)
            memcpy(to + done, page->bytes + at % IMAGE_PAGE, part);
        else
            memset(to + done, 0, part);
        done += part;
    }
    return len;
}

/* --- Names ------------------------------------------------------------------------------------ */

static bool same_name(const struct file_name *a, const struct file_name *b)
{
    return a->kind == b->kind && a->temporary == b->temporary && a->id == b->id;
}

struct image_entry *image_find(struct image *image, const struct file_name *name)
{
    for (uint32_t i = 0; i < image->entry_count; i++)
        if (same_name(&image->entries[i].name, name))
            return &image->entries[i];
    return NULL;
}

void image_unlink(struct image *image, const struct file_name *name)
{
    struct image_entry *entry = image_find(image, name);
    if (entry != NULL)
        *entry = image->entries[--image->entry_count];
}

void image_link(struct image *image, const struct file_name *name, uint16_t file)
{
    image_unlink(image, name);
    KHO_ASSERT(image->entry_count < IMAGE_ENTRIES && image->files[file] != NULL);
    image->entries[image->entry_count++] = (struct image_entry){*name, file};
}

void image_rename(struct image *image, const struct file_name *from, const struct file_name *to)
{
    const struct image_entry *entry = image_find(image, from);
    if (entry == NULL)
        return;
    uint16_t file = entry->file;
    image_unlink(image, from);
    image_link(image, to, file);
}
