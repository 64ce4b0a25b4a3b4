/* listen.c: the node's listening socket.
 *
 * It is bound before recovery, so that a port in use is said soon, and listens only once the
 * shard serves: until then a client's connect is refused at once and it tries elsewhere, rather
 * than waiting in a queue that nobody empties. */
#include "listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

bool listen_split(const char *text, char *ret_host, size_t host_size, char *ret_port,
                  size_t port_size)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL)
        return false;
    const char *host = text;
    size_t host_len = (size_t)(colon - text);
    if (host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']') {
        host++;
        host_len -= 2;
    } else if (memchr(host, ':', host_len) != NULL) {
        return false; /* an IPv6 address without brackets: where does it end? */
    }
    char *end;
    size_t port_len = strlen(colon + 1);
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (host_len == 0 || host_len >= host_size || port_len == 0 || port_len >= port_size ||
        port_len > 5 || *end != '\0' || colon[1] < '0' || colon[1] > '9' || port > 65535)
        return false;
    memcpy(ret_host, host, host_len);
    ret_host[host_len] = '\0';
    memcpy(ret_port, colon + 1, port_len + 1);
    return true;
}

static bool address_is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        return ntohl(in.sin_addr.s_addr) >> 24 == 127;
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof in6);
        return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
    }
    return false;
}

static int socket_bind(const struct addrinfo *info)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int one = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, info->ai_addr, info->ai_addrlen) != 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

/* The kernel takes a ring apart some time after its process was killed, and with it the listening
 * socket that the ring holds: a node that is started again at once finds its own port taken. */
static int socket_bind_patiently(const struct addrinfo *info)
{
    enum { TRIES = 150, PAUSE_MS = 20 };
    int fd = socket_bind(info);
    for (int i = 0; fd == -EADDRINUSE && i < TRIES; i++) {
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
        fd = socket_bind(info);
    }
    return fd;
}

static int socket_address(int fd, char *ret, size_t size)
{
    struct sockaddr_storage storage;
    socklen_t len = sizeof storage;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getsockname(fd, (struct sockaddr *)&storage, &len) != 0)
        return -errno;
    if (getnameinfo((struct sockaddr *)&storage, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return -EINVAL;
    bool six = strchr(host, ':') != NULL;
    snprintf(ret, size, six ? "[%s]:%s" : "%s:%s", host, port);
    return 0;
}

int listen_bind(const char *text, bool insecure, char *ret_address, size_t address_size,
                char *error, size_t error_size)
{
    char host[256], port[8];
    if (!listen_split(text, host, sizeof host, port, sizeof port)) {
        snprintf(error, error_size, "--listen %s: expected HOST:PORT or [IPV6]:PORT", text);
        return -2;
    }
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int code = getaddrinfo(host, port, &hints, &found);
    if (code != 0) {
        snprintf(error, error_size, "--listen %s: %s", text, gai_strerror(code));
        return -1;
    }
    int fd = -1;
    if (!address_is_loopback(found->ai_addr) && !insecure) {
        snprintf(error, error_size,
                 "--listen %s is reachable from other machines, and this version has no TLS: "
                 "listen on 127.0.0.1, or accept that anyone on the network can read and write "
                 "with --insecure",
                 text);
        fd = -2;
        goto out;
    }
    fd = socket_bind_patiently(found);
    if (fd < 0) {
        snprintf(error, error_size, "--listen %s: %s%s", text, strerror(-fd),
                 fd == -EADDRINUSE      ? "; stop what listens there or choose another port"
                 : fd == -EADDRNOTAVAIL ? "; no interface of this machine has that address"
                                        : "");
        fd = -1;
        goto out;
    }
    code = socket_address(fd, ret_address, address_size);
    if (code != 0) {
        snprintf(error, error_size, "--listen %s: %s", text, strerror(-code));
        close(fd);
        fd = -1;
    }
out:
    freeaddrinfo(found);
    return fd;
}

int listen_start(int fd)
{
    return listen(fd, SOMAXCONN) == 0 ? 0 : -errno;
}
