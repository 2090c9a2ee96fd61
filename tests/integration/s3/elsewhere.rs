//! `--source s3`: the region and endpoint of the bucket, and hints if nothing like S3 replies.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::{archives, ingest, run, with};
use crate::harness::http::Reply;
use crate::harness::model::assert_holds;
use crate::harness::s3::{BUCKET, error, is_listing};
use crate::harness::script::Fault;

#[test]
fn a_redirect_to_another_region_is_followed_and_reported_once() {
    let archives = archives();
    let (env, s3) = with(&archives);
    s3.set_region("eu-west-1");
    let run = run(ingest(&env, &s3), &s3).exits(0).says("\"eu-west-1\"").says("set AWS_REGION");
    assert_eq!(run.stderr.matches("set AWS_REGION").count(), 1);
    assert_holds(&env.fake, &archives);
    let there = s3
        .to_bucket()
        .iter()
        .filter(|request| request.header("authorization").is_some_and(|text| text.contains("/eu-west-1/s3/")))
        .count();
    assert_eq!(there, s3.to_bucket().len() - 1, "one request went to the wrong region");
}

#[test]
fn the_region_can_be_set_in_several_places() {
    let (env, s3) = with(&archives());
    env.write("config", "[default]\nregion = eu-west-1\n[profile there]\nregion = eu-west-3\n");
    for (region, variables) in [
        ("eu-west-2", &[("AWS_DEFAULT_REGION", "eu-west-2")][..]),
        ("eu-west-1", &[]),
        ("eu-west-3", &[("AWS_PROFILE", "there")]),
        ("eu-west-4", &[("AWS_REGION", "eu-west-4"), ("AWS_DEFAULT_REGION", "eu-west-2")]),
    ] {
        s3.set_region(region);
        let mut invocation = ingest(&env, &s3).args(&["--dry-run"]).var("AWS_CONFIG_FILE", "config");
        for (name, value) in variables {
            invocation = invocation.var(name, value);
        }
        let run = run(invocation, &s3).exits(0);
        run.check(!run.stderr.contains("set AWS_REGION"), "the region is right at once");
    }
}

#[test]
fn an_unreachable_region_is_reported_with_its_settings() {
    let (env, s3) = with(&archives());
    let here = error(400, "AuthorizationHeaderMalformed").with_header("x-amz-bucket-region", "eu-west-1");
    s3.fail(is_listing, 0, usize::MAX, Fault::Reply(here));
    run(ingest(&env, &s3), &s3).exits(5).says("AWS_REGION").says("eu-west-1");
    assert_eq!(s3.requests().len(), 2, "the other region was tried");
    s3.clear_faults();
    s3.fail(
        is_listing,
        0,
        usize::MAX,
        Fault::Reply(error(301, "PermanentRedirect").with_header("x-amz-bucket-region", "a.b/")),
    );
    run(ingest(&env, &s3), &s3).exits(5).says("AWS_REGION");
}

#[test]
fn the_bucket_may_be_part_of_the_host_name() {
    let archives = archives();
    let (env, s3) = with(&archives);
    let endpoint = s3.url().replace("127.0.0.1", "localhost");
    let invocation =
        ingest(&env, &s3).args(&["--s3-addressing", "virtual"]).var("AWS_ENDPOINT_URL_S3", &endpoint);
    run(invocation, &s3).exits(0);
    assert_holds(&env.fake, &archives);
    assert!(s3.requests().iter().all(|request| {
        request.header("host").is_some_and(|host| host.starts_with(&format!("{BUCKET}.localhost:")))
    }));
    for (name, value) in [("S3_ADDRESSING", "virtual"), ("S3_ADDRESSING", "elsewhere")] {
        ingest(&env, &s3).var(name, value).run().exits(2).says("S3_ADDRESSING");
    }
    run(ingest(&env, &s3).args(&["--dry-run", "--s3-addressing=path"]), &s3).exits(0);
}

#[test]
fn an_endpoint_that_is_not_s3_is_reported_with_its_setting() {
    let (env, s3) = with(&archives());
    let bucket_in_it = format!("{}/{BUCKET}", s3.url());
    ingest(&env, &s3)
        .var("AWS_ENDPOINT_URL_S3", &bucket_in_it)
        .run()
        .exits(2)
        .says("the bucket's name, which the program adds");
    let at =
        |url: &str| ingest(&env, &s3).var("AWS_ENDPOINT_URL_S3", url).args(&["--retry-budget", "0"]).run();
    at("http://127.0.0.1:1").exits(4).says("127.0.0.1:1").says("port of AWS_ENDPOINT_URL_S3");
    at("http://no-such-host.invalid").exits(4).says("no-such-host.invalid").says("AWS_ENDPOINT_URL_S3");
    let plain_http = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", plain_http.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = plain_http.accept().unwrap();
        // The server does not understand the request.
        assert!(stream.read(&mut [0; 1_000]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    at(&url).exits(5).says("begin AWS_ENDPOINT_URL_S3 with http://");
    answering.join().unwrap();
    let plain = Reply {
        status: 400,
        headers: vec![],
        body: b"Client sent an HTTP request to an HTTPS server.\n".to_vec(),
    };
    s3.fail(is_listing, 0, usize::MAX, Fault::Reply(plain));
    run(ingest(&env, &s3), &s3).exits(5).says("Client sent an HTTP request").says("https://");
    s3.clear_faults();
    // The TLS alert of an https port that receives plain HTTP.
    s3.fail(is_listing, 0, usize::MAX, Fault::Bytes(b"\x15\x03\x01\x00\x02\x02\x16"));
    at(&s3.url()).exits(4).says("port of AWS_ENDPOINT_URL_S3");
    let with_user = s3.url().replace("http://", "http://user:hunter2@");
    let run =
        ingest(&env, &s3).var("AWS_ENDPOINT_URL_S3", &with_user).run().exits(2).says("AWS_S3_ACCESS_KEY");
    run.check(
        !run.stderr.contains("hunter2") && !run.stderr.contains("ELASTICSEARCH"),
        "the error belongs to S3",
    );
}

#[test]
fn a_hanging_host_does_not_delay_a_signal() {
    let (env, s3) = with(&archives());
    s3.fail(is_listing, 0, usize::MAX, Fault::Hang);
    for (mode, code) in [("once", 143), ("spool", 0)] {
        let asked = s3.requests().len();
        let running = ingest(&env, &s3).args(&["--mode", mode]).start();
        s3.wait_for(is_listing, asked + 1);
        let began = std::time::Instant::now();
        running.signal("TERM");
        running.wait().exits(code);
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    }
}
