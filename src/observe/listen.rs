//! A small HTTP server for pages of a few kilobytes: GET and HEAD, one request per connection.
//!
//! Clients cannot exhaust it: requests are limited in size and time. Beyond the limit on connections, the newest one
//! replaces the oldest, so idle connections do not keep other clients out.
//!
//! Source: RFC 9112.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The largest head of a request, in bytes.
const MAX_BYTES: usize = 8 << 10;

/// Time limit of a connection.
const MAX_TIME: Duration = Duration::from_secs(5);

/// The largest number of open connections.
const MAX_CONNECTIONS: usize = 16;

/// Pause after a failed accept, for example if the process has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Status code and reason.
    pub status: &'static str,
    /// Media type of the text.
    pub kind: &'static str,
    /// The body.
    pub text: String,
}

impl Page {
    /// Creates a page of plain text.
    pub fn plain(status: &'static str, text: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", text: text.into() }
    }
}

/// Returns the page at a path; None if there is none.
pub type Pages = dyn Fn(&str) -> Option<Page> + Send + Sync;

/// Binds to an address, and answers on threads of its own until the process ends.
///
/// # Errors
///
/// Fails if the address cannot be bound, or no thread can be started.
pub fn listen(addresses: &[SocketAddr], pages: Arc<Pages>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(addresses)?;
    let address = listener.local_addr()?;
    spawn(move || accept(&listener, &pages))?;
    Ok(address)
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("listen".into()).spawn(work).map(drop)
}

fn accept(listener: &TcpListener, pages: &Arc<Pages>) {
    let mut open: VecDeque<Arc<TcpStream>> = VecDeque::new();
    loop {
        let Ok((connection, _)) = listener.accept() else {
            thread::sleep(PAUSE);
            continue;
        };
        let connection = Arc::new(connection);
        open.retain(|other| Arc::strong_count(other) > 1);
        if open.len() >= MAX_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            // The connection's thread notices that, and ends.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        open.push_back(connection.clone());
        let pages = pages.clone();
        // If no thread can be started, the connection is closed, and the client tries again.
        let _ = spawn(move || {
            // An error only means that the client is gone.
            let _ = serve(&connection, Instant::now() + MAX_TIME, &*pages);
            let _ = connection.shutdown(Shutdown::Both);
        });
    }
}

fn serve(mut connection: &TcpStream, end: Instant, pages: &Pages) -> io::Result<()> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !is_whole(&head) && head.len() < MAX_BYTES {
        let left = end.saturating_duration_since(Instant::now());
        // Zero would be refused as a time-out.
        connection.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let read = if left.is_zero() { 0 } else { connection.read(&mut piece)? };
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(&piece[..read]);
    }
    let (page, has_body) = answer(&head, pages);
    let Page { status, kind, text } = page;
    let mut reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nAllow: GET, \
         HEAD\r\nConnection: close\r\n\r\n",
        text.len()
    );
    if has_body {
        reply.push_str(&text);
    }
    // A reply of a few kilobytes fits into the socket's buffer, so a client that does not read causes no wait.
    connection.set_write_timeout(Some(MAX_TIME))?;
    connection.write_all(reply.as_bytes())
}

fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n")
}

/// Returns the answer to a request, and whether its body is sent.
fn answer(head: &[u8], pages: &Pages) -> (Page, bool) {
    if !is_whole(head) {
        return (Page::plain("431 Request Header Fields Too Large", "the request is too large\n"), true);
    }
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let words = str::from_utf8(line).map(|line| line.trim_end_matches('\r').split(' ').collect::<Vec<_>>());
    let Ok(&[method, target, "HTTP/1.1" | "HTTP/1.0"]) = words.as_deref() else {
        return (Page::plain("400 Bad Request", "this is not an HTTP request\n"), true);
    };
    if !["GET", "HEAD"].contains(&method) {
        return (Page::plain("405 Method Not Allowed", "only GET and HEAD are allowed\n"), true);
    }
    let path = target.split('?').next().unwrap_or_default();
    let page = pages(path).unwrap_or_else(|| Page::plain("404 Not Found", "there is no such page\n"));
    (page, method == "GET")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(path: &str) -> Option<Page> {
        (path == "/a").then(|| Page::plain("200 OK", "text"))
    }

    fn status(head: &[u8]) -> &'static str {
        &answer(head, &pages).0.status[..3]
    }

    #[test]
    fn every_request_has_its_status() {
        for (head, expected) in [
            (&b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"[..], "200"),
            (b"GET /a HTTP/1.0\n\n", "200"),
            (b"HEAD /a?b=c HTTP/1.1\r\n\r\n", "200"),
            (b"GET /b HTTP/1.1\r\n\r\n", "404"),
            (b"GET /a/../a HTTP/1.1\r\n\r\n", "404"),
            (b"POST /a HTTP/1.1\r\n\r\n", "405"),
            (b"GET /a HTTP/2.0\r\n\r\n", "400"),
            (b"GET  /a HTTP/1.1\r\n\r\n", "400"),
            (b"GET /a\r\n\r\n", "400"),
            (b"\r\n\r\n", "400"),
            (b"\xff\xfe / HTTP/1.1\r\n\r\n", "400"),
            (b"GET /a HTTP/1.1\r\nHost: x\r\n", "431"),
        ] {
            assert_eq!(status(head), expected, "{}", String::from_utf8_lossy(head));
        }
        assert!(!answer(b"HEAD /a HTTP/1.1\r\n\r\n", &pages).1);
    }

    /// Returns the reply on a connection; "" if it is closed or not answered in time.
    fn read(mut connection: TcpStream) -> String {
        let mut text = String::new();
        let _ = connection
            .set_read_timeout(Some(MAX_TIME / 2))
            .and_then(|()| connection.read_to_string(&mut text));
        text
    }

    #[test]
    fn idle_connections_do_not_keep_other_clients_out() {
        let address = listen(&["127.0.0.1:0".parse().unwrap()], Arc::new(pages)).unwrap();
        let silent: Vec<_> = (0..5 * MAX_CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
        for _ in 0..3 {
            let mut asking = TcpStream::connect(address).unwrap();
            asking.write_all(b"GET /a HTTP/1.1\r\n\r\n").unwrap();
            let reply = read(asking);
            assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.ends_with("\r\n\r\ntext"), "{reply:?}");
        }
        // The oldest was closed to make room.
        assert_eq!(read(silent.into_iter().next().unwrap()), "");
    }

    #[test]
    fn a_request_that_is_too_large_is_refused() {
        let address = listen(&["127.0.0.1:0".parse().unwrap()], Arc::new(pages)).unwrap();
        let mut endless = TcpStream::connect(address).unwrap();
        endless.write_all(&[b'x'; MAX_BYTES]).unwrap();
        assert!(read(endless).starts_with("HTTP/1.1 431 "));
    }

    #[test]
    fn an_address_in_use_is_an_error() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = listen(&[other.local_addr().unwrap()], Arc::new(pages)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
