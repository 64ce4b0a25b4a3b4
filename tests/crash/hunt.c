/* hunt.c: moments, choices, verdicts (hunt.h). */
#include "hunt.h"

#include "node/depot.h"

#include <stdio.h>

enum {
    FULL = 11,             /* so many items: all subsets */
    SOME = 256,            /* of prefixes, omissions, survivors: at most */
    NAMES_FULL = 6,        /* so many names: all their subsets, with all the bytes and with none */
    RANDOM = 512,          /* subsets */
    SETTINGS = 20,         /* rounds after which each setting had its turn */
    BARREN_MAX = 100,      /* rounds in a row without a new state end it */
    ROUNDS_MAX = 10000,    /* of a story */
    SHOWN_MAX = 20,        /* violations that are printed */
    TWICE_EVERY = 16,      /* of the states, one's recovery is cut, too */
    SECOND_EVERY = 16,     /* in one the shard lives on and starts once more */
    KILL_EVERY = 4,        /* of the moments, one kills the process */
    SPARE = SHELF_KEYS - 1 /* the key that only this second life writes */
};

struct item {
    uint32_t first, count; /* units */
    bool name, ended;
};

struct items {
    struct item *at;
    uint32_t count, room, names;
    bool *chosen;
};

/* --- Choices ---------------------------------------------------------------------------------- */

static void items_make(struct items *items, const struct disk *disk, uint32_t grain)
{
    items->count = items->names = 0;
    if (items->room < disk->count) {
        items->room = disk->count * 2;
        items->at = realloc(items->at, items->room * sizeof *items->at);
        items->chosen = realloc(items->chosen, items->room * sizeof *items->chosen);
        KHO_ASSERT(items->at != NULL && items->chosen != NULL);
    }
    for (uint32_t i = 0; i < disk->count; i++) {
        const struct unit *u = &disk->pending[i];
        const struct unit *before = i > 0 ? u - 1 : NULL;
        bool joined = grain == 1 && before != NULL && u->kind == UNIT_SECTOR &&
                      before->kind == UNIT_SECTOR && before->op == u->op &&
                      before->file == u->file && before->sector / 8 == u->sector / 8;
        if (joined) {
            items->at[items->count - 1].count++;
            continue;
        }
        items->at[items->count++] =
            (struct item){.first = i, .count = 1, .name = u->kind >= UNIT_LINK, .ended = u->ended};
        items->names += u->kind >= UNIT_LINK;
    }
}

static uint64_t some(uint32_t count)
{
    return kho_min(count, SOME);
}

static uint64_t choices(const struct items *items)
{
    uint32_t n = items->count;
    if (n <= FULL)
        return 1ull << n;
    uint64_t names = items->names <= NAMES_FULL ? 2ull << items->names : 0;
    return 3 + 3 * some(n) + names + RANDOM;
}

static void choose_names(struct items *items, uint64_t mask)
{
    for (uint32_t i = 0, name = 0; i < items->count; i++) {
        bool bytes = (mask & 1) != 0;
        items->chosen[i] = items->at[i].name ? (mask >> (1 + name++) & 1) != 0 : bytes;
    }
}

static void choose_random(struct items *items, uint64_t seed)
{
    struct kho_random dice;
    kho_random_init(&dice, seed);
    static const uint64_t shares[] = {8, 2, 14};
    uint64_t share = shares[kho_random_next(&dice) % KHO_COUNT_OF(shares)];
    for (uint32_t i = 0; i < items->count; i++)
        items->chosen[i] = kho_random_next(&dice) % 16 < share;
}

/* The choice of that number. */
static void choose(struct items *items, uint64_t choice, uint64_t seed)
{
    uint32_t n = items->count;
    uint64_t part = some(n), names = items->names <= NAMES_FULL ? 2ull << items->names : 0;
    if (n <= FULL) {
        for (uint32_t i = 0; i < n; i++)
            items->chosen[i] = (choice >> i & 1) != 0;
        return;
    }
    if (choice < 3) {
        for (uint32_t i = 0; i < n; i++)
            items->chosen[i] = choice == 1 || (choice == 2 && items->at[i].ended);
        return;
    }
    choice -= 3;
    if (choice < 3 * part) {
        /* Of many items, those that lie evenly spread. */
        uint64_t at = (choice % part * n + seed % n) / part % n;
        for (uint32_t i = 0; i < n; i++)
            items->chosen[i] = choice < part ? i <= at : choice < 2 * part ? i != at : i == at;
        return;
    }
    choice -= 3 * part;
    if (choice < names)
        choose_names(items, choice);
    else
        choose_random(items, seed + choice);
}

/* R3: bytes of a commit or footer without its head are neither torn nor whole, so a cut that leaves
 * them may make the shard suspect. */
static bool headless(const struct items *items, const struct disk *disk)
{
    uint64_t op = 0;
    bool head = false, found = false;
    for (uint32_t i = 0; i < items->count && !found; i++) {
        for (uint32_t u = items->at[i].first; u < items->at[i].first + items->at[i].count; u++) {
            const struct unit *unit = &disk->pending[u];
            if (unit->kind != UNIT_SECTOR || !unit->log || !items->chosen[i])
                continue;
            if (unit->op != op)
                head = false;
            op = unit->op;
            head = head || unit->first;
            found = found || (!head && !unit->zero);
        }
    }
    return found;
}

/* --- Known states ----------------------------------------------------------------------------- */

/* True: the state is to be looked at; it is counted if nothing like it was seen. One that was seen
 * when less had been acknowledged is looked at again. */
static bool state_new(struct hunt *hunt, uint64_t hash)
{
    if (hash == 0)
        hash = 1;
    uint64_t level = hunt->at.round << 32 | hunt->shelf.acknowledged;
    uint64_t at = hash & (hunt->known_room - 1);
    while (hunt->known[at] != 0 && hunt->known[at] != hash)
        at = (at + 1) & (hunt->known_room - 1);
    bool fresh = hunt->known[at] == 0;
    bool look = fresh || hunt->levels[at] != level;
    hunt->known[at] = hash;
    hunt->levels[at] = level;
    hunt->distinct += fresh;
    KHO_ASSERT(hunt->distinct < hunt->known_room / 2);
    return look;
}

/* --- Verdicts --------------------------------------------------------------------------------- */

static void violation(struct hunt *hunt, const char *what, int64_t detail)
{
    if (hunt->violations++ >= SHOWN_MAX || (hunt->lies && !hunt->replay))
        return;
    printf("violation: %s (%lld)\n  kho-crash-states --story %s --seed %llu --replay "
           "%llu:%llu:%u:%llu\n",
           what, (long long)detail, hunt->story, (unsigned long long)hunt->seed,
           (unsigned long long)hunt->at.round, (unsigned long long)hunt->at.moment, hunt->at.grain,
           (unsigned long long)hunt->at.choice);
    fflush(stdout);
}

/* A start has ended: what does the store say? True: it serves. */
static bool store_judge(struct hunt *hunt, struct life *life, bool may_suspect)
{
    struct wire_episode episodes[4];
    hunt->recoveries++;
    if (store_phase(life->store) != STORE_READY) {
        violation(hunt, "the shard doesn't start", store_phase(life->store));
        return false;
    }
    uint32_t open = store_episodes(life->store, episodes, KHO_COUNT_OF(episodes));
    for (uint32_t i = 0; i < kho_min(open, KHO_COUNT_OF(episodes)); i++)
        if (episodes[i].kind != WIRE_EPISODE_SUSPECT)
            violation(hunt, "a power cut opened an episode of damage", episodes[i].kind);
    if (open > 0 && !may_suspect)
        violation(hunt, "the shard is suspect without a reason", open);
    hunt->suspects += store_suspect(life->store);
    for (uint32_t i = 0; i < SHELF_KEYS; i++) {
        const struct shelf_key *k = &hunt->shelf.keys[i];
        struct store_read read = {.collection = k->key.collection,
                                  .partition = k->key.partition,
                                  .hash = k->key.hash,
                                  .key = k->key.key,
                                  .key_len = k->key.key_len};
        if (k->count == 0 || store_map(life->store) == NULL) {
            if (k->acknowledged > 0)
                violation(hunt, "the map is gone", i);
            continue;
        }
        if (!life_read(life, &read)) {
            violation(hunt, "a read doesn't end", i);
            return false;
        }
        const char *wrong = shelf_judge(&hunt->shelf, i, &read);
        if (hunt->tells)
            shelf_told(&hunt->shelf, i, &read);
        store_read_end(life->store, &read);
        if (wrong != NULL)
            violation(hunt, wrong, i);
    }
    return true;
}

static void image_judge(struct hunt *hunt, const struct image *image, bool may_suspect)
{
    struct life life;
    life_start(&life, &hunt->options, image, true, 1);
    life.tell = hunt->replay;
    life_recover(&life);
    store_judge(hunt, &life, may_suspect);
    life_fini(&life);
}

/* --- A recovery that is cut ------------------------------------------------------------------- */

struct twice {
    struct hunt *hunt;
    struct kho_random dice;
    bool may_suspect;
};

static bool twice_moment(struct life *life, void *argument)
{
    struct twice *twice = argument;
    struct hunt *hunt = twice->hunt;
    if (kho_random_next(&twice->dice) % 4 != 0)
        return true;
    struct image image = {0};
    image_copy(&image, &life->disk.stable);
    uint64_t share = kho_random_next(&twice->dice) % 5;
    for (uint32_t i = 0; i < life->disk.count; i++)
        if (kho_random_next(&twice->dice) % 4 < share)
            disk_apply(&life->disk.pending[i], &image);
    hunt->tries++;
    hunt->twice++;
    if (state_new(hunt, image_hash(&image)))
        image_judge(hunt, &image, twice->may_suspect);
    image_clear(&image);
    return true;
}

static void cut_twice(struct hunt *hunt, const struct image *image, bool may_suspect, uint64_t seed)
{
    struct life life;
    struct twice twice = {.hunt = hunt, .may_suspect = may_suspect};
    kho_random_init(&twice.dice, seed);
    life_start(&life, &hunt->options, image, false, seed);
    life.moment = twice_moment;
    life.argument = &twice;
    life_recover(&life);
    life_fini(&life);
}

/* --- The shard lives on ----------------------------------------------------------------------- */

/* After the recovery another record is written and acknowledged; at the next start it is there,
 * too, and nothing behind it revives. */
static void live_on(struct hunt *hunt, const struct image *image, bool may_suspect)
{
    struct life life;
    struct image later = {0};
    struct shelf_key spare = hunt->shelf.keys[SPARE];
    uint64_t acknowledged = hunt->shelf.acknowledged, counter = hunt->shelf.counter;
    struct shard_options options = hunt->options;
    options.compact_rate = 1ull << 30;
    life_start(&life, &options, image, true, 1);
    life_recover(&life);
    if (store_phase(life.store) == STORE_READY && store_map(life.store) != NULL) {
        life_run(&life);
        hunt->second_lives++;
        if (!shelf_put(&hunt->shelf, life.store, life.now, SPARE, 700))
            violation(hunt, "a shard that was recovered takes no write", 0);
        life_run(&life);
        if (!shelf_acknowledge_key(&hunt->shelf, life.store, SPARE))
            violation(hunt, "a shard that was recovered acknowledges nothing", 0);
        for (uint32_t i = 0; i < 4; i++)
            life_pass(&life, 20);
        image_copy(&later, &life.disk.seen);
    }
    life_fini(&life);
    if (later.entry_count > 0)
        image_judge(hunt, &later, may_suspect);
    image_clear(&later);
    hunt->shelf.keys[SPARE] = spare;
    hunt->shelf.acknowledged = acknowledged;
    hunt->shelf.counter = counter;
}

/* --- The process is killed, then the power fails ---------------------------------------------- */

static void kill_and_cut(struct hunt *hunt, const struct disk *disk)
{
    struct kho_random dice;
    struct disk killed;
    struct life life;
    struct image image = {0};
    uint32_t before[SHELF_KEYS];
    for (uint32_t i = 0; i < SHELF_KEYS; i++)
        before[i] = hunt->shelf.keys[i].acknowledged;
    kho_random_init(&dice, hunt->seed * 65537 + hunt->at.round * 257 + hunt->at.moment);
    disk_killed(&killed, disk, &dice);
    life_start_on(&life, &hunt->options, &killed, 1);
    life.tell = hunt->replay;
    life_recover(&life);
    hunt->tells = true;
    bool serves = store_judge(hunt, &life, false);
    hunt->tells = false;
    image_copy(&image, &life.disk.stable);
    life_fini(&life);
    hunt->kills++;
    if (serves)
        image_judge(hunt, &image, false);
    image_clear(&image);
    for (uint32_t i = 0; i < SHELF_KEYS; i++)
        hunt->shelf.keys[i].acknowledged = before[i];
}

/* --- Moments ---------------------------------------------------------------------------------- */

static void state_try(struct hunt *hunt, struct items *items, const struct disk *disk)
{
    struct image image = {0};
    uint64_t seed =
        hunt->seed * 1000003 + hunt->at.round * 7919 + hunt->at.moment * 31 + hunt->at.grain;
    choose(items, hunt->at.choice, seed);
    bool may_suspect = headless(items, disk);
    image_copy(&image, &disk->stable);
    for (uint32_t i = 0; i < items->count; i++)
        for (uint32_t u = 0; items->chosen[i] && u < items->at[i].count; u++)
            disk_apply(&disk->pending[items->at[i].first + u], &image);
    uint64_t hash = image_hash(&image);
    hunt->tries++;
    if (state_new(hunt, hash)) {
        image_judge(hunt, &image, may_suspect);
        if (hash % TWICE_EVERY == 0)
            cut_twice(hunt, &image, may_suspect, hash);
        if (hash / TWICE_EVERY % SECOND_EVERY == 0)
            live_on(hunt, &image, may_suspect);
    }
    image_clear(&image);
}

static void moment_try(struct hunt *hunt, const struct disk *disk)
{
    struct items items = {0};
    uint32_t fine = 0;
    if (hunt->replay || hunt->moments % KILL_EVERY == 0)
        kill_and_cut(hunt, disk);
    for (uint32_t grain = 0; grain < 2; grain++) {
        items_make(&items, disk, grain);
        if (grain == 1 && items.count == fine)
            break;
        fine = items.count;
        uint64_t all = choices(&items), tried = kho_min(all, kho_max(hunt->budget / 2, 1));
        if (grain == 0)
            tried = kho_min(all, hunt->budget - hunt->budget / 2);
        hunt->most = kho_max(hunt->most, all);
        hunt->at.grain = grain;
        if (hunt->replay) {
            hunt->at = hunt->only;
            if (grain == hunt->only.grain && hunt->only.choice < all)
                state_try(hunt, &items, disk);
            continue;
        }
        uint64_t skew = hunt->at.moment * 0x9E3779B97F4A7C15u % all;
        for (uint64_t i = 0; i < tried && hunt->distinct < hunt->wanted; i++) {
            hunt->at.choice = (i * all / tried + skew) % all;
            state_try(hunt, &items, disk);
        }
    }
    free(items.at);
    free(items.chosen);
}

static bool hunt_moment(struct life *life, void *argument)
{
    struct hunt *hunt = argument;
    if (!hunt->open)
        return true;
    hunt->at.moment++;
    if (hunt->dry || (hunt->replay && hunt->at.moment != hunt->only.moment) ||
        (!hunt->replay && (hunt->at.moment + hunt->at.round) % hunt->every != 0))
        return true;
    hunt->moments++;
    moment_try(hunt, &life->disk);
    return hunt->distinct < hunt->wanted && !hunt->replay;
}

static void round_tell(struct hunt *hunt, hunt_tell *tell)
{
    struct life life;
    struct image nothing = {0};
    struct kho_random dice;
    uint64_t seed = hunt->seed * 65537 + hunt->at.round;
    /* In some rounds what comes later overtakes one kind of op. */
    static const uint8_t slow[] = {0, PURPOSE_FOOTER, PURPOSE_REPLACE, PURPOSE_MAKE,
                                   PURPOSE_COMMIT};
    hunt->at.moment = 0;
    hunt->open = false;
    shelf_fini(&hunt->shelf);
    shelf_init(&hunt->shelf);
    life_options(&hunt->options, hunt->at.round % 2 == 0 ? 512 : 4096,
                 hunt->at.round / 2 % 2 == 0 ? 3 : 1);
    kho_random_init(&dice, seed);
    life_start(&life, &hunt->options, &nothing, false, seed);
    life.disk.lies = hunt->lies;
    life.slow = slow[hunt->at.round / 4 % KHO_COUNT_OF(slow)];
    life.shelf = &hunt->shelf;
    life.moment = hunt_moment;
    life.argument = hunt;
    tell(hunt, &life, &dice);
    life_fini(&life);
}

void hunt_run(struct hunt *hunt, hunt_tell *tell)
{
    shelf_init(&hunt->shelf);
    hunt->known_room = 1 << 16;
    while (hunt->known_room < hunt->wanted * 4)
        hunt->known_room *= 2;
    hunt->known = calloc(hunt->known_room, sizeof *hunt->known);
    hunt->levels = calloc(hunt->known_room, sizeof *hunt->levels);
    KHO_ASSERT(hunt->known != NULL && hunt->levels != NULL);
    if (hunt->replay) {
        hunt->at.round = hunt->only.round;
        round_tell(hunt, tell);
        return;
    }
    uint32_t barren = 0;
    for (uint64_t round = 0; round < ROUNDS_MAX && hunt->distinct < hunt->wanted; round++) {
        uint64_t before = hunt->distinct;
        hunt->at = (struct hunt_id){.round = round};
        hunt->dry = true;
        round_tell(hunt, tell);
        /* Each setting gets a share, each moment of it another. */
        uint64_t rounds = round < SETTINGS ? SETTINGS - round : 1;
        uint64_t moments = kho_max(hunt->at.moment, 1);
        uint64_t tries = kho_max((hunt->wanted - hunt->distinct) * 2 / rounds, 1);
        hunt->budget = kho_max(tries / moments, 4);
        hunt->every = kho_max(4 * moments / tries, 1);
        hunt->dry = false;
        round_tell(hunt, tell);
        barren = hunt->distinct == before ? barren + 1 : 0;
        if (barren == BARREN_MAX)
            break;
    }
}

void hunt_fini(struct hunt *hunt)
{
    shelf_fini(&hunt->shelf);
    free(hunt->known);
    free(hunt->levels);
}
