//! [`Proxy`]: stands between two instances, records each byte, and changes responses.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

type Change = dyn Fn(&mut Vec<u8>) + Send + Sync;

/// A proxy at an address of its own.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    listener: std::net::TcpListener,
    /// All bytes of both directions.
    pub(super) bytes: Arc<parking_lot::Mutex<Vec<u8>>>,
}

impl Proxy {
    pub(super) fn bind() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        listener.set_nonblocking(true).expect("is possible");
        let address = listener.local_addr().expect("an address");
        Self { address, listener, bytes: Arc::default() }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Passes connections on, and changes what the server sends.
    pub(super) fn pass_to(&self, server: SocketAddr, change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) {
        let listener =
            TcpListener::from_std(self.listener.try_clone().expect("is possible")).expect("is one");
        let (bytes, change): (_, Arc<Change>) = (Arc::clone(&self.bytes), Arc::new(change));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (bytes, change) = (Arc::clone(&bytes), Arc::clone(&change));
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                        (client.into_split(), server.into_split());
                    let unchanged: Arc<Change> = Arc::new(|_| {});
                    tokio::join!(
                        copy(&mut from_client, &mut to_server, &bytes, &unchanged),
                        copy(&mut from_server, &mut to_client, &bytes, &change),
                    );
                });
            }
        });
    }
}

async fn copy(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    bytes: &parking_lot::Mutex<Vec<u8>>,
    change: &Arc<Change>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let mut chunk = buffer[..length].to_vec();
        bytes.lock().extend_from_slice(&chunk);
        change(&mut chunk);
        if to.write_all(&chunk).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
