//! Shows the server's product, version and clock to users of `--check`.
//!
//! Nothing else depends on them: `GET /` needs the cluster privilege `monitor`, which the key of a run lacks, and only
//! a proxy in front of a node sends `Date`.

use serde::Deserialize;

use super::client::{Client, Reply};
use crate::common::timestamp::now_millis;
use crate::http::http_date;
use crate::observe::finding::Check;

/// Difference of clocks above which to warn, in seconds. NTP keeps clocks within a second.
const SKEW_SECONDS: i64 = 60;

#[derive(Deserialize)]
struct Root {
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    number: String,
    distribution: Option<String>,
}

/// Requests the server's identity. If the server does not answer, an earlier check has reported that.
pub fn ask(client: &Client) -> Vec<Check> {
    let Ok((reply, date)) = client.get_with_date("/") else { return Vec::new() };
    let clock = date.and_then(|date| judge_clock(&date, now_millis().div_euclid(1000)));
    [judge_product(&reply)].into_iter().chain(clock).collect()
}

fn judge_product(reply: &Reply) -> Check {
    let Some(Root { version: Version { number, distribution } }) = reply.json() else {
        return Check::ok(
            "product",
            "the server does not show its product and version to this run (that needs the cluster privilege \
             monitor); nothing depends on it",
        );
    };
    // The text is shown on a terminal.
    let shown = |text: &str| text.chars().filter(|c| c.is_ascii_graphic()).take(40).collect::<String>();
    let number = shown(&number);
    let mut parts = number.split('.').map_while(|part| part.parse::<u32>().ok());
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if let Some(name) = distribution.filter(|name| !name.eq_ignore_ascii_case("elasticsearch")) {
        let name = shown(&name);
        if name.eq_ignore_ascii_case("opensearch") {
            return Check::ok(
                "product",
                format!("OpenSearch {number}: vectors are knn_vector, and sent as arrays"),
            );
        }
        return Check::warning(
            "product",
            format!(
                "{name} {number} is neither Elasticsearch nor OpenSearch, and this program is not tested with it"
            ),
        );
    }
    match (major, minor) {
        (..8, _) => Check::warning(
            "product",
            format!(
                "Elasticsearch {number} is older than the versions this program is tested with: use 8 or 9"
            ),
        ),
        (8, _) | (9, ..3) => Check::ok(
            "product",
            format!("Elasticsearch {number}: vectors are sent as arrays (as base64 from 9.3 on)"),
        ),
        _ => Check::ok("product", format!("Elasticsearch {number}: vectors can be sent as base64")),
    }
}

/// Compares the server's clock with this host's; None: the date cannot be parsed.
fn judge_clock(date: &str, now: i64) -> Option<Check> {
    let ahead = http_date(date)?.unix_timestamp().saturating_sub(now);
    if ahead.abs() <= SKEW_SECONDS {
        return Some(Check::ok("clock", "the server's clock agrees with this host's"));
    }
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    Some(Check::warning(
        "clock",
        format!(
            "the server's clock is {} s {direction} this host's: indexed_at and the times in logs are off by that, \
             and certificates or S3 requests may be refused; let NTP set both",
            ahead.abs()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::finding::Status;

    fn product(body: &str) -> Check {
        judge_product(&Reply { status: 200, retry_after: None, body: body.into() })
    }

    #[test]
    fn products_are_named_with_their_differences() {
        for (number, status, text) in [
            ("7.17.0", Status::Warning, "8 or 9"),
            ("8.19.1", Status::Ok, "as arrays"),
            ("9.2.4", Status::Ok, "as arrays"),
            ("9.3.0", Status::Ok, "can be sent as base64"),
            ("10.0.0-SNAPSHOT", Status::Ok, "can be sent as base64"),
        ] {
            let check = product(&format!(r#"{{"version":{{"number":"{number}"}}}}"#));
            assert_eq!(check.status, status, "{check}");
            assert!(check.text.contains(text) && check.text.contains(number), "{check}");
        }
        let other = product(r#"{"version":{"number":"3.2.0","distribution":"opensearch"}}"#);
        assert_eq!(other.status, Status::Ok);
        assert!(other.text.contains("OpenSearch 3.2.0") && other.text.contains("knn_vector"), "{other}");
    }

    #[test]
    fn a_server_that_does_not_show_it_is_not_a_warning() {
        for (status, body) in [(403, "{}"), (200, "{}"), (200, "<html>")] {
            let check = judge_product(&Reply { status, retry_after: None, body: body.into() });
            assert_eq!(check.status, Status::Ok);
            assert!(check.text.contains("does not show"), "{check}");
        }
    }

    #[test]
    fn clocks_far_apart_are_a_warning() {
        let now = 1_766_016_000;
        let at = |date: &str| judge_clock(date, now).map(|check| (check.status, check.text));
        assert_eq!(at("Thu, 18 Dec 2025 00:00:59 GMT").unwrap().0, Status::Ok);
        let (status, text) = at("Wed, 17 Dec 2025 23:00:00 GMT").unwrap();
        assert!(status == Status::Warning && text.contains("3600 s behind"), "{text}");
        assert!(at("Thu, 18 Dec 2025 00:02:00 GMT").unwrap().1.contains("120 s ahead of"));
        assert_eq!(at("yesterday"), None);
    }
}
