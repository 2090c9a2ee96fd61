"""deploy/shards.sh, alone and under GNU parallel."""

import os
import signal
import subprocess
from pathlib import Path

import fleet

COUNT = 4
ARCHIVES = 60


class OfShards(fleet.Fleet):
    """The base of all cases."""

    real = True

    def setUp(self):
        super().setUp()
        self.state = self.folder / "state"
        self.archives = fleet.make_archives(self.folder / "archives", ARCHIVES, rows=10)
        self.of_shard = [sum(fleet.shard_of(path, COUNT) == shard for path in self.archives) for shard in range(COUNT)]

    def done(self):
        """The number of processed archives of each shard."""
        return [fleet.processed(self.state / f"{shard}-of-{COUNT}.state.json") for shard in range(COUNT)]

    def midway(self):
        """The shards with some but not all archives processed."""
        return [shard for shard, done in enumerate(self.done()) if 0 < done < self.of_shard[shard]]

    def start(self, *command):
        log = (self.folder / "log").open("wb")
        process = subprocess.Popen(list(map(str, command)), env=self.environment(WORKERS="1"), cwd=self.folder,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        log.close()
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        process.kill()
        process.wait()

    def log(self):
        texts = [self.folder / "log", *self.state.glob("*.log")]
        return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in texts if path.exists())

    def shard_processes(self):
        """The processes of the program in this case's folder, by shard."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                settings = dict(line.split("=", 1) for line in (place / "environ").read_text().split("\0") if "=" in line)
                name = (place / "comm").read_text().strip()
            except (OSError, UnicodeDecodeError):
                continue
            if name == Path(fleet.binary()).name[:15] and settings.get("SPOOL_STATE_FILE", "").startswith(str(self.state)):
                found[int(settings["SHARD"].split("/")[0])] = int(place.name)
        return found


class Shards(OfShards):
    """The script alone, which starts all shards."""

    def test_the_script_starts_all_shards_and_forwards_a_signal(self):
        self.gate.slow(100_000)
        command = (fleet.DEPLOY / "shards.sh", COUNT, self.state, self.folder / "archives")
        process = self.start(*command)
        self.wait_until(self.midway, self.log)
        process.send_signal(signal.SIGTERM)
        self.gate.open()
        self.assertEqual(process.wait(fleet.PATIENCE), 143, self.log())
        self.assertEqual(self.shard_processes(), {}, "a shard outlived the script")
        self.call(*command)
        self.assertEqual(self.done(), self.of_shard)
        self.assert_holds(self.archives)


class Parallel(OfShards):
    """The commands of docs/sharding.md, with a killed shard."""

    needs = ("parallel",)

    def command(self, *options):
        return ("parallel", "--jobs", COUNT, "--joblog", self.state / "joblog", *options,
                fleet.DEPLOY / "shards.sh", f"{{}}/{COUNT}", self.state, self.folder / "archives", ":::", *range(COUNT))

    def jobs(self):
        """(shard, exit code, signal) of each line of the job log."""
        lines = (self.state / "joblog").read_text().splitlines()[1:]
        fields = [line.split("\t") for line in lines]
        return sorted((int(line[0]) - 1, int(line[6]), int(line[7])) for line in fields)

    def test_a_killed_shard_is_resumed_by_the_job_log(self):
        self.state.mkdir()
        self.gate.slow(100_000)
        process = self.start(*self.command())
        victim = self.wait_until(self.midway, self.log)[0]
        self.gate.hold()
        os.kill(self.shard_processes()[victim], signal.SIGKILL)
        self.gate.open()
        self.assertEqual(process.wait(fleet.PATIENCE), 1, "GNU parallel's exit code is the number of failed shards")
        self.assertLess(self.done()[victim], self.of_shard[victim], "the shard was killed after its end")
        self.assertEqual(self.jobs(), [(shard, 0, signal.SIGKILL * (shard == victim)) for shard in range(COUNT)])
        self.call(*self.command("--resume-failed"))
        # Only the failed shard was run again.
        self.assertEqual([job for job in self.jobs() if job[0] != victim],
                         [(shard, 0, 0) for shard in range(COUNT) if shard != victim])
        self.assertIn((victim, 0, 0), self.jobs())
        self.assertEqual(self.done(), self.of_shard)
        self.assert_holds(self.archives)
