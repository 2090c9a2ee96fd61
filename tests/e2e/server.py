"""The Elasticsearch server of the end-to-end runs: found or started, queried and cleaned up.

The environment may name it: ELASTICSEARCH_TEST_URL, ELASTICSEARCH_TEST_CA (PEM file), and an administrator
(ELASTICSEARCH_TEST_USER, ELASTICSEARCH_TEST_PASSWORD), an API key for the program (ELASTICSEARCH_TEST_API_KEY, in the
`encoded` form), or both. Without an administrator the key is used for everything, and needs the privilege `manage` on
the indices. Without ELASTICSEARCH_TEST_URL, a server is started from `../shared/elasticsearch`, and stopped at the end.

The index names are fixed, so the runs delete and create `posts_v1` and `post_tombstones_v1`. If one of these indices
was not created by such a run, the run stops instead of deleting it.
"""

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import unittest
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SHARED = PROJECT.parent / "shared"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or PROJECT / "target")
STARTER = SHARED / "elasticsearch" / "elasticsearch-here"
MARK = {"made_by": "megastream_ingest end-to-end tests"}

INDICES = {"posts": "posts_v1", "post_tombstones": "post_tombstones_v1"}

# The names of all indices that these runs create, including clusters.py.
NAMES = ("posts*", "post_tombstones*", "post-tombstones*")
PATTERN = ",".join(NAMES)

# The privileges of the program's key (none on the cluster):
#   read                 _mget of tombstones before posts are indexed, and the test of the vector encoding
#   index                index actions
#   delete               delete actions
#   view_index_metadata  preflight: aliases, mappings, settings
PRIVILEGES = ["read", "index", "delete", "view_index_metadata"]

KEYWORD = {"type": "keyword"}
DATE = {"type": "date"}
MODELS = ("all_MiniLM_L12_v2", "all_MiniLM_L6_v2")
PROPERTIES = {
    "posts": {
        "at_uri": KEYWORD,
        "author_did": KEYWORD,
        # Lucene refuses terms over 32,766 bytes, and so the whole document; longer texts are not indexed.
        "content": {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 8191}}},
        "created_at": DATE,
        "thread_root_post": KEYWORD,
        "thread_parent_post": KEYWORD,
        "quote_post": KEYWORD,
        "indexed_at": DATE,
    },
    "post_tombstones": {"at_uri": KEYWORD, "author_did": KEYWORD, "deleted_at": DATE, "indexed_at": DATE},
}


class Unexpected(Exception):
    """The server replied with an unexpected status."""


@dataclass
class Server:
    """A server, with the credentials of its administrator and of the program."""

    url: str
    ca: str | None
    admin: str  # Authorization header
    api_key: str  # the `encoded` form
    node: "Node | None" = None  # if these runs started it

    def connection(self, seconds):
        """A new connection with this time limit."""
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=self.ca)
            return http.client.HTTPSConnection(parts.netloc, timeout=seconds, context=context)
        return http.client.HTTPConnection(parts.netloc, timeout=seconds)

    def ask(self, method, path, body=None, authorization=None):
        """Sends a request; (status, parsed JSON reply). `body` is an object, or NDJSON as bytes."""
        parts = urllib.parse.urlsplit(self.url)
        connection = self.connection(120)
        headers = {"Authorization": authorization or self.admin, "Content-Type": "application/json"}
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/x-ndjson"
        elif body is not None:
            body = json.dumps(body).encode()
        with contextlib.closing(connection):
            connection.request(method, parts.path.rstrip("/") + path, body, headers)
            reply = connection.getresponse()
            text = reply.read()
        return reply.status, json.loads(text) if text else None

    def expect(self, method, path, body=None, allowed=(200,)):
        """The reply to a request of the administrator, which must have one of the allowed statuses."""
        status, reply = self.ask(method, path, body)
        if status not in allowed:
            raise Unexpected(f"{method} {path}: {status} {json.dumps(reply)[:500]}")
        return reply

    def make_key(self, privileges, names=NAMES):
        """A new API key (the `encoded` form) with these privileges on indices and none on the cluster."""
        if self.admin.startswith("ApiKey"):
            raise unittest.SkipTest("needs an administrator: a key cannot make keys with privileges")
        role = {"cluster": [], "indices": [{"names": list(names), "privileges": privileges}]}
        body = {"name": "megastream_ingest-e2e", "expiration": "1d", "role_descriptors": {"ingest": role}}
        return self.expect("POST", "/_security/api_key", body)["encoded"]

    def drop_indices(self):
        """Deletes the indices of an earlier test."""
        found = self.expect("GET", f"/{PATTERN}/_mapping?expand_wildcards=all")
        for index, entry in found.items():
            if entry["mappings"].get("_meta") != MARK:
                raise Unexpected(f"the index {index} was not made by these tests: use a server for tests")
        for index in found:
            self.expect("DELETE", f"/{index}")

    def fresh_indices(self, similarity="cosine", vector=None, settings=None, **posts):
        """Creates empty indices with the documented mapping, with other vectors or fields of posts if given.

        `settings` are for `posts` only.
        """
        self.drop_indices()
        vector = vector or {"type": "dense_vector", "dims": 384, "index": True, "similarity": similarity}
        for alias, index in INDICES.items():
            properties = dict(PROPERTIES[alias])
            if alias == "posts":
                properties.update(posts, embeddings={"properties": dict.fromkeys(MODELS, vector)})
            mappings = {"_meta": MARK, "dynamic": False, "properties": properties}
            of_index = {"number_of_shards": 1, "number_of_replicas": 0}
            if alias == "posts":
                of_index.update(settings or {})
            self.expect("PUT", f"/{index}", {"aliases": {alias: {}}, "mappings": mappings, "settings": of_index})

    def adopt_indices(self):
        """Marks indices that the program created for these tests as theirs."""
        for index in self.index_names():
            self.expect("PUT", f"/{index}/_mapping", {"_meta": MARK})

    def index_names(self):
        """The names of all indices that may belong to the program."""
        return sorted(self.expect("GET", f"/{PATTERN}/_mapping?expand_wildcards=all"))

    def actions_taken(self, alias):
        """The number of index actions of an alias so far."""
        return self.expect("GET", f"/{alias}/_stats/indexing")["_all"]["primaries"]["indexing"]["index_total"]

    def make_index(self, index, body):
        """Creates an index with this body, marked as one of these tests."""
        mappings = {**body.get("mappings", {}), "_meta": MARK}
        self.expect("PUT", f"/{index}", {**body, "mappings": mappings})

    def documents(self, alias):
        """All documents of an alias or index, as {_id: (version, source)}, with vectors."""
        self.expect("POST", f"/{alias}/_refresh")
        pit = self.expect("POST", f"/{alias}/_pit?keep_alive=5m")["id"]
        query = {
            "size": 500,
            "version": True,
            "_source": {"exclude_vectors": False},
            "sort": [{"at_uri": "asc"}, {"_shard_doc": "asc"}],
            "pit": {"id": pit, "keep_alive": "5m"},
        }
        found = {}
        try:
            while hits := self.expect("POST", "/_search", query)["hits"]["hits"]:
                for hit in hits:
                    if hit["_id"] in found:
                        raise Unexpected(f"{alias} holds {hit['_id']} twice")
                    found[hit["_id"]] = (hit["_version"], nested(hit["_source"]))
                query["search_after"] = hits[-1]["sort"]
        finally:
            self.expect("DELETE", "/_pit", {"id": pit})
        return found


def nested(source):
    """A source with vectors in their place: those that `_source.excludes` leaves out are returned under a dotted name."""
    for name in [name for name in source if name.startswith("embeddings.")]:
        source.setdefault("embeddings", {})[name.removeprefix("embeddings.")] = source.pop(name)
    return source


def basic(user, password):
    """The Authorization header of a user."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def given(environment):
    """The server of the environment."""
    user, password = environment.get("ELASTICSEARCH_TEST_USER"), environment.get("ELASTICSEARCH_TEST_PASSWORD")
    key = environment.get("ELASTICSEARCH_TEST_API_KEY")
    if not key and not (user and password):
        sys.exit("ELASTICSEARCH_TEST_URL wants ELASTICSEARCH_TEST_API_KEY or a user and a password, too")
    admin = basic(user, password) if user and password else f"ApiKey {key}"
    url = environment["ELASTICSEARCH_TEST_URL"].rstrip("/")
    server = Server(url, environment.get("ELASTICSEARCH_TEST_CA") or None, admin, key or "")
    server.api_key = key or server.make_key(PRIVILEGES)
    return server


def available():
    """Whether a server is available."""
    return bool(os.environ.get("ELASTICSEARCH_TEST_URL")) or STARTER.exists()


@contextlib.contextmanager
def running():
    """The server of these runs, for their duration."""
    if os.environ.get("ELASTICSEARCH_TEST_URL"):
        server = given(os.environ)
        yield server
        server.drop_indices()
    else:
        with own() as server:
            yield server


class Node:
    """A node in a temporary folder."""

    starter = STARTER
    build = {"ES_HERE_BUILD": str(TARGET / "elasticsearch")}

    def __init__(self, product="elasticsearch"):
        self.data = Path(tempfile.mkdtemp(prefix=f"{product}-"))

    def run(self, command, *options):
        environment = {**os.environ, **self.build}
        environment.pop("ELASTIC_PASSWORD", None)
        words = [sys.executable, str(self.starter), command, "--data", str(self.data), *options]
        return subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout

    def start(self, port=0):
        """Starts it; returns its description."""
        return dict(line.split(": ", 1) for line in self.run("start", "--tls", "--port", str(port)).splitlines())

    def crash(self, server):
        """Kills it without warning, and restarts it on the same port."""
        os.kill(int((self.data / "pid").read_text()), signal.SIGKILL)
        port = urllib.parse.urlsplit(server.url).port
        with contextlib.suppress(OSError):
            while True:
                socket.create_connection(("127.0.0.1", port), 1).close()
        self.start(port)

    def remove(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run("stop")
        shutil.rmtree(self.data, ignore_errors=True)


@contextlib.contextmanager
def own():
    """A server for these runs, with TLS."""
    node = Node()
    try:
        said = node.start()
        server = Server(said["url"], said["ca"], basic(said["user"], said["password"]), "", node)
        server.api_key = server.make_key(PRIVILEGES)
        yield server
    finally:
        node.remove()
