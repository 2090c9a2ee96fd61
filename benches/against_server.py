#!/usr/bin/env python3
"""Loads archives into a real Elasticsearch, in several ways, and says how fast and at what cost to both sides.

    benches/against_server.py FOLDER [--pairs 3] [--way="--senders 1" --way="--senders 4" …]
    benches/against_server.py FOLDER --profile [--fsync-ms 5]
    benches/against_server.py FOLDER --senders [--round-trip-ms 20]

The server is that of the end-to-end tests (see tests/e2e/server.py: ELASTICSEARCH_TEST_URL, or one of its own);
its indices are made anew before each load, with vectors indexed by HNSW. The ways are taken in turn. Of each, the
median and the best are printed, and the median ratio to the first way of the same round: rows a second from start to
exit, CPU time of the program, and CPU time of the server where it runs on this machine as our own, until it has
nothing left to do. Needs a release build of the program.

A way is a text of arguments. `+NAME=VALUE` among them is a setting of both indices before the load, and `@PATH`
another build of the program. --fsync-ms makes each fsync of a server of our own take longer (slow_disk.c, which needs
a C compiler), --round-trip-ms makes the server seem far away (far_server.py).
"""

import argparse
import contextlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import far_server
import measure

sys.path.insert(0, os.path.join(measure.ROOT, "tests", "e2e"))
import server as servers  # noqa: E402

WAYS = ["", "--vector-encoding array", "--senders 1", "--senders 2", "--senders 8", "--batch-docs 250",
        "--batch-docs 1000", "--bulk-load-settings"]
PROFILE = ["", "--batch-docs 500", "--bulk-load-settings"]
SENDERS = ["--senders 4", "--senders 8", "--senders 12", "--senders 16"]


def cpu_of(node):
    """CPU seconds of a node of our own so far; None of another."""
    if node is None:
        return None
    fields = Path(f"/proc/{(node.data / 'pid').read_text().strip()}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settled(node):
    """CPU seconds of a node once it has come to rest (merges end some time after a load), or after a minute."""
    before = cpu_of(node)
    for _ in range(60):
        time.sleep(1)
        now = cpu_of(node)
        if now is None or now - before < 0.05:
            return now
        before = now
    return before


def load(server, url, folder, way):
    """Rows a second, and the CPU seconds of the program and of the server."""
    words = shlex.split(way)
    arguments = [word for word in words if word[0] not in "+@"]
    program = next((word[1:] for word in words if word[0] == "@"), None)
    server.fresh_indices()
    if settings := dict(word[1:].split("=", 1) for word in words if word[0] == "+"):
        server.expect("PUT", "/posts,post_tombstones/_settings", settings)
    key = server.make_key([*servers.PRIVILEGES, "manage"])
    before = settled(server.node)
    variables = {"ELASTICSEARCH_API_KEY": key}
    if server.ca:
        arguments += ["--ca-cert", server.ca]
    cost = measure.load(folder, url, arguments, environment=variables, program=program)
    rows = server.actions_taken("posts") + server.actions_taken("post_tombstones")
    after = settled(server.node)
    return rows / cost.wall, cost.cpu, after - before if after is not None else float("nan")


def slow_disk(scratch, ms):
    """Makes the nodes that are started from now on wait for their disk."""
    library = os.path.join(scratch, "slow_disk.so")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "slow_disk.c")
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    servers.Node.build = {**servers.Node.build, "LD_PRELOAD": library, "FSYNC_MS": str(ms)}


@contextlib.contextmanager
def seen_from_afar(url, round_trip_ms):
    """The URL of a server as somebody sees it who has this round-trip time."""
    if not round_trip_ms:
        yield url
        return
    parts = urllib.parse.urlsplit(url)
    with far_server.far(parts.port, round_trip_ms / 1000) as port:
        yield f"{parts.scheme}://127.0.0.1:{port}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--way", action="append", dest="ways", default=[], help="arguments of the program; repeatable")
    parser.add_argument("--profile", action="store_true", help="the defaults, larger batches, --bulk-load-settings")
    parser.add_argument("--senders", action="store_true", help="4 to 16 senders")
    parser.add_argument("--fsync-ms", type=int, default=0)
    parser.add_argument("--round-trip-ms", type=int, default=0)
    parser.add_argument("--json", help="write the figures there, too")
    options = parser.parse_args()
    ways = options.ways + PROFILE * options.profile + SENDERS * options.senders or WAYS
    if not servers.available():
        sys.exit("no ELASTICSEARCH_TEST_URL is set and there is no ../shared")
    if options.fsync_ms and os.environ.get("ELASTICSEARCH_TEST_URL"):
        sys.exit("--fsync-ms wants a server of these runs' own, and ELASTICSEARCH_TEST_URL names another")
    with tempfile.TemporaryDirectory(prefix="megastream_ingest-e2e-") as scratch:
        tempfile.tempdir = scratch
        if options.fsync_ms:
            slow_disk(scratch, options.fsync_ms)
        with servers.running() as server, seen_from_afar(server.url, options.round_trip_ms) as url:
            load(server, url, options.folder, "")  # to warm the server up
            rounds = [[load(server, url, options.folder, way) for way in ways] for _ in range(options.pairs)]
    told = {}
    for way, loads in zip(ways, zip(*rounds)):
        rates, ours, theirs = zip(*loads)
        ratio = statistics.median(rate / first for rate, ((first, *_), *_) in zip(rates, rounds))
        median, best = statistics.median(rates), max(rates)
        told[way] = {"median": round(median), "best": round(best), "ratio": round(ratio, 3)}
        print(f"{way or 'as it comes':40} {median:6.0f} rows/s (best {best:6.0f}, {ratio:.2f} times the first), "
              f"{statistics.median(ours):6.2f} CPU s here, {statistics.median(theirs):6.1f} CPU s there", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
