//! The life of the process: signals and heartbeats of its threads.

pub mod pulse;
pub mod shutdown;
