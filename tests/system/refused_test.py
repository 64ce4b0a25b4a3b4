"""Where a machine refuses io_uring, or the data folder can't be written, the node says which, with
the remedy, and ends with the documented exit code."""

import ctypes
import errno
import os
import struct
import subprocess

from harness import NODE, check, done, path, run, say

IO_URING_SETUP = 425  # on every architecture that Linux numbers alike (x86-64, arm64, riscv64)


def forbid_io_uring(code):
    """Runs between fork and exec: a seccomp filter as container runtimes bring it."""
    load, jump_equal, give = 0x20, 0x15, 0x06
    allow, fail_with = 0x7FFF0000, 0x00050000
    steps = [(load, 0, 0, 0), (jump_equal, 0, 1, IO_URING_SETUP), (give, 0, 0, fail_with | code),
             (give, 0, 0, allow)]
    filters = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *s) for s in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(filters))
    libc = ctypes.CDLL(None, use_errno=True)
    set_no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    if libc.prctl(set_no_new_privileges, 1, 0, 0, 0) or \
            libc.prctl(set_seccomp, mode_filter, program, 0, 0):
        os._exit(99)


def refused(text, *words, code, naming, before=None):
    say(text)
    ended = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=20, preexec_fn=before)
    said = ended.stdout.decode(errors="replace")
    check(ended.returncode == code, "exit code %d, not %d: %s" % (code, ended.returncode, said))
    for name in naming:
        check(name in said, "'%s' should stand in: %s" % (name, said))


run(NODE, "init", path("data"))
serve = (NODE, "run", path("data"), "--listen", "127.0.0.1:0")
refused("a seccomp filter says EPERM", *serve, code=3,
        before=lambda: forbid_io_uring(errno.EPERM), naming=["io_uring", "seccomp", "allow"])
refused("a kernel says ENOSYS", *serve, code=3,
        before=lambda: forbid_io_uring(errno.ENOSYS), naming=["io_uring", "Linux 5.15"])
if os.geteuid() == 0:
    unshared = ["unshare", "--mount", "sh", "-c"]
    mount = "mount --bind '%s' '%s' && mount -o remount,bind,ro '%s' && exec " % ((path("data"),) * 3)
    able = subprocess.run([*unshared, mount + "true"], stderr=subprocess.DEVNULL)
    if able.returncode == 0:
        refused("a read-only file system", *unshared, mount + "'%s' run '%s' --listen 127.0.0.1:0" %
                (NODE, path("data")), code=1, naming=[path("data"), "Read-only", "writable"])
done()
