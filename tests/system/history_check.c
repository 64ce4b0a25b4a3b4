/* history_check.c: kho-history-check, the simulator's checker (tests/sim/check.c) over histories of
 * real clients.
 *
 *   kho-history-check [--json] [--read-back] HISTORY…
 *
 * Each key is a register of its own: is there an order of its operations that respects their
 * moments and explains each read, are versions never older than what was acknowledged or read
 * before, and does a version name one value? Besides: every value that was read is one that a write
 * of that very key began to write; with --read-back each key with an acknowledged write was read
 * after all its writes had ended or been left in doubt, by a get that had an answer.
 *
 * An append whose end was never written down has no key; it is found by its value, where a listing
 * told that.
 *
 * Prints how much was judged. Exit code 0: all keys, no violation; 1: violations, the first of them
 * said to stderr; 2: wrong use, or no history; 3: some searches gave up, which judges nothing. */
#include "history_file.h"

#include <kho/hash.h>

#include "tests/sim/history.h"

enum { COMPLAINTS = 10 };

struct op {
    struct history_line begin, end; /* end.outcome HISTORY_BEGUN: none */
    uint32_t key;                   /* UINT32_MAX: not known */
};

struct file {
    const char *path;
    struct op *ops;
    size_t count;
};

struct key {
    uint8_t bytes[HISTORY_KEY_MAX];
    uint8_t len;
    size_t first, count; /* of `sorted` */
};

struct totals {
    uint64_t ops, writes, acknowledged, refused, doubtful, reads, absent, unanswered;
    uint64_t largest, judged, gave_up, violations, read_back;
};

struct judge {
    struct file *files;
    size_t file_count;
    struct key *keys;
    size_t key_count, key_room;
    uint32_t *table; /* of keys by hash, 1 above the place; 0: free */
    size_t table_room;
    struct op **sorted; /* by key */
    struct totals totals;
};

static bool is_write(const struct op *op)
{
    return op->begin.verb <= HISTORY_APPEND;
}

/* --- Keys ------------------------------------------------------------------------------------- */

static size_t table_place(const struct judge *j, const uint8_t *bytes, size_t len)
{
    size_t at = XXH3_64bits(bytes, len) & (j->table_room - 1);
    while (j->table[at] != 0) {
        const struct key *key = &j->keys[j->table[at] - 1];
        if (key->len == len && memcmp(key->bytes, bytes, len) == 0)
            break;
        at = (at + 1) & (j->table_room - 1);
    }
    return at;
}

static uint32_t key_number(struct judge *j, const uint8_t *bytes, size_t len)
{
    if (j->key_count == j->key_room) {
        j->key_room = j->key_room * 2 + 1024;
        j->keys = realloc(j->keys, j->key_room * sizeof *j->keys);
        free(j->table);
        for (j->table_room = 2048; j->table_room < 2 * j->key_room;)
            j->table_room *= 2;
        j->table = calloc(j->table_room, sizeof *j->table);
        KHO_ASSERT(j->keys != NULL && j->table != NULL);
        for (size_t i = 0; i < j->key_count; i++)
            j->table[table_place(j, j->keys[i].bytes, j->keys[i].len)] = (uint32_t)i + 1;
    }
    size_t at = table_place(j, bytes, len);
    if (j->table[at] == 0) {
        j->keys[j->key_count] = (struct key){.len = (uint8_t)len};
        memcpy(j->keys[j->key_count].bytes, bytes, len);
        j->table[at] = (uint32_t)++j->key_count;
    }
    return j->table[at] - 1;
}

static void key_text(const struct key *key, char *text)
{
    bool plain = true;
    for (size_t i = 0; i < key->len; i++)
        plain &= key->bytes[i] > ' ' && key->bytes[i] < 127;
    for (size_t i = 0; i < key->len; i++)
        text += sprintf(text, plain ? "%c" : "%02x", key->bytes[i]);
    *text = '\0';
}

static void violation(struct judge *j, const struct key *key, const char *what)
{
    char text[HISTORY_KEY_MAX * 2 + 1] = "?";
    if (key != NULL)
        key_text(key, text);
    if (j->totals.violations++ < COMPLAINTS)
        fprintf(stderr, "VIOLATION: key %s: %s\n", text, what);
}

/* --- Files ------------------------------------------------------------------------------------ */

/* Lines of one op, put together. False: they aren't those of a history. */
static bool file_open(struct file *file, const char *path)
{
    size_t count;
    struct history_line *lines = history_file_read(path, &count);
    if (lines == NULL)
        return false;
    uint64_t ops_max = 0;
    bool good = true;
    for (size_t i = 0; i < count; i++)
        ops_max = kho_max(ops_max, lines[i].op);
    good = ops_max <= count;
    file->path = path;
    file->count = good ? ops_max + 1 : 0;
    file->ops = calloc(file->count + 1, sizeof *file->ops);
    KHO_ASSERT(file->ops != NULL);
    for (size_t i = 0; i < count && good; i++) {
        const struct history_line *line = &lines[i];
        struct op *op = &file->ops[line->op];
        bool begins = line->outcome == HISTORY_BEGUN, again = op->end.outcome == HISTORY_DOUBTFUL;
        good =
            line->verb >= HISTORY_PUT && line->verb <= HISTORY_LIST &&
            line->outcome <= HISTORY_WRONG && line->key_len <= HISTORY_KEY_MAX &&
            (begins ? op->begin.verb == 0
                    : op->begin.verb == line->verb && (op->end.outcome == HISTORY_BEGUN || again));
        if (begins)
            op->begin = *line;
        else
            op->end = *line;
    }
    if (!good)
        fprintf(stderr, "%s: its lines are no history\n", path);
    free(lines);
    return good;
}

/* Gives each op its key; those of appends that never ended by their value. */
static void find_keys(struct judge *j)
{
    for (size_t f = 0; f < j->file_count; f++)
        for (size_t i = 0; i < j->files[f].count; i++) {
            struct op *op = &j->files[f].ops[i];
            const struct history_line *line = op->end.key_len > 0 ? &op->end : &op->begin;
            op->key = UINT32_MAX;
            if (op->begin.verb != 0 && line->key_len > 0)
                op->key = key_number(j, line->key, line->key_len);
        }
}

static int op_by_value(const void *a, const void *b)
{
    const struct op *x = *(struct op *const *)a, *y = *(struct op *const *)b;
    return x->begin.value < y->begin.value ? -1 : x->begin.value > y->begin.value;
}

static void find_appends(struct op **ops, size_t count)
{
    struct op **lost = malloc((count + 1) * sizeof(struct op *));
    size_t lost_count = 0;
    KHO_ASSERT(lost != NULL);
    for (size_t i = 0; i < count; i++)
        if (ops[i]->key == UINT32_MAX && ops[i]->begin.verb == HISTORY_APPEND)
            lost[lost_count++] = ops[i];
    qsort(lost, lost_count, sizeof(struct op *), op_by_value);
    for (size_t i = 0; i < count && lost_count > 0; i++) {
        if (ops[i]->begin.verb != HISTORY_LIST || ops[i]->end.value == 0)
            continue;
        struct op wanted = {.begin = {.value = ops[i]->end.value}}, *key = &wanted;
        struct op **found = bsearch(&key, lost, lost_count, sizeof(struct op *), op_by_value);
        if (found != NULL && (*found)->key == UINT32_MAX)
            (*found)->key = ops[i]->key;
    }
    free(lost);
}

/* All ops that have a key, sorted by it, in j->sorted. */
static void sort_ops(struct judge *j)
{
    size_t count = 0;
    for (size_t f = 0; f < j->file_count; f++)
        count += j->files[f].count;
    struct op **ops = malloc((count + 1) * sizeof(struct op *));
    j->sorted = malloc((count + 1) * sizeof(struct op *));
    KHO_ASSERT(ops != NULL && j->sorted != NULL);
    count = 0;
    for (size_t f = 0; f < j->file_count; f++)
        for (size_t i = 0; i < j->files[f].count; i++)
            if (j->files[f].ops[i].begin.verb != 0)
                ops[count++] = &j->files[f].ops[i];
    j->totals.ops = count;
    find_appends(ops, count);
    for (size_t i = 0; i < count; i++)
        if (ops[i]->key != UINT32_MAX)
            j->keys[ops[i]->key].count++;
    for (size_t k = 1; k < j->key_count; k++)
        j->keys[k].first = j->keys[k - 1].first + j->keys[k - 1].count;
    for (size_t k = 0; k < j->key_count; k++)
        j->keys[k].count = 0;
    for (size_t i = 0; i < count; i++) {
        if (ops[i]->key == UINT32_MAX)
            continue;
        struct key *key = &j->keys[ops[i]->key];
        j->sorted[key->first + key->count++] = ops[i];
    }
    /* An acknowledged append always has one. */
    for (size_t i = 0; i < count; i++)
        if (ops[i]->key == UINT32_MAX && ops[i]->end.outcome == HISTORY_DONE)
            violation(j, NULL, "an operation that was acknowledged has no key");
    free(ops);
}

/* --- One key ---------------------------------------------------------------------------------- */

static void count_op(struct totals *t, const struct op *op)
{
    bool done = op->end.outcome == HISTORY_DONE, refused = op->end.outcome == HISTORY_REFUSED;
    if (is_write(op)) {
        t->writes++;
        t->acknowledged += done;
        t->refused += refused;
        t->doubtful += !done && !refused;
    } else {
        t->reads += done;
        t->absent += done && op->end.status != 0;
        t->unanswered += !done;
    }
}

/* The value that a read told, as the id of the write of this key that wrote it. */
static bool value_of(const struct op *read, struct op *const *ops, size_t count,
                     uint64_t *ret_value)
{
    *ret_value = 0;
    if (read->end.status != 0)
        return true;
    for (size_t i = 0; i < count; i++) {
        const struct history_line *write = &ops[i]->begin;
        if (is_write(ops[i]) && write->value != 0 && write->hash == read->end.hash &&
            (read->begin.verb == HISTORY_STAT || write->value == read->end.value)) {
            *ret_value = write->value;
            return true;
        }
    }
    return false;
}

/* Fills the ops of the register. False: a value that was read fits no write. */
static bool history_of(struct judge *j, const struct key *key, struct history *history)
{
    struct op *const *ops = &j->sorted[key->first];
    for (size_t i = 0; i < key->count; i++) {
        const struct op *op = ops[i];
        uint64_t value = op->begin.value;
        enum history_end end = op->end.outcome == HISTORY_DONE      ? HISTORY_OK
                               : op->end.outcome == HISTORY_REFUSED ? HISTORY_NOT
                               : is_write(op)                       ? HISTORY_IN_DOUBT
                                                                    : HISTORY_NOT;
        count_op(&j->totals, op);
        if (op->end.outcome == HISTORY_WRONG) {
            violation(j, key, "bytes were read that nobody wrote");
            return false;
        }
        if (!is_write(op) && end == HISTORY_OK && !value_of(op, ops, key->count, &value)) {
            violation(j, key, "a value was read that no write of this key wrote");
            return false;
        }
        history->ops[history->count++] =
            (struct history_op){.client = op->begin.client,
                                .kind = is_write(op) ? HISTORY_WRITE : HISTORY_READ,
                                .end = (uint8_t)end,
                                .value = value,
                                .begun_ns = op->begin.at_ns,
                                .ended_ns = end == HISTORY_IN_DOUBT ? UINT64_MAX : op->end.at_ns,
                                .version = {op->end.counter, op->end.writer}};
    }
    return true;
}

/* Acknowledged, and never looked at again: nothing would show its loss. */
static void check_read_back(struct judge *j, const struct key *key)
{
    struct op *const *ops = &j->sorted[key->first];
    uint64_t last = 0;
    bool acknowledged = false, back = false;
    for (size_t i = 0; i < key->count; i++) {
        if (!is_write(ops[i]))
            continue;
        acknowledged |= ops[i]->end.outcome == HISTORY_DONE;
        last = kho_max(last, kho_max(ops[i]->begin.at_ns, ops[i]->end.at_ns));
    }
    for (size_t i = 0; i < key->count; i++)
        back |= ops[i]->begin.verb == HISTORY_GET && ops[i]->end.outcome == HISTORY_DONE &&
                ops[i]->begin.at_ns > last;
    j->totals.read_back += acknowledged && back;
    if (acknowledged && !back)
        violation(j, key, "it has an acknowledged write and was not read back");
}

static void judge_key(struct judge *j, const struct key *key, bool read_back)
{
    struct sim sim;
    sim_init(&sim, 0, false);
    struct history history = {.sim = &sim, .keys = 1};
    history.ops = malloc((key->count + 1) * sizeof *history.ops);
    KHO_ASSERT(history.ops != NULL);
    j->totals.largest = kho_max(j->totals.largest, key->count);
    bool known = history_of(j, key, &history);
    if (known)
        check_history(&history);
    if (sim.failed)
        violation(j, key, sim.failure);
    else if (read_back && known)
        check_read_back(j, key);
    if (history.unjudged > 0) {
        char text[HISTORY_KEY_MAX * 2 + 1];
        key_text(key, text);
        fprintf(stderr, "the search for an order of key %s gave up: %zu operations\n", text,
                key->count);
    }
    j->totals.gave_up += history.unjudged > 0;
    j->totals.judged += history.unjudged == 0;
    history_fini(&history);
    sim_fini(&sim);
}

static void print_totals(const struct judge *j, bool json)
{
    const struct totals *t = &j->totals;
    const struct {
        const char *name;
        uint64_t count;
    } rows[] = {
        {"histories", j->file_count}, {"operations", t->ops},    {"keys", j->key_count},
        {"keys_judged", t->judged},   {"largest", t->largest},   {"writes", t->writes},
        {"refused", t->refused},      {"doubtful", t->doubtful}, {"acknowledged", t->acknowledged},
        {"reads", t->reads},          {"absent", t->absent},     {"unanswered", t->unanswered},
        {"read_back", t->read_back},  {"gave_up", t->gave_up},   {"violations", t->violations},
    };
    for (size_t i = 0; i < KHO_COUNT_OF(rows); i++)
        printf(json ? "%s\"%s\": %llu" : "%s%s %llu", i == 0 ? (json ? "{" : "") : ", ",
               rows[i].name, (unsigned long long)rows[i].count);
    printf(json ? "}\n" : "\n");
}

int main(int argc, char **argv)
{
    struct judge j = {0};
    bool json = false, read_back = false, good = true;
    int i = 1;
    for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--read-back") == 0)
            read_back = true;
        else
            break;
    }
    if (i >= argc || argv[i][0] == '-') {
        fprintf(stderr, "usage: kho-history-check [--json] [--read-back] HISTORY…\n");
        return 2;
    }
    j.files = calloc((size_t)(argc - i), sizeof *j.files);
    KHO_ASSERT(j.files != NULL);
    for (; i < argc && good; i++)
        good = file_open(&j.files[j.file_count++], argv[i]);
    if (good) {
        find_keys(&j);
        sort_ops(&j);
        for (size_t k = 0; k < j.key_count; k++)
            judge_key(&j, &j.keys[k], read_back);
        print_totals(&j, json);
    }
    for (size_t f = 0; f < j.file_count; f++)
        free(j.files[f].ops);
    free(j.files);
    free(j.keys);
    free(j.table);
    free(j.sorted);
    if (!good)
        return 2;
    return j.totals.violations > 0 ? 1 : j.totals.gave_up > 0 ? 3 : 0;
}
