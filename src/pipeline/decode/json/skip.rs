//! Skips values, and validates them.

use super::scan::{digits_end, plain_end};
use super::{Cursor, JsonError};

impl Cursor<'_> {
    /// Skips and validates a value of any type.
    ///
    /// # Errors
    ///
    /// Fails if the next value is not JSON, or is nested too deep.
    pub fn skip(&mut self) -> Result<(), JsonError> {
        // The open containers within this value, one bit each, innermost lowest: 1 for an object, 0 for an array.
        let mut objects = 0_u128;
        let outside = self.depth;
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.skip_string()?;
                }
                Some(b'{') => {
                    self.at += 1;
                    self.enter()?;
                    self.skip_space();
                    if self.eat(b'}') {
                        self.depth -= 1;
                    } else {
                        objects = objects << 1 | 1;
                        self.skip_key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    self.enter()?;
                    self.skip_space();
                    if self.eat(b']') {
                        self.depth -= 1;
                    } else {
                        objects <<= 1;
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.skip_number()?,
                Some(b't') => self.skip_literal("true")?,
                Some(b'f') => self.skip_literal("false")?,
                Some(b'n') => self.skip_literal("null")?,
                _ => return Err(self.expected("a value")),
            }
            // A value has ended, and maybe containers with it.
            loop {
                if self.depth == outside {
                    return Ok(());
                }
                self.skip_space();
                let in_object = objects & 1 == 1;
                if self.eat(b',') {
                    if in_object {
                        self.skip_key()?;
                    }
                    break;
                }
                if in_object {
                    self.expect(b'}', "`,` or `}`")?;
                } else {
                    self.expect(b']', "`,` or `]`")?;
                }
                objects >>= 1;
                self.depth -= 1;
            }
        }
    }

    fn skip_key(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        self.expect(b'"', "a key")?;
        self.skip_string()?;
        self.skip_space();
        self.expect(b':', "`:`")
    }

    /// Skips the rest of a string and its end quote. Returns whether it holds escapes.
    pub(super) fn skip_string(&mut self) -> Result<bool, JsonError> {
        let mut escaped = false;
        loop {
            self.at = plain_end(self.text.as_bytes(), self.at);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.skip_escape()?;
                    escaped = true;
                }
                Some(_) => return Err(self.expected("no control character in a string")),
                None => return Err(self.expected("the end of a string")),
            }
        }
    }

    /// Skips an escape after its backslash.
    fn skip_escape(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.text.as_bytes().get(self.at..).and_then(|rest| rest.first_chunk::<5>());
                match digits {
                    Some([_, digits @ ..]) if digits.iter().all(u8::is_ascii_hexdigit) => self.at += 5,
                    _ => return Err(self.expected("four hexadecimal digits after `\\u`")),
                }
            }
            _ => return Err(self.expected("an escape")),
        }
        Ok(())
    }

    /// Skips a number: minus, integer without leading zeros, fraction, exponent.
    fn skip_number(&mut self) -> Result<(), JsonError> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.skip_digits()?;
        }
        if self.eat(b'.') {
            self.skip_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.skip_digits()?;
        }
        Ok(())
    }

    /// Skips one or more digits.
    fn skip_digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.at = digits_end(self.text.as_bytes(), start);
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    fn skip_literal(&mut self, literal: &'static str) -> Result<(), JsonError> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if !rest.starts_with(literal.as_bytes()) {
            return Err(self.expected(literal));
        }
        self.at += literal.len();
        Ok(())
    }
}
