/* trouble_disk.c: damage, and disks that lie; those of weak nodes only. */
#include "workload.h"

#include "damage.h"

bool node_weak(const struct workload *w, const struct node *node)
{
    return (int32_t)node->index == w->weak || (int32_t)node->index == w->weaker;
}

void disk_heal(struct node *node)
{
    for (uint32_t i = 0; i < node->shard_count; i++) {
        struct vdisk_faults *faults = vdisk_faults(node->shards[i].disk);
        faults->read_error = faults->write_error = faults->sync_error = faults->garbage = 0;
        faults->lost_write = faults->misdirected_write = faults->misdirected_read = 0;
        faults->slow = 0;
        faults->full = false;
        faults->space_max = 1ull << 40;
    }
}

/* Rates end after a while. */
static void lies_end(void *owner, uint64_t index)
{
    struct workload *w = owner;
    struct node *node = &w->cluster->nodes[index];
    for (uint32_t i = 0; i < node->shard_count; i++) {
        struct vdisk_faults *faults = vdisk_faults(node->shards[i].disk);
        faults->lost_write = faults->misdirected_write = faults->misdirected_read = 0;
        faults->read_error = 0;
    }
}

void trouble_disk(struct trouble *t)
{
    struct workload *w = t->workload;
    struct node *node = &w->cluster->nodes[w->weak];
    if (w->weaker >= 0 && dice_below(&t->dice, 2) == 0)
        node = &w->cluster->nodes[w->weaker];
    /* Where two are damaged, the end of a log isn't: what is dropped there is for others to know.
     */
    bool sealed = w->weaker >= 0;
    struct vdisk *disk = node->shards[dice_below(&t->dice, node->shard_count)].disk;
    struct vdisk_faults *faults = vdisk_faults(disk);
    uint32_t rate = (uint32_t)dice_between(&t->dice, 10000, 300000);
    if (node->cloned || w->swapped[0] >= 0)
        return;
    switch (t->fault) {
    case SIM_FAULT_flip:
        if (sealed)
            damage_flip_sealed(w->sim, disk);
        else
            damage_flip(w->sim, disk);
        return;
    case SIM_FAULT_latent:
        damage_spoil(w->sim, disk, sealed);
        return;
    case SIM_FAULT_lost_write:
        faults->lost_write = rate;
        break;
    case SIM_FAULT_misdirected_write:
        faults->misdirected_write = rate;
        break;
    case SIM_FAULT_misdirected_read:
        if (!node_serving(node))
            return; /* what is read at a start decides where the log ends */
        faults->misdirected_read = rate;
        break;
    default:
        KHO_ASSERT(t->fault == SIM_FAULT_read_error);
        if (!node_serving(node))
            return;
        faults->read_error = rate;
    }
    sim_trace(w->sim, "fault: the disk of %s lies (%s)", node->name, sim_fault_name(t->fault));
    sim_after(w->sim, dice_between(&t->dice, SIM_MS, 2 * SIM_S), lies_end, w, node->index);
}
