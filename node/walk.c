/* walk.c: finds the blocks of a segment by their heads (walk.h). */
#include "walk.h"

void walk_init(struct walk *walk, struct depot *depot)
{
    *walk = (struct walk){.depot = depot};
    window_init(&walk->window, depot);
}

void walk_fini(struct walk *walk)
{
    if (walk->depot != NULL)
        window_fini(&walk->window);
    walk->depot = NULL;
}

void walk_open(struct walk *walk, uint32_t slot)
{
    const struct segment *segment = manifest_segment(&walk->depot->manifest, slot);
    KHO_ASSERT(segment->sealed && !walk->waits);
    window_open(&walk->window, segment->file, segment->size);
    walk->slot = slot;
    walk->segment = segment->id;
    walk->position = segment_start(segment->alignment);
    walk->end = segment->end;
    walk->passed = 0;
    walk->failed = false;
}

void walk_close(struct walk *walk)
{
    KHO_ASSERT(!walk->waits);
    window_fini(&walk->window);
    window_init(&walk->window, walk->depot);
}

static void pass(struct walk *walk, uint64_t bytes, uint64_t *budget)
{
    walk->position += bytes;
    walk->passed += bytes;
    *budget -= kho_min(*budget, bytes);
}

/* The bytes at the position: WALK_BLOCK with *ret_bytes, or why not. */
static enum walk_found need(struct walk *walk, size_t length, const uint8_t **ret_bytes)
{
    int there = window_need(&walk->window, walk->position, length, ret_bytes);
    if (there < 0)
        return WALK_NO_ROOM;
    walk->waits = there == 0;
    return there == 1 ? WALK_BLOCK : WALK_WAITS;
}

/* A head at the position that names this place, of a block that lies in the segment. */
static bool head_at(const struct walk *walk, const uint8_t *bytes, struct block_head *ret_head)
{
    return block_head_decode(bytes, &walk->depot->manifest.identity, ret_head) == 0 &&
           ret_head->segment == walk->segment && ret_head->offset == walk->position &&
           walk->position + BLOCK_HEAD + ret_head->stored_len <= walk->end;
}

enum walk_found walk_look(struct walk *walk, uint64_t *budget, struct walk_block *ret_block)
{
    const uint8_t *bytes;
    enum walk_found found;
    if (walk->waits)
        return WALK_WAITS;
    if (walk->failed)
        return WALK_FAILED;
    for (; walk->position + BLOCK_HEAD < walk->end; pass(walk, BLOCK_ALIGN, budget)) {
        if (*budget == 0)
            return WALK_PAUSES;
        found = need(walk, BLOCK_HEAD, &bytes);
        if (found != WALK_BLOCK)
            return found;
        if (!head_at(walk, bytes, &ret_block->head))
            continue;
        found = need(walk, BLOCK_HEAD + (size_t)ret_block->head.stored_len, &bytes);
        if (found != WALK_BLOCK)
            return found;
        ret_block->body = bytes + BLOCK_HEAD;
        ret_block->whole = block_body_matches(&ret_block->head, ret_block->body);
        return WALK_BLOCK;
    }
    return WALK_END;
}

void walk_pass(struct walk *walk, const struct walk_block *block, uint64_t *budget)
{
    KHO_ASSERT(block->head.offset == walk->position);
    pass(walk, block_span(block->head.stored_len), budget);
}

void walk_completed(struct walk *walk, struct op *op)
{
    KHO_ASSERT(walk->waits);
    /* What isn't the disk's word on these bytes is no damage. */
    if (op->result < 0 && op->result != -EIO)
        walk->failed = true;
    walk->waits = !walk->failed && !window_completed(&walk->window, op);
}
