"""Records that are written over and over take no more of the disk than what is there in the end, a
little apart, and a node that is killed in the middle of giving it back has lost nothing."""

import glob
import os
import signal

from harness import KHO, Node, check, done, path, run, say, wait_for

MIB = 1 << 20
KEYS, ROUNDS = 12, 16

node = Node("one", "--compact-rate", "1G", "--reserve", "64M").start()
node.options += ("--listen", "127.0.0.1:%d" % node.port)  # the map names it from now on
values = {}


def kho(*words, **options):
    return run(KHO, *words, "--cluster", "127.0.0.1:%d" % node.port, **options)


def put(number):
    values[number] = os.urandom(MIB)
    kho("put", "records", "key-%d" % number, "-", stdin=values[number])


def files():
    return len(glob.glob(os.path.join(node.data, "**", "segment-*"), recursive=True))


def check_all():
    for number, value in values.items():
        check(kho("get", "records", "key-%d" % number).out == value, "key %d is whole" % number)


def stats():
    return kho("status", "--json").json()["nodes"][0]["stats"]


kho("cluster", "init", "127.0.0.1:%d" % node.port)
kho("collection", "create", "records")

say("%d MiB of %d MiB are overwritten" % (KEYS * (ROUNDS - 1), KEYS * ROUNDS))
for number in range(KEYS):
    put(number)
for turn in range(1, ROUNDS):
    for number in range(1, KEYS):  # key 0 is written once
        put(number)
    if turn == ROUNDS // 2:
        node.signal(signal.SIGKILL)
        node.wait()
        node.start()
        check_all()
wait_for("the files shrink to a few", lambda: files() <= 3)
wait_for("the numbers tell it", lambda: stats()["compacted_segments"] > 0)
check(stats()["zeroed_bytes"] > 0 and stats()["commit_bytes"] > 0, "what was written is told")
check_all()

say("a start finds the same")
node.signal(signal.SIGTERM)
check(node.wait() == 0, "it leaves in order")
node.start()
check_all()
check(stats()["episodes"] == 0, "no damage is told")
check(files() <= 3, "the files are still few")
done()
