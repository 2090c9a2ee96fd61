//! Impostors receive no byte: certificates, redirects and plain HTTP, for Elasticsearch and S3.

use std::net::{IpAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::harness::archives::{Archive, post};
use crate::harness::fake::API_KEY;
use crate::harness::front::{Conduct, Front};
use crate::harness::http::{Reply, Request};
use crate::harness::model::assert_holds;
use crate::harness::recorder::Recorder;
use crate::harness::script::Fault;
use crate::harness::{Invocation, TestEnv, in_parallel, wait_until};

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The configuration of a server with a certificate for `localhost`, changed by `change`.
    fn server(&self, change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
        let (params, key) = server_params(change);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        server_config(certificate, &key)
    }
}

fn server_params(change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    change(&mut params);
    (params, KeyPair::generate().unwrap())
}

fn server_config(certificate: rcgen::Certificate, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    Arc::new(config)
}

/// Servers that clients of `authority` must not trust, each with its defect.
fn impostors(authority: &Authority) -> Vec<(&'static str, Arc<ServerConfig>)> {
    let (params, key) = server_params(|_| ());
    let other_host = |params: &mut CertificateParams| {
        *params = CertificateParams::new(vec!["elsewhere.example".to_owned()]).unwrap();
    };
    vec![
        ("expired", authority.server(|params| params.not_after = date_time_ymd(2020, 1, 1))),
        ("not yet valid", authority.server(|params| params.not_before = date_time_ymd(2999, 1, 1))),
        ("another host", authority.server(other_host)),
        ("an unknown authority", Authority::new().server(|_| ())),
        ("self-signed", server_config(params.self_signed(&key).unwrap(), &key)),
    ]
}

fn empty_reply(_: &Request) -> Reply {
    Reply { status: 200, headers: vec![], body: b"{}".to_vec() }
}

fn redirect_to(location: String) -> impl Fn(&Request) -> Reply + Send + Sync {
    move |_| Reply { status: 307, headers: vec![("location", format!("{location}/elsewhere"))], body: vec![] }
}

fn env() -> TestEnv {
    TestEnv::with_archives(&[Archive::new("20251218_000000").with(post("a", "text"))])
}

fn to<'e>(env: &'e TestEnv, server: &Recorder) -> Invocation<'e> {
    env.ingest().var("ELASTICSEARCH_URL", &server.url()).args(&["--retry-budget", "0"])
}

const ACCESS_KEY: &str = "AKIDTLSTEST";
const SESSION_TOKEN: &str = "session-token-of-the-tls-tests";

/// A listing of a bucket on this server.
fn list<'e>(env: &'e TestEnv, server: &Recorder) -> Invocation<'e> {
    env.ingest()
        .args(&["--source", "s3", "--list", "--retry-budget", "0"])
        .var("S3_SQLITE_DB_BUCKET", "bucket")
        .var("S3_SQLITE_DB_PREFIX", "")
        .var("AWS_ENDPOINT_URL_S3", &server.url())
        .var("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .var("AWS_SECRET_ACCESS_KEY", "secret-of-the-tls-tests")
        .var("AWS_SESSION_TOKEN", SESSION_TOKEN)
}

#[test]
fn an_impostor_receives_no_byte() {
    let authority = Authority::new();
    let env = env();
    env.write("ca.pem", &authority.pem);
    for (what, config) in impostors(&authority) {
        let server = Recorder::start(Some(config), empty_reply);
        for arguments in [&[][..], &["--check"], &["--create-indices"]] {
            let run = to(&env, &server).args(&["--ca-cert", "ca.pem"]).args(arguments).run();
            run.check(run.code == Some(5), &format!("{what}: refused"));
            run.check(
                format!("{}{}", run.stdout, run.stderr).contains("certificate"),
                &format!("{what}: tells of the certificate"),
            );
        }
        let run = list(&env, &server).args(&["--ca-cert", "ca.pem"]).run();
        run.check(run.code == Some(5), &format!("{what}: refused, for S3"));
        assert!(server.connections() >= 4, "{what}");
        assert_eq!(server.seen(), "", "{what}");
    }
    let server = Recorder::start(Some(authority.server(|_| ())), empty_reply);
    to(&env, &server).args(&["--ca-cert", "ca.pem"]).run();
    assert!(server.seen().contains(API_KEY), "the genuine server gets the key");
    let server = Recorder::start(Some(authority.server(|_| ())), empty_reply);
    list(&env, &server).args(&["--ca-cert", "ca.pem"]).run();
    assert!(server.seen().contains(SESSION_TOKEN), "the genuine server gets the request");
}

#[test]
fn a_plain_server_behind_an_https_url_gets_no_key() {
    let env = env();
    env.write("ca.pem", Authority::new().pem);
    let server = Recorder::start(None, empty_reply);
    let url = server.url().replace("http:", "https:");
    let run = to(&env, &server).var("ELASTICSEARCH_URL", &url).args(&["--ca-cert", "ca.pem"]).run();
    run.check(run.code != Some(0), "the request fails");
    assert!(server.connections() > 0 && !server.seen().contains("ApiKey"), "{}", server.seen());
}

#[test]
fn a_redirect_sends_no_credentials() {
    let authority = Authority::new();
    let env = env();
    env.write("ca.pem", &authority.pem);
    let trusted = || Some(authority.server(|_| ()));
    for target in [Recorder::start(None, empty_reply), Recorder::start(trusted(), empty_reply)] {
        for location in [target.url(), target.url().replace("localhost", "127.0.0.1")] {
            let server = Recorder::start(trusted(), redirect_to(location.clone()));
            let run = to(&env, &server).args(&["--ca-cert", "ca.pem"]).run();
            run.check(!matches!(run.code, Some(0 | 3)), "a redirect is not a success");
            let run = list(&env, &server).args(&["--ca-cert", "ca.pem"]).run();
            run.check(!matches!(run.code, Some(0 | 3)), "a redirect is not a listing");
            assert!(server.seen().contains(API_KEY) && server.seen().contains(SESSION_TOKEN));
        }
        assert_eq!((target.connections(), target.seen()), (0, String::new()));
    }
}

#[test]
fn a_ca_file_adds_to_the_system_roots() {
    let [system, file] = [Authority::new(), Authority::new()];
    let env = env();
    env.write("system.pem", &system.pem);
    env.write("file.pem", &file.pem);
    for (what, authority) in [("the system's", &system), ("the file's", &file)] {
        let server = Recorder::start(Some(authority.server(|_| ())), empty_reply);
        let with_both = |invocation: Invocation<'_>| {
            let path = env.path("system.pem");
            invocation.var("SSL_CERT_FILE", path.to_str().unwrap()).args(&["--ca-cert", "file.pem"]).run()
        };
        with_both(to(&env, &server));
        assert!(server.seen().contains(API_KEY), "{what}");
        with_both(list(&env, &server));
        assert!(server.seen().contains(SESSION_TOKEN), "{what}, for S3");
    }
    // Without the file, its root is not trusted.
    let server = Recorder::start(Some(file.server(|_| ())), empty_reply);
    let path = env.path("system.pem");
    to(&env, &server).var("SSL_CERT_FILE", path.to_str().unwrap()).run().exits(5);
    assert_eq!(server.seen(), "");
}

#[test]
fn unchecked_certificates_are_warned_of_in_every_run() {
    let (params, key) = server_params(|_| ());
    let config = server_config(params.self_signed(&key).unwrap(), &key);
    let env = env();
    env.write("dead", "");
    for arguments in [&[][..], &["--check"], &["--create-indices"], &["--replay", "dead"]] {
        let server = Recorder::start(Some(Arc::clone(&config)), empty_reply);
        let run = to(&env, &server).args(&["--skip-tls-verify"]).args(arguments).run();
        let said = format!("{}{}", run.stdout, run.stderr);
        run.check(said.contains("--skip-tls-verify"), &format!("{arguments:?} warns"));
        assert!(server.seen().contains(API_KEY), "{arguments:?}");
    }
    // The flag applies to Elasticsearch only.
    let server = Recorder::start(Some(config), empty_reply);
    env.write("ca.pem", Authority::new().pem);
    let run = list(&env, &server).args(&["--skip-tls-verify", "--ca-cert", "ca.pem"]).run();
    run.check(run.code == Some(5), "S3 is checked all the same");
    assert_eq!(server.seen(), "");
}

#[test]
fn a_key_over_plain_http_is_warned_of_unless_on_loopback() {
    let env = env();
    const WARNING: &str = "plain http";
    let server = Recorder::start(None, empty_reply);
    let run = to(&env, &server).run();
    run.check(!run.stderr.contains(WARNING), "loopback is not a network");
    let Some(ip) = own_address() else {
        println!("skipped: this machine has no address but loopback");
        return;
    };
    let server = Recorder::start_at(ip, None, empty_reply);
    for arguments in [&[][..], &["--check"]] {
        let run = to(&env, &server).args(arguments).run();
        let said = format!("{}{}", run.stdout, run.stderr);
        run.check(said.contains(WARNING), &format!("{arguments:?} warns"));
    }
}

/// The local address of the default route. No packet is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// A self-signed certificate as `openssl req -x509` creates it: marked as an authority.
fn own_certificate(name: &str) -> (rcgen::Certificate, Arc<ServerConfig>) {
    let (mut params, key) = server_params(|_| ());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    if name != "localhost" {
        params.subject_alt_names = CertificateParams::new(vec![name.to_owned()]).unwrap().subject_alt_names;
    }
    let certificate = params.self_signed(&key).unwrap();
    (certificate.clone(), server_config(certificate, &key))
}

fn fingerprint(certificate: &rcgen::Certificate) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.der());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_self_signed_certificate_is_trusted_by_file_or_fingerprint() {
    let env = env();
    let (certificate, config) = own_certificate("localhost");
    env.write("own.pem", certificate.pem());
    env.write("own.der", certificate.der());
    env.write("other.pem", own_certificate("localhost").0.pem());
    let server = Recorder::start(Some(config), empty_reply);
    let colons: Vec<_> = fingerprint(&certificate)
        .as_bytes()
        .chunks(2)
        .map(|pair| String::from_utf8_lossy(pair).to_uppercase())
        .collect();
    for arguments in [
        ["--ca-cert", "own.pem"],
        ["--ca-fingerprint", &fingerprint(&certificate)],
        ["--ca-fingerprint", &colons.join(":")],
    ] {
        let before = server.seen().len();
        to(&env, &server).args(&arguments).run();
        assert!(server.seen()[before..].contains(API_KEY), "{arguments:?}");
    }
    let before = server.seen().len();
    to(&env, &server).args(&["--ca-cert", "other.pem"]).run().exits(5).says("certificate");
    let other = "00".repeat(32);
    let run = to(&env, &server).args(&["--ca-fingerprint", &other]).run().exits(5);
    run.says("TLS connection: no certificate of its chain has the fingerprint of --ca-fingerprint");
    to(&env, &server).args(&["--ca-cert", "own.der"]).run().exits(2).says("DER form").says("openssl x509");
    to(&env, &server).args(&["--ca-fingerprint", "abc"]).run().exits(2).says("64 hexadecimal digits");
    let run = to(&env, &server).args(&["--ca-fingerprint", &other, "--skip-tls-verify"]).run().exits(2);
    run.check(run.stderr.contains("remove one of them"), "the settings contradict each other");
    let (elsewhere, config) = own_certificate("elsewhere.example");
    env.write("elsewhere.pem", elsewhere.pem());
    let impostor = Recorder::start(Some(config), empty_reply);
    to(&env, &impostor).args(&["--ca-cert", "elsewhere.pem"]).run().exits(5).says("not valid for name");
    to(&env, &impostor).args(&["--ca-fingerprint", &fingerprint(&elsewhere)]).run().exits(5);
    assert_eq!((server.seen().len(), impostor.seen().len()), (before, 0));
}

#[test]
fn an_unreadable_certificate_of_a_bundle_is_skipped_with_a_warning() {
    let env = env();
    let authority = Authority::new();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    env.write("bundle.pem", format!("{broken}{}{broken}", authority.pem));
    let server = Recorder::start(Some(authority.server(|_| ())), empty_reply);
    let run = to(&env, &server).args(&["--ca-cert", "bundle.pem"]).run();
    run.check(run.stderr.matches("2 of 3 certificates cannot be read").count() == 1, "one warning");
    assert!(server.seen().contains(API_KEY));
}

#[test]
fn a_client_certificate_is_sent_and_a_missing_one_is_not_an_outage() {
    let env = env();
    let authority = Authority::new();
    env.write("ca.pem", &authority.pem);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let client_of = |authority: &Authority, name: &str| {
        let (params, key) = server_params(|_| ());
        env.write(&format!("{name}.pem"), params.signed_by(&key, &authority.issuer).unwrap().pem());
        env.write(&format!("{name}.key"), key.serialize_pem());
    };
    client_of(&authority, "good");
    client_of(&Authority::new(), "foreign");
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            roots.clone().into(),
            provider.clone(),
        );
        let (params, key) = server_params(|_| ());
        let certificate = params.signed_by(&key, &authority.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let server = Recorder::start(Some(Arc::new(config)), empty_reply);
        for task in [&["--check"][..], &[]] {
            let with = |arguments: &[&str]| {
                let run = env.ingest().var("ELASTICSEARCH_URL", &server.url()).args(&["--ca-cert", "ca.pem"]);
                run.args(arguments).args(task).run()
            };
            with(&[]).exits(5).says("--client-cert");
            with(&["--client-cert", "foreign.pem", "--client-key", "foreign.key"])
                .exits(5)
                .says("--client-cert");
            assert_eq!(server.seen(), "");
        }
        let files = ["--client-cert", "good.pem", "--client-key", "good.key"];
        to(&env, &server).args(&["--ca-cert", "ca.pem"]).args(&files).run();
        assert!(server.seen().contains(API_KEY));
        to(&env, &server).args(&files[..2]).run().exits(2).says("go together");
        to(&env, &server).args(&["--client-cert", "good.pem", "--client-key", "foreign.key"]).run().exits(2);
    }
}

/// A certificate that can be replaced while the server runs.
#[derive(Debug)]
struct Renewable(Mutex<Arc<CertifiedKey>>);

impl Renewable {
    fn renew(&self, certificate: Arc<CertifiedKey>) {
        *self.0.lock().unwrap() = certificate;
    }
}

impl ResolvesServerCert for Renewable {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.lock().unwrap().clone())
    }
}

/// A certificate of `localhost`, changed by `change`.
fn certified(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Arc<CertifiedKey> {
    let (params, key) = server_params(change);
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key))
}

#[test]
fn a_certificate_that_becomes_wrong_during_a_run_is_an_outage() {
    in_parallel(["once", "spool", "once past its budget"], |case| {
        let env = env();
        let authority = Authority::new();
        env.write("ca.pem", &authority.pem);
        let good = certified(&authority, |_| ());
        let expired = certified(&authority, |params| params.not_after = date_time_ymd(2020, 1, 1));
        let shown = Arc::new(Renewable(Mutex::new(good.clone())));
        let mut config =
            ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(shown.clone());
        // A resumed session does not check the certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let node = Front::with_tls(&env.fake.url(), Arc::new(config));
        let mode = case.split(' ').next().unwrap();
        env.fake.fail(Request::is_bulk, 0, 1, Fault::Hang);
        let running = env
            .ingest()
            .args(&["--ca-cert", "ca.pem", "--mode", mode])
            .args(&["--retry-budget", if case == "once" { "30" } else { "1" }])
            .var("ELASTICSEARCH_URL", &node.url().replace("http://127.0.0.1", "https://localhost"))
            .start();
        env.fake.wait_for_bulks(1);
        shown.renew(expired);
        node.set_conduct(Conduct::Forwards);
        env.fake.release();
        if case.ends_with("budget") {
            running.wait().exits(4).says("trusted before, but is not now: invalid peer certificate");
            return;
        }
        let before = node.connections();
        wait_until("the certificate is refused again and again", || node.connections() >= before + 3);
        shown.renew(good);
        let archives = [Archive::new("20251218_000000").with(post("a", "text"))];
        env.wait_for_processed(&archives);
        if mode == "spool" {
            running.signal("TERM");
        }
        running.wait().exits(0);
        assert_holds(&env.fake, &archives);
    });
}
