//! Whether the key may do what a run does.
//!
//! Source: Elasticsearch's "Has privileges" API, which every authenticated key may call about itself.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::{Check, Needs, PreflightError, answer};
use crate::elasticsearch::client::{Client, ContentType, Reply};

const PATH: &str = "/_security/user/_has_privileges?filter_path=index";

/// Index privileges of every run: look-ups and settings are read, posts and tombstones indexed, posts deleted.
const NEEDED: [&str; 4] = ["read", "index", "delete", "view_index_metadata"];

/// Index privileges that some runs need: flushing, and changing index settings.
const ASKED_TOO: [&str; 2] = ["maintenance", "manage"];

/// The index privileges of the key, by index or alias and privilege; None where the server cannot tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grants(Option<BTreeMap<String, BTreeMap<String, bool>>>);

#[derive(Deserialize)]
struct HasPrivileges {
    index: BTreeMap<String, BTreeMap<String, bool>>,
}

/// Asks for the key's privileges on the given indices or aliases.
pub(super) fn ask(client: &Client, names: &[&str]) -> Result<Grants, PreflightError> {
    let privileges: Vec<_> = NEEDED.iter().chain(&ASKED_TOO).collect();
    let body = json!({"index": [{"names": names, "privileges": privileges}]}).to_string();
    match client.post(PATH, ContentType::Json, body.as_bytes()) {
        Ok(reply) if has_no_security(&reply) => Ok(Grants(None)),
        result => parse(&answer(client, result)?),
    }
}

/// Whether the reply is that of a server which knows nothing of privileges.
///
/// 400 is Elasticsearch without its security, 403 to 405 are other servers and proxies in front; 500 with
/// such a text are versions that know the path but have security switched off.
fn has_no_security(reply: &Reply) -> bool {
    let reason = reply.reason().to_ascii_lowercase();
    match reply.status {
        400 | 404 | 405 | 501 => true,
        403 => reply.error_type() != "cluster_block_exception",
        500 => {
            reason.contains("no handler found") || reason.contains("security") && reason.contains("enabled")
        }
        _ => false,
    }
}

fn parse(reply: &Reply) -> Result<Grants, PreflightError> {
    match serde_json::from_slice::<HasPrivileges>(&reply.body) {
        Ok(parsed) if reply.status == 200 => Ok(Grants(Some(parsed.index))),
        _ => Err(PreflightError::unexpected("connection", "the question for the key's privileges", reply)),
    }
}

impl Grants {
    /// Whether the key has a privilege on an index or alias. Where the server cannot tell, it may be so.
    pub(super) fn may(&self, name: &str, privilege: &str) -> bool {
        self.0.as_ref().is_none_or(|all| {
            all.get(name).and_then(|granted| granted.get(privilege)).copied().unwrap_or_default()
        })
    }

    /// Whether the key may do on every one of the indices or aliases what a run with these needs does.
    pub(super) fn judge(&self, names: &[&str], needs: Needs) -> Check {
        let mut wanted = NEEDED.to_vec();
        wanted.extend(needs.manage.then_some("manage"));
        let missing: Vec<_> = names.iter().filter_map(|name| self.missing(name, &wanted)).collect();
        if self.0.is_none() {
            Check::warning("privileges", "this server cannot tell which privileges the key has")
        } else if missing.is_empty() {
            Check::ok("privileges", format!("the key is valid and has {}", wanted.join(", ")))
        } else {
            let missing = missing.join("; ");
            Check::failed(
                "privileges",
                format!("the key lacks index privileges: {missing}: grant them to it"),
            )
        }
    }

    /// A failed check where the key may not delete from every one of the concrete indices.
    pub(super) fn judge_deletes(&self, names: &[&str]) -> Option<Check> {
        let missing: Vec<_> = names.iter().filter_map(|name| self.missing(name, &["delete"])).collect();
        (!missing.is_empty()).then(|| {
            let missing = missing.join("; ");
            let why = "deletes go to every index behind the alias";
            Check::failed("privileges", format!("the key lacks index privileges: {missing}: {why}"))
        })
    }

    fn missing(&self, name: &str, wanted: &[&str]) -> Option<String> {
        let missing: Vec<_> = wanted.iter().copied().filter(|privilege| !self.may(name, privilege)).collect();
        (!missing.is_empty()).then(|| format!("{} on {name}", missing.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    // Recorded from Elasticsearch 9.5.3.
    const GRANTED: &str = r#"{"index":{"post_tombstones":{"delete":true,"index":true,"maintenance":false,"manage":false,"read":true,"view_index_metadata":true},"posts":{"delete":true,"index":true,"maintenance":false,"manage":false,"read":true,"view_index_metadata":true}}}"#;
    const READ_ONLY: &str = r#"{"index":{"post_tombstones":{"delete":false,"index":false,"maintenance":false,"manage":false,"read":true,"view_index_metadata":true},"posts":{"delete":false,"index":false,"maintenance":false,"manage":false,"read":true,"view_index_metadata":true}}}"#;
    const NO_HANDLER: &str = r#"{"error":"no handler found for uri [/_security/user/_has_privileges?filter_path=index] and method [POST]"}"#;
    const NAMES: [&str; 2] = ["posts", "post_tombstones"];

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, retry_after: None, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn sufficient_privileges_pass() {
        let grants = parse(&reply(200, GRANTED)).unwrap();
        assert_eq!(grants.judge(&NAMES, Needs::default()).status, Status::Ok);
        assert!(grants.may("posts", "index") && !grants.may("posts", "maintenance"));
    }

    #[test]
    fn every_missing_privilege_is_named_with_its_index() {
        let check = parse(&reply(200, READ_ONLY)).unwrap().judge(&NAMES, Needs::default());
        assert_eq!(check.status, Status::Failed);
        assert!(check.text.contains("index, delete on posts; index, delete on post_tombstones"), "{check}");
    }

    #[test]
    fn changing_settings_needs_manage() {
        let check =
            parse(&reply(200, GRANTED)).unwrap().judge(&NAMES, Needs { manage: true, ..Needs::default() });
        assert!(check.status == Status::Failed && check.text.contains("manage on posts"), "{check}");
    }

    #[test]
    fn deletes_are_needed_on_every_index_behind_an_alias() {
        let grants = parse(&reply(200, GRANTED)).unwrap();
        assert_eq!(grants.judge_deletes(&["posts"]), None);
        let check = grants.judge_deletes(&["posts", "posts_2024"]).unwrap();
        assert!(check.status == Status::Failed && check.text.contains("delete on posts_2024"), "{check}");
    }

    #[test]
    fn a_server_without_security_is_a_warning() {
        assert!(has_no_security(&reply(400, NO_HANDLER)));
        assert!(has_no_security(&reply(
            500,
            r#"{"error":{"reason":"Security must be explicitly enabled"}}"#
        )));
        assert_eq!(Grants(None).judge(&NAMES, Needs::default()).status, Status::Warning);
        assert!(Grants(None).may("posts", "index"));
    }

    #[test]
    fn a_server_that_cannot_answer_for_now_is_not_taken_for_one_without_security() {
        for status in [200, 401, 429, 500, 502, 503] {
            assert!(
                !has_no_security(&reply(status, r#"{"error":{"reason":"no shard available"}}"#)),
                "{status}"
            );
        }
        assert!(!has_no_security(&reply(
            403,
            r#"{"error":{"type":"cluster_block_exception","reason":"x"}}"#
        )));
    }

    #[test]
    fn a_page_of_something_else_is_refused() {
        let error = parse(&reply(200, "<html>sign in</html>")).unwrap_err();
        assert!(matches!(error, PreflightError::Refused(_)), "{error}");
    }
}
