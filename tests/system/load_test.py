"""Under mixed load each node in turn is killed, comes back, leaves in order, hangs: no operation
fails and no answer is wrong, some are only slower."""

import json
import os
import signal
import subprocess
import time

from harness import BIN, Cluster, check, done, say

cluster = Cluster(None)
seeds = ",".join("127.0.0.1:%d" % cluster.port(name) for name in cluster.names)
SLOWEST = 9.5  # every call has the default deadline of ten seconds


def under_load(text, trouble, seconds):
    say(text)
    collection = trouble.__name__
    cluster.kho("collection", "create", collection)
    load = subprocess.Popen(
        [os.path.join(BIN, "system_load"), "--cluster", seeds, "--collection", collection,
         "--seconds", str(seconds)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + seconds - 1
    time.sleep(0.5)
    rounds = 0
    while time.monotonic() < end:
        trouble(cluster.names[rounds % 3])
        rounds += 1
        time.sleep(0.3)
    out, err = load.communicate(timeout=90)
    check(load.returncode == 0, "an operation failed: %s%s" % (out.decode(), err.decode()))
    result = json.loads(out)
    say("  %s, %d rounds" % (out.decode().strip(), rounds))
    check(rounds >= 3 and result["operations"] > 100, "each node had its trouble under load")
    check(result["slowest"] < SLOWEST, "all ended in time: %s" % result)


def kill(name):
    cluster.kill(name)
    time.sleep(0.4)
    cluster.start(name)


def leave(name):
    cluster.stop(name)
    cluster.start(name)


def hang(name):
    cluster.signal(name, signal.SIGSTOP)
    time.sleep(1)
    cluster.signal(name, signal.SIGCONT)


under_load("each node is killed and comes back", kill, 12)
under_load("each node leaves in order and comes back", leave, 8)
under_load("each node hangs for a second", hang, 8)
cluster.kho("repair", within=120)
cluster.kho("verify")
done()
