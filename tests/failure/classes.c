/* classes.c: each kind of op with each way in which it can end badly; and the heaps. */
#include "classes.h"

#include "client/op.h"
#include "node/op.h"

#include <errno.h>

struct way {
    const char *name;
    int error;
};

static void add(struct failure_class *classes, uint32_t *count, enum failure_point point,
                uint8_t kind, const char *name, const struct way *way)
{
    KHO_ASSERT(*count < CLASSES_MAX);
    struct failure_class *class = &classes[(*count)++];
    *class = (struct failure_class){.point = point, .kind = kind, .error = way->error};
    snprintf(class->name, sizeof class->name, "%s.%s", name, way->name);
}

uint32_t classes_all(struct failure_class *ret)
{
    static const struct way none = {"allocation", -ENOMEM};
    static const struct way disk[] = {{"EIO", -EIO},
                                      {"ENOSPC", -ENOSPC},
                                      {"ECANCELED", -ECANCELED},
                                      {"late", FAILURE_LATE},
                                      {"short", FAILURE_SHORT}};
    static const struct way sends[] = {{"ECONNRESET", -ECONNRESET}, {"EPIPE", -EPIPE}};
    static const struct way connects[] = {{"ECONNREFUSED", -ECONNREFUSED},
                                          {"ETIMEDOUT", -ETIMEDOUT}};
    static const struct {
        const char *name;
        uint8_t kind;
        bool shorten;
    } ops[] = {{"open", OP_OPEN, false},     {"allocate", OP_ALLOCATE, false},
               {"read", OP_READ, true},      {"write", OP_WRITE, true},
               {"sync", OP_SYNC, false},     {"rename", OP_RENAME, false},
               {"unlink", OP_UNLINK, false}, {"sync-folder", OP_SYNC_FOLDER, false},
               {"space", OP_SPACE, false},   {"close", OP_CLOSE_FILE, false}};
    uint32_t count = 0;
    add(ret, &count, FAILURE_NODE_HEAP, 0, "node", &none);
    add(ret, &count, FAILURE_CLIENT_HEAP, 0, "client", &none);
    for (size_t i = 0; i < KHO_COUNT_OF(ops); i++)
        for (size_t k = 0; k < KHO_COUNT_OF(disk); k++)
            if (disk[k].error != FAILURE_SHORT || ops[i].shorten)
                add(ret, &count, disk[k].error == FAILURE_LATE ? FAILURE_LATENESS : FAILURE_DISK,
                    ops[i].kind, ops[i].name, &disk[k]);
    for (size_t k = 0; k < KHO_COUNT_OF(sends); k++)
        add(ret, &count, FAILURE_NODE_NET, OP_SEND, "node-send", &sends[k]);
    for (size_t k = 0; k < KHO_COUNT_OF(sends); k++)
        add(ret, &count, FAILURE_CLIENT_NET, CLIENT_OP_SEND, "client-send", &sends[k]);
    for (size_t k = 0; k < KHO_COUNT_OF(connects); k++)
        add(ret, &count, FAILURE_CLIENT_NET, CLIENT_OP_CONNECT, "client-connect", &connects[k]);
    return count;
}
