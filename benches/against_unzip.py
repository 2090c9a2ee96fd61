#!/usr/bin/env python3
"""Compares the CPU time of whole runs with that of `unzip -p` on the same archives.

    benches/against_unzip.py FOLDER [--pairs 5] [--arguments "--vector-encoding base64"]

The run sends over HTTP to a sink that answers at once and only counts (examples/counting_sink.rs). Needs a release build
of the program and of the sink: cargo build --release --locked --bins --examples

Prints the medians of both and of their ratios. Runs and unzip alternate, so that a machine whose speed drifts favours
neither.
"""

import argparse
import glob
import os
import statistics

import measure


def unzip(folder):
    archives = sorted(glob.glob(os.path.join(folder, "*.zip")))
    return sum(measure.cost_of(["unzip", "-p", path]).cpu for path in archives)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--arguments", default="")
    options = parser.parse_args()
    with measure.sink() as sink:
        def pair():
            return measure.load(options.folder, sink.url, options.arguments.split()).cpu, unzip(options.folder)
        pair()
        pairs = [pair() for _ in range(options.pairs)]
    ours, theirs = zip(*pairs)
    ratios = [a / b for a, b in pairs]
    print(f"whole run: {statistics.median(ours):.2f} CPU s, unzip -p: {statistics.median(theirs):.2f} CPU s, "
          f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {len(pairs)} pairs)")


if __name__ == "__main__":
    main()
