"""--memory bounds a node whatever clients do: hundreds that begin the largest values and stop, that
ask for everything and read nothing, that leave frames half sent, and those who store keys until
no more are taken. Others are served meanwhile."""

import ctypes
import os
import select
import struct
import time

from harness import KHO, NODE, Node, check, connect, done, hello, path, receive, run, say

MIB = 1 << 20
MEMORY = 192 * MIB
STRANGERS = 200
WRITE, WRITE_LARGE, DATA, LIST, MORE = 2, 3, 4, 6, 1
with open(NODE, "rb") as program:
    SANITIZED = b"__asan_init" in program.read()
# Sanitizers keep shadows of memory and what was freed; what an unbounded node would take here
# (200 clients, 16 MiB each) is far beyond that, too.
BOUND = MEMORY * 2 + 200 * MIB if SANITIZED else MEMORY + 8 * MIB

xxhash = ctypes.CDLL("libxxhash.so.0")
for name in ("XXH3_64bits", "XXH3_64bits_withSeed"):
    getattr(xxhash, name).restype = ctypes.c_uint64
xxhash.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


class Stranger:
    """A client that follows the protocol (include/kho/wire.h) as far as it likes."""

    def __init__(self):
        for _ in range(500):  # until the places of those before are free
            self.socket = connect(node.port)
            self.socket.sendall(hello())
            answer = receive(self.socket, 128)
            if answer is not None and answer[8:12] == bytes(4):
                break
            self.socket.close()
            time.sleep(0.02)
        check(answer is not None and len(answer) == 128 and answer[8:12] == bytes(4),
              "the HELLO is taken: %r" % answer)
        self.cluster, self.epoch = answer[16:32], answer[64:80]
        self.socket.setblocking(False)

    def frame(self, kind, flags, count, request, body):
        head = struct.pack("<IBBH", 64 + len(body), kind, flags, count)
        tail = struct.pack("<Q16s16sii", request, self.epoch, self.cluster, 0, 0)
        seed = xxhash.XXH3_64bits(head + tail, 56)
        return head + struct.pack("<Q", xxhash.XXH3_64bits_withSeed(body, len(body), seed)) + tail + body

    def send(self, data, patience=0.5):
        """As much as the node takes; returns how much. It may close the connection."""
        sent = 0
        try:
            while sent < len(data):
                if not select.select([], [self.socket], [], patience)[1]:
                    break
                sent += self.socket.send(data[sent:])
        except (ConnectionResetError, BrokenPipeError):
            pass
        return sent

    def end(self):
        self.socket.close()


def record_head(key, value_len):
    return struct.pack("<IHBBQIIII16s", 1, len(key), 0, 0, 1 << 60, 7, value_len, value_len, 0,
                       bytes(16)) + key


def resident():
    with open("/proc/%d/status" % node.process.pid) as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["VmHWM"].split()[0]) * 1024


def bounded(text):
    peak = resident()
    say("  at most %d MiB of memory %s" % (peak // MIB, text))
    check(peak <= BOUND, "%d bytes are resident %s, more than %d" % (peak, text, BOUND))


def kho(*words, **options):
    return run(KHO, "--cluster", "127.0.0.1:%d" % node.port, *words, **options)


def served(text):
    kho("put", "records", text, text, within=30)
    check(kho("get", "records", text, within=30).out == text.encode(), "served " + text)
    bounded(text)


node = Node("one", "--memory", "192M", "--connections", "256").start()
kho("cluster", "init", "127.0.0.1:%d" % node.port)
kho("collection", "create", "records")
with open(path("value"), "wb") as file:
    file.write(os.urandom(60000))
for number in range(100):
    kho("put", "records", "record-%d" % number, "@" + path("value"))
served("at first")

say("%d clients begin a value of 16 MiB, send a part, and stop" % STRANGERS)
strangers = [Stranger() for _ in range(STRANGERS)]
for number, stranger in enumerate(strangers):
    key = b"large-%d" % number
    stranger.send(stranger.frame(WRITE_LARGE, 0, 1, 1, record_head(key, 16 * MIB)) +
                  b"".join(stranger.frame(DATA, MORE, 0, 1, bytes(200000)) for _ in range(5)), 0.02)
served("beside values half sent")
for stranger in strangers:
    stranger.end()

say("%d clients ask for everything and read nothing" % STRANGERS)
strangers = [Stranger() for _ in range(STRANGERS)]
ask = struct.pack("<IIIBBHQII", 1, 0, 4096, 0, 1, 0, 0, 4096, 0)
for stranger in strangers:
    stranger.send(b"".join(stranger.frame(LIST, 0, 1, request, ask) for request in range(1, 50)), 0.02)
time.sleep(1)
served("beside answers that nobody reads")
for stranger in strangers:
    stranger.end()

say("%d clients stop one byte before the end of the largest frame" % STRANGERS)
strangers = [Stranger() for _ in range(STRANGERS)]
for stranger in strangers:
    frame = stranger.frame(WRITE, 0, 1, 1, record_head(b"k", 262144 - 64 - 49) + bytes(262144 - 64 - 49))
    check(len(frame) == 262144, "the largest frame")
    stranger.send(frame[:-1], 0.02)
served("beside frames half sent")
for stranger in strangers:
    stranger.end()

say("as many as --connections say their HELLO and nothing more")
strangers = [Stranger() for _ in range(256)]
served("beside silent clients in all places")
for stranger in strangers:
    stranger.end()

say("values of 16 MiB, several at once")
with open(path("lines"), "wb") as file:
    for number in range(12):
        file.write(os.urandom(1 << 20).hex().encode() * 8 + b"\n")
kho("import", "records", path("lines"), "--format", "lines", within=120)
served("after values of 16 MiB")

if not SANITIZED:
    say("keys until the memory is full")
    with open(path("keys"), "w") as file:
        for number in range(3000000):
            file.write("%d\n" % number)
    ended = kho("import", "records", path("keys"), "--format", "lines", "--all", "--json", expect=6,
                within=200)
    check("memory limit" in ended.text, "new keys are refused as full: %s" % ended)
    stored = ended.json()["stored"]
    say("  %d keys" % stored)
    check(stored > 500000, "a good part went in")
    bounded("when full")
    kho("put", "records", "at first", "an update passes")
    check(kho("get", "records", "at first").out == b"an update passes", "reads go on")
    kho("del", "records", "record-1")
    node.signal(15)
    check(node.wait() == 0, "it leaves in order")
    port = node.port
    node.options = (*node.options, "--listen", "127.0.0.1:%d" % port)
    node.start()
    check(kho("get", "records", "at first").out == b"an update passes", "it serves again")
    kho("status")
    bounded("after the restart")
done()
