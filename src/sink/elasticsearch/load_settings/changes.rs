//! Decides which settings a load changes, and which of them are restored. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sink::elasticsearch::flat::Values;

const REFRESH_INTERVAL: &str = "index.refresh_interval";
const REPLICAS: &str = "index.number_of_replicas";
const AUTO_EXPAND: &str = "index.auto_expand_replicas";

/// Refresh interval of a load: 30 s minus one millisecond, which marks it as this program's.
///
/// It is not `-1`. Refreshing twice a minute costs next to nothing, because a full indexing buffer creates segments
/// more often than that. The program reads its own writes by id and needs no refresh. But after a kill without a next
/// run, an index at `-1` would hide new documents from every search.
const LOAD_REFRESH: &str = "29999ms";

/// Settings for posts. Without replicas, each document is indexed once instead of twice.
///
/// Durability is left alone. `async` saves no measurable time even if an fsync takes 5 ms, because few requests wait for
/// the disk and other senders continue in the meantime. The flushes that `async` needs before archives are marked cost
/// more.
const POST_SETTINGS: [(&str, &str); 2] = [(REFRESH_INTERVAL, LOAD_REFRESH), (REPLICAS, "0")];

/// Settings for tombstones. They keep their replicas: they are few and small, and a tombstone lost with a node would
/// let a deleted post come back.
const TOMBSTONE_SETTINGS: [(&str, &str); 1] = [(REFRESH_INTERVAL, LOAD_REFRESH)];

/// Settings to send, by flat name; None: the default.
pub(super) type Update<'a> = BTreeMap<&'a str, Option<&'a str>>;

/// Returns the indices that take posts and tombstones, each with the settings of a load.
///
/// Deletes also go to the other indices behind an alias. Those keep their settings, because tuning them would mean
/// copying all their shards again.
pub(super) fn tuned<'i>(
    posts: &'i str,
    tombstones: &'i str,
) -> [(&'i str, &'static [(&'static str, &'static str)]); 2] {
    [(posts, &POST_SETTINGS), (tombstones, &TOMBSTONE_SETTINGS)]
}

/// Describes the settings of a load for users.
pub fn describe() -> String {
    let list = |settings: &[(&str, &str)]| {
        let texts: Vec<_> = settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        texts.join(", ")
    };
    format!("{} for posts; {} for tombstones", list(&POST_SETTINGS), list(&TOMBSTONE_SETTINGS))
}

/// Returns whether the current settings come from a load: nobody else would choose this refresh interval.
pub(in crate::sink::elasticsearch) fn is_tuned(now: &Values) -> bool {
    now.get(REFRESH_INTERVAL).is_some_and(|value| value == LOAD_REFRESH)
}

/// The changes of a load in one index, by flat name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Changes(BTreeMap<String, Change>);

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Change {
    /// The value before the load; None: the default was in force.
    before: Option<String>,
    /// The value during the load, as the server shows it; None: it shows none. Never missing in a record.
    #[serde(deserialize_with = "Option::deserialize")]
    during: Option<String>,
}

impl Changes {
    /// Computes the changes from the current settings to those of a load. If the server itself chooses the number of
    /// replicas, it takes no other, so that number is left alone.
    pub(super) fn new(now: &Values, during: &[(&str, &str)]) -> Self {
        let chooses_replicas = now.get(AUTO_EXPAND).is_some_and(|value| value != "false");
        let is_changed = |(name, _): &&(&str, &str)| !(chooses_replicas && *name == REPLICAS);
        let change = |(name, during): &(&str, &str)| {
            let change = Change { before: now.get(*name).cloned(), during: Some((*during).to_owned()) };
            ((*name).to_owned(), change)
        };
        Self(during.iter().filter(is_changed).map(change).collect())
    }

    /// Returns the settings to send when a load starts.
    pub(super) fn during(&self) -> Update<'_> {
        self.update(|_, change| Some(change.during.as_deref()))
    }

    /// Returns the changes with the current settings as the values during the load.
    pub(super) fn as_shown(&self, now: &Values) -> Self {
        let shown = |(name, change): (&String, &Change)| {
            (name.clone(), Change { before: change.before.clone(), during: now.get(name).cloned() })
        };
        Self(self.0.iter().map(shown).collect())
    }

    /// Returns the settings to send to restore everything.
    pub(super) fn before(&self) -> Update<'_> {
        self.update(|_, change| Some(change.before.as_deref()))
    }

    /// Returns the settings to send to restore everything except what another process or a user has changed since.
    pub(super) fn to_restore(&self, now: &Values) -> Update<'_> {
        self.update(|name, change| {
            (now.get(name) == change.during.as_ref()).then_some(change.before.as_deref())
        })
    }

    fn update<'a>(&'a self, value: impl Fn(&str, &'a Change) -> Option<Option<&'a str>>) -> Update<'a> {
        self.0.iter().filter_map(|(name, change)| Some((name.as_str(), value(name, change)?))).collect()
    }
}

/// Describes the changes for users.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, Change { before, during })) in self.0.iter().enumerate() {
            let [before, during] = [before, during].map(|value| value.as_deref().unwrap_or("default"));
            write!(f, "{}{name} {during} (was: {before})", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn of_posts(now: &[(&str, &str)]) -> Changes {
        Changes::new(&values(now), &POST_SETTINGS)
    }

    #[test]
    fn set_values_are_restored_and_unset_ones_are_unset() {
        let changes = of_posts(&[(REPLICAS, "2")]);
        let now = values(&POST_SETTINGS);
        assert_eq!(
            changes.during(),
            Update::from([(REFRESH_INTERVAL, Some(LOAD_REFRESH)), (REPLICAS, Some("0"))])
        );
        assert!(is_tuned(&now));
        assert_eq!(changes.to_restore(&now), Update::from([(REFRESH_INTERVAL, None), (REPLICAS, Some("2"))]));
        assert_eq!(changes.before(), changes.to_restore(&now));
    }

    #[test]
    fn replicas_that_the_server_chooses_are_left_alone() {
        for (auto_expand, is_changed) in [("0-1", false), ("0-all", false), ("false", true)] {
            let changes = of_posts(&[(AUTO_EXPAND, auto_expand), (REPLICAS, "1")]);
            assert_eq!(changes.during().contains_key(REPLICAS), is_changed, "{auto_expand}");
        }
    }

    #[test]
    fn values_that_others_have_set_since_are_left_alone() {
        let changes = of_posts(&[(REFRESH_INTERVAL, "5s"), (REPLICAS, "1")]);
        let by_hand = values(&[(REFRESH_INTERVAL, "1s"), (REPLICAS, "0")]);
        assert_eq!(changes.to_restore(&by_hand), Update::from([(REPLICAS, Some("1"))]));
        let all_back = values(&[(REFRESH_INTERVAL, "5s"), (REPLICAS, "1")]);
        assert!(changes.to_restore(&all_back).is_empty());
    }

    #[test]
    fn only_the_refresh_interval_of_a_load_marks_one() {
        for (refresh, tuned) in [("29999ms", true), ("30s", false), ("-1", false)] {
            assert_eq!(
                is_tuned(&values(&[(REFRESH_INTERVAL, refresh), (REPLICAS, "0")])),
                tuned,
                "{refresh}"
            );
        }
        assert!(!is_tuned(&Values::new()));
    }

    #[test]
    fn tombstones_keep_their_replicas() {
        for (index, during) in tuned("p", "t") {
            let replicas = during.iter().any(|(name, _)| *name == REPLICAS);
            assert_eq!(replicas, index == "p");
        }
    }

    #[test]
    fn changes_survive_the_way_to_disk_and_back() {
        let changes = of_posts(&[(REPLICAS, "2")]);
        let text = serde_json::to_string(&changes).unwrap();
        assert_eq!(serde_json::from_str::<Changes>(&text).unwrap(), changes, "{text}");
    }
}
