//! Parses one page of a listing. Elements that are not used may be present or missing.
//!
//! Source: Amazon S3 API Reference, "ListObjectsV2". Replies of other servers were observed.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};

use super::super::client::{GetError, judge_late, printable};
use crate::model::bare_etag;

/// One page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) keys: Vec<Key>,
    /// Common prefixes of keys, if a delimiter was requested.
    pub(super) groups: Vec<String>,
    /// The token for the next page.
    pub(super) next: Option<String>,
    /// Number of entries whose key is missing or not UTF-8.
    pub(super) unreadable: usize,
    /// Why it could not be read to its end: it is cut off, or it is not valid XML.
    pub(super) broken: Option<String>,
    /// Whether keys were encoded.
    pub(super) is_encoded: bool,
}

/// A listed key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) key: String,
    pub(super) etag: Option<String>,
    /// Size in bytes. None if it is missing or not a number.
    pub(super) bytes: Option<u64>,
    /// Modification time as listed; empty if missing.
    pub(super) modified: String,
    /// Storage class, if listed.
    pub(super) storage_class: Option<String>,
    /// Whether an archived object has a restored copy, which is available for a while.
    pub(super) is_restored: bool,
    /// Whether the server may have replaced some characters of the key.
    pub(super) is_garbled: bool,
}

impl Page {
    /// Whether an encoded listing may help: the server may have replaced characters that XML cannot hold.
    pub(super) fn may_need_encoding(&self) -> bool {
        !self.is_encoded
            && (self.broken.is_some() || self.unreadable > 0 || self.keys.iter().any(Key::may_be_garbled))
    }

    /// Marks keys as garbled, after an encoded listing was not available either.
    pub(super) fn mark_garbled(&mut self) {
        if !self.is_encoded {
            self.keys.iter_mut().for_each(|key| key.is_garbled = key.may_be_garbled());
        }
    }
}

impl Key {
    fn may_be_garbled(&self) -> bool {
        self.key.contains('\u{fffd}')
    }
}

/// The elements read so far.
#[derive(Default)]
struct Elements {
    keys: Vec<ListedKey>,
    groups: Vec<String>,
    is_truncated: Option<bool>,
    next: Option<String>,
    is_encoded: bool,
    error: (String, String),
}

/// The elements of one entry.
#[derive(Default)]
struct ListedKey {
    key: Option<Vec<u8>>,
    rest: Key,
}

/// Parses a page. `host` is for messages.
///
/// # Errors
///
/// [`GetError`] if the reply is not a listing, or reports an error.
pub(super) fn parse(host: &str, body: &[u8]) -> Result<Page, GetError> {
    let elements = match read(host, body) {
        Ok(elements) => elements,
        Err(Unread::Broken(why)) => return Ok(Page { broken: Some(why), ..Page::default() }),
        Err(Unread::Other(error)) => return Err(error),
    };
    // Some servers confirm encoding but do not encode.
    let is_encoded = elements.is_encoded
        && elements.keys.iter().flat_map(|listed| &listed.key).all(|key| is_url_encoded(key));
    let mut page = Page { is_encoded, groups: elements.groups, ..Page::default() };
    for ListedKey { key, rest } in elements.keys {
        let key = key.map(|key| if is_encoded { url_decoded(&key) } else { key });
        match key.and_then(|key| String::from_utf8(key).ok()) {
            Some(key) => page.keys.push(Key { key, ..rest }),
            None => page.unreadable += 1,
        }
    }
    let next = elements.next.filter(|token| !token.is_empty());
    if elements.is_truncated == Some(true) && next.is_none() {
        let why = format!(
            "{host} says that there are more keys, but gives no token for the next page (does it support \
             list-type=2?)"
        );
        return Err(GetError::Other(why));
    }
    page.next = next.filter(|_| elements.is_truncated != Some(false));
    Ok(page)
}

/// Why a page was not parsed.
enum Unread {
    /// It is a listing, but cut off or not valid XML.
    Broken(String),
    /// It is not a listing.
    Other(GetError),
}

/// Reads the elements. Ignores namespaces.
fn read(host: &str, body: &[u8]) -> Result<Elements, Unread> {
    let broken = |why: String| Unread::Broken(format!("{host}: a page of the listing cannot be read: {why}"));
    let no_listing = || {
        let text = printable(&String::from_utf8_lossy(body.get(..1000).unwrap_or(body)));
        Unread::Other(GetError::Other(format!(
            "the answer of {host} is not a listing of S3: {text:?}; check AWS_ENDPOINT_URL_S3 (host, port, \
             path)"
        )))
    };
    // Cut off before its first element, as by a gateway that sends no length.
    let begins = |start: &[u8]| !body.is_empty() && (body.starts_with(start) || start.starts_with(body));
    let ended_early = || match begins(b"<?xml") || begins(b"<ListBucketResult") {
        true => broken("it ends at its beginning".to_owned()),
        false => no_listing(),
    };
    let mut reader = Reader::from_reader(body);
    reader.config_mut().check_end_names = false;
    reader.config_mut().allow_unmatched_ends = true;
    let mut elements = Elements::default();
    let mut path: Vec<Vec<u8>> = Vec::new();
    let mut text: Vec<u8> = Vec::new();
    let mut is_listing = false;
    loop {
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) if is_listing => return Err(broken(error.to_string())),
            Err(_) if path.is_empty() => return Err(ended_early()),
            Err(_) => return Err(no_listing()),
        };
        match event {
            Event::Start(element) => {
                let name = element.local_name().as_ref().to_vec();
                if path.is_empty() {
                    is_listing = name == b"ListBucketResult";
                    if !is_listing && name != b"Error" {
                        return Err(no_listing());
                    }
                }
                begin(&mut elements, &path, &name);
                path.push(name);
                text.clear();
            }
            Event::Empty(element) => {
                let name = element.local_name().as_ref().to_vec();
                if path.is_empty() {
                    return if name == b"ListBucketResult" { Ok(elements) } else { Err(no_listing()) };
                }
                begin(&mut elements, &path, &name);
            }
            Event::Text(part) => text.extend_from_slice(&part),
            Event::CData(part) => text.extend_from_slice(&part),
            Event::GeneralRef(reference) => text.extend(resolve(&reference)),
            Event::End(_) => {
                end(&mut elements, &path, std::mem::take(&mut text));
                path.pop();
                if path.is_empty() {
                    break;
                }
            }
            Event::Eof if is_listing => return Err(broken("it ends in the middle".to_owned())),
            Event::Eof => return Err(ended_early()),
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => {}
        }
    }
    if is_listing {
        Ok(elements)
    } else {
        Err(Unread::Other(judge_late(host, &elements.error.0, &elements.error.1)))
    }
}

/// Handles the start of an element below `path`.
fn begin(elements: &mut Elements, path: &[Vec<u8>], name: &[u8]) {
    if path.len() == 1 && name == b"Contents" {
        elements.keys.push(ListedKey::default());
    }
}

/// Handles the end of the last element of `path`, with its text.
fn end(elements: &mut Elements, path: &[Vec<u8>], text: Vec<u8>) {
    // Deeper elements are not used.
    let names: Vec<&[u8]> = path.iter().skip(1).take(4).map(Vec::as_slice).collect();
    let words = || String::from_utf8_lossy(&text).trim().to_owned();
    match names[..] {
        [b"IsTruncated"] => {
            elements.is_truncated = Some(words().eq_ignore_ascii_case("true") || words() == "1")
        }
        [b"NextContinuationToken"] => elements.next = Some(words()),
        [b"EncodingType"] => elements.is_encoded = words().eq_ignore_ascii_case("url"),
        [b"CommonPrefixes", b"Prefix"] => elements.groups.push(String::from_utf8_lossy(&text).into_owned()),
        [b"Code"] => elements.error.0 = words(),
        [b"Message"] => elements.error.1 = words(),
        [b"Contents", ref below @ ..] => {
            let Some(ListedKey { key, rest }) = elements.keys.last_mut() else { return };
            match below {
                [b"Key"] => *key = Some(text),
                [b"ETag"] => rest.etag = Some(words()).filter(|etag| !bare_etag(etag).is_empty()),
                [b"Size"] => rest.bytes = words().parse().ok(),
                [b"LastModified"] => rest.modified = words(),
                [b"StorageClass"] => rest.storage_class = Some(words()).filter(|class| !class.is_empty()),
                [b"RestoreStatus", b"RestoreExpiryDate"] => rest.is_restored = true,
                _ => {}
            }
        }
        _ => {}
    }
}

/// Resolves a reference, even to a character that XML does not allow. Keeps an unknown reference unchanged.
fn resolve(reference: &BytesRef<'_>) -> Vec<u8> {
    let name = reference.as_ref();
    let text = std::str::from_utf8(name).unwrap_or_default();
    let number = text.strip_prefix('#').and_then(|digits| match digits.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    });
    match (number.and_then(char::from_u32), resolve_predefined_entity(text)) {
        (Some(character), _) => character.to_string().into_bytes(),
        (None, Some(known)) => known.as_bytes().to_vec(),
        (None, None) => [b"&", name, b";"].concat(),
    }
}

/// Whether a text may be URL-encoded: it has none of the characters that every encoder replaces, such as blanks, quotes,
/// non-ASCII letters or a literal percent sign.
fn is_url_encoded(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~*/+!'(),:@$;=".contains(byte);
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'%' => match after {
                [a, b, after @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => after,
                _ => return false,
            },
            byte if is_plain(byte) => after,
            _ => return false,
        };
    }
    true
}

/// Decodes `encoding-type=url`. Some servers write a blank as `+`; all write a plus sign as `%2B`.
fn url_decoded(text: &[u8]) -> Vec<u8> {
    let with_blanks: Vec<u8> = text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    percent_encoding::percent_decode(&with_blanks).collect()
}

#[cfg(test)]
mod tests;
