//! A real S3-compatible server on loopback (s3s-fs) that keeps objects as files and checks every signature.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The bucket.
pub(crate) const BUCKET: &str = "megastream-test";

/// The keys that the server accepts.
pub(crate) const ACCESS_KEY: &str = "AKIDTESTONLY";
pub(crate) const SECRET_KEY: &str = "notTo/BeSeen+secret";

/// Content and modification time of all objects, by path.
pub(crate) type Snapshot = BTreeMap<String, (Vec<u8>, SystemTime)>;

/// The running server; dropping it stops it.
pub(crate) struct Server {
    root: TempDir,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Server {
    /// Starts a server with an empty bucket.
    pub(crate) fn start() -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(root.path().join(BUCKET)).expect("a bucket");
        let mut service = S3ServiceBuilder::new(FileSystem::new(root.path()).expect("a server"));
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(serve(listener, service.build()));
        Self { root, address, runtime: Some(runtime) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts an object into the bucket.
    pub(crate) fn put(&self, key: &str, body: &[u8]) {
        let path = self.root.path().join(BUCKET).join(key);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        // The rename makes the object appear as a whole; names without `.db.zip` are ignored.
        let temporary = path.with_extension("part");
        fs::write(&temporary, body).expect("an object");
        fs::rename(temporary, path).expect("its name");
    }

    /// Puts the same object under many keys: links to one file, which are much cheaper than files.
    pub(crate) fn put_all(&self, keys: impl Iterator<Item = String>, body: &[u8]) {
        let file = self.root.path().join("object");
        fs::write(&file, body).expect("a file");
        for key in keys {
            fs::hard_link(&file, self.root.path().join(BUCKET).join(key)).expect("an object");
        }
        fs::remove_file(file).expect("its first name");
    }

    /// All objects.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new();
        add(self.root.path(), &mut snapshot);
        snapshot
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

async fn serve(listener: TcpListener, service: S3Service) {
    while let Ok((socket, _)) = listener.accept().await {
        let service = service.clone();
        tokio::spawn(async move {
            // A disconnected client is not an error of the server.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

fn add(folder: &Path, snapshot: &mut Snapshot) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if path.is_dir() {
            add(&path, snapshot);
        } else {
            let changed = entry.metadata().and_then(|metadata| metadata.modified()).expect("a time");
            let content = fs::read(&path).expect("an object");
            snapshot.insert(path.display().to_string(), (content, changed));
        }
    }
}
