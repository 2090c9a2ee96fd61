//! The progress bar on a terminal.

use std::collections::VecDeque;
use std::env;
use std::io::IsTerminal;
use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::common::text::megabytes;
use crate::config::LogFormat;
use crate::model::Health;
use crate::observe::logging;
use crate::observe::progress::{Backlog, Figures, format_seconds};

/// Window over which rows per second are measured.
const RECENT: Duration = Duration::from_secs(10);

/// Maximum width of a line, in columns: a wider one cannot be read at a glance.
const MAX_WIDTH: usize = 100;

/// Minimum width of the bar with its brackets, in columns. On a narrow terminal numbers are left out instead.
const MIN_BAR_WIDTH: usize = 12;

/// Progress on a terminal; removed from the screen on drop.
pub struct Bar {
    bar: Option<ProgressBar>,
    recent: Recent,
}

impl Bar {
    /// Creates a bar if standard error is a terminal that can show one, the log is text, and no documents are written to
    /// the same screen. The bar has no colours, so `NO_COLOR` needs no handling.
    pub fn new(format: LogFormat, shows_documents: bool) -> Option<Self> {
        let shows_documents = shows_documents && std::io::stdout().is_terminal();
        let can_show = std::io::stderr().is_terminal() && env::var("TERM").is_ok_and(|term| term != "dumb");
        let is_text = format == LogFormat::Text && log::log_enabled!(log::Level::Info);
        (is_text && can_show && !shows_documents).then(|| Self { bar: None, recent: Recent::default() })
    }

    /// Shows these figures; hides the bar if no archives are being processed.
    pub fn show(&mut self, figures: &Figures) {
        self.recent.add(figures.elapsed, figures.totals.rows.settled());
        let Some(backlog) = figures.backlog else { return self.hide() };
        let width = usize::from(Term::stderr().size().1).clamp(1, MAX_WIDTH + 1) - 1;
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
            logging::set_bar(Some(bar.clone()));
            bar
        });
        let shown = Shown::new(figures, &backlog, self.recent.rows_per_second(), width);
        if let Ok(style) = ProgressStyle::with_template(&shown.template()) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_length(backlog.bytes.max(1));
        bar.set_message(shown.beside);
        bar.set_prefix(shown.below);
        bar.set_position(backlog.settled_bytes());
        bar.tick();
    }

    fn hide(&mut self) {
        if let Some(bar) = self.bar.take() {
            logging::set_bar(None);
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.hide();
    }
}

/// The text shown: two lines for archives, but only one for a dead-letter file, whose length is unknown.
#[derive(Debug)]
struct Shown {
    /// Width of the bar in characters; None if there is no bar.
    bar: Option<usize>,
    /// Text to the right of the bar.
    beside: String,
    /// Text below the bar.
    below: String,
}

impl Shown {
    fn new(figures: &Figures, backlog: &Backlog, rows_per_second: f64, width: usize) -> Self {
        let below = fit(&rows(figures, backlog, rows_per_second), width);
        if backlog.archives == 0 {
            return Self { bar: None, beside: String::new(), below };
        }
        let beside = fit(&numbers(figures, backlog), width.saturating_sub(MIN_BAR_WIDTH));
        let bar = width.saturating_sub(beside.chars().count() + "[] ".len());
        Self { bar: Some(bar), beside, below }
    }

    /// Returns the template. It starts with an empty line: the bar ends in the last column, where a `^C` from the
    /// terminal moves it up by one line. Without the empty line, the bar's first line would stay on the screen then.
    fn template(&self) -> String {
        match self.bar {
            Some(width) => format!("\n[{{bar:{width}}}] {{msg}}\n{{prefix}}"),
            None => "\n{prefix}".to_owned(),
        }
    }
}

/// Returns the text beside the bar, most important part first.
fn numbers(figures: &Figures, backlog: &Backlog) -> Vec<String> {
    let mut numbers = vec![format!("{:.0}%", (backlog.share() * 100.0).floor())];
    if let Some(left) = backlog.left(figures.elapsed) {
        numbers.push(format!("{} left", format_seconds(left.as_secs().try_into().unwrap_or(i64::MAX))));
    }
    numbers.push(format!("{} of {}", megabytes(backlog.settled_bytes()), megabytes(backlog.bytes)));
    numbers
}

/// Returns the text below the bar, most important part first. The server comes first if it is not available.
fn rows(figures: &Figures, backlog: &Backlog, rows_per_second: f64) -> Vec<String> {
    let rows = &figures.totals.rows;
    let mut parts = Vec::new();
    let server = figures.server.map(|server| (server.health, format!("Elasticsearch {}", server.health)));
    let is_well = matches!(&server, None | Some((Health::Available, _)));
    parts.extend(server.clone().filter(|_| !is_well).map(|(_, text)| text));
    if backlog.archives > 0 {
        parts.push(format!("{}/{} archives", backlog.done, backlog.archives));
    }
    parts.push(format!("{} rows", rows.settled()));
    parts.push(format!("{rows_per_second:.0} rows/s"));
    if rows.rejected > 0 {
        parts.push(format!("{} rejected", rows.rejected));
    }
    if figures.requests.retried > 0 {
        parts.push(format!("{} retried", figures.requests.retried));
    }
    if backlog.archives > 0 {
        parts.push(format!("{:.1} MB/s", backlog.bytes_per_second(figures.elapsed) / 1e6));
    }
    parts.extend(server.filter(|_| is_well).map(|(_, text)| text));
    parts
}

/// Joins the parts that fit into `width`.
fn fit(parts: &[String], width: usize) -> String {
    let mut line = String::new();
    for part in parts {
        let gap = if line.is_empty() { "" } else { "  " };
        if line.chars().count() + gap.len() + part.chars().count() > width {
            continue;
        }
        line.push_str(gap);
        line.push_str(part);
    }
    line
}

/// Samples of the last few seconds: the duration of the run, and the rows settled.
#[derive(Default)]
struct Recent(VecDeque<(Duration, u64)>);

impl Recent {
    fn add(&mut self, elapsed: Duration, rows: u64) {
        self.0.push_back((elapsed, rows));
        while self.0.get(1).is_some_and(|(time, _)| *time + RECENT <= elapsed) {
            self.0.pop_front();
        }
    }

    fn rows_per_second(&self) -> f64 {
        let (Some((start, before)), Some((end, now))) = (self.0.front(), self.0.back()) else { return 0.0 };
        let time = end.saturating_sub(*start).as_secs_f64();
        if time > 0.0 { now.saturating_sub(*before) as f64 / time } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ServerFigures, Tally, Totals};
    use crate::observe::traffic::Requests;

    fn figures(health: Health) -> Figures {
        let rows = Tally { indexed: 120_000, rejected: 2, ..Tally::default() };
        Figures {
            elapsed: Duration::from_secs(40),
            totals: Totals { rows, ..Totals::default() },
            requests: Requests { retried: 3, ..Requests::default() },
            server: Some(ServerFigures { health, limit: 4, since_confirmed: None }),
            ..Figures::default()
        }
    }

    fn backlog() -> Backlog {
        Backlog {
            archives: 40,
            bytes: 4_000_000_000,
            done: 10,
            done_bytes: 1_000_000_000,
            since: Duration::from_secs(20),
            ..Backlog::default()
        }
    }

    #[test]
    fn a_wide_terminal_has_room_for_everything() {
        let shown = Shown::new(&figures(Health::Available), &backlog(), 3000.0, 100);
        assert_eq!(shown.beside, "25%  60 s left  1.00 GB of 4.00 GB");
        assert_eq!(shown.bar, Some(100 - shown.beside.len() - 3));
        assert_eq!(
            shown.below,
            "10/40 archives  120002 rows  3000 rows/s  2 rejected  3 retried  50.0 MB/s  Elasticsearch available"
        );
    }

    #[test]
    fn lines_fit_the_terminal_and_the_share_is_left_out_last() {
        for width in 3..120 {
            let shown = Shown::new(&figures(Health::Available), &backlog(), 3000.0, width);
            let first = shown.bar.unwrap_or_default() + "[] ".len() + shown.beside.chars().count();
            assert!(first <= width && shown.below.chars().count() <= width, "{width}: {shown:?}");
            assert!(width < 16 || shown.beside.starts_with("25%"), "{width}: {shown:?}");
            assert!(ProgressStyle::with_template(&shown.template()).is_ok());
        }
    }

    #[test]
    fn an_unavailable_server_comes_first() {
        let shown = Shown::new(&figures(Health::Unavailable), &backlog(), 0.0, 40);
        assert!(shown.below.starts_with("Elasticsearch unavailable  "), "{shown:?}");
    }

    #[test]
    fn a_replay_shows_only_rows() {
        let shown = Shown::new(&figures(Health::Available), &Backlog::default(), 10.0, 80);
        assert!(
            shown.below.starts_with("120002 rows  10 rows/s") && shown.template() == "\n{prefix}",
            "{shown:?}"
        );
    }

    #[test]
    fn the_speed_covers_only_the_last_seconds() {
        let mut recent = Recent::default();
        assert_eq!(recent.rows_per_second(), 0.0);
        for second in 0..100_u64 {
            recent.add(Duration::from_secs(second), if second < 50 { 0 } else { (second - 50) * 7 });
        }
        assert_eq!(recent.rows_per_second(), 7.0);
        assert!(recent.0.len() < 13);
    }
}
