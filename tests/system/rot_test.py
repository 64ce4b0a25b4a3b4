"""Does a reader ever see rot? Bits flip in the segment files of one running node, under load: in values,
heads, footers, padding, wherever they fall. Others answer; the damage is found by reads and restarts
and repaired; in the end the node's folder is made anew. Every operation is judged.

    rot_test.py BIN [--rounds 50] [--flips 20] [--seed N] [--json FILE]
"""

import mmap
import os
import random
import shutil
import signal
import time

from harness import check, done, options, say, wait_for
from history import Story
from members import loopback

given = options(rounds=3, flips=20, seed=1, json="")
random.seed(given.seed)
BLOCK = 4096
members = loopback(shards=2)
victim = random.choice(members.members)  # the only one: two whole ones are left
story = Story("rot", members, given.seed, given.json)
story.expect_faults("flip", "found", "restart", "repair")


def written(file):
    """The blocks that hold something."""
    with open(file, "rb") as segment:
        content = segment.read()
    return [at for at in range(0, len(content), BLOCK) if any(content[at:at + BLOCK])]


def flip(file, at):
    """One bit, past the page cache, as the node reads and writes."""
    buffer = mmap.mmap(-1, BLOCK)
    segment = os.open(file, os.O_RDWR | os.O_DIRECT)
    check(os.preadv(segment, [buffer], at) == BLOCK, "a block is read")
    place = random.randrange(BLOCK)
    buffer[place] ^= 1 << random.randrange(8)
    check(os.pwritev(segment, [buffer], at) == BLOCK, "a block is written")
    os.close(segment)
    story.fired("flip")


def damaged():
    stats = members.status()[victim.name].get("stats", {})
    return any(stats.get(name, 0) > 0 for name in ("episodes", "suspect", "values_unknown"))


def find():
    """Reads until the victim has met some of it: which replica gives a value is the client's choice."""
    for _ in range(10):
        if damaged():
            story.fired("found")
            return
        story.read_back()


load = story.load(rate=2000)
story.under_load(load, 4000)
for number in range(given.rounds):
    # Nothing of its own is on the way to the blocks while they change.
    victim.signal(signal.SIGSTOP)
    time.sleep(0.2)
    blocks = [(file, at) for file in victim.segments() for at in written(file)]
    for file, at in random.sample(blocks, min(given.flips, len(blocks))):
        flip(file, at)
    victim.signal(signal.SIGCONT)
    story.under_load(load, 500)
    if number % 2 == 0:
        victim.kill()
        victim.start()
        story.fired("restart")
        story.under_load(load, 500)
    load.stop()
    find()
    wait_for("a repair", lambda: members.kho("repair", expect=None, within=120).code == 0, 120)
    story.fired("repair")
    load = story.load(rate=2000)
    story.under_load(load, 1000)
load.stop()
story.read_back()

say("node %s is made anew" % victim.name)
victim.kill()
shutil.rmtree(victim.data)
victim.make()
victim.start()
members.kho("node", "readmit", victim.name)
story.verdict()
done()
