//! The first line of a run: number of archives, source, destination and state file.

use std::path::{Path, absolute};

use crate::common::text::megabytes;
use crate::config::{self, Archives, DryRun, Elasticsearch, Load, Mode, Source, Verify};
use crate::model::Selection;

/// Maximum number of folders and files that are named.
const MAX_NAMED: usize = 3;

/// Formats the first line of a load.
pub(super) fn of_load(task: &Load, selection: &Selection) -> String {
    let Load { archives, intake, server, .. } = task;
    let what = format!("{} into {}", counted(selection), nodes(&server.elasticsearch));
    let place = place(&archives.source);
    let state = state_file(archives);
    if archives.mode == Mode::Once {
        return format!("loading {what} from {place}; {state}");
    }
    let interval = intake.spool_interval.as_secs();
    let waiting = match selection.settling {
        0 => String::new(),
        1 => "; 1 file is loaded once it has stopped changing".to_owned(),
        files => format!("; {files} files are loaded once they have stopped changing"),
    };
    format!("watching {place} every {interval} s, loading {what}{waiting}; {state}")
}

/// Formats the first line of a dry run.
pub(super) fn of_dry_run(task: &DryRun, selection: &Selection) -> String {
    let Archives { source, .. } = &task.archives;
    format!(
        "reading {} from {} in a dry run; {}",
        counted(selection),
        place(source),
        state_file(&task.archives)
    )
}

/// Formats the first line of a verification.
pub(super) fn of_verification(task: &Verify, selection: &Selection) -> String {
    let Verify { archives, server, .. } = task;
    format!(
        "comparing {} from {} with {}",
        counted(selection),
        place(&archives.source),
        nodes(&server.elasticsearch)
    )
}

/// Formats the first line of a replay.
pub(super) fn of_replay(task: &config::Replay) -> String {
    let server = &task.server.elasticsearch;
    format!("sending the documents of {} to {} again", shown(&task.path), nodes(server))
}

/// Formats the number and size of the archives to load, and how many are already done.
fn counted(selection: &Selection) -> String {
    let bytes: u64 = selection.take.iter().map(|archive| archive.bytes).sum();
    let mut text = match selection.take.len() {
        0 => "no archives".to_owned(),
        1 => format!("1 archive ({})", megabytes(bytes)),
        n => format!("{n} archives ({})", megabytes(bytes)),
    };
    if selection.already_done > 0 {
        text.push_str(&format!(", {} already done,", selection.already_done));
    }
    text
}

/// Formats the folders and files, or the bucket.
fn place(source: &Source) -> String {
    match source {
        Source::Local(paths) => {
            let named: Vec<String> = paths.iter().take(MAX_NAMED).map(|path| shown(path)).collect();
            match paths.len().saturating_sub(MAX_NAMED) {
                0 => named.join(", "),
                others => format!("{} and {others} more", named.join(", ")),
            }
        }
        Source::S3(s3) => match &s3.endpoint {
            Some(endpoint) => format!("s3://{}/{} at {endpoint}", s3.bucket, s3.prefix),
            None => format!("s3://{}/{}", s3.bucket, s3.prefix),
        },
    }
}

/// Formats the URLs of the nodes. They hold no credentials: those are removed when the settings are read.
fn nodes(server: &Elasticsearch) -> String {
    server.urls.join(", ")
}

fn state_file(archives: &Archives) -> String {
    format!("state file: {}", shown(&archives.state_file))
}

/// Formats a path as an absolute one: a scheduler may start the program in an unexpected folder.
fn shown(path: &Path) -> String {
    absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Archive;

    #[test]
    fn archives_are_counted_with_their_bytes() {
        let selection = |sizes: &[u64], already_done| Selection {
            take: sizes
                .iter()
                .map(|bytes| Arc::new(Archive { bytes: *bytes, ..Archive::default() }))
                .collect(),
            already_done,
            ..Selection::default()
        };
        assert_eq!(counted(&selection(&[], 0)), "no archives");
        assert_eq!(counted(&selection(&[2_500_000], 0)), "1 archive (2.5 MB)");
        assert_eq!(counted(&selection(&[2_000_000_000; 2], 7)), "2 archives (4.00 GB), 7 already done,");
    }

    #[test]
    fn only_the_first_of_many_paths_are_named() {
        let paths = |n: usize| Source::Local((0..n).map(|n| format!("/data/{n}").into()).collect());
        assert_eq!(place(&paths(2)), "/data/0, /data/1");
        assert_eq!(place(&paths(9)), "/data/0, /data/1, /data/2 and 6 more");
    }
}
