//! Counts the bytes of a body that are sent.

use std::io::{self, Read};
use std::time::Instant;

use super::EXPECT_LIMIT;
use super::request::Sent;

/// A body that the HTTP library reads while sending it.
pub(super) struct Counted<'b> {
    left: &'b [u8],
    sent: &'b Sent,
    /// Since when the server has been asked whether it wants the body; None: it was not asked, or the body is being sent.
    asked: Option<Instant>,
}

impl<'b> Counted<'b> {
    pub(super) fn new(body: &'b [u8], sent: &'b Sent, expects_continue: bool) -> Self {
        Self { left: body, sent, asked: expects_continue.then(Instant::now) }
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.asked.take().is_some_and(|asked| asked.elapsed() >= EXPECT_LIMIT) {
            self.sent.unanswered.set(true);
        }
        let count = self.left.read(buffer)?;
        self.sent.bytes.set(self.sent.bytes.get() + count as u64);
        Ok(count)
    }
}
