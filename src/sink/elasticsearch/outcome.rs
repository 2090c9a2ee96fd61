//! Classifies replies to any request by their status.

use super::client::Reply;
use crate::auth::hides_api;

/// Advice about an answer that does not come from Elasticsearch.
pub(crate) const URL_ADVICE: &str =
    "check that ELASTICSEARCH_URL names Elasticsearch itself and not a proxy or ingress in front of it";

/// Advice about a feature that the license of the server does not cover.
pub(super) const LICENSE_ADVICE: &str = "the license of Elasticsearch does not cover a feature of the index: renew the \
    license, or create the index again without that feature";

/// Returns whether the reason of a refusal is the server's license. Such a refusal looks like a missing privilege.
///
/// Source: Elasticsearch, `LicenseUtils` (seen in 9.5.3 with `bbq_disk`).
pub(super) fn lacks_license(reason: &str) -> bool {
    reason.contains("license is non-compliant")
}

/// Returns the reason for a retry after an answer that does not come from Elasticsearch. `page` is its status and text.
pub(crate) fn foreign_answer(page: &str) -> String {
    format!("the answer is not Elasticsearch's ({page}): check the proxy or ingress in front of the server")
}

/// Returns whether the server answers but cannot serve the request now, so that waiting may help.
pub(crate) fn is_unavailable(reply: &Reply) -> bool {
    match reply.status {
        408 | 429 | 500 | 502..=599 => true,
        // A cluster block. It is lifted again, like those of a starting cluster.
        403 => reply.error_type() == "cluster_block_exception",
        _ => false,
    }
}

/// Returns whether the requested API or object is missing, not allowed or not understood, so that waiting does not
/// help. This occurs with servers that have only part of Elasticsearch's API, with proxies, and with keys that have few
/// privileges.
pub(super) fn is_not_offered(reply: &Reply) -> bool {
    match reply.status {
        // A refused key is refused for every request.
        401 => hides_api(reply.status, &reply.body),
        400..=499 | 501 => !is_unavailable(reply),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, retry_after: None, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_missing_api_differs_from_an_unavailable_server() {
        for status in [400, 403, 404, 405, 410, 501] {
            let reply = reply(status, "no handler found");
            assert!(is_not_offered(&reply) && !is_unavailable(&reply), "{status}");
        }
        for status in [408, 429, 500, 502, 503, 504] {
            let reply = reply(status, "");
            assert!(is_unavailable(&reply) && !is_not_offered(&reply), "{status}");
        }
        let amazons = reply(401, r#"{"Message":"Your request: '/_xpack' is not allowed."}"#);
        assert!(is_not_offered(&amazons) && !amazons.is_page());
        for status in [200, 302, 401] {
            let reply = reply(status, "");
            assert!(!is_unavailable(&reply) && !is_not_offered(&reply), "{status}");
        }
    }

    #[test]
    fn a_cluster_block_is_waited_out() {
        let blocked = reply(403, r#"{"error":{"type":"cluster_block_exception","reason":"no master"}}"#);
        assert!(is_unavailable(&blocked) && !is_not_offered(&blocked));
    }
}
