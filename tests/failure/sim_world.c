/* sim_world.c: between the simulator and the cores: whose code runs, and ops that fail.
 *
 * The linker sends the simulator's calls of these names here (--wrap). A node is known by its
 * incarnation, in the order in which they are first seen: the first is owner 0, whose failures
 * count. Of a failing op nothing is carried out. */
#include "failure.h"

#include "node/shard.h"
#include <errno.h>

#include "tests/sim/disk.h"
#include "tests/sim/net.h"

enum { OWNERS = 64, SHARDS = 64, DISKS = 64 };

static struct kho_id nodes[OWNERS];
static int node_count;
static struct {
    const struct shard *shard;
    int owner;
} shards[SHARDS];
static struct {
    const struct vdisk *disk;
    vdisk_done done;
    void *arg;
} disks[DISKS];
static bool refused[VNET_CLIENTS_MAX][VNET_CONNS_MAX]; /* handles whose connect failed here */
static const struct vnet_world *net_world;
static void *net_owner;

static int node_of(const struct kho_id *incarnation)
{
    for (int i = 0; i < node_count; i++)
        if (kho_id_equal(&nodes[i], incarnation))
            return i;
    KHO_ASSERT(node_count < OWNERS);
    nodes[node_count] = *incarnation;
    return node_count++;
}

static int owner_of(const struct shard *shard)
{
    for (int i = 0; i < SHARDS; i++)
        if (shards[i].shard == shard)
            return shards[i].owner;
    KHO_ASSERT(!"a shard that nobody made");
}

/* --- Shards ----------------------------------------------------------------------------------- */

/* clang-format off */
int __real_shard_create(const struct shard_options *options, struct shard **ret_shard);
int __wrap_shard_create(const struct shard_options *options, struct shard **ret_shard);
void __real_shard_destroy(struct shard *shard);
void __wrap_shard_destroy(struct shard *shard);
int __real_shard_map_set(struct shard *shard, const uint8_t *bytes, size_t length, struct kho_now now);
int __wrap_shard_map_set(struct shard *shard, const uint8_t *bytes, size_t length, struct kho_now now);

#define WRAP(name, parameters, arguments)                                                          \
    void __real_##name parameters;                                                                 \
    void __wrap_##name parameters;                                                                 \
    void __wrap_##name parameters                                                                  \
    {                                                                                              \
        int before = failure_owner(owner_of(shard));                                               \
        __real_##name arguments;                                                                   \
        failure_owner(before);                                                                     \
    }
WRAP(shard_start, (struct shard *shard, const struct file_found *files, size_t count, struct kho_now now), (shard, files, count, now))
WRAP(shard_accepted, (struct shard *shard, int32_t conn, const struct wire_hello_client *hello, struct kho_now now), (shard, conn, hello, now))
WRAP(shard_received, (struct shard *shard, int32_t conn, const uint8_t *bytes, size_t len, struct kho_now now), (shard, conn, bytes, len, now))
WRAP(shard_disconnected, (struct shard *shard, int32_t conn, int error, struct kho_now now), (shard, conn, error, now))
WRAP(shard_completed, (struct shard *shard, struct op *op, struct kho_now now), (shard, op, now))
WRAP(shard_tick, (struct shard *shard, struct kho_now now), (shard, now))
WRAP(shard_turn_end, (struct shard *shard, struct kho_now now), (shard, now))
WRAP(shard_stop, (struct shard *shard, struct kho_now now), (shard, now))
WRAP(shard_map_spread, (struct shard *shard, uint64_t epoch, struct kho_now now), (shard, epoch, now))
/* clang-format on */

int __wrap_shard_create(const struct shard_options *options, struct shard **ret_shard)
{
    int of = node_of(&options->incarnation);
    int before = failure_owner(of);
    int rc = __real_shard_create(options, ret_shard);
    failure_owner(before);
    for (int i = 0; i < SHARDS && rc == 0; i++) {
        if (shards[i].shard != NULL)
            continue;
        shards[i].shard = *ret_shard;
        shards[i].owner = of;
        break;
    }
    return rc;
}

void __wrap_shard_destroy(struct shard *shard)
{
    for (int i = 0; i < SHARDS && shard != NULL; i++)
        if (shards[i].shard == shard)
            shards[i].shard = NULL;
    __real_shard_destroy(shard);
}

int __wrap_shard_map_set(struct shard *shard, const uint8_t *bytes, size_t length,
                         struct kho_now now)
{
    int before = failure_owner(owner_of(shard));
    int rc = __real_shard_map_set(shard, bytes, length, now);
    failure_owner(before);
    return rc;
}

/* --- Disks ------------------------------------------------------------------------------------ */

struct vdisk *__real_vdisk_create(struct sim *sim, const char *name, uint32_t alignment,
                                  vdisk_done done, void *owner);
struct vdisk *__wrap_vdisk_create(struct sim *sim, const char *name, uint32_t alignment,
                                  vdisk_done done, void *owner);
void __real_vdisk_submit(struct vdisk *disk, struct op *op);
void __wrap_vdisk_submit(struct vdisk *disk, struct op *op);

struct vdisk *__wrap_vdisk_create(struct sim *sim, const char *name, uint32_t alignment,
                                  vdisk_done done, void *owner)
{
    struct vdisk *disk = __real_vdisk_create(sim, name, alignment, done, owner);
    for (int i = 0; i < DISKS; i++) {
        if (disks[i].disk != NULL)
            continue;
        disks[i].disk = disk;
        disks[i].done = done;
        disks[i].arg = owner;
        return disk;
    }
    KHO_ASSERT(!"room for that disk");
}

void __wrap_vdisk_submit(struct vdisk *disk, struct op *op)
{
    /* The first disk is the first node's. What is late or short, and files that don't close, the
     * rig's disk does. */
    int at = 0;
    while (disks[at].disk != disk)
        at++;
    int before = failure_owner(at);
    int error = op->kind != OP_CLOSE_FILE ? failure_chance(FAILURE_DISK, op->kind) : 0;
    failure_owner(before);
    if (error >= 0) {
        __real_vdisk_submit(disk, op);
        return;
    }
    if (op->kind == OP_READ)
        vdisk_harm(disk);
    op->result = error;
    disks[at].done(disks[at].arg, op);
}

/* --- Connections ------------------------------------------------------------------------------ */

struct vnet *__real_vnet_create(struct sim *sim, const struct vnet_options *options,
                                const struct vnet_world *world, void *owner);
struct vnet *__wrap_vnet_create(struct sim *sim, const struct vnet_options *options,
                                const struct vnet_world *world, void *owner);
void __real_vnet_node_op(struct vnet *net, uint32_t node, struct op *op);
void __wrap_vnet_node_op(struct vnet *net, uint32_t node, struct op *op);
void __real_vnet_client_op(struct vnet *net, uint32_t client, struct client_op *op);
void __wrap_vnet_client_op(struct vnet *net, uint32_t client, struct client_op *op);

struct vnet *__wrap_vnet_create(struct sim *sim, const struct vnet_options *options,
                                const struct vnet_world *world, void *owner)
{
    net_world = world;
    net_owner = owner;
    return __real_vnet_create(sim, options, world, owner);
}

void __wrap_vnet_node_op(struct vnet *net, uint32_t node, struct op *op)
{
    int before = failure_owner((int)node);
    int error = failure_chance(FAILURE_NODE_NET, op->kind);
    failure_owner(before);
    if (error == 0) {
        __real_vnet_node_op(net, node, op);
        return;
    }
    op->result = error;
    net_world->node_completed(net_owner, node, op);
}

void __wrap_vnet_client_op(struct vnet *net, uint32_t client, struct client_op *op)
{
    int before = failure_owner((int)client);
    int error = failure_chance(FAILURE_CLIENT_NET, op->kind);
    failure_owner(before);
    KHO_ASSERT(op->conn >= 0 && op->conn < VNET_CONNS_MAX);
    bool *never = &refused[client][op->conn];
    if (error == 0 && (!*never || op->kind == CLIENT_OP_CONNECT)) {
        *never = false;
        __real_vnet_client_op(net, client, op);
        return;
    }
    /* The net doesn't know that handle; its close ends well all the same. */
    bool closes = error == 0 && op->kind == CLIENT_OP_CLOSE;
    op->result = error != 0 ? error : closes ? 0 : -EPIPE;
    *never = op->kind == CLIENT_OP_CONNECT || (*never && !closes);
    net_world->client_completed(net_owner, client, op);
}
