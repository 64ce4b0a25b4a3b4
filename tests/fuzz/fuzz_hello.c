/* Does a HELLO, from a client or from a node, decode to what it says or to an error? Its hash is
 * mended, so that what lies behind it is reached. */
#include "fuzz.h"

#include <kho/wire.h>

static void from_client(uint8_t *hello)
{
    struct wire_hello_client client, again;
    uint8_t bytes[KHO_HELLO_CLIENT_SIZE];
    if (wire_hello_client_decode(hello, &client) != 0)
        return;
    KHO_ASSERT(client.protocol_min <= KHO_PROTOCOL && client.protocol_max >= KHO_PROTOCOL);
    wire_hello_client_encode(&client, bytes);
    KHO_ASSERT(wire_hello_client_decode(bytes, &again) == 0);
    KHO_ASSERT(again.shard == client.shard && again.epoch == client.epoch &&
               kho_id_equal(&again.cluster, &client.cluster));
}

static void from_node(uint8_t *hello)
{
    struct wire_hello_node node, again;
    uint8_t bytes[KHO_HELLO_NODE_SIZE];
    if (wire_hello_node_decode(hello, &node) != 0)
        return;
    KHO_ASSERT(node.status != 0 || node.protocol == KHO_PROTOCOL);
    wire_hello_node_encode(&node, bytes);
    KHO_ASSERT(wire_hello_node_decode(bytes, &again) == 0);
    KHO_ASSERT(again.status == node.status && again.durable == node.durable &&
               again.flags == node.flags && kho_id_equal(&again.boot, &node.boot));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len >= KHO_HELLO_CLIENT_SIZE) {
        uint8_t *hello = fuzz_copy(bytes, KHO_HELLO_CLIENT_SIZE);
        from_client(hello);
        kho_store64(hello + 56, XXH3_64bits(hello, 56));
        from_client(hello);
        free(hello);
    }
    if (len >= KHO_HELLO_NODE_SIZE) {
        uint8_t *hello = fuzz_copy(bytes, KHO_HELLO_NODE_SIZE);
        from_node(hello);
        kho_store64(hello + 120, XXH3_64bits(hello, 120));
        from_node(hello);
        free(hello);
    }
    return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    struct wire_hello_client client = {
        .protocol_min = 1, .protocol_max = 1, .shard = 2, .epoch = 3};
    struct wire_hello_node node = {.protocol = 1, .shard_count = 2, .durable = 7};
    if (n > 2 || max < KHO_HELLO_NODE_SIZE)
        return 0;
    if (n == 0) {
        wire_hello_client_encode(&client, to);
        return KHO_HELLO_CLIENT_SIZE;
    }
    node.status = n == 2 ? KHO_ESHARD : 0;
    wire_hello_node_encode(&node, to);
    return KHO_HELLO_NODE_SIZE;
}
