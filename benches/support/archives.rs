//! Creates archives of any number of rows by repeating the rows of a small one in `test_data`.

use std::error::Error;
use std::fs;
use std::io::{Cursor, Write};

use megastream_ingest::pipeline::archive::ArchiveBuffers;
use rusqlite::{Connection, MAIN_DB};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/test_data/mega_jetstream_20251218_000000.db.zip");

/// Creates an archive of `rows` rows. Equal rows are farther apart than the 32 KiB window of deflate, so that they do not
/// make unpacking easier.
pub(crate) fn archive(rows: u32) -> Result<Vec<u8>, Box<dyn Error>> {
    let image = ArchiveBuffers::new().unpack(&fs::read(SMALL)?)?;
    let mut small = Connection::open_in_memory()?;
    small.deserialize_read_exact(MAIN_DB, &image[..], image.len(), false)?;
    let mut many = Connection::open_in_memory()?;
    many.execute_batch(
        "CREATE TABLE enriched_posts (id INTEGER PRIMARY KEY AUTOINCREMENT, at_uri TEXT, did TEXT,
            raw_post TEXT, inferences TEXT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
         CREATE INDEX idx_at_uri ON enriched_posts(at_uri);
         BEGIN",
    )?;
    let mut of_small =
        small.prepare("SELECT at_uri, did, raw_post, inferences FROM enriched_posts ORDER BY id")?;
    let mut left = rows;
    while left > 0 {
        let mut rows = of_small.query([])?;
        while let Some(row) = rows.next()?
            && left > 0
        {
            let text = |column| row.get::<_, Option<String>>(column);
            many.execute(
                "INSERT INTO enriched_posts (at_uri, did, raw_post, inferences) VALUES (?1 || ?2, ?3, ?4, ?5)",
                (text(0)?, left, text(1)?, text(2)?, text(3)?),
            )?;
            left -= 1;
        }
    }
    many.execute_batch("COMMIT")?;
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("bench.db", SimpleFileOptions::default())?;
    writer.write_all(&many.serialize(MAIN_DB)?)?;
    Ok(writer.finish()?.into_inner())
}
