//! Arbitrary rows.

use proptest::prelude::*;

use super::*;

/// A document with some places overwritten by pieces that matter to it.
fn mutated_rows() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&[u8]; 11] = [b"{", b"}", b"\"", b",", b":", b"null", b"[", b"\\", b"\xff", b"1e9", b"{}"];
    let piece = prop::sample::select(&PIECES[..]);
    let cut = (any::<prop::sample::Index>(), 0..8_usize, piece);
    (any::<bool>(), prop::collection::vec(cut, 0..5)).prop_map(|(delete, cuts)| {
        let mut bytes = if delete { real_delete() } else { real_post() }.to_string().into_bytes();
        for (at, removed, inserted) in cuts {
            let start = at.index(bytes.len() + 1);
            let end = (start + removed).min(bytes.len());
            bytes.splice(start..end, inserted.iter().copied());
        }
        bytes
    })
}

fn fields() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        Just(None),
        Just(Some(Vec::new())),
        any::<Vec<u8>>().prop_map(Some),
        mutated_rows().prop_map(Some)
    ]
}

proptest! {
    #[test]
    fn every_row_gets_a_valid_verdict(
        id in any::<i64>(), at_uri in fields(), did in fields(), raw_post in prop_oneof![fields(), mutated_rows().prop_map(Some)]
    ) {
        fn field(bytes: &Option<Vec<u8>>) -> Field<'_> {
            bytes.as_deref().map_or(Field::Null, Field::Text)
        }
        for id in [id, 1] {
            for at_uri in [field(&at_uri), Field::Text(URI.as_bytes())] {
                let row = Row { id, at_uri, did: field(&did), raw_post: field(&raw_post), inferences: Field::Null };
                match classify(&row) {
                    Verdict::Post(Post { at_uri, .. }) | Verdict::Delete(Deletion { at_uri, .. }) => {
                        prop_assert!(!at_uri.is_empty() && at_uri.len() <= MAX_ID_BYTES);
                        prop_assert!((0..MAX_ROW_ID).contains(&id));
                        let text = str::from_utf8(raw_post.as_deref().unwrap_or_default()).unwrap();
                        prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
                    }
                    Verdict::DeleteAccount(AccountDeletion { did, .. }) => {
                        prop_assert!(did.starts_with("did:") && did.len() <= MAX_ID_BYTES);
                    }
                    Verdict::Skip(_) => {}
                    Verdict::Reject(rejection) => prop_assert!(!rejection.name.is_empty() && !rejection.reason.is_empty()),
                }
            }
        }
    }

    #[test]
    fn arbitrary_inferences_never_panic(inferences in fields()) {
        let field = inferences.as_deref().map_or(Field::Other, Field::Text);
        let _ = EmbeddingDecoder::new().decode(field, "");
    }
}
