//! Tests of the proxy.

use super::*;

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
