"""A node tells when it serves, keeps a second process out of its folder, and leaves in order on
SIGTERM, at once on a second signal, and is none the worse for SIGKILL."""

import os
import signal
import socket

from harness import NODE, Node, check, connect, done, hello, path, receive, run, say

say("readiness is told to the service manager")
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.bind(path("notify"))
manager.settimeout(20)
node = Node("one", environment={"NOTIFY_SOCKET": path("notify")}).start()
check(b"READY=1" in manager.recv(200), "READY=1 comes first")

say("a second process on the folder")
second = run(NODE, "run", node.data, "--listen", "127.0.0.1:0", expect=1, within=10)
check("pid %d" % node.process.pid in second.text, "it names the holder: %s" % second)
other = run(NODE, "run", node.data, "--listen", "127.0.0.1:%d" % node.port, expect=1, within=10)
check("already in use" in other.text, "it names the port: %s" % other)

say("SIGTERM with a client connected")
client = connect(node.port)
client.sendall(hello())
check(receive(client, 128)[8:12] == bytes(4), "the node's HELLO has status 0")
node.signal(signal.SIGTERM)
check(node.wait() == 0, "SIGTERM ends it with 0")
check(receive(client, 1) == b"", "the client's connection was closed")
check(b"STOPPING=1" in manager.recv(200), "STOPPING=1 was told")
check(node.log().rstrip().endswith("stopped"), "its last line says so")
client.close()

say("restart after SIGTERM, after SIGKILL, and SIGINT")
for number, code in ((signal.SIGKILL, -9), (signal.SIGINT, 0), (signal.SIGTERM, 0)):
    node.start()
    node.signal(number)
    check(node.wait() == code, "signal %d ends it with %d" % (number, code))

say("a folder that was moved together with its lock file")
os.rename(node.data, path("moved"))
node.data = path("moved")
node.start()
node.signal(signal.SIGTERM)
check(node.wait() == 0, "it serves from its new place")
done()
