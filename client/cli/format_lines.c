/* format_lines.c: plain lines. Each line is a record, an empty one too; its terminator ("\n" or
 * "\r\n") isn't part of the value, and the last line may lack it. The key is the file's name, a
 * colon and the line's number from 1: "notes.txt:17". */
#include "format.h"

#include <stdio.h>

#include <kho/error.h>

static bool lines_scan(struct splitter *s)
{
    size_t end, next;
    if (!splitter_line(s, &end, &next))
        return false;
    s->value_end = end;
    s->scan = next;
    return true;
}

static int lines_key(struct splitter *s, struct format_record *record)
{
    int len = snprintf((char *)s->key, sizeof s->key, "%s:%llu", s->options.source,
                       (unsigned long long)record->line);
    if (len < 0 || (size_t)len >= sizeof s->key)
        return splitter_fail(s, record->line, KHO_EKEYSIZE,
                             "the file's name is too long to be part of a key; import it from its "
                             "own folder");
    return splitter_set_key(s, record, s->key, (size_t)len);
}

const struct format format_lines = {
    .name = "lines",
    .suffixes = ".txt .log .lines",
    .separator = "\n",
    .scan = lines_scan,
    .key = lines_key,
};
