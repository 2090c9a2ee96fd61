//! What is made of the settings for S3.

use super::*;
use crate::cli::Cli;

fn s3(variables: &[(&str, &str)]) -> Result<S3, Failure> {
    let look_up = |name: &str| {
        let needed = [("S3_SQLITE_DB_BUCKET", "bucket"), ("S3_SQLITE_DB_PREFIX", "in/")];
        let found = variables.iter().chain(&needed).find(|(n, _)| *n == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Settings { cli: &Cli::default(), environment: &look_up }.s3()
}

fn message(variables: &[(&str, &str)]) -> String {
    s3(variables).err().map(|failure| failure.message).unwrap_or_default()
}

#[test]
fn a_bucket_and_a_prefix_are_enough() {
    let settings = s3(&[]).unwrap();
    assert_eq!((settings.bucket.as_str(), settings.prefix.as_str()), ("bucket", "in/"));
    assert_eq!(s3(&[("S3_SQLITE_DB_PREFIX", "")]).unwrap().prefix, "");
    assert_eq!((settings.region.as_str(), settings.endpoint), ("us-east-1", None));
    assert!(settings.requester_pays);
    assert_eq!(settings.credentials.sts_url, "https://sts.us-east-1.amazonaws.com");
    assert_eq!(settings.credentials.instance_url.as_deref(), Some("http://169.254.169.254"));
}

#[test]
fn what_could_lead_to_another_host_is_refused() {
    for bucket in ["", "ab", "s3://bucket", "bucket/prefix", "evil.example#", "a@b"] {
        assert!(message(&[("S3_SQLITE_DB_BUCKET", bucket)]).contains("S3_SQLITE_DB_BUCKET"), "{bucket:?}");
    }
    assert!(message(&[("AWS_REGION", "x.evil.example/")]).contains("AWS_REGION"));
    assert!(message(&[("AWS_ENDPOINT_URL_S3", "minio:9000")]).contains("AWS_ENDPOINT_URL_S3"));
    let container = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    for url in ["http://evil.example/", "http://169.254.170.2.evil.example/", "ftp://127.0.0.1/"] {
        assert!(message(&[(container, url)]).contains(container), "{url}");
    }
    for url in ["http://169.254.170.23/v1", "http://127.0.0.1:99/x", "https://any.example/"] {
        assert_eq!(s3(&[(container, url)]).unwrap().credentials.container.unwrap().url, url);
    }
}

#[test]
fn the_payer_header_can_be_turned_off() {
    for (value, expected) in [("requester", true), ("", false), ("none", false)] {
        assert_eq!(s3(&[("S3_REQUEST_PAYER", value)]).unwrap().requester_pays, expected, "{value:?}");
    }
    assert!(message(&[("S3_REQUEST_PAYER", "me")]).contains("S3_REQUEST_PAYER"));
}

#[test]
fn the_own_keys_win_over_those_of_the_environment_and_half_a_pair_is_refused() {
    let aws = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "B"), ("AWS_SESSION_TOKEN", "C")];
    let keys = s3(&aws).unwrap().credentials.keys.unwrap();
    assert_eq!((keys.access_key.as_str(), keys.session_token), ("A", Some(Secret::new("C"))));
    let own = [("AWS_S3_ACCESS_KEY", "D"), ("AWS_S3_SECRET_KEY", "E")];
    let keys = s3(&[own.as_slice(), &aws].concat()).unwrap().credentials.keys.unwrap();
    assert_eq!((keys.access_key.as_str(), keys.session_token), ("D", None));
    assert!(message(&own[..1]).contains("AWS_S3_SECRET_KEY"));
    assert!(message(&aws[1..]).contains("AWS_ACCESS_KEY_ID"));
}

#[test]
fn no_setting_prints_a_secret() {
    let variables =
        [("AWS_S3_ACCESS_KEY", "D"), ("AWS_S3_SECRET_KEY", "hunter2"), ("AWS_SESSION_TOKEN", "hunter2")];
    assert!(!format!("{:?}", s3(&variables).unwrap()).contains("hunter2"));
}
