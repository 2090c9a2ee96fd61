//! Reads the shared config and credentials files of the AWS tools.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Shared config and credentials files".

use std::collections::BTreeMap;
use std::path::Path;

use super::Profile;
use crate::files;

/// Settings of a section by lower-case name. Nested settings have names such as `s3.addressing_style`.
pub type Section = BTreeMap<String, String>;

/// Returns a setting of a section. An empty one counts as unset.
pub fn set_in(section: &Section, setting: &str) -> Option<String> {
    section.get(setting).filter(|text| !text.is_empty()).cloned()
}

impl Profile {
    /// Returns the settings of a profile; None: there is no such profile. The credentials file wins over the config
    /// file.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read.
    pub fn section(&self, name: &str) -> Result<Option<Section>, String> {
        let in_config = format!("profile {name}");
        let wanted: &[&str] = if name == "default" { &["default", &in_config] } else { &[&in_config] };
        let config = section_of(self.config_file.as_deref(), wanted)?;
        let credentials = section_of(self.credentials_file.as_deref(), &[name])?;
        Ok(match (config, credentials) {
            (None, None) => None,
            (config, credentials) => {
                Some(config.unwrap_or_default().into_iter().chain(credentials.unwrap_or_default()).collect())
            }
        })
    }

    /// Returns a section of another kind from the config file, as in `[sso-session name]`.
    pub fn named(&self, kind: &str, name: &str) -> Option<Section> {
        section_of(self.config_file.as_deref(), &[&format!("{kind} {name}")]).ok().flatten()
    }
}

/// Returns the settings of the sections with these names; None: there is no such file or section.
fn section_of(file: Option<&Path>, wanted: &[&str]) -> Result<Option<Section>, String> {
    let Some(file) = file else { return Ok(None) };
    let text = files::if_exists(files::read_to_string(file))
        .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    Ok(text.and_then(|text| parse(&text, wanted)))
}

/// Parses the settings of the sections with these names; None: there is no such section. A line that is indented
/// further than the setting above it belongs to that setting.
fn parse(text: &str, wanted: &[&str]) -> Option<Section> {
    let mut section = None;
    let mut is_wanted = false;
    // The last top-level setting, and its indentation.
    let mut above: Option<(String, usize)> = None;
    for line in text.trim_start_matches('\u{feff}').lines() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with(['#', ';']) {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let parent =
            above.as_ref().filter(|(_, of_parent)| indent > *of_parent).map(|(name, _)| name.clone());
        if parent.is_none()
            && let Some(header) = bare.strip_prefix('[')
        {
            let name = header.split(']').next().unwrap_or_default();
            let name: Vec<&str> =
                name.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
            is_wanted = wanted.contains(&name.join(" ").as_str());
            above = None;
            if is_wanted {
                section.get_or_insert_with(Section::new);
            }
            continue;
        }
        let Some((name, value)) = bare.split_once('=') else { continue };
        let name = name.trim().to_ascii_lowercase();
        let value = value.split(" #").next().unwrap_or_default();
        let value = value.split(" ;").next().unwrap_or_default().trim();
        let full_name = match parent {
            Some(parent) => format!("{parent}.{name}"),
            None => {
                above = Some((name.clone(), indent));
                name
            }
        };
        if is_wanted && let Some(section) = &mut section {
            section.insert(full_name, value.to_owned());
        }
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(pairs: &[(&str, &str)]) -> Option<Section> {
        Some(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn settings_are_those_of_the_section_without_comments_and_white_space() {
        let text = "\u{feff}# comment = [a]\r\n[ a ]\r\nOne = 1 # why\r\ntwo=B/+=\r\n; three=3\r\n[b]\nfour=4\n[a]\nfive=5";
        let expected = section(&[("one", "1"), ("two", "B/+="), ("five", "5")]);
        assert_eq!(parse(text, &["a"]), expected);
        assert_eq!(parse(text, &["c"]), None);
    }

    #[test]
    fn an_indented_line_belongs_to_the_setting_above_unless_all_lines_are_indented() {
        let text = "[profile  a]\ns3 =\n  addressing_style = path\n\tx = y\nregion = z\n";
        let expected =
            section(&[("s3", ""), ("s3.addressing_style", "path"), ("s3.x", "y"), ("region", "z")]);
        assert_eq!(parse(text, &["profile a"]), expected);
        let text = "[a]\n  one = 1\n  two = 2\n[b]\n";
        assert_eq!(parse(text, &["a"]), section(&[("one", "1"), ("two", "2")]));
    }

    #[test]
    fn names_may_be_quoted() {
        assert_eq!(parse("[profile \"a\"]\nx=1\n", &["profile a"]), section(&[("x", "1")]));
    }
}
