/* rig_world.c: between the rig of a store and its disk in memory: ops that fail.
 *
 * A file that doesn't close is gone all the same, as close(2) has it. A short read or write was
 * done as far as it says. Late ops are held back by the story (rig's hook). */
#include "failure.h"

#include "tests/lib/memory_disk.h"

void __real_memory_disk_execute(struct memory_disk *disk, struct op *op);
void __wrap_memory_disk_execute(struct memory_disk *disk, struct op *op);

void __wrap_memory_disk_execute(struct memory_disk *disk, struct op *op)
{
    int error = failure_chance(FAILURE_DISK, op->kind);
    if (error == 0 || op->kind == OP_CLOSE_FILE)
        __real_memory_disk_execute(disk, op);
    if (error == FAILURE_SHORT) {
        uint32_t len = op->len;
        op->len = len / 2;
        __real_memory_disk_execute(disk, op);
        op->len = len;
    } else if (error != 0) {
        op->result = error;
    }
}
