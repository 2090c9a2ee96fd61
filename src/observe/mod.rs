//! Reporting: progress, summary, metrics, bar and log. Independent of the stages that produce the figures.

pub mod bar;
pub mod exposition;
pub mod finding;
pub mod listen;
pub mod logging;
pub mod metrics;
pub mod monitor;
pub mod pages;
pub mod progress;
pub mod report;
pub mod traffic;
