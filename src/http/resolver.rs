//! Caches the addresses of hosts.
//!
//! ureq resolves the host for every request, even on an open connection, and starts a thread each time. That takes
//! about 3 % of a run's CPU time, and a run would stop at every hiccup of the name service, though its connections are
//! open. So addresses are cached as long as resolvers usually cache them, and longer while resolving fails.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::proxy::{Proxies, Proxy};
use super::url::default_port;

use crate::common::mutex::Mutex;

/// How long cached addresses are used without resolving again.
const CACHED_FOR: Duration = Duration::from_secs(30);

/// Resolves with `R`, and caches the addresses. Returns the proxy's addresses for a server behind a proxy.
pub(crate) struct CachingResolver<R = DefaultResolver> {
    resolver: R,
    proxies: Arc<Proxies>,
    known: Mutex<HashMap<String, CachedAddresses>>,
}

struct CachedAddresses {
    addresses: Vec<SocketAddr>,
    asked: Instant,
}

impl CachingResolver {
    /// Creates an empty cache.
    pub(super) fn new(proxies: Arc<Proxies>) -> Self {
        Self { resolver: DefaultResolver::default(), proxies, known: Mutex::default() }
    }
}

impl<R: Resolver> Resolver for CachingResolver<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let server = uri;
        let uri = self.proxies.of(server).map_or(server, Proxy::uri);
        let host = format!("{:?} {:?}", uri.scheme_str(), uri.authority());
        if let Some(known) = self.known.lock().get(&host).filter(|known| known.asked.elapsed() < CACHED_FOR) {
            return Ok(self.array(&known.addresses));
        }
        let found =
            self.resolver.resolve(uri, config, timeout).or_else(|error| self.loopback(uri).ok_or(error));
        let mut all = self.known.lock();
        match found {
            Ok(found) => {
                let known = CachedAddresses { addresses: found.to_vec(), asked: Instant::now() };
                all.insert(host, known);
                Ok(found)
            }
            Err(error) => match all.get_mut(&host) {
                Some(known) => {
                    log::debug!("the earlier addresses of {host} are still used: {error}");
                    known.asked = Instant::now();
                    Ok(self.array(&known.addresses))
                }
                None => Err(self.proxies.explained(server, error)),
            },
        }
    }
}

impl<R: Resolver> CachingResolver<R> {
    /// Returns this host's address for names below `localhost`, which not every system resolves (RFC 6761, section
    /// 6.3).
    fn loopback(&self, uri: &Uri) -> Option<ResolvedSocketAddrs> {
        let host = uri.host()?.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(default_port(uri));
        host.ends_with(".localhost").then(|| self.array(&[([127, 0, 0, 1], port).into()]))
    }

    /// Copies addresses into the library's array. They fit: they come from such an array.
    fn array(&self, addresses: &[SocketAddr]) -> ResolvedSocketAddrs {
        let mut array = self.resolver.empty();
        addresses.iter().for_each(|address| array.push(*address));
        array
    }
}

impl<R> fmt::Debug for CachingResolver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CachingResolver")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use ureq::Timeout;

    use super::*;

    /// Returns another port each time, until none is left.
    #[derive(Debug)]
    struct Changing(AtomicU16);

    impl Resolver for Changing {
        fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
            match self.0.fetch_sub(1, Ordering::Relaxed) {
                port @ 1..10 => {
                    let mut array = self.empty();
                    array.push(([127, 0, 0, 1], port).into());
                    Ok(array)
                }
                _ => Err(ureq::Error::HostNotFound),
            }
        }
    }

    fn ask(resolver: &CachingResolver<Changing>, uri: &'static str) -> Result<u16, ureq::Error> {
        let after = ureq::unversioned::transport::time::Duration::NotHappening;
        let timeout = NextTimeout { after, reason: Timeout::Resolve, per_read: None, per_write: None };
        let found = resolver.resolve(&Uri::from_static(uri), &Config::default(), timeout)?;
        Ok(found[0].port())
    }

    fn forget_when(resolver: &CachingResolver<Changing>) {
        for known in resolver.known.lock().values_mut() {
            known.asked = Instant::now().checked_sub(CACHED_FOR).unwrap();
        }
    }

    #[test]
    fn addresses_are_cached_and_kept_while_resolving_fails() {
        let resolver = CachingResolver {
            resolver: Changing(AtomicU16::new(3)),
            proxies: Arc::default(),
            known: Mutex::default(),
        };
        assert_eq!(ask(&resolver, "http://a:1/x").unwrap(), 3);
        assert_eq!(ask(&resolver, "http://a:1/y").unwrap(), 3);
        assert_eq!(ask(&resolver, "http://b:1/").unwrap(), 2, "another host");
        forget_when(&resolver);
        assert_eq!(ask(&resolver, "http://a:1/").unwrap(), 1);
        forget_when(&resolver);
        assert_eq!(ask(&resolver, "http://a:1/").unwrap(), 1, "nothing answers any more");
        assert!(ask(&resolver, "http://c:1/").is_err(), "what was never known");
        assert_eq!(ask(&resolver, "http://bucket.localhost:7/").unwrap(), 7, "this host");
    }
}
