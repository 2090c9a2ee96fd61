//! Changes of bytes: blind ones, and ones that know where the format has its fields.

use proptest::collection::vec;
use proptest::prelude::*;

/// An input that is longer is cut off: length is for the integration tests.
const LONGEST: usize = 256 << 10;

/// Numbers at which programs go wrong.
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

/// One change. What the numbers mean depends on the kind and on what is changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    kind: u8,
    place: u32,
    other: u32,
    number: u64,
}

/// An input in the making: one of the valid ones, and what is done to it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    base: u32,
    changes: Vec<Change>,
}

/// Cases of up to a dozen changes, mostly of a few: the more there are, the sooner an input is refused.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    let change = (0..12_u8, any::<u32>(), any::<u32>(), any::<u64>())
        .prop_map(|(kind, place, other, number)| Change { kind, place, other, number });
    let changes = prop_oneof![3 => vec(change.clone(), 1..3), 1 => vec(change, 3..12)];
    (any::<u32>(), changes).prop_map(|(base, changes)| Case { base, changes })
}

/// What a format's inputs are made of.
pub(crate) struct Format {
    /// Valid inputs.
    pub(crate) bases: Vec<Vec<u8>>,
    /// Words that mean something in it.
    pub(crate) words: Vec<Vec<u8>>,
    /// Where its fields are.
    pub(crate) fields: fn(&[u8]) -> Vec<usize>,
}

impl Format {
    /// Carries out the changes of a case.
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
            // A number in a field, little-endian or big-endian, of 1, 2, 4 or 8 bytes.
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
            // The front of one input and the back of another.
            _ => {
                if let Some(base) = pick(&self.bases, number as u32) {
                    bytes.truncate(at);
                    bytes.extend_from_slice(&base[at.min(base.len())..]);
                }
            }
        }
    }
}

/// Formats without fields at known places.
pub(crate) fn no_fields(_: &[u8]) -> Vec<usize> {
    Vec::new()
}

/// The words, as bytes.
pub(crate) fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn pick<T>(values: &[T], number: u32) -> Option<&T> {
    values.get(within(number, values.len()))
}

/// A number below `end`, spread evenly: neighbours stay neighbours, which helps to simplify a case.
fn within(number: u32, end: usize) -> usize {
    ((u64::from(number) * end as u64) >> 32) as usize
}

/// A piece of `length` bytes; mostly a short one.
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
