//! The address of `--listen`.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};

use crate::common::text::digits;

/// Default port, from Prometheus' range for exporters.
const PORT: u16 = 9464;

/// Default host, which no other machine can reach.
const LOOPBACK: &str = "127.0.0.1";

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// A host name, or an IP address without brackets.
    host: String,
    port: u16,
}

impl ListenAddress {
    /// Parses `HOST`, `HOST:PORT`, `PORT` or `:PORT`; an IPv6 address with a port is in brackets. None for anything
    /// else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let new = |host: &str, port| Self { host: host.to_owned(), port };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(new(LOOPBACK, digits(text)?));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Some(new(text, PORT));
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').filter(|(host, _)| host.parse::<Ipv6Addr>().is_ok())?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => digits(port)?,
            None if port.is_empty() => PORT,
            None => return None,
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c) || text.starts_with('[');
        match host {
            "" if text.starts_with(':') => Some(new(LOOPBACK, port)),
            "" => None,
            host => host.chars().all(is_host).then(|| new(host, port)),
        }
    }

    /// Resolves the address.
    ///
    /// # Errors
    ///
    /// Fails if the name cannot be resolved.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_the_default_port_fill_in() {
        for (text, expected) in [
            ("9999", "127.0.0.1:9999"),
            (":9464", "127.0.0.1:9464"),
            (":0", "127.0.0.1:0"),
            ("127.0.0.1", "127.0.0.1:9464"),
            ("0.0.0.0", "0.0.0.0:9464"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("localhost", "localhost:9464"),
            ("node-1.example:81", "node-1.example:81"),
            ("::1", "[::1]:9464"),
            ("::", "[::]:9464"),
            ("[::1]", "[::1]:9464"),
            ("[::]:82", "[::]:82"),
        ] {
            let parsed = ListenAddress::parse(text).map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let wrong = [
            "",
            " ",
            "99999",
            "+1",
            "a:b",
            "a:",
            "a:1:2",
            "http://a:1",
            "[::1",
            "[a]:1",
            "[::1]1",
            "a/b",
            "*:1",
        ];
        for text in wrong {
            assert_eq!(ListenAddress::parse(text), None, "{text:?}");
        }
    }
}
