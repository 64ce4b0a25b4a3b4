"""Machines of a network, as far as a test needs them: network namespaces on a bridge, and cuts between
them made by nftables, in one direction or both.

All of it is inside the network namespace that the test has for itself (harness): it goes with the
test, whatever happens. Where the kernel or the rights for it are missing the test is skipped."""

import os
import shutil
import subprocess
import time

import harness
from harness import check, run, skip

BRIDGE = "kho0"


def need():
    """Skips the test, with the reason, unless there can be such a network."""
    for program in ("ip", "nft", "nsenter", "unshare"):
        if not shutil.which(program):
            skip("no program '%s' here (tests/lib/install-deps --tests installs it)" % program)
    if not harness.OWN_NETWORK:
        skip("no right to make a network namespace (CAP_SYS_ADMIN)")
    for words in (("ip", "link", "add", BRIDGE, "type", "bridge"),
                  ("ip", "address", "add", "10.77.0.254/24", "dev", BRIDGE),
                  ("ip", "link", "set", BRIDGE, "up"),
                  ("nft", "add", "table", "inet", "kho_probe"),
                  ("unshare", "--net", "true")):
        ended = run(*words, expect=None)
        if ended.code != 0:
            skip("the kernel refuses '%s': %s" % (" ".join(words), ended.text.strip()))


class Machine:
    """One namespace with an address on the bridge. `prefix` runs a program in it."""

    made = 0

    def __init__(self, name):
        Machine.made += 1
        self.name, self.host = name, "10.77.0.%d" % Machine.made
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"],
                                       stdin=subprocess.DEVNULL)
        harness.cleanups.append(self.end)
        self.prefix = ["nsenter", "--net=/proc/%d/ns/net" % self.holder.pid]
        end = time.monotonic() + 20
        ours = os.readlink("/proc/self/ns/net")
        while os.readlink("/proc/%d/ns/net" % self.holder.pid) == ours:
            check(time.monotonic() < end, "%s has a namespace of its own" % name)
            time.sleep(0.005)
        outside = "kho-" + name
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns",
            str(self.holder.pid))
        run("ip", "link", "set", outside, "master", BRIDGE, "up")
        for words in (("ip", "address", "add", self.host + "/24", "dev", "eth0"),
                      ("ip", "link", "set", "eth0", "up"), ("ip", "link", "set", "lo", "up"),
                      ("nft", "add", "table", "inet", "cut"),
                      ("nft", "add", "chain", "inet", "cut", "in",
                       "{ type filter hook input priority 0; }"),
                      ("nft", "add", "chain", "inet", "cut", "out",
                       "{ type filter hook output priority 0; }")):
            self.run(*words)

    def run(self, *words, **options):
        return run(*self.prefix, *words, **options)

    def cut(self, direction, other=None, percent=100):
        """Drops what comes `in` from another machine or goes `out` to it; None: whichever."""
        words = ["nft", "add", "rule", "inet", "cut", direction]
        if other is not None:
            words += ["ip", "saddr" if direction == "in" else "daddr", other.host]
        else:
            words += ["ip", "protocol", "tcp"]
        if percent < 100:
            words += ["numgen", "random", "mod", "100", "<", str(percent)]
        self.run(*words, "counter", "drop")

    def heal(self):
        """Ends its cuts. Returns how many packets they dropped."""
        listed = self.run("nft", "--json", "list", "table", "inet", "cut").json()["nftables"]
        dropped = sum(expression["counter"]["packets"]
                      for entry in listed for expression in entry.get("rule", {}).get("expr", ())
                      if isinstance(expression.get("counter"), dict))
        for chain in ("in", "out"):
            self.run("nft", "flush", "chain", "inet", "cut", chain)
        return dropped

    def end(self):
        self.holder.kill()
        self.holder.wait()
