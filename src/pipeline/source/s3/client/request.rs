//! Builds and signs GET requests.

use std::error::Error;

use s3::signing::uri_encode;
use time::OffsetDateTime;
use ureq::http::header::{ACCEPT_ENCODING, HeaderName};
use ureq::http::{HeaderMap, HeaderValue, Request};
use url::Url;

use super::GetError;
use super::place::Place;
use crate::auth::aws::Credentials;
use crate::auth::aws::signature::{Scope, sign};

/// A request to make.
pub(super) struct GetRequest {
    /// The key of the object; empty for a listing.
    pub(super) key: String,
    /// The parameters of a listing; empty for an object.
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) headers: Vec<(HeaderName, String)>,
}

impl GetRequest {
    /// Builds the request to a place. `pays`: it is requester-pays.
    pub(super) fn at(
        &self,
        place: &Place,
        credentials: Option<&Credentials>,
        pays: bool,
    ) -> Result<Request<()>, GetError> {
        let url = self.url(place)?;
        self.signed(place, &url, credentials, pays)
            .map_err(|why| GetError::Refused(format!("the request cannot be signed: {why}")))
    }

    fn signed(
        &self,
        place: &Place,
        url: &Url,
        credentials: Option<&Credentials>,
        pays: bool,
    ) -> Result<Request<()>, Box<dyn Error>> {
        let mut all = HeaderMap::new();
        for (name, value) in &self.headers {
            all.insert(name.clone(), value.parse()?);
        }
        if pays {
            all.insert("x-amz-request-payer", HeaderValue::from_static("requester"));
        }
        if let Some(credentials) = credentials {
            let scope = Scope { region: &place.region, service: "s3" };
            sign(("GET", url, b""), &mut all, credentials, scope, OffsetDateTime::now_utc())?;
        }
        // Requests the bytes as they are stored. Not signed, since gateways change this header.
        all.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut request = Request::get(url.as_str()).body(())?;
        *request.headers_mut() = all;
        Ok(request)
    }

    fn url(&self, place: &Place) -> Result<Url, GetError> {
        let mut text = format!("{}{}", place.base, uri_encode(&self.key, false));
        if self.key.is_empty() {
            text.push_str("?list-type=2");
        }
        for (name, value) in &self.query {
            text.push_str(&format!("&{name}={}", uri_encode(value, true)));
        }
        Url::parse(&text).map_err(|error| GetError::Other(error.to_string()))
    }
}

/// Whether a key can be requested. Clients resolve `.` and `..` in a URL, so a key with such a segment cannot.
pub(in crate::pipeline::source::s3) fn has_url(key: &str) -> bool {
    key.split('/').all(|segment| segment != "." && segment != "..")
}
