#!/usr/bin/env python3
"""The index is correct after any history: random runs of the built program against a real Elasticsearch.

    python3 tests/e2e/convergence.py [--cases 20] [--seed 1]

Each case generates archives from random events of a few posts, and loads them in rounds. In a round several processes
run concurrently, in random order, each with its own shard and state file. Some are killed or terminated, some get only
a part of the archives, some read processed archives again. The indices forget versions of deletes after a second
(`index.gc_deletes`), and some rounds wait for that. After a last round, the indices are compared with expectation.py.
The seed of a failed case repeats it.
"""

import sys

sys.dont_write_bytecode = True

import argparse
import contextlib
import itertools
import json
import random
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
import zipfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import comparison
import expectation
import server as servers
from loader import Loader, binary

GC_DELETES_SECONDS = 1
DID = "did:plc:abcdefghijklmnopqrstuvwx"
START = datetime(2025, 12, 18, tzinfo=timezone.utc)
DONE, DONE_WITH_REJECTS = 0, 3


# ---- archives ---------------------------------------------------------------------------------

def raw_post(at_uri, operation, number):
    """The `raw_post` of an event."""
    commit = {"operation": operation, "collection": "app.bsky.feed.post", "rkey": at_uri.rsplit("/", 1)[1]}
    if operation != "delete":
        commit["record"] = {"text": f"event {number}", "createdAt": "2025-10-30T12:34:56.789Z"}
    message = {"did": at_uri.split("/")[2], "kind": "commit", "time_us": 1_766_016_000_000_000 + number, "commit": commit}
    return json.dumps({"at_uri": at_uri, "did": message["did"], "message": message, "hydrated_metadata": None})


def uris(count):
    return [f"at://{DID}/app.bsky.feed.post/post{n}" for n in range(count)]


def random_row(rng, about, deletes, number):
    """A row (at_uri, did, raw_post, inferences), in most cases an event of one of the posts."""
    at_uri = rng.choice(about)
    event = raw_post(at_uri, rng.choices(["create", "update", "delete"], [6, 2, deletes])[0], number)
    odd = rng.random()
    if odd < 0.02:
        return "", DID, json.dumps({"message": {"did": DID, "kind": "account", "time_us": 1}}), None
    if odd < 0.04:
        return at_uri, DID, rng.choice([None, event[:-1]]), "{}"
    return at_uri, DID, event, "{}"


def random_archives(rng, folder):
    """A few archives of one stream, in order."""
    about = uris(rng.choice([5, 40, 150]))
    deletes = rng.choice([0.1, 0.5, 3])  # to 8 creates and updates
    numbers = itertools.count()
    rows = lambda: [random_row(rng, about, deletes, next(numbers)) for _ in range(rng.randint(20, 250))]
    return [write_archive(folder, n, rows()) for n in range(rng.randint(3, 8))]


def write_archive(folder, n, rows):
    """Writes the n-th archive."""
    stamp = (START + timedelta(minutes=5 * n)).strftime("%Y%m%d_%H%M%S")
    database = folder / f"mega_jetstream_{stamp}.db"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE enriched_posts (id INTEGER PRIMARY KEY AUTOINCREMENT, at_uri TEXT, "
                           "did TEXT, raw_post TEXT, inferences TEXT)")
        connection.executemany(
            "INSERT INTO enriched_posts (at_uri, did, raw_post, inferences) VALUES (?, ?, ?, ?)", rows)
    path = database.with_name(database.name + ".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.write(database, database.name)
    database.unlink()
    return path


# ---- rounds -----------------------------------------------------------------------------------

class Case:
    """A random case. Its seed repeats it, apart from timing on the server."""

    def __init__(self, server, seed):
        self.server, self.rng = server, random.Random(seed)
        self.shards = self.rng.randint(1, 4)
        self.loaders = [Loader(server) for _ in range(self.shards)]
        self.began = time.time()
        self.problems = []
        self.killed = self.processes = 0

    def remove(self):
        for loader in self.loaders:
            loader.remove()

    def process(self, shard, archives, ending):
        """Runs one process with one shard; `ending` is (signal, seconds after the start), or None."""

        def end(process):
            with_signal, after = ending
            try:
                process.wait(after)
            except subprocess.TimeoutExpired:
                process.send_signal(with_signal)

        rng = self.rng
        flags = ["--shard", f"{shard}/{self.shards}", "--workers", rng.randint(1, 3), "--senders", rng.randint(1, 6),
                 "--batch-docs", rng.choice([1, 3, 20, 100])]
        return threading.Thread(target=self.run, args=(shard, archives, flags, end if ending else None))

    def run(self, shard, archives, flags, end):
        run = self.loaders[shard].ingest(archives, *map(str, flags), meanwhile=end)
        self.processes += 1
        self.killed += run.code in (-signal.SIGKILL, 143)
        if not end and run.code not in (DONE, DONE_WITH_REJECTS):
            self.problems.append(str(run))
        if run.summary:
            rows = run.summary["rows"]
            if 2 * rows["read"] != sum(rows.values()):
                self.problems.append(f"rows do not add up: {rows}")

    def round(self, archives, last=False):
        rng = self.rng
        for loader in self.loaders:
            if not last and rng.random() < 0.25:
                loader.state_file.unlink(missing_ok=True)
        if not last and rng.random() < 0.5:
            time.sleep(GC_DELETES_SECONDS * 1.3)
        processes = []
        for shard in rng.sample(range(self.shards), self.shards):
            given = archives if last else rng.sample(archives, rng.randint(1, len(archives)))
            ending = (rng.choice([signal.SIGKILL, signal.SIGTERM]), rng.uniform(0.01, 0.4))
            processes.append(self.process(shard, given, ending if not last and rng.random() < 0.6 else None))
        for process in processes:
            process.start()
        for process in processes:
            process.join()

    def run_case(self, folder):
        """The differences between the final and the expected contents of the indices."""
        self.server.fresh_indices()
        for index in servers.INDICES.values():
            self.server.expect("PUT", f"/{index}/_settings", {"index.gc_deletes": f"{GC_DELETES_SECONDS}s"})
        archives = random_archives(self.rng, folder)
        for _ in range(self.rng.randint(1, 4)):
            self.round(archives)
        self.round(archives, last=True)
        self.ended = time.time()
        expected = expectation.of(archives)
        for alias, wanted in (("posts", expected.posts), ("post_tombstones", expected.tombstones)):
            found = self.server.documents(alias)
            self.problems += [f"{alias}: {line}" for line in comparison.documents(wanted, found, self, exact=True)]
        return f"{len(archives)} archives, {expected.read} rows, {len(expected.posts)} posts, " \
               f"{len(expected.tombstones)} tombstones; {self.processes} processes, {self.killed} ended by a signal"


# ---- writes of other programs -----------------------------------------------------------------

def check_versions_of_others(server, folder):
    """Documents of an earlier tool are replaced; a replay does not undo partial updates."""
    server.fresh_indices()
    ids = uris(20)
    archives = [write_archive(folder, n, [(name, DID, raw_post(name, "create", n), None) for name in ids])
                for n in range(2)]
    expected = expectation.of(archives)
    lines = "".join(json.dumps({"index": {"_index": "posts", "_id": name}}) + '\n{"content": "earlier"}\n'
                    for name in ids * 3)
    server.expect("POST", "/_bulk", lines.encode())
    loader, began = Loader(server), time.time()
    try:
        codes = [loader.ingest(archives).code]
        problems = compare(server, expected, began)
        lines = "".join(json.dumps({"update": {"_index": "posts", "_id": name}}) + '\n{"doc": {"content": "edited"}}\n'
                        for name in ids[::2])
        server.expect("POST", "/_bulk", lines.encode())
        loader.state_file.unlink()
        codes.append(loader.ingest(archives).code)
    finally:
        loader.remove()
    for name in ids[::2]:
        version, document = expected.posts[name]
        expected.posts[name] = (version + 1, {**document, "content": "edited"})
    return problems + compare(server, expected, began) + ([f"exit codes {codes}"] if any(codes) else [])


class Span:
    """The time span in which documents were written."""

    def __init__(self, began):
        self.began, self.ended = began, time.time()


def compare(server, expected, began):
    wanted = (("posts", expected.posts), ("post_tombstones", expected.tombstones))
    return [f"{alias}: {line}" for alias, documents in wanted
            for line in comparison.documents(documents, server.documents(alias), Span(began), exact=True)]


# ---- main -------------------------------------------------------------------------------------

def run_cases(server, first, count):
    """Runs the cases; the number of failed ones."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        problems = check_versions_of_others(server, Path(folder))
    print("versions of others:", comparison.first(problems).strip() or "ok", flush=True)
    failed += bool(problems)
    for seed in range(first, first + count):
        case = Case(server, seed)
        try:
            with tempfile.TemporaryDirectory() as folder:
                told = case.run_case(Path(folder))
        finally:
            case.remove()
        print(f"seed {seed}: {told}: {comparison.first(case.problems).strip() or 'ok'}", flush=True)
        failed += bool(case.problems)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the first case")
    options = parser.parse_args()
    if not servers.available():
        print("No ELASTICSEARCH_TEST_URL is set and there is no ../shared: the convergence runs are left out.")
        return 0
    if not binary():
        print("There is no build of the program to run: cargo build --release", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that our own server is stopped, too
    with tempfile.TemporaryDirectory(prefix="megastream_ingest-e2e-") as scratch:
        tempfile.tempdir = scratch  # removed however the runs end
        with servers.running() as server:
            print(f"{binary()} against {server.url}", flush=True)
            failed = run_cases(server, options.seed, options.cases)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
