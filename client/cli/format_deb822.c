/* format_deb822.c: Debian's control format (man deb822): stanzas of "Field: text" lines, parted by
 * empty lines. A line that begins with a blank continues the field above it. The value is the
 * stanza's bytes without the end of its last line; the key is the text of one field on its first
 * line, by default Package, whose name is matched without regard to case.
 *
 * Lines of blanks count as empty, as apt reads them. A stanza that lacks the field, or has a line
 * that is neither field nor continuation, is reported and skipped. */
#include "format.h"

#include <string.h>
#include <strings.h>

#include <kho/error.h>

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static bool deb822_scan(struct splitter *s)
{
    size_t end, next;
    while (splitter_line(s, &end, &next)) {
        bool blank = !s->midline && format_is_blank(s->bytes + s->scan, s->bytes + end);
        s->midline = false;
        s->scan = next;
        if (!blank) {
            s->in_record = true;
            s->value_end = end;
        } else if (s->in_record) {
            return true;
        } else {
            splitter_skip(s, next);
            s->overlong = false;
        }
    }
    return s->ended && s->in_record && s->scan == s->end;
}

/* One line of the stanza: 1 it is the field that is looked for, 0 another, negative: neither field
 * nor continuation. */
static int match_line(const struct splitter *s, const uint8_t *line, const uint8_t *end,
                      const uint8_t **ret_text)
{
    if (is_space(*line))
        return 0;
    const uint8_t *colon = memchr(line, ':', (size_t)(end - line));
    if (colon == NULL || colon == line)
        return KHO_EMALFORMED;
    size_t len = strlen(s->options.key_field);
    *ret_text = colon + 1;
    return (size_t)(colon - line) == len &&
           strncasecmp((const char *)line, s->options.key_field, len) == 0;
}

static int take_text(struct splitter *s, struct format_record *record, uint64_t line,
                     const uint8_t *from, const uint8_t *to)
{
    while (from < to && is_space(*from))
        from++;
    while (to > from && is_space(to[-1]))
        to--;
    if (from == to)
        return splitter_fail(s, line, KHO_EKEYSIZE,
                             "the field %.60s has no text on its first line, and it is to be the "
                             "key; choose another field with --key",
                             s->options.key_field);
    return splitter_set_key(s, record, from, (size_t)(to - from));
}

static int deb822_key(struct splitter *s, struct format_record *record)
{
    const uint8_t *at = record->value;
    const uint8_t *stanza_end = at + record->value_len;
    uint64_t line = record->line;
    int found = 0;
    for (const uint8_t *next; at < stanza_end; at = next, line++) {
        const uint8_t *end = memchr(at, '\n', (size_t)(stanza_end - at));
        next = end != NULL ? end + 1 : stanza_end;
        if (end == NULL)
            end = stanza_end;
        const uint8_t *text = NULL;
        int rc = match_line(s, at, end, &text);
        if (rc < 0)
            return splitter_fail(s, line, rc,
                                 "the line is neither a field (\"Name: text\") nor the "
                                 "continuation of one (a blank, then text); is the file of another "
                                 "--format?");
        if (rc == 1 && found == 0) {
            found = take_text(s, record, line, text, end);
            if (found < 0)
                return found;
        }
    }
    if (found == 0)
        return splitter_fail(s, record->line, KHO_EMALFORMED,
                             "the stanza that begins here has no field %.60s; name the key's with "
                             "--key",
                             s->options.key_field);
    return 1;
}

const struct format format_deb822 = {
    .name = "deb822",
    .suffixes = ".deb822 .dsc .changes .control",
    .default_key = "Package",
    .separator = "\n\n",
    .skips_mark = true,
    .scan = deb822_scan,
    .key = deb822_key,
};
