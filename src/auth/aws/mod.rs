//! AWS credentials and request signatures, for S3 and Amazon's search services.

mod credentials;
pub mod shared;
pub(crate) mod signature;
mod sources;

pub(crate) use self::credentials::{CredentialError, Provider};
pub(crate) use self::signature::Credentials;
pub use self::sources::{
    Container, CredentialSources, KeySource, Keys, Profile, Sts, WebIdentity, is_region,
};
