//! Usage errors: what is refused, and with which message.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::harness::archives::{Archive, account_event};
use crate::harness::{STATE_FILE, TestEnv, posts};

fn env() -> TestEnv {
    TestEnv::with_archives(&[Archive::new("20251218_000000").with_all(posts("p", 2))])
}

/// Asserts exit code 2, a message that names the setting, and no request.
#[track_caller]
fn assert_refused(env: &TestEnv, run: &crate::harness::Run, setting: &str) {
    run.check(run.code == Some(2), "exit code 2");
    let said = run.stderr.to_lowercase();
    run.check(said.contains(&setting.to_lowercase()), &format!("standard error names {setting}"));
    run.check(run.stdout.is_empty(), "standard output is empty");
    run.check(env.fake.requests().is_empty(), "no request was sent");
    run.check(env.read(STATE_FILE).is_none(), "no state was written");
}

#[test]
fn wrong_flags_are_refused() {
    for (arguments, setting) in [
        (&["--frobnicate"][..], "frobnicate"),
        (&["--workers", "many"], "workers"),
        (&["--workers=0"], "workers"),
        (&["--senders", "0"], "senders"),
        (&["--senders=-1"], "senders"),
        (&["--batch-docs", "0"], "batch-docs"),
        (&["--batch-bytes", "1.5"], "batch-bytes"),
        (&["--source=foo"], "source"),
        (&["--mode", "never"], "mode"),
        (&["--vector-encoding", "hex"], "vector-encoding"),
        (&["--aws-sigv4", "s3"], "aws-sigv4"),
        (&["--retry-budget", "soon"], "retry-budget"),
        (&["--shard", "2/2"], "shard"),
        (&["--shard", "1"], "shard"),
        (&["--shard", "0/0"], "shard"),
        (&["--workers"], "workers"),
        (&["--output", "file.ndjson"], "output"),
        (&["--dry-run", "--output="], "--output"),
        (&["--summary-json="], "--summary-json"),
        (&["--dead-letter", ""], "--dead-letter"),
        (&["--metrics-file="], "--metrics-file"),
        (&["--replay="], "--replay"),
        (&["--ca-cert="], "--ca-cert"),
        (&["--pipeline="], "--pipeline"),
        (&["no/such/folder"], "no/such/folder"),
        (&["--ca-cert", "no-such.pem"], "no-such.pem"),
    ] {
        let env = env();
        assert_refused(&env, &env.run(arguments), setting);
    }
}

#[test]
fn wrong_variables_are_refused() {
    for (name, value) in [
        ("WORKERS", "0"),
        ("WORKERS", "two"),
        ("SENDERS", "0"),
        ("BATCH_DOCS", "-5"),
        ("BATCH_BYTES", "0"),
        ("SHARD", "3/2"),
        ("SHARD", "half"),
        ("RETRY_BUDGET_SEC", "ten"),
        ("SPOOL_INTERVAL_SEC", "never"),
        ("VECTOR_ENCODING", "hex"),
        ("LOG_FORMAT", "logfmt"),
        ("ELASTICSEARCH_URL", "no url"),
        ("ELASTICSEARCH_URL", "ftp://127.0.0.1/"),
        ("LOCAL_SQLITE_DB_PATH", "no/such/folder"),
    ] {
        let env = env();
        assert_refused(&env, &env.ingest().var(name, value).run(), name);
    }
}

/// Runs the program with bytes that are not UTF-8, which the harness cannot pass.
#[track_caller]
fn assert_bytes_refused(
    setting: &str,
    give: impl for<'c> FnOnce(&'c mut Command, &OsStr) -> &'c mut Command,
) {
    let env = env();
    let mut command = env.ingest().command();
    let output = give(&mut command, OsStr::from_bytes(b"f\xfcr")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(setting) && said.contains("UTF-8"), "{said}");
    assert!(env.fake.requests().is_empty() && env.read(STATE_FILE).is_none());
}

#[test]
fn values_that_are_not_utf_8_are_refused() {
    for name in ["ACCOUNT_DELETIONS", "DEAD_LETTER_FILE", "ELASTICSEARCH_API_KEY", "LOG_FORMAT"] {
        assert_bytes_refused(name, |command, bytes| command.env(name, bytes));
    }
    assert_bytes_refused("f\\xFCr", |command, bytes| command.arg(bytes));
}

#[test]
fn missing_settings_are_named() {
    for name in ["ELASTICSEARCH_URL", "ELASTICSEARCH_API_KEY", "LOCAL_SQLITE_DB_PATH"] {
        let env = env();
        assert_refused(&env, &env.ingest().without(name).run(), name);
        assert_refused(&env, &env.ingest().var(name, "").run(), name);
    }
}

#[test]
fn a_missing_bucket_and_prefix_are_named() {
    let env = env();
    assert_refused(&env, &env.run(&["--source", "s3"]), "S3_SQLITE_DB_BUCKET");
    let without_prefix = env.ingest().args(&["--source", "s3"]).var("S3_SQLITE_DB_BUCKET", "bucket").run();
    assert_refused(&env, &without_prefix, "S3_SQLITE_DB_PREFIX");
}

#[test]
fn a_flag_overrides_its_variable() {
    let env = env();
    env.ingest().var("BATCH_DOCS", "2").args(&["--batch-docs=1"]).run().exits(0);
    assert_eq!(env.fake.bulks().len(), 2);
}

#[test]
fn credentials_in_the_url_are_refused_and_not_printed() {
    let env = env();
    let url = env.fake.url().replace("http://", "http://someone:hunter2@");
    let run = env.ingest().var("ELASTICSEARCH_URL", &url).run();
    assert_refused(&env, &run, "ELASTICSEARCH_URL");
    run.check(!run.stderr.contains("hunter2"), "the password is not printed");
}

#[test]
fn a_switch_turned_off_on_the_command_line_overrides_its_variable() {
    let archive = Archive::new("20251218_000000").with(account_event());
    let env = TestEnv::with_archives(&[archive]);
    let dry_run =
        |argument| env.ingest().var("ACCOUNT_DELETIONS", "true").args(&["--dry-run", argument]).run();
    dry_run("--account-deletions=false").exits(0).counts(&[("rows.skipped", 1), ("rows.deleted", 0)]);
    dry_run("--account-deletions=true").exits(0).counts(&[("rows.skipped", 0), ("rows.deleted", 1)]);
}

#[test]
fn values_and_paths_are_used_as_typed() {
    let env = env();
    assert_refused(&env, &env.run(&["--workers", "-12"]), "\"-12\"");
    env.run(&["--dry-run", "--output", "-foo.nd"]).exits(0);
    assert!(env.read("-foo.nd").is_some());
    std::fs::create_dir(env.path("help")).unwrap();
    env.run(&["--dry-run", "help"]).exits(0).counts(&[("archives.discovered", 0)]);
}

#[test]
fn an_archive_is_never_written_to() {
    let env = env();
    let name = format!("archives/{}", Archive::new("20251218_000000").name());
    let before = std::fs::read(env.path(&name)).unwrap();
    for flag in ["--output", "--summary-json", "--metrics-file", "--dead-letter"] {
        assert_refused(
            &env,
            &env.ingest().without("SUMMARY_JSON").args(&["--dry-run", flag, &name]).run(),
            flag,
        );
    }
    assert_refused(&env, &env.ingest().var("SPOOL_STATE_FILE", &name).run(), "SPOOL_STATE_FILE");
    assert_eq!(std::fs::read(env.path(&name)).unwrap(), before);
}

#[test]
fn help_goes_to_standard_output() {
    let env = env();
    for with_more in [&["--help", "--dry-run", "--mode", "spool"][..], &["--dry-run", "-h", "archives"]] {
        let run = env.run(with_more).exits(0);
        run.check(run.stdout.starts_with("Usage:"), "the help is printed, whatever else is given");
    }
    let run = env.run(&["--help"]).exits(0);
    run.check(run.stderr.is_empty(), "standard error is empty");
    let flags = "source mode dry-run skip-tls-verify workers senders batch-docs batch-bytes output summary-json \
                 dead-letter retry-failed retry-budget shard create-indices check ca-cert vector-encoding list";
    for flag in flags.split_whitespace() {
        run.check(run.stdout.contains(&format!("--{flag}")), &format!("--{flag} is explained"));
    }
    assert!(env.fake.requests().is_empty());
}

#[test]
fn help_explains_the_rare_flags() {
    let run = env().run(&["--help"]).exits(0);
    for flag in ["replay", "account-deletions", "bulk-load-settings", "metrics-file"] {
        run.check(run.stdout.contains(&format!("--{flag}")), &format!("--{flag} is explained"));
    }
}

#[test]
fn an_empty_folder_is_nothing_to_do() {
    let env = TestEnv::new();
    env.run(&[]).exits(0).counts(&[("archives.discovered", 0), ("rows.read", 0)]);
    assert!(env.fake.bulks().is_empty());
}

#[test]
fn metrics_have_the_prometheus_format() {
    let env = env();
    env.run(&["--metrics-file", "metrics.prom"]).exits(0);
    let text = env.read("metrics.prom").unwrap_or_default();
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(!samples.is_empty(), "{text}");
    for sample in samples {
        let value = sample.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        assert!(value.is_some() && sample.starts_with("megastream"), "{sample}");
    }
    assert!(text.ends_with('\n') && text.contains("# TYPE "), "{text}");
}
