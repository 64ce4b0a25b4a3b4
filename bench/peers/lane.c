/* lane.c: epoll with level-triggered reading; writing is asked for only where the socket was full.
 * A server that hangs up ends the program. */
#include "lane.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_ROOM = 1 << 16, EVENTS = 64 };

static int connect_to(const struct peer *peer)
{
    char host[256];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int one = 1;
    const char *colon = strrchr(peer->at, ':');
    if (colon == NULL || (size_t)(colon - peer->at) >= sizeof host)
        peer_die(peer, "--at wants HOST:PORT");
    memcpy(host, peer->at, (size_t)(colon - peer->at));
    host[colon - peer->at] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        peer_die(peer, "no such address");
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        peer_die(peer, strerror(errno));
    freeaddrinfo(found);
    return fd;
}

void lane_open(struct lane *lane, struct peer *peer, void *owner)
{
    *lane =
        (struct lane){.peer = peer, .fd = connect_to(peer), .in_room = READ_ROOM, .owner = owner};
    lane->in = peer_alloc(peer, 1, lane->in_room);
}

void lane_close(struct lane *lane)
{
    close(lane->fd);
    free(lane->in);
    free(lane->out);
}

static char *grow(const struct peer *peer, char *bytes, size_t room)
{
    char *grown = realloc(bytes, room);
    if (grown == NULL)
        peer_die(peer, "no memory");
    return grown;
}

char *lane_room(struct lane *lane, size_t len)
{
    if (lane->out_room - lane->out_len < len) {
        lane->out_room = 2 * lane->out_room + len;
        lane->out = grow(lane->peer, lane->out, lane->out_room);
    }
    return lane->out + lane->out_len;
}

void lane_put(struct lane *lane, const void *bytes, size_t len)
{
    memcpy(lane_room(lane, len), bytes, len);
    lane->out_len += len;
}

static void lane_flush(struct lane *lane)
{
    size_t sent = 0;
    while (sent < lane->out_len && !lane->blocked) {
        ssize_t n = send(lane->fd, lane->out + sent, lane->out_len - sent, MSG_NOSIGNAL);
        if (n >= 0)
            sent += (size_t)n;
        else if (errno == EAGAIN)
            lane->blocked = true;
        else if (errno != EINTR)
            peer_die(lane->peer, strerror(errno));
    }
    if (sent > 0)
        memmove(lane->out, lane->out + sent, lane->out_len - sent);
    lane->out_len -= sent;
}

static void lane_receive(struct lane *lane, size_t (*take)(struct lane *lane))
{
    if (lane->in_len == lane->in_room) {
        lane->in_room *= 2;
        lane->in = grow(lane->peer, lane->in, lane->in_room);
    }
    ssize_t n = recv(lane->fd, lane->in + lane->in_len, lane->in_room - lane->in_len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        peer_die(lane->peer, n == 0 ? "the server has hung up" : strerror(errno));
    lane->in_len += (size_t)n;
    size_t taken = take(lane);
    memmove(lane->in, lane->in + taken, lane->in_len - taken);
    lane->in_len -= taken;
}

static void lane_watch(int epoll, struct lane *lane, int how)
{
    struct epoll_event event = {.events = EPOLLIN | (lane->blocked ? EPOLLOUT : 0),
                                .data.ptr = lane};
    if (epoll_ctl(epoll, how, lane->fd, &event) != 0)
        peer_die(lane->peer, strerror(errno));
}

static void lane_serve(int epoll, struct lane *lane, uint32_t events,
                       size_t (*take)(struct lane *lane))
{
    bool blocked = lane->blocked;
    if ((events & EPOLLOUT) != 0)
        lane->blocked = false;
    if ((events & ~(uint32_t)EPOLLOUT) != 0)
        lane_receive(lane, take);
    lane_flush(lane);
    if (lane->blocked != blocked)
        lane_watch(epoll, lane, EPOLL_CTL_MOD);
}

void lanes_run(struct lane *lanes, size_t count, size_t (*take)(struct lane *lane),
               bool (*busy)(const void *owner))
{
    struct epoll_event events[EVENTS];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < count; i++) {
        lane_flush(&lanes[i]);
        lane_watch(epoll, &lanes[i], EPOLL_CTL_ADD);
    }
    while (busy(lanes[0].owner)) {
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++)
            lane_serve(epoll, events[i].data.ptr, events[i].events, take);
    }
    close(epoll);
}
