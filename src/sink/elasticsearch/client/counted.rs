//! Counts what is sent of a body.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// A body, read by the HTTP library as it is sent.
pub(super) struct Counted<'b> {
    left: &'b [u8],
    taken: u64,
    made: Instant,
    began: Option<Instant>,
}

impl<'b> Counted<'b> {
    /// A body of which nothing is sent yet.
    pub(super) fn new(body: &'b [u8]) -> Self {
        Self { left: body, taken: 0, made: Instant::now(), began: None }
    }

    /// Number of bytes that were taken to be sent.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// How long after this was made the first byte was taken. None: none was.
    pub(super) fn began_after(&self) -> Option<Duration> {
        self.began.map(|began| began.saturating_duration_since(self.made))
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.began.get_or_insert_with(Instant::now);
        let count = self.left.read(buffer)?;
        self.taken += count as u64;
        Ok(count)
    }
}
