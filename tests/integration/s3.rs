//! `--source s3`: loads from a bucket, and failures of the server.

mod credentials;
mod dialects;
mod downloads;
mod elsewhere;
mod instance;
mod listing;
mod spans;
mod spool;

use crate::harness::archives::Archive;
use crate::harness::http::Request;
use crate::harness::model::assert_holds;
use crate::harness::s3::{ACCESS_KEY, BUCKET, FakeS3, SECRETS, error, is_listing, is_object};
use crate::harness::script::Fault;
use crate::harness::{Invocation, Run, TestEnv, posts, string};

/// Shorter than any wait that is tested, and long enough for a run on a busy machine.
const SOON: std::time::Duration = std::time::Duration::from_secs(15);

fn archives() -> [Archive; 3] {
    ["20251218_000000", "20251218_000100", "20251218_000200"]
        .map(|time| Archive::new(time).with_all(posts(time, 3)))
}

/// Puts archives into the bucket, below `in/`.
fn put(s3: &FakeS3, archives: &[Archive]) {
    archives.iter().for_each(|archive| s3.put(&key(archive), archive.zip()));
}

fn key(archive: &Archive) -> String {
    format!("in/{}", archive.name())
}

/// A bucket with these archives, and an environment whose Elasticsearch is empty.
pub(crate) fn with(archives: &[Archive]) -> (TestEnv, FakeS3) {
    let s3 = FakeS3::start();
    put(&s3, archives);
    (TestEnv::new(), s3)
}

/// The program, set up to read from the bucket.
pub(crate) fn ingest<'e>(env: &'e TestEnv, s3: &FakeS3) -> Invocation<'e> {
    without_keys(env, s3).var("AWS_S3_ACCESS_KEY", ACCESS_KEY).var("AWS_S3_SECRET_KEY", SECRETS[0])
}

fn without_keys<'e>(env: &'e TestEnv, s3: &FakeS3) -> Invocation<'e> {
    env.ingest()
        .args(&["--source", "s3"])
        .without("LOCAL_SQLITE_DB_PATH")
        .var("S3_SQLITE_DB_BUCKET", BUCKET)
        .var("S3_SQLITE_DB_PREFIX", "in/")
        .var("AWS_ENDPOINT_URL_S3", &s3.url())
        .var("AWS_EC2_METADATA_DISABLED", "true")
}

/// Runs to the end, and checks the requests and the output.
#[track_caller]
fn run(invocation: Invocation<'_>, s3: &FakeS3) -> Run {
    check(invocation.run(), s3)
}

#[track_caller]
fn check(run: Run, s3: &FakeS3) -> Run {
    for request in s3.to_bucket() {
        run.check(request.method == "GET", "nothing is ever written to the bucket");
        run.check(request.header("authorization").is_some(), "every request is signed");
        let payer = request.header("x-amz-request-payer");
        run.check(payer == Some("requester"), "every request is requester-pays");
    }
    for secret in SECRETS {
        run.check(!run.stdout.contains(secret) && !run.stderr.contains(secret), "no secret is shown");
    }
    run
}

/// The requests for an object.
fn gets(s3: &FakeS3, key: &str) -> Vec<Request> {
    let path = format!("/{BUCKET}/{key}");
    s3.requests().into_iter().filter(|request| request.path == path).collect()
}

fn is_get_of(archive: &Archive) -> impl Fn(&Request) -> bool + Send + 'static {
    let path = format!("/{BUCKET}/{}", key(archive));
    move |request| request.path == path
}

#[test]
fn a_bucket_and_a_folder_give_the_same_documents() {
    let archives = archives();
    let (env, s3) = with(&archives);
    s3.put("in/README.txt", "no archive");
    s3.put("elsewhere/mega_jetstream_20251219_000000.db.zip", "not below the prefix");
    let bucket = run(ingest(&env, &s3), &s3).exits(0);
    bucket.counts(&[("archives.discovered", 3), ("archives.processed", 3), ("rows.indexed", 9)]);
    assert_eq!(bucket.summary()["source"], "s3");
    assert_holds(&env.fake, &archives);

    let folder = TestEnv::with_archives(&archives);
    folder.run(&[]).exits(0);
    let sources = |env: &TestEnv| -> Vec<_> {
        let documents = env.fake.documents("posts");
        let source = |mut document: serde_json::Value| {
            document.as_object_mut().map(|fields| fields.remove("indexed_at"));
            document
        };
        documents.into_iter().map(|(id, document)| (id, document.version, source(document.source))).collect()
    };
    assert_eq!(sources(&env), sources(&folder));

    run(ingest(&env, &s3), &s3).exits(0).counts(&[("archives.already_done", 3), ("rows.read", 0)]);
    assert_eq!(gets(&s3, &key(&archives[0])).len(), 1, "processed archives are not downloaded again");
}

#[test]
fn all_pages_of_a_listing_are_read_despite_failures() {
    let (env, s3) = with(&[]);
    for n in 0..2_500 {
        s3.put(&format!("in/a b+c%41/{n:04}.db.zip"), "x");
    }
    let second_page =
        |request: &Request| is_listing(request) && request.param("continuation-token").is_some();
    s3.fail(second_page, 0, 1, Fault::Reply(error(500, "InternalError")));
    s3.fail(second_page, 0, 1, Fault::Reply(error(503, "SlowDown")));
    s3.fail(second_page, 0, 1, Fault::CutReply);
    s3.fail(second_page, 0, 1, Fault::CloseBefore);
    let list = run(ingest(&env, &s3).args(&["--list"]), &s3).exits(0).says("InternalError");
    list.check(list.stdout.lines().count() == 2_500, "every key is there");
    list.check(
        list.stdout.starts_with("0000.db.zip\t-\t1 bytes, STANDARD\ttake\n"),
        "archives are named by the last segment, in order",
    );
    assert_eq!(s3.to_bucket().len(), 3 + 4);
}

#[test]
fn a_broken_archive_is_read_again_once_it_is_replaced() {
    let archives = archives();
    let (env, s3) = with(&archives[1..]);
    s3.put(&key(&archives[0]), "no zip");
    run(ingest(&env, &s3), &s3).exits(3).counts(&[("archives.failed", 1), ("archives.processed", 2)]);
    run(ingest(&env, &s3), &s3).exits(3).counts(&[("archives.failed", 1), ("rows.read", 0)]);
    put(&s3, &archives[..1]);
    run(ingest(&env, &s3), &s3).exits(0).counts(&[("archives.processed", 1)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn a_refused_listing_ends_the_run_at_the_start() {
    for (status, code, exit) in [
        (403, "AccessDenied", 5),
        (403, "InvalidAccessKeyId", 5),
        (403, "SignatureDoesNotMatch", 5),
        (301, "PermanentRedirect", 5),
        (404, "NoSuchBucket", 2),
        (409, "InvalidBucketState", 1),
    ] {
        let (env, s3) = with(&archives());
        s3.fail(is_listing, 0, usize::MAX, Fault::Reply(error(status, code)));
        let host = s3.url().replace("http://", "");
        run(ingest(&env, &s3).var("S3_REQUEST_PAYER", "requester"), &s3)
            .exits(exit)
            .says(code)
            .says(BUCKET)
            .says(&host);
        assert_eq!(s3.requests().len(), 1);
        assert!(env.fake.bulks().is_empty());
    }
}

#[test]
fn a_bad_credential_mid_run_ends_the_run() {
    let (env, s3) = with(&archives());
    s3.fail(is_object, 0, usize::MAX, Fault::Reply(error(403, "InvalidAccessKeyId")));
    let run = run(ingest(&env, &s3), &s3).exits(5).says("InvalidAccessKeyId");
    run.counts(&[("archives.pending", 3)]);
}

#[test]
fn a_truncated_listing_without_a_token_is_an_error() {
    let (env, s3) = with(&[]);
    let body =
        format!("<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>true</IsTruncated></ListBucketResult>");
    let page = crate::harness::http::Reply { status: 200, headers: vec![], body: body.into_bytes() };
    s3.fail(is_listing, 0, usize::MAX, Fault::Reply(page));
    run(ingest(&env, &s3), &s3).exits(1).says("no token");
}

#[test]
fn two_keys_with_one_name_are_left_out() {
    let archives = archives();
    let (env, s3) = with(&archives);
    s3.put("in/1/a.db.zip", "x");
    s3.put("in/2/a.db.zip", "y");
    let run = run(ingest(&env, &s3), &s3).exits(0).says("in/1/a.db.zip").says("in/2/a.db.zip");
    run.counts(&[("archives.processed", 3), ("archives.failed", 0)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn an_empty_prefix_reports_what_else_is_there() {
    let (env, s3) = with(&archives());
    s3.put("in/notes.txt", "x");
    for (prefix, instead) in [
        ("in/notes", "in/notes.txt"),
        ("/in/", "begins with a slash"),
        ("\"in/\"", "begins with a quote"),
        (" in/", "begins or ends with white space"),
        (&format!("s3://{BUCKET}/in/"), "only the part behind the bucket's name"),
        ("elsewhere/", "the bucket has keys such as \"in/mega_jetstream_20251218_000000.db.zip\""),
    ] {
        let run = run(ingest(&env, &s3).var("S3_SQLITE_DB_PREFIX", prefix), &s3).exits(0);
        run.says(&format!("s3://{BUCKET}/{prefix}")).says(instead).counts(&[("archives.discovered", 0)]);
    }
}

#[test]
fn an_unavailable_s3_ends_the_run_when_the_budget_is_spent() {
    for condition in [is_listing, is_object] {
        let (env, s3) = with(&archives());
        s3.fail(condition, 0, usize::MAX, Fault::Reply(error(503, "SlowDown")));
        run(ingest(&env, &s3).args(&["--retry-budget", "1"]), &s3).exits(4).says("SlowDown");
        assert!(env.fake.bulks().is_empty());
        assert!(s3.requests().len() > 2, "the listing was retried");
    }
}

#[test]
fn a_signal_ends_the_wait_for_s3() {
    for condition in [is_listing, is_object] {
        let (env, s3) = with(&archives());
        s3.fail(condition, 0, usize::MAX, Fault::Reply(error(503, "SlowDown")));
        let running = ingest(&env, &s3).start();
        s3.wait_for(condition, 4);
        running.signal("TERM");
        check(running.wait(), &s3).exits(143);
    }
}

#[test]
fn a_run_waits_for_s3_and_then_continues() {
    let archives = archives();
    let (env, s3) = with(&archives);
    s3.fail(is_object, 0, 3, Fault::Reply(error(503, "SlowDown")));
    s3.fail(is_object, 0, 2, Fault::CloseBefore);
    run(ingest(&env, &s3), &s3).exits(0);
    assert_holds(&env.fake, &archives);
}

/// A throttling reply with `Retry-After`.
fn slow_down(seconds: u32) -> Fault {
    Fault::Reply(error(503, "SlowDown").with_header("retry-after", &seconds.to_string()))
}

#[test]
fn retry_after_is_honoured() {
    for condition in [is_listing, is_object] {
        let archives = archives();
        let (env, s3) = with(&archives[..1]);
        s3.fail(condition, 0, 1, slow_down(2));
        let run = run(ingest(&env, &s3), &s3).exits(0);
        run.check(run.took >= std::time::Duration::from_secs(2), "no request was sent during the pause");
        assert_holds(&env.fake, &archives[..1]);
    }
}

#[test]
fn a_retry_after_pause_ends_with_the_budget_or_a_signal() {
    for condition in [is_listing, is_object] {
        let (env, s3) = with(&archives());
        s3.fail(condition, 0, usize::MAX, slow_down(200));
        let over = run(ingest(&env, &s3).args(&["--retry-budget", "2"]), &s3).exits(4).says("SlowDown");
        over.check(
            over.took >= std::time::Duration::from_millis(1950),
            "the last attempt is at the end of the budget",
        );
        over.check(over.took < SOON, "the pause ends with the budget");
        let asked = s3.requests().iter().filter(|request| condition(request)).count();
        over.check(asked >= 2, "a last request was sent");
        for arguments in [&[][..], &["--mode", "spool"]] {
            // A bucket of its own, to which no earlier run has sent requests.
            let (env, s3) = with(&archives());
            s3.fail(condition, 0, usize::MAX, slow_down(200));
            let running = ingest(&env, &s3).args(arguments).start();
            s3.wait_for(condition, 1);
            running.signal("TERM");
            let run = check(running.wait(), &s3).exits(if arguments.is_empty() { 143 } else { 0 });
            run.check(run.took < SOON, "the wait ends");
        }
    }
}

#[test]
fn the_requester_pays_header_can_be_turned_off() {
    let (env, s3) = with(&archives());
    ingest(&env, &s3).var("S3_REQUEST_PAYER", "").run().exits(0);
    assert!(s3.to_bucket().iter().all(|request| request.header("x-amz-request-payer").is_none()));
}

#[test]
fn redirects_are_not_followed() {
    let (env, s3) = with(&archives());
    let (elsewhere, region) = (FakeS3::start(), error(307, "TemporaryRedirect"));
    let location = format!("{}/{BUCKET}/", elsewhere.url());
    s3.fail(is_listing, 0, usize::MAX, Fault::Reply(region.with_header("location", &location)));
    run(ingest(&env, &s3), &s3).exits(5).says("TemporaryRedirect");
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn check_and_list_make_no_needless_requests() {
    let archives = archives();
    let (env, s3) = with(&archives);
    let list = run(ingest(&env, &s3).args(&["--list"]), &s3).exits(0);
    list.check(
        list.stdout.lines().all(|line| line.ends_with("\ttake")),
        "all archives are listed as to take",
    );
    let checked = run(ingest(&env, &s3).args(&["--check"]), &s3).exits(0);
    checked.check(checked.stdout.contains("ok: source: 3 archives to load"), "the archives are counted");
    let asked = gets(&s3, &key(&archives[0]));
    assert_eq!(asked.iter().map(|r| r.header("range")).collect::<Vec<_>>(), [Some("bytes=0-0")]);

    s3.fail(is_object, 0, 1, Fault::Reply(error(403, "AccessDenied")));
    let checked = run(ingest(&env, &s3).args(&["--check"]), &s3).exits(5);
    checked
        .check(checked.stdout.contains("failed: source: ") && checked.stdout.contains("s3:GetObject"), "why");
    s3.fail(is_listing, 0, usize::MAX, Fault::Reply(error(503, "SlowDown")));
    let before = s3.requests().len();
    let checked = run(ingest(&env, &s3).args(&["--check"]), &s3).exits(4);
    checked.check(checked.stdout.contains("ok: connection: "), "the other checks run");
    assert!(s3.requests().len() <= before + 2, "the failure is not waited out");
}

#[test]
fn bucket_settings_are_validated() {
    let (env, s3) = with(&[]);
    for (name, value) in [
        ("S3_SQLITE_DB_BUCKET", ""),
        ("S3_SQLITE_DB_BUCKET", "s3://bucket"),
        ("AWS_ENDPOINT_URL_S3", "minio"),
        ("S3_REQUEST_PAYER", "somebody"),
        ("AWS_S3_SECRET_KEY", ""),
    ] {
        ingest(&env, &s3).var(name, value).run().exits(2).says(name);
    }
    ingest(&env, &s3).args(&["archives"]).run().exits(2).says("archives");
    assert!(s3.requests().is_empty() && env.fake.requests().is_empty());
}

#[test]
fn missing_credentials_name_every_source_that_was_tried() {
    let (env, s3) = with(&archives());
    let run = run(without_keys(&env, &s3), &s3).exits(5);
    for step in ["environment: ", "profile: ", "web identity: ", "container: ", "instance: "] {
        run.check(run.stderr.contains(step), step);
    }
    assert!(s3.requests().is_empty());
}

#[test]
fn credentials_come_from_every_supported_source() {
    let archives = archives();
    let (env, s3) = with(&archives);
    env.write("token", SECRETS[2]);
    env.write("identity", SECRETS[3]);
    env.write(
        "credentials",
        format!("[here]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={}\n", SECRETS[0]),
    );
    env.write(
        "config",
        "[profile there]\nrole_arn=arn:aws:iam::1:role/r\nweb_identity_token_file=identity\n",
    );
    let (container, imds, sts) =
        (format!("{}/container", s3.url()), format!("{}/imds", s3.url()), format!("{}/sts", s3.url()));
    let files = [("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config")];
    let variables: [&[(&str, &str)]; 6] = [
        &[("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRETS[0])],
        &[("AWS_PROFILE", "here")],
        &[("AWS_PROFILE", "there"), ("AWS_ENDPOINT_URL_STS", &sts)],
        &[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "identity"),
            ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
            ("AWS_ENDPOINT_URL_STS", &sts),
        ],
        &[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "token"),
        ],
        &[("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds)],
    ];
    for variables in variables {
        let mut invocation = without_keys(&env, &s3).args(&["--dry-run"]).var("RUST_LOG", "trace");
        for (name, value) in files.iter().chain(variables) {
            invocation = invocation.var(name, value);
        }
        run(invocation, &s3).exits(0).counts(&[("archives.processed", 3)]);
    }
    without_keys(&env, &s3).var("AWS_PROFILE", "missing").run().exits(5).says("\"missing\"");
}

#[test]
fn expired_credentials_are_renewed_and_sent_with_their_session_token() {
    let archives = archives();
    let (env, s3) = with(&archives);
    env.write("token", SECRETS[2]);
    // The listing is the last request that the first credentials are valid for.
    s3.expire_all_but("ASIAFIRST");
    s3.fail(is_object, 0, 1, Fault::Reply(error(400, "ExpiredToken")));
    let invocation = without_keys(&env, &s3)
        .var("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/container", s3.url()))
        .var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "token");
    run(invocation, &s3).exits(0).counts(&[("archives.processed", 3)]);
    assert_holds(&env.fake, &archives);
    let given_out = s3.requests().iter().filter(|request| request.path == "/container").count();
    assert_eq!(given_out, 2);
    let sessions = |request: &Request| request.header("x-amz-security-token") == Some(SECRETS[1]);
    assert!(s3.to_bucket().iter().all(sessions));
}

#[test]
fn credentials_are_renewed_before_they_expire() {
    let (env, s3) = with(&archives());
    env.write("token", SECRETS[2]);
    s3.issue_until("2025-12-18T00:00:00Z");
    let invocation = without_keys(&env, &s3)
        .var("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/container", s3.url()))
        .var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "token");
    run(invocation, &s3).exits(0);
    let given_out = s3.requests().iter().filter(|request| request.path == "/container").count();
    assert_eq!(given_out, s3.to_bucket().len(), "no request is signed with credentials about to expire");
}

/// A run whose credentials expire in two minutes, and whose renewal meets a fault. Returns how often credentials were
/// requested.
fn with_soon_expiring(
    archives: &[Archive],
    fault: Fault,
    meanwhile: impl FnOnce(&TestEnv, &FakeS3),
) -> (Run, usize) {
    let (env, s3) = with(archives);
    env.write("token", SECRETS[2]);
    let until = time::OffsetDateTime::now_utc() + time::Duration::minutes(2);
    s3.issue_until(&until.format(&time::format_description::well_known::Rfc3339).unwrap());
    s3.fail(|request| request.path == "/container", 1, usize::MAX, fault);
    let running = without_keys(&env, &s3)
        .var("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/container", s3.url()))
        .var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "token")
        .args(&["--workers", "2"])
        .start();
    meanwhile(&env, &s3);
    let run = check(running.wait(), &s3).exits(0);
    assert_holds(&env.fake, archives);
    let asked = s3.requests().iter().filter(|request| request.path == "/container").count();
    (run, asked)
}

#[test]
fn downloads_continue_with_valid_credentials_during_a_renewal() {
    let archives = archives();
    let (_, asked) = with_soon_expiring(&archives, Fault::Hang, |env, s3| {
        // One download waits for the renewal.
        let others = archives.len() - 1;
        let started = std::time::Instant::now();
        while env.state().len() < others && started.elapsed() < SOON {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(env.state().len(), others);
        s3.release();
    });
    assert_eq!(asked, 2);
}

#[test]
fn a_failed_renewal_is_retried_after_a_pause_with_one_warning() {
    let (run, asked) = with_soon_expiring(&archives(), Fault::Reply(error(503, "Busy")), |_, _| ());
    assert_eq!(asked, 2);
    run.check(run.stderr.matches("cannot be renewed").count() == 1, "one line is logged");
}

#[test]
fn credentials_that_stay_expired_end_the_run() {
    let (env, s3) = with(&archives());
    s3.expire_all_but("ASIAOTHER");
    let run = run(ingest(&env, &s3), &s3).exits(5).says("ExpiredToken");
    assert_eq!(s3.requests().len(), 1, "there are no other credentials");
    run.check(string(&run.summary()["source"]) == "s3", "the summary names the source");
}
