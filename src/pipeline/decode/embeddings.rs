//! Decodes the embeddings in a row's `inferences`.

use super::json::{Cursor, JsonError, MaybeString};
use super::vector::VectorDecoder;
use crate::model::{DIMENSIONS, Dropped, Embeddings, FieldChoice, Model, Vector};
use crate::pipeline::archive::Field;

/// Decodes the embeddings of rows into reused buffers.
pub struct EmbeddingDecoder {
    decoder: VectorDecoder,
    l12: Vector,
    l6: Vector,
    wanted: Wanted,
    others: Vec<Option<Vec<f32>>>,
    dropped_others: Vec<&'static str>,
}

/// The parts of a row's inferences to read.
#[derive(Clone, Copy)]
struct Wanted {
    l12: bool,
    l6: bool,
    video: bool,
    models: &'static [Model],
}

impl Wanted {
    fn of(fields: FieldChoice) -> Self {
        let has = |name| !fields.excludes("embeddings") && !fields.excludes(name);
        Self {
            l12: has("embeddings.all_MiniLM_L12_v2"),
            l6: has("embeddings.all_MiniLM_L6_v2"),
            video: fields.adds("video_transcript"),
            models: fields.models,
        }
    }
}

impl EmbeddingDecoder {
    /// Creates a decoder for posts with the default fields.
    pub fn new() -> Self {
        Self::of(FieldChoice::default())
    }

    /// Creates a decoder for posts with these fields.
    pub fn of(fields: FieldChoice) -> Self {
        Self {
            decoder: VectorDecoder::new(),
            l12: [0.0; DIMENSIONS],
            l6: [0.0; DIMENSIONS],
            wanted: Wanted::of(fields),
            others: Vec::new(),
            dropped_others: Vec::new(),
        }
    }

    /// Decodes the embeddings in the column `inferences`. `scores` are those of the [`Post`](crate::model::Post), or `""`.
    ///
    /// Unreadable parts are left out and counted: a column that is not JSON once as `inferences`, each embedding as
    /// `embedding`.
    pub fn decode<'s>(&'s mut self, inferences: Field<'s>, scores: &str) -> Embeddings<'s> {
        let mut dropped = Dropped::default();
        let texts = read_column(inferences, scores, self.wanted).unwrap_or_else(|| {
            dropped.inferences = 1;
            Texts::default()
        });
        self.decode_others(&texts.others);
        Embeddings {
            all_minilm_l12_v2: decode_one(&mut self.decoder, texts.l12, &mut self.l12, &mut dropped),
            all_minilm_l6_v2: decode_one(&mut self.decoder, texts.l6, &mut self.l6, &mut dropped),
            others: &self.others,
            dropped,
            dropped_others: &self.dropped_others,
            video: texts.video,
        }
    }

    /// Decodes the embeddings of further models. Each must have as many dimensions as the first one of its model.
    fn decode_others(&mut self, texts: &[MaybeString<'_>]) {
        self.others.clear();
        self.dropped_others.clear();
        for (n, model) in self.wanted.models.iter().enumerate() {
            let vector = match texts.get(n) {
                None | Some(MaybeString::Null) => {
                    self.others.push(None);
                    continue;
                }
                Some(MaybeString::String(text)) => self.decoder.decode_any(&text.unescape()).ok(),
                Some(MaybeString::Other) => None,
            };
            model.met();
            let vector = vector.filter(|vector| model.has_dims(vector.len()));
            if vector.is_none() {
                self.dropped_others.push(model.asked);
            }
            self.others.push(vector);
        }
    }
}

impl Default for EmbeddingDecoder {
    fn default() -> Self {
        Self::new()
    }
}

/// The encoded embeddings of `inferences.text_embeddings`.
#[derive(Default)]
struct Texts<'a> {
    l12: MaybeString<'a>,
    l6: MaybeString<'a>,
    /// Embeddings of further models, in their order; empty if there are none.
    others: Vec<MaybeString<'a>>,
    /// The JSON text of `inferences.video`.
    video: &'a str,
}

/// Reads the column. None if it holds something other than JSON.
fn read_column<'a>(inferences: Field<'a>, scores: &str, wanted: Wanted) -> Option<Texts<'a>> {
    match inferences {
        Field::Null => Some(Texts::default()),
        Field::Text(bytes) => read_inferences(std::str::from_utf8(bytes).ok()?, scores, wanted).ok(),
        Field::TooLong(_) | Field::Other => None,
    }
}

fn read_inferences<'a>(text: &'a str, scores: &str, wanted: Wanted) -> Result<Texts<'a>, JsonError> {
    let mut texts = Texts::default();
    let mut video = "";
    let mut cursor = Cursor::new(text);
    cursor.object_or_skip(|key, cursor| {
        match &*key.unescape() {
            "text" => cursor.skip_repeated(scores)?,
            "text_embeddings" => texts = read_text_embeddings(cursor, wanted)?,
            "video" if wanted.video => {
                let place = cursor.place();
                cursor.skip()?;
                video = cursor.since(place);
            }
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    cursor.end()?;
    Ok(Texts { video, ..texts })
}

fn read_text_embeddings<'a>(cursor: &mut Cursor<'a>, wanted: Wanted) -> Result<Texts<'a>, JsonError> {
    let others = vec![MaybeString::Null; wanted.models.len()];
    let mut texts = Texts { others, ..Texts::default() };
    cursor.object_or_skip(|key, cursor| {
        match &*key.unescape() {
            "all-MiniLM-L12-v2" if wanted.l12 => texts.l12 = cursor.string_or_skip()?,
            "all-MiniLM-L6-v2" if wanted.l6 => texts.l6 = cursor.string_or_skip()?,
            key => match wanted.models.iter().position(|model| model.name == key) {
                Some(n) => {
                    let text = cursor.string_or_skip()?;
                    texts.others.get_mut(n).into_iter().for_each(|place| *place = text);
                }
                None => {
                    wanted.models.iter().for_each(|model| model.met_other(key));
                    cursor.skip()?;
                }
            },
        }
        Ok(())
    })?;
    Ok(texts)
}

fn decode_one<'v>(
    decoder: &mut VectorDecoder,
    text: MaybeString<'_>,
    vector: &'v mut Vector,
    dropped: &mut Dropped,
) -> Option<&'v Vector> {
    let decoded = match text {
        MaybeString::String(text) => decoder.decode(&text.unescape(), vector).is_ok(),
        MaybeString::Null => return None,
        MaybeString::Other => false,
    };
    if decoded {
        Some(vector)
    } else {
        dropped.embedding += 1;
        None
    }
}

#[cfg(test)]
mod tests;
