//! Opens TCP connections, and explains errors if no server answers.

use std::sync::Arc;

use ureq::http::Uri;
use ureq::unversioned::transport::{ConnectionDetails, Connector, TcpConnector, Transport};

use super::TransportError;
use super::proxy::Proxies;

/// Opens TCP connections.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) tcp: TcpConnector,
    pub(super) proxies: Arc<Proxies>,
}

impl<In: Transport> Connector<In> for Reach {
    type Out = <TcpConnector as Connector<In>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        self.tcp.connect(details, chained).map_err(|error| explained(&self.proxies, details.uri, error))
    }
}

/// Adds what might help to a connection error.
pub(super) fn explained(proxies: &Proxies, uri: &Uri, error: ureq::Error) -> ureq::Error {
    let why = match TransportError::from(error) {
        TransportError::Connect(why) => why,
        TransportError::TimedOut => "timed out".to_owned(),
        other => other.to_string(),
    };
    TransportError::Connect(proxies.explain(uri, &why)).into()
}
