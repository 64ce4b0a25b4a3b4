/* ahead.c: reads of a file ahead of its reader (ahead.h). */
#include "ahead.h"

enum { PIECE_FREE, PIECE_READING, PIECE_READY };
enum { RING_BYTES = AHEAD_PIECES * AHEAD_READ };

void ahead_init(struct ahead *ahead, struct depot *depot)
{
    *ahead = (struct ahead){.depot = depot, .file = -1};
}

void ahead_fini(struct ahead *ahead)
{
    if (ahead->depot == NULL)
        return;
    world_release(ahead->depot->world, ahead->ring, RING_BYTES);
    world_release(ahead->depot->world, ahead->joined, ahead->joined_room);
    ahead->depot = NULL;
}

void ahead_open(struct ahead *ahead, int32_t file, uint64_t end)
{
    for (int i = 0; i < AHEAD_PIECES; i++) {
        struct ahead_piece *p = &ahead->pieces[i];
        p->stale = p->state == PIECE_READING;
        if (p->state == PIECE_READY)
            p->state = PIECE_FREE;
    }
    ahead->file = file;
    ahead->end = end;
    ahead->from = 0;
    ahead->next = 0;
    ahead->joined_length = 0;
}

static struct ahead_piece *piece_of(struct ahead *ahead, uint64_t offset)
{
    return &ahead->pieces[offset / AHEAD_READ % AHEAD_PIECES];
}

static void push(struct ahead *ahead, struct ahead_piece *piece)
{
    uint32_t len = piece->length - piece->reached;
    if (piece->careful)
        len = (uint32_t)kho_min(len, ahead->depot->options.alignment);
    piece->op = (struct op){
        .file = ahead->file,
        .conn = -1,
        .offset = piece->offset + piece->reached,
        .data = ahead->ring + piece->offset % RING_BYTES + piece->reached,
        .len = len,
    };
    depot_push(ahead->depot, &piece->op, OP_READ, PURPOSE_AHEAD, ahead);
}

/* Starts the reads that have room: those of the pieces from the one that `offset` is in. */
static void read_ahead(struct ahead *ahead, uint64_t offset)
{
    uint64_t alignment = ahead->depot->options.alignment;
    uint64_t end = kho_round_up(ahead->end, alignment), from = offset & ~(AHEAD_READ - 1ull);
    for (uint64_t at = ahead->from; at < from && at < ahead->next; at += AHEAD_READ)
        if (piece_of(ahead, at)->state == PIECE_READY)
            piece_of(ahead, at)->state = PIECE_FREE;
    ahead->from = from;
    ahead->next = kho_max(ahead->next, from);
    while (ahead->next < end && ahead->next < from + RING_BYTES) {
        struct ahead_piece *p = piece_of(ahead, ahead->next);
        if (p->state != PIECE_FREE)
            return;
        *p = (struct ahead_piece){.offset = ahead->next,
                                  .length = (uint32_t)kho_min(AHEAD_READ, end - ahead->next),
                                  .state = PIECE_READING};
        ahead->next += AHEAD_READ;
        ahead->reading++;
        push(ahead, p);
    }
}

/* How many of the `length` bytes from `offset` on are in the ring. */
static size_t there_from(struct ahead *ahead, uint64_t offset, size_t length)
{
    uint64_t at = offset;
    while (at < offset + length) {
        const struct ahead_piece *p = piece_of(ahead, at);
        if (p->state != PIECE_READY || p->offset != (at & ~(AHEAD_READ - 1ull)))
            break;
        at = p->offset + AHEAD_READ;
    }
    return at > offset ? (size_t)kho_min(at - offset, length) : 0;
}

/* Begins to put bytes together. */
static int join_begin(struct ahead *ahead, uint64_t offset, size_t length)
{
    struct shard_world *world = ahead->depot->world;
    if (length > ahead->joined_room) {
        world_release(world, ahead->joined, ahead->joined_room);
        ahead->joined_room = 0;
        ahead->joined_length = 0;
        ahead->joined = world_allocate(world, length, 0);
        if (ahead->joined == NULL)
            return -ENOMEM;
        ahead->joined_room = length;
    }
    ahead->joined_offset = offset;
    ahead->joined_length = length;
    ahead->joined_have = 0;
    return 0;
}

/* Adds what has come since. */
static void join_more(struct ahead *ahead)
{
    for (;;) {
        uint64_t at = ahead->joined_offset + ahead->joined_have;
        size_t rest = ahead->joined_length - ahead->joined_have;
        /* Up to the end of its piece: the next one may lie elsewhere. */
        size_t n = (size_t)kho_min(rest, AHEAD_READ - at % AHEAD_READ);
        read_ahead(ahead, at);
        if (rest == 0 || there_from(ahead, at, n) < n)
            return;
        memcpy(ahead->joined + ahead->joined_have, ahead->ring + at % RING_BYTES, n);
        ahead->joined_have += n;
    }
}

int ahead_need(struct ahead *ahead, uint64_t offset, size_t length, const uint8_t **ret_bytes)
{
    KHO_ASSERT(length > 0 && offset + length <= kho_round_up(ahead->end, SECTOR));
    if (ahead->ring == NULL) {
        ahead->ring = world_allocate(ahead->depot->world, RING_BYTES, depot_page(ahead->depot));
        if (ahead->ring == NULL)
            return -ENOMEM;
    }
    bool joined = ahead->joined_length > 0 && offset == ahead->joined_offset &&
                  length <= ahead->joined_length;
    if (!joined && offset % RING_BYTES + length <= RING_BYTES) {
        ahead->joined_length = 0;
        read_ahead(ahead, offset);
        *ret_bytes = ahead->ring + offset % RING_BYTES;
        return there_from(ahead, offset, length) == length;
    }
    if (!joined && join_begin(ahead, offset, length) != 0)
        return -ENOMEM;
    if (ahead->joined_have < length)
        join_more(ahead);
    *ret_bytes = ahead->joined;
    return ahead->joined_have >= length;
}

void ahead_completed(struct ahead *ahead, struct op *op)
{
    struct ahead_piece *p = KHO_CONTAINER_OF(op, struct ahead_piece, op);
    KHO_ASSERT(p->state == PIECE_READING && ahead->reading > 0);
    if (!p->stale && op->result < 0 && op->len > ahead->depot->options.alignment) {
        p->careful = true;
        push(ahead, p);
        return;
    }
    size_t got = op->result < 0 ? 0 : (size_t)op->result;
    if (got < op->len)
        memset(op->data + got, AHEAD_HOLE, op->len - got);
    ahead->bytes_read += op->len;
    p->reached += op->len;
    if (!p->stale && p->reached < p->length) {
        push(ahead, p);
        return;
    }
    ahead->reading--;
    p->state = p->stale || p->offset < ahead->from ? PIECE_FREE : PIECE_READY;
}
