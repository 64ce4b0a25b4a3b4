/* heap.c: what the cores call instead of malloc and its like (CMakeLists.txt renames the calls).
 *
 * Each allocation asks failure_chance() first. What is live stands in a table by address, so that a
 * leak is seen at once, reachable or not; memory that came from elsewhere is released as usual. */
#include "heap.h"
#include "failure.h"

#include <errno.h>
#include <execinfo.h>
#include <pthread.h>

enum { BUCKETS = 1 << 16, TRACE = 12 };

struct live {
    struct live *next;
    void *memory;
    size_t size;
    uint64_t number;
    int depth;
    void *stack[TRACE];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct live *table[BUCKETS];
static uint64_t live_count, numbers;

static struct live **bucket(const void *memory)
{
    uint64_t mixed = ((uint64_t)(uintptr_t)memory >> 4) * 0x9E3779B97F4A7C15u;
    return &table[mixed >> 48];
}

static void *noted(void *memory, size_t size)
{
    if (memory == NULL)
        return NULL;
    struct live *live = malloc(sizeof *live);
    KHO_ASSERT(live != NULL);
    *live = (struct live){.memory = memory, .size = size};
    if (getenv("KHO_FAILURE_STACKS") != NULL)
        live->depth = backtrace(live->stack, TRACE);
    pthread_mutex_lock(&mutex);
    live->number = ++numbers;
    live->next = *bucket(memory);
    *bucket(memory) = live;
    live_count++;
    pthread_mutex_unlock(&mutex);
    return memory;
}

static void forgotten(const void *memory)
{
    pthread_mutex_lock(&mutex);
    for (struct live **at = bucket(memory); *at != NULL; at = &(*at)->next) {
        struct live *live = *at;
        if (live->memory != memory)
            continue;
        *at = live->next;
        live_count--;
        free(live);
        break;
    }
    pthread_mutex_unlock(&mutex);
}

uint64_t heap_live(char *ret_first, size_t size)
{
    const struct live *first = NULL;
    for (int i = 0; i < BUCKETS; i++)
        for (const struct live *live = table[i]; live != NULL; live = live->next)
            if (first == NULL || live->number < first->number)
                first = live;
    if (first != NULL) {
        snprintf(ret_first, size, "%zu bytes, allocation %llu of the run", first->size,
                 (unsigned long long)first->number);
        if (first->depth > 0)
            backtrace_symbols_fd(first->stack, first->depth, 2);
    }
    return live_count;
}

/* --- What the cores call ---------------------------------------------------------------------- */

static void *allocate(enum failure_point point, size_t size, size_t alignment, bool zeros)
{
    void *memory = NULL;
    if (failure_chance(point, 0) != 0)
        return NULL;
    if (alignment != 0)
        KHO_ASSERT(posix_memalign(&memory, alignment, size) == 0);
    else
        memory = zeros ? calloc(1, size) : malloc(size);
    return noted(memory, size);
}

static void *reallocate(enum failure_point point, void *memory, size_t size)
{
    if (failure_chance(point, 0) != 0)
        return NULL;
    if (memory != NULL)
        forgotten(memory);
    return noted(realloc(memory, size), size);
}

#define HEAP_OF(room, point)                                                                       \
    void *failing_##room##_malloc(size_t size);                                                    \
    void *failing_##room##_malloc(size_t size)                                                     \
    {                                                                                              \
        return allocate(point, size, 0, false);                                                    \
    }                                                                                              \
    void *failing_##room##_calloc(size_t count, size_t size);                                      \
    void *failing_##room##_calloc(size_t count, size_t size)                                       \
    {                                                                                              \
        return allocate(point, count * size, 0, true);                                             \
    }                                                                                              \
    void *failing_##room##_realloc(void *memory, size_t size);                                     \
    void *failing_##room##_realloc(void *memory, size_t size)                                      \
    {                                                                                              \
        return reallocate(point, memory, size);                                                    \
    }                                                                                              \
    void failing_##room##_free(void *memory);                                                      \
    void failing_##room##_free(void *memory)                                                       \
    {                                                                                              \
        if (memory != NULL)                                                                        \
            forgotten(memory);                                                                     \
        free(memory);                                                                              \
    }                                                                                              \
    int failing_##room##_posix_memalign(void **ret, size_t alignment, size_t size);                \
    int failing_##room##_posix_memalign(void **ret, size_t alignment, size_t size)                 \
    {                                                                                              \
        void *memory = allocate(point, size, alignment, false);                                    \
        if (memory != NULL)                                                                        \
            *ret = memory;                                                                         \
        return memory != NULL ? 0 : ENOMEM;                                                        \
    }                                                                                              \
    char *failing_##room##_strdup(const char *text);                                               \
    char *failing_##room##_strdup(const char *text)                                                \
    {                                                                                              \
        char *copy = allocate(point, strlen(text) + 1, 0, false);                                  \
        return copy != NULL ? strcpy(copy, text) : NULL;                                           \
    }

HEAP_OF(node, FAILURE_NODE_HEAP)
HEAP_OF(client, FAILURE_CLIENT_HEAP)
