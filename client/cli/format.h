/* format.h: the record formats of import and export, as stream parsers over bytes: no file, no
 * output, memory bounded by the longest record. A record's value is its raw bytes; its key comes
 * from a field of it, or from file and line.
 *
 * A splitter is fed in pieces of any size:
 *
 *     for (;;) {
 *         while ((rc = splitter_next(s, &record)) != 0)    a record (1), or a bad one (negative)
 *             …
 *         if (at the end)
 *             break;
 *         uint8_t *to = splitter_room(s, &room);
 *         splitter_filled(s, read(fd, to, room));          at the end of the file: splitter_end()
 *     } */
#ifndef KHO_CLI_FORMAT_H
#define KHO_CLI_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FORMAT_KEY_MAX = 1024,
    FORMAT_VALUE_MAX = 16 << 20,
    FORMAT_MESSAGE_MAX = 320,
    FORMAT_PIECE = 256 << 10 /* what splitter_room offers at least */
};

struct splitter;

struct format_record {
    const uint8_t *key; /* lent until the next call on the splitter, as is the value */
    size_t key_len;
    const uint8_t *value;
    size_t value_len;
    uint64_t line; /* its first */
};

/* One format: constants, and the two questions that it answers. */
struct format {
    const char *name;
    const char *suffixes;    /* of file names: " .csv .tsv " */
    const char *default_key; /* NULL: none, or not a matter of names */
    const char *separator;   /* what an export writes behind each value */
    bool skips_mark;         /* a byte order mark at the start isn't part of the first record */
    /* Looks for the end of the record from s->scan on. True: [s->begin, s->value_end) is its value
     * and s->scan the first byte behind it. */
    bool (*scan)(struct splitter *s);
    /* Sets key and key_len of a record whose value is known. 1; 0: no record after all (a header);
     * negative: s->message says why. */
    int (*key)(struct splitter *s, struct format_record *record);
};

extern const struct format format_deb822;
extern const struct format format_jsonl;
extern const struct format format_csv;
extern const struct format format_lines;

/* By name; NULL: none has it. */
const struct format *format_find(const char *name);
/* By the suffix of a file's name, or by the names that such files bear; NULL: can't tell. */
const struct format *format_guess(const char *file);
/* "deb822, jsonl, csv, lines" */
const char *format_names(void);

struct splitter_options {
    const struct format *format;
    const char *source;    /* the file's name, for messages and the keys of lines; borrowed */
    const char *key_field; /* NULL: the format's default; borrowed */
    bool no_header;        /* csv: the first row is a record */
    size_t value_max;      /* 0: 16 MiB */
};

struct splitter {
    struct splitter_options options;
    uint8_t *bytes;
    size_t capacity;
    size_t begin;     /* of the record under way */
    size_t scan;      /* the format goes on here */
    size_t seen;      /* no newline in [scan, seen) */
    size_t value_end; /* as far as the format knows */
    size_t end;       /* bytes held */
    uint64_t line;    /* of bytes[begin], from 1 */
    bool started;     /* a first piece has been looked at for a byte order mark */
    bool ended;
    bool refused;         /* nothing of the file can be read: no record comes any more */
    bool in_record;       /* something of the record under way was seen */
    bool overlong;        /* its first part was dropped */
    bool midline;         /* bytes[scan] isn't the first of its line, for the same reason */
    uint64_t record_line; /* where it began, if overlong */
    unsigned mode;        /* csv: state of the scan */
    bool header_done;     /* csv */
    size_t column;        /* csv: of the key */
    uint8_t key[FORMAT_KEY_MAX + 1];
    char message[FORMAT_MESSAGE_MAX];
};

/* Borrows the strings of `options` until splitter_fini. */
void splitter_init(struct splitter *s, const struct splitter_options *options);
void splitter_fini(struct splitter *s);
/* As fresh, keeping the memory. */
void splitter_reset(struct splitter *s);

/* Room for more bytes, FORMAT_PIECE at least; NULL: no memory. Only after splitter_next said 0. */
uint8_t *splitter_room(struct splitter *s, size_t *ret_room);
void splitter_filled(struct splitter *s, size_t len);
void splitter_end(struct splitter *s);

/* 1: a record; 0: more bytes are needed, or after splitter_end() there is none left;
 * KHO_EMALFORMED, KHO_EKEYSIZE, KHO_EVALUESIZE: this one is skipped for the cause in s->message
 * (file, line, cause, remedy), the next call goes on behind it; -ENOMEM: so is this one, which may
 * be a good one. -EINVAL: nothing of the file can be read so, e.g. the header lacks the key's
 * column; from then on there is no record. */
int splitter_next(struct splitter *s, struct format_record *ret_record);

/* For formats: the next whole line [s->scan, *ret_end), its terminator left out, *ret_next behind
 * that; false: it isn't there yet. */
bool splitter_line(struct splitter *s, size_t *ret_end, size_t *ret_next);
/* Drops [begin, to) as no part of any record. */
void splitter_skip(struct splitter *s, size_t to);
/* Whether there is nothing but spaces, tabs and carriage returns. */
bool format_is_blank(const uint8_t *from, const uint8_t *to);
/* Writes "file:line: " and the sentence into s->message and returns `code`. */
int splitter_fail(struct splitter *s, uint64_t line, int code, const char *sentence, ...)
    __attribute__((format(printf, 4, 5)));
/* Checks the length of a key and sets it. */
int splitter_set_key(struct splitter *s, struct format_record *record, const uint8_t *key,
                     size_t len);

/* Whether a value, written with the format's separator behind it, is read back as one record that
 * equals it. `s` is a splitter for such questions alone. */
enum format_fit {
    FORMAT_FITS,
    FORMAT_OTHER_KEY, /* it does, but an import finds another key in it */
    FORMAT_UNFIT      /* s->message says why, where that is known */
};
enum format_fit format_fit(struct splitter *s, const struct format_record *record);

#endif
