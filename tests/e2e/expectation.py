#!/usr/bin/env python3
"""The expected contents of Elasticsearch after a load, computed independently of the program.

    python3 tests/e2e/expectation.py ARCHIVE...

prints the counters of a dry run. Archives are read as a whole, in order of time and name; nothing is optimised, so
that each rule is easy to read.
"""

import base64
import json
import math
import re
import sqlite3
import struct
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

DIMS = 384
ROW_ID_BITS = 28
MAX_ID_BYTES = 512
POSTS = "app.bsky.feed.post"
MODELS = {"all-MiniLM-L12-v2": "all_MiniLM_L12_v2", "all-MiniLM-L6-v2": "all_MiniLM_L6_v2"}
# Not modelled, and not in the test archives: year 0 and leap seconds, which Python's datetime does not support.
RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass
class Expectation:
    """Documents by `_id`, and counters with the names of the summary."""

    posts: dict = field(default_factory=dict)  # _id: (version, document without indexed_at)
    tombstones: dict = field(default_factory=dict)
    read: int = 0
    posts_sent: int = 0
    deletes_sent: int = 0
    superseded: int = 0  # within archives; the server may supersede more
    skipped: Counter = field(default_factory=Counter)
    rejected: Counter = field(default_factory=Counter)
    dropped_fields: Counter = field(default_factory=Counter)

    def reasons(self):
        """The `reasons` of the summary."""
        return {name: dict(sorted(getattr(self, name).items())) for name in ("skipped", "rejected", "dropped_fields")}

    def dry_run(self):
        """The `rows` and `reasons` of a dry run's summary."""
        rows = {"read": self.read, "indexed": self.posts_sent, "deleted": self.deletes_sent,
                "superseded": self.superseded, "suppressed": 0, "skipped": self.skipped.total(),
                "rejected": self.rejected.total(), "unconfirmed": 0}
        return {"rows": rows, "reasons": self.reasons()}


@dataclass
class Event:
    """A row with an effect on the index."""

    row_id: int
    at_uri: str
    author_did: str | None
    operation: str
    raw_post: dict
    inferences: str | None


def of(paths):
    """The expectation for a list of archives."""
    expected = Expectation()
    for path in sorted(map(Path, paths), key=lambda path: (archive_time(path), path.name)):
        for at_uri, event in deciding_events(expected, read_rows(path)).items():
            apply(expected, at_uri, event, archive_time(path))
    return expected


# ---- reading ----------------------------------------------------------------------------------

def archive_time(path):
    """The time in an archive's name, in seconds since 1970."""
    stamp = re.search(r"\d{8}_\d{6}", path.name).group()
    return int(datetime.strptime(stamp + "+0000", "%Y%m%d_%H%M%S%z").timestamp())


def read_rows(path):
    """All rows in order, as (row id, at_uri, did, raw_post, inferences)."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".db"))
        database = Path(folder) / "archive.db"
        database.write_bytes(archive.read(name))
        connection = sqlite3.connect(database)
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        table = "enriched_posts" if "enriched_posts" in tables else "posts"
        rows = connection.execute(
            f"SELECT rowid, at_uri, did, raw_post, inferences FROM {table} ORDER BY rowid").fetchall()
        connection.close()
    return rows


def parse(text):
    """The value of a JSON text, or ValueError. Python's NaN and Infinity are not JSON."""

    def refuse(name):
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


def member(value, *names):
    """The value under a path of object keys; None if it is missing."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


# ---- events -----------------------------------------------------------------------------------

def judge(row):
    """Classifies a row as ("skipped" or "rejected", reason) or ("event", Event)."""
    row_id, at_uri, did, raw_text, inferences = row
    try:
        raw_post = None if raw_text is None else parse(raw_text)
        is_json = True
    except ValueError:
        raw_post, is_json = None, False
    commit = member(raw_post, "message", "commit")
    operation = member(commit, "operation")
    if member(raw_post, "message", "kind") == "account":
        return "skipped", "account_event"
    if not at_uri:
        return "skipped", "empty_at_uri"
    collection = member(commit, "collection")
    if isinstance(collection, str) and collection not in ("", POSTS):
        return "skipped", "other_collection"
    if raw_text is None:
        return "rejected", "null_raw_post"
    if not is_json:
        return "rejected", "invalid_json"
    if not isinstance(commit, dict):
        return "rejected", "no_commit"
    if operation not in ("create", "update", "delete"):
        return "rejected", "unknown_operation"
    if operation != "delete" and not isinstance(commit.get("record"), dict):
        return "rejected", "no_record"
    if len(at_uri.encode()) > MAX_ID_BYTES:
        return "rejected", "id_too_long"
    return "event", Event(row_id, at_uri, did, operation, raw_post, inferences)


def deciding_events(expected, rows):
    """The event of each at_uri of one archive that is sent: the last delete, or else the last event."""
    events = {}
    for row in rows:
        expected.read += 1
        kind, found = judge(row)
        if kind != "event":
            getattr(expected, kind)[found] += 1
            continue
        earlier = events.get(found.at_uri)
        expected.superseded += earlier is not None
        if not earlier or found.operation == "delete" or earlier.operation != "delete":
            events[found.at_uri] = found
    return events


def apply(expected, at_uri, event, seconds):
    """Applies an event, after all events that were sent before it."""
    version = seconds << ROW_ID_BITS | event.row_id
    if event.operation == "delete":
        expected.deletes_sent += 1
        expected.tombstones[at_uri] = (version, tombstone(event, seconds))
        expected.posts.pop(at_uri, None)
        return
    expected.posts_sent += 1
    document = post(event, expected.dropped_fields)
    if at_uri not in expected.tombstones:
        expected.posts[at_uri] = (version, document)


# ---- documents --------------------------------------------------------------------------------

def tombstone(event, seconds):
    """The document for `post_tombstones`, without `indexed_at`."""
    time_us = member(event.raw_post, "message", "time_us")
    known = isinstance(time_us, int) and not isinstance(time_us, bool)
    deleted_at = EPOCH + (timedelta(microseconds=time_us) if known else timedelta(seconds=seconds))
    return {"at_uri": event.at_uri, "author_did": event.author_did, "deleted_at": milliseconds(deleted_at)}


def post(event, dropped):
    """The document for `posts`, without `indexed_at`; dropped fields are counted."""
    record = event.raw_post["message"]["commit"]["record"]
    text = record.get("text")
    document = {"at_uri": event.at_uri, "author_did": event.author_did,
                "content": scalar_values(text) if isinstance(text, str) else ""}
    created_at = rfc3339(record.get("createdAt"))
    if created_at:
        document["created_at"] = created_at
    else:
        dropped["created_at"] += 1
    document.update(links(event.raw_post, record))
    embeddings = vectors(event.inferences, dropped)
    if embeddings:
        document["embeddings"] = embeddings
    return document


def links(raw_post, record):
    """The fields with links to other posts: hydrated, or else from the record."""
    hydrated = raw_post.get("hydrated_metadata")
    candidates = {
        "thread_root_post": [member(hydrated, "reply_post", "uri"), member(record, "reply", "root", "uri")],
        "thread_parent_post": [member(hydrated, "parent_post", "uri"), member(record, "reply", "parent", "uri")],
        "quote_post": [uri for uri in (member(hydrated, "quote_post", "uri"),) if collection(uri) in (None, POSTS)] + [
            uri
            for uri in (member(record, "embed", "record", "uri"), member(record, "embed", "record", "record", "uri"))
            if collection(uri) == POSTS
        ],
    }
    uris = {name: next((uri for uri in found if isinstance(uri, str) and uri), None) for name, found in candidates.items()}
    return {name: scalar_values(uri) for name, uri in uris.items() if uri}


def collection(uri):
    """The collection in a URI; None without one."""
    found = re.match("at://[^/]*/([^/]*)/", uri) if isinstance(uri, str) else None
    return found and found.group(1)


def scalar_values(text):
    """Replaces lone surrogates, which UTF-8 cannot hold, by U+FFFD. (The JSON parser has joined pairs.)"""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def rfc3339(value):
    """An RFC 3339 time in UTC, truncated to milliseconds; None if the value is not one."""
    found = RFC3339.fullmatch(value) if isinstance(value, str) else None
    if not found:
        return None
    date, clock, fraction, zone = found.groups()
    micros = ((fraction or ".") + "000000")[1:7]
    try:
        return milliseconds(datetime.fromisoformat(f"{date}T{clock}.{micros}{zone.upper().replace('Z', '+00:00')}"))
    except (ValueError, OverflowError):
        return None


def milliseconds(time):
    """A time in the format of documents."""
    utc = time.astimezone(timezone.utc)
    return f"{utc.year:04}-{utc:%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03}Z"


def vectors(text, dropped):
    """The vectors of `inferences` by document field, as lists of f32 values."""
    if text is None:
        return {}
    try:
        inferences = parse(text)
    except ValueError:
        dropped["inferences"] += 1
        return {}
    decoded = {}
    for model, name in MODELS.items():
        encoded = member(inferences, "text_embeddings", model)
        if encoded is None:
            continue
        vector = decode_vector(encoded)
        if vector:
            decoded[name] = vector
        else:
            dropped["embedding"] += 1
    return decoded


def decode_vector(encoded):
    """Decodes base85 of a zlib stream of little-endian f32; None unless it has 384 finite values and a length."""
    try:
        data = zlib.decompress(base64.b85decode(encoded))
        vector = struct.unpack(f"<{DIMS}f", data)
    except (ValueError, TypeError, zlib.error, struct.error):
        return None
    if not all(map(math.isfinite, vector)):
        return None
    # Squares and their sum are rounded to f32, as an index with cosine similarity computes the length.
    squared = 0.0
    for value in vector:
        squared = f32(squared + f32(value * value))
    return list(vector) if 0 < squared < math.inf else None


def f32(value):
    """A number rounded to f32."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.inf


if __name__ == "__main__":
    print(json.dumps(of(sys.argv[1:]).dry_run(), indent=2))
