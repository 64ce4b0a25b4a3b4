/* history_file.h: what real clients asked and were told, in a file of lines of fixed length.
 *
 * An operation on one record has a line when it begins, written before the call is made, and one
 * when it has ended; a write in doubt that is gone on with by its token ends again. So a client
 * that is killed leaves the beginnings of all that it may have done. Several processes write a file
 * each; the moments are of the machine's monotonic clock, which they share, and value ids are
 * unique over all of them (the process's number stands in the high bits). Files are read on the
 * machine that wrote them: integers are as it has them.
 *
 *   head    "khoH", format 1 (uint32_t)
 *   lines   struct history_line; a part of one at the end is what a kill cut off */
#ifndef KHO_SYSTEM_HISTORY_FILE_H
#define KHO_SYSTEM_HISTORY_FILE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HISTORY_FORMAT = 1, HISTORY_KEY_MAX = 24 };

enum history_verb {
    HISTORY_PUT = 1,
    HISTORY_DEL,
    HISTORY_APPEND, /* its key may be known at the end only */
    HISTORY_GET,
    HISTORY_STAT, /* `hash` tells which value; `value` is 0 */
    HISTORY_LIST  /* a record of a listing, or its absence there; read as get */
};

enum history_outcome {
    HISTORY_BEGUN,    /* a line of a beginning */
    HISTORY_DONE,     /* acknowledged, or read */
    HISTORY_REFUSED,  /* a write that is certainly not applied, or a read without an answer */
    HISTORY_DOUBTFUL, /* a write */
    HISTORY_WRONG     /* a read of bytes that no write of any client has */
};

struct history_line {
    uint64_t op; /* its number in this file */
    uint64_t at_ns;
    uint64_t value;   /* its id; 0: no record */
    uint64_t hash;    /* of the value: the first bytes of its content hash */
    uint64_t counter; /* version, where it is known */
    uint32_t writer;
    int32_t status;
    uint32_t client;
    uint8_t verb;
    uint8_t outcome;
    uint8_t key_len; /* 0: not known */
    uint8_t unused;
    uint8_t key[HISTORY_KEY_MAX];
};
static_assert(sizeof(struct history_line) == 80, "no holes");

/* Makes the file with its head. A descriptor that appends, or -errno. */
int history_file_create(const char *path);
/* Writes lines in one piece; the program ends where that fails. */
void history_file_append(int fd, const struct history_line *lines, size_t count);
/* Reads a whole file: its lines, owned by the caller. NULL: it can't be read or isn't one; said to
 * stderr. */
struct history_line *history_file_read(const char *path, size_t *ret_count);

/* --- Values ----------------------------------------------------------------------------------- */

/* A value follows from its id: its length, below `value_max`, and its bytes, the first eight of
 * which are the id. */
uint8_t *history_value_make(uint64_t id, size_t value_max, size_t *ret_len);
/* The id of a value; 0: no id has such bytes. */
uint64_t history_value_id(const uint8_t *bytes, size_t len, size_t value_max);
/* The first bytes of the content hash of a value. */
uint64_t history_value_hash(const uint8_t *bytes, size_t len);

#endif
