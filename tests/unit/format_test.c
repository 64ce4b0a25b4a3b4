/* The record formats of import and export: whatever the pieces in which a file arrives, the same
 * records come out of it, and what can't be read is told with its line, never stored. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kho/error.h>

#include "client/cli/format.h"

/* What a splitter made of a file, as text: one "key@line=value|" a record, "!code@message|" a
 * refusal. */
struct story {
    char text[8192];
    size_t len;
};

static void tell(struct story *story, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void tell(struct story *story, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int len = vsnprintf(story->text + story->len, sizeof story->text - story->len, format, list);
    va_end(list);
    assert_true(len >= 0 && (size_t)len < sizeof story->text - story->len);
    story->len += (size_t)len;
}

static void take_all(struct splitter *s, struct story *story)
{
    struct format_record record;
    int rc;
    while ((rc = splitter_next(s, &record)) != 0) {
        if (rc == 1)
            tell(story, "%.*s@%llu=%.*s|", (int)record.key_len, (const char *)record.key,
                 (unsigned long long)record.line, (int)record.value_len,
                 (const char *)record.value);
        else
            tell(story, "!%s|", s->message);
        if (rc == -EINVAL)
            break;
    }
}

static void feed(struct splitter *s, struct story *story, const char *bytes, size_t len)
{
    while (len > 0) {
        size_t room;
        uint8_t *to = splitter_room(s, &room);
        assert_non_null(to);
        size_t part = len < room ? len : room;
        memcpy(to, bytes, part);
        splitter_filled(s, part);
        take_all(s, story);
        bytes += part;
        len -= part;
    }
}

static void split(const struct splitter_options *options, const char *file, size_t len,
                  size_t first, size_t piece, struct story *story)
{
    struct splitter s;
    *story = (struct story){.len = 0};
    splitter_init(&s, options);
    feed(&s, story, file, first);
    for (size_t at = first; at < len; at += piece)
        feed(&s, story, file + at, len - at < piece ? len - at : piece);
    splitter_end(&s);
    take_all(&s, story);
    take_all(&s, story); /* the end stays the end */
    splitter_fini(&s);
}

/* The story of a file is the expected one, cut in two at every byte, and byte by byte. */
static void expect_with(const struct splitter_options *options, const char *file, size_t len,
                        const char *expected)
{
    static struct story story;
    for (size_t cut = 0; cut <= len; cut++) {
        split(options, file, len, cut, len + 1, &story);
        assert_string_equal(story.text, expected);
    }
    split(options, file, len, 0, 1, &story);
    assert_string_equal(story.text, expected);
}

static void expect(const struct format *format, const char *key, const char *file,
                   const char *expected)
{
    struct splitter_options options = {.format = format, .source = "f", .key_field = key};
    expect_with(&options, file, strlen(file), expected);
}

static void test_lines(void **state)
{
    (void)state;
    expect(&format_lines, NULL, "", "");
    expect(&format_lines, NULL, "one\ntwo\n", "f:1@1=one|f:2@2=two|");
    expect(&format_lines, NULL, "one\r\n\r\nthree", "f:1@1=one|f:2@2=|f:3@3=three|");
    expect(&format_lines, NULL, "\n\n", "f:1@1=|f:2@2=|");
    expect(&format_lines, NULL, "a\rb\r", "f:1@1=a\rb\r|");
}

static void test_deb822(void **state)
{
    (void)state;
    expect(&format_deb822, NULL, "", "");
    expect(&format_deb822, NULL, "\n\n \t\n", "");
    expect(&format_deb822, NULL,
           "Package: a\nDescription: one\n two\n .\n three\n\nPackage: b\nVersion: 1\n",
           "a@1=Package: a\nDescription: one\n two\n .\n three|b@7=Package: b\nVersion: 1|");
    expect(&format_deb822, NULL, "\n\nVersion: 1\npackage:\tx y \n\n\n\nPackage:z",
           "x y@3=Version: 1\npackage:\tx y |z@8=Package:z|");
    expect(&format_deb822, NULL, "Package: a\r\nTag: x,\r\n y\r\n\r\nPackage: b\r\n",
           "a@1=Package: a\r\nTag: x,\r\n y|b@5=Package: b|");
    expect(&format_deb822, "Version", "Package: a\nVersion: 1.2-3\n",
           "1.2-3@1=Package: a\nVersion: 1.2-3|");
    expect(&format_deb822, NULL, "\xEF\xBB\xBFPackage: a\n", "a@1=Package: a|");
}

static void test_deb822_refusals(void **state)
{
    (void)state;
    expect(&format_deb822, NULL, "Version: 1\n\nPackage: b\n",
           "!f:1: the stanza that begins here has no field Package; name the key's with --key|"
           "b@3=Package: b|");
    expect(&format_deb822, NULL, "Package: a\nnonsense\n\nPackage: b\n",
           "!f:2: the line is neither a field (\"Name: text\") nor the continuation of one (a "
           "blank, then text); is the file of another --format?|b@4=Package: b|");
    expect(&format_deb822, NULL, "Package:\n a\n\nPackage: b\n",
           "!f:1: the field Package has no text on its first line, and it is to be the key; choose "
           "another field with --key|b@4=Package: b|");
}

static void test_jsonl(void **state)
{
    (void)state;
    expect(&format_jsonl, NULL, "", "");
    expect(&format_jsonl, NULL, "{\"id\":\"a\",\"v\":[1, 2]}\n\n {\"v\":2, \"id\":17}\r\n",
           "a@1={\"id\":\"a\",\"v\":[1, 2]}|17@3= {\"v\":2, \"id\":17}|");
    expect(&format_jsonl, "s\xC3\xB4", "{\"s\xC3\xB4\":\"H\\u00e0 N\xE1\xBB\x99i\"}",
           "H\xC3\xA0 N\xE1\xBB\x99i@1={\"s\xC3\xB4\":\"H\\u00e0 N\xE1\xBB\x99i\"}|");
    expect(&format_jsonl, NULL, "\xEF\xBB\xBF{\"id\":\"a\"}\n", "a@1={\"id\":\"a\"}|");
}

static void test_jsonl_refusals(void **state)
{
    (void)state;
    expect(&format_jsonl, NULL, "[1]\n{\"id\":null}\n{\"x\":1}\n{\"id\":\"\"}\n{\"id\":1}\n",
           "!f:1: the line isn't a JSON object; each line holds one object|"
           "!f:2: the member \"id\" is neither a string nor an integer; name another with --key|"
           "!f:3: the object has no member \"id\"; name the key's with --key|"
           "!f:4: the record's key is empty; choose another field with --key|"
           "1@5={\"id\":1}|");
    static struct story story;
    struct splitter_options options = {.format = &format_jsonl, .source = "f"};
    split(&options, "{\"id\":\n1}\n", 10, 10, 1, &story);
    assert_non_null(strstr(story.text, "!f:1: the line isn't JSON"));
    assert_non_null(strstr(story.text, "!f:2: the line isn't JSON"));
}

static void test_csv(void **state)
{
    (void)state;
    expect(&format_csv, NULL, "", "");
    expect(&format_csv, NULL, "id,name\n", "");
    expect(&format_csv, NULL, "id,name\n1,x\n\n2,y", "1@2=1,x|2@4=2,y|");
    expect(&format_csv, NULL, "id,name\r\n1,\"x\r\ny\"\r\n2,\"\"\"q\"\",\"\r\n",
           "1@2=1,\"x\r\ny\"|2@4=2,\"\"\"q\"\",\"|");
    expect(&format_csv, "na\"me", "id,\"na\"\"me\"\n1,\"a,\"\"b\"\"\"\n",
           "a,\"b\"@2=1,\"a,\"\"b\"\"\"|");
    expect(&format_csv, "2", "id,name\n1,x\n", "x@2=1,x|");
    expect(&format_csv, "name", "\xEF\xBB\xBFname,id\nx,1\n", "x@2=x,1|");
    expect(&format_csv, NULL, "h\n\"\n\n\"\n", "\n\n@2=\"\n\n\"|");
    expect(&format_csv, NULL, "h\nplain \"quotes\" inside\n",
           "plain \"quotes\" inside@2=plain \"quotes\" inside|");

    struct splitter_options options = {.format = &format_csv, .source = "f", .no_header = true};
    expect_with(&options, "1,x\n2,y\n", 8, "1@1=1,x|2@2=2,y|");
    options.key_field = "2";
    expect_with(&options, "1,x\n2,y\n", 8, "x@1=1,x|y@2=2,y|");
}

static void test_csv_refusals(void **state)
{
    (void)state;
    expect(
        &format_csv, NULL, "h\n\"x\"y,1\n,1\n3,1\n",
        "!f:2: a closing quote is followed by something else than a comma in the row that begins "
        "here; a quote inside a quoted field is written twice|"
        "!f:3: the record's key is empty; choose another field with --key|3@4=3,1|");
    expect(&format_csv, NULL, "h\n\"never closed\n3,1\n",
           "!f:2: a quote opens in the row that begins here and is never closed|");
    expect(&format_csv, "b", "a,b\n1\n1,2\n",
           "!f:2: the row has 1 columns, and the key is to be column 2|2@3=1,2|");
    expect(
        &format_csv, "c", "a,b\n1,2\n",
        "!f:1: the header row has no column \"c\"; --key takes one of its names or a number from "
        "1, --no-header a file without one|");
}

/* A limit of a few bytes stands for the real one: the record is told once, with the line where it
 * begins, and the next is read as if nothing had been. */
static void test_overlong(void **state)
{
    (void)state;
    static const struct {
        const struct format *format;
        const char *good, *close;
    } cases[] = {{&format_lines, "x\n", "\n"},
                 {&format_deb822, "Package: x\n\n", "\n\n"},
                 {&format_jsonl, "{\"id\":\"x\"}\n", "\n"},
                 {&format_csv, "x,1\n", "\n"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct splitter_options options = {
            .format = cases[i].format, .source = "f", .no_header = true, .value_max = 20};
        for (size_t size = 12; size < 60; size++) {
            char file[256] = "", dots[64] = "";
            memset(dots, '.', size);
            strcat(strcat(file, cases[i].good), "P:");
            strcat(strcat(strcat(file, dots), cases[i].close), cases[i].good);
            static struct story whole, story;
            split(&options, file, strlen(file), strlen(file), 1, &whole);
            bool over = strstr(whole.text, "more than 20 bytes, the most that a value") != NULL;
            assert_int_equal(over, size + 2 > 20);
            for (size_t piece = 1; piece < 40; piece++) {
                split(&options, file, strlen(file), 0, piece, &story);
                assert_string_equal(story.text, whole.text);
            }
        }
    }
}

/* An overlong record that the file ends in, and one whose bytes look like the end of another. */
static void test_overlong_ends(void **state)
{
    (void)state;
    static struct story story;
    static const struct format *const all[] = {&format_lines, &format_deb822, &format_jsonl,
                                               &format_csv};
    for (size_t i = 0; i < 4; i++) {
        struct splitter_options options = {
            .format = all[i], .source = "f", .no_header = true, .value_max = 8};
        for (size_t piece = 1; piece < 50; piece++) {
            const char *file = "P:.........................................";
            split(&options, file, strlen(file), 0, piece, &story);
            assert_string_equal(story.text,
                                "!f:1: the record that begins here has more than 8 bytes, the most "
                                "that a value may have; split it, or store it by reference|");
        }
    }
    struct splitter_options options = {.format = &format_deb822, .source = "f", .value_max = 24};
    const char *file =
        "Long: ...................                                  \nPackage: no\n\n"
        "Package: yes\n";
    for (size_t piece = 1; piece < 100; piece++) {
        split(&options, file, strlen(file), 0, piece, &story);
        assert_null(strstr(story.text, "no@"));
        assert_non_null(strstr(story.text, "yes@4="));
    }
}

static void test_long_keys(void **state)
{
    (void)state;
    static struct story story;
    char file[4096];
    for (int quoted = 0; quoted < 2; quoted++) {
        for (size_t len = 1023; len < 1027; len++) {
            size_t at = (size_t)sprintf(file, "h\n%s", quoted ? "\"" : "");
            memset(file + at, 'k', len);
            at += len;
            at += (size_t)sprintf(file + at, "%s,1\n2,2\n", quoted ? "\"" : "");
            struct splitter_options options = {.format = &format_csv, .source = "f"};
            split(&options, file, at, at, 1, &story);
            assert_int_equal(strstr(story.text, "a key has at most 1024") != NULL, len > 1024);
            assert_non_null(strstr(story.text, "2@3=2,2|"));
        }
    }
}

/* What export writes is what import reads back; what wouldn't be is found before it is written. */
static void test_fit(void **state)
{
    (void)state;
    static const struct {
        const struct format *format;
        const char *key, *value;
        enum format_fit fit;
    } cases[] = {
        {&format_lines, "any", "a line", FORMAT_FITS},
        {&format_lines, "any", "", FORMAT_FITS},
        {&format_lines, "any", "two\nlines", FORMAT_UNFIT},
        {&format_lines, "any", "tail\r", FORMAT_UNFIT},
        {&format_deb822, "a", "Package: a\nX: y\n z", FORMAT_FITS},
        {&format_deb822, "b", "Package: a", FORMAT_OTHER_KEY},
        {&format_deb822, "a", "Package: a\n\nPackage: b", FORMAT_UNFIT},
        {&format_deb822, "a", "Package: a\n", FORMAT_UNFIT},
        {&format_deb822, "a", "", FORMAT_UNFIT},
        {&format_jsonl, "1", "{\"id\":1}", FORMAT_FITS},
        {&format_jsonl, "2", "{\"id\":1}", FORMAT_OTHER_KEY},
        {&format_jsonl, "1", "{\"id\":\n1}", FORMAT_UNFIT},
        {&format_jsonl, "1", "plain", FORMAT_UNFIT},
        {&format_csv, "1", "1,\"x\ny\"", FORMAT_FITS},
        {&format_csv, "1", "1,\"x", FORMAT_UNFIT},
        {&format_csv, "1", "1,x\ny", FORMAT_UNFIT},
        {&format_csv, "x", "1,x", FORMAT_OTHER_KEY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct splitter judge;
        struct splitter_options options = {.format = cases[i].format, .no_header = true};
        struct format_record record = {.key = (const uint8_t *)cases[i].key,
                                       .key_len = strlen(cases[i].key),
                                       .value = (const uint8_t *)cases[i].value,
                                       .value_len = strlen(cases[i].value)};
        splitter_init(&judge, &options);
        for (int again = 0; again < 2; again++)
            assert_int_equal(format_fit(&judge, &record), cases[i].fit);
        splitter_fini(&judge);
    }
}

static void test_guess(void **state)
{
    (void)state;
    assert_ptr_equal(format_guess("a/b.csv"), &format_csv);
    assert_ptr_equal(format_guess("x.CSV"), &format_csv);
    assert_ptr_equal(format_guess("events.ndjson"), &format_jsonl);
    assert_ptr_equal(format_guess("notes.txt"), &format_lines);
    assert_ptr_equal(format_guess("/var/lib/apt/lists/deb.debian.org_main_binary-amd64_Packages"),
                     &format_deb822);
    assert_null(format_guess("dir.csv/file"));
    assert_null(format_guess("-"));
    assert_null(format_find("xml"));
    assert_ptr_equal(format_find("deb822"), &format_deb822);
}

/* A value as large as may be, in a file of such, needs the memory of one. */
static void test_largest(void **state)
{
    (void)state;
    struct splitter_options options = {.format = &format_lines, .source = "f"};
    struct splitter s;
    struct format_record record;
    size_t left = 3 * ((size_t)FORMAT_VALUE_MAX + 1), at = 0, records = 0;
    splitter_init(&s, &options);
    while (left > 0) {
        size_t room;
        uint8_t *to = splitter_room(&s, &room);
        assert_non_null(to);
        size_t part = left < room ? left : room;
        for (size_t i = 0; i < part; i++, at++)
            to[i] = at % ((size_t)FORMAT_VALUE_MAX + 1) == FORMAT_VALUE_MAX ? '\n' : 'x';
        splitter_filled(&s, part);
        left -= part;
        while (splitter_next(&s, &record) == 1) {
            assert_int_equal(record.value_len, FORMAT_VALUE_MAX);
            records++;
        }
    }
    assert_int_equal(records, 3);
    assert_true(s.capacity <= (size_t)FORMAT_VALUE_MAX + 2 * (size_t)FORMAT_PIECE);
    splitter_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_deb822),
        cmocka_unit_test(test_deb822_refusals),
        cmocka_unit_test(test_jsonl),
        cmocka_unit_test(test_jsonl_refusals),
        cmocka_unit_test(test_csv),
        cmocka_unit_test(test_csv_refusals),
        cmocka_unit_test(test_overlong),
        cmocka_unit_test(test_overlong_ends),
        cmocka_unit_test(test_long_keys),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_guess),
        cmocka_unit_test(test_largest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
