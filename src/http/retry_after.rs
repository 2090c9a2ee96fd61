//! Parses `Retry-After` (RFC 9110, section 10.2.3).

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use ureq::http::HeaderMap;
use ureq::http::header::{DATE, RETRY_AFTER};

/// Returns how long the server asks the client to wait. The header has a number of seconds or a date; a date is
/// compared with the server's own clock if the reply has it.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let after = text(RETRY_AFTER)?;
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = text(DATE).and_then(http_date).unwrap_or_else(OffsetDateTime::now_utc);
    // A date in the past means no wait.
    Some(Duration::try_from(http_date(after)? - now).unwrap_or_default())
}

/// Parses a date as in HTTP (RFC 9110, section 5.6.7).
pub(crate) fn http_date(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc2822).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_after_may_be_a_number_or_a_date_and_is_never_negative() {
        let wait = |fields: &[(_, &str)]| {
            let fields = fields
                .iter()
                .map(|(name, value)| (ureq::http::HeaderName::from(name), value.parse().unwrap()));
            retry_after(&fields.collect()).map(|wait| wait.as_secs())
        };
        let date = (DATE, "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(wait(&[(RETRY_AFTER, " 7 ")]), Some(7));
        assert_eq!(wait(&[(RETRY_AFTER, "Wed, 21 Oct 2015 07:29:05 GMT"), date.clone()]), Some(65));
        assert_eq!(wait(&[(RETRY_AFTER, "Wed, 21 Oct 2015 07:27:00 GMT"), date.clone()]), Some(0));
        assert_eq!(wait(&[(RETRY_AFTER, "Wed, 21 Oct 2015 07:27:00 GMT")]), Some(0));
        assert!(wait(&[(RETRY_AFTER, "Fri, 01 Jan 2100 00:00:00 GMT")]).is_some_and(|wait| wait > 86_400));
        for unreadable in ["-1", "soon", "", "Wed, 21 Oct 2015"] {
            assert_eq!(wait(&[(RETRY_AFTER, unreadable), date.clone()]), None, "{unreadable}");
        }
    }
}
