//! Requests to services that provide credentials, and the JSON that most of them answer with.

use std::time::Duration;

use serde::Deserialize;
use ureq::http::Request;
use ureq::{Agent, AsSendBody};

use super::{Credentials, StepError};
use crate::common::secret::Secret;
use crate::common::text::on_one_line;
use crate::common::timestamp::parse_rfc3339_millis;
use crate::http::TransportError;

/// Connect time-out for services on this host.
pub(super) const CONNECT_LOCAL: Duration = Duration::from_secs(1);

/// Connect time-out for services elsewhere.
pub(super) const CONNECT_REMOTE: Duration = Duration::from_secs(10);

/// Time limit of a whole request.
const CALL_LIMIT: Duration = Duration::from_secs(15);

/// Limit on a reply, in bytes.
const REPLY_BYTES: u64 = 256 << 10;

/// Maximum length of a service's error text in messages, in characters.
const MAX_REASON_CHARS: usize = 300;

/// Sends one request; returns status and body.
pub(super) fn ask<B: AsSendBody>(
    agent: &Agent,
    request: Result<Request<B>, ureq::http::Error>,
    connect: Duration,
) -> Result<(u16, Vec<u8>), TransportError> {
    let request = agent
        .configure_request(request.map_err(ureq::Error::from)?)
        .timeout_connect(Some(connect))
        .timeout_global(Some(CALL_LIMIT))
        .build();
    let mut response = agent.run(request)?;
    let body = response.body_mut().with_config().limit(REPLY_BYTES).read_to_vec()?;
    Ok((response.status().as_u16(), body))
}

/// Keys in a reply.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeysDocument {
    access_key_id: String,
    secret_access_key: String,
    #[serde(alias = "SessionToken")]
    token: Option<String>,
    expiration: Option<String>,
}

impl From<KeysDocument> for Credentials {
    fn from(document: KeysDocument) -> Self {
        Self {
            access_key: document.access_key_id,
            secret_key: Secret::new(document.secret_access_key),
            session_token: document.token.filter(|token| !token.is_empty()).map(Secret::new),
            expires: document.expiration.as_deref().and_then(parse_rfc3339_millis),
        }
    }
}

/// Parses the JSON document of a container's endpoint, an instance's metadata service, or a program. None: it is
/// invalid.
pub(super) fn parse_document(body: &[u8]) -> Option<Credentials> {
    serde_json::from_slice::<KeysDocument>(body).ok().map(Credentials::from)
}

/// Parses such a document.
///
/// # Errors
///
/// Says why it holds no credentials, if the document does.
pub(super) fn read_document(body: &[u8]) -> Result<Credentials, StepError> {
    parse_document(body).ok_or_else(|| {
        StepError::Unavailable(match refusal(body) {
            Some(why) => format!("the reply has no keys, but {why}"),
            None => "the reply cannot be read".to_owned(),
        })
    })
}

/// Returns the code and the message of a document that reports an error. None: it reports none.
pub(super) fn refusal(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(alias = "Code")]
        code: String,
        #[serde(alias = "Message")]
        message: Option<String>,
    }
    let Refusal { code, message } = serde_json::from_slice(body).ok()?;
    let text = format!("{code} {}", message.unwrap_or_default());
    Some(on_one_line(text.trim_end(), MAX_REASON_CHARS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_containers_instances_and_programs_are_read() {
        let expected = Credentials {
            access_key: "ASIA1".into(),
            secret_key: Secret::new("secret"),
            session_token: Some(Secret::new("token")),
            expires: Some(1_781_352_000_000),
        };
        let body = br#"{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIA1","SecretAccessKey":"secret",
            "Token":"token","Expiration":"2026-06-13T12:00:00Z","RoleArn":"x"}"#;
        assert_eq!(parse_document(body), Some(expected.clone()));
        let body = br#"{"Version":1,"AccessKeyId":"ASIA1","SecretAccessKey":"secret","SessionToken":"token",
            "Expiration":"2026-06-13T14:00:00+02:00"}"#;
        assert_eq!(parse_document(body), Some(expected));
        let told = |body: &str| read_document(body.as_bytes());
        let unavailable = |why: &str| Err(StepError::Unavailable(why.to_owned()));
        assert_eq!(
            told(r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"EC2 cannot\nassume it"}"#),
            unavailable("the reply has no keys, but AssumeRoleUnauthorizedAccess EC2 cannot\\nassume it")
        );
        assert_eq!(told(r#"{"code":"Failed"}"#), unavailable("the reply has no keys, but Failed"));
        assert_eq!(told("<html>"), unavailable("the reply cannot be read"));
    }
}
