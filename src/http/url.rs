//! Checks base URLs once, when settings are read, so that later code can rely on them.

use std::net::IpAddr;

use ureq::http::Uri;

use crate::common::secret::Secret;

/// User and password of a URL: the part before the `@`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserInfo {
    /// User name, percent-decoded.
    pub user: String,
    /// Password, percent-decoded; None: there is no `:`.
    pub password: Option<Secret>,
}

/// Returns the default port of a URL's scheme.
pub(crate) fn default_port(uri: &Uri) -> u16 {
    if uri.scheme_str() == Some("https") { 443 } else { 80 }
}

/// Parses a list of base URLs, separated by commas. Returns them without `user:password@`. All URLs that have user and
/// password must have the same.
///
/// # Errors
///
/// Says what is wrong without repeating any of the text, which may hold a password.
pub fn parse_base_urls(text: &str) -> Result<(Vec<String>, Option<UserInfo>), String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let mut urls: Vec<String> = Vec::with_capacity(parts.len());
    let mut user_info = None;
    for (n, part) in parts.iter().enumerate() {
        let wrong =
            |why: String| if parts.len() > 1 { format!("number {} of the list: {why}", n + 1) } else { why };
        let (url, found) = split_user_info(part).map_err(wrong)?;
        let url = parse_base_url(&url).map_err(wrong)?;
        if found.is_some() && user_info.is_some() && found != user_info {
            return Err("the URLs have different users or passwords, although they are nodes of one cluster"
                .to_owned());
        }
        user_info = user_info.or(found);
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    if urls.is_empty() { Err("that is not a URL".to_owned()) } else { Ok((urls, user_info)) }
}

/// Splits `user:password@` off a URL. Returns the URL without it, and the decoded user and password.
///
/// # Errors
///
/// Fails if user or password are not percent-encoded correctly.
pub fn split_user_info(url: &str) -> Result<(String, Option<UserInfo>), String> {
    let Some((scheme, rest)) = url.split_once("://") else { return Ok((url.to_owned(), None)) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((info, host)) = authority.rsplit_once('@') else { return Ok((url.to_owned(), None)) };
    let decode = |text: &str| {
        percent_decode(text).ok_or_else(|| {
            "user name and password before the @ have to be percent-encoded (%40 for @, %3A for :, %25 for %)".to_owned()
        })
    };
    let (user, password) = info.split_once(':').map_or((info, None), |(user, word)| (user, Some(word)));
    let password = password.map(decode).transpose()?.map(Secret::new);
    let rest = &rest[authority.len()..];
    Ok((format!("{scheme}://{host}{rest}"), Some(UserInfo { user: decode(user)?, password })))
}

/// Decodes percent encoding; None: it is invalid, or the result is not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let (mut bytes, mut out) = (text.bytes(), Vec::with_capacity(text.len()));
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(out).ok()
}

/// Checks the base URL of a server. Returns it in the form that paths are appended to: scheme, host, optional port and
/// optional path prefix, without a trailing `/`.
///
/// # Errors
///
/// Says what is wrong without repeating any of the URL, which may hold a password.
pub fn parse_base_url(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.starts_with(['"', '\'']) {
        return Err("remove the quotes, which docker --env-file keeps".to_owned());
    }
    // `http::Uri` drops a fragment silently.
    if text.contains('#') {
        return Err("the URL must not have a fragment (#…)".to_owned());
    }
    let uri: Uri = text.parse().map_err(|_| "that is not a URL".to_owned())?;
    let scheme = uri.scheme_str().unwrap_or_default();
    if scheme != "http" && scheme != "https" {
        return Err("the URL must begin with http:// or https://".to_owned());
    }
    let authority = uri.authority().ok_or("the URL names no host")?.as_str();
    if authority.contains('@') {
        return Err("the URL must not have a user name or password".to_owned());
    }
    let host = uri.host().unwrap_or_default();
    if host.is_empty() {
        return Err("the URL names no host".to_owned());
    }
    if authority.len() > host.len() && uri.port_u16().is_none_or(|port| port == 0) {
        return Err("the port of the URL must be a number from 1 to 65535".to_owned());
    }
    if uri.query().is_some() {
        return Err("the URL must not have a query (?…)".to_owned());
    }
    Ok(format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')))
}

/// Returns whether the host of a URL is this machine, so that plain `http` exposes no key to others.
///
/// Nothing is resolved: only `localhost` and loopback addresses count.
pub fn is_loopback(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_loses_its_trailing_slashes_only() {
        for (given, kept) in [
            ("https://es.example:9200", "https://es.example:9200"),
            ("https://es.example:9200/", "https://es.example:9200"),
            (" http://10.0.0.1/es/v9// ", "http://10.0.0.1/es/v9"),
            ("HTTPS://[::1]:9200", "https://[::1]:9200"),
            ("https://es.example/a@b", "https://es.example/a@b"),
        ] {
            assert_eq!(parse_base_url(given).as_deref(), Ok(kept), "{given}");
        }
    }

    #[test]
    fn an_invalid_base_url_is_refused() {
        for (given, why) in [
            ("", "not a URL"),
            ("es.example:9200", "http://"),
            ("/es", "http://"),
            ("ftp://es.example", "http://"),
            ("https://", "not a URL"),
            ("https://:9200", "no"),
            ("https://es.example:", "port"),
            ("https://es.example:0", "port"),
            ("https://es.example:99999", ""),
            ("https://es.example/?a=b", "query"),
            ("https://es.example/#a", "fragment"),
            ("https://es example/", "not a URL"),
            ("\"https://es.example:9200\"", "remove the quotes"),
        ] {
            let error = parse_base_url(given).unwrap_err();
            assert!(error.contains(why), "{given}: {error}");
        }
    }

    #[test]
    fn user_info_is_refused_and_not_repeated() {
        for given in ["https://elastic:hunter2@es.example", "http://hunter2@es.example:99999", "x:hunter2@"] {
            let error = parse_base_url(given).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    fn info(user: &str, password: Option<&str>) -> Option<UserInfo> {
        Some(UserInfo { user: user.to_owned(), password: password.map(Secret::new) })
    }

    #[test]
    fn user_and_password_are_cut_out_and_decoded() {
        for (given, urls, found) in [
            ("https://es.example:9200", &["https://es.example:9200"][..], None),
            (
                "https://elastic:p%40ss%2Fword@es.example/x/",
                &["https://es.example/x"],
                info("elastic", Some("p@ss/word")),
            ),
            ("http://a:b:c@10.0.0.1", &["http://10.0.0.1"], info("a", Some("b:c"))),
            ("http://a:p@w@10.0.0.1", &["http://10.0.0.1"], info("a", Some("p@w"))),
            ("http://a@10.0.0.1", &["http://10.0.0.1"], info("a", None)),
            (
                " http://a:b@one:1, http://two:2/ ,http://a:b@three,http://two:2",
                &["http://one:1", "http://two:2", "http://three"],
                info("a", Some("b")),
            ),
        ] {
            assert_eq!(
                parse_base_urls(given).unwrap(),
                (urls.iter().map(|&u| u.to_owned()).collect(), found),
                "{given}"
            );
        }
        for given in [
            "http://a:hunter2@one,http://a:hunter3@two",
            "http://a:hunter2%@one",
            "http://hunter2%ff@one",
            "",
        ] {
            assert!(!parse_base_urls(given).unwrap_err().contains("hunter"), "{given}");
        }
        assert!(parse_base_urls("http://one,two").unwrap_err().contains("number 2"));
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for url in ["http://localhost:9200", "http://LOCALHOST", "http://127.0.0.1/x", "http://[::1]:9200"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["http://10.0.0.1", "http://localhost.example", "http://127.0.0.1.example", "nonsense"] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
