/* clients.c: forks, without exec. A client dies with its parent, and a pipe tells the
 * parent of a client that is prepared; whether one has ended too early is looked at meanwhile. */
#include "clients.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOOK_MS = 100 };

static size_t shared_bytes(const struct clients *clients)
{
    return sizeof *clients->window + clients->count * sizeof *clients->shares;
}

static int shared_make(struct clients *clients)
{
    void *memory = mmap(NULL, shared_bytes(clients), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    clients->window = memory;
    clients->shares = (void *)(clients->window + 1);
    if (pipe(clients->ready) != 0 || pipe(clients->go) != 0)
        return -errno;
    return 0;
}

static void end_close(int *end)
{
    if (*end > 0)
        close(*end);
    *end = 0;
}

int clients_start(struct clients *clients, size_t count,
                  int (*work)(struct clients *clients, size_t index, void *arg), void *arg)
{
    pid_t parent = getpid();
    *clients = (struct clients){.count = count};
    int error = shared_make(clients);
    for (size_t i = 0; error == 0 && i < count; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            end_close(&clients->ready[0]);
            end_close(&clients->go[1]);
            _exit(getppid() == parent ? work(clients, i, arg) : 1);
        }
        if (pid < 0)
            error = -errno;
        else
            clients->pids[i] = pid;
    }
    end_close(&clients->ready[1]);
    end_close(&clients->go[0]);
    if (error != 0)
        clients_stop(clients);
    return error;
}

int clients_wait_go(struct clients *clients)
{
    char byte = 1;
    return write(clients->ready[1], &byte, 1) == 1 && read(clients->go[0], &byte, 1) == 1 ? 0 : -1;
}

static bool one_has_ended(const struct clients *clients)
{
    for (size_t i = 0; i < clients->count; i++) {
        siginfo_t info = {.si_pid = 0};
        if (waitid(P_PID, (id_t)clients->pids[i], &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
            info.si_pid != 0)
            return true;
    }
    return false;
}

int clients_wait_ready(struct clients *clients)
{
    for (size_t ready = 0; ready < clients->count;) {
        struct pollfd end = {.fd = clients->ready[0], .events = POLLIN};
        char bytes[CLIENTS_MAX];
        int n = poll(&end, 1, LOOK_MS);
        if (n < 0)
            return -1;
        if (n > 0) {
            ssize_t got = read(clients->ready[0], bytes, sizeof bytes);
            if (got <= 0)
                return -1;
            ready += (size_t)got;
        } else if (one_has_ended(clients)) {
            return -1;
        }
    }
    return 0;
}

void clients_go(struct clients *clients, struct load_window window)
{
    char byte = 1;
    *clients->window = window;
    for (size_t i = 0; i < clients->count; i++)
        if (write(clients->go[1], &byte, 1) != 1)
            return; /* whoever gets no word has ended already, or ends with the pipe */
}

size_t clients_wait(struct clients *clients)
{
    size_t failed = 0;
    for (size_t i = 0; i < clients->count; i++) {
        int status = -1;
        while (clients->pids[i] > 0 && waitpid(clients->pids[i], &status, 0) < 0 && errno == EINTR)
            continue;
        failed += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
        clients->pids[i] = 0;
    }
    return failed;
}

void clients_stop(struct clients *clients)
{
    for (size_t i = 0; i < clients->count; i++)
        if (clients->pids[i] > 0) {
            kill(clients->pids[i], SIGKILL);
            waitpid(clients->pids[i], NULL, 0);
        }
    for (size_t i = 0; i < 2; i++) {
        end_close(&clients->ready[i]);
        end_close(&clients->go[i]);
    }
    if (clients->window != NULL)
        munmap(clients->window, shared_bytes(clients));
    *clients = (struct clients){.count = 0};
}
