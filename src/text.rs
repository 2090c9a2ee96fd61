//! Texts for a terminal: their lines, and words of the documentation without its marks.

/// Lines are no longer than this.
pub const WIDTH: usize = 80;

/// A text in ASCII, without its back-ticks.
pub fn plain(text: &str) -> String {
    text.replace('`', "").replace('…', "...")
}

/// A number of bytes in the largest unit of which it has one.
pub fn in_bytes(bytes: u64) -> String {
    match bytes {
        ..0x10_0000 => format!("{bytes} bytes"),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// Adds `words` in lines that fit, each behind `indent`.
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
