"""Is a record that was acknowledged found by clients who see another part of the cluster? Three nodes
and two processes of clients, each in a network namespace of its own; cuts between some of them, most
in one direction only, so that requests arrive and answers don't, or the other way round; lost
packets. Both write the same keys; every operation is judged.

    cut_test.py BIN [--cuts 200] [--longest 20] [--seed N] [--json FILE]
"""

import random
import time

from harness import done, options, say
from history import Load, Story
from members import Member, Members
import network

given = options(cuts=12, longest=2, seed=1, json="")
random.seed(given.seed)
network.need()

machines = {name: network.Machine(name) for name in ("a", "b", "c", "x", "y")}
nodes, clients = [machines[name] for name in "abc"], [machines[name] for name in "xy"]
members = Members([
    Member(machine.name, machine.host + ":7700", prefix=machine.prefix, options=("--insecure",),
           shards=2) for machine in nodes])
story = Story("cut", members, given.seed, given.json)
loads = [Load(story, prefix=machine.prefix, rate=700, deadline=2500) for machine in clients]


def requests_lost(node, client):
    node.cut("in", client)


def answers_lost(node, client):
    node.cut("out", client)


# What each cuts: (node, client) pairs that begin at some node and client.
def one_pair(way):
    way(random.choice(nodes), random.choice(clients))


def two_nodes(way):
    client = random.choice(clients)
    for node in random.sample(nodes, 2):
        way(node, client)


def crossed(way):
    """Each client has another majority."""
    first, second = random.sample(nodes, 2)
    way(first, clients[0])
    way(second, clients[1])


CUTS = {
    "requests_lost": lambda: one_pair(requests_lost),
    "answers_lost": lambda: one_pair(answers_lost),
    "requests_lost_of_two": lambda: two_nodes(requests_lost),
    "answers_lost_of_two": lambda: two_nodes(answers_lost),
    "requests_lost_crossed": lambda: crossed(requests_lost),
    "answers_lost_crossed": lambda: crossed(answers_lost),
    "node_deaf": lambda: random.choice(nodes).cut("in"),
    "node_mute": lambda: random.choice(nodes).cut("out"),
    "client_deaf": lambda: random.choice(clients).cut("in"),
    "client_mute": lambda: random.choice(clients).cut("out"),
    "all_answers_lost": lambda: [node.cut("out") for node in nodes],
    "packets_lost": lambda: [machine.cut("in", percent=20) for machine in nodes],
}
story.expect_faults("packets", *CUTS)

for number in range(given.cuts):
    for load in loads:
        story.under_load(load, 100)
    name = list(CUTS)[number % len(CUTS)]
    CUTS[name]()
    time.sleep(0.3 + random.random() * (given.longest - 0.3))
    if random.random() < 0.3:  # one dies behind the cut
        dying = random.choice(members.members)
        dying.kill()
        dying.start()
        story.fired("kill_behind_cut")
    dropped = sum(machine.heal() for machine in machines.values())
    story.fired("packets", dropped)
    if dropped > 0:
        story.fired(name)
    if number % 50 == 49:
        say("%d cuts" % (number + 1))
story.verdict()
done()
