#!/usr/bin/env python3
"""End-to-end runs: the built program against a real Elasticsearch.

    cargo build --release && python3 tests/e2e/run.py [-v] [NAME...]

The program is that of MEGASTREAM_INGEST, or else the newest build. server.py chooses the server, and expectation.py
computes the expected documents. Without a server, the runs are skipped. NAME selects cases as in unittest: `Corpora`,
`Corpora.test_...`.
"""

import sys

sys.dont_write_bytecode = True

import shutil
import signal
import tempfile
import time
import unittest
from collections import Counter
from pathlib import Path

import comparison
import expectation
import server as servers
from loader import Loader, binary, make_archives

HERE = Path(__file__).resolve().parent
TEST_DATA = sorted((servers.PROJECT / "test_data").rglob("mega_jetstream_*.db.zip"))
SAMPLES = sorted((servers.SHARED / "archives").glob("*.db.zip"))
MAKER = servers.SHARED / "tools" / "make_archives.py"

# This mapping keeps every bit of a vector; the cosine similarity of the documented one does not.
EXACT = "l2_norm"

DONE, DONE_WITH_REJECTS, UNAVAILABLE, REFUSED, TERMINATED = 0, 3, 4, 5, 143


class EndToEnd(unittest.TestCase):
    """The base of all cases. Each starts with fresh indices and an empty working folder."""

    server = None  # set by main
    longMessage = False

    def setUp(self):
        self.server.fresh_indices()
        self.loader = Loader(self.server)
        self.addCleanup(self.loader.remove)

    def assert_none(self, differences, what):
        if differences:
            self.fail(f"{what}:{comparison.first(differences)}")

    def assert_code(self, run, code):
        if run.code != code:
            self.fail(f"exit code {code} was expected: {run}")

    def assert_ingested(self, archives, *flags, exact=True):
        """Loads archives, and compares exit code, summary, dead letters and every document."""
        expected = expectation.of(archives)
        run = self.loader.ingest(archives, *flags)
        self.assert_code(run, DONE_WITH_REJECTS if expected.rejected else DONE)
        self.assertNotIn(self.server.api_key, run.log, "the API key is in the log")
        self.assert_none(comparison.summary(expected, run, len(archives)), "summary")
        self.assertEqual(Counter(letter["error_type"] for letter in run.dead_letters), expected.rejected, "dead letters")
        self.assert_holds(expected, run, exact)
        return run

    def assert_holds(self, expected, run, exact=True):
        for alias, wanted in (("posts", expected.posts), ("post_tombstones", expected.tombstones)):
            found = self.server.documents(alias)
            self.assert_none(comparison.documents(wanted, found, run, exact), alias)

    def assert_refused(self, *flags, **credentials):
        """Asserts that the preflight refuses with exit code 5, and nothing is sent."""
        run = self.loader.ingest(TEST_DATA, *flags, **credentials)
        self.assert_code(run, REFUSED)
        if run.summary is not None:
            self.assertEqual(run.summary["requests"]["bulk"], 0, "bulk requests were sent")
        for alias in servers.INDICES:
            if self.server.ask("GET", f"/{alias}")[0] == 200:
                self.assertEqual(self.server.documents(alias), {}, f"{alias} is not empty")
        return run


class TestData(EndToEnd):
    """The archives of test_data, which always exist."""

    def test_documented_mapping(self):
        run = self.assert_ingested(TEST_DATA, exact=False)
        self.assertIn("vectors are sent as base64", run.log, "auto should end in base64")

    def test_an_index_that_returns_vectors_as_sent_gets_arrays(self):
        self.server.fresh_indices(settings={"mapping.exclude_source_vectors": False})
        run = self.assert_ingested(TEST_DATA)
        self.assertIn("vectors are sent as arrays", run.log, "readers should get arrays")

    def test_every_bit_as_array(self):
        self.server.fresh_indices(similarity=EXACT)
        self.assert_ingested(TEST_DATA, "--vector-encoding", "array")

    def test_every_bit_as_base64(self):
        self.server.fresh_indices(similarity=EXACT)
        self.assert_ingested(TEST_DATA, "--vector-encoding", "base64")

    def test_a_second_run_sends_nothing(self):
        self.assert_ingested(TEST_DATA, exact=False)
        again = self.loader.ingest(TEST_DATA)
        self.assert_code(again, DONE)
        self.assertEqual(again.summary["requests"]["bulk"], 0, "bulk requests")
        self.assertEqual(again.summary["rows"]["read"], 0, "rows read")
        self.assertEqual(again.summary["archives"]["already_done"], len(TEST_DATA), "archives already done")

    def test_a_run_without_its_state_changes_nothing(self):
        self.server.fresh_indices(similarity=EXACT)
        self.assert_ingested(TEST_DATA)
        self.loader.state_file.unlink()
        self.assert_ingested(TEST_DATA)

    def test_a_dry_run_counts_and_sends_nothing(self):
        expected = expectation.of(TEST_DATA)
        run = self.loader.dry_run(TEST_DATA)
        self.assert_code(run, DONE_WITH_REJECTS)
        found = {name: run.summary[name] for name in ("rows", "reasons")}
        self.assertEqual(found, expected.dry_run(), f"{found} instead of {expected.dry_run()}")
        self.assertFalse(self.loader.state_file.exists(), "a dry run wrote the state file")
        for alias in servers.INDICES:
            self.assertEqual(self.server.documents(alias), {}, f"{alias} is not empty")

    def test_check_finds_nothing_wrong(self):
        run = self.loader.ingest(TEST_DATA, "--check")
        self.assert_code(run, DONE)
        self.assertEqual(self.server.documents("posts"), {}, "--check wrote documents")

    def test_missing_indices_are_created_on_request(self):
        self.server.drop_indices()
        key = self.server.make_key(servers.PRIVILEGES + ["manage"])
        self.addCleanup(self.server.adopt_indices)
        expected = expectation.of(TEST_DATA)
        run = self.loader.ingest(TEST_DATA, "--create-indices", key=key)
        self.assert_code(run, DONE_WITH_REJECTS)
        self.assert_holds(expected, run, exact=False)


class Samples(EndToEnd):
    """Two archives of the real stream."""

    def test_samples(self):
        if not SAMPLES:
            self.skipTest("the sample archives are not here")
        self.server.fresh_indices(similarity=EXACT)
        self.assert_ingested(SAMPLES)


class Corpora(EndToEnd):
    """Larger generated archives, in which posts are updated and deleted from one archive to the next."""

    @classmethod
    def setUpClass(cls):
        if not MAKER.exists():
            raise unittest.SkipTest("the tool that makes archives is not here")
        folder = tempfile.mkdtemp(prefix="corpora-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        make = lambda name, *options: make_archives(MAKER, Path(folder) / name, *options)
        cls.plain = make("plain", "--archives", 8, "--rows", 300, "--seed", 11)
        cls.odd = make("odd", "--archives", 4, "--rows", 300, "--seed", 12, "--odd")
        cls.older = make("older", "--archives", 2, "--rows", 200, "--seed", 13, "--table", "posts")

    def setUp(self):
        super().setUp()
        self.server.fresh_indices(similarity=EXACT)

    def test_plain(self):
        self.assert_ingested(self.plain)

    def test_odd_rows(self):
        self.assert_ingested(self.odd)

    def test_older_table_name(self):
        self.assert_ingested(self.older)

    def test_one_worker_and_sender_with_small_batches(self):
        self.assert_ingested(self.odd, "--workers", "1", "--senders", "1", "--batch-docs", "7")

    def test_many_workers_and_senders_with_small_batches(self):
        self.assert_ingested(self.plain, "--workers", "4", "--senders", "8", "--batch-bytes", "100000")

    def test_every_encoding_gives_the_same_documents(self):
        held, sent = [], []  # per encoding: the documents by _id, and the bytes
        for encoding in ("array", "base64", "auto"):
            self.server.fresh_indices(similarity=EXACT)
            self.loader.state_file.unlink(missing_ok=True)
            run = self.assert_ingested(self.odd, "--vector-encoding", encoding)
            sent.append(run.summary["requests"]["bytes_sent"])
            held.append({name: {**source, "indexed_at": None}
                         for name, (_, source) in self.server.documents("posts").items()})
        for others in held[1:]:
            different = [name for name in held[0] if held[0][name] != others.get(name)]
            self.assert_none(different, "documents that depend on the encoding")
        self.assertLess(sent[1], 0.7 * sent[0], "base64 should be far smaller than arrays")
        self.assertLess(sent[2], 1.1 * sent[1], "auto should end in base64")

    def test_latest_archive_first(self):
        """Deletes arrive before their posts; the server has forgotten their versions, but not the tombstones."""
        for index in servers.INDICES.values():
            self.server.expect("PUT", f"/{index}/_settings", {"index.gc_deletes": "1s"})
        runs = []
        for archive in reversed(self.plain):
            runs.append(self.loader.ingest([archive]))
            self.assert_code(runs[-1], DONE)
            rows = runs[-1].summary["rows"]
            self.assertEqual(2 * rows["read"], sum(rows.values()), f"rows do not add up: {rows}")
            self.server.expect("POST", "/posts/_refresh")
        runs[-1].began = runs[0].began
        self.assert_holds(expectation.of(self.plain), runs[-1])

    def test_two_shards_make_one_run(self):
        first = self.loader.ingest(self.plain, "--shard", "0/2")
        second = self.loader.ingest(self.plain, "--shard", "1/2")
        expected = expectation.of(self.plain)
        self.assert_code(first, DONE)
        self.assert_code(second, DONE)
        read = first.summary["rows"]["read"] + second.summary["rows"]["read"]
        self.assertEqual(read, expected.read, f"{read} rows were read instead of {expected.read}")
        second.began = first.began
        self.assert_holds(expected, second)

    def test_killed_repeatedly(self):
        self.assert_survives(signal.SIGKILL, -signal.SIGKILL)

    def test_terminated_repeatedly(self):
        self.assert_survives(signal.SIGTERM, TERMINATED)

    def assert_survives(self, with_signal, code):
        """Several runs, each ended by a signal after its first writes, and a last one that completes."""

        def stop(process):
            before = self.server.actions_taken("posts")
            while process.poll() is None and self.server.actions_taken("posts") == before:
                pass
            process.send_signal(with_signal)

        flags = ("--workers", "2", "--batch-docs", "20")
        runs = [self.loader.ingest(self.plain, *flags, meanwhile=stop) for _ in range(5)]
        self.assertIn(code, [run.code for run in runs], "no run was stopped: the archives are too small")
        for run in runs:
            self.assertIn(run.code, (code, DONE), str(run))
            if run.summary:
                rows = run.summary["rows"]
                self.assertEqual(2 * rows["read"], sum(rows.values()), f"rows do not add up: {rows}")
        last = self.loader.ingest(self.plain)
        self.assert_code(last, DONE)
        last.began = runs[0].began
        self.assert_holds(expectation.of(self.plain), last)

    def test_refused_documents_harm_no_other(self):
        """A few times are out of range for the mapping: times in nanoseconds begin in 1970."""
        self.server.fresh_indices(created_at={"type": "date_nanos"})
        expected = expectation.of(self.odd)
        created = {name: document.get("created_at", "") for name, (_, document) in expected.posts.items()}
        refused = {name for name, time in created.items() if time and time < "1970"}
        self.assertTrue(refused, "no post of the corpus is that old")
        run = self.loader.ingest(self.odd, "--workers", "1")
        self.assert_code(run, DONE_WITH_REJECTS)
        letters = {letter["at_uri"]: letter for letter in run.dead_letters if letter["stage"] == "elasticsearch"}
        self.assertEqual(letters.keys(), refused, "dead letters of the server")
        for letter in letters.values():
            self.assertEqual(letter["error_type"], "document_parsing_exception")
            self.assertEqual(letter["document"]["at_uri"], letter["at_uri"])
        for name in refused:
            del expected.posts[name]
        self.assert_holds(expected, run, exact=False)

    def test_the_dry_run_output_is_a_valid_bulk_body(self):
        expected = expectation.of(self.odd)
        output = self.loader.folder / "bulk.ndjson"
        run = self.loader.dry_run(self.odd, "--output", output, "--workers", "1")
        self.assert_code(run, DONE_WITH_REJECTS)
        self.assertEqual(run.summary["rows"], expected.dry_run()["rows"], "rows")
        status, reply = self.server.ask("POST", "/_bulk", output.read_bytes(), f"ApiKey {self.server.api_key}")
        self.assertEqual(status, 200, f"_bulk answered {status}: {str(reply)[:500]}")
        # Besides success, two results are normal: a delete of a missing post, and of one deleted before.
        normal = {("delete", 404), ("index", 409)}
        outcomes = [(kind, item["status"], item) for entry in reply["items"] for kind, item in entry.items()]
        refused = [str(item) for kind, status, item in outcomes if status >= 300 and (kind, status) not in normal]
        self.assert_none(refused, "items")
        self.assert_holds(expected, run)


class Faults(EndToEnd):
    """Faults of the server during a run."""

    def test_a_write_block_costs_only_time(self):
        self.assert_waited_out("index.blocks.write")

    def test_a_full_disk_costs_only_time(self):
        self.assert_waited_out("index.blocks.read_only_allow_delete")

    def assert_waited_out(self, block):
        """A block outlasts the budget of one run; the next run completes the work."""
        run = self.blocked_run(block)
        self.assert_code(run, UNAVAILABLE)
        self.assertEqual([letter for letter in run.dead_letters if letter["stage"] == "elasticsearch"], [])
        self.assertEqual(run.summary["archives"]["processed"], 0, "archives were marked as processed")
        self.server.expect("PUT", "/posts_v1/_settings", {block: None})
        began = run.began
        run = self.loader.ingest(TEST_DATA)
        self.assert_code(run, DONE_WITH_REJECTS)
        run.began = began
        self.assert_holds(expectation.of(TEST_DATA), run, exact=False)

    def blocked_run(self, block):
        """A run while there is a block.

        Every 30 s, Elasticsearch removes the block of a full disk if the disk has room. The run is then repeated.
        """
        while True:
            self.server.expect("PUT", "/posts_v1/_settings", {block: True})
            run = self.loader.ingest(TEST_DATA, "--retry-budget", "1")
            still = self.server.expect("GET", f"/posts_v1/_settings/{block}")
            if still.get("posts_v1", {}).get("settings"):
                return run
            self.setUp()


# One request at a time, every two rows: slow enough to kill the server during the load.
SLOWLY = ("--batch-docs", "2", "--senders", "1", "--workers", "1")


class Crashes(EndToEnd):
    """The server is killed and restarted during a load, or closes its indices for a moment."""

    def setUp(self):
        if not self.server.node:
            self.skipTest("the server is not these tests' own")
        if not MAKER.exists():
            self.skipTest("the tool that makes archives is not here")
        super().setUp()
        self.server.fresh_indices(similarity=EXACT)
        self.archives = make_archives(MAKER, self.loader.folder / "made", "--archives", 6, "--rows", 1500, "--seed", 14)

    def assert_met(self, run):
        """Asserts that the fault hit a request; it may have been a look-up, which is not a bulk request."""
        self.assertIn("next attempt", run.log, "the load has met nothing")

    def wait_for_more(self, process):
        """Waits until more has been written."""
        before = self.server.actions_taken("posts")
        while process.poll() is None and self.server.actions_taken("posts") < before + 150:
            pass
        if process.poll() is not None:
            self.fail("the load ended before anything was done to the server: the archives are too small")

    def crash(self, process):
        self.wait_for_more(process)
        self.server.node.crash(self.server)

    def close_for_a_second(self, process):
        """Closes the indices for a second, as changing some settings requires."""
        self.wait_for_more(process)
        for name in servers.INDICES.values():
            self.server.expect("POST", f"/{name}/_close")
        time.sleep(1)
        for name in servers.INDICES.values():
            self.server.expect("POST", f"/{name}/_open")

    def crash_twice(self, process):
        self.crash(process)
        self.crash(process)

    def test_a_killed_server_costs_only_time(self):
        expected = expectation.of(self.archives)
        flags = SLOWLY
        run = self.loader.ingest(self.archives, *flags, meanwhile=self.crash_twice)
        self.assert_code(run, DONE_WITH_REJECTS if expected.rejected else DONE)
        self.assert_met(run)
        self.assert_none(comparison.summary(expected, run, len(self.archives)), "summary")
        self.assert_holds(expected, run)

    def test_briefly_closed_indices_cost_only_time(self):
        expected = expectation.of(self.archives)
        run = self.loader.ingest(self.archives, *SLOWLY, meanwhile=self.close_for_a_second)
        self.assert_code(run, DONE_WITH_REJECTS if expected.rejected else DONE)
        self.assert_met(run)
        self.assert_none(comparison.summary(expected, run, len(self.archives)), "summary")
        self.assert_holds(expected, run)

    def test_writes_lost_by_a_killed_server_are_sent_again_in_the_same_run(self):
        """The server confirms writes before it syncs, and loses them; the program must not rely on them."""
        key = self.server.make_key(servers.PRIVILEGES + ["maintenance"])
        for index in servers.INDICES.values():
            settings = {"index.translog.durability": "async", "index.translog.sync_interval": "60s"}
            self.server.expect("PUT", f"/{index}/_settings", settings)
        expected = expectation.of(self.archives)
        flags = SLOWLY
        run = self.loader.ingest(self.archives, *flags, key=key, meanwhile=self.crash)
        self.assert_code(run, DONE_WITH_REJECTS if expected.rejected else DONE)
        self.assertIn("is loaded again", run.log, "archives were in flight")
        self.assertEqual(run.summary["archives"]["pending"], 0, "archives that are left to the next run")
        self.assert_holds(expected, run)

    def test_a_first_load_marks_no_archive_lost_by_a_killed_server(self):
        """As above, with the settings of a first load, which leave durability alone. Takes 10 s."""
        key = self.server.make_key(servers.PRIVILEGES + ["manage"])
        own = {"index.translog.durability": "async", "index.translog.sync_interval": "60s"}
        for index in servers.INDICES.values():
            self.server.expect("PUT", f"/{index}/_settings", own)
        expected = expectation.of(self.archives)
        run = self.loader.ingest(self.archives, "--bulk-load-settings", *SLOWLY, key=key, meanwhile=self.crash)
        self.assert_code(run, DONE_WITH_REJECTS if expected.rejected else DONE)
        self.assertIn("is loaded again", run.log, "archives were in flight")
        self.assertEqual(run.summary["archives"]["pending"], 0, "archives that are left to the next run")
        self.assert_holds(expected, run)
        for index in servers.INDICES.values():
            settings = self.server.expect("GET", f"/{index}/_settings?flat_settings=true")[index]["settings"]
            self.assertNotIn("index.refresh_interval", settings, "it is put back")
            self.assertLessEqual(own.items(), settings.items(), "it is left alone")


class Refusals(EndToEnd):
    """Errors that the preflight finds before anything is sent."""

    def test_unknown_key(self):
        self.assert_refused(key="dW5rbm93bjp1bmtub3du")

    def test_key_that_lacks_a_privilege(self):
        for lacking in servers.PRIVILEGES:
            key = self.server.make_key([privilege for privilege in servers.PRIVILEGES if privilege != lacking])
            run = self.assert_refused(key=key)
            self.assertIn(lacking, run.log, f"nothing is said of {lacking}: {run}")

    def test_missing_indices_are_not_created(self):
        self.server.drop_indices()
        self.assert_refused(key=self.server.make_key(servers.PRIVILEGES + ["auto_configure", "create_index"]))
        self.assertEqual(self.server.index_names(), [], "an index was created")

    def test_a_url_with_a_path(self):
        """Under this address bulk requests succeed, and all requests before them fail."""
        self.server.expect("DELETE", "/posts_v1")
        key = self.server.make_key(servers.PRIVILEGES + ["auto_configure", "create_index"])
        for path in ("/posts", "/posts/", "/some/where"):
            run = self.assert_refused(key=key, path=path)
            self.assertIn("leave the path out", run.log, f"the path is not named: {run}")
        self.assertEqual(self.server.index_names(), ["post_tombstones_v1"], "an index was created")

    def test_missing_tombstone_index(self):
        self.server.expect("DELETE", "/post_tombstones_v1")
        self.assert_refused(key=self.server.make_key(servers.PRIVILEGES + ["auto_configure", "create_index"]))
        self.assertEqual(self.server.index_names(), ["posts_v1"], "an index was created")

    def test_vectors_mapped_as_numbers(self):
        self.server.fresh_indices(vector={"type": "float"})
        self.assert_refused()

    def test_certificate_of_another_authority(self):
        if not self.server.ca:
            self.skipTest("the server's certificate is not one of a private authority")
        self.assert_refused(ca=HERE / "other_ca.pem")

    def test_certificate_of_an_unknown_authority(self):
        if not self.server.ca:
            self.skipTest("the server's certificate is not one of a private authority")
        self.assert_refused(ca=None)


class Result(unittest.TextTestResult):
    """Counts passed cases, too: `testsRun` leaves out cases whose class was skipped or failed in set-up."""

    passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


def run_all(module, names, verbosity):
    """Runs the cases of a module; the numbers of passed, failed and skipped ones."""
    find = unittest.defaultTestLoader
    suite = find.loadTestsFromNames(names, module) if names else find.loadTestsFromModule(module)
    result = unittest.TextTestRunner(sys.stdout, verbosity=verbosity, resultclass=Result).run(suite)
    return result.passed, len(result.failures) + len(result.errors), len(result.skipped)


def main(module):
    """Runs the cases that the command line names, or all; the exit code."""
    names = [word for word in sys.argv[1:] if not word.startswith("-")]
    if not servers.available():
        print("No ELASTICSEARCH_TEST_URL is set and there is no ../shared: the end-to-end runs are left out.")
        return 0
    if not binary():
        print("There is no build of the program to run: cargo build --release", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that our own server is stopped, too
    with tempfile.TemporaryDirectory(prefix="megastream_ingest-e2e-") as scratch:
        tempfile.tempdir = scratch  # removed however the runs end
        with servers.running() as server:
            print(f"{binary()} against {server.url}", flush=True)
            EndToEnd.server = server
            passed, failed, skipped = run_all(module, names, 2 if "-v" in sys.argv else 1)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
