//! Credentials provided on this host: by a container's endpoint or an instance's metadata service.
//!
//! Source: Amazon ECS Developer Guide, "Task IAM role"; Amazon EC2 User Guide, "Use IMDSv2".

use s3::signing::uri_encode;
use ureq::Agent;
use ureq::http::Request;

use super::request::{CONNECT_LOCAL, ask, read_document, refusal};
use super::{Credentials, StepError, read_token};
use crate::auth::aws::Container;

/// Gets credentials from the endpoint of a container.
pub(super) fn ask_container(agent: &Agent, container: &Container) -> Result<Credentials, StepError> {
    let mut request = Request::get(&container.url);
    let token = match &container.token_file {
        Some(file) => Some(read_token(file)?),
        None => container.token.clone(),
    };
    if let Some(token) = token {
        request = request.header("authorization", token.expose());
    }
    let (status, body) =
        ask(agent, request.body(()), CONNECT_LOCAL).map_err(|why| StepError::Unavailable(why.to_string()))?;
    match status {
        200 => read_document(&body),
        429 | 500.. => Err(StepError::Unavailable(format!("the endpoint answers HTTP {status}"))),
        _ => {
            let why = refusal(&body).map(|why| format!(" ({why})")).unwrap_or_default();
            Err(StepError::Refused(format!("the endpoint answers HTTP {status}{why}")))
        }
    }
}

/// Gets credentials from the metadata service of an instance, with version 2 of its protocol only. If nothing answers,
/// this machine is not an instance, unless it is known to be one.
pub(super) fn ask_instance(agent: &Agent, url: &str, is_known: bool) -> Result<Credentials, StepError> {
    const ROLES: &str = "latest/meta-data/iam/security-credentials";
    let token = Request::put(format!("{url}/latest/api/token"))
        .header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
        .body(());
    let silent = if is_known { StepError::Unavailable } else { StepError::Absent };
    let (status, token) = ask(agent, token, CONNECT_LOCAL)
        .map_err(|why| silent(format!("the metadata service cannot be reached: {why}")))?;
    let answers = |status: u16| format!("the metadata service answers HTTP {status}");
    match status {
        200 => {}
        429 | 500.. => return Err(StepError::Unavailable(answers(status))),
        _ => return Err(StepError::Absent(answers(status))),
    }
    let token = String::from_utf8_lossy(&token).trim().to_owned();
    let read = |path: String| {
        let request = Request::get(format!("{url}/{path}")).header("x-aws-ec2-metadata-token", &token);
        ask(agent, request.body(()), CONNECT_LOCAL).map_err(|why| StepError::Unavailable(why.to_string()))
    };
    let (status, roles) = read(format!("{ROLES}/"))?;
    if matches!(status, 429 | 500..) {
        return Err(StepError::Unavailable(answers(status)));
    }
    let roles = String::from_utf8_lossy(&roles).into_owned();
    let role = roles.lines().next().map(str::trim).filter(|role| !role.is_empty() && status == 200);
    let role = role.ok_or_else(|| StepError::Absent("the instance has no role".to_owned()))?;
    match read(format!("{ROLES}/{}", uri_encode(role, true)))? {
        (200, body) => read_document(&body),
        (status, _) => Err(StepError::Unavailable(answers(status))),
    }
}
