//! TLS: which servers the client trusts, and how it identifies itself.

mod connector;
mod pem;
mod validity;
mod verifier;

use std::sync::Arc;

use rustls::ClientConfig;

pub(super) use self::connector::TlsConnector;
use self::verifier::{Trust, Verifier};
use super::{CA_CERT, HttpSettings};
use crate::common::exit::Failure;

/// Builds the TLS configuration. It trusts the system's roots and the certificates of the CA file, or only the
/// fingerprint, and sends the client's certificate.
///
/// # Errors
///
/// Returns a usage failure if a file cannot be read or has the wrong content, or if nothing is trusted.
pub(super) fn connector(settings: &HttpSettings<'_>) -> Result<TlsConnector, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let own = settings
        .ca_cert
        .map(|(path, setting)| pem::read_bundle(path, setting))
        .transpose()?
        .unwrap_or_default();
    let trust = (!settings.skip_tls_verify).then(|| {
        // Reading the system's roots takes milliseconds of CPU time, so it is skipped if they are not used. Unreadable ones
        // are skipped. `SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured.
        let reads_roots = settings.is_https && settings.ca_fingerprint.is_none();
        let system = reads_roots.then(|| rustls_native_certs::load_native_certs().certs);
        Trust::new(system.unwrap_or_default(), own, settings.ca_fingerprint)
    });
    if settings.is_https && trust.as_ref().is_some_and(Trust::is_empty) {
        return Err(Failure::usage(format!(
            "this system has no trusted root certificates: install them, or name a PEM file with {CA_CERT}"
        )));
    }
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::run(format!("TLS cannot be used: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::new(provider, trust)));
    let config = match settings.client_cert {
        Some((certificate, key)) => {
            let (chain, key) = pem::read_client(certificate, key)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| pem::unusable_client(&error))?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(TlsConnector(config))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::common::exit::ExitCode;
    use crate::http::proxy::Proxies;

    #[test]
    fn a_ca_file_that_is_missing_or_holds_no_certificate_is_a_usage_failure() {
        let (folder, proxies) = (tempfile::tempdir().unwrap(), Proxies::default());
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (name, text) in [("missing", None), ("empty", Some("")), ("broken", Some(broken))] {
            let path = folder.path().join(name);
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let failure = connector(&HttpSettings {
                ca_cert: Some((&path, CA_CERT)),
                ..HttpSettings::new(&proxies, Duration::ZERO)
            })
            .unwrap_err();
            assert_eq!(failure.code, ExitCode::Usage, "{name}");
            assert!(failure.message.contains("ELASTICSEARCH_CA_CERT / --ca-cert"), "{failure}");
            assert!(failure.message.contains(name), "{failure}");
        }
    }

    #[test]
    fn a_client_certificate_with_the_key_of_another_is_a_usage_failure() {
        let (folder, proxies) = (tempfile::tempdir().unwrap(), Proxies::default());
        let [certificate, key] = ["cert", "key"].map(|name| folder.path().join(name));
        let made = [(), ()].map(|()| rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap());
        std::fs::write(&certificate, made[0].cert.pem()).unwrap();
        std::fs::write(&key, made[1].signing_key.serialize_pem()).unwrap();
        let failure = connector(&HttpSettings {
            client_cert: Some((&certificate, &key)),
            ..HttpSettings::new(&proxies, Duration::ZERO)
        })
        .unwrap_err();
        assert_eq!(failure.code, ExitCode::Usage);
        assert!(failure.message.contains("--client-key"), "{failure}");
    }
}
