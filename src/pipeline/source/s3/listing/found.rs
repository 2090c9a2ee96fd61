//! Collects archives from the listed keys.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::super::client::has_url;
use super::super::{Object, address};
use super::Listing;
use super::page::Key;
use crate::common::timestamp::parse_rfc3339_millis;
use crate::config::s3::{BucketName, S3};
use crate::http::http_date;
use crate::model::{ARCHIVE_SUFFIX, Archive, archive_seconds, is_metadata_file};
use crate::pipeline::archive::LOG_SUFFIXES;
use crate::pipeline::source::{LeftOut, sort};

/// Maximum number of keys that are kept for messages.
const EXAMPLES: usize = 5;

/// Storage classes whose objects must be restored before they can be read. Objects of Intelligent-Tiering may also need
/// that, which shows only when they are read.
///
/// Source: Amazon S3 User Guide, "Working with archived objects".
const ARCHIVED: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// The archives found so far. Other keys are not kept, since a bucket may hold very many.
pub(super) struct Found<'b> {
    bucket: &'b BucketName,
    prefix: &'b str,
    /// Archives by name.
    archives: HashMap<String, Key>,
    /// Further keys with the name of an archive in `archives`, by name.
    same: BTreeMap<String, BTreeSet<String>>,
    /// Keys that are left out, by address.
    left_out: BTreeMap<String, LeftOut>,
    /// Keys of SQLite logs.
    logs: HashSet<String>,
    unreadable: usize,
    /// The first keys of any kind.
    first: Vec<String>,
}

impl<'b> Found<'b> {
    pub(super) fn nothing(bucket: &'b BucketName, prefix: &'b str) -> Self {
        Self {
            bucket,
            prefix,
            archives: HashMap::new(),
            same: BTreeMap::new(),
            left_out: BTreeMap::new(),
            logs: HashSet::new(),
            unreadable: 0,
            first: Vec::new(),
        }
    }

    /// Adds the archives among `keys`. If a key is listed again, the last listing counts. Keys outside the prefix are
    /// ignored.
    pub(super) fn add(&mut self, keys: Vec<Key>, unreadable: usize) {
        self.unreadable += unreadable;
        for key in keys {
            if self.first.len() < EXAMPLES {
                self.first.push(key.key.clone());
            }
            let name = name_of(&key.key);
            if is_log(name) && key.bytes != Some(0) {
                self.logs.insert(key.key);
                continue;
            }
            let is_archive = name.ends_with(ARCHIVE_SUFFIX) && !is_metadata_file(key.key.as_bytes());
            if !is_archive || !key.key.starts_with(self.prefix) {
                continue;
            }
            let name = name.to_owned();
            if let Some(why) = why_not(&key) {
                self.leave_out(address(self.bucket, &key.key), why, key.storage_class);
                continue;
            }
            match self.archives.get(&name) {
                Some(first) if first.key != key.key => {
                    self.same.entry(name).or_default().insert(key.key);
                }
                _ => {
                    self.archives.insert(name, key);
                }
            }
        }
    }

    fn leave_out(&mut self, address: String, why: String, storage_class: Option<String>) {
        let left_out = LeftOut { storage_class, ..LeftOut::new(&address, why) };
        self.left_out.insert(address, left_out);
    }

    /// Returns the first keys of any kind.
    pub(super) fn first_keys(&self) -> Vec<String> {
        self.first.clone()
    }

    /// Returns the archives in processing order. The name identifies an archive, so of several keys with the same name
    /// none is taken.
    pub(super) fn in_order(mut self) -> Listing {
        for (name, others) in std::mem::take(&mut self.same) {
            let first = self.archives.remove(&name).map(|first| first.key);
            let all: Vec<String> =
                first.into_iter().chain(others).map(|key| address(self.bucket, &key)).collect();
            for (n, this) in all.iter().enumerate() {
                let other = if n == 0 { all.get(1) } else { all.first() };
                let why = format!(
                    "{:?} has the same name, and the name identifies an archive: rename one, or narrow \
                     S3_SQLITE_DB_PREFIX",
                    other.map_or("", String::as_str)
                );
                self.leave_out(this.clone(), why, None);
            }
        }
        if self.unreadable > 0 {
            let why = format!(
                "{} keys cannot be read: they are not UTF-8, or missing in the listing",
                self.unreadable
            );
            self.leave_out(address(self.bucket, self.prefix), why, None);
        }
        let mut listing = Listing::default();
        for (name, Key { key, etag, bytes, modified, storage_class, .. }) in self.archives {
            let bytes = bytes.unwrap_or_default();
            let tag = etag.as_deref().map(Into::into);
            let log = log_beside(&key, &self.logs);
            let storage_class = storage_class.map(Into::into);
            listing.objects.insert(name.clone(), Object { key, etag, bytes, storage_class, log });
            listing.discovery.archives.push(Archive {
                seconds: archive_seconds(&name),
                name,
                path: Default::default(),
                bytes,
                modified_ns: i128::from(millis(&modified)) * 1_000_000,
                etag: tag,
            });
        }
        sort(&mut listing.discovery.archives);
        listing.discovery.left_out = self.left_out.into_values().collect();
        listing
    }
}

/// Whether an object of this name may be an SQLite log: changes that are not in the database yet, or are to be undone.
fn is_log(name: &str) -> bool {
    let bases = LOG_SUFFIXES.iter().filter_map(|suffix| name.strip_suffix(suffix));
    bases.into_iter().any(|base| base.ends_with(ARCHIVE_SUFFIX) || base.ends_with(".db"))
}

/// Returns the key of the log beside an archive. It matters if the archive turns out to be a bare database.
fn log_beside(key: &str, logs: &HashSet<String>) -> Option<Box<str>> {
    if logs.is_empty() {
        return None;
    }
    let bases = [key, key.strip_suffix(".zip").unwrap_or(key)];
    let candidates = bases.iter().flat_map(|base| LOG_SUFFIXES.map(|suffix| format!("{base}{suffix}")));
    candidates.into_iter().find(|log| logs.contains(log)).map(Into::into)
}

fn name_of(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or_default()
}

/// Whether a key is an archive that must be restored before it can be read.
pub(super) fn is_archived_archive(key: &Key) -> bool {
    name_of(&key.key).ends_with(ARCHIVE_SUFFIX)
        && key.storage_class.as_deref().is_some_and(|class| ARCHIVED.contains(&class))
}

/// Returns why an archive cannot be read; None if it can.
fn why_not(key: &Key) -> Option<String> {
    if !has_url(&key.key) {
        return Some("no URL can address a key with . or .. between its slashes".to_owned());
    }
    if key.is_garbled {
        return Some(
            "the server replaces some characters of its key by others (\u{fffd}), so it cannot be requested"
                .to_owned(),
        );
    }
    if key.bytes.is_none() {
        return Some("the listing does not have its size".to_owned());
    }
    (is_archived_archive(key) && !key.is_restored).then(|| {
        format!(
            "it is archived (storage class {}): restore it (s3:RestoreObject) to load it",
            key.storage_class.as_deref().unwrap_or_default()
        )
    })
}

/// Parses a time as servers write it, in milliseconds since 1970; 0 if that fails.
fn millis(text: &str) -> i64 {
    let of_mails = || http_date(text).map(|time| time.unix_timestamp() * 1000);
    parse_rfc3339_millis(text).or_else(of_mails).unwrap_or_default()
}

/// Formats the message that no archive was found: the place, the names looked for, and what is there instead.
pub(super) fn nothing(
    settings: &S3,
    seen: &[String],
    elsewhere: impl FnOnce() -> Option<Vec<String>>,
) -> String {
    let where_to = address(&settings.bucket, &settings.prefix);
    let named = |keys: &[String]| {
        let keys: Vec<String> = keys.iter().take(EXAMPLES).map(|key| format!("{key:?}")).collect();
        keys.join(", ")
    };
    let instead = match (seen, elsewhere) {
        ([], _) if settings.prefix.is_empty() => "the bucket is empty".to_owned(),
        ([], elsewhere) => match elsewhere() {
            Some(keys) if keys.is_empty() => "the bucket is empty".to_owned(),
            Some(keys) => format!("nothing is there, but the bucket has keys such as {}", named(&keys)),
            None => "nothing is there".to_owned(),
        },
        (seen, _) => format!("there are other keys, such as {}", named(seen)),
    };
    let hint = hint_about(&settings.prefix);
    format!(
        "no archive was found in {where_to:?}: the program looked for keys that end in {ARCHIVE_SUFFIX}; \
         {instead}{hint}"
    )
}

/// What is probably wrong with a prefix below which there is no archive.
fn hint_about(prefix: &str) -> &'static str {
    if prefix.starts_with("s3://") {
        "; S3_SQLITE_DB_PREFIX is a URL: give only the part behind the bucket's name"
    } else if prefix.starts_with('/') {
        "; S3_SQLITE_DB_PREFIX begins with a slash, but keys rarely do: remove it"
    } else if prefix.starts_with(['"', '\'']) {
        "; S3_SQLITE_DB_PREFIX begins with a quote, as docker --env-file keeps it: remove the quotes"
    } else if prefix.trim() != prefix {
        "; S3_SQLITE_DB_PREFIX begins or ends with white space, but keys rarely have any there: remove it"
    } else {
        ""
    }
}
