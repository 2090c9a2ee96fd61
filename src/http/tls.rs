//! Which certificates are trusted.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::Settings;
use crate::exit::Failure;
use crate::files;

/// The TLS configuration: the system's roots and those of the CA file.
///
/// # Errors
///
/// A usage failure where the CA file cannot be read or holds no certificate, or where nothing is trusted.
pub(super) fn config(settings: &Settings<'_>) -> Result<TlsConfig, Failure> {
    let &Settings { ca_cert, is_https, skip_tls_verify, .. } = settings;
    let mut roots = ca_cert.map(read_roots).transpose()?.unwrap_or_default();
    // Reading the system's roots takes milliseconds of processor time, so it is left out where nobody asks.
    if is_https && !skip_tls_verify {
        roots.extend(system_roots());
        if roots.is_empty() {
            return Err(Failure::usage(
                "this system has no trusted root certificates: install them, \
                 or name a PEM file with ELASTICSEARCH_CA_CERT / --ca-cert",
            ));
        }
    }
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots))
        .disable_verification(skip_tls_verify)
        .build())
}

/// The system's roots, as far as they can be read; `SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured.
fn system_roots() -> Vec<Certificate<'static>> {
    let found = rustls_native_certs::load_native_certs();
    found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
}

/// The certificates of a PEM file, at least one.
fn read_roots(path: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let pem = files::read(path).map_err(|error| refused(path, &error.to_string()))?;
    parse_roots(&pem).map_err(|why| refused(path, &why))
}

fn parse_roots(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let mut roots = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| error.to_string())? {
            // The TLS library leaves out what is no certificate without a word, so it is tried here.
            let der = CertificateDer::from(certificate.der());
            RootCertStore::empty().add(der).map_err(|error| error.to_string())?;
            roots.push(certificate);
        }
    }
    if roots.is_empty() { Err("no certificate in PEM form in it".to_owned()) } else { Ok(roots) }
}

fn refused(path: &Path, why: &str) -> Failure {
    Failure::usage(format!("ELASTICSEARCH_CA_CERT / --ca-cert {}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::exit::ExitCode;

    fn settings(is_https: bool, ca_cert: Option<&Path>) -> Settings<'_> {
        Settings {
            ca_cert,
            is_https,
            skip_tls_verify: false,
            connect_limit: Duration::from_secs(1),
            head_limit: None,
            read_limit: None,
            idle_connections: 1,
        }
    }

    #[test]
    fn a_ca_file_that_is_missing_or_holds_no_certificate_is_a_usage_failure() {
        let folder = tempfile::tempdir().unwrap();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (name, text) in [("missing", None), ("empty", Some("")), ("broken", Some(broken))] {
            let path = folder.path().join(name);
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let failure = config(&settings(true, Some(&path))).unwrap_err();
            assert_eq!(failure.code, ExitCode::Usage, "{name}");
            assert!(failure.message.contains("ELASTICSEARCH_CA_CERT / --ca-cert"), "{failure}");
            assert!(failure.message.contains(name), "{failure}");
        }
    }

    #[test]
    fn every_certificate_of_a_bundle_is_trusted() {
        let pem = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem();
        let bundle = format!("{}\n# a comment\n{}", pem("a.example"), pem("b.example"));
        assert_eq!(parse_roots(bundle.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn plain_http_reads_no_system_roots() {
        let config = config(&settings(false, None)).unwrap();
        assert!(matches!(config.root_certs(), RootCerts::Specific(roots) if roots.is_empty()));
    }
}
