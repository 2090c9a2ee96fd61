#!/bin/sh
# Runs N processes of megastream_ingest on this machine, one for each shard, and waits for them all.
#
#     deploy/shards.sh N STATE_FOLDER [ARGUMENT...]
#
# Settings come from the environment as always; arguments are handed on. Each shard has a state file, dead letters, a
# summary and a log of its own in STATE_FOLDER. Ends with the highest exit code of all.
#
#     deploy/shards.sh I/N STATE_FOLDER [ARGUMENT...]
#
# runs shard I alone, for something else that starts them all, such as GNU parallel. Ends with its exit code.
set -eu
shard=$1 folder=$2
shift 2
count=${shard#*/}
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
    # A signal to this shell ends the wait before the process: that is waited for again.
    while kill -0 "$pid" 2>/dev/null; do
        code=0
        wait "$pid" || code=$?
    done
    [ "$code" -le "$worst" ] || worst=$code
done
exit "$worst"
