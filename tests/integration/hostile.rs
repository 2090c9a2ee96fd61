//! Archives with one defect each (`test_data/hostile`, made by `test_data/make_hostile.py`). A broken archive is
//! `failed`, with the defect as reason. A bad row or vector harms nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::archives::{Archive, post, uri};
use crate::harness::{DEAD_LETTERS, Run, TestEnv, lines, long_or, string};

/// The expected outcome of a fixture.
enum Becomes {
    /// `failed`, with these words in the reason.
    Failed(&'static str),
    /// `processed`, with this number of posts.
    Posts(u64),
    /// `processed`, with this number of posts, and with rows rejected for these reasons.
    Rejects(u64, &'static [&'static str]),
    /// `processed`, with three posts, which lack these fields.
    Drops(&'static [&'static str]),
}

use Becomes::{Drops, Failed, Posts, Rejects};

const ZIPS: &[(&str, Becomes)] = &[
    ("zip_truncated", Failed("not a valid zip")),
    ("zip_without_its_directory", Failed("not a valid zip")),
    ("zip_empty_file", Failed("not a valid zip")),
    ("zip_not_a_zip", Failed("not a valid zip")),
    ("zip_no_entries", Failed("no .db entry")),
    ("zip_no_db_entry", Failed("no .db entry")),
    ("zip_several_db_entries", Failed("several .db entries that are databases")),
    ("zip_several_db_entries_no_database", Failed("none is an SQLite database")),
    ("zip_only_what_macos_added", Failed("no .db entry")),
    ("zip_with_wal", Failed("a.db-wal\", without which the database is incomplete")),
    ("zip_with_journal", Failed("a.db-journal\", without which the database is incomplete")),
    ("zip_encrypted", Failed("encrypted")),
    ("zip_unknown_compression", Failed("unsupported compression method")),
    ("zip_says_less", Failed("longer than it declares")),
    ("zip_says_more", Failed("not as long as it declares")),
    ("zip_says_gigabytes", Failed("has 4294967294 bytes, more than")),
    ("zip_says_exabytes", Failed("has 1152921504606846976 bytes, more than")),
    ("zip_entry_beyond_its_end", Failed("cut off")),
    ("zip_wrong_crc", Failed("CRC-32")),
    ("zip_rubbish_for_deflate", Failed("not a valid deflate stream")),
    ("zip_nested", Failed("not an SQLite database")),
    ("zip_says_65535_entries", Failed("more entries than its size allows")),
    ("zip_bomb_of_60_mib", Failed("not an SQLite database")),
    ("zip_of_macos", Posts(2)),
    ("zip_of_windows", Posts(2)),
    ("zip_one_database_of_three_db_entries", Posts(2)),
    ("zip_with_empty_wal", Posts(2)),
    ("zip64", Posts(2)),
    ("zip_name_with_dots", Posts(2)),
    ("zip_name_absolute", Posts(2)),
    ("zip_name_with_nul", Posts(2)),
    ("zip_name_with_newline", Posts(2)),
    ("zip_name_no_utf_8", Posts(2)),
];

const DATABASES: &[(&str, Becomes)] = &[
    ("sqlite_only_its_magic", Failed("cut off, or its page size is wrong")),
    ("sqlite_cut_off", Failed("cut off, or its page size is wrong")),
    ("sqlite_page_size_lies", Failed("cut off, or its page size is wrong")),
    ("sqlite_root_page_overwritten", Failed("malformed")),
    ("sqlite_later_page_overwritten", Failed("malformed")),
    ("sqlite_overflow_chain_broken", Failed("malformed")),
    ("sqlite_pages_in_a_circle", Failed("row ids are not in order")),
    ("sqlite_cell_claims_1_gib", Failed("malformed")),
    ("sqlite_no_table", Failed("no table enriched_posts or posts")),
    ("sqlite_no_column", Failed("no column inferences")),
    ("sqlite_view_as_table", Failed("enriched_posts is a view or a virtual table")),
    ("sqlite_endless_view_as_table", Failed("posts is a view or a virtual table")),
    ("sqlite_view_called_table", Failed("malformed database schema")),
    ("sqlite_virtual_table", Failed("posts is a view or a virtual table")),
    ("sqlite_generated_column", Failed("raw_post of posts is generated")),
    ("sqlite_without_row_ids", Failed("no row ids")),
    ("sqlite_thousands_of_tables", Failed("too many schema objects")),
    ("sqlite_1904_columns", Failed("too many columns")),
    ("sqlite_long_schema", Failed("too big")),
    ("sqlite_deep_expression", Failed("Expression tree is too large")),
    ("sqlite_bare_database", Posts(2)),
    ("sqlite_wal_header", Posts(2)),
    ("sqlite_trigger", Posts(2)),
    ("sqlite_other_objects", Posts(2)),
    ("sqlite_utf_16", Posts(2)),
];

const ROWS: &[(&str, Becomes)] = &[
    ("row_wrong_types", Rejects(3, &["wrong_type", "wrong_type", "invalid_at_uri"])),
    ("row_nulls", Rejects(2, &["null_raw_post"])),
    ("row_no_utf_8", Rejects(2, &["invalid_json", "invalid_at_uri"])),
    ("row_of_another_collection", Posts(2)),
    ("json_200000_levels", Rejects(2, &["too_deep"])),
    ("json_200000_levels_in_a_member", Rejects(2, &["too_deep"])),
    ("json_200000_levels_that_end", Rejects(2, &["too_deep"])),
    ("json_nan", Rejects(2, &["invalid_json"])),
    ("json_cut_off", Rejects(2, &["invalid_json"])),
    ("json_two_documents", Rejects(2, &["invalid_json"])),
    ("json_100000_digits", Posts(3)),
    ("json_duplicate_keys", Posts(3)),
    ("json_lone_surrogate", Posts(3)),
    ("json_15000_keys", Posts(3)),
];

const VECTORS: &[(&str, Becomes)] = &[
    ("vector_rubbish", Drops(&["embedding"])),
    ("vector_no_zlib", Drops(&["embedding"])),
    ("vector_of_383", Drops(&["embedding"])),
    ("vector_with_nan", Drops(&["embedding"])),
    ("vector_with_infinity", Drops(&["embedding"])),
    ("vector_of_zeros", Drops(&["embedding"])),
    ("vector_without_length", Drops(&["embedding"])),
    ("vector_too_long_for_f32", Drops(&["embedding"])),
    ("vector_bomb_of_3_mb", Drops(&["embedding"])),
    ("vector_bomb_of_300_mb", Drops(&["embedding"])),
    ("vector_200000_levels", Drops(&["inferences"])),
];

const IDS: &[(&str, Becomes)] = &[
    ("id_of_513_bytes", Rejects(2, &["id_too_long"])),
    ("id_of_1_mib", Rejects(2, &["id_too_long"])),
    ("id_of_512_bytes", Posts(3)),
    ("id_with_newline", Posts(3)),
    ("id_with_quotes", Posts(3)),
    ("id_with_control_characters", Posts(3)),
];

/// The fixtures of `make_hostile.py --large`.
const LARGE: &[(&str, Becomes)] = &[
    ("zip_bomb_of_6_gb", Failed("has 6442450944 bytes, more than")),
    ("zip_bomb_that_says_1_mib", Failed("longer than it declares")),
    ("zip_30000_entries", Failed("30001 entries, more than 1000")),
    ("sqlite_cell_of_1_gib", Failed("more than 200 times its compressed size")),
    ("row_cell_of_65_mib", Rejects(2, &["too_long"])),
];

/// The time limit of a run over one hostile archive.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// The memory limit of any run over hostile archives, in MiB.
const MEMORY_LIMIT: u64 = 1024;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("test_data/hostile")
}

fn file_name(name: &str) -> String {
    format!("{name}.db.zip")
}

/// The intact archive beside every hostile one.
fn good() -> Archive {
    Archive::new("20251218_000000").with(post("good", "Nothing is wrong with me."))
}

/// A folder with the intact archive, and with `from` under the name of a fixture.
fn env_with(name: &str, from: &Path) -> TestEnv {
    let env = TestEnv::with_archives(&[good()]);
    std::fs::copy(from.join(file_name(name)), env.path("archives").join(file_name(name))).unwrap();
    env
}

fn check_each(fixtures: &[(&str, Becomes)]) {
    for (name, becomes) in fixtures {
        let env = env_with(name, &folder());
        let run = env.run(&[]);
        check(&env, &run, name, becomes);
        run.check(run.took < TIME_LIMIT, &format!("{name} takes no longer than {TIME_LIMIT:?}"));
        run.uses_less_than_mib(MEMORY_LIMIT);
    }
}

/// Checks the outcome of one fixture after a run over it and the intact archive.
fn check(env: &TestEnv, run: &Run, name: &str, becomes: &Becomes) {
    let state = env.state();
    let entry = &state[&file_name(name)];
    let posts = env.fake.documents("posts");
    run.check(posts.contains_key(&uri("good")), &format!("{name}: the good archive is indexed"));
    run.check(env.status_of(&good()) == "processed", &format!("{name}: the good archive is processed"));
    let letters: Vec<(String, String)> = env
        .dead_letters()
        .iter()
        .map(|letter| (string(&letter["archive"]), string(&letter["error_type"])))
        .collect();
    let rejects = |kinds: &[&str]| -> Vec<(String, String)> {
        kinds.iter().map(|kind| (file_name(name), (*kind).to_owned())).collect()
    };
    let (status, code, indexed, rejected) = match becomes {
        Failed(words) => {
            let reason = string(&entry["error"]);
            run.check(reason.contains(words), &format!("{name}: [{reason}] tells of [{words}]"));
            ("failed", 3, None, rejects(&[]))
        }
        Posts(indexed) => ("processed", 0, Some(*indexed), rejects(&[])),
        Rejects(indexed, kinds) => ("processed", 3, Some(*indexed), rejects(kinds)),
        Drops(fields) => {
            for field in *fields {
                let dropped = run.count(&format!("reasons.dropped_fields.{field}"));
                run.check(dropped == 1, &format!("{name}: one {field} is left out, not {dropped}"));
            }
            ("processed", 0, Some(3), rejects(&[]))
        }
    };
    run.check(entry["status"] == status, &format!("{name} is {status}: {entry}"));
    run.check(run.code == Some(code), &format!("{name}: exit code {code}"));
    run.check(letters == rejected, &format!("{name}: the dead letters are {rejected:?}, not {letters:?}"));
    if let Some(indexed) = indexed {
        run.check(run.count("rows.indexed") == indexed + 1, &format!("{name}: {indexed} posts are indexed"));
        for neighbour in ["before", "after"] {
            run.check(posts.contains_key(&uri(neighbour)), &format!("{name}: {neighbour} is indexed"));
        }
    }
}

#[test]
fn every_fixture_is_tried() {
    let mut tried: Vec<String> = [ZIPS, DATABASES, ROWS, VECTORS, IDS]
        .iter()
        .flat_map(|f| f.iter())
        .map(|(n, _)| file_name(n))
        .collect();
    let mut there: Vec<String> =
        std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    tried.sort();
    there.sort();
    assert_eq!(tried, there);
}

#[test]
fn a_hostile_zip_harms_nothing_else() {
    check_each(ZIPS);
    // Three fixtures have entry names that would lead here, if they were used as paths.
    assert!(!Path::new("/tmp/megastream_hostile.db").exists());
}

#[test]
fn a_hostile_database_harms_nothing_else() {
    check_each(DATABASES);
}

#[test]
fn a_hostile_row_harms_nothing_else() {
    check_each(ROWS);
}

#[test]
fn a_hostile_vector_harms_nothing_else() {
    check_each(VECTORS);
}

#[test]
fn a_hostile_id_breaks_no_bulk_body() {
    check_each(IDS);
    for (name, id) in [
        ("id_of_512_bytes", format!("at://{}", "x".repeat(507))),
        (
            "id_with_newline",
            format!("at://x\n{{\"delete\":{{\"_index\":\"posts\",\"_id\":\"{}\"}}}}\n", uri("before")),
        ),
        ("id_with_quotes", "at://\"},\"x\":\"\\".to_owned()),
        ("id_with_control_characters", "at://\0\u{1}\u{1b}[31m\u{7f}\u{2028}\u{202e}".to_owned()),
    ] {
        let env = env_with(name, &folder());
        env.run(&[]).exits(0);
        let posts = env.fake.documents("posts");
        assert_eq!(posts.len(), 4, "{name}: {:?}", posts.keys());
        assert!(posts.contains_key(&id), "{name}: {:?}", posts.keys());
    }
}

#[test]
fn an_id_too_long_for_elasticsearch_is_never_sent() {
    let env = TestEnv::new();
    for (name, _) in IDS {
        let name = file_name(name);
        std::fs::copy(folder().join(&name), env.path("archives").join(&name)).unwrap();
    }
    env.run(&[]).exits(3);
    for item in env.fake.bulks().iter().flat_map(|bulk| &bulk.items) {
        assert!(item.id.len() <= 512, "{} bytes", item.id.len());
    }
}

#[test]
fn json_is_read_as_other_parsers_read_it() {
    let content_of = |name: &str| {
        let env = env_with(name, &folder());
        env.run(&[]).exits(0);
        env.fake.documents("posts")[&uri("hostile")].source["content"].clone()
    };
    assert_eq!(content_of("json_duplicate_keys"), "last");
    assert_eq!(content_of("json_lone_surrogate"), "a\u{fffd}b");
}

#[test]
fn the_whole_archive_corrects_what_its_damaged_copy_sent() {
    let env = TestEnv::new();
    let whole = Archive::new("20251218_000100")
        .with_all(["first", "long", "last"].map(|name| post(name, &format!("{name} of the whole archive"))));
    let broken = folder().join(file_name("sqlite_overflow_chain_broken"));
    std::fs::copy(broken, env.path("archives").join(whole.name())).unwrap();
    env.run(&[]).exits(3);
    assert_eq!(env.status_of(&whole), "failed");
    assert_eq!(env.fake.documents("posts").into_keys().collect::<Vec<_>>(), [uri("first")]);

    env.add(std::slice::from_ref(&whole));
    env.run(&[]).exits(0);
    assert_eq!(env.status_of(&whole), "processed");
    let posts = env.fake.documents("posts");
    for name in ["first", "long", "last"] {
        assert_eq!(posts[&uri(name)].source["content"], format!("{name} of the whole archive"));
    }
}

#[test]
fn all_fixtures_in_one_folder_leave_only_whole_lines() {
    let env = TestEnv::with_archives(&[good()]);
    env.run(&["--dry-run", "--output", "out", "--dead-letter", DEAD_LETTERS, folder().to_str().unwrap()])
        .exits(3);
    assert!(lines(&env.read("out").unwrap()).len() > 100);
    assert!(env.dead_letters().len() > 10);
}

/// Makes some of the large fixtures. The error says that Python is missing.
fn make_large(folder: &Path, names: &[&str]) -> std::io::Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("test_data/make_hostile.py");
    let status = Command::new("python3").arg(script).arg("--large").arg(folder).args(names).status()?;
    assert!(status.success(), "make_hostile.py: {status}");
    Ok(())
}

#[test]
fn all_fixtures_together_take_less_than_1_gib() {
    let large = tempfile::tempdir().unwrap();
    let names: Vec<&str> = LARGE.iter().map(|(name, _)| *name).collect();
    if let Err(error) = make_large(large.path(), &names) {
        println!("skipped, since python3 cannot be run: {error}");
        return;
    }
    for (name, becomes) in long_or(LARGE, &[]) {
        let env = env_with(name, large.path());
        let run = env.run(&[]);
        check(&env, &run, name, becomes);
        run.check(run.took < TIME_LIMIT, &format!("{name} takes no longer than {TIME_LIMIT:?}"));
    }
    let env = TestEnv::with_archives(&[good()]);
    let folders = [folder(), large.path().to_owned(), env.path("archives")];
    let folders: Vec<&str> = folders.iter().map(|folder| folder.to_str().unwrap()).collect();
    let run = env.run(&[&["--workers", "4"], folders.as_slice()].concat()).exits(3);
    run.uses_less_than_mib(MEMORY_LIMIT);
    run.check(env.status_of(&good()) == "processed", "the good archive is processed");
    let state = env.state();
    for (name, becomes) in LARGE {
        let Failed(why) = becomes else { continue };
        let told = &state[&file_name(name)]["error"];
        run.check(string(told).contains(why), &format!("{name} failed since {why}, not {told}"));
    }
    println!("the whole hostile set: {:?}", run.took);
}

#[test]
fn rejected_rows_and_ids_of_1_mib_are_not_kept_in_memory() {
    let large = tempfile::tempdir().unwrap();
    let many = long_or(("row_300000_rejected", 300_000, 80), ("row_30000_rejected", 30_000, 80));
    let cases = [many, ("id_of_1_mib_in_55_rows", 55, 250)];
    if let Err(error) = make_large(large.path(), &cases.map(|(name, ..)| name)) {
        println!("skipped, since python3 cannot be run: {error}");
        return;
    }
    for (name, rejected, limit) in cases {
        let env = env_with(name, large.path());
        let run = env.run(&[]).exits(3);
        run.counts(&[("rows.rejected", rejected), ("rows.indexed", 3)]);
        run.uses_less_than_mib(limit);
        let letters = env.read(DEAD_LETTERS).unwrap();
        run.check(letters.lines().count() as u64 == rejected, "every row has a dead letter");
        run.check(letters.lines().all(|line| line.len() < 2_000), "no dead letter is long");
        println!("{name}: {:?}", run.took);
    }
}
