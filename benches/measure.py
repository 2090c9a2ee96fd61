"""Runs the program against a counting sink and measures the cost. Shared by the scripts in this folder.

Needs a release build of the program and of the sink: cargo build --release --locked --bins --examples
"""

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RELEASE = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release")


@dataclass
class Cost:
    """The cost of a process in seconds: CPU time (user and system) and wall-clock time."""

    cpu: float
    wall: float


def cost_of(command, ends=(0,), **options):
    """Runs a command and returns its cost. Exits if the command's exit code is not in `ends`."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)
    after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    if process.returncode not in ends:
        sys.exit(f"{command[0]} ended with {process.returncode}:\n{process.stderr[-2000:]}")
    return Cost(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, ended - began)


class Sink:
    """A running sink."""

    def __init__(self, process):
        self.process = process
        self.url = process.stdout.readline().strip()

    def pin(self, cores):
        """Restricts the process to these cores, with all present and future threads."""
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with contextlib.suppress(ProcessLookupError):  # a thread that has ended meanwhile
                os.sched_setaffinity(int(task), cores)


@contextlib.contextmanager
def sink():
    """Runs a sink."""
    process = subprocess.Popen([os.path.join(RELEASE, "examples", "counting_sink")], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    try:
        yield Sink(process)
    finally:
        process.communicate()


def load(folder, url, arguments=(), state=None, cores=None, environment=None, program=None):
    """Loads a folder of archives and returns the cost.

    `state`: text of an initial state file. `cores`: cores to run on. `program`: path of the program, if it is not this
    project's release build.
    """
    with tempfile.TemporaryDirectory() as scratch:
        if state is not None:
            with open(os.path.join(scratch, ".processed_files.json"), "w") as file:
                file.write(state)
        variables = {"PATH": os.environ["PATH"], "ELASTICSEARCH_URL": url, "ELASTICSEARCH_API_KEY": "key",
                     "RUST_LOG": "warn", **(environment or {})}
        command = [program or os.path.join(RELEASE, "megastream_ingest"), *arguments, os.path.abspath(folder)]
        pin = None if cores is None else lambda: os.sched_setaffinity(0, cores)
        return cost_of(command, ends=(0, 3), cwd=scratch, env=variables, preexec_fn=pin)
