//! Every flag and variable. This is the one place where a name, a default, a range or a text is written.
//!
//! How to add one: `CONTRIBUTING.md`.

use super::choices::{Addressing, AwsService, Choice, LogFormat, Mode, Payer, Place, VectorChoice};
use super::entry::Value::{File, Number, Switch, Text, Words};
use super::entry::{Entry, Group, settings, takes};

/// The arguments that are no flags.
pub fn paths() -> &'static Entry {
    static ENTRY: Entry = Entry {
        name: "paths",
        text: "folders with archives, or files named `*.db.zip`",
        ..takes(Text("PATH")).or(&["LOCAL_SQLITE_DB_PATH"])
    };
    &ENTRY
}

settings! {
    "What is done" {
        mode: option String,
            "`once`: take up what is there, then end; `spool`: go on looking for new archives, but for a dry run, \
             which looks once",
            takes(Words(Mode::WORDS)).default("once");
        dry_run: switch bool, "do everything but write to Elasticsearch; honours the state file, writes none",
            takes(Switch);
        output: option String,
            "with `--dry-run`: write the bulk NDJSON there; with `--verify`: the differences (`-`: standard output)",
            takes(File);
        check: switch bool, "check settings, source, disk, Elasticsearch, privileges and mapping, then end",
            takes(Switch);
        list: switch bool, "print what would be taken up, and why the rest is not", takes(Switch);
        json: switch bool, "with `--list`: one JSON object a line", takes(Switch);
        verify: switch bool, "compare the index with the archives, whatever the state file says; reads only",
            takes(Switch);
        repair: switch bool, "with `--verify`: send what differs again, and look again", takes(Switch);
        replay: option String, "send the documents of a dead-letter file again, under the same versions",
            takes(File);
    }
    "Archives" {
        source: option String, "where archives come from", takes(Words(Place::WORDS)).default("local");
        s3_sqlite_db: variable,
            "needed with `--source s3`: the bucket, and what the keys of archives begin with (empty: the whole bucket)",
            takes(Text("NAME")).or(&["S3_SQLITE_DB_BUCKET", "S3_SQLITE_DB_PREFIX"]);
        aws_region: variable, "region of the bucket; without them that of the profile",
            takes(Text("NAME")).or(&["AWS_REGION", "AWS_DEFAULT_REGION"]).default("us-east-1");
        aws_s3_keys: variable,
            "credentials for S3; without them `AWS_ACCESS_KEY_ID` and the like, `AWS_PROFILE`, a web identity, a \
             container's, an instance's; with `_FILE` behind the name: a file that holds it",
            takes(Text("KEY")).or(&["AWS_S3_ACCESS_KEY", "AWS_S3_SECRET_KEY"]).default("the AWS chain");
        s3_anonymous: option bool, "do not sign requests to S3, for public buckets",
            takes(Switch).or(&["AWS_S3_ANONYMOUS"]);
        aws_endpoint_url: variable, "S3-compatible server, or an endpoint of AWS by its name",
            takes(Text("URL")).or(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
        s3_addressing: option String,
            "where the bucket's name goes: into the path, or into the host's name; `auto`: into the host's name on AWS",
            takes(Words(Addressing::WORDS)).or(&["S3_ADDRESSING"]).default("auto");
        aws_ca_bundle: variable, "roots to trust besides the system's for S3, PEM, in place of `--ca-cert`",
            takes(File).or(&["AWS_CA_BUNDLE"]);
        s3_request_payer: variable, "`requester`: who asks pays, as far as the server takes that; `none`: who owns the bucket",
            takes(Words(Payer::WORDS)).or(&["S3_REQUEST_PAYER"]).default("requester");
        from: option String,
            "take only archives of this time or later: that in their names (UTC), as RFC 3339 or a date",
            takes(Text("TIME")).or(&["FROM_TIME"]);
        to: option String, "take only archives of earlier times than this",
            takes(Text("TIME")).or(&["TO_TIME"]);
        limit: option String, "take at most N archives, the oldest first; once only",
            takes(Number("N", 1, 1 << 32));
        shard: option String, "take only archives whose name hashes to I of N",
            takes(Text("I/N")).or(&["SHARD"]).default("0/1");
        kubernetes_shard: variable, "I and N of `--shard`, where neither that nor `SHARD` is given",
            takes(Text("N")).or(&["JOB_COMPLETION_INDEX", "SHARD_COUNT"]);
        retry_failed: switch bool, "take up archives that the state file calls failed, too", takes(Switch);
    }
    "Elasticsearch" {
        elasticsearch_url: variable,
            "base URL, or several separated by commas: nodes of one cluster; needed unless `--dry-run` or `--list`",
            takes(Text("URL")).or(&["ELASTICSEARCH_URL"]);
        elasticsearch_cloud_id: variable,
            "address of an Elastic Cloud deployment, in place of the URL",
            takes(Text("ID")).or(&["ELASTICSEARCH_CLOUD_ID"]);
        elasticsearch_api_key: variable,
            "API key: its `encoded` value or `id:api_key`, or a file that holds it; this, or one of the next four, says \
             who the run is",
            takes(Text("KEY")).or(&["ELASTICSEARCH_API_KEY", "ELASTICSEARCH_API_KEY_FILE"]);
        username: option String,
            "basic authentication; also as `user:password@` in the URL",
            takes(Text("NAME")).or(&["ELASTICSEARCH_USERNAME"]);
        elasticsearch_password: variable,
            "password of `--username`, or a file that holds it",
            takes(Text("WORD")).or(&["ELASTICSEARCH_PASSWORD", "ELASTICSEARCH_PASSWORD_FILE"]);
        elasticsearch_bearer_token: variable,
            "bearer token, or a file that holds it",
            takes(Text("TOKEN")).or(&["ELASTICSEARCH_BEARER_TOKEN", "ELASTICSEARCH_BEARER_TOKEN_FILE"]);
        aws_sigv4: option String,
            "sign requests for Amazon OpenSearch Service or Serverless with the AWS chain; the region is the host \
             name's, else `AWS_REGION`",
            takes(Words(AwsService::WORDS)).or(&["ELASTICSEARCH_AWS_SIGV4"]);
        no_auth: switch bool,
            "no authentication (a cluster without security)",
            takes(Switch);
        ca_cert: option String,
            "certificates to trust besides the system's roots, for Elasticsearch and S3, PEM: roots, or the server's own \
             self-signed one",
            takes(File).or(&["ELASTICSEARCH_CA_CERT"]);
        ca_fingerprint: option String,
            "SHA-256 of a certificate of Elasticsearch's chain, as it prints it at its first start: the only one to trust",
            takes(Text("HEX")).or(&["ELASTICSEARCH_CA_FINGERPRINT"]);
        client_cert: option String,
            "certificate of this client, PEM, for Elasticsearch",
            takes(File).or(&["ELASTICSEARCH_CLIENT_CERT"]);
        client_key: option String,
            "key of `--client-cert`, PEM",
            takes(File).or(&["ELASTICSEARCH_CLIENT_KEY"]);
        proxy: option String,
            "HTTP proxy for Elasticsearch and S3, but for hosts in `NO_PROXY`; `HTTPS_PROXY` alone does nothing",
            takes(Text("URL")).or(&["INGEST_PROXY"]);
        skip_tls_verify: switch bool, "no certificate check (development only)", takes(Switch);
        create_indices: option bool, "create missing indices and aliases",
            takes(Switch).or(&["CREATE_INDICES"]);
        posts_index: option String, "index or alias that posts are written to",
            takes(Text("NAME")).or(&["POSTS_INDEX"]).default("posts");
        tombstones_index: option String, "index or alias that tombstones are written to",
            takes(Text("NAME")).or(&["TOMBSTONES_INDEX"]).default("post_tombstones");
        pipeline: option String,
            "ingest pipeline of bulk requests in place of the index's default (`_none`: none)",
            takes(Text("NAME")).or(&["INGEST_PIPELINE"]);
        exclude_field: several String,
            "leave a field out of post documents, as `thread_root_post` or `embeddings.all_MiniLM_L6_v2`; again, or with \
             commas, for several",
            takes(Text("NAME")).or(&["EXCLUDE_FIELDS"]);
        add_field: several String,
            "a further field of post documents: `langs`, `hashtags`, `links`, `mentions`, `media`, `external_embed`, \
             `video_transcript`, `vector:MODEL`; again, or with commas, for several",
            takes(Text("NAME")).or(&["ADD_FIELDS"]);
        vector_encoding: option String,
            "`array`; `base64`: half the bytes to send, for Elasticsearch 9.3 and newer; `auto` finds out",
            takes(Words(VectorChoice::WORDS)).or(&["VECTOR_ENCODING"]).default("auto");
        max_rejected: option String,
            "stop when more rows than that are rejected, or more than that share of them, where fewer than 1000 rows count as \
             1000",
            takes(Text("N|P%")).or(&["MAX_REJECTED"]);
        account_deletions: option bool, "a deleted account's posts are deleted, too",
            takes(Switch).or(&["ACCOUNT_DELETIONS"]);
        bulk_load_settings: option bool, "refresh, replicas and durability tuned for a first load, put back at every exit",
            takes(Switch).or(&["BULK_LOAD_SETTINGS"]);
        retry_budget: option String,
            "once: how long an unavailable Elasticsearch or S3 is waited for (spool: for ever)",
            takes(Number("SEC", 0, u64::MAX)).or(&["RETRY_BUDGET_SEC"]).default("600");
    }
    "Speed and memory" {
        workers: option String, "archives decoded in parallel",
            takes(Number("N", 1, 1024)).or(&["WORKERS"]).default("cores");
        senders: option String, "concurrent bulk requests at most",
            takes(Number("N", 1, 256)).or(&["SENDERS"]).default("4");
        batch_docs: option String, "actions a bulk request holds at most; with `--bulk-load-settings` 500 by default",
            takes(Number("N", 1, 100_000)).or(&["BATCH_DOCS"]).default("100");
        batch_bytes: option String, "bytes a bulk request holds at most, uncompressed",
            takes(Number("N", 1 << 10, 1 << 30)).or(&["BATCH_BYTES"]).default("8388608");
        compress: option String,
            "gzip level of bulk requests; 0: they go as they are",
            takes(Number("0..9", 0, 9)).or(&["COMPRESSION_LEVEL"]).default("0");
        memory: option String,
            "what archives being read may take together, in bytes, `KiB`, `MiB` or `GiB`; `auto`: three quarters of the \
             container's or machine's memory",
            takes(Text("SIZE")).or(&["MEMORY_LIMIT"]).default("auto");
    }
    "Files and logs" {
        spool_state_file: variable, "which archives are done",
            takes(File).or(&["SPOOL_STATE_FILE"]).default(".processed_files.json");
        spool_interval: variable, "seconds between two looks for new archives",
            takes(Number("SEC", 1, u64::MAX)).or(&["SPOOL_INTERVAL_SEC"]).default("60");
        dead_letter: option String,
            "rejected rows, one JSON object a line; with `--replay`, by default, the replayed file's name and `.failed`",
            takes(File).or(&["DEAD_LETTER_FILE"]).default(".dead_letters.ndjson");
        summary_json: option String, "the run's summary (`-`: standard output)",
            takes(File).or(&["SUMMARY_JSON"]);
        metrics_file: option String, "figures in Prometheus text format, every ten seconds",
            takes(File).or(&["METRICS_FILE"]);
        listen: option String,
            "serve `/metrics`, `/healthz` and `/readyz` over HTTP; a port alone is one of 127.0.0.1, an address alone has \
             port 9464",
            takes(Text("ADDR")).or(&["LISTEN_ADDRESS"]);
        quiet: switch bool, "no line for each archive; progress, warnings, errors and the end stay",
            takes(Switch);
        logging_enabled: variable, "`false`: no log, no progress; `RUST_LOG` chooses levels",
            takes(Switch).or(&["LOGGING_ENABLED"]).default("true");
        log_format: variable, "`json`: one JSON object a line on standard error, and no progress bar",
            takes(Words(LogFormat::WORDS)).or(&["LOG_FORMAT"]).default("text");
    }
    "Help" {
        help: trigger "--help", "print this help; so does `-h`", takes(Switch);
        version: switch bool, "print the version and the commit it was built from", takes(Switch);
    }
}
