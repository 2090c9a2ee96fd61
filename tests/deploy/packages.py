"""The packages and the static build: built, checked, installed into an empty tree, run there, and removed.

The packages contain target/release as it is. A tree is empty except for the system libraries that the program links.
"""

import hashlib
import os
import re
import shutil
import subprocess
import unittest

import fleet

# Not meant for Debian's own archive, where the first upload closes a bug.
NOT_FOR_US = "initial-upload-closes-no-bugs"
INSTALLED = {
    "usr/bin/megastream_ingest": 0o755,
    "usr/lib/systemd/system/megastream_ingest.service": 0o644,
    "usr/share/bash-completion/completions/megastream_ingest": 0o644,
    "usr/share/fish/vendor_completions.d/megastream_ingest.fish": 0o644,
    "usr/share/doc/megastream-ingest/README.md": 0o644,
    "usr/share/doc/megastream-ingest/docs/operations.md": 0o644,
}
OF_DEB = ("usr/share/man/man1/megastream_ingest.1.gz", "usr/share/zsh/vendor-completions/_megastream_ingest",
          "usr/share/doc/megastream-ingest/copyright", "usr/share/doc/megastream-ingest/changelog.gz")
OF_RPM = ("usr/share/man/man1/megastream_ingest.1", "usr/share/zsh/site-functions/_megastream_ingest",
          "usr/share/licenses/megastream-ingest/LICENSE-MIT")


class InATree(fleet.Fleet):
    """A tree to install into, and to chroot into."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if os.geteuid() != 0:
            raise unittest.SkipTest("changing root takes root")

    def setUp(self):
        super().setUp()
        self.tree = self.folder / "tree"
        self.tree.mkdir()

    def files(self):
        """The files of the tree, without records of the package managers."""
        records = ("var/lib/dpkg", "var/lib/rpm", "var/log", "usr/lib/sysimage")
        paths = {str(path.relative_to(self.tree)) for path in self.tree.rglob("*") if not path.is_dir()}
        return {path for path in paths if not path.startswith(records)}

    def add_libraries(self):
        """Adds the libraries that the program links, where it looks for them."""
        for path in re.findall(r"(/\S+) \(0x", self.call("ldd", self.tree / "usr/bin/megastream_ingest")):
            to = self.tree / path.lstrip("/")
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to)

    def assert_it_runs(self, program):
        """Chroots into the tree as nobody, prints the version, and loads archives."""
        archives = fleet.make_archives(self.tree / "archives", 4, rows=20)
        state = self.tree / "state"
        state.mkdir()
        os.chown(state, 65532, 65532)
        base = ("chroot", "--userspec=65532:65532", self.tree, program)
        self.assertRegex(self.call(*base, "--version"), r"^megastream_ingest \d+\.\d+\.\d+ \(.+\)\n$")
        environment = self.environment(SPOOL_STATE_FILE="/state/state.json", DEAD_LETTER_FILE="/state/dead.ndjson")
        self.call(*base, "/archives", environment=environment)
        self.assert_holds(archives)
        for path in ("archives", "state"):
            shutil.rmtree(self.tree / path)

    def assert_installed(self, *more):
        for path, mode in INSTALLED.items():
            self.assertEqual((self.tree / path).stat().st_mode & 0o777, mode, path)
        self.assertLessEqual(set(more), self.files())
        digest = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
        unit = "usr/lib/systemd/system/megastream_ingest.service"
        self.assertEqual(digest(self.tree / unit), digest(fleet.DEPLOY / "megastream_ingest.service"))
        if fleet.which("systemd-analyze"):
            self.assertEqual(self.call("systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
                                       f"--root={self.tree}", "megastream_ingest.service"), "")


class Packaged(InATree):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not (fleet.TARGET / "release" / "megastream_ingest").exists():
            raise unittest.SkipTest("there is no release build")

    def cargo(self, *words):
        """Runs cargo in the project, with the environment of the caller."""
        done = subprocess.run(["cargo", *map(str, words)], cwd=fleet.PROJECT, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=fleet.PATIENCE)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout


class Deb(Packaged):
    needs = ("cargo-deb", "dpkg", "lintian")

    def test_it_is_built_checked_installed_run_and_removed(self):
        package = self.folder / "megastream.deb"
        self.cargo("deb", "--no-build", "--no-strip", "--fast", "--output", package)
        said = self.call("lintian", "--allow-root", "--suppress-tags", NOT_FOR_US, "--fail-on", "error,warning", package, code=None)
        self.assertEqual(said.strip(), "", "lintian")
        self.assertRegex(self.call("dpkg-deb", "--field", package, "Depends"), r"libc6 \(>= [\d.]+\)")
        records = self.tree / "var/lib/dpkg"
        for name in ("info", "updates", "triggers"):
            (records / name).mkdir(parents=True)
        for name in ("status", "available"):
            (records / name).write_text("")
        dpkg = ("dpkg", f"--root={self.tree}", "--force-depends", "--force-not-root")
        self.call(*dpkg, "--install", package)
        self.assert_installed(*OF_DEB)
        before = self.files()
        self.add_libraries()
        self.assert_it_runs("/usr/bin/megastream_ingest")
        libraries = self.files() - before
        self.call(*dpkg, "--purge", "megastream-ingest")
        self.assertEqual(sorted(self.files() - libraries), [], f"left behind: {self.files() - libraries}")


class Rpm(Packaged):
    needs = ("cargo-generate-rpm", "rpm")

    def test_it_is_built_installed_run_and_removed(self):
        package = self.folder / "megastream.rpm"
        # The package is tested as built; the tool is a debug build, and compresses slowly.
        self.cargo("generate-rpm", "--payload-compress", "none", "--output", package)
        # Debian's rpm does not know the installed libraries.
        rpm = ("rpm", "--root", self.tree, "--dbpath", "/var/lib/rpm", "--nodeps", "--nosignature")
        self.call(*rpm, "--install", package)
        self.assert_installed(*OF_RPM)
        self.assertEqual(self.call(*rpm, "--verify", "megastream-ingest").count("missing"), 0)
        before = self.files()
        self.add_libraries()
        self.assert_it_runs("/usr/bin/megastream_ingest")
        libraries = self.files() - before
        self.call(*rpm, "--erase", "megastream-ingest")
        self.assertEqual(sorted(self.files() - libraries), [], f"left behind: {self.files() - libraries}")


class Static(InATree):
    def test_it_runs_in_an_empty_root(self):
        program = fleet.static_binary()
        if not program:
            self.skipTest("no static build: cargo build --target x86_64-unknown-linux-musl")
        shutil.copy(program, self.tree / "megastream_ingest")
        self.assertIn("statically linked", self.call("ldd", program, code=None))
        self.assert_it_runs("/megastream_ingest")
        self.assertEqual(self.files(), {"megastream_ingest"})

    def test_missing_certificates_are_reported(self):
        program = fleet.static_binary()
        if not program:
            self.skipTest("no static build: cargo build --target x86_64-unknown-linux-musl")
        shutil.copy(program, self.tree / "megastream_ingest")
        fleet.make_archives(self.tree / "archives", 1, rows=5)
        environment = self.environment(ELASTICSEARCH_URL=self.server.url.replace("http:", "https:"))
        said = self.call("chroot", self.tree, "/megastream_ingest", "/archives", environment=environment, code=2)
        self.assertIn("no trusted root certificates", said)
