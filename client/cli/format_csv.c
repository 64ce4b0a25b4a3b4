/* format_csv.c: comma-separated values after RFC 4180: rows end with "\n" or "\r\n" outside quotes;
 * a field that begins with a quote ends with one, a doubled quote inside stands for one, and commas
 * and line ends inside are text. The value is the row's bytes without its end; the key is one
 * field, decoded: the first, or the one that --key names by the header row (or by number from 1).
 * Empty rows are skipped.
 *
 * Bytes between a closing quote and the next comma, and a quote that is never closed, make the row
 * malformed: it is reported and skipped. A header without the key's column ends the import. */
#include "format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <kho/error.h>

enum csv_mode {
    CSV_FIELD, /* at a field's first byte; the start of a row has it too */
    CSV_PLAIN,
    CSV_QUOTED,
    CSV_CLOSED /* behind a quote in a quoted field: its end, or the first of two */
};

static bool row_end(struct splitter *s, size_t at, size_t next)
{
    s->value_end = at > s->begin && s->bytes[at - 1] == '\r' ? at - 1 : at;
    if (next == at)
        s->value_end = at; /* the end of the file: a lone "\r" there is text */
    s->scan = next;
    return true;
}

static bool csv_scan(struct splitter *s)
{
    for (size_t at = s->scan; at < s->end; at++) {
        uint8_t c = s->bytes[at];
        if (c == '\n' && s->mode != CSV_QUOTED) {
            row_end(s, at, at + 1);
            if (s->value_end > s->begin || s->overlong)
                return true;
            splitter_skip(s, at + 1);
            s->mode = CSV_FIELD;
        } else if (s->mode == CSV_QUOTED) {
            s->mode = c == '"' ? CSV_CLOSED : CSV_QUOTED;
        } else if (s->mode == CSV_CLOSED) {
            s->mode = c == '"' ? CSV_QUOTED : c == ',' ? CSV_FIELD : CSV_CLOSED;
        } else {
            s->mode = c == ','                           ? CSV_FIELD
                      : c == '"' && s->mode == CSV_FIELD ? CSV_QUOTED
                                                         : CSV_PLAIN;
        }
    }
    s->scan = s->end;
    if (!s->ended || (s->end == s->begin && !s->overlong))
        return false;
    return row_end(s, s->end, s->end);
}

/* Decodes the quoted field at `at` (behind its opening quote) into s->key. Returns the place behind
 * its closing quote, or NULL: never closed. Bytes beyond the key's limit are counted, not kept. */
static const uint8_t *decode_quoted(struct splitter *s, const uint8_t *at, const uint8_t *end,
                                    size_t *ret_len)
{
    size_t len = 0;
    for (; at < end; at++) {
        if (*at == '"') {
            if (at + 1 == end || at[1] != '"') {
                *ret_len = len;
                return at + 1;
            }
            at++;
        }
        if (len < sizeof s->key)
            s->key[len] = *at;
        len++;
    }
    return NULL;
}

/* Decodes the field at `at`; its bytes are *ret_text, in the row or in s->key. Returns the place of
 * its comma or the row's end, or NULL: malformed, s->message says why. */
static const uint8_t *decode_field(struct splitter *s, uint64_t line, const uint8_t *at,
                                   const uint8_t *end, const uint8_t **ret_text, size_t *ret_len)
{
    if (at == end || *at != '"') {
        const uint8_t *comma = memchr(at, ',', (size_t)(end - at));
        if (comma == NULL)
            comma = end;
        *ret_text = at;
        *ret_len = (size_t)(comma - at);
        return comma;
    }
    const uint8_t *behind = decode_quoted(s, at + 1, end, ret_len);
    *ret_text = s->key;
    if (behind == NULL) {
        splitter_fail(s, line, KHO_EMALFORMED,
                      "a quote opens in the row that begins here and is never closed");
        return NULL;
    }
    if (behind < end && *behind != ',') {
        splitter_fail(s, line, KHO_EMALFORMED,
                      "a closing quote is followed by something else than a comma in the row that "
                      "begins here; a quote inside a quoted field is written twice");
        return NULL;
    }
    return behind;
}

static bool names_column(const char *name, const uint8_t *text, size_t len)
{
    return strlen(name) == len && memcmp(name, text, len) == 0;
}

/* A column's number from 1, or 0: it is none. */
static size_t column_number(const char *name)
{
    char *rest;
    if (*name < '1' || *name > '9')
        return 0;
    unsigned long number = strtoul(name, &rest, 10);
    return *rest == '\0' && number <= 10000 ? number : 0;
}

static int read_header(struct splitter *s, const struct format_record *record)
{
    const char *name = s->options.key_field;
    s->header_done = true;
    if (name == NULL)
        return 0;
    const uint8_t *end = record->value + record->value_len;
    const uint8_t *at = record->value;
    for (size_t column = 0;; column++) {
        const uint8_t *text;
        size_t len;
        at = decode_field(s, record->line, at, end, &text, &len);
        if (at == NULL)
            return -EINVAL;
        if (len < sizeof s->key && names_column(name, text, len)) {
            s->column = column;
            return 0;
        }
        if (at == end)
            break;
        at++;
    }
    size_t number = column_number(name);
    if (number == 0)
        return splitter_fail(s, record->line, -EINVAL,
                             "the header row has no column \"%.60s\"; --key takes one of its names "
                             "or a number from 1, --no-header a file without one",
                             name);
    s->column = number - 1;
    return 0;
}

static int start_without_header(struct splitter *s, const struct format_record *record)
{
    const char *name = s->options.key_field;
    s->header_done = true;
    if (name == NULL)
        return 0;
    size_t number = column_number(name);
    if (number == 0)
        return splitter_fail(
            s, record->line, -EINVAL,
            "without a header row --key is a column's number from 1, not \"%.60s\"", name);
    s->column = number - 1;
    return 0;
}

static int csv_key(struct splitter *s, struct format_record *record)
{
    if (!s->header_done) {
        if (!s->options.no_header)
            return read_header(s, record);
        int rc = start_without_header(s, record);
        if (rc < 0)
            return rc;
    }
    const uint8_t *end = record->value + record->value_len;
    const uint8_t *at = record->value;
    const uint8_t *key = NULL;
    size_t key_len = 0, column = 0;
    uint8_t kept[FORMAT_KEY_MAX + 1];
    for (;; column++) { /* to the end, so that a malformed row is never stored */
        const uint8_t *text;
        size_t len;
        at = decode_field(s, record->line, at, end, &text, &len);
        if (at == NULL)
            return KHO_EMALFORMED;
        if (column == s->column) {
            key = text;
            key_len = len;
            if (text == s->key && len <= FORMAT_KEY_MAX)
                memcpy(kept, text, len);
        }
        if (at == end)
            break;
        at++;
    }
    if (key == NULL)
        return splitter_fail(s, record->line, KHO_EMALFORMED,
                             "the row has %zu columns, and the key is to be column %zu", column + 1,
                             s->column + 1);
    if (key == s->key && key_len <= FORMAT_KEY_MAX)
        memcpy(s->key, kept, key_len);
    return splitter_set_key(s, record, key, key_len);
}

const struct format format_csv = {
    .name = "csv",
    .suffixes = ".csv",
    .separator = "\n",
    .skips_mark = true,
    .scan = csv_scan,
    .key = csv_key,
};
