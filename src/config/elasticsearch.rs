//! Connection settings of Elasticsearch: addresses, authentication and trust.

use std::path::PathBuf;

use crate::auth::{Auth, AuthSettings};
use crate::cli::entries;
use crate::cli::settings::Settings;
use crate::common::exit::Failure;
use crate::http::Fingerprint;
use crate::http::proxy::{NoProxy, Proxies, Proxy};
use crate::http::url::{UserInfo, is_loopback, parse_base_urls};

/// Connection settings of Elasticsearch.
#[derive(Clone, Debug)]
pub struct Elasticsearch {
    /// Base URLs of the nodes, at least one: `http` or `https`, with host, optional port and path prefix; without user
    /// info and trailing `/`.
    pub urls: Vec<String>,
    /// The authentication.
    pub auth: Auth,
    /// Whether certificates are not checked.
    pub skip_tls_verify: bool,
    /// PEM file with certificates to trust besides the system's roots.
    pub ca_cert: Option<PathBuf>,
    /// The only certificate to trust.
    pub ca_fingerprint: Option<Fingerprint>,
    /// PEM files with the client certificate and its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// The proxy, and the hosts to reach without it.
    pub proxies: Proxies,
    /// Whether the command line holds a proxy password, where all users of the machine can see it.
    pub shows_password: bool,
    /// Gzip level of bulk requests; 0: uncompressed.
    pub compression: u8,
}

/// Proxy variables of other programs. They are not used, but may be mentioned.
const OTHER_PROXY_VARIABLES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

impl Elasticsearch {
    /// Creates settings for one server, reached directly, with defaults for the rest.
    pub fn at(url: impl Into<String>, auth: Auth) -> Self {
        Self {
            urls: vec![url.into()],
            auth,
            skip_tls_verify: false,
            ca_cert: None,
            ca_fingerprint: None,
            client_cert: None,
            proxies: Proxies::default(),
            shows_password: false,
            compression: 0,
        }
    }

    /// Lists the insecure settings, each with advice.
    pub fn insecurities(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.skip_tls_verify {
            found.push(
                "--skip-tls-verify: certificates are not checked; others can read and change the traffic; \
                 use --ca-cert instead"
                    .to_owned(),
            );
        }
        let is_open = |url: &String| url.starts_with("http:") && !is_loopback(url);
        if let (true, Some(what)) = (self.urls.iter().any(is_open), self.auth.exposed_secret()) {
            found.push(format!("ELASTICSEARCH_URL is plain http: {what} travels unencrypted; use https"));
        }
        if self.shows_password {
            found.push(
                "--proxy holds a password, which all users of this machine can see in the list of processes: set \
                 INGEST_PROXY instead"
                    .to_owned(),
            );
        }
        found
    }

    pub(super) fn read(settings: Settings<'_>) -> Result<Self, Failure> {
        let (urls, user_info) = read_urls(settings)?;
        let proxies = Proxies::read(settings)?;
        let auth = Auth::read(&AuthSettings {
            variable: &|name| settings.get(name),
            username: settings.value(entries::username()),
            user_info,
            aws_sigv4: settings.choice_if_set(entries::aws_sigv4())?,
            no_auth: settings.cli.no_auth,
            urls: &urls,
            aws: &|region| settings.aws_chain(region),
            proxies: &proxies,
        })?;
        let is_typed = settings.cli.proxy.is_some();
        let shows_password = is_typed && proxies.proxy.as_ref().is_some_and(Proxy::has_credentials);
        let ca_fingerprint = read_fingerprint(settings)?;
        if ca_fingerprint.is_some() && settings.cli.skip_tls_verify {
            return Err(Failure::usage(
                "--ca-fingerprint (ELASTICSEARCH_CA_FINGERPRINT) says which certificate to trust, but \
                 --skip-tls-verify trusts every one: remove one of them",
            ));
        }
        Ok(Self {
            urls,
            auth,
            skip_tls_verify: settings.cli.skip_tls_verify,
            ca_cert: settings.file(entries::ca_cert()),
            ca_fingerprint,
            client_cert: read_client_cert(settings)?,
            proxies,
            shows_password,
            compression: settings.number(entries::compress())?,
        })
    }
}

impl Proxies {
    /// Reads the proxy settings for Elasticsearch and S3.
    pub(super) fn read(settings: Settings<'_>) -> Result<Self, Failure> {
        let unusable =
            |why| Failure::usage(format!("{} cannot be used: {why}", entries::proxy().full_name()));
        let proxy = settings.value(entries::proxy()).map(|url| Proxy::parse(&url).map_err(unusable));
        let no_proxy = settings.get("NO_PROXY").or_else(|| settings.get("no_proxy")).unwrap_or_default();
        Ok(Self {
            proxy: proxy.transpose()?,
            no_proxy: NoProxy::parse(&no_proxy),
            unused: OTHER_PROXY_VARIABLES.into_iter().find(|name| settings.get(name).is_some()),
        })
    }
}

fn read_urls(settings: Settings<'_>) -> Result<(Vec<String>, Option<UserInfo>), Failure> {
    let unusable = |name: &str, why: &str| Failure::usage(format!("{name} cannot be used: {why}"));
    let [url, cloud_id] = [entries::elasticsearch_url(), entries::elasticsearch_cloud_id()];
    match (settings.value(url), settings.value(cloud_id)) {
        (Some(_), Some(_)) => Err(Failure::usage(
            "ELASTICSEARCH_URL and ELASTICSEARCH_CLOUD_ID both say where Elasticsearch is: remove one of \
             them",
        )),
        (None, Some(id)) => match cloud_url(&id) {
            Some(url) => Ok((vec![url], None)),
            None => Err(unusable(
                "ELASTICSEARCH_CLOUD_ID",
                "copy the Cloud ID of the deployment from the console of Elastic Cloud (name:…)",
            )),
        },
        _ => {
            let what = "name the server, as in https://localhost:9200 (or ELASTICSEARCH_CLOUD_ID)";
            let url = settings.needed(url, what)?;
            parse_base_urls(&url).map_err(|why| unusable("ELASTICSEARCH_URL", &why))
        }
    }
}

fn read_fingerprint(settings: Settings<'_>) -> Result<Option<Fingerprint>, Failure> {
    let parse = |(name, text): (String, String)| {
        Fingerprint::parse(&text).ok_or_else(|| {
            Failure::usage(format!(
                "{name} is {text:?}: it takes the 64 hexadecimal digits of a SHA-256, with or without colons"
            ))
        })
    };
    settings.set(entries::ca_fingerprint()).map(parse).transpose()
}

fn read_client_cert(settings: Settings<'_>) -> Result<Option<(PathBuf, PathBuf)>, Failure> {
    match (settings.file(entries::client_cert()), settings.file(entries::client_key())) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        _ => Err(Failure::usage(format!(
            "{} and {} go together: name both",
            entries::client_cert().full_name(),
            entries::client_key().full_name()
        ))),
    }
}

/// Returns the URL of a Cloud ID: a name, a colon, and in base64 the domain, the id of Elasticsearch and the id of Kibana,
/// separated by `$`. Domain and ids may have a port.
fn cloud_url(id: &str) -> Option<String> {
    let encoded = id.trim().rsplit_once(':').map_or(id.trim(), |(_, encoded)| encoded);
    let padded = format!("{encoded}{}", "=".repeat((4 - encoded.len() % 4) % 4));
    let text = String::from_utf8(base64_simd::STANDARD.decode_to_vec(padded).ok()?).ok()?;
    let mut parts = text
        .split('$')
        .map(|part| part.split_once(':').map_or((part, None), |(part, port)| (part, Some(port))));
    let ((domain, port_of_domain), (deployment, port)) = (parts.next()?, parts.next()?);
    let port = port.or(port_of_domain).unwrap_or("443");
    let is_name =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
    let is_whole = is_name(domain) && is_name(deployment) && port.parse::<u16>().is_ok_and(|port| port > 0);
    is_whole.then(|| format!("https://{deployment}.{domain}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_id_is_an_address() {
        let id = |text: &str| format!("my: deployment:{}", base64_simd::STANDARD.encode_to_string(text));
        for (text, url) in [
            ("us-east-1.aws.found.io$abc$def", "https://abc.us-east-1.aws.found.io:443"),
            ("eu.example:9243$abc$", "https://abc.eu.example:9243"),
            ("eu.example:9243$abc:9244$def:9245", "https://abc.eu.example:9244"),
            ("eu.example$abc", "https://abc.eu.example:443"),
        ] {
            assert_eq!(cloud_url(&id(text)).as_deref(), Some(url));
            assert_eq!(cloud_url(id(text).trim_end_matches('=')).as_deref(), Some(url), "without padding");
        }
        for text in [
            "eu.example",
            "$abc",
            "eu.example$",
            "eu.example/x$abc",
            "eu.example:x$abc",
            "eu@example$abc",
            "",
        ] {
            assert_eq!(cloud_url(&id(text)), None, "{text}");
        }
        assert_eq!(cloud_url("no base64!"), None);
    }
}
