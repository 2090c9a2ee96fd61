//! Which archives a bucket holds: all pages of its listing, put in order.

use std::collections::HashMap;
use std::io::Read;
use std::time::Duration;

use s3::serde_types::ListBucketResult;

use super::client::{Client, GetError, has_url};
use super::insistence::Insistence;
use super::watched::Watched;
use super::{Object, address};
use crate::config::s3::S3;
use crate::exit::{ExitCode, Failure};
use crate::http::TransportError;
use crate::pipeline::Archive;
use crate::pipeline::source::{ARCHIVE_SUFFIX, Discovery, LeftOut, sort};
use crate::shutdown::Stop;
use crate::timestamp::{archive_seconds, parse_rfc3339_millis};

/// Bytes of one page at most: a thousand keys of the longest kind, encoded, have some 4 MB.
const PAGE_BYTES: u64 = 16 << 20;

/// Time for the body of one page. A server that takes longer is as good as none.
const PAGE_LIMIT: Duration = Duration::from_secs(90);

/// Archives, and the objects that they are, by name.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) discovery: Discovery,
    pub(super) objects: HashMap<String, Object>,
}

/// Lists all archives below the prefix.
///
/// # Errors
///
/// Where the listing is refused (exit code 5), S3 is unavailable past the budget (4), there is no such bucket or two
/// keys end in the same name (2), the listing leads nowhere (1), or the run is to stop.
pub(super) fn list(
    client: &Client,
    settings: &S3,
    stop: &Stop,
    budget: Option<Duration>,
) -> Result<Listing, Failure> {
    let mut keys = Vec::new();
    let mut token: Option<String> = None;
    loop {
        // Pages that come quickly enough would never be waited for.
        if stop.is_requested() {
            return Err(stop.as_failure());
        }
        let mut insistence = Insistence::new(stop, budget);
        let page = loop {
            match page(client, &settings.prefix, token.as_deref(), stop) {
                Ok(page) => break page,
                Err(GetError::Unavailable { why, retry_after }) => {
                    insistence.failed(&format!("the listing of {}: {why}", settings.bucket), retry_after)?;
                }
                Err(error) => return Err(cannot_list(&settings.bucket, error)),
            }
        };
        keys.extend(page.keys);
        match page.next {
            // A server that repeats itself would be asked for ever.
            Some(next) if token.as_ref() == Some(&next) => {
                let error = GetError::Other("the next page is the same one again".to_owned());
                return Err(cannot_list(&settings.bucket, error));
            }
            Some(next) => token = Some(next),
            None => return sort_out(&settings.bucket, keys),
        }
    }
}

fn cannot_list(bucket: &str, error: GetError) -> Failure {
    let (code, why) = match error {
        GetError::Refused(why) | GetError::Denied(why) | GetError::Expired(why) => (ExitCode::Refused, why),
        GetError::Missing(why) => (ExitCode::Usage, why),
        GetError::Unavailable { why, .. } | GetError::Other(why) => (ExitCode::Failed, why),
        GetError::Changed => (ExitCode::Failed, "S3 answers a condition that was not made".to_owned()),
    };
    Failure::new(
        code,
        format!(
            "the bucket {bucket:?} cannot be listed: {why}; look at S3_SQLITE_DB_BUCKET, AWS_REGION and the \
             credentials, which need s3:ListBucket"
        ),
    )
}

/// One page of a listing.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    keys: Vec<Key>,
    /// What the next page is asked for with.
    next: Option<String>,
}

/// A key as it is listed.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    key: String,
    etag: Option<String>,
    bytes: u64,
    modified: String,
}

fn page(client: &Client, prefix: &str, token: Option<&str>, stop: &Stop) -> Result<Page, GetError> {
    // No `encoding-type`: not every server that confirms it encodes, and the parser takes all that XML leaves out.
    let mut query = vec![("list-type", "2")];
    if !prefix.is_empty() {
        query.push(("prefix", prefix));
    }
    query.extend(token.map(|token| ("continuation-token", token)));
    let mut response = client.get("", &query, &[])?;
    let mut body = Vec::new();
    Watched::new(response.body_mut().as_reader(), PAGE_LIMIT, Some(stop))
        .take(PAGE_BYTES)
        .read_to_end(&mut body)
        .map_err(|error| TransportError::from(ureq::Error::from(error)))?;
    parse_page(&body)
}

/// Reads a page. What cannot be read may be cut off, and is asked for again.
fn parse_page(body: &[u8]) -> Result<Page, GetError> {
    let result: ListBucketResult = std::str::from_utf8(body)
        .map_err(|error| error.to_string())
        .and_then(|text| quick_xml::de::from_str(text).map_err(|error| error.to_string()))
        .map_err(|why| GetError::unavailable(format!("a page of the listing cannot be read: {why}")))?;
    if result.is_truncated && result.next_continuation_token.is_none() {
        let why =
            "there are more keys, but no token to ask for them with (does the server know list-type=2?)";
        return Err(GetError::Other(why.to_owned()));
    }
    let keys = result.contents.into_iter().map(|object| Key {
        key: object.key,
        etag: object.e_tag,
        bytes: object.size,
        modified: object.last_modified,
    });
    Ok(Page { keys: keys.collect(), next: result.next_continuation_token.filter(|_| result.is_truncated) })
}

/// Keeps what is an archive by its name, each name once, in the order in which archives are taken up.
fn sort_out(bucket: &str, keys: Vec<Key>) -> Result<Listing, Failure> {
    let mut listing = Listing::default();
    for Key { key, etag, bytes, modified } in keys {
        let name = key.rsplit('/').next().unwrap_or_default().to_owned();
        if !name.ends_with(ARCHIVE_SUFFIX) {
            continue;
        }
        if !has_url(&key) {
            let reason = "no URL leads to a key with . or .. between its slashes".to_owned();
            listing.discovery.left_out.push(LeftOut { path: address(bucket, &key).into(), reason });
            continue;
        }
        let object = Object { key, etag, bytes };
        if let Some(first) = listing.objects.get(&name) {
            return Err(Failure::usage(format!(
                "{:?} and {:?} are different objects of the same name, by which archives are told apart: rename one, \
                 or narrow S3_SQLITE_DB_PREFIX",
                address(bucket, &first.key),
                address(bucket, &object.key)
            )));
        }
        listing.objects.insert(name.clone(), object);
        listing.discovery.archives.push(Archive {
            seconds: archive_seconds(&name),
            name,
            path: Default::default(),
            bytes,
            modified_ns: i128::from(parse_rfc3339_millis(&modified).unwrap_or_default()) * 1_000_000,
        });
    }
    sort(&mut listing.discovery.archives);
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xml(more: &str, keys: &[&str]) -> Vec<u8> {
        let contents: String = keys
            .iter()
            .map(|key| {
                format!(
                    "<Contents><Key>{key}</Key><LastModified>2025-12-18T00:00:00.000Z</LastModified>\
                     <ETag>&quot;e&quot;</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass></Contents>"
                )
            })
            .collect();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><Prefix></Prefix>\
             <KeyCount>{}</KeyCount><MaxKeys>1000</MaxKeys>{more}{contents}</ListBucketResult>",
            keys.len()
        )
        .into_bytes()
    }

    fn key(key: &str) -> Key {
        let modified = "2025-12-18T00:00:00.000Z".to_owned();
        Key { key: key.into(), etag: Some("\"e\"".into()), bytes: 7, modified }
    }

    #[test]
    fn pages_are_read_and_characters_that_xml_has_not_are_taken() {
        let more = "<IsTruncated>true</IsTruncated><NextContinuationToken>1/a+b==</NextContinuationToken>";
        let page = parse_page(&xml(more, &["a/ b+%2B\u{1f331}&#x1;&#10;.db.zip", "d"])).unwrap();
        assert_eq!(page.keys, [key("a/ b+%2B\u{1f331}\u{1}\n.db.zip"), key("d")]);
        assert_eq!(page.next.as_deref(), Some("1/a+b=="));
        let last = parse_page(&xml("<IsTruncated>false</IsTruncated>", &["a+b &amp; c"])).unwrap();
        assert_eq!((last.keys, last.next), (vec![key("a+b & c")], None));
        let empty = parse_page(&xml("<IsTruncated>false</IsTruncated>", &[])).unwrap();
        assert_eq!((empty.keys, empty.next), (vec![], None));
    }

    #[test]
    fn more_keys_without_a_token_are_an_error_and_what_is_cut_off_is_asked_for_again() {
        let truncated = xml("<IsTruncated>true</IsTruncated>", &["a"]);
        assert!(matches!(parse_page(&truncated), Err(GetError::Other(_))));
        for body in [&truncated[..truncated.len() - 40], b"", b"<html></html>", b"\xff"] {
            assert!(matches!(parse_page(body), Err(GetError::Unavailable { .. })), "{body:?}");
        }
    }

    #[test]
    fn archives_are_known_by_the_last_segment_and_come_in_the_order_of_time() {
        let keys = [
            "p/z.db.zip",
            "p/2/b_20251218_000200.db.zip",
            "p/a_20251218_000100.db.zip",
            "c_20251217_000000.db.zip",
            "p/c.db",
            "p/.db.zip/",
        ];
        let listing = sort_out("b", keys.map(key).into()).unwrap();
        let names: Vec<_> = listing.discovery.archives.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(
            names,
            ["c_20251217_000000.db.zip", "z.db.zip", "a_20251218_000100.db.zip", "b_20251218_000200.db.zip"]
        );
        let archive = &listing.discovery.archives[1];
        assert_eq!((archive.seconds, archive.bytes), (None, 7));
        assert_eq!(archive.modified_ns, 1_766_016_000_000_000_000);
        assert_eq!(listing.objects["b_20251218_000200.db.zip"].key, "p/2/b_20251218_000200.db.zip");
    }

    #[test]
    fn two_keys_of_one_name_are_an_error_that_names_both() {
        let failure = sort_out("b", vec![key("1/a.db.zip"), key("2/a.db.zip")]).unwrap_err();
        assert_eq!(failure.code, ExitCode::Usage);
        assert!(
            failure.message.contains("s3://b/1/a.db.zip") && failure.message.contains("s3://b/2/a.db.zip")
        );
    }

    #[test]
    fn a_key_that_no_url_leads_to_is_left_out_with_the_reason() {
        let listing = sort_out("b", vec![key("../a.db.zip")]).unwrap();
        assert!(listing.discovery.archives.is_empty());
        assert!(listing.discovery.left_out[0].reason.contains(".."));
    }
}
