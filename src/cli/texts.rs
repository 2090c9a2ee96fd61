//! Texts of help and man page besides the settings.

/// What the program does.
pub(super) const PURPOSE: &str = "Reads Megastream archives (zipped SQLite databases of Bluesky posts) from a folder or an S3 bucket and writes \
     them to Elasticsearch: posts into `posts`, deletions into `post_tombstones`. Archives are never changed.";

/// Example command lines, and what each does.
pub(super) const EXAMPLES: &[(&str, &str)] = &[
    ("megastream_ingest --dry-run /data/megastream", "read everything, write nothing, need no server"),
    ("megastream_ingest --check /data/megastream", "check whether a load would work"),
    ("megastream_ingest --create-indices /data/megastream", "load a folder"),
    ("megastream_ingest --source s3 --mode spool", "load a bucket, and then new archives in it"),
    (
        "megastream_ingest --replay .dead_letters.ndjson",
        "send rejected rows again, once the cause is corrected",
    ),
];
