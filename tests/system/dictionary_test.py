"""kho-bench dictionary at a tiny size: every row of every set has a figure that makes sense, and what
can't be had is said."""

import json
import os

from harness import BIN, check, done, path, run, say

BENCH = os.path.join(BIN, "kho-bench")
SMALL = ["--records", "4000", "--rounds", "1", "--json", path("report")]

say("all sets")
with open(path("packages"), "w", encoding="utf-8") as file:
    for i in range(3000):
        file.write("Package: p%d\nVersion: %d.%d\nMaintainer: someone <someone@example.org>\n"
                   "Description: package %d of many\n\n" % (i, i % 7, i * 7919 % 1000, i * i))
ended = run(BENCH, "dictionary", *SMALL, "--packages", path("packages"), within=200)
with open(path("report"), encoding="utf-8") as file:
    report = json.load(file)
check(report["bench"] == "dictionary" and report["ok"] is True and report["order"] == "come",
      "the report: %s" % report)
rows = {row["name"]: row for row in report["rows"]}
WAYS = ["none", "headless", "plain64k"]
if "built without libzstd" not in ended.text:
    WAYS += ["trained4k", "trained16k", "trained32k", "trained64k", "quick64k"]
names = ["%s.%s.%s.%s" % (kind, block, way, what) for kind in ("citizens", "eids", "packages")
         for block in ("16k", "8k", "4k") for way in WAYS
         for what in ("packed", "disk", "pack", "unpack")]
check(sorted(rows) == sorted(names), "the rows: %s" % sorted(rows))
for name, row in rows.items():
    check(0 < row["value"] < 1e6, "a figure: %s" % row)
    check((row["floor"] is None) == (".none." in name), "something to compare with: %s" % row)
for kind in ("citizens", "eids", "packages"):
    check(rows[kind + ".4k.plain64k.disk"]["ratio"] < 1, "small blocks gain: %s" % kind)
    check(rows[kind + ".16k.none.packed"]["value"] < rows[kind + ".16k.none.disk"]["value"],
          "blocks have heads: %s" % kind)
    check(kind + ": " in ended.text, "%s has a table: %s" % (kind, ended))

say("some sets, what isn't there, wrong use")
ended = run(BENCH, "dictionary", *SMALL, "--sets", "eids", "--order", "random", within=100)
check("eids: 2,000 records" in ended.text and "citizens" not in ended.text, "one set: %s" % ended)
with open(path("empty"), "w", encoding="utf-8"):
    pass
ended = run(BENCH, "dictionary", "--sets", "packages", "--packages", path("empty"))
check("left out" in ended.text, "it says what it leaves out: %s" % ended)
ended = run(BENCH, "dictionary", "--sets", "packages", "--packages", path("nowhere"), expect=1)
check(path("nowhere") in ended.text, "it names the file: %s" % ended)
ended = run(BENCH, "dictionary", "--order", "size", expect=2)
check("come, key or random" in ended.text, "it says what is allowed: %s" % ended)
check("--packages" in run(BENCH, "help", "dictionary").text, "the help")

done()
