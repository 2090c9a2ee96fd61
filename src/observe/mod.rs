//! What is told of a run: progress, summary, metrics, bar and log. It knows figures, not who makes them.

pub mod bar;
pub mod finding;
pub mod logging;
pub mod metrics;
pub mod monitor;
pub mod progress;
pub mod report;
