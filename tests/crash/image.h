/* image.h: a folder with its files as a value: copied in microseconds, since copies share what
 * neither has changed.
 *
 * Files have numbers of their own, so that bytes and names can be told apart: a file may have
 * either without the other. Pages that were never written with anything but zeros aren't there. */
#ifndef KHO_TESTS_CRASH_IMAGE_H
#define KHO_TESTS_CRASH_IMAGE_H

#include "node/op.h"

enum {
    IMAGE_SECTOR = 512,
    IMAGE_PAGE = 4096,
    IMAGE_PAGES = 272, /* a file: one segment of the least size, or a manifest */
    IMAGE_FILES = 48,
    IMAGE_ENTRIES = 48
};

struct image_page {
    uint32_t refs;
    uint8_t bytes[IMAGE_PAGE];
};

struct image_file {
    uint32_t refs;
    uint64_t size;
    uint64_t sum; /* over the hashes of its sectors */
    struct image_page *pages[IMAGE_PAGES];
};

struct image_entry {
    struct file_name name;
    uint16_t file;
};

struct image {
    struct image_file *files[IMAGE_FILES]; /* NULL: no such file */
    struct image_entry entries[IMAGE_ENTRIES];
    uint32_t entry_count;
};

/* *to is zeroed or an image, which is dropped. */
void image_copy(struct image *to, const struct image *from);
void image_clear(struct image *image);
/* Names and bytes of all that has a name. */
uint64_t image_hash(const struct image *image);

/* An empty file without a name; there was none of that number. */
void image_file_make(struct image *image, uint16_t file);
void image_file_drop(struct image *image, uint16_t file);
void image_sector_write(struct image *image, uint16_t file, uint32_t sector, const uint8_t *bytes);
bool image_sector_equal(const struct image *image, uint16_t file, uint32_t sector,
                        const uint8_t *bytes);
void image_resize(struct image *image, uint16_t file, uint64_t size);
/* Bytes read: fewer at the end of the file. */
uint32_t image_read(const struct image *image, uint16_t file, uint64_t offset, uint8_t *to,
                    uint32_t len);

struct image_entry *image_find(struct image *image, const struct file_name *name);
void image_link(struct image *image, const struct file_name *name, uint16_t file);
void image_unlink(struct image *image, const struct file_name *name);
/* Nothing happens where `from` isn't there. */
void image_rename(struct image *image, const struct file_name *from, const struct file_name *to);

#endif
