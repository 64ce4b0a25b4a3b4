"""Do reads stay linearizable and acknowledged records where they belong while the cluster grows,
shrinks, and loses a node for good? Nodes are added, drained, removed and replaced under load; admins
are killed in the middle of it and others go on; every operation of every client is judged, and every
record read back.

    member_test.py BIN [--rounds 10] [--seed N] [--rate N] [--shards N] [--json FILE]
"""

import random
import subprocess
import time

from harness import KHO, check, done, options, say
from history import Story
from members import Member, free_ports, loopback

given = options(rounds=1, seed=1, rate=2000, shards=2, json="")
random.seed(given.seed)
members = loopback(shards=given.shards)
story = Story("member", members, given.seed, given.json)
story.expect_faults("add", "drain", "remove", "replace_dead", "reweight", "kill_admin", "two_admins")
fresh = 0


def newcomer():
    """A running node that belongs to no cluster."""
    global fresh
    fresh += 1
    member = Member("new%d" % fresh, "127.0.0.1:%d" % free_ports(1)[0], shards=given.shards)
    member.start()
    return member


def admin(*words):
    return subprocess.Popen([KHO, "--cluster", members.cluster, *words],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def through(*words):
    """Until it is done: what is under way from before is brought to its end on the way."""
    for _ in range(20):
        ended = members.kho(*words, expect=None, within=120)
        if ended.code == 0:
            return ended
        time.sleep(0.2)
    check(False, "%s goes through: %s" % (words, ended))


def interrupted(*words):
    """Killed at a random moment, then run again."""
    process = admin(*words)
    time.sleep(random.random() * 1.5)
    process.kill()
    process.communicate()
    story.fired("kill_admin")
    through(*words)


def seeds():
    """Where clients begin from now on: who was there first may be gone."""
    members.cluster = story.cluster = ",".join(member.address for member in members)


def names():
    return set(members.status())


load = story.load(rate=given.rate)
story.under_load(load)
for round in range(given.rounds):
    say("grow")
    d, e = newcomer(), newcomer()
    plan = members.kho("node", "add", d.name, d.address, "--plan", "--json").json()
    check(plan["partitions"] > 0 and plan["replicas"] > 0 and plan["records"] > 0 and
          plan["bytes"] > 0, "a plan says what it takes: %s" % plan)
    check(d.name not in names(), "a plan changes nothing")
    interrupted("node", "add", d.name, d.address)
    members.members.append(d)
    story.fired("add")
    story.under_load(load, 50)
    # Two at once, for different changes: each is done in the end.
    other = admin("node", "add", e.name, e.address)
    through("node", "reweight", d.name, "50")
    other.communicate()
    through("node", "add", e.name, e.address)
    members.members.append(e)
    story.fired("add")
    story.fired("reweight")
    story.fired("two_admins")
    check({d.name, e.name} <= names(), "both are in: %s" % names())
    seeds()
    story.under_load(load, 50)

    members.kho("node", "drain", e.name, within=120)
    check(members.status()[e.name]["stats"]["records"] == 0, "drained")
    members.kho("node", "undrain", e.name, within=120)
    check(members.status()[e.name]["stats"]["records"] > 0, "and back")

    say("lose one for good")
    dead = random.choice([m for m in members.members if m.name != "a"])
    dead.kill()
    story.under_load(load, 50)
    f = newcomer()
    interrupted("node", "replace", dead.name, f.name, f.address)
    members.members.remove(dead)
    members.members.append(f)
    story.fired("replace_dead")
    check(dead.name not in names() and f.name in names(), "one for the other: %s" % names())
    story.under_load(load, 50)

    say("shrink")
    seeds()
    for _ in range(2):
        leaving = random.choice([m for m in members.members if m.name != "a"])
        before = {name: node["stats"]["records"] for name, node in members.status().items()}
        ended = members.kho("node", "remove", leaving.name, expect=None)
        check(ended.code != 0 and "drain" in ended.text, "who holds something isn't removed: %s" % ended)
        interrupted("node", "drain", leaving.name)
        story.fired("drain")
        check(members.status()[leaving.name]["stats"]["records"] == 0,
              "it holds nothing any more: %s" % before)
        through("node", "remove", leaving.name)
        story.fired("remove")
        members.members.remove(leaving)
        seeds()
        leaving.kill()
        story.under_load(load, 50)
    check(names() == {member.name for member in members}, "who is there: %s" % names())
load.stop()
story.verdict()
done()
