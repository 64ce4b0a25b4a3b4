"""Every wrong option and every folder that can't be used is refused with a sentence that names it,
and with the documented exit code."""

import os

from harness import NODE, Node, check, done, path, run, say


def refused(code, *words, naming):
    ended = run(NODE, *words, expect=code, within=10)
    for text in naming:
        check(text in ended.text, "'%s' should stand in: %s" % (text, ended))


say("wrong commands and options")
refused(2, naming=["no command"])
refused(2, "frobnicate", naming=["frobnicate", "init, run"])
refused(2, "run", naming=["data folder"])
refused(2, "run", "x", "--memory", "1", naming=["--memory", '"1"', "64M"])
refused(2, "run", "x", "--memory", "12Q", naming=["--memory", "12Q"])
refused(2, "run", "x", "--memory", "64M", naming=["--memory 64M", "1 shard", "72M"])
refused(2, "run", "x", "--connections", "0", naming=["--connections", "1 to 16384"])
refused(2, "run", "x", "--commits", "17", naming=["--commits", "1 to 16"])
refused(2, "run", "x", "--idle-mark-ms", "-1", naming=["--idle-mark-ms", "60000"])
refused(2, "run", "x", "--log-level", "loud", naming=["--log-level", "loud", "warning"])
refused(2, "run", "x", "--listen", "7700", naming=["--listen", "7700", "HOST:PORT"])
refused(2, "run", "x", "--listen", "::1:7700", naming=["--listen", "[IPV6]:PORT"])
refused(2, "run", "x", "--listen", "127.0.0.1:65536", naming=["--listen", "65535"])
refused(2, "run", "x", "--listen", "0.0.0.0:0", naming=["0.0.0.0:0", "TLS", "--insecure"])
refused(2, "run", "x", "--listen", naming=["--listen needs a value"])
refused(2, "run", "x", "--nonsense", naming=["--nonsense"])
refused(2, "run", "x", "y", naming=['"y"', '"x"'])
refused(2, "init", naming=["data folder"])
refused(2, "init", "x", "--segment-size", "31M", naming=["--segment-size", "32M", "256M"])
refused(2, "init", "x", "--segment-size", "33554433", naming=["--segment-size", "multiple of 1M"])
refused(2, "init", "x", "--shards", "257", naming=["--shards", "257", "1 to 256"])
check(not os.path.exists(path("x")), "a refused init made its folder")

say("help and version")
for words in (["help"], ["--help"], ["run", "--help"], ["init", "-h"]):
    check("EXIT STATUS" in run(NODE, *words).text, "%s explains the exit codes" % words)
check("kho-node 0." in run(NODE, "--version").text, "--version names the version")

say("configuration files")
with open(path("good.conf"), "w") as file:
    file.write("# a comment\n[node]\nlisten = 0.0.0.0:0\ndata = %s ; here\nmemory = 200M\n"
               % path("configured"))
with open(path("bad.conf"), "w") as file:
    file.write("memory = 200M\n\nmemroy = 1G\n")
with open(path("value.conf"), "w") as file:
    file.write("[node]\nconnections = many\n")
refused(2, "run", "x", "--config", path("none.conf"), naming=["none.conf", "No such file"])
refused(2, "run", "x", "--config", path("bad.conf"), naming=["bad.conf, line 3", "memroy"])
refused(2, "run", "x", "--config", path("value.conf"), naming=["line 2", "connections", "many"])
refused(2, "run", "--config", path("good.conf"), naming=["0.0.0.0:0", "--insecure"])
# The harness gives --listen 127.0.0.1:0 as a flag, which wins over the file.
configured = Node("configured", "--config", path("good.conf")).start()
check("memory 200M" in configured.log(), "the file's memory is in force")
configured.signal(15)
check(configured.wait() == 0, "SIGTERM ends it with 0")

say("folders")
refused(1, "run", path("nowhere"), naming=["nowhere", "kho-node init"])
refused(1, "init", path("nowhere", "deep"), naming=["make the folder above it first"])
os.mkdir(path("full"))
open(path("full", "precious"), "w").close()
refused(1, "init", path("full"), naming=["full", "not empty", "precious"])
refused(1, "run", path("full"), naming=["full/node", "no data folder"])
os.mkdir(path("empty"))
made = run(NODE, "init", path("empty"), "--json").json()
check(len(made["incarnation"]) == 32 and made["shards"] == 1, "init --json says what was made")
check(os.stat(path("empty")).st_mode & 0o777 == 0o700, "the folder is its owner's alone")
refused(1, "init", path("empty"), naming=["is a data folder already"])
with open(path("empty", "node"), "r+b") as file:
    content = file.read()
    file.seek(content.index(b"incarnation ") + 12)
    file.write(b"0" if content[content.index(b"incarnation ") + 12:][:1] != b"0" else b"1")
refused(1, "run", path("empty"), "--listen", "127.0.0.1:0",
        naming=["empty/node", "checksum", "node readmit"])
done()
