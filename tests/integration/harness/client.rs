//! A raw HTTP client, for requests that the program does not send.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::fake::{API_KEY, Fake};

/// Sends a request; None if the connection ends before the reply does.
pub(crate) fn exchange(fake: &Fake, head: &str, body: &[u8]) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(fake.url().trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = format!("{head} HTTP/1.1\r\nAuthorization: ApiKey {API_KEY}\r\n");
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    read_reply(&mut BufReader::new(stream))
}

/// Reads one reply.
pub(crate) fn read_reply(stream: &mut BufReader<TcpStream>) -> Option<(u16, Value)> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}
