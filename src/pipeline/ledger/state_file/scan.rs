//! Splits a JSON array into its objects, one at a time, so that a state file of a hundred thousand entries is never in
//! memory as a whole.

use std::io::{self, BufRead, ErrorKind};

/// The end of an array's content, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Offset of the end of its last object, or of the opening bracket if there is none.
    pub(super) end: u64,
    /// Number of objects.
    pub(super) count: u64,
}

/// The state of the scanner: what it expects next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The opening bracket.
    Array,
    /// The first object or the closing bracket.
    First,
    /// An object after a comma.
    Object,
    /// The rest of an object, `depth` brackets deep.
    Inside {
        depth: u32,
        string: bool,
        escaped: bool,
    },
    Comma,
    Nothing,
}

/// Calls `each` with the offset and text of every object of the array in `reader`. Checks only brackets and strings; the
/// rest is up to `each`.
///
/// # Errors
///
/// Read errors, and [`ErrorKind::InvalidData`] if the text is not an array of objects or if `each` fails.
pub(super) fn objects(
    mut reader: impl BufRead,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), String>,
) -> io::Result<Shape> {
    let mut next = Next::Array;
    let mut shape = Shape { end: 0, count: 0 };
    let mut object = Vec::new();
    let mut at = 0_u64;
    loop {
        let bytes = match reader.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        let mut rest = bytes;
        while let Some((byte, behind)) = rest.split_first() {
            // Most bytes belong to strings and numbers, which do not change the state.
            let plain = plain(next, rest);
            if plain > 0 {
                object.extend_from_slice(rest.get(..plain).unwrap_or_default());
                at += plain as u64;
                rest = rest.get(plain..).unwrap_or_default();
                continue;
            }
            rest = behind;
            let before = next;
            next = step(before, *byte).ok_or_else(|| invalid(misplaced(at, *byte)))?;
            if matches!(next, Next::Inside { .. }) || matches!(before, Next::Inside { .. }) {
                object.push(*byte);
            }
            at += 1;
            if matches!(before, Next::Inside { .. }) && next == Next::Comma {
                shape.count += 1;
                shape.end = at;
                each(at - object.len() as u64, &object)
                    .map_err(|why| invalid(format!("entry {}: {why}", shape.count)))?;
                object.clear();
            } else if before == Next::Array && next == Next::First {
                shape.end = at;
            }
        }
        reader.consume(length);
    }
    match next {
        Next::Nothing => Ok(shape),
        Next::Array => {
            Err(invalid("it is empty; if no archive has ever been loaded, write [] into it".to_owned()))
        }
        _ => Err(invalid(format!("it is cut off, after {} entries", shape.count))),
    }
}

/// Why a byte cannot stand at this place.
fn misplaced(at: u64, byte: u8) -> String {
    // The first bytes of a byte order mark in UTF-8 and in both orders of UTF-16.
    if at == 0 && matches!(byte, 0xEF | 0xFE | 0xFF) {
        return "it begins with a byte order mark, as some editors write: save it as UTF-8 without one"
            .to_owned();
    }
    format!("not an array of objects at byte {at} ({:?})", char::from(byte))
}

/// Returns the number of bytes within an object that do not change the state.
fn plain(next: Next, bytes: &[u8]) -> usize {
    let plain = match next {
        Next::Inside { string: true, escaped: false, .. } => {
            bytes.iter().position(|byte| matches!(byte, b'"' | b'\\'))
        }
        Next::Inside { string: false, .. } => {
            bytes.iter().position(|byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']'))
        }
        _ => Some(0),
    };
    plain.unwrap_or(bytes.len())
}

/// Returns the state after a byte. None if the byte is not allowed here.
fn step(next: Next, byte: u8) -> Option<Next> {
    let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    Some(match next {
        Next::Inside { depth, string: true, escaped } => {
            let string = escaped || byte != b'"';
            Next::Inside { depth, string, escaped: !escaped && byte == b'\\' }
        }
        Next::Inside { depth, .. } => match byte {
            b'"' => Next::Inside { depth, string: true, escaped: false },
            b'{' | b'[' => Next::Inside { depth: depth.checked_add(1)?, string: false, escaped: false },
            b'}' | b']' if depth == 1 => Next::Comma,
            b'}' | b']' => Next::Inside { depth: depth - 1, string: false, escaped: false },
            _ => next,
        },
        _ if is_space => next,
        Next::Array if byte == b'[' => Next::First,
        Next::First | Next::Object if byte == b'{' => {
            Next::Inside { depth: 1, string: false, escaped: false }
        }
        Next::Comma if byte == b',' => Next::Object,
        Next::First | Next::Comma if byte == b']' => Next::Nothing,
        _ => return None,
    })
}

fn invalid(why: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests;
