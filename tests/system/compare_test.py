"""bench/compare runs kho and Redis through all of its cases and writes a report that has a figure of
each; it leaves nothing running and nothing behind. Skipped where there is no redis-server or gnuplot."""

import json
import os
import shutil
import subprocess
import sys

from harness import BIN, check, done, path, say

if not shutil.which("redis-server") or not shutil.which("gnuplot"):
    say("no redis-server or no gnuplot: skipped")
    sys.exit(77)

root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
scratch, report = path("scratch"), path("report")
os.mkdir(scratch)

say("kho and Redis, for moments")
ran = subprocess.run(
    [os.path.join(root, "bench", "compare"), "--quick", "--only", "kho,redis", "--no-install",
     "--build", os.path.dirname(BIN), "--out", report],
    env=dict(os.environ, TMPDIR=scratch), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    timeout=280, check=False)
check(ran.returncode == 0, "it succeeds: %s" % ran.stdout.decode())
check(os.listdir(scratch) == [], "nothing is left behind")
for entry in os.listdir("/proc"):
    if entry.isdigit():
        try:
            with open("/proc/%s/cmdline" % entry, "rb") as file:
                check(scratch.encode() not in file.read(), "process %s has ended" % entry)
        except OSError:
            pass

say("the report has all of them")
with open(os.path.join(report, "report.json")) as file:
    figures = json.load(file)
systems = {system["name"]: system["median"] for system in figures["systems"]}
check(sorted(systems) == ["kho", "redis.wait1", "redis.wait2"], "systems: %s" % sorted(systems))
for name, median in systems.items():
    for case in figures["cases"]:
        if name == "redis.wait2" and case.startswith("get"):
            continue  # the reads of redis.wait1
        for row in ("rate", "p50", "p99", "cpu.nodes", "cpu.client", "memory", "disk"):
            check(median[case][row] > 0, "%s has %s of %s" % (name, row, case))
        if case.startswith("put"):
            check(median[case]["read_back"] > 0, "%s read back in %s" % (name, case))
with open(os.path.join(report, "index.html")) as file:
    page = file.read()
for name in os.listdir(report):
    check(not name.endswith(".svg") or '"%s"' % name in page, "the page shows %s" % name)
check("http://" not in page and "https://" not in page, "the page needs nothing from elsewhere")
done()
