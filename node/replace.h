/* replace.h: replaces a small file whole: write FILE.new, sync, rename, sync the folder.
 *
 * One replacement of a file at a time; the bytes are copied when it begins. */
#ifndef KHO_NODE_REPLACE_H
#define KHO_NODE_REPLACE_H

#include "depot.h"

struct replace {
    struct depot *depot;
    struct file_name name; /* temporary while the new one is written */
    int32_t file;
    uint8_t step; /* 0: idle */
    int error;
    uint8_t *buffer;
    size_t buffer_bytes, length;
    struct op op;
};

void replace_init(struct replace *replace, struct depot *depot, enum file_kind kind, int32_t file);
void replace_fini(struct replace *replace);
static inline bool replace_busy(const struct replace *replace)
{
    return replace->step != 0;
}
/* Room for `length` bytes, zeroed behind them up to the alignment; the caller fills it and calls
 * replace_start(). NULL: no memory. */
uint8_t *replace_prepare(struct replace *replace, size_t length);
void replace_start(struct replace *replace);
/* 1: under way; 0: the new file is durable; else the error that ended it: after one, the old file
 * may or may not have been replaced. */
int replace_completed(struct replace *replace, struct op *op);

#endif
