//! What unit tests share.

pub(crate) mod captured;
