//! Tests of the ways to authenticate: their choice, their headers, and the advice after a refusal.

use ureq::http::header::HOST;

use super::ways::{BEARER_TOKEN, PASSWORD, USERNAME};
use super::*;
use crate::common::exit::{ExitCode, Failure};
use crate::http::proxy::Proxies;
use crate::http::url::UserInfo;

const URL: &str = "https://es.example:9200";

fn read_with(
    variables: &[(&str, &str)],
    change: impl FnOnce(&mut AuthSettings<'_>),
) -> Result<Auth, Failure> {
    let variable =
        |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    let urls = [URL.to_owned()];
    let aws = |_: Option<&str>| Err(Failure::usage("no chain in this test"));
    let proxies = Proxies::default();
    let mut given = AuthSettings {
        variable: &variable,
        username: variable(USERNAME),
        user_info: None,
        aws_sigv4: None,
        no_auth: false,
        urls: &urls,
        aws: &aws,
        proxies: &proxies,
    };
    change(&mut given);
    Auth::read(&given)
}

fn read(variables: &[(&str, &str)]) -> Result<Auth, Failure> {
    read_with(variables, |_| ())
}

fn headers(auth: &Auth) -> HeaderMap {
    let mut headers = HeaderMap::new();
    auth.authorize("GET", &URL.parse().unwrap(), &mut headers, b"").unwrap();
    headers
}

fn sent(auth: &Auth) -> Option<String> {
    headers(auth).get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned())
}

fn user_info(user: &str, password: Option<&str>) -> Option<UserInfo> {
    Some(UserInfo { user: user.to_owned(), password: password.map(Secret::new) })
}

#[test]
fn each_way_sends_its_header() {
    for (variables, expected) in [
        (&[(API_KEY, " aWQ6a2V5\n")][..], "ApiKey aWQ6a2V5"),
        (&[(API_KEY, "id:key")], "ApiKey aWQ6a2V5"),
        (&[(USERNAME, "elastic"), (PASSWORD, "chänge me\n")], "Basic ZWxhc3RpYzpjaMOkbmdlIG1l"),
        (&[(BEARER_TOKEN, "\taaa.bbb.ccc ")], "Bearer aaa.bbb.ccc"),
    ] {
        assert_eq!(sent(&read(variables).unwrap()).as_deref(), Some(expected));
    }
    let of_url = read_with(&[], |given| given.user_info = user_info("elastic", Some("changeme")));
    assert_eq!(sent(&of_url.unwrap()).as_deref(), Some("Basic ZWxhc3RpYzpjaGFuZ2VtZQ=="));
    let user_of_url =
        read_with(&[(PASSWORD, "changeme")], |given| given.user_info = user_info("elastic", None));
    assert_eq!(sent(&user_of_url.unwrap()).as_deref(), Some("Basic ZWxhc3RpYzpjaGFuZ2VtZQ=="));
    let nobody = headers(&read_with(&[], |given| given.no_auth = true).unwrap());
    assert!(nobody.is_empty() && !nobody.contains_key(HOST));
}

#[test]
fn exactly_one_way_is_given() {
    let ways: [&[(&str, &str)]; 4] = [
        &[(API_KEY, "hunter2hunter2")],
        &[(USERNAME, "elastic"), (PASSWORD, "hunter2hunter2")],
        &[(BEARER_TOKEN, "hunter2hunter2")],
        &[],
    ];
    for (n, one) in ways.iter().enumerate() {
        for other in &ways[n + 1..] {
            let both = [*one, *other].concat();
            let failure = read_with(&both, |given| given.no_auth = other.is_empty()).unwrap_err();
            assert_eq!(failure.code, ExitCode::Usage);
            assert!(
                failure.message.contains("two ways") && !failure.message.contains("hunter2"),
                "{failure}"
            );
        }
        let with_url = read_with(one, |given| given.user_info = user_info("a", Some("b")));
        assert_eq!(with_url.is_ok(), one.is_empty());
    }
    let none = read(&[]).unwrap_err();
    for word in [API_KEY, "--username", BEARER_TOKEN, "--aws-sigv4", "--no-auth", "--dry-run"] {
        assert!(none.message.contains(word), "{none}");
    }
}

#[test]
fn incomplete_credentials_are_a_usage_failure() {
    for (variables, missing) in [
        (&[(USERNAME, "elastic")][..], PASSWORD),
        (&[(PASSWORD, "hunter2hunter2")], "--username"),
        (&[(USERNAME, "a:b"), (PASSWORD, "hunter2hunter2")], "colon"),
        (&[(API_KEY, "hunter2 hunter2")], "white space"),
        (&[(API_KEY, "\"hunter2\"")], "quotes"),
        (&[(API_KEY, "'hunter2:hunter2'")], "quotes"),
        (&[(API_KEY, "{\"encoded\":\"hunter2\"}")], "quotes"),
        (&[(BEARER_TOKEN, "\"hunter2\"")], "quotes"),
        (&[(API_KEY, " \n")], "white space"),
        (&[(BEARER_TOKEN, "hunter2\u{e4}")], "characters"),
        (&[(API_KEY, "a"), ("ELASTICSEARCH_API_KEY_FILE", "b")], "both"),
        (&[("ELASTICSEARCH_API_KEY_FILE", "/no/such/file")], "ELASTICSEARCH_API_KEY_FILE /no/such/file"),
        (&[("ELASTICSEARCH_API_KEY_FILE", "/")], "not a file"),
        (&[("ELASTICSEARCH_API_KEY_FILE", "/dev/zero")], "not a file"),
    ] {
        let failure = read(variables).unwrap_err();
        assert_eq!(failure.code, ExitCode::Usage);
        assert!(
            failure.message.contains(missing) && !failure.message.contains("hunter2"),
            "{missing}: {failure}"
        );
    }
}

#[test]
fn a_secret_of_a_file_is_read_again_when_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    for (setting, user) in [(API_KEY, ""), (PASSWORD, "elastic"), (BEARER_TOKEN, "")] {
        std::fs::write(&path, "first-secret\n").unwrap();
        let file = format!("{setting}_FILE");
        let variables = [(file.as_str(), path.to_str().unwrap()), (USERNAME, user)];
        let variables = if user.is_empty() { &variables[..1] } else { &variables };
        let auth = read(variables).unwrap();
        let first = headers(&auth);
        assert!(!auth.renew(&first, 401, b""), "it is the same still");
        std::fs::write(&path, "second-secret\n").unwrap();
        assert!(!auth.renew(&first, 403, b""), "who it is is not in doubt");
        assert!(auth.renew(&first, 401, b""));
        let second = headers(&auth);
        assert_ne!(first, second);
        assert!(auth.renew(&first, 401, b""), "another thread has read it by now");
        assert!(!auth.renew(&second, 401, b""));
        for bad in ["", " \n"] {
            std::fs::write(&path, bad).unwrap();
            assert!(!auth.renew(&second, 401, b"") && headers(&auth) == second);
        }
        std::fs::remove_file(&path).unwrap();
        assert!(!auth.renew(&second, 401, b"") && headers(&auth) == second);
        let mut quoted = b"you sent first-secret, then second-secret".to_vec();
        auth.cut_out_of(&mut quoted);
        assert_eq!(String::from_utf8(quoted).unwrap(), "you sent [secret], then [secret]");
    }
}

#[test]
fn threads_that_are_refused_together_all_find_the_changed_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let file = format!("{BEARER_TOKEN}_FILE");
    for _ in 0..200 {
        std::fs::write(&path, "first-secret").unwrap();
        let auth = read(&[(file.as_str(), path.to_str().unwrap())]).unwrap();
        let first = headers(&auth);
        std::fs::write(&path, "second-secret").unwrap();
        let together = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    together.wait();
                    assert!(auth.renew(&first, 401, b""));
                });
            }
        });
    }
}

#[test]
fn a_secret_is_cut_out_in_every_form() {
    let forms = ["aWQtb2YtaXQ6aHVudGVyMmh1bnRlcjI=", "id-of-it:hunter2hunter2", "hunter2hunter2"];
    for auth in [
        read(&[(API_KEY, "id-of-it:hunter2hunter2")]),
        read(&[(API_KEY, "aWQtb2YtaXQ6aHVudGVyMmh1bnRlcjI=")]),
        read(&[(USERNAME, "id-of-it"), (PASSWORD, "hunter2hunter2")]),
    ] {
        let auth = auth.unwrap();
        for form in forms {
            let mut quoted = format!("sent {form} just now").into_bytes();
            auth.cut_out_of(&mut quoted);
            let quoted = String::from_utf8(quoted).unwrap();
            assert!(
                !quoted.contains("hunter2") && !quoted.contains("aHVudGVy") && quoted.contains("[secret]"),
                "{quoted}"
            );
        }
        assert!(!format!("{auth:?}").contains("hunter2"));
    }
}

#[test]
fn advice_matches_the_way_to_authenticate() {
    let ways = [
        (read(&[(API_KEY, "a")]).unwrap(), "ELASTICSEARCH_API_KEY is refused"),
        (read(&[(USERNAME, "elastic"), (PASSWORD, "a")]).unwrap(), "the user \"elastic\""),
        (read(&[(BEARER_TOKEN, "a")]).unwrap(), "ELASTICSEARCH_BEARER_TOKEN is refused"),
        (read_with(&[], |given| given.no_auth = true).unwrap(), "--no-auth sends none"),
    ];
    for (auth, text) in &ways {
        let advice = auth.refusal(401, b"{}").unwrap();
        assert!(advice.contains(text), "{advice}");
        assert!(
            !advice.contains("the key")
                && advice.contains("API") == !matches!(auth, Auth::Basic(..) | Auth::Bearer(_))
        );
        for status in [200, 403, 404, 503] {
            assert_eq!(auth.refusal(status, b"{}"), None);
        }
        for words in [
            "{\"Message\":\"User: anonymous is not authorized to perform: es:ESHttpPost\"}",
            "{\"message\":\"Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter.\"}",
            "{\"message\":\"'abc' not a valid key=value pair (missing equal-sign) in Authorization header: 'ApiKey abc'.\"}",
        ] {
            let advice = auth.refusal(403, words.as_bytes()).unwrap();
            assert!(advice.contains("--aws-sigv4") && advice.contains("--username"), "{advice}");
        }
    }
}
