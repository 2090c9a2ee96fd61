//! The table itself.

use super::Value::{File, Switch, Text, Words};
use super::{Group, Opt};
use crate::exit::ExitCode;

/// What the program does.
pub const PURPOSE: &str = "Reads Megastream archives (zipped SQLite databases of Bluesky posts) from a folder or an \
                           S3 bucket and writes them to Elasticsearch: posts into `posts`, deletions into \
                           `post_tombstones`. Archives are never changed.";

/// What the arguments are that are no flags.
pub const ARGUMENTS: Opt = Opt {
    flag: "",
    value: Text("PATH"),
    variables: &["LOCAL_SQLITE_DB_PATH"],
    default: "",
    text: "folders with archives, or files named `*.db.zip`",
};

/// Command lines, and what each does.
pub const EXAMPLES: &[(&str, &str)] = &[
    ("megastream_ingest --dry-run /data/megastream", "read everything, write nothing, need no server"),
    ("megastream_ingest --check /data/megastream", "see whether a run could do its work"),
    ("megastream_ingest --create-indices /data/megastream", "load a folder"),
    ("megastream_ingest --source s3 --mode spool", "load a bucket and go on with what is added to it"),
    ("megastream_ingest --replay .dead_letters.ndjson", "send rejected rows again, once the cause is mended"),
];

/// The exit codes, and what each means.
pub const EXIT_CODES: &[(ExitCode, &str)] = &[
    (ExitCode::Done, "everything asked for is done, or a spool run was stopped by a signal"),
    (ExitCode::Failed, "the run failed, or archives could not be read for now"),
    (ExitCode::Usage, "usage or configuration; nothing was done"),
    (ExitCode::DoneWithRejects, "done, with rejected rows or failed archives"),
    (ExitCode::Unavailable, "Elasticsearch or S3 was unavailable for longer than the retry budget"),
    (
        ExitCode::Refused,
        "Elasticsearch or S3 refuses: certificate, credentials, privileges, indices, mapping",
    ),
    (ExitCode::Locked, "the state file is locked by another process"),
    (ExitCode::Interrupted, "a `once` run was stopped by SIGINT before its end"),
    (ExitCode::Terminated, "a `once` run was stopped by SIGTERM or SIGHUP before its end"),
];

/// A variable that has no flag.
const fn variable(
    variables: &'static [&'static str],
    value: super::Value,
    default: &'static str,
    text: &'static str,
) -> Opt {
    Opt { flag: "", value, variables, default, text }
}

/// A flag that takes no value.
const fn switch(flag: &'static str, variables: &'static [&'static str], text: &'static str) -> Opt {
    Opt { flag, value: Switch, variables, default: "", text }
}

/// A flag that takes a value.
const fn option(
    flag: &'static str,
    value: super::Value,
    variables: &'static [&'static str],
    default: &'static str,
    text: &'static str,
) -> Opt {
    Opt { flag, value, variables, default, text }
}

/// All options by what they are about.
pub const GROUPS: &[Group] = &[
    Group {
        title: "What is done",
        options: &[
            option(
                "mode",
                Words(&["once", "spool"]),
                &[],
                "once",
                "`once`: take up what is there, then end; `spool`: go on looking for new archives, but for a dry run, which \
                 looks once",
            ),
            switch(
                "dry-run",
                &[],
                "do everything but write to Elasticsearch; honours the state file, writes none",
            ),
            option(
                "output",
                File,
                &[],
                "",
                "with `--dry-run`: write the bulk NDJSON there (`-`: standard output)",
            ),
            switch(
                "check",
                &[],
                "check settings, source, disk, Elasticsearch, privileges and mapping, then end",
            ),
            switch("list", &[], "print what would be taken up, and why the rest is not"),
            option(
                "replay",
                File,
                &[],
                "",
                "send the documents of a dead-letter file again, under the same versions",
            ),
        ],
    },
    Group {
        title: "Archives",
        options: &[
            option("source", Words(&["local", "s3"]), &[], "local", "where archives come from"),
            variable(
                &["S3_SQLITE_DB_BUCKET", "S3_SQLITE_DB_PREFIX"],
                Text("NAME"),
                "",
                "needed with `--source s3`: the bucket, and what the keys of archives begin with (empty: the whole bucket)",
            ),
            variable(&["AWS_REGION"], Text("NAME"), "us-east-1", "region of the bucket"),
            variable(
                &["AWS_S3_ACCESS_KEY", "AWS_S3_SECRET_KEY"],
                Text("KEY"),
                "the AWS chain",
                "credentials for S3; without them `AWS_ACCESS_KEY_ID` and the like, `AWS_PROFILE`, a web identity, a \
                 container's, an instance's",
            ),
            variable(
                &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"],
                Text("URL"),
                "",
                "S3-compatible server, path style",
            ),
            variable(
                &["S3_REQUEST_PAYER"],
                Words(&["requester", "none"]),
                "requester",
                "`requester`: who asks pays; `none`: who owns the bucket",
            ),
            option("shard", Text("I/N"), &["SHARD"], "0/1", "take only archives whose name hashes to I of N"),
            variable(
                &["JOB_COMPLETION_INDEX", "SHARD_COUNT"],
                Text("N"),
                "",
                "I and N of `--shard`, where neither that nor `SHARD` is given",
            ),
            switch("retry-failed", &[], "take up archives that the state file calls failed, too"),
        ],
    },
    Group {
        title: "Elasticsearch",
        options: &[
            variable(
                &["ELASTICSEARCH_URL"],
                Text("URL"),
                "",
                "base URL, or several separated by commas: nodes of one cluster; needed unless `--dry-run` or `--list`",
            ),
            variable(
                &["ELASTICSEARCH_CLOUD_ID"],
                Text("ID"),
                "",
                "address of an Elastic Cloud deployment, in place of the URL",
            ),
            variable(
                &["ELASTICSEARCH_API_KEY", "ELASTICSEARCH_API_KEY_FILE"],
                Text("KEY"),
                "",
                "API key: its `encoded` value or `id:api_key`, or a file that holds it; this or one of the next four says \
                 who the run is",
            ),
            option(
                "username",
                Text("NAME"),
                &["ELASTICSEARCH_USERNAME"],
                "",
                "basic authentication; also as `user:password@` in the URL",
            ),
            variable(
                &["ELASTICSEARCH_PASSWORD", "ELASTICSEARCH_PASSWORD_FILE"],
                Text("WORD"),
                "",
                "password of `--username`, or a file that holds it",
            ),
            variable(
                &["ELASTICSEARCH_BEARER_TOKEN", "ELASTICSEARCH_BEARER_TOKEN_FILE"],
                Text("TOKEN"),
                "",
                "bearer token, or a file that holds it",
            ),
            option(
                "aws-sigv4",
                Words(&["es", "aoss"]),
                &["ELASTICSEARCH_AWS_SIGV4"],
                "",
                "sign requests for Amazon OpenSearch Service or Serverless with the AWS chain; the region is the host \
                 name's, else `AWS_REGION`",
            ),
            switch("no-auth", &[], "no authentication (a cluster without security)"),
            option(
                "ca-cert",
                File,
                &["ELASTICSEARCH_CA_CERT"],
                "",
                "certificates to trust besides the system's roots, for Elasticsearch and S3, PEM: roots, or the server's \
                 own self-signed one",
            ),
            option(
                "ca-fingerprint",
                Text("HEX"),
                &["ELASTICSEARCH_CA_FINGERPRINT"],
                "",
                "SHA-256 of a certificate of Elasticsearch's chain, as it prints it at its first start: the only one to \
                 trust",
            ),
            option(
                "client-cert",
                File,
                &["ELASTICSEARCH_CLIENT_CERT"],
                "",
                "certificate of this client, PEM, for Elasticsearch",
            ),
            option("client-key", File, &["ELASTICSEARCH_CLIENT_KEY"], "", "key of `--client-cert`, PEM"),
            option(
                "proxy",
                Text("URL"),
                &["INGEST_PROXY"],
                "",
                "HTTP proxy for Elasticsearch and S3, but for hosts in `NO_PROXY`; `HTTPS_PROXY` alone does nothing",
            ),
            switch("skip-tls-verify", &[], "no certificate check (development only)"),
            switch("create-indices", &[], "create missing indices and aliases"),
            option(
                "vector-encoding",
                Words(&["auto", "base64", "array"]),
                &["VECTOR_ENCODING"],
                "auto",
                "`array`; `base64`: half the bytes to send, for Elasticsearch 9.3 and newer; `auto` finds out",
            ),
            switch("account-deletions", &["ACCOUNT_DELETIONS"], "a deleted account's posts are deleted, too"),
            switch(
                "bulk-load-settings",
                &["BULK_LOAD_SETTINGS"],
                "refresh and replicas tuned for a first load, put back at every exit",
            ),
            option(
                "retry-budget",
                Text("SEC"),
                &["RETRY_BUDGET_SEC"],
                "600",
                "once: how long an unavailable Elasticsearch or S3 is waited for (spool: for ever)",
            ),
        ],
    },
    Group {
        title: "Speed and memory",
        options: &[
            option("workers", Text("N"), &["WORKERS"], "cores", "archives decoded in parallel"),
            option("senders", Text("N"), &["SENDERS"], "4", "concurrent bulk requests at most"),
            option("batch-docs", Text("N"), &["BATCH_DOCS"], "100", "actions a bulk request holds at most"),
            option(
                "batch-bytes",
                Text("N"),
                &["BATCH_BYTES"],
                "8388608",
                "bytes a bulk request holds at most, uncompressed",
            ),
            option(
                "compress",
                Text("0..9"),
                &["COMPRESSION_LEVEL"],
                "0",
                "gzip level of bulk requests; 0: they go as they are",
            ),
        ],
    },
    Group {
        title: "Files and logs",
        options: &[
            variable(&["SPOOL_STATE_FILE"], File, ".processed_files.json", "which archives are done"),
            variable(
                &["SPOOL_INTERVAL_SEC"],
                Text("SEC"),
                "60",
                "seconds between two looks for new archives",
            ),
            option(
                "dead-letter",
                File,
                &["DEAD_LETTER_FILE"],
                ".dead_letters.ndjson",
                "rejected rows, one JSON object a line; with `--replay`, by default, the replayed file's name and \
                 `.failed`",
            ),
            option("summary-json", File, &["SUMMARY_JSON"], "", "the run's summary (`-`: standard output)"),
            option(
                "metrics-file",
                File,
                &["METRICS_FILE"],
                "",
                "figures in Prometheus text format, every ten seconds",
            ),
            variable(
                &["LOGGING_ENABLED"],
                Words(&["true", "false"]),
                "true",
                "`false`: no log, no progress; `RUST_LOG` chooses levels",
            ),
            variable(
                &["LOG_FORMAT"],
                Words(&["text", "json"]),
                "text",
                "`json`: one JSON object a line on standard error, and no progress bar",
            ),
        ],
    },
    Group {
        title: "Help",
        options: &[
            switch("help", &[], "print this help; so does `-h`"),
            switch("version", &[], "print the version and the commit it was built from"),
        ],
    },
];
