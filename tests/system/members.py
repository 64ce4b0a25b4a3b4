"""Nodes that make a cluster, each started as the test wants it: with a prefix (a namespace), an
environment, options; and what was done to them, counted."""

import os
import re
import signal
import socket
import subprocess
import time

from harness import KHO, NODE, check, fail, path, run, wait_for
import harness


def free_ports(count):
    """Ports that nobody has now; the test has a network of its own where that is allowed."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Member(harness.Node):
    """One node at a fixed address. It ends with the test, as all that harness starts."""

    def __init__(self, name, address, prefix=(), environment=None, options=(), data=None, shards=1):
        self.name, self.address, self.prefix = name, address, list(prefix)
        super().__init__(name, *options, init=False, environment=environment)
        self.data = data or self.data
        self.shards = shards
        self.make()

    def make(self):
        """A data folder, new."""
        run(NODE, "init", self.data, "--segment-size", "32M", "--shards", str(self.shards))

    def start(self, serving=True):
        begun = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, NODE, "run", self.data, "--listen", self.address, *self.options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment)
        self.begun = begun
        if serving:
            self.wait_serving()
        return self

    def wait_serving(self, within=60):
        end = time.monotonic() + within
        while time.monotonic() < end:
            with open(self.log_path, "rb") as log:
                log.seek(self.begun)
                if b"serving on " in log.read():
                    return
            check(self.process.poll() is None, "node %s serves" % self.name)
            time.sleep(0.003)
        fail("node %s doesn't serve within %d s" % (self.name, within))

    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.signal(signal.SIGTERM)
        check(self.wait() == 0, "node %s leaves in order" % self.name)

    def end(self):
        if self.running():
            self.process.send_signal(signal.SIGCONT)
        super().end()

    def segments(self):
        found = []
        for folder, _, files in os.walk(self.data):
            found += [os.path.join(folder, file) for file in files
                      if re.fullmatch(r"segment-[0-9a-f]{16}", file)]
        return sorted(found)


class Members:
    """A cluster of them with one collection."""

    def __init__(self, members, collection="records", prefix=()):
        self.members = members
        self.prefix = list(prefix)
        self.cluster = ",".join(member.address for member in members)
        for member in members:
            member.start()
        run(*self.prefix, KHO, "cluster", "init", "--names",
            ",".join(member.name for member in members), "--map", path("map"),
            *[member.address for member in members])
        self.kho("collection", "create", collection)

    def __iter__(self):
        return iter(self.members)

    def kho(self, *words, **options):
        return run(*self.prefix, KHO, "--cluster", self.cluster, *words, **options)

    def status(self, expect=None):
        return {node["name"]: node
                for node in self.kho("status", "--json", expect=expect).json()["nodes"]}

    def repair(self):
        """Until it is done: what clients still hold back for nodes may be in its way."""
        wait_for("a repair", lambda: self.kho("repair", expect=None, within=120).code == 0, 120)
        self.kho("verify", within=60)
        self.kho("status", expect=0)


def loopback(names="abc", **options):
    """A cluster on loopback."""
    ports = free_ports(len(names))
    return Members([Member(name, "127.0.0.1:%d" % port, **options)
                    for name, port in zip(names, ports)])
