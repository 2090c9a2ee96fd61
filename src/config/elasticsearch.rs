//! How Elasticsearch is reached: where it is, who the run is to it, whom the run trusts.

use std::path::PathBuf;

use super::settings::Settings;
use crate::auth::{Auth, Given};
use crate::cli::Cli;
use crate::exit::Failure;
use crate::http::Fingerprint;
use crate::http::proxy::{NoProxy, Proxies, Proxy};
use crate::http::url::{UserInfo, is_loopback, parse_base_urls};

/// How Elasticsearch is reached.
#[derive(Clone, Debug)]
pub struct Elasticsearch {
    /// Base URLs of the nodes, at least one: `http` or `https`, with host, optional port and path prefix; no user info,
    /// no trailing `/`.
    pub urls: Vec<String>,
    /// How the run shows who it is.
    pub auth: Auth,
    /// Certificates are not checked.
    pub skip_tls_verify: bool,
    /// PEM file with certificates trusted besides the system's roots.
    pub ca_cert: Option<PathBuf>,
    /// The one certificate that is trusted.
    pub ca_fingerprint: Option<Fingerprint>,
    /// PEM files with the certificate of this client, and its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// What goes through a proxy.
    pub proxies: Proxies,
    /// A password for the proxy stands on the command line, where all users of the machine see it.
    pub shows_password: bool,
    /// Gzip level of bulk requests; 0: they are not compressed.
    pub compression: u8,
}

/// Variables that name a proxy for other programs.
const FOR_OTHERS: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

impl Elasticsearch {
    /// One server, reached directly, with nothing else asked for.
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

    /// What makes the connection less safe than it could be, each with what to do.
    pub fn insecurities(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.skip_tls_verify {
            found.push(
                "--skip-tls-verify: certificates are not checked; anybody in between can read and change all"
                    .to_owned(),
            );
        }
        let is_open = |url: &String| url.starts_with("http:") && !is_loopback(url);
        if let (true, Some(what)) = (self.urls.iter().any(is_open), self.auth.readable()) {
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
}

impl Settings<'_> {
    pub(super) fn elasticsearch(&self, cli: &Cli) -> Result<Elasticsearch, Failure> {
        let (urls, user_info) = self.urls()?;
        let proxies = self.proxies(cli)?;
        let aws = |region: Option<&str>| self.aws_chain(region);
        let auth = Auth::read(&Given {
            variable: &|name| self.get(name),
            username: self.text(cli.username.as_deref(), "ELASTICSEARCH_USERNAME"),
            user_info,
            aws_sigv4: self.text(cli.aws_sigv4.as_deref(), "ELASTICSEARCH_AWS_SIGV4"),
            no_auth: cli.no_auth,
            urls: &urls,
            aws: &aws,
            proxies: &proxies,
        })?;
        let shows_password =
            cli.proxy.is_some() && proxies.proxy.as_ref().is_some_and(Proxy::has_credentials);
        let ca_fingerprint = self.ca_fingerprint(cli)?;
        if ca_fingerprint.is_some() && cli.skip_tls_verify {
            return Err(Failure::usage(
                "--ca-fingerprint (ELASTICSEARCH_CA_FINGERPRINT) says which certificate to trust, and \
                 --skip-tls-verify trusts every one: leave one of them away",
            ));
        }
        Ok(Elasticsearch {
            urls,
            auth,
            skip_tls_verify: cli.skip_tls_verify,
            ca_cert: self.ca_cert(cli),
            ca_fingerprint,
            client_cert: self.client_cert(cli)?,
            proxies,
            shows_password,
            compression: self.number(
                ("--compress", "COMPRESSION_LEVEL"),
                cli.compress.as_deref(),
                0,
                0,
                9,
            )?,
        })
    }

    fn urls(&self) -> Result<(Vec<String>, Option<UserInfo>), Failure> {
        let unusable = |name: &str, why: String| Failure::usage(format!("{name} cannot be used: {why}"));
        match (self.get("ELASTICSEARCH_URL"), self.get("ELASTICSEARCH_CLOUD_ID")) {
            (Some(_), Some(_)) => Err(Failure::usage(
                "ELASTICSEARCH_URL and ELASTICSEARCH_CLOUD_ID both say where Elasticsearch is: leave one of them away",
            )),
            (None, Some(id)) => match cloud_url(&id) {
                Some(url) => Ok((vec![url], None)),
                None => Err(unusable(
                    "ELASTICSEARCH_CLOUD_ID",
                    "copy the Cloud ID of the deployment from the console of Elastic Cloud (name:…)"
                        .to_owned(),
                )),
            },
            _ => {
                let what = "name the server, as in https://localhost:9200 (or ELASTICSEARCH_CLOUD_ID)";
                let url = self.needed("ELASTICSEARCH_URL", what)?;
                parse_base_urls(&url).map_err(|why| unusable("ELASTICSEARCH_URL", why))
            }
        }
    }

    /// What goes through a proxy, to Elasticsearch and S3.
    pub(super) fn proxies(&self, cli: &Cli) -> Result<Proxies, Failure> {
        let proxy = self.text(cli.proxy.as_deref(), "INGEST_PROXY").map(|url| {
            Proxy::parse(&url)
                .map_err(|why| Failure::usage(format!("--proxy (INGEST_PROXY) cannot be used: {why}")))
        });
        let no_proxy = self.get("NO_PROXY").or_else(|| self.get("no_proxy")).unwrap_or_default();
        Ok(Proxies {
            proxy: proxy.transpose()?,
            no_proxy: NoProxy::parse(&no_proxy),
            unused: FOR_OTHERS.into_iter().find(|name| self.get(name).is_some()),
        })
    }

    fn ca_fingerprint(&self, cli: &Cli) -> Result<Option<Fingerprint>, Failure> {
        let text = self.text(cli.ca_fingerprint.as_deref(), "ELASTICSEARCH_CA_FINGERPRINT");
        let parse = |text: String| {
            Fingerprint::parse(&text).ok_or_else(|| {
                Failure::usage(format!(
                    "--ca-fingerprint (ELASTICSEARCH_CA_FINGERPRINT) is {text:?}: it takes the 64 hexadecimal digits of \
                     a SHA-256, with or without colons"
                ))
            })
        };
        text.map(parse).transpose()
    }

    fn client_cert(&self, cli: &Cli) -> Result<Option<(PathBuf, PathBuf)>, Failure> {
        let certificate = self.text(cli.client_cert.as_deref(), "ELASTICSEARCH_CLIENT_CERT");
        let key = self.text(cli.client_key.as_deref(), "ELASTICSEARCH_CLIENT_KEY");
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some((certificate.into(), key.into()))),
            (None, None) => Ok(None),
            _ => Err(Failure::usage(
                "--client-cert (ELASTICSEARCH_CLIENT_CERT) and --client-key (ELASTICSEARCH_CLIENT_KEY) go together: name \
                 both",
            )),
        }
    }
}

/// The URL that a Cloud ID stands for: behind a name and a colon, in base64, the domain, the id of the deployment's
/// Elasticsearch, and that of its Kibana, with `$` between them. Both domain and id may have a port.
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
