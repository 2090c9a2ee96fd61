//! Parses the answer to a multi get with `_source`. Pure.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Number;
use serde_json::value::RawValue;

use super::{Answer, ItemError, UNKNOWN_VERSION};

/// A document that was found, with its content.
#[derive(Clone, Copy, Debug)]
pub struct FoundContent<'b> {
    /// Version of the document.
    pub version: u64,
    /// `_source` as the server returns it; None: the server returns none.
    pub source: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Reply<'b> {
    #[serde(borrow)]
    docs: Vec<Doc<'b>>,
}

#[derive(Deserialize)]
struct Doc<'b> {
    #[serde(borrow, rename = "_id")]
    id: Cow<'b, str>,
    found: Option<bool>,
    #[serde(rename = "_version")]
    version: Option<Number>,
    #[serde(borrow, rename = "_source")]
    source: Option<&'b RawValue>,
    error: Option<ItemError>,
}

/// Returns the document of each id; None: there is none.
///
/// # Errors
///
/// Returns `Answer::Retry` if the answer cannot be read or does not fit the request. An error of a document becomes the
/// answer for the whole look-up.
pub fn judge_contents<'b>(body: &'b [u8], ids: &[&str]) -> Result<Vec<Option<FoundContent<'b>>>, Answer> {
    let unreadable = |what: String| Answer::Retry(format!("an answer that does not fit the look-up: {what}"));
    let reply: Reply<'b> = serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))?;
    if reply.docs.len() != ids.len() {
        return Err(unreadable(format!("{} documents for {} ids", reply.docs.len(), ids.len())));
    }
    let judge = |(doc, id): (Doc<'b>, &&str)| match doc {
        Doc { error: Some(error), .. } => Err(error.look_up_answer()),
        Doc { id: got, found: Some(false), .. } if got == **id => Ok(None),
        Doc { id: got, found: Some(true), version, source, .. } if got == **id => {
            let version = version.and_then(|version| version.as_u64()).unwrap_or(UNKNOWN_VERSION);
            Ok(Some(FoundContent { version, source }))
        }
        _ => Err(unreadable("a document that was not requested".into())),
    };
    reply.docs.into_iter().zip(ids).map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_returned_unchanged() {
        let body = br#"{"docs":[{"_id":"a","found":true,"_version":7,"_source":{"x": 1}},{"_id":"b","found":false}]}"#;
        let found = judge_contents(body, &["a", "b"]).unwrap();
        let first = found[0].unwrap();
        assert_eq!((first.version, first.source.unwrap().get()), (7, r#"{"x": 1}"#));
        assert!(found[1].is_none());
    }

    #[test]
    fn an_answer_to_another_request_is_retried() {
        let body = br#"{"docs":[{"_id":"a","found":true,"_version":7}]}"#;
        for ids in [&["b"][..], &["a", "b"], &[]] {
            assert!(matches!(judge_contents(body, ids), Err(Answer::Retry(_))), "{ids:?}");
        }
        assert!(matches!(judge_contents(b"<html>", &["a"]), Err(Answer::Retry(_))));
        let refused = br#"{"docs":[{"_id":"a","error":{"type":"security_exception","reason":"no"}}]}"#;
        assert!(matches!(judge_contents(refused, &["a"]), Err(Answer::Stop(_))));
    }
}
