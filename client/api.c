/* api.c: the part of kho.h that needs no event loop, and the few calls to the system that the
 * driver's files share: memory, clocks, seeds.
 *
 * All of it is immediate. It fails by a wrong option (-EINVAL) or for want of memory (-ENOMEM). */
#include "api.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <kho/wire.h>

enum {
    DEADLINE_MS_DEFAULT = 10000,
    UNAVAILABLE_AFTER_MS_DEFAULT = 2000,
    HEDGE_MS_DEFAULT = 50,
    BYTES_MAX_DEFAULT = 64 << 20,
    COMPRESS_MIN_DEFAULT = 8000
};

static void *heap_allocate(size_t size, void *arg)
{
    (void)arg;
    return malloc(size);
}

static void heap_release(void *memory, void *arg)
{
    (void)arg;
    free(memory);
}

void kho_options_init_sized(struct kho_options *options, size_t struct_size)
{
    struct kho_options all = {.struct_size = struct_size,
                              .deadline_ms = DEADLINE_MS_DEFAULT,
                              .unavailable_after_ms = UNAVAILABLE_AFTER_MS_DEFAULT,
                              .hedge_ms = HEDGE_MS_DEFAULT,
                              .inflight_bytes_max = BYTES_MAX_DEFAULT,
                              .holdback_bytes_max = BYTES_MAX_DEFAULT,
                              .compress_min = COMPRESS_MIN_DEFAULT};
    memcpy(options, &all, kho_min(struct_size, sizeof all));
}

int api_options_take(const struct kho_options *options, struct kho_options *ret_options)
{
    struct kho_options taken = {0}, defaults;
    kho_options_init(&defaults);
    if (options == NULL ||
        options->struct_size < offsetof(struct kho_options, cluster) + sizeof options->cluster)
        return -EINVAL;
    memcpy(&taken, options, kho_min(options->struct_size, sizeof taken));
    if (taken.cluster == NULL || (taken.heap.allocate == NULL) != (taken.heap.release == NULL))
        return -EINVAL;
    taken.struct_size = sizeof taken;
    if (taken.deadline_ms == 0)
        taken.deadline_ms = defaults.deadline_ms;
    if (taken.unavailable_after_ms == 0)
        taken.unavailable_after_ms = defaults.unavailable_after_ms;
    if (taken.hedge_ms == 0)
        taken.hedge_ms = defaults.hedge_ms;
    if (taken.inflight_bytes_max == 0)
        taken.inflight_bytes_max = defaults.inflight_bytes_max;
    if (taken.holdback_bytes_max == 0)
        taken.holdback_bytes_max = defaults.holdback_bytes_max;
    if (taken.compress_min == 0)
        taken.compress_min = defaults.compress_min;
    if (taken.heap.allocate == NULL)
        taken.heap = (struct kho_heap){.allocate = heap_allocate, .release = heap_release};
    *ret_options = taken;
    return 0;
}

const char *kho_version_string(void)
{
    return KHO_VERSION;
}

const char *kho_strerror(int code)
{
    const char *sentence = kho_error_sentence(code);
    if (code == 0)
        sentence = "no error";
    if (sentence == NULL && code < 0 && code > -1000)
        sentence = strerrordesc_np(-code);
    return sentence != NULL ? sentence : "a code that this version of kho doesn't know";
}

const char *kho_stat_sentence(const char *name)
{
    static const struct {
        const char *name;
        const char *sentence;
    } stats[] = {
#define STAT(stat, text) {#stat, text},
        KHO_STATS(STAT)
#undef STAT
    };
    for (size_t i = 0; name != NULL && i < KHO_COUNT_OF(stats); i++)
        if (strcmp(stats[i].name, name) == 0)
            return stats[i].sentence;
    return NULL;
}

void *api_allocate(const struct kho_heap *heap, size_t size)
{
    return heap->allocate(size, heap->arg);
}

void *api_allocate_zeroed(const struct kho_heap *heap, size_t size)
{
    void *memory = api_allocate(heap, size);
    if (memory != NULL)
        memset(memory, 0, size);
    return memory;
}

void api_release(const struct kho_heap *heap, void *memory)
{
    if (memory != NULL)
        heap->release(memory, heap->arg);
}

struct kho_now api_now(void)
{
    struct timespec mono, wall;
    clock_gettime(CLOCK_MONOTONIC, &mono);
    /* The wall time is for people only: that of the last timer interrupt will do, for a fifth. */
    clock_gettime(CLOCK_REALTIME_COARSE, &wall);
    return (struct kho_now){.mono_ns = (uint64_t)mono.tv_sec * 1000000000u + (uint64_t)mono.tv_nsec,
                            .wall_ms =
                                (uint64_t)wall.tv_sec * 1000u + (uint64_t)wall.tv_nsec / 1000000u};
}

static atomic_uint forks;

static void forks_child(void)
{
    forks++;
}

static int forks_error;

static void forks_watch_once(void)
{
    forks_error = -pthread_atfork(NULL, NULL, forks_child);
}

int api_forks_watch(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, forks_watch_once);
    return forks_error;
}

unsigned api_forks(void)
{
    return forks;
}

uint64_t api_seed(void)
{
    uint64_t seed = 0;
    /* Up to 256 bytes are never cut short once the pool is seeded; a signal may only delay it. */
    while (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        KHO_ASSERT(errno == EINTR);
    return seed;
}

int api_cluster_update(struct api_cluster *cluster, const struct map *map,
                       const struct kho_heap *heap)
{
    if (cluster->epoch == map->epoch && cluster->map_hash == map->hash)
        return 0;
    struct kho_collection_info *collections = NULL;
    char(*names)[65] = NULL;
    size_t count = map->collection_count;
    if (count > 0) {
        collections = api_allocate(heap, count * sizeof *collections);
        names = api_allocate(heap, count * sizeof *names);
        if (collections == NULL || names == NULL) {
            api_release(heap, collections);
            api_release(heap, names);
            return -ENOMEM;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        struct map_collection c;
        map_collection(map, i, &c);
        memcpy(names[i], c.name, sizeof names[i]);
        collections[i] = (struct kho_collection_info){
            .name = names[i],
            .id = c.id,
            .replicas = c.replicas,
            .separator = c.separator == KHO_NO_SEPARATOR ? -1 : (int)c.separator};
    }
    struct map_node home;
    map_node(map, map->home, &home);
    api_cluster_fini(cluster, heap);
    *cluster = (struct api_cluster){.epoch = map->epoch,
                                    .map_hash = map->hash,
                                    .collections = collections,
                                    .collection_count = count,
                                    .names = names};
    memcpy(cluster->home, home.name, sizeof cluster->home);
    return 0;
}

void api_cluster_fini(struct api_cluster *cluster, const struct kho_heap *heap)
{
    api_release(heap, cluster->collections);
    api_release(heap, cluster->names);
    *cluster = (struct api_cluster){0};
}
