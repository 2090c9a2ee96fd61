//! Reads PEM files with certificates and keys.

use std::path::Path;
use std::sync::Once;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::common::exit::Failure;
use crate::files;

/// Settings that name PEM files of the client, for messages.
const CLIENT_CERT: &str = "ELASTICSEARCH_CLIENT_CERT / --client-cert";
const CLIENT_KEY: &str = "ELASTICSEARCH_CLIENT_KEY / --client-key";

/// Logs unreadable certificates once, though the file is read for each server.
static LOGGED: Once = Once::new();

/// Reads the certificates of a bundle, at least one. Unreadable certificates are logged and skipped, as other programs
/// do: system bundles contain some.
///
/// # Errors
///
/// Returns a usage failure if the file cannot be read or has no certificate.
pub(super) fn read_bundle(path: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = files::read(path).map_err(|error| refused(setting, path, &error.to_string()))?;
    let (good, bad) = parse_bundle(&pem);
    match bad.first() {
        Some(why) if good.is_empty() => Err(refused(setting, path, why)),
        None if good.is_empty() => Err(refused(setting, path, &no_certificate(&pem))),
        Some(why) => {
            LOGGED.call_once(|| {
                log::warn!(
                    "{setting} {}: {} of {} certificates cannot be read and are skipped ({why})",
                    path.display(),
                    bad.len(),
                    good.len() + bad.len()
                );
            });
            Ok(good)
        }
        None => Ok(good),
    }
}

/// Returns the readable certificates of a PEM text, and the errors of the others.
fn parse_bundle(pem: &[u8]) -> (Vec<CertificateDer<'static>>, Vec<String>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for item in CertificateDer::pem_slice_iter(pem) {
        // The TLS library drops invalid certificates silently, so each is tried here.
        let tried = item.map_err(|error| error.to_string()).and_then(|der| {
            RootCertStore::empty().add(der.clone()).map(|()| der).map_err(|error| error.to_string())
        });
        match tried {
            Ok(der) => good.push(der),
            Err(why) => bad.push(why),
        }
    }
    (good, bad)
}

/// Reads the client's certificate chain and its key.
///
/// # Errors
///
/// Returns a usage failure if a file cannot be read or has the wrong content.
pub(super) fn read_client(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Failure> {
    let pem =
        files::read(certificate).map_err(|error| refused(CLIENT_CERT, certificate, &error.to_string()))?;
    let (chain, bad) = parse_bundle(&pem);
    if let Some(why) = bad.first() {
        return Err(refused(CLIENT_CERT, certificate, why));
    }
    if chain.is_empty() {
        return Err(refused(CLIENT_CERT, certificate, &no_certificate(&pem)));
    }
    let pem = files::read(key).map_err(|error| refused(CLIENT_KEY, key, &error.to_string()))?;
    let key_read = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let text = String::from_utf8_lossy(&pem);
        let why = if text.contains("ENCRYPTED") {
            "the key is encrypted, but this program cannot ask for its password: decrypt it (openssl pkey \
             -in …)"
        } else if pem.first() == Some(&0x30) {
            "it is DER, not PEM: convert it (openssl pkey -inform der -in …)"
        } else {
            "it has no private key in PEM form"
        };
        refused(CLIENT_KEY, key, why)
    })?;
    Ok((chain, key_read))
}

/// Describes a file that has no PEM certificate.
fn no_certificate(bytes: &[u8]) -> String {
    if RootCertStore::empty().add(CertificateDer::from(bytes)).is_ok() {
        return "it is a certificate in DER form, but PEM is needed: convert it (openssl x509 -inform der \
        -in … -out ca.pem)"
            .to_owned();
    }
    if bytes.first() == Some(&0x30) {
        return "it is binary, perhaps a PKCS#12 keystore, but PEM is needed: extract the certificates \
        (openssl pkcs12 -in … -nokeys -out ca.pem)"
            .to_owned();
    }
    "it has no certificate in PEM form".to_owned()
}

pub(super) fn refused(setting: &str, path: &Path, why: &str) -> Failure {
    Failure::usage(format!("{setting} {}: {why}", path.display()))
}

/// Returns the failure for a certificate and key that do not match. That shows only when they are used together.
pub(super) fn unusable_client(error: &rustls::Error) -> Failure {
    Failure::usage(format!("{CLIENT_CERT} and {CLIENT_KEY} cannot be used together: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> rcgen::Certificate {
        rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert
    }

    #[test]
    fn every_certificate_of_a_bundle_is_trusted() {
        let bundle = format!("{}\n# a comment\n{}", made("a.example").pem(), made("b.example").pem());
        let (good, bad) = parse_bundle(bundle.as_bytes());
        assert_eq!((good.len(), bad.len()), (2, 0));
    }

    #[test]
    fn an_unreadable_certificate_does_not_affect_the_others() {
        for broken in ["AAAA", "!!!!", ""] {
            let broken = format!("-----BEGIN CERTIFICATE-----\n{broken}\n-----END CERTIFICATE-----\n");
            let bundle = format!("{broken}{}{broken}{}", made("a.example").pem(), made("b.example").pem());
            let (good, bad) = parse_bundle(bundle.as_bytes());
            assert_eq!((good.len(), bad.len()), (2, 2), "{bad:?}");
        }
    }

    #[test]
    fn der_and_keystores_are_named_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca");
        let der = made("a.example").der().to_vec();
        for (bytes, why) in [
            (&der[..], "DER"),
            (&b"\x30\x82\x0a\x00\x02\x01\x03"[..], "PKCS#12"),
            (b"hello", "no certificate"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let failure = read_bundle(&path, "--ca-cert").unwrap_err();
            assert!(failure.message.contains(why) && failure.message.contains("--ca-cert"), "{failure}");
        }
    }

    #[test]
    fn a_client_certificate_needs_its_key_as_pem_without_a_password() {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = ["cert", "key"].map(|name| folder.path().join(name));
        let pair = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let (pem, key_pem) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let der = pair.signing_key.serialize_der();
        for (cert_text, key_bytes, why) in [
            (pem.as_bytes(), key_pem.as_bytes(), ""),
            (key_pem.as_bytes(), key_pem.as_bytes(), "--client-cert"),
            (pem.as_bytes(), pem.as_bytes(), "no private key"),
            (pem.as_bytes(), encrypted.as_bytes(), "encrypted"),
            (pem.as_bytes(), &der, "DER"),
        ] {
            std::fs::write(&certificate, cert_text).unwrap();
            std::fs::write(&key, key_bytes).unwrap();
            let message =
                read_client(&certificate, &key).err().map_or(String::new(), |failure| failure.message);
            assert!(message.contains(why) && message.is_empty() == why.is_empty(), "{why}: {message}");
        }
    }
}
