#!/usr/bin/env python3
"""Compares loads of the same archives into a real Elasticsearch with different options: speed, and CPU time of both sides.

    benches/against_server.py FOLDER [--pairs 3] [--way="--senders 1" --way="--senders 4" …]
    benches/against_server.py FOLDER --profile [--fsync-ms 5]
    benches/against_server.py FOLDER --senders [--round-trip-ms 20]
    benches/against_server.py FOLDER --verify

The server is the one of the end-to-end tests (tests/e2e/server.py): ELASTICSEARCH_TEST_URL, or one that this script
starts. Its indices are created again before each load, with vectors indexed by HNSW. Each round tries every way once.
The output has, for each way, the median and best rows per second from start to exit, the median ratio to the first way
of the same round, the CPU time of the program, and the CPU time of the server until it is idle (only of a server that
this script starts). Needs a release build of the program.

--verify compares the time of a verification with the time of the load before it: with contents, and by ids alone. A
verification compares only ids if the index holds later versions, so the same archives are loaded under later names.

A way is a string of arguments. `+NAME=VALUE` in it sets an index setting before the load, and `@PATH` names another
build of the program. --fsync-ms slows each fsync of the started server down (slow_disk.c, which needs a C compiler).
--round-trip-ms simulates a distant server (far_server.py).
"""

import argparse
import contextlib
import json
import os
import re
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
SENDERS = ["--senders 4", "--senders 8", "--senders 16", "--senders auto"]


def cpu_of(node):
    """CPU seconds that a node has used so far; None if this script did not start it."""
    if node is None:
        return None
    fields = Path(f"/proc/{(node.data / 'pid').read_text().strip()}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settled(node):
    """Waits until a node is idle (merges end some time after a load), at most a minute. Returns its CPU seconds."""
    before = cpu_of(node)
    for _ in range(60):
        time.sleep(1)
        now = cpu_of(node)
        if now is None or now - before < 0.05:
            return now
        before = now
    return before


def load(server, url, folder, way):
    """Loads a folder once. Returns rows per second, and the CPU seconds of the program and of the server."""
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


def verify(server, url, folder, scratch):
    """Returns the seconds of a load, of a verification with contents, and of one by ids alone."""
    later = tempfile.mkdtemp(dir=scratch)
    for path in Path(folder).glob("*.db.zip"):
        os.link(path, Path(later) / re.sub(r"_(\d{4})", lambda year: f"_{int(year[1]) + 1}", path.name, count=1))
    server.fresh_indices()
    arguments = ["--ca-cert", server.ca] if server.ca else []
    environment = {"ELASTICSEARCH_API_KEY": server.make_key([*servers.PRIVILEGES, "manage"])}

    def seconds(folder, *more):
        cost = measure.load(folder, url, [*arguments, *more], environment=environment)
        settled(server.node)
        return cost.wall

    loaded, with_contents = seconds(folder), seconds(folder, "--verify")
    seconds(later)
    return loaded, with_contents, seconds(folder, "--verify")


def slow_disk(scratch, ms):
    """Makes each fsync of nodes started from now on take `ms` milliseconds longer."""
    library = os.path.join(scratch, "slow_disk.so")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "slow_disk.c")
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    servers.Node.build = {**servers.Node.build, "LD_PRELOAD": library, "FSYNC_MS": str(ms)}


@contextlib.contextmanager
def seen_from_afar(url, round_trip_ms):
    """Yields a URL that reaches a server with this round-trip time."""
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
    parser.add_argument("--verify", action="store_true", help="verifications against the load before")
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
            if options.verify:
                rounds = [verify(server, url, options.folder, scratch) for _ in range(options.pairs)]
                for what, times in zip(["load", "verification with contents", "verification by ids"], zip(*rounds)):
                    ratio = statistics.median(time / first for time, (first, *_) in zip(times, rounds))
                    print(f"{what:28} {statistics.median(times):6.2f} s, {ratio:.2f} of the load")
                return
            rounds = [[load(server, url, options.folder, way) for way in ways] for _ in range(options.pairs)]
    figures = {}
    for way, loads in zip(ways, zip(*rounds)):
        rates, ours, theirs = zip(*loads)
        ratio = statistics.median(rate / first for rate, ((first, *_), *_) in zip(rates, rounds))
        median, best = statistics.median(rates), max(rates)
        figures[way] = {"median": round(median), "best": round(best), "ratio": round(ratio, 3)}
        print(f"{way or 'as it comes':40} {median:6.0f} rows/s (best {best:6.0f}, {ratio:.2f} times the first), "
              f"{statistics.median(ours):6.2f} CPU s here, {statistics.median(theirs):6.1f} CPU s there", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
