/* print.c: see print.h. Everything goes through stdio; a failure to write is noted by the stream
 * and told once, at the end, by print_flush(). Exit codes are decided here, in one table. */
#include "print.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

void say(const char *sentence, ...)
{
    va_list list;
    fflush(stdout);
    fputs("kho: ", stderr);
    va_start(list, sentence);
    vfprintf(stderr, sentence, list);
    va_end(list);
    fputc('\n', stderr);
}

void *must(void *memory)
{
    if (memory == NULL) {
        say("no memory");
        exit(EXIT_OTHER);
    }
    return memory;
}

int exit_of(int status)
{
    switch (status) {
    case 0:
        return EXIT_DONE;
    case KHO_ENOTFOUND:
        return EXIT_NOT_FOUND;
    case KHO_EKEYSIZE:
    case KHO_EVALUESIZE:
    case KHO_ECOLLECTIONNAME:
    case KHO_ETOKEN:
    case -EINVAL:
        return EXIT_USAGE;
    case KHO_EUNAVAILABLE:
    case KHO_EDEADLINE:
    case KHO_ESTOPPING:
    case -ECONNREFUSED:
    case -ECONNRESET:
    case -ETIMEDOUT:
    case -EHOSTUNREACH:
    case -ENETUNREACH:
        return EXIT_UNAVAILABLE;
    case KHO_EINDOUBT:
        return EXIT_IN_DOUBT;
    case KHO_EDAMAGED:
    case KHO_EUNKNOWN:
    case KHO_ECHECKSUM:
    case KHO_EEPISODE:
    case KHO_EOVERLAP:
    case KHO_ECOLLISION:
        return EXIT_DAMAGE;
    default:
        return EXIT_OTHER;
    }
}

int exit_worse(int a, int b)
{
    static const int order[] = {EXIT_DAMAGE, EXIT_IN_DOUBT, EXIT_UNAVAILABLE,
                                EXIT_OTHER,  EXIT_USAGE,    EXIT_NOT_FOUND};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        if (a == order[i] || b == order[i])
            return order[i];
    return EXIT_DONE;
}

bool print_colored(FILE *file)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    return (no_color == NULL || *no_color == '\0') && isatty(fileno(file)) &&
           (term == NULL || strcmp(term, "dumb") != 0);
}

/* Why the first write failed: by the end errno tells something else. */
static int print_error;

void print_bytes(const void *bytes, size_t len)
{
    if (len > 0 && fwrite(bytes, 1, len, stdout) < len && print_error == 0)
        print_error = errno;
}

bool print_flush(void)
{
    static bool told;
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    int error = print_error != 0 ? print_error : errno;
    if (error == EPIPE || error == 0) {
        /* The reader has seen enough: end as any filter does, without a word. */
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    if (!told)
        say("can't write to standard output: %s", strerror(error));
    told = true;
    return false;
}

/* The length of the UTF-8 sequence at `at`, printable and shortest; 0: none. */
static size_t utf8_length(const uint8_t *at, const uint8_t *end)
{
    uint8_t c = *at;
    if (c < 0x80)
        return c >= 0x20 && c != 0x7F;
    size_t len = c >= 0xF0 && c <= 0xF4  ? 4
                 : c >= 0xE0 && c < 0xF0 ? 3
                 : c >= 0xC2 && c < 0xE0 ? 2
                                         : 0;
    if (len == 0 || (size_t)(end - at) < len)
        return 0;
    uint32_t code = c & (0x7Fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (at[i] & 0x3Fu);
    }
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    bool surrogate = code >= 0xD800 && code < 0xE000;
    bool control = code < 0xA0 || code == 0x2028 || code == 0x2029;
    return code < least[len] || code > 0x10FFFF || surrogate || control ? 0 : len;
}

static bool is_text(const uint8_t *at, const uint8_t *end)
{
    for (size_t part; at < end; at += part)
        if ((part = utf8_length(at, end)) == 0)
            return false;
    return true;
}

/* Bytes that need no escape in a key that isn't text, and no quotes in a shell either. */
static bool is_plain(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
}

const char *key_escape(const void *key, size_t len, struct key_text *text)
{
    static const char digits[] = "0123456789ABCDEF";
    const uint8_t *at = key, *end = at + len;
    char *to = text->text, *to_end = text->text + sizeof text->text - 4;
    bool whole = is_text(at, end);
    for (; at < end && to < to_end; at++) {
        if (whole ? *at != '%' : is_plain(*at)) {
            *to++ = (char)*at;
        } else {
            *to++ = '%';
            *to++ = digits[*at >> 4];
            *to++ = digits[*at & 15];
        }
    }
    *to = '\0';
    return text->text;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int key_unescape(const char *text, uint8_t *to, size_t max)
{
    size_t len = 0;
    for (; *text != '\0'; text++) {
        if (len == max)
            return -E2BIG;
        if (*text != '%') {
            to[len++] = (uint8_t)*text;
            continue;
        }
        int high = hex_digit(text[1]);
        int low = high >= 0 ? hex_digit(text[2]) : -1;
        if (low < 0)
            return -EINVAL;
        to[len++] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    return (int)len;
}

const char *human_bytes(uint64_t bytes, struct small_text *text)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    snprintf(text->text, sizeof text->text, unit == 0 || value >= 99.95 ? "%.0f %s" : "%.1f %s",
             value, units[unit]);
    return text->text;
}

const char *human_count(uint64_t count, struct small_text *text)
{
    char plain[24];
    int len = snprintf(plain, sizeof plain, "%llu", (unsigned long long)count);
    char *to = text->text;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            *to++ = ',';
        *to++ = plain[i];
    }
    *to = '\0';
    return text->text;
}

const char *human_seconds(double seconds, struct small_text *text)
{
    unsigned long whole = seconds < 0 ? 0 : (unsigned long)seconds;
    if (whole < 60)
        snprintf(text->text, sizeof text->text, "%.*f s", seconds < 10 ? 1 : 0, seconds);
    else if (whole < 3600)
        snprintf(text->text, sizeof text->text, "%lu min %02lu s", whole / 60, whole % 60);
    else if (whole < 2ul * 86400)
        snprintf(text->text, sizeof text->text, "%lu h %02lu min", whole / 3600, whole / 60 % 60);
    else
        snprintf(text->text, sizeof text->text, "%lu d %02lu h", whole / 86400, whole / 3600 % 24);
    return text->text;
}

const char *version_text(struct kho_version version, struct small_text *text)
{
    snprintf(text->text, sizeof text->text, "%llu-%08x", (unsigned long long)version.counter,
             version.writer);
    return text->text;
}

const char *version_time(struct kho_version version, struct small_text *text)
{
    time_t seconds = (time_t)((version.counter >> 20) / 1000);
    struct tm tm;
    if (localtime_r(&seconds, &tm) == NULL ||
        strftime(text->text, sizeof text->text, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        snprintf(text->text, sizeof text->text, "-");
    return text->text;
}

void hex_encode(const uint8_t *bytes, size_t len, char *to)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        *to++ = digits[bytes[i] >> 4];
        *to++ = digits[bytes[i] & 15];
    }
    *to = '\0';
}

bool hex_decode(const char *text, uint8_t *to, size_t len)
{
    if (strlen(text) != 2 * len)
        return false;
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

void table_init(struct table *table, const char *const *titles, size_t columns)
{
    *table = (struct table){.columns = columns};
    memcpy(table->titles, titles, columns * sizeof titles[0]);
}

void table_fini(struct table *table)
{
    for (size_t i = 0; i < table->count; i++)
        free(table->cells[i].text);
    free(table->cells);
}

void table_add_marked(struct table *table, const char *text, enum table_mark mark)
{
    if (table->count == table->capacity) {
        table->capacity = table->capacity == 0 ? 64 : 2 * table->capacity;
        table->cells = must(realloc(table->cells, table->capacity * sizeof table->cells[0]));
    }
    table->cells[table->count++] = (struct table_cell){.text = must(strdup(text)), .mark = mark};
}

void table_add(struct table *table, const char *text)
{
    table_add_marked(table, text, MARK_NONE);
}

void table_addf(struct table *table, const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    table_add(table, text);
}

/* Characters, not bytes: those that don't continue a UTF-8 sequence. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++)
        width += ((uint8_t)*text & 0xC0) != 0x80;
    return width;
}

static void print_cell(const char *text, size_t width, bool right, bool last, const char *color)
{
    size_t have = width_of(text);
    int pad = have < width ? (int)(width - have) : 0;
    if (right)
        printf("%*s", pad, "");
    if (color != NULL)
        printf("\033[%sm%s\033[0m", color, text);
    else
        fputs(text, stdout);
    if (!last)
        printf("%*s", (right ? 0 : pad) + 2, "");
    else
        putchar('\n');
}

static void measure(const struct table *table, size_t *width)
{
    for (size_t column = 0; column < table->columns; column++) {
        const char *title = table->titles[column];
        width[column] = width_of(title) - (title[0] == '>');
        for (size_t i = column; i < table->count; i += table->columns) {
            size_t have = width_of(table->cells[i].text);
            if (have > width[column])
                width[column] = have;
        }
    }
}

void table_print(const struct table *table)
{
    static const char *const colors[] = {[MARK_NONE] = NULL, [MARK_GOOD] = "32", [MARK_BAD] = "31"};
    size_t width[TABLE_COLUMNS_MAX] = {0};
    bool color = print_colored(stdout);
    measure(table, width);
    for (size_t column = 0; column < table->columns; column++) {
        bool right = table->titles[column][0] == '>';
        print_cell(table->titles[column] + right, width[column], right,
                   column + 1 == table->columns, color ? "2" : NULL);
    }
    for (size_t i = 0, column = 0; i < table->count; i++) {
        print_cell(table->cells[i].text, width[column], table->titles[column][0] == '>',
                   column + 1 == table->columns, color ? colors[table->cells[i].mark] : NULL);
        column = column + 1 < table->columns ? column + 1 : 0;
    }
}

void print_json(json_t *json, bool pretty)
{
    must(json);
    json_dumpf(json, stdout, JSON_ENCODE_ANY | (pretty ? JSON_INDENT(2) : JSON_COMPACT));
    putchar('\n');
    json_decref(json);
}

json_t *text_json(const void *bytes, size_t len)
{
    json_t *json = json_stringn(bytes, len);
    if (json != NULL)
        return json;
    struct key_text text;
    return json_string(key_escape(bytes, len, &text));
}

json_t *result_json(const struct kho_result *result, bool written)
{
    static const char *const outcomes[] = {
        [KHO_APPLIED] = "applied", [KHO_NOT_APPLIED] = "not applied", [KHO_IN_DOUBT] = "in doubt"};
    struct key_text key;
    struct small_text version;
    char hash[33];
    json_t *json = must(json_object());
    json_object_set_new(json, "key", json_string(key_escape(result->key, result->key_len, &key)));
    json_object_set_new(json, "status",
                        json_string(result->status == 0 ? "ok" : kho_strerror(result->status)));
    if (written)
        json_object_set_new(json, "outcome", json_string(outcomes[result->outcome]));
    if (result->version.counter != 0) {
        hex_encode(result->hash, sizeof result->hash, hash);
        json_object_set_new(json, "version", json_string(version_text(result->version, &version)));
        json_object_set_new(json, "written_ms",
                            json_integer((json_int_t)(result->version.counter >> 20)));
        json_object_set_new(json, "length", json_integer((json_int_t)result->value_len));
        json_object_set_new(json, "hash", json_string(hash));
    }
    if (written && result->outcome == KHO_IN_DOUBT) {
        char token[2 * sizeof result->token.bytes + 1];
        hex_encode(result->token.bytes, sizeof result->token.bytes, token);
        json_object_set_new(json, "token", json_string(token));
    }
    return json;
}
