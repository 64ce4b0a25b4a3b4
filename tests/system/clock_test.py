"""Does the order of writes survive the clocks of nodes? The wall clocks of nodes, one, two or all, jump
ahead by an hour or ten years and back, while they run and between their runs; those of clients, too.
Every operation is judged: versions rise, deletes stay deleted, whatever the clocks say.

    clock_test.py BIN [--jumps 200] [--seed N] [--json FILE]

The clocks are moved by a library (clock_shift.c) that answers the programs in place of the C library."""

import os
import random
import struct
import time

from harness import BIN, check, connect, done, hello, options, path, receive, say
from history import ABSENCES, Story
from members import Member, Members, free_ports

given = options(jumps=20, seed=1, json="")
random.seed(given.seed)
SECOND = 10 ** 9
HOUR = 3600 * SECOND
YEARS = 3652 * 24 * HOUR
LIBRARY = os.path.join(os.path.dirname(BIN), "lib", "libclock_shift.so")
check(os.path.exists(LIBRARY), "the library that moves clocks is built")


class Clock:
    """The wall clock of one process, moved by what its file says."""

    def __init__(self, name):
        self.file = path("clock-" + name)
        self.by = 0
        self.move(0)
        # AddressSanitizer's library otherwise insists on being the first.
        asan = ":".join(filter(None, (os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0")))
        self.environment = {"LD_PRELOAD": LIBRARY, "KHO_CLOCK_SHIFT": self.file, "ASAN_OPTIONS": asan}

    def move(self, by):
        self.by = by
        flags = os.O_WRONLY | os.O_CREAT
        file = os.open(self.file, flags, 0o644)
        os.pwrite(file, struct.pack("=q", by), 0)
        os.close(file)


def wall_of(member):
    """What a node's HELLO says of its clock (wire.h), in ms."""
    connection = connect(int(member.address.split(":")[1]))
    connection.sendall(hello())
    answer = receive(connection, 128)
    connection.close()
    check(answer is not None and len(answer) == 128, "node %s says hello" % member.name)
    return struct.unpack_from("<Q", answer, 88)[0]


def clock_shows(member):
    """The jump is no fault unless the node goes by it."""
    off = wall_of(member) - time.time() * 1000 - clocks[member.name].by / 1e6
    check(abs(off) < 60000, "node %s is %d ms off its clock" % (member.name, off))


clocks = {name: Clock(name) for name in "abc"}
members = Members([
    Member(name, "127.0.0.1:%d" % port, environment=clocks[name].environment, shards=2)
    for name, port in zip("abc", free_ports(3))])
members.kho("collection", "create", "others")
client_clock = Clock("client")
# A node whose clock is more than a day behind the others refuses what they stamped (R6).
story = Story("clock", members, given.seed, given.json, allowed=ABSENCES | {"ETOOFAR"})
JUMPS = {"hour_ahead": HOUR, "hour_back": -HOUR, "years_ahead": YEARS, "years_back": -YEARS,
         "to_now": 0}
story.expect_faults("one_node", "two_nodes", "all_nodes", "while_running", "while_away",
                    "client_jump", *JUMPS)
load = story.load(rate=1500, deadline=3000, environment=client_clock.environment)

for jump in range(given.jumps):
    # Each kind comes up in the first of them, and each number of nodes.
    kind = list(JUMPS)[jump % len(JUMPS)]
    count = (1, 1, 2, 3)[jump % 4]
    moved = random.sample(members.members, count)
    story.under_load(load, 100)
    away = random.random() < 0.4 or jump == 3
    for member in moved:
        if away:
            member.kill()
        clocks[member.name].move(JUMPS[kind])
        if away:
            member.start(serving=False)
    for member in moved:
        if away:
            member.wait_serving()
        clock_shows(member)
    story.fired(kind, count)
    story.fired(("one_node", "two_nodes", "all_nodes")[count - 1])
    story.fired("while_away" if away else "while_running")
    if jump % 5 == 2:
        client_clock.move(random.choice(list(JUMPS.values())))
        story.fired("client_jump")
    time.sleep(random.random() * 0.5)

say("all ten years ahead, then back: new records are of their time, old ones are overwritten")
for name, clock in clocks.items():
    clock.move(YEARS)
time.sleep(0.2)
written = members.kho("--json", "put", "others", "of the future", "v").json()["written_ms"]
check(abs(written - time.time() * 1000 - YEARS / 1e6) < 60000, "written at %d" % written)
for name, clock in clocks.items():
    clock.move(0)
time.sleep(0.2)
later = members.kho("--json", "put", "others", "of the future", "w").json()["written_ms"]
check(later >= written, "a version never goes back: %d after %d" % (later, written))
check(members.kho("get", "others", "of the future").out == b"w", "the later write is read")
now = members.kho("--json", "put", "others", "of now", "v").json()["written_ms"]
check(abs(now - time.time() * 1000) < 60000, "another key is of now: %d" % now)
members.kho("del", "others", "of the future")
members.kho("get", "others", "of the future", expect=1)

# Clients go on without a fault once the clocks are right.
story.under_load(load, 500)
story.verdict()
done()
