/* Does a frame of any kind, as a peer could send it, decode to what it says or to an error, at the
 * node (requests) and at the client (answers)? What decodes is encoded again, to the same bytes.
 * The checksum is mended, since a fuzzer can't guess it and what lies behind it is the question. */
#include "fuzz.h"

#include <kho/map.h>
#include <kho/piece.h>
#include <kho/wire.h>

static volatile uint64_t g_sink;
static uint8_t g_piece[KHO_PIECE_MAX];
static uint8_t g_again[KHO_FRAME_MAX];

static void same(const uint8_t *from, size_t len)
{
    KHO_ASSERT(memcmp(from, g_again, len) == 0);
}

/* The value as whole and as it comes in pieces of `step` bytes: both say the same. */
static void value_look(const struct record *record, uint32_t step)
{
    struct value_check check;
    bool matches = value_matches(record, g_piece);
    if (record_is_tombstone(record))
        return;
    value_check_begin(&check);
    for (uint32_t have = 0; have < record->stored_len;) {
        have = (uint32_t)kho_min((uint64_t)have + step, record->stored_len);
        value_check_go(&check, record, have, g_piece);
    }
    KHO_ASSERT(value_check_end(&check, record) == matches);
    static uint8_t raw[1 << 16];
    if (matches && record->raw_len <= sizeof raw)
        KHO_ASSERT(value_unpack(record, raw) == 0);
}

static int record_look(const uint8_t *from, size_t len)
{
    struct record record;
    int n = record_decode(from, len, &record);
    if (n < 0) {
        n = record_decode_head(from, len, &record);
        if (n > 0 && record_encode_head(&record, g_again) == (size_t)n)
            same(from, (size_t)n);
        return KHO_EMALFORMED;
    }
    KHO_ASSERT(record_encode(&record, g_again) == (size_t)n);
    same(from, (size_t)n);
    value_look(&record, 1 + (uint32_t)record.version.counter % 100);
    struct key_hash hash = key_hash(record.collection, record.key, record.key_len, 1);
    uint32_t partition =
        key_partition(record.collection, record.key, record.key_len, 1, '/', 16, hash);
    KHO_ASSERT(partition < 16);
    return n;
}

static int write_entry(const struct wire_head *head, const uint8_t *from, size_t len)
{
    size_t before = (head->flags & KHO_FRAME_COPY) != 0 ? WIRE_DROPS : 0;
    if (len < before)
        return KHO_EMALFORMED;
    int n = record_look(from + before, len - before);
    return n < 0 ? n : n + (int)before;
}
static int blocks_entry(const uint8_t *from, size_t len)
{
    static uint8_t raw[KHO_BLOCK_RAW_MAX];
    struct wire_block_head block;
    int n = wire_block_head_decode(from, len, &block);
    if (n < 0)
        return n;
    wire_block_head_encode(&block, g_again);
    same(from, WIRE_BLOCK_HEAD);
    int got = LZ4_decompress_safe((const char *)from + WIRE_BLOCK_HEAD, (char *)raw,
                                  (int)block.stored_len, (int)block.raw_len);
    for (int at = 0; at < got;) {
        int used = record_look(raw + at, (size_t)(got - at));
        if (used < 0)
            return KHO_EMALFORMED;
        at += used;
    }
    return n;
}
static int read_entry(const uint8_t *from, size_t len)
{
    struct wire_read_ask ask;
    int n = wire_read_ask_decode(from, len, &ask);
    if (n < 0)
        return n;
    wire_read_ask_encode(&ask, g_again);
    same(from, (size_t)n);
    return n;
}

/* An entry of a request: its bytes, or an error. */
static int request_entry(const struct wire_head *head, const uint8_t *from, size_t len)
{
    switch (head->type) {
    case WIRE_WRITE:
    case WIRE_WRITE_LARGE:
        return write_entry(head, from, len);
    case WIRE_WRITE_BLOCKS:
        return blocks_entry(from, len);
    case WIRE_READ:
        return read_entry(from, len);
    case WIRE_PROBE: {
        struct wire_probe_ask ask;
        if (len < WIRE_PROBE_ASK)
            return KHO_EMALFORMED;
        wire_probe_ask_decode(from, &ask);
        wire_probe_ask_encode(&ask, g_again);
        same(from, WIRE_PROBE_ASK);
        return WIRE_PROBE_ASK;
    }
    case WIRE_LIST: {
        struct wire_list_ask ask;
        if (len < WIRE_LIST_ASK)
            return KHO_EMALFORMED;
        wire_list_ask_decode(from, &ask);
        wire_list_ask_encode(&ask, g_again);
        same(from, 14);
        return WIRE_LIST_ASK;
    }
    case WIRE_FORGET: {
        struct wire_forget_ask ask;
        if (len < WIRE_FORGET_ASK || !wire_forget_ask_decode(from, &ask))
            return KHO_EMALFORMED;
        wire_forget_ask_encode(&ask, g_again);
        same(from, WIRE_FORGET_ASK);
        return WIRE_FORGET_ASK;
    }
    case WIRE_MAP_PUSH: {
        struct map map;
        if (len < WIRE_MAP_PUSH_HEAD)
            return KHO_EMALFORMED;
        g_sink += (uint64_t)map_decode(from + WIRE_MAP_PUSH_HEAD, len - WIRE_MAP_PUSH_HEAD, &map);
        return (int)len;
    }
    default:
        return KHO_EMALFORMED;
    }
}

/* The same of an answer. */
static int answer_entry(const struct wire_head *head, const uint8_t *from, size_t len)
{
    switch (head->type) {
    case WIRE_READ: {
        struct wire_read_answer answer;
        if (len < WIRE_READ_ANSWER)
            return KHO_EMALFORMED;
        wire_read_answer_decode(from, &answer);
        size_t room = len - WIRE_READ_ANSWER;
        if (answer.record_len > room)
            return KHO_EMALFORMED;
        if (answer.record_len > 0)
            record_look(from + WIRE_READ_ANSWER, answer.record_len);
        return (int)(WIRE_READ_ANSWER + answer.record_len);
    }
    case WIRE_PROBE: {
        struct wire_probe_answer answer;
        if (len < WIRE_PROBE_ANSWER)
            return KHO_EMALFORMED;
        wire_probe_answer_decode(from, &answer);
        wire_probe_answer_encode(&answer, g_again);
        same(from, 13);
        return WIRE_PROBE_ANSWER;
    }
    case WIRE_LIST: {
        struct wire_list_entry entry;
        if (len < WIRE_LIST_ENTRY)
            return KHO_EMALFORMED;
        wire_list_entry_decode(from, &entry);
        wire_list_entry_encode(&entry, g_again);
        same(from, 26);
        if (entry.record_len > len - WIRE_LIST_ENTRY)
            return KHO_EMALFORMED;
        if (entry.record_len > 0)
            record_look(from + WIRE_LIST_ENTRY, entry.record_len);
        return (int)(WIRE_LIST_ENTRY + entry.record_len);
    }
    case WIRE_DIGEST: {
        struct wire_digest_entry entry;
        if (len < WIRE_DIGEST_ENTRY)
            return KHO_EMALFORMED;
        wire_digest_entry_decode(from, &entry);
        wire_digest_entry_encode(&entry, g_again);
        same(from, WIRE_DIGEST_ENTRY);
        return WIRE_DIGEST_ENTRY;
    }
    case WIRE_EPISODES: {
        struct wire_episode episode;
        if (len < WIRE_EPISODE_ENTRY)
            return KHO_EMALFORMED;
        wire_episode_decode(from, &episode);
        wire_episode_encode(&episode, g_again);
        same(from, 36);
        return WIRE_EPISODE_ENTRY;
    }
    default:
        return KHO_EMALFORMED;
    }
}

static void entries(const struct wire_head *head, const uint8_t *body, size_t len)
{
    size_t at = 0;
    int n = 1;
    for (uint32_t i = 0; i < head->count && n > 0; i++, at += (size_t)n)
        if ((n = request_entry(head, body + at, len - at)) < 0)
            break;
    at = head->type == WIRE_LIST ? WIRE_LIST_HEAD : 0;
    if (len < at)
        return;
    if (at > 0) {
        struct wire_list_head list;
        wire_list_head_decode(body, &list);
        g_sink += list.next_partition;
    }
    for (uint32_t i = 0; i < head->count; i++, at += (size_t)n)
        if ((n = answer_entry(head, body + at, len - at)) < 0)
            break;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct wire_head head;
    int length = wire_frame_length(bytes, len);
    if (length <= 0 || (size_t)length > len)
        return 0;
    uint8_t *mended = fuzz_copy(bytes, (size_t)length);
    if (wire_frame_decode(mended, &head) == KHO_ECHECKSUM)
        kho_store64(mended + 8, wire_checksum(mended, (size_t)length));
    if (wire_frame_decode(mended, &head) == 0) {
        memcpy(g_again, mended, (size_t)length);
        wire_frame_seal(g_again, &head, false);
        same(mended, (size_t)length);
        wire_frame_seal(g_again, &head, true);
        same(mended, (size_t)length);
        entries(&head, mended + KHO_FRAME_HEAD, head.length - KHO_FRAME_HEAD);
    }
    free(mended);
    return 0;
}

/* --- Seeds ------------------------------------------------------------------------------------ */

static const struct record *seed_record(bool packed)
{
    static struct record record;
    record = (struct record){.collection = 1,
                             .key_len = 4,
                             .version = {77, 5},
                             .raw_len = 6,
                             .stored_len = 6,
                             .key = (const uint8_t *)"key1",
                             .value = (const uint8_t *)"value1"};
    record.hash = content_hash("value1", 6);
    if (packed) { /* three pieces */
        static uint8_t raw[2 * KHO_PIECE_MAX + 1000], to[sizeof raw];
        memset(raw, 'a', sizeof raw);
        record.codec = KHO_CODEC_LZ4;
        record.raw_len = sizeof raw;
        record.stored_len = value_pack(raw, sizeof raw, to);
        record.value = to;
        record.hash = content_hash(raw, sizeof raw);
    }
    return &record;
}

static size_t seed_blocks(uint8_t *to)
{
    uint8_t raw[1024];
    size_t raw_len = 0;
    for (int i = 0; i < 2; i++)
        raw_len += record_encode(seed_record(false), raw + raw_len);
    int stored =
        LZ4_compress_default((const char *)raw, (char *)to + WIRE_BLOCK_HEAD, (int)raw_len, 1024);
    struct wire_block_head block = {
        .raw_len = (uint32_t)raw_len, .stored_len = (uint32_t)stored, .records = 2};
    wire_block_head_encode(&block, to);
    return WIRE_BLOCK_HEAD + (size_t)stored;
}

static size_t seed_read_answer(uint8_t *to)
{
    const struct record *record = seed_record(false);
    struct wire_read_answer answer = {.state = WIRE_PRESENT,
                                      .record_len = (uint32_t)record_size(record)};
    wire_read_answer_encode(&answer, to);
    return WIRE_READ_ANSWER + record_encode(record, to + WIRE_READ_ANSWER);
}

static size_t seed_list_answer(uint8_t *to)
{
    const struct record *record = seed_record(false);
    struct wire_list_head head = {.next_partition = 3};
    struct wire_list_entry entry = {.partition = 2,
                                    .version = record->version,
                                    .state = WIRE_PRESENT,
                                    .record_len = (uint32_t)record_size(record)};
    wire_list_head_encode(&head, to);
    wire_list_entry_encode(&entry, to + WIRE_LIST_HEAD);
    return WIRE_LIST_HEAD + WIRE_LIST_ENTRY +
           record_encode(record, to + WIRE_LIST_HEAD + WIRE_LIST_ENTRY);
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    static const uint8_t types[] = {
        WIRE_WRITE,        WIRE_WRITE,  WIRE_WRITE,    WIRE_READ,
        WIRE_WRITE_BLOCKS, WIRE_READ,   WIRE_LIST,     WIRE_PROBE,
        WIRE_LIST,         WIRE_DIGEST, WIRE_EPISODES, WIRE_EPISODE_CLOSE,
        WIRE_FORGET,       WIRE_STATUS, WIRE_MAP_PUSH, WIRE_WRITE_LARGE};
    if (n >= KHO_COUNT_OF(types) || max < 8192)
        return 0;
    struct wire_head head = {.type = types[n], .request = 9, .epoch = 2, .count = 1};
    uint8_t *body = to + KHO_FRAME_HEAD;
    size_t len = 96;
    memset(to, 0, 4096);
    switch (n) {
    case 0:
    case 1:
        head.flags = n == 0 ? 0 : KHO_FRAME_COPY;
        head.count = 2;
        len = 0;
        for (int i = 0; i < 2; i++) {
            len += n == 1 ? WIRE_DROPS : 0;
            len += record_encode(seed_record(false), body + len);
        }
        break;
    case 2:
        len = record_encode(seed_record(true), body);
        break;
    case 3: {
        struct wire_read_ask ask = {.collection = 1, .key_len = 4, .key = (const uint8_t *)"key1"};
        wire_read_ask_encode(&ask, body);
        len = WIRE_READ_ASK + 4;
        break;
    }
    case 4:
        head.count = 2;
        len = seed_blocks(body);
        break;
    case 5:
        len = seed_read_answer(body);
        break;
    case 6:
        len = seed_list_answer(body);
        break;
    case 15:
        len = record_encode_head(seed_record(true), body);
        break;
    default:
        break;
    }
    head.length = (uint32_t)(KHO_FRAME_HEAD + len);
    wire_frame_seal(to, &head, false);
    return head.length;
}
