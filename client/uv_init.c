/* uv_init.c: kho_cluster_init over libuv: the state machine cluster_init (client.h), driven by
 * uv_net.c until it has ended, then reported and freed. What can go wrong is in its message. */
#include <errno.h>

#include "client.h"
#include "uv_net.h"

enum { INIT_DEADLINE_MS_DEFAULT = 10000 };

struct init {
    struct net net;
    struct kho_heap heap;
    struct cluster_init *core;
    kho_init_cb cb;
    void *arg;
};

static void init_completed(void *owner, struct client_op *op, struct kho_now now)
{
    cluster_init_completed(((struct init *)owner)->core, op, now);
}

static void init_received(void *owner, int32_t conn, const uint8_t *bytes, size_t len,
                          struct kho_now now)
{
    cluster_init_received(((struct init *)owner)->core, conn, bytes, len, now);
}

static void init_disconnected(void *owner, int32_t conn, int error, struct kho_now now)
{
    cluster_init_disconnected(((struct init *)owner)->core, conn, error, now);
}

static void init_tick(void *owner, struct kho_now now)
{
    cluster_init_tick(((struct init *)owner)->core, now);
}

/* It has no batches to close. */
static void init_step_end(void *owner, struct kho_now now)
{
    (void)owner;
    (void)now;
}

static uint64_t init_deadline(void *owner)
{
    return cluster_init_deadline(((struct init *)owner)->core);
}

static struct client_op *init_next_op(void *owner)
{
    return cluster_init_next_op(((struct init *)owner)->core);
}

static void init_free(struct init *init)
{
    struct kho_heap heap = init->heap;
    cluster_init_destroy(init->core);
    net_fini(&init->net);
    api_release(&heap, init);
}

/* The core, and with it message and map, live until the callback has returned. */
static void init_closed(void *owner)
{
    struct init *init = owner;
    int status = 0;
    const char *message = NULL;
    const uint8_t *map = NULL;
    size_t map_len = 0;
    bool done = cluster_init_done(init->core, &status, &message, &map, &map_len);
    KHO_ASSERT(done);
    if (init->cb != NULL)
        init->cb(status, message, map, map_len, init->arg);
    init_free(init);
}

static void init_deliver(void *owner)
{
    struct init *init = owner;
    int status;
    const char *message;
    const uint8_t *map;
    size_t map_len;
    if (cluster_init_done(init->core, &status, &message, &map, &map_len))
        net_close(&init->net, init_closed);
}

static const struct net_core init_core = {.completed = init_completed,
                                          .received = init_received,
                                          .disconnected = init_disconnected,
                                          .tick = init_tick,
                                          .step_end = init_step_end,
                                          .deadline = init_deadline,
                                          .next_op = init_next_op,
                                          .deliver = init_deliver};

int kho_cluster_init(struct uv_loop_s *loop, const struct kho_cluster_plan *plan,
                     uint32_t deadline_ms, kho_init_cb cb, void *arg)
{
    struct kho_options defaults;
    struct kho_options asked = {.struct_size = sizeof asked, .cluster = ""};
    if (loop == NULL || plan == NULL || plan->addresses == NULL ||
        plan->struct_size < sizeof plan->struct_size + sizeof plan->addresses)
        return -EINVAL;
    struct kho_cluster_plan taken = {0};
    memcpy(&taken, plan, kho_min(plan->struct_size, sizeof taken));
    taken.struct_size = sizeof taken;
    int error = api_options_take(&asked, &defaults);
    KHO_ASSERT(error == 0);
    struct init *init = api_allocate_zeroed(&defaults.heap, sizeof *init);
    if (init == NULL)
        return -ENOMEM;
    init->heap = defaults.heap;
    init->cb = cb;
    init->arg = arg;
    error = net_init(&init->net, loop, &init->heap, &init_core, init);
    if (error == 0)
        error =
            cluster_init_create(&taken, deadline_ms == 0 ? INIT_DEADLINE_MS_DEFAULT : deadline_ms,
                                api_seed(), api_now(), &init->core);
    if (error != 0) {
        init_free(init);
        return error;
    }
    net_start(&init->net);
    return 0;
}
