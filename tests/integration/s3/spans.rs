//! `--source s3`: which of the listed objects are loaded, with `--from` and `--to`, and by size and ETag.

use super::{BUCKET, archives, ingest, put, run, with};
use crate::harness::TestEnv;
use crate::harness::archives::Archive;
use crate::harness::s3::{FakeS3, is_listing, is_object};

/// The names that would be loaded.
fn taken(env: &TestEnv, s3: &FakeS3, arguments: &[&str]) -> Vec<String> {
    let list = run(ingest(env, s3).args(&["--list"]).args(arguments), s3).exits(0);
    let lines = list.stdout.lines().filter(|line| line.ends_with("\ttake"));
    lines.map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn no_archive_of_the_time_span_is_missed_whatever_its_key() {
    let (env, s3) = with(&[]);
    s3.pages_of(10);
    // Three archives a day, each page with names of the same form.
    for (n, hour) in (1..=30).flat_map(|day| ["00", "08", "16"].map(|hour| (day, hour))) {
        s3.put(&format!("in/mega_jetstream_202511{n:02}_{hour}0000.db.zip"), "x");
    }
    let mut expected =
        ["00", "08", "16"].map(|hour| format!("mega_jetstream_20251120_{hour}0000.db.zip")).to_vec();
    for other in [
        "in/2024/mega_20251120_010000.db.zip",
        "in/20251120_020000.db.zip",
        "in/zzz_20251120_030000.db.zip",
        "in/mega_jetstream_2_20251120_040000.db.zip",
        "in/mega_jetstream_1/mega_20251120_050000.db.zip",
        "in/mega_jetstream_2025/20251120_060000.db.zip",
        "in/mega_jetstream_20250101_000000/20251120_070000.db.zip",
        "in/mega_jetstream_20250101_000000_to_20251120_090000.db.zip",
        "in/mega_jetstream_20261231_000000_to_20251120_100000.db.zip",
        "in/mega_jetstream_eu_20251120_110000.db.zip",
    ] {
        s3.put(other, "x");
        expected.push(other.rsplit('/').next().unwrap().to_owned());
    }
    expected.sort_by_key(|name| name[name.len() - 22..].to_owned());
    assert_eq!(taken(&env, &s3, &["--from", "2025-11-20", "--to", "2025-11-21"]), expected);
    // Of two objects with the same name, neither is loaded, even if only one is within the part of the bucket.
    s3.put("in/zzz/mega_jetstream_20251120_080000.db.zip", "x");
    expected.retain(|name| name != "mega_jetstream_20251120_080000.db.zip");
    assert_eq!(taken(&env, &s3, &["--from", "2025-11-20", "--to", "2025-11-21"]), expected);
}

#[test]
fn a_longer_prefix_selects_a_part_of_a_bucket_with_fewer_requests() {
    let (env, s3) = with(&[]);
    s3.pages_of(10);
    (1..=30).for_each(|day| s3.put(&format!("in/mega_202511{day:02}_000000.db.zip"), "x"));
    let list = ingest(&env, &s3).args(&["--list"]).var("S3_SQLITE_DB_PREFIX", "in/mega_2025112");
    let list = run(list, &s3).exits(0);
    assert_eq!(list.stdout.lines().filter(|line| line.ends_with("\ttake")).count(), 10);
    assert_eq!(s3.requests().iter().filter(|request| is_listing(request)).count(), 1);
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
