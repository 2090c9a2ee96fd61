//! No output contains a credential. Secrets are in every setting, servers quote what they receive, everything fails in
//! turn, and all output at the highest log level is searched for every form of every secret.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::harness::archives::{Archive, post, unreadable};
use crate::harness::fake::API_KEY;
use crate::harness::http::{Reply, Request};
use crate::harness::recorder::Recorder;
use crate::harness::script::Fault;
use crate::harness::{Invocation, Run, TestEnv};

/// The decoded API key; the setting is its `encoded` value.
const API_KEY_PLAIN: &str = "planted-key-id:planted-key-secret";
const SECRET_KEY: &str = "planted/secret+access=key";
const OWN_SECRET_KEY: &str = "planted/own+secret=key";
const SESSION_TOKEN: &str = "planted/session+token==";
const PROFILE_SECRET: &str = "planted/profile+secret";
const IDENTITY_TOKEN: &str = "planted.identity.token";
const METADATA_TOKEN: &str = "planted-metadata-token";
const METADATA_SECRET: &str = "planted/metadata+secret";
const METADATA_SESSION: &str = "planted/metadata+session";
const CONTAINER_TOKEN: &str = "planted-container-token";
const PASSWORD: &str = "planted p@ss/word";

const ALL: [&str; 10] = [
    SECRET_KEY,
    OWN_SECRET_KEY,
    SESSION_TOKEN,
    PROFILE_SECRET,
    IDENTITY_TOKEN,
    METADATA_TOKEN,
    METADATA_SECRET,
    METADATA_SESSION,
    CONTAINER_TOKEN,
    PASSWORD,
];

/// The highest log level, also for parts of libraries. It must not override what the program allows the libraries to log.
const LOUDEST: &str = "trace,ureq=trace,ureq::run=trace,ureq::pool=trace,ureq::tls=trace,ureq_proto=trace,\
    ureq_proto::client=trace,ureq_proto::client::sendrequest=trace,ureq_proto::util=trace,rustls=trace,\
    rustls::client=trace,rustls::conn=trace,s3=trace,s3::signing=trace,quick_xml=trace,megastream_ingest=trace";

fn api_key() -> String {
    STANDARD.encode(API_KEY_PLAIN)
}

/// The forms in which a secret may appear: as it is, percent-encoded, in base64 (a password also with its user),
/// escaped for JSON and by Rust.
fn forms(secret: &str) -> Vec<String> {
    let percent = |keep: fn(u8) -> bool| -> String {
        let one = |byte: u8| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        secret.bytes().map(one).collect()
    };
    let mut forms = vec![
        secret.to_owned(),
        percent(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)),
        percent(|byte| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte)),
        secret.replace('/', "\\/"),
        secret.replace(' ', "+"),
        STANDARD.encode(secret),
        STANDARD.encode(format!("elastic:{secret}")),
        format!("{:?}", secret.as_bytes()),
    ];
    forms.extend(forms.clone().iter().map(|form| form.to_lowercase()));
    forms
}

/// The forms of all secrets.
static FORMS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let key = [API_KEY_PLAIN.to_owned(), api_key(), "planted-key-secret".to_owned()];
    let mut all: Vec<String> =
        ALL.iter().map(|secret| (*secret).to_owned()).chain(key).flat_map(|secret| forms(&secret)).collect();
    all.sort();
    all.dedup();
    all
});

/// Asserts that no file and no output of the run contains a secret.
#[track_caller]
fn check(env: &TestEnv, run: &Run, what: &str) {
    let mut written = vec![
        ("standard output".to_owned(), run.stdout.clone()),
        ("standard error".to_owned(), run.stderr.clone()),
    ];
    for entry in std::fs::read_dir(env.path("")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        // These files are the settings.
        if !name.starts_with("planted") {
            written.push((
                name,
                String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap_or_default()).into_owned(),
            ));
        }
    }
    for (place, text) in written {
        let text = format!("{text}\n{}", text.to_lowercase());
        // As bytes: a search for text is slow without optimization.
        let leaked =
            FORMS.iter().find(|form| memchr::memmem::find(text.as_bytes(), form.as_bytes()).is_some());
        run.check(leaked.is_none(), &format!("{what}: {place} has no secret in it, not {leaked:?}"));
    }
}

/// A server that quotes every request in all parts of its reply.
fn echo(status: u16) -> Recorder {
    Recorder::start(None, move |request: &Request| {
        let sent: Vec<String> =
            request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let sent = format!("{} {}", sent.join(" "), String::from_utf8_lossy(&request.body));
        let quoted = Reply::error(status, "you_sent_exception", &sent);
        if request.header("authorization").is_some_and(|value| value.starts_with("ApiKey")) {
            return quoted.with_header("location", "http://elsewhere.example/");
        }
        let xml =
            format!("<Error><Code>Quoted</Code><Message>{sent}</Message><Token-0>{sent}</Token-0></Error>");
        quoted.with_body(xml.as_bytes())
    })
}

fn env() -> TestEnv {
    let good = Archive::new("20251218_000000").with(post("a", "text")).with(unreadable("b", Some("no JSON")));
    let env = TestEnv::with_archives(&[good]);
    std::fs::write(env.path("archives/broken.db.zip"), "no zip").unwrap();
    env
}

/// Logs and writes as much as possible.
fn loud<'e>(env: &'e TestEnv) -> Invocation<'e> {
    env.ingest()
        .var("RUST_LOG", LOUDEST)
        .var("RUST_BACKTRACE", "full")
        .var("ELASTICSEARCH_API_KEY", &api_key())
        .var("RETRY_BUDGET_SEC", "0")
        .args(&["--metrics-file", "m.prom"])
}

const TASKS: [&[&str]; 6] =
    [&[], &["--check"], &["--list"], &["--dry-run"], &["--create-indices"], &["--bulk-load-settings"]];

#[test]
fn no_elasticsearch_reply_reveals_the_key() {
    let env = env();
    for status in [302, 400, 401, 403, 404, 408, 413, 429, 500, 503] {
        let server = echo(status);
        for task in TASKS {
            let run = loud(&env).var("ELASTICSEARCH_URL", &server.url()).args(task).run();
            check(&env, &run, &format!("status {status}, {task:?}"));
        }
        assert!(server.seen().contains(&api_key()), "the key was sent");
    }
}

#[test]
fn a_bulk_reply_that_quotes_the_key_does_not_reveal_it() {
    for status in [200, 400, 401, 413, 500] {
        let env = env();
        // The harness searches every run for this key.
        let quoted = Reply::error(status, "quoted", &format!("Authorization: ApiKey {API_KEY}"));
        env.fake.fail(Request::is_mget, 1, 1, Fault::Reply(quoted.clone()));
        env.fake.fail(Request::is_bulk, 0, 1, Fault::Reply(quoted));
        // A success may quote the key in an item, and so in a dead letter.
        env.fake.fail_items(|_| true, 1, 400, API_KEY);
        loud(&env).var("ELASTICSEARCH_API_KEY", API_KEY).args(&["--retry-budget", "5"]).run();
    }
}

#[test]
fn no_connection_error_reveals_a_key() {
    let env = env();
    env.write("planted.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let plain = echo(400);
    let with_tls = plain.url().replace("http:", "https:");
    for url in ["http://127.0.0.1:1", "http://nowhere.invalid:9200", "https://127.0.0.1:1", with_tls.as_str()]
    {
        for task in TASKS {
            let run = loud(&env).var("ELASTICSEARCH_URL", url).args(task).run();
            check(&env, &run, &format!("{url}, {task:?}"));
            let run =
                loud(&env).var("ELASTICSEARCH_URL", url).args(task).args(&["--ca-cert", "planted.pem"]).run();
            check(&env, &run, &format!("{url}, {task:?}, with a CA file that is none"));
        }
    }
}

#[test]
fn invalid_settings_are_reported_without_their_secrets() {
    let env = env();
    let encoded = "planted%20p%40ss%2Fword";
    let urls = [
        format!("http://elastic:{encoded}@127.0.0.1:1"),
        format!("https://elastic:{encoded}@127.0.0.1:1/path?x=y#z"),
        format!("http://elastic:{PASSWORD}@127.0.0.1:1"),
        format!("elastic:{encoded}@127.0.0.1:1"),
        format!("ftp://elastic:{encoded}@host"),
        format!("http://elastic:{encoded}@:0"),
        format!("http://127.0.0.1:1/?password={encoded}"),
        format!("http://127.0.0.1:1/#{encoded}"),
        format!("://{encoded}"),
    ];
    let names = [
        "ELASTICSEARCH_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_STS",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    for url in &urls {
        for name in names {
            let run =
                loud(&env).var(name, url).var("S3_SQLITE_DB_BUCKET", "bucket").var("S3_SQLITE_DB_PREFIX", "");
            let run = run.args(if name == "ELASTICSEARCH_URL" { &[] } else { &["--source", "s3"] }).run();
            run.check(run.code != Some(0), &format!("{name}={url} is refused"));
            check(&env, &run, &format!("{name}={url}"));
        }
    }
    for key in [format!("{}\n", api_key()), format!("{}\u{7f}", api_key()), format!("ä{}", api_key())] {
        for task in TASKS {
            let run = loud(&env).var("ELASTICSEARCH_API_KEY", &key).args(task).run();
            check(&env, &run, &format!("{key:?}, {task:?}"));
        }
    }
    for (name, value) in
        [("WORKERS", "x"), ("SPOOL_STATE_FILE", "/"), ("DEAD_LETTER_FILE", "no/folder"), ("SHARD", "9/2")]
    {
        let run = loud(&env).var(name, value).run().exits(2);
        check(&env, &run, name);
    }
}

/// A run with only these settings of the credential chain.
fn chain<'e>(env: &'e TestEnv, server: &Recorder, with: &[(&str, &str)]) -> Invocation<'e> {
    let url = server.url();
    let loud = loud(env)
        .args(&["--source", "s3"])
        .var("S3_SQLITE_DB_BUCKET", "bucket")
        .var("S3_SQLITE_DB_PREFIX", "")
        .var("AWS_ENDPOINT_URL", &url)
        .var("AWS_EC2_METADATA_SERVICE_ENDPOINT", &format!("{url}/imds"))
        .var("AWS_CONFIG_FILE", "planted.config");
    with.iter().fold(loud, |loud, (name, value)| loud.var(name, value))
}

#[test]
fn no_s3_reply_reveals_credentials() {
    let env = env();
    env.write(
        "planted.credentials",
        format!("[default]\naws_access_key_id = AKIDP\naws_secret_access_key = {PROFILE_SECRET}\n"),
    );
    env.write("planted.half", format!("[default]\naws_secret_access_key = {PROFILE_SECRET}\n"));
    env.write("planted.token", IDENTITY_TOKEN);
    let ways: [&[(&str, &str)]; 6] = [
        &[("AWS_S3_ACCESS_KEY", "AKIDO"), ("AWS_S3_SECRET_KEY", OWN_SECRET_KEY)],
        &[
            ("AWS_ACCESS_KEY_ID", "AKIDE"),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_SESSION_TOKEN", SESSION_TOKEN),
        ],
        &[("AWS_SHARED_CREDENTIALS_FILE", "planted.credentials")],
        &[("AWS_SHARED_CREDENTIALS_FILE", "planted.half"), ("AWS_PROFILE", "default")],
        &[("AWS_WEB_IDENTITY_TOKEN_FILE", "planted.token"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")],
        &[("AWS_SECRET_ACCESS_KEY", SECRET_KEY)],
    ];
    for status in [301, 400, 401, 403, 404, 429, 503] {
        let server = echo(status);
        for way in ways {
            for task in [&["--list"][..], &["--check"], &[]] {
                let run = chain(&env, &server, way).args(task).run();
                check(&env, &run, &format!("status {status}, {way:?}, {task:?}"));
            }
        }
        assert!(server.seen().contains(SESSION_TOKEN) && server.seen().contains(IDENTITY_TOKEN));
    }
    let nobody = echo(500);
    for way in ways {
        let run =
            chain(&env, &nobody, way).var("AWS_ENDPOINT_URL", "http://127.0.0.1:1").args(&["--list"]).run();
        check(&env, &run, &format!("nobody listens, {way:?}"));
    }
}

#[test]
fn no_metadata_or_container_reply_reveals_credentials() {
    let document = |expiration: &str| {
        format!(
            "{{\"AccessKeyId\":\"ASIAM\",\"SecretAccessKey\":\"{METADATA_SECRET}\",\"Token\":\"{METADATA_SESSION}\",\
             \"Expiration\":{expiration}}}"
        )
    };
    // A valid document, an expired one, one with a wrong type, and one that is cut off.
    let cut = document("\"2999-01-01T00:00:00Z\"").replace("\"Expiration\"", "");
    for document in
        [document("\"2999-01-01T00:00:00Z\""), document("\"2001-01-01T00:00:00Z\""), document("{}"), cut]
    {
        let env = env();
        let server = Recorder::start(None, move |request: &Request| {
            let text = |body: &str| Reply { status: 200, headers: vec![], body: body.as_bytes().to_vec() };
            match request.path.as_str() {
                "/imds/latest/api/token" => text(METADATA_TOKEN),
                "/imds/latest/meta-data/iam/security-credentials/" => text("a-role"),
                "/imds/latest/meta-data/iam/security-credentials/a-role" | "/container" => text(&document),
                _ => {
                    let sent: Vec<_> =
                        request.headers.iter().map(|(n, value)| format!("{n}: {value}")).collect();
                    let sent = sent.join(" ");
                    text("").with_body(
                        format!("<Error><Code>X</Code><Message>{sent}</Message></Error>").as_bytes(),
                    )
                }
            }
        });
        let container = format!("{}/container", server.url());
        let token = [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str()),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", CONTAINER_TOKEN),
        ];
        for way in [&[][..], &token] {
            for task in [&["--list"][..], &["--check"], &[]] {
                let run = chain(&env, &server, way).args(task).run();
                check(&env, &run, &format!("{way:?}, {task:?}"));
            }
        }
        assert!(server.seen().contains(METADATA_TOKEN) && server.seen().contains(CONTAINER_TOKEN));
    }
}
