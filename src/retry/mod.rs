//! Retries requests to a server that is unreachable, not ready or overloaded.
//!
//! ```text
//! patience    one request of any kind, to any server: how long it is retried, and what the log says
//!    │  └ policy     per server: name, budget, what a refusal means
//!    ├ warnings      one log line per outage, then one per interval
//!    ├ shared_health ◀── throttle   several senders: requests and bytes in flight, and the health they see
//!    │                       ├ limiter   fewer requests at once while the server pushes back
//!    │                       └ growth    more requests at once while that makes the server faster
//!    └ back_off ◀────────────────┘       length of the next pause
//! ```
//!
//! Patience sees other requests to the same server only through the trait [`shared_health::SharedHealth`]. Only the
//! senders of documents use [`throttle`], [`limiter`] and [`growth`].

pub mod back_off;
pub mod growth;
pub mod limiter;
pub mod patience;
pub mod policy;
pub mod shared_health;
pub mod throttle;
mod warnings;
