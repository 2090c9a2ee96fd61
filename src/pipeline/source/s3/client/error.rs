//! Why a request failed.

use std::time::Duration;

use crate::auth::aws::CredentialError;

/// Why a request brought neither object nor listing. No text in it holds a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum GetError {
    /// A retry may help: throttled, a 5xx, a broken connection.
    Unavailable {
        why: String,
        /// The pause that the server asks for.
        retry_after: Option<Duration>,
    },
    /// Retries do not help: another region, no trusted connection, a wrong clock.
    Refused(String),
    /// The credentials are wrong or have expired, and there are no others for now.
    Credentials(String),
    /// 403: the credentials do not allow this.
    Denied(String),
    /// 404.
    Missing(String),
    /// 412, 416: the object is not the one that the request was for.
    Changed,
    /// Anything else.
    Other(String),
}

impl GetError {
    /// A retry may help; the server asks for no particular pause.
    pub(in super::super) fn unavailable(why: impl Into<String>) -> Self {
        GetError::Unavailable { why: why.into(), retry_after: None }
    }

    /// The run is to stop, so no more requests are made.
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
