"""kho-bench engine at a tiny size: every row has a figure that makes sense, beside its floor, and
nothing is left behind, not after a signal either."""

import json
import os
import signal
import subprocess
import time

from harness import BIN, check, done, path, run, say

BENCH = os.path.join(BIN, "kho-bench")

# name: it has a floor
ROWS = {
    "append.1m": True,
    "append.64k": True,
    "append.16k": True,
    "append.1k": True,
    "append.new.1m": True,
    "append.new.64k": True,
    "append.new.16k": True,
    "append.new.1k": True,
    "overwrite.1m": True,
    "overwrite.64k": True,
    "append.300.qd1": True,
    "append.300.qd64": True,
    "append.300.qd4096": True,
    "append.300.core": True,
    "memory.per_record": False,
    "disk.over_lz4": True,
    "disk.footers": False,
    "restart.5k": False,
    "read.cold.qd32": True,
    "read.cached": False,
    "multiget.neighbours": True,
    "scan": True,
    "compact.overwrite": True,
    "compact.foreground": True,
}
MAY_BE_ZERO = ["disk.footers"]
os.mkdir(path("data"))
SMALL = ["--records", "5000", "--seconds", "0.05", "--folder", path("data")]

say("all rows, two rounds")
ended = run(BENCH, "engine", *SMALL, "--rounds", "2", "--json", path("report"), within=200)
with open(path("report")) as file:
    report = json.load(file)
check(report["bench"] == "engine" and report["ok"] is True, "the report: %s" % report)
rows = {row["name"]: row for row in report["rows"]}
check(sorted(rows) == sorted(ROWS), "the rows: %s" % sorted(rows))
for name, floored in ROWS.items():
    row = rows[name]
    check((0 < row["value"] or name in MAY_BE_ZERO) and row["value"] < 1e12 and row["unit"] != "", "a figure: %s" % row)
    check((row["floor"] is not None) == floored, "a floor, or none: %s" % row)
    if floored:
        check(row["floor"] > 0, "a floor: %s" % row)
        check(abs(row["ratio"] - row["value"] / row["floor"]) < 1e-3 * row["ratio"],
              "the one over the other: %s" % row)
    check(name + " " in ended.text, "%s is in the table: %s" % (name, ended))
check(os.listdir(path("data")) == [], "nothing is left: %s" % os.listdir(path("data")))

check(rows["memory.per_record"]["value"] < 10000, "memory: %s" % rows["memory.per_record"])
check(0.9 < rows["disk.over_lz4"]["ratio"] < 2, "disk: %s" % rows["disk.over_lz4"])
check("restart.10m is left out" in ended.text, "what is left out is said: %s" % ended)

say("some rows")
run(BENCH, "engine", *SMALL, "--rounds", "1", "--rows", "append.300.qd1,append.1k", "--json",
    path("some"), within=60)
with open(path("some")) as file:
    names = [row["name"] for row in json.load(file)["rows"]]
check(names == ["append.1k", "append.300.qd1"], "what was asked for: %s" % names)

say("a signal ends it, and its data goes")
bench = subprocess.Popen([BENCH, "engine", "--folder", path("data"), "--seconds", "60",
                          "--rows", "append.300.qd1"], stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True)
deadline = time.monotonic() + 60
while time.monotonic() < deadline and not os.listdir(path("data")):
    time.sleep(0.05)
time.sleep(0.5)
bench.send_signal(signal.SIGINT)
said = bench.communicate(timeout=120)[1]
check(bench.returncode == 1, "it failed: %d, %s" % (bench.returncode, said))
check("signal 2" in said, "it says why: %s" % said)
check(os.listdir(path("data")) == [], "nothing is left: %s" % os.listdir(path("data")))

say("wrong use, and no room")
for words, text in ((["--rows", "x"], "no row 'x'"), (["--rounds", "0"], "1 to 99"),
                    (["--folder", path("nowhere")], "--folder")):
    code = 1 if "--folder" in words else 2
    ended = run(BENCH, "engine", *words, expect=code)
    check(text in ended.text, "'%s' should stand in: %s" % (text, ended))
check("append.300.qd1" in run(BENCH, "help", "engine").text, "the help")

done()
