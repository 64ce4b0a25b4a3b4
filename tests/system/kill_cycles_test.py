"""Does an acknowledged record survive kill -9 of nodes at any moment? One node, two or all three at
once die under load and come back, cycle after cycle, and clients die, too; every operation of every
client is judged, and every record read back.

    kill_cycles_test.py BIN [--cycles 1000] [--seed N] [--rate N] [--shards N] [--json FILE]
"""

import random
import time

from harness import done, options, say
from history import Story
from members import loopback

given = options(cycles=12, seed=1, rate=3000, shards=2, json="")
random.seed(given.seed)
members = loopback(shards=given.shards)
story = Story("kill_cycles", members, given.seed, given.json)
story.expect_faults("kill_one", "kill_two", "kill_all", "kill_restarting", "kill_client")

load = story.load(rate=given.rate)
story.under_load(load)
for cycle in range(given.cycles):
    # The first cycles see to it that each kind comes up.
    dice = random.random()
    count = cycle % 3 + 1 if cycle < 6 else 1 if dice < 0.6 else 2 if dice < 0.8 else 3
    story.under_load(load, 20)
    time.sleep(random.random() * 0.4)
    dying = random.sample(members.members, count)
    for member in dying:
        member.process.kill()
    for member in dying:
        member.process.wait()
    story.fired("kill_" + ("one", "two", "all")[count - 1])
    if cycle % 5 == 4:
        load.kill()
        story.fired("kill_client")
        load = story.load(rate=given.rate)
    if random.random() < 0.3:
        time.sleep(random.random() * 0.5)  # others go on without it
    for member in dying:
        member.start(serving=False)
    # Some die once more while they read what they have.
    if cycle % 4 == 3:
        time.sleep(random.random() * 0.03)
        dying[0].kill()
        story.fired("kill_restarting")
        dying[0].start(serving=False)
    for member in dying:
        member.wait_serving()
    if cycle % 100 == 99:
        say("%d cycles" % (cycle + 1))
story.under_load(load)
load.stop()
story.fired("cycles", given.cycles)
story.verdict()
done()
