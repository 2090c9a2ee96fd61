#!/usr/bin/env python3
"""Compares the CPU time of a whole run with that of `unzip -p` of the same archives, pair by pair.

    benches/against_unzip.py FOLDER [--pairs 5] [--arguments "--vector-encoding base64"]

The run goes against a sink that answers at once and only counts (examples/counting_sink.rs), HTTP and all.
Needs a release build of the program and of the example: cargo build --release --example counting_sink.
Prints the median of each and of the ratios. The pairs are taken in turn, so that a machine whose speed
drifts does not favour one of the two.
"""
import argparse
import glob
import os
import resource
import statistics
import subprocess
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RELEASE = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release")


def cpu_seconds(command, **options):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def load(folder, url, arguments):
    with tempfile.TemporaryDirectory() as state:
        environment = {"PATH": os.environ["PATH"], "ELASTICSEARCH_URL": url, "ELASTICSEARCH_API_KEY": "key"}
        command = [os.path.join(RELEASE, "megastream_ingest"), *arguments, os.path.abspath(folder)]
        return cpu_seconds(command, cwd=state, env=environment)


def unzip(folder):
    return sum(cpu_seconds(["unzip", "-p", path]) for path in sorted(glob.glob(os.path.join(folder, "*.zip"))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--arguments", default="")
    options = parser.parse_args()
    sink = subprocess.Popen([os.path.join(RELEASE, "examples", "counting_sink")], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)
    url = sink.stdout.readline().strip()
    arguments = options.arguments.split()
    load(options.folder, url, arguments)
    unzip(options.folder)
    pairs = [(load(options.folder, url, arguments), unzip(options.folder)) for _ in range(options.pairs)]
    sink.communicate()
    ours, theirs = zip(*pairs)
    ratios = [a / b for a, b in pairs]
    print(f"whole run: {statistics.median(ours):.2f} CPU s, unzip -p: {statistics.median(theirs):.2f} CPU s, "
          f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {len(pairs)} pairs)")


main()
