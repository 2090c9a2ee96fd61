"""deploy/slurm.sbatch under a real Slurm: a controller and a node, from Debian's packages."""

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import fleet

COUNT = 8
ARCHIVES = 96


def free_port():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return listener.getsockname()[1]


# The node claims more than the machine has, so all tasks run at once. A requeued task waits until its credential
# expires, after two minutes by default.
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={socket},cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/node
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/node.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/node.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=1,sched_interval=2,bf_interval=2
ReturnToService=2
MpiDefault=none
MailProg=/bin/true
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=262144 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm(fleet.Fleet):
    needs = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
    real = True

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest("Slurm's daemons are started as root")
        self.start_munge()
        self.host = socket.gethostname().split(".")[0]
        text = CONFIGURATION.format(host=self.host, folder=self.folder, socket=self.socket, controller=free_port(),
                                    node=free_port())
        self.configuration = self.folder / "slurm.conf"
        self.configuration.write_text(text)
        self.daemon("slurmctld", "-D", "-f", self.configuration)
        self.daemon("slurmd", "-D", "-N", "node", "-f", self.configuration)
        self.wait_until(lambda: "idle" in self.slurm("sinfo", "--noheader", "--format=%t", code=None), self.logs)

    def start_munge(self):
        """Starts munge with its own key and socket, as the user of the package.

        Its folder is directly in /tmp, since that user cannot enter temporary folders of root.
        """
        user = pwd.getpwnam("munge")
        place = Path(tempfile.mkdtemp(prefix="fleet-munge-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, place, ignore_errors=True)
        place.chmod(0o755)
        key = place / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        for path in (place, key):
            os.chown(path, user.pw_uid, user.pw_gid)
        files = [f"--{name}-file={place / name}" for name in ("pid", "log", "seed")]
        self.socket = place / "socket"
        self.daemon("munged", "--foreground", f"--socket={self.socket}", f"--key-file={key}", *files, cwd="/",
                    user=user.pw_uid, group=user.pw_gid, extra_groups=[])
        self.wait_until(self.socket.exists, self.logs, seconds=30)

    def daemon(self, *command, **options):
        """Starts a daemon in the foreground, in its own process group, which ends with the case."""
        log = (self.folder / f"{command[0]}.out").open("wb")
        environment = {"PATH": fleet.PATH, "SLURM_CONF": str(getattr(self, "configuration", ""))}
        options.setdefault("cwd", self.folder)
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                   env=environment, start_new_session=True, **options)
        log.close()
        self.addCleanup(self.end, process)

    def end(self, process):
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def logs(self):
        logs = [*self.folder.glob("*.out"), *self.folder.glob("*.log"), *self.folder.glob("*.txt")]
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in logs)

    def slurm(self, *command, **options):
        environment = self.environment(SLURM_CONF=str(self.configuration))
        return self.call(*command, environment=environment, **options)

    def submit(self, *options, script=fleet.DEPLOY / "slurm.sbatch"):
        """Submits the script of the repository; the number of the job."""
        said = self.slurm("sbatch", "--parsable", "--chdir", self.folder, "--output=task-%a.txt", *options,
                          script, self.folder / "state", self.folder / "archives")
        job = int(said.strip())
        self.addCleanup(self.cancel, job)
        return job

    def cancel(self, job):
        """Cancels a job, and waits until neither its processes nor their Slurm stewards are left."""
        self.slurm("scancel", job, code=None)
        self.wait_until(lambda: not self.slurm("squeue", "--noheader", f"--jobs={job}", code=None).strip(), self.logs)

    def task(self, job, index):
        """The fields of a task in Slurm; {} until the task has become a job of its own."""
        for line in self.slurm("scontrol", "--oneliner", "show", "job", job).splitlines():
            told = dict(re.findall(r"(\w+)=(\S*)", line))
            if told.get("ArrayTaskId") == str(index):
                return told
        return {}

    def state_of(self, job, index):
        return self.task(job, index).get("JobState")

    def wait_for(self, job, index, *states):
        said = lambda: f"{index}: {self.task(job, index)}\n{self.logs()}"
        return self.wait_until(lambda: (told := self.task(job, index)).get("JobState") in states and told, said)

    def state_file(self, index):
        return self.folder / "state" / f"{index}-of-{COUNT}.state.json"

    def test_an_array_with_a_killed_and_requeued_task_loads_everything(self):
        archives = fleet.make_archives(self.folder / "archives", ARCHIVES, rows=10)
        of_shard = [sum(fleet.shard_of(path, COUNT) == shard for path in archives) for shard in range(COUNT)]
        done = lambda shard: fleet.processed(self.state_file(shard))
        midway = lambda: [shard for shard in range(COUNT) if 0 < done(shard) < of_shard[shard]]
        self.gate.slow(200_000)
        job = self.submit()
        victim = self.wait_until(midway, self.logs)[0]
        self.gate.hold()
        self.slurm("scancel", "--batch", "--signal=KILL", f"{job}_{victim}")
        told = self.wait_for(job, victim, "FAILED", "COMPLETED")
        self.assertEqual((told["JobState"], told["ExitCode"]), ("FAILED", "0:9"), self.logs())
        self.assertLess(done(victim), of_shard[victim], "the task was killed after its end")
        self.gate.open()
        self.slurm("scontrol", "requeue", f"{job}_{victim}")
        for index in range(COUNT):
            told = self.wait_for(job, index, "COMPLETED", "FAILED")
            self.assertEqual((told["JobState"], told["ExitCode"]), ("COMPLETED", "0:0"), self.logs())
            self.assertEqual(fleet.processed(self.state_file(index)), of_shard[index])
        self.assertEqual(self.task(job, victim)["Restarts"], "1")
        self.assert_holds(archives)

    def test_a_task_at_its_time_limit_ends_in_order_and_continues_when_requeued(self):
        """The script's signal comes before the limit, and requests in flight are finished."""
        archives = fleet.make_archives(self.folder / "archives", 8, rows=100)
        self.gate.slow(20_000)
        job = self.submit("--array=0-0", "--time=2")
        state = self.folder / "state" / "0-of-1.state.json"
        self.wait_until(lambda: "CANCELLED" in (self.folder / "node.log").read_text(), self.logs)
        self.gate.open()
        told = self.wait_for(job, 0, "FAILED", "COMPLETED", "TIMEOUT")
        self.assertEqual((told["JobState"], told["ExitCode"]), ("FAILED", "143:0"), self.logs())
        self.assertLess(fleet.processed(state), len(archives))
        self.slurm("scontrol", "requeue", f"{job}_0")
        self.slurm("scontrol", "update", f"jobid={job}", "timelimit=60")
        told = self.wait_for(job, 0, "COMPLETED", "FAILED")
        self.assertEqual(told["ExitCode"], "0:0", self.logs())
        self.assertEqual(fleet.processed(state), len(archives))
        self.assert_holds(archives)

    def test_an_array_of_spans_of_equal_bytes_loads_everything(self):
        archives = fleet.make_archives(self.folder / "archives", 24, rows=10, rows_of=lambda n: 60 if n % 5 == 0 else None)
        listing = self.call(fleet.binary(), "--list", "--json", self.folder / "archives")
        made = subprocess.run([fleet.DEPLOY / "equal-jobs.py", "4", "--for", "slurm"], input=listing, text=True,
                              stdout=subprocess.PIPE, check=True).stdout
        script = self.folder / "made.sbatch"
        script.write_text(made)
        job = self.submit(script=script)
        for index in range(4):
            told = self.wait_for(job, index, "COMPLETED", "FAILED")
            self.assertEqual((told["JobState"], told["ExitCode"]), ("COMPLETED", "0:0"), self.logs())
        states = list((self.folder / "state").glob("*.state.json"))
        self.assertEqual((len(states), sum(map(fleet.processed, states))), (4, len(archives)))
        self.assert_holds(archives)
