//! AWS credentials and request signatures, for S3 and Amazon's search services.

mod credentials;
pub mod shared;
pub(crate) mod signature;
mod sources;

pub(crate) use self::credentials::{CredentialError, Credentials, Provider};
pub use self::sources::{
    Container, CredentialSources, KeySource, Keys, Profile, Sts, WebIdentity, is_region,
};
