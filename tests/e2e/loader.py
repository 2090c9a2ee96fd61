"""Runs the built program as users do: command line, environment, exit code, and summary."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from server import TARGET

TIMEOUT_SECONDS = 300


def binary():
    """The program under test: that of the environment, or else the newest build; None without one."""
    if named := os.environ.get("MEGASTREAM_INGEST"):
        return Path(named).resolve()
    built = [TARGET / profile / "megastream_ingest" for profile in ("release", "debug")]
    found = [path for path in built if path.exists()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


@dataclass
class Run:
    """A finished run."""

    code: int
    log: str
    summary: dict | None
    dead_letters: list
    began: float  # seconds since 1970
    ended: float

    def __str__(self):
        return f"exit code {self.code}; end of its log:\n{self.log[-2000:]}"


class Loader:
    """A working folder for the program, with its state file."""

    def __init__(self, server):
        self.server = server
        self.folder = Path(tempfile.mkdtemp(prefix="run-"))
        self.state_file = self.folder / "state.json"

    def marked(self):
        """The number of processed archives in the state file."""
        if not self.state_file.exists():
            return 0
        return sum(entry["status"] == "processed" for entry in json.loads(self.state_file.read_text()))

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def ingest(self, archives, *flags, key=None, ca="the server's", path="", meanwhile=None, variables=()):
        """A run into the server; `meanwhile` is called with the process once it has started."""
        settings = {"ELASTICSEARCH_URL": self.server.url + path, "ELASTICSEARCH_API_KEY": key or self.server.api_key}
        ca = self.server.ca if ca == "the server's" else ca
        if ca:
            settings["ELASTICSEARCH_CA_CERT"] = str(ca)
        return self.run(archives, flags, {**settings, **dict(variables)}, meanwhile)

    def dry_run(self, archives, *flags):
        """A dry run, without any setting of a server."""
        return self.run(archives, ("--dry-run", *flags), {})

    def run(self, archives, flags, settings, meanwhile=None):
        summary_file = self.folder / "summary.json"
        dead_letter_file = self.folder / "dead_letters.ndjson"
        for file in (summary_file, dead_letter_file):
            file.unlink(missing_ok=True)
        command = [binary(), *flags, "--summary-json", summary_file, "--dead-letter", dead_letter_file, *archives]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "SPOOL_STATE_FILE": str(self.state_file)}
        began = time.time()
        log_file = self.folder / "log"
        with log_file.open("wb") as out, subprocess.Popen(
                list(map(str, command)), env={**environment, **settings}, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT) as process:
            try:
                if meanwhile:
                    meanwhile(process)
                code = process.wait(TIMEOUT_SECONDS)
            finally:
                process.kill()
        log = log_file.read_text(errors="replace")
        summary = json.loads(summary_file.read_text()) if summary_file.exists() else None
        letters = dead_letter_file.read_text().splitlines() if dead_letter_file.exists() else []
        return Run(code, log, summary, list(map(json.loads, letters)), began, time.time())


def make_archives(tool, folder, *options):
    """Generates archives in a folder, in order."""
    subprocess.run([tool, "--out", folder, *map(str, options)], check=True)
    return sorted(Path(folder).glob("*.db.zip"))


