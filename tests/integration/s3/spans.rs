//! `--source s3` with `--from` and `--to`: pages outside the time span are skipped if the key names allow it.

use super::{BUCKET, archives, ingest, put, run, with};
use crate::harness::TestEnv;
use crate::harness::archives::Archive;
use crate::harness::http::{Reply, Request};
use crate::harness::s3::{FakeS3, error, is_listing, is_object};
use crate::harness::script::Fault;

/// The number of pages of a year with an archive every five minutes. The fake's pages have fewer keys.
const PAGES: usize = 105;
const KEYS_OF_A_PAGE: usize = 10;

/// A bucket with this number of pages, and an archive every 8 hours.
fn a_year(lead: &str) -> (TestEnv, FakeS3) {
    let (env, s3) = with(&[]);
    s3.pages_of(KEYS_OF_A_PAGE);
    for n in 0..PAGES * KEYS_OF_A_PAGE {
        let (day, hour) = (n / 3, 8 * (n % 3));
        let time = format!("2025{:02}{:02}_{hour:02}0000", 1 + day / 30, 1 + day % 30);
        // Days that do not exist have no time, and are not archives of this form.
        if !["20250229", "20250230"].iter().any(|day| time.starts_with(day)) {
            s3.put(&format!("in/{lead}{time}.db.zip"), "x");
        }
    }
    (env, s3)
}

/// The names that would be loaded, and the number of requests that it took.
fn taken(env: &TestEnv, s3: &FakeS3, arguments: &[&str]) -> (Vec<String>, usize) {
    let before = s3.requests().len();
    let list = run(ingest(env, s3).args(&["--list"]).args(arguments), s3).exits(0);
    let lines = list.stdout.lines().filter(|line| line.ends_with("\ttake"));
    let names = lines.map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect();
    (names, s3.requests().len() - before)
}

#[test]
fn listing_one_day_of_a_year_takes_four_requests() {
    let (env, s3) = a_year("mega_jetstream_");
    let (all, requests) = taken(&env, &s3, &[]);
    assert_eq!(requests, all.len().div_ceil(KEYS_OF_A_PAGE));
    assert!(requests > 100, "{requests}");
    let day = ["20251130_000000", "20251130_080000", "20251130_160000"];
    let expected = day.map(|time| format!("mega_jetstream_{time}.db.zip"));
    let (names, requests) = taken(&env, &s3, &["--from", "2025-11-30", "--to", "2025-12-01"]);
    assert_eq!(
        (names.as_slice(), requests),
        (&expected[..], 4),
        "one page, the keys with another lead, the days, and that day"
    );
    // An open span includes everything after its start.
    let (names, requests) = taken(&env, &s3, &["--from", "2025-11-30"]);
    assert_eq!(names, all[all.iter().position(|name| *name == expected[0]).unwrap()..]);
    assert_eq!(requests, 3 + (21usize * 3).div_ceil(KEYS_OF_A_PAGE));
    let (names, requests) = taken(&env, &s3, &["--to", "2025-01-05"]);
    assert_eq!((names.len(), requests), (12, 4));
}

#[test]
fn listing_by_a_prefix_that_ends_before_the_time_takes_three_requests() {
    let (env, s3) = a_year("");
    let (names, requests) = taken(&env, &s3, &["--from", "2025-11-30", "--to", "2025-12-01"]);
    assert_eq!((names.len(), requests), (3, 3));
    // Many keys after all times are listed to their end.
    (0..2 * KEYS_OF_A_PAGE).for_each(|n| s3.put(&format!("in/other_{n:02}.txt"), "x"));
    s3.put("in/zzz_20251130_010000.db.zip", "x");
    let (names, requests) = taken(&env, &s3, &["--from", "2025-11-30", "--to", "2025-12-01"]);
    assert_eq!((names.len(), requests), (4, 6));
}

#[test]
fn no_archive_is_missed_whatever_its_name() {
    let others = [
        "in/2024/mega_jetstream_20251130_010000.db.zip",
        "in/before_20251130_010000.db.zip",
        "in/20251130_010000.db.zip",
        "in/zzz_20251130_010000.db.zip",
        "in/mega_jetstream_1/mega_20251130_010000.db.zip",
        "in/mega_jetstream_eu_20251130_010000.db.zip",
        "in/mega_jetstream_1_20251130_010000.db.zip",
        "in/mega_jetstream_2_20251130_010000.db.zip",
        "in/mega_jetstream_202/mega_20251130_010000.db.zip",
    ];
    for other in others {
        let (env, s3) = a_year("mega_jetstream_");
        s3.put(other, "x");
        let (names, _) = taken(&env, &s3, &["--from", "2025-11-30", "--to", "2025-12-01"]);
        let name = other.rsplit('/').next().unwrap();
        assert!(names.len() == 4 && names.iter().any(|taken| taken == name), "{other}: {names:?}");
    }
}

#[test]
fn a_server_that_ignores_delimiters_is_asked_for_all_pages() {
    let (env, s3) = a_year("mega_jetstream_");
    s3.ignore_delimiters();
    let (names, requests) = taken(&env, &s3, &["--from", "2025-11-30", "--to", "2025-12-01"]);
    assert_eq!(names.len(), 3);
    assert!(requests > 100, "{requests}");
}

#[test]
fn a_server_that_ignores_start_after_is_asked_for_all_pages() {
    let (env, s3) = a_year("mega_jetstream_");
    s3.ignore_start_after();
    let (names, requests) = taken(&env, &s3, &["--from", "2025-11-30", "--to", "2025-12-01"]);
    assert_eq!(names.len(), 3);
    assert!((100..120).contains(&requests), "{requests}");
}

#[test]
fn a_server_that_refuses_start_after_is_asked_for_all_pages() {
    let (env, s3) = a_year("mega_jetstream_");
    let starts = |request: &Request| is_listing(request) && request.param("start-after").is_some();
    s3.fail(starts, 0, usize::MAX, Fault::Reply(error(400, "InvalidArgument")));
    let arguments = ["--list", "--from", "2025-11-30", "--to", "2025-12-01"];
    let list = ingest(&env, &s3).args(&arguments).run().exits(0);
    assert_eq!(list.stdout.matches("\ttake").count(), 3);
}

/// A bucket whose pages, of this size, are listed in another order: the second half of the keys first.
fn listed_in_halves(size: usize) -> (TestEnv, FakeS3) {
    let (env, s3) = with(&[]);
    s3.pages_of(size);
    let name = |n: usize| format!("in/mega_jetstream_202512{:02}_000000.db.zip", n + 1);
    let names: Vec<String> = (0..2 * size).map(name).collect();
    for name in &names {
        s3.put(name, "x");
    }
    let first =
        names[size..].iter().map(|name| format!("<Contents><Key>{name}</Key><Size>1</Size></Contents>"));
    let body = format!(
        "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>after+/=</NextContinuationToken>{}\
         </ListBucketResult>",
        first.collect::<String>()
    );
    let is_first = |request: &Request| {
        is_listing(request)
            && ["continuation-token", "start-after", "delimiter"]
                .iter()
                .all(|name| request.param(name).is_none())
    };
    let page = Reply { status: 200, headers: vec![], body: body.into_bytes() };
    s3.fail(is_first, 0, usize::MAX, Fault::Reply(page));
    (env, s3)
}

#[test]
fn a_server_whose_pages_are_in_another_order_is_asked_for_all() {
    for size in [1, 2, 10] {
        let (env, s3) = listed_in_halves(size);
        let (names, _) = taken(&env, &s3, &["--to", "2025-12-02"]);
        assert_eq!(names, ["mega_jetstream_20251201_000000.db.zip"], "pages of {size}");
    }
}

#[test]
fn only_archives_within_the_time_span_are_downloaded() {
    let archives = archives();
    let (env, s3) = with(&archives);
    let span = ["--from", "2025-12-18T00:01:00Z", "--to", "2025-12-18T00:02:00Z"];
    run(ingest(&env, &s3).args(&span), &s3)
        .exits(0)
        .counts(&[("archives.discovered", 1), ("rows.indexed", 3)]);
    assert_eq!(env.status_of(&archives[1]), "processed");
    assert_eq!(s3.requests().iter().filter(|request| is_object(request)).count(), 1);
    assert_eq!(s3.requests().iter().filter(|request| is_listing(request)).count(), 1);
}

#[test]
fn an_object_with_a_new_etag_is_reported_and_left() {
    let archives = archives();
    let (env, s3) = with(&archives);
    run(ingest(&env, &s3), &s3).exits(0);
    // All objects have new times; one has a new ETag, too.
    s3.touch_all();
    s3.put(&format!("in/{}", archives[1].name()), archives[1].zip());
    let again = run(ingest(&env, &s3).args(&["--retry-failed"]), &s3).exits(0);
    again.counts(&[("archives.already_done", 3), ("rows.read", 0)]);
    again
        .check(again.stderr.matches("has changed since it was processed").count() == 1, "one line is logged");
    again.check(again.stderr.contains(&archives[1].name()), "the reason is named");
}

#[test]
fn a_database_with_an_sqlite_wal_beside_it_fails() {
    for suffix in [".db.zip-wal", ".db-wal", ".db.zip-journal"] {
        let (env, s3) = with(&[]);
        let archive: &Archive = &archives()[0];
        s3.put(&format!("in/{}", archive.name()), archive.database());
        let log = archive.name().replace(".db.zip", suffix);
        s3.put(&format!("in/{log}"), "rows that are not in the database yet");
        run(ingest(&env, &s3), &s3).exits(3).counts(&[("archives.failed", 1), ("rows.read", 0)]);
        let error = env.state()[&archive.name()]["error"].to_string();
        assert!(error.contains(&log) && error.contains("wal_checkpoint(TRUNCATE)"), "{error}");
    }
    // A WAL beside a zip does no harm, nor does an empty one.
    let (env, s3) = with(&[]);
    put(&s3, &archives()[..1]);
    s3.put(&format!("in/{}-wal", archives()[0].name()), "x");
    s3.put(&format!("in/{}", archives()[1].name()), archives()[1].database());
    s3.put(&format!("in/{}-wal", archives()[1].name()), "");
    run(ingest(&env, &s3), &s3).exits(0).counts(&[("archives.processed", 2), ("rows.indexed", 6)]);
}

#[test]
fn the_json_list_gives_path_and_storage_class_of_each_object() {
    let (env, s3) = with(&archives()[..1]);
    s3.put("in/.db.zip/../x.db.zip", "no URL leads to it");
    let list = run(ingest(&env, &s3).args(&["--list", "--json"]), &s3).exits(0);
    let lines = crate::harness::lines(&list.stdout);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["path"], format!("s3://{BUCKET}/in/{}", archives()[0].name()));
    assert_eq!((&lines[0]["storage_class"], &lines[0]["take"]), (&"STANDARD".into(), &true.into()));
    assert_eq!((&lines[1]["left"], &lines[1]["take"]), (&"passed_over".into(), &false.into()));
    assert_eq!(lines[1]["name"], "x.db.zip");
}
