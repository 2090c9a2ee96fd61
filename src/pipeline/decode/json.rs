//! A validating, borrowing JSON cursor: reads the few values that matter, skips the rest fast.
//!
//! Rows hold lone surrogates, wrong types and duplicate keys that derived structs refuse, and a dozen
//! fields of some ten kilobytes are wanted. So the caller walks the objects it knows, and everything else is
//! skipped, though checked: a document is accepted exactly where RFC 8259 calls it JSON, plus a bound on its
//! depth and minus any meaning of `\u` escapes (a lone surrogate is read as U+FFFD).

use std::fmt;

use serde_json::{Map, Value};

mod scan;
mod string;

use self::scan::{digits_end, plain_end};
pub use self::string::{MaybeString, RawStr};

/// The most levels of arrays and objects within each other.
pub const MAX_DEPTH: usize = 128;

/// Why a text is not taken for JSON. Positions are byte offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// The text is not JSON.
    Syntax {
        /// Where.
        at: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// More than [`MAX_DEPTH`] levels.
    TooDeep {
        /// Where the level too many begins.
        at: usize,
    },
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JsonError::Syntax { at, expected } => write!(f, "expected {expected} at byte {at}"),
            JsonError::TooDeep { at } => write!(f, "more than {MAX_DEPTH} levels at byte {at}"),
        }
    }
}

impl std::error::Error for JsonError {}

/// A place in a JSON document, between its values.
///
/// After an error the cursor is of no more use.
#[derive(Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor before the first value.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// Reads an object: `member` is called with each key in turn, and must read exactly one value.
    ///
    /// A key that occurs twice is handed out twice: by JSON's custom, the last one counts.
    ///
    /// # Errors
    /// Where the next value is no object, and whatever error `member` returns.
    pub fn object(
        &mut self,
        mut member: impl FnMut(RawStr<'a>, &mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.skip_space();
        self.expect(b'{', "an object")?;
        self.enter()?;
        self.skip_space();
        if !self.eat(b'}') {
            loop {
                let key = self.key()?;
                member(key, self)?;
                self.skip_space();
                if !self.eat(b',') {
                    break;
                }
            }
            self.expect(b'}', "`,` or `}`")?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads an object as [`Cursor::object`] does; a value of another type is skipped. Whether it was one.
    ///
    /// # Errors
    /// Those of [`Cursor::object`] and [`Cursor::skip`].
    pub fn object_or_skip(
        &mut self,
        member: impl FnMut(RawStr<'a>, &mut Self) -> Result<(), JsonError>,
    ) -> Result<bool, JsonError> {
        self.skip_space();
        let is_object = self.peek() == Some(b'{');
        if is_object {
            self.object(member)?
        } else {
            self.skip()?
        }
        Ok(is_object)
    }

    /// Reads a string.
    ///
    /// # Errors
    /// Where the next value is no string.
    pub fn string(&mut self) -> Result<RawStr<'a>, JsonError> {
        self.skip_space();
        self.expect(b'"', "a string")?;
        let start = self.at;
        let escaped = self.skip_string()?;
        // The string is followed by its quote; both ends are therefore boundaries of characters.
        let raw = self.text.get(start..self.at - 1).unwrap_or_default();
        Ok(RawStr { raw, escaped })
    }

    /// Reads a string; a value of another type is skipped.
    ///
    /// # Errors
    /// Where the next value is not JSON.
    pub fn string_or_skip(&mut self) -> Result<MaybeString<'a>, JsonError> {
        self.skip_space();
        match self.peek() {
            Some(b'"') => self.string().map(MaybeString::String),
            Some(b'n') => self.skip().map(|()| MaybeString::Null),
            _ => self.skip().map(|()| MaybeString::Other),
        }
    }

    /// Reads an integer; what is none (or has no room in an `i64`) is skipped.
    ///
    /// # Errors
    /// Where the next value is not JSON.
    pub fn integer_or_skip(&mut self) -> Result<Option<i64>, JsonError> {
        self.skip_space();
        let start = self.at;
        self.skip()?;
        Ok(self.text.get(start..self.at).and_then(|number| number.parse().ok()))
    }

    /// Skips a value of any type, and checks it.
    ///
    /// # Errors
    /// Where the next value is not JSON, or nested too deep.
    pub fn skip(&mut self) -> Result<(), JsonError> {
        // The containers open within this value, a bit each, the innermost the lowest: set for an object.
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
            // A value has ended, and maybe what it was the last of.
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

    /// Reads an array: `element` must read exactly one value; a value of another type is skipped. Whether it was one.
    ///
    /// # Errors
    /// Those of [`Cursor::skip`], and whatever error `element` returns.
    pub fn array_or_skip(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<bool, JsonError> {
        self.skip_space();
        if self.peek() != Some(b'[') {
            return self.skip().map(|()| false);
        }
        self.at += 1;
        self.enter()?;
        self.skip_space();
        if !self.eat(b']') {
            loop {
                element(self)?;
                self.skip_space();
                if !self.eat(b',') {
                    break;
                }
            }
            self.expect(b']', "`,` or `]`")?;
        }
        self.depth -= 1;
        Ok(true)
    }

    /// Reads a value of any type with all that is in it. A number is kept where it has room in an `i64`, and is null
    /// elsewhere.
    ///
    /// # Errors
    /// Those of [`Cursor::skip`].
    pub fn value(&mut self) -> Result<Value, JsonError> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => {
                let mut members = Map::new();
                self.object(|key, cursor| {
                    members.insert(key.unescape().into_owned(), cursor.value()?);
                    Ok(())
                })?;
                Ok(Value::Object(members))
            }
            Some(b'[') => {
                let mut elements = Vec::new();
                self.array_or_skip(|cursor| {
                    elements.push(cursor.value()?);
                    Ok(())
                })?;
                Ok(Value::Array(elements))
            }
            Some(b'"') => self.string().map(|string| Value::String(string.unescape().into_owned())),
            Some(b'-' | b'0'..=b'9') => {
                self.integer_or_skip().map(|number| number.map_or(Value::Null, Value::from))
            }
            Some(first @ (b't' | b'f')) => self.skip().map(|()| Value::Bool(first == b't')),
            _ => self.skip().map(|()| Value::Null),
        }
    }

    /// The text from a place on to where the cursor is now, see [`Cursor::place`].
    pub fn since(&self, place: usize) -> &'a str {
        self.text.get(place..self.at).unwrap_or_default()
    }

    /// Where the cursor is.
    pub fn place(&self) -> usize {
        self.at
    }

    /// Checks that nothing but white space is left.
    ///
    /// # Errors
    /// Where something is.
    pub fn end(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.expected("the end of the document")) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), JsonError> {
        if self.eat(byte) { Ok(()) } else { Err(self.expected(what)) }
    }

    #[cold]
    fn expected(&self, expected: &'static str) -> JsonError {
        JsonError::Syntax { at: self.at, expected }
    }

    /// Goes one level deeper; the bracket has been read.
    fn enter(&mut self) -> Result<(), JsonError> {
        if self.depth >= MAX_DEPTH {
            return Err(JsonError::TooDeep { at: self.at - 1 });
        }
        self.depth += 1;
        Ok(())
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Reads a key and its colon.
    fn key(&mut self) -> Result<RawStr<'a>, JsonError> {
        let key = self.string()?;
        self.skip_space();
        self.expect(b':', "`:`")?;
        Ok(key)
    }

    fn skip_key(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        self.expect(b'"', "a key")?;
        self.skip_string()?;
        self.skip_space();
        self.expect(b':', "`:`")
    }

    /// Skips the rest of a string, its end quote included. Whether it holds escapes.
    fn skip_string(&mut self) -> Result<bool, JsonError> {
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

    /// Skips what follows the backslash of an escape.
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

#[cfg(test)]
mod tests;
