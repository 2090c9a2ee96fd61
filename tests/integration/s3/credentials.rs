//! `--source s3`: sources of credentials, their endpoints, and refused credentials.

use super::{archives, check, ingest, is_get_of, put, run, with, without_keys};
use crate::harness::TestEnv;
use crate::harness::http::Request;
use crate::harness::model::assert_holds;
use crate::harness::s3::{ACCESS_KEY, ROLE_KEY, SECRETS, error, is_listing, is_object};
use crate::harness::script::Fault;

/// Writes configuration files of the AWS tools into a home folder of its own.
fn home(env: &TestEnv, credentials: &str, config: &str) -> String {
    let home = env.path("home");
    std::fs::create_dir_all(home.join(".aws/sso/cache")).unwrap();
    std::fs::write(home.join(".aws/credentials"), credentials).unwrap();
    std::fs::write(home.join(".aws/config"), config).unwrap();
    home.display().to_string()
}

/// The keys section of a profile.
fn keys(name: &str, access_key: &str) -> String {
    format!("[{name}]\naws_access_key_id={access_key}\naws_secret_access_key={}\n", SECRETS[0])
}

#[test]
fn rotated_keys_are_read_again() {
    for refusal in
        ["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidTokenId", "ExpiredToken", "AccessDenied"]
    {
        let archives = archives();
        let (env, s3) = with(&archives[..1]);
        let home = home(&env, &keys("default", ACCESS_KEY), "");
        let running = without_keys(&env, &s3)
            .args(&["--mode", "spool"])
            .var("SPOOL_INTERVAL_SEC", "1")
            .var("HOME", &home)
            .start();
        env.wait_for_processed(&archives[..1]);
        std::fs::write(env.path("home/.aws/credentials"), keys("default", "AKIDROTATED")).unwrap();
        s3.expire_all_but("AKIDROTATED");
        let is_old =
            |request: &Request| request.header("authorization").is_some_and(|text| text.contains(ACCESS_KEY));
        s3.fail(is_old, 0, usize::MAX, Fault::Reply(error(403, refusal)));
        put(&s3, &archives[1..]);
        env.wait_for_processed(&archives);
        running.signal("TERM");
        check(running.wait(), &s3).exits(0).counts(&[("archives.processed", 3)]);
        assert_holds(&env.fake, &archives);
    }
}

#[test]
fn refused_keys_from_files_are_read_again() {
    let archives = archives();
    let (env, s3) = with(&archives);
    env.write("access", "AKIDOLD\n");
    env.write("secret", format!("{}\n", SECRETS[0]));
    s3.fail(is_object, 0, usize::MAX, Fault::Hang);
    s3.expire_all_but("AKIDOLD");
    let running = without_keys(&env, &s3)
        .var("AWS_S3_ACCESS_KEY_FILE", "access")
        .var("AWS_S3_SECRET_KEY_FILE", "secret")
        .start();
    s3.wait_for(is_object, 2);
    env.write("access", "AKIDNEW\n");
    s3.expire_all_but("AKIDNEW");
    s3.release();
    check(running.wait(), &s3).exits(0).counts(&[("archives.processed", 3)]);
    assert_holds(&env.fake, &archives);
}

#[test]
fn credential_endpoints_are_asked_rarely() {
    let (env, s3) = with(&archives());
    env.write("token", SECRETS[2]);
    s3.fail(is_object, 0, usize::MAX, Fault::Reply(error(403, "InvalidAccessKeyId")));
    let running = without_keys(&env, &s3)
        .args(&["--mode", "spool"])
        .var("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/container", s3.url()))
        .var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "token")
        .start();
    s3.wait_for(is_object, 12);
    running.signal("TERM");
    check(running.wait(), &s3).exits(0).says("InvalidAccessKeyId");
    let given_out = s3.requests().iter().filter(|request| request.path == "/container").count();
    assert_eq!(given_out, 2, "at the start, and at the first refusal");
}

#[test]
fn profiles_support_every_kind_of_credentials() {
    let archives = archives();
    let (env, s3) = with(&archives);
    let process = format!(
        "#!/bin/sh\necho hunter2 >&2\necho '{{\"Version\":1,\"AccessKeyId\":\"{ACCESS_KEY}\",\"SecretAccessKey\":\"{}\"}}'\n",
        SECRETS[0]
    );
    env.write("process.sh", process);
    let role = "role_arn=arn:aws:iam::1:role/r\n";
    let config = format!(
        "[profile source]\n{role}source_profile=taker\nexternal_id=x\n\
         [profile own]\n{role}\n[profile far]\n{role}source_profile=near\n\
         [profile near]\n{role}source_profile=taker\n\
         [profile environment]\n{role}credential_source=Environment\n\
         [profile instance]\n{role}credential_source=Ec2InstanceMetadata\n\
         [profile container]\n{role}credential_source=EcsContainer\n\
         [profile process]\ncredential_process = sh \"process.sh\"\n\
         [profile sso]\nsso_session = s\nsso_account_id = 1\nsso_role_name = a role\n\
         [sso-session s]\nsso_start_url = https://s.example/start\nsso_region = eu-west-1\n\
         [profile oldsso]\nsso_start_url = https://s.example/start\nsso_region = eu-west-1\nsso_account_id = 1\n\
         sso_role_name = a role\n"
    );
    let home = home(&env, &(keys("taker", ROLE_KEY) + &keys("own", ROLE_KEY)), &config);
    let token = format!(
        "{{\"startUrl\":\"https://s.example/start\",\"region\":\"eu-west-1\",\"accessToken\":\"{}\",\
         \"expiresAt\":\"2099-01-01T00:00:00Z\"}}",
        SECRETS[3]
    );
    std::fs::write(env.path("home/.aws/sso/cache/0a.json"), token).unwrap();
    std::fs::write(env.path("home/.aws/sso/cache/other.json"), "{\"clientId\":\"x\"}").unwrap();
    let (roles, imds, sso, container) = (
        format!("{}/roles", s3.url()),
        format!("{}/imds", s3.url()),
        format!("{}/sso", s3.url()),
        format!("{}/container", s3.url()),
    );
    env.write("token", SECRETS[2]);
    for profile in
        ["source", "own", "environment", "process", "sso", "oldsso", "far", "instance", "container"]
    {
        // These sources issue `ROLE_KEY`.
        let by_others = ["far", "instance", "container"].contains(&profile);
        s3.expire_all_but(if by_others { ROLE_KEY } else { ACCESS_KEY });
        let mut invocation = without_keys(&env, &s3)
            .args(&["--dry-run"])
            .var("RUST_LOG", "trace")
            .var("AWS_DEFAULT_PROFILE", profile)
            .var("HOME", &home)
            .var("AWS_ENDPOINT_URL_STS", &roles)
            .var("AWS_ENDPOINT_URL_SSO", &sso)
            .var("AWS_EC2_METADATA_DISABLED", "false")
            .var("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds);
        if profile == "container" {
            invocation = invocation
                .var("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container)
                .var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "token");
        }
        if profile == "environment" {
            invocation =
                invocation.var("AWS_ACCESS_KEY_ID", ROLE_KEY).var("AWS_SECRET_ACCESS_KEY", SECRETS[0]);
        }
        let run = run(invocation, &s3).exits(0);
        run.counts(&[("archives.processed", 3)]);
        run.check(!run.stderr.contains("hunter2"), "the output of a program is not shown");
    }
}

#[test]
fn unusable_profiles_are_reported_with_advice() {
    let (env, s3) = with(&archives());
    let config = "[profile a]\nrole_arn=r\nsource_profile=b\n[profile b]\nrole_arn=r\nsource_profile=a\n\
                  [profile lost]\nrole_arn=r\nsource_profile=nowhere\n\
                  [profile mfa]\nrole_arn=r\nsource_profile=a\nmfa_serial=m\n\
                  [profile process]\ncredential_process = /no/such/program hunter2\n\
                  [profile sso]\nsso_start_url=https://s.example\nsso_region=eu-west-1\nsso_account_id=1\n\
                  sso_role_name=r\n";
    let home = home(&env, "", config);
    for (profile, why) in [
        ("a", "in a circle"),
        ("lost", "no profile \"nowhere\""),
        ("mfa", "aws configure export-credentials"),
        ("process", "cannot be started"),
        ("sso", "aws sso login --profile sso"),
    ] {
        let run = run(without_keys(&env, &s3).var("AWS_PROFILE", profile).var("HOME", &home), &s3)
            .exits(5)
            .says(why);
        run.check(!run.stderr.contains("hunter2"), "no argument of a program is shown");
    }
    assert!(s3.to_bucket().is_empty());
}

#[test]
fn a_public_bucket_is_read_without_a_signature() {
    let archives = archives();
    let (env, s3) = with(&archives);
    without_keys(&env, &s3).args(&["--s3-anonymous"]).run().exits(5).says("AccessDenied");
    s3.make_public();
    for invocation in [
        without_keys(&env, &s3).args(&["--s3-anonymous", "--dry-run"]),
        ingest(&env, &s3).var("AWS_S3_ANONYMOUS", "true"),
    ] {
        let before = s3.to_bucket().len();
        invocation.run().exits(0).counts(&[("archives.processed", 3)]);
        for request in &s3.to_bucket()[before..] {
            assert!(
                request
                    .headers
                    .iter()
                    .all(|(name, _)| name != "authorization" && !name.starts_with("x-amz-"))
            );
        }
    }
    assert_holds(&env.fake, &archives);
    ingest(&env, &s3).args(&["--s3-anonymous=false", "--check"]).run().exits(0);
    assert!(s3.to_bucket().last().unwrap().header("authorization").is_some());
}

#[test]
fn whitespace_around_keys_is_trimmed() {
    let (env, s3) = with(&archives());
    let invocation = without_keys(&env, &s3)
        .var("AWS_S3_ACCESS_KEY", &format!(" {ACCESS_KEY}\n"))
        .var("AWS_S3_SECRET_KEY", &format!("{}\r\n", SECRETS[0]));
    run(invocation, &s3).exits(0);
}

#[test]
fn a_denied_listing_renews_credentials_once() {
    let (env, s3) = with(&archives());
    s3.fail(is_listing, 0, usize::MAX, Fault::Reply(error(403, "AccessDenied")));
    env.write("token", SECRETS[2]);
    let invocation = without_keys(&env, &s3)
        .var("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/container", s3.url()))
        .var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "token");
    run(invocation, &s3).exits(5).says("AccessDenied");
    assert!(s3.to_bucket().len() <= 2);
}

#[test]
fn a_denied_object_does_not_cost_the_credentials_of_others() {
    for status in [403, 500] {
        let archives = archives();
        let (env, s3) = with(&archives);
        s3.fail(is_get_of(&archives[0]), 0, usize::MAX, Fault::Reply(error(403, "AccessDenied")));
        // The source of the credentials answers only once.
        let asks_for_credentials = |request: &Request| request.path == "/container";
        s3.fail(asks_for_credentials, 1, usize::MAX, Fault::Reply(error(status, "")));
        env.write("token", SECRETS[2]);
        let invocation = without_keys(&env, &s3)
            .var("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/container", s3.url()))
            .var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "token")
            .args(&["--retry-budget", "2"]);
        let run = run(invocation, &s3).exits(1).says("AccessDenied");
        run.counts(&[("archives.processed", 2), ("archives.pending", 1)]);
    }
}
