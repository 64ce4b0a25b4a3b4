"""A node that hangs (SIGSTOP) slows nobody beyond a deadline; with two of them gone calls end as
unavailable before their deadline, and nothing is lost when they go on."""

import signal

from harness import Cluster, check, done, say

cluster = Cluster()


def put(key, value, **options):
    return cluster.kho("put", "records", key, value, within=30, **options)


def get(key, **options):
    return cluster.kho("get", "records", key, within=30, **options)


for number in range(5):
    put("before-%d" % number, "value %d" % number)

say("each node hangs in turn")
for name in cluster.names:
    cluster.signal(name, signal.SIGSTOP)
    ended = put("during-" + name, "stopped " + name)
    check(ended.seconds < 8, "a put goes on without node %s: %s" % (name, ended))
    for number in range(5):
        ended = get("before-%d" % number)
        check(ended.out == b"value %d" % number, "a get goes on without node " + name)
        check(ended.seconds < 8, "and in time: %s" % ended)
    check(get("during-" + name).out == b"stopped " + name.encode(), "and reads the new record")
    cluster.signal(name, signal.SIGCONT)

say("two hang: unavailable or in doubt, in time")
cluster.signal("a", signal.SIGSTOP)
cluster.signal("b", signal.SIGSTOP)
ended = get("before-0", expect=3)
check(ended.seconds < 12, "a get ends: %s" % ended)
ended = put("doubt", "value", expect=None)
check(ended.code in (3, 4) and ended.seconds < 12, "a put ends: %s" % ended)
cluster.signal("a", signal.SIGCONT)
cluster.signal("b", signal.SIGCONT)

say("two dead: unavailable quickly")
cluster.kill("a", "b")
ended = get("before-0", expect=3)
check(ended.seconds < 8, "a get ends before its deadline of 10 s: %s" % ended)
ended = put("never", "value", expect=3)
check(ended.seconds < 8, "a put ends before its deadline of 10 s: %s" % ended)
cluster.kho("local", "status", expect=3)
cluster.start("a", "b")

say("all back")
for number in range(5):
    check(get("before-%d" % number).out == b"value %d" % number, "the records are there")
cluster.kho("repair", within=60)
cluster.kho("verify")
cluster.kho("status")
done()
