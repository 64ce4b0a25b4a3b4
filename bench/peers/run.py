"""Runs every case of every system, one after another, in rounds, and hands the figures to the report.
Called by bench/compare, which has installed and built what is needed:

    run.py BIN [--rounds N] [--seconds S] [--only SYSTEM,…] [--quick] [--out DIR]
"""

import argparse
import datetime
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

import page
import servers
from systems import CASES, LAST_PUT, READ_RECORDS, SYSTEMS, ceph_note

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CASE_SECONDS = 90  # beyond its window a case may take so long


def options():
    parser = argparse.ArgumentParser(prog="bench/compare", add_help=False)
    parser.add_argument("bin")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", default=os.path.join(ROOT, "bench", "report"))
    o = parser.parse_args()
    if o.quick:
        o.rounds, o.seconds = 1, 0.9  # a slow disk may rest for longer than a third of that
    if o.rounds < 1 or o.seconds <= 0:
        parser.error("--rounds and --seconds want numbers above 0")
    families = {system.family for system in SYSTEMS}
    o.only = set(o.only.split(",")) if o.only else families
    if not o.only <= families:
        parser.error("--only takes of: %s" % ", ".join(sorted(families)))
    o.warmup = 1 if o.seconds >= 1 else o.seconds
    return o


def present(o, system):
    """Why a system is left out, or None."""
    if system.needs and not shutil.which(system.needs):
        return "%s isn't installed" % system.needs
    if system.server and not os.access(os.path.join(o.bin, system.options[0]), os.X_OK):
        return "its generator isn't built"
    return None


# --- One case -------------------------------------------------------------------------------------


def run_generator(argv, json_path, seconds, env=None):
    """Its rows by name."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    try:
        complaint = process.communicate(timeout=seconds)[1].decode().strip()
    except BaseException:
        process.terminate()  # kho-bench ends its nodes before it ends
        process.wait()
        raise
    if process.returncode != 0:
        raise RuntimeError("%s: %s" % (os.path.basename(argv[0]), complaint or process.returncode))
    with open(json_path) as file:
        report = json.load(file)
    return {row["name"]: row["value"] for row in report["rows"]}, report["machine"]


def window(o, json_path):
    return ["--seconds", str(o.seconds), "--warmup", str(o.warmup), "--json", json_path]


def measure_kho(o, system, case, folder):
    json_path = os.path.join(folder, "report.json")
    rows, machine = run_generator(
        [os.path.join(o.bin, "kho-bench")] + system.cases[case] + window(o, json_path), json_path,
        o.seconds + CASE_SECONDS, dict(os.environ, TMPDIR=folder))
    rows["disk"] = rows["disk.per_record"]
    return rows, machine


def measure_peer(o, system, case, folder):
    json_path = os.path.join(folder, "report.json")
    server = system.server(folder)
    try:
        argv = [os.path.join(o.bin, system.options[0])] + system.options[1:] + system.cases[case]
        argv += ["--at", server.at] + window(o, json_path)
        if server.processes:
            argv += ["--servers", ",".join(str(process.pid) for process in server.processes)]
        rows, machine = run_generator(argv, json_path, o.seconds + CASE_SECONDS)
    finally:
        server.close()
    os.remove(json_path)
    written = servers.written_bytes(folder)
    rows["disk"] = written / rows["stored"] / system.copies
    return rows, machine


def measure(o, system, case, work):
    folder = tempfile.mkdtemp(dir=work)
    os.sync()  # what others have left to be written isn't this one's work
    try:
        rows, machine = (measure_peer if system.server else measure_kho)(o, system, case, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    rows["memory"] = rows["memory.rss"] * 1e6 / rows["stored"] / system.copies
    return rows, machine


# --- All of them ----------------------------------------------------------------------------------


def median_of(rounds):
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def commit():
    """The last one that changed what is measured of kho."""
    done = subprocess.run(["git", "-C", ROOT, "log", "-1", "--format=%h", "--", "node", "client",
                           "include"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode().strip()


def describe(o, systems, skipped):
    return {
        "bench": "compare",
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "rounds": o.rounds,
        "seconds": o.seconds,
        "warmup": o.warmup,
        "read_records": READ_RECORDS,
        "cases": CASES,
        "last_put": LAST_PUT,
        "notes": skipped + [ceph_note()],
        "systems": [{"name": s.name, "label": s.label, "copies": s.copies, "durable": s.durable,
                     "way": s.way, "version": s.version(), "rounds": {}, "median": {}}
                    for s in systems],
    }


def measure_all(o, systems, report, work):
    for number in range(1, o.rounds + 1):
        for case in CASES:
            for system, entry in zip(systems, report["systems"]):
                if case not in system.cases:
                    continue
                rows, report["machine"] = measure(o, system, case, work)
                entry["rounds"].setdefault(case, []).append(rows)
                print("round %d  %-8s  %-13s %9.0f records/s, p50 %8.1f us, CPU %6.2f us"
                      % (number, case, system.name, rows["rate"], rows["p50"],
                         rows["cpu.nodes"] + rows["cpu.client"]), flush=True)
    for entry in report["systems"]:
        entry["median"] = {case: median_of(rounds) for case, rounds in entry["rounds"].items()}


def main():
    o = options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    signal.signal(signal.SIGINT, lambda number, frame: sys.exit(130))
    systems, skipped = [], []
    for system in SYSTEMS:
        why = "" if system.family not in o.only else present(o, system)
        if why is None:
            systems.append(system)
        elif why:
            skipped.append("%s: %s, so it isn't compared." % (system.label, why))
    if not systems:
        sys.exit("bench/compare: none of the systems is here")
    report = describe(o, systems, skipped)
    work = tempfile.mkdtemp(prefix="kho-compare-", dir=os.environ.get("TMPDIR") or "/var/tmp")
    try:
        measure_all(o, systems, report, work)
    except RuntimeError as error:
        sys.exit("bench/compare: %s" % error)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    page.write(report, o.out)
    print("the report: %s" % os.path.join(o.out, "index.html"))


main()
