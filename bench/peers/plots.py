"""The report's plots, as SVG from gnuplot. Bars side by side: one group a case or system, one bar of
each kind in it."""

import os
import subprocess

# Distinguishable with any colour vision (Okabe and Ito).
COLOURS = ["#0072b2", "#e69f00", "#d55e00", "#009e73", "#999999", "#cc79a7"]


def _number(value):
    return "NaN" if value is None else "%.6g" % value


def bars(path, title, unit, groups, kinds, values, logarithmic=False, stacked=False):
    """groups, kinds: what the axis and the key say; values[g][k], None where there is nothing."""
    lines = ["$data << END"]
    for group, row in zip(groups, values):
        lines.append("\t".join(['"%s"' % group] + [_number(value) for value in row]))
    lines.append("END")
    lines += [
        'set terminal svg size 880,400 font "sans-serif,13" background "#ffffff"',
        'set output "%s"' % path,
        'set title "%s"' % title,
        'set ylabel "%s"' % unit,
        "set datafile separator tab",
        "set style data histograms",
        "set style histogram %s" % ("rowstacked" if stacked else "clustered gap 1"),
        "set style fill solid 0.9 noborder",
        "set boxwidth 0.85",
        "set grid ytics linecolor '#dddddd'",
        "set key outside right top",
        "set tics nomirror",
        "set xtics scale 0",
        "set border 3",
    ]
    if logarithmic:
        lines += ["set logscale y", "set format y '%.0s%c'"]
        # A bar of a logarithmic axis begins at its lower end.
        lines.append("set yrange [%s:*]" % _floor(values))
    else:
        lines.append("set yrange [0:*]")
    lines.append("plot " + ", ".join(
        "$data using %d:xtic(1) title '%s' linecolor rgb '%s'"
        % (k + 2, kind, COLOURS[k % len(COLOURS)]) for k, kind in enumerate(kinds)))
    subprocess.run(["gnuplot"], input="\n".join(lines).encode(), check=True)


def _floor(values):
    lowest = min(value for row in values for value in row if value)
    power = 1
    while power * 10 <= lowest:
        power *= 10
    return power


def draw(report, folder):
    """Writes all plots; (file, caption) of each."""
    systems, cases = report["systems"], report["cases"]
    made = []

    def value(system, case, row):
        return system["median"].get(case, {}).get(row)

    def plot(name, caption, *args, **more):
        bars(os.path.join(folder, name), *args, **more)
        made.append((name, caption))

    labels = [system["label"] for system in systems]
    plot("throughput.svg", "Records a second, on a logarithmic axis; more is better.",
         "Throughput", "records/s", list(cases), labels,
         [[value(s, case, "rate") for s in systems] for case in cases], logarithmic=True)
    for case in cases:
        having = [s for s in systems if case in s["median"]]
        plot("latency.%s.svg" % case,
             "%s: how long a call takes%s, on a logarithmic axis; less is better."
             % (cases[case].capitalize(), " (a call is a whole batch)" if "batch" in case else ""),
             "Latency, %s" % case, "µs", [s["label"] for s in having], ["p50", "p99", "p99.9"],
             [[value(s, case, row) for row in ("p50", "p99", "p999")] for s in having],
             logarithmic=True)
    plot("cpu.svg", "CPU seconds of all servers and of the client a million records, on a logarithmic "
         "axis; less is better.",
         "CPU, servers and client together", "s per million records", list(cases), labels,
         [[_cpu(value(s, case, "cpu.nodes"), value(s, case, "cpu.client")) for s in systems]
          for case in cases], logarithmic=True)
    last = report["last_put"]
    plot("cpu.batch.svg", "The same for batches, on a linear axis, servers and client apart.",
         "CPU, %s" % last, "s per million records", labels, ["servers", "client"],
         [[value(s, last, "cpu.nodes"), value(s, last, "cpu.client")] for s in systems],
         stacked=True)
    plot("space.svg", "Resident memory of a server (buffers and caches included) and what is written in "
         "its files, by stored record and copy, after the batches; less is better.",
         "Memory and disk", "bytes a record", labels, ["memory", "disk"],
         [[value(s, last, "memory"), value(s, last, "disk")] for s in systems])
    return made


def _cpu(nodes, client):
    return None if nodes is None else nodes + client
