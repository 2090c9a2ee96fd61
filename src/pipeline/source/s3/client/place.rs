//! Where a bucket is: its base URL and the region that requests are signed for.

use crate::config::s3::{Addressing, BucketName, S3, host_of};

/// Where a bucket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The URL that keys are appended to. Ends in `/`.
    pub(super) base: String,
    /// The region that requests are signed for.
    pub(super) region: String,
}

impl Place {
    /// Returns the place of a bucket in a region.
    pub(super) fn of(settings: &S3, region: &str) -> Self {
        Self { base: base_url(settings, region), region: region.to_owned() }
    }

    /// Returns the host with its port.
    pub(super) fn host(&self) -> &str {
        host_of(&self.base)
    }

    /// Whether requests are sent unencrypted.
    pub(super) fn is_plain(&self) -> bool {
        self.base.starts_with("http:")
    }
}

/// Returns the URL that keys are appended to. By default the bucket is part of the path for servers other than AWS, and
/// for names that the wildcard certificate of AWS does not cover.
///
/// Source: Amazon S3 User Guide, "Virtual hosting of general purpose buckets"; AWS General Reference, "Amazon S3
/// endpoints and quotas".
fn base_url(settings: &S3, region: &str) -> String {
    let S3 { bucket, endpoint, addressing, variant, .. } = settings;
    let server = match endpoint {
        Some(endpoint) => endpoint.clone(),
        None => {
            let service = match bucket {
                BucketName::Plain(_) => "s3",
                BucketName::AccessPoint(_) => "s3-accesspoint",
            };
            let fips = if variant.fips { "-fips" } else { "" };
            let dual_stack = if variant.dual_stack { ".dualstack" } else { "" };
            let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            format!("https://{service}{fips}{dual_stack}.{region}.{suffix}")
        }
    };
    let prefix = match bucket {
        BucketName::AccessPoint(point) => format!("{}-{}", point.name, point.account),
        BucketName::Plain(name) => {
            let is_in_host = match addressing {
                Addressing::Path => false,
                Addressing::Virtual => true,
                Addressing::Auto => is_of_aws(&server) && bucket.is_label(),
            };
            if !is_in_host {
                return format!("{server}/{name}/");
            }
            name.clone()
        }
    };
    match server.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{prefix}.{rest}/"),
        None => server,
    }
}

/// Whether a server belongs to AWS, by its name.
pub(super) fn is_of_aws(server: &str) -> bool {
    let host = host_of(server);
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}
