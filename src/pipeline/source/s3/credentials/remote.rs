//! Credentials that a server gives out for a while: the security token service, a container's endpoint, an
//! instance's metadata service.
//!
//! Source: AWS STS API Reference, "AssumeRoleWithWebIdentity"; Amazon ECS Developer Guide, "Task IAM role"; Amazon
//! EC2 User Guide, "Use IMDSv2".

use std::time::Duration;

use s3::signing::uri_encode;
use serde::Deserialize;
use ureq::http::Request;
use ureq::{Agent, AsSendBody};

use super::{Credentials, Step};
use crate::config::s3::{Container, WebIdentity};
use crate::files;
use crate::http::TransportError;
use crate::secret::Secret;
use crate::timestamp::parse_rfc3339_millis;

/// Time to connect to a service on this very host.
const NEARBY: Duration = Duration::from_secs(1);

/// Time to connect to the security token service.
const FAR: Duration = Duration::from_secs(10);

/// Time for a whole request.
const CALL_LIMIT: Duration = Duration::from_secs(15);

/// Bytes of a reply at most.
const REPLY_BYTES: u64 = 256 << 10;

/// Asks the security token service for the role that a token is good for. Such a request is not signed; the token
/// is sent in the body, since URLs are logged.
pub(super) fn assume_role(agent: &Agent, sts_url: &str, identity: &WebIdentity) -> Result<Credentials, Step> {
    let path = identity.token_file.display();
    let token = files::read_to_string(&identity.token_file)
        .map_err(|error| Step::Refused(format!("the token file {path} cannot be read: {error}")))?;
    let body = format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={}&RoleSessionName={}&WebIdentityToken={}",
        uri_encode(&identity.role_arn, true),
        uri_encode(&identity.session_name, true),
        uri_encode(token.trim(), true)
    );
    let request = Request::post(format!("{sts_url}/"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body);
    let (status, body) =
        ask(agent, request, FAR).map_err(|why| Step::Unavailable(format!("{sts_url}: {why}")))?;
    match status {
        200 => {
            parse_role(&body).ok_or_else(|| Step::Unavailable(format!("{sts_url}: the reply cannot be read")))
        }
        429 | 500.. => Err(Step::Unavailable(format!("{sts_url} answers HTTP {status}"))),
        _ => Err(Step::Refused(format!("{sts_url} answers HTTP {status} {}", sts_error(&body)))),
    }
}

/// Asks the endpoint that a container is given.
pub(super) fn ask_container(agent: &Agent, container: &Container) -> Result<Credentials, Step> {
    let mut request = Request::get(&container.url);
    let token = match &container.token_file {
        Some(file) => {
            Some(files::read_to_string(file).map(|token| Secret::new(token.trim())).map_err(|error| {
                Step::Refused(format!("the token file {} cannot be read: {error}", file.display()))
            })?)
        }
        None => container.token.clone(),
    };
    if let Some(token) = token {
        request = request.header("authorization", token.expose());
    }
    let (status, body) =
        ask(agent, request.body(String::new()), NEARBY).map_err(|why| Step::Unavailable(why.to_string()))?;
    match status {
        200 => parse_document(&body).ok_or_else(|| Step::Unavailable("the reply cannot be read".to_owned())),
        429 | 500.. => Err(Step::Unavailable(format!("the endpoint answers HTTP {status}"))),
        _ => Err(Step::Refused(format!("the endpoint answers HTTP {status}"))),
    }
}

/// Asks the metadata service of an instance, by version 2 of its protocol alone. Where nobody answers this is no
/// instance, unless it is known to be one.
pub(super) fn ask_instance(agent: &Agent, url: &str, is_known: bool) -> Result<Credentials, Step> {
    const ROLES: &str = "latest/meta-data/iam/security-credentials";
    let token = Request::put(format!("{url}/latest/api/token"))
        .header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
        .body(String::new());
    let silent = if is_known { Step::Unavailable } else { Step::Absent };
    let (status, token) = ask(agent, token, NEARBY)
        .map_err(|why| silent(format!("the metadata service cannot be asked: {why}")))?;
    let answers = |status: u16| format!("the metadata service answers HTTP {status}");
    match status {
        200 => {}
        429 | 500.. => return Err(Step::Unavailable(answers(status))),
        _ => return Err(Step::Absent(answers(status))),
    }
    let token = String::from_utf8_lossy(&token).trim().to_owned();
    let read = |path: String| {
        let request = Request::get(format!("{url}/{path}")).header("x-aws-ec2-metadata-token", &token);
        ask(agent, request.body(String::new()), NEARBY).map_err(|why| Step::Unavailable(why.to_string()))
    };
    let (status, roles) = read(format!("{ROLES}/"))?;
    if matches!(status, 429 | 500..) {
        return Err(Step::Unavailable(answers(status)));
    }
    let roles = String::from_utf8_lossy(&roles).into_owned();
    let role = roles.lines().next().map(str::trim).filter(|role| !role.is_empty() && status == 200);
    let role = role.ok_or_else(|| Step::Absent("the instance has no role".to_owned()))?;
    match read(format!("{ROLES}/{}", uri_encode(role, true)))? {
        (200, body) => {
            parse_document(&body).ok_or_else(|| Step::Unavailable("the reply cannot be read".to_owned()))
        }
        (status, _) => Err(Step::Unavailable(answers(status))),
    }
}

/// One request: status and body.
fn ask(
    agent: &Agent,
    request: Result<Request<String>, ureq::http::Error>,
    connect: Duration,
) -> Result<(u16, Vec<u8>), TransportError> {
    let request = request.map_err(ureq::Error::from)?;
    if request.body().is_empty() {
        send(agent, request.map(|_| ()), connect)
    } else {
        send(agent, request, connect)
    }
}

fn send<B: AsSendBody>(
    agent: &Agent,
    request: Request<B>,
    connect: Duration,
) -> Result<(u16, Vec<u8>), TransportError> {
    let request = agent
        .configure_request(request)
        .timeout_connect(Some(connect))
        .timeout_global(Some(CALL_LIMIT))
        .build();
    let mut response = agent.run(request)?;
    let body = response.body_mut().with_config().limit(REPLY_BYTES).read_to_vec()?;
    Ok((response.status().as_u16(), body))
}

/// The JSON document of a container's endpoint or an instance's metadata.
fn parse_document(body: &[u8]) -> Option<Credentials> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Document {
        access_key_id: String,
        secret_access_key: String,
        token: Option<String>,
        expiration: Option<String>,
    }
    let document: Document = serde_json::from_slice(body).ok()?;
    Some(Credentials {
        access_key: document.access_key_id,
        secret_key: Secret::new(document.secret_access_key),
        session_token: document.token.map(Secret::new),
        expires: document.expiration.as_deref().and_then(parse_rfc3339_millis),
    })
}

/// The XML reply of the security token service.
fn parse_role(body: &[u8]) -> Option<Credentials> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Reply {
        assume_role_with_web_identity_result: Role,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Role {
        credentials: Given,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Given {
        access_key_id: String,
        secret_access_key: String,
        session_token: String,
        expiration: String,
    }
    let reply: Reply = quick_xml::de::from_str(std::str::from_utf8(body).ok()?).ok()?;
    let given = reply.assume_role_with_web_identity_result.credentials;
    Some(Credentials {
        access_key: given.access_key_id,
        secret_key: Secret::new(given.secret_access_key),
        session_token: Some(Secret::new(given.session_token)),
        expires: parse_rfc3339_millis(&given.expiration),
    })
}

/// The name of the error in a reply of the security token service. Its message is not passed on: it may quote the
/// token.
fn sts_error(body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Reply {
        error: Named,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Named {
        code: String,
    }
    let reply: Reply = quick_xml::de::from_str(&String::from_utf8_lossy(body)).unwrap_or_default();
    reply.error.code.chars().filter(char::is_ascii_alphanumeric).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Credentials {
        Credentials {
            access_key: "ASIA1".into(),
            secret_key: Secret::new("secret"),
            session_token: Some(Secret::new("token")),
            expires: Some(1_781_352_000_000),
        }
    }

    #[test]
    fn documents_of_containers_and_instances_are_read() {
        let body = br#"{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIA1","SecretAccessKey":"secret",
            "Token":"token","Expiration":"2026-06-13T12:00:00Z","RoleArn":"x"}"#;
        assert_eq!(parse_document(body), Some(expected()));
        assert_eq!(parse_document(br#"{"Code":"AssumeRoleUnauthorizedAccess"}"#), None);
    }

    #[test]
    fn replies_of_the_security_token_service_are_read() {
        let body = br#"<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
            <AssumeRoleWithWebIdentityResult><AssumedRoleUser><Arn>x</Arn></AssumedRoleUser><Credentials>
            <AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>
            <SessionToken>token</SessionToken><Expiration>2026-06-13T12:00:00Z</Expiration>
            </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"#;
        assert_eq!(parse_role(body), Some(expected()));
        assert_eq!(parse_role(b"<html>"), None);
        let error = b"<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code>\
            <Message>hunter2</Message></Error></ErrorResponse>";
        assert_eq!(sts_error(error), "ExpiredTokenException");
        assert_eq!(sts_error(b""), "");
    }
}
