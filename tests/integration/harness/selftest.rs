//! Tests of the harness, since a wrong fake would invalidate all other tests.

use std::io::{BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::archives::{Archive, delete, post, seconds};
use super::client::{exchange, read_reply};
use super::fake::{API_KEY, Fake};
use super::json::filter;
use super::script::Fault;
use super::vectors::{base85, decode, encode, vector};

fn index(index: &str, id: &str, version: u64) -> String {
    let action =
        json!({"index": {"_index": index, "_id": id, "version": version, "version_type": "external_gte"}});
    format!("{action}\n{}\n", json!({"at_uri": id}))
}

fn remove(id: &str, version: u64) -> String {
    let action = json!({"_index": "posts", "_id": id, "version": version, "version_type": "external_gte"});
    format!("{}\n", json!({"delete": action}))
}

/// The statuses of a bulk request's items.
fn statuses(fake: &Fake, body: &str) -> Vec<u64> {
    let (status, reply) = exchange(fake, "POST /_bulk", body.as_bytes()).unwrap();
    assert_eq!(status, 200, "{reply}");
    let items = reply["items"].as_array().unwrap().iter();
    items.filter_map(|item| item.as_object()?.values().next()?["status"].as_u64()).collect()
}

#[test]
fn the_fake_judges_external_versions_as_elasticsearch_does() {
    let fake = Fake::start();
    let body = remove("a", 5) + &index("posts", "a", 4) + &index("posts", "a", 9) + &index("posts", "a", 9);
    assert_eq!(statuses(&fake, &body), [404, 409, 201, 200]);
    assert_eq!(statuses(&fake, &(remove("a", 8) + &remove("a", 10) + &remove("a", 10))), [409, 200, 404]);
    assert_eq!(statuses(&fake, &index("posts", "a", 9)), [409]);
    assert!(fake.documents("posts").is_empty());
}

#[test]
fn the_fake_creates_missing_indices_unless_an_alias_is_required() {
    let fake = Fake::start();
    let to_alias = index("nowhere", "a", 9).replacen("\"_id\"", "\"require_alias\":true,\"_id\"", 1);
    assert_eq!(statuses(&fake, &to_alias), [404]);
    assert_eq!(statuses(&fake, &(index("nowhere", "a", 9) + &to_alias)), [201, 404]);
    assert_eq!(fake.documents("nowhere").len(), 1);
}

#[test]
fn the_fake_forgets_the_versions_of_deletes_when_told_to() {
    let fake = Fake::start();
    fake.store(|store| store.forget_deletes = true);
    assert_eq!(statuses(&fake, &(remove("a", 10) + &index("posts", "a", 1))), [404, 201]);
}

#[test]
fn the_fake_refuses_the_whole_request_for_one_long_id() {
    let fake = Fake::start();
    let body = index("posts", "a", 1) + &index("posts", &"x".repeat(513), 1);
    let (status, _) = exchange(&fake, "POST /_bulk", body.as_bytes()).unwrap();
    assert_eq!((status, fake.documents("posts").len()), (400, 0));
}

#[test]
fn the_fake_checks_its_api_key() {
    let fake = Fake::start();
    let mut stream = TcpStream::connect(fake.url().trim_start_matches("http://")).unwrap();
    stream.write_all(b"GET /posts/_mapping HTTP/1.1\r\nAuthorization: ApiKey wrong\r\n\r\n").unwrap();
    assert_eq!(read_reply(&mut BufReader::new(stream)).unwrap().0, 401);
}

#[test]
fn the_fake_reads_chunked_and_compressed_bodies_on_one_connection() {
    let fake = Fake::start();
    let mut stream = TcpStream::connect(fake.url().trim_start_matches("http://")).unwrap();
    let body = br#"{"ids":["a"]}"#;
    let head = format!("POST /posts/_mget HTTP/1.1\r\nAuthorization: ApiKey {API_KEY}\r\n");
    stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n6\r\n").as_bytes()).unwrap();
    stream.write_all(&body[..6]).unwrap();
    stream.write_all(b"\r\n7\r\n").unwrap();
    stream.write_all(&body[6..]).unwrap();
    stream.write_all(b"\r\n0\r\n\r\n").unwrap();
    let expected = json!({"docs": [{"_index": "posts_v1", "_id": "a", "found": false}]});
    assert_eq!(read_reply(&mut BufReader::new(stream.try_clone().unwrap())), Some((200, expected.clone())));

    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
    let mut packed = vec![0; compressor.gzip_compress_bound(body.len())];
    let size = compressor.gzip_compress(body, &mut packed).unwrap();
    let head = format!("{head}Content-Encoding: gzip\r\nContent-Length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&packed[..size]).unwrap();
    assert_eq!(read_reply(&mut BufReader::new(stream)), Some((200, expected)));
}

#[test]
fn each_fault_applies_the_actions_it_should() {
    let body = index("posts", "a", 1) + &index("posts", "b", 1);
    for (fault, documents, answered) in [
        (Fault::status(503), 0, Some(503)),
        (Fault::CloseBefore, 0, None),
        (Fault::CloseAfter, 2, None),
        (Fault::CloseHalfway, 1, None),
        (Fault::CutReply, 2, None),
        (Fault::Garbage, 2, Some(200)),
        (Fault::ItemFewer, 2, Some(200)),
        (Fault::ItemMore, 2, Some(200)),
    ] {
        let fake = Fake::start();
        fake.fail_bulks(1, fault.clone());
        let reply = exchange(&fake, "POST /_bulk", body.as_bytes());
        assert_eq!(reply.as_ref().map(|(status, _)| *status), answered, "{fault:?}");
        assert_eq!(fake.documents("posts").len(), documents, "{fault:?}");
        let items = reply.map_or(Value::Null, |(_, body)| body["items"].clone());
        let expected = match fault {
            Fault::ItemFewer => Some(1),
            Fault::ItemMore => Some(3),
            _ => None,
        };
        assert_eq!(items.as_array().map(Vec::len), expected, "{fault:?}");
        assert_eq!(statuses(&fake, &body).len(), 2, "the fault is spent");
    }
}

#[test]
fn a_late_request_is_applied_before_a_look_up_or_after_n_requests() {
    let fake = Fake::start();
    let late = |id: &str, requests| {
        fake.fail_bulks(1, Fault::ApplyLate(requests));
        assert_eq!(exchange(&fake, "POST /_bulk", index("posts", id, 1).as_bytes()), None);
        assert!(!fake.documents("posts").contains_key(id));
    };
    let look_up = |id: &str| {
        let body = json!({"docs": [{"_index": "posts", "_id": id}]}).to_string();
        exchange(&fake, "POST /_mget", body.as_bytes()).unwrap().1["docs"][0]["found"] == true
    };
    late("a", 9);
    assert!(!look_up("b"));
    assert!(look_up("a"));
    late("b", 1);
    assert_eq!((look_up("c"), fake.documents("posts").len()), (false, 1));
    assert_eq!((look_up("c"), fake.documents("posts").len()), (false, 2));
    late("c", 9);
    fake.settle();
    assert_eq!(fake.documents("posts").len(), 3);
}

#[test]
fn a_delayed_request_does_not_wait_for_ever() {
    let fake = Fake::start();
    fake.fail_bulks(1, Fault::After(1));
    assert_eq!(statuses(&fake, &index("posts", "a", 1)), [201]);
    fake.fail_bulks(1, Fault::CloseBefore);
    fake.clear_faults();
    assert_eq!(statuses(&fake, &index("posts", "a", 1)), [200]);
}

#[test]
fn a_hanging_request_continues_when_released() {
    let fake = Fake::start();
    fake.fail_bulks(1, Fault::Hang);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| statuses(&fake, &index("posts", "a", 1)));
        fake.wait_for_bulks(1);
        assert!(fake.documents("posts").is_empty());
        fake.release();
        assert_eq!(client.join().unwrap(), [201]);
    });
    assert_eq!((fake.peak_open_bulks(), fake.bulks().len()), (1, 1));
}

#[test]
fn item_faults_hit_the_named_items() {
    let fake = Fake::start();
    fake.fail_items(|item| item.id == "b", 1, 429, "es_rejected_execution_exception");
    let body = index("posts", "a", 1) + &index("posts", "b", 1);
    assert_eq!(statuses(&fake, &body), [201, 429]);
    assert_eq!(statuses(&fake, &body), [200, 201]);
}

#[test]
fn settings_and_aliases_are_shown_as_recorded() {
    let fake = Fake::start();
    let get = |target: &str| exchange(&fake, &format!("GET {target}"), b"").unwrap();
    let (_, told) = get("/posts/_settings?include_defaults=true&filter_path=*.defaults.index.gc_deletes");
    assert_eq!(told, json!({"posts_v1": {"defaults": {"index": {"gc_deletes": "60s"}}}}));
    let (_, told) = get("/posts/_settings/index.version.created?flat_settings=true");
    assert_eq!(told, json!({"posts_v1": {"settings": {"index.version.created": "8534000"}}}));
    exchange(&fake, "PUT /posts/_settings", br#"{"index":{"gc_deletes":"5m"}}"#).unwrap();
    let (_, told) = get("/posts/_settings?filter_path=*.settings.index.gc_deletes");
    assert_eq!(told, json!({"posts_v1": {"settings": {"index": {"gc_deletes": "5m"}}}}));
    exchange(&fake, "PUT /new_v1", br#"{"aliases":{"new":{"is_write_index":true}}}"#).unwrap();
    let alias = json!({"new_v1": {"aliases": {"new": {"is_write_index": true}}}});
    assert_eq!(get("/_alias/new"), (200, alias.clone()));
    assert_eq!(get("/new/_alias"), (200, alias));
    assert_eq!((get("/_alias/old").0, get("/old/_mapping").0, get("/").0), (404, 404, 403));
}

#[test]
fn filter_path_keeps_only_the_named_fields() {
    let value =
        json!({"took": 1, "items": [{"index": {"_id": "a", "status": 200}}, {"delete": {"_id": "b"}}]});
    assert_eq!(filter(&value, "items.*.status"), json!({"items": [{"index": {"status": 200}}]}));
    assert_eq!(filter(&value, "took,nothing"), json!({"took": 1}));
    assert_eq!(filter(&value, "nothing"), json!({}));
}

#[test]
fn vectors_are_encoded_as_in_python() {
    // base64.b85encode(b"hello world"), and of b"\0".
    assert_eq!((base85(b"hello world").as_str(), base85(b"\0").as_str()), ("Xk~0{Zy<MXa%^M", "00"));
    let values = vector(7);
    assert_eq!((values.len(), values[2], encode(&values) == encode(&vector(8))), (384, 1.0, false));
    assert_eq!(decode(&json!(values)), Some(values));
    assert_eq!(decode(&json!([1])), None, "an integer is not a float");
    assert_eq!(decode(&json!("P4AAAA==")), Some(vec![1.0]), "big-endian");
}

#[test]
fn an_archive_is_a_zip_of_one_database_with_numbered_rows() {
    assert_eq!(seconds("20251218_000000"), 1_766_016_000);
    assert_eq!(seconds("20240229_235959"), 1_709_251_199);
    let archive = Archive::new("20251218_000000").with(post("a", "ü 🌱")).with(delete("a"));
    assert_eq!(archive.version(1), 474_061_310_263_296_001);
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(archive.zip())).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(zip.len(), 1);
    std::io::copy(&mut zip.by_index(0).unwrap(), &mut file).unwrap();
    let db = rusqlite::Connection::open(file.path()).unwrap();
    let (id, raw): (i64, String) = db
        .query_one("SELECT rowid, raw_post FROM enriched_posts LIMIT 1", [], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap();
    assert!(id == 1 && raw.is_ascii(), "{raw}");
    let raw: Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(raw["message"]["commit"]["record"]["text"], "ü 🌱");
    assert_eq!(db.query_one("SELECT count(*) FROM enriched_posts", [], |r| r.get(0)), Ok(2));
}

#[test]
fn the_fake_finds_refreshed_documents_by_whole_keywords() {
    let fake = Fake::start();
    let post = |id: &str, author: &str| {
        let action = json!({"index": {"_index": "posts", "_id": id}});
        format!("{action}\n{}\n", json!({"author_did": author, "content": author}))
    };
    statuses(&fake, &(post("a", "x y") + &post("b", "x y") + &post("c", "x")));
    let search = |field: &str, size: u64| {
        let body = json!({"query": {"term": {field: "x y"}}, "size": size}).to_string();
        let (_, reply) = exchange(&fake, "POST /posts/_search", body.as_bytes()).unwrap();
        let hits = reply["hits"]["hits"].as_array().unwrap().len();
        (reply["hits"]["total"]["value"].as_u64().unwrap(), hits)
    };
    assert_eq!(search("author_did", 5), (0, 0));
    exchange(&fake, "POST /posts/_refresh", b"").unwrap();
    assert_eq!((search("author_did", 5), search("author_did", 1)), ((2, 2), (2, 1)));
    assert_eq!(search("content", 5), (0, 0));
}
