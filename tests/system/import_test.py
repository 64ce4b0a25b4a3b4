"""Import and export: every format goes in and comes out as the same records, a second run stores
nothing, bad records are told with their line, and an import that stops can be run again."""

import json
import os
import pty
import subprocess
import time

from harness import KHO, Cluster, check, done, path, say


def write(name, content):
    with open(path(name), "wb") as file:
        file.write(content)
    return path(name)


def counts(*words, expect=0, stdin=b"", within=60):
    return cluster.kho("import", *words, "--json", expect=expect, stdin=stdin, within=within).json()


def values(collection):
    keys = [json.loads(line)["key"] for line in
            cluster.kho("ls", collection, "--json").out.splitlines()]
    return {key: cluster.kho("get", collection, key, "--escaped").out for key in keys}


cluster = Cluster(None)

FILES = {
    "control.deb822": (b"Package: a\nDescription: one\n two\n .\n three\n\nPackage: b\nVersion: 1\n",
                       {"a": b"Package: a\nDescription: one\n two\n .\n three",
                        "b": b"Package: b\nVersion: 1"}),
    "rows.csv": (b"id,name\r\n1,\"x\r\ny\"\r\n\"2\",\"say \"\"so\"\"\"\r\n",
                 {"1": b"1,\"x\r\ny\"", "2": b"\"2\",\"say \"\"so\"\"\""}),
    "events.jsonl": (b'{"id": "a", "n": [1, 2]}\n{"id": 7}\n',
                     {"a": b'{"id": "a", "n": [1, 2]}', "7": b'{"id": 7}'}),
    "notes.txt": (b"one\n\nthree", {path("notes.txt") + ":1": b"one",
                                    path("notes.txt") + ":2": b"",
                                    path("notes.txt") + ":3": b"three"}),
}
for name, (content, records) in FILES.items():
    say("%s goes in and comes out" % name)
    file, collection = write(name, content), name.split(".")[1]
    ended = cluster.kho("import", collection, file, expect=6)
    check("--create" in ended.text, "the missing collection's remedy: %s" % ended)
    got = counts(collection, file, "--create")
    check((got["records"], got["stored"], got["failed"]) == (len(records), len(records), 0),
          "%s: %s" % (name, got))
    check(values(collection) == records, "%s is stored as %s" % (name, values(collection)))
    got = counts(collection, file)
    check((got["stored"], got["skipped"]) == (0, len(records)), "a second run: %s" % got)
    out = path("out." + collection)
    cluster.kho("export", collection, out)
    check(not os.path.exists(out + ".part"), "nothing beside the file")
    got = counts(collection + "2", out, "--create")
    check(got["stored"] == len(records) and got["failed"] == 0, "import of the export: %s" % got)
    again = values(collection + "2")
    if collection == "txt":
        check(sorted(again.values()) == sorted(records.values()), "the same lines")
    else:
        check(again == records, "the same records: %s" % again)
    piped = cluster.kho("export", collection, "--format", {"txt": "lines"}.get(collection, collection))
    with open(out, "rb") as file:
        check(piped.out == file.read(), "standard output gets the same bytes")

say("csv with its header, without one, and by another column")
header = cluster.kho("export", "csv", "--format", "csv", "--header", "id,name").out
check(header.startswith(b"id,name\n"), "--header")
bare = cluster.kho("export", "csv", "--format", "csv", "--no-header").out
got = counts("csv3", "-", "--format", "csv", "--no-header", "--create", "--key", "2", stdin=bare)
check(got["stored"] == 2 and "say \"so\"" in values("csv3"), "--no-header --key 2: %s" % got)
ended = cluster.kho("import", "csv3", "-", "--format", "csv", "--key", "nope", stdin=header, expect=2)
check("no column" in ended.text, "an unknown column: %s" % ended)

say("of one key the last record wins, in a file and in a stream, however often it is run")
lines = b"".join(b'{"id":"k%d","n":%d}\n' % (n % 7, n) for n in range(5000))
want = {"k%d" % k: b'{"id":"k%d","n":%d}' % (k, max(n for n in range(5000) if n % 7 == k))
        for k in range(7)}
double = write("double.jsonl", lines)
got = counts("double", double, "--create")
check((got["stored"], got["repeated"]) == (7, 4993), "a file: %s" % got)
check(values("double") == want, "the last of each")
got = counts("double", double)
check((got["stored"], got["skipped"], got["repeated"]) == (0, 7, 4993), "a second run: %s" % got)
got = counts("stream", "-", "--format", "jsonl", "--create", "--batch", "10", stdin=lines)
check(got["repeated"] == 4993 and values("stream") == want, "a stream: %s" % got)

say("bad records are told with file and line, the others are stored")
bad = write("bad.jsonl", b'{"id":1}\nnonsense\n{"id":2}\n{"no":3}\n{"id":"' + b"x" * 1025 + b'"}\n')
ended = cluster.kho("import", "bad", bad, "--create", expect=6)
for text in (bad + ":2: ", "isn't JSON", bad + ":4: ", 'no member "id"', bad + ":5: ", "1024"):
    check(text in ended.text, "'%s' is missing: %s" % (text, ended))
got = counts("bad", bad, expect=6)
check((got["skipped"], got["failed"]) == (2, 3), "bad records: %s" % got)
many = write("many.jsonl", b"nonsense\n" * 1000)
ended = cluster.kho("import", "bad", many, expect=6)
check(ended.err.count(b"\n") < 20 and "counted only" in ended.text, "not a thousand complaints")
cluster.kho("import", "bad", path("nowhere.csv"), expect=6)

say("a value that makes no record of the format is left out and told")
cluster.kho("put", "bad", "odd", "two\nlines")
ended = cluster.kho("export", "bad", path("odd.jsonl"), expect=6)
check("bad/odd" in ended.text and "1 records were left out" in ended.text, "unfit: %s" % ended)
check(open(path("odd.jsonl"), "rb").read().count(b"\n") == 2, "the others are there")
cluster.kho("put", "bad", "renamed", '{"id":"other"}')
check("another key" in cluster.kho("export", "bad", path("odd.jsonl"), expect=6).text, "other key")

say("values from nothing to 16 MiB in one file")
sizes = [0, 1, 1000, 100000, 3 << 20, 16 << 20]
blob = write("blobs.txt", b"\n".join(bytes([97 + n]) * size for n, size in enumerate(sizes)) + b"\n")
got = counts("blobs", blob, "--create")
check(got["stored"] == len(sizes), "large values: %s" % got)
cluster.kho("export", "blobs", path("blobs.out.txt"))
check(sorted(map(len, open(path("blobs.out.txt"), "rb").read().split(b"\n")[:-1])) == sizes,
      "all lengths come back")
over = write("over.txt", b"a\n" + b"x" * ((16 << 20) + 1) + b"\nb\n")
ended = cluster.kho("import", "blobs", over, expect=6)
check(over + ":2: " in ended.text and "16777216" in ended.text, "too long a record: %s" % ended)

say("the rate is kept")
numbers = write("numbers.txt", b"".join(b"%d\n" % n for n in range(1000)))
begun = time.monotonic()
counts("numbers", numbers, "--create", "--rate", "500")
check(1.5 < time.monotonic() - begun < 6, "1,000 records at 500 a second")

say("a slow pipe is stored as it comes")
process = subprocess.Popen([KHO, "--dir", cluster.dir, "import", "slow", "-", "--format", "lines",
                            "--create", "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
process.stdin.write(b"first\nsec")
process.stdin.flush()
end = time.monotonic() + 20
while cluster.kho("get", "slow", "--", "-:1", expect=None).out != b"first":
    check(time.monotonic() < end, "the first line isn't there while the pipe is open")
process.stdin.write(b"ond")
process.stdin.close()
check(json.loads(process.stdout.read())["stored"] == 2 and process.wait(20) == 0, "both lines")
check(cluster.kho("get", "slow", "--", "-:2").out == b"second", "a line in two pieces")

say("a progress line on a terminal, none elsewhere")
shown = b""
process_id, terminal = pty.fork()
if process_id == 0:
    os.environ["TERM"] = "xterm"
    os.execv(KHO, [KHO, "--dir", cluster.dir, "import", "paced", numbers, "--create", "--rate", "500"])
while True:
    try:
        piece = os.read(terminal, 4096)
    except OSError:
        break
    if not piece:
        break
    shown += piece
check(os.waitpid(process_id, 0)[1] == 0, "the import on a terminal")
check(b"records" in shown and b"/s" in shown and b"\r" in shown and b"left" in shown,
      "progress: %s" % shown)
check(cluster.kho("import", "paced", numbers, "--all").err == b"", "no progress into a pipe")

say("an import that the cluster can't take any more stops, and goes on when it can")
many = write("many.txt", b"".join(b"record %d\n" % n for n in range(20000)))
process = subprocess.Popen([KHO, "--dir", cluster.dir, "import", "stopped", many, "--create",
                            "--rate", "8000", "--json", "--deadline", "4s"], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE)
time.sleep(0.7)
cluster.kill("b", "c")
out, err = process.communicate(timeout=30)
check(process.returncode in (3, 4) and b"run it again" in err, "stops: %s %s" % (out, err))
stored = json.loads(out)["stored"]
check(0 < stored < 20000, "some were stored: %d" % stored)
cluster.start("b", "c")
got = counts("stopped", many)
check(got["skipped"] >= stored and got["skipped"] + got["stored"] == 20000, "goes on: %s" % got)
check(cluster.kho("export", "stopped", "--format", "lines").out.count(b"\n") == 20000, "all there")
done()
