//! Deletes an account: all posts of its author.
//!
//! The account has its own tombstone, whose `_id` is the DID. It affects posts in two ways:
//!
//! - Posts written later: with `--account-deletions`, the look-ups before and after a write ask for the author as well.
//!   A post whose author has a tombstone is suppressed, and also deleted, in case an earlier run wrote it.
//! - Posts written earlier: a search right after a refresh finds them. Each gets a tombstone with the version of the
//!   account's deletion. The code for deletion rows then deletes it.
//!
//! No post is missed. If the second look-up of a post does not find the account's tombstone, the post was confirmed
//! before the tombstone, and so before the refresh that makes it visible to the search. This holds for all senders and
//! processes that run with the option; others do not look up authors. [`crate::sink::elasticsearch::convergence`] has
//! the same argument for single posts, and its assumptions.
//!
//! A search returns one page of posts, and is repeated until it finds none. The posts of a page are deleted before the
//! next search, so no sort order, cursor or point in time is needed.

use std::collections::HashSet;

use serde_json::json;

use super::batch_report::{BatchReport, Final};
use super::reply::{Answer, Refusal, judge_search, judge_shards};
use super::{Attempt, Bulk, read};
use crate::common::timestamp::now_millis;
use crate::model::{Action, ActionKind, Batch, Document, Tombstone};
use crate::observe::traffic::Request;
use crate::retry::throttle::Stopped;
use crate::sink::batch::Batcher;
use crate::sink::elasticsearch::encode::VectorEncoding;
use crate::sink::elasticsearch::encode::document::write_action;
use crate::sink::elasticsearch::product::OF_PRIMARIES;

/// Posts per page of a search: few enough for one reply, many enough that refreshes are rare.
const PAGE: usize = 1000;

/// Returns only the fields that are judged. A shard that cannot be searched is an error, not an empty result.
const SEARCH: &str = "_search?allow_partial_search_results=false&filter_path=timed_out,_shards.failed,\
                      hits.total.value,hits.hits._id";

/// Makes all confirmed documents visible to searches.
const REFRESH: &str = "_refresh?filter_path=_shards.failed";

impl Bulk<'_> {
    /// Deletes the posts of every account in the batch whose tombstone is confirmed.
    pub(super) fn delete_accounts(&self, batch: &Batch, report: &mut BatchReport<'_>) -> Result<(), Stopped> {
        for (line, outcome) in report.take_accounts() {
            let Some(action) = batch.actions.get(line) else { continue };
            let refusal = self.delete_posts_of(batch, action)?;
            report.account_deleted(line, refusal.map_or(outcome, Final::Refused));
        }
        Ok(())
    }

    /// Deletes all posts of an account. A refused deletion does not stop the others. Returns why posts are left; None:
    /// none are.
    fn delete_posts_of(&self, batch: &Batch, account: &Action) -> Result<Option<Refusal>, Stopped> {
        let query = json!({
            "query": {"term": {"author_did": &*account.id}},
            "size": PAGE, "track_total_hits": true, "_source": false,
        });
        let mut before = HashSet::new();
        let mut refusal = None;
        loop {
            self.ask(REFRESH, b"", judge_shards)?;
            let search = format!("{SEARCH}{}", self.client.product().search_of_primaries());
            let found = self.ask(&search, query.to_string().as_bytes(), judge_search)?;
            if found.is_empty() {
                return Ok(None);
            }
            let found: HashSet<String> = found.into_iter().collect();
            // The search found only posts that the last round could not delete; another round could not either.
            if found.is_subset(&before) {
                return Ok(Some(refusal.unwrap_or_else(|| posts_remain(found.len()))));
            }
            refusal = self.delete_posts(batch, account, &found)?;
            before = found;
        }
    }

    /// Writes tombstones for posts of an account and deletes the posts, as for deletion rows. Returns the first
    /// refusal.
    fn delete_posts(
        &self,
        batch: &Batch,
        account: &Action,
        at_uris: &HashSet<String>,
    ) -> Result<Option<Refusal>, Stopped> {
        let mut refusal = None;
        for batch in self.tombstones(batch, account, at_uris) {
            let mut report = BatchReport::new(&batch);
            self.index(&batch, None, &mut report)?;
            self.delete(&mut report)?;
            let refused = report.finish().dead_letters.into_iter().next();
            refusal = refusal.or(refused.map(|letter| Refusal {
                error_type: letter.error_type,
                reason: format!("{}: {}", letter.at_uri, letter.reason),
            }));
        }
        Ok(refusal)
    }

    /// Builds the tombstones of an account's posts, with the row and version of the account's deletion.
    fn tombstones(&self, batch: &Batch, account: &Action, at_uris: &HashSet<String>) -> Vec<Batch> {
        let &Action { kind, version, ref id, .. } = account;
        let ActionKind::AccountTombstone { deleted_at } = kind else { return Vec::new() };
        let mut batcher = Batcher::new(batch.archive.clone(), self.limits, Vec::new());
        let mut batches = Vec::new();
        let names = self.targets.now().names;
        for at_uri in at_uris {
            let tombstone = Tombstone { at_uri: at_uri.into(), author_did: id.as_ref().into(), deleted_at };
            let action = Action::new(ActionKind::Tombstone, version, at_uri);
            let write = |body: &mut Vec<u8>, action: &Action| {
                let document = Document::Tombstone(&tombstone);
                write_action(body, names, action, &document, VectorEncoding::Array, now_millis());
            };
            batches.extend(batcher.push(action, write, Vec::new));
        }
        batches.extend(batcher.finish());
        batches
    }

    /// Sends a request about `posts` until it is answered.
    fn ask<T>(
        &self,
        what: &str,
        body: &[u8],
        judge: impl Fn(&[u8]) -> Result<T, Answer>,
    ) -> Result<T, Stopped> {
        let mut patience = self.retries.patience();
        loop {
            let path = format!("/{}/{what}", self.targets.now().posts.search_in());
            let permit = self.throttle.acquire(body.len())?;
            let attempt = self.attempt(Request::Search, permit, &mut patience, |client| {
                let mut reply = client.post(&path, body);
                if reply.as_ref().is_ok_and(|reply| reply.status == 400)
                    && let Some(of_any_copy) = path.strip_suffix(OF_PRIMARIES)
                {
                    reply = client.post(of_any_copy, body);
                }
                let reply = read(reply)?;
                judge(&reply.body).map_err(|answer| (answer, None))
            })?;
            match attempt {
                Attempt::Read(answer, permit) => {
                    permit.succeeded();
                    return Ok(answer);
                }
                Attempt::Failed => {}
                Attempt::Interrupted(reason) | Attempt::TooSlow(reason) => patience.away(&reason)?,
                Attempt::Divide(refusal, _) | Attempt::TooLarge(refusal, _) => {
                    return self.refused(&format!("POST {path}"), &refusal);
                }
            }
        }
    }
}

/// Returns the refusal for posts that are found again after their deletion was confirmed.
fn posts_remain(count: usize) -> Refusal {
    let reason = format!("{count} posts of the account are found again after their deletion");
    Refusal { error_type: "posts_remain".into(), reason }
}
