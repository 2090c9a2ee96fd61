"""deploy/equal-jobs.py cuts a year into gapless spans of equal bytes, and prints scripts that run."""

import json
import random
import subprocess
import sys
import unittest
from datetime import datetime, timedelta, timezone

import fleet

SCRIPT = fleet.DEPLOY / "equal-jobs.py"
YEAR = datetime(2025, 1, 1, tzinfo=timezone.utc)


def listing(archives):
    """The output of `--list --json` for archives of (time, bytes)."""
    line = lambda time, size: {"name": f"mega_jetstream_{time:%Y%m%d_%H%M%S}.db.zip", "bytes": size,
                               "time": f"{time:%Y-%m-%dT%H:%M:%S}.000Z"}
    return "".join(json.dumps(line(*archive)) + "\n" for archive in archives)


def a_year(seed=1, every=timedelta(minutes=30)):
    """Archives that grow during the year, and are larger by day."""
    chance = random.Random(seed)
    count = timedelta(days=365) // every
    times = [YEAR + every * number for number in range(count)]
    return [(time, int(1e6 * (1 + number / count * 9) * (3 if 8 <= time.hour < 20 else 1) * chance.uniform(0.5, 2)))
            for number, time in enumerate(times)]


def call(*words, text, code=0):
    done = subprocess.run([sys.executable, SCRIPT, *map(str, words)], input=text, capture_output=True, text=True)
    assert done.returncode == code, (done.returncode, done.stderr)
    return done.stdout if code == 0 else done.stderr


def table(*words, text):
    rows = [line.split("\t") for line in call(*words, text=text).splitlines()]
    return [(datetime.fromisoformat(begins.replace("Z", "+00:00")), datetime.fromisoformat(end.replace("Z", "+00:00")),
             int(archives), int(size)) for _, begins, end, archives, size in rows]


class EqualJobs(unittest.TestCase):
    longMessage = False

    def test_a_year_is_cut_into_equal_bytes_without_a_gap(self):
        archives = a_year()
        total, largest = sum(size for _, size in archives), max(size for _, size in archives)
        shuffled = random.Random(2).sample(archives, len(archives))
        for count in (1, 2, 7, 8, 100, 365):
            jobs = table(count, text=listing(shuffled))
            self.assertEqual(len(jobs), count)
            self.assertEqual([job[1] for job in jobs[:-1]], [job[0] for job in jobs[1:]], "a gap or an overlap")
            # The program selects [from, to).
            for begins, end, number, size in jobs:
                of_job = [archive for archive in archives if begins <= archive[0] < end]
                self.assertEqual((len(of_job), sum(size for _, size in of_job)), (number, size))
                self.assertLessEqual(size, total / count + largest)
                self.assertGreaterEqual(size, total / count - largest)
            self.assertEqual(sum(job[3] for job in jobs), total)
            self.assertEqual(sum(job[2] for job in jobs), len(archives))

    def test_archives_of_one_second_stay_together_and_no_job_is_empty(self):
        later = YEAR + timedelta(hours=1)
        jobs = table(8, text=listing([(YEAR, 5), (YEAR, 5), (later, 90), (later, 0)]))
        self.assertEqual([job[2:] for job in jobs], [(2, 10), (2, 90)])
        self.assertEqual(table(4, text=listing([(YEAR, 0), (later, 0)]))[-1][1], later + timedelta(seconds=1))

    def test_an_invalid_listing_is_refused_with_its_line(self):
        good = listing([(YEAR, 5)])
        for bad in ("no JSON\n", "[]\n", '{"name": "a", "bytes": 5}\n', '{"bytes": -1, "time": "2025-01-01T00:00:00Z"}\n',
                    '{"bytes": null, "time": "2025-01-01T00:00:00Z"}\n', '{"bytes": 5, "time": "soon"}\n'):
            self.assertIn("line 2 of the listing", call(3, text=good + bad, code=1))
        self.assertIn("no archive", call(3, text="", code=1))
        call(0, text=good, code=2)

    def test_archives_left_out_are_in_no_job_and_those_without_a_time_are_named(self):
        line = json.loads(listing([(YEAR, 5)]))
        others = [{**line, "bytes": 90, "take": False}, {**line, "bytes": 90, "time": None, "name": "timeless.db.zip"},
                  {"name": "folder.db.zip", "bytes": None, "time": None, "take": False}]
        text = "".join(json.dumps(line) + "\n" for line in [{**line, "take": True}, *others])
        done = subprocess.run([sys.executable, SCRIPT, "2"], input=text, capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.split("\t")[3:], ["1", "5\n"])
        self.assertIn("timeless.db.zip", done.stderr)
        self.assertNotIn("folder.db.zip", done.stderr)

    def test_spans_of_a_real_listing_select_every_archive_once(self):
        program = fleet.binary()
        if program is None:
            self.skipTest("the program is not built")
        with fleet.folder() as folder:
            archives = fleet.make_archives(folder / "archives", 24, rows=5, rows_of=lambda n: 60 if n % 5 == 0 else None)
            program_says = lambda *words: subprocess.run([program, *map(str, words), folder / "archives"], cwd=folder,
                                                         env={"PATH": fleet.PATH}, text=True, capture_output=True, check=True)
            whole = program_says("--list", "--json").stdout
            self.assertEqual(len(whole.splitlines()), len(archives))
            jobs = call(4, "--for", "parallel", text=whole).splitlines()
            taken, sizes = [], []
            for begins, end in (job.split("\t") for job in jobs):
                told = program_says("--list", "--json", "--from", begins, "--to", end).stdout.splitlines()
                job = [archive for archive in map(json.loads, told) if archive["take"]]
                taken += [archive["name"] for archive in job]
                sizes.append(sum(archive["bytes"] for archive in job))
            self.assertEqual(sorted(taken), [path.name for path in archives])
            self.assertEqual(len(jobs), 4)
            largest = max(path.stat().st_size for path in archives)
            self.assertLessEqual(max(sizes), sum(sizes) / 4 + largest)

    def test_spans_for_parallel_equal_the_table(self):
        text = listing(a_year(every=timedelta(days=1)))
        rows = [line.split("\t")[1:3] for line in call(8, text=text).splitlines()]
        self.assertEqual([line.split("\t") for line in call(8, "--for", "parallel", text=text).splitlines()], rows)

    def test_scripts_give_each_task_its_span_and_its_own_files(self):
        text = listing(a_year(every=timedelta(days=1)))
        spans = [line.split("\t") for line in call(8, "--for", "parallel", text=text).splitlines()]
        for engine, index in (("slurm", "SLURM_ARRAY_TASK_ID"), ("aws-batch", "AWS_BATCH_JOB_ARRAY_INDEX")):
            made = call(8, "--for", engine, text=text)
            with fleet.folder() as folder:
                (folder / "made.sh").write_text(made)
                (folder / "program").write_text('#!/bin/sh\necho "$FROM_TIME|$TO_TIME|$SPOOL_STATE_FILE|$*"\n')
                (folder / "program").chmod(0o755)
                seen = set()
                for task in range(8):
                    said = subprocess.run(["sh", folder / "made.sh", folder / "state", "/archives", "--check"], text=True,
                                          env={"PATH": fleet.PATH, index: str(task), "MEGASTREAM_INGEST": str(folder / "program")},
                                          capture_output=True, check=True).stdout.strip().split("|")
                    self.assertEqual(said[:2], spans[task], engine)
                    self.assertEqual(said[3], "/archives --check")
                    seen.add(said[2])
                self.assertEqual(len(seen), 8, "a state file for each")
                beyond = subprocess.run(["sh", folder / "made.sh", folder / "state"], capture_output=True,
                                        env={"PATH": fleet.PATH, index: "8"})
                self.assertEqual(beyond.returncode, 2)
        self.assertIn("#SBATCH --array=0-7\n", call(8, "--for", "slurm", text=text))

    def test_limits_for_slurm_equal_those_of_the_repository_script(self):
        made = call(1, "--for", "slurm", text=listing([(YEAR, 5)]))
        ours = (fleet.DEPLOY / "slurm.sbatch").read_text()
        options = lambda text: {line for line in text.splitlines() if line.startswith("#SBATCH") and "--array" not in line}
        self.assertEqual(options(made), options(ours))
