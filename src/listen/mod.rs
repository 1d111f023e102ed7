//! The accept loop that every HTTP door stands behind: limits, deadlines, and an end that waits for what runs.
//!
//! It is our own because a machine's door needs what `axum::serve` lacks: a deadline for headers, a cap on
//! connections, and a drain that ends. A door with a certificate speaks TLS as well ([`Tls`]).

mod remainder;
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
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use remainder::Remainder;
use tls::Speech;
pub use tls::{Certificate, CertificateError, Plain, Tls};

/// After a failed accept the next one is not tried at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long after a stop connections are served as before: what clients had sent by then may not be read yet.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Both ends of the connection a request came by: an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Who asks.
    pub remote: SocketAddr,
    /// The address of ours that they reached.
    pub local: SocketAddr,
    /// Whether they speak TLS.
    pub tls: bool,
}

/// What one listener bears.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once. More wait in the kernel's queue.
    pub connections: usize,
    /// From the beginning to the end of TLS's handshake.
    pub handshake: Duration,
    /// From the end of one answer (or the beginning) to the last header of the next request: hyper counts the time in
    /// which a kept connection is idle, too.
    pub headers: Duration,
    /// From the last header to the last byte of the answer's head.
    pub request: Duration,
    /// Without a byte taken of what is sent.
    pub silence: Duration,
    /// For the rest of a body that was not wanted, before its request is answered.
    pub remainder: Duration,
    /// Bytes of a request's body.
    pub body: usize,
    /// Bytes of a request's head: its line and all headers.
    pub head: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(10),
            request: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            remainder: Duration::from_secs(2),
            body: 1 << 20,
            head: 16 << 10,
        }
    }
}

/// Connections that may wait to be accepted, as far as the kernel allows (`net.core.somaxconn`).
const BACKLOG: i32 = 1024;

/// A TCP socket that is bound and not yet served.
pub struct Listener {
    socket: TcpListener,
    local: SocketAddr,
    tls: Tls,
}

impl Listener {
    /// Binds. Must be called within a runtime.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = std::net::TcpListener::bind(address)?;
        // Said again, it is changed: the standard library asks for 128, which a boot storm fills.
        rustix::net::listen(&socket, BACKLOG)?;
        Self::adopt(socket)
    }

    /// Takes a socket that listens already. Must be called within a runtime.
    pub fn adopt(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let tls = Tls::new(None, Plain::Answered);
        Ok(Self { socket: TcpListener::from_std(socket)?, local, tls })
    }

    /// The same, speaking TLS as `tls` says.
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls, ..self }
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
        let held = TaskTracker::new();
        let mut failing = false;
        loop {
            let accepted = async {
                // The permit comes first, so that what is too much waits where it costs nothing.
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, self.socket.accept().await)
            };
            let (permit, (stream, remote)) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                (permit, accepted) = accepted => match accepted {
                    Ok(accepted) => {
                        failing = false;
                        (permit, accepted)
                    }
                    Err(error) => {
                        // Out of descriptors, say: one line when it begins, not ten a second.
                        if !std::mem::replace(&mut failing, true) {
                            tracing::warn!(local = %self.local, error = %error, "cannot accept connections");
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            let conversation = Conversation { router: router.clone(), limits, tls: self.tls.clone() };
            let stop = stop.clone();
            held.spawn(async move {
                conversation.hold(stream, remote, stop).await;
                drop(permit);
            });
        }
        // Whoever connects from now on is refused at once.
        drop(self.socket);
        held.close();
        if tokio::time::timeout(grace, held.wait()).await.is_err() {
            tracing::warn!(local = %self.local, "requests were still running when time was up");
        }
    }
}

/// What is done with one connection.
struct Conversation {
    router: Router,
    limits: Limits,
    tls: Tls,
}

impl Conversation {
    async fn hold(self, stream: TcpStream, remote: SocketAddr, stop: CancellationToken) {
        let Self { mut router, limits, tls } = self;
        // Scripts and answers are small and whole: nothing is won by waiting for more.
        let prepared = stream.set_nodelay(true).and_then(|()| stream.local_addr());
        let Ok(local) = prepared else { return };
        let opening = tls.open(stream, remote, limits.handshake, |stream| raw(stream, limits));
        let mut stopping = pin!(async move {
            stop.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        });
        let opened = tokio::select! {
            biased;
            opened = opening => opened,
            () = stopping.as_mut() => None,
        };
        let Some((stream, speech)) = opened else { return };
        if speech == Speech::Refused {
            router = Router::new().fallback(|| async {
                (StatusCode::BAD_REQUEST, "volboot: this door speaks TLS: come by https://\n")
            });
        }
        let peer = Peer { remote, local, tls: speech == Speech::Tls };
        let service = service_fn(move |request: Request<Incoming>| {
            let (mut request, remainder) = Remainder::of(request);
            request.extensions_mut().insert(peer);
            let answer = router.clone().oneshot(request);
            async move {
                let mut answer = answer.await?;
                remainder.read(limits.remainder, &mut answer).await;
                Ok::<_, Infallible>(answer)
            }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.headers)
            .max_headers(64)
            .max_buf_size(limits.head);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = stopping => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%remote, error = %error, "a connection ended early");
        }
    }
}

fn raw(stream: TcpStream, limits: Limits) -> tls::Raw {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.silence));
    Box::pin(stream)
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(100);
    const LIMIT: Duration = Duration::from_secs(20);

    async fn fails() {
        panic!("on purpose")
    }

    /// Serves a large file and a route that panics, with deadlines that a test can wait for.
    fn serve(limits: Limits) -> (SocketAddr, CancellationToken) {
        let router = Router::new()
            .route("/large", get(|| async { vec![0u8; 64 << 20] }))
            .route("/slow", get(|| async { tokio::time::sleep(LIMIT).await }))
            .route("/panic", get(fails))
            .route("/", get(|| async { "ok" }));
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let (address, stop) = (listener.local_addr(), CancellationToken::new());
        tokio::spawn(listener.serve(router, limits, stop.clone(), SOON));
        (address, stop)
    }

    async fn connect(address: SocketAddr, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(request.as_bytes()).await.expect("is sent");
        stream
    }

    /// All that comes until the connection is closed.
    async fn rest(mut stream: TcpStream) -> String {
        let mut answer = Vec::new();
        // A connection that is reset is closed too.
        let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("is closed in time");
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn one_connection_too_many_waits_until_another_is_gone() {
        let (address, _stop) = serve(Limits { connections: 1, headers: SOON, ..Limits::default() });
        let idle = connect(address, "").await;
        let answer = rest(connect(address, "GET / HTTP/1.0\r\n\r\n").await).await;
        assert!(answer.ends_with("ok"), "{answer}");
        drop(idle);
    }

    #[tokio::test]
    async fn who_takes_nothing_of_the_answer_is_cut_off() {
        let (address, _stop) = serve(Limits { connections: 1, silence: SOON, ..Limits::default() });
        let greedy = connect(address, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
        // Its place is free again although it is still connected.
        let answer = rest(connect(address, "GET / HTTP/1.0\r\n\r\n").await).await;
        assert!(answer.ends_with("ok"), "{answer}");
        drop(greedy);
    }

    #[tokio::test]
    async fn a_request_that_takes_too_long_is_answered_so() {
        let (address, _stop) = serve(Limits { request: SOON, ..Limits::default() });
        let answer = rest(connect(address, "GET /slow HTTP/1.0\r\n\r\n").await).await;
        assert!(answer.starts_with("HTTP/1.0 408 "), "{answer}");
    }

    #[tokio::test]
    async fn what_was_sent_before_a_stop_is_answered() {
        let (address, stop) = serve(Limits::default());
        let mut stream = connect(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut answer = [0; 1024];
        let read = timeout(LIMIT, stream.read(&mut answer)).await.expect("in time").expect("is answered");
        assert!(answer[..read].ends_with(b"ok"));
        // The door has no chance to look at it between these two.
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("is sent");
        stop.cancel();
        let answer = rest(stream).await;
        assert!(answer.ends_with("ok"), "{answer}");
    }

    /// Who says nothing at a door that speaks TLS, and who begins and goes no further.
    #[tokio::test]
    async fn a_handshake_that_takes_too_long_is_ended() {
        let issued = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("is made");
        let files = tempfile::tempdir().expect("a directory");
        let (certificate, key) = (files.path().join("certificate"), files.path().join("key"));
        std::fs::write(&certificate, issued.cert.pem()).expect("is written");
        std::fs::write(&key, issued.signing_key.serialize_pem()).expect("is written");
        let certificate = Certificate::read_blocking(&certificate, &key).expect("is right");

        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let listener = listener.with_tls(Tls::new(Some(certificate), Plain::Refused));
        let address = listener.local_addr();
        let limits = Limits { handshake: SOON, ..Limits::default() };
        tokio::spawn(listener.serve(Router::new(), limits, CancellationToken::new(), SOON));
        for beginning in ["", "\u{16}\u{3}\u{1}"] {
            assert_eq!(rest(connect(address, beginning).await).await, "", "{beginning:?}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_one_request_that_failed() {
        let (address, _stop) = serve(Limits::default());
        let answer = rest(connect(address, "GET /panic HTTP/1.0\r\n\r\n").await).await;
        assert!(answer.starts_with("HTTP/1.0 500 "), "{answer}");
        assert!(rest(connect(address, "GET / HTTP/1.0\r\n\r\n").await).await.ends_with("ok"));
    }
}
