//! Fetches the posts that have the expected version, and compares their content.

use std::sync::atomic::Ordering;

use super::Verifier;
use super::compare::first_difference;
use super::held::Place;
use super::judge::Verdict;
use crate::model::{Action, Batch, FieldChoice, Finding};
use crate::retry::throttle::Stopped;
use crate::sink::elasticsearch::bulk::attempt::FailedRequest;
use crate::sink::elasticsearch::bulk::look_up::{LookUp, look_up_body};
use crate::sink::elasticsearch::bulk::reply::{Answer, FoundContent, UNKNOWN_VERSION, judge_contents};
use crate::sink::elasticsearch::client::{Client, Reply};
use crate::sink::elasticsearch::returned::Returned;
use crate::sink::elasticsearch::targets::Targets;

/// Maximum number of posts in one request: some megabytes.
const MAX_POSTS: usize = 100;

/// From Elasticsearch 9.2 on, vectors are returned only on request.
const WITH_VECTORS: &str = "/_mget?_source_exclude_vectors=false";

/// Other servers refuse the parameter, and return vectors as they were sent.
const AS_SENT: &str = "/_mget";

/// A post to compare: its action, and where it is stored.
pub(super) type ToCompare<'a> = (&'a Action, Place);

impl Verifier<'_> {
    /// Compares posts with the documents of a batch. None for a post that has changed since it was looked up.
    pub(super) fn compare(
        &self,
        batch: &Batch,
        posts: &[ToCompare<'_>],
    ) -> Result<Vec<Option<Verdict>>, Stopped> {
        let mut verdicts = Vec::with_capacity(posts.len());
        for part in posts.chunks(MAX_POSTS) {
            let ask = |client: &Client, part: &[ToCompare<'_>]| self.fetch(client, batch, part);
            verdicts.extend(self.elasticsearch.bulk.look_up_all(part, &ask)?);
        }
        Ok(verdicts)
    }

    /// Fetches the posts once, and compares them.
    fn fetch(
        &self,
        client: &Client,
        batch: &Batch,
        posts: &[ToCompare<'_>],
    ) -> Result<Vec<Option<Verdict>>, FailedRequest> {
        let targets = self.elasticsearch.server.targets.now();
        let look_ups: Vec<LookUp<'_>> = posts
            .iter()
            .map(|(action, place)| (&*place.index, place.requires_routing, &*action.id))
            .collect();
        let ids: Vec<&str> = look_ups.iter().map(|(.., id)| *id).collect();
        let mut reply = self.post_for_vectors(&client.without_masks(), &look_up_body(&look_ups))?;
        let judged = match judge_contents(&reply.body, &ids) {
            // An error may be logged.
            Err(_) => {
                client.mask(&mut reply.body);
                judge_contents(&reply.body, &ids)
            }
            found => found,
        };
        let found = match judged {
            Ok(found) => found,
            // The index is no longer behind the name: all posts are looked up again.
            Err(Answer::Moved(_)) => return Ok(vec![None; posts.len()]),
            Err(answer) => return Err((answer, None)),
        };
        let choice = self.elasticsearch.server.names.fields;
        let verdicts = posts.iter().zip(found).map(|((action, place), found)| {
            let found = found.filter(|found| found.version == place.version)?;
            Some(verdict(choice, batch, action, &found, &returned(&targets, place)))
        });
        Ok(verdicts.collect())
    }

    /// Requests `_source` including vectors, with the parameter if the server knows it.
    fn post_for_vectors(&self, client: &Client, body: &[u8]) -> Result<Reply, FailedRequest> {
        if !self.returns_vectors.load(Ordering::Relaxed) {
            match self.post(client, WITH_VECTORS, body.to_vec()) {
                Err((Answer::Divide(refusal), _)) if refusal.reason.contains("_source_exclude_vectors") => {
                    self.returns_vectors.store(true, Ordering::Relaxed);
                }
                answered => return answered,
            }
        }
        self.post(client, AS_SENT, body.to_vec())
    }
}

/// Returns how the index of a post returns documents.
fn returned(targets: &Targets, place: &Place) -> Returned {
    let members = &targets.posts.members;
    // A single index is read by the name of its alias.
    let member = members.iter().find(|member| member.name == place.index).or(members.first());
    member.map(|member| member.returned.clone()).unwrap_or_default()
}

fn verdict(
    choice: FieldChoice,
    batch: &Batch,
    action: &Action,
    found: &FoundContent<'_>,
    returned: &Returned,
) -> Verdict {
    let (_, document) = batch.lines_of(action);
    let source = found.source.map_or("{}", |source| source.get());
    let finding = match first_difference(choice, document, source, returned) {
        None => Finding::Equal,
        Some(field) => Finding::Different(field),
    };
    Verdict { finding, version: Some(found.version).filter(|&version| version != UNKNOWN_VERSION) }
}
