//! Random changes of bytes, some at the fields of the format.

use proptest::collection::vec;
use proptest::prelude::*;

/// Longer inputs are cut off; the integration tests cover length.
const LONGEST: usize = 256 << 10;

/// Values at which parsers often fail.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// A change. The meaning of its numbers depends on the kind and on the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    kind: u8,
    place: u32,
    other: u32,
    number: u64,
}

/// An input: a valid one, and the changes to it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    base: u32,
    changes: Vec<Change>,
}

/// Cases of up to a dozen changes, mostly of a few: with more changes, inputs are refused earlier.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    let change = (0..12_u8, any::<u32>(), any::<u32>(), any::<u64>())
        .prop_map(|(kind, place, other, number)| Change { kind, place, other, number });
    let changes = prop_oneof![3 => vec(change.clone(), 1..3), 1 => vec(change, 3..12)];
    (any::<u32>(), changes).prop_map(|(base, changes)| Case { base, changes })
}

/// A description of an input format.
pub(crate) struct Format {
    /// Valid inputs.
    pub(crate) bases: Vec<Vec<u8>>,
    /// Words with a meaning in the format.
    pub(crate) words: Vec<Vec<u8>>,
    /// The offsets of its fields.
    pub(crate) fields: fn(&[u8]) -> Vec<usize>,
}

impl Format {
    /// Applies the changes of a case.
    pub(crate) fn make(&self, case: &Case) -> Vec<u8> {
        let mut bytes = pick(&self.bases, case.base).cloned().unwrap_or_default();
        for change in &case.changes {
            self.change(&mut bytes, change);
            bytes.truncate(LONGEST);
        }
        bytes
    }

    fn change(&self, bytes: &mut Vec<u8>, change: &Change) {
        let Change { kind, place, other, number } = *change;
        let at = within(place, bytes.len() + 1);
        let (from, to) = range(place, other, bytes.len());
        match kind {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (number % 8);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = number as u8;
                }
            }
            // Writes a number into a field, little-endian or big-endian, of 1, 2, 4 or 8 bytes.
            2..=4 => {
                let fields = (self.fields)(bytes);
                let at = pick(&fields, place).copied().unwrap_or(at);
                let number =
                    if kind == 4 { number } else { pick(&NUMBERS, number as u32).copied().unwrap_or(0) };
                let length = 1 << (other % 4);
                let number =
                    if other & 4 == 0 { number.to_le_bytes() } else { number.swap_bytes().to_le_bytes() };
                let number = if other & 4 == 0 { &number[..length] } else { &number[8 - length..] };
                overwrite(bytes, at, number);
            }
            5 => {
                if let Some(word) = pick(&self.words, other) {
                    bytes.splice(at..at, word.iter().copied());
                }
            }
            6 => {
                if let Some(word) = pick(&self.words, other) {
                    overwrite(bytes, at, word);
                }
            }
            7 => drop(bytes.drain(from..to)),
            8 => {
                let copy = bytes[from..to].repeat(1 + number as usize % 3);
                bytes.splice(to..to, copy);
            }
            9 => bytes[from..to].reverse(),
            10 => bytes.truncate(at),
            // Joins the front of one input and the back of another.
            _ => {
                if let Some(base) = pick(&self.bases, number as u32) {
                    bytes.truncate(at);
                    bytes.extend_from_slice(&base[at.min(base.len())..]);
                }
            }
        }
    }
}

/// For formats without fields at known offsets.
pub(crate) fn no_fields(_: &[u8]) -> Vec<usize> {
    Vec::new()
}

/// Words as bytes.
pub(crate) fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn pick<T>(values: &[T], number: u32) -> Option<&T> {
    values.get(within(number, values.len()))
}

/// Maps a number evenly to 0..`end`. Neighbours stay neighbours, which helps to simplify cases.
fn within(number: u32, end: usize) -> usize {
    ((u64::from(number) * end as u64) >> 32) as usize
}

/// A range within `length` bytes, mostly a short one.
fn range(place: u32, other: u32, length: usize) -> (usize, usize) {
    let from = within(place, length + 1);
    let longest = if other.is_multiple_of(4) { length } else { 24 };
    let to = from + within(other.rotate_left(16), longest + 1);
    (from, to.min(length))
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(with) {
        *place = *byte;
    }
}
