//! Servers in front of a server: nodes that forward, refuse or stay silent, and an HTTP proxy.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::http::{Request, read_request};

/// What a node does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// Forwards to the server.
    Forwards,
    /// Closes at once.
    Closes,
    /// Keeps them open, without a reply.
    Silent,
}

/// A listener in front of a server; dropping it stops it.
pub(crate) struct Front {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    /// The address of the server behind it.
    server: Arc<Mutex<String>>,
}

struct Shared {
    conduct: Mutex<Conduct>,
    open: Mutex<Vec<TcpStream>>,
    connections: AtomicUsize,
    stopped: AtomicBool,
    serve: Box<dyn Fn(TcpStream) -> io::Result<()> + Send + Sync>,
}

impl Front {
    /// A node of the cluster behind this URL.
    pub(crate) fn of(url: &str) -> Self {
        let server = Arc::new(Mutex::new(address_of(url)));
        let for_serve = Arc::clone(&server);
        let mut front = Self::start(move |stream| {
            let server = lock(&for_serve).clone();
            pipe(stream, TcpStream::connect(server)?)
        });
        front.server = server;
        front
    }

    /// Puts another server behind it; open connections are closed.
    pub(crate) fn set_server(&self, url: &str) {
        *lock(&self.server) = address_of(url);
        self.shared.close_all();
    }

    /// A node of the cluster behind this URL that speaks TLS.
    pub(crate) fn with_tls(url: &str, config: Arc<ServerConfig>) -> Self {
        let server = address_of(url);
        Self::start(move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            let mut stream = BufReader::new(StreamOwned::new(connection, stream));
            while let Some(request) = read_request(&mut stream)? {
                stream.get_mut().write_all(&forward(&request, TcpStream::connect(&server)?)?)?;
            }
            Ok(())
        })
    }

    fn start(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            conduct: Mutex::new(Conduct::Forwards),
            open: Mutex::default(),
            connections: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            serve: Box::new(serve),
        });
        let for_acceptor = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &for_acceptor));
        Self { address, shared, acceptor: Some(acceptor), server: Arc::default() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes the conduct; open connections are closed.
    pub(crate) fn set_conduct(&self, conduct: Conduct) {
        *self.shared.conduct.lock().unwrap_or_else(PoisonError::into_inner) = conduct;
        self.shared.close_all();
    }

    /// The number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.close_all();
        // Wakes the acceptor, which then ends.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn keep(&self, stream: &TcpStream) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).extend(stream.try_clone());
    }

    fn close_all(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let conduct = *shared.conduct.lock().unwrap_or_else(PoisonError::into_inner);
        if conduct == Conduct::Closes {
            continue;
        }
        shared.keep(&stream);
        if conduct == Conduct::Forwards {
            let shared = Arc::clone(shared);
            std::thread::spawn(move || {
                let _ = (shared.serve)(stream);
            });
        }
    }
}

/// Copies bytes in both directions until either end closes.
fn pipe(one: TcpStream, other: TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (one.try_clone()?, other.try_clone()?);
    let back = std::thread::spawn(move || {
        let _ = io::copy(&mut &other, &mut &one);
        let _ = one.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = back.join();
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn address_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default().to_owned()
}

/// An HTTP proxy that resolves every host to this machine.
pub(crate) struct Proxy {
    pub(crate) front: Front,
    asked: Arc<Mutex<Vec<Request>>>,
    /// How many tunnels to a host are still refused.
    refused: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Proxy {
    /// Starts a proxy that accepts this `Proxy-Authorization`, None: any, and refuses others with this status.
    pub(crate) fn start(authorization: Option<&'static str>, refusal: u16) -> Self {
        let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
        let for_front = Arc::clone(&asked);
        let refused: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
        let refuses = Arc::clone(&refused);
        let front = Front::start(move |stream| {
            let mut stream = BufReader::new(stream);
            while let Some(request) = read_request(&mut stream)? {
                let has_right =
                    authorization.is_none() || request.header("proxy-authorization") == authorization;
                for_front.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
                if !has_right {
                    write!(stream.get_mut(), "HTTP/1.1 {refusal} No\r\ncontent-length: 0\r\n\r\n")?;
                    continue;
                }
                let is_tunnel = request.method == "CONNECT";
                if let Some(times) = lock(&refuses).get_mut(&request.path).filter(|times| **times > 0) {
                    *times -= 1;
                    return stream.get_mut().write_all(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n");
                }
                let host = if is_tunnel { request.path.clone() } else { address_of(&request.path) };
                let port = host.rsplit_once(':').map_or("80", |(_, port)| port);
                let server = TcpStream::connect(format!("127.0.0.1:{port}"))?;
                if is_tunnel {
                    stream.get_mut().write_all(b"HTTP/1.1 200 Connected\r\nvia: proxy\r\n\r\n")?;
                    return pipe(stream.into_inner(), server);
                }
                stream.get_mut().write_all(&forward(&request, server)?)?;
            }
            Ok(())
        });
        Self { front, asked, refused }
    }

    /// Closes all tunnels, and refuses as many to this host with status 403.
    pub(crate) fn refuse_tunnels(&self, host: &str, times: usize) {
        lock(&self.refused).insert(host.to_owned(), times);
        self.front.set_conduct(Conduct::Forwards);
    }

    pub(crate) fn url(&self) -> String {
        self.front.url()
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Sends a request to a server, and returns the raw reply.
fn forward(request: &Request, mut server: TcpStream) -> io::Result<Vec<u8>> {
    let after_scheme = request.path.split_once("://").map_or(&*request.path, |(_, rest)| rest);
    let path = after_scheme.find('/').map_or("/", |at| &after_scheme[at..]);
    let query: Vec<_> = request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let mut head = format!("{} {path}{query} HTTP/1.1\r\n", request.method);
    for (name, value) in &request.headers {
        if !matches!(name.as_str(), "proxy-authorization" | "content-length") {
            head += &format!("{name}: {value}\r\n");
        }
    }
    head += &format!("content-length: {}\r\n\r\n", request.body.len());
    server.write_all(head.as_bytes())?;
    server.write_all(&request.body)?;
    let mut reply = Vec::new();
    let mut byte = [0];
    while !reply.ends_with(b"\r\n\r\n") && server.read(&mut byte)? == 1 {
        reply.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&reply).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    server.read_exact(&mut body)?;
    reply.extend(body);
    Ok(reply)
}
