/* print.h: what people and programs read: aligned tables, keys that survive a terminal, human
 * numbers, JSON. */
#ifndef KHO_CLI_PRINT_H
#define KHO_CLI_PRINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>
#include <kho/kho.h>

/* "kho: …" on stderr, with a newline. */
void say(const char *sentence, ...) __attribute__((format(printf, 1, 2)));
/* The exit code that stands for a code of error.h or -errno. */
int exit_of(int status);
/* The graver of two exit codes, for commands with many results: damage, in doubt, unavailable,
 * other, not found. */
int exit_worse(int a, int b);

/* Whether to colour this stream: a terminal, and neither NO_COLOR nor TERM=dumb. */
bool print_colored(FILE *file);

/* Writes to stdout, noting the first failure. */
void print_bytes(const void *bytes, size_t len);
/* Flushes stdout. Ends the process as SIGPIPE does if the reader has gone; false: another failure,
 * said to stderr. */
bool print_flush(void);

/* A key as text: valid UTF-8 without control characters stays, every other byte and '%' becomes
 * %XX, so that it can be read back whatever it was. */
enum { KEY_TEXT_MAX = 3 * 1024 + 1 };
struct key_text {
    char text[KEY_TEXT_MAX];
};
const char *key_escape(const void *key, size_t len, struct key_text *text);
/* The bytes of an escaped key, at most `max`; negative: a '%' without two hex digits, or too long.
 */
int key_unescape(const char *text, uint8_t *to, size_t max);

/* Small texts. */
struct small_text {
    char text[48];
};
const char *human_bytes(uint64_t bytes, struct small_text *text);   /* "12.3 MiB" */
const char *human_count(uint64_t count, struct small_text *text);   /* "63,666" */
const char *human_seconds(double seconds, struct small_text *text); /* "1 h 02 min", "3 d 04 h" */
/* "1789569971234567890-1a2b3c4d" */
const char *version_text(struct kho_version version, struct small_text *text);
/* When it was written, after the nodes' clocks: "2026-01-31 12:00:00". */
const char *version_time(struct kho_version version, struct small_text *text);
/* 2 * len hex digits; `to` has room for one more byte. */
void hex_encode(const uint8_t *bytes, size_t len, char *to);
/* False: not exactly 2 * len hex digits. */
bool hex_decode(const char *text, uint8_t *to, size_t len);

/* An aligned table. Columns whose title begins with '>' are aligned to the right. */
enum { TABLE_COLUMNS_MAX = 16 };
enum table_mark { MARK_NONE, MARK_GOOD, MARK_BAD };
struct table_cell {
    char *text;
    enum table_mark mark;
};
struct table {
    const char *titles[TABLE_COLUMNS_MAX];
    size_t columns;
    struct table_cell *cells;
    size_t count, capacity;
};
void table_init(struct table *table, const char *const *titles, size_t columns);
void table_fini(struct table *table);
/* The next cell, row by row; copied. */
void table_add(struct table *table, const char *text);
void table_add_marked(struct table *table, const char *text, enum table_mark mark);
void table_addf(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_print(const struct table *table);

/* Prints a document with a newline and takes it over. `pretty`: over several lines. */
void print_json(json_t *json, bool pretty);
/* Members of one record's result: key, status, version, hash, length; of a write its outcome, too,
 * and the token if it is in doubt. */
json_t *result_json(const struct kho_result *result, bool written);
/* A string of JSON; of bytes that aren't UTF-8, their escaped form. */
json_t *text_json(const void *bytes, size_t len);
/* Any memory that must be there: NULL ends the process with EXIT_OTHER. */
void *must(void *memory);

#endif
