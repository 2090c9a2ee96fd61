"""The common part of all engines: archives, a server, its gate, and a check of the index."""

import base64
import contextlib
import json
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import tempfile
import time
import unittest
import zipfile
import zlib
from datetime import datetime, timedelta, timezone
from pathlib import Path

import comparison
import expectation
import server as servers
from fake import Fake
from gate import Gate
from loader import binary

PROJECT = servers.PROJECT
DEPLOY = PROJECT / "deploy"
TARGET = servers.TARGET
PATIENCE = 120  # seconds
BEGINNING = datetime(2025, 12, 18, tzinfo=timezone.utc)


def make_archives(folder, archives, rows, seed=1, rows_of=lambda _: None):
    """Archives every five minutes. Posts recur, also in later archives, and some are deleted.

    `rows_of` gives the number of rows of an archive by its number, if not `rows`.
    """
    chance = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    vectors = [vector(chance) for _ in range(8)]
    names, paths = [], []
    for number in range(archives):
        at = BEGINNING + timedelta(minutes=5 * number)
        lines = []
        for _ in range(rows_of(number) or rows):
            again = names and chance.random() < 0.2
            name = chance.choice(names) if again else f"at://did:plc:{len(names) % 97:024}/app.bsky.feed.post/{len(names):013}"
            if not again:
                names.append(name)
            operation = "delete" if chance.random() < 0.08 else "create"
            lines.append(row(name, operation, at, chance, vectors))
        path = folder / f"mega_jetstream_{at:%Y%m%d_%H%M%S}.db.zip"
        write_archive(path, lines)
        paths.append(path)
    return paths


def vector(chance):
    data = struct.pack("<384f", *(chance.uniform(-1, 1) for _ in range(384)))
    return base64.b85encode(zlib.compress(data, 1)).decode()


def row(name, operation, at, chance, vectors):
    did = name.split("/")[2]
    commit = {"operation": operation, "collection": "app.bsky.feed.post", "rkey": name.rsplit("/", 1)[1]}
    if operation == "create":
        text = f"{chance.getrandbits(64):x} " * 8
        commit["record"] = {"$type": "app.bsky.feed.post", "text": text, "createdAt": f"{at:%Y-%m-%dT%H:%M:%S}.000Z"}
    message = {"did": did, "kind": "commit", "time_us": int(at.timestamp() * 1e6), "commit": commit}
    embeddings = {model: chance.choice(vectors) for model in expectation.MODELS}
    return name, did, json.dumps({"message": message, "hydrated_metadata": {}}), json.dumps({"text_embeddings": embeddings})


def write_archive(path, lines):
    database = path.with_suffix(".making")
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("CREATE TABLE enriched_posts (id INTEGER PRIMARY KEY, at_uri TEXT, did TEXT, raw_post TEXT, inferences TEXT)")
    connection.executemany("INSERT INTO enriched_posts (at_uri, did, raw_post, inferences) VALUES (?, ?, ?, ?)", lines)
    connection.commit()
    connection.close()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(database, path.name.removesuffix(".zip"))
    database.unlink()
    # A spool run waits for files that have just been written.
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))


def hash_of(name):
    """64-bit FNV-1a, as in docs/sharding.md."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def shard_of(archive, count):
    """The shard of an archive."""
    return hash_of(archive.name) % count


@contextlib.contextmanager
def server():
    """A real server if available, or else the fake."""
    if servers.available() and not os.environ.get("FLEET_FAKE"):
        with servers.running() as real:
            yield real
    else:
        fake = Fake()
        try:
            yield fake
        finally:
            fake.close()


class Fleet(unittest.TestCase):
    """A folder, a server and its gate. A case is skipped if a program of `needs` is missing."""

    longMessage = False
    needs = ()
    real = False  # whether a real server is preferred
    the_real = None

    @classmethod
    def setUpClass(cls):
        missing = [name for name in cls.needs if not which(name)]
        if missing:
            raise unittest.SkipTest(f"not installed: {', '.join(missing)}")
        if binary() is None:
            raise unittest.SkipTest("the program is not built")
        if cls.real:
            Fleet.the_real = Fleet.the_real or shared_server()

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="fleet-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        if self.real:
            self.server = self.the_real
            self.server.fresh_indices(similarity="l2_norm")
        else:
            self.server = Fake()
            self.addCleanup(self.server.close)
        self.gate = Gate(self.server.url)
        self.addCleanup(self.gate.close)
        self.began = time.time()

    def environment(self, **more):
        """The environment of a submitter: settings, and of this process's own variables only a path."""
        settings = {"ELASTICSEARCH_URL": self.gate.url, "ELASTICSEARCH_API_KEY": self.server.api_key,
                    "MEGASTREAM_INGEST": str(binary()), "PATH": PATH, "HOME": str(self.folder), "LANG": "C.UTF-8"}
        if self.server.ca:
            settings["ELASTICSEARCH_CA_CERT"] = str(self.server.ca)
        return {**settings, **more}

    def call(self, *command, code=0, environment=None, timeout=PATIENCE):
        """Runs a command to its end; its output."""
        done = subprocess.run(list(map(str, command)), env=environment or self.environment(), cwd=self.folder,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=timeout)
        if code is not None and done.returncode != code:
            self.fail(f"{' '.join(map(str, command))}: exit code {done.returncode} instead of {code}:\n{done.stdout[-3000:]}")
        return done.stdout

    def wait_until(self, holds, what, seconds=PATIENCE):
        """Waits for the first true value of `holds`."""
        until = time.monotonic() + seconds
        while not (value := holds()):
            if time.monotonic() > until:
                self.fail(f"did not come in {seconds} s: {what() if callable(what) else what}")
            time.sleep(0.05)
        return value

    def assert_holds(self, archives):
        """Asserts that the index holds what an independent reading of the archives expects, bit for bit."""
        expected = expectation.of(archives)
        span = type("Span", (), {"began": self.began, "ended": time.time()})
        for alias, wanted in (("posts", expected.posts), ("post_tombstones", expected.tombstones)):
            self.assertGreater(len(wanted), 0, f"no {alias} are expected: the archives are too small")
            differences = comparison.documents(wanted, self.server.documents(alias), span)
            if differences:
                self.fail(f"{alias}:{comparison.first(differences)}")


PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"
_open = contextlib.ExitStack()


def shared_server():
    """The one real server of all cases; `finish` stops it."""
    return _open.enter_context(server())


def finish():
    _open.close()


def static_binary():
    """The newest static build; None without one."""
    built = servers.TARGET.glob("*-linux-musl/*/megastream_ingest")
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def which(program):
    return shutil.which(program, path=PATH)


def read(path):
    """The text of a file; "" if it does not exist (yet)."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def processed(state_file):
    """The number of processed archives in a state file."""
    try:
        return sum(entry["status"] == "processed" for entry in json.loads(state_file.read_text()))
    except FileNotFoundError:
        return 0
