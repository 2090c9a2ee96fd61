//! Recognizes answers of Amazon's services.

use serde_json::Value;

/// Refusals by Amazon's services. Elasticsearch does not send these texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amazon {
    /// The service accepts only signed requests, or those of a user of the domain.
    WantsSignature,
    RefusesSignature,
}

/// Returns whether an answer refuses credentials with a text of Amazon's services.
///
/// Source: Amazon OpenSearch Service Developer Guide, "Troubleshooting"; IAM User Guide, "Troubleshoot Signature
/// Version 4 signing". The texts are compared in lower case, since services write them differently.
pub(crate) fn is_amazons(status: u16, body: &[u8]) -> bool {
    amazon(status, body).is_some()
}

pub(super) fn amazon(status: u16, body: &[u8]) -> Option<Amazon> {
    if !matches!(status, 400 | 401 | 403) {
        return None;
    }
    let text = String::from_utf8_lossy(body.get(..body.len().min(4096))?).to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&[
        "authorization header requires",
        "(missing equal-sign) in authorization header",
        "missing authentication token",
        "user: anonymous is not authorized",
    ]) {
        return Some(Amazon::WantsSignature);
    }
    has(&[
        "request signature we calculated",
        "security token included in the request",
        "credential should be scoped",
        "signature expired",
        "signature not yet current",
        "is not authorized to perform: es:",
        "is not authorized to perform: aoss:",
    ])
    .then_some(Amazon::RefusesSignature)
}

/// Returns whether Amazon's gateway answers that it does not offer an API. It answers with the status of refused
/// credentials.
///
/// Source: answers of Amazon OpenSearch Service, such as `{"Message":"Your request: '/_xpack' is not allowed."}`.
pub(crate) fn hides_api(status: u16, body: &[u8]) -> bool {
    let Some(Value::Object(body)) = (status == 401).then(|| serde_json::from_slice(body).ok()).flatten()
    else {
        return false;
    };
    let message = ["Message", "message"].iter().find_map(|name| body.get(*name)?.as_str());
    message.is_some_and(|text| text.starts_with("Your request: '") && text.contains("is not allowed"))
}
