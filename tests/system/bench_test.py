"""Each load of kho-bench at a tiny size, on three nodes of its own: it ends well, tells its figures,
and leaves nothing behind."""

import json
import os

from harness import BIN, FOLDER, check, done, path, run, say

os.environ["TMPDIR"] = FOLDER
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
    rows = {row["name"]: row["value"] for row in root["rows"]}
    for name in SPEED:
        check(rows.get(name, 0) > 0, "%s of %s is above nought" % (name, rows))
    for name in NOUGHT:
        check(rows.get(name) == 0, "%s of %s is nought" % (name, rows))
    check(rows["p50"] <= rows["p99"] <= rows["p999"] <= rows["max"], "percentiles rise: %s" % rows)
    left = [name for name in os.listdir(FOLDER) if name.startswith("kho-bench")]
    check(not left, "nothing is left behind: %s" % left)
    return rows


rows = load("put")
check(rows["read_back"] > 0, "what was acknowledged was read back: %s" % rows)
load("put", "--batch", "1", "--inflight", "64", "--records", "500", "--value", "100..2000")
load("append", "--batch", "16", "--incompressible")
rows = load("get", "--records", "5000")
check(rows["preload.rate"] > 0, "records were loaded first: %s" % rows)
load("get", "--records", "1000", "--batch", "1", "--inflight", "64")

say("wrong use")
run(BENCH, "put", "--batch", "0", expect=2)
run(BENCH, "help", "get")
done()
