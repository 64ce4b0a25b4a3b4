/* format_jsonl.c: JSON lines: one JSON object a line. The value is the line's bytes as they are;
 * the key is the text of one member of the object, by default "id": a string (as decoded) or an
 * integer (in decimal). Lines of blanks are skipped.
 *
 * A line that isn't a JSON object, or lacks the member, is reported and skipped. */
#include "format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <kho/error.h>

static bool jsonl_scan(struct splitter *s)
{
    size_t end, next;
    while (splitter_line(s, &end, &next)) {
        if (s->in_record || !format_is_blank(s->bytes + s->scan, s->bytes + end)) {
            s->value_end = end;
            s->scan = next;
            return true;
        }
        splitter_skip(s, next);
        s->overlong = false;
    }
    return false;
}

static int member_key(struct splitter *s, struct format_record *record, const json_t *member)
{
    const char *field = s->options.key_field;
    if (json_is_string(member)) {
        size_t len = json_string_length(member);
        if (len <= FORMAT_KEY_MAX)
            memcpy(s->key, json_string_value(member), len);
        return splitter_set_key(s, record, s->key, len);
    }
    if (json_is_integer(member)) {
        int len = snprintf((char *)s->key, sizeof s->key, "%" JSON_INTEGER_FORMAT,
                           json_integer_value(member));
        return splitter_set_key(s, record, s->key, (size_t)len);
    }
    if (member == NULL)
        return splitter_fail(s, record->line, KHO_EMALFORMED,
                             "the object has no member \"%.60s\"; name the key's with --key",
                             field);
    return splitter_fail(s, record->line, KHO_EMALFORMED,
                         "the member \"%.60s\" is neither a string nor an integer; name another "
                         "with --key",
                         field);
}

/* Where jansson finds no memory it may say that the text is at fault: we look for ourselves, or a
 * good line would be refused as a bad one. */
static _Thread_local bool memory_wanting;

static void *json_allocate(size_t size)
{
    void *memory = malloc(size);
    memory_wanting = memory_wanting || memory == NULL;
    return memory;
}
static void json_release(void *memory)
{
    free(memory);
}

static int jsonl_key(struct splitter *s, struct format_record *record)
{
    json_error_t error;
    json_set_alloc_funcs(json_allocate, json_release);
    memory_wanting = false;
    json_t *object = json_loadb((const char *)record->value, record->value_len,
                                JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
    int rc;
    if (object == NULL && memory_wanting)
        rc = splitter_fail(s, record->line, -ENOMEM,
                           "no memory is left to read the line; free some, then import it again");
    else if (object == NULL)
        rc = splitter_fail(s, record->line, KHO_EMALFORMED,
                           "the line isn't JSON (column %d: %.100s); each line holds one object",
                           error.column, error.text);
    else if (!json_is_object(object))
        rc = splitter_fail(s, record->line, KHO_EMALFORMED,
                           "the line isn't a JSON object; each line holds one object");
    else
        rc = member_key(s, record, json_object_get(object, s->options.key_field));
    json_decref(object);
    return rc;
}

const struct format format_jsonl = {
    .name = "jsonl",
    .suffixes = ".jsonl .ndjson",
    .default_key = "id",
    .separator = "\n",
    .skips_mark = true,
    .scan = jsonl_scan,
    .key = jsonl_key,
};
