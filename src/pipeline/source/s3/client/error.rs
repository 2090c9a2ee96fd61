//! Why a request failed.

use std::time::Duration;

use crate::auth::aws::CredentialError;

/// Why a request failed. Its texts never hold credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum GetError {
    /// A retry may help: throttling, a 5xx, a broken connection.
    Unavailable {
        why: String,
        /// The pause that the server requests.
        retry_after: Option<Duration>,
    },
    /// Retries do not help: another region, no trusted connection, a wrong clock.
    Refused(String),
    /// The credentials are wrong or have expired, and there are no others yet.
    Credentials(String),
    /// 403: the credentials do not allow this.
    Denied(String),
    /// 404.
    Missing(String),
    /// 412, 416: the object has changed since it was listed or since the download began.
    Changed,
    /// Anything else.
    Other(String),
}

impl GetError {
    /// Creates an error for which a retry may help, without a requested pause.
    pub(in super::super) fn unavailable(why: impl Into<String>) -> Self {
        GetError::Unavailable { why: why.into(), retry_after: None }
    }

    /// Creates the error of a request that ended because the run is to stop.
    pub(in super::super) fn stopped() -> Self {
        Self::unavailable("the run was stopped")
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
