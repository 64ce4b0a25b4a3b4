"""Random bytes, half HELLOs, wrong versions and floods of silent sockets cost the strangers their
connection and nobody else anything."""

import os
import random
import struct
import time

from harness import Cluster, Node, check, connect, done, hello, receive, say

ECODES = {"malformed": -1012, "version": -1014, "shard": -1017}
random.seed(20240611)
cluster = Cluster()
port = cluster.port("a")


def served(text):
    """The cluster serves others, node a included, since a majority alone isn't all."""
    cluster.kho("put", "records", "key-" + text, "value-" + text, within=20)
    check(cluster.kho("get", "records", "key-" + text, within=20).out ==
          ("value-" + text).encode(), "the record is read back " + text)
    check(cluster.status(expect=0)["a"]["status"] == "ok", "node a answers " + text)


def status_of(answer):
    check(answer is not None and len(answer) == 128, "a whole HELLO came back: %r" % answer)
    return struct.unpack("<i", answer[8:12])[0]


say("random bytes")
for size in (1, 63, 64, 65, 1000, 300000):
    for _ in range(10):
        stranger = connect(port)
        try:
            stranger.sendall(random.randbytes(size))
        except (ConnectionResetError, BrokenPipeError):
            pass  # the node saw enough
        stranger.close()
served("after random bytes")

say("HELLOs that can be answered")
answers = {}
for name, bytes_sent in (("version", hello(protocol=(7, 9))), ("shard", hello(shard=5)),
                         ("malformed", hello()[:-1] + bytes([hello()[-1] ^ 1]))):
    stranger = connect(port)
    stranger.sendall(bytes_sent)
    answers[name] = status_of(receive(stranger, 128))
    check(receive(stranger, 1) in (b"", None), "the node closes after its refusal: " + name)
    stranger.close()
check(answers == ECODES, "each refusal says its reason: %s" % answers)

say("random bytes behind a good HELLO")
for size in (1, 64, 5000, 400000):
    stranger = connect(port)
    stranger.sendall(hello())
    check(status_of(receive(stranger, 128)) == 0, "the HELLO is accepted")
    try:
        stranger.sendall(random.randbytes(size))
        if size >= 64:
            receive(stranger, 1 << 20)  # answered or not, the connection ends
    except (ConnectionResetError, BrokenPipeError, ConnectionAbortedError):
        pass
    stranger.close()
served("after random frames")

say("silent and half sockets, more than the node keeps")
silent = [connect(port) for _ in range(300)]
half = hello()
for number, stranger in enumerate(silent):
    try:
        stranger.sendall(half[:number % 64])
    except (ConnectionResetError, BrokenPipeError):
        pass  # driven out by those that came later
served("beside 300 silent sockets")
begun = time.monotonic()
check(receive(silent[-1], 1) in (b"", None), "the last silent socket is closed in the end")
check(time.monotonic() - begun < 15, "after ten seconds")
for stranger in silent:
    stranger.close()

say("a HELLO one byte at a time")
slow = connect(port)
for byte in hello():
    slow.sendall(bytes([byte]))
    time.sleep(0.005)
check(status_of(receive(slow, 128)) == 0, "is accepted like any")
slow.close()
descriptors = len(os.listdir("/proc/%d/fd" % cluster.pid("a")))
check(descriptors < 60, "no socket is left behind: %d descriptors" % descriptors)
served("at the end")

say("more clients than --connections")
node = Node("few", "--connections", "4").start()
clients = [connect(node.port) for _ in range(6)]
for client in clients:
    client.sendall(hello())
statuses = [status_of(receive(client, 128)) for client in clients]
check(sorted(statuses) == [-1030, -1030, 0, 0, 0, 0], "two too many are refused: %s" % statuses)
clients[statuses.index(0)].close()
time.sleep(0.3)
late = connect(node.port)
late.sendall(hello())
check(status_of(receive(late, 128)) == 0, "a place that became free is given away")
done()
