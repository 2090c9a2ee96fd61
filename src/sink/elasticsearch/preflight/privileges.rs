//! Checks the privileges of the run.
//!
//! Source: Elasticsearch's "Has privileges" API, which every user and key may call about itself.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::Needs;
use crate::observe::finding::Check;
use crate::sink::elasticsearch::answer::{NoAnswer, answer};
use crate::sink::elasticsearch::client::{Client, Reply};

const PATH: &str = "/_security/user/_has_privileges?filter_path=has_all_requested,index";

/// Index privileges of every run: it reads look-ups and settings, indexes posts and tombstones, and deletes posts.
const NEEDED: [&str; 4] = ["read", "index", "delete", "view_index_metadata"];

/// Index privileges that some runs need: to flush, and to change index settings.
const OPTIONAL: [&str; 2] = ["maintenance", "manage"];

/// Index privileges of the run, as far as the server shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Grants {
    /// Whether the run has every privilege in the request.
    #[serde(default, rename = "has_all_requested")]
    all: bool,
    /// Privileges by index or alias, then by name.
    #[serde(default)]
    index: BTreeMap<String, BTreeMap<String, bool>>,
}

/// Requests the run's privileges on the given indices or aliases.
pub(super) fn ask(client: &Client, names: &[&str]) -> Result<Grants, NoAnswer> {
    let privileges: Vec<_> = NEEDED.iter().chain(&OPTIONAL).collect();
    let body = json!({"index": [{"names": names, "privileges": privileges}]}).to_string();
    match client.post(PATH, body.as_bytes()) {
        Ok(reply) if has_no_security(&reply) => Ok(Grants::default()),
        result => Ok(parse(&answer(client, result)?)),
    }
}

/// Returns whether the reply is the status 500 of versions that know the path but have security switched off.
fn has_no_security(reply: &Reply) -> bool {
    let reason = reply.reason().to_ascii_lowercase();
    reply.status == 500
        && (reason.contains("no handler found") || reason.contains("security") && reason.contains("enabled"))
}

/// Parses the reply. A server without Elasticsearch's security, or a proxy, may answer anything.
fn parse(reply: &Reply) -> Grants {
    reply.json().unwrap_or_default()
}

impl Grants {
    /// Returns whether the run has a privilege on an index or alias; None: the server does not show it.
    pub(super) fn has(&self, name: &str, privilege: &str) -> Option<bool> {
        if self.all {
            return Some(true);
        }
        let granted = self.index.get(name)?;
        // These wider privileges include it, and some servers know only them.
        let wider: &[&str] =
            if ["index", "delete"].contains(&privilege) { &["write", "all"] } else { &["all"] };
        let is_granted = |privilege: &&str| granted.get(*privilege) == Some(&true);
        if wider.iter().any(is_granted) { Some(true) } else { granted.get(privilege).copied() }
    }

    /// Returns whether the run may have a privilege on an index or alias. True if the server does not show it.
    pub(super) fn may(&self, name: &str, privilege: &str) -> bool {
        self.has(name, privilege).unwrap_or(true)
    }

    /// Checks that the run has the privileges for these needs on every index or alias.
    pub(super) fn judge(&self, names: &[&str], needs: Needs) -> Check {
        let mut wanted = if needs.reads_only { vec!["read"] } else { NEEDED.to_vec() };
        wanted.extend(needs.manage.then_some("manage"));
        let is_known =
            names.iter().all(|name| wanted.iter().all(|privilege| self.has(name, privilege).is_some()));
        if let Some(lacking) = self.lacking(names, &wanted, "grant them to its user, role or key") {
            lacking
        } else if !is_known {
            Check::warning("privileges", "this server does not show the privileges of this run")
        } else {
            // Only a missing index needs this, and its own check fails without it.
            let may_create = needs.create && names.iter().all(|name| self.has(name, "manage") == Some(true));
            wanted.extend((may_create && !needs.manage).then_some("manage"));
            Check::ok("privileges", format!("this run has {}", wanted.join(", ")))
        }
    }

    /// Fails if the run lacks a needed privilege on any concrete index behind an alias.
    pub(super) fn judge_members(&self, names: &[&str], needed: &[&str]) -> Option<Check> {
        let why = "look-ups and deletes go to every index behind the alias; grant them on the indices, too, for \
            example by a pattern of their names";
        self.lacking(names, needed, why)
    }

    /// Fails if the run may not create an index with an alias.
    pub(super) fn judge_creation(&self, alias: &'static str, index: &str) -> Option<Check> {
        let why = format!(
            "grant them to its user, role or key, because --create-indices would create the index {index} with the alias \
             {alias}"
        );
        self.lacking(&[alias, index], &["manage"], &why)
    }

    /// Fails if the run lacks a wanted privilege on any of the names. `advice` ends the text.
    fn lacking(&self, names: &[&str], wanted: &[&str], advice: &str) -> Option<Check> {
        let missing: Vec<_> = names.iter().filter_map(|name| self.missing(name, wanted)).collect();
        (!missing.is_empty()).then(|| {
            let missing = missing.join("; ");
            Check::failed("privileges", format!("this run lacks index privileges: {missing}: {advice}"))
        })
    }

    fn missing(&self, name: &str, wanted: &[&str]) -> Option<String> {
        let missing: Vec<_> = wanted.iter().copied().filter(|privilege| !self.may(name, privilege)).collect();
        (!missing.is_empty()).then(|| format!("{} on {name}", missing.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::finding::Status;

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
        let grants = parse(&reply(200, GRANTED));
        assert_eq!(grants.judge(&NAMES, Needs::default()).status, Status::Ok);
        assert!(grants.may("posts", "index") && !grants.may("posts", "maintenance"));
    }

    #[test]
    fn every_missing_privilege_is_named_with_its_index() {
        let check = parse(&reply(200, READ_ONLY)).judge(&NAMES, Needs::default());
        assert_eq!(check.status, Status::Failed);
        assert!(check.text.contains("index, delete on posts; index, delete on post_tombstones"), "{check}");
    }

    #[test]
    fn changing_settings_needs_manage() {
        let check = parse(&reply(200, GRANTED)).judge(&NAMES, Needs { manage: true, ..Needs::default() });
        assert!(check.status == Status::Failed && check.text.contains("manage on posts"), "{check}");
    }

    #[test]
    fn creating_indices_shows_manage_if_it_is_granted() {
        let creates = Needs { create: true, ..Needs::default() };
        let check = |body: &str| parse(&reply(200, body)).judge(&NAMES, creates);
        let all = check(&GRANTED.replace(r#""manage":false"#, r#""manage":true"#));
        assert!(all.status == Status::Ok && all.text.ends_with("view_index_metadata, manage"), "{all}");
        // Existing indices do not need it.
        let without = check(GRANTED);
        assert!(without.status == Status::Ok && !without.text.contains("manage"), "{without}");
    }

    #[test]
    fn deletes_are_needed_on_every_index_behind_an_alias() {
        let body = r#"{"index":{"posts":{"delete":true},"posts_2024":{"delete":false}}}"#;
        let grants = parse(&reply(200, body));
        assert_eq!(grants.judge_members(&["posts"], &["delete"]), None);
        let check = grants.judge_members(&["posts", "posts_2024"], &["delete"]).unwrap();
        assert!(check.status == Status::Failed && check.text.contains("delete on posts_2024"), "{check}");
    }

    #[test]
    fn a_server_that_does_not_show_the_privileges_is_a_warning() {
        for (status, body) in [
            (400, NO_HANDLER),
            (403, "{}"),
            (404, ""),
            (204, ""),
            (200, "<html>"),
            (200, "{}"),
            (200, r#"{"index":{}}"#),
            (200, r#"{"has_all_requested":false}"#),
            (200, r#"{"index":{"posts":{"read":true}}}"#),
        ] {
            let grants = parse(&reply(status, body));
            assert_eq!(grants.judge(&NAMES, Needs::default()).status, Status::Warning, "{status} {body}");
            assert!(grants.may("posts", "index") && grants.judge_members(&NAMES, &["delete"]).is_none());
        }
        let switched_off = r#"{"error":{"reason":"Security must be explicitly enabled"}}"#;
        assert!(has_no_security(&reply(500, switched_off)));
        assert!(!has_no_security(&reply(500, r#"{"error":{"reason":"no shard available"}}"#)));
    }

    #[test]
    fn a_wider_privilege_includes_a_narrower_one() {
        let writer = r#"{"read":true,"write":true,"view_index_metadata":true}"#;
        for body in [
            r#"{"has_all_requested":true}"#.to_owned(),
            r#"{"has_all_requested":true,"index":{}}"#.to_owned(),
            format!(
                r#"{{"has_all_requested":false,"index":{{"posts":{writer},"post_tombstones":{writer}}}}}"#
            ),
            r#"{"index":{"posts":{"all":true,"index":false},"post_tombstones":{"all":true}}}"#.to_owned(),
        ] {
            let check = parse(&reply(200, &body)).judge(&NAMES, Needs::default());
            assert_eq!(check.status, Status::Ok, "{body}: {check}");
        }
    }
}
