//! What requests to any server have in common: the one HTTP and TLS stack, what is trusted, and how a request fails.

use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::unversioned::transport::DefaultConnector;

use self::resolver::Remembering;
use crate::exit::Failure;

mod resolver;
mod retry_after;
mod tls;
mod transport_error;
pub mod url;

pub(crate) use self::retry_after::retry_after;
pub use self::transport_error::TransportError;

const USER_AGENT: &str = concat!("megastream_ingest/", env!("CARGO_PKG_VERSION"));

/// How a server is talked to.
pub(crate) struct Settings<'s> {
    /// Roots to trust besides those of the system, PEM.
    pub(crate) ca_cert: Option<&'s Path>,
    /// Whether any request goes by TLS. Else the system's roots are not read.
    pub(crate) is_https: bool,
    /// Whether no certificate is checked.
    pub(crate) skip_tls_verify: bool,
    /// Time for name, TCP connection and TLS handshake.
    pub(crate) connect_limit: Duration,
    /// Time to the head of a reply.
    pub(crate) head_limit: Option<Duration>,
    /// Time in which at least something of a body has to come.
    pub(crate) read_limit: Option<Duration>,
    /// Idle connections kept at most.
    pub(crate) idle_connections: usize,
}

/// An agent for requests to one server.
///
/// A redirect is the reply that it is, and no proxy of the environment is used: credentials go to no host but the one
/// that they are for. A reply of any status is a reply.
///
/// # Errors
///
/// A usage failure where the CA file cannot be read or holds no certificate, or where nothing is trusted.
pub(crate) fn agent(settings: &Settings<'_>) -> Result<Agent, Failure> {
    let config = Agent::config_builder()
        .tls_config(tls::config(settings)?)
        .max_redirects(0)
        .proxy(None)
        .http_status_as_error(false)
        .user_agent(USER_AGENT)
        .accept_encoding("")
        .timeout_connect(Some(settings.connect_limit))
        .timeout_recv_response(settings.head_limit)
        .timeout_per_read(settings.read_limit)
        .max_idle_connections(settings.idle_connections)
        .max_idle_connections_per_host(settings.idle_connections)
        .build();
    Ok(Agent::with_parts(config, DefaultConnector::new(), Remembering::default()))
}
