//! Who a run is to AWS: where credentials come from, and the signatures that are made with them. S3 and Amazon's search
//! services share them.

mod credentials;
pub mod shared;
pub(crate) mod signature;
mod sources;

pub(crate) use self::credentials::{CredentialError, Credentials, Provider};
pub use self::sources::{Container, CredentialSources, Given, Keys, Profile, Sts, WebIdentity, is_region};
