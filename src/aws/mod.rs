//! What S3 and Amazon's search services have in common: where credentials come from.

pub(crate) use crate::pipeline::source::s3::credentials::{CredentialError, Credentials, Provider};
