//! Tests of the client against scripted servers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use ureq::http::HeaderMap;
use ureq::http::header::CONTENT_ENCODING;

use super::reply::MAX_REASON_CHARS;
use super::*;
use crate::http::encoding::decoded;

mod with_tls;

const KEY: &str = "cGxhbnRlZC1zZWNyZXQ=";

fn settings(url: String) -> config::Elasticsearch {
    config::Elasticsearch::at(url, Auth::of_api_key(KEY))
}

fn client(url: String) -> Client {
    Client::new(&settings(url)).unwrap()
}

/// Reads one request, head and body.
fn read_request(stream: &mut impl Read) -> String {
    let (mut text, mut byte) = (String::new(), [0]);
    let mut left = None;
    while left != Some(0) && stream.read(&mut byte).unwrap_or(0) == 1 {
        text.push(char::from(byte[0]));
        match &mut left {
            Some(n) => *n -= 1,
            None if text.ends_with("\r\n\r\n") => {
                let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                left = Some(length.map_or(0, |n| n.parse::<usize>().unwrap()));
            }
            None => {}
        }
    }
    text
}

/// Starts a server for one connection. Returns its base URL and what `serve` returns.
fn server<T: Send + 'static>(serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (url, thread::spawn(move || serve(listener.accept().unwrap().0)))
}

/// Starts a server that answers one request with the given bytes, closes, and returns the request.
fn answer(reply: &'static str) -> (String, JoinHandle<String>) {
    server(move |mut stream| {
        let request = read_request(&mut stream);
        stream.write_all(reply.as_bytes()).unwrap();
        request
    })
}

#[test]
fn a_status_is_kept_with_its_body() {
    let (url, _server) = answer("HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nbusy");
    let reply = client(url).get("/posts").unwrap();
    assert_eq!(
        reply,
        Reply { status: 429, retry_after: Some(Duration::from_secs(7)), body: b"busy".to_vec() }
    );
}

#[test]
fn a_path_is_sent_as_ascii() {
    let (url, server) = answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    client(url).get("/données/_mapping?a=*.b").unwrap();
    let request = server.join().unwrap();
    assert!(request.starts_with("GET /donn%C3%A9es/_mapping?a=*.b HTTP/1.1\r\n"), "{request}");
}

#[test]
fn a_body_is_sent_under_its_length_with_the_key() {
    let (url, server) = answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    let body = "{\"index\":{}}\n{}\n".repeat(50_000);
    client(format!("{url}/es")).post_bulk("/_bulk?a=b", body.as_bytes(), false).reply.unwrap();
    let request = server.join().unwrap();
    assert!(request.starts_with("POST /es/_bulk?a=b HTTP/1.1\r\n"), "{}", &request[..60]);
    assert!(request.ends_with(&format!("\r\n\r\n{body}")));
    for header in [
        format!("authorization: ApiKey {KEY}\r\n"),
        format!("content-length: {}\r\n", body.len()),
        "content-type: application/x-ndjson\r\n".to_owned(),
        format!("user-agent: megastream_ingest/{}\r\n", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(request.contains(&header), "{header}");
    }
    assert!(request.contains("accept-encoding: identity\r\n"), "replies come as they are");
    assert!(!request.contains("content-encoding") && !request.contains("transfer-encoding"));
}

#[test]
fn a_server_can_refuse_a_body_before_it_is_sent() {
    let (url, server) = server(|mut stream| {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").unwrap();
        String::from_utf8(head).unwrap()
    });
    let body = vec![b'x'; 4 << 20];
    let Posted { reply, sent, expect_answer, .. } = client(url).post_bulk("/_bulk", &body, true);
    assert_eq!((reply.unwrap().status, sent, expect_answer), (413, 0, ExpectAnswer::Refused));
    let head = server.join().unwrap();
    assert!(
        head.contains("expect: 100-continue\r\n") && head.contains("content-length: 4194304\r\n"),
        "{head}"
    );
}

#[test]
fn a_server_that_answers_continue_gets_the_body() {
    let (url, server) = server(|mut stream| {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let request = read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        request
    });
    let reply = client(url).post_bulk("/_bulk", b"{}\n", true).reply.unwrap();
    assert_eq!(reply.status, 200);
    assert!(server.join().unwrap().ends_with("\r\n\r\n{}\n"));
}

/// Sends a request with `Expect` to a server whose first answer is `says`. Returns the result and the whole request.
fn asked_first(says: &'static str) -> (Result<Reply, TransportError>, String) {
    let (url, server) = server(move |mut stream| {
        stream.write_all(says.as_bytes()).unwrap();
        let request = read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        request
    });
    let client = client(url).within(Duration::from_secs(5));
    let reply = client.post_bulk("/_bulk", b"{}\n", true).reply;
    (reply, server.join().unwrap())
}

#[test]
fn a_server_that_does_not_answer_expect_gets_the_body_after_a_second() {
    let (url, server) = server(|mut stream| {
        let request = read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        request
    });
    let Posted { reply, sent, expect_answer, .. } = client(url).post_bulk("/_bulk", b"{}\n", true);
    assert_eq!((reply.unwrap().status, sent, expect_answer), (200, 3, ExpectAnswer::NoAnswer));
    assert!(server.join().unwrap().ends_with("\r\n\r\n{}\n"));
}

#[test]
fn bytes_sent_before_the_connection_broke_are_counted() {
    let (url, server) = server(drop);
    let Posted { reply, sent, .. } = client(url).post_bulk("/_bulk", &vec![b'x'; 64 << 20], false);
    assert!(reply.is_err());
    assert!(sent < 64 << 20, "{sent} bytes");
    server.join().unwrap();
}

#[test]
fn a_continue_may_have_headers_or_follow_another_interim_answer() {
    for says in [
        "HTTP/1.1 100 Continue\r\nserver: proxy\r\ndate: now\r\n\r\n",
        "HTTP/1.1 100 \r\nconnection: keep-alive\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
        // The body follows after a second.
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n",
    ] {
        let (reply, request) = asked_first(says);
        assert_eq!(reply.unwrap().status, 200, "{says:?}");
        assert!(request.ends_with("\r\n\r\n{}\n"), "{says:?}: {request}");
    }
}

#[test]
fn a_server_that_refuses_expect_gets_the_request_without_it_from_then_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let mut expecting = Vec::new();
        while expecting.len() < 3 {
            let mut stream = listener.accept().unwrap().0;
            let mut head = Vec::new();
            let mut byte = [0];
            while expecting.len() < 3 {
                head.clear();
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                if head.is_empty() {
                    break;
                }
                let expects = String::from_utf8_lossy(&head).contains("expect: 100-continue");
                expecting.push(expects);
                if expects {
                    stream.write_all(b"HTTP/1.1 417 No\r\ncontent-length: 0\r\n\r\n").unwrap();
                } else {
                    stream.read_exact(&mut [0; 3]).unwrap();
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                }
            }
        }
        expecting
    });
    let client = client(url);
    for _ in 0..2 {
        assert_eq!(client.post_bulk("/_bulk", b"{}\n", true).reply.unwrap().status, 200);
    }
    assert_eq!(server.join().unwrap(), [true, false, false]);
}

#[test]
fn an_unrequested_encoding_or_byte_order_mark_is_decoded_or_named() {
    let gzip = gzip(b"{\"a\":1}", 6).unwrap();
    let read = Some(&b"{\"a\":1}"[..]);
    let marked = b"\xEF\xBB\xBF{\"a\":1}";
    for (encoding, body, expected) in
        [("gzip", &gzip[..], read), ("identity", marked, read), ("br", b"{}", None)]
    {
        let body = body.to_vec();
        let (url, _server) = server(move |mut stream| {
            read_request(&mut stream);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        });
        match (client(url).get("/"), expected) {
            (Ok(reply), Some(expected)) => assert_eq!(reply.body, expected),
            (Err(error), None) => assert!(error.to_string().contains("\"br\""), "{error}"),
            (result, _) => panic!("{encoding}: {result:?}"),
        }
    }
}

#[test]
fn bulk_requests_are_compressed_if_configured_and_counted_as_sent() {
    let body = "{\"index\":{}}\n{}\n".repeat(1000);
    for (compression, is_bulk) in [(0, true), (3, true), (3, false)] {
        let (url, server) = server(|stream| {
            let mut stream = std::io::BufReader::new(stream);
            let (mut head, mut line) = (String::new(), String::new());
            while std::io::BufRead::read_line(&mut stream, &mut line).unwrap() > 2 {
                head += &std::mem::take(&mut line);
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            (head, body)
        });
        let client = Client::new(&config::Elasticsearch { compression, ..settings(url) }).unwrap();
        let (reported, counted_on_wire) = if is_bulk {
            let Posted { reply, sent, on_wire, expect_answer } =
                client.post_bulk("/_bulk", body.as_bytes(), false);
            assert_eq!((reply.unwrap().status, expect_answer), (200, ExpectAnswer::NotAsked));
            (sent, on_wire)
        } else {
            client.post("/_bulk", body.as_bytes()).unwrap();
            (body.len() as u64, 0)
        };
        assert_eq!(reported, body.len() as u64, "the reported size is that before compression");
        let (head, sent) = server.join().unwrap();
        let is_gzip = compression > 0 && is_bulk;
        assert_eq!(head.contains("content-encoding: gzip\r\n"), is_gzip);
        let headers: HeaderMap =
            is_gzip.then(|| (CONTENT_ENCODING, "gzip".parse().unwrap())).into_iter().collect();
        assert_eq!(decoded(&headers, sent.clone(), 1 << 20).unwrap(), body.as_bytes());
        let counted = if is_bulk { sent.len() } else { 0 };
        assert_eq!(counted_on_wire, counted as u64);
    }
}

#[test]
fn a_redirect_is_a_reply_and_nothing_goes_to_its_target() {
    for status in ["301 Moved Permanently", "307 Temporary Redirect"] {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let location = format!("http://{}/", target.local_addr().unwrap());
        let (url, _server) = server(move |mut stream| {
            read_request(&mut stream);
            write!(stream, "HTTP/1.1 {status}\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n").unwrap();
        });
        let reply = client(url).post("/_bulk", b"{}\n").unwrap();
        assert_eq!(reply.status.to_string(), status[..3]);
        target.set_nonblocking(true).unwrap();
        assert_eq!(target.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

#[test]
fn a_broken_connection_differs_from_a_reply_cut_off_after_its_head() {
    for reply in ["", "HTTP/1.1 200 O", "\x15\x03\x03 not HTTP\r\n\r\n"] {
        let (url, _server) = answer(reply);
        let error = client(url).get("/").unwrap_err();
        assert!(matches!(error, TransportError::Interrupted(_)), "{reply:?}: {error:?}");
    }
    for reply in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"a",
    ] {
        let (url, _server) = answer(reply);
        let error = client(url).get("/").unwrap_err();
        assert!(matches!(error, TransportError::Cut(_)), "{reply:?}: {error:?}");
    }
}

#[test]
fn a_closed_port_is_a_connection_error() {
    let error = client("http://127.0.0.1:1".to_owned()).get("/").unwrap_err();
    assert!(matches!(error, TransportError::Connect(_)), "{error:?}");
}

#[test]
fn a_silent_server_is_timed_out() {
    // The server holds the connection until the client has given up.
    let (done, wait) = mpsc::channel::<()>();
    let (url, server) = server(move |mut stream| {
        read_request(&mut stream);
        let _ = wait.recv();
    });
    let client = client(url).within(Duration::from_millis(200));
    assert_eq!(client.get("/").unwrap_err(), TransportError::TimedOut);
    drop(done);
    server.join().unwrap();
}

#[test]
fn a_time_limit_is_only_ever_shortened() {
    let limits = RequestLimits {
        call: Duration::from_secs(7),
        last_call: Duration::from_secs(2),
        ..RequestLimits::default()
    };
    let client = Client::with_limits(&settings("http://localhost".to_owned()), limits).unwrap();
    let calls = [
        client.clone(),
        client.within(Duration::MAX),
        client.within(Duration::from_secs(3)),
        client.with_short_limit(),
    ];
    assert_eq!(calls.map(|client| client.limits.call.as_secs()), [7, 7, 3, 2]);
}

#[test]
fn a_reply_over_the_limit_is_refused() {
    let limits = RequestLimits { reply_bytes: 10, ..RequestLimits::default() };
    for (length, accepted) in [(10, true), (11, false)] {
        let (url, _server) = server(move |mut stream| {
            read_request(&mut stream);
            let body = "x".repeat(length);
            write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}").unwrap();
        });
        let result = Client::with_limits(&settings(url), limits).unwrap().get("/");
        assert_eq!(result.is_ok(), accepted, "{result:?}");
    }
}

#[test]
fn clones_use_one_connection_after_another() {
    let (url, server) = server(|mut stream| {
        for _ in 0..2 {
            read_request(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        }
    });
    let client = client(url);
    client.clone().get("/").unwrap();
    client.get("/").unwrap();
    server.join().unwrap();
}

#[test]
fn trace_records_are_compiled_out_since_the_http_library_puts_request_heads_into_them() {
    assert!(log::STATIC_MAX_LEVEL < log::LevelFilter::Trace);
}

#[test]
fn a_client_does_not_print_its_key() {
    assert!(!format!("{:?}", client("http://localhost".to_owned())).contains(KEY));
}

#[test]
fn a_reason_is_one_short_line() {
    let reply = |body: String| Reply { status: 400, retry_after: None, body: body.into_bytes() };
    let nested = reply(r#"{"error":{"type":"x_exception","reason":"bad\nthing"},"status":400}"#.to_owned());
    assert_eq!(
        (nested.error_type().as_str(), nested.reason().as_str()),
        ("x_exception", "HTTP 400 bad thing")
    );
    let flat = reply(r#"{"error":"no handler found"}"#.to_owned());
    assert_eq!((flat.error_type().as_str(), flat.reason().as_str()), ("", "HTTP 400 no handler found"));
    assert_eq!(reply("x".repeat(10_000)).reason().len(), MAX_REASON_CHARS + "HTTP 400 ".len());
    assert_eq!(reply(String::new()).reason(), "HTTP 400");
    // Recorded from Elasticsearch 9.5.3.
    let expired = reply(
        r#"{"error":{"type":"security_exception","reason":"unable to authenticate",
            "additional_unsuccessful_credentials":"API key: api key is expired"},"status":401}"#
            .to_owned(),
    );
    assert_eq!(expired.reason(), "HTTP 400 API key: api key is expired: unable to authenticate");
}
