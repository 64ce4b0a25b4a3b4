"""A full disk refuses writes before any acknowledgement and says so; what is stored is read on,
deletes go on out of the reserve, and with room writes are taken again.

The disk is a small file system in a file, mounted for this test alone: where that isn't allowed (no
root, no loop device) there is nothing to show."""

import ctypes
import os
import shutil
import subprocess
import sys
import time

from harness import NODE, Cluster, check, done, path, run, say, wait_for

MIB = 1 << 20
SIZE = 1400 * MIB  # a node keeps 1 GiB free by default


def mount():
    """In a mount namespace of our own: nobody else sees it, and it goes with the last of us."""
    clone_newns = 0x20000
    if os.geteuid() != 0 or ctypes.CDLL(None).unshare(clone_newns) != 0:
        return False
    os.mkdir(path("disk"))
    with open(path("image"), "wb") as image:
        image.truncate(SIZE)
    for words in (("mount", "--make-rprivate", "/"),
                  ("mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard", path("image")),
                  ("mount", "-o", "loop", path("image"), path("disk"))):
        try:
            if subprocess.run(words, stderr=subprocess.PIPE).returncode != 0:
                return False
        except FileNotFoundError:
            return False
    return True


def free():
    stat = os.statvfs(path("disk"))
    return stat.f_bavail * stat.f_frsize


def fill(leave):
    """Something else takes all of the disk but `leave` bytes."""
    with open(path("disk", "ballast"), "ab") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, os.path.getsize(ballast.name) + free() - leave)


def make_room():
    os.unlink(path("disk", "ballast"))


def put(key, value="v", expect=0):
    return cluster.kho("put", "records", key, value, expect=expect, within=20)


def wait_refused(what, *words):
    # A node looks at its disk once a second: until all have, some take what others refuse.
    def refused():
        ended = cluster.kho(*words, expect=None, within=20)
        check(ended.code in (0, 4, 6), "taken, in doubt or refused: %s" % ended)
        return ended if ended.code == 6 else None
    ended = wait_for(what, refused)
    check("disk is full" in ended.text, "the cause is named: %s" % ended)


def wait_taken(what, *words):
    wait_for(what, lambda: cluster.kho(*words, expect=None, within=20).code == 0)


if not mount():
    say("no disk of our own can be mounted here: nothing is shown")
    done()
    sys.exit(0)

cluster = Cluster(folder="disk/cluster")
try:
    for number in range(20):
        put("key-%d" % number, "value %d" % number)

    say("full to the reserve: writes are refused, deletes and reads go on")
    fill(700 * MIB)
    wait_refused("a put is refused", "put", "records", "more", "v")
    for number in range(20):
        check(cluster.kho("get", "records", "key-%d" % number).out == b"value %d" % number, "read")
    cluster.kho("get", "records", "more", expect=None)
    cluster.kho("del", "records", "key-19")
    cluster.kho("get", "records", "key-19", expect=1)
    ended = cluster.kho("import", "records", "-", "--format", "lines", stdin=b"x\n" * 5, expect=6)
    check("disk is full" in ended.text, "an import tells it: %s" % ended)
    for name in cluster.names:
        wait_for("node %s says it" % name,
                 lambda: "the disk is full to its reserve" in cluster.log(name))

    say("full to half of the reserve: deletes are refused, too")
    fill(300 * MIB)
    wait_refused("a del is refused", "del", "records", "key-18")
    check(cluster.kho("get", "records", "key-17").out == b"value 17", "reads go on")

    say("not a byte left: nodes start, and serve what they have")
    fill(0)
    for name in cluster.names:
        cluster.stop(name)
        cluster.start(name)
    check(cluster.kho("get", "records", "key-17").out == b"value 17", "reads go on")
    wait_refused("a put is refused", "put", "records", "more", "v")
    cluster.kho("status", expect=0)

    say("with room all goes on")
    make_room()
    wait_taken("a put is taken", "put", "records", "more", "after")
    check(cluster.kho("get", "records", "more").out == b"after", "and read")
    for name in cluster.names:
        wait_for("node %s says it" % name, lambda: "the disk has room again" in cluster.log(name))
        check(cluster.log(name).count("the disk is full to its reserve") == 2, "once, and at its start")
    cluster.kho("repair", within=60)
    cluster.kho("verify")
    cluster.kho("local", "down")

    say("no reserve at all: the disk ends in the middle of writes, and what was taken is there")
    for name in cluster.names:
        log = open(path(name + ".log"), "ab")
        port = cluster.local_status()[name]["port"]
        process = subprocess.Popen(
            [NODE, "run", cluster.data(name), "--listen", "127.0.0.1:%d" % port, "--reserve", "0"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        with open(os.path.join(cluster.dir, name, "pid"), "w", encoding="ascii") as file:
            file.write("%d\n" % process.pid)  # so that it is the cluster's
    wait_taken("the cluster serves", "status")
    fill(40 * MIB)  # a segment has 32: one node gets one more
    with open(path("blob"), "wb") as blob:
        blob.write(os.urandom(4 * MIB))
    stored = 0
    while True:
        ended = cluster.kho("put", "records", "blob-%d" % stored, "@" + path("blob"), expect=None,
                            within=30)
        if ended.code != 0:
            break
        stored += 1
        check(stored < 100, "the disk has an end")
    check(ended.code in (4, 6), "refused or in doubt, not: %s" % ended)
    check(stored > 0, "something was stored before")
    cluster.kho("get", "records", "key-3")
    with open(path("blob"), "rb") as blob:
        want = blob.read()
    for number in range(stored):
        check(cluster.kho("get", "records", "blob-%d" % number).out == want, "blob %d" % number)
    make_room()
    wait_taken("writes go on", "put", "records", "last", "v")
    wait_taken("replicas are repaired", "repair")
    cluster.kho("verify")
    for number in range(stored):
        check(cluster.kho("get", "records", "blob-%d" % number).out == want, "blob %d" % number)
finally:
    cluster.end()
    subprocess.run(["umount", path("disk")], stderr=subprocess.DEVNULL)
done()
