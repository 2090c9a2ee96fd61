//! Retries requests to a server that is away, busy or gone.
//!
//! ```text
//! patience    one request, of any kind, to any server: how long it is tried, and what the log says
//!    │  └ policy     per server: name, budget, what a refusal means
//!    ├ warnings      one line an outage, then one in a while
//!    ├ together ◀─── throttle   several senders: how many requests and bytes are in flight, and the health they see
//!    │                   └ limiter   fewer at once while the server pushes back
//!    └ back_off ◀────────────┘       how long the next pause is
//! ```
//!
//! Patience sees other requests to the same server only through the trait [`together::Together`]; [`throttle`] and
//! [`limiter`] serve only the senders of documents.

pub mod back_off;
pub mod limiter;
pub mod patience;
pub mod policy;
pub mod throttle;
pub mod together;
mod warnings;
