"""A node whose data folder was lost and made anew is refused, with a message that names `node
readmit`; readmitted and repaired it carries the records again."""

import shutil

from harness import NODE, Cluster, check, done, path, run, say

cluster = Cluster(collection=None)
with open(path("lines.txt"), "w") as file:
    for number in range(3000):
        file.write("line %d of what must survive\n" % number)
cluster.kho("import", "records", "lines.txt", "--create")
cluster.kho("repair")
incarnation = cluster.status(expect=0)["b"]["incarnation"]

say("an empty folder in place of b's")
cluster.stop("b")
shutil.rmtree(cluster.data("b"))
made = run(NODE, "init", cluster.data("b"), "--segment-size", "32M", "--json").json()
check(made["incarnation"] != incarnation, "a new folder is another incarnation")
cluster.kho("local", "start", "b", expect=None)
ended = cluster.kho("status", expect=3)
check("node readmit" in ended.text, "status names the remedy: %s" % ended)
ended = cluster.kho("repair", expect=None)
check(ended.code != 0, "repair doesn't take it for the old one: %s" % ended)
check(cluster.kho("get", "records", "lines.txt:7").out == b"line 6 of what must survive",
      "the other two serve")

say("it counts for no majority")
cluster.kill("a")
for key in ("lines.txt:1", "no such key"):
    ended = cluster.kho("get", "records", key, expect=3, within=20)
cluster.start("a")

say("readmitted, and empty: still no vote")
cluster.kho("node", "readmit", "nobody", expect=1)
cluster.kho("node", "readmit", "b")
check(cluster.status(expect=5)["b"]["incarnation"] == made["incarnation"],
      "the map names the new incarnation")
cluster.kill("a")
ended = cluster.kho("--deadline", "4s", "get", "records", "lines.txt:1", expect=None, within=20)
check(ended.code != 1 and (ended.code != 0 or ended.out == b"line 0 of what must survive"),
      "the empty replica never makes a record unfound: %s" % ended)
cluster.start("a")

say("repaired")
cluster.kho("repair", within=120)
cluster.kho("verify")
cluster.kho("status")
cluster.kill("a")
cluster.kho("export", "records", path("out.txt"), within=60)
with open(path("lines.txt"), "rb") as before, open(path("out.txt"), "rb") as after:
    check(sorted(before.read().splitlines()) == sorted(after.read().splitlines()),
          "b and c together hold every record")
done()
