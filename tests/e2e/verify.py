#!/usr/bin/env python3
"""End-to-end runs: --verify and --repair, after plain requests have damaged documents in every way.

    cargo build --release && python3 tests/e2e/verify.py [-v] [NAME...]

Takes the same arguments and environment as run.py. The expected findings of each row are computed here, from the
archives and the contents of the indices.
"""

import sys

sys.dont_write_bytecode = True

import collections
import http.server
import json
import random
import signal
import tempfile
import threading
import time
import unittest
import urllib.parse
from pathlib import Path

import comparison
import expectation
import run as runs
import server as servers
from loader import make_archives

DONE, DIFFERENT, REFUSED = 0, 3, 5
READ = ["read"]
FINDINGS = ("missing", "stale", "different", "resurrected", "undeleted")


class Verify(runs.EndToEnd):
    """The base of all cases: archives, loaded indices, damage, and the expected findings."""

    similarity = "cosine"
    routed = False
    rolls = False

    @classmethod
    def setUpClass(cls):
        if not runs.MAKER.exists():
            raise unittest.SkipTest("the tool that makes archives is not here")
        folder = Path(tempfile.mkdtemp(prefix="archives-"))
        cls.archives = make_archives(runs.MAKER, folder, "--archives", 4, "--rows", 150, "--seed", 33)
        cls.expected = expectation.of(cls.archives)

    def setUp(self):
        super().setUp()
        # A short memory of deletes, so that a repair need not wait for a minute.
        self.server.fresh_indices(similarity=self.similarity)
        for index in servers.INDICES.values():
            self.server.expect("PUT", f"/{index}/_settings", {"index.gc_deletes": "1s"})
        self.addCleanup(self.server.drop_indices)
        if self.routed:
            self.remake_routed()
        self.key = self.server.make_key(servers.PRIVILEGES)
        self.reader = self.server.make_key(READ)

    def remake_routed(self):
        for alias, index in servers.INDICES.items():
            body = self.body(index, alias)
            body["mappings"]["_routing"] = {"required": True}
            self.server.expect("DELETE", f"/{index}")
            self.server.make_index(index, body)

    def body(self, index, alias, is_write_index=True):
        """The body of an index."""
        told = self.server.expect("GET", f"/{index}")[index]
        settings = {"number_of_shards": 1, "number_of_replicas": 0, "gc_deletes": "1s"}
        return {"mappings": told["mappings"], "settings": settings,
                "aliases": {alias: {"is_write_index": is_write_index}}}

    def roll_over(self):
        for alias, index in servers.INDICES.items():
            body = self.body(index, alias)
            actions = [{"add": {"index": index, "alias": alias, "is_write_index": False}}]
            self.server.expect("POST", "/_aliases", {"actions": actions})
            self.server.make_index(index.replace("_v1", "_v2"), body)

    def load(self):
        half = len(self.archives) // 2 if self.rolls else 0
        if self.rolls:
            self.assert_code(self.loader.ingest(self.archives[:half], key=self.key), DONE)
            self.roll_over()
        self.assert_code(self.loader.ingest(self.archives[half:], key=self.key), DONE)

    # ---- contents, and plain requests that change them -----------------------------------------

    def members(self, alias):
        return sorted(self.server.expect("GET", f"/_alias/{alias}"))

    def held(self, alias):
        """Documents by id and then by index: (version, source)."""
        found = collections.defaultdict(dict)
        for index in self.members(alias):
            for name, document in self.server.documents(index).items():
                found[name][index] = document
        return found

    def request(self, method, index, name, parameters="", body=None):
        routing = f"&routing={name.split('/')[2]}" if self.routed else ""
        path = f"/{index}/_doc/{urllib.parse.quote(name, safe='')}?refresh=false{routing}{parameters}"
        return self.server.expect(method, path, body, allowed=(200, 201))

    def write(self, index, name, version, source):
        self.request("PUT", index, name, f"&version={version}&version_type=external_gte", source)

    def damage(self):
        """Deletes 5 posts, overwrites 3 under a lower version, changes a field of 2 and one float of a vector of 1 under
        the same version, indexes 4 deleted posts again, and deletes 2 tombstones."""
        chance = random.Random(7)
        posts, tombstones = self.held("posts"), self.held("post_tombstones")
        alive = chance.sample(sorted(posts), 11)
        dead = chance.sample(sorted(tombstones), 6)

        def newest(name):
            index = max(posts[name], key=lambda index: posts[name][index][0])
            return index, *posts[name][index]

        for name in alive[:8]:
            for index in posts[name]:
                self.request("DELETE", index, name)
        for name in dead[4:]:
            for index in tombstones[name]:
                self.request("DELETE", index, name)
        time.sleep(2)  # until the indices have forgotten these deletes
        for name in alive[5:8]:
            index, _, source = newest(name)
            self.write(index, name, 7, source)
        for name, field in zip(alive[8:10], ("content", "author_did")):
            index, version, source = newest(name)
            self.write(index, name, version, {**source, field: "changed"})
        name = next(name for name in sorted(posts) if "embeddings" in newest(name)[2] and name not in alive)
        index, version, source = newest(name)
        model = sorted(source["embeddings"])[0]
        source["embeddings"][model][17] += 0.001
        self.write(index, name, version, source)
        for name in dead[:4]:
            self.write(self.members("posts")[0], name, 7, {"at_uri": name, "content": "back again"})

    # ---- expected findings --------------------------------------------------------------------

    def expected_findings(self, archives=None):
        """(archive, row id, at_uri, finding, field) of every row with a difference."""
        posts, tombstones = self.held("posts"), self.held("post_tombstones")
        found = set()
        for path in archives or self.archives:
            events = expectation.deciding_events(expectation.Expectation(), expectation.read_rows(path))
            for name, event in events.items():
                version = expectation.archive_time(path) << expectation.ROW_ID_BITS | event.row_id
                finding = self.judge(event, version, posts.get(name), tombstones.get(name))
                if finding:
                    found.add((path.name, event.row_id, name, *finding))
        return found

    def judge(self, event, version, posts, tombstone):
        if event.operation == "delete":
            return ("resurrected", None) if posts else None if tombstone else ("undeleted", None)
        if tombstone:
            return ("resurrected", None) if posts else None
        if not posts:
            return "missing", None
        # Repaired documents are in the write index, with the same version.
        there, source = max(posts.items(), key=lambda found: (found[1][0], found[0]))[1]
        if there != version:
            return ("stale", None) if there < version else None
        field = self.differing(expectation.post(event, collections.Counter()), source)
        return ("different", field) if field else None

    def differing(self, wanted, source):
        for name in ("at_uri", "author_did", "content", "created_at", "thread_root_post", "thread_parent_post",
                     "quote_post"):
            if wanted.get(name) != source.get(name):
                return name
        for model in servers.MODELS:
            pair = [found.get("embeddings", {}).get(model) for found in (wanted, source)]
            if pair != [None, None] and comparison.vector(*pair, self.similarity != "cosine"):
                return f"embeddings.{model}"
        return None

    # ---- runs ----------------------------------------------------------------------------------

    def verify(self, *flags, code, key=None, archives=None, **options):
        """Verifies, and returns the findings in the form of `expected_findings`."""
        output = self.loader.folder / "differences"
        output.unlink(missing_ok=True)
        run = self.loader.ingest(archives or self.archives, "--verify", "--output", output, *flags,
                                 key=key or self.key, **options)
        self.assert_code(run, code)
        rows, findings = run.summary["rows"], run.summary["findings"]
        counted = sum(rows.values()) - rows["read"] + sum(findings.values())
        self.assertEqual(rows["read"], counted, f"rows do not add up: {run.summary}")
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        if "--repair" not in flags:
            self.assertEqual(run.summary["requests"]["bulk"], 0, "something was written")
            for finding in FINDINGS:
                told = sum(line["finding"] == finding for line in lines)
                self.assertEqual(findings[finding], told, f"{finding} in the summary")
        self.run_of = run
        return {(line["archive"], line["row_id"], line["at_uri"], line["finding"], line["field"]) for line in lines}

    def assert_found(self, found, wanted):
        lines = [f"not found: {line}" for line in wanted - found] + [f"found: {line}" for line in found - wanted]
        self.assert_none(sorted(lines), "differences")

    def assert_found_and_repaired(self, **options):
        self.load()
        self.assert_found(self.verify(code=DONE, **options), set())
        self.damage()
        wanted = self.expected_findings()
        kinds = collections.Counter(line[3] for line in wanted)
        self.assertEqual(set(kinds), set(FINDINGS), kinds)
        self.assert_found(self.verify(code=DIFFERENT, **options), wanted)
        # A post has rows in several archives: one row may find the result of another one's repair.
        mended = self.verify("--repair", code=DONE)
        self.assertEqual({line[2] for line in mended}, {line[2] for line in wanted})
        self.assertGreaterEqual(sum(self.run_of.summary["repaired"].values()), 17)
        self.assert_found(self.verify(code=DONE, **options), set())
        self.assertEqual(self.expected_findings(), set())


class Damage(Verify):
    """All kinds of damage, in several index layouts."""

    def test_index_with_cosine_similarity(self):
        self.assert_found_and_repaired(key=self.reader)

    def test_a_spot_check_of_one_archive(self):
        self.load()
        self.damage()
        one = self.archives[-1:]
        wanted = self.expected_findings(one)
        self.assert_found(self.verify(code=DIFFERENT if wanted else DONE, archives=one), wanted)

    def test_a_read_only_key_repairs_nothing(self):
        self.load()
        self.damage()
        before = self.expected_findings()
        run = self.loader.ingest(self.archives, "--verify", "--repair", key=self.reader)
        self.assert_code(run, REFUSED)
        self.assertEqual(self.expected_findings(), before)


class Exact(Verify):
    similarity = runs.EXACT

    def test_index_that_keeps_every_bit(self):
        self.assert_found_and_repaired()


class Routed(Verify):
    routed = True

    def test_indices_that_require_routing(self):
        self.assert_found_and_repaired()

    def test_indices_that_require_routing_with_a_read_only_key(self):
        self.load()
        self.assert_found(self.verify(code=DONE, key=self.reader), set())


class Rolled(Verify):
    rolls = True

    def test_two_indices_behind_each_alias(self):
        self.assert_found_and_repaired()

    def test_two_indices_with_a_read_only_key(self):
        self.load()
        self.assert_found(self.verify(code=DONE, key=self.reader), set())


class Meanwhile(Verify):
    """A verification during other activity."""

    def test_only_archives_in_flight_differ_during_a_load(self):
        incoming = self.loader.folder / "incoming"
        incoming.mkdir()
        for path in self.archives:
            (incoming / path.name).write_bytes(path.read_bytes())
        looks = []

        def meanwhile(process):
            verifier = runs.Loader(self.server)
            self.addCleanup(verifier.remove)
            while self.loader.marked() < len(self.archives):
                self.assertIsNone(process.poll(), "the spooler has ended")
                entries = json.loads(self.loader.state_file.read_text()) if self.loader.state_file.exists() else []
                marked = {entry["filename"] for entry in entries if entry["status"] == "processed"}
                output = verifier.folder / "differences"
                run = verifier.ingest(self.archives, "--verify", "--output", output, key=self.reader)
                lines = [json.loads(line) for line in output.read_text().splitlines()]
                looks.append((marked, lines, run))
            process.send_signal(signal.SIGTERM)

        run = self.loader.ingest([incoming], "--mode", "spool", *runs.SLOWLY, key=self.key, meanwhile=meanwhile,
                                 variables={"SPOOL_INTERVAL_SEC": "1"})
        self.assert_code(run, DONE)
        self.assertTrue(looks, "the load was too fast")
        for marked, lines, run in looks:
            self.assertIn(run.code, (DONE, DIFFERENT), run)
            wrong = [line for line in lines if line["archive"] in marked]
            self.assertEqual(wrong, [], "rows of archives that are done")
            # Until an archive in flight is done, a post that it updates is stale, and one that it deletes exists.
            self.assertNotIn("different", {line["finding"] for line in lines})
        self.assert_found(self.verify(code=DONE), set())

    def test_node_restarts_cost_only_time(self):
        if not self.server.node:
            self.skipTest("the server is not these runs' own")
        self.load()
        self.damage()
        wanted = self.expected_findings()

        def looked_up():
            return self.server.expect("GET", "/posts/_stats/get")["_all"]["primaries"]["get"]["total"]

        before = looked_up()

        def crash(process):
            while looked_up() < before + 50:
                self.assertIsNone(process.poll(), "the verification has ended")
            self.server.node.crash(self.server)

        found = self.verify("--senders", "1", "--batch-docs", "5", code=DIFFERENT, meanwhile=crash)
        self.assert_found(found, wanted)
        self.assertIn("next attempt", self.run_of.log, "the verification has met nothing")

    def test_push_back_costs_only_time(self):
        self.load()
        self.damage()
        wanted = self.expected_findings()
        with Busy(self.server) as busy:
            variables = {"ELASTICSEARCH_URL": busy.url}
            found = self.verify("--batch-docs", "20", code=DIFFERENT, variables=variables)
        self.assertGreater(busy.refused, 0)
        self.assert_found(found, wanted)


class Busy(http.server.ThreadingHTTPServer):
    """A proxy that answers every third look-up with 429."""

    daemon_threads = True

    def __init__(self, server):
        super().__init__(("127.0.0.1", 0), Forward)
        self.behind, self.asked, self.refused = server, 0, 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def refuses(self, path):
        self.asked += "/_mget" in path
        refused = "/_mget" in path and self.asked % 3 == 0
        self.refused += refused
        return refused


class Forward(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.refuses(self.path):
            error = {"error": {"type": "es_rejected_execution_exception", "reason": "busy"}, "status": 429}
            return self.reply(429, json.dumps(error).encode())
        behind = self.server.behind
        connection = behind.connection(60)
        headers = {name: value for name, value in self.headers.items()
                   if name.lower() in ("authorization", "content-type", "accept")}
        connection.request(self.command, self.path, body or None, headers)
        answer = connection.getresponse()
        self.reply(answer.status, answer.read())
        connection.close()

    def reply(self, status, body):
        self.send_response(status)
        for name, value in (("Content-Type", "application/json"), ("X-Elastic-Product", "Elasticsearch"),
                            ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_HEAD = forward

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    sys.exit(runs.main(sys.modules[__name__]))
