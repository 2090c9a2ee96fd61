#!/bin/sh
# Runs N processes of megastream_ingest on this machine, one for each shard, and waits for them all.
#
#     deploy/shards.sh N STATE_FOLDER [ARGUMENT...]
#
# Settings come from the environment. The script passes the arguments on. Each shard has its own state file, dead
# letters, summary and log in STATE_FOLDER. The script ends with the highest exit code of all shards.
#
#     deploy/shards.sh I/N STATE_FOLDER [ARGUMENT...]
#
# runs only shard I, and ends with its exit code. Use this if another program starts all shards, such as GNU parallel.
set -eu
[ $# -ge 2 ] || { echo "usage: shards.sh N|I/N STATE_FOLDER [ARGUMENT...]" >&2; exit 2; }
shard=$1 folder=$2
shift 2
count=${shard#*/}
# Without this, 0 or an empty variable would be a success that loads nothing.
[ "$count" -gt 0 ] 2>/dev/null || { echo "shards.sh: N is \"$count\": it takes a whole number from 1" >&2; exit 2; }
mkdir -p "$folder"

# Becomes the process of one shard.
run() {
    at=$folder/$1-of-$count
    export SHARD="$1/$count"
    export SPOOL_STATE_FILE="$at.state.json" DEAD_LETTER_FILE="$at.dead_letters.ndjson" SUMMARY_JSON="$at.summary.json"
    shift
    exec "${MEGASTREAM_INGEST:-megastream_ingest}" "$@" 2>>"$at.log"
}

case $shard in */*) run "${shard%/*}" "$@" ;; esac

pids=
trap 'kill $pids 2>/dev/null' INT TERM
index=0
while [ "$index" -lt "$count" ]; do
    run "$index" "$@" &
    pids="$pids $!"
    index=$((index + 1))
done

worst=0
for pid in $pids; do
    code=0
    wait "$pid" || code=$?
    # A signal to this shell ends `wait` before the process has ended. Then wait again.
    while kill -0 "$pid" 2>/dev/null; do
        code=0
        wait "$pid" || code=$?
    done
    [ "$code" -le "$worst" ] || worst=$code
done
[ "$worst" -eq 0 ] || echo "shards.sh: exit code $worst: see the logs in $folder" >&2
exit "$worst"
