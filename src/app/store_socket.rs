//! The store's socket, for `volboot store export`: a Unix socket that only root and volboot's user can connect to.
//!
//! A client sends the line `export` and reads the export. Records hold secrets, so no HTTP listener has this function.
//! volboot serves without the socket if it cannot be created.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::store::{self, Store};

/// The directory of the socket; systemd names another one in `RUNTIME_DIRECTORY` (`RuntimeDirectory=`).
const DIRECTORY: &str = "/run/volboot";
/// The socket's name.
const NAME: &str = "store.socket";
/// The path of the socket under systemd.
pub const STORE_SOCKET: &str = "/run/volboot/store.socket";
/// The request of a client.
pub const EXPORT_REQUEST: &[u8] = b"export\n";
/// The time-out for the request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The time-out of an export, during which the store keeps all records of the snapshot.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(600);
/// The delay after a failed accept, for example while the process has no free descriptor.
const ACCEPT_DELAY: Duration = Duration::from_millis(200);

/// The bound socket, which is removed on drop.
pub(super) struct StoreSocket {
    listener: UnixListener,
    path: PathBuf,
    /// The user of this process.
    user: u32,
}

impl StoreSocket {
    /// Binds the socket; `None` if that fails. Must be called within a runtime.
    pub(super) fn open_blocking() -> Option<Self> {
        let directories = std::env::var("RUNTIME_DIRECTORY").unwrap_or_default();
        let directory = directories.split(':').next().filter(|directory| !directory.is_empty());
        let path = Path::new(directory.unwrap_or(DIRECTORY)).join(NAME);
        match Self::bind(&path) {
            Ok(socket) => Some(socket),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "cannot open the store's socket: 'volboot store export' is not possible");
                None
            }
        }
    }

    fn bind(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        if StdStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves the socket"));
        }
        // Under another name, until the permissions are set.
        let unfinished = path.with_extension("new");
        remove_file(&unfinished)?;
        let listener = StdListener::bind(&unfinished)?;
        fs::set_permissions(&unfinished, Permissions::from_mode(0o600))?;
        let user = fs::metadata(&unfinished)?.uid();
        fs::rename(&unfinished, path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, path: path.to_owned(), user })
    }

    /// Serves one client at a time until `stop`, which also ends a running export.
    pub(super) async fn serve(self, store: Arc<dyn Store>, stop: CancellationToken) {
        let serve = async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, _)) => self.answer(stream, &*store).await,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection to the store's socket");
                        sleep(ACCEPT_DELAY).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(serve).await;
    }

    async fn answer(&self, mut stream: UnixStream, store: &dyn Store) {
        // The permissions keep other users out; a directory of another owner may not.
        let peer = stream.peer_cred().map(|peer| peer.uid());
        if !peer.is_ok_and(|user| user == 0 || user == self.user) {
            return;
        }
        let mut request = [0; EXPORT_REQUEST.len()];
        let read = timeout(REQUEST_TIMEOUT, stream.read_exact(&mut request)).await;
        if !matches!(read, Ok(Ok(_))) || request != EXPORT_REQUEST {
            return;
        }
        match timeout(EXPORT_TIMEOUT, store::export(store, &mut stream)).await {
            Ok(Ok(records)) => tracing::info!(records, "store exported"),
            Ok(Err(error)) => tracing::warn!(%error, "export of the store failed"),
            Err(_) => tracing::warn!("export of the store failed: it took longer than ten minutes"),
        }
    }
}

impl Drop for StoreSocket {
    fn drop(&mut self) {
        // A remaining socket refuses connections, and the next start replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a file, if it exists.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
