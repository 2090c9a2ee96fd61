//! Why a request has brought nothing.

use std::time::Duration;

use super::super::credentials::CredentialError;

/// Why there is no object and no listing. No text in it holds a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum GetError {
    /// Asking again may help: throttled, a 5xx, a broken connection.
    Unavailable {
        why: String,
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// Nothing will be answered: another region, no trusted connection, a wrong clock.
    Refused(String),
    /// The credentials are wrong, or no longer right; there are no others for now.
    Credentials(String),
    /// 403: these credentials may not have this.
    Denied(String),
    /// 404.
    Missing(String),
    /// 412, 416: it is not the object that the request was made for.
    Changed,
    /// Anything else.
    Other(String),
}

impl GetError {
    /// Asking again may help, and nobody says when.
    pub(in super::super) fn unavailable(why: impl Into<String>) -> Self {
        GetError::Unavailable { why: why.into(), retry_after: None }
    }

    /// The run is to stop, so nothing more is asked.
    pub(super) fn stopped() -> Self {
        Self::unavailable("the run is to stop")
    }
}

impl From<CredentialError> for GetError {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::Unavailable(why) => GetError::unavailable(why),
            CredentialError::Refused(why) => GetError::Refused(why),
        }
    }
}
