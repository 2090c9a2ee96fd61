//! The state of the server that documents are sent to, for display. Independent of how it was found out.

use std::fmt;
use std::time::Duration;

/// Whether the server carries out requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It carried out the last request, or there has been none.
    Available,
    /// It carries out some requests, or did so a short while ago.
    PushingBack,
    /// It has carried out no request for ten seconds, though asked to.
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

/// The server's state at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerFigures {
    /// Whether it carries out requests.
    pub health: Health,
    /// Number of requests that may be in flight at once.
    pub limit: usize,
    /// Time since a request was last carried out, at least in part. None: there has been none.
    pub since_confirmed: Option<Duration>,
}

/// The memory for archives at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFigures {
    /// Bytes that all archives together may take.
    pub limit: u64,
    /// Bytes taken by the admitted archives.
    pub admitted: u64,
}
