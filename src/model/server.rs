//! How the server does that documents are sent to, as it is told: by whom it was found out does not matter.

use std::fmt;
use std::time::Duration;

/// Whether the server does what it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The last request was carried out, or there has been none.
    Available,
    /// It carries out some of what it is asked to, or was heard doing so a short while ago.
    PushingBack,
    /// It has carried out nothing for ten seconds, though asked to.
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

/// The server at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerFigures {
    /// Whether it does what it is asked to.
    pub health: Health,
    /// Requests that may be in flight at once.
    pub limit: usize,
    /// Time since a request was last carried out, at least in part. None: none has been.
    pub since_confirmed: Option<Duration>,
}

/// The memory for archives at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFigures {
    /// Bytes that archives may take together.
    pub limit: u64,
    /// Bytes that are taken by those that have been let in.
    pub admitted: u64,
}
