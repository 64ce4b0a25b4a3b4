"""Nodes of one cluster under the addresses of another: each side refuses the other by name, nothing
is served or stored across, and all is well when the nodes are back at their places."""

import re
import subprocess

from harness import KHO, NODE, Cluster, check, done, path, run, say, wait_for

ours, theirs = Cluster("records", "ours"), Cluster("records", "theirs")
for cluster, text in ((ours, "ours"), (theirs, "theirs")):
    for number in range(20):
        cluster.kho("put", "records", "key-%d" % number, text)
digests = [cluster.kho("verify", "--json").json() for cluster in (ours, theirs)]
strangers = []


def replace(name):
    """Node `name` of their cluster takes the port of ours of that name."""
    port = ours.port(name)
    ours.stop(name)
    theirs.stop(name)
    log = path("stranger-%s.log" % name)
    with open(log, "wb") as file:
        strangers.append((log, subprocess.Popen(
            [NODE, "run", theirs.data(name), "--listen", "127.0.0.1:%d" % port],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file)))
    wait_for("the stranger serves", lambda: re.search("serving on", open(log).read()))


def puts_and_gets(expect):
    for number in range(20):
        ended = ours.kho("put", "records", "key-%d" % number, "ours again", expect=expect, within=20)
        check(expect == 0 or "out of reach" in ended.text or "another cluster" in ended.text,
              "the cause is named: %s" % ended)
        ended = ours.kho("get", "records", "key-%d" % number, expect=expect, within=20)
        check(expect != 0 or ended.out == b"ours again", "what is read is ours: %s" % ended)
        if expect != 0:
            break


say("one stranger: the other two serve, status names the cause")
replace("b")
puts_and_gets(0)
ended = ours.kho("status", expect=3)
check("belongs to another cluster" in ended.text, "status tells: %s" % ended)
check("another cluster" in ours.kho("status", "--json", expect=3).json()["nodes"][1]["status"], "JSON")
ours.kho("repair", expect=3, within=60)
ours.kho("verify", expect=3)
ours.kho("collection", "create", "later")
check("no such collection" in theirs.kho("get", "later", "k", expect=6).text, "their map is theirs")

say("two strangers: unavailable, in time, and nothing of theirs is read as ours")
replace("c")
puts_and_gets(3)

say("seeds of both clusters: whichever answers first, never a mixture")
for _ in range(5):
    seeds = "127.0.0.1:%d,127.0.0.1:%d" % (ours.port("a"), theirs.port("a"))
    ended = run(KHO, "--cluster", seeds, "--deadline", "3s", "get", "records", "key-1", expect=3)
    check(ended.out == b"", "two of three are away in either cluster: %s" % ended)

say("back at their places")
for log, process in strangers:
    process.terminate()
    check(process.wait(20) == 0, "the stranger leaves in order")
    text = open(log).read()
    check("Sanitizer" not in text and "runtime error:" not in text, "a sanitizer's word: " + text)
ours.start("b", "c")
theirs.start("b", "c")
ours.kho("repair", within=60)
ours.kho("verify")
for number in range(20):
    check(ours.kho("get", "records", "key-%d" % number).out == b"ours again", "ours is whole")
    check(theirs.kho("get", "records", "key-%d" % number).out == b"theirs", "theirs is whole")
check(theirs.kho("verify", "--json").json() == digests[1], "not a record came to them")
done()
