"""The systems that are compared, in the order of the report, and what is measured of each: the cases
and how each system is brought to have so much in flight in its fastest way."""

import glob
import shutil
import subprocess

from servers import Etcd, Library, Redis

READ_RECORDS = 50000

# name, and what it says in tables and plots
CASES = {
    "put.1": "writes, 1 in flight",
    "put.64": "writes, 64 in flight",
    "put.512": "writes, 512 in flight",
    "put.batch": "writes in batches, 2,048 records in flight",
    "get.64": "reads, 64 in flight",
}
LAST_PUT = "put.batch"  # the case with the most records: memory and disk a record are taken there


def _first_line(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode().splitlines()[0] if done.stdout else ""


def _package_version(package):
    return _first_line("dpkg-query", "-W", "-f", "${Version}\n", package)


def _shape(lanes, flight, batch):
    return ["--lanes", str(lanes), "--flight", str(flight), "--batch", str(batch)]


class System:
    """name: of its rows; family: what --only names; copies: how many replicas there are; needs: the
    program without which it is skipped; cases: the generator's options of each case."""

    def __init__(self, name, label, family, copies, durable, way, cases, server=None, needs=None,
                 options=(), version=lambda: ""):
        self.name, self.label, self.family, self.copies = name, label, family, copies
        self.durable, self.way, self.cases, self.server = durable, way, cases, server
        self.needs, self.options, self.version = needs, list(options), version


_KHO = System(
    "kho", "kho", "kho", 3,
    "A write is acknowledged when 2 of 3 nodes have it on stable storage (direct, synced writes; no "
    "node's page cache counts). Reads ask a majority and are linearizable.",
    "libkho, one client. 64 and 512 in flight are so many single calls, which the library gathers into "
    "messages; batches are 8 calls of 256 records.",
    {
        "put.1": ["put", "--batch", "1", "--inflight", "1"],
        "put.64": ["put", "--batch", "1", "--inflight", "64"],
        "put.512": ["put", "--batch", "1", "--inflight", "512"],
        "put.batch": ["put", "--batch", "256", "--inflight", "8"],
        "get.64": ["get", "--batch", "1", "--inflight", "64", "--records", str(READ_RECORDS)],
    })

_REDIS_CASES = {
    "put.1": _shape(1, 1, 1),
    "put.64": _shape(2, 1, 32),
    "put.512": _shape(8, 1, 64),
    "put.batch": _shape(8, 1, 256),
    "get.64": _shape(2, 1, 32) + ["--records", str(READ_RECORDS)],
}
_REDIS_WAY = (
    "Redis's own protocol over epoll, one thread, commands gathered as libkho gathers calls: 64 in flight "
    "are 2 connections with 32 SETs and one WAIT in one piece (64 connections with one SET each take twice "
    "the time), or with 32 GETs; 512 are 8 connections with 64, batches 8 with 256. The latency is that of "
    "the piece. Every WAIT's answer is checked.")


def _redis(replicas):
    cases = dict(_REDIS_CASES)
    if replicas == 2:
        del cases["get.64"]  # the same reads as with WAIT 1
    return System(
        "redis.wait%d" % replicas, "Redis, WAIT %d" % replicas, "redis", 3,
        "appendfsync always: the primary flushes its log before it answers; WAIT %d then waits until %s "
        "acknowledged, which Redis 7.0 does after flushing, too (that is how it behaves; its "
        "documentation promises only that replicas received it). So %d of 3 copies are on stable "
        "storage. Replication has no majority: after a failover acknowledged writes may be lost. Reads "
        "ask the primary alone."
        % (replicas, "a replica has" if replicas == 1 else "both replicas have", replicas + 1),
        _REDIS_WAY, cases, server=Redis, needs="redis-server",
        options=["redis_load", "--replicas", str(replicas)],
        version=lambda: _package_version("redis-server"))


_ETCD = System(
    "etcd", "etcd", "etcd", 3,
    "Raft: a write is answered when 2 of 3 members have it in their flushed logs. Reads are "
    "linearizable: the leader asks a majority first. It also keeps every revision and a total order of "
    "all writes, which the others don't.",
    "etcd's own gRPC protocol (HTTP/2 streams, no JSON gateway), all calls to the leader. "
    "64 in flight are 2 connections with 32 streams, 512 are 16 with 32; batches are 16 transactions of "
    "128 puts (etcd's default limit) on 4 connections.",
    {
        "put.1": _shape(1, 1, 1),
        "put.64": _shape(2, 32, 1),
        "put.512": _shape(16, 32, 1),
        "put.batch": _shape(4, 4, 128),
        "get.64": _shape(2, 32, 1) + ["--records", str(READ_RECORDS)],
    },
    server=Etcd, needs="etcd", options=["etcd_load"],
    version=lambda: _package_version("etcd-server"))

_ROCKSDB = System(
    "rocksdb", "RocksDB", "rocksdb", 1,
    "A library in the caller's process, with sync on every write: its log is flushed before the call "
    "returns. One copy, no replication and no network: a lower bound of the work, not a peer in what it "
    "promises.",
    "RocksDB's C API with LZ4, bloom filters and a block cache of 256 MB. So many in flight are so many "
    "threads; batches are 4 threads with write batches of 512.",
    {
        "put.1": _shape(1, 1, 1),
        "put.64": _shape(64, 1, 1),
        "put.512": _shape(512, 1, 1),
        "put.batch": _shape(4, 1, 512),
        "get.64": _shape(64, 1, 1) + ["--records", str(READ_RECORDS)],
    },
    server=Library, options=["rocksdb_load"],
    version=lambda: _package_version("librocksdb-dev"))

SYSTEMS = [_KHO, _redis(1), _redis(2), _ETCD, _ROCKSDB]


def ceph_note():
    """Ceph isn't set up here: it would take disks of its own. Says what is there."""
    if shutil.which("rados") and glob.glob("/etc/ceph/*.conf"):
        return ("Ceph RADOS: a configuration lies in /etc/ceph, but there is no generator for it here: "
                "not compared.")
    return "Ceph RADOS: no cluster on this machine, so it isn't compared."
