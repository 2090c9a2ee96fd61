//! Counts the bytes of a body that are sent.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// A body that the HTTP library reads while sending it.
pub(super) struct Counted<'b> {
    left: &'b [u8],
    read_bytes: u64,
    made: Instant,
    began: Option<Instant>,
}

impl<'b> Counted<'b> {
    pub(super) fn new(body: &'b [u8]) -> Self {
        Self { left: body, read_bytes: 0, made: Instant::now(), began: None }
    }

    /// Returns how many bytes the library has read.
    pub(super) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Returns the time from creation to the first read; None: nothing was read.
    pub(super) fn first_read_after(&self) -> Option<Duration> {
        self.began.map(|began| began.saturating_duration_since(self.made))
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.began.get_or_insert_with(Instant::now);
        let count = self.left.read(buffer)?;
        self.read_bytes += count as u64;
        Ok(count)
    }
}
