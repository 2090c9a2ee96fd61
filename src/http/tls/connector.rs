//! TLS connections for the HTTP library. The library's own TLS supports no custom verifier, and does not show whether
//! the server asked for a client certificate.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConfig, ClientConnection, SignatureScheme, StreamOwned};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::http::TransportError;

/// Advice if the server asks for a client certificate and there is none.
const MISSING_CERT_ADVICE: &str = "the server requests a client certificate, but none is given: name it and its key \
with --client-cert and --client-key (ELASTICSEARCH_CLIENT_CERT, ELASTICSEARCH_CLIENT_KEY)";
const REFUSED_CERT_ADVICE: &str = "the server refuses the client certificate of --client-cert \
(ELASTICSEARCH_CLIENT_CERT): check whether it has expired, and whether the server trusts its issuer";

/// Wraps connections in TLS if the URL is https.
pub(in crate::http) struct TlsConnector(pub(super) ClientConfig);

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConnector")
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, Tls>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            ureq::Error::Tls("a certificate cannot name the host of the URL: use a host name")
        })?;
        let (mut config, asked) = (self.0.clone(), Arc::new(AtomicBool::new(false)));
        let has_certificate = config.client_auth_cert_resolver.has_certs();
        if !has_certificate {
            config.client_auth_cert_resolver = Arc::new(NoClientCert(asked.clone()));
        }
        let identity = Identity { asked, has_certificate };
        let mut connection = ClientConnection::new(Arc::new(config), name)?;
        let mut sock = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        sock.set_timeout(details.timeout);
        if let Err(error) = connection.complete_io(&mut sock) {
            return Err(identity.explain(closing_alert(&mut connection, &mut sock, error)));
        }
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        let stream = StreamOwned { conn: connection, sock };
        let buffers = LazyBuffers::new(input, output);
        Ok(Some(Either::B(Tls { buffers, stream, identity, has_received: false })))
    }
}

/// Provides no client certificate, and records that the server asked for one.
#[derive(Debug)]
struct NoClientCert(Arc<AtomicBool>);

impl ResolvesClientCert for NoClientCert {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// State of client authentication.
struct Identity {
    /// Whether the server asked for a certificate, and there is none.
    asked: Arc<AtomicBool>,
    has_certificate: bool,
}

impl Identity {
    /// Explains an error that came before the first reply. Only then does a server say that it rejects this client.
    fn explain(&self, error: io::Error) -> ureq::Error {
        use AlertDescription as Alert;
        let rustls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let asked = self.asked.load(Ordering::Relaxed);
        let Some(rustls::Error::AlertReceived(alert)) = rustls else {
            if asked && error.kind() != io::ErrorKind::TimedOut {
                return io::Error::new(
                    error.kind(),
                    format!("{error} ({MISSING_CERT_ADVICE}, if it requires one)"),
                )
                .into();
            }
            return error.into();
        };
        let is_about_client = matches!(
            alert,
            Alert::CertificateRequired
                | Alert::NoCertificate
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                // The certificate's signature was made with another issuer's key.
                | Alert::DecryptError
        );
        let advice = match alert {
            Alert::CertificateRequired => MISSING_CERT_ADVICE,
            _ if asked && (is_about_client || *alert == Alert::HandshakeFailure) => MISSING_CERT_ADVICE,
            _ if is_about_client && self.has_certificate => REFUSED_CERT_ADVICE,
            _ => return error.into(),
        };
        TransportError::Refused(format!("{advice} ({alert:?})")).into()
    }
}

/// Returns the error that the server sent before it closed the connection: its alert may still be unread.
fn closing_alert(
    connection: &mut ClientConnection,
    sock: &mut TransportAdapter,
    error: io::Error,
) -> io::Error {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    if !matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset) {
        return error;
    }
    loop {
        // Repeats an error among the packets that were read earlier.
        if let Err(why) = connection.process_new_packets() {
            return io::Error::new(io::ErrorKind::InvalidData, why);
        }
        if !matches!(connection.read_tls(sock), Ok(1..)) {
            return error;
        }
    }
}

pub(in crate::http) struct Tls {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    identity: Identity,
    /// Whether the server has sent data within TLS, so that it accepts this client.
    has_received: bool,
}

impl Tls {
    fn explain(&mut self, error: io::Error) -> ureq::Error {
        if self.has_received {
            return error.into();
        }
        let StreamOwned { conn, sock } = &mut self.stream;
        self.identity.explain(closing_alert(conn, sock, error))
    }
}

impl Transport for Tls {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output).map_err(|error| self.explain(error))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount =
            self.stream.read(self.buffers.input_append_buf()).map_err(|error| self.explain(error))?;
        self.buffers.input_appended(amount);
        if amount == 0 && !self.has_received && self.identity.asked.load(Ordering::Relaxed) {
            return Err(self.explain(io::ErrorKind::UnexpectedEof.into()));
        }
        self.has_received |= amount > 0;
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
