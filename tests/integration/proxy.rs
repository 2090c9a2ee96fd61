//! Requests through a proxy, past a proxy, and hints where a proxy may be needed.

use std::sync::Arc;

use crate::harness::archives::{Archive, post};
use crate::harness::fake::API_KEY;
use crate::harness::front::{Conduct, Front, Proxy};
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::recorder::{Recorder, tls_of_localhost};
use crate::harness::s3::{ACCESS_KEY, BUCKET, FakeS3, SECRETS, is_object};
use crate::harness::script::Fault;
use crate::harness::{Invocation, TestEnv, in_parallel};

fn archives() -> [Archive; 1] {
    [Archive::new("20251218_000000").with(post("a", "text"))]
}

/// The same URL with a host that only the proxy can resolve.
fn unknown_here(url: &str) -> String {
    url.replace("127.0.0.1", "es.invalid")
}

fn list<'e>(env: &'e TestEnv, endpoint: &str) -> Invocation<'e> {
    env.ingest()
        .args(&["--source", "s3", "--list", "--retry-budget", "0"])
        .var("S3_SQLITE_DB_BUCKET", "bucket")
        .var("S3_SQLITE_DB_PREFIX", "")
        .var("AWS_ENDPOINT_URL_S3", endpoint)
        .var("AWS_ACCESS_KEY_ID", "AKIDPROXY")
        .var("AWS_SECRET_ACCESS_KEY", "secret-of-the-proxy-tests")
}

#[test]
fn plain_http_requests_send_the_whole_url_to_the_proxy() {
    let archives = archives();
    let env = TestEnv::with_archives(&archives);
    let proxy = Proxy::start(None, 407);
    let url = unknown_here(&env.fake.url());
    env.ingest().var("ELASTICSEARCH_URL", &url).args(&["--proxy", &proxy.url()]).run().exits(0);
    assert_holds(&env.fake, &archives);
    let asked = proxy.asked();
    assert!(asked.iter().all(|request| request.path.starts_with(&url)), "{:?}", asked[0].path);
    assert!(asked.iter().any(Request::is_bulk));
    let host = asked[0].header("host").map(str::to_owned);
    assert_eq!(host.as_deref(), url.strip_prefix("http://"));
}

#[test]
fn https_uses_a_tunnel_and_checks_certificates_within_it() {
    let env = TestEnv::with_archives(&archives());
    let (config, certificate) = tls_of_localhost();
    let server =
        Recorder::start(Some(config), |_| Reply { status: 200, headers: vec![], body: b"{}".to_vec() });
    env.write("ca.pem", certificate);
    let proxy = Proxy::start(Some("Basic bWU6aHVudGVyMiE="), 407);
    let with = |proxy: &str, ca: &[&str]| {
        let run = env.ingest().var("ELASTICSEARCH_URL", &server.url()).var("INGEST_PROXY", proxy);
        run.args(&["--check"]).args(ca).run()
    };
    let url = proxy.url().replace("http://", "http://me:hunter2%21@");
    with(&url, &["--ca-cert", "ca.pem"]);
    let asked = proxy.asked();
    assert!(
        asked.iter().all(|request| request.method == "CONNECT" && request.header("authorization").is_none())
    );
    assert_eq!(format!("https://{}", asked[0].path), server.url());
    assert!(server.seen().contains(API_KEY) && !server.seen().to_lowercase().contains("proxy-authorization"));
    // An untrusted server gets nothing through a tunnel either.
    let before = server.seen();
    with(&url, &[]).exits(5).says("certificate");
    assert_eq!(server.seen(), before);
    for wrong in [proxy.url(), url.replace("hunter2", "hunter3")] {
        let run = with(&wrong, &["--ca-cert", "ca.pem"]).exits(5).says("HTTP 407").says("INGEST_PROXY");
        run.check(!format!("{}{}", run.stdout, run.stderr).contains("hunter"), "no password is shown");
    }
    let refusing = Proxy::start(Some("nobody"), 403);
    with(&refusing.url(), &["--ca-cert", "ca.pem"])
        .exits(5)
        .says("answers HTTP 403 to CONNECT")
        .says("NO_PROXY");
}

/// Starts nodes with TLS before the fake. Returns them with their URLs.
fn tls_nodes<const N: usize>(env: &TestEnv) -> [(Front, String); N] {
    let (config, certificate) = tls_of_localhost();
    env.write("ca.pem", certificate);
    [(); N].map(|()| {
        let node = Front::with_tls(&env.fake.url(), Arc::clone(&config));
        let url = node.url().replace("http://127.0.0.1", "https://localhost");
        (node, url)
    })
}

fn host(url: &str) -> &str {
    url.strip_prefix("https://").unwrap()
}

#[test]
fn a_proxy_that_refuses_tunnels_during_a_run_is_an_outage() {
    in_parallel(["once", "spool"], |mode| {
        let archives = archives();
        let env = TestEnv::with_archives(&archives);
        let [(_node, url)] = tls_nodes(&env);
        let proxy = Proxy::start(None, 407);
        env.fake.fail(Request::is_bulk, 0, 1, Fault::Hang);
        let running = env
            .ingest()
            .args(&["--ca-cert", "ca.pem", "--proxy", &proxy.url(), "--mode", mode])
            .var("ELASTICSEARCH_URL", &url)
            .start();
        env.fake.wait_for_bulks(1);
        proxy.refuse_tunnels(host(&url), 4);
        env.fake.release();
        env.wait_for_processed(&archives);
        if mode == "spool" {
            running.signal("TERM");
        }
        running.wait().exits(0);
        assert!(proxy.asked().len() > 5, "tunnels are refused during the run");
        assert_holds(&env.fake, &archives);
    });
}

#[test]
fn a_proxy_that_does_not_answer_is_named() {
    let env = TestEnv::with_archives(&archives());
    let [(_node, url)] = tls_nodes(&env);
    let proxy = Proxy::start(None, 407);
    proxy.front.set_conduct(Conduct::Closes);
    let run = env
        .ingest()
        .args(&["--ca-cert", "ca.pem", "--proxy", &proxy.url(), "--retry-budget", "0"])
        .var("ELASTICSEARCH_URL", &url)
        .run();
    run.exits(4).says(&format!("by the proxy {}: it does not answer CONNECT {}", proxy.url(), host(&url)));
}

#[test]
fn a_node_that_the_proxy_refuses_is_left_out() {
    let archives = archives();
    let env = TestEnv::with_archives(&archives);
    let [(_good, good), (_refused, refused)] = tls_nodes(&env);
    let proxy = Proxy::start(None, 407);
    proxy.refuse_tunnels(host(&refused), usize::MAX);
    let run = env
        .ingest()
        .args(&["--ca-cert", "ca.pem", "--proxy", &proxy.url()])
        .var("ELASTICSEARCH_URL", &format!("{refused},{good}"))
        .run();
    run.exits(0).says(&format!("{refused} is left out")).says("answers HTTP 403 to CONNECT");
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_spool_run_waits_for_a_proxy_that_refuses_tunnels_at_the_start() {
    let archives = archives();
    let env = TestEnv::with_archives(&archives);
    let [(_node, url)] = tls_nodes(&env);
    let proxy = Proxy::start(None, 407);
    let spool = |budget: &str| {
        env.ingest()
            .args(&["--ca-cert", "ca.pem", "--proxy", &proxy.url(), "--mode", "spool"])
            .var("ELASTICSEARCH_URL", &url)
            .var("RETRY_BUDGET_SEC", budget)
            .start()
    };
    proxy.refuse_tunnels(host(&url), usize::MAX);
    spool("1").wait().exits(4).says("answers HTTP 403 to CONNECT");
    proxy.refuse_tunnels(host(&url), 3);
    let running = spool("60");
    env.wait_for_processed(&archives);
    running.signal("TERM");
    running.wait().exits(0);
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_proxy_that_requires_credentials_is_named() {
    let env = TestEnv::with_archives(&archives());
    let proxy = Proxy::start(Some("Basic bWU6aHVudGVyMiE="), 407);
    let url = proxy.url().replace("http://", "http://me:hunter2%21@");
    env.ingest().var("INGEST_PROXY", &url).run().exits(0);
    let run = env.ingest().args(&["--proxy", &url, "--check"]).run().exits(0);
    run.check(run.stdout.contains("--proxy holds a password"), "the process list would show it");
    env.ingest().var("INGEST_PROXY", &proxy.url()).args(&["--check"]).run().exits(5).says("HTTP 407");
}

#[test]
fn s3_uses_the_proxy_except_for_no_proxy_hosts() {
    let env = TestEnv::with_archives(&archives());
    let bucket = Recorder::start(None, |_| {
        let body = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>".to_vec();
        Reply { status: 200, headers: vec![], body }
    });
    let proxy = Proxy::start(None, 407);
    let endpoint = bucket.url().replace("localhost", "s3.invalid");
    list(&env, &endpoint).args(&["--proxy", &proxy.url()]).run();
    assert!(proxy.asked()[0].path.starts_with(&format!("{endpoint}/bucket")), "{:?}", proxy.asked()[0].path);
    let asked = proxy.asked().len();
    for no_proxy in ["localhost", "127.0.0.0/8,localhost", "*"] {
        list(&env, &bucket.url()).args(&["--proxy", &proxy.url()]).var("NO_PROXY", no_proxy).run();
        env.ingest().args(&["--proxy", &proxy.url(), "--check"]).var("no_proxy", "127.0.0.1").run().exits(0);
    }
    assert_eq!(proxy.asked().len(), asked);
}

#[test]
fn a_proxy_that_refuses_tunnels_to_s3_during_a_run_is_an_outage() {
    in_parallel([(4, "60", 0), (usize::MAX, "1", 4)], |(times, budget, code)| {
        let archives = archives();
        let env = TestEnv::new();
        let s3 = FakeS3::start();
        s3.put(&archives[0].name(), archives[0].zip());
        let (config, certificate) = tls_of_localhost();
        env.write("ca.pem", certificate);
        let front = Front::with_tls(&s3.url(), config);
        let endpoint = front.url().replace("http://127.0.0.1", "https://localhost");
        let proxy = Proxy::start(None, 407);
        s3.fail(is_object, 0, 1, Fault::Hang);
        let running = env
            .ingest()
            .args(&[
                "--source",
                "s3",
                "--ca-cert",
                "ca.pem",
                "--proxy",
                &proxy.url(),
                "--retry-budget",
                budget,
            ])
            .without("LOCAL_SQLITE_DB_PATH")
            .var("S3_SQLITE_DB_BUCKET", BUCKET)
            .var("S3_SQLITE_DB_PREFIX", "")
            .var("AWS_ENDPOINT_URL_S3", &endpoint)
            .var("AWS_S3_ACCESS_KEY", ACCESS_KEY)
            .var("AWS_S3_SECRET_KEY", SECRETS[0])
            .start();
        s3.wait_for(is_object, 1);
        proxy.refuse_tunnels(host(&endpoint), times);
        s3.release();
        let run = running.wait().exits(code);
        if code == 0 {
            assert_holds(&env.fake, &archives);
        } else {
            run.says("answers HTTP 403 to CONNECT").counts(&[("archives.pending", 1)]);
        }
    });
}

#[test]
fn a_proxy_that_refuses_tunnels_to_s3_from_the_start_is_a_refusal_unless_it_is_busy() {
    let env = TestEnv::new();
    for (status, code) in [(403, 5), (407, 5), (429, 4), (502, 4), (503, 4), (504, 4)] {
        let proxy = Proxy::start(Some("nobody"), status);
        let run = list(&env, "https://s3.invalid").args(&["--proxy", &proxy.url()]).run().exits(code);
        run.says(&format!("answers HTTP {status} to CONNECT s3.invalid:443"));
    }
}

#[test]
fn a_proxy_of_the_environment_is_ignored_but_mentioned_on_failure() {
    let env = TestEnv::with_archives(&archives());
    let proxy = Proxy::start(None, 407);
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"] {
        env.ingest().var(name, &proxy.url()).args(&["--check"]).run().exits(0);
        for url in ["http://127.0.0.1:1", "http://nowhere.invalid:9200", "https://127.0.0.1:1"] {
            let run = env.ingest().var(name, &proxy.url()).var("ELASTICSEARCH_URL", url);
            run.args(&["--retry-budget", "0"]).run().exits(4).says(name).says("--proxy (INGEST_PROXY)");
        }
        let run = list(&env, "http://127.0.0.1:1").var(name, &proxy.url()).run().exits(4);
        run.check(run.stderr.contains("--proxy (INGEST_PROXY)"), "for S3, too");
    }
    assert_eq!(proxy.front.connections(), 0);
    let gone = proxy.url();
    drop(proxy);
    let run = env.ingest().args(&["--proxy", &gone, "--retry-budget", "0"]).run().exits(4);
    run.check(run.stderr.contains(&format!("by the proxy {gone}")), "the proxy does not answer");
}
