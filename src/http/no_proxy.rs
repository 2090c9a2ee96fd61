//! The hosts that are reached without a proxy.

use std::net::IpAddr;

use ureq::http::Uri;

use super::url::default_port;

/// Link-local addresses of the clouds' metadata services, which no proxy reaches.
const LINK_LOCAL: &str = "169.254.0.0/16,fd00:ec2::/32";

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

    pub(super) fn has(&self, uri: &Uri) -> bool {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(default_port(uri));
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
}
