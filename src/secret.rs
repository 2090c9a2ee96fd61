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
    /// quote what it was sent, and what it says ends up in logs and dead letters. It is found as it is,
    /// percent-encoded, escaped for JSON, and in base64.
    pub fn cut_out_of(&self, text: &mut Vec<u8>) {
        let mut forms = vec![self.0.clone()];
        let mut add = |form: String| (!forms.contains(&form)).then(|| forms.push(form));
        add(percent_encoded(&self.0));
        add(self.0.replace('\\', "\\\\").replace('"', "\\\""));
        add(self.0.replace('/', "\\/"));
        // Padding depends on what follows.
        add(base64_simd::STANDARD.encode_to_string(&self.0).trim_end_matches('=').to_owned());
        for form in &forms {
            cut_out(form.as_bytes(), text);
        }
    }
}

fn percent_encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

fn cut_out(form: &[u8], text: &mut Vec<u8>) {
    if form.len() < SHORTEST_CUT_OUT {
        return;
    }
    let mut from = 0;
    let find = |text: &[u8]| text.windows(form.len()).position(|window| window == form);
    while let Some(at) = text.get(from..).and_then(find) {
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
    fn a_secret_is_cut_out_wherever_it_is_quoted() {
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
