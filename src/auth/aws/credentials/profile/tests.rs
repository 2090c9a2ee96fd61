//! Tests of how profiles are read, and of which files must exist.

use std::fs;
use std::path::Path;

use super::*;

const CREDENTIALS: &str = "\
    [default]\naws_access_key_id = A\naws_secret_access_key=B/+=\n[temporary]\nAWS_ACCESS_KEY_ID=C\n\
    aws_secret_access_key = D # why\naws_session_token=E\n[both]\naws_access_key_id=F\naws_secret_access_key=G\n";

const CONFIG: &str = "\
    [default]\nregion = eu-west-1\n[profile half]\naws_access_key_id=A\n[profile region]\nregion=x\n\
    [profile token]\nrole_arn = arn:r\nweb_identity_token_file = /var/token\n\
    [profile both]\nrole_arn = arn:r\n[profile self]\nrole_arn=arn:r\nsource_profile=default\nexternal_id=x\n\
    duration_seconds=900\n[profile process]\ncredential_process = /bin/get \"a b\"\n\
    [profile instance]\nrole_arn=arn:r\ncredential_source=Ec2InstanceMetadata\n\
    [profile mfa]\nrole_arn=arn:r\nsource_profile=default\nmfa_serial=m\n[profile login]\nlogin_session=x\n\
    [profile alone]\nrole_arn=arn:r\n[profile bad]\nrole_arn=arn:r\ncredential_source=Moon\n\
    [profile sso]\nsso_session=s\nsso_account_id=1\nsso_role_name=r\n\
    [sso-session s]\nsso_start_url=https://s.example/start\nsso_region=eu-west-1\n\
    [profile nosession]\nsso_session=t\nsso_account_id=1\nsso_role_name=r\n";

fn found(name: &str) -> Result<Option<ProfileContent>, String> {
    let folder = tempfile::tempdir().unwrap();
    let (credentials, config) = (folder.path().join("credentials"), folder.path().join("config"));
    fs::write(&credentials, CREDENTIALS).unwrap();
    fs::write(&config, CONFIG).unwrap();
    let profile = Profile {
        name: name.to_owned(),
        asked_for: true,
        credentials_file: Some(credentials),
        config_file: Some(config),
        sso_cache: None,
    };
    let section = profile.section(name).unwrap().unwrap_or_default();
    parse_section(&section, name, &profile)
}

fn keys(access_key: &str, secret_key: &str, token: Option<&str>) -> Credentials {
    Credentials {
        access_key: access_key.to_owned(),
        secret_key: Secret::new(secret_key),
        session_token: token.map(Secret::new),
        expires: None,
    }
}

fn role(external_id: Option<&str>, duration_seconds: Option<u32>) -> Role {
    Role {
        role_arn: "arn:r".into(),
        session_name: "megastream_ingest".into(),
        external_id: external_id.map(str::to_owned),
        duration_seconds,
    }
}

#[test]
fn each_kind_of_profile_is_parsed() {
    assert_eq!(found("default"), Ok(Some(ProfileContent::Keys(keys("A", "B/+=", None)))));
    assert_eq!(found("temporary"), Ok(Some(ProfileContent::Keys(keys("C", "D", Some("E"))))));
    assert_eq!(found("region"), Ok(None));
    let Ok(Some(ProfileContent::WebIdentity(identity))) = found("token") else { panic!() };
    assert_eq!(
        (identity.role_arn.as_str(), identity.token_file.as_path()),
        ("arn:r", Path::new("/var/token"))
    );
    assert_eq!(found("process"), Ok(Some(ProfileContent::Process("/bin/get \"a b\"".into()))));
    assert!(matches!(found("sso"), Ok(Some(ProfileContent::Login(_)))));
}

#[test]
fn a_role_comes_before_the_keys_of_its_profile() {
    assert_eq!(
        found("both"),
        Ok(Some(ProfileContent::Role(role(None, None), RoleSource::Own(keys("F", "G", None)))))
    );
    let by_profile = ProfileContent::Role(role(Some("x"), Some(900)), RoleSource::Profile("default".into()));
    assert_eq!(found("self"), Ok(Some(by_profile)));
    assert_eq!(found("instance"), Ok(Some(ProfileContent::Role(role(None, None), RoleSource::Instance))));
}

#[test]
fn unusable_profiles_are_reported_with_advice() {
    for (name, why) in [
        ("half", "aws_secret_access_key"),
        ("mfa", "aws configure export-credentials --profile mfa"),
        ("login", "aws configure export-credentials --profile login"),
        ("alone", "source_profile"),
        ("bad", "\"Moon\""),
        ("nosession", "sso-session t"),
    ] {
        let told = found(name).unwrap_err();
        assert!(told.contains(why), "{name}: {told}");
    }
}
