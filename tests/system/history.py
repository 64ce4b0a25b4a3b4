"""Clients that write down what they are told, and the verdict over it.

A test makes a Story, starts loads, does things to nodes and counts each with fired(), ends the loads
and asks for the verdict: every key is read back and listed by a fresh client, before and after a
repair and with each node away in turn; then kho-history-check judges every operation of every
client. What the story counted is printed, and written to --json FILE."""

import json
import os
import signal
import subprocess
import time

from harness import BIN, check, cleanups, fail, path, run, say

LOAD = os.path.join(BIN, "history_load")
BACK = os.path.join(BIN, "history_back")
CHECK = os.path.join(BIN, "kho-history-check")

# What a client may be told while nodes die, hang and are cut off.
ABSENCES = {"EUNAVAILABLE", "EDEADLINE", "EINDOUBT"}


class Load:
    """A process of clients. With `prefix` it runs elsewhere (a namespace)."""

    def __init__(self, story, prefix=(), environment=None, **options):
        self.story = story
        story.number += 1
        self.file = path("history-%d" % story.number)
        story.files.append(self.file)
        words = [*prefix, LOAD, "--cluster", story.cluster, "--collection", story.collection,
                 "--out", self.file, "--number", str(story.number), "--base", str(story.base),
                 "--seed", str(story.seed), "--value-max", str(story.value_max)]
        for name, value in dict(seconds=3600, **options).items():
            words += ["--" + name.replace("_", "-"), str(value)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=dict(os.environ, **(environment or {})))
        story.loads.append(self)
        cleanups.append(self.end)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def lines(self):
        """Lines in the file so far: how far it has come."""
        try:
            return os.path.getsize(self.file) // 80
        except FileNotFoundError:
            return 0

    def wait(self, within=60):
        try:
            out, err = self.process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            fail("a load doesn't end: %s" % err.decode(errors="replace")[-2000:])
        text = err.decode(errors="replace")
        self.story.loads.remove(self)
        check(self.process.returncode == 0 and "Sanitizer" not in text,
              "a load ended with %d: %s" % (self.process.returncode, text[-4000:]))
        self.counts = json.loads(out)
        self.story.told(self.counts)
        return self.counts

    def stop(self, within=60):
        """No new calls; those under way end."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(within)

    def kill(self):
        """As a crash would: what it has begun stays in doubt."""
        self.process.kill()
        self.process.communicate()
        self.story.loads.remove(self)


class Story:
    def __init__(self, name, members, seed=1, json_file="", allowed=ABSENCES, load_prefix=(),
                 value_max=20000):
        self.name, self.members, self.seed, self.json_file = name, members, seed, json_file
        self.cluster, self.collection = members.cluster, "records"
        self.allowed = set(allowed)
        self.load_prefix, self.value_max = list(load_prefix), value_max
        self.number, self.base = 0, time.monotonic_ns()
        self.begun = time.monotonic()
        self.files, self.loads = [], []
        self.counts, self.faults, self.statuses = {}, {}, {}

    def told(self, counts):
        for name, count in counts.items():
            if name == "statuses":
                for status, times in count.items():
                    self.statuses[status] = self.statuses.get(status, 0) + times
            elif name == "slowest":
                self.counts[name] = max(self.counts.get(name, 0), count)
            elif name != "seconds":
                self.counts[name] = self.counts.get(name, 0) + count

    def expect_faults(self, *names):
        """Each of these must have fired in the end."""
        for name in names:
            self.faults.setdefault(name, 0)

    def fired(self, name, times=1):
        self.faults[name] = self.faults.get(name, 0) + times

    def load(self, **options):
        return Load(self, prefix=self.load_prefix, **options)

    def under_load(self, load, lines=200, within=60):
        """Waits until the load has come on by so many lines."""
        target = load.lines() + lines
        end = time.monotonic() + within
        while load.lines() < target:
            check(load.process.poll() is None, "the load goes on: %s" % load.process.returncode)
            check(time.monotonic() < end, "the load comes on within %d s" % within)
            time.sleep(0.01)

    def read_back(self, within=180):
        """All keys so far, by a client that knows them from the files; one more history."""
        self.number += 1
        file = path("history-%d" % self.number)
        ended = run(*self.load_prefix, BACK, "--cluster", self.cluster, "--collection",
                    self.collection, "--out", file, "--number", str(self.number), "--value-max",
                    str(self.value_max), *self.files, expect=None, within=within)
        check(ended.code == 0, "every key can be read and listed: %s" % ended)
        self.files.append(file)
        counts = ended.json()
        for status, times in counts["statuses"].items():
            self.statuses[status] = self.statuses.get(status, 0) + times
        return counts

    def judge(self, expect=0, read_back=True):
        words = ["--json"] + (["--read-back"] if read_back else [])
        ended = run(CHECK, *words, *self.files, expect=None, within=600)
        check(ended.code == expect, "the history is that of registers: %s" % ended.text[-8000:])
        return ended.json()

    def verdict(self, away=True):
        """Judged before the repair, too, which might hide what went before it."""
        for load in list(self.loads):
            load.stop()
        back = self.read_back()
        self.judge()
        self.members.repair()
        if away:
            for member in self.members:
                member.kill()
                self.read_back()
                member.start()
            self.members.repair()
        else:
            self.read_back()
        judged = self.judge()
        odd = set(self.statuses) - self.allowed
        check(not odd, "no other answers than %s: %s" % (sorted(self.allowed), self.statuses))
        for fault, times in self.faults.items():
            check(times > 0, "the fault %s fired" % fault)
        check(judged["acknowledged"] > 0 and judged["reads"] > 0, "something was judged")
        check(judged["keys_judged"] == judged["keys"], "all keys were judged: %s" % judged)
        self.report(judged, back)

    def report(self, judged, back):
        seconds = time.monotonic() - self.begun
        rows = dict(judged, test=self.name, seed=self.seed, seconds=round(seconds, 1),
                    listed=back["listed"], resolved=self.counts.get("resolved", 0),
                    slowest=self.counts.get("slowest", 0))
        rows.update(("fault." + name, times) for name, times in self.faults.items())
        rows.update(("status." + name, times) for name, times in self.statuses.items())
        say("%s: %d operations of %d keys judged, %d writes acknowledged, %d refused, %d in doubt "
            "(%d more resolved by token), %d reads; keys read back %d, listed %d; %.0f s" % (
                self.name, judged["operations"], judged["keys"], judged["acknowledged"],
                judged["refused"], judged["doubtful"], rows["resolved"], judged["reads"],
                judged["read_back"], back["listed"], seconds))
        say("faults: " + ", ".join("%s %d" % pair for pair in sorted(self.faults.items())))
        say("answers other than done: " + (", ".join(
            "%s %d" % pair for pair in sorted(self.statuses.items())) or "none"))
        if self.json_file:
            with open(self.json_file, "w", encoding="ascii") as file:
                json.dump(rows, file, indent=1, sort_keys=True)
