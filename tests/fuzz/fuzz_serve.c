/* What does a shard make of hostile bytes on accepted connections, as the network gives them? A
 * shard over the fake store of the unit tests takes frames with mended checksums and plain bytes,
 * cut anywhere, while commits, reads and sends are held back and let go. Whatever came: what it
 * sends are whole frames that answer what was asked, every connection can be closed, and then it
 * holds no more memory than before.
 *
 * Input: steps: what 1, then what the step wants. */
#include <setjmp.h>

#include "fuzz.h"

#include <lz4.h>

#include "tests/unit/serving.h"

enum step {
    STEP_FRAME,  /* flags 1, length 2, frame from its type on: head and checksum are mended */
    STEP_PIECES, /* the same, in pieces */
    STEP_BYTES,  /* length 1, bytes as they are */
    STEP_TURN,
    STEP_SLEEP, /* time 2 */
    STEP_CONN,  /* which goes on */
    STEP_BREAK, /* the peer is gone */
    STEP_HOLD,  /* bits: what is held back */
    STEP_READS, /* so many of the reads end */
    STEP_KINDS
};
enum { CONNS = 3, STEPS_MAX = 64, FRAME_BODY_MAX = 8192, ANSWERED_MAX = 4096 };

static struct serving *g_serving;
static uint64_t g_memory;
static bool g_plain; /* bytes came that weren't a frame of ours: ids are unknown */

static void serving_again(void)
{
    if (g_serving != NULL)
        serving_destroy(g_serving);
    g_serving = serving_ready();
    shard_disconnected(g_serving->shard, 0, 0, g_serving->now);
    serving_turn(g_serving);
    g_memory = shard_stat(g_serving->shard, STAT_memory_bytes);
}

/* As after serving_ready(), but for the time. */
static void store_clear(void)
{
    for (uint32_t i = 0; i < fake->count; i++)
        free(fake->records[i].bytes);
    fake->count = 0;
    fake->hold_commits = fake->hold_reads = fake->no_room = fake->refuse_blocks = false;
    fake->hold_map = fake->suspect = fake->last_read_first = false;
    fake->write_status = 0;
    fake->episode = 0;
}

/* What was sent since the last look: whole frames, but for the end of a closed connection. */
static void answers_look(struct serving *s, int32_t conn)
{
    struct serving_conn *c = &s->conns[conn];
    while (c->taken < c->sent_len) {
        struct wire_head head;
        size_t rest = c->sent_len - c->taken;
        int length = wire_frame_length(c->sent + c->taken, rest);
        KHO_ASSERT(length > 0 && (size_t)length <= rest);
        KHO_ASSERT(wire_frame_decode(c->sent + c->taken, &head) == 0);
        KHO_ASSERT(head.status == 0 || head.count == 0);
        KHO_ASSERT(g_plain || (head.request >= 1 && head.request <= 255));
        c->taken += (size_t)length;
    }
    c->taken = c->sent_len = 0;
}

static void turn(struct serving *s)
{
    serving_turn(s);
    for (int32_t i = 0; i < CONNS; i++)
        if (s->conns[i].open)
            answers_look(s, i);
}

static void open_conn(struct serving *s, int32_t conn)
{
    if (s->conns[conn].open)
        return;
    serving_connect(s, conn);
}

static void deliver(struct serving *s, int32_t conn, const uint8_t *bytes, size_t len, size_t piece)
{
    for (size_t at = 0; at < len && s->conns[conn].open; at += piece) {
        serving_deliver(s, conn, bytes + at, kho_min(piece, len - at));
        turn(s);
    }
}

static void frame_step(struct serving *s, int32_t conn, struct fuzz_input *in, bool pieces)
{
    static struct serving_frame f;
    uint8_t bits = (uint8_t)fuzz_take(in, 1);
    size_t want = (size_t)fuzz_take(in, 2) % FRAME_BODY_MAX, len;
    struct wire_head head = {.type = (uint8_t)fuzz_take(in, 1),
                             .flags = (uint8_t)fuzz_take(in, 1),
                             .count = (uint16_t)fuzz_take(in, 2),
                             .request = fuzz_take(in, 1),
                             .epoch = s->map.epoch,
                             .map_hash = s->map.hash,
                             .cluster = s->map.cluster};
    head.request += head.request == 0;
    if ((bits & 1) != 0)
        head.epoch += fuzz_take(in, 1) - 3;
    if ((bits & 2) != 0)
        head.cluster.bytes[0] ^= 1;
    const uint8_t *body = fuzz_take_bytes(in, want, &len);
    head.length = (uint32_t)(KHO_FRAME_HEAD + len);
    if (len > 0)
        memcpy(f.bytes + KHO_FRAME_HEAD, body, len);
    /* A map and the content hashes of records are mended, too: a fuzzer can't guess them. */
    if (head.type == WIRE_MAP_PUSH && len > WIRE_MAP_PUSH_HEAD + KHO_MAP_HEAD && (bits & 4) == 0) {
        uint8_t *map = f.bytes + KHO_FRAME_HEAD + WIRE_MAP_PUSH_HEAD;
        size_t length = len - WIRE_MAP_PUSH_HEAD;
        kho_store32(map + 76, (uint32_t)length);
        memcpy(map + 32, map_hash(map, length).bytes, 16);
    }
    wire_frame_seal(f.bytes, &head, false);
    deliver(s, conn, f.bytes, head.length, pieces ? 1 + (bits >> 3) * 7u : head.length);
}

static void hold_step(uint8_t bits, struct serving *s, int32_t conn)
{
    fake->hold_commits = (bits & 1) != 0;
    fake->hold_reads = (bits & 2) != 0;
    fake->no_room = (bits & 4) != 0;
    fake->refuse_blocks = (bits & 8) != 0;
    fake->suspect = (bits & 16) != 0;
    fake->episode = (bits & 32) != 0 ? 7 : 0;
    fake->last_read_first = (bits & 64) != 0;
    if ((bits & 128) != 0)
        s->conns[conn].hold_sends = true;
    else
        serving_release_send(s, conn);
}

static void step(struct serving *s, int32_t *conn, struct fuzz_input *in)
{
    size_t len;
    uint8_t what = (uint8_t)(fuzz_take(in, 1) % STEP_KINDS);
    open_conn(s, *conn);
    switch (what) {
    case STEP_FRAME:
    case STEP_PIECES:
        frame_step(s, *conn, in, what == STEP_PIECES);
        break;
    case STEP_BYTES: {
        const uint8_t *bytes = fuzz_take_bytes(in, (size_t)fuzz_take(in, 1), &len);
        g_plain = true;
        if (len > 0)
            deliver(s, *conn, bytes, len, len);
        break;
    }
    case STEP_SLEEP:
        serving_sleep(s, fuzz_take(in, 2) % 30000);
        break;
    case STEP_CONN:
        *conn = (int32_t)(fuzz_take(in, 1) % CONNS);
        break;
    case STEP_BREAK:
        shard_disconnected(s->shard, *conn, -ECONNRESET, s->now);
        break;
    case STEP_HOLD:
        hold_step((uint8_t)fuzz_take(in, 1), s, *conn);
        break;
    case STEP_READS:
        fake_reads_end((uint32_t)fuzz_take(in, 1));
        break;
    default:
        break;
    }
    turn(s);
}

/* All is let go, every connection ends, and nothing is left. */
static void settle(struct serving *s)
{
    fake->hold_commits = fake->no_room = fake->hold_reads = false;
    if (fake->map_next != NULL)
        fake_map_end(0);
    for (int32_t i = 0; i < CONNS; i++) {
        fake_reads_end(UINT32_MAX);
        serving_release_send(s, i);
        turn(s);
    }
    for (int32_t i = 0; i < CONNS; i++) {
        if (s->conns[i].open)
            shard_disconnected(s->shard, i, 0, s->now);
        fake_reads_end(UINT32_MAX);
        turn(s);
    }
    KHO_ASSERT(fake->pinned == 0 && fake->read_count == 0);
    for (int32_t i = 0; i < CONNS; i++)
        KHO_ASSERT(!s->conns[i].open);
    KHO_ASSERT(shard_stat(s->shard, STAT_connections) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct fuzz_input in = {bytes, len};
    int32_t conn = 0;
    if (g_serving == NULL)
        serving_again();
    struct serving *s = g_serving;
    g_plain = false;
    for (int i = 0; i < STEPS_MAX && in.len > 0; i++)
        step(s, &conn, &in);
    settle(s);
    bool map_changed = fake->map.epoch != s->map.epoch || fake->map.hash != s->map.hash;
    KHO_ASSERT(shard_stat(s->shard, STAT_memory_bytes) <= g_memory + ANSWERED_MAX * 64);
    if (map_changed)
        serving_again();
    else
        store_clear();
    return 0;
}

/* --- Seeds ------------------------------------------------------------------------------------ */

static size_t seed_frame(uint8_t *to, const struct serving_frame *f, uint8_t type, uint8_t flags)
{
    size_t len = f->len - KHO_FRAME_HEAD;
    to[0] = STEP_FRAME;
    to[1] = 0;
    kho_store16(to + 2, (uint16_t)len);
    to[4] = type;
    to[5] = flags;
    kho_store16(to + 6, (uint16_t)f->count);
    to[8] = 9;
    memcpy(to + 9, f->bytes + KHO_FRAME_HEAD, len);
    return 9 + len;
}

static size_t seed_write(uint8_t *to, uint8_t type, uint8_t flags)
{
    static struct serving_frame f;
    frame_begin(&f);
    for (int i = 0; i < 3; i++) {
        if ((flags & KHO_FRAME_COPY) != 0) {
            kho_store64(frame_add(&f, WIRE_DROPS), 3);
            f.count--;
        }
        frame_add_record(&f, 1 + (uint32_t)i % 2, i == 0 ? "key-1" : "a/b", 100, "value", 5);
    }
    return seed_frame(to, &f, type, flags);
}

static size_t seed_blocks(uint8_t *to)
{
    static struct serving_frame f;
    static uint8_t packed[4096];
    frame_begin(&f);
    for (int i = 0; i < 3; i++)
        frame_add_record(&f, 1, "key-1", 100 + (uint64_t)i, "vvvvvvvvvvvvvvvvvvvv", 20);
    uint32_t raw = f.len - KHO_FRAME_HEAD;
    int stored = LZ4_compress_default((const char *)f.bytes + KHO_FRAME_HEAD, (char *)packed,
                                      (int)raw, sizeof packed);
    struct wire_block_head head = {
        .raw_len = raw, .stored_len = (uint32_t)stored, .records = f.count};
    uint32_t count = f.count;
    frame_begin(&f);
    wire_block_head_encode(&head, frame_add(&f, WIRE_BLOCK_HEAD));
    memcpy(frame_add(&f, (uint32_t)stored), packed, (size_t)stored);
    f.count = count;
    return seed_frame(to, &f, WIRE_WRITE_BLOCKS, 0);
}

static size_t seed_large(uint8_t *to)
{
    static struct serving_frame f;
    static uint8_t value[600];
    struct record record = {.collection = 1,
                            .key_len = 5,
                            .version = {100, 7},
                            .raw_len = sizeof value,
                            .stored_len = sizeof value,
                            .hash = content_hash(value, sizeof value),
                            .key = (const uint8_t *)"key-1",
                            .value = value};
    frame_begin(&f);
    record_encode_head(&record, frame_add(&f, KHO_RECORD_HEAD + 5));
    size_t len = seed_frame(to, &f, WIRE_WRITE_LARGE, 0);
    for (int i = 0; i < 2; i++) {
        frame_begin(&f);
        memcpy(frame_add(&f, 300), value, 300);
        f.count = 0;
        len += seed_frame(to + len, &f, WIRE_DATA, i == 0 ? KHO_FRAME_MORE : 0);
    }
    return len;
}

static size_t seed_reads(uint8_t *to, uint8_t ask, bool by_tag)
{
    static struct serving_frame f;
    size_t len = seed_write(to, WIRE_WRITE, 0);
    frame_begin(&f);
    for (int i = 0; i < 4; i++)
        frame_add_read(&f, g_serving, 1, i == 0 ? "key-1" : "key-9", ask, by_tag);
    return len + seed_frame(to + len, &f, WIRE_READ, 0);
}

static size_t seed_zeros(uint8_t *to, uint8_t type, uint32_t bytes, uint32_t count)
{
    static struct serving_frame f;
    frame_begin(&f);
    memset(frame_add(&f, bytes), 0, bytes);
    f.count = count;
    size_t len = seed_write(to, WIRE_WRITE, 0);
    return len + seed_frame(to + len, &f, type, 0);
}

static size_t seed_list(uint8_t *to, uint8_t ask)
{
    static struct serving_frame f;
    struct wire_list_ask list = {.collection = 1, .partition_to = 8, .ask = ask, .limit = 10};
    size_t len = seed_write(to, WIRE_WRITE, 0);
    frame_begin(&f);
    wire_list_ask_encode(&list, frame_add(&f, WIRE_LIST_ASK));
    return len + seed_frame(to + len, &f, WIRE_LIST, 0);
}

static size_t seed_map(uint8_t *to, bool decide)
{
    static struct serving_frame f;
    size_t length;
    uint8_t *map = serving_map(2, 0, 0, 0, &length);
    frame_begin(&f);
    uint8_t *at = frame_add(&f, WIRE_MAP_PUSH_HEAD + (uint32_t)length);
    memset(at, 0, WIRE_MAP_PUSH_HEAD);
    kho_store64(at, g_serving->map.epoch);
    kho_store64(at + 8, g_serving->map.hash);
    at[16] = decide;
    memcpy(at + WIRE_MAP_PUSH_HEAD, map, length);
    free(map);
    return seed_frame(to, &f, WIRE_MAP_PUSH, 0);
}

static size_t seed_held(uint8_t *to)
{
    size_t len = 0;
    to[len++] = STEP_HOLD;
    to[len++] = 0x83;
    len += seed_reads(to + len, KHO_READ_RECORD, false);
    to[len++] = STEP_READS;
    to[len++] = 2;
    to[len++] = STEP_SLEEP;
    to[len++] = 0xFF;
    to[len++] = 0x7F;
    to[len++] = STEP_BREAK;
    return len;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    if (max < 2 * FRAME_BODY_MAX)
        return 0;
    if (g_serving == NULL)
        serving_again();
    switch (n) {
    case 0:
    case 1:
        return seed_write(to, WIRE_WRITE, n == 1 ? KHO_FRAME_COPY : 0);
    case 2:
        return seed_blocks(to);
    case 3:
        return seed_large(to);
    case 4:
    case 5:
        return seed_reads(to, n == 4 ? KHO_READ_RECORD : KHO_READ_HEAD, n == 5);
    case 6:
    case 7:
        return seed_list(to, (uint8_t)(n - 6));
    case 8:
    case 9:
        return seed_map(to, n == 9);
    case 10:
        return seed_zeros(to, WIRE_PROBE, 4 * WIRE_PROBE_ASK, 4);
    case 11:
        return seed_zeros(to, WIRE_DIGEST, WIRE_DIGEST_ASK, 1);
    case 12:
        return seed_zeros(to, WIRE_EPISODE_CLOSE, 2 * WIRE_EPISODE_CLOSE_ASK, 2);
    case 13:
        return seed_zeros(to, WIRE_FORGET, 2 * WIRE_FORGET_ASK, 2);
    case 14:
        return seed_held(to);
    case 15:
    case 16:
    case 17:
    case 18: {
        static const uint8_t types[] = {WIRE_EPISODES, WIRE_STATUS, WIRE_MAP, WIRE_FLUSH};
        return seed_zeros(to, types[n - 15], 0, 0);
    }
    default:
        return 0;
    }
}
