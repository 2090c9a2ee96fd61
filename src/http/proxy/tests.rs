//! Tests of the proxy, and of the hosts that are reached without it.

use super::*;

fn is_excepted(no_proxy: &str, url: &str) -> bool {
    NoProxy::parse(no_proxy).has(&url.parse().unwrap())
}

#[test]
fn hosts_of_no_proxy_are_reached_directly() {
    for (no_proxy, url) in [
        ("*", "https://es.example"),
        ("es.example", "https://ES.example:9200/x"),
        ("other, .example", "https://es.example"),
        ("*.example", "http://a.es.example"),
        ("example:9200", "http://es.example:9200"),
        ("example:443", "https://es.example"),
        ("10.0.0.0/8", "http://10.1.2.3:9200"),
        ("127.0.0.1", "http://127.0.0.1:9200"),
        ("127.0.0.1:9200", "http://127.0.0.1:9200"),
        ("::1", "http://[::1]:9200"),
        ("fd00::/8", "http://[fd12::1]"),
        ("", "http://169.254.169.254/latest"),
        ("", "http://[fd00:ec2::254]"),
    ] {
        assert!(is_excepted(no_proxy, url), "{no_proxy} {url}");
    }
    for (no_proxy, url) in [
        ("", "https://es.example"),
        ("es.example", "https://yes.example"),
        ("a.es.example", "https://es.example"),
        ("example:9201", "http://es.example:9200"),
        ("10.0.0.0/8", "http://11.1.2.3"),
        ("10.0.0.0/8", "http://10.example"),
        ("127.0.0.1", "http://127.0.0.10"),
        (", ,.,*.", "https://es.example"),
    ] {
        assert!(!is_excepted(no_proxy, url), "{no_proxy} {url}");
    }
}

#[test]
fn credentials_of_a_proxy_are_never_shown() {
    let proxy = Proxy::parse("http://me:hunter2%21@proxy.example:3128/").unwrap();
    assert_eq!(proxy.url(), "http://proxy.example:3128");
    assert_eq!(proxy.authorization_line(), "Proxy-Authorization: Basic bWU6aHVudGVyMiE=\r\n");
    assert!(!format!("{proxy:?}").contains("hunter2"));
    assert_eq!(Proxy::parse("proxy.example:3128").unwrap().url(), "http://proxy.example:3128");
    for (url, why) in
        [("https://proxy.example", "http://"), ("socks5://a:hunter2@b", "http"), ("", "not a URL")]
    {
        let error = Proxy::parse(url).unwrap_err();
        assert!(error.contains(why) && !error.contains("hunter2"), "{url}: {error}");
    }
}

#[test]
fn only_the_head_of_a_request_has_a_request_line() {
    assert_eq!(request_line(b"POST /_bulk HTTP/1.1\r\nhost: x\r\n"), Some(5));
    for other in [&b"{\"index\":{}}\r\n"[..], b"", b"POST", b"POST _bulk HTTP/1.1\r\n", b"a / HTTP/1.1\r\n"] {
        assert_eq!(request_line(other), None);
    }
}

#[test]
fn an_error_of_a_silent_server_mentions_the_proxy_of_other_programs() {
    let uri: Uri = "https://es.example".parse().unwrap();
    let mut proxies = Proxies { unused: Some("HTTPS_PROXY"), ..Proxies::default() };
    let text = proxies.explain(&uri, "refused");
    assert!(text.starts_with("refused; HTTPS_PROXY is set") && text.contains("--proxy"), "{text}");
    proxies.proxy = Proxy::parse("http://p:1").ok();
    assert_eq!(proxies.explain(&uri, "refused"), "by the proxy http://p:1: refused");
    proxies.no_proxy = NoProxy::parse("example");
    assert_eq!(proxies.explain(&uri, "refused"), "refused");
}
