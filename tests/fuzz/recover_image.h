/* recover_image.h: a folder of a shard as the shipping store made it, in memory: it is damaged,
 * read and written by a store, and put back to what it was, at the cost of what was changed. */
#ifndef KHO_TESTS_FUZZ_RECOVER_IMAGE_H
#define KHO_TESTS_FUZZ_RECOVER_IMAGE_H

#include "node/block.h"
#include "tests/lib/store_rig.h"

enum {
    IMAGE_FILES = 24,
    IMAGE_FILE_MAX = 1 << 20, /* a segment's size, and more than anything else has */
    IMAGE_PAGE = 4096,
    IMAGE_RECORDS = 128,
    IMAGE_HEADS = 512,
    IMAGE_KEYS = 24
};

struct image_file {
    bool there, was_there;
    struct file_name name, was_name;
    uint64_t size, was_size;
    uint64_t was_used; /* zeros behind it */
    uint8_t *data;     /* IMAGE_FILE_MAX */
    uint8_t *was;      /* NULL: made by the store since */
    bool dirty[IMAGE_FILE_MAX / IMAGE_PAGE];
};

/* What was written, in order of commits. */
struct image_record {
    uint32_t collection, number;
    uint64_t counter, sequence;
    uint32_t len; /* RIG_TOMBSTONE: a deletion */
    uint8_t *value;
};

/* A head of a unit: where in which file. */
struct image_head {
    uint8_t file;
    uint8_t kind; /* enum image_head_kind */
    uint32_t offset;
    uint64_t durable; /* COMMIT */
};
enum image_head_kind { HEAD_SEGMENT, HEAD_COMMIT, HEAD_BLOCK, HEAD_FOOTER, HEAD_SMALL_FILE };

struct image {
    struct shard_options options;
    struct identity identity;
    struct image_file files[IMAGE_FILES];
    uint32_t file_count; /* of those that were there */
    int handles[MEMORY_HANDLES];
    struct image_record records[IMAGE_RECORDS];
    uint32_t record_count;
    struct image_head heads[IMAGE_HEADS];
    uint32_t head_count;
    uint64_t durable; /* what the manifest alone says */
    /* Reads of these bytes of a file fail. */
    int bad_file;
    uint64_t bad_from, bad_to;
};

/* One that was stopped in an orderly way, or one that crashed under load and has an episode of
 * earlier damage. */
struct image *image_make(bool orderly);
/* As it was made. */
void image_reset(struct image *image);
size_t image_list(const struct image *image, struct file_found *ret, size_t max);
int image_find(const struct image *image, const struct file_name *name);
/* Bytes of a file that are about to be changed. */
uint8_t *image_change(struct image *image, uint32_t file, uint64_t offset, uint64_t len);
void image_execute(struct image *image, struct op *op);
/* The key of a record. */
struct rig_key image_key(const struct image_record *record);

#endif
