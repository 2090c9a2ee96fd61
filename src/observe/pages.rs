//! The pages of `--listen`: metrics, liveness and readiness.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Instant;

use crate::common::exit::Failure;
use crate::config::{ListenAddress, Reports};
use crate::model::Health;
use crate::observe::exposition::Exposition;
use crate::observe::listen::{self, Page};
use crate::observe::metrics;
use crate::observe::progress::{Figures, Progress};
use crate::process::shutdown::Stop;

/// Media type of the text format.
const FIGURES: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves the pages until the process ends, if `--listen` is set.
///
/// # Errors
///
/// A usage failure if the address cannot be bound.
pub fn serve(reports: &Reports, progress: &Arc<Progress>, stop: &Stop) -> Result<(), Failure> {
    let Some(address) = &reports.listen else { return Ok(()) };
    let pages =
        Pages { exposition: metrics::exposition(reports), progress: progress.clone(), stop: stop.clone() };
    let bound = address
        .resolve()
        .and_then(|addresses| listen::listen(&addresses, Arc::new(move |path: &str| pages.page(path))))
        .map_err(|error| cannot_listen(address, &error))?;
    log::info!("metrics are at http://{bound}/metrics, with /healthz and /readyz beside them");
    Ok(())
}

fn cannot_listen(address: &ListenAddress, error: &std::io::Error) -> Failure {
    let what_to_do = match error.kind() {
        ErrorKind::AddrInUse => {
            "another process listens there, maybe another run or shard: give each a port of its own"
        }
        ErrorKind::PermissionDenied => "this user may not use this port: name a port from 1024 on",
        ErrorKind::AddrNotAvailable => {
            "this machine does not have the address: name one of its addresses, or 0.0.0.0 for all"
        }
        _ => "name an address of this machine and a free port",
    };
    Failure::usage(format!(
        "--listen (LISTEN_ADDRESS) names {address}, on which the program cannot listen ({error}): \
         {what_to_do}"
    ))
}

struct Pages {
    exposition: Exposition,
    progress: Arc<Progress>,
    stop: Stop,
}

impl Pages {
    fn page(&self, path: &str) -> Option<Page> {
        match path {
            "/metrics" => Some(self.figures()),
            "/healthz" => Some(self.health()),
            "/readyz" => Some(self.readiness()),
            _ => None,
        }
    }

    fn figures(&self) -> Page {
        let stuck = self.stop.pulse().all_stuck(Instant::now());
        let figures = Figures { stuck, ..self.progress.figures() };
        Page { kind: FIGURES, ..Page::plain("200 OK", self.exposition.text(&figures, None)) }
    }

    fn health(&self) -> Page {
        let stuck = self.stop.pulse().all_stuck(Instant::now());
        if stuck.is_empty() {
            return Page::plain("200 OK", "ok\n");
        }
        let lines = stuck.iter().map(|(stage, silence)| {
            format!("stuck: {} has shown no sign of life for {} s\n", stage.name(), silence.as_secs())
        });
        Page::plain("503 Service Unavailable", lines.collect::<String>())
    }

    fn readiness(&self) -> Page {
        let health = self.progress.server().map(|server| server.health);
        let why = match health {
            // It needs no server.
            _ if self.exposition.dry_run => None,
            None => Some("the preflight has not passed yet\n"),
            Some(Health::Unavailable) => Some("Elasticsearch is unavailable\n"),
            Some(Health::Available | Health::PushingBack) => None,
        };
        why.map_or_else(
            || Page::plain("200 OK", "ready\n"),
            |why| Page::plain("503 Service Unavailable", why),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::config::Mode;
    use crate::model::ServerFigures;

    fn pages(dry_run: bool) -> Pages {
        let exposition = Exposition { mode: Mode::Spool, dry_run, earlier_success: None };
        Pages { exposition, progress: Arc::default(), stop: Stop::new() }
    }

    #[test]
    fn a_run_is_ready_after_its_preflight_while_the_server_is_available() {
        let pages = pages(false);
        let status = || pages.readiness().status[..3].to_owned();
        assert_eq!(status(), "503");
        let health = Arc::new(Mutex::new(Health::Available));
        let reported = health.clone();
        pages.progress.set_server_source(move || ServerFigures {
            health: *reported.lock().unwrap(),
            limit: 1,
            since_confirmed: None,
        });
        for (is, expected) in
            [(Health::Available, "200"), (Health::PushingBack, "200"), (Health::Unavailable, "503")]
        {
            *health.lock().unwrap() = is;
            assert_eq!(status(), expected, "{is}");
        }
    }

    #[test]
    fn a_dry_run_is_ready_at_once() {
        let pages = pages(true);
        assert_eq!(pages.readiness().status, "200 OK");
        assert_eq!(pages.health().status, "200 OK");
        assert!(pages.page("/").is_none() && pages.page("/metrics/").is_none());
    }
}
