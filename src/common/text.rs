//! Formats text for terminals and URLs, and parses digits.

use std::borrow::Cow;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Width of a line, in columns.
pub const WIDTH: usize = 80;

/// Removes back-ticks and replaces `…` by three dots.
pub fn plain(text: &str) -> String {
    text.replace('`', "").replace('…', "...")
}

/// Formats a foreign text on one line, cut to this many characters. Escapes what a terminal may obey.
pub fn on_one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    for c in text.chars().take(most) {
        match c {
            '"' | '\'' | '\\' => line.push(c),
            c => line.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(most).is_some() { line + "…" } else { line }
}

/// Parses decimal digits; refuses a sign.
pub fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Percent-encodes a text as a path segment or a query value (RFC 3986, section 2.3).
pub fn percent_encoded(text: &str) -> String {
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Percent-encodes non-ASCII characters: servers disagree on how to read them in a path.
pub fn ascii_encoded(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, &AsciiSet::EMPTY).into()
}

/// Formats a number of bytes in a binary unit: bytes, MiB or GiB.
pub fn format_bytes(bytes: u64) -> String {
    match bytes {
        ..0x10_0000 => format!("{bytes} bytes"),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// Formats a number of bytes in a decimal unit: MB or GB. Progress is shown in these.
pub fn megabytes(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes < 1e9 { format!("{:.1} MB", bytes / 1e6) } else { format!("{:.2} GB", bytes / 1e9) }
}

/// Appends `words`, wrapped into lines that start with `indent`.
pub fn wrap(text: &mut String, indent: &str, words: &str) {
    let mut line = String::new();
    for word in words.split_whitespace() {
        let length = indent.len() + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && length > WIDTH {
            text.push_str(&format!("{indent}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    text.push_str(&format!("{indent}{line}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_text_is_one_line_and_not_long() {
        assert_eq!(on_one_line("ä \"b\"\n\u{1b}[2J\u{202e}", 99), "ä \"b\"\\n\\u{1b}[2J\\u{202e}");
        assert_eq!((on_one_line("abc", 3), on_one_line("abcd", 3)), ("abc".into(), "abc…".into()));
    }

    #[test]
    fn a_name_of_an_index_is_one_segment_of_a_path() {
        assert_eq!(percent_encoded("posts-2025.10_v1"), "posts-2025.10_v1");
        assert_eq!(percent_encoded("pösts%/"), "p%C3%B6sts%25%2F");
    }
}
