"""What people type: values from everywhere, keys of any bytes, results as tables and JSON, and exit
codes that scripts can build on."""

import json
import os
import signal
import subprocess
import time

from harness import KHO, Cluster, check, done, path, run, say

say("wrong use is said with the remedy, and needs no cluster")
for words, text in (
        (("put", "c"), "kho put COLLECTION KEY"),
        (("frobnicate",), "kho help lists them"),
        (("local", "frobnicate"), "kho local up"),
        (("get", "c", "k", "--frobnicate"), "see kho help get"),
        (("get", "c", "k", "--deadline", "soon"), "500ms or 10s"),
        (("get", "c", "k", "--deadline"), "wants a value"),
        (("get", "c", "k", "--json=yes"), "takes no value"),
        (("get", "c", "k", "--dir", path("nowhere")), "kho local up"),
        (("get", "c", "k", "--cluster", "no-port"), "HOST:PORT"),
        (("put", "c", "k", "@" + path("nowhere")), "can't open the value's file"),
        (("put", "c", "k", "v", "--token", "abc"), "128 hex digits"),
        (("get", "c", "%zz", "--escaped"), "two hex digits"),
        (("import", "c", "x.bin"), "--format"),
        (("import", "c", "-", "--format", "xml"), "one of deb822"),
        (("import", "c", "-", "--format", "lines", "--key", "id"), "no fields")):
    ended = run(KHO, *words, expect=2)
    check(text in ended.text, "'%s' is missing: %s" % (text, ended))
    check(not ended.out, "a refusal goes to stderr: %s" % ended)
check(b"Exit codes" in run(KHO, "help").out, "help lists the exit codes")
for line in run(KHO, "help").out.decode().split("\n\n")[1].splitlines()[1:-2]:
    command = line[2:20].split()
    check(("kho " + " ".join(command)).encode() in run(KHO, "help", *command).out,
          "help of %s" % command)
check(run(KHO, "help", "help").out == run(KHO, "help").out, "help of help")
check(run(KHO, "version").out.startswith(b"kho "), "version")
begun = time.monotonic()
ended = run(KHO, "get", "c", "k", "--cluster", "127.0.0.1:1", "--deadline", "700ms", expect=3)
check(time.monotonic() - begun < 3 and "are they running" in ended.text, "no node: %s" % ended)

cluster = Cluster("notes")

say("values come from the argument, standard input and files, and go back as they are")
binary = bytes(range(256)) * 5
with open(path("value"), "wb") as file:
    file.write(binary)
cluster.kho("put", "notes", "argument", "xin chào")
cluster.kho("put", "notes", "stdin", "-", stdin=b"line\n\0" + binary)
cluster.kho("put", "notes", "file", "@" + path("value"))
cluster.kho("put", "notes", "empty", "")
cluster.kho("put", "notes", "--", "-dash", "v")
for key, value in ((b"argument", "xin chào".encode()), (b"stdin", b"line\n\0" + binary),
                   (b"file", binary), (b"empty", b"")):
    check(cluster.kho("get", "notes", key.decode()).out == value, "value of %s" % key)
check(cluster.kho("get", "notes", "--", "-dash").out == b"v", "a key with a dash")
text = cluster.kho("get", "notes", "argument", "--json").json()
check(text["value"] == "xin chào" and text["length"] == 9, "get --json: %s" % text)
check(cluster.kho("get", "notes", "file", "--json").json()["value_hex"] == binary.hex(),
      "get --json of bytes")

say("an environment variable and an option name the cluster, too")
addresses = cluster.kho("local", "status", "--json").json()["cluster"]
os.environ["KHO_CLUSTER"] = addresses
check(run(KHO, "get", "notes", "argument").out == "xin chào".encode(), "KHO_CLUSTER")
del os.environ["KHO_CLUSTER"]
check(run(KHO, "--cluster", addresses.split(",")[1], "get", "notes", "argument").out ==
      "xin chào".encode(), "one seed is enough")

say("keys of any bytes are printed so that they can be read back")
key = cluster.kho("append", "notes", "an event").out.decode().strip()
check(cluster.kho("get", "notes", key, "--escaped").out == b"an event", "the key of an append")
for raw, printed in ((b"100%", b"100%25"), ("Hà Nội".encode(), "Hà Nội".encode()),
                     (b"a\nb", b"a%0Ab"), (b"\xff a", b"%FF%20a")):
    cluster.kho("put", "notes", printed.decode(), "odd", "--escaped")
    keys = cluster.kho("ls", "notes", "--keys").out.splitlines()
    check(printed in keys, "%s is listed as %s: %s" % (raw, printed, keys))
    check(run(KHO, "--dir", cluster.dir, "get", "notes", os.fsdecode(raw)).out == b"odd",
          "the raw key %s" % raw)

say("not found is 1, a missing collection isn't")
check("no record" in cluster.kho("get", "notes", "nope", expect=1).text, "get of nothing")
ended = cluster.kho("stat", "notes", "argument", "nope", expect=1)
check(b"argument" in ended.out and b"nope" in ended.err, "stat tells both: %s" % ended)
check("create it first" in cluster.kho("get", "nope", "k", expect=6).text, "no collection")
cluster.kho("del", "notes", "argument")
cluster.kho("get", "notes", "argument", expect=1)
cluster.kho("del", "notes", "argument")
cluster.kho("collection", "create", "notes", expect=6)
cluster.kho("collection", "create", "notes", "--if-missing")
cluster.kho("collection", "create", "Not Allowed", expect=2)
cluster.kho("put", "Not Allowed", "k", "v", expect=2)
check("--replicas 4" in cluster.kho("collection", "create", "four", "--replicas", "4", expect=2).text,
      "more replicas than the map names")
cluster.kho("put", "notes", "k" * 1025, "v", expect=2)
cluster.kho("put", "notes", "", "v", expect=2)
with open(path("large"), "wb") as file:
    file.write(b"x" * (16 << 20))
cluster.kho("put", "notes", "large", "@" + path("large"))
check(cluster.kho("get", "notes", "large").out == b"x" * (16 << 20), "the largest value")
with open(path("large"), "ab") as file:
    file.write(b"x")
check("16777216" in cluster.kho("put", "notes", "large", "@" + path("large"), expect=2).text,
      "beyond the largest value")

say("results as JSON")
listed = [line for line in cluster.kho("ls", "notes", "--json").out.splitlines()]
check(len(listed) == len(cluster.kho("ls", "notes", "--keys").out.splitlines()), "ls --json")
check(len(cluster.kho("ls", "notes", "--limit", "3").out.splitlines()) == 3, "ls --limit")
put = cluster.kho("put", "notes", "j", "v", "--json").json()
stat = cluster.kho("stat", "notes", "j", "--json").json()
check(put["outcome"] == "applied" and put["version"] == stat["version"] and
      put["hash"] == stat["hash"], "put and stat agree: %s %s" % (put, stat))
check(cluster.kho("collection", "ls", "--json").json()[0]["name"] == "notes", "collection ls")
verify = cluster.kho("verify", "--json").json()
check(verify["equal"] and verify["collections"][0]["collection"] == "notes", "verify: %s" % verify)
check(cluster.kho("repair", "--json").json()["records_copied"] == 0, "nothing to repair")
status = cluster.kho("status", "--json").json()
check(len(status["nodes"]) == 3 and all(node["reachable"] for node in status["nodes"]), "status")
lines = cluster.kho("status").out.decode().splitlines()
check(max(len(line) for line in lines) <= 100, "status fits: %s" % lines)
work = lines.index("") + 5  # behind an empty line, titles and three nodes
check(lines[work] == "" and len(lines) == work + 5, "status has two tables: %s" % lines)
ends = [lines[work + 1].index(title) + len(title) for title in
        ("SEGMENTS", "LOG", "DEAD", "COMPACTED", "SCRUBBED", "WITHIN", "CACHE", "/RECORD")]
for line in lines[work + 2:]:
    check(line[0] in "abc" and len(line) == ends[-1] and all(line[at - 1] != " " for at in ends),
          "what is told stands under its title: %s" % lines)
for words in (("status",), ("verify",), ("repair",), ("collection", "ls"), ("stat", "notes", "j")):
    lines = cluster.kho(*words).out.decode().splitlines()
    check(len(lines) >= 2 and "\033" not in "".join(lines), "a plain table of %s" % (words,))

say("a reader that has seen enough is no failure to shout about")
process = subprocess.Popen([KHO, "--dir", cluster.dir, "get", "notes", "large"],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
process.stdout.read(10)
process.stdout.close()
check(process.stderr.read() == b"", "silence on a broken pipe")
check(process.wait(20) == -signal.SIGPIPE, "ends as by SIGPIPE")
with open("/dev/full", "wb") as full:
    code = subprocess.call([KHO, "help"], stdout=full, stderr=subprocess.DEVNULL)
check(code == 6, "a full disk behind standard output")

say("one node away: slower, not different; two: unavailable, soon")
cluster.kill("b")
cluster.kho("put", "notes", "one-away", "v", within=10)
check(cluster.kho("get", "notes", "one-away", within=10).out == b"v", "get with one away")
ended = cluster.kho("status", expect=3)
check(b"unreachable" in ended.out, "status shows it: %s" % ended)
check(ended.out.count(b"\nb ") == 1 and ended.out.count(b"\na ") == 2, "b has one row: %s" % ended)
cluster.kho("verify", expect=3)
cluster.kho("repair", expect=3)
cluster.kill("c")
cluster.kho("get", "notes", "one-away", expect=3, within=15)
cluster.kho("put", "notes", "two-away", "v", expect=3, within=15)
cluster.start("b", "c")
cluster.kho("repair")
cluster.kho("verify")

say("a write in doubt goes on with its token")
token = None
for delay in (0.05, 0.07, 0.1, 0.03, 0.15, 0.02, 0.2, 0.3):
    stopped = [cluster.pid("b"), cluster.pid("c")]
    process = subprocess.Popen(
        [KHO, "--dir", cluster.dir, "put", "notes", "doubt", "-", "--json", "--deadline", "4s"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b"d" * (16 << 20))
    process.stdin.close()
    time.sleep(delay)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    out = process.stdout.read()
    err = process.stderr.read()
    code = process.wait(20)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    check(code in (0, 3, 4), "applied, not applied or in doubt, not %d: %s" % (code, err))
    if code == 4:
        token = json.loads(out)["token"]
        check(token.encode() in err, "the token is printed")
        break
if token is None:
    say("  (this machine was too quick or too slow for one)")
else:
    cluster.kho("put", "notes", "doubt", "-", "--token", token, stdin=b"d" * (16 << 20))
    check(cluster.kho("get", "notes", "doubt").out == b"d" * (16 << 20), "stored once and for all")
    cluster.kho("put", "notes", "doubt", "another", "--token", token, expect=2)
done()
