"""A bit flipped on one replica's disk never reaches a reader: another replica answers, the damage
is reported by status and verify, and repair heals it."""

import os
import random

from harness import Cluster, check, done, flip_bit, path, say

random.seed(4)
cluster = Cluster()
# Random values don't compress, so that their bytes can be found on disk.
VALUES = {"record-%d" % number: random.randbytes(3000 + 500 * number) for number in range(6)}
for key, value in VALUES.items():
    with open(path("value"), "wb") as file:
        file.write(value)
    cluster.kho("put", "records", key, "@" + path("value"))


def all_read(text):
    for key, value in VALUES.items():
        check(cluster.kho("get", "records", key, within=30).out == value,
              "%s has its right bytes %s" % (key, text))


def flip(name, key):
    count = flip_bit(cluster.segments(name), VALUES[key][1000:1400])
    check(count >= 1, "the value of %s lies in a segment of node %s" % (key, name))


def damaged(node):
    return node["status"] == "ok" and (
        node["stats"]["episodes"] > 0 or node["stats"]["suspect"] > 0 or
        node["stats"]["values_unknown"] > 0)


def heal(text):
    cluster.kho("repair", within=120)
    cluster.kho("verify")
    status = cluster.status(expect=0)
    check(not any(damaged(node) for node in status.values()),
          "no damage is left %s: %s" % (text, status))


say("found by a read of a running node")
cluster.stop("b")
cluster.start("b")  # with an empty cache
flip("b", "record-1")
for away in ("a", "c"):
    cluster.kill(away)
    all_read("with a bit flipped on b and %s away" % away)
    cluster.start(away)


def find_out(name):
    """The record itself is read from one replica only, whichever the client takes."""
    for _ in range(50):
        if damaged(cluster.status()[name]):
            return
        all_read("while %s is asked until it has found out" % name)


find_out("b")
status = cluster.status(expect=5)
check(damaged(status["b"]) and not damaged(status["a"]) and not damaged(status["c"]),
      "status tells of b's damage: %s" % status)
heal("after the first repair")

say("found by a read after a restart, which knows keys and versions from footers")
cluster.stop("b")
flip("b", "record-3")
cluster.start("b")
all_read("while b has a rotten block in its log")
find_out("b")
check(damaged(cluster.status(expect=5)["b"]), "status tells of it")
verify = cluster.kho("verify", "--json", expect=5).json()
check(not verify["equal"], "verify tells of it: %s" % verify)
all_read("after verify")
# A restart with the damage open: b can't say any more what the partition of the record holds, but
# that of another key it can.
cluster.stop("b")
cluster.start("b")
cluster.kill("a")
cluster.kho("--deadline", "4s", "get", "records", "record-3", expect=3, within=20)
cluster.kho("get", "records", "no such key", expect=1, within=20)
cluster.start("a")
heal("after the second repair")

say("what was repaired carries the others")
cluster.stop("c")
cluster.start("c")  # it knows its versions, and that the values are rotten it learns by reading
flip("c", "record-1")
flip("c", "record-3")
cluster.kill("a")
all_read("from b, which was repaired, while c is damaged and a away")
cluster.start("a")
heal("after the third repair")

say("segments cut short, and one that is gone")
for name, change in (("a", lambda file: os.truncate(file, os.path.getsize(file) // 2 + 512)),
                     ("b", lambda file: os.truncate(file, 5000)),
                     ("c", os.unlink)):
    cluster.stop(name)
    change(cluster.segments(name)[0])
    cluster.start(name)
    all_read("while node %s lacks a part of its log" % name)
    cluster.kho("put", "records", "after-" + name, "written beside damage")
    heal("after the repair of " + name)
all_read("at the end")
done()
