//! A value that cannot be printed.

use std::fmt;

/// A credential. Neither `Debug` nor anything else prints it; [`Secret::expose`] is the only way to its text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text of a credential.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one header or signature that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Shorter credentials are no secrets, and would be found where they are not meant.
const SHORTEST_CUT_OUT: usize = 8;

/// What takes the place of a credential.
const MASK: &[u8] = b"[secret]";

impl Secret {
    /// Replaces the credential wherever it stands in a text of somebody else's: a server, or a proxy before it, may
    /// quote what it was sent, and what it says ends up in logs and dead letters.
    pub fn cut_out_of(&self, text: &mut Vec<u8>) {
        let secret = self.0.as_bytes();
        if secret.len() < SHORTEST_CUT_OUT {
            return;
        }
        let mut from = 0;
        let find = |text: &[u8]| text.windows(secret.len()).position(|window| window == secret);
        while let Some(at) = text.get(from..).and_then(find) {
            let start = from + at;
            text.splice(start..start + secret.len(), MASK.iter().copied());
            from = start + MASK.len();
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2"))), "Some([secret])");
    }

    #[test]
    fn a_secret_is_cut_out_wherever_it_is_quoted() {
        for (secret, text, left) in [
            ("hunter2hunter2", "key hunter2hunter2, again hunter2hunter2", "key [secret], again [secret]"),
            ("hunter2hunter2", "hunter2hunter2hunter2hunter2", "[secret][secret]"),
            ("hunter2hunter2", "hunter2hunter", "hunter2hunter"),
            ("[secret]", "[secret]", "[secret]"),
            ("short", "short", "short"),
            ("", "", ""),
        ] {
            let mut text = text.as_bytes().to_vec();
            Secret::new(secret).cut_out_of(&mut text);
            assert_eq!(String::from_utf8(text).unwrap(), left);
        }
    }
}
