//! Checks the server before the first archive is opened, in this order: connection, certificate, key, privileges,
//! targets, mapping, settings.
//!
//! Every check is a pure function from replies to [`Check`]s; [`run`] only sends the requests. Nothing is written, and
//! no request needs a cluster privilege: `GET /` answers 403 to a key that is for the indices alone.

mod fields;
mod privileges;
mod probe;
mod settings;
mod target;

use super::agreement::lasting_disagreement;
use super::answer::NoAnswer;
use super::client::Client;
use super::flush::{flush, forbidden};
use super::primaries::Primaries;
use super::targets::{Target, Targets};
use crate::model::Names;
use crate::observe::finding::{Check, Status};

use privileges::Grants;

/// What the run needs besides reading and writing documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Whether index settings will be changed (`--bulk-load-settings`). This requires the privilege `manage`.
    pub manage: bool,
    /// Whether posts will be searched by author (`--account-deletions`). This requires a suitable mapping and, to find
    /// the latest posts, the privilege `maintenance`.
    pub search_by_author: bool,
    /// Whether missing indices would be created (`--check --create-indices`). They are then not a failure, if creating
    /// them is possible.
    pub create: bool,
    /// Whether vectors will be sent as base64 (`--vector-encoding base64`). That must be proven to work.
    pub base64: bool,
    /// Whether to send a document that the server judges, but that no index keeps.
    pub offer: bool,
    /// Whether the run only looks up documents and writes nothing.
    pub reads_only: bool,
    /// Names of the aliases or indices to write to.
    pub names: Names,
    /// The ingest pipeline that replaces the index's default.
    pub pipeline: Option<&'static str>,
}

/// Result of a preflight that did not refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The checks in the order in which they were made. None has failed.
    pub checks: Vec<Check>,
    /// The indices behind the names.
    pub targets: Targets,
}

/// Checks that the run can do its work with this server, key and pair of indices.
///
/// # Errors
///
/// Returns `Refused` with all checks made so far, or `Unavailable`, which the caller may retry within its budget.
pub fn run(client: &Client, needs: Needs) -> Result<Report, NoAnswer> {
    let mut checks = Vec::new();
    match ask(client, needs, &mut checks) {
        Ok([posts, tombstones]) if checks.iter().all(|check| check.status != Status::Failed) => {
            let targets = targets(client, needs, posts, tombstones, None)?;
            checks.extend(targets.unsynced.as_ref().and_then(Primaries::judge));
            if let Some(page) = client.only_page() {
                return Err(NoAnswer::only_pages(&page));
            }
            Ok(Report { checks, targets })
        }
        Ok(_) => Err(NoAnswer::Refused(checks)),
        Err(NoAnswer::Refused(last)) => {
            checks.extend(last);
            Err(NoAnswer::Refused(checks))
        }
        Err(unavailable) => Err(unavailable),
    }
}

/// Looks up the indices behind the names of `before` again. Does not judge what cannot change.
///
/// # Errors
///
/// Returns `Refused` if a name can no longer be written to, `Unavailable` if there is no answer for now.
pub fn look(client: &Client, before: &Targets) -> Result<Targets, NoAnswer> {
    let needs = Needs { names: before.names, reads_only: before.reads_only, ..Needs::default() };
    let [posts, tombstones] = before.names.both().map(|name| target::ask(client, name, needs));
    let ((posts, mut checks), (tombstones, more)) = (posts?, tombstones?);
    checks.extend(more);
    checks.extend(judge_shared(&posts, &tombstones));
    checks.retain(|check| check.status == Status::Failed);
    // Every mapping accepts arrays, which are what an earlier one that is not `dense_vector` got.
    if before.posts.dense_vectors && !posts.dense_vectors && !needs.reads_only {
        let text =
            format!("{} maps vectors differently from the earlier index: run again", posts.write_index);
        checks.push(Check::failed("mapping", text));
    }
    if !checks.is_empty() {
        return Err(NoAnswer::Refused(checks));
    }
    targets(client, needs, posts, tombstones, Some(before))
}

/// Puts both targets together. Looks up the primary shards if an index acknowledges before it syncs.
fn targets(
    client: &Client,
    Needs { names, reads_only, .. }: Needs,
    posts: Target,
    tombstones: Target,
    before: Option<&Targets>,
) -> Result<Targets, NoAnswer> {
    // Documents acknowledged early stay so after the durability has changed back.
    let was_early = before.is_some_and(|before| before.unsynced.is_some());
    let is_early = !reads_only && (was_early || posts.durability_async || tombstones.durability_async);
    let unsynced = is_early.then(|| Primaries::find(client, names)).transpose()?;
    let generation = before.map_or(0, |before| before.generation);
    Ok(Targets { generation, names, reads_only, posts, tombstones, unsynced })
}

/// Sends one request after the other, as long as the answers allow the next one.
fn ask(client: &Client, needs: Needs, checks: &mut Vec<Check>) -> Result<[Target; 2], NoAnswer> {
    let grants = privileges::ask(client, &needs.names.both())?;
    checks.push(Check::ok("connection", format!("{} answers", client.base_url())));
    checks.extend(lasting_disagreement(client, needs.names).map(|text| Check::failed("connection", text)));
    checks.push(grants.judge(&needs.names.both(), needs));

    let [posts, tombstones] = ask_for_targets(client, needs, checks)?;
    checks.extend(judge_shared(&posts, &tombstones));
    if needs.search_by_author {
        checks.extend(judge_search_by_author(&posts, &grants));
    }
    for target in [&posts, &tombstones].into_iter().filter(|_| !needs.reads_only) {
        checks.extend(judge_flush(client, target, &grants)?);
    }
    let of_posts = if needs.reads_only { &["read"][..] } else { &["read", "delete"] };
    for (target, needed) in [(&posts, of_posts), (&tombstones, &["read"])] {
        if target.members.len() > 1 {
            let names: Vec<_> = target.members.iter().map(|member| &*member.name).collect();
            checks.extend(privileges::ask(client, &names)?.judge_members(&names, needed));
        }
    }
    Ok([posts, tombstones])
}

/// Looks at both targets even if one of them is refused, so that users learn at once everything that they have to fix.
fn ask_for_targets(client: &Client, needs: Needs, checks: &mut Vec<Check>) -> Result<[Target; 2], NoAnswer> {
    let mut look_at = |name| match target::ask(client, name, needs) {
        Ok((target, found)) => {
            checks.extend(found);
            Ok(Some(target))
        }
        Err(NoAnswer::Refused(found)) => {
            checks.extend(found);
            Ok(None)
        }
        Err(unavailable) => Err(unavailable),
    };
    match [look_at(needs.names.posts)?, look_at(needs.names.tombstones)?] {
        [Some(posts), Some(tombstones)] => Ok([posts, tombstones]),
        // The reason is among the checks.
        _ => Err(NoAnswer::Refused(Vec::new())),
    }
}

/// Fails if an index is behind both names. A tombstone has the `_id` of its post, so there the tombstone would replace
/// the post, and the delete of the post would delete the tombstone.
fn judge_shared(posts: &Target, tombstones: &Target) -> Option<Check> {
    let shared = posts.members.iter().find(|post| tombstones.members.iter().any(|t| t.name == post.name))?;
    let text = format!(
        "the index {} is behind both {} and {}, where they would replace and delete each other: remove it from one of the \
         aliases, or name another index",
        shared.name, posts.name, tombstones.name
    );
    Some(Check::failed("indices", text))
}

/// Judges searches by author. The posts of a deleted account are searched for in every index of `posts`, right after a
/// refresh.
fn judge_search_by_author(posts: &Target, grants: &Grants) -> Vec<Check> {
    let mut checks: Vec<Check> =
        posts.unsearchable.iter().map(|text| Check::failed("account deletions", text)).collect();
    if !grants.may(&posts.name, "maintenance") {
        checks.push(Check::failed(
            "account deletions",
            format!(
                "--account-deletions refreshes {} to find an author's latest posts, but this run may not \
                 refresh: grant it the index privilege maintenance, or remove the option",
                posts.name
            ),
        ));
    }
    if checks.is_empty() {
        checks.push(Check::ok("account deletions", "posts can be searched by their author"));
    }
    checks
}

/// Judges whether the run may flush. It flushes an index before it marks archives if the index may acknowledge before
/// it syncs. If the server does not show whether the run may flush, this flushes to find out.
fn judge_flush(client: &Client, target: &Target, grants: &Grants) -> Result<Option<Check>, NoAnswer> {
    let name = &target.name;
    if !target.durability_async {
        return Ok(None);
    }
    let ok = || {
        Check::ok(
            "durability",
            format!("{name} may confirm writes before they are on disk: it will be flushed"),
        )
    };
    Ok(Some(match grants.has(name, "maintenance") {
        Some(true) => ok(),
        Some(false) => Check::failed("durability", forbidden(client, name)),
        None => match flush(client, name) {
            Ok(()) => ok(),
            Err(NoAnswer::Refused(mut checks)) if checks.len() == 1 => checks.remove(0),
            Err(other) => return Err(other),
        },
    }))
}

#[cfg(test)]
pub(super) mod tests;
