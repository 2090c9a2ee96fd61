//! The state of Elasticsearch and of the memory for archives, for display.

use std::fmt;
use std::time::Duration;

/// Whether the server carries out requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It carried out the last request, or there has been none.
    Available,
    /// It has failed to carry out requests for less than ten seconds.
    PushingBack,
    /// It has carried out no request for ten seconds, although some were sent.
    Unavailable,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Health::Available => "available",
            Health::PushingBack => "pushing back",
            Health::Unavailable => "unavailable",
        })
    }
}

/// The number of concurrent requests that send documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Senders {
    /// The number at the start.
    pub start: usize,
    /// The largest number, and the number of threads. If it is larger than `start`, the run looks for the best number.
    pub max: usize,
}

impl Senders {
    /// Returns a fixed number of senders.
    pub fn fixed(number: usize) -> Self {
        Self { start: number, max: number }
    }
}

impl fmt::Display for Senders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.start == self.max {
            write!(f, "{} senders", self.start)
        } else {
            write!(f, "{} to {} senders (auto)", self.start, self.max)
        }
    }
}

/// The server's state at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerFigures {
    /// Whether it carries out requests.
    pub health: Health,
    /// The limit of concurrent requests.
    pub limit: usize,
    /// The time since a request was last carried out, at least in part. None: there has been none.
    pub since_confirmed: Option<Duration>,
}

/// The memory for archives at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFigures {
    /// The bytes that all archives together may take.
    pub limit: u64,
    /// The bytes that the admitted archives take.
    pub admitted: u64,
}
