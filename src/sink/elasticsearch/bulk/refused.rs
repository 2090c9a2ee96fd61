//! Bulk requests refused as a whole: decides whether an action is to blame, or the server refuses everything.

use std::sync::OnceLock;

use crate::common::exit::Failure;
use crate::sink::elasticsearch::bulk::reply::Refusal;

/// Size in bytes of an action that any working server accepts. The smallest posts are about this large.
const NEVER_TOO_LARGE: usize = 1 << 10;

/// Logs each kind of notice about a server once.
#[derive(Debug, Default)]
pub struct Notices {
    refused: OnceLock<()>,
    too_large: OnceLock<()>,
    unanswered: OnceLock<()>,
}

impl Notices {
    /// Logs the first response with status 400. It may take long until its cause is found.
    pub(super) fn refused(&self, Refusal { error_type, reason }: &Refusal) {
        self.refused.get_or_init(|| {
            log::warn!(
                "Elasticsearch refuses a whole bulk request ({error_type}: {reason}): it is sent in halves, \
                 to find the action that causes it; further ones are not reported"
            );
        });
    }

    /// Logs the first request, with its actions and bytes, that was repeatedly not answered while smaller ones were.
    pub(super) fn unanswered(&self, actions: usize, bytes: usize, reason: &str) {
        self.unanswered.get_or_init(|| {
            log::warn!(
                "a bulk request of {actions} actions and {bytes} bytes has failed three times while smaller \
                 requests are answered ({reason}): from now on such requests are divided; set --batch-bytes \
                 or --batch-docs lower; further ones are not reported"
            );
        });
    }

    /// Logs the first request, with its actions and bytes, that was answered with status 413.
    pub(super) fn too_large(&self, actions: usize, bytes: usize, Refusal { reason, .. }: &Refusal) {
        self.too_large.get_or_init(|| {
            log::warn!(
                "a bulk request of {actions} actions and {bytes} bytes is {reason}: it is sent in halves; \
                 set --batch-bytes or --batch-docs lower; further ones are not reported"
            );
        });
    }
}

/// An action that was refused as the only one in its request.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) line: usize,
    pub(super) refusal: Refusal,
    pub(super) what: RefusedPart,
}

/// What the server refuses about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedPart {
    /// Its content or form (status 400).
    Content,
    Size(usize),
}

/// Decides whether the server refuses everything, after it has judged no action of a batch and refused these. If so,
/// returns the failure that stops the run, so that not every row becomes a dead letter. None: the actions are to blame.
///
/// - If the server refuses the content of several actions, the requests are wrong (an unknown parameter, a wrong path).
///   One action proves nothing.
/// - If it refuses the size of several actions of [`NEVER_TOO_LARGE`], it accepts no requests at all.
pub(super) fn refuses_everything(refused: &[Refused]) -> Option<Failure> {
    let of = |counts: fn(RefusedPart) -> bool| refused.iter().filter(move |refused| counts(refused.what));
    let mut small = of(|what| matches!(what, RefusedPart::Size(bytes) if bytes <= NEVER_TOO_LARGE));
    if let (Some(Refused { refusal: Refusal { reason, .. }, .. }), Some(_)) = (small.next(), small.next()) {
        return Some(Failure::run(format!(
            "every bulk request is refused as too large (413), down to the single action, which is \
             {reason}: raise http.max_content_length of Elasticsearch, or the limit of the proxy in front of it; \
             unconfirmed archives stay pending"
        )));
    }
    let mut content = of(|what| what == RefusedPart::Content);
    let (Some(first), Some(_)) = (content.next(), content.next()) else { return None };
    let Refusal { error_type, reason } = &first.refusal;
    Some(Failure::run(format!(
        "Elasticsearch refuses every request, even with a single action ({error_type}: {reason}): check \
         ELASTICSEARCH_URL and any proxy in front of the server"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops(whats: &[RefusedPart]) -> Option<String> {
        let refusal = |_| Refusal { error_type: "bad".into(), reason: "since".into() };
        let refused =
            whats.iter().enumerate().map(|(line, &what)| Refused { line, refusal: refusal(line), what });
        let refused: Vec<Refused> = refused.collect();
        refuses_everything(&refused).map(|failure| failure.message)
    }

    #[test]
    fn a_document_is_to_blame_if_it_is_large_or_the_only_one() {
        let large = RefusedPart::Size(NEVER_TOO_LARGE + 1);
        for whats in [
            &[][..],
            &[large; 3],
            &[RefusedPart::Size(1)],
            &[RefusedPart::Size(1), large],
            &[RefusedPart::Content],
            &[RefusedPart::Content, large],
        ] {
            assert_eq!(stops(whats), None, "{whats:?}");
        }
    }

    #[test]
    fn the_server_refuses_everything_if_it_refuses_several_ordinary_actions() {
        for (whats, why) in [
            (&[RefusedPart::Size(NEVER_TOO_LARGE); 2], "http.max_content_length"),
            (&[RefusedPart::Content; 2], "bad: since"),
        ] {
            let message = stops(whats).unwrap_or_default();
            assert!(message.contains(why), "{whats:?}: {message}");
        }
    }
}
