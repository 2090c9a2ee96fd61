//! What every other module may use; nothing here imports another module.

pub mod exit;
pub mod mutex;
pub mod secret;
pub mod text;
pub mod timestamp;
