//! HTTP/1.1 for the fake servers: parses requests, writes replies.

use std::io::{self, BufRead, Read, Write};

use serde_json::Value;

/// A request with its decoded body (chunks joined, gzip inflated).
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Percent-decoded, without the query.
    pub(crate) path: String,
    /// Percent-decoded names and values of the query.
    pub(crate) query: Vec<(String, String)>,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The value of a header, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The value of a query parameter.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// Whether a query parameter is present and not `false`.
    pub(crate) fn switch(&self, name: &str) -> bool {
        self.param(name).is_some_and(|value| value != "false")
    }

    /// Whether it is a bulk request.
    pub(crate) fn is_bulk(&self) -> bool {
        self.path == "/_bulk" || self.path.ends_with("/_bulk")
    }

    /// Whether it looks up documents.
    pub(crate) fn is_mget(&self) -> bool {
        self.path.ends_with("/_mget")
    }

    /// Whether it offers a trial document, whose condition is never met.
    pub(crate) fn is_offer(&self) -> bool {
        self.param("if_seq_no").is_some()
    }

    /// Whether it is a search.
    pub(crate) fn is_search(&self) -> bool {
        self.path.ends_with("/_search")
    }

    /// Whether it has `Expect: 100-continue`.
    pub(crate) fn expects_continue(&self) -> bool {
        self.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    }

    /// The body as JSON; null if it is not JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// A reply to a request.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A reply with a JSON body.
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        let headers = vec![
            ("X-elastic-product", "Elasticsearch".to_owned()),
            ("content-type", "application/json".to_owned()),
        ];
        Self { status, headers, body: body.to_string().into_bytes() }
    }

    /// An Elasticsearch error.
    pub(crate) fn error(status: u16, error_type: &str, reason: &str) -> Self {
        let error = serde_json::json!({"type": error_type, "reason": reason});
        let with_cause = serde_json::json!({"root_cause": [error], "type": error_type, "reason": reason});
        Self::json(status, &serde_json::json!({"error": with_cause, "status": status}))
    }

    /// Adds a header.
    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Replaces the body.
    pub(crate) fn with_body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    fn head(&self, framing: &str) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            out += &format!("{name}: {value}\r\n");
        }
        out += framing;
        out += "\r\n";
        out.into_bytes()
    }

    /// Without a length, and with only this many bytes of the body; the connection is to be closed after them.
    pub(crate) fn unframed(&self, bytes: usize) -> Vec<u8> {
        [self.head("connection: close\r\n"), self.body[..bytes.min(self.body.len())].to_vec()].concat()
    }

    /// With a chunked body.
    pub(crate) fn chunked(&self) -> Vec<u8> {
        let mut out = self.head("transfer-encoding: chunked\r\n");
        for chunk in self.body.chunks(1_000) {
            out.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            out.extend_from_slice(chunk);
            out.extend(b"\r\n");
        }
        out.extend(b"0\r\n\r\n");
        out
    }

    /// As sent; the reply to a HEAD request has no body.
    pub(crate) fn bytes(&self, to_head: bool) -> Vec<u8> {
        let mut out = self.head(&format!("content-length: {}\r\n", self.body.len()));
        if !to_head {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

/// Reads the next request; None at the end of the connection.
pub(crate) fn read_request<S: Read + Write>(stream: &mut io::BufReader<S>) -> io::Result<Option<Request>> {
    let Some(mut request) = read_head(stream)? else { return Ok(None) };
    read_rest(stream, &mut request)?;
    Ok(Some(request))
}

/// Reads the next request without its body; None at the end of the connection.
pub(super) fn read_head(stream: &mut impl BufRead) -> io::Result<Option<Request>> {
    let first = read_line(stream)?;
    if first.is_empty() {
        return Ok(None);
    }
    let mut words = first.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(invalid("request line"));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request { method: method.to_owned(), path: decode(path), ..Request::default() };
    request.query = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    loop {
        let line = read_line(stream)?;
        let Some((name, value)) = line.split_once(':') else { break };
        request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Some(request))
}

/// Sends `100 Continue` if expected, and reads the body.
pub(super) fn read_rest<S: Read + Write>(
    stream: &mut io::BufReader<S>,
    request: &mut Request,
) -> io::Result<()> {
    if request.expects_continue() {
        stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    request.body = read_body(stream, request)?;
    Ok(())
}

fn read_body(stream: &mut impl BufRead, request: &Request) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        while let size @ 1.. = chunk_size(stream)? {
            read_exactly(stream, size, &mut body)?;
            read_line(stream)?;
        }
        read_line(stream)?;
    } else if let Some(length) = request.header("content-length") {
        read_exactly(stream, length.parse().map_err(|_| invalid("content-length"))?, &mut body)?;
    }
    match request.header("content-encoding") {
        Some("gzip") => gunzip(&body),
        _ => Ok(body),
    }
}

fn chunk_size(stream: &mut impl BufRead) -> io::Result<u64> {
    let line = read_line(stream)?;
    let digits = line.split(';').next().unwrap_or_default();
    u64::from_str_radix(digits.trim(), 16).map_err(|_| invalid("chunk size"))
}

fn read_exactly(stream: &mut impl BufRead, size: u64, out: &mut Vec<u8>) -> io::Result<()> {
    let read = stream.take(size).read_to_end(out)?;
    if read as u64 == size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// A line without its end; also empty at the end of the stream.
fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Inflates one gzip member, whose last four bytes are the inflated size (RFC 1952).
fn gunzip(body: &[u8]) -> io::Result<Vec<u8>> {
    let tail = body.last_chunk().ok_or_else(|| invalid("gzip"))?;
    let mut out = vec![0; u32::from_le_bytes(*tail) as usize];
    libdeflater::Decompressor::new().gzip_decompress(body, &mut out).map_err(|_| invalid("gzip"))?;
    Ok(out)
}

/// Undoes percent encoding.
fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits: String = bytes.by_ref().take(2).map(char::from).collect();
        out.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
