//! Reads the fields of `--add-field`: one reader for each name.
//!
//! They are read in a second pass over the record, and only for posts that are sent. Without `--add-field` they cost
//! nothing.

use std::collections::HashSet;

use serde_json::{Map, Value as Json, json};

use super::json::Cursor;
use crate::model::{Added, Embeddings, FieldChoice, Post};

/// The members of a record that the readers use.
const MEMBERS: [&str; 4] = ["embed", "facets", "langs", "tags"];

/// Maximum number of languages per post.
const MAX_LANGS: usize = 3;

/// The most images of one post that are indexed. Clients write up to 4. Each is a document of its own inside the index,
/// and an index refuses a post with too many (`index.mapping.nested_objects.limit`, 10,000 by default).
const MAX_IMAGES: usize = 100;

/// The largest size and side of an image or video: what a field of the type `integer` accepts. No real one is as large.
const MAX_NUMBER: u64 = i32::MAX as u64;

/// The reader for one name of `--add-field`.
struct Reader {
    /// The name.
    asked: &'static str,
    /// The part that it reads.
    source: Source,
    /// Reads the value.
    read: fn(&Json, &mut FieldValues),
}

/// The part of a row that a field is read from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// `message.commit.record`.
    Record,
    /// `inferences.video`.
    Video,
}

/// The readers. Vectors of further models are read by [`super::EmbeddingDecoder`].
const READERS: &[Reader] = &[
    Reader { asked: "langs", source: Source::Record, read: langs },
    Reader { asked: "hashtags", source: Source::Record, read: hashtags },
    Reader { asked: "links", source: Source::Record, read: links },
    Reader { asked: "mentions", source: Source::Record, read: mentions },
    Reader { asked: "media", source: Source::Record, read: media },
    Reader { asked: "external_embed", source: Source::Record, read: external_embed },
    Reader { asked: "video_transcript", source: Source::Video, read: video_transcript },
];

/// The result of a reader.
#[derive(Default)]
struct FieldValues {
    values: Vec<(&'static str, Json)>,
    /// Whether something could not be read.
    is_unreadable: bool,
}

impl FieldValues {
    fn put(&mut self, name: &'static str, value: impl Into<Json>) {
        self.values.push((name, value.into()));
    }

    /// Adds the distinct, non-empty texts, at most `most` of them. Adds nothing if there are none.
    fn put_texts(&mut self, name: &'static str, texts: impl IntoIterator<Item = String>, most: usize) {
        let mut seen = HashSet::new();
        let is_new = |text: &String| !text.is_empty() && seen.insert(text.clone());
        let unique: Vec<String> = texts.into_iter().filter(is_new).take(most).collect();
        if !unique.is_empty() {
            self.put(name, unique);
        }
    }

    /// Returns the value if it has the type. A value of another type counts as unreadable, null as absent.
    fn typed<'j, T>(
        &mut self,
        value: Option<&'j Json>,
        read: impl FnOnce(&'j Json) -> Option<T>,
    ) -> Option<T> {
        let value = value.filter(|value| !value.is_null())?;
        let typed = read(value);
        self.is_unreadable |= typed.is_none();
        typed
    }

    fn text<'j>(&mut self, value: Option<&'j Json>) -> Option<&'j str> {
        self.typed(value, Json::as_str)
    }

    fn number(&mut self, value: Option<&Json>) -> Option<u64> {
        self.typed(value, |value| value.as_u64().filter(|&number| number <= MAX_NUMBER))
    }

    fn elements<'j>(&mut self, value: Option<&'j Json>) -> &'j [Json] {
        self.typed(value, Json::as_array).map_or(&[], Vec::as_slice)
    }

    fn object<'j>(&mut self, value: Option<&'j Json>) -> Option<&'j Map<String, Json>> {
        self.typed(value, Json::as_object)
    }
}

/// Reads the fields of `--add-field` for a post.
pub fn read(fields: FieldChoice, post: &Post<'_>, embeddings: &Embeddings<'_>) -> Added {
    let mut added = Added::default();
    if fields.added.is_empty() {
        return added;
    }
    let asked = |source| READERS.iter().filter(move |r| r.source == source && fields.adds(r.asked));
    for (source, text) in [(Source::Record, post.record), (Source::Video, embeddings.video)] {
        if asked(source).next().is_none() {
            continue;
        }
        let value = match source {
            Source::Record => members(text),
            Source::Video => Cursor::new(text).value().unwrap_or_default(),
        };
        for reader in asked(source) {
            let mut found = FieldValues::default();
            (reader.read)(&value, &mut found);
            added.values.append(&mut found.values);
            added.dropped.extend(found.is_unreadable.then_some(reader.asked));
        }
    }
    added
}

/// Returns the [`MEMBERS`] of a record. The record has already been parsed, so it is valid JSON.
fn members(record: &str) -> Json {
    let mut members = Map::new();
    let _ = Cursor::new(record).object_or_skip(|key, cursor| {
        match MEMBERS.iter().find(|member| key.unescape() == **member) {
            Some(member) => drop(members.insert((*member).to_owned(), cursor.value()?)),
            None => cursor.skip()?,
        }
        Ok(())
    });
    Json::Object(members)
}

fn langs(record: &Json, values: &mut FieldValues) {
    let mut langs = Vec::new();
    for lang in values.elements(record.get("langs")) {
        let Some(lang) = values.text(Some(lang)).map(str::to_ascii_lowercase) else { continue };
        if is_language(&lang) {
            langs.push(lang);
        } else {
            values.is_unreadable = true;
        }
    }
    values.put_texts("langs", langs, MAX_LANGS);
}

/// Whether a lower-case text has the form of a language tag (BCP 47, RFC 5646, section 2.1).
fn is_language(tag: &str) -> bool {
    let is_part =
        |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let first = tag.split('-').next().unwrap_or_default();
    tag.split('-').all(is_part) && first.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn hashtags(record: &Json, values: &mut FieldValues) {
    let mut tags = features(record, "app.bsky.richtext.facet#tag", "tag", values);
    for tag in values.elements(record.get("tags")) {
        tags.extend(values.text(Some(tag)));
    }
    values.put_texts("hashtags", tags.into_iter().map(str::to_lowercase), usize::MAX);
}

fn links(record: &Json, values: &mut FieldValues) {
    let mut links = features(record, "app.bsky.richtext.facet#link", "uri", values);
    if let Some(external) = external(record, values) {
        links.extend(values.text(external.get("uri")));
    }
    values.put_texts("links", links.into_iter().map(str::to_owned), usize::MAX);
}

fn mentions(record: &Json, values: &mut FieldValues) {
    let mentions = features(record, "app.bsky.richtext.facet#mention", "did", values);
    values.put_texts("mentions", mentions.into_iter().map(str::to_owned), usize::MAX);
}

/// Returns the values of `member` in the record's features of one type, in order.
fn features<'j>(record: &'j Json, kind: &str, member: &str, values: &mut FieldValues) -> Vec<&'j str> {
    let mut texts = Vec::new();
    for facet in values.elements(record.get("facets")) {
        for feature in values.elements(facet.get("features")) {
            if feature.get("$type").and_then(Json::as_str) == Some(kind) {
                texts.extend(values.text(feature.get(member)));
            }
        }
    }
    texts
}

/// Returns the embedded media or page, without a quoted post.
fn embed<'j>(record: &'j Json, values: &mut FieldValues) -> Option<&'j Map<String, Json>> {
    let embed = values.object(record.get("embed"))?;
    match embed.get("media") {
        None | Some(Json::Null) => Some(embed),
        media => values.object(media),
    }
}

fn external<'j>(record: &'j Json, values: &mut FieldValues) -> Option<&'j Map<String, Json>> {
    embed(record, values).and_then(|embed| values.object(embed.get("external")))
}

fn external_embed(record: &Json, values: &mut FieldValues) {
    let Some(external) = external(record, values) else { return };
    let mut embed = Map::new();
    for name in ["uri", "title", "description"] {
        if let Some(text) = values.text(external.get(name)) {
            embed.insert(name.to_owned(), text.into());
        }
    }
    if !embed.is_empty() {
        values.put("external_embed", embed);
    }
}

fn media(record: &Json, values: &mut FieldValues) {
    let (mut media, mut videos) = (Vec::new(), 0_u64);
    if let Some(embed) = embed(record, values) {
        let images = values.elements(embed.get("images"));
        values.is_unreadable |= images.len() > MAX_IMAGES;
        for image in images.iter().take(MAX_IMAGES) {
            let Some(image) = values.object(Some(image)) else { continue };
            let blob = values.object(image.get("image"));
            media.push(medium("image", image.get("alt"), image.get("aspectRatio"), blob, values));
        }
        if let Some(video) = values.object(embed.get("video")) {
            videos = 1;
            media.push(medium("video", embed.get("alt"), embed.get("aspectRatio"), Some(video), values));
        }
    }
    let images = media.len() as u64 - videos;
    if !media.is_empty() {
        values.put("media", media);
    }
    values.put("contains_images", images > 0);
    values.put("contains_video", videos > 0);
    values.put("image_count", images);
    values.put("video_count", videos);
}

/// Creates the entry of an image or a video. Absent values are left out.
fn medium(
    media_type: &str,
    alt: Option<&Json>,
    ratio: Option<&Json>,
    blob: Option<&Map<String, Json>>,
    values: &mut FieldValues,
) -> Json {
    let mut medium = Map::new();
    let mut put = |name: &str, value: Option<Json>| {
        value.into_iter().for_each(|value| drop(medium.insert(name.to_owned(), value)));
    };
    let member = |name: &str| blob.and_then(|blob| blob.get(name));
    put("media_type", Some(json!(media_type)));
    put("mime_type", values.text(member("mimeType")).map(Json::from));
    put("size", values.number(member("size")).map(Json::from));
    for side in ["width", "height"] {
        let length = ratio.and_then(|ratio| ratio.get(side));
        put(side, values.number(length).map(Json::from));
    }
    put("alt_text", values.text(alt).filter(|alt| !alt.is_empty()).map(Json::from));
    Json::Object(medium)
}

fn video_transcript(video: &Json, values: &mut FieldValues) {
    let Some(transcription) = values.object(video.get("audio_transcription")) else { return };
    for (name, member) in [("video_transcript", "text"), ("video_transcript_language", "language")] {
        let text = values.text(transcription.get(member)).filter(|text| !text.trim().is_empty());
        if let Some(text) = text {
            values.put(name, text);
        }
    }
}

#[cfg(test)]
mod tests;
