//! Strings of a JSON document and their escapes.

use std::borrow::Cow;

/// A string of the document, validated but not unescaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawStr<'a> {
    /// The text between the quotes.
    pub(super) raw: &'a str,
    /// Whether it holds a backslash.
    pub(super) escaped: bool,
}

impl<'a> RawStr<'a> {
    /// Returns the unescaped text. Every lone surrogate becomes U+FFFD.
    pub fn unescape(self) -> Cow<'a, str> {
        if self.escaped { Cow::Owned(unescape(self.raw)) } else { Cow::Borrowed(self.raw) }
    }

    /// Whether it is the empty string.
    pub fn is_empty(self) -> bool {
        self.raw.is_empty()
    }
}

/// A value that should be a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaybeString<'a> {
    /// A string.
    String(RawStr<'a>),
    /// `null`, or no value.
    #[default]
    Null,
    /// A value of another type.
    Other,
}

impl<'a> MaybeString<'a> {
    /// Returns the string, if it is one.
    pub fn string(self) -> Option<RawStr<'a>> {
        match self {
            MaybeString::String(string) => Some(string),
            MaybeString::Null | MaybeString::Other => None,
        }
    }
}

/// Unescapes a string whose escapes are valid.
fn unescape(mut raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    while let Some((plain, escape)) = raw.split_once('\\') {
        text.push_str(plain);
        let (character, rest) = read_escape(escape);
        text.push(character);
        raw = rest;
    }
    text.push_str(raw);
    text
}

/// Reads an escape. Returns its character and the rest. `escape` begins after the backslash.
fn read_escape(escape: &str) -> (char, &str) {
    let mut rest = escape.chars();
    let character = match rest.next() {
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('u') => return read_utf16(rest.as_str()),
        Some(character) => character,
        None => char::REPLACEMENT_CHARACTER,
    };
    (character, rest.as_str())
}

/// Reads one `\u` escape, or two of a surrogate pair. Returns the character and the rest. `digits` begins after the first
/// `\u`.
fn read_utf16(digits: &str) -> (char, &str) {
    let (high, after_one) = read_code_unit(digits);
    if let Some(digits) = after_one.strip_prefix("\\u") {
        let (low, after_two) = read_code_unit(digits);
        if let (0xD800..=0xDBFF, 0xDC00..=0xDFFF) = (high, low) {
            let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), after_two);
        }
    }
    (char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), after_one)
}

/// Reads four hexadecimal digits. Returns their number and the rest.
fn read_code_unit(digits: &str) -> (u32, &str) {
    let (digits, rest) = digits.split_at_checked(4).unwrap_or((digits, ""));
    (u32::from_str_radix(digits, 16).unwrap_or(u32::from(char::REPLACEMENT_CHARACTER)), rest)
}
