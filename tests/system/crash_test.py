"""Nodes that are killed with SIGKILL under load, one and then all three at once, have every
acknowledged record when they are back."""

import threading
import time

from harness import KHO, Cluster, check, done, path, run, say

cluster = Cluster(collection=None)
LINES = 20000

say("one node dies in the middle of an import, and nobody notices")
with open(path("lines.txt"), "w") as file:
    for number in range(LINES):
        file.write("record %d of the import, with %s\n" % (number, "x" * (number % 300)))
result = {}
importing = threading.Thread(target=lambda: result.update(ended=cluster.kho(
    "import", "imported", path("lines.txt"), "--create", "--rate", "7000", within=120)))
importing.start()
time.sleep(1.2)
cluster.kill("b")
importing.join()
check("ended" in result, "the import ended well")
cluster.start("b")
cluster.kho("repair", within=120)
cluster.kho("verify")
cluster.kill("c")
cluster.kho("export", "imported", path("out.txt"), within=120)
with open(path("lines.txt"), "rb") as before, open(path("out.txt"), "rb") as after:
    want, got = sorted(before.read().splitlines()), sorted(after.read().splitlines())
check(want == got, "the records of the import are there byte for byte: %d of %d" % (
    len(set(want) & set(got)), len(want)))
cluster.start("c")

say("one node is asked to leave in the middle of an import")
result.clear()
importing = threading.Thread(target=lambda: result.update(ended=cluster.kho(
    "import", "again", path("lines.txt"), "--create", "--rate", "7000", within=120)))
importing.start()
time.sleep(1.2)
begun = time.monotonic()
cluster.stop("a")
check(time.monotonic() - begun < 5, "it leaves soon, whatever is under way")
importing.join()
check("ended" in result, "the import ended well")
check(cluster.log("a").rstrip().endswith("stopped"), "it left in order")
cluster.start("a")
cluster.kho("repair", within=120)
cluster.kho("verify")

say("all nodes die at once under single puts")
cluster.kho("collection", "create", "single")
acknowledged, doubtful = {}, {}
stop = threading.Event()


def writer(name):
    threading.current_thread().ended_well = False
    number = 0
    while not stop.is_set():
        key, value = "%s-%d" % (name, number), "value of %s-%d" % (name, number)
        ended = run(KHO, "--dir", cluster.dir, "--deadline", "4s", "put", "single", key, value,
                    expect=None, within=30)
        if ended.code == 0:
            acknowledged[key] = value
        elif ended.code in (3, 4):
            doubtful[key] = value  # unavailable, or in doubt: it may be there
        else:
            result["bad"] = ended
        number += 1
    threading.current_thread().ended_well = True


def all_read(keys):
    for key, value in keys.items():
        got = cluster.kho("get", "single", key, within=30)
        check(got.out == value.encode(), "%s reads as %r, not %r" % (key, got.out, value))


for round_number in range(2):
    stop.clear()
    writers = [threading.Thread(target=writer, args=("w%d%d" % (round_number, i),))
               for i in range(3)]
    for thread in writers:
        thread.start()
    # An import beside them keeps commits in flight all the time.
    importing = threading.Thread(target=lambda: cluster.kho(
        "--deadline", "4s", "import", "imported", path("lines.txt"), "--all", "--rate", "5000",
        expect=None, within=60))
    importing.start()
    time.sleep(2)
    cluster.kill("a", "b", "c")
    stop.set()
    importing.join()
    for thread in writers:
        thread.join()
    check(all(thread.ended_well for thread in writers), "the writers went on to the end")
    check("bad" not in result, "a put ended unexpectedly: %s" % result.get("bad"))
    check(len(acknowledged) > 10, "the load was one: %d puts" % len(acknowledged))
    cluster.kho("local", "up", within=60)
    all_read(acknowledged)
    for key, value in doubtful.items():
        got = cluster.kho("get", "single", key, expect=None, within=30)
        check(got.code == 1 or (got.code == 0 and got.out == value.encode()),
              "what wasn't acknowledged is there whole or not at all: %s" % got)
say("%d acknowledged, %d not" % (len(acknowledged), len(doubtful)))
cluster.kho("repair", within=120)
cluster.kho("verify")
done()
