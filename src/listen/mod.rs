//! The accept loop that every HTTP door stands behind: limits, deadlines, and an end that waits for what runs.
//!
//! It is our own because a machine's door needs what `axum::serve` lacks: a deadline for headers, a cap on
//! connections, and a drain that ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

/// After a failed accept (out of descriptors, say) the next one is not tried at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Both ends of the connection a request came by: an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Who asks.
    pub remote: SocketAddr,
    /// The address of ours that they reached.
    pub local: SocketAddr,
}

/// What one listener bears.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once. More wait in the kernel's queue.
    pub connections: usize,
    /// From the first byte expected to the last header.
    pub headers: Duration,
    /// From the last header to the last byte of the answer's head.
    pub request: Duration,
    /// Bytes of a request's body.
    pub body: usize,
    /// Bytes of a request's head: its line and all headers.
    pub head: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            headers: Duration::from_secs(10),
            request: Duration::from_secs(30),
            body: 1 << 20,
            head: 16 << 10,
        }
    }
}

/// A TCP socket that is bound and not yet served.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local: SocketAddr,
}

impl Listener {
    /// Binds. Must be called within a runtime.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        Ok(Self { socket: TcpListener::from_std(socket)?, local })
    }

    /// The address it is bound to, with the port that port 0 became.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `stop`, then lets running requests end, for at most `grace`.
    pub async fn serve(self, router: Router, limits: Limits, stop: CancellationToken, grace: Duration) {
        // The last layer is the outermost.
        let router = router
            .layer(RequestBodyLimitLayer::new(limits.body))
            .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, limits.request))
            .layer(CatchPanicLayer::new());
        let permits = Arc::new(Semaphore::new(limits.connections));
        let drain = GracefulShutdown::new();
        loop {
            let accepted = async {
                // The permit comes first, so that what is too much waits where it costs nothing.
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, self.socket.accept().await)
            };
            let (permit, (stream, remote)) = tokio::select! {
                () = stop.cancelled() => break,
                (permit, accepted) = accepted => match accepted {
                    Ok(accepted) => (permit, accepted),
                    Err(error) => {
                        tracing::warn!(local = %self.local, error = %error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            let Ok(peer) = peer(&stream, remote) else { continue };
            let service = router.clone().map_request(move |request: Request<Incoming>| {
                let mut request = request.map(axum::body::Body::new);
                request.extensions_mut().insert(peer);
                request
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(limits.headers)
                .max_headers(64)
                .max_buf_size(limits.head);
            let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            let connection = drain.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(remote = %peer.remote, error = %error, "a connection ended early");
                }
                drop(permit);
            });
        }
        // Whoever connects from now on is refused at once.
        drop(self.socket);
        if tokio::time::timeout(grace, drain.shutdown()).await.is_err() {
            tracing::warn!(local = %self.local, "requests were still running when time was up");
        }
    }
}

fn peer(stream: &TcpStream, remote: SocketAddr) -> io::Result<Peer> {
    // Scripts and answers are small and whole: nothing is won by waiting for more.
    stream.set_nodelay(true)?;
    Ok(Peer { remote, local: stream.local_addr()? })
}
