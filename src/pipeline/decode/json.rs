//! A validating, borrowing JSON cursor, for reading a few values and skipping the rest quickly.
//!
//! Rows hold lone surrogates, wrong types and duplicate keys, which derived structs refuse, and only a dozen fields of
//! about ten kilobytes are needed. So the caller walks the objects that it knows. Everything else is skipped, but still
//! validated. The cursor accepts exactly the JSON of RFC 8259, up to a maximum depth. `\u` escapes may encode lone
//! surrogates, which are read as U+FFFD.

use std::fmt;

use serde_json::{Map, Value};

mod scan;
mod skip;
mod string;

pub use self::string::{MaybeString, RawStr};

/// The maximum nesting of arrays and objects.
pub const MAX_DEPTH: usize = 128;

/// Why a text is not accepted as JSON. Positions are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// The text is not JSON.
    Syntax {
        /// The position.
        at: usize,
        /// What was expected there.
        expected: &'static str,
    },
    /// More than [`MAX_DEPTH`] levels.
    TooDeep {
        /// The position of the first bracket too deep.
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

/// A position in a JSON document, before or after a value. Unusable after an error.
#[derive(Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Cursor<'a> {
    /// Creates a cursor before the first value.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// Reads an object. Calls `member` with each key, which must read exactly one value.
    ///
    /// Duplicate keys are passed each time; by convention, the last one counts.
    ///
    /// # Errors
    ///
    /// Fails if the next value is not an object, or if `member` fails.
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

    /// Reads an object like [`Cursor::object`], or skips a value of another type. Returns whether it was an object.
    ///
    /// # Errors
    ///
    /// See [`Cursor::object`] and [`Cursor::skip`].
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
    ///
    /// Fails if the next value is not a string.
    pub fn string(&mut self) -> Result<RawStr<'a>, JsonError> {
        self.skip_space();
        self.expect(b'"', "a string")?;
        let start = self.at;
        let escaped = self.skip_string()?;
        // The string is followed by its quote, so both ends are character boundaries.
        let raw = self.text.get(start..self.at - 1).unwrap_or_default();
        Ok(RawStr { raw, escaped })
    }

    /// Reads a string, or skips a value of another type.
    ///
    /// # Errors
    ///
    /// Fails if the next value is not JSON.
    pub fn string_or_skip(&mut self) -> Result<MaybeString<'a>, JsonError> {
        self.skip_space();
        match self.peek() {
            Some(b'"') => self.string().map(MaybeString::String),
            Some(b'n') => self.skip().map(|()| MaybeString::Null),
            _ => self.skip().map(|()| MaybeString::Other),
        }
    }

    /// Reads an integer that fits into an `i64`, or skips any other value.
    ///
    /// # Errors
    ///
    /// Fails if the next value is not JSON.
    pub fn integer_or_skip(&mut self) -> Result<Option<i64>, JsonError> {
        self.skip_space();
        let start = self.at;
        self.skip()?;
        Ok(self.text.get(start..self.at).and_then(|number| number.parse().ok()))
    }

    /// Skips a value that may repeat `earlier`, the text of an object that has been validated at this depth or deeper.
    /// Comparing is several times as fast as validating.
    ///
    /// # Errors
    ///
    /// See [`Cursor::skip`].
    pub fn skip_repeated(&mut self, earlier: &str) -> Result<(), JsonError> {
        self.skip_space();
        let rest = self.text.get(self.at..).unwrap_or_default();
        // Holds only for objects: `123` also begins with `12`, but is another value.
        if earlier.starts_with('{') && rest.starts_with(earlier) {
            self.at += earlier.len();
            return Ok(());
        }
        self.skip()
    }

    /// Reads an array, or skips a value of another type. `element` must read exactly one value. Returns whether it was an
    /// array.
    ///
    /// # Errors
    ///
    /// See [`Cursor::skip`]; also fails if `element` does.
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

    /// Reads a value of any type. A number that is not an `i64` becomes the nearest `f64`.
    ///
    /// # Errors
    ///
    /// See [`Cursor::skip`].
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
                let place = self.place();
                self.skip()?;
                let text = self.since(place);
                let integer = text.parse::<i64>().map(Value::from);
                Ok(integer.unwrap_or_else(|_| text.parse::<f64>().unwrap_or_default().into()))
            }
            Some(first @ (b't' | b'f')) => self.skip().map(|()| Value::Bool(first == b't')),
            _ => self.skip().map(|()| Value::Null),
        }
    }

    /// Returns the text from a [`Cursor::place`] to the cursor, without leading white space.
    pub fn since(&self, place: usize) -> &'a str {
        let text = self.text.get(place..self.at).unwrap_or_default();
        text.trim_start_matches([' ', '\n', '\r', '\t'])
    }

    /// Returns the position of the cursor, in bytes.
    pub fn place(&self) -> usize {
        self.at
    }

    /// Checks that only white space is left.
    ///
    /// # Errors
    ///
    /// Fails if anything else follows.
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

    /// Enters a container after its opening bracket.
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
}

#[cfg(test)]
mod tests;
