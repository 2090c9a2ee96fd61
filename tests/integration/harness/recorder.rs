//! Servers that record every byte they receive, in plain text also with TLS.

use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::http::{Reply, Request, read_request};

type Answer = dyn Fn(&Request) -> Reply + Send + Sync;

/// The running server; dropping it stops it.
pub(crate) struct Recorder {
    address: SocketAddr,
    is_tls: bool,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    tls: Option<Arc<ServerConfig>>,
    answer: Box<Answer>,
    seen: Mutex<Vec<u8>>,
    connections: AtomicUsize,
    stopped: AtomicBool,
}

/// A TLS configuration with its own certificate for `localhost`, and that certificate (PEM).
pub(crate) fn tls_of_localhost() -> (Arc<ServerConfig>, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), made.cert.pem())
}

impl Recorder {
    /// Starts a server on loopback, with TLS if there is a configuration for it.
    pub(crate) fn start(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), tls, answer)
    }

    /// Starts a server on another address of this machine.
    pub(crate) fn start_at(
        ip: IpAddr,
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let is_tls = tls.is_some();
        let shared = Arc::new(Shared {
            tls,
            answer: Box::new(answer),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let for_acceptor = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if for_acceptor.stopped.load(Ordering::SeqCst) {
                    break;
                }
                for_acceptor.connections.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&for_acceptor);
                // The thread ends with the connection, or after a read time-out.
                std::thread::spawn(move || {
                    let _ = shared.serve(stream);
                });
            }
        });
        Self { address, is_tls, shared, acceptor: Some(acceptor) }
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        match self.address.ip() {
            // The certificate is for this name.
            ip if ip.is_loopback() => format!("{scheme}://localhost:{}", self.address.port()),
            ip => format!("{scheme}://{ip}:{}", self.address.port()),
        }
    }

    /// All bytes received so far.
    pub(crate) fn seen(&self) -> String {
        let seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// The number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then ends.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        match &self.tls {
            None => self.answer_all(stream),
            Some(config) => {
                let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                self.answer_all(StreamOwned::new(connection, stream))
            }
        }
    }

    fn answer_all(&self, stream: impl Read + Write) -> io::Result<()> {
        let mut stream = BufReader::new(Recorded { stream, seen: &self.seen });
        while let Some(request) = read_request(&mut stream)? {
            let reply = (self.answer)(&request);
            stream.get_mut().write_all(&reply.bytes(request.method == "HEAD"))?;
        }
        Ok(())
    }
}

/// A stream that records what is read from it.
struct Recorded<'s, S> {
    stream: S,
    seen: &'s Mutex<Vec<u8>>,
}

impl<S: Read> Read for Recorded<'_, S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(out)?;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&out[..length]);
        Ok(length)
    }
}

impl<S: Write> Write for Recorded<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
