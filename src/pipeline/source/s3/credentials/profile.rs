//! Profiles of the shared credentials and config files.
//!
//! Keys and web identities are understood; what needs another program or a browser (`credential_process`, `sso_…`),
//! and `source_profile`, are not, and said to be not.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Shared config and credentials files".

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::Step;
use crate::config::s3::{Keys, Profile, WebIdentity};
use crate::files;
use crate::secret::Secret;

/// What a profile holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A pair of keys.
    Keys(Keys),
    /// A token and a role.
    WebIdentity(WebIdentity),
}

/// The settings of a profile, by name in lower case.
type Section = BTreeMap<String, String>;

/// Settings by which a profile asks for what is not understood.
const NOT_UNDERSTOOD: [&str; 5] =
    ["sso_session", "sso_start_url", "credential_process", "source_profile", "credential_source"];

/// Reads a profile; what the credentials file says wins over the config file.
pub(super) fn read(profile: &Profile) -> Result<Found, Step> {
    let name = &profile.name;
    let credentials = section_of(profile.credentials_file.as_deref(), &[name])?;
    let in_config = format!("profile {name}");
    let wanted: &[&str] = if name == "default" { &["default", &in_config] } else { &[&in_config] };
    let config = section_of(profile.config_file.as_deref(), wanted)?;
    // One that was asked for by name has to be there.
    let missing = |why: String| if profile.asked_for { Step::Refused(why) } else { Step::Absent(why) };
    let mut section = match (config, credentials) {
        (None, None) => return Err(missing(format!("there is no profile {name:?}"))),
        (config, credentials) => {
            config.unwrap_or_default().into_iter().chain(credentials.unwrap_or_default())
        }
    }
    .collect::<Section>();
    found_in(&mut section).map_err(|why| missing(format!("the profile {name:?} {why}")))
}

fn found_in(section: &mut Section) -> Result<Found, String> {
    let mut take = |setting: &str| section.remove(setting).filter(|value| !value.is_empty());
    if let Some((access_key, secret_key)) = take("aws_access_key_id").zip(take("aws_secret_access_key")) {
        let session_token = take("aws_session_token").map(Secret::new);
        return Ok(Found::Keys(Keys { access_key, secret_key: Secret::new(secret_key), session_token }));
    }
    if let Some((token_file, role_arn)) = take("web_identity_token_file").zip(take("role_arn")) {
        let session_name = take("role_session_name").unwrap_or_else(|| "megastream_ingest".to_owned());
        return Ok(Found::WebIdentity(WebIdentity { token_file: token_file.into(), role_arn, session_name }));
    }
    Err(match NOT_UNDERSTOOD.iter().find(|setting| section.contains_key(**setting)) {
        Some(setting) => format!("asks for {setting}, which this program does not understand"),
        None => "has no aws_access_key_id with aws_secret_access_key".to_owned(),
    })
}

/// The section of a file; None where there is no such file or section.
fn section_of(file: Option<&Path>, wanted: &[&str]) -> Result<Option<Section>, Step> {
    let Some(file) = file else { return Ok(None) };
    match files::read_to_string(file) {
        Ok(text) => Ok(parse(&text, wanted)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Step::Refused(format!("{} cannot be read: {error}", file.display()))),
    }
}

/// The settings of the sections of these names; None where there is none. Indented lines belong to the setting above
/// them, none of which is of interest.
fn parse(text: &str, wanted: &[&str]) -> Option<Section> {
    let mut section = None;
    let mut is_wanted = false;
    for line in text.lines().filter(|line| !line.starts_with([' ', '\t', '#', ';'])) {
        if let Some(header) = line.strip_prefix('[') {
            let name = header.split(']').next().unwrap_or_default();
            let name: Vec<&str> = name.split_whitespace().collect();
            is_wanted = wanted.contains(&name.join(" ").as_str());
            if is_wanted {
                section.get_or_insert_with(Section::new);
            }
        } else if is_wanted
            && let Some((setting, value)) = line.split_once('=')
            && let Some(section) = &mut section
        {
            let value = value.split(" #").next().unwrap_or_default();
            let value = value.split(" ;").next().unwrap_or_default();
            section.insert(setting.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    section
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CREDENTIALS: &str = "\
        # comment = [default]\n[default]\naws_access_key_id = A\naws_secret_access_key=B/+=\n\n\
        [ temporary ]\nAWS_ACCESS_KEY_ID=C\naws_secret_access_key = D # why\ns3 =\n  aws_session_token = x\n\
        aws_session_token=E\n";
    const CONFIG: &str = "\
        [default]\nregion = eu-west-1\n[profile sso]\nsso_session = x\n[profile half]\naws_access_key_id=A\n\
        [profile  role]\nrole_arn = arn:aws:iam::1:role/r\nweb_identity_token_file = /var/token\n\
        [temporary]\naws_session_token=not a profile\n";

    fn read_named(name: &str, asked_for: bool) -> Result<Found, Step> {
        let folder = tempfile::tempdir().unwrap();
        let (credentials, config) = (folder.path().join("credentials"), folder.path().join("config"));
        fs::write(&credentials, CREDENTIALS).unwrap();
        fs::write(&config, CONFIG).unwrap();
        let name = name.to_owned();
        read(&Profile { name, asked_for, credentials_file: Some(credentials), config_file: Some(config) })
    }

    fn keys(access_key: &str, secret_key: &str, token: Option<&str>) -> Found {
        let (access_key, secret_key) = (access_key.to_owned(), Secret::new(secret_key));
        Found::Keys(Keys { access_key, secret_key, session_token: token.map(Secret::new) })
    }

    #[test]
    fn keys_come_from_the_section_of_the_profile() {
        assert_eq!(read_named("default", false), Ok(keys("A", "B/+=", None)));
        assert_eq!(read_named("temporary", true), Ok(keys("C", "D", Some("E"))));
    }

    #[test]
    fn a_role_with_a_token_file_is_a_web_identity() {
        let Ok(Found::WebIdentity(identity)) = read_named("role", true) else { panic!() };
        assert_eq!(identity.role_arn, "arn:aws:iam::1:role/r");
        assert_eq!(identity.token_file, Path::new("/var/token"));
    }

    #[test]
    fn what_cannot_be_used_is_told_and_ends_the_search_only_if_it_was_asked_for() {
        for (name, why) in [("none", "no profile"), ("sso", "sso_session"), ("half", "aws_access_key_id")] {
            let Err(Step::Refused(text)) = read_named(name, true) else { panic!("{name}") };
            assert!(text.contains(why) && text.contains(name), "{text}");
            assert!(matches!(read_named(name, false), Err(Step::Absent(_))), "{name}");
        }
    }

    #[test]
    fn missing_files_are_no_profile_and_unreadable_ones_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut profile = Profile {
            name: "default".into(),
            asked_for: false,
            credentials_file: Some(folder.path().join("missing")),
            config_file: None,
        };
        assert!(matches!(read(&profile), Err(Step::Absent(_))));
        profile.credentials_file = Some(folder.path().into());
        assert!(matches!(read(&profile), Err(Step::Refused(_))));
    }
}
