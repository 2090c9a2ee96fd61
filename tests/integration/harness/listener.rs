//! The common part of all test servers: a loopback port, a thread per connection, and a shutdown.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::http::{Request, read_head, read_rest};
use super::script::DRIP;

/// The bytes of a reply, and whether the connection stays open.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    /// The rest, sent one byte every [`DRIP`].
    pub(crate) dripping: Vec<u8>,
    pub(crate) keep_alive: bool,
}

/// How a server replies.
pub(super) trait Serve: Send + Sync + 'static {
    /// The reply to a request; it may block.
    fn answer(&self, request: &Request) -> Answer;

    /// The reply to a request that expects a continue, if its body is refused.
    fn refuse_before_body(&self, _head: &Request) -> Option<Answer> {
        None
    }

    /// Called when the reply has been written as far as possible.
    fn answered(&self, _request: &Request) {}
}

/// The open connections; None after the shutdown.
type Open = Arc<Mutex<Option<Vec<TcpStream>>>>;

/// A listening server.
pub(super) struct Listener {
    address: SocketAddr,
    open: Open,
    acceptor: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens on a free port.
    pub(super) fn start(server: Arc<impl Serve>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let open: Open = Arc::new(Mutex::new(Some(Vec::new())));
        let for_acceptor = Arc::clone(&open);
        let acceptor = std::thread::spawn(move || accept(&listener, &for_acceptor, &server));
        Self { address, open, acceptor: Some(acceptor) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections and waits for their threads, which must not block on anything else by then.
    pub(super) fn end(&mut self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        for connection in open.into_iter().flatten() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // Wakes the acceptor, which then ends.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Serves each connection on its own thread.
fn accept(listener: &TcpListener, open: &Open, server: &Arc<impl Serve>) {
    let mut threads = Vec::new();
    for stream in listener.incoming() {
        let Ok(stream) = stream else { break };
        match &mut *open.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(open) => open.extend(stream.try_clone()),
            None => break,
        }
        let server = Arc::clone(server);
        threads.push(std::thread::spawn(move || {
            // A disconnected client is not an error of the server.
            let _ = serve(&*server, stream);
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn serve(server: &impl Serve, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(mut request) = read_head(&mut stream)? {
        if request.expects_continue()
            && let Some(answer) = server.refuse_before_body(&request)
        {
            stream.get_mut().write_all(&answer.bytes)?;
            stream.get_mut().shutdown(Shutdown::Both)?;
            break;
        }
        read_rest(&mut stream, &mut request)?;
        let Answer { bytes, dripping, keep_alive } = server.answer(&request);
        let written = stream.get_mut().write_all(&bytes).and_then(|()| drip(stream.get_mut(), &dripping));
        server.answered(&request);
        written?;
        if !keep_alive {
            stream.get_mut().shutdown(Shutdown::Both)?;
            break;
        }
    }
    Ok(())
}

fn drip(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    bytes.chunks(1).try_for_each(|byte| {
        std::thread::sleep(DRIP);
        stream.write_all(byte)
    })
}
