//! Requests that ask first whether their body is wanted (`Expect: 100-continue`; RFC 9110, section 10.1.1), where the
//! HTTP library takes the answer wrongly:
//!
//! - an agreement that has headers for the reply itself, so that the body is never sent: they are taken off;
//! - a refusal that comes at once and whole for one that is still to come, so that nothing more is waited for until the
//!   time limit: it is handed on as if it had just come.

use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// How the answer to `Expect` begins where that is an agreement.
const CONTINUE: &[u8] = b"HTTP/1.1 100";

/// What is left of it.
const BARE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Makes of the answers to `Expect` what the HTTP library knows.
#[derive(Debug)]
pub(super) struct InterimConnector;

impl<In: Transport> Connector<In> for InterimConnector {
    type Out = Interim<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(|inner| Interim { inner, is_asked: false }))
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Interim<In> {
    inner: In,
    /// A request has asked first, and nothing has come since.
    is_asked: bool,
}

/// Whether what is sent is the head of a request that asks first.
fn asks_first(output: &[u8]) -> bool {
    let head = output.windows(4).position(|four| four == b"\r\n\r\n").map_or(&b""[..], |end| &output[..end]);
    let is_request =
        head.split(|&byte| byte == b'\r').next().is_some_and(|line| line.ends_with(b" HTTP/1.1"));
    is_request && head.to_ascii_lowercase().windows(22).any(|window| window == b"\r\nexpect: 100-continue")
}

/// What there is to do about an answer as far as it has come.
#[derive(Debug, PartialEq, Eq)]
enum InterimAnswer {
    /// More of it has to come.
    Incomplete,
    /// It agrees, with a head of so many bytes.
    Agrees(usize),
    /// It is the reply.
    Refuses,
}

fn answer(input: &[u8]) -> InterimAnswer {
    let agrees = input.starts_with(CONTINUE);
    match input.windows(4).position(|four| four == b"\r\n\r\n") {
        None if agrees || CONTINUE.starts_with(input) => InterimAnswer::Incomplete,
        Some(end) if agrees => InterimAnswer::Agrees(end + 4),
        _ => InterimAnswer::Refuses,
    }
}

/// Puts other bytes in the place of the input, as if they had just come.
fn replace(buffers: &mut dyn Buffers, bytes: &[u8]) {
    let length = buffers.input().len();
    buffers.input_consume(length);
    // There is room: no more bytes are put in than have come out, or a few.
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
        self.is_asked = asks_first(self.inner.buffers().output().get(..amount).unwrap_or_default());
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let mut has_come = self.inner.await_input(timeout)?;
        while self.is_asked && has_come {
            let input = self.inner.buffers().input().to_vec();
            match answer(&input) {
                InterimAnswer::Incomplete => has_come = self.inner.await_input(timeout)?,
                InterimAnswer::Agrees(end) => {
                    let rest = input.get(end..).unwrap_or_default();
                    replace(self.inner.buffers(), &[BARE, rest].concat());
                    self.is_asked = false;
                }
                InterimAnswer::Refuses => {
                    replace(self.inner.buffers(), &input);
                    self.is_asked = false;
                }
            }
        }
        Ok(has_come)
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
    fn only_the_head_of_a_request_asks_first() {
        assert!(asks_first(b"POST /_bulk HTTP/1.1\r\nhost: a\r\nExpect: 100-continue\r\n\r\n"));
        for other in [
            &b"POST /_bulk HTTP/1.1\r\nhost: a\r\n\r\nexpect: 100-continue"[..],
            b"{\"a\":\"\r\nexpect: 100-continue\r\n\r\n\"}",
            b"",
        ] {
            assert!(!asks_first(other));
        }
    }

    #[test]
    fn an_agreement_is_told_from_a_refusal_and_from_half_of_it() {
        let whole = b"HTTP/1.1 100 Continue\r\ndate: now\r\nserver: x\r\n\r\n";
        assert_eq!(answer(whole), InterimAnswer::Agrees(whole.len()));
        assert_eq!(
            answer(&[whole, &b"HTTP/1.1 200 OK\r\n"[..]].concat()),
            InterimAnswer::Agrees(whole.len())
        );
        for half in [&whole[..4], &whole[..30], b"H", b""] {
            assert_eq!(answer(half), InterimAnswer::Incomplete);
        }
        for refusal in [&b"HTTP/1.1 417 No\r\n\r\n"[..], b"HTTP/1.1 413 ", b"{}"] {
            assert_eq!(answer(refusal), InterimAnswer::Refuses);
        }
    }
}
