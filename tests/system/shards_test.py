"""Nodes of two shards, each a thread with a log of its own: records are spread over both, survive
kill -9 and an orderly stop, and what is wrong with one shard's folder is told before anything is
served. Under TSan this is the test that finds a race between shards."""

import os
import re
import shutil
import signal
import threading
import time

from harness import BIN, NODE, Cluster, Node, check, connect, done, hello, path, receive, run, say

cluster = Cluster(folder="two", shards=2)
seeds = ",".join("127.0.0.1:%d" % cluster.port(name) for name in cluster.names)


def found(name):
    """Records of each shard, as the node's last start found them."""
    last = {}
    for shard, records in re.findall(r"shard (\d+) is ready: (\d+) records", cluster.log(name)):
        last[int(shard)] = int(records)
    return last


def records(name):
    return cluster.status()[name]["stats"]["records"]


say("records are put, read, listed and deleted while a node dies and comes back")
result = {}
load = threading.Thread(target=lambda: result.update(ended=run(
    os.path.join(BIN, "system_load"), "--cluster", seeds, "--collection", "records", "--seconds",
    "6", "--threads", "3", within=60)))
load.start()
time.sleep(1.5)
cluster.kill("b")
time.sleep(1)
cluster.start("b")
load.join()
check("ended" in result, "the load ended well")
cluster.kho("repair", within=120)
cluster.kho("verify")

say("both shards of a node hold records, and the status adds them up")
before = records("a")
cluster.stop("a")
check(cluster.log("a").rstrip().endswith("stopped"), "it left in order")
cluster.start("a")
parts = found("a")
check(sorted(parts) == [0, 1] and all(parts.values()), "both shards hold records: %s" % parts)
check(records("a") == sum(parts.values()) == before,
      "the status tells the sum: %s and %s" % (records("a"), parts))

say("all nodes die at once")
cluster.kill("a", "b", "c")
cluster.start("a", "b", "c")
cluster.kho("repair", within=120)
cluster.kho("verify")
check(records("a") == before, "nothing is lost")

say("a new map is in force in all shards once its maker is told")
for number in range(5):
    cluster.kho("collection", "create", "more-%d" % number)
    for row in cluster.status().values():
        check(row["epoch"] == 3 + number, "all shards of all nodes: %s" % row)

say("a wiped node is let in again, and repaired in both shards")
cluster.stop("c")
shutil.rmtree(cluster.data("c"))
run(NODE, "init", cluster.data("c"), "--segment-size", "32M", "--shards", "2")
cluster.start("c")
cluster.kho("node", "readmit", "c")
cluster.kho("repair", within=120)
cluster.kho("verify")
check(records("c") == records("a"), "it has them all")

say("the number of shards is fixed, and who asks for another is told the remedy")
ended = cluster.kho("local", "up", "--shards", "3", expect=2)
check("2 shards" in ended.text and "--dir" in ended.text, "the remedy: %s" % ended)
cluster.kho("local", "up", "--shards", "2")

alone = Node("alone", "--memory", "300M", shards=2).start()
say("HELLO names the shard: each answers for itself, a third there isn't")
for shard, status in ((0, 0), (1, 0), (2, -1017)):
    with connect(alone.port) as connection:
        connection.sendall(hello(shard))
        answer = receive(connection, 128)
        check(answer is not None and len(answer) == 128, "HELLO is answered")
        check(int.from_bytes(answer[8:12], "little", signed=True) == status,
              "shard %d: status %d in %s" % (shard, status, answer.hex()))
        check(int.from_bytes(answer[12:16], "little") == 2, "the answer tells the shard count")
alone.signal(signal.SIGTERM)
check(alone.wait() == 0, "it leaves in order")


def refused(data, *options, code, naming):
    ended = run(NODE, "run", data, "--listen", "127.0.0.1:0", *options, expect=code)
    for word in naming:
        check(word in ended.text, "%s is named: %s" % (word, ended))


refused(alone.data, "--shards", "1", code=2, naming=["--shards 1", "made with 2", "init --shards 1"])
refused(alone.data, "--memory", "130M", code=2, naming=["--memory 130M", "2 shards", "144M"])

say("a node doesn't start with one shard's folder missing, or damaged")
os.rename(path("alone", "shard-001"), path("aside"))
refused(alone.data, code=1, naming=["shard-001"])
os.rename(path("aside"), path("alone", "shard-001"))
cluster.stop("c")
with open(os.path.join(cluster.data("c"), "shard-001", "manifest"), "r+b") as manifest:
    manifest.write(b"rot")
refused(cluster.data("c"), code=1, naming=["shard 1", "manifest"])
done()
