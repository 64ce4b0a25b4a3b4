"""Each load of kho-bench at a tiny size, on three nodes of its own: it ends well, tells its figures,
and leaves nothing behind."""

import json
import os

from harness import BIN, Cluster, check, done, path, run, say

os.environ["TMPDIR"] = path("tmp")
os.mkdir(path("tmp"))
BENCH = os.path.join(BIN, "kho-bench")
COMMON = ["--local", "3", "--seconds", "0.5", "--warmup", "0.1"]
SPEED = ["rate", "bandwidth", "p50", "p99", "p999", "max", "cpu.nodes", "cpu.client", "cpu.total"]
NOUGHT = ["errors", "missing", "wrong"]


def load(*words):
    say("kho-bench " + " ".join(words))
    report = path("report.json")
    run(BENCH, *words, *COMMON, "--json", report, within=120)
    with open(report, encoding="utf-8") as file:
        root = json.load(file)
    check(root["ok"] is True, "it ended well: %s" % root)
    check(not os.listdir(path("tmp")), "nothing is left behind: %s" % os.listdir(path("tmp")))
    rows = {row["name"]: row["value"] for row in root["rows"]}
    for name in SPEED:
        check(rows.get(name, 0) > 0, "%s of %s is above nought" % (name, rows))
    for name in NOUGHT:
        check(rows.get(name) == 0, "%s of %s is nought" % (name, rows))
    check(rows["p50"] <= rows["p99"] <= rows["p999"] <= rows["max"], "percentiles rise: %s" % rows)
    return rows


rows = load("put")
check(rows["read_back"] > 0, "what was acknowledged was read back: %s" % rows)
load("put", "--batch", "1", "--inflight", "64", "--records", "500", "--value", "100..2000")
load("append", "--batch", "16", "--incompressible")
rows = load("get", "--records", "5000")
check(rows["preload.rate"] > 0, "records were loaded first: %s" % rows)
load("get", "--records", "1000", "--batch", "1", "--inflight", "64")
load("get", "--records", "1000", "--distribution", "latest", "--clients", "2")
for letter in "abcdf":
    load("mixed", "--workload", letter, "--records", "2000")
rows = load("mixed", "--workload", "e", "--records", "2000", "--inflight", "8")
check(rows["scan.rate"] > 0 and rows["scan.p50"] > 0, "scans have rows of their own: %s" % rows)
load("mixed", "--workload", "f", "--records", "300", "--batch", "4", "--clients", "3")

say("open loop")
histogram = path("latency.hgrm")
rows = load("put", "--rate", "2000", "--batch", "1", "--histogram", histogram)
check(rows["rate"] < 2400 and rows["rate.intended"] == 2000, "no faster than asked for: %s" % rows)
with open(histogram, encoding="utf-8") as file:
    check("#[Max " in file.read(), "the distribution is written")
rows = load("put", "--rate", "1e8", "--batch", "64", "--inflight", "4", "--fixed")
check(rows["delayed"] > 0 and rows["never_begun"] > 0 and rows["p99"] > 100e3,
      "what didn't begin in time counts as it waited: %s" % rows)

say("a cluster that runs already, with what an earlier run has loaded")
cluster = Cluster(None)
seeds = ",".join("127.0.0.1:%d" % cluster.port(name) for name in cluster.names)
BESIDE = ["--cluster", seeds, "--seconds", "0.3", "--warmup", "0", "--records", "1000"]
run(BENCH, "get", *BESIDE)
run(BENCH, "get", *BESIDE, "--loaded")
ended = run(BENCH, "get", *BESIDE, "--loaded", "--seed", "2", expect=1)
check("weren't as written" in ended.text, "values of another seed are told: %s" % ended)
ended = run(BENCH, "get", "--cluster", seeds, "--records", "2000", "--loaded", expect=1)
check("weren't found" in ended.text, "records that aren't there are told: %s" % ended)

say("wrong use")
run(BENCH, "put", "--batch", "0", expect=2)
run(BENCH, "help", "get")
done()
