//! The scripted server and the archives of the integration tests.

// Only a part of the harness is used here.
#![allow(dead_code)]

#[path = "../integration/harness/archives.rs"]
pub(crate) mod archives;
#[path = "../integration/harness/fake.rs"]
pub(crate) mod fake;
#[path = "../integration/harness/http.rs"]
pub(crate) mod http;
#[path = "../integration/harness/json.rs"]
mod json;
#[path = "../integration/harness/listener.rs"]
mod listener;
#[path = "../integration/harness/rest.rs"]
mod rest;
#[path = "../integration/harness/script.rs"]
pub(crate) mod script;
#[path = "../integration/harness/search.rs"]
mod search;
#[path = "../integration/harness/server.rs"]
mod server;
#[path = "../integration/harness/store.rs"]
pub(crate) mod store;
#[path = "../integration/harness/vectors.rs"]
mod vectors;
