/* check.c: linearizability of one key's history, and what versions must show.
 *
 * The search places one op after another. An op may come next if it began before every unplaced op
 * that must be placed has ended. A read that may come next and agrees with the register is placed
 * at once: it changes nothing, so any order with it later has one with it now. So only writes
 * branch. What was placed, with the register's value, is remembered where it led nowhere.
 *
 * Writes in doubt may stay unplaced; those of a value that no read returned are left out from the
 * start, since an order with them is one without them, too. */
#include "history.h"

enum { OPS_MAX = 4096, WORDS = OPS_MAX / 64, TRIES_MAX = 2000000 };

struct search {
    struct history_op *ops;
    size_t count;
    uint64_t placed[WORDS];
    size_t must_left;
    uint64_t *seen; /* hash set of fingerprints; 0: free */
    size_t seen_count, seen_room;
    uint64_t tries;
    size_t *reads; /* placed on the way here, a stack */
    size_t read_count;
    size_t *order; /* ops by version: which to try first */
};

static bool placed(const struct search *s, size_t i)
{
    return s->placed[i / 64] >> (i % 64) & 1;
}
static void place(struct search *s, size_t i, bool in)
{
    s->placed[i / 64] ^= 1ull << (i % 64);
    if (s->ops[i].end == HISTORY_OK)
        s->must_left += in ? (size_t)-1 : 1;
}

/* True if this is the first visit. */
static bool remember(struct search *s, uint64_t value)
{
    uint64_t print =
        XXH3_64bits_withSeed(s->placed, (s->count + 63) / 64 * sizeof s->placed[0], value) | 1;
    if ((s->seen_count + 1) * 2 > s->seen_room) {
        size_t room = s->seen_room == 0 ? 1024 : s->seen_room * 2;
        uint64_t *seen = calloc(room, sizeof *seen);
        KHO_ASSERT(seen != NULL);
        for (size_t i = 0; i < s->seen_room; i++) {
            if (s->seen[i] == 0)
                continue;
            size_t at = s->seen[i] & (room - 1);
            while (seen[at] != 0)
                at = (at + 1) & (room - 1);
            seen[at] = s->seen[i];
        }
        free(s->seen);
        s->seen = seen;
        s->seen_room = room;
    }
    size_t at = print & (s->seen_room - 1);
    while (s->seen[at] != 0 && s->seen[at] != print)
        at = (at + 1) & (s->seen_room - 1);
    if (s->seen[at] == print)
        return false;
    s->seen[at] = print;
    s->seen_count++;
    return true;
}

/* The moment by which the next op must have begun. */
static uint64_t horizon(const struct search *s)
{
    uint64_t at = UINT64_MAX;
    for (size_t i = 0; i < s->count; i++)
        if (!placed(s, i) && s->ops[i].end == HISTORY_OK)
            at = kho_min(at, s->ops[i].ended_ns);
    return at;
}

static enum check_result search(struct search *s, uint64_t value)
{
    size_t reads_before = s->read_count;
    enum check_result result = CHECK_VIOLATED;
    uint64_t until;
    for (bool again = true; again;) {
        again = false;
        until = horizon(s);
        for (size_t i = 0; i < s->count && s->ops[i].begun_ns <= until; i++)
            if (!placed(s, i) && s->ops[i].kind == HISTORY_READ && s->ops[i].value == value) {
                place(s, i, true);
                s->reads[s->read_count++] = i;
                again = true;
            }
    }
    if (s->must_left == 0)
        return CHECK_OK; /* the rest may stay unplaced: nothing is to be taken back */
    until = horizon(s);
    if (++s->tries > TRIES_MAX) {
        result = CHECK_GAVE_UP;
    } else if (remember(s, value)) {
        for (size_t n = 0; n < s->count; n++) {
            size_t i = s->order[n];
            if (placed(s, i) || s->ops[i].kind != HISTORY_WRITE || s->ops[i].begun_ns > until)
                continue;
            place(s, i, true);
            result = search(s, s->ops[i].value);
            if (result != CHECK_VIOLATED)
                return result;
            place(s, i, false);
        }
    }
    while (s->read_count > reads_before)
        place(s, s->reads[--s->read_count], false);
    return result;
}

static int by_begin(const void *a, const void *b)
{
    const struct history_op *x = a, *y = b;
    if (x->begun_ns != y->begun_ns)
        return x->begun_ns < y->begun_ns ? -1 : 1;
    if (x->ended_ns != y->ended_ns)
        return x->ended_ns < y->ended_ns ? -1 : 1;
    return x->value < y->value ? -1 : x->value > y->value;
}

static bool was_read(const struct history_op *ops, size_t count, uint64_t value)
{
    for (size_t i = 0; i < count; i++)
        if (ops[i].kind == HISTORY_READ && ops[i].end == HISTORY_OK && ops[i].value == value)
            return true;
    return false;
}

/* Writes in the order of their versions are tried first. It is a hint and no more: the verdict
 * doesn't depend on it, but a right history is found right without searching. A write in doubt has
 * the version that was read with its value. */
static void order_by_version(struct search *s)
{
    for (size_t i = 0; i < s->count; i++) {
        struct history_op *op = &s->ops[i];
        for (size_t j = 0; j < s->count && version_is_zero(op->version) && op->value != 0; j++)
            if (s->ops[j].value == op->value)
                op->version = s->ops[j].version;
        size_t at = i;
        for (; at > 0; at--) {
            const struct history_op *before = &s->ops[s->order[at - 1]];
            if (version_is_zero(op->version) ||
                (!version_is_zero(before->version) &&
                 version_compare(before->version, op->version) <= 0))
                break;
            s->order[at] = s->order[at - 1];
        }
        s->order[at] = i;
    }
}

enum check_result check_linearizable(const struct history_op *ops, size_t count)
{
    struct search s = {.ops = malloc((count + 1) * sizeof *ops),
                       .reads = malloc((count + 1) * sizeof(size_t)),
                       .order = malloc((count + 1) * sizeof(size_t))};
    KHO_ASSERT(s.ops != NULL && s.reads != NULL && s.order != NULL);
    for (size_t i = 0; i < count; i++) {
        bool doubtful = ops[i].end == HISTORY_IN_DOUBT || ops[i].end == HISTORY_OPEN;
        if (ops[i].end == HISTORY_NOT || (doubtful && ops[i].kind == HISTORY_READ) ||
            (doubtful && !was_read(ops, count, ops[i].value)))
            continue;
        s.ops[s.count] = ops[i];
        s.must_left += ops[i].end == HISTORY_OK;
        s.count++;
    }
    enum check_result result = CHECK_GAVE_UP;
    if (s.count <= OPS_MAX) {
        qsort(s.ops, s.count, sizeof *s.ops, by_begin);
        order_by_version(&s);
        result = search(&s, 0);
    }
    free(s.seen);
    free(s.reads);
    free(s.order);
    free(s.ops);
    return result;
}

/* --- Versions --------------------------------------------------------------------------------- */

static void check_versions(struct history *h, const struct history_op *ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (ops[i].end != HISTORY_OK || version_is_zero(ops[i].version))
            continue;
        for (size_t j = 0; j < count; j++) {
            const struct history_op *a = &ops[i], *b = &ops[j];
            if (i == j || b->end == HISTORY_NOT)
                continue;
            int order = version_compare(a->version, b->version);
            if (order == 0 && a->value != b->value) {
                sim_fail(h->sim, "key %u: version %llu.%u has the values %llu and %llu", a->key,
                         (unsigned long long)a->version.counter, a->version.writer,
                         (unsigned long long)a->value, (unsigned long long)b->value);
                return;
            }
            if (b->end == HISTORY_OK && !version_is_zero(b->version) && a->ended_ns < b->begun_ns &&
                order > 0) {
                sim_fail(h->sim,
                         "key %u: %s of value %llu (version %llu.%u, client %u) ended at %.6f, but "
                         "a later %s by client %u, begun at %.6f, has value %llu (version %llu.%u)",
                         a->key, a->kind == HISTORY_WRITE ? "a write" : "a read",
                         (unsigned long long)a->value, (unsigned long long)a->version.counter,
                         a->version.writer, a->client, (double)a->ended_ns / 1e9,
                         b->kind == HISTORY_WRITE ? "write" : "read", b->client,
                         (double)b->begun_ns / 1e9, (unsigned long long)b->value,
                         (unsigned long long)b->version.counter, b->version.writer);
                return;
            }
        }
    }
}

/* A record that was acknowledged or read, and no record at all later. */
static void check_absence(struct history *h, const struct history_op *ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct history_op *read = &ops[i];
        if (read->kind != HISTORY_READ || read->end != HISTORY_OK || read->value != 0)
            continue;
        bool deleted = false, there = false;
        for (size_t j = 0; j < count; j++) {
            deleted |= ops[j].kind == HISTORY_WRITE && ops[j].value == 0 &&
                       ops[j].end != HISTORY_NOT && ops[j].begun_ns < read->ended_ns;
            there |=
                ops[j].end == HISTORY_OK && ops[j].value != 0 && ops[j].ended_ns < read->begun_ns;
        }
        if (there && !deleted) {
            sim_fail(h->sim,
                     "key %u: read as absent at %.6f by client %u, though acknowledged "
                     "before and never deleted",
                     read->key, (double)read->begun_ns / 1e9, read->client);
            return;
        }
    }
}

static void tell(struct history *h, const struct history_op *ops, size_t count)
{
    static const char *const ends[] = {"open", "ok", "not", "in doubt"};
    for (size_t i = 0; i < count; i++)
        sim_trace(h->sim, "history: key %u client %u %s %llu version %llu.%u, %.6f to %.6f: %s",
                  ops[i].key, ops[i].client, ops[i].kind == HISTORY_WRITE ? "write" : "read",
                  (unsigned long long)ops[i].value, (unsigned long long)ops[i].version.counter,
                  ops[i].version.writer, (double)ops[i].begun_ns / 1e9,
                  ops[i].ended_ns == UINT64_MAX ? -1 : (double)ops[i].ended_ns / 1e9,
                  ends[ops[i].end]);
}

void check_history(struct history *h)
{
    struct history_op *ops = malloc((h->count + 1) * sizeof *ops);
    KHO_ASSERT(ops != NULL);
    for (uint32_t key = 0; key < h->keys && !h->sim->failed; key++) {
        size_t count = 0;
        for (size_t i = 0; i < h->count; i++)
            if (h->ops[i].key == key)
                ops[count++] = h->ops[i];
        check_absence(h, ops, count);
        check_versions(h, ops, count);
        if (h->sim->failed) {
            tell(h, ops, count);
            break;
        }
        enum check_result result = check_linearizable(ops, count);
        if (result == CHECK_GAVE_UP) {
            /* Too many writes in doubt at once; versions and absences were judged all the same. */
            sim_trace(h->sim, "the search for an order of key %u gave up", key);
            h->unjudged++;
        } else if (result != CHECK_OK) {
            tell(h, ops, count);
            sim_fail(h->sim, "key %u: no order explains its %zu operations", key, count);
        }
    }
    free(ops);
}
