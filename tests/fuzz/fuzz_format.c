/* The record formats of import: any bytes, in any pieces, give the same records and refusals; and a
 * record that was read can be written and read again. The first two bytes choose format, options
 * and pieces. */
#include "fuzz.h"

#include "client/cli/format.h"

static const struct format *const formats[] = {&format_deb822, &format_jsonl, &format_csv,
                                               &format_lines};

/* A number that stands for all that a splitter said. */
struct digest {
    uint64_t sum;
    uint64_t records;
};

static void add(struct digest *digest, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        digest->sum = (digest->sum ^ bytes[i]) * 0x100000001B3u;
    digest->sum = (digest->sum ^ len) * 0x100000001B3u;
}

static void take(struct splitter *s, struct splitter *judge, struct digest *digest)
{
    struct format_record record;
    int rc;
    while ((rc = splitter_next(s, &record)) != 0) {
        digest->sum = (digest->sum ^ (uint64_t)rc) * 0x100000001B3u;
        if (rc < 0) {
            add(digest, (const uint8_t *)s->message, strlen(s->message));
            continue;
        }
        digest->records++;
        add(digest, record.key, record.key_len);
        add(digest, record.value, record.value_len);
        add(digest, (const uint8_t *)&record.line, sizeof record.line);
        KHO_ASSERT(record.key_len >= 1 && record.key_len <= FORMAT_KEY_MAX);
        /* A last "\r" would be taken for half of a line's end: export refuses such a value. */
        bool cut = record.value_len > 0 && record.value[record.value_len - 1] == '\r';
        if (judge != NULL && !cut)
            KHO_ASSERT(format_fit(judge, &record) == FORMAT_FITS);
    }
}

static struct digest split(const struct splitter_options *options, const uint8_t *bytes, size_t len,
                           size_t piece, bool fits)
{
    struct digest digest = {.sum = 1};
    struct splitter s, judge;
    struct splitter_options judging = *options;
    judging.no_header = true;
    judging.value_max = 0;
    splitter_init(&s, options);
    splitter_init(&judge, &judging);
    for (size_t at = 0; at < len;) {
        size_t room, part = len - at < piece ? len - at : piece;
        uint8_t *to = splitter_room(&s, &room);
        KHO_ASSERT(to != NULL && room >= FORMAT_PIECE);
        if (part > room)
            part = room;
        memcpy(to, bytes + at, part);
        splitter_filled(&s, part);
        take(&s, fits ? &judge : NULL, &digest);
        at += part;
    }
    splitter_end(&s);
    take(&s, fits ? &judge : NULL, &digest);
    splitter_fini(&s);
    splitter_fini(&judge);
    return digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len < 2)
        return 0;
    struct splitter_options options = {
        .format = formats[bytes[0] & 3],
        .source = "fuzz",
        .no_header = (bytes[0] & 4) != 0,
        .value_max = (bytes[0] & 8) != 0 ? 16 : 0,
        .key_field = (bytes[0] & 16) != 0 && (bytes[0] & 3) == 2 ? "2" : NULL,
    };
    size_t piece = 1 + bytes[1] % 37;
    /* A header may give the column a name that is another column's number. */
    bool fits = options.key_field == NULL || options.no_header;
    struct digest whole = split(&options, bytes + 2, len - 2, len, fits);
    struct digest pieces = split(&options, bytes + 2, len - 2, piece, false);
    KHO_ASSERT(whole.sum == pieces.sum && whole.records == pieces.records);
    return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    static const char *const seeds[] = {
        "\x04\x07Package: a\nTag: x,\n y\n\nPackage: b\r\nVersion: 1\r\n\r\n",
        "\x05\x03{\"id\":\"a\",\"n\":[1,2.5]}\n\n{\"id\":17}\r\n",
        "\x06\x02id,\"na\"\"me\"\n1,\"x\ny\"\n2,plain\r\n",
        "\x16\x05id,name\n1,\"x\ny\"\n2,plain\r\n",
        "\x07\x01one\r\n\ntwo",
        "\x0C\x04Package: a\nLong: ....................\n\nPackage: b\n",
        "\x0E\x04h\n1,............................\n2,b\n",
        "\x0F\x04............................\nx\n",
    };
    size_t len = n < KHO_COUNT_OF(seeds) ? strlen(seeds[n]) : 0;
    if (len == 0 || len > max)
        return 0;
    memcpy(to, seeds[n], len);
    return len;
}
