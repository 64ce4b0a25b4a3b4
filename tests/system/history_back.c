/* history_back.c: reads back every key that histories name, and lists the collection, as one more
 * history: by a client that knows of the records from the files alone.
 *
 *   history_back --cluster HOST:PORT,… --collection NAME --out FILE --number N [--value-max BYTES]
 *                HISTORY…
 *
 * Nobody else may write meanwhile. A get that has no answer is tried again, some times. A listing
 * is no snapshot, but of a collection at rest it must tell each record once, as get does, and no
 * other: so each key that it doesn't tell counts as read as absent. Prints one JSON object. Exit
 * code 0: each key had an answer, and none was listed twice. */
#include "history_call.h"

enum { TRIES = 30, AGAIN_MS = 250, PAGE = 500, DEADLINE_MS = 10000 };

struct known_key {
    uint8_t key[HISTORY_KEY_MAX];
    uint8_t len;
    bool answered;
    uint32_t listed;
};

struct keys {
    struct known_key *keys;
    size_t count, room;
    uint32_t *table; /* by hash, 1 above the place; 0: free */
    size_t table_room;
};

static uint64_t key_print(const uint8_t *key, size_t len)
{
    return history_value_hash(key, len);
}

static void table_put(struct keys *keys, size_t at)
{
    size_t i = key_print(keys->keys[at].key, keys->keys[at].len) & (keys->table_room - 1);
    while (keys->table[i] != 0)
        i = (i + 1) & (keys->table_room - 1);
    keys->table[i] = (uint32_t)at + 1;
}

static struct known_key *keys_find(struct keys *keys, const uint8_t *key, size_t len)
{
    if (keys->table_room == 0)
        return NULL;
    size_t i = key_print(key, len) & (keys->table_room - 1);
    for (; keys->table[i] != 0; i = (i + 1) & (keys->table_room - 1)) {
        struct known_key *known = &keys->keys[keys->table[i] - 1];
        if (known->len == len && memcmp(known->key, key, len) == 0)
            return known;
    }
    return NULL;
}

static void keys_add(struct keys *keys, const uint8_t *key, size_t len)
{
    if (len == 0 || keys_find(keys, key, len) != NULL)
        return;
    if (keys->count == keys->room) {
        keys->room = keys->room * 2 + 1024;
        keys->keys = realloc(keys->keys, keys->room * sizeof *keys->keys);
        free(keys->table);
        keys->table_room = 2048;
        while (keys->table_room < keys->room * 2)
            keys->table_room *= 2;
        keys->table = calloc(keys->table_room, sizeof *keys->table);
        KHO_ASSERT(keys->keys != NULL && keys->table != NULL);
        for (size_t i = 0; i < keys->count; i++)
            table_put(keys, i);
    }
    keys->keys[keys->count] = (struct known_key){.len = (uint8_t)len};
    memcpy(keys->keys[keys->count].key, key, len);
    table_put(keys, keys->count++);
}

/* All keys that had no answer yet, once. Returns how many have none now. */
static size_t read_pass(struct caller *caller, struct keys *keys)
{
    size_t left = 0;
    for (size_t at = 0; at < keys->count;) {
        struct call call = {.verb = HISTORY_GET};
        struct known_key *asked[CALL_ITEMS_MAX];
        for (; at < keys->count && call.count < CALL_ITEMS_MAX; at++) {
            struct known_key *known = &keys->keys[at];
            if (known->answered)
                continue;
            struct call_item *item = &call.items[call.count];
            memcpy(item->key, known->key, known->len);
            item->key_len = known->len;
            item->status = KHO_EUNAVAILABLE; /* where the call is refused */
            asked[call.count++] = known;
        }
        if (call.count == 0)
            break;
        call_run(caller, &call);
        for (size_t i = 0; i < call.count; i++) {
            int status = call.items[i].status;
            asked[i]->answered = status == 0 || status == KHO_ENOTFOUND;
            left += !asked[i]->answered;
        }
    }
    return left;
}

/* The whole collection. 0, or the error of the page that had no answer. */
static int list_all(struct caller *caller, struct keys *keys, uint64_t *ret_listed)
{
    struct kho_cursor cursor = {{0}};
    uint64_t begun = call_clock_ns();
    int tries = 0;
    for (int done = 0; !done;) {
        struct kho_results *results;
        int error = kho_blocking_list(caller->client, caller->collection, &cursor, PAGE,
                                      KHO_LIST_WITH_VALUES, DEADLINE_MS, &results);
        if (error != 0) {
            if (++tries > TRIES)
                return error;
            call_sleep_ms(AGAIN_MS);
            continue;
        }
        for (size_t i = 0; i < results->count; i++) {
            const struct kho_result *r = &results->records[i];
            if (r->status != 0 || r->key_len > HISTORY_KEY_MAX) {
                kho_results_free(results);
                return r->status != 0 ? KHO_EDAMAGED : KHO_EKEYSIZE;
            }
            keys_add(keys, r->key, r->key_len); /* an append whose key nobody was told */
            keys_find(keys, r->key, r->key_len)->listed++;
            call_listed(caller, begun, r->key, r->key_len, r);
            (*ret_listed)++;
        }
        cursor = results->next;
        done = results->done;
        kho_results_free(results);
    }
    for (size_t i = 0; i < keys->count; i++)
        if (keys->keys[i].listed == 0)
            call_listed(caller, begun, keys->keys[i].key, keys->keys[i].len, NULL);
    return 0;
}

static int run(struct caller *caller, struct keys *keys)
{
    uint64_t listed = 0, twice = 0;
    size_t left = keys->count;
    for (int tries = 0; left > 0 && tries < TRIES; tries++) {
        if (tries > 0)
            call_sleep_ms(AGAIN_MS);
        left = read_pass(caller, keys);
    }
    int error = left == 0 ? list_all(caller, keys, &listed) : 0;
    if (error != 0)
        fprintf(stderr, "list: %s\n", kho_strerror(error));
    for (size_t i = 0; i < keys->count; i++)
        twice += keys->keys[i].listed > 1;
    printf("{\"keys\": %zu, \"unread\": %zu, \"listed\": %llu, \"twice\": %llu, ", keys->count,
           left, (unsigned long long)listed, (unsigned long long)twice);
    tally_print(&caller->tally);
    printf("}\n");
    return left == 0 && error == 0 && twice == 0 && caller->tally.wrong == 0 &&
                   caller->tally.odd == 0
               ? 0
               : 1;
}

int main(int argc, char **argv)
{
    struct kho_options options;
    struct keys keys = {0};
    _Atomic uint64_t next_op = 1, next_value = 1;
    struct caller caller = {.next_op = &next_op,
                            .next_value = &next_value,
                            .deadline_ms = DEADLINE_MS,
                            .value_max = 20000};
    const char *out = NULL;
    int i = 1;
    kho_options_init(&options);
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (strcmp(argv[i], "--cluster") == 0)
            options.cluster = argv[i + 1];
        else if (strcmp(argv[i], "--collection") == 0)
            caller.collection = argv[i + 1];
        else if (strcmp(argv[i], "--out") == 0)
            out = argv[i + 1];
        else if (strcmp(argv[i], "--number") == 0)
            caller.number = (uint32_t)strtoul(argv[i + 1], NULL, 10) << 16;
        else if (strcmp(argv[i], "--value-max") == 0)
            caller.value_max = strtoul(argv[i + 1], NULL, 10);
    }
    if (options.cluster == NULL || caller.collection == NULL || out == NULL || i == argc) {
        fprintf(stderr,
                "usage: %s --cluster HOST:PORT,… --collection NAME --out FILE --number N "
                "[--value-max BYTES] HISTORY…\n",
                argv[0]);
        return 2;
    }
    for (; i < argc; i++) {
        size_t count;
        struct history_line *lines = history_file_read(argv[i], &count);
        if (lines == NULL)
            return 2;
        for (size_t at = 0; at < count; at++)
            keys_add(&keys, lines[at].key, kho_min(lines[at].key_len, HISTORY_KEY_MAX));
        free(lines);
    }
    caller.file = history_file_create(out);
    int code = 1,
        error = caller.file < 0 ? caller.file : kho_blocking_open(&options, &caller.client);
    if (error != 0) {
        fprintf(stderr, "%s: %s\n", argv[0], kho_strerror(error));
    } else {
        code = run(&caller, &keys);
        kho_blocking_close(caller.client);
    }
    free(keys.keys);
    free(keys.table);
    return code;
}
