//! Time limits for the bodies of replies.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// A reader that fails once its time is over. Bytes read before that are valid.
///
/// It checks between reads, so each read needs a time limit of its own, which the client sets. That limit alone does not
/// stop a server that sends a byte now and then.
pub(super) struct Watched<R> {
    reader: R,
    until: Instant,
}

impl<R: Read> Watched<R> {
    /// Wraps a reader for at most `limit` from now.
    pub(super) fn new(reader: R, limit: Duration) -> Self {
        Self { reader, until: Instant::now() + limit }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.reader.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An endless body that returns one byte per read. Calls the function on the third.
    struct Endless<F>(u8, F);

    impl<F: FnMut()> Read for Endless<F> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer[0] = self.0;
            self.0 += 1;
            if self.0 == 3 {
                (self.1)();
            }
            Ok(1)
        }
    }

    #[test]
    fn a_body_that_arrives_in_time_is_read_to_its_end() {
        let mut body = String::new();
        Watched::new(&b"whole"[..], Duration::from_secs(3600)).read_to_string(&mut body).unwrap();
        assert_eq!(body, "whole");
    }

    #[test]
    fn a_slow_body_ends_when_its_time_is_over() {
        let limit = Duration::from_millis(20);
        let started = Instant::now();
        let endless = Endless(0, || std::thread::sleep(limit));
        let mut body = Vec::new();
        let error = Watched::new(endless, limit).read_to_end(&mut body).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(body.len() <= 3 && started.elapsed() >= limit, "{body:?}");
    }
}
