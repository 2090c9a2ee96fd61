#!/usr/bin/env python3
"""Divides archives into jobs of about equal bytes, and prints the jobs in the format of an engine.

    megastream_ingest --list --json --from 2025-01-01 --to 2026-01-01 | deploy/equal-jobs.py 8 [--for ENGINE]

Each job is a time range. Standard input has one JSON object per line with `name`, `bytes`, `time` (RFC 3339) and
`take` of an archive. Archives that a run would not load (`take` is false) are left out. Archives without a time in
their names are left out, too, and reported. A job has at most its share plus the bytes of one archive. Archives of
the same second stay together. ENGINE is one of:

    table      number, FROM_TIME, TO_TIME, archives and bytes of each job, separated by tabs (the default)
    parallel   FROM_TIME and TO_TIME, for `parallel --colsep '\\t'`
    slurm      a script for sbatch
    aws-batch  a script for the command of an array job

The scripts take the arguments STATE_FOLDER [ARGUMENT...], as the others in this folder do. The same listing gives the
same output. The state file of a job is named after its time range, so a later run continues where the job stopped.
"""

import argparse
import itertools
import json
import sys
from datetime import datetime, timedelta, timezone

SCRIPT = """\
#!/bin/sh
{head}# Made by equal-jobs.py: {jobs} jobs, {archives} archives, {bytes} bytes.
#
#     {usage} STATE_FOLDER [ARGUMENT...]
set -eu
folder=$1
shift
mkdir -p "$folder"
case ${index} in
{cases}
*) echo "there is no job ${index}" >&2; exit 2 ;;
esac
export FROM_TIME TO_TIME
at=$folder/$FROM_TIME-to-$TO_TIME
export SPOOL_STATE_FILE="$at.state.json" DEAD_LETTER_FILE="$at.dead_letters.ndjson" SUMMARY_JSON="$at.summary.json"
{more}exec "${{MEGASTREAM_INGEST:-megastream_ingest}}" "$@"
"""
# The same limits as in slurm.sbatch.
SLURM_HEAD = """\
#SBATCH --job-name=megastream
#SBATCH --array=0-{last}
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
"""
SLURM_MORE = 'export WORKERS="${SLURM_CPUS_PER_TASK:-4}"\n'


def read(lines):
    """(time, bytes) of each archive, in order of time."""
    archives, timeless = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            archive = json.loads(line)
            if not archive.get("take", True):
                continue
            if archive["time"] is None:
                timeless.append(archive["name"])
                continue
            time, size = moment(archive["time"]), archive["bytes"]
            if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                raise ValueError(f"bytes is {size!r}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            sys.exit(f"line {number} of the listing is not an object with name, bytes and time: {error!r}")
        archives.append((time, size))
    if timeless:
        print(f"{len(timeless)} archives without a time in their names are in no job, such as {timeless[0]!r}",
              file=sys.stderr)
    if not archives:
        sys.exit("the listing has no archive to load")
    return sorted(archives)


def moment(text):
    """The time of an archive in whole seconds, as in its name."""
    time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return time.astimezone(timezone.utc).replace(microsecond=0)


def cut(archives, count):
    """Jobs as (from, to, archives, bytes). The middle of the bytes of a second decides which job the second goes to."""
    total = sum(size for _, size in archives) or 1
    jobs, before = {}, 0
    for time, group in itertools.groupby(archives, key=lambda archive: archive[0]):
        sizes = [size for _, size in group]
        share = min((2 * before + sum(sizes)) * count // (2 * total), count - 1)
        begins, archives_of_job, bytes_of_job = jobs.get(share, (time, 0, 0))
        jobs[share] = (begins, archives_of_job + len(sizes), bytes_of_job + sum(sizes))
        before += sum(sizes)
    jobs = [jobs[share] for share in sorted(jobs)]
    ends = [begins for begins, _, _ in jobs[1:]] + [archives[-1][0] + timedelta(seconds=1)]
    return [(begins, end, number, size) for (begins, number, size), end in zip(jobs, ends)]


def shown(time):
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def script(jobs, index, usage, head="", more=""):
    cases = "\n".join(f"{number}) FROM_TIME={shown(begins)} TO_TIME={shown(end)} ;;"
                      for number, (begins, end, _, _) in enumerate(jobs))
    archives, size = sum(job[2] for job in jobs), sum(job[3] for job in jobs)
    return SCRIPT.format(head=head, jobs=len(jobs), archives=archives, bytes=size, usage=usage, index=index,
                         cases=cases, more=more)


ENGINES = {
    "table": lambda jobs: "".join(f"{number}\t{shown(begins)}\t{shown(end)}\t{archives}\t{size}\n"
                                  for number, (begins, end, archives, size) in enumerate(jobs)),
    "parallel": lambda jobs: "".join(f"{shown(begins)}\t{shown(end)}\n" for begins, end, _, _ in jobs),
    "slurm": lambda jobs: script(jobs, "SLURM_ARRAY_TASK_ID", "sbatch THIS_FILE",
                                 SLURM_HEAD.format(last=len(jobs) - 1), SLURM_MORE),
    "aws-batch": lambda jobs: script(jobs, "AWS_BATCH_JOB_ARRAY_INDEX", f"array size {len(jobs)}: THIS_FILE"),
}


def positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def main():
    parser = argparse.ArgumentParser(description="Divides archives into jobs of about equal bytes.")
    parser.add_argument("jobs", type=positive, help="number of jobs; fewer if there are not as many times")
    parser.add_argument("--for", dest="engine", choices=ENGINES, default="table", help="format of the output [table]")
    options = parser.parse_args()
    sys.stdout.write(ENGINES[options.engine](cut(read(sys.stdin), options.jobs)))


if __name__ == "__main__":
    main()
