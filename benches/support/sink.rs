//! A fake Elasticsearch that answers at once and only counts, so that a benchmark measures the program alone.

use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use libdeflater::Decompressor;

/// Counters of what has arrived.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Bulk actions.
    pub(crate) actions: AtomicU64,
    /// Bytes of all bodies.
    pub(crate) bytes: AtomicU64,
}

/// Serves on a free port of the loopback address until the process ends. Returns the base URL.
pub(crate) fn start(counters: Arc<Counters>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counters = counters.clone();
            // An error ends only the client's thread.
            thread::spawn(move || serve(&stream, &counters));
        }
    });
    Ok(url)
}

fn serve(stream: &TcpStream, counters: &Counters) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(1 << 18, stream);
    let mut body = Vec::new();
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let (mut length, mut is_gzip) = (0, false);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            if header.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':') {
                match &*name.to_ascii_lowercase() {
                    "content-length" => length = value.trim().parse().unwrap_or_default(),
                    "content-encoding" => is_gzip = value.trim() == "gzip",
                    _ => {}
                }
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        counters.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        if is_gzip {
            body = gunzip(&body)?;
        }
        let (status, reply) = answer(&request, &body, counters);
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            reply.len()
        );
        let mut stream = stream;
        stream.write_all(head.as_bytes())?;
        stream.write_all(reply.as_bytes())?;
    }
}

/// Decompresses a gzip member. Its last four bytes give the size of its content.
fn gunzip(body: &[u8]) -> Result<Vec<u8>> {
    let size = body.last_chunk().map_or(0, |tail| u32::from_le_bytes(*tail));
    let mut content = vec![0; size as usize];
    Decompressor::new().gzip_decompress(body, &mut content).map_err(Error::other)?;
    Ok(content)
}

fn answer(request: &str, body: &[u8], counters: &Counters) -> (&'static str, String) {
    let path = request.split(' ').nth(1).unwrap_or_default();
    if path.starts_with("/_bulk") {
        ("200 OK", bulk(body, counters))
    } else if path.starts_with("/_mget") {
        ("200 OK", look_up(body))
    } else if path.contains("/_doc/") {
        ("409 Conflict", judged(path))
    } else if path.starts_with("/posts?") {
        ("200 OK", posts_index())
    } else if path.starts_with("/post_tombstones?") {
        ("200 OK", include_str!("../../test_data/replies/preflight_tombstones.json").to_owned())
    } else {
        ("400 Bad Request", r#"{"error":"no handler found"}"#.to_owned())
    }
}

/// Describes the index of posts, with a further vector for `benches/further_fields.py`.
fn posts_index() -> String {
    let first = r#""all_MiniLM_L12_v2":"#;
    let further = r#""all_mpnet_base_v2": { "type": "dense_vector", "dims": 768, "index": false },"#;
    include_str!("../../test_data/replies/preflight_right.json").replacen(
        first,
        &format!("{further} {first}"),
        1,
    )
}

/// Answers the document that preflight sends to see whether the index accepts it. No server keeps that document, since
/// its version condition cannot be met.
fn judged(path: &str) -> String {
    let id = path.rsplit('/').next().and_then(|rest| rest.split('?').next()).unwrap_or_default();
    format!(
        r#"{{"error":{{"type":"version_conflict_engine_exception","reason":"[{id}]: version conflict"}},"status":409}}"#
    )
}

/// Confirms every action. A document line follows each action except a delete.
fn bulk(body: &[u8], counters: &Counters) -> String {
    let mut items = Vec::new();
    let mut lines = body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    while let Some(action) = lines.next() {
        if action.starts_with(br#"{"delete""#) {
            items.push(r#"{"delete":{"status":200,"result":"deleted"}}"#);
        } else {
            lines.next();
            items.push(r#"{"index":{"status":201,"result":"created"}}"#);
        }
    }
    counters.actions.fetch_add(items.len() as u64, Ordering::Relaxed);
    format!(r#"{{"items":[{}]}}"#, items.join(","))
}

/// Answers a look-up: no document is found.
fn look_up(body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body);
    let ids = body.split(r#""_id":""#).skip(1).filter_map(|rest| rest.split('"').next());
    let docs: Vec<String> = ids.map(|id| format!(r#"{{"_id":"{id}","found":false}}"#)).collect();
    format!(r#"{{"docs":[{}]}}"#, docs.join(","))
}
