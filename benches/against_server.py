#!/usr/bin/env python3
"""Loads archives into a real Elasticsearch, in several ways, and says how fast and at what cost to both sides.

    benches/against_server.py FOLDER [--pairs 3] [--way="--senders 1" --way="--senders 4" …]

The server is that of the end-to-end tests (see tests/e2e/server.py: ELASTICSEARCH_TEST_URL, or one of its own);
its indices are made anew before each load, with vectors indexed by HNSW. The ways are taken in turn. Of each, the
median is printed: rows a second from start to exit, CPU time of the program, and CPU time of the server where it
runs on this machine as our own, until it has nothing left to do. Needs a release build of the program.
"""

import argparse
import os
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path

import measure

sys.path.insert(0, os.path.join(measure.ROOT, "tests", "e2e"))
import server as servers  # noqa: E402

WAYS = ["", "--vector-encoding array", "--senders 1", "--senders 2", "--senders 8", "--batch-docs 250",
        "--batch-docs 1000", "--bulk-load-settings"]


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


def load(server, folder, way):
    """Rows a second, and the CPU seconds of the program and of the server."""
    server.fresh_indices()
    key = server.make_key([*servers.PRIVILEGES, "manage"])
    before = settled(server.node)
    variables = {"ELASTICSEARCH_API_KEY": key}
    arguments = shlex.split(way)
    if server.ca:
        arguments += ["--ca-cert", server.ca]
    cost = measure.load(folder, server.url, arguments, environment=variables)
    rows = server.actions_taken("posts") + server.actions_taken("post_tombstones")
    after = settled(server.node)
    return rows / cost.wall, cost.cpu, after - before if after is not None else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--way", action="append", dest="ways", help="arguments of the program; repeatable")
    options = parser.parse_args()
    options.ways = options.ways or WAYS
    if not servers.available():
        sys.exit("no ELASTICSEARCH_TEST_URL is set and there is no ../shared")
    with tempfile.TemporaryDirectory(prefix="megastream_ingest-e2e-") as scratch:
        tempfile.tempdir = scratch
        with servers.running() as server:
            load(server, options.folder, "")  # to warm the server up
            rounds = [[load(server, options.folder, way) for way in options.ways] for _ in range(options.pairs)]
    for way, loads in zip(options.ways, zip(*rounds)):
        rate, ours, theirs = (statistics.median(values) for values in zip(*loads))
        print(f"{way or 'as it comes':30} {rate:8.0f} actions/s, {ours:6.2f} CPU s here, {theirs:6.1f} CPU s there")


if __name__ == "__main__":
    main()
