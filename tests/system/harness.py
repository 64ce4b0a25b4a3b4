"""What the system tests share: a folder on a real disk, processes with a bound on their time, nodes
and local clusters that are gone afterwards whatever happens.

Only processes started here are signalled, by their number. A test is a script that takes the folder
of the built programs, calls check() and ends through done(); the first failure ends it with the
logs of the nodes.
"""

import atexit
import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import types

if len(sys.argv) < 2 or not os.access(os.path.join(sys.argv[1], "kho-node"), os.X_OK):
    sys.exit("usage: %s BIN [--NAME VALUE…], BIN the folder with the built programs kho and "
             "kho-node; a test that has options says so" % sys.argv[0])

BIN = os.path.abspath(sys.argv[1])
KHO = os.path.join(BIN, "kho")
NODE = os.path.join(BIN, "kho-node")

FOLDER = tempfile.mkdtemp(prefix="kho-test-", dir=os.environ.get("KHO_TEST_DIR", "/var/tmp"))
_nodes = []
_clusters = []
cleanups = []  # called at the end, once nothing runs any more


def _clean():
    for cluster in _clusters:
        cluster.end()
    for node in _nodes:
        node.end()
    for cleanup in reversed(cleanups):
        cleanup()
    shutil.rmtree(FOLDER, ignore_errors=True)


atexit.register(_clean)
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))


def _own_network():
    """A network of its own for this test and all it starts, so that ports of other programs on the
    machine are no matter. Where that isn't allowed (no root) the machine's loopback has to do."""
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newnet = 0x40000000
    if libc.unshare(clone_newnet) != 0:
        return False
    siocgifflags, siocsifflags, iff_up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = bytearray(struct.pack("16sh14x", b"lo", 0))
        fcntl.ioctl(control, siocgifflags, request)
        flags = struct.unpack_from("h", request, 16)[0]
        struct.pack_into("h", request, 16, flags | iff_up)
        fcntl.ioctl(control, siocsifflags, request)
    return True


OWN_NETWORK = _own_network()


def options(**defaults):
    """The test's options, `--seconds 60`: an object with what was given, and the defaults."""
    given = types.SimpleNamespace(**defaults)
    for at in range(2, len(sys.argv), 2):
        name = sys.argv[at][2:].replace("-", "_")
        if not sys.argv[at].startswith("--") or name not in defaults or at + 1 == len(sys.argv):
            sys.exit("%s: %s is none of --%s, each with a value" % (
                sys.argv[0], sys.argv[at], ", --".join(defaults)))
        default = defaults[name]
        setattr(given, name, type(default)(sys.argv[at + 1]))
    return given


def skip(reason):
    """For what the machine doesn't allow: ctest tells it as skipped."""
    say("SKIPPED: " + reason)
    sys.exit(77)


def path(*names):
    return os.path.join(FOLDER, *names)


def fail(text):
    print("FAILED: " + text)
    for cluster in _clusters:
        for name in cluster.names:
            print("--- log of node %s\n%s" % (name, cluster.log(name)[-6000:]))
    for node in _nodes:
        print("--- log of %s\n%s" % (node.data, node.log()[-6000:]))
    sys.exit(1)


def check(condition, text):
    if not condition:
        fail(text)


def say(text):
    print(text, flush=True)


class Ended:
    """What a program said and how it ended."""

    def __init__(self, words, code, out, err, seconds):
        self.words, self.code, self.out, self.err, self.seconds = words, code, out, err, seconds
        self.text = out.decode(errors="replace") + err.decode(errors="replace")

    def __str__(self):
        return "%s ended with %d after %.1f s:\n%s" % (
            " ".join(self.words), self.code, self.seconds, self.text)

    def json(self):
        return json.loads(self.out)


def run(*words, expect=0, within=60, stdin=b""):
    """Runs a program to its end; `expect` None: any exit code."""
    begun = time.monotonic()
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, cwd=FOLDER)
    try:
        out, err = process.communicate(stdin, timeout=within)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        fail("%s has not ended within %d s:\n%s" % (
            " ".join(words), within, (out + err).decode(errors="replace")))
    ended = Ended(words, process.returncode, out, err, time.monotonic() - begun)
    check("Sanitizer" not in ended.text and "runtime error:" not in ended.text,
          "a sanitizer found something: %s" % ended)
    check(expect is None or ended.code == expect, "expected exit code %s, but %s" % (expect, ended))
    return ended


def wait_for(what, condition, within=30):
    end = time.monotonic() + within
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    fail("waited %d s in vain: %s" % (within, what))


class Node:
    """One kho-node of its own, outside a cluster."""

    def __init__(self, name, *options, init=True, environment=None, shards=1):
        self.data = path(name)
        self.options = options
        self.environment = dict(os.environ, **(environment or {}))
        self.log_path = path(name + ".log")
        self.process = None
        self.port = 0
        if init:
            run(NODE, "init", self.data, "--segment-size", "32M", "--shards", str(shards))
        _nodes.append(self)

    def start(self, serving=True):
        begun = len(self.log())
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [NODE, "run", self.data, "--listen", "127.0.0.1:0", *self.options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment)
        if serving:
            wait_for("'serving on' in the log of " + self.data,
                     lambda: "serving on" in self.log()[begun:] or self.process.poll() is not None)
            found = re.search(r"serving on 127\.0\.0\.1:(\d+)", self.log()[begun:])
            check(found, "the node ended instead of serving")
            self.port = int(found.group(1))
        return self

    def log(self):
        try:
            with open(self.log_path, errors="replace") as log:
                return log.read()
        except FileNotFoundError:
            return ""

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, within=20):
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            fail("node %s has not ended within %d s" % (self.data, within))

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Cluster:
    """Three nodes by `kho local up`, in a folder of their own."""

    names = ("a", "b", "c")

    def __init__(self, collection="records", folder="cluster", shards=1):
        self.dir = path(folder)
        _clusters.append(self)
        self.kho("local", "up", "--shards", str(shards))
        if collection:
            self.kho("collection", "create", collection)

    def kho(self, *words, **options):
        return run(KHO, "--dir", self.dir, *words, **options)

    def data(self, name):
        return os.path.join(self.dir, name, "data")

    def log(self, name):
        try:
            with open(os.path.join(self.dir, name, "log"), errors="replace") as log:
                return log.read()
        except FileNotFoundError:
            return ""

    def local_status(self):
        return {node["name"]: node
                for node in self.kho("local", "status", "--json", expect=None).json()["nodes"]}

    def status(self, expect=None):
        """Rows of `kho status` by node name."""
        ended = self.kho("status", "--json", expect=expect)
        return {node["name"]: node for node in ended.json()["nodes"]}

    def pid(self, name):
        return self.local_status()[name]["pid"]

    def port(self, name):
        return self.local_status()[name]["port"]

    def signal(self, name, number):
        os.kill(self.pid(name), number)

    def kill(self, *names):
        for name in names:
            self.kho("local", "kill", name)

    def stop(self, *names):
        for name in names:
            self.kho("local", "stop", name)

    def start(self, *names):
        for name in names:
            self.kho("local", "start", name)

    def segments(self, name):
        folder = os.path.join(self.data(name), "shard-000")
        return [os.path.join(folder, file) for file in sorted(os.listdir(folder))
                if re.fullmatch(r"segment-[0-9a-f]{16}", file)]

    def sane_logs(self):
        for name in self.names:
            text = self.log(name)
            check("Sanitizer" not in text and "runtime error:" not in text,
                  "a sanitizer found something in node " + name)

    def end(self):
        """Ends the nodes, those that are stopped (SIGSTOP), too."""
        try:
            subprocess.run([KHO, "--dir", self.dir, "local", "down", "--destroy"], timeout=60,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            print("the cluster in %s can't be ended" % self.dir)


def flip_bit(files, needle):
    """Flips one bit in the middle of `needle`, wherever the files hold it; returns how often."""
    count = 0
    for file in files:
        with open(file, "r+b") as segment:
            content = segment.read()
            at = content.find(needle)
            while at >= 0:
                place = at + len(needle) // 2
                segment.seek(place)
                segment.write(bytes([content[place] ^ 0x10]))
                count += 1
                at = content.find(needle, at + 1)
            segment.flush()
            os.fsync(segment.fileno())
    return count


_xxhash = None


def hello(shard=0, protocol=(1, 1)):
    """The 64 bytes of a client's HELLO (include/kho/wire.h)."""
    global _xxhash
    if _xxhash is None:
        _xxhash = ctypes.CDLL("libxxhash.so.0")
        _xxhash.XXH3_64bits.restype = ctypes.c_uint64
        _xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    head = struct.pack("<IHH16sIIQ16s", 0x486F686B, protocol[0], protocol[1], bytes(16), shard, 0,
                       0, bytes(16))
    return head + struct.pack("<Q", _xxhash.XXH3_64bits(head, len(head)))


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.settimeout(20)
    return connection


def receive(connection, count):
    """Up to `count` bytes, fewer when the other side ends; None: reset."""
    data = b""
    try:
        while len(data) < count:
            more = connection.recv(count - len(data))
            if not more:
                break
            data += more
    except ConnectionResetError:
        return None
    return data


def done():
    """All that still runs leaves in order, which is when LeakSanitizer speaks."""
    for cluster in _clusters:
        if os.path.isdir(cluster.dir):
            cluster.kho("local", "down", expect=None)
        cluster.sane_logs()
    for node in _nodes:
        if node.process is not None and node.process.poll() is None:
            node.signal(signal.SIGTERM)
            check(node.wait() == 0, "the node in %s leaves in order" % node.data)
        check("Sanitizer" not in node.log() and "runtime error:" not in node.log(),
              "a sanitizer found something in " + node.data)
    say("passed")
