//! Secrets from a variable or a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::AuthSettings;
use crate::common::exit::Failure;
use crate::common::mutex::Mutex;
use crate::common::secret::Secret;
use crate::files;

/// Limit on the length of a secret, in bytes.
const LONGEST: u64 = 64 << 10;

/// A secret and its source. Leading and trailing white space is removed.
pub struct StoredSecret {
    setting: &'static str,
    /// File that is read again after a refusal.
    file: Option<PathBuf>,
    check: Check,
    /// All values so far, the current one last. A late reply may quote an earlier one.
    known: Mutex<Vec<Secret>>,
}

/// Checks a secret. The error says what is wrong without repeating any of it.
type Check = fn(&str) -> Result<(), &'static str>;

impl StoredSecret {
    /// Reads the secret in the variable `setting`, or in the file named by the same variable with `_FILE`. None:
    /// neither is set.
    pub(super) fn find(
        setting: &'static str,
        given: &AuthSettings<'_>,
        check: Check,
    ) -> Result<Option<Arc<Self>>, Failure> {
        let file_setting = format!("{setting}_FILE");
        let text = (given.variable)(setting).filter(|text| !text.is_empty());
        let file = (given.variable)(&file_setting).filter(|path| !path.is_empty()).map(PathBuf::from);
        let (text, name) = match (text, &file) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err(Failure::usage(format!(
                    "{setting} and {file_setting} are both set: remove one of them"
                )));
            }
            (Some(text), None) => (text, setting.to_owned()),
            (None, Some(path)) => {
                let name = format!("{file_setting} {}", path.display());
                (read(path).map_err(|why| Failure::usage(format!("{name}: {why}")))?, name)
            }
        };
        let text = text.trim();
        if text.is_empty() {
            return Err(Failure::usage(format!("{name} has only white space: put the secret there")));
        }
        check(text).map_err(|why| Failure::usage(format!("{name} cannot be used: {why}")))?;
        let known = Mutex::new(vec![Secret::new(text)]);
        Ok(Some(Arc::new(Self { setting, file, check, known })))
    }

    /// Wraps a secret from another source.
    pub(super) fn of_setting(setting: &'static str, secret: Secret) -> Self {
        Self { setting, file: None, check: |_| Ok(()), known: Mutex::new(vec![secret]) }
    }

    /// Returns the setting's name for messages.
    pub(super) fn setting(&self) -> String {
        match &self.file {
            None => self.setting.to_owned(),
            Some(path) => format!("{}_FILE ({})", self.setting, path.display()),
        }
    }

    pub(super) fn current(&self) -> Secret {
        self.known.lock().last().cloned().unwrap_or_else(|| Secret::new(""))
    }

    /// Returns all values so far, the current one last.
    pub(super) fn all(&self) -> Vec<Secret> {
        self.known.lock().clone()
    }

    /// Reads the file again, and uses its new content if that is valid.
    pub(super) fn reload(&self) {
        // A pipe has been read to its end; reading it again would block.
        let Some(path) = self.file.as_deref().filter(|path| files::check(path).is_ok()) else { return };
        let text = match read(path) {
            Ok(text) => text.trim().to_owned(),
            Err(why) => {
                log::warn!("{} cannot be read again: {why}", self.setting());
                return;
            }
        };
        if text.is_empty() || (self.check)(&text).is_err() {
            log::warn!("{} no longer has a usable secret", self.setting());
            return;
        }
        let (secret, mut known) = (Secret::new(text), self.known.lock());
        if known.last() == Some(&secret) {
            return;
        }
        log::info!("{} has changed: its new content is used", self.setting());
        known.retain(|former| *former != secret);
        known.push(secret);
    }
}

/// Reads a file. It may be a pipe (`<(…)` in a shell), but not a device or a folder.
fn read(path: &Path) -> Result<String, String> {
    use std::os::unix::fs::FileTypeExt;
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    let kind = metadata.file_type();
    if !(kind.is_file() || kind.is_fifo()) {
        return Err("it is not a file".to_owned());
    }
    if metadata.len() > LONGEST {
        return Err("it is too long to be a secret".to_owned());
    }
    fs::read_to_string(path).map_err(|error| error.to_string())
}

impl std::fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.setting)
    }
}
