"""Does kho-history-check refuse what no register does? A history that is right passes; each of a
dozen faults made in it is found, and files that are no histories are turned away."""

import os
import struct

from harness import BIN, check, done, path, run, say

CHECK = os.path.join(BIN, "kho-history-check")
PUT, DEL, APPEND, GET, STAT, LIST = 1, 2, 3, 4, 5, 6
BEGUN, DONE, REFUSED, DOUBTFUL, WRONG = range(5)
ENOTFOUND = -1001
MS = 1000000


class History:
    """Lines of history_file.h. Moments are in ms."""

    def __init__(self):
        self.lines, self.ops = [], 0

    def line(self, op, at, verb, outcome, key, value=0, version=0, status=0):
        # In place of a content hash: all that matters is that it follows from the value.
        self.lines.append(struct.pack(
            "<QQQQQIiIBBBB24s", op, at * MS, 0 if verb == STAT and outcome else value, value * 7919,
            version, 1 if version else 0, status, 1, verb, outcome, len(key), 0, key))

    def begin(self, at, verb, key, value=0):
        self.ops += 1
        self.line(self.ops, at, verb, BEGUN, key, value)
        return self.ops

    def op(self, begun, ended, verb, key, value=0, version=0, outcome=DONE, end_key=None):
        read = verb >= GET
        op = self.begin(begun, verb, key, 0 if read else value)
        status = ENOTFOUND if read and outcome == DONE and value == 0 else 0
        self.line(op, ended, verb, outcome, end_key or key, value, version, status)
        return op

    def end(self, op, ended, verb, key, outcome, value=0, version=0):
        self.line(op, ended, verb, outcome, key, value, version)

    def write(self, name="h"):
        with open(path(name), "wb") as file:
            file.write(b"khoH" + struct.pack("<I", 1) + b"".join(self.lines))
        return path(name)


def right():
    """Two keys, an append, a write in doubt that shows later, one that never does."""
    h = History()
    h.op(10, 20, PUT, b"a", 1, 100)
    h.op(12, 30, GET, b"a", 1, 100)
    h.op(31, 32, STAT, b"a", 1, 100)
    h.op(40, 60, PUT, b"a", 2, 200)
    h.op(41, 59, GET, b"a", 1, 100)
    h.op(42, 59, GET, b"a", 2, 200)
    h.op(70, 80, DEL, b"a", 0, 300)
    h.op(81, 82, GET, b"a")
    doubt = h.begin(90, PUT, b"a", 3)
    h.end(doubt, 95, PUT, b"a", DOUBTFUL, 3)
    h.op(96, 97, GET, b"a")
    h.op(100, 110, GET, b"a", 3, 400)
    h.end(doubt, 120, PUT, b"a", DONE, 3, 400)
    h.begin(130, PUT, b"a", 4)
    h.op(10, 20, PUT, b"b", 5, 100)
    h.op(21, 22, PUT, b"b", 6, 0, REFUSED)
    h.op(25, 26, GET, b"b", 5, 100)
    h.op(10, 20, APPEND, b"", 7, 100, DONE, b"0123456789abcdef")
    h.op(30, 40, GET, b"0123456789abcdef", 7, 100)
    h.begin(30, APPEND, b"", 8)
    h.op(50, 60, LIST, b"fedcba9876543210", 8, 150)
    h.op(500, 501, GET, b"a", 3, 400)
    return h


def judged(h, code, *words):
    ended = run(CHECK, "--json", *words, h.write(), expect=None)
    os.unlink(path("h"))
    check(ended.code == code, "exit code %d, not of: %s" % (code, ended))
    return ended


say("a right history passes")
figures = judged(right(), 0, "--read-back").json()
check(figures["operations"] == 20 and figures["keys"] == 4 == figures["keys_judged"], str(figures))
check(figures["violations"] == 0 == figures["gave_up"], str(figures))
check(figures["acknowledged"] == 6 and figures["refused"] == 1 and figures["doubtful"] == 2,
      str(figures))
check(figures["read_back"] == 3, str(figures))

say("two processes' histories are one")
one, two = History(), History()
one.op(10, 20, PUT, b"k", 1 << 40, 100)
two.op(30, 40, GET, b"k", 1 << 40, 100)
ended = run(CHECK, one.write("one"), two.write("two"))
ended = run(CHECK, path("two"), expect=1)
check("no write of this key" in ended.text, str(ended))

FAULTS = {
    "an acknowledged record is gone": lambda h: h.op(200, 210, GET, b"b"),
    "an appended record is gone": lambda h: h.op(200, 210, GET, b"0123456789abcdef"),
    "an older value comes back": lambda h: h.op(200, 210, GET, b"a", 2, 200),
    "a deleted record comes back": lambda h: h.op(83, 84, GET, b"a", 2, 200),
    "a stat is stale": lambda h: h.op(200, 210, STAT, b"a", 1, 100),
    "a listing leaves a record out": lambda h: h.op(200, 210, LIST, b"b"),
    "a value that nobody wrote": lambda h: h.op(200, 210, GET, b"b", 99, 500),
    "a value of another key": lambda h: h.op(200, 210, GET, b"b", 3, 500),
    "bytes that are no value": lambda h: h.op(200, 210, GET, b"b", 0, 0, WRONG),
    "a value before it was written": lambda h: h.op(5, 6, GET, b"b", 5, 100),
    "a write that was refused": lambda h: h.op(200, 210, GET, b"b", 6, 200),
    "a version that goes back": lambda h: h.op(200, 210, PUT, b"b", 10, 50),
    "a version of two values": lambda h: h.op(15, 210, PUT, b"b", 10, 100),
    "new, then old, while a write is under way": lambda h: (
        h.op(200, 290, PUT, b"b", 10, 150), h.op(210, 220, GET, b"b", 10, 150),
        h.op(230, 240, GET, b"b", 5, 100)),
    "new, then old, of a write in doubt": lambda h: (
        h.begin(200, PUT, b"b", 10), h.op(210, 220, GET, b"b", 10, 150),
        h.op(230, 240, GET, b"b", 5, 150)),
    "an append without a key": lambda h: h.op(200, 210, APPEND, b"", 11, 100),
}
for what, make in FAULTS.items():
    history = right()
    make(history)
    ended = judged(history, 1)
    check("VIOLATION" in ended.text and ended.json()["violations"] >= 1, "%s: %s" % (what, ended))
say("%d broken histories refused" % len(FAULTS))

say("each read of a long history, made stale, is found")
found = 0
for broken in range(0, 60):
    h = History()
    for number in range(1, 61):
        at = number * 100
        h.op(at, at + 80, PUT, b"k", number, number)
        h.op(at + 10, at + 130, PUT, b"k", 1000 + number, 0, DOUBTFUL)
        h.op(at + 85, at + 95, GET, b"k",
             number if number - 1 != broken or broken == 0 else number - 1, 0)
    found += judged(h, 1 if broken else 0).code
check(found == 59, "found %d" % found)

say("what was never read back is told, where that is asked")
h = right()
h.op(600, 610, PUT, b"c", 20, 100)
judged(h, 0)
check("not read back" in judged(h, 1, "--read-back").text, "it is named")

say("a search that can't end is no verdict")
h = History()
for number in range(1, 5000):
    h.op(number * 10, number * 10 + 5, PUT, b"k", number, number)
ended = judged(h, 3)
check(ended.json()["gave_up"] == 1 and ended.json()["keys_judged"] == 0, str(ended))

say("other files are no histories")
for content in (b"", b"khoH", b"khoX" + bytes(84), b"khoH" + struct.pack("<I", 2) + bytes(80),
                b"khoH" + struct.pack("<I", 1) + bytes(80)):
    with open(path("h"), "wb") as file:
        file.write(content)
    run(CHECK, path("h"), expect=2)
run(CHECK, path("absent"), expect=2)
run(CHECK, expect=2)
run(CHECK, "--odd", path("h"), expect=2)
# A line that a kill cut off is left out.
content = right()
content.write()
with open(path("h"), "ab") as file:
    file.write(bytes(79))
check(run(CHECK, "--json", path("h")).json()["operations"] == 20, "it is left out")
done()
