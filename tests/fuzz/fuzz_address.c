/* Are addresses, names and zones as a person writes them (kho cluster init, --cluster, --listen)
 * read alike at all places, to what a map allows, or refused with a sentence? Input: addresses,
 * names and zones, a line each. */
#include "fuzz.h"

#include <errno.h>

#include "client/client.h"
#include "client/plan.h"
#include "node/listen.h"

enum { LINES = 3 };

static void address_look(const char *text)
{
    char host[65], other[256], port_text[8], again[80];
    uint16_t port, port_again;
    if (plan_address(text, strlen(text), host, &port) != 0)
        return;
    KHO_ASSERT(port > 0 && host[0] != '\0');
    KHO_ASSERT(memchr(host, 0, sizeof host) != NULL);
    /* What a client takes, a node can listen on. */
    KHO_ASSERT(listen_split(text, other, sizeof other, port_text, sizeof port_text));
    KHO_ASSERT(strcmp(host, other) == 0 && strtoul(port_text, NULL, 10) == port);
    snprintf(again, sizeof again, strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, port);
    KHO_ASSERT(plan_address(again, strlen(again), other, &port_again) == 0);
    KHO_ASSERT(port_again == port && strcmp(host, other) == 0);
}

static void plan_look(const char *const lines[LINES], const struct kho_cluster_plan *from)
{
    char message[256] = "";
    struct plan plan = {0};
    int status = plan_read(from, &plan, message, sizeof message);
    KHO_ASSERT(memchr(message, 0, sizeof message) != NULL);
    if (status != 0) {
        KHO_ASSERT(message[0] != '\0' || status == -ENOMEM);
        return;
    }
    KHO_ASSERT(lines[0] != NULL && plan.node_count >= 1);
    KHO_ASSERT(plan.replicas >= 1 && plan.replicas <= plan.node_count);
    KHO_ASSERT(plan.write_quorum + plan.read_quorum > plan.replicas);
    for (uint32_t i = 0; i < plan.node_count; i++) {
        KHO_ASSERT(plan.nodes[i].name[0] != '\0' && plan.nodes[i].port != 0);
        for (uint32_t k = 0; k < i; k++)
            KHO_ASSERT(strcmp(plan.nodes[i].name, plan.nodes[k].name) != 0);
    }
    plan_fini(&plan);
}

static void client_look(const char *addresses)
{
    struct kho_now now = {.mono_ns = 1000000000, .wall_ms = 1700000000000};
    struct kho_options options = {.struct_size = sizeof options, .cluster = addresses};
    struct client *client = NULL;
    if (client_create(&options, 1, now, &client) == 0)
        client_destroy(client);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    char *text = malloc(len + 1), *at = text;
    const char *lines[LINES] = {NULL};
    KHO_ASSERT(text != NULL);
    memcpy(text, bytes, len);
    text[len] = '\0';
    for (int i = 0; i < LINES && at != NULL; i++) {
        char *end = strchr(at, '\n');
        if (end != NULL)
            *end = '\0';
        lines[i] = at[0] != '\0' || i == 0 ? at : NULL;
        at = end != NULL ? end + 1 : NULL;
    }
    struct kho_cluster_plan plan = {.struct_size = sizeof plan,
                                    .addresses = lines[0],
                                    .names = lines[1],
                                    .zones = lines[2],
                                    .partitions = len % 7 == 0 ? 16 : 0,
                                    .replicas = (unsigned)(len % 4)};
    address_look(lines[0]);
    plan_look(lines, &plan);
    client_look(lines[0]);
    free(text);
    return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    static const char *const seeds[] = {
        "localhost:7700",
        "[::1]:7700,127.0.0.1:1,host-3.example:65535\na,b,c\nx,y,z",
        "a:1,b:2,c:3,d:4,e:5\n\nhanoi,hanoi,hue,hue,saigon",
        "a:1,a:2\nn-1,n-2",
    };
    if (n >= KHO_COUNT_OF(seeds) || strlen(seeds[n]) > max)
        return 0;
    memcpy(to, seeds[n], strlen(seeds[n]));
    return strlen(seeds[n]);
}
