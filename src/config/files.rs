//! Checks the files that a run writes: all are different, and none of them is an archive.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::rules::hint_about_ends;
use super::{Archives, Output, Source, Task};
use crate::cli::Entry;
use crate::cli::entries;
use crate::common::exit::Failure;
use crate::files::{STATE_FILE_SUFFIXES, beside, failure_that_may_pass, folder_of, real_path};
use crate::model::has_archive_suffix;

/// A file that a run writes, or the file of `--replay`, which must not change.
struct Named {
    /// The setting that names it.
    setting: &'static Entry,
    path: PathBuf,
    /// The path with all links resolved.
    real: PathBuf,
}

impl Named {
    fn new(setting: &'static Entry, path: &Path) -> Self {
        Self { setting, path: path.to_owned(), real: real_path(path) }
    }

    /// Whether the file must be a regular one, since a pipe or device would not keep its content.
    fn is_kept(&self) -> bool {
        [entries::spool_state_file(), entries::dead_letter()].contains(&self.setting)
    }
}

impl Task {
    /// Checks the files that the run writes. No two may be the same, none may be an archive or the file being replayed,
    /// and their folders must exist. State file and dead-letter file must be regular files.
    pub(super) fn check_files(&self, state_file: &Path) -> Result<(), Failure> {
        let files = self.named_files();
        let archives = self.archives();
        let beside_state_file = STATE_FILE_SUFFIXES.map(|suffix| beside(&real_path(state_file), suffix));
        for (i, file) in files.iter().enumerate() {
            let Named { setting, path, real } = file;
            let wrong = |what: String| {
                Err(Failure::usage(format!("{} names {}, {what}", setting.full_name(), path.display())))
            };
            if let Some(other) = files[..i].iter().find(|other| other.real == *real) {
                let other = other.setting.full_name();
                return wrong(format!("and so does {other}: give each a file of its own"));
            }
            if beside_state_file.contains(real) {
                return wrong(
                    "which the program keeps beside the state file (SPOOL_STATE_FILE): give it a file of \
                     its own"
                        .into(),
                );
            }
            if path.is_dir() {
                return wrong("which is a folder: name a file".into());
            }
            if *setting != entries::replay() && is_archive(path, real, archives) {
                return wrong("which is an archive; archives are never changed: name another file".into());
            }
            if file.is_kept() && path.exists() && !path.is_file() {
                return wrong("which is not a regular file: name a file".into());
            }
            let hint = path.to_str().and_then(hint_about_ends);
            if let Some(hint) = hint.filter(|_| !path.exists()) {
                let name = setting.full_name();
                return Err(Failure::usage(format!("{name} names {path:?}, which does not exist{hint}")));
            }
            let folder = folder_of(path);
            match fs::metadata(folder) {
                Ok(metadata) if metadata.is_dir() => {}
                // A folder that this user may not see is not missing.
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    let (name, shown) = (setting.full_name(), folder.display());
                    let text = format!("the folder {shown}, of {name}, cannot be read: {error}");
                    return match failure_that_may_pass(&error, &text) {
                        Some(failure) => Err(failure),
                        None => wrong(format!("but the folder {shown} cannot be read: {error}")),
                    };
                }
                _ => return wrong(format!("but there is no folder {}: create it", folder.display())),
            }
        }
        Ok(())
    }

    /// Returns the file being replayed, if any, and the files that the run writes.
    fn named_files(&self) -> Vec<Named> {
        let (replayed, output, reports) = match self {
            Task::Load(load) | Task::Check(load) => (None, None, Some(&load.reports)),
            Task::DryRun(dry_run) => (None, dry_run.output.as_ref(), Some(&dry_run.reports)),
            Task::Verify(verify) => (None, verify.output.as_ref(), Some(&verify.reports)),
            Task::Replay(replay) => (Some(replay.path.as_path()), None, Some(&replay.reports)),
            Task::List(_) => (None, None, None),
        };
        let summary = reports.and_then(|reports| reports.summary.as_ref());
        [
            (entries::replay(), replayed),
            (entries::spool_state_file(), self.archives().map(|archives| archives.state_file.as_path())),
            (entries::dead_letter(), reports.and_then(|reports| reports.dead_letters.as_deref())),
            (entries::metrics_file(), reports.and_then(|reports| reports.metrics_file.as_deref())),
            (entries::summary_json(), summary.and_then(Output::file)),
            (entries::output(), output.and_then(Output::file)),
        ]
        .into_iter()
        .filter_map(|(setting, path)| Some(Named::new(setting, path?)))
        .collect()
    }
}

/// Whether a file is an archive: by its name or its target's name, or because it was named as an archive.
fn is_archive(path: &Path, real: &Path, archives: Option<&Archives>) -> bool {
    let has_suffix = |path: &Path| path.file_name().is_some_and(has_archive_suffix);
    let is_given = match archives.map(|archives| &archives.source) {
        Some(Source::Local(paths)) => paths.iter().any(|given| real_path(given) == *real),
        Some(Source::S3(_)) | None => false,
    };
    has_suffix(path) || has_suffix(real) || is_given
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use crate::cli::Cli;
    use crate::config::Config;

    /// Creates a folder with an archive, a folder below it, and an archive that is a link to a file of another name.
    fn folder() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.db.zip"), "").unwrap();
        fs::write(folder.path().join("blob"), "").unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        symlink("a.db.zip", folder.path().join("link")).unwrap();
        symlink("not_there", folder.path().join("to_be")).unwrap();
        symlink("../blob", folder.path().join("below/b.db.zip")).unwrap();
        folder
    }

    fn at(folder: &TempDir, name: &str) -> String {
        folder.path().join(name).to_str().unwrap().to_owned()
    }

    type Set = fn(&mut Cli, String);

    /// All settings that name a written file, except the state file.
    const SETTINGS: [(&str, Set); 4] = [
        ("--output", |cli, path| cli.output = Some(path)),
        ("--summary-json", |cli, path| cli.summary_json = Some(path)),
        ("--metrics-file", |cli, path| cli.metrics_file = Some(path)),
        ("--dead-letter", |cli, path| cli.dead_letter = Some(path)),
    ];

    fn message(cli: Cli, state_file: &str) -> String {
        let environment = |name: &str| (name == "SPOOL_STATE_FILE").then(|| state_file.to_owned());
        Config::resolve(cli, &environment).err().map(|failure| failure.message).unwrap_or_default()
    }

    fn dry_run(paths: &[String]) -> Cli {
        Cli { dry_run: true, paths: paths.to_vec(), ..Cli::default() }
    }

    #[test]
    fn no_written_file_may_be_an_archive() {
        let folder = folder();
        let given = [at(&folder, ""), at(&folder, "below/b.db.zip")];
        let state = at(&folder, "state");
        for name in ["a.db.zip", "new.db.zip", "link", "below/b.db.zip", "blob", "below/../blob"] {
            for (setting, set) in SETTINGS {
                let mut cli = dry_run(&given);
                set(&mut cli, at(&folder, name));
                let message = message(cli, &state);
                assert!(message.contains(setting) && message.contains("archive"), "{name}: {message}");
            }
            let message = message(dry_run(&given), &at(&folder, name));
            assert!(message.contains("SPOOL_STATE_FILE") && message.contains("archive"), "{name}: {message}");
        }
    }

    #[test]
    fn only_state_and_dead_letters_may_not_go_to_a_device() {
        let folder = folder();
        let state = at(&folder, "state");
        symlink("/dev/zero", at(&folder, "device")).unwrap();
        for path in ["/dev/null".to_owned(), "/dev/full".to_owned(), at(&folder, "device")] {
            let of_state = message(dry_run(&[at(&folder, "")]), &path);
            assert!(
                of_state.contains("SPOOL_STATE_FILE") && of_state.contains("not a regular file"),
                "{of_state}"
            );
            for (setting, set) in SETTINGS {
                let mut cli = dry_run(&[at(&folder, "")]);
                set(&mut cli, path.clone());
                let message = message(cli, &state);
                let is_refused = message.contains("not a regular file: name a file");
                assert_eq!(is_refused, setting == "--dead-letter", "{setting} {path}: {message}");
                assert!(is_refused || message.is_empty(), "{message}");
            }
        }
    }

    #[test]
    fn quotes_and_white_space_from_an_environment_file_are_no_part_of_a_new_name() {
        let folder = folder();
        let state = at(&folder, "state");
        for (name, hint) in [
            ("new\r", "remove the white space"),
            ("new ", "remove the white space"),
            ("/state/new\r", "remove the white space"),
            ("\"new\"", "remove the quotes"),
            ("\"/state/new\"", "remove the quotes"),
        ] {
            let is_whole = name.starts_with(['/', '"']);
            let path = if is_whole { name.to_owned() } else { at(&folder, name) };
            for (setting, set) in SETTINGS {
                let mut cli = dry_run(&[at(&folder, "")]);
                set(&mut cli, path.clone());
                let message = message(cli, &state);
                assert!(message.contains(setting) && message.contains(hint), "{name:?}: {message}");
            }
            let message = message(dry_run(&[at(&folder, "")]), &path);
            assert!(message.contains("SPOOL_STATE_FILE") && message.contains(hint), "{name:?}: {message}");
        }
        fs::write(at(&folder, "there "), "[]").unwrap();
        assert_eq!(message(dry_run(&[at(&folder, "")]), &at(&folder, "there ")), "");
    }

    #[test]
    fn two_settings_must_not_name_the_same_file_even_if_it_does_not_exist_yet() {
        let folder = folder();
        for (one, other) in [
            ("new", "new"),
            ("new", "below/../new"),
            ("new", "./new"),
            ("to_be", "not_there"),
            ("to_be", "below/../to_be"),
            ("new", "new.lock"),
            ("new", "new.tmp"),
            ("to_be", "not_there.load_settings.json"),
        ] {
            for (setting, set) in SETTINGS {
                let mut cli = dry_run(&[at(&folder, "")]);
                set(&mut cli, at(&folder, other));
                let message = message(cli, &at(&folder, one));
                let names_both = message.contains("SPOOL_STATE_FILE") && message.contains(setting);
                assert!(names_both && message.contains("file of its own"), "{one}, {other}: {message}");
            }
        }
        let mut cli = dry_run(&[at(&folder, "")]);
        for (setting, set) in SETTINGS {
            set(&mut cli, at(&folder, setting));
        }
        assert_eq!(message(cli, &at(&folder, "state")), "");
    }
}
