//! `--listen`: metrics and health during a run, and during a run that hangs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::archives::Archive;
use crate::harness::script::Fault;
use crate::harness::{Running, TestEnv, posts};

const PATIENCE: Duration = Duration::from_secs(30);

fn archive() -> Archive {
    Archive::new("20251218_000000").with_all(posts("p", 5))
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Sends bytes to the port and returns the reply, "" if nothing answers.
fn ask(port: u16, request: &str) -> String {
    let mut reply = String::new();
    if let Ok(mut connection) = TcpStream::connect(("127.0.0.1", port)) {
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        // The server may have ended in the meantime.
        let _ = connection.write_all(request.as_bytes());
        let _ = connection.read_to_string(&mut reply);
    }
    reply
}

fn get(port: u16, path: &str) -> String {
    ask(port, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

/// Repeats a request until its reply fits.
fn wait_for(running: &mut Running, port: u16, path: &str, is_right: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = get(port, path);
        if is_right(&reply) {
            return reply;
        }
        assert!(Instant::now() < deadline && running.is_running(), "{path}: {reply}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The lines of a metrics page or file, without those that change by themselves.
fn stable_lines(text: &str) -> Vec<&str> {
    let changes = ["lag_seconds ", "since_confirmed_request_seconds "];
    let is_stable = |line: &&str| {
        line.starts_with("megastream_ingest_")
            && !changes.iter().any(|name| line["megastream_ingest_".len()..].starts_with(name))
    };
    text.lines().filter(is_stable).collect()
}

#[test]
fn a_spool_run_serves_its_metrics_and_health() {
    let env = TestEnv::with_archives(&[archive()]);
    let port = free_port();
    let text = port.to_string();
    let arguments = ["--mode", "spool", "--listen", &text, "--metrics-file", "m.prom"];
    let mut running = env.ingest().args(&arguments).var("SPOOL_INTERVAL_SEC", "3600").start();
    let done = "megastream_ingest_archives{state=\"processed\"} 1\n";
    wait_for(&mut running, port, "/metrics", |reply| {
        reply.contains(done)
            && reply.contains("last_success")
            && env.read("m.prom").is_some_and(|m| m.contains("last_success"))
    });
    let page = get(port, "/metrics");
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    assert_eq!(stable_lines(body), stable_lines(&env.read("m.prom").unwrap()));
    let count = |name: &str| {
        let line = body.lines().find_map(|line| line.strip_prefix(&format!("megastream_ingest_{name} ")));
        line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_default()
    };
    assert!(count("request_duration_seconds_count{request=\"bulk\"}") >= 1.0, "{body}");
    assert!(count("request_duration_seconds_count{request=\"look_up\"}") >= 2.0, "{body}");
    assert!(count("memory_limit_bytes") > 1e6 && count("memory_admitted_bytes") == 0.0, "{body}");
    assert!(count("lag_seconds") > 1e6 && count("since_confirmed_request_seconds") < 60.0, "{body}");
    assert!(get(port, "/healthz").ends_with("\r\n\r\nok\n"));
    assert!(get(port, "/readyz").ends_with("\r\n\r\nready\n"));

    // Unknown paths and invalid requests do no harm.
    assert!(get(port, "/").starts_with("HTTP/1.1 404 "));
    assert!(ask(port, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(ask(port, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(ask(port, &"x".repeat(8 << 10)).starts_with("HTTP/1.1 431 "));
    let silent: Vec<_> = (0..40).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    assert!(get(port, "/healthz").ends_with("\r\n\r\nok\n"));
    drop(silent);
    running.signal("TERM");
    running.wait().exits(0);
    assert_eq!(get(port, "/healthz"), "", "the port is free again");
}

#[test]
fn a_run_is_ready_after_its_preflight_unless_the_server_is_unavailable() {
    let env = TestEnv::with_archives(&[archive()]);
    let port = free_port();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let text = port.to_string();
    let spool = env.ingest().args(&["--mode", "spool", "--listen", &text]).var("SPOOL_INTERVAL_SEC", "3600");
    let mut away = spool.var("ELASTICSEARCH_URL", &nobody).start();
    let reply = wait_for(&mut away, port, "/readyz", |reply| !reply.is_empty());
    assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains("preflight"), "{reply}");
    assert!(get(port, "/healthz").starts_with("HTTP/1.1 200 "), "a waiting run is healthy");
    away.signal("TERM");
    away.wait();
}

#[test]
fn a_port_in_use_ends_the_run_at_the_start_with_advice() {
    let env = TestEnv::with_archives(&[archive()]);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let run = env.ingest().args(&["--listen", &address]).run().exits(2);
    run.says("--listen (LISTEN_ADDRESS) names").says("a port of its own");
    assert!(env.state().is_empty());
    let run = env.ingest().args(&["--dry-run"]).var("LISTEN_ADDRESS", "no address").run().exits(2);
    run.says("LISTEN_ADDRESS is \"no address\"");
}

#[test]
#[cfg(debug_assertions)]
fn a_stuck_sender_makes_the_run_unhealthy_until_it_continues() {
    let env = TestEnv::with_archives(&[archive()]);
    env.fake.fail_bulks(1, Fault::Hang);
    let port = free_port();
    let text = port.to_string();
    let spool = env.ingest().args(&["--mode", "spool", "--listen", &text]).var("SPOOL_INTERVAL_SEC", "3600");
    let mut running = spool.var("MEGASTREAM_INGEST_STUCK_AFTER_MS", "300").start();
    let reply = wait_for(&mut running, port, "/healthz", |reply| reply.starts_with("HTTP/1.1 503 "));
    assert!(reply.contains("stuck: sender has shown no sign of life for "), "{reply}");
    assert!(get(port, "/metrics").contains("megastream_ingest_stuck{stage=\"sender\"} 1\n"));
    env.fake.release();
    wait_for(&mut running, port, "/healthz", |reply| reply.starts_with("HTTP/1.1 200 "));
    running.signal("TERM");
    running.wait().exits(0);
}
