"""The unit: checked by systemd-analyze, and run by a real systemd in a container with the files of this machine."""

import contextlib
import json
import os
import subprocess
import unittest

import fleet

UNIT = fleet.DEPLOY / "megastream_ingest.service"
EXPOSURE_AT_MOST = 2.0


class Analysis(unittest.TestCase):
    longMessage = False

    @classmethod
    def setUpClass(cls):
        if not fleet.which("systemd-analyze"):
            raise unittest.SkipTest("not installed: systemd-analyze")

    def analyze(self, *words):
        done = subprocess.run(["systemd-analyze", *map(str, words)], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=fleet.PATIENCE)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def test_the_unit_is_valid(self):
        with fleet.folder() as root:
            program = root / "usr/local/bin/megastream_ingest"
            program.parent.mkdir(parents=True)
            program.write_text("")
            program.chmod(0o755)
            unit = root / "etc/systemd/system" / UNIT.name
            unit.parent.mkdir(parents=True)
            unit.write_bytes(UNIT.read_bytes())
            said = self.analyze("verify", "--man=no", "--recursive-errors=no", f"--root={root}", UNIT.name)
            self.assertEqual(said, "")

    def test_the_exposure_is_low(self):
        said = self.analyze("security", "--offline=yes", f"--threshold={int(10 * EXPOSURE_AT_MOST)}", "--no-pager",
                            "--json=short", UNIT)
        self.assertGreater(len(json.loads(said)), 50, "the settings that were judged")


class Booted(fleet.Fleet):
    """The spooler as a service of a systemd that is booted from this machine's files; its writes are kept apart."""

    needs = ("systemd-nspawn", "nsenter")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if os.geteuid() != 0:
            raise unittest.SkipTest("systemd-nspawn is started as root")

    def setUp(self):
        super().setUp()
        self.root = self.folder / "mount" / "root"
        upper = self.folder / "mount"
        upper.mkdir()
        self.call("mount", "-t", "tmpfs", "tmpfs", upper)
        self.addCleanup(self.call, "umount", upper)
        for name in ("root", "upper", "work"):
            (upper / name).mkdir()
        self.call("mount", "-t", "overlay", "overlay", "-o",
                  f"lowerdir=/,upperdir={upper / 'upper'},workdir={upper / 'work'}", self.root)
        self.addCleanup(self.call, "umount", self.root)
        self.archives = fleet.make_archives(self.folder / "archives", 4, rows=20)
        self.install()
        self.boot()

    def install(self):
        """Runs the four commands in the unit's comment."""
        self.call("install", "-m", "755", fleet.binary(), self.root / "usr/local/bin/megastream_ingest")
        self.call("install", "-m", "644", UNIT, self.root / "etc/systemd/system")
        environment = self.folder / "environment"
        environment.write_text(f"ELASTICSEARCH_URL={self.server.url}\nELASTICSEARCH_API_KEY={self.server.api_key}\n"
                               "LOCAL_SQLITE_DB_PATH=/srv/archives\nSPOOL_INTERVAL_SEC=1\nWORKERS=1\n")
        self.call("install", "-D", "-m", "600", environment, self.root / "etc/megastream_ingest/environment")
        (self.root / "srv/archives").mkdir(parents=True, exist_ok=True)

    def boot(self):
        """Boots without the services of this machine, so that the unit has only what it may rely on."""
        log = (self.folder / "boot.log").open("wb")
        command = ["systemd-nspawn", "--quiet", f"--directory={self.root}", f"--bind-ro={self.folder / 'archives'}:/srv/archives",
                   "--register=no", "--keep-unit", "--link-journal=no", "--console=pipe", "--boot", "--", "--unit=basic.target"]
        self.nspawn = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        self.addCleanup(self.halt)
        self.leader = self.wait_until(self.first_process, self.boot_log)
        said = lambda: self.systemctl("is-system-running", code=None).strip()
        self.wait_until(lambda: said() in ("running", "degraded"), lambda: f"{said()}\n{self.boot_log()}")

    def first_process(self):
        """The booted systemd; None before it is there. systemd-nspawn first has a child that only starts it and ends."""
        for child in fleet.read(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").split():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{child}/ns/pid") != os.readlink("/proc/self/ns/pid"):
                    return child
        return None

    def halt(self):
        if self.nspawn.poll() is None:
            self.systemctl("halt", "--force", "--force", code=None)
        try:
            self.nspawn.wait(20)
        except subprocess.TimeoutExpired:
            self.nspawn.kill()
            self.nspawn.wait()

    def boot_log(self):
        return fleet.read(self.folder / "boot.log")[-3000:]

    def inside(self, *command, **options):
        return self.call("nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--pid", "--cgroup", *command, **options)

    def systemctl(self, *words, **options):
        return self.inside("systemctl", "--no-pager", *words, **options)

    def told(self, name):
        return self.systemctl("show", "--value", f"--property={name}", UNIT.stem).strip()

    def journal(self):
        return self.inside("journalctl", "--no-pager", "-u", UNIT.stem, code=None)[-3000:]

    def test_the_service_loads_stops_in_order_and_restarts_after_a_kill(self):
        self.systemctl("start", UNIT.stem)
        state = self.root / "var/lib/private/megastream_ingest/processed_files.json"
        self.wait_until(lambda: fleet.processed(state) == len(self.archives), self.journal)
        self.assert_holds(self.archives)
        status = fleet.read(f"/proc/{self.leader}/root/proc/{self.told('MainPID')}/status")
        uid = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1]
        self.assertNotEqual(uid, "0", "it runs as a user of its own")
        figures = f"/proc/{self.leader}/root/run/megastream_ingest/megastream_ingest.prom"
        self.wait_until(lambda: "megastream_ingest_running 1" in fleet.read(figures), self.journal)

        # Like `kill -9`. systemd restarts it 30 s later, which this test does not wait for.
        before = self.told("MainPID")
        self.systemctl("kill", "--signal=KILL", UNIT.stem)
        self.wait_until(lambda: self.told("SubState") == "auto-restart", self.journal)
        self.systemctl("restart", UNIT.stem)
        self.assertNotEqual(self.told("MainPID"), before)

        self.systemctl("stop", UNIT.stem)
        self.assertEqual((self.told("ActiveState"), self.told("Result"), self.told("ExecMainStatus")),
                         ("inactive", "success", "0"), self.journal())

    def test_errors_that_a_restart_cannot_fix_cause_no_restart(self):
        drop_in = self.root / "etc/systemd/system" / f"{UNIT.name}.d"
        drop_in.mkdir()
        (drop_in / "key.conf").write_text("[Service]\nEnvironment=WORKERS=none\nEnvironmentFile=\n")
        self.systemctl("daemon-reload")
        self.systemctl("start", UNIT.stem, code=None)
        self.wait_until(lambda: self.told("ActiveState") == "failed", self.journal)
        self.assertEqual((self.told("ExecMainStatus"), self.told("NRestarts")), ("2", "0"), self.journal())
