//! All kinds of credentials: valid, refused, missing, incomplete and doubled. No output contains a secret.

use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::harness::archives::Archive;
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::recorder::Recorder;
use crate::harness::script::Fault;
use crate::harness::{Invocation, Run, TestEnv, posts};

/// A kind of credentials: its settings, the `Authorization` header it sends, and the setting that messages name.
struct Credential {
    variables: &'static [(&'static str, &'static str)],
    arguments: &'static [&'static str],
    sends: Option<String>,
    setting: &'static str,
}

const KEY_ID: &str = "id-of-the-planted-key";
const KEY: &str = "planted+key/secret";
const PASSWORD: &str = "planted pass:word/1";
const TOKEN: &str = "planted.bearer.token";
const ENCODED_KEY: &str = "aWQtb2YtdGhlLXBsYW50ZWQta2V5OnBsYW50ZWQra2V5L3NlY3JldA==";

fn credentials() -> [Credential; 5] {
    let basic = Some(format!("Basic {}", STANDARD.encode(format!("loader:{PASSWORD}"))));
    [
        Credential {
            variables: &[("ELASTICSEARCH_API_KEY", ENCODED_KEY)],
            arguments: &[],
            sends: Some(format!("ApiKey {ENCODED_KEY}")),
            setting: "ELASTICSEARCH_API_KEY",
        },
        Credential {
            variables: &[("ELASTICSEARCH_API_KEY", "id-of-the-planted-key:planted+key/secret\n")],
            arguments: &[],
            sends: Some(format!("ApiKey {ENCODED_KEY}")),
            setting: "ELASTICSEARCH_API_KEY",
        },
        Credential {
            variables: &[("ELASTICSEARCH_PASSWORD", " planted pass:word/1\n")],
            arguments: &["--username", "loader"],
            sends: basic,
            setting: "ELASTICSEARCH_PASSWORD",
        },
        Credential {
            variables: &[("ELASTICSEARCH_BEARER_TOKEN", TOKEN)],
            arguments: &[],
            sends: Some(format!("Bearer {TOKEN}")),
            setting: "ELASTICSEARCH_BEARER_TOKEN",
        },
        Credential { variables: &[], arguments: &["--no-auth"], sends: None, setting: "--no-auth" },
    ]
}

fn env() -> (TestEnv, Vec<Archive>) {
    let archives = vec![Archive::new("20251218_000000").with_all(posts("p", 10))];
    (TestEnv::with_archives(&archives), archives)
}

/// A run without credentials, at the highest log level.
fn bare(env: &TestEnv) -> Invocation<'_> {
    env.ingest().without("ELASTICSEARCH_API_KEY").var("RUST_LOG", "trace,ureq=trace,rustls=trace")
}

fn with<'e>(invocation: Invocation<'e>, credential: &Credential) -> Invocation<'e> {
    let invocation = invocation.args(credential.arguments);
    credential.variables.iter().fold(invocation, |invocation, (name, value)| invocation.var(name, value))
}

/// Asserts that no output contains a secret: as it is, percent-encoded, or in base64.
#[track_caller]
fn check_secrets(env: &TestEnv, run: &Run) {
    let mut written = format!("{}\n{}", run.stdout, run.stderr);
    for entry in std::fs::read_dir(env.path("")).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        if !entry.file_name().to_string_lossy().starts_with("planted") {
            written += &String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap());
        }
    }
    let percent = |text: &str| -> String {
        let one = |byte: u8| {
            if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
        };
        text.bytes().map(one).collect()
    };
    for secret in [KEY, PASSWORD, TOKEN, ENCODED_KEY, AWS_SECRET, AWS_TOKEN, "new+secret/of+file"] {
        let pairs = [format!("loader:{secret}"), format!("{KEY_ID}:{secret}"), secret.to_owned()];
        let mut forms =
            vec![secret.to_owned(), percent(secret), percent(secret).replace("%2D", "-").replace("%2E", ".")];
        forms.extend(pairs.iter().map(|pair| STANDARD.encode(pair).trim_end_matches('=').to_owned()));
        for form in forms {
            run.check(!written.contains(&form), &format!("{form} is nowhere"));
        }
    }
}

#[test]
fn every_credential_works_and_a_refused_one_names_its_setting() {
    for credential in credentials() {
        let (env, archives) = env();
        env.fake.admit(credential.sends.as_deref());
        let run = with(bare(&env), &credential).args(&["--create-indices"]).run().exits(0);
        check_secrets(&env, &run);
        assert_holds(&env.fake, &archives);
        with(bare(&env), &credential).args(&["--check"]).run().exits(0);
        env.fake.admit(Some("another program"));
        for task in [&["--check"][..], &[]] {
            let run = with(bare(&env), &credential).args(task).run().exits(5).says(credential.setting);
            check_secrets(&env, &run);
            let has_key = credential.setting.contains("KEY");
            run.check(
                has_key || !run.stderr.to_lowercase().contains("the key"),
                "no key is named without a key",
            );
        }
    }
}

#[test]
fn a_refusal_during_a_run_names_the_setting() {
    for credential in credentials() {
        let (env, _) = env();
        env.fake.admit(credential.sends.as_deref());
        env.fake.fail_bulks(usize::MAX, Fault::status(401));
        let run = with(bare(&env), &credential).run().exits(5).says(credential.setting);
        check_secrets(&env, &run);
    }
}

#[test]
fn two_credentials_or_none_are_usage_errors() {
    let (env, _) = env();
    for (n, one) in credentials().iter().enumerate() {
        for other in credentials().iter().skip(n + 1).filter(|other| other.setting != one.setting) {
            let run = with(with(bare(&env), one), other).run().exits(2).says("two ways");
            check_secrets(&env, &run);
        }
        let url = env.fake.url().replace("http://", "http://loader:planted%20pass%3Aword%2F1@");
        let run = with(bare(&env), one).var("ELASTICSEARCH_URL", &url).run().exits(2).says("two ways");
        check_secrets(&env, &run);
        let run = with(bare(&env), one).args(&["--aws-sigv4", "es"]).var("AWS_ACCESS_KEY_ID", "A");
        let run = run.var("AWS_SECRET_ACCESS_KEY", AWS_SECRET).run().exits(2).says("two ways");
        check_secrets(&env, &run);
    }
    let run = bare(&env).run().exits(2).says("--no-auth").says("--dry-run");
    run.check(run.stderr.contains("ELASTICSEARCH_API_KEY"), "all settings are named");
    bare(&env).args(&["--username", "loader"]).run().exits(2).says("ELASTICSEARCH_PASSWORD");
    let run = bare(&env).var("ELASTICSEARCH_PASSWORD", PASSWORD).run().exits(2).says("--username");
    check_secrets(&env, &run);
    assert!(env.fake.requests().is_empty());
    bare(&env).args(&["--dry-run"]).run().exits(0);
    bare(&env).args(&["--list"]).run().exits(0);
}

#[test]
fn user_and_password_in_the_url_are_never_shown() {
    let (env, archives) = env();
    let credential = &credentials()[2];
    env.fake.admit(credential.sends.as_deref());
    let url = env.fake.url().replace("http://", "http://loader:planted%20pass%3Aword%2F1@");
    let run = bare(&env).var("ELASTICSEARCH_URL", &url).run().exits(0);
    check_secrets(&env, &run);
    assert_holds(&env.fake, &archives);
    let several = format!("{url},{}", env.fake.url());
    let run = bare(&env).var("ELASTICSEARCH_URL", &several).args(&["--check"]).run().exits(0);
    check_secrets(&env, &run);
    env.fake.admit(None);
    let run =
        bare(&env).var("ELASTICSEARCH_URL", &url).run().exits(5).says("\"loader\"").says("ELASTICSEARCH_URL");
    check_secrets(&env, &run);
    // The URL has only the user; the password is a setting.
    env.fake.admit(credential.sends.as_deref());
    let url = env.fake.url().replace("http://", "http://loader@");
    let run = bare(&env).var("ELASTICSEARCH_URL", &url).var("ELASTICSEARCH_PASSWORD", PASSWORD);
    run.args(&["--check"]).run().exits(0);
}

#[test]
fn a_refused_secret_is_read_again_from_its_file() {
    for (setting, arguments, old, new) in [
        (
            "ELASTICSEARCH_API_KEY_FILE",
            &[][..],
            format!("ApiKey {ENCODED_KEY}"),
            "ApiKey bmV3K3NlY3JldC9vZitmaWxl",
        ),
        ("ELASTICSEARCH_PASSWORD_FILE", &["--username", "loader"], String::new(), ""),
        ("ELASTICSEARCH_BEARER_TOKEN_FILE", &[], format!("Bearer {TOKEN}"), "Bearer new+secret/of+file"),
    ] {
        let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("loader:{password}")));
        let (old_text, new_text) = match setting {
            "ELASTICSEARCH_API_KEY_FILE" => (ENCODED_KEY, "bmV3K3NlY3JldC9vZitmaWxl"),
            "ELASTICSEARCH_PASSWORD_FILE" => (PASSWORD, "new+secret/of+file"),
            _ => (TOKEN, "new+secret/of+file"),
        };
        let is_basic = setting.contains("PASSWORD");
        let (old, new) = if is_basic { (basic(old_text), basic(new_text)) } else { (old, new.to_owned()) };
        let (env, archives) = env();
        env.write("planted.secret", format!("  {old_text}\n"));
        env.fake.admit(Some(&old));
        env.fake.fail_bulks(usize::MAX, Fault::Delay(Duration::from_millis(100)));
        let invocation =
            bare(&env).var(setting, "planted.secret").args(arguments).args(&["--batch-docs", "1"]);
        let run = invocation.args(&["--senders", "2"]).start();
        env.fake.wait_for_bulks(2);
        env.write("planted.secret", new_text);
        env.fake.admit(Some(&new));
        let run = run.wait().exits(0).says("has changed");
        check_secrets(&env, &run);
        assert_holds(&env.fake, &archives);
        // The file and the variable are both set.
        let run =
            bare(&env).var(setting, "planted.secret").args(arguments).var(&setting.replace("_FILE", ""), "x");
        run.run().exits(2).says("both set");
        bare(&env).var(setting, "planted.nowhere").args(arguments).run().exits(2).says("planted.nowhere");
        env.write("planted.empty", "\n");
        bare(&env).var(setting, "planted.empty").args(arguments).run().exits(2).says("planted.empty");
    }
}

/// A server that quotes every request.
fn echo(status: u16) -> Recorder {
    Recorder::start(None, move |request: &Request| {
        let sent: Vec<_> = request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        Reply::error(status, "you_sent_exception", &sent.join(" "))
    })
}

#[test]
fn no_reply_reveals_a_secret() {
    let (env, _) = env();
    for status in [302, 400, 401, 403, 404, 500, 503] {
        let server = echo(status);
        for credential in credentials() {
            for task in [&["--check"][..], &["--create-indices"]] {
                let invocation =
                    with(bare(&env), &credential).var("ELASTICSEARCH_URL", &server.url()).args(task);
                let run = invocation.args(&["--retry-budget", "0"]).run();
                check_secrets(&env, &run);
            }
        }
        let invocation =
            signed(&env, "es").var("ELASTICSEARCH_URL", &server.url()).var("AWS_REGION", "eu-west-1");
        check_secrets(&env, &invocation.args(&["--retry-budget", "0"]).run());
    }
}

const AWS_SECRET: &str = "planted/aws+secret/key";
const AWS_TOKEN: &str = "planted/aws+session/token==";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Checks the signature of a request as its receiver does. The error says what is wrong. Written from "Create a signed
/// AWS API request", independently of the program.
fn verify(request: &Request, secret: &str, region: &str, service: &str) -> Result<(), String> {
    let header = |name: &str| request.header(name).ok_or(format!("no {name}"));
    let value = header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("another algorithm")?;
    let field = |name: &str| {
        let part = value.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        part.ok_or(format!("no {name}"))
    };
    let (date_time, hash) = (header("x-amz-date")?, header("x-amz-content-sha256")?);
    let date = &date_time[..8];
    let scope = format!("{date}/{region}/{service}/aws4_request");
    if field("Credential")? != format!("AKIDPLANTED/{scope}") {
        return Err(format!("Credential should be scoped to {scope}"));
    }
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let sent = time::PrimitiveDateTime::parse(date_time, format).map_err(|e| e.to_string())?.assume_utc();
    if (OffsetDateTime::now_utc() - sent).abs() > time::Duration::minutes(5) {
        return Err("Signature expired".to_owned());
    }
    if hash != sha256(&request.body) {
        return Err("another body".to_owned());
    }
    let names = field("SignedHeaders")?;
    for needed in ["host", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"] {
        let is_sent = request.header(needed).is_some();
        if is_sent && !names.split(';').any(|name| name == needed) {
            return Err(format!("{needed} is not signed"));
        }
    }
    let encode = |text: &str, slash: bool| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(byte).to_string()
                }
                b'/' if !slash => "/".to_owned(),
                byte => format!("%{byte:02X}"),
            })
            .collect()
    };
    let mut query: Vec<_> = request
        .query
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name, true), encode(value, true)))
        .collect();
    query.sort();
    let headers: Result<String, String> =
        names.split(';').map(|name| Ok(format!("{name}:{}\n", header(name)?.trim()))).collect();
    let canonical =
        [request.method.as_str(), &encode(&request.path, false), &query.join("&"), &headers?, names, hash]
            .join("\n");
    let to_sign = format!("AWS4-HMAC-SHA256\n{date_time}\n{scope}\n{}", sha256(canonical.as_bytes()));
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [date, region, service, "aws4_request", &to_sign] {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
    }
    if field("Signature")? == hex(&key) {
        Ok(())
    } else {
        Err("The request signature we calculated does not match".to_owned())
    }
}

fn amazon(status: u16, message: &str) -> Reply {
    Reply::json(status, &serde_json::json!({ "message": message }))
}

fn signed<'e>(env: &'e TestEnv, service: &str) -> Invocation<'e> {
    bare(env)
        .args(&["--aws-sigv4", service])
        .var("AWS_ACCESS_KEY_ID", "AKIDPLANTED")
        .var("AWS_SECRET_ACCESS_KEY", AWS_SECRET)
        .var("AWS_SESSION_TOKEN", AWS_TOKEN)
        .var("AWS_EC2_METADATA_DISABLED", "true")
}

#[test]
fn aws_signatures_pass_an_independent_verifier() {
    for (service, region) in [("es", "eu-west-1"), ("aoss", "us-east-1")] {
        let (env, archives) = env();
        env.fake.admit_by(move |request| {
            let verified = verify(request, AWS_SECRET, region, service);
            let has_token = request.header("x-amz-security-token") == Some(AWS_TOKEN);
            verified
                .and(if has_token { Ok(()) } else { Err("no token".into()) })
                .err()
                .map(|why| amazon(403, &why))
        });
        let run = signed(&env, service).var("AWS_REGION", region).args(&["--create-indices"]).run().exits(0);
        check_secrets(&env, &run);
        assert_holds(&env.fake, &archives);
        let other = if service == "es" { "aoss" } else { "es" };
        let run = signed(&env, other).var("AWS_REGION", region).run().exits(5).says("--aws-sigv4");
        check_secrets(&env, &run);
        let run = signed(&env, service).var("AWS_REGION", "sa-east-1").run().exits(5).says("AWS_REGION");
        check_secrets(&env, &run);
        let run =
            signed(&env, service).var("AWS_REGION", region).var("AWS_SECRET_ACCESS_KEY", "another").run();
        check_secrets(&env, &run.exits(5));
        let run = signed(&env, service).without("AWS_SECRET_ACCESS_KEY").run().exits(2);
        check_secrets(&env, &run);
    }
}

#[test]
fn a_refusal_by_amazon_suggests_aws_sigv4() {
    let (env, _) = env();
    for message in [
        "User: anonymous is not authorized to perform: es:ESHttpPost with an explicit deny",
        "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. (Authorization=ApiKey)",
        "'x' not a valid key=value pair (missing equal-sign) in Authorization header: 'ApiKey x'.",
    ] {
        env.fake.admit_by(move |_| Some(amazon(403, message)));
        for credential in credentials() {
            let run = with(bare(&env), &credential).run().exits(5).says("--aws-sigv4").says("--username");
            check_secrets(&env, &run);
        }
    }
    env.fake.admit_by(|_| {
        Some(amazon(403, "User: arn:aws:iam::1:user/x is not authorized to perform: es:ESHttpPost"))
    });
    signed(&env, "es").run().exits(5).says("es:ESHttp*");
}
