/* base.h: what every room of kho stands on: endian loads and stores, an intrusive queue, a seeded
 * generator, asserts that stay on in release builds.
 *
 * Nothing here allocates, does I/O or reads a clock. Integers on the wire and on disk are
 * little-endian; the helpers below work on unaligned bytes, so a layout can be read where it lies.
 */
#ifndef KHO_BASE_H
#define KHO_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kho/planted.h>

/* An assert states what our own code guarantees. Bytes from a disk or a network never reach one:
 * they are checked and earn an error. */
#define KHO_ASSERT(condition)                                                                      \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0))                                                     \
            kho_assert_failed(#condition, __FILE__, __LINE__);                                     \
    } while (0)

/* Cores may not print, so a failed assert only aborts. */
_Noreturn static inline void kho_assert_failed(const char *condition, const char *file, int line)
{
    /* abort() alone would hide the place; a volatile copy keeps it readable in a core dump. */
    const char *volatile where[2] = {condition, file};
    volatile int at = line;
    (void)where;
    (void)at;
    abort();
}

#define KHO_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define KHO_CONTAINER_OF(pointer, type, member)                                                    \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline uint64_t kho_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
static inline uint64_t kho_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
static inline uint64_t kho_round_up(uint64_t n, uint64_t power_of_two)
{
    return (n + power_of_two - 1) & ~(power_of_two - 1);
}

/* Endian loads and stores. memcpy compiles to one move; the swap to nothing on little-endian. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#define KHO_LE16(x) __builtin_bswap16(x)
#define KHO_LE32(x) __builtin_bswap32(x)
#define KHO_LE64(x) __builtin_bswap64(x)
#else
#define KHO_LE16(x) (x)
#define KHO_LE32(x) (x)
#define KHO_LE64(x) (x)
#endif

static inline uint16_t kho_load16(const void *p)
{
    uint16_t x;
    memcpy(&x, p, sizeof x);
    return KHO_LE16(x);
}
static inline uint32_t kho_load32(const void *p)
{
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return KHO_LE32(x);
}
static inline uint64_t kho_load64(const void *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return KHO_LE64(x);
}
static inline void kho_store16(void *p, uint16_t x)
{
    x = KHO_LE16(x);
    memcpy(p, &x, sizeof x);
}
static inline void kho_store32(void *p, uint32_t x)
{
    x = KHO_LE32(x);
    memcpy(p, &x, sizeof x);
}
static inline void kho_store64(void *p, uint64_t x)
{
    x = KHO_LE64(x);
    memcpy(p, &x, sizeof x);
}

/* A 128-bit identity (cluster, incarnation, boot) or hash: bytes, compared and copied whole. */
struct kho_id {
    uint8_t bytes[16];
};

static inline bool kho_id_equal(const struct kho_id *a, const struct kho_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}
static inline bool kho_id_is_zero(const struct kho_id *id)
{
    return (kho_load64(id->bytes) | kho_load64(id->bytes + 8)) == 0;
}

/* The moment of a step. Cores never read a clock: the driver reads it once a turn and passes it. */
struct kho_now {
    uint64_t mono_ns; /* monotonic, for deadlines and intervals */
    uint64_t wall_ms; /* since 1970, for versions (DESIGN section 3) and for people */
};

/* Intrusive doubly-linked queue. A link that is in no queue points to itself (after queue_init). */
struct queue {
    struct queue *next;
    struct queue *prev;
};

static inline void queue_init(struct queue *q)
{
    q->next = q;
    q->prev = q;
}
static inline bool queue_empty(const struct queue *q)
{
    return q->next == q;
}
static inline void queue_push(struct queue *head, struct queue *link)
{
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}
static inline void queue_push_front(struct queue *head, struct queue *link)
{
    link->next = head->next;
    link->prev = head;
    head->next->prev = link;
    head->next = link;
}
static inline void queue_remove(struct queue *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    queue_init(link);
}
/* The first link, removed, or NULL. */
static inline struct queue *queue_pop(struct queue *head)
{
    if (queue_empty(head))
        return NULL;
    struct queue *link = head->next;
    queue_remove(link);
    return link;
}
/* Moves all links of `from` behind those of `to`. */
static inline void queue_append_all(struct queue *to, struct queue *from)
{
    if (queue_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    queue_init(from);
}
#define QUEUE_FOREACH(link, head)                                                                  \
    for (struct queue *link = (head)->next; link != (head); link = link->next)
/* Safe against removal of the current link only. */
#define QUEUE_FOREACH_SAFE(link, head)                                                             \
    for (struct queue *link = (head)->next, *link##_next = link->next; link != (head);             \
         link = link##_next, link##_next = link->next)

/* xoshiro256** by Blackman and Vigna (prng.di.unimi.it), seeded through splitmix64: the one source
 * of randomness of a core, so that a seed replays a run. Not for secrets. */
struct kho_random {
    uint64_t state[4];
};

static inline uint64_t kho_splitmix(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
static inline void kho_random_init(struct kho_random *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->state[i] = kho_splitmix(&seed);
}
static inline uint64_t kho_random_next(struct kho_random *r)
{
    uint64_t *s = r->state;
    uint64_t product = s[1] * 5;
    uint64_t result = ((product << 7) | (product >> 57)) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 45) | (s[3] >> 19);
    return result;
}
/* Uniform in [0, bound), bound > 0; the bias of the multiplication is below bound / 2^64. */
static inline uint64_t kho_random_below(struct kho_random *r, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)kho_random_next(r) * bound) >> 64);
}
static inline struct kho_id kho_random_id(struct kho_random *r)
{
    struct kho_id id;
    kho_store64(id.bytes, kho_random_next(r));
    kho_store64(id.bytes + 8, kho_random_next(r) | 1);
    return id;
}

#endif
