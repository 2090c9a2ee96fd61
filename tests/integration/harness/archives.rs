//! Builds archives from a few words: rows in order, and the time in the name.

use std::io::{Cursor, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::vectors::encode;

/// A row of the table, and its expected result.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) at_uri: Option<String>,
    pub(crate) did: Option<String>,
    pub(crate) raw_post: Option<String>,
    pub(crate) inferences: Option<String>,
    pub(crate) meaning: Meaning,
}

/// The expected result of a row. Documents have no `indexed_at`, and vectors are arrays.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Meaning {
    Post(Value),
    Delete(Value),
    Skipped,
    Rejected,
}

/// The author of every post.
pub(crate) const DID: &str = "did:plc:abcdefghijklmnopqrstuvwx";

/// The URI of a short name.
pub(crate) fn uri(name: &str) -> String {
    format!("at://{DID}/app.bsky.feed.post/{name}")
}

/// An event of a post; a [`Row`] when complete.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    at_uri: String,
    raw: Value,
    inferences: Value,
    document: Value,
}

/// The creation of a post.
pub(crate) fn post(name: &str, text: &str) -> Event {
    let at_uri = uri(name);
    let record = json!({"$type": "app.bsky.feed.post", "text": text, "langs": ["en"],
        "createdAt": "2025-10-30T12:34:56.789Z"});
    let raw = raw_post(&at_uri, "create", Some(record));
    let document = json!({"at_uri": at_uri, "author_did": DID, "content": text,
        "created_at": "2025-10-30T12:34:56.789Z"});
    Event { at_uri, raw, inferences: json!({"text": {"topic": {"Music": 0.25}}}), document }
}

/// The update of a post.
pub(crate) fn update(name: &str, text: &str) -> Event {
    let mut event = post(name, text);
    event.raw["message"]["commit"]["operation"] = json!("update");
    event
}

/// The deletion of a post at 2025-12-18T00:00:01.234567Z.
pub(crate) fn delete(name: &str) -> Row {
    let at_uri = uri(name);
    let raw = raw_post(&at_uri, "delete", None);
    let document = json!({"at_uri": at_uri, "author_did": DID, "deleted_at": "2025-12-18T00:00:01.234Z"});
    row(Some(at_uri), Some(raw.to_string()), Some("{}".to_owned()), Meaning::Delete(document))
}

/// The deletion of an account at 2025-12-18T00:00:01.234567Z; skipped without `--account-deletions`.
pub(crate) fn account_event() -> Row {
    let message = json!({"did": DID, "kind": "account", "time_us": 1_766_016_001_234_567_i64,
        "account": {"active": false, "status": "deleted", "did": DID}});
    row(Some(String::new()), Some(json!({"message": message}).to_string()), None, Meaning::Skipped)
}

/// A post without an `at_uri`.
pub(crate) fn without_uri() -> Row {
    let mut made = post("none", "nobody knows where").row();
    (made.at_uri, made.meaning) = (Some(String::new()), Meaning::Skipped);
    made
}

/// A row with this `raw_post`, which is rejected.
pub(crate) fn unreadable(name: &str, raw_post: Option<&str>) -> Row {
    row(Some(uri(name)), raw_post.map(str::to_owned), Some("{}".to_owned()), Meaning::Rejected)
}

fn row(
    at_uri: Option<String>,
    raw_post: Option<String>,
    inferences: Option<String>,
    meaning: Meaning,
) -> Row {
    Row { at_uri, did: Some(DID.to_owned()), raw_post, inferences, meaning }
}

fn raw_post(at_uri: &str, operation: &str, record: Option<Value>) -> Value {
    let mut commit = json!({"rev": "3lq", "operation": operation, "collection": "app.bsky.feed.post",
        "rkey": at_uri.rsplit('/').next()});
    if let Some(record) = record {
        commit["record"] = record;
        commit["cid"] = json!("bafyrei");
    }
    json!({"at_uri": at_uri, "did": DID, "time_us": null,
        "message": {"did": DID, "kind": "commit", "time_us": 1_766_016_001_234_567_i64, "commit": commit},
        "hydrated_metadata": {"user": {"did": DID, "handle": "someone.example"}, "mentions": {},
            "reply_post": null, "parent_post": null, "quote_post": null}})
}

impl Row {
    /// Removes the time of the event.
    pub(crate) fn without_time(mut self) -> Self {
        self.raw_post = self.raw_post.map(|raw| raw.replace("1766016001234567", "null"));
        self
    }

    /// Changes the author.
    pub(crate) fn by(mut self, did: &str) -> Self {
        for text in [&mut self.at_uri, &mut self.did, &mut self.raw_post].into_iter().flatten() {
            *text = text.replace(DID, did);
        }
        if let Meaning::Post(document) | Meaning::Delete(document) = &mut self.meaning {
            *document = serde_json::from_str(&document.to_string().replace(DID, did)).expect("a document");
        }
        self
    }
}

impl Event {
    /// Sets `createdAt`, and the `created_at` of the document; None drops the field.
    pub(crate) fn created_at(mut self, written: Value, expected: Option<&str>) -> Self {
        self.raw["message"]["commit"]["record"]["createdAt"] = written;
        self.document.as_object_mut().expect("an object").remove("created_at");
        if let Some(expected) = expected {
            self.document["created_at"] = json!(expected);
        }
        self
    }

    /// Sets the hydrated link `root`, `parent` or `quote`.
    pub(crate) fn hydrated(mut self, link: &str, target: &str) -> Self {
        let key = if link == "root" { "reply_post".to_owned() } else { format!("{link}_post") };
        self.raw["hydrated_metadata"][key] = json!({"uri": target, "author": {"did": DID}});
        self.document[link_field(link)] = json!(target);
        self
    }

    /// Sets the link `root`, `parent` or `quote` of the record only.
    pub(crate) fn recorded(mut self, link: &str, target: &str) -> Self {
        let record = &mut self.raw["message"]["commit"]["record"];
        match link {
            "quote" => record["embed"] = json!({"$type": "app.bsky.embed.record", "record": {"uri": target}}),
            _ => record["reply"][link] = json!({"uri": target, "cid": "bafyrei"}),
        }
        self.document[link_field(link)] = json!(target);
        self
    }

    /// Adds a vector of the model `L6` or `L12`.
    pub(crate) fn vector(mut self, model: &str, values: &[f32]) -> Self {
        self.inferences["text_embeddings"][format!("all-MiniLM-{model}-v2")] = json!(encode(values));
        self.document["embeddings"][format!("all_MiniLM_{model}_v2")] = json!(values);
        self
    }

    /// Adds a member of the record; only `--add-field` reads it.
    pub(crate) fn record(mut self, member: &str, value: Value) -> Self {
        self.raw["message"]["commit"]["record"][member] = value;
        self
    }

    /// Adds a member of the inferences; only `--add-field` reads it.
    pub(crate) fn inferred(mut self, member: &str, value: Value) -> Self {
        self.inferences[member] = value;
        self
    }

    /// Adds a vector of another model.
    pub(crate) fn other_vector(mut self, model: &str, values: &[f32]) -> Self {
        self.inferences["text_embeddings"][model] = json!(encode(values));
        self
    }

    /// Adds an invalid vector, which is dropped.
    pub(crate) fn bad_vector(mut self, model: &str, written: &str) -> Self {
        self.inferences["text_embeddings"][format!("all-MiniLM-{model}-v2")] = json!(written);
        self
    }

    /// Sets the text of the record as written in JSON, and the expected content.
    pub(crate) fn raw_text(mut self, written: &str, expected: &str) -> Row {
        self.raw["message"]["commit"]["record"]["text"] = json!("THE-TEXT");
        self.document["content"] = json!(expected);
        let mut row = self.row();
        row.raw_post = row.raw_post.map(|raw| raw.replace("\"THE-TEXT\"", written));
        row
    }

    /// Completes the row.
    pub(crate) fn row(self) -> Row {
        let raw = ascii(&self.raw.to_string());
        row(Some(self.at_uri), Some(raw), Some(self.inferences.to_string()), Meaning::Post(self.document))
    }
}

impl From<Event> for Row {
    fn from(event: Event) -> Self {
        event.row()
    }
}

fn link_field(link: &str) -> &'static str {
    match link {
        "root" => "thread_root_post",
        "parent" => "thread_parent_post",
        _ => "quote_post",
    }
}

/// JSON escaped to ASCII, as in real archives.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for unit in json.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => out.push(char::from(byte)),
            _ => out += &format!("\\u{unit:04x}"),
        }
    }
    out
}

/// An archive; its rows have the ids 1, 2, 3 and so on.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    /// `YYYYMMDD_HHMMSS`.
    pub(crate) time: String,
    pub(crate) rows: Vec<Row>,
    table: &'static str,
}

impl Archive {
    /// An empty archive of this time.
    pub(crate) fn new(time: &str) -> Self {
        Self { time: time.to_owned(), rows: Vec::new(), table: "enriched_posts" }
    }

    /// Adds a row.
    pub(crate) fn with(mut self, row: impl Into<Row>) -> Self {
        self.rows.push(row.into());
        self
    }

    /// Adds rows.
    pub(crate) fn with_all<R: Into<Row>>(mut self, rows: impl IntoIterator<Item = R>) -> Self {
        self.rows.extend(rows.into_iter().map(Into::into));
        self
    }

    /// Names the table.
    pub(crate) fn table(mut self, table: &'static str) -> Self {
        self.table = table;
        self
    }

    /// The file name.
    pub(crate) fn name(&self) -> String {
        format!("mega_jetstream_{}.db.zip", self.time)
    }

    /// The version of a row, as the contract defines it.
    pub(crate) fn version(&self, row_id: u64) -> u64 {
        seconds(&self.time) << 28 | row_id
    }

    /// The SQLite database.
    pub(crate) fn database(&self) -> Vec<u8> {
        // `created_at` is fixed: a test may make an archive again to know its bytes.
        let mut db = rusqlite::Connection::open_in_memory().expect("SQLite in memory");
        let columns = "id INTEGER PRIMARY KEY AUTOINCREMENT, at_uri TEXT, did TEXT, time_us INTEGER, \
            raw_post TEXT, inferences TEXT, created_at TIMESTAMP DEFAULT '2025-12-18 00:00:00'";
        // Older archives have only the four columns, without a primary key.
        let columns = if self.table == "posts" {
            "at_uri TEXT, did TEXT, raw_post TEXT, inferences TEXT"
        } else {
            columns
        };
        db.execute_batch(&format!("CREATE TABLE {} ({columns}); BEGIN", self.table)).expect("a table");
        let insert =
            format!("INSERT INTO {} (at_uri, did, raw_post, inferences) VALUES (?, ?, ?, ?)", self.table);
        for row in &self.rows {
            db.execute(&insert, (&row.at_uri, &row.did, &row.raw_post, &row.inferences)).expect("a row");
        }
        db.execute_batch("COMMIT").expect("a commit");
        db.serialize("main").expect("a database").to_vec()
    }

    /// The zip with the database as its only entry.
    pub(crate) fn zip(&self) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let entry = self.name().trim_end_matches(".zip").to_owned();
        zip.start_file(entry, zip::write::SimpleFileOptions::default()).expect("an entry");
        zip.write_all(&self.database()).expect("its content");
        zip.finish().expect("a zip").into_inner()
    }

    /// Writes the zip into a folder, with an old modification time.
    pub(crate) fn write(&self, folder: &Path) {
        write_aged(&folder.join(self.name()), &self.zip(), Duration::from_secs(3_600));
    }
}

/// Writes a file with a modification time `age` ago. The rename gives it its name and its age at once.
pub(crate) fn write_aged(path: &Path, content: &[u8], age: Duration) {
    let temporary = path.with_extension("part");
    std::fs::write(&temporary, content).expect("a file to write");
    let file = std::fs::File::options().write(true).open(&temporary).expect("the file");
    file.set_modified(SystemTime::now() - age).expect("a time");
    std::fs::rename(&temporary, path).expect("its name");
}

/// Seconds since 1970 of `YYYYMMDD_HHMMSS`, by the calendar rule that counts days from March.
pub(crate) fn seconds(time: &str) -> u64 {
    let part = |from: usize, to: usize| time[from..to].parse::<u64>().expect("digits");
    let (year, month, day) = (part(0, 4), part(4, 6), part(6, 8));
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = 365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468;
    ((days * 24 + part(9, 11)) * 60 + part(11, 13)) * 60 + part(13, 15)
}
