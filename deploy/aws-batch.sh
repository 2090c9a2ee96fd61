#!/bin/sh
# The command of an AWS Batch array job. Each child runs one shard.
#
#     deploy/aws-batch.sh STATE_FOLDER [ARGUMENT...]
#
# AWS Batch gives a child its index (AWS_BATCH_JOB_ARRAY_INDEX, from 0), but not the number of children. Set
# SHARD_COUNT to the size of the array. STATE_FOLDER must be on a file system that outlives the job (EFS).
set -eu
folder=$1
shift
mkdir -p "$folder"
at=$folder/$AWS_BATCH_JOB_ARRAY_INDEX-of-$SHARD_COUNT
export SHARD="$AWS_BATCH_JOB_ARRAY_INDEX/$SHARD_COUNT"
export SPOOL_STATE_FILE="$at.state.json" DEAD_LETTER_FILE="$at.dead_letters.ndjson" SUMMARY_JSON="$at.summary.json"
exec "${MEGASTREAM_INGEST:-megastream_ingest}" "$@"
