//! Tests of which certificates are accepted.

use std::time::Duration;

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use super::*;

const NOW: u64 = 1_790_000_000;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
    params
}

/// Creates a certificate as `openssl req -x509` does: marked as a CA's, with a name.
fn as_openssl_makes_it(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Certificate {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap()
}

/// Creates a CA, and a server certificate that it has issued.
fn issued() -> (Certificate, Certificate) {
    let (mut authority, key) = (params("authority"), KeyPair::generate().unwrap());
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).unwrap();
    let server =
        params("localhost").signed_by(&KeyPair::generate().unwrap(), &Issuer::new(authority, key)).unwrap();
    (root, server)
}

fn verify(
    own: &[&Certificate],
    fingerprint: Option<&Certificate>,
    server: &Certificate,
    issuers: &[&Certificate],
) -> Result<(), String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let ders = |all: &[&Certificate]| all.iter().map(|one| one.der().clone()).collect::<Vec<_>>();
    let fingerprint = fingerprint.map(|certificate| Fingerprint::of(certificate.der()));
    let verifier = Verifier::new(provider, Some(Trust::new(Vec::new(), ders(own), fingerprint)));
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
    let name = ServerName::try_from("localhost").unwrap();
    verifier
        .verify_server_cert(server.der(), &ders(issuers), &name, &[], now)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

#[test]
fn the_servers_own_certificate_is_trusted_with_its_name_and_within_its_time_only() {
    let own = as_openssl_makes_it("localhost", |_| ());
    assert_eq!(verify(&[&own], None, &own, &[]), Ok(()));
    assert_eq!(verify(&[], Some(&own), &own, &[]), Ok(()));
    let elsewhere = as_openssl_makes_it("elsewhere", |_| ());
    let expired = as_openssl_makes_it("localhost", |params| params.not_after = date_time_ymd(2021, 1, 1));
    let not_yet = as_openssl_makes_it("localhost", |params| params.not_before = date_time_ymd(2039, 1, 1));
    for (other, why) in [(&elsewhere, "not valid for"), (&expired, "Expired"), (&not_yet, "NotValidYet")] {
        for result in [verify(&[other], None, other, &[]), verify(&[], Some(other), other, &[])] {
            let error = result.unwrap_err();
            assert!(error.to_lowercase().contains(&why.to_lowercase()), "{why}: {error}");
        }
    }
    let same_name = as_openssl_makes_it("localhost", |_| ());
    assert!(verify(&[&own], None, &same_name, &[]).is_err());
}

#[test]
fn a_fingerprint_may_be_of_the_root_or_the_server_and_the_chain_is_still_checked() {
    let (root, server) = issued();
    assert_eq!(verify(&[&root], None, &server, &[]), Ok(()));
    assert_eq!(verify(&[], Some(&root), &server, &[&root]), Ok(()));
    assert_eq!(verify(&[&root], Some(&root), &server, &[]), Ok(()), "a root that is not sent, from the file");
    assert_eq!(verify(&[], Some(&server), &server, &[]), Ok(()));
    let (other_root, other_server) = issued();
    let error = verify(&[&root], Some(&other_root), &server, &[&root]).unwrap_err();
    assert!(error.contains("--ca-fingerprint"), "{error}");
    assert!(
        verify(&[], Some(&root), &other_server, &[&root]).is_err(),
        "shown beside a chain that is another's"
    );
    assert!(verify(&[], Some(&root), &other_server, &[&other_root, &root]).is_err());
}
