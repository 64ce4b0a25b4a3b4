"""The report: index.html with the plots beside it, and report.json with every figure of every round.
Written for a reader who has seen nothing else of kho."""

import html
import json
import os

import plots

STYLE = """
body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-size: 14px }
th, td { border-bottom: 1px solid #ccc; padding: .25em .7em; text-align: right; vertical-align: top }
th:first-child, td:first-child, td.text { text-align: left }
img { max-width: 100%; border: 1px solid #eee }
figure { margin: 1.5em 0 } figcaption { font-size: 14px; color: #555 }
code { background: #f4f4f4; padding: 0 .2em }
"""

# What is compared: the row, how it is told, and whether more of it is better.
MEASURES = [
    ("rate", "records/s", True),
    ("p50", "median latency", False),
    ("p99", "p99 latency", False),
    ("cpu", "CPU a record", False),
    ("memory", "memory a record", False),
    ("disk", "disk a record", False),
]
SPACE = ("memory", "disk")  # told after the last case of writes only


def number(value):
    if value is None:
        return "–"
    return "{:,.0f}".format(value) if value >= 100 else "%.1f" % value if value >= 10 else "%.2f" % value


def table(heads, rows):
    lines = ["<table><tr>%s</tr>" % "".join("<th>%s</th>" % html.escape(head) for head in heads)]
    for row in rows:
        lines.append("<tr>%s</tr>" % "".join("<td>%s</td>" % html.escape(cell) for cell in row))
    return "\n".join(lines + ["</table>"])


def texts(heads, rows):
    return table(heads, rows).replace("<td>", '<td class="text">')


def figure_of(median, row):
    return median["cpu.nodes"] + median["cpu.client"] if row == "cpu" else median[row]


# --- Sections -------------------------------------------------------------------------------------


def machine_text(machine):
    return ("%s, %d cores, %.0f GiB of memory, %s, Linux %s"
            % (machine.get("cpu", "?"), machine.get("cores", 0),
               machine.get("memory_bytes", 0) / (1 << 30), machine.get("system", "?"),
               machine.get("kernel", "?")))


def introduction(report):
    return """
<h1>kho and other storage systems on one machine</h1>
<p><b>kho</b> stores the records of a data centre on several nodes and acknowledges a write when a
majority of a record's replicas have it on stable storage. This page compares it with other systems that
Debian packages, each set to flush every write before it is acknowledged.</p>
<p>Run on %s, kho as of commit %s, on: %s. Loopback only. All servers, all three copies and the load's generator
share these cores and one disk, so figures of systems with three copies pay for all three here; on three
machines they would be higher, and are to be compared only with each other.</p>
<p>Every record has a key of 16 bytes and a value of 300 bytes (JSON of citizens, which compresses as such
records do); every system stores the same bytes, always under new keys. Each case starts its servers anew
with empty folders, warms up for %g s and measures %g s, one system after another; all of it %d
time%s; figures are medians. After each case of writes up to 10,000 of its records are
read back and compared byte for byte; one error ends the whole comparison.</p>
""" % (report["date"], html.escape(report["commit"] or "unknown"),
       html.escape(machine_text(report["machine"])), report["warmup"], report["seconds"],
       report["rounds"], "" if report["rounds"] == 1 else "s")


def promises(report):
    rows = [(s["label"], s["version"] or "this tree", "%d" % s["copies"], s["durable"])
            for s in report["systems"]]
    notes = "".join("<p>%s</p>" % html.escape(note) for note in report["notes"])
    return ("<h2>What an acknowledged write means</h2>"
            "<p><i>Stable storage</i>: the system's write or flush to the disk has returned. "
            "What the disk of a virtual machine does below that can't be seen from inside.</p>"
            + texts(["system", "version", "copies", "a write, and a read"], rows) + notes)


def ways(report):
    return ("<h2>How each was driven</h2><p>Each in the fastest way of those tried that counts a record only "
            "when the system has said that it is stored. A system's CPU is that of all its servers' processes. "
            "Reads are of %s records at random, which all systems then have in memory.</p>"
            % "{:,}".format(report["read_records"])) + texts(
        ["system", "way"], [(s["label"], s["way"]) for s in report["systems"]])


def case_table(report, case):
    rows = []
    for s in report["systems"]:
        m = s["median"].get(case)
        if m is not None:
            rates = [one["rate"] for one in s["rounds"][case]]
            rows.append([s["label"], number(m["rate"]),
                         "%s to %s" % (number(min(rates)), number(max(rates)))]
                        + [number(m[row] / 1000) for row in ("p50", "p99", "p999")]
                        + [number(m["cpu.nodes"]), number(m["cpu.client"] or None)])
    return ("<h3>%s (<code>%s</code>)</h3>" % (report["cases"][case].capitalize(), case) + table(
        ["system", "records/s", "of the rounds", "p50, ms", "p99, ms", "p99.9, ms",
         "CPU of servers, s per million records", "of the client"], rows))


def space_table(report):
    rows = []
    for s in report["systems"]:
        m = s["median"].get(report["last_put"])
        if m is not None:
            rows.append([s["label"], number(m["stored"]), number(m["memory"]), number(m["disk"])])
    return ("<h3>Memory and disk after the batches, by record and copy</h3>"
            + table(["system", "records stored", "memory, bytes", "disk, bytes"], rows)
            + "<p>Memory is all that a server has resident, so it depends on how many records there are: "
              "buffers and caches have fixed sizes in kho and RocksDB (whose figure is the whole process, "
              "generator included). kho's index alone takes %s bytes a record. Disk is what is written in "
              "the files, not what is set aside for later writes; for kho the part of the log in use. "
              "The logs that RocksDB and etcd keep of the latest records are in it.</p>"
            % number(next((s["median"][report["last_put"]].get("memory.per_record")
                           for s in report["systems"] if s["name"] == "kho"), None)))


def better(report):
    """Where a system beats kho, in each case and measure."""
    lines = []
    kho = next((s for s in report["systems"] if s["name"] == "kho"), None)
    for case in report["cases"]:
        for s in report["systems"]:
            if kho is None or s is kho or case not in s["median"]:
                continue
            wins = []
            for row, told, more in MEASURES:
                if row in SPACE and case != report["last_put"]:
                    continue
                ours, theirs = figure_of(kho["median"][case], row), figure_of(s["median"][case], row)
                factor = theirs / ours if more else ours / theirs
                if factor > 1:
                    wins.append("%s (by a factor of %s)" % (told, number(factor)))
            if wins:
                lines.append("<li>%s, <code>%s</code>: %s</li>"
                             % (html.escape(s["label"]), case, ", ".join(wins)))
    body = "<ul>%s</ul>" % "\n".join(lines) if lines else "<p>Nowhere in these cases.</p>"
    return ("<h2>Where another system is better than kho</h2>"
            "<p>By the medians; a factor below about 1.1 is within the noise of such runs. RocksDB has one "
            "copy to write where the others have three.</p>" + body)


def again(report):
    return """<h2>How to run it again</h2>
<p>On a Debian 12 machine, from a clone of kho, as root or with sudo:
<code>bench/compare --rounds %d --seconds %g</code>. It installs what is missing from Debian, builds, and
writes this page. Settings of the servers are in <code>bench/peers/servers.py</code>, the cases in
<code>bench/peers/systems.py</code>, the generators beside them. Every figure of every round is in
<a href="report.json">report.json</a>.</p>""" % (report["rounds"], report["seconds"])


# --- The files ------------------------------------------------------------------------------------


def render(report, images):
    def shown(wanted):
        return "".join('<figure><img src="%s" alt="%s"><figcaption>%s</figcaption></figure>'
                       % (name, html.escape(caption), html.escape(caption))
                       for name, caption in images if wanted(name))

    cases = "".join(case_table(report, case) + shown(lambda name, case=case: name == "latency.%s.svg" % case)
                    for case in report["cases"])
    return "\n".join([
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        "<title>kho and other storage systems</title><style>%s</style></head><body>" % STYLE,
        introduction(report), shown(lambda name: name == "throughput.svg"), promises(report),
        better(report), ways(report), "<h2>Figures</h2>", cases,
        "<h2>Costs</h2>", shown(lambda name: name.startswith("cpu")),
        space_table(report), shown(lambda name: name == "space.svg"), again(report),
        "</body></html>\n"])


def write(report, folder):
    """Replaces what an earlier run has left in `folder`."""
    if os.path.isdir(folder):
        for name in os.listdir(folder):
            if name in ("index.html", "report.json") or name.endswith(".svg"):
                os.remove(os.path.join(folder, name))
    os.makedirs(folder, exist_ok=True)
    images = plots.draw(report, folder)
    with open(os.path.join(folder, "index.html"), "w", encoding="utf-8") as file:
        file.write(render(report, images))
    with open(os.path.join(folder, "report.json"), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
