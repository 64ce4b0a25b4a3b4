/* format.c: what the record formats share: the buffer of a splitter, lines, line numbers, records
 * that are too long, messages.
 *
 * The happy path: splitter_room() gives room behind the bytes held, splitter_next() asks the format
 * for the end of the record under way and for its key. The buffer holds one record at most and the
 * piece read ahead: a record that outgrows the limit is dropped piece by piece until its end shows
 * up, and then reported once, with the line where it began. */
#include "format.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <kho/error.h>

/* Terminators behind a value: "\r\n", and for deb822 an empty line more. */
enum { TERMINATORS_MAX = 8 };

static const struct format *const formats[] = {&format_deb822, &format_jsonl, &format_csv,
                                               &format_lines};
enum { FORMATS = sizeof formats / sizeof formats[0] };

const struct format *format_find(const char *name)
{
    for (size_t i = 0; i < FORMATS; i++)
        if (strcmp(formats[i]->name, name) == 0)
            return formats[i];
    return NULL;
}

const char *format_names(void)
{
    return "deb822, jsonl, csv, lines";
}

static bool has_suffix(const char *suffixes, const char *suffix)
{
    size_t len = strlen(suffix);
    for (const char *at = suffixes; *at != '\0';) {
        size_t one = strcspn(at, " ");
        if (one == len && strncasecmp(at, suffix, len) == 0)
            return true;
        at += one;
        at += *at == ' ';
    }
    return false;
}

const struct format *format_guess(const char *file)
{
    const char *slash = strrchr(file, '/');
    const char *name = slash != NULL ? slash + 1 : file;
    /* Debian's package indexes have no suffix; apt keeps them as HOST_…_Packages. */
    size_t len = strlen(name);
    if (len >= 8 && strcmp(name + len - 8, "Packages") == 0)
        return &format_deb822;
    if (len >= 7 && strcmp(name + len - 7, "Sources") == 0)
        return &format_deb822;
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot != NULL && i < FORMATS; i++)
        if (has_suffix(formats[i]->suffixes, dot))
            return formats[i];
    return NULL;
}

void splitter_init(struct splitter *s, const struct splitter_options *options)
{
    memset(s, 0, sizeof *s);
    s->options = *options;
    if (s->options.value_max == 0)
        s->options.value_max = FORMAT_VALUE_MAX;
    if (s->options.key_field == NULL)
        s->options.key_field = options->format->default_key;
    if (s->options.source == NULL)
        s->options.source = "-";
    s->line = 1;
}

void splitter_fini(struct splitter *s)
{
    free(s->bytes);
    s->bytes = NULL;
}

void splitter_reset(struct splitter *s)
{
    uint8_t *bytes = s->bytes;
    size_t capacity = s->capacity;
    struct splitter_options options = s->options;
    splitter_init(s, &options);
    s->bytes = bytes;
    s->capacity = capacity;
}

uint8_t *splitter_room(struct splitter *s, size_t *ret_room)
{
    if (s->begin > 0) {
        size_t gone = s->begin;
        memmove(s->bytes, s->bytes + gone, s->end - gone);
        s->begin = 0;
        s->scan -= gone;
        s->seen -= gone;
        s->value_end = s->value_end > gone ? s->value_end - gone : 0;
        s->end -= gone;
    }
    if (s->capacity - s->end < FORMAT_PIECE) {
        size_t capacity = s->capacity == 0 ? 2 * (size_t)FORMAT_PIECE : s->capacity * 2;
        size_t bound = s->options.value_max + TERMINATORS_MAX + FORMAT_PIECE;
        if (capacity > bound && bound >= s->end + FORMAT_PIECE)
            capacity = bound;
        uint8_t *bytes = realloc(s->bytes, capacity);
        if (bytes == NULL)
            return NULL;
        s->bytes = bytes;
        s->capacity = capacity;
    }
    *ret_room = s->capacity - s->end;
    return s->bytes + s->end;
}

void splitter_filled(struct splitter *s, size_t len)
{
    s->end += len;
}

void splitter_end(struct splitter *s)
{
    s->ended = true;
}

static uint64_t count_lines(const uint8_t *from, const uint8_t *to)
{
    uint64_t lines = 0;
    while (from < to && (from = memchr(from, '\n', (size_t)(to - from))) != NULL) {
        lines++;
        from++;
    }
    return lines;
}

void splitter_skip(struct splitter *s, size_t to)
{
    s->line += count_lines(s->bytes + s->begin, s->bytes + to);
    s->begin = to;
    if (s->scan < to)
        s->scan = to;
    if (s->seen < s->scan)
        s->seen = s->scan;
    if (s->value_end < to)
        s->value_end = to;
}

bool splitter_line(struct splitter *s, size_t *ret_end, size_t *ret_next)
{
    if (s->scan == s->end) {
        /* A record whose bytes were all dropped still has to end. */
        *ret_end = *ret_next = s->end;
        return s->ended && s->overlong;
    }
    if (s->seen < s->scan)
        s->seen = s->scan;
    const uint8_t *newline = NULL;
    if (s->seen < s->end)
        newline = memchr(s->bytes + s->seen, '\n', s->end - s->seen);
    if (newline == NULL) {
        s->seen = s->end;
        if (!s->ended)
            return false;
        *ret_end = s->end;
        *ret_next = s->end;
        return true;
    }
    size_t end = (size_t)(newline - s->bytes);
    *ret_next = end + 1;
    s->seen = end; /* found again if the format asks twice */
    if (end > s->scan && s->bytes[end - 1] == '\r')
        end--;
    *ret_end = end;
    return true;
}

int splitter_fail(struct splitter *s, uint64_t line, int code, const char *sentence, ...)
{
    int len = snprintf(s->message, sizeof s->message, "%.120s:%llu: ", s->options.source,
                       (unsigned long long)line);
    va_list list;
    va_start(list, sentence);
    vsnprintf(s->message + len, sizeof s->message - (size_t)len, sentence, list);
    va_end(list);
    return code;
}

int splitter_set_key(struct splitter *s, struct format_record *record, const uint8_t *key,
                     size_t len)
{
    if (len == 0)
        return splitter_fail(s, record->line, KHO_EKEYSIZE,
                             "the record's key is empty; choose another field with --key");
    if (len > FORMAT_KEY_MAX)
        return splitter_fail(s, record->line, KHO_EKEYSIZE,
                             "the record's key has %zu bytes, a key has at most %d; choose another "
                             "field with --key",
                             len, FORMAT_KEY_MAX);
    record->key = key;
    record->key_len = len;
    return 1;
}

/* A byte order mark, whole or none yet. Returns false while that can't be told. */
static bool skip_mark(struct splitter *s)
{
    static const uint8_t mark[3] = {0xEF, 0xBB, 0xBF};
    if (s->started)
        return true;
    size_t held = s->end < sizeof mark ? s->end : sizeof mark;
    bool matches = held > 0 && memcmp(s->bytes, mark, held) == 0;
    if (s->options.format->skips_mark && matches) {
        if (held == sizeof mark)
            splitter_skip(s, sizeof mark);
        else if (!s->ended)
            return false;
    }
    if (held > 0)
        s->started = true;
    return true;
}

bool format_is_blank(const uint8_t *from, const uint8_t *to)
{
    while (from < to && (*from == ' ' || *from == '\t' || *from == '\r'))
        from++;
    return from == to;
}

/* The record under way has outgrown the limit: what is held of it is of no more use. Blanks may yet
 * turn out to be no record at all. */
static void drop_part(struct splitter *s)
{
    if (!s->overlong) {
        s->overlong = true;
        s->record_line = s->line;
    }
    size_t to = s->end;
    if (!format_is_blank(s->bytes + s->scan, s->bytes + to)) {
        s->in_record = true;
        s->midline = true;
    }
    s->scan = to;
    s->seen = to;
    splitter_skip(s, to);
}

/* Too long is what the value is, or the bytes to its known end: so that it doesn't depend on the
 * pieces in which they came. */
static bool is_overlong(const struct splitter *s, size_t value_len, size_t to)
{
    return s->overlong || value_len > s->options.value_max ||
           to - s->begin > s->options.value_max + TERMINATORS_MAX;
}

int splitter_next(struct splitter *s, struct format_record *ret_record)
{
    for (;;) {
        if (s->refused || s->bytes == NULL || !skip_mark(s))
            return 0;
        if (!s->options.format->scan(s)) {
            if (s->end - s->begin > s->options.value_max + TERMINATORS_MAX)
                drop_part(s);
            return 0;
        }
        struct format_record record = {
            .value = s->bytes + s->begin,
            .value_len = s->value_end > s->begin ? s->value_end - s->begin : 0,
            .line = s->overlong ? s->record_line : s->line,
        };
        bool overlong = is_overlong(s, record.value_len, s->scan);
        int rc = overlong
                     ? splitter_fail(s, record.line, KHO_EVALUESIZE,
                                     "the record that begins here has more than %zu bytes, the "
                                     "most that a value may have; split it, or store it by "
                                     "reference",
                                     s->options.value_max)
                     : s->options.format->key(s, &record);
        splitter_skip(s, s->scan);
        s->overlong = false;
        s->in_record = false;
        s->midline = false;
        s->mode = 0;
        if (rc == 1)
            *ret_record = record;
        s->refused = rc == -EINVAL;
        if (rc != 0)
            return rc;
    }
}

static bool feed(struct splitter *s, const void *bytes, size_t len)
{
    const uint8_t *from = bytes;
    while (len > 0) {
        size_t room;
        uint8_t *to = splitter_room(s, &room);
        if (to == NULL)
            return false;
        size_t part = len < room ? len : room;
        memcpy(to, from, part);
        splitter_filled(s, part);
        from += part;
        len -= part;
        if (len > 0 && s->options.format->scan(s))
            return false; /* its end came before its last byte */
    }
    return true;
}

static bool same_bytes(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

enum format_fit format_fit(struct splitter *s, const struct format_record *record)
{
    splitter_reset(s);
    s->started = true; /* a mark would belong to the value */
    snprintf(s->message, sizeof s->message,
             "its bytes would be read back as something else than one record");
    const char *separator = s->options.format->separator;
    if (record->value_len > 0 && !feed(s, record->value, record->value_len))
        return FORMAT_UNFIT;
    if (!feed(s, separator, strlen(separator)))
        return FORMAT_UNFIT;
    splitter_end(s);
    struct format_record got;
    if (splitter_next(s, &got) != 1)
        return FORMAT_UNFIT;
    if (!same_bytes(got.value, got.value_len, record->value, record->value_len))
        return FORMAT_UNFIT;
    if (s->options.format == &format_lines)
        return FORMAT_FITS; /* its keys are places in a file, not a part of it */
    return same_bytes(got.key, got.key_len, record->key, record->key_len) ? FORMAT_FITS
                                                                          : FORMAT_OTHER_KEY;
}
