"""Is all that was acknowledged there when a disk fills up to its last block under load? Each node has a
small ext4 of its own. One disk fills, then all; writes are refused as no space; there is room again,
and all goes on. Every operation is judged.

    full_image_test.py BIN [--rounds N] [--seed N] [--json FILE]

The nodes keep no reserve, so that the file system itself says no, in the middle of what they do;
full_disk_test looks at the reserve and at what a caller sees."""

import ctypes
import os
import random
import subprocess

from harness import check, cleanups, done, options, path, run, say, skip, wait_for
from history import ABSENCES, Story
from members import Member, Members, free_ports

MIB = 1 << 20
given = options(rounds=1, seed=1, json="")
random.seed(given.seed)


def mounts_of_our_own():
    """Nobody else sees what is mounted here, and it goes with the last of us."""
    clone_newns = 0x20000
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(clone_newns) != 0:
        skip("no right to mount (root, CAP_SYS_ADMIN)")
    if subprocess.run(("mount", "--make-rprivate", "/"), check=False).returncode != 0:
        skip("mounts can't be made private")


def disk(name, size):
    """An ext4 in a file, mounted."""
    folder, image = path("disk-" + name), path("image-" + name)
    os.mkdir(folder)
    with open(image, "wb") as file:
        file.truncate(size)
    run("mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard", image)
    ended = run("mount", "-o", "loop", image, folder, expect=None)
    if ended.code != 0:
        skip("no file can be mounted here: %s" % ended.text.strip())
    cleanups.append(lambda: subprocess.run(("umount", folder), check=False))
    return folder


def free(member):
    stat = os.statvfs(os.path.dirname(member.data))
    return stat.f_bavail * stat.f_frsize


def ballast(member):
    return os.path.join(os.path.dirname(member.data), "ballast")


def fill(member):
    """Something else takes all that is left of the disk."""
    with open(ballast(member), "ab") as file:
        size = os.path.getsize(file.name)
        for unit in (MIB, 4096):
            while True:
                try:
                    os.posix_fallocate(file.fileno(), size, unit)
                except OSError:
                    break
                size += unit


def make_room(member):
    os.unlink(ballast(member))


def put():
    return members.kho("--deadline", "3s", "put", "others", "probe", "v", expect=None, within=30)


def full(member):
    """By its own word: it has refused a segment for want of room."""
    return "no room for " in member.log()[told.get(member, 0):]


def kill_on_full_disk(member):
    """It serves what it has, unless it has to write down first what it found: then it says that."""
    member.kill()
    member.start(serving=False)
    begun = member.begun
    wait_for("node %s serves or ends" % member.name,
             lambda: b"serving on" in member.log().encode()[begun:] or not member.running())
    story.fired("kill_while_full")
    if not member.running():
        check("can't start before the disk has some" in member.log(), "it says why")
        story.fired("start_refused")


def refused(load):
    check(load.process.poll() is None, "the load goes on")
    return put().code == 6


mounts_of_our_own()
ports = free_ports(3)
members = Members([
    Member(name, "127.0.0.1:%d" % port, options=("--reserve", "0"),
           data=os.path.join(disk(name, 400 * MIB), "data"))
    for name, port in zip("abc", ports)])
members.kho("collection", "create", "others")
members.kho("put", "others", "known", "before")
# A write to a disk that is full may fail as any other, after which a shard takes no more (R4).
story = Story("full_image", members, given.seed, given.json, value_max=4000000,
              allowed=ABSENCES | {"ENOSPACE", "EREADONLY"})
story.expect_faults("one_full", "all_full", "refused", "room_again", "kill_while_full")
told = {}  # how long a node's log was when its disk became full
for number in range(given.rounds):
    load = story.load(rate=4000, deadline=3000)
    story.under_load(load, 1000)
    one = random.choice(members.members)
    say("the disk of %s is full" % one.name)
    told[one] = len(one.log())
    fill(one)
    wait_for("it can't take any more", lambda: full(one), 90)
    story.fired("one_full")
    story.under_load(load, 1000)
    check(free(one) < MIB, "the disk is full, not just short: %d" % free(one))

    say("a node dies and starts on a full disk")
    kill_on_full_disk(one)
    story.under_load(load, 1000)

    say("the others' are full, too")
    for member in members:
        if member is not one:
            fill(member)
    wait_for("writes are refused", lambda: refused(load), 90)
    story.fired("all_full")
    load.stop()
    check(story.statuses.get("ENOSPACE", 0) > 0, "clients were told so: %s" % story.statuses)
    story.fired("refused", story.statuses["ENOSPACE"])
    # Reads go on, but for those that have to bring a replica what it misses (write-back).
    reads = story.load(rate=2000, operations=4000).wait()
    check(reads["read"] + reads["absent"] > 300, "reads go on while the disks are full: %s" % reads)
    check(members.kho("get", "others", "known").out == b"before", "and bring what all have")

    say("there is room again")
    for member in members:
        make_room(member)
        if not member.running():
            member.start()
    wait_for("writes are taken", lambda: put().code == 0, 60)
    story.fired("room_again")
    load = story.load(rate=1000, deadline=3000)
    story.under_load(load, 3000)
    load.stop()
story.verdict(away=False)
done()
