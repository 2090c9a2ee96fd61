#!/usr/bin/env python3
"""The built program against real servers of each kind and version, from an empty server to every vector read back.

    cargo build && python3 tests/e2e/servers.py --server es-8.19.21 --server os-2.19.4

../shared/elasticsearch and ../shared/opensearch build the servers from package registries; without these folders, the
runs are skipped. The program is that of MEGASTREAM_INGEST, or else the newest build. Without --server those of CI are
tried; `--server all` tries each.
"""

import sys

sys.dont_write_bytecode = True

import argparse
import json
import os
import signal
import tempfile
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import comparison
import expectation
import server as servers
from loader import Loader, binary, make_archives

MAKER = servers.SHARED / "tools" / "make_archives.py"
TEST_DATA = sorted((servers.PROJECT / "test_data").rglob("mega_jetstream_*.db.zip"))
DONE, DONE_WITH_REJECTS, REFUSED = 0, 3, 5

USER, PASSWORD = "ingest", "an-Ingest-Passw0rd"
NAMES = ["posts", "posts_v*", "post_tombstones", "post_tombstones_v*"]
# The privileges of a run with --create-indices, and of flushing where an index confirms before it syncs.
PRIVILEGES = ["read", "index", "delete", "view_index_metadata", "maintenance", "manage"]
# The same for OpenSearch: action groups, and names of actions.
ACTIONS = ["read", "index", "delete", "manage", "indices:admin/get", "indices:admin/mappings/get",
           "indices:monitor/settings/get", "indices:admin/aliases*", "indices:admin/shards/search_shards",
           "indices:admin/flush*", "indices:admin/refresh*"]
CLUSTER_ACTIONS = ["indices:data/write/bulk", "indices:data/read/mget"]

# One request at a time, every five rows: slow enough to kill the server during the load.
SLOWLY = ("--batch-docs", "5", "--senders", "1", "--workers", "1")


@dataclass(frozen=True)
class Kind:
    """A kind of server."""

    product: str
    version: str
    options: tuple
    secure: bool
    vectors: bool = True  # whether it can index vectors

    @property
    def starter(self):
        name = self.product.lower()
        return servers.SHARED / name / f"{name}-here"

    @property
    def build(self):
        variable = {"Elasticsearch": "ES_HERE_BUILD", "OpenSearch": "OS_HERE_BUILD"}[self.product]
        return {variable: os.environ.get(variable) or str(servers.TARGET / self.product.lower())}


KINDS = {
    "es-9.5.3": Kind("Elasticsearch", "9.5.3", ("--tls",), True),
    "es-8.19.21": Kind("Elasticsearch", "8.19.21", ("--tls",), True),
    "es-8.12.2": Kind("Elasticsearch", "8.12.2", (), False),
    "os-2.19.4": Kind("OpenSearch", "2.19.4", ("--knn", "--secure"), True),
    "os-3.5.0": Kind("OpenSearch", "3.5.0", ("--knn", "--secure"), True),
    "os-3.9.0": Kind("OpenSearch", "3.9.0", (), False, vectors=False),
}
OF_CI = ("es-8.19.21", "os-2.19.4")


class Wrong(Exception):
    """A check has failed."""


class Node(servers.Node):
    """A node of any kind, started by these runs."""

    def __init__(self, kind):
        super().__init__(kind.product.lower())
        self.kind, self.starter, self.build = kind, kind.starter, kind.build

    def start(self, port=0):
        words = ("start", "--version", self.kind.version, *self.kind.options, "--heap", "700m", "--port", str(port))
        return dict(line.split(": ", 1) for line in self.run(*words).splitlines() if ": " in line)


class Basic(Loader):
    """Runs with user and password, or without credentials if the server has no security."""

    def __init__(self, server, user):
        super().__init__(server)
        self.user = user

    def ingest(self, archives, *flags, meanwhile=None, user=None):
        settings = {"ELASTICSEARCH_URL": self.server.url, "LOGGING_ENABLED": "true"}
        user = user or self.user
        if user:
            settings |= {"ELASTICSEARCH_USERNAME": user[0], "ELASTICSEARCH_PASSWORD": user[1]}
        else:
            flags = (*flags, "--no-auth")
        if self.server.ca:
            settings["ELASTICSEARCH_CA_CERT"] = self.server.ca
        return self.run(archives, flags, settings, meanwhile)


def make_user(server, kind, name, privileges):
    """Creates a user with these privileges on the indices; (name, password)."""
    if kind.product == "OpenSearch":
        api = "/_plugins/_security/api"
        role = {"cluster_permissions": CLUSTER_ACTIONS,
                "index_permissions": [{"index_patterns": NAMES, "allowed_actions": privileges}]}
        server.expect("PUT", f"{api}/roles/{name}", role, (200, 201))
        server.expect("PUT", f"{api}/internalusers/{name}", {"password": PASSWORD}, (200, 201))
        server.expect("PUT", f"{api}/rolesmapping/{name}", {"users": [name]}, (200, 201))
    else:
        role = {"cluster": [], "indices": [{"names": NAMES, "privileges": privileges}]}
        server.expect("PUT", f"/_security/role/{name}", role)
        server.expect("PUT", f"/_security/user/{name}", {"password": PASSWORD, "roles": [name]})
    return name, PASSWORD


def documents(server, alias):
    """All documents of an alias, as {_id: (version, source)}, sorted by the unique `at_uri`."""
    server.expect("POST", f"/{alias}/_refresh")
    query = {"size": 500, "version": True, "sort": [{"at_uri": "asc"}]}
    if server.excludes_vectors:
        query["_source"] = {"exclude_vectors": False}
    found = {}
    while hits := server.expect("POST", f"/{alias}/_search", query)["hits"]["hits"]:
        for hit in hits:
            found[hit["_id"]] = (hit["_version"], servers.nested(hit["_source"]))
        query["search_after"] = hits[-1]["sort"]
    return found


class Trial:
    """All steps on one server."""

    def __init__(self, kind, node, said):
        self.kind, self.node = kind, node
        admin = servers.basic(said["user"], said["password"]) if kind.secure else servers.basic("nobody", "x")
        self.server = servers.Server(said["url"], said.get("ca"), admin, "")
        self.server.excludes_vectors = kind.product == "Elasticsearch" and kind.version.startswith("9.")
        self.user = None
        if kind.secure:
            words = ACTIONS if kind.product == "OpenSearch" else PRIVILEGES
            self.user = make_user(self.server, kind, USER, words)
        self.loaders = []
        self.seen = []

    def loader(self):
        self.loaders.append(Basic(self.server, self.user))
        return self.loaders[-1]

    def drop(self):
        for index in sorted(self.server.expect("GET", "/posts*,post_tombstones*/_mapping")):
            self.server.expect("DELETE", f"/{index}")

    def check(self, holds, what, run=None):
        if not holds:
            raise Wrong(f"{what}{f': {run}' if run else ''}")

    def holds(self, expected, run, began):
        """Compares every document, and every value of every vector."""
        run.began = began
        count = 0
        for alias, wanted in (("posts", expected.posts), ("post_tombstones", expected.tombstones)):
            found = documents(self.server, alias)
            differences = comparison.documents(wanted, found, run, exact=False)
            self.check(not differences, f"{alias}:{comparison.first(differences)}")
            count += len(found)
        vectors = sum(len(document.get("embeddings", ())) for _, document in expected.posts.values())
        return f"{count} documents and {vectors} vectors read back"

    def write_posts(self):
        """The number of index actions so far."""
        return self.server.actions_taken("posts")

    # ---- the steps -----------------------------------------------------------------------------

    def creates_and_loads(self):
        loader = self.loader()
        checked = loader.ingest(TEST_DATA, "--check", "--create-indices")
        self.check(checked.code == DONE, "--check --create-indices", checked)
        self.check(self.server.ask("GET", "/posts")[0] == 404, "--check has made an index")
        expected = expectation.of(TEST_DATA)
        run = loader.ingest(TEST_DATA, "--create-indices")
        self.check(run.code == DONE_WITH_REJECTS, "--create-indices", run)
        mapping = self.server.expect("GET", "/posts/_mapping")["posts_v1"]["mappings"]
        kind = mapping["properties"]["embeddings"]["properties"]["all_MiniLM_L6_v2"]["type"]
        wanted = "knn_vector" if self.kind.product == "OpenSearch" else "dense_vector"
        self.check(kind == wanted, f"vectors are {kind}")
        encoding = "base64" if "vectors are sent as base64" in run.log else "arrays"
        self.check((encoding == "base64") == self.server.excludes_vectors, f"vectors are sent as {encoding}", run)
        return f"{wanted}; vectors go as {encoding}; {self.holds(expected, run, run.began)}"

    def refuses_base64_where_it_is_not_read(self):
        run = self.loader().ingest(TEST_DATA, "--vector-encoding", "base64")
        takes = self.server.excludes_vectors
        self.check(run.code == (DONE_WITH_REJECTS if takes else REFUSED), "--vector-encoding base64", run)
        return "taken" if takes else "exit 5"

    def replays(self):
        """A field that is too small refuses some posts, and a replay sends them into a proper index."""
        self.drop()
        loader = self.loader()
        run = loader.ingest(TEST_DATA[:1], "--create-indices")
        self.check(run.code in (DONE, DONE_WITH_REJECTS), "a load", run)
        mapping = self.server.expect("GET", "/posts")["posts_v1"]
        properties = mapping["mappings"]["properties"]
        self.drop()
        # Times in nanoseconds begin in 1970, and some posts of the corpus are older.
        properties["created_at"] = {"type": "date_nanos"}
        settings = {"index": {"knn": True}} if self.kind.product == "OpenSearch" else {}
        body = {"aliases": {"posts": {}}, "mappings": mapping["mappings"], "settings": settings}
        self.server.expect("PUT", "/posts_v1", body)
        loader = self.loader()
        archives = make_archives(MAKER, loader.folder / "odd", "--archives", 2, "--rows", 200, "--seed", 12, "--odd")
        expected = expectation.of(archives)
        old = {name for name, (_, document) in expected.posts.items() if document.get("created_at", "9") < "1970"}
        self.check(old, "no post of the corpus is that old")
        run = loader.ingest(archives, "--create-indices")
        self.check(run.code == DONE_WITH_REJECTS, "a load with dead letters", run)
        refused = [letter for letter in run.dead_letters if letter["stage"] == "elasticsearch"]
        self.check({letter["at_uri"] for letter in refused} == old, "others are refused", run)
        letters = loader.folder / "letters.ndjson"
        # Changed, as if they had been written for a server that reads base64.
        letters.write_text("".join(json.dumps(as_base64(letter)) + "\n" for letter in refused))
        self.drop()
        loader.state_file.unlink()
        began = run.began
        run = loader.ingest(archives, "--create-indices")
        self.check(run.code in (DONE, DONE_WITH_REJECTS), "a second load", run)
        for name in old:
            self.server.expect("DELETE", f"/posts/_doc/{urllib.parse.quote(name, safe='')}")
        # The index remembers the version of a plain delete, that of the document plus one, for a minute.
        self.server.expect("PUT", "/posts_v1/_settings", {"index.gc_deletes": "0s"})
        time.sleep(1.5)
        run = loader.ingest([], "--replay", str(letters))
        self.check(run.code == DONE, "--replay", run)
        return f"{len(old)} dead letters with base64 sent again; {self.holds(expected, run, began)}"

    def verifies_and_repairs(self):
        """Plain requests delete one post and change another; both are found, named and repaired."""
        self.drop()
        loader = self.loader()
        archives = make_archives(MAKER, loader.folder / "made", "--archives", 2, "--rows", 100, "--seed", 15)
        expected = expectation.of(archives)
        right = DONE_WITH_REJECTS if expected.rejected else DONE
        run = loader.ingest(archives, "--create-indices")
        self.check(run.code == right, "a load", run)
        self.server.expect("PUT", "/posts_v1/_settings", {"index.gc_deletes": "0s"})
        run = loader.ingest(archives, "--verify")
        self.check(run.code == right and run.summary["findings"]["equal"] > 100, "a right index", run)
        gone, changed = sorted(expected.posts)[:2]
        path = {name: f"/posts/_doc/{urllib.parse.quote(name, safe='')}" for name in (gone, changed)}
        held = self.server.expect("GET", path[changed])
        same = f"?version={held['_version']}&version_type=external_gte"
        self.server.expect("PUT", path[changed] + same, {**held["_source"], "content": "other words"})
        self.server.expect("DELETE", path[gone])
        time.sleep(1.5)  # until the index has forgotten the version of the delete
        output = loader.folder / "differences.ndjson"
        run = loader.ingest(archives, "--verify", "--output", str(output))
        found = {line["at_uri"]: line["finding"] for line in map(json.loads, output.read_text().splitlines())}
        wanted = {gone: "missing", changed: "different"}
        self.check(run.code == DONE_WITH_REJECTS and found == wanted, f"found {found}", run)
        run = loader.ingest(archives, "--verify", "--repair")
        self.check(run.code == right, "--repair", run)
        run = loader.ingest(archives, "--verify")
        self.check(run.code == right, "a repaired index", run)
        return "one missing and one different post found and repaired"

    def survives_a_kill(self, settings, user, what):
        self.drop()
        loader = self.loader()
        archives = make_archives(MAKER, loader.folder / "made", "--archives", 5, "--rows", 100, "--seed", 14)
        expected = expectation.of(archives)
        made = loader.ingest(TEST_DATA[:1], "--create-indices")
        self.check(made.code in (DONE, DONE_WITH_REJECTS), "--create-indices", made)
        for index in servers.INDICES.values():
            self.server.expect("PUT", f"/{index}/_settings", settings)
        first = expectation.of([TEST_DATA[0], *archives])
        loader.state_file.unlink()

        def crash(process):
            before = self.write_posts()
            while process.poll() is None and self.write_posts() < before + 130:
                pass
            self.check(process.poll() is None, "the load ended before the server was killed")
            self.node.crash(self.server)

        began = made.began
        run = loader.ingest(archives, *SLOWLY, meanwhile=crash, user=user)
        self.check(run.code == (DONE_WITH_REJECTS if expected.rejected else DONE), "a load with a kill", run)
        self.check("next attempt" in run.log, "the load has met nothing", run)
        self.check("loaded again" in run.log, "nothing was loaded again", run)
        self.check(loader.marked() == len(archives), "archives are not marked", run)
        return f"{what}; {self.holds(first, run, began)}"

    def survives_a_kill_with_async_translog(self):
        return self.survives_a_kill(ASYNC, self.user, "archives in flight loaded again")

    def survives_a_kill_where_nothing_is_told(self):
        """A silent loss: the user cannot see the settings, but may flush."""
        actions = ["read", "index", "delete", "indices:admin/flush*"]
        blind = make_user(self.server, self.kind, "blind", actions)
        return self.survives_a_kill(ASYNC, blind, "archives in flight loaded again")

    def refuses_where_the_flush_is_forbidden(self):
        """A user who cannot see the settings, and may not flush."""
        bound = make_user(self.server, self.kind, "bound", ["read", "index", "delete"])
        run = self.loader().ingest(TEST_DATA, user=bound)
        self.check(run.code == REFUSED and "indices:admin/flush*" in run.log, "a forbidden flush", run)
        return "exit 5, names indices:admin/flush*"

    def says_what_can_be_made_without_vectors(self):
        for flags in (("--check", "--create-indices"), ("--create-indices",)):
            run = self.loader().ingest(TEST_DATA, *flags)
            self.check(run.code == REFUSED and "k-NN plugin" in run.log, " ".join(flags), run)
        self.check(self.server.ask("GET", "/posts")[0] == 404, "an index was made")
        # What the message offers can be created and loaded.
        request = run.log.split("PUT /posts_v1 ")[1]
        body, _ = json.JSONDecoder().raw_decode(request)
        self.server.expect("PUT", "/posts_v1", body)
        loader = self.loader()
        run = loader.ingest(TEST_DATA, "--create-indices")
        self.check(run.code == DONE_WITH_REJECTS, "a load without k-NN", run)
        return f"exit 5 with the request; made so and loaded: {self.holds(expectation.of(TEST_DATA), run, run.began)}"

    def steps(self):
        if not self.kind.vectors:
            return [self.says_what_can_be_made_without_vectors]
        steps = [self.creates_and_loads, self.refuses_base64_where_it_is_not_read, self.replays,
                 self.verifies_and_repairs,
                 self.survives_a_kill_with_async_translog]
        if self.kind.product == "OpenSearch" and self.kind.secure:
            steps += [self.survives_a_kill_where_nothing_is_told, self.refuses_where_the_flush_is_forbidden]
        return steps


ASYNC = {"index.translog.durability": "async", "index.translog.sync_interval": "60s"}


def as_base64(letter):
    """A dead letter of a run with base64 vectors: big-endian f32."""
    import base64
    import struct
    vectors = letter["document"].get("embeddings", {})
    for name, values in vectors.items():
        if isinstance(values, list):
            vectors[name] = base64.b64encode(struct.pack(f">{len(values)}f", *values)).decode()
    return letter


def try_server(name):
    """Tries a server; whether all steps succeeded."""
    kind = KINDS[name]
    if not kind.starter.exists():
        print(f"{name}: left out, since {kind.starter.relative_to(servers.PROJECT.parent)} is not there")
        return True
    began = time.monotonic()
    node = Node(kind)
    trial = None
    try:
        said = node.start()
        print(f"{name}: up after {time.monotonic() - began:.0f} s", flush=True)
        trial = Trial(kind, node, said)
        good = True
        for step in trial.steps():
            start = time.monotonic()
            try:
                outcome = step()
            except (Wrong, servers.Unexpected) as error:
                good, outcome = False, f"WRONG: {error}"
            print(f"{name}: {step.__name__} ({time.monotonic() - start:.0f} s): {outcome}", flush=True)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        return good
    finally:
        for loader in trial.loaders if trial else ():
            loader.remove()
        node.remove()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", action="append", choices=[*KINDS, "all"])
    names = parser.parse_args().server or OF_CI
    if not binary():
        print("There is no build of the program to run: cargo build --release", file=sys.stderr)
        return 1
    if not MAKER.exists():
        print("There is no ../shared: the runs against other servers are left out.")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="megastream_ingest-e2e-") as scratch:
        tempfile.tempdir = scratch
        good = [try_server(name) for name in (KINDS if "all" in names else names)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
