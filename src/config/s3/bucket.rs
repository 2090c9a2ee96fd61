//! The name of a bucket, or the ARN of an access point.

use std::fmt;
use std::net::IpAddr;

use super::{Addressing, host_of};
use crate::auth::aws::is_region;
use crate::cli::entries;
use crate::cli::settings::Settings;
use crate::common::exit::Failure;

/// The value of `S3_SQLITE_DB_BUCKET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BucketName {
    /// A bucket, or an access point by its alias, which works like a bucket.
    Plain(String),
    /// An access point.
    AccessPoint(AccessPoint),
}

/// An access point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPoint {
    /// The whole ARN.
    pub arn: String,
    /// Its region.
    pub region: String,
    /// The id of the account that owns it.
    pub account: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BucketName::Plain(name) => f.write_str(name),
            BucketName::AccessPoint(point) => f.write_str(&point.arn),
        }
    }
}

impl Settings<'_> {
    pub(super) fn bucket(&self) -> Result<BucketName, Failure> {
        let [name, _] = entries::s3_sqlite_db().names();
        let text = self.trimmed(name).ok_or_else(|| {
            Failure::usage(format!("{name} is not set: name the bucket that --source s3 is to read from"))
        })?;
        BucketName::parse(&text).map_err(|why| Failure::usage(format!("{name} is {text:?}, {why}")))
    }
}

impl BucketName {
    /// Parses a name. It becomes part of a URL, so anything that could lead to another host is refused.
    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("arn:") {
            return AccessPoint::parse(text).map(Self::AccessPoint);
        }
        let is_name = text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        if !is_name || !(3..=255).contains(&text.len()) || text.contains("..") || text.starts_with('.') {
            return Err("which is not the name of a bucket: give it without s3:// or a path".to_owned());
        }
        Ok(Self::Plain(text.to_owned()))
    }

    /// Whether the name can be a label of a host name that the wildcard certificate of AWS covers.
    pub fn is_label(&self) -> bool {
        match self {
            BucketName::Plain(name) => {
                name.len() < 64
                    && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            }
            BucketName::AccessPoint(_) => true,
        }
    }

    /// Refuses names that do not work with these settings.
    pub(super) fn check(&self, addressing: Addressing, endpoint: Option<&str>) -> Result<(), Failure> {
        let wrong = |why: String| Err(Failure::usage(why));
        let is_in_host = addressing == Addressing::Virtual || matches!(self, BucketName::AccessPoint(_));
        match self {
            BucketName::AccessPoint(_) if addressing == Addressing::Path => {
                return wrong(
                    "an access point is part of the host's name: set --s3-addressing (S3_ADDRESSING) to auto"
                        .to_owned(),
                );
            }
            // Directory buckets need a session protocol of their own, and their listings have no order.
            BucketName::Plain(name) if endpoint.is_none() && name.ends_with("--x-s3") => {
                return wrong(format!(
                    "S3_SQLITE_DB_BUCKET is {name:?}, a directory bucket (S3 Express One Zone), which this program \
                     cannot read: copy the archives into a bucket of general purpose"
                ));
            }
            BucketName::Plain(name)
                if is_in_host && name.chars().any(|c| c.is_ascii_uppercase() || c == '_') =>
            {
                return wrong(format!(
                    "the bucket {name:?} cannot be part of a host's name: set --s3-addressing \
                     (S3_ADDRESSING) to path"
                ));
            }
            _ => {}
        }
        let host = endpoint.map(host_of).unwrap_or_default();
        let is_address = host.starts_with('[')
            || host.split(':').next().is_some_and(|name| name.parse::<IpAddr>().is_ok());
        if is_in_host && is_address {
            return wrong(format!(
                "the bucket should be part of the host's name, but {host} is an address: set \
                 --s3-addressing (S3_ADDRESSING) to path, or name a host in AWS_ENDPOINT_URL_S3"
            ));
        }
        Ok(())
    }
}

impl AccessPoint {
    /// Parses an ARN such as `arn:aws:s3:eu-west-1:123456789012:accesspoint/name`.
    ///
    /// Source: Amazon S3 User Guide, "Referencing access points for general purpose buckets".
    fn parse(arn: &str) -> Result<Self, String> {
        let wrong = || {
            "which is not the ARN of an access point, such as arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME: \
             name the bucket, or the access point by its alias"
                .to_owned()
        };
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let [_, partition, service, region, account, resource] = parts[..] else { return Err(wrong()) };
        let refused = |what: &str| {
            format!(
                "the ARN of {what}, which this program cannot read from: name the bucket, or an access point to it"
            )
        };
        match service {
            "s3" => {}
            "s3-object-lambda" => return Err(refused("an access point with a Lambda function")),
            "s3-outposts" => return Err(refused("a bucket on an Outpost")),
            "s3express" => return Err(refused("a directory bucket (S3 Express One Zone)")),
            _ => return Err(wrong()),
        }
        let Some(name) = resource.strip_prefix("accesspoint/").or(resource.strip_prefix("accesspoint:"))
        else {
            let is_bucket = region.is_empty() && !resource.contains(['/', ':']);
            return Err(if is_bucket {
                format!("the ARN of a bucket: give its name, {resource}")
            } else {
                wrong()
            });
        };
        if region.is_empty() {
            return Err(refused("an access point of several regions"));
        }
        let is_label =
            |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        let is_right = partition.starts_with("aws")
            && is_region(region)
            && !account.is_empty()
            && account.chars().all(|c| c.is_ascii_digit())
            && !name.is_empty()
            && name.len() + account.len() < 63
            && is_label(name);
        if !is_right {
            return Err(wrong());
        }
        let (region, account, name) = (region.to_owned(), account.to_owned(), name.to_owned());
        Ok(Self { arn: arn.to_owned(), region, account, name })
    }
}
