//! How a server is asked again that is away, busy or gone: back-off, budget, `Retry-After`, and how many requests go to
//! it at once.

pub mod back_off;
pub mod limiter;
pub mod patience;
pub mod throttle;
