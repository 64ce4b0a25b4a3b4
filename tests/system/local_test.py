"""The local cluster: up goes on from wherever it stands, nothing but its own processes is ever
signalled, and down leaves nothing."""

import os
import signal
import socket
import subprocess
import time

from harness import KHO, Cluster, check, done, path, run, say, wait_for

cluster = Cluster("notes")
directory = cluster.dir

say("up is quick, and nothing when all runs")
pids = {name: cluster.pid(name) for name in cluster.names}
ended = cluster.kho("local", "up")
check(ended.seconds < 10, "up of what is up: %s" % ended)
check(pids == {name: cluster.pid(name) for name in cluster.names}, "the same processes")
fresh = run(KHO, "--dir", path("second"), "local", "up", "--nodes", "1", "--memory", "128M")
ports = [node["port"] for node in run(
    KHO, "--dir", path("second"), "local", "status", "--json").json()["nodes"]]
check(len(ports) == 1 and ports[0] not in [cluster.port(name) for name in cluster.names],
      "a second cluster beside it, of one node: %s" % fresh)
run(KHO, "--dir", path("second"), "collection", "create", "c")
run(KHO, "--dir", path("second"), "put", "c", "k", "v")
check(run(KHO, "--dir", path("second"), "get", "c", "k").out == b"v", "one node serves")
run(KHO, "--dir", path("second"), "local", "down", "--destroy")
check(not os.path.exists(path("second")), "--destroy leaves no folder")
run(KHO, "--dir", path("second"), "local", "down")
run(KHO, "--dir", path("second"), "local", "status", expect=1)

say("the nodes are processes of their own: no terminal, no open files of ours")
for pid in pids.values():
    check(os.getsid(pid) == pid, "a session of its own")
    check(os.readlink("/proc/%d/fd/0" % pid) == "/dev/null", "no input")
    check(os.readlink("/proc/%d/fd/1" % pid).endswith("/log"), "output to the log")

say("stop, kill and start one")
cluster.kho("put", "notes", "k", "v")
cluster.stop("b")
check(not cluster.local_status()["b"]["running"], "b is stopped")
cluster.kho("local", "status", expect=3)
check("isn't running" in cluster.kho("local", "stop", "b").text, "stopped already")
cluster.start("b")
cluster.start("b")
cluster.kill("a")
cluster.kho("local", "up")
check(all(node["running"] for node in cluster.local_status().values()), "up starts what is missing")
cluster.kho("local", "stop", "z", expect=1)
cluster.kho("local", "kill", expect=2)

say("a node that slept through a change of the map gets it at its start")
cluster.stop("c")
cluster.kho("collection", "create", "later")
cluster.start("c")
epochs = {node["epoch"] for node in cluster.status().values()}
check(len(epochs) == 1, "one epoch everywhere: %s" % epochs)

say("a process number that another process bears now is left alone")
cluster.kill("c")
stranger = subprocess.Popen(["sleep", "100"])
with open(os.path.join(directory, "c", "pid"), "w", encoding="ascii") as file:
    file.write("%d\n" % stranger.pid)
check(not cluster.local_status()["c"]["running"], "a stranger isn't node c")
cluster.kho("local", "kill", "c")
time.sleep(0.1)
check(stranger.poll() is None, "the stranger lives")
cluster.start("c")
check(stranger.poll() is None and cluster.pid("c") != stranger.pid, "c has a number of its own")
stranger.kill()
stranger.wait()

say("a node that can't start says why, from its log")
cluster.stop("c")
port = cluster.local_status()["c"]["port"]
squatter = socket.socket()
squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
squatter.bind(("127.0.0.1", port))
squatter.listen()
ended = cluster.kho("local", "start", "c", expect=6)
check("didn't start" in ended.text and str(port) in ended.text, "the port is taken: %s" % ended)
squatter.close()
cluster.start("c")

say("a folder with something else in it is left alone")
os.mkdir(path("home"))
with open(path("home", "letter"), "wb") as file:
    file.write(b"dear")
run(KHO, "--dir", path("home"), "local", "up", expect=6)
check(os.listdir(path("home")) == ["letter"], "nothing is added")
with open(os.path.join(directory, "letter"), "wb") as file:
    file.write(b"dear")

say("down and up again: the data stays")
cluster.kho("local", "down")
check(not any(node["running"] for node in cluster.local_status().values()), "all are stopped")
cluster.kho("get", "notes", "k", "--deadline", "1s", expect=3)
ended = cluster.kho("local", "up")
check(ended.seconds < 15, "up again: %s" % ended)
check(cluster.kho("get", "notes", "k").out == b"v", "the record is there")
cluster.kho("repair")
cluster.kho("verify")

say("two commands at once wait for each other")
cluster.kho("local", "down")
both = [subprocess.Popen([KHO, "--dir", directory, "local", "up"], stdout=subprocess.DEVNULL)
        for _ in range(2)]
check([process.wait(60) for process in both] == [0, 0], "both succeed")


def command_lines():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as file:
                yield file.read()
        except OSError:
            pass


def nodes_running():
    return sum(1 for line in command_lines()
               if b"kho-node\0run\0" in line and directory.encode() in line)


check(nodes_running() == 3, "three nodes, not %d" % nodes_running())

say("down --destroy takes its own, hung nodes too, and leaves the letter")
os.kill(cluster.pid("a"), signal.SIGSTOP)
ended = cluster.kho("local", "down", "--destroy")
wait_for("no node runs", lambda: nodes_running() == 0)
check(os.listdir(directory) == ["letter"] and "stays" in ended.text, "what is left: %s" % ended)
done()
