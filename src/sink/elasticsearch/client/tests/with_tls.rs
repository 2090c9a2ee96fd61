//! Tests of the client against TLS servers.

use std::path::PathBuf;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;

/// Starts a TLS server for one request, with a certificate for `name`. Returns its URL, its certificate, and the
/// request.
fn tls_server(name: &str) -> (String, String, JoinHandle<String>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let (url, server) = server(move |stream| {
        let mut tls = StreamOwned::new(ServerConnection::new(config.into()).unwrap(), stream);
        let request = read_request(&mut tls);
        if !request.is_empty() {
            tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        }
        request
    });
    (url.replace("http://127.0.0.1", "https://localhost"), made.cert.pem(), server)
}

fn tls_settings(url: String, ca: Option<&str>) -> (config::Elasticsearch, Option<tempfile::NamedTempFile>) {
    let file = ca.map(|pem| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(pem.as_bytes()).unwrap();
        file
    });
    let ca_cert: Option<PathBuf> = file.as_ref().map(|file| file.path().to_owned());
    (config::Elasticsearch { ca_cert, ..settings(url) }, file)
}

#[test]
fn a_server_whose_root_is_given_is_trusted() {
    let (url, pem, server) = tls_server("localhost");
    let (settings, _file) = tls_settings(url, Some(&pem));
    assert_eq!(Client::new(&settings).unwrap().get("/").unwrap().status, 200);
    assert!(server.join().unwrap().contains(KEY));
}

#[test]
fn an_unknown_issuer_or_another_name_is_refused_before_the_key_is_sent() {
    let foreign = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let unknown_issuer = {
        let (url, _pem, server) = tls_server("localhost");
        (url, foreign, server)
    };
    for (url, pem, server) in [unknown_issuer, tls_server("other.example")] {
        let (settings, _file) = tls_settings(url, Some(&pem));
        let error = Client::new(&settings).unwrap().get("/").unwrap_err();
        assert!(matches!(error, TransportError::Tls(_)), "{error:?}");
        assert_eq!(server.join().unwrap(), "");
    }
}

#[test]
fn no_certificate_is_checked_with_skip_tls_verify() {
    let (url, _pem, server) = tls_server("other.example");
    let settings = config::Elasticsearch { skip_tls_verify: true, ..settings(url) };
    assert_eq!(Client::new(&settings).unwrap().get("/").unwrap().status, 200);
    server.join().unwrap();
}

#[test]
fn plain_http_where_tls_is_expected_is_a_tls_error() {
    let (url, _server) = server(|mut stream| {
        let mut hello = [0; 64];
        let _ = stream.read(&mut hello);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        // Reads the client's hello to its end, so that closing does not reset the connection.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (settings, _file) = tls_settings(url.replace("http:", "https:"), Some(&made.cert.pem()));
    let error = Client::new(&settings).unwrap().get("/").unwrap_err();
    assert!(matches!(error, TransportError::Tls(_)), "{error:?}");
}
