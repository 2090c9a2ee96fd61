//! Adds hints to error messages: which setting to check if a server does not answer as S3 does.

use super::GetError;
use super::answer::Refusal;
use super::place::{Place, is_of_aws};
use crate::config::s3::{Addressing, BucketName, S3, host_of};
use crate::http::TransportError;

/// Returns the error for a request without a reply, with the server and the setting to check.
pub(super) fn of_transport(settings: &S3, place: &Place, error: TransportError) -> GetError {
    let host = place.host();
    match &error {
        TransportError::Tls(why) if why.contains("plain http") => GetError::Refused(format!(
            "{host}: {error}: if so, begin AWS_ENDPOINT_URL_S3 with http://, or name another port"
        )),
        TransportError::Tls(_) if is_dotted(settings) && settings.addressing == Addressing::Virtual => {
            GetError::Refused(format!(
                "{host}: {error}: a wildcard certificate does not cover bucket names with dots: try \
                 --s3-addressing path"
            ))
        }
        TransportError::Tls(_) => GetError::Refused(format!(
            "{host}: {error}: add the root with --ca-cert (ELASTICSEARCH_CA_CERT), which applies to S3, \
             too, or with AWS_CA_BUNDLE"
        )),
        TransportError::Refused(why) | TransportError::RefusedByProxy(why) => {
            GetError::Refused(format!("{host}: {why}"))
        }
        TransportError::Connect(why) => {
            GetError::unavailable(format!("{host}: {error}{}", connect(settings, place, why)))
        }
        TransportError::Interrupted(why) if place.is_plain() && why.contains("http") => {
            GetError::unavailable(format!(
                "{host}: {error}: the server does not speak http: is the port of AWS_ENDPOINT_URL_S3 for \
                 https://?"
            ))
        }
        _ => GetError::unavailable(format!("{host}: {error}")),
    }
}

fn connect(settings: &S3, place: &Place, why: &str) -> String {
    let is_unknown = why.contains("lookup") || why.contains("host not found") || why.contains("resolve");
    let region = match settings.region.setting {
        "" => "AWS_REGION (not set)".to_owned(),
        setting => format!("{setting} ({:?})", place.region),
    };
    match (&settings.endpoint, is_unknown) {
        (None, true) => format!(": there is no such host: check {region}, and the network's name service"),
        (None, false) => ": check the network".to_owned(),
        (Some(_), true) if place.base.contains(&format!("//{}.", settings.bucket)) => {
            ": there is no such host: check AWS_ENDPOINT_URL_S3, and --s3-addressing (path: the bucket is \
             not part of the host's name)"
                .to_owned()
        }
        (Some(_), true) => ": there is no such host: check AWS_ENDPOINT_URL_S3".to_owned(),
        (Some(_), false) => ": check the host and the port of AWS_ENDPOINT_URL_S3".to_owned(),
    }
}

fn is_dotted(settings: &S3) -> bool {
    matches!(&settings.bucket, BucketName::Plain(name) if name.contains('.'))
}

/// Adds the likely cause to a refusal, if a setting is known to cause it.
pub(super) fn of_answer(settings: &S3, place: &Place, mut refusal: Refusal) -> Refusal {
    let (GetError::Missing(why) | GetError::Other(why) | GetError::Denied(why)) = &mut refusal.error else {
        return refusal;
    };
    if let Some(hint) = twice(settings, place) {
        why.push_str(&hint);
    }
    refusal
}

/// Returns a hint if the endpoint already contains the bucket.
pub(super) fn twice(settings: &S3, place: &Place) -> Option<String> {
    let endpoint = settings.endpoint.as_deref()?;
    let BucketName::Plain(bucket) = &settings.bucket else { return None };
    let ends_in_it = endpoint.rsplit('/').next() == Some(bucket);
    let begins_with_it = host_of(endpoint).starts_with(&format!("{bucket}."));
    let what = if begins_with_it { "begins with" } else { "ends in" };
    (ends_in_it || begins_with_it).then(|| {
        let without = if is_of_aws(&place.base) || begins_with_it {
            "name only the server"
        } else {
            "remove the bucket"
        };
        format!(": AWS_ENDPOINT_URL_S3 {what} the bucket's name, which the program adds itself: {without}")
    })
}
