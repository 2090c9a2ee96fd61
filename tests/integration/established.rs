//! The commands of the established tool's page work here as that page says: its flags and variables, once and spooling,
//! from a folder and from a bucket. Only the paths of the program, the server and the bucket are replaced.
//!
//! Source: `ingest/cmd/megastream_ingest/README.md` and `ingest/README.md` of github.com/greenearth-social/ingex, under
//! "Basic Usage", "Examples", "Example Configuration", "Continuous Ingestion" and "Testing".

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use crate::harness::archives::Archive;
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::recorder::{Recorder, tls_of_localhost};
use crate::harness::s3::{ACCESS_KEY, BUCKET, FakeS3, SECRETS};
use crate::harness::{Invocation, Run, STATE_FILE, TestEnv, posts};

/// The examples' settings for a folder.
const LOCAL: &str = r#"
export LOCAL_SQLITE_DB_PATH="./test_data"
export ELASTICSEARCH_URL="https://localhost:9200"
export ELASTICSEARCH_API_KEY="your-api-key"
export LOGGING_ENABLED="true"
"#;

/// The examples' settings for a bucket.
const S3: &str = r#"
export S3_SQLITE_DB_BUCKET="my-bucket"
export S3_SQLITE_DB_PREFIX="megastream/databases/"
export AWS_REGION="us-west-2"
export ELASTICSEARCH_URL="https://my-cluster.es.amazonaws.com:9200"
export ELASTICSEARCH_API_KEY="your-api-key"
"#;

/// The examples' settings for continuous monitoring.
const MONITORING: &str = r#"
export SPOOL_INTERVAL_SEC="300"
export LOCAL_SQLITE_DB_PATH="/data/megastream"
export ELASTICSEARCH_URL="https://localhost:9200"
export ELASTICSEARCH_API_KEY="your-api-key"
"#;

/// A folder with the program and `test_data`, an Elasticsearch behind TLS, and a bucket.
struct Reader {
    env: TestEnv,
    server: Recorder,
    s3: FakeS3,
}

impl Reader {
    fn new() -> Self {
        let env = TestEnv::new();
        env.fake.admit(Some("ApiKey your-api-key"));
        for (target, name) in [
            (env!("CARGO_BIN_EXE_megastream_ingest").into(), "megastream_ingest"),
            (Path::new(env!("CARGO_MANIFEST_DIR")).join("test_data"), "test_data"),
        ] {
            std::os::unix::fs::symlink(target, env.path(name)).unwrap();
        }
        let (config, certificate) = tls_of_localhost();
        env.write("ca.pem", certificate);
        let address = env.fake.url().replace("http://", "");
        let server = Recorder::start(Some(config), move |request| forward(&address, request));
        let s3 = FakeS3::start();
        s3.set_region("us-west-2");
        Self { env, server, s3 }
    }

    /// Puts archives into the bucket.
    fn put(&self, archives: &[Archive]) {
        for archive in archives {
            self.s3.put(&format!("megastream/databases/{}", archive.name()), archive.zip());
        }
    }

    /// Runs a command of the page with its settings.
    fn invocation(&self, settings: &str, command: &str) -> Invocation<'_> {
        let script = [
            ("https://localhost:9200", self.server.url().as_str()),
            ("https://my-cluster.es.amazonaws.com:9200", &self.server.url()),
            ("/data/megastream", "archives"),
            ("/path/to/megastream/", "archives/"),
            ("my-bucket", BUCKET),
            ("go run cmd/megastream_ingest/main.go", "./megastream_ingest"),
            // With `exec`, a signal reaches the program, not the shell.
            ("./megastream_ingest", "exec ./megastream_ingest"),
        ]
        .iter()
        .fold(format!("{settings}{command}"), |script, (told, here)| script.replace(told, here));
        self.env
            .ingest()
            .without("ELASTICSEARCH_URL")
            .without("ELASTICSEARCH_API_KEY")
            .without("LOCAL_SQLITE_DB_PATH")
            // The page does not set these: the trusted CA, and the credential chain of AWS.
            .var("ELASTICSEARCH_CA_CERT", if command.contains("--skip-tls-verify") { "" } else { "ca.pem" })
            .var("AWS_ENDPOINT_URL_S3", &self.s3.url())
            .var("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .var("AWS_SECRET_ACCESS_KEY", SECRETS[0])
            .in_shell(&script)
    }

    fn run(&self, settings: &str, command: &str) -> Run {
        self.invocation(settings, command).run()
    }

    /// Spools until these archives are processed.
    fn spool(&self, settings: &str, command: &str, archives: &[Archive]) {
        let running = self.invocation(settings, command).start();
        self.env.wait_for_processed(archives);
        running.signal("TERM");
        running.wait().exits(0);
        assert_holds(&self.env.fake, archives);
    }
}

/// Forwards a request to the fake, which speaks plain HTTP.
fn forward(address: &str, request: &Request) -> Reply {
    let encoded = |text: &str| megastream_ingest::common::text::percent_encoded(text);
    let path: Vec<String> = request.path.split('/').map(encoded).collect();
    let query: Vec<String> =
        request.query.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    let mut head = format!("{} {}?{} HTTP/1.1\r\n", request.method, path.join("/"), query.join("&"));
    let kept = |name: &str| !["content-length", "transfer-encoding", "expect", "connection"].contains(&name);
    for (name, value) in request.headers.iter().filter(|(name, _)| kept(name)) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", request.body.len()));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&[head.as_bytes(), &request.body].concat()).unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "x-elastic-product" => headers.push(("X-elastic-product", value.to_owned())),
            "content-type" => headers.push(("Content-Type", value.to_owned())),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    Reply { status, headers, body }
}

fn archives() -> [Archive; 2] {
    ["20251218_000000", "20251218_000100"].map(|time| Archive::new(time).with_all(posts(time, 3)))
}

/// Asserts that the sample archive was read to its end.
fn assert_sample_was_read(run: &Run) {
    run.counts(&[("archives.processed", 1), ("archives.failed", 0), ("rows.rejected", 0)]);
    run.check(run.count("rows.read") > 0, "rows are read");
}

#[test]
fn a_dry_run_reads_the_sample_data_without_a_server() {
    let reader = Reader::new();
    for script in [
        "LOCAL_SQLITE_DB_PATH=./test_data ./megastream_ingest --source local --mode once --dry-run",
        "export LOCAL_SQLITE_DB_PATH=\"./test_data\"
         go run cmd/megastream_ingest/main.go --source local --mode once --dry-run",
    ] {
        assert_sample_was_read(&reader.run("", script).exits(0));
    }
    assert!(reader.env.fake.requests().is_empty() && reader.server.connections() == 0);
}

#[test]
fn local_files_are_processed_once_with_and_without_tls_verification() {
    for command in [
        "./megastream_ingest --source local --mode once",
        "# Run against local ES cluster\n./megastream_ingest --source local --mode once --skip-tls-verify",
    ] {
        let reader = Reader::new();
        let run = reader.run(LOCAL, command).exits(0);
        assert_sample_was_read(&run);
        assert!(!reader.env.fake.documents("posts").is_empty());
        // The page says that the state file is in the current folder.
        assert_eq!(reader.env.state().len(), 1);
        run.check(
            run.stderr.contains("WARN") == command.contains("--skip-tls-verify"),
            "one warning, if any",
        );
    }
}

#[test]
fn local_files_are_monitored() {
    for (settings, command) in [
        (MONITORING, "./megastream_ingest --source local --mode spool"),
        (
            "export LOCAL_SQLITE_DB_PATH=\"/path/to/megastream/\"
             export ELASTICSEARCH_URL=\"https://localhost:9200\"
             export ELASTICSEARCH_API_KEY=\"your-api-key\"
             export SPOOL_INTERVAL_SEC=\"300\"  # Check every 5 minutes\n",
            "# Local source\n./megastream_ingest --source local --mode spool",
        ),
    ] {
        let reader = Reader::new();
        reader.env.add(&archives());
        reader.spool(settings, command, &archives());
        assert!(reader.env.path(STATE_FILE).exists());
    }
}

#[test]
fn a_bucket_is_processed_once_and_monitored() {
    let reader = Reader::new();
    reader.put(&archives());
    let run = reader.run(S3, "# Run once\n./megastream_ingest --source s3 --mode once").exits(0);
    run.counts(&[("archives.processed", 2), ("rows.indexed", 6)]);
    assert_holds(&reader.env.fake, &archives());
    // A spool run continues where the once run ended.
    let later =
        [archives().to_vec(), vec![Archive::new("20251218_000200").with_all(posts("later", 2))]].concat();
    reader.put(&later[2..]);
    reader.spool(S3, "./megastream_ingest --source s3 --mode spool", &later);
}

#[test]
fn variables_move_the_state_file_and_turn_off_logging() {
    let reader = Reader::new();
    let settings = LOCAL.replace("LOGGING_ENABLED=\"true\"", "LOGGING_ENABLED=\"false\"");
    let settings = format!("{settings}export SPOOL_STATE_FILE=\"elsewhere.json\"\n");
    let run = reader.run(&settings, "./megastream_ingest --source local --mode once").exits(0);
    assert!(!reader.env.path(STATE_FILE).exists() && reader.env.path("elsewhere.json").exists());
    run.check(run.stderr.is_empty(), "nothing is logged");
}
