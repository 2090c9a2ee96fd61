//! Credentials that cannot be printed by accident.

use std::fmt;

use memchr::memmem::Finder;

use crate::common::text::percent_encoded;

/// The minimum length of a masked credential, in bytes. A shorter one would match unrelated text.
const MIN_MASKED_BYTES: usize = 8;

/// Replacement for a credential.
const MASK: &[u8] = b"[secret]";

/// A credential. `Debug` hides it, and only [`Secret::expose`] returns its text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text of a credential.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for the one header or signature that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Masks the credential wherever it occurs in a reply, in plain, percent-encoded, JSON-escaped and base64 form. A
    /// server or proxy may quote the request, and replies end up in logs and dead letters.
    pub fn cut_out_of(&self, text: &mut Vec<u8>) {
        let mut forms = vec![self.0.clone()];
        let mut add = |form: String| (!forms.contains(&form)).then(|| forms.push(form));
        add(percent_encoded(&self.0));
        add(self.0.replace('\\', "\\\\").replace('"', "\\\""));
        add(self.0.replace('/', "\\/"));
        // Without padding, which is only there at the end of the encoded text.
        add(base64_simd::STANDARD.encode_to_string(&self.0).trim_end_matches('=').to_owned());
        for form in &forms {
            mask(form.as_bytes(), text);
        }
    }
}

fn mask(form: &[u8], text: &mut Vec<u8>) {
    if form.len() < MIN_MASKED_BYTES {
        return;
    }
    let mut from = 0;
    let finder = Finder::new(form);
    while let Some(at) = text.get(from..).and_then(|rest| finder.find(rest)) {
        let start = from + at;
        text.splice(start..start + form.len(), MASK.iter().copied());
        from = start + MASK.len();
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
    fn a_secret_is_masked_wherever_it_is_quoted() {
        for (secret, text, left) in [
            ("hunter2hunter2", "key hunter2hunter2, again hunter2hunter2", "key [secret], again [secret]"),
            ("hunter2hunter2", "hunter2hunter2hunter2hunter2", "[secret][secret]"),
            ("hunter2hunter2", "hunter2hunter", "hunter2hunter"),
            ("[secret]", "[secret]", "[secret]"),
            ("short", "short", "short"),
            ("", "", ""),
            ("pass word/1", "pass%20word%2F1 pass word\\/1 cGFzcyB3b3JkLzE=", "[secret] [secret] [secret]="),
            ("say \"please\"", r#"{"reason":"say \"please\""}"#, r#"{"reason":"[secret]"}"#),
        ] {
            let mut text = text.as_bytes().to_vec();
            Secret::new(secret).cut_out_of(&mut text);
            assert_eq!(String::from_utf8(text).unwrap(), left);
        }
    }
}
