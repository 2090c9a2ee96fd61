//! Handles answers to `Expect: 100-continue` (RFC 9110, section 10.1.1). With this header a client asks whether the
//! server wants the body. The HTTP library mishandles three answers:
//!
//! - `100 Continue` with headers that are meant for the final reply: the library never sends the body. The headers are
//!   removed here.
//! - Another interim answer with headers, such as `103 Early Hints`: the library waits for more until the time limit. It
//!   is removed here.
//! - A refusal that arrives at once and complete: the library waits for more until the time limit. It is passed on here
//!   as if it had just arrived.

use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Start of any interim answer.
const INTERIM: &[u8] = b"HTTP/1.1 1";

/// Start of an answer that accepts the body.
const CONTINUE: &[u8] = b"HTTP/1.1 100";

/// The accepting answer without its headers.
const BARE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Rewrites answers to `Expect` into the form that the HTTP library expects.
#[derive(Debug)]
pub(super) struct InterimConnector;

impl<In: Transport> Connector<In> for InterimConnector {
    type Out = Interim<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(|inner| Interim { inner, awaits_answer: false }))
    }
}

/// A connection whose answers to `Expect` are rewritten.
#[derive(Debug)]
pub(super) struct Interim<In> {
    inner: In,
    /// Whether a request with `Expect` was sent, and nothing has arrived since.
    awaits_answer: bool,
}

/// Returns whether the output is the head of a request with `Expect`.
///
/// Most output is bodies. Their first line already shows that they are not a head, so the rest is not searched.
fn expects_continue(output: &[u8]) -> bool {
    let Some(line) = output.split(|&byte| byte == b'\n').next().filter(|line| line.ends_with(b" HTTP/1.1\r"))
    else {
        return false;
    };
    let fields = output.get(line.len() - 1..).unwrap_or_default();
    let end = fields.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_default();
    let fields = fields.get(..end).unwrap_or_default().to_ascii_lowercase();
    fields.windows(22).any(|window| window == b"\r\nexpect: 100-continue")
}

/// Judgement of an answer by what has arrived so far.
#[derive(Debug, PartialEq, Eq)]
enum InterimAnswer {
    /// More has to arrive.
    Incomplete,
    /// The server accepts the body; the head of its answer has so many bytes.
    Accepts(usize),
    /// This interim answer, of so many bytes, says nothing about the body.
    SaysNothing(usize),
    /// The server refuses: this is the final reply.
    Refuses,
}

fn answer(input: &[u8]) -> InterimAnswer {
    let is_interim = input.starts_with(INTERIM);
    match input.windows(4).position(|four| four == b"\r\n\r\n") {
        None if is_interim || INTERIM.starts_with(input) => InterimAnswer::Incomplete,
        Some(end) if input.starts_with(CONTINUE) => InterimAnswer::Accepts(end + 4),
        Some(end) if is_interim => InterimAnswer::SaysNothing(end + 4),
        _ => InterimAnswer::Refuses,
    }
}

/// Replaces the input by other bytes, as if they had just arrived.
fn replace(buffers: &mut dyn Buffers, bytes: &[u8]) {
    let length = buffers.input().len();
    buffers.input_consume(length);
    // The buffer has room: the new bytes are at most a few more than the old ones.
    if let Some(into) = buffers.input_append_buf().get_mut(..bytes.len()) {
        into.copy_from_slice(bytes);
        buffers.input_appended(bytes.len());
    }
}

impl<In: Transport> Transport for Interim<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.awaits_answer =
            expects_continue(self.inner.buffers().output().get(..amount).unwrap_or_default());
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let mut has_input = self.inner.await_input(timeout)?;
        while self.awaits_answer && has_input {
            let input = self.inner.buffers().input().to_vec();
            match answer(&input) {
                InterimAnswer::Incomplete => has_input = self.inner.await_input(timeout)?,
                InterimAnswer::Accepts(end) => {
                    let rest = input.get(end..).unwrap_or_default();
                    replace(self.inner.buffers(), &[BARE, rest].concat());
                    self.awaits_answer = false;
                }
                InterimAnswer::SaysNothing(end) => {
                    let rest = input.get(end..).unwrap_or_default();
                    replace(self.inner.buffers(), rest);
                    if rest.is_empty() {
                        has_input = self.inner.await_input(timeout)?;
                    }
                }
                InterimAnswer::Refuses => {
                    replace(self.inner.buffers(), &input);
                    self.awaits_answer = false;
                }
            }
        }
        Ok(has_input)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_head_of_a_request_expects_continue() {
        assert!(expects_continue(b"POST /_bulk HTTP/1.1\r\nhost: a\r\nExpect: 100-continue\r\n\r\n"));
        for other in [
            &b"POST /_bulk HTTP/1.1\r\nhost: a\r\n\r\nexpect: 100-continue"[..],
            b"{\"a\":\"\r\nexpect: 100-continue\r\n\r\n\"}",
            b"",
        ] {
            assert!(!expects_continue(other));
        }
    }

    #[test]
    fn a_continue_differs_from_a_refusal_and_from_part_of_itself() {
        let whole = b"HTTP/1.1 100 Continue\r\ndate: now\r\nserver: x\r\n\r\n";
        assert_eq!(answer(whole), InterimAnswer::Accepts(whole.len()));
        assert_eq!(
            answer(&[whole, &b"HTTP/1.1 200 OK\r\n"[..]].concat()),
            InterimAnswer::Accepts(whole.len())
        );
        let hints = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
        assert_eq!(answer(&[hints, &whole[..]].concat()), InterimAnswer::SaysNothing(hints.len()));
        for half in [&whole[..4], &whole[..30], &hints[..12], b"H", b""] {
            assert_eq!(answer(half), InterimAnswer::Incomplete);
        }
        for refusal in [&b"HTTP/1.1 417 No\r\n\r\n"[..], b"HTTP/1.1 413 ", b"{}"] {
            assert_eq!(answer(refusal), InterimAnswer::Refuses);
        }
    }
}
