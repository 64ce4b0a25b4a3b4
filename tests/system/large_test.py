"""Large values that compress: put, read, listed, exported, missed by a node and repaired, they are
what they were, and lie compressed on the disk of every node."""

import json
import random

from harness import Cluster, check, done, path, say

random.seed(8)
WORDS = ["Nguyễn", "Trần", "Hà Nội", "phường", "quận", "hồ sơ", "đúng", "đủ", "sạch", "sống"]


def text(size):
    words = [random.choice(WORDS) + " %d" % random.randrange(1000) for _ in range(size // 8 + 1)]
    return " ".join(words).encode()[:size - 1].decode(errors="ignore").encode().ljust(size, b".")


SIZES = [7999, 8000, 65535, 65536, 65537, 700000, 1 << 20, (16 << 20) - 1, 16 << 20]
VALUES = {"text-%d" % size: text(size) for size in SIZES}
VALUES["noise"] = random.randbytes(300000)
# Text first, then what doesn't compress: some of its pieces lie as they are.
VALUES["mixed"] = text(500000) + random.randbytes(300000) + text(200000)
cluster = Cluster()


def put(key):
    with open(path("value"), "wb") as file:
        file.write(VALUES[key])
    cluster.kho("put", "records", key, "@" + path("value"))


def all_read(when):
    for key, value in VALUES.items():
        check(cluster.kho("get", "records", key).out == value, "%s is whole %s" % (key, when))
        length = cluster.kho("stat", "records", key, "--json").json()["length"]
        check(length == len(value), "the length of %s %s: %d" % (key, when, length))


def holds(name, needle):
    for segment in cluster.segments(name):
        with open(segment, "rb") as file:
            if needle in file.read():
                return True
    return False


say("what is put comes back")
for each in VALUES:
    put(each)
all_read("as it was put")

say("on every disk text lies compressed, and what doesn't compress lies as it is")
for node in cluster.names:
    for each in ("text-700000", "text-%d" % (16 << 20)):
        check(not holds(node, VALUES[each][100000:100400]), "%s on node %s" % (each, node))
    check(holds(node, VALUES["noise"][1000:1400]), "noise on node %s" % node)
    check(holds(node, VALUES["mixed"][650000:650400]), "noise between text on node %s" % node)

say("a node that was away for some gets them in a repair, and gives them alone with any other")
cluster.kill("b")
for size in (9000, 200000, 3 << 20):
    VALUES["new-%d" % size] = text(size)
    put("new-%d" % size)
cluster.start("b")
cluster.kho("repair", within=120)
cluster.kho("verify")
for away in ("a", "c"):
    cluster.kill(away)
    all_read("without " + away)
    cluster.start(away)

say("a listing exports them, and what is imported again is the same")
cluster.kho("collection", "create", "lines")
cluster.kho("collection", "create", "again")
LINES = {"line-%d" % size: json.dumps({"id": "line-%d" % size, "text": text(size).decode()},
                                      ensure_ascii=False)
         for size in (9000, 70000, 400000, 5 << 20)}
with open(path("lines.jsonl"), "w") as file:
    file.write("\n".join(LINES.values()) + "\n")
cluster.kho("import", "lines", path("lines.jsonl"), "--create", within=120)
cluster.kho("export", "lines", path("out.jsonl"), within=120)
cluster.kho("import", "again", path("out.jsonl"), within=120)
for key, line in LINES.items():
    check(cluster.kho("get", "again", key).out == line.encode(), "%s came round" % key)

say("nothing is lost when all nodes are killed")
cluster.kill(*cluster.names)
cluster.start(*cluster.names)
all_read("after a crash")
cluster.sane_logs()
done()
