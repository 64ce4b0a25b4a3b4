"""The example services do their work against a cluster, also while a node is away, and so does the
blocking layer under several threads. Under TSan this is the test that finds a race."""

import os

from harness import BIN, Cluster, check, done, run, say

cluster = Cluster()
seeds = ",".join("127.0.0.1:%d" % cluster.port(name) for name in cluster.names)

for program in ("example_service_uv", "example_service_blocking"):
    say(program)
    ended = run(os.path.join(BIN, program), "--cluster", seeds, within=120)
    check(ended.code == 0, "it read back what it wrote: %s" % ended)

say("with one node dead")
cluster.kill("c")
for program in ("example_service_uv", "example_service_blocking"):
    run(os.path.join(BIN, program), "--cluster", seeds, within=120)

say("with two dead they say why")
cluster.kill("b")
for program in ("example_service_uv", "example_service_blocking"):
    ended = run(os.path.join(BIN, program), "--cluster", seeds, within=120, expect=1)
    check("out of reach" in ended.text or "deadline" in ended.text, "the cause is named: %s" % ended)
done()
