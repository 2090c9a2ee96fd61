//! Classifies requests that got no complete reply.

use std::fmt;
use std::io;

use ureq::Timeout;

/// Why a request got no complete reply. The texts hold no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The certificate or the protocol of the TLS connection cannot be trusted. Retrying does not help.
    Tls(String),
    /// The server or a proxy refuses this client, or there are no credentials to send. Retrying does not help; the text
    /// says what does.
    Refused(String),
    /// The proxy opens no connection to the server. It may do so later; the text says what helps.
    RefusedByProxy(String),
    /// No complete reply came in time. The server may have carried out the request.
    TimedOut,
    /// There is no connection, so nothing was sent.
    Connect(String),
    /// The connection broke, or the head of the reply was cut off or invalid. The server may have carried out the
    /// request.
    Interrupted(String),
    /// The connection broke after the head of the reply. The server has judged the request, but part of its answer is
    /// missing.
    Cut(String),
    /// Anything else, such as a reply over the size limit.
    Other(String),
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransportError::Tls(why) => write!(f, "no trusted TLS connection: {why}"),
            TransportError::Refused(why) | TransportError::RefusedByProxy(why) => f.write_str(why),
            TransportError::TimedOut => f.write_str("no reply in time"),
            TransportError::Connect(why) => write!(f, "no connection: {why}"),
            TransportError::Interrupted(why) => write!(f, "connection interrupted: {why}"),
            TransportError::Cut(why) => write!(f, "reply cut off: {why}"),
            TransportError::Other(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for TransportError {}

impl TransportError {
    /// Returns the error in the form for one that came after the head of the reply.
    pub(crate) fn after_head(self) -> Self {
        match self {
            Self::Interrupted(why) => Self::Cut(why),
            other => other,
        }
    }
}

impl From<ureq::Error> for TransportError {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
                Self::Connect("timed out".to_owned())
            }
            ureq::Error::Timeout(_) => Self::TimedOut,
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => Self::Connect(error.to_string()),
            ureq::Error::Protocol(why) => Self::Interrupted(why.to_string()),
            ureq::Error::Tls(why) => Self::Tls(why.to_owned()),
            ureq::Error::Rustls(why) => from_rustls(&why),
            ureq::Error::Io(why) => from_io(&why),
            ureq::Error::Other(why) => {
                why.downcast().map_or_else(|other| Self::Other(other.to_string()), |own| *own)
            }
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<TransportError> for ureq::Error {
    /// Wraps an error that this program passes through the HTTP library. It is unwrapped at the other end.
    fn from(error: TransportError) -> Self {
        Self::Other(Box::new(error))
    }
}

fn from_io(error: &io::Error) -> TransportError {
    use io::ErrorKind::*;

    // Errors of rustls in a handshake arrive wrapped in an I/O error.
    if let Some(why) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return from_rustls(why);
    }
    let text = error.to_string();
    match error.kind() {
        ConnectionRefused | HostUnreachable | NetworkUnreachable | NetworkDown | AddrNotAvailable => {
            TransportError::Connect(text)
        }
        TimedOut => TransportError::TimedOut,
        UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected | InvalidData => {
            TransportError::Interrupted(text)
        }
        // The standard library has no error kind for a name that does not resolve.
        _ if text.starts_with("failed to lookup address") => TransportError::Connect(text),
        _ => TransportError::Other(text),
    }
}

fn from_rustls(error: &rustls::Error) -> TransportError {
    use rustls::CertificateError;
    use rustls::Error::*;

    match error {
        // Its text is this program's; that of the TLS library would be in the notation of Rust.
        InvalidCertificate(CertificateError::Other(why)) => TransportError::Tls(why.to_string()),
        InvalidCertificate(_) | NoCertificatesPresented | UnsupportedNameType | PeerIncompatible(_) => {
            TransportError::Tls(error.to_string())
        }
        InvalidMessage(_) => TransportError::Tls(format!("{error} (does the server speak plain http?)")),
        _ => TransportError::Interrupted(error.to_string()),
    }
}
