/* entries.c: makes records, from the generator or from text, and lays them behind one another with
 * the heads that a writer would give them: a content hash each, versions as one writer draws them
 * that sends a batch each millisecond. The same input makes the same bytes. */
#include "entries.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <kho/record.h>

#include "citizen.h"

enum { COLLECTION = 1, STRETCH = 1000, BATCH = 256, TEXT_CHUNK = 1 << 20 };

static const uint64_t WALL_MS = 1700000000000u;

/* --- Memory ----------------------------------------------------------------------------------- */

void entries_fini(struct entries *entries)
{
    free(entries->bytes);
    free(entries->at);
    *entries = (struct entries){0};
}

/* Room for one more entry of `len` bytes. */
static int entries_reserve(struct entries *e, size_t len)
{
    size_t used = e->count > 0 ? e->at[e->count] : 0;
    if (used + len > e->bytes_room) {
        size_t room = (used + len) * 2;
        uint8_t *bytes = realloc(e->bytes, room);
        if (bytes == NULL)
            return -ENOMEM;
        e->bytes = bytes;
        e->bytes_room = room;
    }
    if (e->count + 2 > e->at_room) {
        size_t room = (e->count + 2) * 2;
        size_t *at = realloc(e->at, room * sizeof *at);
        if (at == NULL)
            return -ENOMEM;
        e->at = at;
        e->at_room = room;
    }
    e->at[e->count] = used;
    return 0;
}

/* Where the entry begins that was reserved. */
static uint8_t *entries_end(const struct entries *e)
{
    return e->bytes + e->at[e->count];
}

static void entries_grow(struct entries *e, size_t len)
{
    e->at[e->count + 1] = e->at[e->count] + len;
    e->count++;
}

static int entries_add(struct entries *e, const uint8_t *bytes, size_t len)
{
    int error = entries_reserve(e, len);
    if (error != 0)
        return error;
    memcpy(entries_end(e), bytes, len);
    entries_grow(e, len);
    return 0;
}

static int finished(int error, struct entries *made, struct entries *ret_entries)
{
    if (error != 0)
        entries_fini(made);
    *ret_entries = *made;
    return error;
}

/* --- Records ---------------------------------------------------------------------------------- */

static int record_add(struct entries *e, struct kho_random *random, const void *key, size_t key_len,
                      const void *value, size_t len)
{
    struct record record = {
        .collection = COLLECTION,
        .key_len = (uint16_t)key_len,
        .version = {.counter = version_counter_at(WALL_MS + e->count / BATCH) +
                               kho_random_below(random, (uint64_t)1 << KHO_COUNTER_TIME_BITS),
                    .writer = 0x5EED0001u},
        .raw_len = (uint32_t)len,
        .stored_len = (uint32_t)len,
        .hash = content_hash(value, len),
        .key = key,
        .value = value,
    };
    int error = entries_reserve(e, record_size(&record));
    if (error == 0)
        entries_grow(e, record_encode(&record, entries_end(e)));
    return error;
}

static int people_make(size_t count, bool eids, struct entries *ret_entries)
{
    static struct census census;
    struct entries made = {0};
    struct kho_random random;
    char key[CITIZEN_NUMBER], value[CITIZEN_RECORD_MAX];
    kho_random_init(&random, 1);
    int error = census_init(&census, 1, 1.0);
    for (size_t i = 0; i < count && error == 0; i++) {
        citizen_number(&census, i, key);
        size_t len = eids ? eid_record(&census, i, value) : citizen_record(&census, i, 0, value);
        error = record_add(&made, &random, key, sizeof key, value, len);
    }
    census_fini(&census);
    return finished(error, &made, ret_entries);
}

int entries_of_citizens(size_t count, struct entries *ret_entries)
{
    return people_make(count, false, ret_entries);
}

int entries_of_eids(size_t count, struct entries *ret_entries)
{
    return people_make(count, true, ret_entries);
}

/* --- Package records -------------------------------------------------------------------------- */

/* All of the file, with a NUL behind it. */
static int text_read(FILE *file, char **ret_text)
{
    char *text = NULL;
    size_t used = 0, got = 1;
    while (got > 0) {
        char *more = realloc(text, used + TEXT_CHUNK + 1);
        if (more == NULL) {
            free(text);
            return -ENOMEM;
        }
        text = more;
        got = fread(text + used, 1, TEXT_CHUNK, file);
        used += got;
    }
    text[used] = '\0';
    *ret_text = text;
    if (!ferror(file))
        return 0;
    free(text);
    return -EIO;
}

/* The stanza from `text` to `end` under its package's name, if it has one. */
static int stanza_add(struct entries *e, struct kho_random *random, const char *text,
                      const char *end)
{
    static const char field[] = "Package:";
    const char *key = text;
    while (key < end && strncasecmp(key, field, sizeof field - 1) != 0) {
        const char *line_end = memchr(key, '\n', (size_t)(end - key));
        key = line_end != NULL ? line_end + 1 : end;
    }
    if (key == end)
        return 0;
    key += sizeof field - 1;
    key += strspn(key, " \t");
    size_t key_len = strcspn(key, " \t\r\n"), len = (size_t)(end - text);
    if (key_len < 1 || key_len > KHO_KEY_MAX || KHO_RECORD_HEAD + key_len + len > KHO_BLOCK_RAW_MAX)
        return 0;
    return record_add(e, random, key, key_len, text, len);
}

int entries_of_packages(FILE *file, struct entries *ret_entries)
{
    struct entries made = {0};
    struct kho_random random;
    char *text = NULL;
    kho_random_init(&random, 1);
    int error = text_read(file, &text);
    const char *at = error == 0 ? text + strspn(text, "\n") : "";
    while (error == 0 && *at != '\0') {
        const char *end = strstr(at, "\n\n");
        if (end == NULL) {
            end = at + strlen(at);
            end -= end[-1] == '\n';
        }
        error = stanza_add(&made, &random, at, end);
        at = end + strspn(end, "\n");
    }
    if (error == 0)
        free(text);
    return finished(error, &made, ret_entries);
}

/* --- Orders and parts ------------------------------------------------------------------------- */

static int key_compare(const void *a, const void *b, void *arg)
{
    const struct entries *e = arg;
    const uint8_t *x = e->bytes + e->at[*(const size_t *)a];
    const uint8_t *y = e->bytes + e->at[*(const size_t *)b];
    size_t x_len = kho_load16(x + 4), y_len = kho_load16(y + 4);
    int order = memcmp(x + KHO_RECORD_HEAD, y + KHO_RECORD_HEAD, kho_min(x_len, y_len));
    return order != 0 ? order : (x_len > y_len) - (x_len < y_len);
}

static void shuffle(size_t *which, size_t count)
{
    struct kho_random random;
    kho_random_init(&random, 1);
    for (size_t i = count; i > 1; i--) {
        size_t other = (size_t)kho_random_below(&random, i), kept = which[i - 1];
        which[i - 1] = which[other];
        which[other] = kept;
    }
}

int entries_sorted(const struct entries *entries, enum entries_order order,
                   struct entries *ret_entries)
{
    struct entries made = {0};
    size_t *which = malloc((entries->count + 1) * sizeof *which);
    int error = which != NULL ? 0 : -ENOMEM;
    for (size_t i = 0; i < entries->count && error == 0; i++)
        which[i] = i;
    if (error == 0 && order == ENTRIES_BY_KEY)
        qsort_r(which, entries->count, sizeof *which, key_compare, (void *)entries);
    if (error == 0 && order == ENTRIES_AT_RANDOM)
        shuffle(which, entries->count);
    for (size_t i = 0; i < entries->count && error == 0; i++) {
        size_t at = entries->at[which[i]];
        error = entries_add(&made, entries->bytes + at, entries->at[which[i] + 1] - at);
    }
    free(which);
    return finished(error, &made, ret_entries);
}

int entries_without_heads(const struct entries *entries, struct entries *ret_entries)
{
    struct entries made = {0};
    int error = 0;
    for (size_t i = 0; i < entries->count && error == 0; i++) {
        size_t at = entries->at[i] + KHO_RECORD_HEAD;
        error = entries_add(&made, entries->bytes + at, entries->at[i + 1] - at);
    }
    return finished(error, &made, ret_entries);
}

int entries_split(const struct entries *entries, struct entries *ret_first,
                  struct entries *ret_second)
{
    struct entries first = {0}, second = {0};
    size_t stretch = (size_t)kho_min(STRETCH, entries->count / 4 + 1);
    int error = 0;
    for (size_t i = 0; i < entries->count && error == 0; i++) {
        size_t at = entries->at[i], size = entries->at[i + 1] - at;
        struct entries *half = i / stretch % 2 == 0 ? &first : &second;
        error = entries_add(half, entries->bytes + at, size);
    }
    finished(error, &first, ret_first);
    return finished(error, &second, ret_second);
}
