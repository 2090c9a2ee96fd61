//! Stops a run if too many rows are rejected, so that a wrong setup does not turn every row into a dead letter. There are
//! two limits:
//!
//! - The server refuses [`MAX_REFUSALS_IN_A_ROW`] actions in a row and accepts none. Until that is decided, refused events
//!   are held back: their archives are not marked, and their rows are not dead letters yet. Posts and deletions are
//!   counted separately, since a server that accepts tombstones may refuse all posts.
//! - More rows are rejected than `--max-rejected` allows.
//!
//! Once a limit is exceeded, rejected rows count as unconfirmed, so that their archives stay pending.

use std::collections::BTreeMap;
use std::mem;

use crate::common::exit::Failure;
use crate::common::mutex::Mutex;
use crate::config::RejectedLimit;
use crate::model::{Event, Outcomes, Tally};
use crate::process::shutdown::Stop;

/// Number of refusals in a row, with no action accepted in between, that cannot be due to the content.
pub const MAX_REFUSALS_IN_A_ROW: u64 = 1000;

/// Maximum number of error types that are counted.
const MAX_TYPES: usize = 100;

/// Watches the rejected rows of a whole run.
pub struct Refusals {
    most: Option<RejectedLimit>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Rows whose outcome is decided.
    rows: Tally,
    /// One for posts and one for deletions.
    kinds: [Kind; 2],
    /// Whether a limit is exceeded.
    is_exceeded: bool,
    types: Types,
}

impl State {
    fn kind(&mut self, of_deletions: bool) -> &mut Kind {
        let [others, deletions] = &mut self.kinds;
        if of_deletions { deletions } else { others }
    }
}

#[derive(Default)]
struct Kind {
    /// Number of refusals since the last accepted action.
    in_a_row: u64,
    /// The events held back.
    held: Vec<Event>,
}

/// The number of rejections and the first reason, by error type.
#[derive(Default)]
struct Types(BTreeMap<String, (u64, String)>);

impl Types {
    fn add(&mut self, outcomes: &Outcomes) {
        for letter in &outcomes.dead_letters {
            if let Some((count, _)) = self.0.get_mut(&letter.error_type) {
                *count += 1;
            } else if self.0.len() < MAX_TYPES {
                self.0.insert(letter.error_type.clone(), (1, letter.reason.clone()));
            }
        }
    }

    /// Formats the most frequent rejection.
    fn most(&self) -> String {
        let most = self.0.iter().max_by_key(|(_, (count, _))| *count);
        most.map_or_else(String::new, |(kind, (count, reason))| format!("{count} times {kind}: {reason}"))
    }
}

impl Refusals {
    /// Creates a watch. `most` is the limit of rejected rows.
    pub fn new(most: Option<RejectedLimit>) -> Self {
        Self { most, state: Mutex::default() }
    }

    /// Takes an event. Returns, in order, the events whose outcomes are final now. Stops the run if a limit is exceeded.
    pub fn judge(&self, mut event: Event, stop: &Stop) -> Vec<Event> {
        let mut state = self.state.lock();
        let outcomes = &mut event.outcomes;
        let (refused, taken) = (refused_by_server(outcomes), taken(&outcomes.tally));
        let of_deletions = outcomes.of_deletions;
        if state.is_exceeded {
            unconfirm(outcomes);
            return vec![event];
        }
        let mut decided = Vec::new();
        if refused > 0 && taken == 0 {
            let kind = state.kind(of_deletions);
            kind.in_a_row += refused;
            kind.held.push(event);
            if kind.in_a_row >= MAX_REFUSALS_IN_A_ROW {
                let mut types = Types::default();
                kind.held.iter().for_each(|event| types.add(&event.outcomes));
                state.is_exceeded = true;
                stop.fail(too_many_in_a_row(&types.most()));
                for kind in &mut state.kinds {
                    decided.append(&mut kind.held);
                }
                decided.iter_mut().for_each(|event| unconfirm(&mut event.outcomes));
            }
            return decided;
        }
        if taken > 0 {
            let kind = state.kind(of_deletions);
            kind.in_a_row = 0;
            decided.append(&mut kind.held);
        }
        decided.push(event);
        self.within_limit(&mut state, decided, stop)
    }

    /// Returns the events held back, once no more events are on their way.
    pub fn finish(&self, stop: &Stop) -> Vec<Event> {
        let mut state = self.state.lock();
        let held: Vec<Event> = state.kinds.iter_mut().flat_map(|kind| mem::take(&mut kind.held)).collect();
        self.within_limit(&mut state, held, stop)
    }

    /// Counts the rejected rows of events. Stops the run at the event that exceeds `--max-rejected`.
    fn within_limit(&self, state: &mut State, mut events: Vec<Event>, stop: &Stop) -> Vec<Event> {
        let Some(most) = self.most else { return events };
        for event in &mut events {
            let outcomes = &mut event.outcomes;
            if !state.is_exceeded && outcomes.tally.rejected > 0 {
                state.types.add(outcomes);
                let rejected = state.rows.rejected + outcomes.tally.rejected;
                let of = |tally: &Tally| (tally.read, tally.settled());
                let ((read, settled), (newly_read, newly_settled)) = (of(&state.rows), of(&outcomes.tally));
                // Good rows of an archive that was read may still wait for the server's answer.
                if rejected > most.of((read + newly_read).max(settled + newly_settled)) {
                    state.is_exceeded = true;
                    stop.fail(too_many_rejected(most, rejected, &state.types.most()));
                }
            }
            if state.is_exceeded {
                unconfirm(outcomes);
            }
            state.rows += &outcomes.tally;
        }
        events
    }
}

/// Returns the number of actions that the server carried out or found outdated.
fn taken(tally: &Tally) -> u64 {
    tally.indexed + tally.deleted + tally.superseded + tally.repaired.total()
}

/// Returns the number of documents that the server refused, without rows that were rejected before sending.
fn refused_by_server(outcomes: &Outcomes) -> u64 {
    outcomes.dead_letters.iter().filter(|letter| letter.is_of_refused_document()).count() as u64
}

/// Turns rejected rows into unconfirmed ones.
pub(super) fn unconfirm(outcomes: &mut Outcomes) {
    let rejected = mem::take(&mut outcomes.tally.rejected);
    outcomes.tally.unconfirmed += rejected;
    outcomes.dead_letters.clear();
    outcomes.kept_lines.clear();
    outcomes.reasons.rejected.clear();
    outcomes.reasons.can_be_replayed = 0;
}

fn too_many_in_a_row(most: &str) -> Failure {
    Failure::run(format!(
        "Elasticsearch has refused {MAX_REFUSALS_IN_A_ROW} actions in a row and accepted none ({most}): \
         check the index, its mapping and its ingest pipeline; these rows are not in the dead-letter file, \
         and their archives stay pending: run again once it accepts documents"
    ))
}

fn too_many_rejected(most: RejectedLimit, rejected: u64, said: &str) -> Failure {
    // Lines of a replay that hold no document have no type.
    let said = if said.is_empty() { String::new() } else { format!(" (most often: {said})") };
    Failure::run(format!(
        "more rows are rejected than --max-rejected {most} allows, {rejected} by now{said}: correct the cause, \
         or run again with a higher limit if you expect these rows; the last of them are not in the \
         dead-letter file, and their archives stay pending"
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Archive, DeadLetter};

    fn event(indexed: u64, refused: u64, stage: &'static str) -> Event {
        let archive = Archive { name: "a".into(), path: "a".into(), ..Archive::default() };
        let letter = |n| DeadLetter {
            archive: "a".into(),
            row_id: n,
            at_uri: String::new(),
            stage: stage.into(),
            error_type: if n % 4 == 0 { "rare" } else { "mapper_exception" }.into(),
            reason: "since".into(),
            action: None,
            document: None,
        };
        let dead_letters = (0..i64::try_from(refused).unwrap()).map(letter).collect();
        let tally = Tally { indexed, rejected: refused, ..Tally::default() };
        Event {
            archive: Arc::new(archive),
            outcomes: Outcomes { tally, dead_letters, ..Outcomes::default() },
            end: None,
        }
    }

    fn of_deletions(mut event: Event) -> Event {
        event.outcomes.of_deletions = true;
        event
    }

    /// Returns the number of events, and their rejected and unconfirmed rows.
    fn decided(events: Vec<Event>) -> (usize, u64, u64) {
        let mut all = Outcomes::default();
        let count = events.len();
        events.into_iter().for_each(|mut event| all += mem::take(&mut event.outcomes));
        assert_eq!(all.dead_letters.len() as u64, all.tally.rejected);
        (count, all.tally.rejected, all.tally.unconfirmed)
    }

    #[test]
    fn refusals_in_a_row_are_held_back_until_an_action_is_accepted() {
        let (refusals, stop) = (Refusals::new(None), Stop::new());
        let judge = |event| decided(refusals.judge(event, &stop));
        assert_eq!(judge(event(0, 999, "elasticsearch")), (0, 0, 0));
        assert_eq!(judge(event(0, 5, "decode")), (1, 5, 0), "what was never sent");
        assert_eq!(judge(of_deletions(event(1, 0, ""))), (1, 0, 0), "tombstones are taken, posts are not");
        assert_eq!(judge(event(1, 1, "elasticsearch")), (2, 1000, 0));
        assert_eq!(judge(event(0, 999, "elasticsearch")), (0, 0, 0));
        assert_eq!(decided(refusals.finish(&stop)), (1, 999, 0), "the end of a pass");
        assert!(!stop.is_requested());
        assert_eq!(decided(refusals.judge(event(0, 1, "elasticsearch"), &stop)), (1, 0, 1), "of two passes");
        assert!(stop.is_requested());
    }

    #[test]
    fn too_many_refusals_in_a_row_stop_the_run_and_are_not_dead_letters() {
        let (refusals, stop) = (Refusals::new(None), Stop::new());
        for _ in 0..9 {
            assert!(refusals.judge(event(0, 100, "elasticsearch"), &stop).is_empty());
        }
        assert!(refusals.judge(of_deletions(event(0, 7, "elasticsearch")), &stop).is_empty());
        assert_eq!(decided(refusals.judge(event(0, 100, "elasticsearch"), &stop)), (11, 0, 1007));
        let message = stop.as_failure().message;
        assert!(message.contains("750 times mapper_exception: since"), "{message}");
        assert_eq!(
            decided(refusals.judge(event(1, 3, "elasticsearch"), &stop)),
            (1, 0, 3),
            "what is in flight"
        );
    }

    #[test]
    fn more_rejected_rows_than_allowed_stop_the_run_and_stay_unconfirmed() {
        for (most, allowed, rows) in
            [("0", 0, 0), ("20", 20, 0), ("1%", 10, 0), ("1%", 10, 500), ("1%", 50, 4_950)]
        {
            let (refusals, stop) = (Refusals::new(Some(RejectedLimit::parse(most).unwrap())), Stop::new());
            decided(refusals.judge(event(rows, 0, ""), &stop));
            assert_eq!(
                decided(refusals.judge(event(1, allowed, "decode"), &stop)),
                (1, allowed, 0),
                "{most}"
            );
            assert!(!stop.is_requested(), "{most}");
            assert_eq!(decided(refusals.judge(event(0, 2, "decode"), &stop)), (1, 0, 2), "{most}");
            assert!(stop.as_failure().message.contains("--max-rejected"), "{most}");
        }
    }

    #[test]
    fn a_share_of_rejected_rows_is_one_of_the_rows_read() {
        for (rejected, stops) in [(60, false), (61, true)] {
            let (refusals, stop) = (Refusals::new(RejectedLimit::parse("1%")), Stop::new());
            let mut of_archive = event(0, rejected, "decode");
            of_archive.outcomes.tally.read = 6_000;
            decided(refusals.judge(of_archive, &stop));
            assert_eq!(stop.is_requested(), stops, "{rejected}");
        }
    }
}
