//! Settings of the bucket, and the possible sources of its credentials.
//!
//! The variables are those of the AWS SDKs; only `AWS_S3_…` and `S3_…` are this program's own. From the shared files,
//! only the settings of the bucket's location are read here. Credentials are read when they are needed. No server is
//! contacted.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Settings reference".

use std::path::PathBuf;

use super::parts::read_span;
use crate::auth::aws::shared::set_in;
use crate::auth::aws::{CredentialSources, is_region};
use crate::cli::choices::Payer;
use crate::cli::entries;
use crate::cli::settings::{Settings, choose, switch};
use crate::common::exit::Failure;
use crate::http::CA_CERT;
use crate::http::proxy::Proxies;
use crate::http::url::parse_base_url;
use crate::model::Span;

mod bucket;
mod sources;

pub use crate::cli::choices::Addressing;

pub use self::bucket::{AccessPoint, BucketName};

/// A bucket, and how to reach it.
#[derive(Clone, Debug)]
pub struct S3 {
    /// The bucket.
    pub bucket: BucketName,
    /// Prefix of the archives' keys; empty: the whole bucket.
    pub prefix: String,
    /// Time range of the archives.
    pub span: Span,
    /// Region of the bucket.
    pub region: Region,
    /// Base URL of an S3-compatible server or an AWS endpoint, without a trailing `/`; None: AWS.
    pub endpoint: Option<String>,
    /// Whether the bucket's name is part of the host or of the path.
    pub addressing: Addressing,
    /// Variants of the AWS endpoints.
    pub variant: Variant,
    /// Whether requests are requester-pays (`x-amz-request-payer`).
    pub requester_pays: bool,
    /// Whether requests are unsigned.
    pub anonymous: bool,
    /// PEM file with roots to trust besides the system's.
    pub ca_cert: Option<CaFile>,
    /// The proxy, and the hosts to reach without it.
    pub proxies: Proxies,
    /// The possible sources of credentials.
    pub credentials: CredentialSources,
}

/// A region, and the setting it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// The setting; `""` if none is set.
    pub setting: &'static str,
}

/// Variants of the AWS endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    /// Whether the endpoints with FIPS 140 validated cryptography are used.
    pub fips: bool,
    /// Whether the endpoints with both IPv4 and IPv6 addresses are used.
    pub dual_stack: bool,
}

/// A PEM file with roots, and the setting that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaFile {
    /// The file.
    pub path: PathBuf,
    /// The setting.
    pub setting: &'static str,
}

impl Settings<'_> {
    /// Reads all settings of the bucket.
    pub(super) fn s3(&self) -> Result<S3, Failure> {
        let bucket = self.bucket()?;
        let (profile, section) = self.profile();
        let of_profile = |setting: &str| set_in(&section, setting);
        let region = self.region(&bucket, of_profile("region"))?;
        let variant = self.variant(&region.name, of_profile)?;
        let services =
            || profile.named("services", &of_profile("services")?)?.get("s3.endpoint_url").cloned();
        let endpoint = self.endpoint(entries::aws_endpoint_url().variables, || {
            services().or_else(|| of_profile("endpoint_url"))
        })?;
        if endpoint.is_some() && variant.fips {
            return Err(Failure::usage(
                "AWS_USE_FIPS_ENDPOINT requests an endpoint of AWS, but AWS_ENDPOINT_URL_S3 \
                 (AWS_ENDPOINT_URL, or endpoint_url of the profile) names another one: remove one of them",
            ));
        }
        let addressing = self.addressing(of_profile("s3.addressing_style"))?;
        bucket.check(addressing, endpoint.as_deref())?;
        let region = region_of(endpoint.as_deref(), region);
        Ok(S3 {
            prefix: self.prefix()?,
            span: read_span(*self)?,
            endpoint,
            addressing,
            requester_pays: self.requester_pays()?,
            anonymous: self.is_on(entries::s3_anonymous())?,
            ca_cert: self.ca_file(of_profile("ca_bundle")),
            proxies: Proxies::read(*self)?,
            credentials: self.credential_sources(&region.name, variant, profile)?,
            variant,
            bucket,
            region,
        })
    }

    /// Returns `region` or else the configured region, and the possible sources of credentials there. For AWS services
    /// other than S3.
    pub(super) fn aws_chain(&self, region: Option<&str>) -> Result<(String, CredentialSources), Failure> {
        let (profile, section) = self.profile();
        let of_profile = |setting: &str| set_in(&section, setting);
        let region = match region {
            Some(region) => region.to_owned(),
            None => self.region_set(of_profile("region"))?.name,
        };
        let variant = self.variant(&region, of_profile)?;
        let sources = self.credential_sources(&region, variant, profile)?;
        Ok((region, sources))
    }

    fn region(&self, bucket: &BucketName, of_profile: Option<String>) -> Result<Region, Failure> {
        match bucket {
            BucketName::AccessPoint(point) => {
                Ok(Region { name: point.region.clone(), setting: "S3_SQLITE_DB_BUCKET" })
            }
            BucketName::Plain(_) => self.region_set(of_profile),
        }
    }

    fn region_set(&self, of_profile: Option<String>) -> Result<Region, Failure> {
        let entry = entries::aws_region();
        let set = entry
            .variables
            .iter()
            .find_map(|&name| Some((self.trimmed(name)?, name)))
            .or_else(|| Some((of_profile?, "region of the profile")));
        let (name, setting) = set.unwrap_or_else(|| (entry.default.to_owned(), ""));
        if !is_region(&name) {
            return Err(Failure::usage(format!("{setting} is {name:?}, which is not a region")));
        }
        Ok(Region { name, setting })
    }

    fn variant(&self, region: &str, of_profile: impl Fn(&str) -> Option<String>) -> Result<Variant, Failure> {
        let is_on = |variable: &'static str, setting: &str| match self.trimmed(variable) {
            Some(_) => self.switch(variable),
            None => Ok(of_profile(setting).is_some_and(|text| text.eq_ignore_ascii_case("true"))),
        };
        let fips = is_on("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")?;
        let dual_stack = is_on("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint")?
            || of_profile("s3.use_dualstack_endpoint").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        if fips && region.starts_with("cn-") {
            return Err(Failure::usage(format!(
                "AWS_USE_FIPS_ENDPOINT is set, but there is no such endpoint in {region}: remove it"
            )));
        }
        Ok(Variant { fips, dual_stack })
    }

    fn addressing(&self, of_profile: Option<String>) -> Result<Addressing, Failure> {
        let entry = entries::s3_addressing();
        match (self.value(entry), of_profile) {
            (None, Some(text)) => choose("addressing_style of the profile", &text),
            _ => self.choice(entry),
        }
    }

    /// Reads the prefix. Unlike elsewhere, an empty variable does not count as unset: it requests the whole bucket, which
    /// may be far too much for a default.
    fn prefix(&self) -> Result<String, Failure> {
        let [_, name] = entries::s3_sqlite_db().names();
        (self.environment)(name).ok_or_else(|| {
            Failure::usage(format!(
                "{name} is not set: set it to the beginning of the archives' keys, or to an empty value for \
                 the whole bucket"
            ))
        })
    }

    /// Reads whether requests are requester-pays. Unlike elsewhere, an empty variable does not count as unset: it turns
    /// the header off.
    fn requester_pays(&self) -> Result<bool, Failure> {
        let [name] = entries::s3_request_payer().names();
        let is_empty = (self.environment)(name).is_some_and(|value| value.is_empty());
        Ok(!is_empty && self.choice::<Payer>(entries::s3_request_payer())? == Payer::Requester)
    }

    /// Reads a boolean variable of the AWS tools.
    fn switch(&self, variable: &str) -> Result<bool, Failure> {
        self.trimmed(variable).map_or(Ok(false), |text| switch((variable.to_owned(), text)))
    }

    /// Returns the CA file for S3. `AWS_CA_BUNDLE` overrides `--ca-cert`, which may be set for Elasticsearch.
    fn ca_file(&self, of_profile: Option<String>) -> Option<CaFile> {
        let file = |path: String, setting| CaFile { path: path.into(), setting };
        let [name] = entries::aws_ca_bundle().names();
        self.trimmed(name)
            .map(|path| file(path, name))
            .or_else(|| of_profile.map(|path| file(path, "ca_bundle of the profile")))
            .or_else(|| Some(CaFile { path: self.file(entries::ca_cert())?, setting: CA_CERT }))
    }

    /// Returns the value of a variable, trimmed, since values often come from files.
    fn trimmed(&self, variable: &str) -> Option<String> {
        let text = self.get(variable)?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// Returns the base URL in the first of these variables that is set, or else the profile's. None if configured URLs
    /// are to be ignored.
    fn endpoint(
        &self,
        variables: &[&str],
        of_profile: impl FnOnce() -> Option<String>,
    ) -> Result<Option<String>, Failure> {
        if self.switch("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")? {
            return Ok(None);
        }
        match self.url(variables)? {
            Some(url) => Ok(Some(url)),
            None => of_profile().map(|url| base_url("endpoint_url of the profile", &url)).transpose(),
        }
    }

    fn url(&self, variables: &[&str]) -> Result<Option<String>, Failure> {
        let set = variables.iter().find_map(|variable| Some((variable, self.trimmed(variable)?)));
        set.map(|(variable, url)| base_url(variable, &url)).transpose()
    }
}

/// Parses a base URL of S3 or of a provider of its credentials.
fn base_url(setting: &str, url: &str) -> Result<String, Failure> {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(Failure::usage(format!(
            "{setting} cannot be used: the URL must not have a user name or password: put the keys into \
             AWS_S3_ACCESS_KEY and AWS_S3_SECRET_KEY"
        )));
    }
    parse_base_url(url).map_err(|error| Failure::usage(format!("{setting} cannot be used: {error}")))
}

/// Returns the region in the host of an AWS endpoint if no other region is set, or else `region`.
fn region_of(endpoint: Option<&str>, region: Region) -> Region {
    let named = || {
        let host = host_of(endpoint?);
        let before =
            host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
        let label = before.rsplit('.').find(|label| *label != "vpce")?;
        (label.contains('-') && !label.starts_with("s3-") && is_region(label)).then(|| label.to_owned())
    };
    match named() {
        Some(name) if region.setting.is_empty() => Region { name, setting: "AWS_ENDPOINT_URL_S3" },
        _ => region,
    }
}

/// Returns the host and port of a URL without user info.
pub fn host_of(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    after_scheme.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
