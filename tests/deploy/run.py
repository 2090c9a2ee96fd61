#!/usr/bin/env python3
"""What is in deploy/, run by the engines that it is for.

    cargo build --release && python3 tests/deploy/run.py [-v] [--install] [NAME...]

NAME selects cases, as unittest does: `slurm`, `slurm.Slurm.test_...`. What is not installed is skipped with a word
of what is missing; `--install` gets it before (Debian and root). The program is the one that MEGASTREAM_INGEST
names, else the newest build. Slurm and GNU parallel load into a real Elasticsearch where one is to be had (see
tests/e2e/server.py), and into the fake of fake.py where none is, or where FLEET_FAKE is set.
"""

import sys

sys.dont_write_bytecode = True

import importlib
import os
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]
PYTHON_FOLDER = Path(os.environ.get("CARGO_TARGET_DIR") or HERE.parents[1] / "target") / "deploy-python"
sys.path.append(str(PYTHON_FOLDER))

import fleet
import need

CASES = ["equal_jobs", "parallel", "slurm", "kubernetes", "container", "systemd", "watched", "packages"]


class Result(unittest.TextTestResult):
    """Tells how long each took, and names what was left out."""

    def startTest(self, test):
        self.started = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test):
        super().addSuccess(test)
        if self.showAll:
            self.stream.writeln(f"    {time.monotonic() - self.started:.1f} s")


def stop(*_):
    """Ends as an interrupt does, so that what was started is stopped."""
    raise KeyboardInterrupt


def importable(group):
    """Whether the modules of others that a group needs are there; says so where one is not."""
    try:
        importlib.import_module(group)
    except ModuleNotFoundError as error:
        print(f"left out: {group}: not installed: the Python module {error.name}")
        return False
    return True


def main():
    signal.signal(signal.SIGTERM, stop)
    words = sys.argv[1:]
    names = [word for word in words if not word.startswith("-")] or CASES
    if "--install" in words:
        need.install({name.split(".")[0] for name in names}, PYTHON_FOLDER)
    names = [name for name in names if importable(name.split(".")[0])]
    with tempfile.TemporaryDirectory(prefix="megastream_ingest-deploy-") as scratch:
        # Read by users other than root, too.
        os.chmod(scratch, 0o755)
        tempfile.tempdir = scratch
        try:
            suite = unittest.defaultTestLoader.loadTestsFromNames(names)
            result = unittest.TextTestRunner(sys.stdout, verbosity=2, resultclass=Result).run(suite)
        finally:
            fleet.finish()
    for test, reason in result.skipped:
        print(f"left out: {test}: {reason}")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
