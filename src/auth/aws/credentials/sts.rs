//! Assumes roles through the security token service (STS), which returns temporary credentials.
//!
//! Source: AWS STS API Reference, "AssumeRole" and "AssumeRoleWithWebIdentity".

use std::error::Error;

use s3::signing::uri_encode;
use serde::Deserialize;
use time::OffsetDateTime;
use ureq::Agent;
use ureq::http::header::CONTENT_TYPE;
use ureq::http::{HeaderMap, HeaderValue, Request};
use url::Url;

use super::request::{CONNECT_REMOTE, KeysDocument, ask};
use super::{Credentials, StepError, read_token};
use crate::auth::aws::signature::{Scope, sign};
use crate::auth::aws::{Sts, WebIdentity};

/// Parameters of `AssumeRole`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) role_arn: String,
    pub(super) session_name: String,
    pub(super) external_id: Option<String>,
    pub(super) duration_seconds: Option<u32>,
}

/// Assumes a role with a web identity token. This request is not signed. The token is sent in the body, since URLs end
/// up in logs.
pub(super) fn assume_by_token(
    agent: &Agent,
    sts: &Sts,
    identity: &WebIdentity,
) -> Result<Credentials, StepError> {
    let token = read_token(&identity.token_file)?;
    let body = form(&[
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", &identity.role_arn),
        ("RoleSessionName", &identity.session_name),
        ("WebIdentityToken", token.expose()),
    ]);
    let request = Request::post(format!("{}/", sts.url)).header(CONTENT_TYPE, FORM).body(body);
    ask_sts(agent, sts, request)
}

/// Assumes a role with the credentials `by`.
pub(super) fn assume(
    agent: &Agent,
    sts: &Sts,
    by: &Credentials,
    role: &Role,
) -> Result<Credentials, StepError> {
    let duration = role.duration_seconds.map(|seconds| seconds.to_string());
    let mut fields = vec![
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", role.role_arn.as_str()),
        ("RoleSessionName", &role.session_name),
    ];
    fields.extend(role.external_id.as_deref().map(|id| ("ExternalId", id)));
    fields.extend(duration.as_deref().map(|seconds| ("DurationSeconds", seconds)));
    let signed = || -> Result<Request<String>, Box<dyn Error>> {
        let body = form(&fields);
        let url = Url::parse(&format!("{}/", sts.url))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORM));
        let scope = Scope { region: &sts.region, service: "sts" };
        sign(("POST", &url, body.as_bytes()), &mut headers, by, scope, OffsetDateTime::now_utc())?;
        let mut request = Request::post(url.as_str()).body(body)?;
        *request.headers_mut() = headers;
        Ok(request)
    };
    let request = signed()
        .map_err(|why| StepError::Refused(format!("the request for the role cannot be signed: {why}")))?;
    ask_sts(agent, sts, Ok(request))
}

const FORM: &str = "application/x-www-form-urlencoded";

fn form(fields: &[(&str, &str)]) -> String {
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| format!("{name}={}", uri_encode(value, true))).collect();
    fields.join("&")
}

fn ask_sts(
    agent: &Agent,
    Sts { url, .. }: &Sts,
    request: Result<Request<String>, ureq::http::Error>,
) -> Result<Credentials, StepError> {
    let (status, body) =
        ask(agent, request, CONNECT_REMOTE).map_err(|why| StepError::Unavailable(format!("{url}: {why}")))?;
    match status {
        200 => parse_role(&body)
            .ok_or_else(|| StepError::Unavailable(format!("{url}: the reply cannot be read"))),
        429 | 500.. => Err(StepError::Unavailable(format!("the token service {url} answers HTTP {status}"))),
        _ => match sts_error(&body).as_str() {
            code @ ("Throttling" | "ThrottlingException" | "RequestLimitExceeded") => {
                Err(StepError::Unavailable(format!("the token service {url} answers HTTP {status} {code}")))
            }
            code => Err(StepError::Refused(
                format!("the token service {url} answers HTTP {status} {code}").trim_end().to_owned(),
            )),
        },
    }
}

/// Parses the XML reply; None: it is invalid.
fn parse_role(body: &[u8]) -> Option<Credentials> {
    #[derive(Deserialize)]
    struct Reply {
        #[serde(alias = "AssumeRoleWithWebIdentityResult", alias = "AssumeRoleResult")]
        result: Role,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Role {
        credentials: KeysDocument,
    }
    let reply: Reply = quick_xml::de::from_str(std::str::from_utf8(body).ok()?).ok()?;
    Some(reply.result.credentials.into())
}

/// Returns the error code in a reply; empty if there is none. Servers wrap it in different elements. The error message
/// is left out, since it may quote the token.
fn sts_error(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let code = code.map(|(code, _)| code).unwrap_or_default();
    code.chars().filter(char::is_ascii_alphanumeric).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::secret::Secret;

    #[test]
    fn replies_are_read() {
        for action in ["AssumeRole", "AssumeRoleWithWebIdentity"] {
            let body = format!(
                "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>\
                 <AssumedRoleUser><Arn>x</Arn></AssumedRoleUser><Credentials>
                 <AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>
                 <SessionToken>token</SessionToken><Expiration>2026-06-13T12:00:00Z</Expiration>
                 </Credentials></{action}Result></{action}Response>"
            );
            let expected = Credentials {
                access_key: "ASIA1".into(),
                secret_key: Secret::new("secret"),
                session_token: Some(Secret::new("token")),
                expires: Some(1_781_352_000_000),
            };
            assert_eq!(parse_role(body.as_bytes()), Some(expected));
        }
        assert_eq!(parse_role(b"<html>"), None);
        let error = b"<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code>\
            <Message>hunter2</Message></Error></ErrorResponse>";
        assert_eq!(sts_error(error), "ExpiredTokenException");
        assert_eq!(sts_error(b""), "");
    }
}
