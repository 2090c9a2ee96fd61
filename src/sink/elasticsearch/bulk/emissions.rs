//! Keeps an older emission of a post out of the write index if an older index behind the alias has a newer one.
//!
//! Versions order the emissions of a post only within an index. An archive that is loaded after a rollover may be older
//! than one that was loaded before. So its posts are looked up first, in each index that may have a newer emission. If an
//! attempt that did not know of the rollover has written the older emission already, that copy is deleted. See
//! [`convergence`](crate::sink::elasticsearch::convergence).

use super::Bulk;
use super::batch_report::Final;
use super::deletes::{Deleted, FoundPost};
use crate::model::{Action, Version};
use crate::retry::throttle::Stopped;
use crate::sink::elasticsearch::targets::{Member, Target};

impl Bulk<'_> {
    /// Returns the outcome of each post of which an older index has a newer emission; None: the post is to be sent.
    pub(super) fn supersede<'a>(&self, posts: &[&'a Action]) -> Result<Vec<Option<Final>>, Stopped> {
        let targets = self.targets.now();
        let target = &targets.posts;
        let in_each = |(nth, post): (usize, &'a Action)| {
            target.may_hold_newer(post.version).into_iter().map(move |member| (nth, post, member))
        };
        let asked: Vec<(usize, &Action, &Member)> =
            posts.iter().copied().enumerate().flat_map(in_each).collect();
        let mut outcomes: Vec<Option<Final>> = posts.iter().map(|_| None).collect();
        let mut copies = Vec::new();
        for held in self.find_posts(&asked)?.chunk_by(|a, b| a.nth == b.nth) {
            let Some(newer) = oldest_with_newer(target, held) else { continue };
            for post in held {
                if let Some(outcome) = outcomes.get_mut(post.nth) {
                    *outcome = Some(Final::Superseded);
                }
                let is_copy = post.version == post.action.version.of_index();
                copies.extend((is_copy && age_rank(target, post.member) > newer).then(|| post.clone()));
            }
        }
        if !copies.is_empty() {
            let mut deleted: Vec<Deleted> = posts.iter().map(|_| Deleted::default()).collect();
            // A copy that has changed since then is another row's.
            self.delete_found(&copies, &mut deleted)?;
            for (outcome, deleted) in outcomes.iter_mut().zip(deleted) {
                *outcome = deleted.refusal.map(Final::Refused).or(outcome.take());
            }
        }
        Ok(outcomes)
    }
}

/// Returns the rank of the oldest index with a newer emission than the row's. The write index does not count: it
/// refuses the older emission itself.
fn oldest_with_newer(target: &Target, held: &[FoundPost<'_>]) -> Option<(bool, Option<i64>)> {
    let is_newer = |post: &&FoundPost<'_>| {
        post.member.name != target.write_index
            && Version::from_index_version(post.version).is_some_and(|version| version > post.action.version)
    };
    held.iter().filter(is_newer).map(|post| age_rank(target, post.member)).min()
}

/// Ranks indices from the oldest to the write index.
fn age_rank(target: &Target, member: &Member) -> (bool, Option<i64>) {
    (member.name == target.write_index, member.created)
}
