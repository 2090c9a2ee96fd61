//! Verifies a server's certificate. It is accepted in one of three ways:
//!
//! - Its chain leads to a root of the system, or to one in the file of `--ca-cert`.
//! - The certificate itself is in that file, byte for byte. `openssl req -x509` marks its certificates as a CA's, and
//!   the TLS library does not accept a CA certificate from a server.
//! - With `--ca-fingerprint`, a certificate of the chain or of the file has that fingerprint. It is then the only root;
//!   nothing else is trusted.
//!
//! In each case the name has to match, and the certificate has to be valid now.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

use super::validity::validity;
use crate::http::Fingerprint;

/// Verifies servers.
#[derive(Debug)]
pub(super) struct Verifier {
    provider: Arc<CryptoProvider>,
    /// None: any server is trusted (`--skip-tls-verify`).
    trust: Option<Trust>,
}

/// The trusted certificates.
#[derive(Debug)]
pub(super) struct Trust {
    /// Roots of the system and of the file.
    roots: Arc<RootCertStore>,
    /// The certificates of the file.
    own: Vec<CertificateDer<'static>>,
    fingerprint: Option<Fingerprint>,
}

impl Trust {
    /// Trusts `system` and `own`, or only the fingerprint if there is one.
    pub(super) fn new(
        system: Vec<CertificateDer<'static>>,
        own: Vec<CertificateDer<'static>>,
        fingerprint: Option<Fingerprint>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(own.iter().cloned().chain(system));
        Self { roots: Arc::new(roots), own, fingerprint }
    }

    /// Returns whether no server at all is trusted.
    pub(super) fn is_empty(&self) -> bool {
        self.roots.is_empty() && self.fingerprint.is_none()
    }
}

impl Verifier {
    pub(super) fn new(provider: Arc<CryptoProvider>, trust: Option<Trust>) -> Self {
        Self { provider, trust }
    }

    /// Verifies a signature of the handshake with the function of its TLS version.
    fn verify_signature(
        &self,
        verify: impl FnOnce(&WebPkiSupportedAlgorithms) -> Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.trust {
            Some(_) => verify(&self.provider.signature_verification_algorithms),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    /// Verifies that the chain leads to one of `roots`.
    fn verify_chain(
        &self,
        roots: Arc<RootCertStore>,
        chain: &Chain<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone())
            .build()
            .map_err(|_| Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        verifier.verify_server_cert(chain.server, chain.issuers, chain.name, &[], now)
    }

    /// Verifies the server by the certificate with the fingerprint.
    fn verify_fingerprint(
        &self,
        own: &[CertificateDer<'_>],
        fingerprint: Fingerprint,
        chain: &Chain<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Fingerprint::of(chain.server) == fingerprint {
            return verify_own(chain, now);
        }
        let mut candidates = chain.issuers.iter().chain(own);
        let Some(root) = candidates.find(|certificate| Fingerprint::of(certificate) == fingerprint) else {
            return Err(other(
                "no certificate of its chain has the fingerprint of --ca-fingerprint (ELASTICSEARCH_CA_FINGERPRINT)",
            ));
        };
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        self.verify_chain(Arc::new(roots), chain, now)
    }
}

/// The certificates that a server presents, and the name it has to have.
struct Chain<'c> {
    server: &'c CertificateDer<'c>,
    issuers: &'c [CertificateDer<'c>],
    name: &'c ServerName<'c>,
}

/// Checks name and validity of a certificate that is itself trusted. The handshake proves that the server has its key.
fn verify_own(chain: &Chain<'_>, now: UnixTime) -> Result<ServerCertVerified, Error> {
    let invalid = |why| Err(Error::InvalidCertificate(why));
    verify_server_name(&ParsedCertificate::try_from(chain.server)?, chain.name)?;
    let Some((first, last)) = validity(chain.server) else { return invalid(CertificateError::BadEncoding) };
    match i64::try_from(now.as_secs()).unwrap_or(i64::MAX) {
        now if now < first => invalid(CertificateError::NotValidYet),
        now if now > last => invalid(CertificateError::Expired),
        _ => Ok(ServerCertVerified::assertion()),
    }
}

/// Creates an error with a text of this program.
fn other(why: &'static str) -> Error {
    #[derive(Debug)]
    struct Why(&'static str);
    impl fmt::Display for Why {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }
    impl std::error::Error for Why {}
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Why(why)))))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(Trust { roots, own, fingerprint }) = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let chain = Chain { server: end_entity, issuers: intermediates, name: server_name };
        if let Some(fingerprint) = fingerprint {
            return self.verify_fingerprint(own, *fingerprint, &chain, now);
        }
        if own.iter().any(|own| own == end_entity) {
            return verify_own(&chain, now);
        }
        self.verify_chain(roots.clone(), &chain, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(|all| verify_tls12_signature(message, certificate, signature, all))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(|all| verify_tls13_signature(message, certificate, signature, all))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
