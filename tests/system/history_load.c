/* history_load.c: clients that put, delete, append, get and stat, one record or many a call, and
 * write down what they were told, for kho-history-check.
 *
 *   history_load --cluster HOST:PORT,… --collection NAME --out FILE --number N [--seconds S]
 *                [--operations N] [--clients N] [--threads N] [--rate N] [--deadline MS]
 *                [--hot N] [--base NS] [--value-max BYTES] [--seed N]
 *
 * It ends after S seconds or so many operations, or at SIGTERM, when all calls have ended, and
 * prints one JSON object: what it counted. Each client is one of libkho's, shared by its threads.
 *
 * Keys. A few hot keys are fought for, by all processes with the same --base (a moment of the
 * monotonic clock): they are replaced by new ones every other second and left alone after some
 * hundred operations, so that each has a history that can be judged. Each process has keys of its
 * own, of which it makes new ones all the time. Now and then an older key of any kind is looked at
 * or written. */
#include "history_call.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>

enum {
    CLIENTS_MAX = 8,
    THREADS_MAX = 64,
    HOT_MAX = 64,
    HOT_OPS_MAX = 500, /* on one hot key by one process while it is new */
    APPENDED_MAX = 1024,
    BATCH_MAX = 16,
};
static const uint64_t HOT_NS = 2000000000u;

struct load {
    struct kho_options options;
    const char *collection, *out;
    uint64_t number, seconds, operations, clients, threads, rate, hot, base_ns, value_max, seed;
    uint64_t end_ns;
    _Atomic uint64_t next_op, next_value, cold, used; /* used: operations so far */
    _Atomic uint64_t hot_ops[HOT_MAX];                /* generation << 32 | operations */
    pthread_mutex_t mutex;                            /* of what follows */
    uint8_t appended[APPENDED_MAX][16];
    uint64_t appended_count;
};

struct worker {
    struct load *load;
    struct caller caller;
    uint64_t pace_ns; /* when the next operation may begin, with --rate */
};

static volatile sig_atomic_t stopped;
static void stop(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

/* --- Keys ------------------------------------------------------------------------------------- */

static void hot_key(struct call_item *item, uint64_t slot, uint64_t generation)
{
    item->key_len = (size_t)snprintf((char *)item->key, sizeof item->key, "hot-%llu-%llu",
                                     (unsigned long long)slot, (unsigned long long)generation);
}
static void cold_key(struct call_item *item, uint64_t process, uint64_t number)
{
    item->key_len = (size_t)snprintf((char *)item->key, sizeof item->key, "cold-%llu-%llu",
                                     (unsigned long long)process, (unsigned long long)number);
}

/* True: the process may use the hot key once more. */
static bool hot_count(struct load *load, uint64_t slot, uint64_t generation)
{
    uint64_t was = load->hot_ops[slot], is;
    do {
        is = was >> 32 == (uint32_t)generation ? was + 1 : generation << 32 | 1;
        if ((uint32_t)is > HOT_OPS_MAX)
            return false;
    } while (!atomic_compare_exchange_weak(&load->hot_ops[slot], &was, is));
    return true;
}

static bool appended_draw(struct worker *w, struct call_item *item)
{
    struct load *load = w->load;
    pthread_mutex_lock(&load->mutex);
    uint64_t count = kho_min(load->appended_count, APPENDED_MAX);
    if (count > 0)
        memcpy(item->key, load->appended[kho_random_below(&w->caller.random, count)], 16);
    pthread_mutex_unlock(&load->mutex);
    item->key_len = 16;
    return count > 0;
}
static void appended_keep(struct load *load, const struct call_item *item)
{
    if (item->key_len != 16)
        return;
    pthread_mutex_lock(&load->mutex);
    memcpy(load->appended[load->appended_count++ % APPENDED_MAX], item->key, 16);
    pthread_mutex_unlock(&load->mutex);
}

static void key_draw(struct worker *w, struct call_item *item, enum history_verb verb)
{
    struct load *load = w->load;
    struct kho_random *random = &w->caller.random;
    uint64_t dice = kho_random_below(random, 100), slot = kho_random_below(random, load->hot);
    uint64_t generation = (call_clock_ns() - load->base_ns) / HOT_NS, made = load->cold;
    bool hot = dice < 50 && hot_count(load, slot, generation);
    if (dice < 50 && !hot)
        dice = 70; /* it has had its share */
    if (hot)
        hot_key(item, slot, generation);
    else if (dice < 60 && generation > 0)
        hot_key(item, slot, kho_random_below(random, generation));
    else if (dice < 65 && verb != HISTORY_PUT && appended_draw(w, item))
        return;
    else if (made > 0 && (dice < 75 || verb != HISTORY_PUT))
        cold_key(item, load->number, kho_random_below(random, made));
    else
        cold_key(item, load->number, atomic_fetch_add(&load->cold, 1));
}

/* --- Threads ---------------------------------------------------------------------------------- */

static bool over(const struct load *load)
{
    return stopped || call_clock_ns() >= load->end_ns ||
           (load->operations > 0 && load->used >= load->operations);
}

/* With a rate, each thread waits until its share of it allows the next call. */
static void pace(struct worker *w, size_t count)
{
    struct load *load = w->load;
    if (load->rate == 0)
        return;
    uint64_t now = call_clock_ns();
    if (w->pace_ns > now)
        call_sleep_ms((w->pace_ns - now) / 1000000);
    else if (now - w->pace_ns > 1000000000u)
        w->pace_ns = now; /* what a hang held up isn't made up for */
    w->pace_ns += count * load->clients * load->threads * 1000000000u / load->rate;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct kho_random *random = &w->caller.random;
    while (!over(w->load)) {
        struct call call = {.count = 1};
        uint64_t dice = kho_random_below(random, 100);
        call.verb = dice < 42   ? HISTORY_PUT
                    : dice < 76 ? HISTORY_GET
                    : dice < 84 ? HISTORY_STAT
                    : dice < 91 ? HISTORY_DEL
                                : HISTORY_APPEND;
        /* Some calls have so little time that they end in doubt while a node is away. */
        w->caller.deadline_ms =
            kho_random_below(random, 4) == 0 ? 10 + (uint32_t)kho_random_below(random, 200) : 0;
        if (kho_random_below(random, 3) == 0)
            call.count = 2 + kho_random_below(random, BATCH_MAX - 1);
        for (size_t i = 0; i < call.count && call.verb != HISTORY_APPEND; i++)
            key_draw(w, &call.items[i], call.verb);
        pace(w, call.count);
        atomic_fetch_add(&w->load->used, call.count);
        call_run(&w->caller, &call);
        for (size_t i = 0; i < call.count && call.verb == HISTORY_APPEND; i++)
            appended_keep(w->load, &call.items[i]);
    }
    return NULL;
}

static int run(struct load *load)
{
    static struct worker workers[CLIENTS_MAX * THREADS_MAX];
    static pthread_t threads[CLIENTS_MAX * THREADS_MAX];
    struct kho_blocking *clients[CLIENTS_MAX];
    struct tally tally = {0};
    int file = history_file_create(load->out);
    if (file < 0) {
        fprintf(stderr, "%s: %s\n", load->out, kho_strerror(file));
        return 1;
    }
    for (size_t i = 0; i < load->clients; i++) {
        int error = kho_blocking_open(&load->options, &clients[i]);
        if (error != 0) {
            fprintf(stderr, "open: %s\n", kho_strerror(error));
            return 1;
        }
    }
    size_t count = load->clients * load->threads;
    uint64_t begun = call_clock_ns();
    load->end_ns = begun + load->seconds * 1000000000u;
    for (size_t i = 0; i < count; i++) {
        workers[i] = (struct worker){.load = load,
                                     .caller = {.client = clients[i / load->threads],
                                                .collection = load->collection,
                                                .number = (uint32_t)(load->number << 16 | i),
                                                .value_max = load->value_max,
                                                .file = file,
                                                .next_op = &load->next_op,
                                                .next_value = &load->next_value},
                                     .pace_ns = begun};
        kho_random_init(&workers[i].caller.random, load->seed << 32 | load->number << 16 | i);
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
            abort();
    }
    for (size_t i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        tally_add(&tally, &workers[i].caller.tally);
    }
    for (size_t i = 0; i < load->clients; i++)
        kho_blocking_close(clients[i]);
    printf("{");
    tally_print(&tally);
    printf(", \"seconds\": %.3f}\n", (double)(call_clock_ns() - begun) / 1e9);
    return tally.odd == 0 && tally.wrong == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    static struct load load = {.clients = 2,
                               .threads = 8,
                               .hot = 8,
                               .value_max = 20000,
                               .seconds = 10,
                               .mutex = PTHREAD_MUTEX_INITIALIZER};
    uint64_t deadline_ms = 5000;
    const char *cluster = NULL;
    struct {
        const char *name;
        uint64_t *number; /* or text */
        const char **text;
        uint64_t min, max;
    } const options[] = {
        {"cluster", NULL, &cluster, 0, 0},
        {"collection", NULL, &load.collection, 0, 0},
        {"out", NULL, &load.out, 0, 0},
        {"number", &load.number, NULL, 1, 32767},
        {"seconds", &load.seconds, NULL, 1, 1000000},
        {"operations", &load.operations, NULL, 0, UINT64_MAX},
        {"clients", &load.clients, NULL, 1, CLIENTS_MAX},
        {"threads", &load.threads, NULL, 1, THREADS_MAX},
        {"rate", &load.rate, NULL, 0, 100000000},
        {"deadline", &deadline_ms, NULL, 1, 600000},
        {"hot", &load.hot, NULL, 1, HOT_MAX},
        {"base", &load.base_ns, NULL, 0, UINT64_MAX},
        {"value-max", &load.value_max, NULL, 1, 16u << 20},
        {"seed", &load.seed, NULL, 0, UINT32_MAX},
    };
    load.base_ns = call_clock_ns();
    for (int i = 1; i < argc; i += 2) {
        size_t at = 0;
        while (at < KHO_COUNT_OF(options) &&
               (strncmp(argv[i], "--", 2) != 0 || strcmp(argv[i] + 2, options[at].name) != 0))
            at++;
        bool good = at < KHO_COUNT_OF(options) && i + 1 < argc;
        if (good && options[at].text != NULL) {
            *options[at].text = argv[i + 1];
        } else if (good) {
            *options[at].number = strtoull(argv[i + 1], NULL, 10);
            good = *options[at].number >= options[at].min && *options[at].number <= options[at].max;
        }
        if (!good) {
            fprintf(stderr, "history_load: %s: no such option, or not in its range\n", argv[i]);
            return 2;
        }
    }
    if (cluster == NULL || load.collection == NULL || load.out == NULL || load.number == 0) {
        fprintf(stderr, "history_load: --cluster, --collection, --out and --number are needed\n");
        return 2;
    }
    kho_options_init(&load.options);
    load.options.cluster = cluster;
    load.options.deadline_ms = (uint32_t)deadline_ms;
    load.next_op = 1;
    load.next_value = load.number << 40 | 1;
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* a test that is killed leaves no load behind */
    return run(&load);
}
