//! The base URL that an operator gives, checked once so that nothing later has to.

use std::net::IpAddr;

use ureq::http::Uri;

/// Checks the base URL of Elasticsearch and brings it into the form that paths are appended to.
///
/// Returns scheme, host, optional port and optional path prefix, without a trailing `/`.
///
/// # Errors
///
/// Says what is wrong with the URL, never repeating any of it: it may hold a password.
pub fn parse_base_url(text: &str) -> Result<String, String> {
    let text = text.trim();
    // http::Uri drops a fragment without a word.
    if text.contains('#') {
        return Err("the URL must not have a fragment (#…)".to_owned());
    }
    let uri: Uri = text.parse().map_err(|_| "that is no URL".to_owned())?;
    let scheme = uri.scheme_str().unwrap_or_default();
    if scheme != "http" && scheme != "https" {
        return Err("the URL must begin with http:// or https://".to_owned());
    }
    let authority = uri.authority().ok_or("the URL names no host")?.as_str();
    if authority.contains('@') {
        let advice = "give an API key in ELASTICSEARCH_API_KEY instead";
        return Err(format!("the URL must not hold a user name or password: {advice}"));
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

/// Whether the host of a URL is this machine by its very name, so that plain `http` shows a key to nobody.
///
/// Nothing is resolved: a name other than `localhost` is never taken for loopback.
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
    fn what_is_no_base_url_is_refused() {
        for (given, why) in [
            ("", "no URL"),
            ("es.example:9200", "http://"),
            ("/es", "http://"),
            ("ftp://es.example", "http://"),
            ("https://", "no URL"),
            ("https://:9200", "no"),
            ("https://es.example:", "port"),
            ("https://es.example:0", "port"),
            ("https://es.example:99999", ""),
            ("https://es.example/?a=b", "query"),
            ("https://es.example/#a", "fragment"),
            ("https://es example/", "no URL"),
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
        assert!(parse_base_url("https://a:b@es.example").unwrap_err().contains("ELASTICSEARCH_API_KEY"));
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
