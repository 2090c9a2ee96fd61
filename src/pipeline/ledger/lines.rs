//! The log line about each archive.

use std::collections::HashMap;
use std::sync::Arc;

use log::Level;

use super::tracker::Fate;
use crate::common::mutex::Mutex;
use crate::model::{Archive, Tally, has_archive_suffix};
use crate::observe::logging::{self, ARCHIVES};

/// What has been logged about archives that stay pending, so that a spool run logs it once and not at every look.
#[derive(Debug, Default)]
pub struct Lines(Mutex<HashMap<String, (Arc<Archive>, Fate)>>);

impl Lines {
    /// Whether this has not been logged yet: the archive is new, or the archive or its fate has changed. Remembers it as
    /// logged.
    pub fn is_new(&self, archive: &Arc<Archive>, fate: &Fate) -> bool {
        let line = (archive.clone(), fate.clone());
        self.0.lock().insert(archive.name.clone(), line.clone()) != Some(line)
    }

    /// Forgets all archives except those with these names, so that memory does not grow with the number of looks.
    pub fn forget_unless(&self, is_there: impl Fn(&str) -> bool) {
        self.0.lock().retain(|name, _| is_there(name));
    }
}

/// Logs one line about an archive. `--quiet` leaves out those of level `info`.
pub(super) fn log_archive(name: &str, tally: &Tally, fate: &Fate) {
    let (level, what) = line_of(name, tally, fate);
    let before = format!("{name:?}{what}");
    let room = logging::columns().saturating_sub(before.chars().count());
    let counts = tally.counts();
    log::log!(
        target: ARCHIVES, level, archive = name, rows = tally.read, counts = format_counts(&counts, usize::MAX);
        "{before}{}", format_counts(&counts, room)
    );
}

/// Returns the log level, and the text up to the counts.
fn line_of(name: &str, tally: &Tally, fate: &Fate) -> (Level, String) {
    let rows = if tally.counts().is_empty() { "" } else { "; " };
    match fate {
        Fate::Processed if tally.rejected > 0 => (Level::Warn, ": ".to_owned()),
        // A replayed file is no database. One in WAL mode that is copied while it is written to has its rows in another
        // file.
        Fate::Processed if rows.is_empty() && !has_archive_suffix(name.as_ref()) => {
            (Level::Warn, ": no rows".to_owned())
        }
        Fate::Processed if rows.is_empty() => {
            (Level::Warn, ": no rows; was its database copied without its -wal file?".to_owned())
        }
        Fate::Processed => (Level::Info, ": ".to_owned()),
        Fate::Failed(reason) => (Level::Error, format!(" failed: {reason}{rows}")),
        Fate::Again => {
            (Level::Warn, format!(" is loaded again: an index that it was written to has moved{rows}"))
        }
        Fate::Pending(reason) => (Level::Warn, format!(" stays pending: {reason}{rows}")),
    }
}

/// Formats counts in order. Those that do not fit into `columns` are summed up; at least one count is named.
fn format_counts(counts: &[(&str, u64)], columns: usize) -> String {
    let named = |counts: &[(&str, u64)]| {
        counts.iter().map(|(name, rows)| format!("{rows} {name}")).collect::<Vec<_>>().join(", ")
    };
    let whole = named(counts);
    let shorter = (1..counts.len()).rev().filter_map(|n| {
        let (first, others) = counts.split_at_checked(n)?;
        let others: u64 = others.iter().map(|(_, rows)| rows).sum();
        Some(format!("{}, {others} others", named(first)))
    });
    let mut texts: Vec<String> = std::iter::once(whole).chain(shorter).collect();
    let fits = texts.iter().position(|text| text.chars().count() <= columns);
    texts.swap_remove(fits.unwrap_or(texts.len() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(modified_ns: i128) -> Arc<Archive> {
        Arc::new(Archive { name: "a".into(), path: "a".into(), modified_ns, ..Archive::default() })
    }

    #[test]
    fn an_unchanged_fate_is_logged_once() {
        let pending = |why: &str| Fate::Pending(why.to_owned());
        let lines = Lines::default();
        let at_look = |modified_ns, why: &str| {
            lines.forget_unless(|name| name == "a");
            lines.is_new(&archive(modified_ns), &pending(why))
        };
        assert!(at_look(1, "broken"));
        assert!(!at_look(1, "broken") && !at_look(1, "broken"));
        assert!(at_look(2, "broken"), "it has changed");
        assert!(at_look(2, "still being written") && !at_look(2, "still being written"));
        lines.forget_unless(|_| false);
        assert!(lines.is_new(&archive(2), &pending("still being written")), "it was away");
    }

    #[test]
    fn the_level_of_a_line_follows_from_the_fate() {
        let tally = |rejected| Tally { read: 2, rejected, indexed: 2 - rejected, ..Tally::default() };
        let line = |rejected, fate| line_of("a.db.zip", &tally(rejected), &fate);
        assert_eq!(line(0, Fate::Processed), (Level::Info, ": ".into()));
        assert_eq!(line(1, Fate::Processed), (Level::Warn, ": ".into()));
        assert_eq!(line(0, Fate::Failed("broken".into())), (Level::Error, " failed: broken; ".into()));
        assert_eq!(line(0, Fate::Pending("later".into())), (Level::Warn, " stays pending: later; ".into()));
        let none = Tally::default();
        assert_eq!(
            line_of("a.db.zip", &none, &Fate::Processed),
            (Level::Warn, ": no rows; was its database copied without its -wal file?".into())
        );
        assert_eq!(line_of("dead", &none, &Fate::Processed), (Level::Warn, ": no rows".into()));
        let pending = Fate::Pending("later".into());
        assert_eq!(line_of("a.db.zip", &none, &pending).1, " stays pending: later");
    }

    #[test]
    fn counts_that_do_not_fit_are_summed_up() {
        let counts = [("rejected", 3), ("indexed", 1463), ("deleted", 17), ("superseded", 17)];
        assert_eq!(format_counts(&counts, 60), "3 rejected, 1463 indexed, 17 deleted, 17 superseded");
        assert_eq!(format_counts(&counts, 50), "3 rejected, 1463 indexed, 17 deleted, 17 others");
        assert_eq!(format_counts(&counts, 40), "3 rejected, 1463 indexed, 34 others");
        assert_eq!(format_counts(&counts, 30), "3 rejected, 1497 others");
        assert_eq!(format_counts(&counts, 5), "3 rejected, 1497 others");
        assert_eq!(format_counts(&counts[..1], 5), "3 rejected");
        assert_eq!(format_counts(&[], 5), "");
    }
}
