/* sim.h: virtual time, the queue of what will happen, the trace and its hash.
 *
 * One process, one thread: everything that happens is a call at a moment of virtual time. Calls of
 * the same moment run in the order in which they were asked for, so a seed decides a run to the
 * byte. All that matters is told to the trace; its hash is the run's fingerprint. */
#ifndef KHO_SIM_SIM_H
#define KHO_SIM_SIM_H

#include <kho/base.h>
#include <kho/hash.h>
#include <kho/version.h>

#define SIM_US 1000ull
#define SIM_MS (1000 * SIM_US)
#define SIM_S  (1000 * SIM_MS)

typedef void (*sim_call)(void *owner, uint64_t arg);

struct sim_item {
    uint64_t at_ns;
    uint64_t order;
    sim_call call;
    void *owner;
    uint64_t arg;
};

/* What was injected, counted by class: X(name). */
#define SIM_FAULTS(X)                                                                              \
    /* processes */                                                                                \
    X(kill)                                                                                        \
    X(kill_step)                                                                                   \
    X(power)                                                                                       \
    X(site_power)                                                                                  \
    X(stop)                                                                                        \
    X(restart)                                                                                     \
    X(pause)                                                                                       \
    X(long_pause)                                                                                  \
    X(client_crash)                                                                                \
    X(cancel)                                                                                      \
    X(clock_jump)                                                                                  \
    X(clock_hour)                                                                                  \
    X(clock_decade)                                                                                \
    X(clock_back)                                                                                  \
    X(wipe)                                                                                        \
    X(swap)                                                                                        \
    X(clone)                                                                                       \
    /* disks */                                                                                    \
    X(unsynced_kept)                                                                               \
    X(unsynced_lost)                                                                               \
    X(torn_512)                                                                                    \
    X(torn_4096)                                                                                   \
    X(garbage)                                                                                     \
    X(folder_lost)                                                                                 \
    X(stale)                                                                                       \
    X(lost_write)                                                                                  \
    X(misdirected_write)                                                                           \
    X(misdirected_read)                                                                            \
    X(flip)                                                                                        \
    X(latent)                                                                                      \
    X(read_error)                                                                                  \
    X(write_error)                                                                                 \
    X(sync_error)                                                                                  \
    X(no_space)                                                                                    \
    X(short_read)                                                                                  \
    X(short_write)                                                                                 \
    X(slow_disk)                                                                                   \
    /* the network */                                                                              \
    X(delay)                                                                                       \
    X(reorder)                                                                                     \
    X(drop)                                                                                        \
    X(half_drop)                                                                                   \
    X(partition)                                                                                   \
    X(one_way)                                                                                     \
    X(slow_reader)                                                                                 \
    X(cut)                                                                                         \
    /* admins */                                                                                   \
    X(repair)                                                                                      \
    X(collection)                                                                                  \
    X(member)

enum sim_fault {
#define SIM_FAULT_ENUM(name) SIM_FAULT_##name,
    SIM_FAULTS(SIM_FAULT_ENUM)
#undef SIM_FAULT_ENUM
        SIM_FAULT_COUNT
};

struct sim {
    uint64_t seed;
    uint64_t now_ns;
    struct kho_random dice; /* of whoever has none of their own: scenarios */
    struct sim_item *heap;
    size_t heap_count, heap_room;
    uint64_t orders;
    uint64_t steps;
    uint64_t trace; /* hash of all trace lines so far */
    bool story;     /* print them */
    /* Is told each line of it; NULL: nobody is. Neither changes the hash. */
    void (*listen)(void *listener, uint64_t now_ns, const char *line);
    void *listener;
    bool failed;
    char failure[512];
    uint64_t faults[SIM_FAULT_COUNT];
};

void sim_init(struct sim *sim, uint64_t seed, bool story);
void sim_fini(struct sim *sim);
/* Calls `call` after `delay_ns`. What `owner` and `arg` name must still be there then, or be known
 * by `arg` to be gone. */
void sim_after(struct sim *sim, uint64_t delay_ns, sim_call call, void *owner, uint64_t arg);
void sim_at(struct sim *sim, uint64_t at_ns, sim_call call, void *owner, uint64_t arg);
/* The next call; false: nothing is left or the run has failed. */
bool sim_step(struct sim *sim);
/* Runs until `*done`, or until the moment; true if *done (NULL: never). */
bool sim_run(struct sim *sim, uint64_t until_ns, const bool *done);

void sim_trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The run broke a promise. The first message stays. */
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_fault(struct sim *sim, enum sim_fault fault);
const char *sim_fault_name(enum sim_fault fault);

/* A stream of random numbers for one component: the same for the same seed, name and number,
 * whatever others draw. So a new fault doesn't shift what the old ones do. */
void sim_dice(const struct sim *sim, const char *name, uint64_t number,
              struct kho_random *ret_dice);
/* Uniform in [0, bound). */
uint64_t dice_below(struct kho_random *dice, uint64_t bound);
/* Uniform in [low, high]. */
uint64_t dice_between(struct kho_random *dice, uint64_t low, uint64_t high);
/* True once in a million times `ppm`. */
bool dice_chance(struct kho_random *dice, uint64_t ppm);
/* A delay around `typical_ns` with a long tail: most are near it, few a hundred times as long. */
uint64_t dice_delay(struct kho_random *dice, uint64_t typical_ns);

#endif
