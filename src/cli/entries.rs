//! Every flag and variable, with its name, default, range and text.
//!
//! How to add one: `CONTRIBUTING.md`.

use super::choices::{Addressing, AwsService, Choice, LogFormat, Mode, Payer, Place, VectorChoice};
use super::entry::Value::{File, Number, NumberOrAuto, Switch, Text, Words};
use super::entry::{Entry, Group, settings, takes};

/// Returns the entry of the positional arguments.
pub fn paths() -> &'static Entry {
    static ENTRY: Entry = Entry {
        name: "paths",
        text: "folders with archives, or files named `*.db.zip`",
        ..takes(Text("PATH")).or(&["LOCAL_SQLITE_DB_PATH"])
    };
    &ENTRY
}

/// Returns all settings in the order in which they are explained.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    GROUPS.iter().flat_map(Group::entries)
}

/// Returns the settings with a flag, each with the flag's name without dashes.
pub fn flags() -> impl Iterator<Item = (String, &'static Entry)> {
    all().filter_map(|entry| Some((entry.flag()?, entry)))
}

settings! {
    "Task" {
        mode: option String,
            "`once`: load the archives that are there, then end; `spool`: keep looking for new ones (a dry run looks \
             once)",
            takes(Words(Mode::WORDS)).default("once");
        dry_run: switch bool, "do everything except write to Elasticsearch; the state file is read, not written",
            takes(Switch);
        output: option String,
            "file for the bulk NDJSON of `--dry-run` or the differences of `--verify` (`-`: standard output)",
            takes(File);
        check: switch bool, "check settings, source, disk, Elasticsearch, privileges and mapping, then end",
            takes(Switch);
        list: switch bool, "print which archives would be loaded, and why the others would not", takes(Switch);
        json: switch bool, "with `--list`: print one JSON object per line", takes(Switch);
        verify: switch bool, "compare the index with the archives, whatever the state file says; nothing is written",
            takes(Switch);
        repair: switch bool, "with `--verify`: correct differences by sending their rows again, then compare them \
             again", takes(Switch);
        replay: option String, "send the documents of a dead-letter file again, under the same versions",
            takes(File);
    }
    "Archives" {
        source: option String, "where archives come from", takes(Words(Place::WORDS)).default("local");
        s3_sqlite_db: variable,
            "bucket and key prefix of the archives, needed with `--source s3` (an empty prefix means the whole \
             bucket)",
            takes(Text("NAME")).or(&["S3_SQLITE_DB_BUCKET", "S3_SQLITE_DB_PREFIX"]);
        aws_region: variable, "region of the bucket; by default the one of the AWS profile",
            takes(Text("NAME")).or(&["AWS_REGION", "AWS_DEFAULT_REGION"]).default("us-east-1");
        aws_s3_keys: variable,
            "credentials for S3; by default those of `AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, a web identity, the container \
             or the instance; a name with `_FILE` appended names a file that holds the key",
            takes(Text("KEY")).or(&["AWS_S3_ACCESS_KEY", "AWS_S3_SECRET_KEY"]).default("the AWS chain");
        s3_anonymous: option bool, "do not sign requests to S3, for public buckets",
            takes(Switch).or(&["AWS_S3_ANONYMOUS"]);
        aws_endpoint_url: variable, "URL of an S3-compatible server or of an AWS endpoint",
            takes(Text("URL")).or(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
        s3_addressing: option String,
            "whether the bucket's name is part of the path or of the host name; `auto`: host name on AWS, path elsewhere",
            takes(Words(Addressing::WORDS)).or(&["S3_ADDRESSING"]).default("auto");
        aws_ca_bundle: variable,
            "PEM file of root certificates to trust for S3 besides the system's, instead of `--ca-cert`",
            takes(File).or(&["AWS_CA_BUNDLE"]);
        s3_request_payer: variable,
            "`requester`: requests are requester-pays, if the server supports it; `none`: the owner of the \
             bucket pays",
            takes(Words(Payer::WORDS)).or(&["S3_REQUEST_PAYER"]).default("requester");
        from: option String,
            "load only archives from this time on (the time in their names, UTC), given in RFC 3339 or as a date",
            takes(Text("TIME")).or(&["FROM_TIME"]);
        to: option String, "load only archives from before this time",
            takes(Text("TIME")).or(&["TO_TIME"]);
        limit: option String, "load at most N archives, oldest first; not with `--mode spool`",
            takes(Number("N", 1, 1 << 32));
        shard: option String, "load only shard I of N (I from 0); the hash of an archive's name decides its shard",
            takes(Text("I/N")).or(&["SHARD"]).default("0/1");
        kubernetes_shard: variable, "I and N of `--shard`, if neither `--shard` nor `SHARD` is given",
            takes(Text("N")).or(&["JOB_COMPLETION_INDEX", "SHARD_COUNT"]);
        retry_failed: switch bool, "also load archives that the state file lists as failed", takes(Switch);
    }
    "Elasticsearch" {
        elasticsearch_url: variable,
            "base URL, or the URLs of several nodes of one cluster, separated by commas; needed except for \
             `--dry-run` and `--list`",
            takes(Text("URL")).or(&["ELASTICSEARCH_URL"]);
        elasticsearch_cloud_id: variable,
            "ID of an Elastic Cloud deployment, instead of the URL",
            takes(Text("ID")).or(&["ELASTICSEARCH_CLOUD_ID"]);
        elasticsearch_api_key: variable,
            "API key, as `encoded` or `id:api_key`, or a file that holds it; exactly one way to authenticate is \
             needed: this one, a user name, a bearer token, `--aws-sigv4` or `--no-auth`",
            takes(Text("KEY")).or(&["ELASTICSEARCH_API_KEY", "ELASTICSEARCH_API_KEY_FILE"]);
        username: option String,
            "user name for basic authentication; `user:password@` in the URL works, too",
            takes(Text("NAME")).or(&["ELASTICSEARCH_USERNAME"]);
        elasticsearch_password: variable,
            "password of `--username`, or a file that holds it",
            takes(Text("WORD")).or(&["ELASTICSEARCH_PASSWORD", "ELASTICSEARCH_PASSWORD_FILE"]);
        elasticsearch_bearer_token: variable,
            "bearer token, or a file that holds it",
            takes(Text("TOKEN")).or(&["ELASTICSEARCH_BEARER_TOKEN", "ELASTICSEARCH_BEARER_TOKEN_FILE"]);
        aws_sigv4: option String,
            "sign requests for Amazon OpenSearch Service (`es`) or Serverless (`aoss`) with AWS credentials; the \
             region is taken from the host name, else from `AWS_REGION`",
            takes(Words(AwsService::WORDS)).or(&["ELASTICSEARCH_AWS_SIGV4"]);
        no_auth: switch bool,
            "send no credentials (for a cluster without security)",
            takes(Switch);
        ca_cert: option String,
            "PEM file of certificates to trust for Elasticsearch and S3 besides the system's: roots, or the server's \
             own self-signed certificate",
            takes(File).or(&["ELASTICSEARCH_CA_CERT"]);
        ca_fingerprint: option String,
            "SHA-256 fingerprint of the only certificate to trust, as Elasticsearch prints it when it first starts",
            takes(Text("HEX")).or(&["ELASTICSEARCH_CA_FINGERPRINT"]);
        client_cert: option String,
            "PEM file of the client certificate for Elasticsearch",
            takes(File).or(&["ELASTICSEARCH_CLIENT_CERT"]);
        client_key: option String,
            "PEM file of the private key of `--client-cert`",
            takes(File).or(&["ELASTICSEARCH_CLIENT_KEY"]);
        proxy: option String,
            "HTTP proxy for Elasticsearch and S3, except for hosts in `NO_PROXY`; `HTTPS_PROXY` is ignored",
            takes(Text("URL")).or(&["INGEST_PROXY"]);
        skip_tls_verify: switch bool, "do not check certificates (for development only)", takes(Switch);
        create_indices: option bool, "create missing indices and aliases",
            takes(Switch).or(&["CREATE_INDICES"]);
        posts_index: option String, "index or alias that posts are written to",
            takes(Text("NAME")).or(&["POSTS_INDEX"]).default("posts");
        tombstones_index: option String, "index or alias that tombstones are written to",
            takes(Text("NAME")).or(&["TOMBSTONES_INDEX"]).default("post_tombstones");
        pipeline: option String,
            "ingest pipeline for bulk requests, instead of the index's default (`_none`: no pipeline)",
            takes(Text("NAME")).or(&["INGEST_PIPELINE"]);
        exclude_field: several String,
            "leave a field out of post documents, such as `thread_root_post` or `embeddings.all_MiniLM_L6_v2`; repeat it \
             or use commas for several",
            takes(Text("NAME")).or(&["EXCLUDE_FIELDS"]);
        add_field: several String,
            "add a field to post documents: `langs`, `hashtags`, `links`, `mentions`, `media`, `external_embed`, \
             `video_transcript` or `vector:MODEL`; repeat it or use commas for several",
            takes(Text("NAME")).or(&["ADD_FIELDS"]);
        vector_encoding: option String,
            "`array`, `base64` (half the bytes, from Elasticsearch 9.3 on), or `auto`, which tests what the \
             server accepts",
            takes(Words(VectorChoice::WORDS)).or(&["VECTOR_ENCODING"]).default("auto");
        max_rejected: option String,
            "stop if more than N rows, or more than P % of the rows, are rejected (fewer than 1000 rows count as 1000)",
            takes(Text("N|P%")).or(&["MAX_REJECTED"]);
        account_deletions: option bool, "also delete the posts of deleted accounts",
            takes(Switch).or(&["ACCOUNT_DELETIONS"]);
        bulk_load_settings: option bool, "tune refresh and replicas for a first load, and restore them when the run ends",
            takes(Switch).or(&["BULK_LOAD_SETTINGS"]);
        retry_budget: option String,
            "seconds to wait for an unavailable Elasticsearch or S3 in mode `once`; mode `spool` waits \
             without limit",
            takes(Number("SEC", 0, u64::MAX)).or(&["RETRY_BUDGET_SEC"]).default("600");
    }
    "Speed and memory" {
        workers: option String, "number of archives decoded in parallel",
            takes(Number("N", 1, 1024)).or(&["WORKERS"]).default("cores");
        senders: option String,
            "maximum number of concurrent bulk requests; `auto`: 4 to 16, as many as make the load faster",
            takes(NumberOrAuto("N|auto", 1, 256)).or(&["SENDERS"]).default("4");
        batch_docs: option String,
            "maximum number of actions in a bulk request; 500 by default with `--bulk-load-settings`",
            takes(Number("N", 1, 100_000)).or(&["BATCH_DOCS"]).default("100");
        batch_bytes: option String, "maximum size of a bulk request in bytes, uncompressed",
            takes(Number("N", 1 << 10, 1 << 30)).or(&["BATCH_BYTES"]).default("8388608");
        compress: option String,
            "gzip level of bulk requests; 0: no compression",
            takes(Number("0..9", 0, 9)).or(&["COMPRESSION_LEVEL"]).default("0");
        memory: option String,
            "memory for all archives being read, in bytes, `KiB`, `MiB` or `GiB`; `auto`: three quarters of the memory \
             of the container or machine",
            takes(Text("SIZE")).or(&["MEMORY_LIMIT"]).default("auto");
    }
    "Files and logs" {
        spool_state_file: variable, "file that records which archives are done",
            takes(File).or(&["SPOOL_STATE_FILE", "MEGASTREAM_STATE_FILE"]).default(".processed_files.json");
        spool_interval: variable, "seconds between looks for new archives in mode `spool`",
            takes(Number("SEC", 1, u64::MAX)).or(&["SPOOL_INTERVAL_SEC"]).default("60");
        dead_letter: option String,
            "file for rejected rows, one JSON object per line; with `--replay` the default is the replayed file's name \
             with `.failed` appended",
            takes(File).or(&["DEAD_LETTER_FILE"]).default(".dead_letters.ndjson");
        summary_json: option String, "file for the summary of the run (`-`: standard output)",
            takes(File).or(&["SUMMARY_JSON"]);
        metrics_file: option String, "file for metrics in Prometheus text format, written every ten seconds",
            takes(File).or(&["METRICS_FILE"]);
        listen: option String,
            "serve `/metrics`, `/healthz` and `/readyz` over HTTP; a port alone means 127.0.0.1, an address alone \
             means port 9464",
            takes(Text("ADDR")).or(&["LISTEN_ADDRESS"]);
        quiet: switch bool,
            "leave out the line of each archive; progress, warnings, errors and the final table are still printed",
            takes(Switch);
        logging_enabled: variable, "`false`: no log and no progress; `RUST_LOG` sets log levels",
            takes(Switch).or(&["LOGGING_ENABLED"]).default("true");
        log_format: variable, "`json`: one JSON object per line on standard error, and no progress bar",
            takes(Words(LogFormat::WORDS)).or(&["LOG_FORMAT"]).default("text");
    }
    "Help" {
        help: trigger "--help", "print this help (also `-h`)", takes(Switch);
        version: switch bool, "print the version and the commit it was built from", takes(Switch);
    }
}
