"""Does a node that hangs for long, and wakes up with requests of long ago before it, undo anything?
Nodes are stopped (SIGSTOP) under load, one at a time, two at once, and a process of clients, and go on
later; every operation is judged.

    pause_test.py BIN [--seconds 65] [--rounds N] [--seed N] [--json FILE]

`seconds` is how long one node stays stopped; stopped_test looks at what a caller sees meanwhile."""

import random
import signal
import time

from harness import check, done, options, say
from history import Story
from members import loopback

given = options(seconds=6, rounds=1, seed=1, json="")
random.seed(given.seed)
members = loopback(shards=2)
story = Story("pause", members, given.seed, given.json)
story.expect_faults("stop_one", "stop_two", "stop_client", "stop_and_kill")
loads = [story.load(rate=1000, deadline=3000) for _ in range(2)]


def stopped(processes, seconds):
    """Stopped for so long, then waking up one after the other."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    before = loads[0].lines()
    time.sleep(seconds)
    went_on = loads[0].lines() - before
    for process in processes:
        with open("/proc/%d/stat" % process.pid) as stat:
            check(stat.read().rsplit(") ", 1)[1].startswith("T"), "it was stopped to the end")
        process.send_signal(signal.SIGCONT)
        time.sleep(random.random() * 0.2)
    return went_on


for _ in range(given.rounds):
    for load in loads:
        story.under_load(load)
    one = random.choice(members.members)
    say("node %s hangs for %d s" % (one.name, given.seconds))
    check(stopped([one.process], given.seconds) > 100 * given.seconds, "the others carry the load")
    story.fired("stop_one")
    story.fired("stopped_seconds", given.seconds)
    story.under_load(loads[0])

    say("two hang")
    stopped([member.process for member in random.sample(members.members, 2)], 5)
    story.fired("stop_two")
    story.under_load(loads[0])

    say("a process of clients hangs beyond its deadlines")
    check(stopped([loads[1].process], 4) > 100, "the other one goes on")
    story.fired("stop_client")
    story.under_load(loads[1])

    say("one hangs, the others die meanwhile")
    one = random.choice(members.members)
    one.signal(signal.SIGSTOP)
    time.sleep(1)
    for member in members:
        if member is not one:
            member.kill()
            member.start()
            time.sleep(0.3)
    one.signal(signal.SIGCONT)
    story.fired("stop_and_kill")
    story.under_load(loads[0])
story.verdict()
done()
