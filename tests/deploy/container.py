"""The container settings of the manifests, run by runc (the runtime of most clusters) with a static build.

The root is read-only and holds only the program. User, limits, capabilities and seccomp profile are those of the
manifest; the network is that of the machine.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import unittest
import urllib.request
from pathlib import Path

import fleet
import kubernetes
import need

# The `RuntimeDefault` profile of podman and CRI-O, from Debian's golang-github-containers-common.
SECCOMP = Path(need.SECCOMP)
UNITS = {"Mi": 2**20, "Gi": 2**30}
GRACE_SECONDS = 120


def seccomp():
    """The profile in runc's format, for a container without capabilities; None if it is not installed."""
    if not SECCOMP.exists():
        return None
    profile = json.loads(SECCOMP.read_text())
    here = lambda rule: "amd64" in rule.get("arches", ["amd64"]) and not rule.get("caps")
    rules = [rule for rule in profile["syscalls"] if here(rule.get("includes") or {})
             and "amd64" not in (rule.get("excludes") or {}).get("arches", ())]
    keep = ("names", "action", "args", "errnoRet")
    return {"defaultAction": profile["defaultAction"], "defaultErrnoRet": profile.get("defaultErrnoRet", 1),
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{name: rule[name] for name in keep if rule.get(name) is not None} for rule in rules]}


class Container(fleet.Fleet):
    needs = ("runc",)
    manifest = "kubernetes.yaml"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if os.geteuid() != 0:
            raise unittest.SkipTest("runc is started as root")
        if not fleet.static_binary():
            raise unittest.SkipTest("no static build: cargo build --target x86_64-unknown-linux-musl")

    def setUp(self):
        super().setUp()
        self.document = kubernetes.job(self.manifest)
        self.state = self.folder / "state"
        self.state.mkdir()
        # Kubernetes does this for a volume because of fsGroup.
        os.chown(self.state, 65532, 65532)
        self.root = self.folder / "root"
        program = self.root / "usr/local/bin/megastream_ingest"
        program.parent.mkdir(parents=True)
        os.link(fleet.static_binary(), program) if same_device(fleet.static_binary(), self.folder) else \
            program.write_bytes(fleet.static_binary().read_bytes())
        program.chmod(0o755)
        for mount in ("proc", "dev", "sys", "state", "archives"):
            (self.root / mount).mkdir()
        self.name = f"megastream-{self.folder.name}"
        self.runs = 0

    def make_archives(self, count=4, rows=20):
        self.archives = fleet.make_archives(self.folder / "archives", count, rows)
        return self.archives

    def settings(self, **more):
        """The variables of the manifest for index 0 of 1, and those of the secret."""
        given = {**kubernetes.settings(self.document, index="0"), "SHARD_COUNT": "1"}
        # Pods have networks of their own; here all share that of the machine.
        given["LISTEN_ADDRESS"] = "127.0.0.1:0"
        given = {name: value.replace("0-of-8", "0-of-1") for name, value in given.items()}
        secret = {"ELASTICSEARCH_URL": self.server.url, "ELASTICSEARCH_API_KEY": self.server.api_key}
        return {name: value for name, value in {**given, **secret, **more}.items() if value is not None}

    def bundle(self, arguments, settings, memory):
        pod, one = self.document["spec"]["template"]["spec"], kubernetes.container(self.document)
        security, inner = pod["securityContext"], one["securityContext"]
        limit = memory or re.fullmatch(r"(\d+)(\w+)", one["resources"]["limits"]["memory"])
        if not isinstance(limit, int):
            limit = int(limit[1]) * UNITS[limit[2]]
        mount = lambda to, source, *options: {"destination": to, "type": "bind", "source": str(source),
                                              "options": ["bind", "nosuid", "nodev", *options]}
        self.assertEqual(inner["capabilities"], {"drop": ["ALL"]})
        return {
            "ociVersion": "1.0.2",
            "process": {
                "args": ["/usr/local/bin/megastream_ingest", *arguments],
                "env": [f"{name}={value}" for name, value in settings.items()],
                "cwd": "/state",
                "user": {"uid": security["runAsUser"], "gid": security["runAsGroup"]},
                "noNewPrivileges": not inner["allowPrivilegeEscalation"],
                "capabilities": {},
            },
            "root": {"path": str(self.root), "readonly": inner["readOnlyRootFilesystem"]},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                mount("/state", self.state, "rw"),
                mount("/archives", self.folder / "archives", "ro"),
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
                "resources": {"memory": {"limit": limit}},
                "cgroupsPath": f"/{self.name}",
                **({"seccomp": profile} if (profile := seccomp()) else {}),
            },
        }

    @contextlib.contextmanager
    def running(self, *arguments, memory=None, **settings):
        """Starts a container; returns its process."""
        folder = self.folder / "bundle"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.bundle(arguments, self.settings(**settings), memory)))
        self.runs += 1
        name = f"{self.name}-{self.runs}"
        base = ["runc", "--root", str(self.folder / "runc")]
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen([*base, "run", "--bundle", str(folder), name], stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log)
            process.tell = lambda what: self.call(*base, "kill", name, what)
            process.pid_outside = lambda: json.loads(self.call(*base, "state", name))["pid"]
            try:
                yield process
            finally:
                if process.poll() is None:
                    subprocess.run([*base, "delete", "--force", name], stderr=subprocess.DEVNULL)
                process.wait()

    def whole_log(self):
        return (self.folder / "log").read_text()

    def log(self):
        """The end of the log, for messages."""
        return self.whole_log()[-3000:]

    def run_to_end(self, code, *arguments, memory=None, **settings):
        with self.running(*arguments, memory=memory, **settings) as process:
            found = process.wait(fleet.PATIENCE)
        if found != code:
            self.fail(f"exit code {found} instead of {code}: {self.log()}")

    def test_a_load_runs_as_nobody_on_a_read_only_root(self):
        self.make_archives()
        self.server.hold()
        with self.running() as process:
            self.server.wait_for_bulk()
            status = dict(line.split(":\t", 1) for line in
                          Path(f"/proc/{process.pid_outside()}/status").read_text().splitlines() if ":\t" in line)
            self.assertEqual(status["NSpid"].split()[-1], "1", "it is the first process of its container")
            self.assertEqual(set(status["Uid"].split() + status["Gid"].split()), {"65532"})
            for kind in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
                self.assertEqual(int(status[kind], 16), 0, kind)
            self.assertEqual(status["NoNewPrivs"], "1")
            if SECCOMP.exists():
                self.assertEqual(status["Seccomp"], "2", "the profile is in force")
            self.server.release()
            self.assertEqual(process.wait(fleet.PATIENCE), 0, self.log())
        self.assertEqual({path.stat().st_uid for path in self.state.iterdir()}, {65532})
        self.assertIn("0-of-1.state.json", {path.name for path in self.state.iterdir()})
        self.assert_holds(self.archives)

    def test_requests_in_flight_finish_within_the_grace_period(self):
        self.make_archives()
        self.server.hold()
        with self.running() as process:
            self.server.wait_for_bulk()
            process.tell("TERM")
            self.wait_until(lambda: "stopping:" in self.log() or process.poll() is not None, self.log)
            self.assertIsNone(process.poll(), f"it did not wait for what is in flight: {self.log()}")
            self.server.release()
            self.assertEqual(process.wait(GRACE_SECONDS), 128 + signal.SIGTERM, self.log())
        self.assertEqual(kubernetes.action(self.document, 143, disrupted=True), "Ignore")
        self.run_to_end(0)
        self.assert_holds(self.archives)

    def test_the_spooler_ends_with_0_at_sigterm(self):
        self.make_archives()
        with self.running("--mode", "spool") as process:
            state = self.state / "0-of-1.state.json"
            self.wait_until(lambda: fleet.processed(state) == len(self.archives), self.log)
            address = re.search(r"metrics are at (http://\S+)/metrics", self.whole_log())[1]
            for path in ("/healthz", "/readyz"):
                with urllib.request.urlopen(address + path, timeout=10) as answer:
                    self.assertEqual(answer.status, 200, path)
            process.tell("TERM")
            self.assertEqual(process.wait(GRACE_SECONDS), 0, self.log())
        self.assert_holds(self.archives)

    def test_exit_codes_match_the_failure_policy(self):
        self.make_archives()
        away = "http://127.0.0.1:9"
        for code, meant, arguments, settings in [
            (2, "FailIndex", ["--workers", "none"], {}),
            (2, "FailIndex", [], {"ELASTICSEARCH_URL": None}),
            (4, "Count", [], {"ELASTICSEARCH_URL": away, "RETRY_BUDGET_SEC": "1"}),
            (5, "FailIndex", [], {"ELASTICSEARCH_API_KEY": "dW5rbm93bjp1bmtub3du"}),
        ]:
            with self.subTest(code=code, settings=settings):
                self.run_to_end(code, *arguments, **settings)
                self.assertEqual(kubernetes.action(self.document, code), meant)
        (self.folder / "archives" / "mega_jetstream_20251219_000000.db.zip").write_bytes(b"no zip at all")
        self.run_to_end(3)
        self.assertEqual(kubernetes.action(self.document, 3), "FailIndex")

    def test_a_second_pod_of_the_same_index_waits(self):
        """If a node is wrongly taken for dead, the first pod continues, and the second one is retried."""
        self.make_archives()
        self.server.hold()
        with self.running() as first:
            self.server.wait_for_bulk()
            self.run_to_end(6)
            self.assertEqual(kubernetes.action(self.document, 6), "Count")
            self.server.release()
            self.assertEqual(first.wait(fleet.PATIENCE), 0)
        self.run_to_end(0)
        self.assert_holds(self.archives)

    def test_a_pod_killed_for_memory_is_retried_and_loses_nothing(self):
        self.make_archives(count=2, rows=1200)
        self.run_to_end(128 + signal.SIGKILL, memory=16 * 2**20)
        self.assertEqual(kubernetes.action(self.document, 137), "Count")
        self.run_to_end(0)
        self.assert_holds(self.archives)


def same_device(one, other):
    return one.stat().st_dev == other.stat().st_dev
