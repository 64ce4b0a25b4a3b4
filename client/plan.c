/* plan.c: owns the reading of what a person asked for when a cluster is made.
 *
 * Addresses, names and zones are lists of the same length, separated by commas; zeroed numbers get
 * their defaults. All that map_decode() would refuse later is refused here, with a sentence that
 * names the part at fault. */
#include "plan.h"

#include <errno.h>

struct plan_list {
    const char *at; /* the next item, or NULL after the last */
};

/* The next item of a comma-separated list. False: there is none. */
static bool plan_next(struct plan_list *list, const char **ret_item, size_t *ret_len)
{
    if (list->at == NULL)
        return false;
    const char *comma = strchr(list->at, ',');
    *ret_item = list->at;
    *ret_len = comma != NULL ? (size_t)(comma - list->at) : strlen(list->at);
    list->at = comma != NULL ? comma + 1 : NULL;
    return true;
}

static size_t plan_count(const char *text)
{
    size_t count = 1;
    for (; *text != '\0'; text++)
        count += *text == ',';
    return count;
}

static bool plan_text_valid(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] < 0x21 || text[i] > 0x7E)
            return false;
    return true;
}

static bool plan_name_valid(const char *text, size_t len)
{
    if (len < 1 || len > 32)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return true;
}

static int plan_port(const char *text, size_t len, uint16_t *ret_port)
{
    uint32_t port = 0;
    if (len < 1 || len > 5)
        return -EINVAL;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -EINVAL;
        port = port * 10 + (uint32_t)(text[i] - '0');
    }
    if (port < 1 || port > 65535)
        return -EINVAL;
    *ret_port = (uint16_t)port;
    return 0;
}

int plan_address(const char *text, size_t len, char ret_host[65], uint16_t *ret_port)
{
    size_t colon = len;
    while (colon > 0 && text[colon - 1] != ':')
        colon--;
    if (colon == 0)
        return -EINVAL;
    const char *host = text;
    size_t host_len = colon - 1;
    if (host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']') {
        host++;
        host_len -= 2;
    } else if (memchr(host, ':', host_len) != NULL) {
        return -EINVAL; /* an IPv6 address without brackets: its last group isn't a port */
    }
    if (host_len < 1 || host_len > 64 || !plan_text_valid(host, host_len))
        return -EINVAL;
    int rc = plan_port(text + colon, len - colon, ret_port);
    if (rc == 0) {
        memcpy(ret_host, host, host_len);
        ret_host[host_len] = '\0';
    }
    return rc;
}

static int plan_addresses(const char *text, struct plan *plan, char *message, size_t size)
{
    struct plan_list list = {text};
    const char *item;
    size_t len;
    for (uint32_t i = 0; plan_next(&list, &item, &len); i++) {
        struct map_node *node = &plan->nodes[i];
        if (plan_address(item, len, node->address, &node->port) != 0) {
            snprintf(message, size, "'%.*s' isn't HOST:PORT; write 10.1.2.3:7001 or [::1]:7001",
                     (int)kho_min(len, 80), item);
            return -EINVAL;
        }
        for (uint32_t j = 0; j < i; j++)
            if (plan->nodes[j].port == node->port &&
                strcmp(plan->nodes[j].address, node->address) == 0) {
                snprintf(message, size, "%s:%u is named twice; name each node once", node->address,
                         node->port);
                return -EINVAL;
            }
    }
    return 0;
}

static int plan_names(const char *text, struct plan *plan, char *message, size_t size)
{
    struct plan_list list = {text};
    const char *item = NULL;
    size_t len = 0;
    if (text != NULL && plan_count(text) != plan->node_count) {
        snprintf(message, size, "%zu names for %u nodes; give one a node", plan_count(text),
                 plan->node_count);
        return -EINVAL;
    }
    for (uint32_t i = 0; i < plan->node_count; i++) {
        char *name = plan->nodes[i].name;
        if (!plan_next(&list, &item, &len)) {
            /* a to z, then n26, n27, … */
            if (i < 26)
                snprintf(name, 33, "%c", (char)('a' + (int)i));
            else
                snprintf(name, 33, "n%u", i);
        } else if (plan_name_valid(item, len)) {
            memcpy(name, item, len);
            name[len] = '\0';
        } else {
            snprintf(message, size, "'%.*s' is no name of a node: 1 to 32 of a-z 0-9 -",
                     (int)kho_min(len, 80), item);
            return -EINVAL;
        }
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(plan->nodes[j].name, name) == 0) {
                snprintf(message, size, "two nodes are named '%s'; names are unique", name);
                return -EINVAL;
            }
    }
    return 0;
}

static int plan_zones(const char *text, struct plan *plan, char *message, size_t size)
{
    struct plan_list list = {text};
    const char *item;
    size_t len;
    if (text == NULL) {
        for (uint32_t i = 0; i < plan->node_count; i++)
            memcpy(plan->nodes[i].zone, plan->nodes[i].name, sizeof plan->nodes[i].zone);
        return 0;
    }
    if (plan_count(text) != plan->node_count) {
        snprintf(message, size, "%zu zones for %u nodes; give one a node", plan_count(text),
                 plan->node_count);
        return -EINVAL;
    }
    for (uint32_t i = 0; plan_next(&list, &item, &len); i++) {
        if (len > 32 || !plan_text_valid(item, len)) {
            snprintf(message, size, "'%.*s' is no zone: at most 32 printable ASCII characters",
                     (int)kho_min(len, 80), item);
            return -EINVAL;
        }
        memcpy(plan->nodes[i].zone, item, len);
        plan->nodes[i].zone[len] = '\0';
    }
    return 0;
}

/* The numbers, checked against each other; defaults for zeroes. */
static int plan_numbers(const struct kho_cluster_plan *from, struct plan *plan, char *message,
                        size_t size)
{
    uint32_t partitions = from->partitions != 0 ? from->partitions : KHO_PARTITIONS_DEFAULT;
    unsigned nodes = plan->node_count;
    unsigned r = from->replicas != 0 ? from->replicas : (nodes < 3 ? nodes : 3);
    unsigned w = from->write_quorum != 0 ? from->write_quorum : r / 2 + 1;
    /* W above R is reported below; until then Q only has to be computable. */
    unsigned q = from->read_quorum != 0 ? from->read_quorum : (w <= r ? r - w + 1 : 1);
    if (partitions > KHO_PARTITIONS_MAX || (partitions & (partitions - 1)) != 0) {
        snprintf(message, size, "%u partitions: must be a power of two up to %u", partitions,
                 KHO_PARTITIONS_MAX);
        return -EINVAL;
    }
    if (r > nodes || r > KHO_MAP_REPLICAS_MAX) {
        snprintf(message, size, "%u replicas: at most %u, and no more than the %u nodes", r,
                 KHO_MAP_REPLICAS_MAX, nodes);
        return -EINVAL;
    }
    if (w < 1 || w > r || q < 1 || q > r || w + q <= r) {
        snprintf(message, size,
                 "write quorum %u and read quorum %u: each 1 to %u, together more than %u", w, q, r,
                 r);
        return -EINVAL;
    }
    plan->partitions = partitions;
    plan->replicas = (uint8_t)r;
    plan->write_quorum = (uint8_t)w;
    plan->read_quorum = (uint8_t)q;
    struct map_parts parts = {
        .node_count = plan->node_count, .partitions = partitions, .width = plan->replicas};
    if (map_size(&parts) > KHO_MAP_SIZE_MAX) {
        snprintf(message, size, "a map of %u nodes and %u partitions has %zu bytes of at most %u",
                 nodes, partitions, map_size(&parts), KHO_MAP_SIZE_MAX);
        return KHO_ETOOLARGE;
    }
    return 0;
}

int plan_read(const struct kho_cluster_plan *from, struct plan *ret_plan, char *message,
              size_t message_size)
{
    struct plan plan = {0};
    if (from->addresses == NULL || from->addresses[0] == '\0') {
        snprintf(message, message_size, "no addresses; name the nodes as HOST:PORT,HOST:PORT");
        return -EINVAL;
    }
    size_t count = plan_count(from->addresses);
    if (count > KHO_MAP_NODES_MAX) {
        snprintf(message, message_size, "%zu nodes: at most %u", count, KHO_MAP_NODES_MAX);
        return -EINVAL;
    }
    plan.node_count = (uint16_t)count;
    plan.nodes = calloc(count, sizeof *plan.nodes);
    if (plan.nodes == NULL) {
        snprintf(message, message_size, "no memory for %zu nodes", count);
        return -ENOMEM;
    }
    int rc = plan_addresses(from->addresses, &plan, message, message_size);
    if (rc == 0)
        rc = plan_names(from->names, &plan, message, message_size);
    if (rc == 0)
        rc = plan_zones(from->zones, &plan, message, message_size);
    if (rc == 0)
        rc = plan_numbers(from, &plan, message, message_size);
    if (rc != 0) {
        plan_fini(&plan);
        return rc;
    }
    for (uint32_t i = 0; i < plan.node_count; i++) {
        plan.nodes[i].weight = 100;
        plan.nodes[i].state = MAP_NODE_UP;
        plan.nodes[i].since = 1;
    }
    *ret_plan = plan;
    return 0;
}

void plan_fini(struct plan *plan)
{
    free(plan->nodes);
    plan->nodes = NULL;
}
