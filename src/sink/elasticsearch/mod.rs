//! The Elasticsearch sink. Nothing outside this module knows Elasticsearch.
//!
//! [`server`] connects and checks, [`encode`] writes the lines of bulk requests, [`bulk`] sends them until each action
//! has its outcome, and [`convergence`] proves that the indices end up right.

use crate::common::exit::Failure;
use crate::common::timestamp::now_millis;
use crate::config::{BatchLimits, VectorChoice};
use crate::model::{Action, Batch, Document, FieldChoice, Generation, Outcomes};
use crate::observe::traffic::RequestCounters;
use crate::process::shutdown::Stop;
use crate::sink::Sink;
use crate::sink::upcoming::Upcoming;

mod agreement;
pub mod answer;
pub mod bulk;
pub mod client;
pub mod convergence;
pub mod encode;
mod flat;
mod flush;
pub mod holdings;
pub mod identity;
pub mod live_targets;
pub mod load_settings;
mod lookup;
pub mod mapping;
pub(crate) mod outcome;
pub mod preflight;
pub mod primaries;
pub mod product;
pub mod retrying;
pub mod returned;
pub mod server;
pub mod targets;
pub mod vectors;
pub mod verify;

use bulk::{Bulk, ExpectContinue, Notices, Sizes};
use encode::VectorEncoding;
use encode::document::write_action;
use server::Server;
use vectors::{Prover, Sample};

/// The sink for a server that has passed preflight.
pub struct Elasticsearch<'r> {
    server: &'r Server,
    bulk: Bulk<'r>,
    vectors: Prover,
}

impl<'r> Elasticsearch<'r> {
    /// Creates the sink for a server that has passed preflight. Sends nothing yet.
    pub fn new(
        server: &'r Server,
        limits: BatchLimits,
        vectors: VectorChoice,
        stop: &'r Stop,
        counters: &'r RequestCounters,
    ) -> Self {
        let bulk = Bulk {
            client: &server.client,
            throttle: &server.throttle,
            stop,
            targets: &server.targets,
            pipeline: server.pipeline,
            limits,
            retries: server.retries(stop).ending_the_run(),
            counters,
            notices: Notices::default(),
            sizes: Sizes::default(),
            expect: ExpectContinue::default(),
        };
        Self { server, bulk, vectors: decide(vectors, server) }
    }
}

impl Sink for Elasticsearch<'_> {
    fn encode(&self, body: &mut Vec<u8>, action: &Action, document: &Document<'_>) {
        let vectors = match document {
            Document::Post { post, embeddings } => self.vectors.encoding(
                &Sample { version: action.version, post, embeddings, fields: self.server.names.fields },
                &self.bulk,
            ),
            // Every server takes arrays. If base64 is required, preflight has proven that the server takes it.
            Document::Tombstone(_) | Document::Replayed(_) => self.vectors.so_far(),
        };
        write_action(body, self.server.names, action, document, vectors, now_millis());
    }

    fn deliver(&self, batch: &Batch, upcoming: &mut Upcoming) -> Outcomes {
        self.bulk.deliver(batch, upcoming)
    }

    fn fields(&self) -> FieldChoice {
        self.server.names.fields
    }

    fn make_durable(&self) -> Result<Generation, Failure> {
        self.server.make_durable(self.bulk.stop)
    }
}

/// Decides how vectors are encoded.
fn decide(choice: VectorChoice, server: &Server) -> Prover {
    if choice == VectorChoice::Auto {
        if server.targets.now().posts.dense_vectors {
            return Prover::default();
        }
        log::info!("vectors are sent as arrays: not every vector field of posts is mapped as dense_vector");
    }
    Prover::decided(VectorEncoding::untested(choice))
}
