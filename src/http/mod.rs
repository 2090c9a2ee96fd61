//! HTTP and TLS for requests to all servers: what the client trusts, and how requests fail.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::unversioned::transport::Connector;

use self::interim::InterimConnector;
use self::proxy::{Proxies, ProxyConnector};
use self::resolver::CachingResolver;
use crate::common::exit::Failure;

pub(crate) mod encoding;
mod fingerprint;
mod interim;
mod no_proxy;
pub(crate) mod nodes;
pub mod proxy;
mod resolver;
mod retry_after;
mod tls;
mod transport_error;
pub mod url;

pub use self::fingerprint::Fingerprint;
pub(crate) use self::retry_after::{http_date, retry_after};
pub use self::transport_error::TransportError;

const USER_AGENT: &str = concat!("megastream_ingest/", env!("CARGO_PKG_VERSION"));

/// The setting that names a PEM file with certificates to trust, for messages.
pub(crate) const CA_CERT: &str = "ELASTICSEARCH_CA_CERT / --ca-cert";

/// Connection settings for one server.
pub(crate) struct HttpSettings<'s> {
    /// PEM file of certificates to trust in addition to the system's roots, and the setting that names it.
    pub(crate) ca_cert: Option<(&'s Path, &'s str)>,
    /// Fingerprint of the only certificate to trust.
    pub(crate) ca_fingerprint: Option<Fingerprint>,
    /// PEM files with this client's certificate and key.
    pub(crate) client_cert: Option<(&'s Path, &'s Path)>,
    /// Whether any request uses TLS. If not, the system's roots are not read.
    pub(crate) is_https: bool,
    /// Whether the client accepts any certificate.
    pub(crate) skip_tls_verify: bool,
    /// The proxy, and the hosts that are reached without it.
    pub(crate) proxies: &'s Proxies,
    /// Time limit for name resolution, TCP connection and TLS handshake together.
    pub(crate) connect_limit: Duration,
    /// Time limit until the head of a reply arrives.
    pub(crate) head_limit: Option<Duration>,
    /// Time limit between two pieces of a reply's body.
    pub(crate) read_limit: Option<Duration>,
    /// Maximum number of idle connections that are kept.
    pub(crate) idle_connections: usize,
}

impl<'s> HttpSettings<'s> {
    /// Creates settings for one thread that sends requests to a server which the system trusts.
    pub(crate) fn new(proxies: &'s Proxies, connect_limit: Duration) -> Self {
        Self {
            ca_cert: None,
            ca_fingerprint: None,
            client_cert: None,
            is_https: true,
            skip_tls_verify: false,
            proxies,
            connect_limit,
            head_limit: None,
            read_limit: None,
            idle_connections: 1,
        }
    }
}

/// Size of the buffer for what arrives, in bytes, which also limits the head of a reply.
const BUFFER_BYTES: usize = 128 << 10;

/// Creates an agent for requests to one server.
///
/// It follows no redirects and ignores the proxy variables of the environment: credentials go only to the host that
/// they are for. A reply of any status is a reply, not an error. Requests ask for uncompressed replies.
///
/// # Errors
///
/// Returns a usage failure if a certificate file cannot be used, or if nothing is trusted.
pub(crate) fn agent(settings: &HttpSettings<'_>) -> Result<Agent, Failure> {
    let config = Agent::config_builder()
        .max_redirects(0)
        .proxy(None)
        .http_status_as_error(false)
        .user_agent(USER_AGENT)
        .accept_encoding("identity")
        .timeout_connect(Some(settings.connect_limit))
        .timeout_recv_response(settings.head_limit)
        .timeout_per_read(settings.read_limit)
        // After an interim answer, everything that has arrived counts as a head.
        .input_buffer_size(BUFFER_BYTES)
        .max_response_header_size(BUFFER_BYTES)
        .max_idle_connections(settings.idle_connections)
        .max_idle_connections_per_host(settings.idle_connections)
        .build();
    let proxies = Arc::new(settings.proxies.clone());
    let connector =
        ProxyConnector::new(proxies.clone()).chain(tls::connector(settings)?).chain(InterimConnector);
    Ok(Agent::with_parts(config, connector, CachingResolver::new(proxies)))
}
