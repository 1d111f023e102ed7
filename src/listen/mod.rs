//! The accept loop of the HTTP listeners: limits, time-outs, and graceful shutdown.
//!
//! It replaces `axum::serve`, which has no header time-out, no connection limit, and no deadline for its graceful
//! shutdown. A listener with a certificate accepts TLS as well ([`Tls`]).

mod body_drain;
mod connections;
mod counters;
mod host_header;
mod stream;
mod tls;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONNECTION;
use axum::response::IntoResponse as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use body_drain::BodyDrain;
use connections::{ConnectionTable, OpenConnection};
pub use counters::{ConnectionCounters, RefusedClients};
use host_header::check_host;
use stream::{TrackedBody, TrackedStream};
use tls::Protocol;
pub use tls::{Certificate, CertificateError, PlainHttp, Tls};

/// Back-off after a failed `accept`.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Delay between the stop and the graceful shutdown of connections: requests that clients had sent by then may still
/// be unread.
const SHUTDOWN_DELAY: Duration = Duration::from_millis(100);

/// Both ends of a request's connection: an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The client's address.
    pub remote: SocketAddr,
    /// The local address.
    pub local: SocketAddr,
    /// Whether the connection uses TLS.
    pub tls: bool,
}

/// Limits and time-outs of one listener.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Concurrent connections. For a further one, the longest idle one is closed. If all are busy, it waits in the
    /// kernel's backlog.
    pub connections: usize,
    /// The same for one IP address. If all are busy, further ones are refused.
    pub connections_per_client: usize,
    /// Time-out of the TLS handshake.
    pub handshake: Duration,
    /// Time-out for the headers of a request. It starts with the connection or at the end of the previous response:
    /// hyper includes the idle time of a keep-alive connection.
    pub headers: Duration,
    /// Time-out from the last header of the request to the head of the response.
    pub request: Duration,
    /// Time-out of a write: how long a client may accept no byte.
    pub write: Duration,
    /// Time-out for draining an unread request body before the response is sent.
    pub body_drain: Duration,
    /// The largest request body, in bytes.
    pub body: usize,
    /// The largest request head in bytes: the request line and all headers.
    pub head: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_client: 64,
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(10),
            request: Duration::from_secs(30),
            write: Duration::from_secs(60),
            body_drain: Duration::from_secs(2),
            body: 1 << 20,
            head: 16 << 10,
        }
    }
}

/// The length of the queue for `accept`. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// A bound TCP socket that does not accept connections yet.
pub struct Listener {
    socket: TcpListener,
    local: SocketAddr,
    tls: Tls,
    counters: Arc<ConnectionCounters>,
}

impl Listener {
    /// Binds an address. Must be called within a runtime.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = std::net::TcpListener::bind(address)?;
        // A second `listen` changes the backlog. The standard library requests 128, which a boot storm fills.
        rustix::net::listen(&socket, BACKLOG)?;
        Self::adopt(socket)
    }

    /// Adopts a listening socket. Must be called within a runtime.
    pub fn adopt(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let tls = Tls::new(None, PlainHttp::Allowed);
        Ok(Self { socket: TcpListener::from_std(socket)?, local, tls, counters: Arc::default() })
    }

    /// Adopts the `passed` socket; without one, binds `address`. Must be called within a runtime.
    pub fn open(address: SocketAddr, passed: Option<std::net::TcpListener>) -> io::Result<Self> {
        match passed {
            Some(socket) => Self::adopt(socket),
            None => Self::bind(address),
        }
    }

    /// Sets the TLS configuration.
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls, ..self }
    }

    /// The TLS configuration; clones share it.
    pub fn tls(&self) -> Tls {
        self.tls.clone()
    }

    /// The counts of connections.
    pub fn counters(&self) -> Arc<ConnectionCounters> {
        Arc::clone(&self.counters)
    }

    /// The local address, with the actual port if port 0 was requested.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `stop`, then waits at most `grace` for running requests.
    pub async fn serve(self, router: Router, limits: HttpLimits, stop: CancellationToken, grace: Duration) {
        // The last layer is the outermost.
        let router = router
            .layer(RequestBodyLimitLayer::new(limits.body))
            .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, limits.request))
            .layer(CatchPanicLayer::new());
        tokio::spawn(self.tls.clone().watch_files(stop.clone()));
        let table = ConnectionTable::new(limits.connections, limits.connections_per_client, self.counters);
        let connections = TaskTracker::new();
        let mut failing = false;
        loop {
            let accept = async {
                // Before `accept`: excess connections wait in the backlog, where they cost nothing.
                table.wait_for_room().await;
                self.socket.accept().await
            };
            let (stream, remote) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                result = accept => match result {
                    Ok(connection) => {
                        failing = false;
                        connection
                    }
                    Err(error) => {
                        // One line at the start, not ten per second.
                        if !std::mem::replace(&mut failing, true) {
                            tracing::warn!(local = %self.local, error = %error, "cannot accept connections");
                        }
                        // Out of file descriptors: one idle connection gives way. Its task closes the descriptor.
                        let closed = lacks_descriptors(&error).then(|| table.displace_idle()).flatten();
                        let is_free = closed.unwrap_or_default();
                        let _ = timeout(ACCEPT_BACKOFF, is_free.cancelled()).await;
                        continue;
                    }
                },
            };
            let Ok(local) = stream.local_addr() else { continue };
            let Some(open) = table.admit(remote, local) else { continue };
            let connection = HttpConnection { router: router.clone(), limits, tls: self.tls.clone() };
            let (stop, displaced) = (stop.clone(), open.displaced.clone());
            connections.spawn(async move {
                let serving = connection.serve(stream, Peer { remote, local, tls: false }, open, stop);
                displaced.run_until_cancelled(serving).await;
            });
        }
        // From here on, the kernel refuses new connections.
        drop(self.socket);
        connections.close();
        if timeout(grace, connections.wait()).await.is_err() {
            tracing::warn!(local = %self.local, "graceful shutdown timed out: running requests are aborted");
        }
    }
}

/// One accepted connection.
struct HttpConnection {
    router: Router,
    limits: HttpLimits,
    tls: Tls,
}

impl HttpConnection {
    /// Serves all requests of the connection.
    async fn serve(self, stream: TcpStream, peer: Peer, open: OpenConnection, stop: CancellationToken) {
        let Self { mut router, limits, tls } = self;
        // Responses are small and written at once, so Nagle's algorithm only delays them.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let is_writing = Arc::clone(&open.is_writing);
        let remote = peer.remote;
        let handshake = tls.accept(stream, remote, limits.handshake, |stream| {
            with_write_timeout(TrackedStream::new(stream, is_writing), limits)
        });
        let mut stopping = pin!(async move {
            stop.cancelled().await;
            tokio::time::sleep(SHUTDOWN_DELAY).await;
        });
        let connection = tokio::select! {
            biased;
            connection = handshake => connection,
            () = stopping.as_mut() => None,
        };
        let Some((stream, protocol)) = connection else { return };
        if protocol == Protocol::HttpRefused {
            router = Router::new().fallback(|| async {
                (StatusCode::BAD_REQUEST, "volboot: this listener requires TLS; use https://\n")
            });
        }
        let peer = Peer { tls: protocol == Protocol::Https, ..peer };
        let service = service_fn(|request: Request<Incoming>| {
            let active = open.begin_request();
            let host = check_host(&request);
            let (mut request, drain) = BodyDrain::wrap(request);
            request.extensions_mut().insert(peer);
            let router = router.clone();
            async move {
                let mut response = match host {
                    Ok(()) => router.oneshot(request).await?,
                    Err(text) => {
                        drop(request);
                        (StatusCode::BAD_REQUEST, [(CONNECTION, "close")], text).into_response()
                    }
                };
                drain.drain(limits.body_drain, &mut response).await;
                Ok::<_, Infallible>(response.map(|body| TrackedBody::wrap(body, active)))
            }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.headers)
            .max_headers(64)
            .max_buf_size(limits.head);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let result = tokio::select! {
            biased;
            result = connection.as_mut() => result,
            () = stopping => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%remote, error = %error, "connection failed");
        }
    }
}

/// Whether the process or the host has no file descriptor left.
fn lacks_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].into_iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn with_write_timeout(stream: TrackedStream, limits: HttpLimits) -> tls::RawStream {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write));
    Box::pin(stream)
}

#[cfg(test)]
mod tests;
