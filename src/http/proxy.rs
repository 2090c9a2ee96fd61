//! Sends requests through a proxy, except to hosts in `NO_PROXY`.
//!
//! The resolver returns the proxy's addresses instead of the server's, so the proxy resolves the server's name. For
//! https the proxy is asked for a tunnel (CONNECT), and certificates are checked inside it as always. Plain http goes
//! to the proxy with the whole URL in its request line (RFC 9112, section 3.2.2).

use std::fmt;
use std::io::{self, Read, Write};
use std::net::IpAddr;

use ureq::http::Uri;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, NextTimeout, Transport, TransportAdapter,
};

use super::transport_error::{RefusedByProxy, TransportError, Unreachable};
use super::url::{parse_base_url, split_user_info};
use crate::secret::Secret;

/// Longest answer of a proxy to CONNECT, in bytes.
const LONGEST_ANSWER: usize = 16 << 10;

/// Link-local addresses of the clouds' metadata services, which no proxy reaches.
const LINK_LOCAL: &str = "169.254.0.0/16,fd00:ec2::/32";

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
    pub(crate) fn explain(&self, uri: &Uri, why: &str) -> String {
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

/// Hosts reached without a proxy: names (each with all its subdomains), addresses and address ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    /// A name and all its subdomains.
    Name(String, Option<u16>),
    /// An address range, by its prefix length in bits.
    Range(IpAddr, u32, Option<u16>),
}

impl NoProxy {
    /// Parses the value of `NO_PROXY`. Ignores parts that cannot be parsed: they name no host.
    pub fn parse(text: &str) -> Self {
        let parts = text.split([',', ' ', '\t']).map(str::trim).filter(|part| !part.is_empty());
        Self(parts.filter_map(Exception::parse).collect())
    }

    fn has(&self, uri: &Uri) -> bool {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let near = Self::parse(LINK_LOCAL);
        self.0.iter().chain(&near.0).any(|exception| exception.covers(&host, port))
    }
}

impl Exception {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        if let Ok(ip) = text.trim_matches(['[', ']']).parse() {
            return Some(Self::Range(ip, 128, None));
        }
        if let Some((ip, bits)) = text.split_once('/') {
            return Some(Self::Range(ip.parse().ok()?, bits.parse().ok()?, None));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text, None),
        };
        if let Ok(ip) = host.trim_matches(['[', ']']).parse() {
            return Some(Self::Range(ip, 128, port));
        }
        let name = host.trim_start_matches('*').trim_matches('.').to_ascii_lowercase();
        (!name.is_empty()).then_some(Self::Name(name, port))
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let is_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match self {
            Self::All => true,
            Self::Name(name, wanted) => {
                let above = host.strip_suffix(name.as_str());
                is_port(wanted) && above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
            Self::Range(ip, bits, wanted) => {
                is_port(wanted) && host.parse::<IpAddr>().is_ok_and(|host| share_prefix(host, *ip, *bits))
            }
        }
    }
}

/// Returns whether the first `bits` bits of two addresses are equal.
fn share_prefix(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits.min(32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits.min(128)
        }
        _ => false,
    }
}

/// Turns a connection to the proxy into one to the server.
#[derive(Debug)]
pub(super) struct ProxyConnector(pub(super) std::sync::Arc<Proxies>);

impl<In: Transport> Connector<In> for ProxyConnector {
    type Out = Either<In, Either<In, Forwarding<In>>>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        let Some(proxy) = self.0.of(details.uri) else { return Ok(Some(Either::A(transport))) };
        Ok(Some(Either::B(if details.needs_tls() {
            Either::A(tunnel(proxy, details, transport)?)
        } else {
            let authority = details.uri.authority().map_or("", |authority| authority.as_str());
            let prefix = format!("http://{authority}");
            Either::B(Forwarding { inner: transport, prefix, lines: proxy.authorization_line() })
        })))
    }
}

/// Asks the proxy for a tunnel to the server (CONNECT).
fn tunnel<In: Transport>(
    proxy: &Proxy,
    details: &ConnectionDetails<'_>,
    transport: In,
) -> Result<In, ureq::Error> {
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
            Unreachable::error(format!(
                "by the proxy {}: it does not answer CONNECT {host}: {why}",
                proxy.url
            ))
        })?;
    let answers = format!("the proxy {} answers HTTP {status} to CONNECT {host}", proxy.url);
    match status {
        200..=299 => Ok(stream.into_inner()),
        407 if proxy.has_credentials() => Err(RefusedByProxy::error(format!(
            "{answers}: it refuses the user or password in --proxy (INGEST_PROXY)"
        ))),
        407 => {
            Err(RefusedByProxy::error(format!("{answers}: give it http://user:password@… in INGEST_PROXY")))
        }
        408 | 429 | 500..=599 => Err(io::Error::new(io::ErrorKind::HostUnreachable, answers).into()),
        _ => Err(RefusedByProxy::error(format!("{answers}: allow this host there, or add it to NO_PROXY"))),
    }
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
pub(super) struct Forwarding<In> {
    inner: In,
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

impl<In: Transport> Transport for Forwarding<In> {
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

impl<In: fmt::Debug> fmt::Debug for Forwarding<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Forwarding({:?})", self.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_excepted(no_proxy: &str, url: &str) -> bool {
        NoProxy::parse(no_proxy).has(&url.parse().unwrap())
    }

    #[test]
    fn hosts_of_no_proxy_are_reached_directly() {
        for (no_proxy, url) in [
            ("*", "https://es.example"),
            ("es.example", "https://ES.example:9200/x"),
            ("other, .example", "https://es.example"),
            ("*.example", "http://a.es.example"),
            ("example:9200", "http://es.example:9200"),
            ("example:443", "https://es.example"),
            ("10.0.0.0/8", "http://10.1.2.3:9200"),
            ("127.0.0.1", "http://127.0.0.1:9200"),
            ("127.0.0.1:9200", "http://127.0.0.1:9200"),
            ("::1", "http://[::1]:9200"),
            ("fd00::/8", "http://[fd12::1]"),
            ("", "http://169.254.169.254/latest"),
            ("", "http://[fd00:ec2::254]"),
        ] {
            assert!(is_excepted(no_proxy, url), "{no_proxy} {url}");
        }
        for (no_proxy, url) in [
            ("", "https://es.example"),
            ("es.example", "https://yes.example"),
            ("a.es.example", "https://es.example"),
            ("example:9201", "http://es.example:9200"),
            ("10.0.0.0/8", "http://11.1.2.3"),
            ("10.0.0.0/8", "http://10.example"),
            ("127.0.0.1", "http://127.0.0.10"),
            (", ,.,*.", "https://es.example"),
        ] {
            assert!(!is_excepted(no_proxy, url), "{no_proxy} {url}");
        }
    }

    #[test]
    fn credentials_of_a_proxy_are_never_shown() {
        let proxy = Proxy::parse("http://me:hunter2%21@proxy.example:3128/").unwrap();
        assert_eq!(proxy.url(), "http://proxy.example:3128");
        assert_eq!(proxy.authorization_line(), "Proxy-Authorization: Basic bWU6aHVudGVyMiE=\r\n");
        assert!(!format!("{proxy:?}").contains("hunter2"));
        assert_eq!(Proxy::parse("proxy.example:3128").unwrap().url(), "http://proxy.example:3128");
        for (url, why) in
            [("https://proxy.example", "http://"), ("socks5://a:hunter2@b", "http"), ("", "not a URL")]
        {
            let error = Proxy::parse(url).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{url}: {error}");
        }
    }

    #[test]
    fn only_the_head_of_a_request_has_a_request_line() {
        assert_eq!(request_line(b"POST /_bulk HTTP/1.1\r\nhost: x\r\n"), Some(5));
        for other in
            [&b"{\"index\":{}}\r\n"[..], b"", b"POST", b"POST _bulk HTTP/1.1\r\n", b"a / HTTP/1.1\r\n"]
        {
            assert_eq!(request_line(other), None);
        }
    }

    #[test]
    fn an_error_of_a_silent_server_mentions_the_proxy_of_other_programs() {
        let uri: Uri = "https://es.example".parse().unwrap();
        let mut proxies = Proxies { unused: Some("HTTPS_PROXY"), ..Proxies::default() };
        let text = proxies.explain(&uri, "refused");
        assert!(text.starts_with("refused; HTTPS_PROXY is set") && text.contains("--proxy"), "{text}");
        proxies.proxy = Proxy::parse("http://p:1").ok();
        assert_eq!(proxies.explain(&uri, "refused"), "by the proxy http://p:1: refused");
        proxies.no_proxy = NoProxy::parse("example");
        assert_eq!(proxies.explain(&uri, "refused"), "refused");
    }
}
