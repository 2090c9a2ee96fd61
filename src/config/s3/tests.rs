//! Tests of the settings for S3.

use super::*;
use crate::auth::aws::KeySource;
use crate::cli::Cli;
use crate::common::secret::Secret;

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
    assert_eq!((settings.bucket.to_string().as_str(), settings.prefix.as_str()), ("bucket", "in/"));
    assert_eq!(s3(&[("S3_SQLITE_DB_PREFIX", "")]).unwrap().prefix, "");
    assert_eq!((settings.region.name.as_str(), settings.endpoint), ("us-east-1", None));
    assert!(settings.requester_pays);
    assert_eq!(settings.credentials.sts.url, "https://sts.us-east-1.amazonaws.com");
    assert_eq!(settings.credentials.instance_url.as_deref(), Some("http://169.254.169.254"));
}

#[test]
fn names_that_could_lead_to_another_host_are_refused() {
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
fn the_requester_pays_header_can_be_turned_off() {
    for (value, expected) in [("requester", true), ("", false), ("none", false)] {
        assert_eq!(s3(&[("S3_REQUEST_PAYER", value)]).unwrap().requester_pays, expected, "{value:?}");
    }
    assert!(message(&[("S3_REQUEST_PAYER", "me")]).contains("S3_REQUEST_PAYER"));
}

fn text(text: &str) -> KeySource {
    KeySource::Text(Secret::new(text))
}

#[test]
fn own_keys_override_the_environment_and_half_a_pair_is_refused() {
    let aws = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "B"), ("AWS_SESSION_TOKEN", "C")];
    let keys = s3(&aws).unwrap().credentials.keys.unwrap();
    assert_eq!((keys.access_key, keys.session_token), (text("A"), Some(text("C"))));
    let own = [("AWS_S3_ACCESS_KEY", "D"), ("AWS_S3_SECRET_KEY", "E")];
    let keys = s3(&[own.as_slice(), &aws].concat()).unwrap().credentials.keys.unwrap();
    assert_eq!((keys.access_key, keys.session_token), (text("D"), None), "the token is that of other keys");
    let keys = s3(&[own.as_slice(), &aws[2..]].concat()).unwrap().credentials.keys.unwrap();
    assert_eq!((keys.access_key, keys.session_token), (text("D"), Some(text("C"))));
    assert!(message(&own[..1]).contains("AWS_S3_SECRET_KEY"));
    assert!(message(&aws[1..]).contains("AWS_ACCESS_KEY_ID"));
}

#[test]
fn whitespace_is_trimmed_around_settings_and_refused_within_keys() {
    let given = [
        ("AWS_S3_ACCESS_KEY", " D\n"),
        ("AWS_S3_SECRET_KEY", "E\r\n"),
        ("AWS_REGION", " eu-west-1 "),
        ("AWS_ENDPOINT_URL_S3", "http://localhost:9000\n"),
        ("S3_SQLITE_DB_BUCKET", "bucket\n"),
    ];
    let settings = s3(&given).unwrap();
    let keys = settings.credentials.keys.unwrap();
    assert_eq!((keys.access_key, keys.secret_key), (text("D"), text("E")));
    assert_eq!(settings.region.name, "eu-west-1");
    assert_eq!(settings.endpoint.as_deref(), Some("http://localhost:9000"));
    let told = message(&[("AWS_S3_ACCESS_KEY", "D"), ("AWS_S3_SECRET_KEY", "hunter2 hunter3")]);
    assert!(told.contains("AWS_S3_SECRET_KEY") && !told.contains("hunter"), "{told}");
    let told = message(&[("AWS_S3_ACCESS_KEY", "D"), ("AWS_S3_SECRET_KEY", "\"hunter2\"")]);
    assert!(told.contains("AWS_S3_SECRET_KEY is in quotes") && !told.contains("hunter"), "{told}");
}

#[test]
fn keys_in_files_are_read_when_needed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let file = path.to_str().unwrap();
    let given = [("AWS_S3_ACCESS_KEY", "D"), ("AWS_S3_SECRET_KEY_FILE", file)];
    let secret = s3(&given).unwrap().credentials.keys.unwrap().secret_key;
    assert!(secret.read().unwrap_err().contains(file));
    std::fs::write(&path, "E\n").unwrap();
    assert_eq!(secret.read(), Ok(Secret::new("E")));
    let both = [given[0], given[1], ("AWS_S3_SECRET_KEY", "E")];
    assert!(message(&both).contains("AWS_S3_SECRET_KEY_FILE"));
}

#[test]
fn a_user_name_in_an_endpoint_is_refused_with_the_s3_settings() {
    for variable in ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS"] {
        let told = message(&[(variable, "https://user:hunter2@s3.example")]);
        assert!(told.contains(variable) && told.contains("AWS_S3_ACCESS_KEY"), "{told}");
        assert!(!told.contains("ELASTICSEARCH") && !told.contains("hunter2"), "{told}");
    }
}

/// Resolves settings with a config file of this text.
fn with_config(config: &str, variables: &[(&str, &str)]) -> Result<S3, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, config).unwrap();
    s3(&[variables, &[("AWS_CONFIG_FILE", path.to_str().unwrap())]].concat())
}

#[test]
fn the_region_comes_from_the_first_source_that_has_one() {
    let config = "[default]\nregion=eu-west-3\n[profile p]\nregion=eu-west-2\n";
    let all =
        [("AWS_REGION", "eu-west-1"), ("AWS_DEFAULT_REGION", "eu-north-1"), ("AWS_DEFAULT_PROFILE", "p")];
    for (skipped, expected) in ["eu-west-1", "eu-north-1", "eu-west-2", "eu-west-3"].iter().enumerate() {
        assert_eq!(with_config(config, &all[skipped..]).unwrap().region.name, *expected);
    }
    let of_endpoint = |url: &str| s3(&[("AWS_ENDPOINT_URL_S3", url)]).unwrap().region.name;
    assert_eq!(of_endpoint("https://s3.dualstack.eu-west-1.amazonaws.com"), "eu-west-1");
    assert_eq!(of_endpoint("https://bucket.vpce-1a2b.s3.eu-west-2.vpce.amazonaws.com"), "eu-west-2");
    assert_eq!(of_endpoint("https://s3.amazonaws.com"), "us-east-1");
    assert_eq!(of_endpoint("https://s3.eu-west-1.example.com"), "us-east-1");
}

#[test]
fn the_endpoint_comes_from_the_profile_unless_disabled() {
    let config = "[default]\nendpoint_url = http://all:1\n[profile p]\nservices = s\nendpoint_url=http://all:2\n\
                  [services s]\ns3 =\n  endpoint_url = http://s3:3/\n";
    let endpoint = |variables: &[(&str, &str)]| with_config(config, variables).unwrap().endpoint;
    assert_eq!(endpoint(&[]).as_deref(), Some("http://all:1"));
    assert_eq!(endpoint(&[("AWS_PROFILE", "p")]).as_deref(), Some("http://s3:3"));
    assert_eq!(
        endpoint(&[("AWS_PROFILE", "p"), ("AWS_ENDPOINT_URL", "http://x:4")]).as_deref(),
        Some("http://x:4")
    );
    assert_eq!(endpoint(&[("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")]), None);
}

#[test]
fn endpoint_variants_are_honoured_or_refused() {
    let both = [("AWS_USE_FIPS_ENDPOINT", "true"), ("AWS_USE_DUALSTACK_ENDPOINT", "true")];
    assert_eq!(s3(&both).unwrap().variant, Variant { fips: true, dual_stack: true });
    let of_profile = with_config("[default]\nuse_fips_endpoint=true\n", &[]).unwrap();
    assert!(of_profile.variant.fips);
    assert_eq!(of_profile.credentials.sts.url, "https://sts-fips.us-east-1.amazonaws.com");
    assert!(message(&[both[0], ("AWS_ENDPOINT_URL_S3", "http://s3:1")]).contains("AWS_USE_FIPS_ENDPOINT"));
    assert!(message(&[both[0], ("AWS_REGION", "cn-north-1")]).contains("AWS_USE_FIPS_ENDPOINT"));
    assert!(message(&[("AWS_USE_FIPS_ENDPOINT", "perhaps")]).contains("AWS_USE_FIPS_ENDPOINT"));
}

#[test]
fn addressing_comes_from_flag_variable_or_profile_and_is_validated() {
    let of = |variables: &[(&str, &str)]| s3(variables).unwrap().addressing;
    assert_eq!(of(&[]), Addressing::Auto);
    assert_eq!(of(&[("S3_ADDRESSING", "virtual")]), Addressing::Virtual);
    let of_profile = with_config("[default]\ns3 =\n  addressing_style = path\n", &[]).unwrap();
    assert_eq!(of_profile.addressing, Addressing::Path);
    assert!(message(&[("S3_ADDRESSING", "host")]).contains("S3_ADDRESSING"));
    for url in ["http://127.0.0.1:9000", "http://[::1]:9000"] {
        let told = message(&[("S3_ADDRESSING", "virtual"), ("AWS_ENDPOINT_URL_S3", url)]);
        assert!(told.contains("--s3-addressing"), "{told}");
    }
    assert!(message(&[("S3_ADDRESSING", "virtual"), ("S3_SQLITE_DB_BUCKET", "Old_One")]).contains("Old_One"));
}

#[test]
fn access_points_are_accepted_and_other_arns_are_refused_by_kind() {
    let bucket = |arn: &str| s3(&[("S3_SQLITE_DB_BUCKET", arn), ("AWS_REGION", "eu-west-2")]);
    for arn in
        ["arn:aws:s3:eu-west-1:123456789012:accesspoint/mine", "arn:aws:s3:eu-west-1:1:accesspoint:mine"]
    {
        let settings = bucket(arn).unwrap();
        assert_eq!((settings.bucket.to_string().as_str(), settings.region.name.as_str()), (arn, "eu-west-1"));
    }
    for (arn, what) in [
        ("arn:aws:s3::123456789012:accesspoint/mine.mrap", "several regions"),
        ("arn:aws:s3-object-lambda:eu-west-1:1:accesspoint/mine", "Lambda"),
        ("arn:aws:s3-outposts:eu-west-1:1:outpost/op-1/accesspoint/mine", "Outpost"),
        ("arn:aws:s3express:eu-west-1:1:bucket/mine--x-s3", "Express"),
        ("arn:aws:s3:::mine", "give its name, mine"),
        ("arn:aws:s3:eu-west-1:1:accesspoint/a.evil.example/", "not the ARN"),
        ("arn:aws:s3:evil.example/:1:accesspoint/a", "not the ARN"),
        ("arn:aws:sns:eu-west-1:1:topic", "not the ARN"),
        ("mine--usw2-az1--x-s3", "directory bucket"),
    ] {
        let told = bucket(arn).unwrap_err().message;
        assert!(told.contains("S3_SQLITE_DB_BUCKET") && told.contains(what), "{arn}: {told}");
    }
}

#[test]
fn s3_may_have_its_own_ca_file() {
    let file =
        |variables: &[(&str, &str)]| s3(variables).unwrap().ca_cert.map(|file| (file.path, file.setting));
    let es = ("ELASTICSEARCH_CA_CERT", "es.pem");
    assert_eq!(file(&[es]).unwrap().0, PathBuf::from("es.pem"));
    assert_eq!(file(&[es, ("AWS_CA_BUNDLE", "s3.pem")]), Some((PathBuf::from("s3.pem"), "AWS_CA_BUNDLE")));
}

#[test]
fn no_setting_prints_a_secret() {
    let variables =
        [("AWS_S3_ACCESS_KEY", "D"), ("AWS_S3_SECRET_KEY", "hunter2"), ("AWS_SESSION_TOKEN", "hunter2")];
    assert!(!format!("{:?}", s3(&variables).unwrap()).contains("hunter2"));
}
