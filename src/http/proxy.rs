//! Sends requests through a proxy, except to hosts in `NO_PROXY`.
//!
//! The resolver returns the proxy's addresses instead of the server's, so the proxy resolves the server's name. For
//! https the proxy is asked for a tunnel (CONNECT), and certificates are checked inside it as always. Plain http goes
//! to the proxy with the whole URL in its request line (RFC 9112, section 3.2.2).

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use ureq::http::Uri;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, NextTimeout, TcpConnector, Transport, TransportAdapter,
};

use super::TransportError;
pub use super::no_proxy::NoProxy;
use super::url::{parse_base_url, split_user_info};
use crate::common::secret::Secret;

/// Longest answer of a proxy to CONNECT, in bytes.
const LONGEST_ANSWER: usize = 16 << 10;

/// The proxy, if any, and the hosts reached without it.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// The proxy; None: every server is reached directly.
    pub proxy: Option<Proxy>,
    /// Hosts reached without the proxy, as in `NO_PROXY`.
    pub no_proxy: NoProxy,
    /// A variable that names a proxy for other programs and is ignored here. Errors mention it if no server answers.
    pub unused: Option<&'static str>,
}

impl Proxies {
    /// Returns the proxy for a URL; None: the server is reached directly.
    pub(crate) fn of(&self, uri: &Uri) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|_| !self.no_proxy.has(uri))
    }

    /// Adds to a connection error which proxy was used, or what might help.
    pub(super) fn explained(&self, uri: &Uri, error: ureq::Error) -> ureq::Error {
        let why = match TransportError::from(error) {
            TransportError::Connect(why) => why,
            TransportError::TimedOut => "timed out".to_owned(),
            other => other.to_string(),
        };
        TransportError::Connect(self.explain(uri, &why)).into()
    }

    fn explain(&self, uri: &Uri, why: &str) -> String {
        match (self.of(uri), self.unused) {
            (Some(proxy), _) => format!("by the proxy {}: {why}", proxy.url),
            (None, Some(variable)) if self.proxy.is_none() => format!(
                "{why}; {variable} is set, but this program ignores it: if a proxy is needed, name it with \
                 --proxy (INGEST_PROXY)"
            ),
            _ => why.to_owned(),
        }
    }
}

/// An HTTP proxy.
#[derive(Clone)]
pub struct Proxy {
    /// Base URL, without credentials.
    url: String,
    uri: Uri,
    /// The value of `Proxy-Authorization`.
    authorization: Option<Secret>,
}

impl Proxy {
    /// Parses the URL of a proxy: `http://`, optionally with `user:password@`.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the URL without repeating any of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let (url, user_info) = split_user_info(&text)?;
        let url = parse_base_url(&url)?;
        let uri: Uri = url.parse().map_err(|_| "that is not a URL".to_owned())?;
        if uri.scheme_str() != Some("http") {
            return Err("the URL of a proxy must begin with http:// (https goes through it, too)".to_owned());
        }
        let authorization = user_info.map(|info| {
            let password = info.password.as_ref().map_or("", |password| password.expose());
            let pair = format!("{}:{password}", info.user);
            Secret::new(format!("Basic {}", base64_simd::STANDARD.encode_to_string(pair)))
        });
        Ok(Self { url, uri, authorization })
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Returns whether the proxy has credentials.
    pub fn has_credentials(&self) -> bool {
        self.authorization.is_some()
    }

    /// Returns the URL, without credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the header line with the credentials; empty if there are none.
    fn authorization_line(&self) -> String {
        let line = |value: &Secret| format!("Proxy-Authorization: {}\r\n", value.expose());
        self.authorization.as_ref().map(line).unwrap_or_default()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.url)
    }
}

/// A TCP connection, as the HTTP library opens it.
type Tcp = <TcpConnector as Connector>::Out;

/// Opens TCP connections. Turns one to the proxy into one to the server.
#[derive(Debug)]
pub(super) struct ProxyConnector {
    tcp: TcpConnector,
    proxies: Arc<Proxies>,
}

impl ProxyConnector {
    pub(super) fn new(proxies: Arc<Proxies>) -> Self {
        Self { tcp: TcpConnector::default(), proxies }
    }
}

impl Connector for ProxyConnector {
    type Out = Either<Tcp, Forwarding>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let opened = self.tcp.connect(details, chained);
        let opened = opened.map_err(|error| self.proxies.explained(details.uri, error))?;
        let Some(transport) = opened else { return Ok(None) };
        let Some(proxy) = self.proxies.of(details.uri) else { return Ok(Some(Either::A(transport))) };
        Ok(Some(if details.needs_tls() {
            Either::A(tunnel(proxy, details, transport)?)
        } else {
            let authority = details.uri.authority().map_or("", |authority| authority.as_str());
            let prefix = format!("http://{authority}");
            Either::B(Forwarding { inner: transport, prefix, lines: proxy.authorization_line() })
        }))
    }
}

/// Asks the proxy for a tunnel to the server (CONNECT).
fn tunnel(proxy: &Proxy, details: &ConnectionDetails<'_>, transport: Tcp) -> Result<Tcp, ureq::Error> {
    let uri = details.uri;
    let host = format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(443));
    let mut stream = TransportAdapter::new(transport, details.current_time.clone());
    stream.set_timeout(details.timeout);
    let authorization = proxy.authorization_line();
    let asked = write!(stream, "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n")
        .and_then(|()| stream.flush());
    let status =
        asked.map_err(ureq::Error::from).and_then(|()| read_status(&mut stream)).map_err(|error| {
            // Nothing was sent to the server itself.
            let why = TransportError::from(error);
            TransportError::Connect(format!(
                "by the proxy {}: it does not answer CONNECT {host}: {why}",
                proxy.url
            ))
        })?;
    let answers = format!("the proxy {} answers HTTP {status} to CONNECT {host}", proxy.url);
    let what_to_do = match status {
        200..=299 => return Ok(stream.into_inner()),
        408 | 429 | 500..=599 => return Err(TransportError::Connect(answers).into()),
        407 if proxy.has_credentials() => "it refuses the user or password in --proxy (INGEST_PROXY)",
        407 => "give it http://user:password@… in INGEST_PROXY",
        _ => "allow this host there, or add it to NO_PROXY",
    };
    Err(TransportError::RefusedByProxy(format!("{answers}: {what_to_do}")).into())
}

/// Reads the head of an answer, and nothing beyond it. Returns its status.
fn read_status(stream: &mut impl Read) -> Result<u16, ureq::Error> {
    let garbled = || ureq::Error::from(io::Error::new(io::ErrorKind::InvalidData, "no status"));
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= LONGEST_ANSWER || stream.read(&mut byte)? == 0 {
            return Err(garbled());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.trim().parse().ok());
    status.ok_or_else(garbled)
}

/// A plain http connection to the proxy: writes the whole URL into the first line of each request.
pub(super) struct Forwarding {
    inner: Tcp,
    /// Scheme and host, written before the path.
    prefix: String,
    /// Header line with the proxy's credentials; empty if there are none.
    lines: String,
}

/// Returns where the request target starts; None: the bytes are not the head of a request. Bodies of this program never
/// look like one.
fn request_line(output: &[u8]) -> Option<usize> {
    let line = output.iter().position(|&byte| byte == b'\r')?;
    let target = output.iter().position(|&byte| byte == b' ')? + 1;
    let is_line = output.get(..line)?.ends_with(b" HTTP/1.1") && output.get(target) == Some(&b'/');
    (is_line && output.get(..target - 1)?.iter().all(u8::is_ascii_uppercase)).then_some(target)
}

impl Transport for Forwarding {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let output = self.inner.buffers().output().get(..amount).unwrap_or_default();
        let Some(target) = request_line(output) else { return self.inner.transmit_output(amount, timeout) };
        let line_end = output.windows(2).position(|pair| pair == b"\r\n").map_or(output.len(), |at| at + 2);
        let (line, rest) = output.split_at(line_end);
        let (method, line) = line.split_at(target);
        let all = [method, self.prefix.as_bytes(), line, self.lines.as_bytes(), rest].concat();
        let mut left = all.as_slice();
        while !left.is_empty() {
            // Most of these bytes were in the buffer before, so it has room for a large part of them.
            let into = self.inner.buffers().output();
            let (part, rest) = left.split_at(left.len().min(into.len()));
            into[..part.len()].copy_from_slice(part);
            self.inner.transmit_output(part.len(), timeout)?;
            left = rest;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

impl fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Forwarding({:?})", self.inner)
    }
}

#[cfg(test)]
mod tests;
