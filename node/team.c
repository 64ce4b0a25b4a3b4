/* team.c: mailboxes, the map board and the count of steps (team.h).
 *
 * Owns one mutex for all of it, since all of it is rare, and an eventfd for each mailbox and for
 * the news. The epoch stands beside the mutex as an atomic: it is looked at in every turn, and a
 * stale look is put right by the bell that follows. */
#include "team.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct parcel {
    struct queue link;
    int fd;
    struct wire_hello_client hello;
};

struct mailbox {
    struct team_mail mail;
    struct queue parcels;
    bool closed;    /* its shard has ended */
    uint64_t epoch; /* of the map that it goes by */
    int bell;
};

struct team {
    pthread_mutex_t lock; /* of all below but the descriptors */
    uint32_t shards;
    int news;
    struct team_count count;
    uint8_t *map;
    size_t map_len;
    _Atomic uint64_t newest, lowest; /* epochs; written under the lock */
    struct mailbox mailboxes[];
};

/* --- Life ------------------------------------------------------------------------------------- */

int team_create(uint32_t shards, struct team **ret_team)
{
    struct team *team = calloc(1, sizeof *team + shards * sizeof team->mailboxes[0]);
    if (team == NULL)
        return -ENOMEM;
    pthread_mutex_init(&team->lock, NULL);
    team->shards = shards;
    team->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = team->news < 0 ? -errno : 0;
    for (uint32_t i = 0; i < shards; i++) {
        struct mailbox *box = &team->mailboxes[i];
        queue_init(&box->parcels);
        box->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (box->bell < 0 && error == 0)
            error = -errno;
    }
    if (error != 0) {
        team_destroy(team);
        return error;
    }
    *ret_team = team;
    return 0;
}

void team_destroy(struct team *team)
{
    if (team == NULL)
        return;
    struct wire_hello_client hello;
    int fd;
    for (uint32_t i = 0; i < team->shards; i++) {
        while (team_next_socket(team, i, &fd, &hello))
            close(fd);
        if (team->mailboxes[i].bell >= 0)
            close(team->mailboxes[i].bell);
    }
    if (team->news >= 0)
        close(team->news);
    pthread_mutex_destroy(&team->lock);
    free(team->map);
    free(team);
}

uint32_t team_shards(const struct team *team)
{
    return team->shards;
}

/* --- Mail ------------------------------------------------------------------------------------- */

static struct mailbox *mailbox_of(struct team *team, uint32_t shard)
{
    KHO_ASSERT(shard < team->shards);
    return &team->mailboxes[shard];
}

static void ring(int bell)
{
    uint64_t one = 1;
    ssize_t written = write(bell, &one, sizeof one);
    (void)written; /* a bell that is full rings already */
}

int team_bell(const struct team *team, uint32_t shard)
{
    KHO_ASSERT(shard < team->shards);
    return team->mailboxes[shard].bell;
}

void team_collect(struct team *team, uint32_t shard, struct team_mail *ret_mail)
{
    struct mailbox *box = mailbox_of(team, shard);
    pthread_mutex_lock(&team->lock);
    *ret_mail = box->mail;
    box->mail.accept = false;
    pthread_mutex_unlock(&team->lock);
}

bool team_next_socket(struct team *team, uint32_t shard, int *ret_fd,
                      struct wire_hello_client *ret_hello)
{
    pthread_mutex_lock(&team->lock);
    struct queue *link = queue_pop(&mailbox_of(team, shard)->parcels);
    pthread_mutex_unlock(&team->lock);
    if (link == NULL)
        return false;
    struct parcel *parcel = KHO_CONTAINER_OF(link, struct parcel, link);
    *ret_fd = parcel->fd;
    *ret_hello = parcel->hello;
    free(parcel);
    return true;
}

bool team_hand_over(struct team *team, uint32_t shard, int fd,
                    const struct wire_hello_client *hello)
{
    struct mailbox *box = mailbox_of(team, shard);
    struct parcel *parcel = malloc(sizeof *parcel);
    if (parcel == NULL)
        return false;
    *parcel = (struct parcel){.fd = fd, .hello = *hello};
    queue_init(&parcel->link);
    pthread_mutex_lock(&team->lock);
    bool taken = !box->closed;
    if (taken)
        queue_push(&box->parcels, &parcel->link);
    pthread_mutex_unlock(&team->lock);
    if (taken)
        ring(box->bell);
    else
        free(parcel);
    return taken;
}

void team_accept(struct team *team, uint32_t shard)
{
    struct mailbox *box = mailbox_of(team, shard);
    pthread_mutex_lock(&team->lock);
    box->mail.accept = true;
    pthread_mutex_unlock(&team->lock);
    ring(box->bell);
}

void team_stop(struct team *team)
{
    pthread_mutex_lock(&team->lock);
    for (uint32_t i = 0; i < team->shards; i++)
        team->mailboxes[i].mail.stop = true;
    pthread_mutex_unlock(&team->lock);
    for (uint32_t i = 0; i < team->shards; i++)
        ring(team->mailboxes[i].bell);
}

/* --- The map ---------------------------------------------------------------------------------- */

uint64_t team_epoch(const struct team *team)
{
    return atomic_load_explicit(&team->newest, memory_order_relaxed);
}

uint64_t team_epoch_lowest(const struct team *team)
{
    return atomic_load_explicit(&team->lowest, memory_order_relaxed);
}

/* Under the lock. True: it has risen. */
static bool lowest_update(struct team *team)
{
    uint64_t lowest = UINT64_MAX;
    for (uint32_t i = 0; i < team->shards; i++)
        lowest = kho_min(lowest, team->mailboxes[i].epoch);
    bool risen = lowest > team_epoch_lowest(team);
    atomic_store_explicit(&team->lowest, lowest, memory_order_relaxed);
    return risen;
}

bool team_map_in_force(struct team *team, uint32_t shard, const struct map *map)
{
    uint8_t *copy = malloc(map->length);
    if (copy == NULL)
        return false;
    memcpy(copy, map->bytes, map->length);
    pthread_mutex_lock(&team->lock);
    bool newer = map->epoch > team_epoch(team);
    if (newer) {
        uint8_t *old = team->map;
        team->map = copy;
        team->map_len = map->length;
        atomic_store_explicit(&team->newest, map->epoch, memory_order_relaxed);
        copy = old;
    }
    mailbox_of(team, shard)->epoch = map->epoch;
    bool risen = lowest_update(team);
    pthread_mutex_unlock(&team->lock);
    free(copy);
    for (uint32_t i = 0; (newer || risen) && i < team->shards; i++)
        ring(team->mailboxes[i].bell);
    return true;
}

uint8_t *team_map_copy(struct team *team, size_t *ret_length)
{
    pthread_mutex_lock(&team->lock);
    uint8_t *copy = team->map != NULL ? malloc(team->map_len) : NULL;
    if (copy != NULL) {
        memcpy(copy, team->map, team->map_len);
        *ret_length = team->map_len;
    }
    pthread_mutex_unlock(&team->lock);
    return copy;
}

/* --- How far they are ------------------------------------------------------------------------- */

int team_news(const struct team *team)
{
    return team->news;
}

void team_reached(struct team *team, uint32_t shard, enum team_step step, uint64_t records,
                  int result)
{
    struct mailbox *box = mailbox_of(team, shard);
    KHO_ASSERT(step == TEAM_SERVING || step == TEAM_ENDED);
    pthread_mutex_lock(&team->lock);
    if (step == TEAM_SERVING) {
        team->count.serving++;
        team->count.records += records;
    } else {
        KHO_ASSERT(!box->closed);
        box->closed = true;
        box->epoch = UINT64_MAX; /* nobody waits for it */
        lowest_update(team);
        team->count.ended++;
        if (team->count.result == 0)
            team->count.result = result;
    }
    pthread_mutex_unlock(&team->lock);
    ring(team->news);
}

void team_count(struct team *team, struct team_count *ret_count)
{
    pthread_mutex_lock(&team->lock);
    *ret_count = team->count;
    pthread_mutex_unlock(&team->lock);
}
