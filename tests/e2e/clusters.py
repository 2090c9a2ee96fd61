#!/usr/bin/env python3
"""End-to-end runs: indices as they are met in the field, and aliases that move while a load runs.

    cargo build --release && python3 tests/e2e/clusters.py [-v] [NAME...]

Takes the same words and environment as run.py. Ids are unique per concrete index only, so what is expected is
worked out, and compared, for each of them.
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
    """What the indices are to hold; most archives are loaded by several cases."""
    return expectation.of(archives)


class Case(runs.EndToEnd):
    """What the cases share. Each makes its own indices."""

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
        """A run that ends with this code; its summary adds up."""
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

    # Fields that posts are loaded without.
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
        """Each concrete index holds these documents."""
        for index, documents in wanted.items():
            documents = self.without(documents)
            found = self.server.documents(index)
            self.assert_none(comparison.documents(documents, found, self.run_of, exact), index)

    def assert_converged(self, archives, posts, tombstones):
        """No deleted post is in any index, no post is missing, and each is there as it was emitted last."""
        expected = expected_of(tuple(archives))
        for alias, members, wanted in (("posts", posts, expected.posts),
                                       ("post_tombstones", tombstones, expected.tombstones)):
            newest = {}
            for index in members:
                for name, (version, source) in self.server.documents(index).items():
                    newest[name] = max(newest.get(name, (0, None)), (version, source), key=lambda found: found[0])
            self.assert_none(comparison.documents(self.without(wanted), newest, self.run_of), alias)

    def move(self, alias, to, make=None):
        """A rollover: an index, made if `make` gives its body, becomes the write index of an alias."""
        members = self.server.ask("GET", f"/_alias/{alias}")[1]
        if make:
            self.server.make_index(to, make)
        actions = [{"add": {"index": index, "alias": alias, "is_write_index": index == to}}
                   for index in sorted({*members, to} if "error" not in members else {to})]
        self.server.expect("POST", "/_aliases", {"actions": actions})


# ---- indices of the field ---------------------------------------------------------------------

class Field(Case):
    """The folders of ../shared/clusters, with the archives of ../shared/archives and made ones."""

    @classmethod
    def setUpClass(cls):
        if not CLUSTERS.exists() or not runs.MAKER.exists():
            raise unittest.SkipTest("the index bodies of the field are not here")
        folder = tempfile.mkdtemp(prefix="corpora-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        cls.made = make_archives(runs.MAKER, Path(folder) / "made", "--archives", 6, "--rows", 150, "--seed", 21)

    def make(self, folder):
        """The indices of a folder."""
        for file in sorted((CLUSTERS / folder).glob("post*.json")):
            body = json.loads(file.read_text())
            self.server.make_index(file.stem, body)

    def load(self, folder, older, newer, exact=True, flags=(), last=None):
        """Loads some archives while the older indices take writes, the others into the newer ones (and the last of them
        while `last` are put in their place), compares, and does all of it again.

        `older`, `newer` and `last` are each the indices of posts and tombstones.
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
        # All of it again, without the state file: everything is written to the newest indices.
        self.loader.state_file.unlink()
        self.ingest(everything, *flags)
        return all_of

    def expected(self, groups, all_of):
        """The documents of each index: what was emitted while it took writes, and was never deleted."""
        wanted = {}
        for (posts, tombstones), archives in groups:
            of_group = expected_of(tuple(archives))
            wanted[posts] = {name: post for name, post in of_group.posts.items() if name not in all_of.tombstones}
            wanted[tombstones] = of_group.tombstones
        return wanted

    def assert_newest(self, all_of, posts, tombstones, exact=True):
        self.assert_indices({posts: all_of.posts, tombstones: all_of.tombstones}, exact)

    def test_made_under_a_template_that_requires_routing(self):
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

        # These indices have none of them.
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
    """Archives in which posts are emitted, emitted again, deleted, and emitted again after that."""
    about = [f"at://{did(n)}/app.bsky.feed.post/{n}" for n in range(posts)]
    made = []
    for n in range(archives):
        # The first archives hold the old posts, so that later ones delete and emit what is in older indices.
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
    """Indices behind aliases that get other ones."""

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
        """All of them at once, as by one POST /_aliases, or one after the other."""
        for alias in rolled:
            self.roll(alias, version, is_async)

    def come_in(self, folder, archives):
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
            self.fail(f"what was waited for has not happened; end of its log:\n{log[-3000:]}")


class Rollover(Moving):
    """An alias gets a new write index in the middle of a load that deletes and emits old posts."""

    def carry_out(self, mode, is_async, rolled, before):
        folder = self.loader.folder / "all"
        folder.mkdir()
        seed = f"{mode} {is_async} {rolled} {before}"
        archives = stream(random.Random(seed), folder, 7, 120)
        for alias in servers.INDICES:
            self.server.make_index(f"{alias}_v1", self.body(alias, is_async, write=True))
        incoming = self.loader.folder / "incoming"
        incoming.mkdir()
        self.come_in(incoming, archives[:1])
        self.ingest([incoming])
        if before == 2:
            self.roll_all(servers.INDICES, 2, is_async)
        self.come_in(incoming, archives[1:2])
        self.ingest([incoming])

        def meanwhile(process):
            if mode == "spool":
                self.come_in(incoming, archives[2:])
            self.wait_for_more(process)
            self.roll_all(rolled, 3, is_async)
            if mode == "spool":
                self.wait_until(process, lambda: self.loader.marked() == len(archives))
                process.send_signal(signal.SIGTERM)

        if mode == "once":
            self.come_in(incoming, archives[2:])
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
                    case = lambda self, args=(mode, is_async, rolled, before): self.carry_out(*args)
                    setattr(Rollover, name, case)


add_rollovers()


# ---- what else is between a load and its documents --------------------------------------------

class Between(Moving):
    """Pipelines, blocks, indices that go away, and keys that do not see all of an alias."""

    def setUp(self):
        super().setUp()
        folder = self.loader.folder / "all"
        folder.mkdir()
        self.archives = stream(random.Random(self.id()), folder, 4, 100)
        self.expected = expected_of(tuple(self.archives))
        # Authors of a post that stays, and of one that is deleted.
        self.alive = author(min(self.expected.posts))
        self.dead = author(min(self.expected.tombstones))

    def make(self, **settings):
        """A plain index behind each alias; `settings` are for posts."""
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

    def test_posts_that_a_pipeline_drops_become_dead_letters(self):
        self.assert_dropped("drop", "default_pipeline")

    def test_posts_that_a_pipeline_gives_another_id_become_dead_letters(self):
        self.assert_dropped("setid", "default_pipeline")

    def test_posts_that_a_final_pipeline_drops_become_dead_letters(self):
        self.assert_dropped("drop", "final_pipeline")

    def test_posts_that_a_pipeline_sends_to_another_alias_become_dead_letters(self):
        self.server.make_index("posts_elsewhere_v1", {"aliases": {"posts_elsewhere": {}}})
        self.assert_dropped("reroute", "default_pipeline")

    def test_a_pipeline_that_sends_posts_to_what_is_no_alias_makes_no_index_and_stops_the_run(self):
        self.make(default_pipeline=self.pipeline("reroute", "author_did", self.alive))
        run = self.ingest(self.archives, code=REFUSED)
        self.assertIn("pipeline sends", run.log)
        self.assertEqual(self.server.index_names(), sorted(servers.INDICES.values()))

    def assert_dropped(self, processor, setting):
        """One author's posts are concerned; all others are as they should be."""
        victim = self.alive
        self.make(**{setting: self.pipeline(processor, "author_did", victim)})
        run = self.ingest(self.archives, code=DONE_WITH_REJECTS)
        letters = {(author(letter["at_uri"]), letter["error_type"]) for letter in run.dead_letters}
        self.assertEqual(letters, {(victim, "dropped_by_pipeline")})
        posts = {name: post for name, post in self.expected.posts.items() if victim not in name}
        found = {name: post for name, post in self.server.documents("posts_v1").items() if not name.startswith("other-")}
        self.assert_none(comparison.documents(posts, found, self.run_of), "posts_v1")
        self.assert_indices({"post_tombstones_v1": self.expected.tombstones})

    def test_posts_that_a_pipeline_fails_over_become_dead_letters(self):
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

    def test_an_older_index_that_takes_no_writes_is_named_and_stalls_nothing(self):
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
        # The dead letters make good for it once the block is gone.
        letters = self.loader.folder / "kept.ndjson"
        letters.write_text("".join(json.dumps(letter) + "\n" for letter in run.dead_letters))
        self.server.expect("PUT", "/posts_v1/_settings", {"index.blocks.write": None})
        self.ingest([], "--replay", letters)
        self.assert_converged(self.archives, ["posts_v1", "posts_v2"], ["post_tombstones_v1"])

    def test_a_block_that_comes_in_the_middle_of_a_load_is_found_out(self):
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

    def test_an_index_that_is_deleted_in_the_middle_is_not_made_anew(self):
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

    def test_a_concrete_index_that_is_deleted_in_the_middle_is_not_made_anew_by_deletes(self):
        """Without aliases nothing tells the server not to make an index, but for deletes nothing makes one either."""
        for alias in servers.INDICES:
            body = self.body(alias, is_async=False, write=False)
            self.server.make_index(alias, body)
        self.ingest(self.archives[:1])
        self.ingest(self.archives)
        self.assert_converged(self.archives, ["posts"], ["post_tombstones"])

    def test_indices_that_are_made_anew_in_the_middle_get_what_is_not_marked(self):
        self.make()

        def make_anew(process):
            self.wait_for_more(process)
            body = self.body("posts", is_async=False, write=True)
            self.server.expect("DELETE", "/posts_v1")
            self.server.make_index("posts_v1", body)

        run = self.ingest(self.archives, "--batch-docs", "5", "--senders", "1", code=(DONE, REFUSED), meanwhile=make_anew)
        if run.code == REFUSED:  # it met the moment in which there was none
            self.ingest(self.archives)
        marked_before = '.db.zip": ' in run.log.split("loaded again")[0]
        if not marked_before:
            self.assert_converged(self.archives, ["posts_v1"], ["post_tombstones_v1"])

    def test_a_key_that_may_not_read_the_second_index_of_tombstones_is_refused(self):
        self.make()
        # The privileges on an alias count for what it points to, but where that is named itself.
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

    def test_a_key_that_may_not_read_an_index_that_comes_in_the_middle_stops_the_run(self):
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
