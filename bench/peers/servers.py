"""The servers of the compared systems on loopback, in folders of their own: started, waited for until
they serve, and ended by their process numbers. Whatever happens, what was started here is ended."""

import atexit
import ctypes
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request

READY_SECONDS = 30
_running = []


def _dies_with_us():
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def start(argv, log):
    """Starts a server, which ends when this process does."""
    with open(log, "ab") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                   preexec_fn=_dies_with_us, start_new_session=True)
    _running.append(process)
    return process


def stop(processes):
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _running.remove(process)


atexit.register(lambda: stop(list(_running)))


def free_ports(count):
    """Ports of loopback that nobody listens on. Held together, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until(ready, what, processes):
    """Asks until `ready` answers something; its answer."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        for process in processes:
            if process.poll() is not None:
                raise RuntimeError("%s: a server ended with code %s" % (what, process.returncode))
        try:
            answer = ready()
            if answer:
                return answer
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    raise RuntimeError("%s: not ready within %d s" % (what, READY_SECONDS))


def written_bytes(folder):
    """Bytes of files below `folder` that were written; what is only set aside for them is a hole."""
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(at, name), "rb") as file:
                total += _written_in(file.fileno())
    return total


def _written_in(fd):
    total, at = 0, 0
    while True:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return total
        at = os.lseek(fd, begin, os.SEEK_HOLE)
        total += at - begin


# --- Redis ----------------------------------------------------------------------------------------


def _redis_ask(port, command):
    with socket.create_connection(("127.0.0.1", port), timeout=2) as one:
        one.sendall(command.encode() + b"\r\n")
        head = b""
        while b"\r\n" not in head:
            head += one.recv(65536) or b"\r\n"
        line, _, body = head.partition(b"\r\n")
        length = int(line[1:]) if line[:1] == b"$" else 0
        while len(body) < length:
            more = one.recv(65536)
            if not more:
                raise OSError("hung up")
            body += more
        return body.decode()


class Redis:
    """A primary and two replicas, each of which flushes its log before it answers."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []
        ports = free_ports(3)
        self.at = "127.0.0.1:%d" % ports[0]
        for i, port in enumerate(ports):
            home = os.path.join(folder, "redis%d" % i)
            os.makedirs(home)
            argv = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", home,
                    "--appendonly", "yes", "--appendfsync", "always", "--save", "",
                    "--auto-aof-rewrite-percentage", "0", "--repl-diskless-sync-delay", "0"]
            if i > 0:
                argv += ["--replicaof", "127.0.0.1", str(ports[0])]
            self.processes.append(start(argv, os.path.join(folder, "log")))
        wait_until(lambda: _redis_ask(ports[0], "INFO replication").count("state=online") == 2,
                   "redis", self.processes)

    def close(self):
        stop(self.processes)


# --- etcd -----------------------------------------------------------------------------------------


def _etcd_status(port):
    request = urllib.request.Request("http://127.0.0.1:%d/v3/maintenance/status" % port, b"{}")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=2) as it:
        return json.load(it)


class Etcd:
    """Three members; `at` is the leader."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []
        ports = free_ports(6)
        clients, peers = ports[:3], ports[3:]
        cluster = ",".join("m%d=http://127.0.0.1:%d" % (i, peers[i]) for i in range(3))
        for i in range(3):
            client, peer = ("http://127.0.0.1:%d" % ports[i] for ports in (clients, peers))
            argv = ["etcd", "--name", "m%d" % i, "--data-dir", os.path.join(folder, "etcd%d" % i),
                    "--listen-client-urls", client, "--advertise-client-urls", client,
                    "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                    "--initial-cluster", cluster, "--initial-cluster-state", "new",
                    "--initial-cluster-token", "kho-%d" % peers[0],
                    "--quota-backend-bytes", str(8 << 30), "--logger", "zap",
                    "--log-level", "error"]
            self.processes.append(start(argv, os.path.join(folder, "log")))
        self.at = wait_until(lambda: self._leader(clients), "etcd", self.processes)

    @staticmethod
    def _leader(ports):
        """The leader's address, once all three members name the same one."""
        found, leaders = None, set()
        for port in ports:
            status = _etcd_status(port)
            leader = status.get("leader", "0")
            leaders.add(leader)
            if status["header"]["member_id"] == leader:
                found = "127.0.0.1:%d" % port
        return found if len(leaders) == 1 else None

    def close(self):
        stop(self.processes)


class Library:
    """A system that lives in its generator: only a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []
        self.at = os.path.join(folder, "db")

    def close(self):
        pass
