#!/usr/bin/env python3
"""End-to-end runs: index layouts from production, and aliases that move during a load.

    cargo build --release && python3 tests/e2e/clusters.py [-v] [NAME...]

Takes the same arguments and environment as run.py. Ids are unique only per concrete index, so the expected documents
are computed and compared for each of them.
"""

import sys

sys.dont_write_bytecode = True

import functools
import json
import random
import shutil
import signal
import tempfile
import time
import unittest
import urllib.parse
from pathlib import Path

import comparison
import convergence
import expectation
import run as runs
import server as servers
from loader import Loader, make_archives

CLUSTERS = servers.SHARED / "clusters"
ASYNC = {"translog.durability": "async", "translog.sync_interval": "30s"}
PRIVILEGES = [*servers.PRIVILEGES, "maintenance"]
FAILED, DONE, DONE_WITH_REJECTS, UNAVAILABLE, REFUSED, TERMINATED = 1, 0, 3, 4, 5, 143
PATIENCE_SECONDS = 60


@functools.cache
def expected_of(archives):
    """The expected documents; cached, since several cases load most archives."""
    return expectation.of(archives)


class Case(runs.EndToEnd):
    """The base of all cases. Each creates its own indices."""

    @property
    def server(self):
        return runs.EndToEnd.server

    def setUp(self):
        self.server.drop_indices()
        self.loader = Loader(self.server)
        self.addCleanup(self.loader.remove)
        self.addCleanup(self.server.drop_indices)
        self.key = self.server.make_key(PRIVILEGES)
        self.began = time.time()

    def ingest(self, archives, *flags, code=DONE, **options):
        """A run with this exit code, whose summary adds up."""
        run = self.loader.ingest(archives, *flags, **{"key": self.key, **options})
        if run.code not in (code if isinstance(code, tuple) else (code,)):
            self.fail(f"exit code {code} was expected: {run}")
        if run.summary:
            rows = run.summary["rows"]
            self.assertEqual(2 * rows["read"], sum(rows.values()), f"rows do not add up: {rows}")
        run.began = self.began
        self.run_of = run
        return run

    def rejected(self, expected):
        return DONE_WITH_REJECTS if expected.rejected else DONE

    # Fields that the loads exclude.
    excluded = ()

    def without_excluded(self, document):
        document = {name: value for name, value in document.items() if name not in self.excluded}
        vectors = {n: v for n, v in document.get("embeddings", {}).items() if f"embeddings.{n}" not in self.excluded}
        if vectors:
            return {**document, "embeddings": vectors}
        return {name: value for name, value in document.items() if name != "embeddings"}

    def without(self, documents):
        return {name: (version, self.without_excluded(source)) for name, (version, source) in documents.items()}

    def assert_indices(self, wanted, exact=True):
        """Asserts that each concrete index holds these documents."""
        for index, documents in wanted.items():
            documents = self.without(documents)
            found = self.server.documents(index)
            self.assert_none(comparison.documents(documents, found, self.run_of, exact), index)

    def assert_converged(self, archives, posts, tombstones):
        """Asserts that no index holds a deleted post, no post is missing, and the newest index with a post has its last
        version. `posts` and `tombstones` name the indices, the oldest first."""
        expected = expected_of(tuple(archives))
        for alias, members, wanted in (("posts", posts, expected.posts),
                                       ("post_tombstones", tombstones, expected.tombstones)):
            newest = {}
            for index in members:
                for name, (version, source) in self.server.documents(index).items():
                    if alias == "posts" or version >= newest.get(name, (0, None))[0]:
                        newest[name] = (version, source)
            self.assert_none(comparison.documents(self.without(wanted), newest, self.run_of), alias)

    def move(self, alias, to, make=None):
        """A rollover: `to` becomes the write index of an alias; it is created first if `make` gives its body."""
        members = self.server.ask("GET", f"/_alias/{alias}")[1]
        if make:
            self.server.make_index(to, make)
        actions = [{"add": {"index": index, "alias": alias, "is_write_index": index == to}}
                   for index in sorted({*members, to} if "error" not in members else {to})]
        self.server.expect("POST", "/_aliases", {"actions": actions})


# ---- layouts from production ------------------------------------------------------------------

class Field(Case):
    """The folders of ../shared/clusters, with the archives of ../shared/archives and generated ones."""

    @classmethod
    def setUpClass(cls):
        if not CLUSTERS.exists() or not runs.MAKER.exists():
            raise unittest.SkipTest("the index bodies of the field are not here")
        folder = tempfile.mkdtemp(prefix="corpora-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        cls.made = make_archives(runs.MAKER, Path(folder) / "made", "--archives", 6, "--rows", 150, "--seed", 21)

    def make(self, folder):
        """Creates the indices of a folder."""
        for file in sorted((CLUSTERS / folder).glob("post*.json")):
            body = json.loads(file.read_text())
            self.server.make_index(file.stem, body)

    def load(self, folder, older, newer, exact=True, flags=(), last=None):
        """Loads some archives while the older indices are write indices, the others into the newer ones. Compares, and
        loads everything again.

        `older` and `newer` are pairs of the indices of posts and tombstones. `last` is called with the process of the
        last load.
        """
        self.make(folder)
        groups = [(older, runs.SAMPLES + self.made[:2]), (newer, self.made[2:4])]
        groups = [group for group in groups if group[0]] if older else [(newer, runs.SAMPLES + self.made)]
        names = ("posts", "post_tombstones")
        for indices, archives in groups:
            if older:
                for alias, index in zip(names, indices):
                    self.move(alias, index)
            self.ingest(archives, "--check", *flags)
            self.ingest(archives, *flags)
        if last:
            rest = self.made[4:]
            self.ingest(rest, *flags, "--batch-docs", "10", "--senders", "1", meanwhile=last)
        elif older:
            groups[-1] = (newer, self.made[2:])
            self.ingest(self.made[4:], *flags)
        everything = runs.SAMPLES + self.made
        all_of = expected_of(tuple(everything))
        if not last:
            self.assert_indices(self.expected(groups, all_of), exact)
        # A second load without the state file writes everything to the newest indices.
        self.loader.state_file.unlink()
        self.ingest(everything, *flags)
        return all_of

    def expected(self, groups, all_of):
        """The documents of each index: those written while it was the write index, without deleted ones."""
        wanted = {}
        for (posts, tombstones), archives in groups:
            of_group = expected_of(tuple(archives))
            wanted[posts] = {name: post for name, post in of_group.posts.items() if name not in all_of.tombstones}
            wanted[tombstones] = of_group.tombstones
        return wanted

    def assert_newest(self, all_of, posts, tombstones, exact=True):
        self.assert_indices({posts: all_of.posts, tombstones: all_of.tombstones}, exact)

    def test_template_that_requires_routing(self):
        template = {"index_patterns": ["post*"], "template": {"mappings": {"_routing": {"required": True}}}}
        self.server.expect("PUT", "/_index_template/e2e-routing", template)
        self.addCleanup(self.server.ask, "DELETE", "/_index_template/e2e-routing")
        self.addCleanup(self.server.adopt_indices)
        self.key = self.server.make_key([*PRIVILEGES, "manage"])
        self.ingest(self.made, "--create-indices", code=self.rejected(expected_of(tuple(self.made))))
        mapping = self.server.expect("GET", "/posts_v1/_mapping")["posts_v1"]["mappings"]
        self.assertTrue(mapping["_routing"]["required"])
        self.assert_newest(expected_of(tuple(self.made)), "posts_v1", "post_tombstones_v1", exact=False)

    def test_routing(self):
        v1 = ("posts_v1", "post_tombstones_v1")
        self.assert_newest(self.load("routing", None, v1, exact=False), *v1, exact=False)

    def test_routing_async(self):
        v1 = ("posts_v1", "post_tombstones_v1")
        self.assert_newest(self.load("routing-async", None, v1, exact=False), *v1, exact=False)

    def test_source_excludes(self):
        v1 = ("posts_v1", "post_tombstones_v1")
        self.assert_newest(self.load("source-excludes", None, v1, exact=False), *v1, exact=False)

    def test_mixed(self):
        new = ("posts_new", "post_tombstones_new")
        all_of = self.load("mixed", ("posts_old", "post_tombstones_old"), new, exact=False)
        self.assert_newest(all_of, *new, exact=False)

    def test_periods(self):
        week = lambda n: (f"posts-2026-w{n}", f"post-tombstones-2026-w{n}")

        def roll_over(process):
            self.wait_for_more(process, "posts")
            for index in week(32):
                body = json.loads((CLUSTERS / "periods" / f"{index}.json").read_text())
                self.server.make_index(index.replace("w32", "w33"), {**body, "aliases": {}})
            self.server.expect("POST", "/_aliases", json.loads((CLUSTERS / "periods" / "rollover.json").read_text()))

        # These indices have none of these fields.
        self.excluded = ("thread_root_post", "thread_parent_post", "embeddings.all_MiniLM_L6_v2")
        flags = ("--exclude-field", ",".join(self.excluded))
        all_of = self.load("periods", week(31), week(32), flags=flags, last=roll_over)
        self.assert_converged(runs.SAMPLES + self.made, *zip(week(31), week(32), week(33)))
        self.assert_newest(all_of, *week(33))

    def wait_for_more(self, process, alias):
        before = self.server.actions_taken(alias)
        while process.poll() is None and self.server.actions_taken(alias) < before + 15:
            pass
        self.assertIsNone(process.poll(), "the load ended too soon")


# ---- rollover ---------------------------------------------------------------------------------

def did(number):
    return f"did:plc:{number:024}"


def author(at_uri):
    return at_uri.split("/")[2]


def stream(rng, folder, archives, rows, posts=150):
    """Archives in which posts are created, updated, deleted and created again."""
    about = [f"at://{did(n)}/app.bsky.feed.post/{n}" for n in range(posts)]
    made = []
    for n in range(archives):
        # The first archives hold the old posts, so that later ones delete and update documents of older indices.
        deletes = 0 if n < 2 else 3
        events = []
        for row in range(rows):
            at_uri = rng.choice(about)
            operation = rng.choices(["create", "update", "delete"], [6, 2, deletes])[0]
            raw_post = convergence.raw_post(at_uri, operation, n * rows + row)
            events.append((at_uri, author(at_uri), raw_post, "{}"))
        made.append(convergence.write_archive(folder, n, events))
    return made


class Moving(Case):
    """Indices behind aliases that move."""

    def body(self, alias, is_async, write):
        properties = dict(servers.PROPERTIES[alias])
        if alias == "posts":
            vector = {"type": "dense_vector", "dims": 384, "index": False}
            properties["embeddings"] = {"properties": dict.fromkeys(servers.MODELS, vector)}
        mappings = {"dynamic": False, "properties": properties}
        settings = {"number_of_shards": 2, "number_of_replicas": 0, "gc_deletes": "10s"}
        if is_async:
            mappings["_routing"] = {"required": True}
            settings.update(ASYNC)
        return {"mappings": mappings, "settings": settings, "aliases": {alias: {"is_write_index": True}} if write else {}}

    def roll(self, alias, version, is_async):
        self.move(alias, f"{alias}_v{version}", self.body(alias, is_async, write=False))

    def roll_all(self, rolled, version, is_async):
        """Moves all aliases at once, as one POST /_aliases does, or one after the other."""
        for alias in rolled:
            self.roll(alias, version, is_async)

    def add_archives(self, folder, archives):
        for archive in archives:
            part = folder / (archive.name + ".part")
            shutil.copy(archive, part)
            part.rename(folder / archive.name)

    def wait_for_more(self, process):
        before = sum(map(self.server.actions_taken, servers.INDICES))
        self.wait_until(process, lambda: sum(map(self.server.actions_taken, servers.INDICES)) > before + 20)

    def wait_until(self, process, happened):
        until = time.time() + PATIENCE_SECONDS
        while not happened() and process.poll() is None and time.time() < until:
            time.sleep(0.005)
        if not happened():
            process.send_signal(signal.SIGTERM)
            process.wait()
            log = (self.loader.folder / "log").read_text()
            self.fail(f"the expected event has not happened; end of the log:\n{log[-3000:]}")


class Rollover(Moving):
    """An alias gets a new write index during a load that deletes and updates old posts."""

    def run_case(self, mode, is_async, rolled, before):
        folder = self.loader.folder / "all"
        folder.mkdir()
        seed = f"{mode} {is_async} {rolled} {before}"
        archives = stream(random.Random(seed), folder, 7, 120)
        for alias in servers.INDICES:
            self.server.make_index(f"{alias}_v1", self.body(alias, is_async, write=True))
        incoming = self.loader.folder / "incoming"
        incoming.mkdir()
        self.add_archives(incoming, archives[:1])
        self.ingest([incoming])
        if before == 2:
            self.roll_all(servers.INDICES, 2, is_async)
        self.add_archives(incoming, archives[1:2])
        self.ingest([incoming])

        def meanwhile(process):
            if mode == "spool":
                self.add_archives(incoming, archives[2:])
            self.wait_for_more(process)
            self.roll_all(rolled, 3, is_async)
            if mode == "spool":
                self.wait_until(process, lambda: self.loader.marked() == len(archives))
                process.send_signal(signal.SIGTERM)

        if mode == "once":
            self.add_archives(incoming, archives[2:])
        self.ingest([incoming], "--mode", mode, "--batch-docs", "5", "--senders", "1", "--workers", "2",
                    variables={"SPOOL_INTERVAL_SEC": "1"}, meanwhile=meanwhile)
        self.assertEqual(self.loader.marked(), len(archives), "archives that are marked")
        self.assertIn("loaded again", self.run_of.log, "the load has not met the rollover")
        members = {alias: [index for index in self.server.index_names() if index.startswith(f"{alias}_v")]
                   for alias in servers.INDICES}
        self.assertTrue(all(len(members[alias]) == before + 1 for alias in rolled), members)
        self.assert_converged(archives, members["posts"], members["post_tombstones"])


def add_rollovers():
    for mode in ("spool", "once"):
        for is_async in (False, True):
            for rolled in (["posts"], ["post_tombstones"], ["posts", "post_tombstones"]):
                for before in (1, 2):
                    durability = "async" if is_async else "request"
                    name = f"test_{mode}_{durability}_{'_and_'.join(rolled)}_of_{before}"
                    case = lambda self, args=(mode, is_async, rolled, before): self.run_case(*args)
                    setattr(Rollover, name, case)


add_rollovers()


class Late(Moving):
    """An archive is loaded after a rollover, and after a newer archive."""

    def test_no_older_emission_gets_into_a_newer_index(self):
        folder = self.loader.folder / "all"
        folder.mkdir()
        late, newer = stream(random.Random(self.id()), folder, 2, 120)
        for alias in servers.INDICES:
            self.server.make_index(f"{alias}_v1", self.body(alias, False, write=True))
        self.ingest([newer])
        self.roll("posts", 2, False)
        of_late, of_newer = expected_of((late,)).posts, expected_of((newer,)).posts
        both = sorted(of_late.keys() & of_newer.keys())
        # An earlier attempt has written one of them before it noticed the rollover.
        version, source = of_late[both[0]]
        name = urllib.parse.quote(both[0], safe="")
        self.server.expect("PUT", f"/posts_v2/_doc/{name}?version={version}&version_type=external_gte", source,
                           allowed=(201,))
        run = self.ingest([late])
        self.assertEqual(run.summary["rows"]["indexed"], len(of_late) - len(both))
        self.assert_indices({"posts_v1": of_newer,
                             "posts_v2": {name: post for name, post in of_late.items() if name not in both}})
        verified = self.loader.ingest([late, newer], "--verify", key=self.key)
        self.assertEqual(verified.code, DONE, verified)


# ---- between a load and its documents ---------------------------------------------------------

class Between(Moving):
    """Pipelines, blocks, deleted indices, and keys that cannot read all indices of an alias."""

    def setUp(self):
        super().setUp()
        folder = self.loader.folder / "all"
        folder.mkdir()
        self.archives = stream(random.Random(self.id()), folder, 4, 100)
        self.expected = expected_of(tuple(self.archives))
        # The author of a post that stays, and the author of one that is deleted.
        self.alive = author(min(self.expected.posts))
        self.dead = author(min(self.expected.tombstones))

    def make(self, **settings):
        """Creates an index behind each alias; `settings` are for posts."""
        for alias in servers.INDICES:
            body = self.body(alias, is_async=False, write=True)
            if alias == "posts":
                body["settings"].update(settings)
            self.server.make_index(f"{alias}_v1", body)

    def pipeline(self, processor, field, value):
        name = f"e2e-{processor}"
        self.server.expect("PUT", f"/_ingest/pipeline/{name}", {"processors": [{processor: {"field": field, "value": value}}]})
        self.addCleanup(self.server.expect, "DELETE", f"/_ingest/pipeline/{name}", allowed=(200, 400, 404))
        return name

    def test_posts_dropped_by_a_pipeline_become_dead_letters(self):
        self.assert_dropped("drop", "default_pipeline")

    def test_posts_with_an_id_changed_by_a_pipeline_become_dead_letters(self):
        self.assert_dropped("setid", "default_pipeline")

    def test_posts_dropped_by_a_final_pipeline_become_dead_letters(self):
        self.assert_dropped("drop", "final_pipeline")

    def test_posts_rerouted_to_another_alias_become_dead_letters(self):
        self.server.make_index("posts_elsewhere_v1", {"aliases": {"posts_elsewhere": {}}})
        self.assert_dropped("reroute", "default_pipeline")

    def test_a_pipeline_that_sets_the_routing_or_the_other_index_is_refused(self):
        self.make(number_of_shards=3)
        for field, value, why in (("_routing", "x", "changes the _routing"),
                                  ("_index", "post_tombstones", "sends documents to post_tombstones_v1")):
            name = self.pipeline("set", field, value)
            self.server.expect("PUT", "/posts_v1/_settings", {"index.default_pipeline": name})
            self.assertIn(why, self.ingest(self.archives, code=REFUSED).log)
        self.assert_indices({index: {} for index in servers.INDICES.values()})

    def test_posts_rerouted_to_a_missing_alias_stop_the_run_and_create_no_index(self):
        self.make(default_pipeline=self.pipeline("reroute", "author_did", self.alive))
        run = self.ingest(self.archives, code=REFUSED)
        self.assertIn("pipeline sends", run.log)
        self.assertEqual(self.server.index_names(), sorted(servers.INDICES.values()))

    def assert_dropped(self, processor, setting):
        """Asserts that the posts of one author are rejected, and all others are written."""
        victim = self.alive
        self.make(**{setting: self.pipeline(processor, "author_did", victim)})
        run = self.ingest(self.archives, code=DONE_WITH_REJECTS)
        letters = {(author(letter["at_uri"]), letter["error_type"]) for letter in run.dead_letters}
        self.assertEqual(letters, {(victim, "dropped_by_pipeline")})
        posts = {name: post for name, post in self.expected.posts.items() if victim not in name}
        found = {name: post for name, post in self.server.documents("posts_v1").items() if not name.startswith("other-")}
        self.assert_none(comparison.documents(posts, found, self.run_of), "posts_v1")
        self.assert_indices({"post_tombstones_v1": self.expected.tombstones})

    def test_posts_that_fail_in_a_pipeline_become_dead_letters(self):
        self.make(default_pipeline=self.pipeline("fail", "author_did", self.alive))
        run = self.ingest(self.archives, code=DONE_WITH_REJECTS)
        self.assertEqual({author(letter["at_uri"]) for letter in run.dead_letters}, {self.alive})

    def test_a_pipeline_that_drops_a_tombstone_stops_the_run(self):
        self.make()
        name = self.pipeline("drop", "author_did", self.dead)
        self.server.expect("PUT", "/post_tombstones_v1/_settings", {"index.default_pipeline": name})
        run = self.ingest(self.archives, code=REFUSED)
        self.assertIn("pipeline", run.log)
        self.assertLess(self.loader.marked(), len(self.archives))
        self.server.expect("PUT", "/post_tombstones_v1/_settings", {"index.default_pipeline": "_none"})
        self.ingest(self.archives)
        self.assert_converged(self.archives, ["posts_v1"], ["post_tombstones_v1"])

    def test_an_older_index_with_a_write_block_is_named_and_stalls_nothing(self):
        self.make()
        self.ingest(self.archives[:1])
        self.roll("posts", 2, is_async=False)
        self.server.expect("PUT", "/posts_v1/_block/write")
        run = self.ingest(self.archives, code=DONE_WITH_REJECTS)
        kept = self.server.documents("posts_v1").keys()
        dead = kept & self.expected.tombstones.keys()
        self.assertTrue(dead)
        self.assertEqual({letter["at_uri"] for letter in run.dead_letters}, dead)
        self.assertEqual({letter["error_type"] for letter in run.dead_letters}, {"index_takes_no_writes"})
        self.assert_none([name for name in self.server.documents("posts_v2") if name in self.expected.tombstones], "posts_v2")
        # A replay completes the work once the block is removed.
        letters = self.loader.folder / "kept.ndjson"
        letters.write_text("".join(json.dumps(letter) + "\n" for letter in run.dead_letters))
        self.server.expect("PUT", "/posts_v1/_settings", {"index.blocks.write": None})
        self.ingest([], "--replay", letters)
        self.assert_converged(self.archives, ["posts_v1", "posts_v2"], ["post_tombstones_v1"])

    def test_a_write_block_set_during_a_load_is_detected(self):
        self.make()
        self.ingest(self.archives[:1])
        self.roll("posts", 2, is_async=False)

        def block(process):
            self.wait_for_more(process)
            self.server.expect("PUT", "/posts_v1/_block/write")

        run = self.ingest(self.archives, "--batch-docs", "5", "--senders", "1", code=DONE_WITH_REJECTS, meanwhile=block)
        kept = self.server.documents("posts_v1").keys()
        dead = kept & self.expected.tombstones.keys()
        self.assertTrue(dead)
        self.assertEqual({letter["at_uri"] for letter in run.dead_letters}, dead)

    def test_an_index_deleted_during_a_load_is_not_recreated(self):
        for alias in servers.INDICES:
            with self.subTest(alias):
                self.server.drop_indices()
                self.loader.state_file.unlink(missing_ok=True)
                self.make()

                def delete(process):
                    self.wait_for_more(process)
                    self.server.expect("DELETE", f"/{alias}_v1")

                run = self.ingest(self.archives, "--batch-docs", "5", "--senders", "1", code=REFUSED, meanwhile=delete)
                self.assertIn(alias, run.log)
                others = [index for index in servers.INDICES.values() if not index.startswith(f"{alias}_v")]
                self.assertEqual(self.server.index_names(), others)

    def test_a_concrete_index_deleted_during_a_load_is_not_recreated_by_deletes(self):
        """Without aliases, the server would create a missing index for a write, but not for a delete."""
        for alias in servers.INDICES:
            body = self.body(alias, is_async=False, write=False)
            self.server.make_index(alias, body)
        self.ingest(self.archives[:1])
        self.ingest(self.archives)
        self.assert_converged(self.archives, ["posts"], ["post_tombstones"])

    def test_indices_recreated_during_a_load_get_all_unmarked_archives(self):
        self.make()

        def make_anew(process):
            self.wait_for_more(process)
            body = self.body("posts", is_async=False, write=True)
            self.server.expect("DELETE", "/posts_v1")
            self.server.make_index("posts_v1", body)

        run = self.ingest(self.archives, "--batch-docs", "5", "--senders", "1", code=(DONE, REFUSED), meanwhile=make_anew)
        if run.code == REFUSED:  # it ran into the moment without an index
            self.ingest(self.archives)
        marked_before = '.db.zip": ' in run.log.split("loaded again")[0]
        if not marked_before:
            self.assert_converged(self.archives, ["posts_v1"], ["post_tombstones_v1"])

    def test_a_key_that_cannot_read_every_tombstone_index_is_refused(self):
        self.make()
        # Privileges on an alias cover its indices, but not requests that name an index itself.
        self.key = self.server.make_key(PRIVILEGES, ["posts*", "post_tombstones", "post_tombstones_v1"])
        self.ingest(self.archives[:1])
        other = self.body("post_tombstones", is_async=False, write=False)
        self.server.make_index("post-tombstones-old", other)
        self.server.expect("POST", "/_aliases", {"actions": [
            {"add": {"index": "post_tombstones_v1", "alias": "post_tombstones", "is_write_index": True}},
            {"add": {"index": "post-tombstones-old", "alias": "post_tombstones"}}]})
        for flags in (["--check"], []):
            run = self.ingest(self.archives, *flags, code=REFUSED)
            self.assertIn("read on post-tombstones-old", run.log)

    def test_a_key_that_cannot_read_an_index_added_during_a_load_stops_the_run(self):
        self.make()
        self.key = self.server.make_key(PRIVILEGES, ["posts*", "post_tombstones", "post_tombstones_v1"])

        def roll_over(process):
            self.wait_for_more(process)
            self.move("post_tombstones", "post-tombstones-new", self.body("post_tombstones", False, write=False))

        began = time.time()
        run = self.ingest(self.archives, "--batch-docs", "5", "--senders", "1", code=REFUSED, meanwhile=roll_over)
        self.assertLess(time.time() - began, 60)
        self.assertIn("post-tombstones-new", run.log)


if __name__ == "__main__":
    sys.exit(runs.main(sys.modules[__name__]))
