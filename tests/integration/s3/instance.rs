//! `--source s3` with the credentials of an instance, whose metadata service fails temporarily.

use super::{archives, run, with, without_keys};
use crate::harness::http::Request;
use crate::harness::model::assert_holds;
use crate::harness::s3::{FakeS3, error, is_object};
use crate::harness::script::Fault;
use crate::harness::{Invocation, TestEnv};

const TOKEN: &str = "/imds/latest/api/token";
const ROLES: &str = "/imds/latest/meta-data/iam/security-credentials/";
const ROLE: &str = "/imds/latest/meta-data/iam/security-credentials/a-role";

/// The program on an instance whose metadata service is the fake.
fn on_instance<'e>(env: &'e TestEnv, s3: &FakeS3) -> Invocation<'e> {
    without_keys(env, s3)
        .var("AWS_EC2_METADATA_DISABLED", "false")
        .var("AWS_EC2_METADATA_SERVICE_ENDPOINT", &format!("{}/imds", s3.url()))
}

fn is_for(path: &'static str) -> impl Fn(&Request) -> bool + Send + 'static {
    move |request| request.path == path
}

#[test]
fn an_overloaded_metadata_service_is_retried() {
    for (path, status) in [(TOKEN, 503), (TOKEN, 429), (ROLES, 500), (ROLES, 429), (ROLE, 503)] {
        let archives = archives();
        let (env, s3) = with(&archives[..1]);
        s3.fail(is_for(path), 0, 2, Fault::Reply(error(status, "Busy")));
        run(on_instance(&env, &s3), &s3).exits(0);
        assert_holds(&env.fake, &archives[..1]);
    }
}

#[test]
fn an_overloaded_metadata_service_ends_the_run_past_the_budget() {
    for path in [TOKEN, ROLES] {
        let (env, s3) = with(&archives());
        s3.fail(is_for(path), 0, usize::MAX, Fault::Reply(error(503, "Busy")));
        run(on_instance(&env, &s3).args(&["--retry-budget", "1"]), &s3).exits(4).says("HTTP 503");
    }
}

#[test]
fn a_missing_metadata_service_or_role_means_no_instance() {
    for (path, fault) in [(TOKEN, Fault::CloseBefore), (ROLES, Fault::Reply(error(404, "NotFound")))] {
        let (env, s3) = with(&archives());
        s3.fail(is_for(path), 0, usize::MAX, fault);
        run(on_instance(&env, &s3), &s3).exits(5).says("instance: ");
        assert!(s3.to_bucket().is_empty());
    }
}

#[test]
fn a_metadata_service_that_answered_once_is_retried() {
    let archives = archives();
    let (env, s3) = with(&archives);
    s3.fail(is_object, 0, 1, Fault::Reply(error(400, "ExpiredToken")));
    s3.fail(is_for(TOKEN), 1, 3, Fault::CloseBefore);
    run(on_instance(&env, &s3), &s3).exits(0).counts(&[("archives.processed", 3)]);
    assert_holds(&env.fake, &archives);
    let asked = s3.requests().iter().filter(|request| request.path == TOKEN).count();
    assert_eq!(asked, 1 + 3 + 1);
}
