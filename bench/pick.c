/* pick.c: the distributions of YCSB. */
#include "pick.h"

void pick_init(struct pick *pick, enum pick_kind kind, uint64_t count)
{
    *pick = (struct pick){.kind = kind, .count = count};
    if (kind == PICK_LATEST)
        zipf_init(&pick->zipf, count < 2 ? 2 : count);
    else if (kind == PICK_ZIPFIAN)
        zipf_init_scrambled(&pick->zipf);
}

void pick_grow(struct pick *pick, uint64_t count)
{
    pick->count = count;
    if (pick->kind == PICK_LATEST)
        zipf_grow(&pick->zipf, count);
}

uint64_t pick_draw(struct pick *pick, struct dice *dice)
{
    switch (pick->kind) {
    case PICK_UNIFORM:
        return dice_below(dice, pick->count);
    case PICK_ZIPFIAN:
        return zipf_draw_scrambled(&pick->zipf, dice, pick->count);
    case PICK_LATEST:
        return pick->count - 1 - zipf_draw(&pick->zipf, dice) % pick->count;
    case PICK_TURN:
    case PICK_KINDS:
        break;
    }
    return pick->turn++ % pick->count;
}
