#!/usr/bin/env python3
"""Measures how the cost of a run scales with the number of archives, the size of the state file, and the cores.

    benches/scaling.py FOLDER [--pairs 5] [--arguments "--vector-encoding base64"]

FOLDER holds archives of one size. Runs send to a sink that only counts, as in against_unzip.py, and need the same build.
Prints three tables of medians; the runs of a table alternate:

- CPU time per archive for 1, 10 and 100 archives (copies of the first one in the folder)
- CPU time of a run that finds nothing new, with 1, 1,000 and 100,000 entries in the state file
- wall-clock time on one core and on two, for the whole folder and for a single archive with all of its rows
"""

import argparse
import glob
import json
import os
import shutil
import sqlite3
import statistics
import tempfile
import zipfile

import measure


def medians(pairs, runs):
    """Returns the median cost of each run. The runs alternate, after one round to warm up."""
    costs = [[run() for run in runs] for _ in range(pairs + 1)][1:]
    return [measure.Cost(statistics.median(cost.cpu for cost in of_run), statistics.median(cost.wall for cost in of_run))
            for of_run in zip(*costs)]


def name(number):
    return f"mega_jetstream_20251218_{number // 3600:02}{number // 60 % 60:02}{number % 60:02}.db.zip"


def copies(scratch, archive, count):
    """Creates a folder with `count` copies of an archive."""
    folder = os.path.join(scratch, f"copies-{count}")
    os.mkdir(folder)
    for number in range(count):
        shutil.copy(archive, os.path.join(folder, name(number)))
    return folder


def one_of_many(scratch, archives):
    """Creates a folder with a single archive that holds the rows of all archives."""
    folder = os.path.join(scratch, "one")
    os.mkdir(folder)
    path = os.path.join(scratch, "one.db")
    for number, archive in enumerate(archives):
        with zipfile.ZipFile(archive) as zipped:
            part = zipped.extract(zipped.namelist()[0], scratch)
        if number == 0:
            shutil.move(part, path)
            continue
        with sqlite3.connect(path) as database:
            database.execute("ATTACH ? AS part", (part,))
            columns = "at_uri, did, raw_post, inferences"
            database.execute(f"INSERT INTO enriched_posts ({columns}) SELECT {columns} FROM part.enriched_posts")
        os.remove(part)
    with zipfile.ZipFile(os.path.join(folder, name(0)), "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.write(path, "one.db")
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--pairs", type=int, default=5)
    # A sink holds no documents, so the program cannot find out whether it reads base64.
    parser.add_argument("--arguments", default="--vector-encoding base64")
    options = parser.parse_args()
    arguments = options.arguments.split()
    archives = sorted(glob.glob(os.path.join(options.folder, "*.zip")))
    with measure.sink() as sink, tempfile.TemporaryDirectory() as scratch:
        counts = (1, 10, 100)
        folders = [copies(scratch, archives[0], count) for count in counts]
        os.sync()  # not while it is measured
        costs = medians(options.pairs, [lambda folder=folder: measure.load(folder, sink.url, arguments) for folder in folders])
        for count, cost in zip(counts, costs):
            print(f"{count:6} archives: {cost.cpu / count:.4f} CPU s an archive")

        entries = (1, 1_000, 100_000)
        done = [{"filename": f"mega_jetstream_20240101_{n:06}.db.zip", "status": "processed",
                 "timestamp": "2025-01-01T00:00:00Z"} for n in range(max(entries) - 1)]
        done.append({**done[0], "filename": name(0)})
        states = [json.dumps(done[-count:]) for count in entries]
        costs = medians(options.pairs, [lambda state=state: measure.load(folders[0], sink.url, arguments, state=state) for state in states])
        for count, cost in zip(entries, costs):
            print(f"{count:6} entries in the state file, nothing new: {cost.cpu:.4f} CPU s a run")

        one = one_of_many(scratch, archives)
        os.sync()  # not while it is measured
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            print("one core only: nothing to compare")
            return
        for what, folder in (("the folder", options.folder), ("one large archive", one)):
            # The sink shares the cores, so its CPU time is part of the cost of a run.
            def run(count, folder=folder):
                sink.pin(cores[:count])
                return measure.load(folder, sink.url, [*arguments, "--workers", str(count)], cores=cores[:count])
            runs = [lambda: run(1), lambda: run(2)]
            alone, both = medians(options.pairs, runs)
            print(f"{what}: {alone.wall:.2f} s on one core, {both.wall:.2f} s on two: {alone.wall / both.wall:.2f} times as fast "
                  f"({alone.cpu:.2f} and {both.cpu:.2f} CPU s)")


if __name__ == "__main__":
    main()
