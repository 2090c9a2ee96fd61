//! Parses the members of `raw_post` that are needed. Source: contract, sections 2 and 3.
//!
//! Parsing is lenient: a value of an unexpected type counts as absent. Each object is read into a new value, so the last
//! of duplicate keys wins, with none of the earlier one's members.

use super::json::{Cursor, JsonError, MaybeString, RawStr};

/// The collection of posts.
pub(super) const POSTS: &str = "app.bsky.feed.post";

/// A `raw_post`.
#[derive(Debug, Default)]
pub(super) struct RawPost<'a> {
    pub(super) message: Message<'a>,
    /// The links of `hydrated_metadata`.
    pub(super) hydrated: Links<'a>,
    /// The JSON text of `inferences.text`; `""` if there is none.
    pub(super) scores: &'a str,
}

/// A `message`.
#[derive(Debug, Default)]
pub(super) struct Message<'a> {
    pub(super) kind: Option<RawStr<'a>>,
    pub(super) did: Option<RawStr<'a>>,
    pub(super) time_us: Option<i64>,
    pub(super) commit: Option<Commit<'a>>,
    pub(super) account: Option<Account<'a>>,
}

/// A `message.account`.
#[derive(Debug, Default)]
pub(super) struct Account<'a> {
    pub(super) did: Option<RawStr<'a>>,
    pub(super) status: Option<RawStr<'a>>,
}

/// A `message.commit`.
#[derive(Debug, Default)]
pub(super) struct Commit<'a> {
    pub(super) operation: Option<RawStr<'a>>,
    pub(super) collection: Option<RawStr<'a>>,
    pub(super) record: Option<Record<'a>>,
    /// The JSON text of the record.
    pub(super) record_text: &'a str,
}

/// A `message.commit.record`.
#[derive(Debug, Default)]
pub(super) struct Record<'a> {
    pub(super) text: MaybeString<'a>,
    pub(super) created_at: Option<RawStr<'a>>,
    /// The links of `reply` and `embed`.
    pub(super) links: Links<'a>,
}

/// URIs of other posts; never `""`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links<'a> {
    pub(super) root: Option<RawStr<'a>>,
    pub(super) parent: Option<RawStr<'a>>,
    pub(super) quote: Option<RawStr<'a>>,
}

impl Links<'_> {
    /// Fills missing links in from `other`.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            root: self.root.or(other.root),
            parent: self.parent.or(other.parent),
            quote: self.quote.or(other.quote),
        }
    }
}

/// Parses a `raw_post`.
pub(super) fn read(text: &str) -> Result<RawPost<'_>, JsonError> {
    let mut cursor = Cursor::new(text);
    let post = read_object(&mut cursor, |post: &mut RawPost<'_>, key, cursor| {
        match key {
            "message" => post.message = read_message(cursor)?.unwrap_or_default(),
            "hydrated_metadata" => post.hydrated = read_hydrated(cursor)?.unwrap_or_default(),
            "inferences" => post.scores = read_scores(cursor)?.unwrap_or_default(),
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    cursor.end()?;
    Ok(post.unwrap_or_default())
}

fn read_message<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Message<'a>>, JsonError> {
    read_object(cursor, |message: &mut Message<'a>, key, cursor| {
        match key {
            "kind" => message.kind = cursor.string_or_skip()?.string(),
            "did" => message.did = cursor.string_or_skip()?.string(),
            "time_us" => message.time_us = cursor.integer_or_skip()?,
            "commit" => message.commit = read_commit(cursor)?,
            "account" => message.account = read_account(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

fn read_account<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Account<'a>>, JsonError> {
    read_object(cursor, |account: &mut Account<'a>, key, cursor| {
        match key {
            "did" => account.did = cursor.string_or_skip()?.string(),
            "status" => account.status = cursor.string_or_skip()?.string(),
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

fn read_commit<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Commit<'a>>, JsonError> {
    read_object(cursor, |commit: &mut Commit<'a>, key, cursor| {
        match key {
            "operation" => commit.operation = cursor.string_or_skip()?.string(),
            "collection" => commit.collection = cursor.string_or_skip()?.string(),
            "record" => {
                let place = cursor.place();
                commit.record = read_record(cursor)?;
                commit.record_text = cursor.since(place);
            }
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

fn read_record<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Record<'a>>, JsonError> {
    read_object(cursor, |record: &mut Record<'a>, key, cursor| {
        match key {
            "text" => record.text = cursor.string_or_skip()?,
            "createdAt" => record.created_at = cursor.string_or_skip()?.string(),
            "reply" => (record.links.root, record.links.parent) = read_reply(cursor)?.unwrap_or_default(),
            "embed" => record.links.quote = read_embed(cursor)?.flatten(),
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

/// The URI of another post, if there is one.
type Uri<'a> = Option<RawStr<'a>>;

/// Reads the URIs of a reply's root and parent.
fn read_reply<'a>(cursor: &mut Cursor<'a>) -> Result<Option<(Uri<'a>, Uri<'a>)>, JsonError> {
    read_object(cursor, |(root, parent): &mut (Uri<'a>, Uri<'a>), key, cursor| {
        match key {
            "root" => *root = read_linked(cursor)?,
            "parent" => *parent = read_linked(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

/// Reads the URI of an embedded post: `record.uri`, or `record.record.uri` for a record with media. Embedded lists, feeds
/// and starter packs have the same form but are not quotes.
fn read_embed<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Uri<'a>>, JsonError> {
    read_object(cursor, |quote: &mut Uri<'a>, key, cursor| {
        match key {
            "record" => *quote = read_embedded_record(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

fn read_embedded_record<'a>(cursor: &mut Cursor<'a>) -> Result<Uri<'a>, JsonError> {
    let uris = read_object(cursor, |(outer, inner): &mut (Uri<'a>, Uri<'a>), key, cursor| {
        match key {
            "uri" => *outer = read_uri(cursor)?,
            "record" => *inner = read_linked(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    let names_post = |uri: &RawStr<'a>| collection(&uri.unescape()) == Some(POSTS);
    Ok(uris.and_then(|(outer, inner)| [outer, inner].into_iter().flatten().find(names_post)))
}

/// Whether a URI names something other than a post. A URI without a collection counts as a post.
fn names_no_post(uri: &str) -> bool {
    collection(uri).is_some_and(|collection| collection != POSTS)
}

/// Returns the collection in a URI: `at://AUTHOR/COLLECTION/KEY`.
fn collection(uri: &str) -> Option<&str> {
    let mut segments = uri.strip_prefix("at://")?.splitn(3, '/').skip(1);
    let collection = segments.next()?;
    segments.next().map(|_| collection)
}

/// Reads the JSON text of the member `text`.
fn read_scores<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a str>, JsonError> {
    read_object(cursor, |scores: &mut &'a str, key, cursor| {
        let place = cursor.place();
        cursor.skip()?;
        if key == "text" {
            *scores = cursor.since(place);
        }
        Ok(())
    })
}

fn read_hydrated<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Links<'a>>, JsonError> {
    read_object(cursor, |links: &mut Links<'a>, key, cursor| {
        match key {
            "reply_post" => links.root = read_linked(cursor)?,
            "parent_post" => links.parent = read_linked(cursor)?,
            "quote_post" => links.quote = read_linked(cursor)?.filter(|uri| !names_no_post(&uri.unescape())),
            _ => cursor.skip()?,
        }
        Ok(())
    })
}

/// Reads the `uri` of an object.
fn read_linked<'a>(cursor: &mut Cursor<'a>) -> Result<Uri<'a>, JsonError> {
    let uri = read_object(cursor, |uri: &mut Uri<'a>, key, cursor| {
        match key {
            "uri" => *uri = read_uri(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    Ok(uri.flatten())
}

/// Reads a non-empty string.
fn read_uri<'a>(cursor: &mut Cursor<'a>) -> Result<Uri<'a>, JsonError> {
    Ok(cursor.string_or_skip()?.string().filter(|uri| !uri.is_empty()))
}

/// Reads an object, member by member, into a new value. None if it is not an object.
fn read_object<'a, T: Default>(
    cursor: &mut Cursor<'a>,
    mut member: impl FnMut(&mut T, &str, &mut Cursor<'a>) -> Result<(), JsonError>,
) -> Result<Option<T>, JsonError> {
    let mut value = T::default();
    let is_object = cursor.object_or_skip(|key, cursor| member(&mut value, &key.unescape(), cursor))?;
    Ok(is_object.then_some(value))
}
