/* sim.c: a binary heap of calls by (moment, order), the seeded generator, the trace. */
#include "sim.h"

#include <stdarg.h>

void sim_init(struct sim *sim, uint64_t seed, bool story)
{
    memset(sim, 0, sizeof *sim);
    sim->seed = seed;
    sim->story = story;
    sim->now_ns = SIM_S;
    sim_dice(sim, "sim", 0, &sim->dice);
}

void sim_fini(struct sim *sim)
{
    free(sim->heap);
    memset(sim, 0, sizeof *sim);
}

/* --- The queue -------------------------------------------------------------------------------- */

static bool before(const struct sim_item *a, const struct sim_item *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void swap(struct sim_item *a, struct sim_item *b)
{
    struct sim_item c = *a;
    *a = *b;
    *b = c;
}

void sim_at(struct sim *sim, uint64_t at_ns, sim_call call, void *owner, uint64_t arg)
{
    if (sim->heap_count == sim->heap_room) {
        sim->heap_room = sim->heap_room * 2 + 64;
        sim->heap = realloc(sim->heap, sim->heap_room * sizeof *sim->heap);
        KHO_ASSERT(sim->heap != NULL);
    }
    size_t i = sim->heap_count++;
    sim->heap[i] = (struct sim_item){kho_max(at_ns, sim->now_ns), sim->orders++, call, owner, arg};
    for (; i > 0 && before(&sim->heap[i], &sim->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&sim->heap[i], &sim->heap[(i - 1) / 2]);
}

void sim_after(struct sim *sim, uint64_t delay_ns, sim_call call, void *owner, uint64_t arg)
{
    sim_at(sim, sim->now_ns + delay_ns, call, owner, arg);
}

static struct sim_item heap_pop(struct sim *sim)
{
    struct sim_item first = sim->heap[0];
    sim->heap[0] = sim->heap[--sim->heap_count];
    for (size_t i = 0;;) {
        size_t least = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < sim->heap_count; child++)
            if (before(&sim->heap[child], &sim->heap[least]))
                least = child;
        if (least == i)
            return first;
        swap(&sim->heap[i], &sim->heap[least]);
        i = least;
    }
}

bool sim_step(struct sim *sim)
{
    if (sim->failed || sim->heap_count == 0)
        return false;
    struct sim_item item = heap_pop(sim);
    sim->now_ns = item.at_ns;
    sim->steps++;
    item.call(item.owner, item.arg);
    return true;
}

bool sim_run(struct sim *sim, uint64_t until_ns, const bool *done)
{
    while ((done == NULL || !*done) && !sim->failed) {
        if (sim->heap_count == 0 || sim->heap[0].at_ns > until_ns) {
            sim->now_ns = kho_max(sim->now_ns, until_ns);
            break;
        }
        sim_step(sim);
    }
    return done != NULL && *done;
}

/* --- The trace -------------------------------------------------------------------------------- */

void sim_trace(struct sim *sim, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    size_t len = n < 0 ? 0 : kho_min((uint64_t)n, sizeof line - 1);
    sim->trace = XXH3_64bits_withSeed(line, len, sim->trace ^ sim->now_ns);
    if (sim->listen != NULL)
        sim->listen(sim->listener, sim->now_ns, line);
    if (sim->story)
        printf("%12.6f %s\n", (double)sim->now_ns / 1e9, line);
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    if (sim->failed)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sim->failure, sizeof sim->failure, format, arguments);
    va_end(arguments);
    sim_trace(sim, "FAILED: %s", sim->failure);
    sim->failed = true;
}

static const char *const fault_names[] = {
#define SIM_FAULT_NAME(name) #name,
    SIM_FAULTS(SIM_FAULT_NAME)
#undef SIM_FAULT_NAME
};

const char *sim_fault_name(enum sim_fault fault)
{
    return fault_names[fault];
}

void sim_fault(struct sim *sim, enum sim_fault fault)
{
    sim->faults[fault]++;
}

/* --- Dice ------------------------------------------------------------------------------------- */

void sim_dice(const struct sim *sim, const char *name, uint64_t number, struct kho_random *ret_dice)
{
    uint64_t named = XXH3_64bits_withSeed(name, strlen(name), sim->seed);
    kho_random_init(ret_dice, XXH3_64bits_withSeed(&number, sizeof number, named));
}

uint64_t dice_below(struct kho_random *dice, uint64_t bound)
{
    return kho_random_below(dice, bound);
}

uint64_t dice_between(struct kho_random *dice, uint64_t low, uint64_t high)
{
    return low + dice_below(dice, high - low + 1);
}

bool dice_chance(struct kho_random *dice, uint64_t ppm)
{
    /* No draw where the answer is certain. */
    return ppm > 0 && dice_below(dice, 1000000) < ppm;
}

uint64_t dice_delay(struct kho_random *dice, uint64_t typical_ns)
{
    uint64_t tail = dice_below(dice, 1000);
    uint64_t delay = typical_ns / 2 + dice_below(dice, typical_ns);
    if (tail >= 998)
        delay *= 100;
    else if (tail >= 960)
        delay *= 10;
    return delay;
}
