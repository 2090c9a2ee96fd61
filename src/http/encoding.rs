//! Gzip: compresses requests if asked to, and decompresses replies that are compressed although the client did not ask.

use libdeflater::{CompressionLvl, Compressor, DecompressionError, Decompressor};
use ureq::http::HeaderMap;
use ureq::http::header::CONTENT_ENCODING;

use super::TransportError;

/// Shortest gzip member, in bytes (RFC 1952: head and tail).
const MIN_LENGTH: usize = 18;

/// Compresses a body with gzip at a level from 1 to 9. None: it cannot be compressed and is sent as it is.
pub(crate) fn gzip(body: &[u8], level: u8) -> Option<Vec<u8>> {
    let mut compressor = Compressor::new(CompressionLvl::new(level.into()).ok()?);
    let mut out = vec![0; compressor.gzip_compress_bound(body.len())];
    let length = compressor.gzip_compress(body, &mut out).ok()?;
    out.truncate(length);
    Some(out)
}

/// Returns the decoded body of a reply; it may have at most `limit` bytes. The client asks for `identity`, but some
/// proxies send gzip anyway.
///
/// # Errors
///
/// Names an unknown encoding, or says what is wrong with the gzip data.
pub(crate) fn decoded(headers: &HeaderMap, body: Vec<u8>, limit: u64) -> Result<Vec<u8>, TransportError> {
    let Some(encoding) = headers.get(CONTENT_ENCODING) else { return Ok(body) };
    let encoding = String::from_utf8_lossy(encoding.as_bytes()).trim().to_ascii_lowercase();
    match encoding.as_str() {
        "" | "identity" => Ok(body),
        "gzip" | "x-gzip" => gunzip(&body, limit)
            .map_err(|why| TransportError::Other(format!("a gzip reply that cannot be read: {why}"))),
        _ => {
            let encoding: String = encoding.chars().filter(char::is_ascii_graphic).take(40).collect();
            Err(TransportError::Other(format!(
                "a reply in the encoding {encoding:?}, although none was requested: let the proxy in \
                 front of the server send replies uncompressed, or as gzip"
            )))
        }
    }
}

/// Decompresses one gzip member. Its last four bytes give the size of its content, modulo 2^32.
pub(crate) fn gunzip(body: &[u8], limit: u64) -> Result<Vec<u8>, String> {
    let tail = body.last_chunk().filter(|_| body.len() >= MIN_LENGTH).ok_or("it is cut off")?;
    let size = u32::from_le_bytes(*tail);
    if u64::from(size) > limit {
        return Err(format!("it is cut off, or larger than {limit} bytes"));
    }
    let mut out = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    let length = Decompressor::new().gzip_decompress(body, &mut out).map_err(|error| match error {
        DecompressionError::BadData => "it is damaged",
        DecompressionError::InsufficientSpace => "it is longer than its trailer says",
    })?;
    out.truncate(length);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(encoding: Option<&str>, body: &[u8]) -> Result<Vec<u8>, String> {
        let headers = encoding.map(|encoding| (CONTENT_ENCODING, encoding.parse().unwrap()));
        decoded(&headers.into_iter().collect(), body.to_vec(), 10_000).map_err(|error| error.to_string())
    }

    #[test]
    fn gzip_of_every_level_is_inflated() {
        let body = b"{\"index\":{}}\n".repeat(100);
        for level in 1..=9 {
            let gzip = gzip(&body, level).unwrap();
            assert!(gzip.len() < body.len() / 5, "{level}");
            assert_eq!(decode(Some(" GZIP"), &gzip).as_deref(), Ok(&*body));
        }
        assert_eq!(decode(Some("x-gzip"), &gzip(b"", 1).unwrap()).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn an_unencoded_body_is_unchanged() {
        for encoding in [None, Some("identity"), Some("")] {
            assert_eq!(decode(encoding, b"{}").as_deref(), Ok(&b"{}"[..]));
        }
    }

    #[test]
    fn invalid_gzip_is_an_error() {
        let good = gzip(&[b'x'; 9_000], 1).unwrap();
        let large = gzip(&[b'x'; 10_001], 1).unwrap();
        let mut longer = good.clone();
        let tail = longer.len() - 4;
        longer[tail] ^= 8;
        for (encoding, body, why) in [
            ("br", &b"{}"[..], "\"br\""),
            ("gzip, br", b"{}", "\"gzip,br\""),
            ("gzip", b"{}", "cut off"),
            ("gzip", &good[..good.len() - 9], ""),
            ("gzip", b"this is no gzip, but \x10\x00\x00\x00", "damaged"),
            ("gzip", &large, "10000 bytes"),
            ("gzip", &longer, ""),
        ] {
            let error = decode(Some(encoding), body).unwrap_err();
            assert!(error.contains(why), "{encoding}: {error}");
        }
    }
}
