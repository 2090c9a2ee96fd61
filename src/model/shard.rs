//! The share of the archives that a process takes (`--shard I/N`).

use std::fmt;

use crate::common::text::digits;

/// A share of the archives: those for which the hash of the name, modulo `count`, is `index`.
///
/// Processes with the same count and different indices never take the same archive. Together they take all archives,
/// without communicating. The hash is FNV-1a (64 bits) of the name's bytes. It must never change: a change would assign
/// archives to processes that do not know their state.
///
/// Source of the hash: RFC 9923, "The FNV Non-Cryptographic Hash Algorithm".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    /// The share of all archives.
    pub const ALL: Self = Self { index: 0, count: 1 };

    /// Creates share `index` (0-based) of `count`. None unless `index` is less than `count`.
    pub fn new(index: u32, count: u32) -> Option<Self> {
        (index < count).then_some(Self { index, count })
    }

    /// Parses `I/N`, as in `0/4`.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.split_once('/')
            .and_then(|(index, count)| Self::new(digits(index)?, digits(count)?))
            .ok_or_else(|| "it takes I/N, with I from 0 to N - 1".to_owned())
    }

    /// Whether the archive of this name belongs to this share.
    pub fn takes(&self, name: &str) -> bool {
        fnv1a(name.as_bytes()) % u64::from(self.count) == u64::from(self.index)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_shard_of_an_archive_never_changes() {
        let shard_of = |name| (0..8).find(|index| Shard { index: *index, count: 8 }.takes(name));
        assert_eq!(shard_of("mega_jetstream_20251218_000000.db.zip"), Some(3));
        assert_eq!(shard_of("mega_jetstream_20251218_000500.db.zip"), Some(2));
        assert_eq!(shard_of("mega_jetstream_20251218_001000.db.zip"), Some(0));
    }

    #[test]
    fn shards_divide_archives_evenly_and_without_overlap() {
        let shards: Vec<_> = (0..4).map(|index| Shard::parse(&format!("{index}/4")).unwrap()).collect();
        let mut taken = [0; 4];
        for hour in 0..24 {
            for minute in (0..60).step_by(5) {
                let name = format!("mega_jetstream_20251218_{hour:02}{minute:02}00.db.zip");
                let takers: Vec<_> = (0..4).filter(|n| shards[*n].takes(&name)).collect();
                assert_eq!(takers.len(), 1);
                taken[takers[0]] += 1;
            }
        }
        assert!(taken.iter().all(|n| (40..=110).contains(n)), "{taken:?}");
    }

    #[test]
    fn a_malformed_shard_is_refused_with_the_expected_form() {
        for text in [
            "",
            "/",
            "1",
            "1/",
            "/2",
            "2/2",
            "0/0",
            "-1/2",
            "+0/2",
            "0/+2",
            "0/2/3",
            "a/b",
            "0 / 2",
            "0/4294967296",
        ] {
            assert!(Shard::parse(text).unwrap_err().contains("I/N"), "{text:?}");
        }
    }

    #[test]
    fn a_shard_prints_as_it_parses() {
        assert_eq!(Shard::parse("3/16").unwrap().to_string(), "3/16");
        assert!(Shard::ALL.takes("any.db.zip"));
    }
}
