#!/usr/bin/env python3
"""The files of deploy/, run by the engines that they are for.

    cargo build --release && python3 tests/deploy/run.py [-v] [--install] [NAME...]

NAME selects cases as in unittest: `slurm`, `slurm.Slurm.test_...`. Cases whose programs are missing are skipped with
a message; `--install` installs them first (Debian, as root). The program is that of MEGASTREAM_INGEST, or else the
newest build. Slurm and GNU parallel load into a real Elasticsearch if available (see tests/e2e/server.py), else, or if
FLEET_FAKE is set, into the fake of fake.py.
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

CASES = ["equal_jobs", "parallel", "slurm", "kubernetes", "container", "systemd", "monitoring", "packages"]


class Result(unittest.TextTestResult):
    """Prints how long each case took, and names the skipped ones."""

    def startTest(self, test):
        self.started = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test):
        super().addSuccess(test)
        if self.showAll:
            self.stream.writeln(f"    {time.monotonic() - self.started:.1f} s")


def stop(*_):
    """Ends like an interrupt, so that all started processes are stopped."""
    raise KeyboardInterrupt


def importable(group):
    """Whether the third-party modules of a group are installed; prints a message if not."""
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
        # Other users than root read it, too.
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
