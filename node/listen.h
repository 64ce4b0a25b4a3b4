/* listen.h: the node's listening socket, from "HOST:PORT" to a bound descriptor. */
#ifndef KHO_NODE_LISTEN_H
#define KHO_NODE_LISTEN_H

#include <kho/base.h>

enum { LISTEN_TEXT_MAX = 300 };

/* Splits "HOST:PORT" or "[IPV6]:PORT"; false: it is neither, or the port is above 65,535. */
bool listen_split(const char *text, char *ret_host, size_t host_size, char *ret_port,
                  size_t port_size);
/* Resolves and binds `text`; listen_start() makes it reachable. Beyond loopback only with
 * `insecure`, since there is no TLS yet. Returns the descriptor and the address with the port that
 * was chosen, or with the cause and the remedy in `error` -1, or -2: the option itself must change.
 */
int listen_bind(const char *text, bool insecure, char *ret_address, size_t address_size,
                char *error, size_t error_size);
/* 0 or -errno. */
int listen_start(int fd);

#endif
